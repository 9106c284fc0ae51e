//! Policies that speak of a label which the clone does not carry.
//!
//! A clone leaves out the labels that controllers put on their pods (`pod-template-hash` and the
//! like), since they would have it adopted. A policy that selects by one of them would treat the
//! clone otherwise than the original, and what the clone sees would be no evidence. So each
//! selector is asked about both: where the answers differ, the clone is refused.

use super::risk::{Code, Finding, NO_CLONE, Severity};
use super::selector::{matches, show};
use super::{Candidate, Neighbours, PolicyObject, Risk, namespace_of, object_name};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;
use std::collections::BTreeSet;

/// Keys under which policies of all kinds hold selectors of pods: Kubernetes' own, and Cilium's.
const POD_SELECTORS: [&str; 4] = [
    "podSelector",
    "endpointSelector",
    "fromEndpoints",
    "toEndpoints",
];

pub(super) fn risks(candidate: &Candidate<'_>, around: &Neighbours, found: &mut Vec<Risk>) {
    let pod = candidate.pod;
    let kept = pod.metadata.labels.clone().unwrap_or_default();
    for policy in &around.policies {
        let mut selectors = Vec::new();
        pod_selectors(&policy.spec, &mut selectors);
        let mut told = BTreeSet::new();
        for selector in &selectors {
            let differs = candidate.originals.iter().any(|original| {
                let original = original.metadata.labels.clone().unwrap_or_default();
                matches(selector, &original) != matches(selector, &kept)
            });
            let words = show(selector);
            if !differs || !concerns(policy, pod) || !told.insert(words.clone()) {
                continue;
            }
            let object = object_name(
                policy.namespace.as_deref(),
                &policy.kind,
                Some(&policy.name),
            );
            let finding = Finding {
                pod,
                code: Code::PolicyLabel,
                severity: Severity::Refuse,
                object,
            };
            found.push(finding.because(
                format!("it selects by {words}, which a controller's own label decides: the clone does not carry that label, so the policy would treat it otherwise than the pod that it stands for"),
                NO_CLONE,
            ));
        }
    }
}

/// Whether a policy's selectors may speak of this pod at all. A policy of another namespace can, by
/// its peers.
fn concerns(policy: &PolicyObject, pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    let own = policy
        .namespace
        .as_deref()
        .is_none_or(|namespace| namespace == namespace_of(pod));
    own || has_key(&policy.spec, "namespaceSelector") || policy.kind != "NetworkPolicy"
}

fn has_key(value: &Value, wanted: &str) -> bool {
    match value {
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| key == wanted || has_key(value, wanted)),
        Value::Array(values) => values.iter().any(|value| has_key(value, wanted)),
        _ => false,
    }
}

/// Every selector of pods in a policy, at whatever depth.
fn pod_selectors(value: &Value, found: &mut Vec<LabelSelector>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if POD_SELECTORS.contains(&key.as_str()) {
                    let several = value
                        .as_array()
                        .map_or(std::slice::from_ref(value), Vec::as_slice);
                    found.extend(
                        several
                            .iter()
                            .filter_map(|one| serde_json::from_value(without_source(one)).ok()),
                    );
                }
                pod_selectors(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| pod_selectors(value, found)),
        _ => {}
    }
}

/// Cilium writes where a label comes from before its key: `k8s:app`, `any:app`.
fn without_source(selector: &Value) -> Value {
    let plain = |key: &str| {
        key.strip_prefix("k8s:")
            .or_else(|| key.strip_prefix("any:"))
            .unwrap_or(key)
            .to_owned()
    };
    match selector {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| {
                    let value = match value {
                        Value::String(text) if key == "key" => Value::String(plain(text)),
                        other => without_source(other),
                    };
                    (plain(key), value)
                })
                .collect(),
        ),
        Value::Array(values) => Value::Array(values.iter().map(without_source).collect()),
        other => other.clone(),
    }
}
