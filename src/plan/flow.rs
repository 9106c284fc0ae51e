//! Flows as a plan holds them: who sends, where to, and what.

use super::{PathEnd, ProbeId};
use crate::model::{Family, ObjectRef};
use crate::wire;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// From where a probe sends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A pod's identity.
    Pod {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// The node it runs on.
        node: String,
    },
    /// A node's own network.
    Node {
        /// Its name.
        name: String,
    },
    /// A vantage of the backend's own on a node, wired like a pod, that no policy stops: what it
    /// cannot reach, nothing can.
    ReferencePod {
        /// The node.
        node: String,
    },
    /// From where watertight runs; in the lab an outside host.
    Runner,
}

impl Source {
    /// The node it sends from, if it is in the cluster.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Pod { node, .. } | Self::ReferencePod { node } => Some(node),
            Self::Node { name } => Some(name),
            Self::Runner => None,
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pod {
                namespace,
                name,
                node,
            } => write!(f, "{namespace}/{name} on {node}"),
            Self::Node { name } => write!(f, "node {name}"),
            Self::ReferencePod { node } => write!(f, "the reference pod on {node}"),
            Self::Runner => f.write_str("the runner"),
        }
    }
}

/// One source instance, one address, port, protocol and request.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// Who sends.
    pub probe: ProbeId,
    /// Where to and what; shared by all flows that do the same.
    pub to: Arc<TargetKey>,
    /// Who is there.
    pub target_kind: Arc<TargetKind>,
    /// What of a sample makes it open.
    pub opens_at: wire::Stage,
    /// How long its stages are waited for at the least.
    pub waits: Waits,
}

/// How long stages are waited for at the least, because a control took long; zero leaves it at the
/// usual deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// For the handshake, or the first UDP answer.
    pub connect: Duration,
    /// For TLS.
    pub tls: Duration,
    /// For first bytes, and the whole of a request.
    pub request: Duration,
}

impl Waits {
    /// The longer one at each stage.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            connect: self.connect.max(other.connect),
            tls: self.tls.max(other.tls),
            request: self.request.max(other.request),
        }
    }

    /// The longest of all.
    pub fn longest(self) -> Duration {
        self.connect.max(self.tls).max(self.request)
    }
}

impl Flow {
    /// The family of the address dialled.
    pub fn family(&self) -> Family {
        Family::of(self.to.address)
    }
}

/// Address, port, protocol and request: two flows with the same key differ only in who sends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetKey {
    /// The address dialled; for a name, one that it is known to have in that family.
    pub address: IpAddr,
    /// The name that the probe resolves itself before each attempt.
    pub name: Option<String>,
    /// The port.
    pub port: u16,
    /// The transport.
    pub transport: wire::Transport,
    /// What is said.
    pub request: wire::Request,
    /// Whether it may be said only once: a request that changes something.
    pub once: bool,
}

/// Who is at the address that a flow dials.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetKind {
    /// A pod, by its own address.
    Pod {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Its node.
        node: String,
        /// Whether it was ready when the plan was made.
        ready: bool,
        /// Whether its address is its node's own.
        host_network: bool,
    },
    /// A Service, by its cluster address.
    Service {
        /// The Service.
        service: ObjectRef,
        /// The nodes of its ready pods.
        nodes: Vec<String>,
        /// Its ready pods, `namespace/name`.
        pods: Vec<String>,
    },
    /// A node.
    Node {
        /// Its name.
        name: String,
    },
    /// The backend's own witness on a node: its address is like a pod's, and no policy selects it.
    ReferencePod {
        /// The node.
        node: String,
    },
    /// A host or an address outside the cluster.
    Outside {
        /// As the suite names it.
        name: String,
    },
}

impl TargetKind {
    /// Where paths to it end: for a proof about it, something must have crossed to each of them.
    ///
    /// Addresses of different kinds are different ends: that a node's own address is reached says
    /// nothing of the network of its pods (an overlay may be down), and neither says anything of
    /// the Services' addresses.
    pub fn path_ends(&self, flow: &Flow) -> Vec<PathEnd> {
        match self {
            Self::Pod {
                node,
                host_network: false,
                ..
            }
            | Self::ReferencePod { node } => vec![PathEnd::Pods(node.clone())],
            Self::Pod {
                node,
                host_network: true,
                ..
            } => vec![PathEnd::Node(node.clone())],
            Self::Service { nodes, .. } => nodes
                .iter()
                .cloned()
                .map(PathEnd::Pods)
                .chain([PathEnd::Services])
                .collect(),
            Self::Node { name } => vec![PathEnd::Node(name.clone())],
            Self::Outside { .. } => vec![PathEnd::Address(flow.to.address)],
        }
    }

    /// The ends to which a packet has surely crossed when it was answered. Where a Service has pods
    /// on several nodes, it may have gone to any of them.
    pub(super) fn shows(&self, flow: &Flow) -> Vec<PathEnd> {
        match self {
            Self::Service { nodes, .. } if nodes.len() > 1 => vec![PathEnd::Services],
            Self::Service { .. }
            | Self::Pod { .. }
            | Self::Node { .. }
            | Self::ReferencePod { .. }
            | Self::Outside { .. } => self.path_ends(flow),
        }
    }
}

impl std::fmt::Display for TargetKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pod {
                namespace,
                name,
                node,
                ..
            } => write!(f, "{namespace}/{name} on {node}"),
            Self::Service { service, .. } => {
                write!(f, "Service {}/{}", service.namespace, service.name)
            }
            Self::Node { name } => write!(f, "node {name}"),
            Self::ReferencePod { node } => write!(f, "the reference pod on {node}"),
            Self::Outside { name } => f.write_str(name),
        }
    }
}
