//! Compiler from policies to the rules of each node. Pure.
//!
//! ```text
//! Inventory ─┬─ resolve: NetworkPolicies ───────┬▶ DirectionalPolicy ── conditions, compile ──▶ NodeRuleset, one a node
//!            └─ cluster: cluster-wide policies ─┘                                               └─ trace: what denies a packet
//! ```
//!
//! A packet from pod to pod goes through the egress chain on the source's node and the ingress
//! chain on the destination's; on one node it goes through both, egress first. A packet from a pod
//! to its own node goes through the egress chain in the input hook. Packets that a node sends go
//! through no chain: a node can always reach its own pods ("OR if the traffic source is the pod's
//! local node", NetworkPolicySpec.ingress).
//!
//! ```text
//! forward, input ─▶ egress:  replies, neighbour discovery ─▶ accept; by source ─▶ group
//! forward        ─▶ ingress: the same; by destination        ─▶ group
//! group          ─▶ Admin tier ─▶ NetworkPolicies ─▶ deny, or without any: Baseline tier ─▶ accept
//! ```
//!
//! Pods that the same policies select in a direction are one group and share a chain: the Admin
//! tier, whose first matching rule decides; then each NetworkPolicy in turn, and the deny. If no
//! NetworkPolicy selects them, the Baseline tier follows instead, and a packet that it does not
//! match is accepted. Pass leaves a tier. Replies follow the verdict on the first packet of their
//! connection.
//!
//! # Limitations
//! - An `ipBlock` matches addresses of pods and nodes too, as with Calico and the plugins on
//!   iptables; Cilium differs. A named port matches nothing behind an `ipBlock`, since no pod
//!   declares it there.
//! - Addresses are those after a Service's translation; a pod that reaches itself through a Service
//!   is treated like any other.
//! - A host-network pod is its node: no policy selects or isolates it.
//! - ICMP is matched by a policy's deny and by rules without ports. Kubernetes leaves that open.
//! - An established connection stays up when rules change.
//! - Of two cluster-wide policies of the same tier and priority the first by name is evaluated
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

use crate::inventory::{Inventory, PoliciesByKind};
use direction::DirectionalPolicy;
use pods::PodIndex;

/// A policy that the API server would have rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{policy} is invalid: {what}")]
pub struct InvalidPolicy {
    /// `data/NetworkPolicy/postgres`.
    pub policy: String,
    /// The invalid field or value.
    pub what: String,
}

/// All policies of an inventory with resolved peers and ports, from which the rules of each node
/// are compiled.
pub struct Compiler<'a> {
    index: PodIndex<'a>,
    policies: Vec<DirectionalPolicy>,
}

impl<'a> Compiler<'a> {
    /// Evaluates every selector of every policy.
    ///
    /// # Errors
    /// [`InvalidPolicy`] for a policy that validation would have rejected.
    pub fn new(inventory: &'a Inventory) -> Result<Self, InvalidPolicy> {
        let mut index = PodIndex::new(inventory);
        let PoliciesByKind { network, cluster } = inventory.policies_by_kind();
        let mut policies = cluster::resolve(cluster, &inventory.nodes, &mut index)?;
        policies.extend(resolve::resolve(network, &mut index)?);
        // Stable: the order within a tier stays.
        policies.sort_by_key(|policy| policy.tier);
        Ok(Self { index, policies })
    }

    /// Compiles the rules of one node. A node without isolated pods has only the base chains.
    pub fn node(&self, node: &str, deny: Deny) -> NodeRuleset {
        compile::compile(&self.index, &self.policies, node, deny)
    }
}
