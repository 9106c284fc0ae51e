//! The fields of the cluster-wide policies' CRDs, of both versions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) tier: Option<String>,
    pub(super) priority: Option<i64>,
    pub(super) subject: Option<Peer>,
    pub(super) ingress: Option<Vec<Rule>>,
    pub(super) egress: Option<Vec<Rule>>,
}

/// A rule of either direction, in either version.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Rule {
    pub(super) name: Option<String>,
    pub(super) action: Option<String>,
    pub(super) from: Option<Vec<Peer>>,
    pub(super) to: Option<Vec<Peer>>,
    /// In v1alpha2.
    pub(super) protocols: Option<Vec<Protocol>>,
    /// In v1alpha1.
    pub(super) ports: Option<Vec<PortV1Alpha1>>,
}

/// A subject or a peer.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Peer {
    pub(super) namespaces: Option<LabelSelector>,
    pub(super) pods: Option<NamespacedPod>,
    pub(super) nodes: Option<LabelSelector>,
    pub(super) networks: Option<Vec<String>>,
    pub(super) domain_names: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct NamespacedPod {
    pub(super) namespace_selector: Option<LabelSelector>,
    pub(super) pod_selector: Option<LabelSelector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Protocol {
    pub(super) tcp: Option<ProtocolPort>,
    pub(super) udp: Option<ProtocolPort>,
    pub(super) sctp: Option<ProtocolPort>,
    pub(super) destination_named_port: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ProtocolPort {
    pub(super) destination_port: Option<NumberOrRange>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct NumberOrRange {
    pub(super) number: Option<i32>,
    pub(super) range: Option<PortRange>,
}

/// A port of v1alpha1.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PortV1Alpha1 {
    pub(super) port_number: Option<PortNumber>,
    pub(super) named_port: Option<String>,
    pub(super) port_range: Option<PortRange>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PortNumber {
    pub(super) protocol: Option<String>,
    pub(super) port: Option<i32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PortRange {
    pub(super) protocol: Option<String>,
    pub(super) start: Option<i32>,
    pub(super) end: Option<i32>,
}

/// The fields of each type; other fields are unknown to this version.
pub(super) const RULE: [&str; 6] = ["name", "action", "from", "to", "protocols", "ports"];
pub(super) const PEER: [&str; 5] = ["namespaces", "pods", "nodes", "networks", "domainNames"];
pub(super) const PROTOCOL: [&str; 4] = ["tcp", "udp", "sctp", "destinationNamedPort"];
pub(super) const PORT_V1ALPHA1: [&str; 3] = ["portNumber", "namedPort", "portRange"];

/// The names of an object's fields that are not among the known ones, with a prefix for the path.
pub(super) fn unknown_fields(object: &Value, known: &[&str], prefix: &str) -> Vec<String> {
    let fields = object.as_object();
    fields
        .into_iter()
        .flat_map(serde_json::Map::keys)
        .filter(|field| !known.contains(&field.as_str()))
        .map(|field| format!("{prefix}{field}"))
        .collect()
}
