//! A reader of rulesets: what nftables does with a packet, and which counter it passes last.

use super::ir::{Counter, Deny, Direction, Elements, Match, NodeRuleset, Side, Statement};
use crate::model::{Family, Transport};
use std::net::IpAddr;

/// What is beyond the network layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// A transport, and the destination port.
    Ports(Transport, u16),
    /// ICMP or `ICMPv6`, with its type.
    Icmp(u8),
}

/// The first packet of a connection, or one of a connection that is up.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    /// Who sends.
    pub source: IpAddr,
    /// To whom, after a Service's translation.
    pub destination: IpAddr,
    /// What is in it.
    pub payload: Payload,
    /// Whether its connection is up.
    pub established: bool,
}

/// What became of it, and the counters that it passed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) denied: Option<Deny>,
    pub(super) counted: Vec<String>,
}

enum End {
    Accept,
    Deny(Deny),
    /// Back to where the chain was jumped to from.
    Return,
}

impl NodeRuleset {
    /// The counter of what denies a packet in a direction; `None` where nothing does.
    pub fn denier(&self, direction: Direction, packet: &Packet) -> Option<&Counter> {
        let Outcome {
            denied: Some(_),
            counted,
        } = self.pass(direction.as_str(), packet, Outcome::default())
        else {
            return None;
        };
        let last = counted.last()?;
        self.counters.iter().find(|counter| counter.name == *last)
    }

    /// Runs a packet through a chain, with what was met before.
    pub(super) fn pass(&self, chain: &str, packet: &Packet, mut outcome: Outcome) -> Outcome {
        if let Some(End::Deny(deny)) = self.run(chain, packet, &mut outcome) {
            outcome.denied = Some(deny);
        }
        outcome
    }

    /// How a packet ends in a chain; `None` where it comes out of the chain's end.
    fn run(&self, chain: &str, packet: &Packet, outcome: &mut Outcome) -> Option<End> {
        let chain = self.chains.iter().find(|known| known.name == chain)?;
        for rule in &chain.rules {
            if !rule.matches.iter().all(|one| self.matches(one, packet)) {
                continue;
            }
            for statement in &rule.statements {
                match statement {
                    Statement::Count(name) => outcome.counted.push(name.clone()),
                    Statement::RecordDeny(_) => {}
                    Statement::Dispatch { family, side, map } => {
                        let map = self
                            .maps
                            .iter()
                            .find(|known| known.name == *map && known.family == *family);
                        let address = address(packet, *side);
                        let found = map.and_then(|map| {
                            map.elements.iter().find(|(known, _)| *known == address)
                        });
                        if let Some((_, chain)) = found {
                            return self.run(chain, packet, outcome);
                        }
                    }
                    Statement::Jump(chain) => match self.run(chain, packet, outcome) {
                        None | Some(End::Return) => {}
                        end @ Some(End::Accept | End::Deny(_)) => return end,
                    },
                    Statement::Return => return Some(End::Return),
                    Statement::Accept => return Some(End::Accept),
                    Statement::Deny(deny) => return Some(End::Deny(*deny)),
                }
            }
        }
        None
    }

    fn matches(&self, one: &Match, packet: &Packet) -> bool {
        let family = Family::of(packet.source);
        let elements = |name: &str| {
            self.sets
                .iter()
                .find(|set| set.name == *name)
                .map(|set| &set.elements)
        };
        match one {
            Match::EstablishedOrRelated => packet.established,
            Match::NeighbourDiscovery => {
                family == Family::V6 && matches!(packet.payload, Payload::Icmp(133..=137))
            }
            Match::Family(of) => *of == family,
            Match::Address {
                family: of,
                side,
                set,
            } => {
                let address = address(packet, *side);
                *of == family
                    && matches!(elements(set), Some(Elements::Ranges(ranges))
                        if ranges.iter().any(|(first, last)| (*first..=*last).contains(&address)))
            }
            Match::Transport(of) => {
                matches!(packet.payload, Payload::Ports(transport, _) if transport == *of)
            }
            Match::Port {
                transport: of,
                first,
                last,
            } => {
                matches!(packet.payload, Payload::Ports(transport, port)
                    if transport == *of && (*first..=*last).contains(&port))
            }
            Match::AddressPort {
                family: of,
                transport: with,
                set,
            } => {
                matches!((packet.payload, elements(set)), (Payload::Ports(transport, port), Some(Elements::Ports(pairs)))
                    if *of == family && transport == *with && pairs.contains(&(packet.destination, port)))
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
