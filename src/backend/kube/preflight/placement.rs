//! Nodes that cannot run a probe pod.

use super::risk::{Code, Risk};
use super::{Candidate, ClusterObjects, object_name};
use k8s_openapi::api::core::v1::{Node, Pod};

pub(super) fn risks(candidate: &Candidate<'_>, cluster: &ClusterObjects, risks: &mut Vec<Risk>) {
    let pod = candidate.pod;
    if let Some(windows) = windows_node(candidate, cluster) {
        risks.push(Risk::refusal(
            pod,
            Code::WindowsNode,
            object_name(None, "Node", Some(&windows)),
            "it runs Windows, where probes cannot run",
            "leave this source out: it is not tested",
        ));
        return;
    }

    let node = node_of(pod).and_then(|name| node(name, cluster));
    if let Some(node) = node.filter(|node| !is_ready(node)) {
        risks.push(Risk::warning(
            pod,
            Code::NodeNotReady,
            object_name(None, "Node", node.metadata.name.as_deref()),
            "it is not ready: the probe may not start there, and its checks would be unproven",
            "wait for the node, or spread the source over other nodes",
        ));
    }
}

/// The Windows node of the pod or of an original. Also an original that asks for Windows
/// (`spec.os`) shows that, even if its node is unknown.
fn windows_node(candidate: &Candidate<'_>, cluster: &ClusterObjects) -> Option<String> {
    let originals = candidate
        .originals
        .iter()
        .filter_map(|original| original.spec.as_ref());
    let names = node_of(candidate.pod).into_iter().chain(
        originals
            .clone()
            .filter_map(|spec| spec.node_name.as_deref()),
    );
    let mut windows: Vec<&str> = names
        .filter(|name| node(name, cluster).is_some_and(is_windows))
        .collect();
    windows.sort_unstable();

    let asks_for_windows = originals
        .filter_map(|spec| spec.os.as_ref())
        .any(|os| os.name == "windows");
    match windows.first() {
        Some(name) => Some((*name).to_owned()),
        None if asks_for_windows => Some("of the original".to_owned()),
        None => None,
    }
}

/// The node that a pod runs on: its `nodeName`, or the one that its node affinity requires.
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
    let name = fields
        .into_iter()
        .find(|field| field.key == "metadata.name" && field.operator == "In")?;
    name.values.as_ref()?.first().map(String::as_str)
}

pub(super) fn node<'a>(name: &str, cluster: &'a ClusterObjects) -> Option<&'a Node> {
    cluster
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
