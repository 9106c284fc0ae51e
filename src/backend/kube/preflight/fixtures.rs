//! Objects made for tests, written as people write them.

use super::{Candidate, Neighbours, PolicyObject};
use k8s_openapi::api::core::v1::Pod;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An object from JSON; kind and version may be left out.
pub(super) fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object of that kind")
}

/// A clone of the shape that is harmless: no controller, never Ready, Pod Security restricted, with
/// small requests.
pub(super) fn clone() -> Value {
    json!({
        "metadata": {
            "namespace": "shop",
            "name": "wt-4d1f-0",
            "labels": { "app": "web", "tier": "front" },
            "ownerReferences": [
                { "apiVersion": "batch/v1", "kind": "Job", "name": "watertight-run", "uid": "1", "controller": false }
            ]
        },
        "spec": {
            "nodeName": "node-1",
            "activeDeadlineSeconds": 900,
            "readinessGates": [{ "conditionType": "watertight.dev/never" }],
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" }
            },
            "containers": [{
                "name": "probe",
                "image": "localhost/watertight-probe:0.1.0",
                "args": ["__probe"],
                "env": [{ "name": "WATERTIGHT_PLAN_0", "value": "abc" }],
                "resources": { "requests": { "cpu": "10m", "memory": "16Mi" }, "limits": { "memory": "64Mi" } },
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "readOnlyRootFilesystem": true
                }
            }]
        }
    })
}

/// The pod that it stands for: one of a Deployment.
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

/// A value with one place changed: `changed(clone(), "/spec/nodeName", json!("node-2"))`. A place
/// whose parent exists is made; `null` removes it.
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

/// A clone and its original, asked about in surroundings.
pub(super) struct Scene {
    pub(super) pod: Pod,
    pub(super) originals: Vec<Pod>,
    pub(super) around: Neighbours,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self {
            pod: object(clone()),
            originals: vec![object(original())],
            around: Neighbours::default(),
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

    /// Codes and severities of everything found.
    pub(super) fn finds(&self) -> Vec<(super::Code, super::Severity)> {
        let risks = super::risks(
            &[self.candidate()],
            &self.around,
            super::Allowances::default(),
        );
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
