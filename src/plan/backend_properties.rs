//! What a backend says of itself before anything is planned.

use super::Source;
use crate::inventory::Inventory;
use crate::wire;
use std::net::IpAddr;

/// Where a run takes place: defaults differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendKind {
    /// Network namespaces of this machine: policies are in force before the first packet.
    Lab,
    /// A cluster.
    Cluster,
}

/// The name servers that the probe of a source asks; `None` is its own `resolv.conf`.
pub type ResolverOf = fn(&Inventory, &Source) -> Option<wire::Resolver>;

/// Everything that planning has to know of the backend.
#[derive(Debug, Clone)]
pub struct BackendProperties {
    /// Lab or cluster.
    pub kind: BackendKind,
    /// What the backend itself offers to send from and to send to.
    pub control_endpoints: ControlEndpoints,
    /// The port on which each pod's probe answers, where the backend does not answer there itself.
    pub control_port: Option<u16>,
    /// How probes resolve names.
    pub resolver_of: ResolverOf,
}

/// What a backend itself offers to send from and to send to, so that controls never depend on the
/// workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlEndpoints {
    /// The control port of every pod, which only the pod's own node is certain to reach.
    pub on_pods: Option<u16>,
    /// A port on every node.
    pub on_nodes: Option<NodeEndpoint>,
    /// Whether packets can be sent from nodes themselves ([`Source::Node`]).
    pub from_nodes: bool,
    /// At most one on every node.
    pub reference_pods: Vec<ReferencePodAddress>,
    /// Whether what reference pods send reaches every pod, whatever policies isolate it.
    pub reference_pods_pass: bool,
}

/// A port of a node at which something answers that is no workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeEndpoint {
    /// Our responder, over TCP and UDP.
    Responder(u16),
    /// Another server, a kubelet for instance, that completes TCP handshakes and is sent nothing.
    Handshake(u16),
}

/// Where a [`Source::ReferencePod`] can be reached. No policy selects it, and it is on the pod
/// network of its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferencePodAddress {
    pub node: String,
    pub addresses: Vec<IpAddr>,
    /// Where our responder listens, over TCP.
    pub port: u16,
}

impl BackendProperties {
    /// The lab: it answers on control ports itself, and probes ask its own name servers.
    pub fn lab(control_endpoints: ControlEndpoints, resolver_of: ResolverOf) -> Self {
        Self {
            kind: BackendKind::Lab,
            control_endpoints,
            control_port: None,
            resolver_of,
        }
    }

    /// No backend, for plans that nothing is sent for: no control endpoint, and nothing that a
    /// cluster could lack makes a check unprovable.
    pub fn none() -> Self {
        let control_endpoints = ControlEndpoints {
            on_pods: None,
            on_nodes: None,
            from_nodes: false,
            reference_pods: Vec::new(),
            reference_pods_pass: false,
        };
        Self::lab(control_endpoints, |_, _| None)
    }

    /// A cluster: probes answer on the pods' control port, and resolve names as their pods do.
    pub fn cluster(control_endpoints: ControlEndpoints) -> Self {
        Self {
            kind: BackendKind::Cluster,
            control_port: control_endpoints.on_pods,
            control_endpoints,
            resolver_of: |_, _| None,
        }
    }
}
