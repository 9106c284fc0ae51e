//! Policies in, the rules of each node out: pure.
//!
//! ```text
//! Inventory ─┬─ resolve: NetworkPolicies ───────┬▶ halves ── conditions, compile ──▶ NodeRuleset, one a node
//!            └─ cluster: cluster-wide policies ─┘                                      └─ trace: what denies a packet
//! ```
//!
//! A packet from pod to pod meets the egress chain on the source's node and the ingress chain on
//! the destination's; on one node it meets both, egress first. A packet from a pod to its own node
//! meets the egress chain on the way in. What a node itself sends goes through no chain: a node may
//! always reach its own pods ("OR if the traffic source is the pod's local node",
//! NetworkPolicySpec.ingress).
//!
//! ```text
//! forward, input ─▶ egress:  replies, neighbour discovery ─▶ accept; by source ─▶ group
//! forward        ─▶ ingress: the same; by destination        ─▶ group
//! group          ─▶ Admin tier ─▶ NetworkPolicies ─▶ deny, or without any: Baseline tier ─▶ accept
//! ```
//!
//! Pods that the same policies select in a direction are one group and share a chain: the Admin
//! tier, whose first matching rule decides; then each NetworkPolicy in turn, and the deny; where no
//! NetworkPolicy selects them, the Baseline tier instead, and what it leaves is allowed. Pass
//! leaves a tier. Replies are judged by the first packet of their connection.
//!
//! # Limitations
//! - An `ipBlock` matches pods' and nodes' addresses too, as with Calico and the plugins on
//!   iptables; Cilium differs. A name instead of a port number matches nothing behind an `ipBlock`,
//!   for there is no pod to ask.
//! - Addresses are those after a Service's translation; a pod that reaches itself through a Service
//!   is judged like any other.
//! - A host-network pod is its node: selected by nothing, isolated by nothing.
//! - ICMP is under a policy's deny and under rules without ports. Kubernetes leaves that open.
//! - A connection that is up stays up when rules change.
//! - Of two cluster-wide policies of one tier and priority the one whose name comes first is asked
//!   first; the API leaves that open.
//! - Domain names of a `ClusterNetworkPolicy` match no address.
//! - A policy's status and other vendors' policies are not read.

mod cluster;
mod compile;
mod conditions;
mod direction;
mod ir;
mod pods;
mod ranges;
mod resolve;
mod trace;

#[cfg(test)]
mod tests;

pub use ir::{
    Base, COMMENT_BYTES, Chain, Counter, Counts, Deny, Direction, Elements, Hook, Match,
    NodeRuleset, Note, Rule, Set, Side, Statement, VerdictMap,
};
pub use trace::{Packet, Payload};

use crate::inventory::Inventory;
use direction::Half;
use pods::Index;

/// A policy that no API server would have taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{policy} is invalid: {what}")]
pub struct InvalidPolicy {
    /// `data/NetworkPolicy/postgres`.
    pub policy: String,
    /// What is wrong with it.
    pub what: String,
}

/// All policies of an inventory, with their peers and ports known; the rules of a node are cheap to
/// take from it.
pub struct Compiler<'a> {
    index: Index<'a>,
    halves: Vec<Half>,
}

impl<'a> Compiler<'a> {
    /// Evaluates every selector of every policy.
    ///
    /// # Errors
    /// [`InvalidPolicy`] for one that validation would have refused.
    pub fn new(inventory: &'a Inventory) -> Result<Self, InvalidPolicy> {
        let mut index = Index::new(inventory);
        let mut halves = cluster::resolve(inventory, &mut index)?;
        halves.extend(resolve::resolve(inventory, &mut index)?);
        // Within a stage the order stays.
        halves.sort_by_key(|half| half.tier);
        Ok(Self { index, halves })
    }

    /// The rules of one node. A node without isolated pods has the base chains alone.
    pub fn node(&self, node: &str, deny: Deny) -> NodeRuleset {
        compile::compile(&self.index, &self.halves, node, deny)
    }
}
