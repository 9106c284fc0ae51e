//! What policies name, for whoever has to find something to test: address blocks, and peers that
//! are nobody.

use super::explain::Explainer;
use super::flow::{End, Predictor};
use super::map::Member;
use super::near_miss::{self, Party};
use super::ports::PortSet;
use super::rules::{Direction, Peer, PolicyName, Ports};
use crate::inventory::Cidr;
use crate::model::{Family, Port};

/// An `ipBlock` that a policy lets its pods send to, or decides about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedBlock {
    /// Whose rule.
    pub policy: PolicyName,
    /// Which of its egress rules, from 1.
    pub rule: usize,
    /// The block.
    pub block: Cidr,
    /// What is excepted.
    pub except: Vec<Cidr>,
    /// The first port of each range that the rule names, and whether it is the only one; none where
    /// it means every port.
    pub ports: Vec<(Port, bool)>,
}

/// A rule whose peers are pods, of which there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleRule {
    /// Whose rule.
    pub policy: PolicyName,
    /// Its direction.
    pub direction: Direction,
    /// Which, from 1.
    pub rule: usize,
    /// Whom it means, in words.
    pub peers: String,
}

/// What each side of a flow lets through by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BothSides {
    /// The source's egress.
    pub egress: PortSet,
    /// The destination's ingress.
    pub ingress: PortSet,
}

impl Explainer<'_> {
    /// The policies in force that select a pod, in the order in which they are asked.
    pub fn selecting(&self, pod: usize, direction: Direction) -> Vec<&PolicyName> {
        let party = Party::pod(self.inventory, &self.inventory.pods[pod], None);
        let Some(own) = party.pod else {
            return Vec::new();
        };
        let policies = self
            .rules
            .policies
            .iter()
            .filter(|policy| policy.direction == direction && policy.in_force);
        policies
            .filter(|policy| {
                near_miss::missing_requirement(&policy.subject, own, &party.namespace).is_empty()
            })
            .map(|policy| &policy.name)
            .collect()
    }

    /// The address blocks of egress rules in force.
    pub fn named_blocks(&self) -> Vec<NamedBlock> {
        let mut named = Vec::new();
        for policy in self
            .rules
            .policies
            .iter()
            .filter(|policy| policy.in_force && policy.direction == Direction::Egress)
        {
            for (number, rule) in policy.rules.iter().enumerate() {
                let ports = rule.ports.iter().flatten().filter_map(|ports| match ports {
                    Ports::Range(transport, first, last) => {
                        Some((Port::new(*first, *transport)?, first == last))
                    }
                    // A name means nothing where the peer is an address block.
                    Ports::Named(..) => None,
                });
                let ports: Vec<(Port, bool)> = ports.collect();
                if rule.ports.is_some() && ports.is_empty() {
                    continue;
                }
                named.extend(rule.peers.iter().flatten().filter_map(|peer| match peer {
                    Peer::Block(block) => Some(NamedBlock {
                        policy: policy.name.clone(),
                        rule: number + 1,
                        block: block.cidr,
                        except: block.except.clone(),
                        ports: ports.clone(),
                    }),
                    Peer::Pods(_) | Peer::Nodes(_) | Peer::Names(_) => None,
                }));
            }
        }
        named
    }

    /// The rules in force that mean pods by their labels, and no pod that there is.
    pub fn idle_rules(&self) -> Vec<IdleRule> {
        let mut idle = Vec::new();
        for policy in self.rules.policies.iter().filter(|policy| policy.in_force) {
            for (number, rule) in policy.rules.iter().enumerate() {
                let Some(peers) = rule.peers.as_ref().filter(|peers| !peers.is_empty()) else {
                    continue;
                };
                if peers.iter().any(|peer| self.means_somebody(peer)) {
                    continue;
                }
                idle.push(IdleRule {
                    policy: policy.name.clone(),
                    direction: policy.direction,
                    rule: number + 1,
                    peers: peers
                        .iter()
                        .map(near_miss::describe)
                        .collect::<Vec<_>>()
                        .join(", "),
                });
            }
        }
        idle
    }

    /// Blocks, nodes and names are not looked into: who is behind them is not known to be nobody.
    fn means_somebody(&self, peer: &Peer) -> bool {
        match peer {
            Peer::Pods(scope) => self
                .inventory
                .pods
                .iter()
                .filter(|pod| !pod.host_network)
                .any(|pod| {
                    let party = Party::pod(self.inventory, pod, None);
                    near_miss::missing_requirement(scope, pod, &party.namespace).is_empty()
                }),
            Peer::Block(_) | Peer::Nodes(_) | Peer::Names(_) => true,
        }
    }
}

impl Predictor<'_> {
    /// Workloads, and what stands for those of their pods that policies treat alike, in order of
    /// namespace and name.
    pub fn members(&self) -> Vec<Member> {
        self.standings()
            .into_iter()
            .map(|(member, _)| member)
            .collect()
    }

    /// What each side lets through by itself; nothing where no policy is asked.
    pub fn sides(&mut self, from: End<'_>, to: End<'_>, family: Family) -> Option<BothSides> {
        let (egress, ingress) = self.both(from, to, family)?;
        Some(BothSides {
            egress: self.rows.sets.get(egress).clone(),
            ingress: self.rows.sets.get(ingress).clone(),
        })
    }
}
