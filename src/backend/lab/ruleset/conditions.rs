//! When a rule matches: its peers and ports as conditions on packets, and the sets that these look
//! up.

use super::compile::Node;
use super::direction::{Half, Peers, PortMatch, Ports, Resolved};
use super::ir::{Direction, Elements, Match, Note, Set, Side, digit};
use super::pods::PodId;
use super::ranges::Ranges;
use crate::inventory::Pod;
use crate::model::{Family, Port, Transport};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

/// Transports in which a port can have a name.
const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Udp, Transport::Sctp];

impl Node<'_> {
    /// The alternatives in which a rule matches: each a list of conditions that must hold together.
    pub(super) fn conditions(
        &mut self,
        half: &Half,
        rule: &Resolved,
        here: &[PodId],
    ) -> Vec<Vec<Match>> {
        let peers = self.peers(&rule.peers, half.direction);
        let ports = match &rule.ports {
            Ports::All => return peers.into_iter().map(|(_, matches)| matches).collect(),
            Ports::Some(ports) => ports,
        };
        let mut alternatives = Vec::new();
        for port in ports {
            match port {
                PortMatch::Transport(transport) => {
                    alternatives.extend(with(&peers, &Match::Transport(*transport)));
                }
                PortMatch::Range(transport, first, last) => {
                    let port = Match::Port {
                        transport: *transport,
                        first: *first,
                        last: *last,
                    };
                    alternatives.extend(with(&peers, &port));
                }
                PortMatch::Named(transport, name) => {
                    alternatives.extend(self.named(half, rule, here, &peers, *transport, name));
                }
            }
        }
        alternatives
    }

    /// A port's name stands for what the destination pod declares: the subject of an ingress rule,
    /// the peer of an egress rule. It may be another number on each.
    fn named(
        &mut self,
        half: &Half,
        rule: &Resolved,
        here: &[PodId],
        peers: &[(Option<Family>, Vec<Match>)],
        transport: Option<Transport>,
        name: &str,
    ) -> Vec<Vec<Match>> {
        let destinations: Vec<PodId> = match (half.direction, &rule.peers) {
            (Direction::Ingress, _) => here.to_vec(),
            (Direction::Egress, Peers::Some { pods, .. }) => pods.clone(),
            (Direction::Egress, Peers::Anyone) => self.index.all().collect(),
        };
        let mut alternatives = Vec::new();
        for (family, transport) in Family::ALL
            .into_iter()
            .flat_map(|family| TRANSPORTS.map(|of| (family, of)))
            .filter(|(_, of)| transport.is_none_or(|only| only == *of))
        {
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
            match half.direction {
                Direction::Ingress => {
                    let peers = peers
                        .iter()
                        .filter(|(of, _)| of.is_none_or(|of| of == family));
                    alternatives.extend(peers.map(|(_, matches)| {
                        matches.iter().cloned().chain([port.clone()]).collect()
                    }));
                }
                // The pairs hold the peers' own addresses.
                Direction::Egress => alternatives.push(vec![port]),
            }
        }
        if alternatives.is_empty() && !peers.is_empty() {
            let note = Note::UnknownPortName {
                policy: half.title(),
                name: name.to_owned(),
            };
            if !self.rules.notes.contains(&note) {
                self.rules.notes.push(note);
            }
        }
        alternatives
    }

    /// Conditions on the other end, one alternative a family; none where no pod matches.
    fn peers(&mut self, peers: &Peers, direction: Direction) -> Vec<(Option<Family>, Vec<Match>)> {
        let (v4, v6) = match peers {
            Peers::Anyone => return vec![(None, Vec::new())],
            Peers::Some { v4, v6, .. } => (v4, v6),
        };
        let side = match direction {
            Direction::Ingress => Side::Source,
            Direction::Egress => Side::Destination,
        };
        let mut alternatives = Vec::new();
        for (family, ranges) in [(Family::V4, v4), (Family::V6, v6)] {
            if ranges.is_everything() {
                alternatives.push((Some(family), vec![Match::Family(family)]));
            } else if !ranges.is_empty() {
                let set = self.address_set(family, ranges);
                alternatives.push((Some(family), vec![Match::Address { family, side, set }]));
            }
        }
        alternatives
    }

    fn address_set(&mut self, family: Family, ranges: &Rc<Ranges>) -> String {
        if let Some(name) = self.address_sets.get(&(family, Rc::clone(ranges))) {
            return name.clone();
        }
        let name = self.add_set('a', family, Elements::Ranges(ranges.as_slice().to_vec()));
        self.address_sets
            .insert((family, Rc::clone(ranges)), name.clone());
        name
    }

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

/// What a pod calls so; more than one number where containers of it share a name.
fn named_ports(pod: &Pod, name: &str, transport: Transport) -> impl Iterator<Item = u16> {
    let called = pod
        .ports
        .iter()
        .filter(move |port| port.name.as_deref() == Some(name));
    called
        .map(|port| port.port)
        .filter(move |port| port.transport() == transport)
        .map(Port::number)
}

/// Each alternative of the peers, with one more condition.
fn with(peers: &[(Option<Family>, Vec<Match>)], port: &Match) -> Vec<Vec<Match>> {
    peers
        .iter()
        .map(|(_, matches)| matches.iter().cloned().chain([port.clone()]).collect())
        .collect()
}
