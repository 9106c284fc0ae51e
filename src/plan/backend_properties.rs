//! What a backend says of itself before anything is planned.

use super::{ControlEndpoints, Source};
use crate::inventory::Inventory;
use crate::wire;

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
