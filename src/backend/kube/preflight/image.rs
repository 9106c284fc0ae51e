//! Whether the probe's image is where the probe shall run.
//!
//! A node's status lists its images, at most 50 by default, the largest first (the kubelet's
//! `nodeStatusMaxImages`), and is some time behind: so what is not listed may be there, and this
//! can only warn.

use super::placement::{node, node_of};
use super::risk::{Code, Finding, Severity};
use super::{Candidate, Neighbours, Risk, object_name};
use k8s_openapi::api::core::v1::{Container, Node};
use oci_spec::distribution::Reference;
use std::str::FromStr;

pub(super) fn risks(candidate: &Candidate<'_>, around: &Neighbours, found: &mut Vec<Risk>) {
    let pod = candidate.pod;
    let Some(node) = node_of(pod).and_then(|name| node(name, around)) else {
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
        let load = format!(
            "watertight image -o probe.tar, then load it onto the node: ctr --namespace k8s.io images import probe.tar; or name one that can be pulled: --probe-image (now {image})"
        );
        if policy(container) == "Never" {
            let finding = Finding {
                pod,
                code: Code::ImageAbsent,
                severity: Severity::Warn,
                object,
            };
            found.push(finding.because(
                format!("it does not list {image}, and the pull policy is Never"),
                load,
            ));
        } else if image.starts_with("localhost/") {
            let finding = Finding {
                pod,
                code: Code::ImageAbsent,
                severity: Severity::Warn,
                object,
            };
            found.push(finding.because(
                format!("it does not list {image}, and that is no registry to pull from"),
                load,
            ));
        } else {
            let finding = Finding {
                pod,
                code: Code::ImagePull,
                severity: Severity::Warn,
                object,
            };
            found.push(finding.because(
                format!("it does not list {image}: the node pulls it first, which takes its time"),
                "load it onto the nodes before the run",
            ));
        }
    }
}

fn policy(container: &Container) -> &str {
    let latest = container
        .image
        .as_deref()
        .is_some_and(|image| image.ends_with(":latest") || !image.contains(':'));
    container
        .image_pull_policy
        .as_deref()
        .unwrap_or(if latest { "Always" } else { "IfNotPresent" })
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
            let same_place = listed.registry() == wanted.registry()
                && listed.repository() == wanted.repository();
            same_place
                && match wanted.digest() {
                    Some(digest) => listed.digest() == Some(digest),
                    None => listed.tag() == wanted.tag(),
                }
        })
}
