//! Controllers that would take a clone for one of their own pods.
//!
//! A controller claims every pod of its namespace that its selector matches and that no controller
//! owns (`ClaimPods` in Kubernetes' `pkg/controller/controller_ref_manager.go`); an owner that is
//! no controller does not protect. A ReplicaSet that has claimed one pod too many deletes one, and
//! that may be a real one.

use super::risk::{Code, Finding, NO_CLONE, Severity};
use super::selector::{equal, matches, show};
use super::{Candidate, Neighbours, Risk, namespace_of, object_name};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

/// The controllers whose rules are known. A static pod belongs to its node.
const KNOWN: [&str; 6] = [
    "DaemonSet",
    "Job",
    "Node",
    "ReplicaSet",
    "ReplicationController",
    "StatefulSet",
];

pub(super) fn risks(candidate: &Candidate<'_>, around: &Neighbours, found: &mut Vec<Risk>) {
    let pod = candidate.pod;
    for original in &candidate.originals {
        if let Some((kind, name)) = unknown_controller(original)
            && !found
                .iter()
                .any(|risk| risk.code == Code::UnknownController && risk.object.ends_with(&name))
        {
            let object = object_name(Some(namespace_of(original)), &kind, Some(&name));
            let finding = Finding {
                pod,
                code: Code::UnknownController,
                severity: Severity::Refuse,
                object,
            };
            found.push(finding.because(
                "it is not known by what it takes pods for its own",
                NO_CLONE,
            ));
        }
    }
    if controlled(pod) {
        return;
    }
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let namespace = namespace_of(pod);
    // One that is being deleted claims nothing more.
    let here = |meta: &ObjectMeta| {
        meta.namespace.as_deref() == Some(namespace) && meta.deletion_timestamp.is_none()
    };
    let mut claim = |kind: &str, meta: &ObjectMeta, selector: String, more: &str| {
        let object = object_name(Some(namespace), kind, meta.name.as_deref());
        let finding = Finding {
            pod,
            code: Code::Adoption,
            severity: Severity::Refuse,
            object,
        };
        found.push(finding.because(
            format!("its selector ({selector}) matches the clone, so it would take it for one of its own pods{more}"),
            NO_CLONE,
        ));
    };
    for set in around.replica_sets.iter().filter(|set| here(&set.metadata)) {
        let selector = Some(&set.spec.selector);
        if let Some(selector) = claims(selector, &labels) {
            claim(
                "ReplicaSet",
                &set.metadata,
                selector,
                " and delete one of them",
            );
        }
    }
    for set in around
        .replication_controllers
        .iter()
        .filter(|set| here(&set.metadata))
    {
        let selector = set.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        if equal(selector, &labels) {
            let selector = LabelSelector {
                match_labels: selector.cloned(),
                ..LabelSelector::default()
            };
            claim(
                "ReplicationController",
                &set.metadata,
                show(&selector),
                " and delete one of them",
            );
        }
    }
    for set in around
        .stateful_sets
        .iter()
        .filter(|set| here(&set.metadata))
    {
        let selector = Some(&set.spec.selector);
        if let Some(selector) = claims(selector, &labels)
            && is_named_as_member(pod, set.metadata.name.as_deref().unwrap_or_default())
        {
            claim(
                "StatefulSet",
                &set.metadata,
                selector,
                "; its name reads as one of theirs",
            );
        }
    }
    for set in around.daemon_sets.iter().filter(|set| here(&set.metadata)) {
        let selector = Some(&set.spec.selector);
        if let Some(selector) = claims(selector, &labels) {
            claim(
                "DaemonSet",
                &set.metadata,
                selector,
                " and delete one on each node that has two",
            );
        }
    }
    for job in around
        .jobs
        .iter()
        .filter(|job| here(&job.metadata) && !is_finished(job))
    {
        let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        if let Some(selector) = claims(selector, &labels) {
            claim("Job", &job.metadata, selector, " and count it");
        }
    }
}

/// The selector in words, if a controller with it claims a pod with these labels. One that selects
/// everything is the mark of an object that never was valid: controllers do nothing with it.
fn claims(
    selector: Option<&LabelSelector>,
    labels: &std::collections::BTreeMap<String, String>,
) -> Option<String> {
    let selector = selector?;
    let empty = selector
        .match_labels
        .as_ref()
        .is_none_or(std::collections::BTreeMap::is_empty)
        && selector
            .match_expressions
            .as_ref()
            .is_none_or(Vec::is_empty);
    (!empty && matches(selector, labels)).then(|| show(selector))
}

fn controlled(pod: &Pod) -> bool {
    pod.metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.controller == Some(true))
}

/// Kind and name of the controller of a pod, where it is none of Kubernetes' own.
fn unknown_controller(pod: &Pod) -> Option<(String, String)> {
    let owner = pod
        .metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))?;
    let of_kubernetes = ["apps/v1", "batch/v1", "v1"].contains(&owner.api_version.as_str());
    (!(of_kubernetes && KNOWN.contains(&owner.kind.as_str())))
        .then(|| (owner.kind.clone(), owner.name.clone()))
}

/// A StatefulSet claims only pods that are called after it: `SET-ORDINAL` (`isMemberOf` in
/// `pkg/controller/statefulset/stateful_set_utils.go`). A name that the API server makes up may
/// read as one.
fn is_named_as_member(pod: &Pod, set: &str) -> bool {
    match (&pod.metadata.name, &pod.metadata.generate_name) {
        (Some(name), _) => {
            let ordinal = name
                .rsplit_once('-')
                .map(|(parent, ordinal)| (parent == set, ordinal));
            matches!(ordinal, Some((true, digits)) if !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
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
