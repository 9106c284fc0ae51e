//! A node's policies as a table of nftables: the compiler's rules, written as expressions.

use super::flow_counters::{self, Key};
use super::leak::{self, LEAK_HOPS, Leak, hops_left};
use super::netlink::{
    self, BaseChain, Comparison, Element, KeyPart, KeyType, Load, Reject, Set, SetKind, Verdict,
};
use super::ruleset::{
    self, Base, Chain, Deny, Direction, Elements, Hook, Match, NodeRuleset, Side, Statement,
};
use super::table_builder::Draft;
use crate::model::{Family, Transport};
use std::net::IpAddr;

/// States of connections (`NF_CT_STATE_BIT`, `linux/netfilter/nf_conntrack_common.h`).
const ESTABLISHED: u32 = 1 << 1;
const RELATED: u32 = 1 << 2;
pub(super) const NEW: u32 = 1 << 3;

/// IANA's protocol number of `ICMPv6`.
const ICMPV6: u8 = 58;

/// `ICMPv6` types from router solicitation to redirect (RFC 4861 §4).
const NEIGHBOUR_DISCOVERY: [u8; 2] = [133, 137];

/// Rules besides those of the policies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extras<'a> {
    /// Addresses of the reference pods, which no policy stops.
    pub(super) reference_pods: &'a [IpAddr],
    /// Leaks that are marked on this node.
    pub(super) leaks: &'a [Leak],
    /// Whether packets that leak pass here, marked here or on another node.
    pub(super) pass_leaks: bool,
}

/// The table of one node, with a counter for each planned flow.
pub(super) fn table<'a>(
    name: String,
    rules: &NodeRuleset,
    flows: &(impl Iterator<Item = &'a Key> + Clone),
    extras: &Extras<'_>,
) -> Draft {
    let mut draft = Draft::new(name);
    for counter in &rules.counters {
        draft.counter(&counter.name, &counter.comment);
    }
    for set in &rules.sets {
        policy_set(&mut draft, set);
    }
    flow_counters::chains(&mut draft, flows);

    for chain in &rules.chains {
        match chain.base {
            Some(base) => draft.base_chain(&chain.name, base_chain(base)),
            None => draft.chain(&chain.name),
        }
    }
    for map in &rules.maps {
        dispatch_map(&mut draft, map);
    }

    leak::chains(&mut draft, extras.leaks);
    reference_pod_sets(&mut draft, extras.reference_pods);

    for chain in &rules.chains {
        if chain.base.is_some() {
            accept_extras(&mut draft, chain, extras.pass_leaks);
        }
        for rule in &chain.rules {
            draft.rule(&chain.name, &written(rule));
        }
    }
    draft
}

/// Adds a set that the policies' rules look up.
fn policy_set(draft: &mut Draft, set: &ruleset::Set) {
    let address = KeyType::Address(set.family);
    let name = &set.name;
    match &set.elements {
        Elements::Ranges(ranges) => {
            let elements: Vec<_> = ranges
                .iter()
                .map(|(first, last)| Element::range(*first, *last))
                .collect();
            let (key, kind) = (&[address], SetKind::Ranges);
            draft.set(&Set { name, key, kind }, &elements);
        }
        Elements::Ports(pairs) => {
            let elements: Vec<_> = pairs
                .iter()
                .map(|(address, port)| {
                    Element::new(&[KeyPart::Address(*address), KeyPart::Port(*port)])
                })
                .collect();
            let (key, kind) = (&[address, KeyType::Port], SetKind::Plain);
            draft.set(&Set { name, key, kind }, &elements);
        }
    }
}

/// Adds a map from addresses to the chains of their policies.
fn dispatch_map(draft: &mut Draft, map: &ruleset::VerdictMap) {
    let elements: Vec<_> = map
        .elements
        .iter()
        .map(|(address, chain)| {
            Element::new(&[KeyPart::Address(*address)]).with_verdict(Verdict::Goto(chain.clone()))
        })
        .collect();
    draft.set(
        &Set {
            name: &map.name,
            key: &[KeyType::Address(map.family)],
            kind: SetKind::Verdicts,
        },
        &elements,
    );
}

fn reference_pod_sets(draft: &mut Draft, addresses: &[IpAddr]) {
    for family in Family::ALL {
        let elements: Vec<_> = addresses
            .iter()
            .filter(|address| Family::of(**address) == family)
            .map(|address| Element::new(&[KeyPart::Address(*address)]))
            .collect();
        draft.set(
            &Set {
                name: reference_pod_set(family),
                key: &[KeyType::Address(family)],
                kind: SetKind::Plain,
            },
            &elements,
        );
    }
}

fn reference_pod_set(family: Family) -> &'static str {
    match family {
        Family::V4 => "reference-pods4",
        Family::V6 => "reference-pods6",
    }
}

/// Adds the rules that come before the policies' in a chain on a hook.
fn accept_extras(draft: &mut Draft, chain: &Chain, pass_leaks: bool) {
    for family in Family::ALL {
        let from_reference_pods = netlink::Rule::new()
            .family(family)
            .in_set(&[Load::Source(family)], reference_pod_set(family))
            .accept();
        draft.rule(&chain.name, &from_reference_pods);
    }
    if !pass_leaks {
        return;
    }
    for family in Family::ALL {
        let leaking = hops_left(netlink::Rule::new(), family, Comparison::Above, LEAK_HOPS);
        draft.rule(&chain.name, &leaking.accept());
    }
}

fn base_chain(base: Base) -> BaseChain {
    let hook = match base.hook {
        Hook::Forward => netlink::Hook::Forward,
        Hook::Input => netlink::Hook::Input,
    };
    BaseChain::filter(hook, base.priority)
}

fn written(rule: &ruleset::Rule) -> netlink::Rule {
    let conditions = rule.matches.iter();
    let matched = conditions.fold(netlink::Rule::new(), with_condition);
    rule.statements.iter().fold(matched, with_statement)
}

fn with_condition(rule: netlink::Rule, condition: &Match) -> netlink::Rule {
    match condition {
        Match::EstablishedOrRelated => rule.connection_state(ESTABLISHED | RELATED),
        Match::NeighbourDiscovery => {
            let [first, last] = NEIGHBOUR_DISCOVERY;
            rule.protocol(ICMPV6)
                .within(Load::IcmpType, &[first], &[last])
        }
        Match::Family(family) => rule.family(*family),
        Match::Address { family, side, set } => rule
            .family(*family)
            .in_set(&[address_of(*family, *side)], set),
        Match::Transport(transport) => rule.protocol(protocol(*transport)),
        Match::Port {
            transport,
            first,
            last,
        } => {
            let rule = rule.protocol(protocol(*transport));
            let (first, last) = (first.to_be_bytes(), last.to_be_bytes());
            if first == last {
                rule.equal(Load::DestinationPort, &first)
            } else {
                rule.within(Load::DestinationPort, &first, &last)
            }
        }
        Match::AddressPort {
            family,
            transport,
            set,
        } => rule
            .family(*family)
            .protocol(protocol(*transport))
            .in_set(&[Load::Destination(*family), Load::DestinationPort], set),
    }
}

fn with_statement(rule: netlink::Rule, statement: &Statement) -> netlink::Rule {
    match statement {
        Statement::Count(counter) => rule.count(counter),
        Statement::RecordDeny(direction) => rule.jump(&flow_counters::chain_name(*direction)),
        Statement::Dispatch { family, side, map } => rule
            .family(*family)
            .verdict_of(&[address_of(*family, *side)], map),
        Statement::Jump(chain) => rule.jump(chain),
        Statement::Return => rule.verdict(&Verdict::Return),
        Statement::Accept => rule.accept(),
        Statement::Deny(Deny::Drop) => rule.drop(),
        Statement::Deny(Deny::RejectTcpReset) => rule.reject(Reject::TcpReset),
        Statement::Deny(Deny::RejectIcmpAdmin) => rule.reject(Reject::AdminProhibited),
    }
}

fn address_of(family: Family, side: Side) -> Load {
    match side {
        Side::Source => Load::Source(family),
        Side::Destination => Load::Destination(family),
    }
}

/// IANA's protocol number.
fn protocol(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
        Transport::Sctp => 132,
    }
}

/// Both directions.
pub(super) const DIRECTIONS: [Direction; 2] = [Direction::Egress, Direction::Ingress];
