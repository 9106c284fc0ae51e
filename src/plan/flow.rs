//! Flows as a plan holds them: who sends, where to, and what.

use super::{PathEnd, ProbeId};
use crate::model::{Family, ObjectRef};
use crate::wire;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The place that a probe sends from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A pod, with its labels and service account.
    Pod {
        namespace: String,
        name: String,
        /// The node it runs on.
        node: String,
    },
    /// A node's own network.
    Node { name: String },
    /// The backend's reference pod on a node: on the pod network, without a workload's labels.
    ReferencePod { node: String },
    /// The machine that watertight runs on; in the lab a host outside the cluster.
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

/// One source instance, one address, port, transport and request.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    pub probe: ProbeId,
    /// The address, port, transport and request; shared by all flows that have the same.
    pub to: Arc<TargetKey>,
    /// What is at that address.
    pub target_kind: Arc<TargetKind>,
    /// The stage that an attempt must pass to count as open.
    pub opens_at: wire::Stage,
    /// The shortest deadlines of its stages.
    pub waits: Waits,
}

/// The shortest deadlines of an attempt's stages, raised because a control took long; zero leaves
/// the usual deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// Of the handshake, or of the first UDP answer.
    pub connect: Duration,
    /// Of the TLS handshake.
    pub tls: Duration,
    /// Of the first bytes, and of the whole request.
    pub request: Duration,
}

impl Waits {
    /// The longer deadline at each stage.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            connect: self.connect.max(other.connect),
            tls: self.tls.max(other.tls),
            request: self.request.max(other.request),
        }
    }

    /// The longest of the three.
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

/// What an HTTP answer counts as, by the pattern of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum AnswerRule {
    /// Every answer opens, unless it is a known denial.
    #[default]
    Any,
    /// Only an answer that matches opens: an allowed line's `status`.
    MatchOpens,
    /// An answer that matches is a refusal: a denied line's `refusal`.
    MatchRefuses,
}

impl AnswerRule {
    /// Its name in evidence files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::MatchOpens => "match-opens",
            Self::MatchRefuses => "match-refuses",
        }
    }
}

/// Address, port, transport and request: two flows with the same key differ only in their source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetKey {
    /// The address dialled; for a name, one that it is known to have in that family.
    pub address: IpAddr,
    /// The name that the probe resolves itself before each attempt.
    pub name: Option<String>,
    pub port: u16,
    pub transport: wire::Transport,
    /// What is sent once connected.
    pub request: wire::Request,
    /// What an answer counts as: controls are judged by the same rule.
    pub answer_rule: AnswerRule,
    /// Whether it may be sent only once, because it may change something.
    pub once: bool,
}

impl TargetKey {
    /// The same packets, whatever is expected of their answer.
    #[must_use]
    pub fn without_answer_rule(&self) -> Self {
        Self {
            request: self.request.with_pattern(None),
            answer_rule: AnswerRule::Any,
            ..self.clone()
        }
    }
}

/// What is at the address that a flow dials.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetKind {
    /// A pod, by its own address.
    Pod {
        namespace: String,
        name: String,
        node: String,
        /// Whether it was ready when the plan was made.
        ready: bool,
        /// Whether its address is its node's own.
        host_network: bool,
    },
    /// A Service, by its cluster address.
    Service {
        service: ObjectRef,
        /// The nodes of its ready pods.
        nodes: Vec<String>,
        /// Its ready pods, `namespace/name`.
        pods: Vec<String>,
    },
    /// A node.
    Node { name: String },
    /// The backend's reference pod on a node: its address is like a pod's, and no policy selects
    /// it.
    ReferencePod { node: String },
    /// A host or an address outside the cluster.
    Outside {
        /// As the suite names it.
        name: String,
    },
}

impl TargetKind {
    /// Where paths to it end: a proof about it needs a path control to each of them.
    ///
    /// Addresses of different kinds are different ends: a node's own address may be reached while
    /// the network of its pods is down (an overlay), and neither shows that the addresses of
    /// Services are reached.
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

    /// The ends of paths that an answered packet certainly took. Where a Service has pods on
    /// several nodes, the packet may have gone to any of them.
    pub(super) fn proven_path_ends(&self, flow: &Flow) -> Vec<PathEnd> {
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
