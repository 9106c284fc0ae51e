//! Controllers that would adopt a clone.
//!
//! A controller adopts every pod of its namespace that its selector matches and that has no
//! controller (`ClaimPods` in Kubernetes' `pkg/controller/controller_ref_manager.go`); an owner
//! that is not a controller does not prevent that. A ReplicaSet that has adopted one pod too many
//! deletes a pod, possibly one of the workload's.

use super::risk::{Code, NO_CLONE, Risk};
use super::selector::{equal, matches, show};
use super::{Candidate, ClusterObjects, namespace_of, object_name};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use std::collections::BTreeMap;

/// The controllers whose adoption rules are known. A static pod's controller is its node.
const KNOWN_CONTROLLERS: [&str; 6] = [
    "DaemonSet",
    "Job",
    "Node",
    "ReplicaSet",
    "ReplicationController",
    "StatefulSet",
];

pub(super) fn risks(candidate: &Candidate<'_>, cluster: &ClusterObjects, risks: &mut Vec<Risk>) {
    unknown_controllers(candidate, risks);
    if has_controller(candidate.pod) {
        return;
    }
    for adopter in adopters(candidate.pod, cluster) {
        risks.push(Risk::refusal(
            candidate.pod,
            Code::Adoption,
            object_name(
                Some(namespace_of(candidate.pod)),
                adopter.kind,
                adopter.meta.name.as_deref(),
            ),
            format!(
                "its selector ({}) matches the clone, so it would adopt it{}",
                adopter.selector, adopter.effect
            ),
            NO_CLONE,
        ));
    }
}

/// Adds a risk for each controller of an original that is not part of Kubernetes.
fn unknown_controllers(candidate: &Candidate<'_>, risks: &mut Vec<Risk>) {
    for original in &candidate.originals {
        let Some((kind, name)) = unknown_controller(original) else {
            continue;
        };
        let is_reported = risks
            .iter()
            .any(|risk| risk.code == Code::UnknownController && risk.object.ends_with(&name));
        if !is_reported {
            risks.push(Risk::refusal(
                candidate.pod,
                Code::UnknownController,
                object_name(Some(namespace_of(original)), &kind, Some(&name)),
                "it is not known which pods it adopts",
                NO_CLONE,
            ));
        }
    }
}

/// A controller that would adopt a pod.
struct Adopter<'a> {
    kind: &'static str,
    meta: &'a ObjectMeta,
    /// The selector as text.
    selector: String,
    /// What it does then, as the end of a sentence.
    effect: &'static str,
}

/// The controllers of the pod's namespace that would adopt it.
fn adopters<'a>(pod: &Pod, cluster: &'a ClusterObjects) -> Vec<Adopter<'a>> {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let namespace = namespace_of(pod);
    let mut adopters = Vec::new();

    for set in &cluster.replica_sets {
        if let Some(selector) = adopting_selector(Some(&set.spec.selector), &labels) {
            adopters.push(Adopter {
                kind: "ReplicaSet",
                meta: &set.metadata,
                selector,
                effect: " and delete one of its pods",
            });
        }
    }
    for controller in &cluster.replication_controllers {
        let spec = controller.spec.as_ref();
        let selector = spec.and_then(|spec| spec.selector.as_ref());
        if equal(selector, &labels) {
            let selector = LabelSelector {
                match_labels: selector.cloned(),
                ..LabelSelector::default()
            };
            adopters.push(Adopter {
                kind: "ReplicationController",
                meta: &controller.metadata,
                selector: show(&selector),
                effect: " and delete one of its pods",
            });
        }
    }
    for set in &cluster.stateful_sets {
        let name = set.metadata.name.as_deref().unwrap_or_default();
        if let Some(selector) = adopting_selector(Some(&set.spec.selector), &labels)
            && has_member_name(pod, name)
        {
            adopters.push(Adopter {
                kind: "StatefulSet",
                meta: &set.metadata,
                selector,
                effect: ", since its name has the form of its pods' names",
            });
        }
    }
    for set in &cluster.daemon_sets {
        if let Some(selector) = adopting_selector(Some(&set.spec.selector), &labels) {
            adopters.push(Adopter {
                kind: "DaemonSet",
                meta: &set.metadata,
                selector,
                effect: " and delete one on each node that has two",
            });
        }
    }
    for job in cluster.jobs.iter().filter(|job| !is_finished(job)) {
        let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        if let Some(selector) = adopting_selector(selector, &labels) {
            adopters.push(Adopter {
                kind: "Job",
                meta: &job.metadata,
                selector,
                effect: " and count it",
            });
        }
    }

    // A controller that is being deleted adopts nothing.
    adopters.retain(|adopter| {
        adopter.meta.namespace.as_deref() == Some(namespace)
            && adopter.meta.deletion_timestamp.is_none()
    });
    adopters
}

/// The selector as text, if a controller with it adopts pods with these labels. An empty selector
/// is invalid in such controllers, and they adopt nothing by it.
fn adopting_selector(
    selector: Option<&LabelSelector>,
    labels: &BTreeMap<String, String>,
) -> Option<String> {
    let selector = selector?;
    let is_empty = selector
        .match_labels
        .as_ref()
        .is_none_or(BTreeMap::is_empty)
        && selector
            .match_expressions
            .as_ref()
            .is_none_or(Vec::is_empty);
    if is_empty || !matches(selector, labels) {
        return None;
    }
    Some(show(selector))
}

fn has_controller(pod: &Pod) -> bool {
    pod.metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.controller == Some(true))
}

/// The kind and name of a pod's controller, if that is not part of Kubernetes.
fn unknown_controller(pod: &Pod) -> Option<(String, String)> {
    let owner = pod
        .metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))?;
    let is_kubernetes_group = ["apps/v1", "batch/v1", "v1"].contains(&owner.api_version.as_str());
    if is_kubernetes_group && KNOWN_CONTROLLERS.contains(&owner.kind.as_str()) {
        return None;
    }
    Some((owner.kind.clone(), owner.name.clone()))
}

/// Whether a pod's name is `SET-ORDINAL`, or may become that when the API server completes it.
///
/// A StatefulSet adopts only pods with such names (`isMemberOf` in
/// `pkg/controller/statefulset/stateful_set_utils.go`).
fn has_member_name(pod: &Pod, set: &str) -> bool {
    match (&pod.metadata.name, &pod.metadata.generate_name) {
        (Some(name), _) => {
            let Some((parent, ordinal)) = name.rsplit_once('-') else {
                return false;
            };
            parent == set
                && !ordinal.is_empty()
                && ordinal.bytes().all(|digit| digit.is_ascii_digit())
        }
        (None, Some(prefix)) => prefix.strip_suffix('-') == Some(set),
        (None, None) => false,
    }
}

fn is_finished(job: &Job) -> bool {
    let conditions = job
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .filter(|condition| condition.status == "True")
        .any(|condition| condition.type_ == "Complete" || condition.type_ == "Failed")
}
