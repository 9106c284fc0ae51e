//! Objects for tests of preflight. The clone is the pod that a run would create.

use super::{Allowances, Candidate, ClusterObjects, Code, PolicyObject, Severity};
use crate::backend::kube::PROBE_IMAGE;
use crate::backend::kube::names;
use crate::backend::kube::probe_pod::{PodRequest, RunSettings, clone_of};
use crate::plan::ProbeId;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::Duration;

/// The id of the tests' run.
const RUN: &str = "4d1f";

/// An object from JSON, in which `apiVersion` and `kind` may be missing.
pub(super) fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object of that kind")
}

/// The clone of [`original`], as a run would create it.
pub(super) fn clone() -> Value {
    let settings = RunSettings {
        run: RUN.into(),
        image: PROBE_IMAGE.into(),
        pull_policy: "IfNotPresent".into(),
        active_deadline: Duration::from_secs(900),
    };
    let owner = OwnerReference {
        api_version: "batch/v1".into(),
        kind: "Job".into(),
        name: names::run_object(RUN),
        uid: "1".into(),
        controller: Some(false),
        block_owner_deletion: Some(false),
    };
    let environment = [("WATERTIGHT_PLAN_0".to_owned(), "abc".to_owned())];
    let request = PodRequest {
        probe: ProbeId(0),
        owner,
        environment: &environment,
    };
    let pod = clone_of(&object(original()), &settings, &request);
    serde_json::to_value(pod).expect("a pod")
}

/// A pod of a Deployment.
pub(super) fn original() -> Value {
    json!({
        "metadata": {
            "namespace": "shop",
            "name": "web-6f7-abcde",
            "labels": { "app": "web", "tier": "front", "pod-template-hash": "6f7" },
            "ownerReferences": [
                { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6f7", "uid": "2", "controller": true }
            ]
        },
        "spec": { "nodeName": "node-1", "containers": [{ "name": "web", "image": "web:1" }] }
    })
}

/// A value with one field changed: `changed(clone(), "/spec/hostNetwork", json!(true))`. A field of
/// an existing object is added, `null` removes it; to an array the value is appended.
pub(super) fn changed(mut value: Value, pointer: &str, new: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = value.pointer_mut(parent).expect("the parent exists");
    match (parent, new) {
        (Value::Object(map), Value::Null) => drop(map.remove(&unescaped(key))),
        (Value::Object(map), new) => drop(map.insert(unescaped(key), new)),
        (Value::Array(items), new) => items.push(new),
        (other, _) => panic!("{other} has no {key}"),
    }
    value
}

fn unescaped(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

/// A clone and its original in a cluster.
pub(super) struct Scenario {
    pub(super) pod: Pod,
    pub(super) originals: Vec<Pod>,
    pub(super) cluster: ClusterObjects,
}

impl Scenario {
    /// A clone in a cluster without other objects.
    pub(super) fn new() -> Self {
        Self {
            pod: object(clone()),
            originals: vec![object(original())],
            cluster: ClusterObjects::default(),
        }
    }

    pub(super) fn with_clone(mut self, value: Value) -> Self {
        self.pod = object(value);
        self
    }

    pub(super) fn with_original(mut self, value: Value) -> Self {
        self.originals = vec![object(value)];
        self
    }

    pub(super) fn candidate(&self) -> Candidate<'_> {
        Candidate {
            pod: &self.pod,
            originals: self.originals.iter().collect(),
        }
    }

    /// The codes and severities of all risks.
    pub(super) fn risks(&self) -> Vec<(Code, Severity)> {
        let risks = super::risks(&[self.candidate()], &self.cluster, Allowances::default());
        for risk in &risks {
            assert!(
                !risk.reason.is_empty() && !risk.remedy.is_empty() && !risk.object.is_empty(),
                "{risk:?}"
            );
        }
        risks
            .into_iter()
            .map(|risk| (risk.code, risk.severity))
            .collect()
    }
}

pub(super) fn policy(kind: &str, namespace: Option<&str>, spec: Value) -> PolicyObject {
    PolicyObject {
        kind: kind.into(),
        namespace: namespace.map(str::to_owned),
        name: "p".into(),
        spec,
    }
}
