//! The evaluation of policies without packets. Pure, by sets.
//!
//! ```text
//! Inventory ── rules ──▶ policies by direction ─┬─ classes, reachability ──▶ Predictor: all ports of every pair
//!                                               └─ side ──▶ Explanation: one flow, policy by policy, rule by rule
//! ```
//! `matched` lists the indexes of the policies and rules that match a flow. `kinds` tells pods apart
//! as selectors do; `unmatched` names what selects none. `change` suggests changes that give the
//! opposite answer, and `what_if` tries them.
//! `map` makes the links of a map from the rows of a `grid`, `difference` compares two maps, and
//! `addition` names what an added policy does not stop. `addresses` says for all of them whether a
//! block contains a pod or a node.
//!
//! The predictor and the explainer share only the reading of policies and `addresses`: the
//! predictor joins the sets of all rules, and the explainer evaluates the rules of one flow in
//! order. A property test compares the two with each other, and another one both with packets in the
//! lab, whose compiler shares nothing with this module.
//!
//! # What is evaluated
//! A connection is allowed if the egress side of its source and the ingress side of its destination
//! both allow it. On each side, Admin policies decide first, then the NetworkPolicies that select
//! the pod, then Baseline policies; what none of them decides is allowed. Replies of an allowed
//! connection are allowed. Packets to a Service are evaluated with the pod and the port that they
//! are forwarded to ("It is not defined whether ipBlock happens before or after NetworkPolicy
//! processing": here after). Policies do not apply to traffic from a pod to its own address, nor
//! from a node to its own pods.
//!
//! # Limitations
//! - Only TCP, UDP and SCTP are evaluated: NetworkPolicy does not define other protocols.
//! - An `ipBlock` matches addresses of pods and nodes, as Kubernetes' own tests require; Cilium's
//!   does not. What depends on addresses that are not known is given as unknown (`addresses`).
//! - Pods in their node's network have the node's identity: no selector selects them.
//! - Domain names of a ClusterNetworkPolicy match nothing; a caveat lists them.
//! - A connection from a pod to itself through a Service is evaluated like one between two pods;
//!   network plugins differ in this case.

mod addition;
mod addresses;
mod bits;
mod caveats;
mod change;
mod classes;
mod difference;
mod edit;
mod explain;
mod flow;
mod flow_end;
mod grid;
mod kinds;
mod map;
mod matched;
mod near_miss;
mod outside;
mod ports;
mod questions;
mod reachability;
mod rule_change;
mod rules;
mod selector;
mod side;
mod survey;
mod unmatched;
mod what_if;

#[cfg(test)]
mod tests;

pub use addition::additions_without_effect;
pub use change::Change;
pub use difference::{Comparison, Differences};
pub use explain::{Explainer, Explanation, Match, PolicyStep, RuleStep, Selects, Side};
pub use flow::{EndpointRef, Predictor};
pub use kinds::PodKinds;
pub use map::{Link, LinkEnd, Links, MapEnds, WorkloadPods};
pub use matched::MatchedPolicy;
pub use outside::OutsideRule;
pub use ports::PortSet;
pub use questions::{admits_by_labels_only, is_isolated_for_ingress, selects_unlabelled_pods};
pub use rules::{Direction, PolicyName};
pub use survey::{BothSides, IdleRule, NamedBlock};
pub use unmatched::notes_on_unmatched;
pub use what_if::SideEffects;

use crate::inventory::ParseCidrError;

/// A policy that an API server would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// Any of the other errors, with its policy.
    #[error("read {policy}: {fault}")]
    In {
        policy: Box<PolicyName>,
        fault: Box<InvalidPolicy>,
    },
    /// An expression of a selector.
    #[error("a selector has {0}")]
    Selector(String),
    #[error("a peer {0}")]
    Peer(&'static str),
    /// An address block of a peer.
    #[error("{0}")]
    Block(ParseCidrError),
    #[error("{0} is not a port: a number from 1 to 65535")]
    Port(i64),
    /// An `endPort` that is smaller than its port, or whose port is a name or absent.
    #[error("endPort {0} needs a port that is a number and not greater than it")]
    EndPort(i32),
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
