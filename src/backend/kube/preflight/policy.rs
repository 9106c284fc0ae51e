//! Policies that select by a label which the clone lacks.
//!
//! A clone lacks the labels that controllers set on their pods (such as `pod-template-hash`), since
//! with them it would be adopted. A policy that selects by such a label would treat the clone
//! differently from the original, so the clone's attempts would be no evidence. Where a selector
//! matches only one of the two, the clone is refused.

use super::risk::{Code, NO_CLONE, Risk};
use super::selector::{matches, show};
use super::{Candidate, ClusterObjects, PolicyObject, namespace_of, object_name};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;
use std::collections::BTreeSet;

/// The fields of policies that hold pod selectors: of Kubernetes' kinds and of Cilium's.
const POD_SELECTORS: [&str; 4] = [
    "podSelector",
    "endpointSelector",
    "fromEndpoints",
    "toEndpoints",
];

/// The fields of Calico's policies that hold pod selectors, in its own syntax.
const EXPRESSIONS: [&str; 2] = ["selector", "notSelector"];

pub(super) fn risks(candidate: &Candidate<'_>, cluster: &ClusterObjects, risks: &mut Vec<Risk>) {
    let pod = candidate.pod;
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    for policy in &cluster.policies {
        if !may_concern(policy, pod) {
            continue;
        }
        let mut selectors = Vec::new();
        pod_selectors(&policy.spec, &mut selectors);
        let mut reported = BTreeSet::new();
        for expression in expressions(&policy.spec) {
            let names_dropped = candidate.originals.iter().any(|original| {
                let original = original.metadata.labels.iter().flatten();
                original
                    .filter(|(key, _)| !labels.contains_key(*key))
                    .any(|(key, _)| names(expression, key))
            });
            if names_dropped && reported.insert(expression.to_owned()) {
                risks.push(refusal(pod, policy, expression));
            }
        }
        for selector in &selectors {
            let differs = candidate.originals.iter().any(|original| {
                let original = original.metadata.labels.clone().unwrap_or_default();
                matches(selector, &original) != matches(selector, &labels)
            });
            let text = show(selector);
            if differs && reported.insert(text.clone()) {
                risks.push(refusal(pod, policy, &text));
            }
        }
    }
}

/// The refusal of a clone that a policy would treat differently from its original.
fn refusal(pod: &Pod, policy: &PolicyObject, selector: &str) -> Risk {
    Risk::refusal(
        pod,
        Code::PolicyLabelMissing,
        object_name(
            policy.namespace.as_deref(),
            &policy.kind,
            Some(&policy.name),
        ),
        format!(
            "it selects by {selector}, and the clone lacks a label of that which a controller sets, so the policy would treat the clone differently from the original pod"
        ),
        NO_CLONE,
    )
}

/// Calico's selectors in a policy, at any depth.
fn expressions(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| match value {
                Value::String(text) if EXPRESSIONS.contains(&key.as_str()) => vec![text.as_str()],
                other => expressions(other),
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

/// Whether a selector of Calico's names a label.
fn names(expression: &str, label: &str) -> bool {
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    expression
        .split(|letter| !is_of_name(letter))
        .any(|word| word == label)
}

/// Whether a policy's selectors may match this pod. Those of a policy in another namespace may, if
/// they are peers with a namespace selector.
fn may_concern(policy: &PolicyObject, pod: &Pod) -> bool {
    let is_of_its_namespace = policy
        .namespace
        .as_deref()
        .is_none_or(|namespace| namespace == namespace_of(pod));
    is_of_its_namespace
        || has_key(&policy.spec, "namespaceSelector")
        || policy.kind != "NetworkPolicy"
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

/// Collects the pod selectors of a policy, at any depth.
fn pod_selectors(value: &Value, selectors: &mut Vec<LabelSelector>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if POD_SELECTORS.contains(&key.as_str()) {
                    let list = value
                        .as_array()
                        .map_or(std::slice::from_ref(value), Vec::as_slice);
                    selectors.extend(list.iter().filter_map(|selector| {
                        serde_json::from_value(without_sources(selector)).ok()
                    }));
                }
                pod_selectors(value, selectors);
            }
        }
        Value::Array(values) => {
            for value in values {
                pod_selectors(value, selectors);
            }
        }
        _ => {}
    }
}

/// A selector without the sources that Cilium writes before label keys (`k8s:app`, `any:app`).
fn without_sources(selector: &Value) -> Value {
    match selector {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| {
                    let value = match value {
                        Value::String(text) if key == "key" => Value::String(without_source(text)),
                        other => without_sources(other),
                    };
                    (without_source(key), value)
                })
                .collect(),
        ),
        Value::Array(values) => Value::Array(values.iter().map(without_sources).collect()),
        other => other.clone(),
    }
}

fn without_source(key: &str) -> String {
    key.strip_prefix("k8s:")
        .or_else(|| key.strip_prefix("any:"))
        .unwrap_or(key)
        .to_owned()
}
