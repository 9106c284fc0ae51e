//! Evaluation of rulesets: the verdict of nftables on a packet, and the counters on its path.

use super::ir::{Counter, Deny, Direction, Elements, Match, NodeRuleset, Side, Statement};
use crate::model::{Family, Transport};
use std::net::IpAddr;

/// The transport layer of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// A transport, and the destination port.
    Ports(Transport, u16),
    /// ICMP or `ICMPv6`, with its type.
    Icmp(u8),
}

/// The first packet of a connection, or one of an established connection.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    pub source: IpAddr,
    /// Destination after the translation of a Service's address.
    pub destination: IpAddr,
    pub payload: Payload,
    /// Whether its connection is established.
    pub established: bool,
}

/// Verdict on a packet, and the names of the counters that it incremented.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) denied: Option<Deny>,
    pub(super) counted: Vec<String>,
}

/// The way in which a packet leaves a chain before its end.
enum ChainExit {
    Accept,
    Deny(Deny),
    /// Returns to the chain that jumped here.
    Return,
}

impl NodeRuleset {
    /// The counter of the rule that denies a packet in a direction; `None` if none does.
    pub fn denier(&self, direction: Direction, packet: &Packet) -> Option<&Counter> {
        let Outcome {
            denied: Some(_),
            counted,
        } = self.run_base_chain(direction.as_str(), packet, Outcome::default())
        else {
            return None;
        };
        let last = counted.last()?;
        self.counters.iter().find(|counter| counter.name == *last)
    }

    /// Runs a packet through a base chain and adds to the outcome of earlier chains.
    pub(super) fn run_base_chain(
        &self,
        chain: &str,
        packet: &Packet,
        mut outcome: Outcome,
    ) -> Outcome {
        if let Some(ChainExit::Deny(deny)) = self.run(chain, packet, &mut outcome) {
            outcome.denied = Some(deny);
        }
        outcome
    }

    /// Runs a packet through a chain; `None` if it reaches the end of the chain.
    fn run(&self, chain: &str, packet: &Packet, outcome: &mut Outcome) -> Option<ChainExit> {
        let chain = self.chains.iter().find(|other| other.name == chain)?;
        for rule in &chain.rules {
            if !rule
                .matches
                .iter()
                .all(|condition| self.matches(condition, packet))
            {
                continue;
            }
            for statement in &rule.statements {
                match statement {
                    Statement::Count(name) => outcome.counted.push(name.clone()),
                    Statement::CountDeniedFlow(_) => {}
                    Statement::Dispatch { family, side, map } => {
                        let address = address(packet, *side);
                        let chain = self.dispatch(map, *family, address);
                        if let Some(chain) = chain {
                            return self.run(chain, packet, outcome);
                        }
                    }
                    Statement::Jump(chain) => match self.run(chain, packet, outcome) {
                        None | Some(ChainExit::Return) => {}
                        exit @ Some(ChainExit::Accept | ChainExit::Deny(_)) => return exit,
                    },
                    Statement::Return => return Some(ChainExit::Return),
                    Statement::Accept => return Some(ChainExit::Accept),
                    Statement::Deny(deny) => return Some(ChainExit::Deny(*deny)),
                }
            }
        }
        None
    }

    /// The chain that a map has for an address.
    fn dispatch(&self, map: &str, family: Family, address: IpAddr) -> Option<&str> {
        let map = self
            .maps
            .iter()
            .find(|other| other.name == map && other.family == family)?;
        map.elements
            .iter()
            .find(|(key, _)| *key == address)
            .map(|(_, chain)| chain.as_str())
    }

    /// The elements of a set.
    fn elements(&self, set: &str) -> Option<&Elements> {
        self.sets
            .iter()
            .find(|other| other.name == set)
            .map(|set| &set.elements)
    }

    fn matches(&self, condition: &Match, packet: &Packet) -> bool {
        let family = Family::of(packet.source);
        match condition {
            Match::EstablishedOrRelated => packet.established,
            Match::NeighbourDiscovery => {
                family == Family::V6 && matches!(packet.payload, Payload::Icmp(133..=137))
            }
            Match::Family(required) => *required == family,
            Match::Address {
                family: required,
                side,
                set,
            } => {
                let address = address(packet, *side);
                *required == family
                    && matches!(self.elements(set), Some(Elements::Ranges(ranges))
                        if ranges.iter().any(|(first, last)| (*first..=*last).contains(&address)))
            }
            Match::Transport(required) => {
                matches!(packet.payload, Payload::Ports(transport, _) if transport == *required)
            }
            Match::Port {
                transport: required,
                first,
                last,
            } => {
                matches!(packet.payload, Payload::Ports(transport, port)
                    if transport == *required && (*first..=*last).contains(&port))
            }
            Match::AddressPort {
                family: required,
                transport: required_transport,
                set,
            } => {
                matches!((packet.payload, self.elements(set)), (Payload::Ports(transport, port), Some(Elements::Ports(pairs)))
                    if *required == family && transport == *required_transport && pairs.contains(&(packet.destination, port)))
            }
        }
    }
}

fn address(packet: &Packet, side: Side) -> IpAddr {
    match side {
        Side::Source => packet.source,
        Side::Destination => packet.destination,
    }
}
