//! Nodes that do not have the probe image.
//!
//! A node's status lists its images with some delay, by default the 50 largest (the kubelet's
//! `nodeStatusMaxImages`). An image that is not listed may be there, so this only warns.

use super::placement::{node, node_of};
use super::risk::{Code, Risk};
use super::{Candidate, ClusterObjects, object_name};
use k8s_openapi::api::core::v1::{Container, Node};
use oci_spec::distribution::Reference;
use std::str::FromStr;

pub(super) fn risks(candidate: &Candidate<'_>, cluster: &ClusterObjects, risks: &mut Vec<Risk>) {
    let pod = candidate.pod;
    let Some(node) = node_of(pod).and_then(|name| node(name, cluster)) else {
        return;
    };
    for container in pod.spec.iter().flat_map(|spec| &spec.containers) {
        let Some(image) = container.image.as_deref() else {
            continue;
        };
        if lists(node, image) {
            continue;
        }

        let object = object_name(None, "Node", node.metadata.name.as_deref());
        let reason = format!("it does not list {image}");
        let load = format!(
            "watertight image -o probe.tar, then load it onto the node: ctr --namespace k8s.io images import probe.tar; or name an image that can be pulled: --probe-image (now {image})"
        );
        risks.push(if pull_policy(container) == "Never" {
            let reason = format!("{reason}, and the pull policy is Never");
            Risk::warning(pod, Code::ImageAbsent, object, reason, load)
        } else if image.starts_with("localhost/") {
            let reason = format!("{reason}, and localhost is not a registry to pull from");
            Risk::warning(pod, Code::ImageAbsent, object, reason, load)
        } else {
            let reason = format!("{reason}, so it pulls the image before the probe starts");
            let remedy = "load it onto the nodes before the run";
            Risk::warning(pod, Code::ImagePull, object, reason, remedy)
        });
    }
}

/// The pull policy of a container, by default as Kubernetes sets it.
fn pull_policy(container: &Container) -> &str {
    let is_latest = container
        .image
        .as_deref()
        .is_some_and(|image| image.ends_with(":latest") || !image.contains(':'));
    container
        .image_pull_policy
        .as_deref()
        .unwrap_or(if is_latest { "Always" } else { "IfNotPresent" })
}

/// Whether a node's status lists an image: by name and tag, or by digest where one is named.
fn lists(node: &Node, image: &str) -> bool {
    let Ok(wanted) = Reference::from_str(image) else {
        return false;
    };
    let names = node
        .status
        .iter()
        .flat_map(|status| status.images.iter().flatten());
    names
        .flat_map(|image| image.names.iter().flatten())
        .filter_map(|name| Reference::from_str(name).ok())
        .any(|listed| {
            let is_same_repository = listed.registry() == wanted.registry()
                && listed.repository() == wanted.repository();
            is_same_repository
                && match wanted.digest() {
                    Some(digest) => listed.digest() == Some(digest),
                    None => listed.tag() == wanted.tag(),
                }
        })
}
