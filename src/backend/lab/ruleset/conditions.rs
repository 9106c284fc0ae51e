//! Conditions of a rule: its peers and ports as matches on packets, and the sets that these use.

use super::compile::Node;
use super::direction::{DirectionalPolicy, Peers, PortMatch, Ports, ResolvedRule};
use super::ir::{Direction, Elements, Match, Note, Set, Side, digit};
use super::pods::PodId;
use super::ranges::Ranges;
use crate::inventory::Pod;
use crate::model::{Family, Transport};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

/// Transports of named ports.
const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Udp, Transport::Sctp];

/// Conditions on the peer of a packet, with the family that they require.
type PeerMatches = (Option<Family>, Vec<Match>);

impl Node<'_> {
    /// Alternatives of a rule: each is a list of conditions that must all match.
    pub(super) fn conditions(
        &mut self,
        policy: &DirectionalPolicy,
        rule: &ResolvedRule,
        subjects: &[PodId],
    ) -> Vec<Vec<Match>> {
        let peers = self.peers(&rule.peers, policy.direction);
        let ports = match &rule.ports {
            Ports::All => return peers.into_iter().map(|(_, matches)| matches).collect(),
            Ports::Only(ports) => ports,
        };
        let mut alternatives = Vec::new();
        for port in ports {
            match port {
                PortMatch::Transport(transport) => {
                    alternatives.extend(for_each_peer(&peers, &Match::Transport(*transport)));
                }
                PortMatch::Range(transport, first, last) => {
                    let port = Match::Port {
                        transport: *transport,
                        first: *first,
                        last: *last,
                    };
                    alternatives.extend(for_each_peer(&peers, &port));
                }
                PortMatch::Named(transport, name) => {
                    alternatives
                        .extend(self.named_port(policy, rule, subjects, &peers, *transport, name));
                }
            }
        }
        alternatives
    }

    /// Alternatives of a rule with a named port. The destination pods declare its number, which can
    /// differ between them: the subjects of an ingress rule, the peers of an egress rule.
    fn named_port(
        &mut self,
        policy: &DirectionalPolicy,
        rule: &ResolvedRule,
        subjects: &[PodId],
        peers: &[PeerMatches],
        transport: Option<Transport>,
        name: &str,
    ) -> Vec<Vec<Match>> {
        let destinations: Vec<PodId> = match (policy.direction, &rule.peers) {
            (Direction::Ingress, _) => subjects.to_vec(),
            (Direction::Egress, Peers::Addresses { pods, .. }) => pods.clone(),
            (Direction::Egress, Peers::Any) => self.index.all().collect(),
        };
        let families_and_transports = Family::ALL
            .into_iter()
            .flat_map(|family| TRANSPORTS.map(|other| (family, other)))
            .filter(|(_, other)| transport.is_none_or(|transport| transport == *other));

        let mut alternatives = Vec::new();
        for (family, transport) in families_and_transports {
            let pairs: BTreeSet<(IpAddr, u16)> = destinations
                .iter()
                .map(|id| self.index.pod(*id))
                .filter_map(|pod| Some((pod.address(family)?, pod)))
                .flat_map(|(address, pod)| {
                    named_ports(pod, name, transport).map(move |port| (address, port))
                })
                .collect();
            if pairs.is_empty() {
                continue;
            }
            let set = self.add_set('n', family, Elements::Ports(pairs.into_iter().collect()));
            let port = Match::AddressPort {
                family,
                transport,
                set,
            };
            match policy.direction {
                Direction::Ingress => {
                    let of_family = peers
                        .iter()
                        .filter(|(other, _)| other.is_none_or(|other| other == family));
                    alternatives.extend(of_family.map(|(_, matches)| with_port(matches, &port)));
                }
                // The set of pairs contains the addresses of the peers.
                Direction::Egress => alternatives.push(vec![port]),
            }
        }

        if alternatives.is_empty() && !peers.is_empty() {
            let note = Note::UnknownPortName {
                policy: policy.title(),
                name: name.to_owned(),
            };
            if !self.rules.notes.contains(&note) {
                self.rules.notes.push(note);
            }
        }
        alternatives
    }

    /// Conditions on the other endpoint, one alternative per family; none if no address matches.
    fn peers(&mut self, peers: &Peers, direction: Direction) -> Vec<PeerMatches> {
        let (v4, v6) = match peers {
            Peers::Any => return vec![(None, Vec::new())],
            Peers::Addresses { v4, v6, .. } => (v4, v6),
        };
        let side = match direction {
            Direction::Ingress => Side::Source,
            Direction::Egress => Side::Destination,
        };
        let mut alternatives = Vec::new();
        for (family, ranges) in [(Family::V4, v4), (Family::V6, v6)] {
            if ranges.is_whole_family() {
                alternatives.push((Some(family), vec![Match::Family(family)]));
            } else if !ranges.is_empty() {
                let set = self.address_set(family, ranges);
                alternatives.push((Some(family), vec![Match::Address { family, side, set }]));
            }
        }
        alternatives
    }

    /// The set of ranges, shared by all rules with the same ranges; returns its name.
    fn address_set(&mut self, family: Family, ranges: &Rc<Ranges>) -> String {
        if let Some(name) = self.address_sets.get(&(family, Rc::clone(ranges))) {
            return name.clone();
        }
        let name = self.add_set('a', family, Elements::Ranges(ranges.as_slice().to_vec()));
        self.address_sets
            .insert((family, Rc::clone(ranges)), name.clone());
        name
    }

    /// Adds a set whose name starts with a letter; returns the name.
    fn add_set(&mut self, letter: char, family: Family, elements: Elements) -> String {
        let name = format!("{letter}{}_{}", digit(family), self.rules.sets.len());
        self.rules.sets.push(Set {
            name: name.clone(),
            family,
            elements,
        });
        name
    }
}

/// The numbers of a pod's ports with a name; several if its containers share the name.
fn named_ports(pod: &Pod, name: &str, transport: Transport) -> impl Iterator<Item = u16> {
    pod.ports
        .iter()
        .filter(move |port| {
            port.name.as_deref() == Some(name) && port.port.transport() == transport
        })
        .map(|port| port.port.number())
}

/// The conditions of all alternatives of the peers, each with a condition on the port.
fn for_each_peer(peers: &[PeerMatches], port: &Match) -> Vec<Vec<Match>> {
    peers
        .iter()
        .map(|(_, matches)| with_port(matches, port))
        .collect()
}

/// Conditions on a peer, with a condition on the port.
fn with_port(matches: &[Match], port: &Match) -> Vec<Match> {
    matches.iter().cloned().chain([port.clone()]).collect()
}
