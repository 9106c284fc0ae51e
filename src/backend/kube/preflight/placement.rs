//! The node that a pod would go to.

use super::risk::{Code, Finding, Severity};
use super::{Candidate, Neighbours, Risk, object_name};
use k8s_openapi::api::core::v1::{Node, Pod};

pub(super) fn risks(candidate: &Candidate<'_>, around: &Neighbours, found: &mut Vec<Risk>) {
    let pod = candidate.pod;
    let targets = [node_of(pod)].into_iter().flatten();
    let originals = candidate
        .originals
        .iter()
        .filter_map(|original| original.spec.as_ref()?.node_name.clone());
    let mut names: Vec<String> = targets.map(str::to_owned).chain(originals).collect();
    names.sort();
    names.dedup();
    let windows = names
        .iter()
        .find(|name| node(name, around).is_some_and(is_windows));
    let says_windows = candidate.originals.iter().any(|original| {
        original
            .spec
            .as_ref()
            .and_then(|spec| spec.os.as_ref())
            .is_some_and(|os| os.name == "windows")
    });
    if windows.is_some() || says_windows {
        let object = object_name(
            None,
            "Node",
            Some(windows.map_or("of the original", String::as_str)),
        );
        let finding = Finding {
            pod,
            code: Code::Windows,
            severity: Severity::Refuse,
            object,
        };
        found.push(finding.because(
            "it runs Windows, where the probe cannot run",
            "leave this source out: what it may reach is not tested",
        ));
        return;
    }
    let Some(node) = node_of(pod).and_then(|name| node(name, around)) else {
        return;
    };
    if !is_ready(node) {
        let object = object_name(None, "Node", node.metadata.name.as_deref());
        let finding = Finding {
            pod,
            code: Code::NodeNotReady,
            severity: Severity::Warn,
            object,
        };
        found.push(finding.because(
            "it is not ready: the probe may not start there, and what it should have seen is then unproven",
            "wait for the node, or spread the source over other nodes",
        ));
    }
}

/// The node that a pod names: by `nodeName`, or by the one that its affinity demands.
pub(super) fn node_of(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(name) = &spec.node_name {
        return Some(name);
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let fields = required
        .node_selector_terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten());
    let named = fields
        .into_iter()
        .find(|field| field.key == "metadata.name" && field.operator == "In")?;
    named.values.as_ref()?.first().map(String::as_str)
}

pub(super) fn node<'a>(name: &str, around: &'a Neighbours) -> Option<&'a Node> {
    around
        .nodes
        .iter()
        .find(|node| node.metadata.name.as_deref() == Some(name))
}

fn is_windows(node: &Node) -> bool {
    node.metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get("kubernetes.io/os"))
        .is_some_and(|os| os == "windows")
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
