//! Nodes: written out in manifests, or listed by a cluster's API.

use super::object::Metadata;
use crate::inventory::Node;
use crate::model::Family;
use k8s_openapi::api::core::v1::NodeStatus;
use std::net::IpAddr;

/// The label that every kubelet sets (Kubernetes, "Well-Known Labels").
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Reads a node of manifests, with its internal addresses.
pub(super) fn read_node(meta: &Metadata, status: &NodeStatus) -> Node {
    let mut labels = meta.labels.clone();
    labels
        .entry(HOSTNAME.to_owned())
        .or_insert_with(|| meta.name.clone());
    let mut node = Node {
        name: meta.name.clone(),
        labels,
        addresses: Vec::new(),
    };
    add_addresses(&mut node, internal_addresses(status));
    node
}

/// The addresses of type `InternalIP` in a node's status.
pub(super) fn internal_addresses(status: &NodeStatus) -> impl Iterator<Item = &str> {
    let addresses = status.addresses.as_deref().unwrap_or_default();
    addresses
        .iter()
        .filter(|address| address.type_ == "InternalIP")
        .map(|address| address.address.as_str())
}

/// Adds addresses to a node; at most one a family, and none that cannot be parsed.
pub(super) fn add_addresses<'a>(node: &mut Node, addresses: impl Iterator<Item = &'a str>) {
    for address in addresses.filter_map(|text| text.parse::<IpAddr>().ok()) {
        let mut known = node.addresses.iter();
        if known.all(|known| Family::of(*known) != Family::of(address)) {
            node.addresses.push(address);
        }
    }
}
