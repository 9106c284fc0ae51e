//! A reader of rulesets for tests: what would nftables do with this packet?

use super::{Deny, Elements, Hook, Match, NodeRuleset, Side, Statement};
use crate::inventory::Inventory;
use crate::model::{Family, Transport};
use std::net::IpAddr;

/// What is beyond the network layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    Ports(Transport, u16),
    /// ICMP or ICMPv6, with its type.
    Icmp(u8),
}

/// The first packet of a connection, or one of a connection that is up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) payload: Payload,
    pub(super) established: bool,
}

/// What became of it, and the counters that it passed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) denied: Option<Deny>,
    pub(super) counted: Vec<String>,
    /// How often it came by the place for records.
    pub(super) recorded: usize,
}

enum End {
    Accept,
    Deny(Deny),
}

/// Runs a packet through a hook of one node.
pub(super) fn evaluate(rules: &NodeRuleset, hook: Hook, packet: &Packet) -> Outcome {
    let mut outcome = Outcome { denied: None, counted: Vec::new(), recorded: 0 };
    let mut base: Vec<_> = rules.chains.iter().filter_map(|chain| Some((chain.base?, chain))).collect();
    base.retain(|(base, _)| base.hook == hook);
    base.sort_by_key(|(base, _)| base.priority);
    for (_, chain) in base {
        if let Some(End::Deny(deny)) = run(rules, &chain.name, packet, &mut outcome) {
            outcome.denied = Some(deny);
            break;
        }
    }
    outcome
}

/// Whether a packet arrives, through the nodes of both ends.
pub(super) fn arrives(
    inventory: &Inventory,
    rules: impl Fn(&str) -> NodeRuleset,
    packet: &Packet,
) -> Result<(), Outcome> {
    let node_of = |address: IpAddr| {
        let pod = inventory.pods.iter().find(|pod| !pod.host_network && pod.addresses.contains(&address));
        pod.map(|pod| pod.node.clone())
    };
    let is_on = |node: &str, address: IpAddr| {
        inventory.nodes.iter().any(|known| known.name == node && known.addresses.contains(&address))
    };
    let (from, to) = (node_of(packet.source), node_of(packet.destination));
    let mut hops = Vec::new();
    if let Some(node) = &from {
        let hook = if is_on(node, packet.destination) { Hook::Input } else { Hook::Forward };
        hops.push((node, hook));
    }
    if let Some(node) = &to
        && from.as_ref() != Some(node)
        && !is_on(node, packet.source)
    {
        hops.push((node, Hook::Forward));
    }
    for (node, hook) in hops {
        let outcome = evaluate(&rules(node), hook, packet);
        if outcome.denied.is_some() {
            return Err(outcome);
        }
    }
    Ok(())
}

fn run(rules: &NodeRuleset, chain: &str, packet: &Packet, outcome: &mut Outcome) -> Option<End> {
    let chain = rules.chains.iter().find(|known| known.name == chain).expect("chains exist");
    for rule in &chain.rules {
        if !rule.matches.iter().all(|one| matches(rules, one, packet)) {
            continue;
        }
        for statement in &rule.statements {
            match statement {
                Statement::Count(name) => {
                    assert!(rules.counters.iter().any(|counter| counter.name == *name), "{name} exists");
                    outcome.counted.push(name.clone());
                }
                Statement::RecordDeny(_) => outcome.recorded += 1,
                Statement::Dispatch { family, side, map } => {
                    let map = rules.maps.iter().find(|known| known.name == *map).expect("maps exist");
                    assert_eq!(map.family, *family);
                    let address = address(packet, *side);
                    if let Some((_, chain)) = map.elements.iter().find(|(known, _)| *known == address) {
                        return run(rules, chain, packet, outcome);
                    }
                }
                Statement::Jump(chain) => {
                    if let Some(end) = run(rules, chain, packet, outcome) {
                        return Some(end);
                    }
                }
                Statement::Accept => return Some(End::Accept),
                Statement::Deny(deny) => return Some(End::Deny(*deny)),
            }
        }
    }
    None
}

fn address(packet: &Packet, side: Side) -> IpAddr {
    match side {
        Side::Source => packet.source,
        Side::Destination => packet.destination,
    }
}

fn matches(rules: &NodeRuleset, one: &Match, packet: &Packet) -> bool {
    let family = Family::of(packet.source);
    let set = |name: &str| rules.sets.iter().find(|set| set.name == *name).expect("sets exist");
    match one {
        Match::EstablishedOrRelated => packet.established,
        Match::NeighbourDiscovery => family == Family::V6 && matches!(packet.payload, Payload::Icmp(133..=137)),
        Match::Family(of) => *of == family,
        Match::Address { family: of, side, set: name } => {
            let address = address(packet, *side);
            let Elements::Ranges(ranges) = &set(name).elements else { panic!("{name} has ranges") };
            *of == family && ranges.iter().any(|(first, last)| (*first..=*last).contains(&address))
        }
        Match::Transport(of) => matches!(packet.payload, Payload::Ports(transport, _) if transport == *of),
        Match::Port { transport: of, first, last } => {
            matches!(packet.payload, Payload::Ports(transport, port) if transport == *of && (*first..=*last).contains(&port))
        }
        Match::AddressPort { family: of, transport: with, set: name } => {
            let Elements::Ports(pairs) = &set(name).elements else { panic!("{name} has pairs") };
            matches!(packet.payload, Payload::Ports(transport, port)
                if *of == family && transport == *with && pairs.contains(&(packet.destination, port)))
        }
    }
}
