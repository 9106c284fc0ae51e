//! Address blocks and pods that rules refer to, for the draft of a suite.

use super::explain::Explainer;
use super::flow::{EndpointRef, Predictor};
use super::near_miss::describe;
use super::ports::PortSet;
use super::reachability::View;
use super::rules::{Direction, DirectionalPolicy, Peer, PolicyName, Ports, Rule};
use crate::inventory::Cidr;
use crate::model::{Family, Port};

/// An `ipBlock` of an egress rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedBlock {
    pub policy: PolicyName,
    /// The number of the egress rule, from 1.
    pub rule: usize,
    pub block: Cidr,
    pub except: Vec<Cidr>,
    /// The first port of each range of the rule, and whether it is the only one of the range; empty
    /// where the rule applies to every port.
    pub ports: Vec<(Port, bool)>,
}

/// A rule whose peers select pods, and no existing one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleRule {
    pub policy: PolicyName,
    pub direction: Direction,
    /// The number of the rule, from 1.
    pub rule: usize,
    /// The peers as text.
    pub peers: String,
}

/// The ports that each side of a flow allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BothSides {
    /// The ports that the source's egress allows.
    pub egress: PortSet,
    /// The ports that the destination's ingress allows.
    pub ingress: PortSet,
}

impl Explainer<'_> {
    /// The policies in force that select a pod, in order of evaluation.
    pub fn selecting(&self, pod: usize, direction: Direction) -> Vec<&PolicyName> {
        let pod = &self.inventory.pods[pod];
        self.in_force()
            .filter(|policy| policy.direction == direction)
            .filter(|policy| self.is_in_scope(&policy.subject, pod))
            .map(|policy| &policy.name)
            .collect()
    }

    /// The address blocks of egress rules in force.
    pub fn named_blocks(&self) -> Vec<NamedBlock> {
        let egress = self
            .in_force()
            .filter(|policy| policy.direction == Direction::Egress);

        let mut blocks = Vec::new();
        for policy in egress {
            for (index, rule) in policy.rules.iter().enumerate() {
                blocks.extend(blocks_of(policy, index, rule));
            }
        }
        blocks
    }

    /// The rules in force whose peers select pods by labels, and no existing one.
    pub fn idle_rules(&self) -> Vec<IdleRule> {
        let mut idle = Vec::new();
        for policy in self.in_force() {
            for (index, rule) in policy.rules.iter().enumerate() {
                let peers = rule.peers.as_deref().unwrap_or_default();
                if peers.is_empty() || peers.iter().any(|peer| self.may_match(peer)) {
                    continue;
                }

                let descriptions: Vec<String> = peers.iter().map(describe).collect();
                idle.push(IdleRule {
                    policy: policy.name.clone(),
                    direction: policy.direction,
                    rule: index + 1,
                    peers: descriptions.join(", "),
                });
            }
        }
        idle
    }

    pub(super) fn in_force(&self) -> impl Iterator<Item = &DirectionalPolicy> {
        self.rules
            .policies
            .iter()
            .map(AsRef::as_ref)
            .filter(|policy| policy.in_force)
    }

    /// Whether a peer selects an existing pod, or cannot be checked: hosts behind blocks, nodes and
    /// domain names are not known.
    fn may_match(&self, peer: &Peer) -> bool {
        match peer {
            Peer::Pods(scope) => self
                .inventory
                .pods
                .iter()
                .any(|pod| self.is_in_scope(scope, pod)),
            Peer::Block(_) | Peer::Nodes(_) | Peer::Names(_) => true,
        }
    }
}

/// The blocks of an egress rule, unless all of its ports are given by name: port names do not apply
/// to address blocks.
fn blocks_of(policy: &DirectionalPolicy, index: usize, rule: &Rule) -> Vec<NamedBlock> {
    let ports: Vec<(Port, bool)> = rule.ports.iter().flatten().filter_map(first_port).collect();
    if rule.ports.is_some() && ports.is_empty() {
        return Vec::new();
    }

    let mut blocks = Vec::new();
    for peer in rule.peers.iter().flatten() {
        if let Peer::Block(block) = peer {
            blocks.push(NamedBlock {
                policy: policy.name.clone(),
                rule: index + 1,
                block: block.cidr,
                except: block.except.clone(),
                ports: ports.clone(),
            });
        }
    }
    blocks
}

/// The first port of a range, and whether it is the only one.
fn first_port(ports: &Ports) -> Option<(Port, bool)> {
    match ports {
        Ports::Range(transport, first, last) => {
            Some((Port::new(*first, *transport)?, first == last))
        }
        Ports::Named(..) => None,
    }
}

impl Predictor<'_> {
    /// The ports that each side allows; `None` where no policy applies.
    pub fn sides(
        &mut self,
        from: EndpointRef<'_>,
        to: EndpointRef<'_>,
        family: Family,
    ) -> Option<BothSides> {
        let (from, to) = self.classes_of(from, to)?;
        let (egress, ingress) =
            self.reachability
                .sides(&mut self.rows, (View::Placed, family), from, to);
        Some(BothSides {
            egress: self.reachability.sets.get(egress).clone(),
            ingress: self.reachability.sets.get(ingress).clone(),
        })
    }
}
