//! Source controls and paths: what shows that a source can send, and that the network between two
//! nodes is open.

use super::FlowId;
use crate::model::Family;
use std::net::IpAddr;

/// Flows that can show that a source can send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceControls {
    /// Flows of the same probe that the suite expects to be allowed.
    pub allowed: Vec<FlowId>,
    /// Flows of the same probe that planning added on the chance that a policy admits them.
    pub tried: Vec<FlowId>,
    /// Flows from the source's own node to the source: they count only where nothing is allowed to
    /// the source.
    pub reached: Vec<FlowId>,
}

/// Octets of the largest request for which a handshake shows that the path is open: every IPv4 host
/// takes a datagram of 576 octets (RFC 791 section 3.1), headers included.
pub const SMALL_REQUEST: usize = 512;

/// A path through the network that flows can share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// The source's node; `None` for the runner.
    pub from: Option<String>,
    /// Where it ends.
    pub to: PathEnd,
    pub family: Family,
}

/// Where a path ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathEnd {
    /// A node's own address.
    Node(String),
    /// The network of a node's pods.
    Pods(String),
    /// The cluster addresses of Services.
    Services,
    /// An address outside.
    Address(IpAddr),
}

impl std::fmt::Display for PathEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Pods(node) => write!(f, "the pods on {node}"),
            Self::Services => f.write_str("any Service's cluster address"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}
