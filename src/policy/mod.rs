//! What policies say, without packets: pure evaluation, by sets.
//!
//! ```text
//! Inventory ── rules ──▶ halves of policies ──┬─ classes, rows ──▶ Predictor: all ports of every pair at once
//!                                             └─ walk ──▶ Explanation: one flow, policy by policy, rule by rule
//! ```
//! `met` takes from the rows which rules match a flow, without a word about them.
//!
//! The two ways share the reading of policies and nothing else: rows join sets and forget whose
//! rule it was, the walk looks at one flow and tells everything. A property test holds them against
//! each other, and another one both against packets in the lab, whose compiler shares nothing with
//! this module.
//!
//! # What is evaluated
//! A connection is allowed if the egress side of its source and the ingress side of its destination
//! both allow it. Each side asks Admin policies, then the NetworkPolicies that select the pod, then
//! Baseline policies; what nobody decides is allowed. Replies follow the connection. A Service's
//! packets are judged by the pod that they end at and its port ("It is not defined whether ipBlock
//! happens before or after NetworkPolicy processing": here after). What a pod sends to its own
//! address never leaves it, and a node always reaches its own pods.
//!
//! # Limitations
//! - Protocols other than TCP, UDP and SCTP are not looked at: NetworkPolicy does not define them.
//! - An `ipBlock` matches pods' and nodes' addresses where these are known, as Kubernetes' own
//!   tests ask; Cilium's does not. Where they are not known (manifests without a status) it matches
//!   addresses outside only.
//! - Pods that share their node's network have the node's identity: no selector selects them.
//! - Domain names of a ClusterNetworkPolicy match nobody, and are named.
//! - A Service from a pod to itself is judged like any other flow between two pods; network plugins
//!   differ there.

mod bits;
mod caveats;
mod change;
mod classes;
mod edit;
mod explain;
mod flow;
mod map;
mod matched;
mod near_miss;
mod ports;
mod reachability;
mod rules;
mod selector;
mod survey;
mod what_if;

#[cfg(test)]
mod tests;

pub use change::Change;
pub use explain::{Explainer, Explanation, Match, PolicyStep, RuleStep, Selects, Side};
pub use flow::{EndpointRef, Predictor};
pub use map::{ConnectionMap, Link, WorkloadPods, LinkEnd};
pub use matched::MatchedPolicy;
pub use ports::PortSet;
pub use rules::{Direction, PolicyName};
pub use survey::{BothSides, IdleRule, NamedBlock};
pub use what_if::SideEffects;

use crate::inventory::ParseCidrError;

/// A policy that no API server would have taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// Which policy, and what is wrong with it.
    #[error("read {policy}: {fault}")]
    In {
        /// The policy.
        policy: Box<PolicyName>,
        /// What is wrong.
        fault: Box<InvalidPolicy>,
    },
    /// A selector's expression.
    #[error("a selector has {0}")]
    Selector(String),
    /// A peer.
    #[error("a peer {0}")]
    Peer(&'static str),
    /// A block.
    #[error("{0}")]
    Block(ParseCidrError),
    /// A port.
    #[error("{0} is not a port: a number from 1 to 65535")]
    Port(i64),
    /// An `endPort` below its port, or beside a name.
    #[error("endPort {0} needs a port that is a number, and not above it")]
    EndPort(i32),
    /// A protocol.
    #[error("{0:?} is not a protocol of NetworkPolicy: TCP, UDP or SCTP")]
    Protocol(String),
}

impl InvalidPolicy {
    fn within(self, policy: PolicyName) -> Self {
        Self::In {
            policy: Box::new(policy),
            fault: Box::new(self),
        }
    }
}
