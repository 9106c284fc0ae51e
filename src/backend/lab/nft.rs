//! A node's policies as a table of nftables: the compiler's plain rules, written in netlink's
//! words.

use super::flow_counters::{self, Key};
use super::leak::{Leak, THROUGH};
use super::ruleset::{Base, Deny, Direction, Elements, Hook, Match, NodeRuleset, Side, Statement};
use super::table_builder::Draft;
use crate::model::{Family, Transport};
use nlink::netlink::nftables::Rule;
use nlink::netlink::nftables::expr::{Expr, LookupExpr};
use nlink::netlink::nftables::types::{
    BaseChain, ChainName, CmpOp, CtState, FilterHook, IcmpxCode, MetaKey, PacketField, PayloadBase,
    Priority, RangeOp, Register, SetElement, SetKeyType, Verdict,
};
use std::net::IpAddr;

/// What passes beside the policies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extras<'a> {
    /// Addresses of the witnesses, which no policy stops.
    pub(super) reference_pods: &'a [IpAddr],
    /// Leaks that are chosen on this node.
    pub(super) leaks: &'a [Leak],
    /// Whether what leaks passes here, chosen here or on another node.
    pub(super) through: bool,
}

/// The table of one node, with a place for each planned flow's record.
///
/// # Errors
/// A name that the kernel does not take.
pub(super) fn table<'a>(
    name: String,
    rules: &NodeRuleset,
    flows: &(impl Iterator<Item = &'a Key> + Clone),
    extras: &Extras<'_>,
) -> nlink::Result<Draft> {
    let mut draft = Draft::new(name);
    for counter in &rules.counters {
        draft.counter(&counter.name, &counter.comment);
    }
    for set in &rules.sets {
        let (address, field) = address_type(set.family);
        match &set.elements {
            Elements::Ranges(ranges) => {
                let elements = ranges
                    .iter()
                    .map(|(first, last)| SetElement::range(bytes(*first), bytes(*last)))
                    .collect();
                draft.set(
                    &draft.new_set(&set.name).key_type(address).interval(),
                    elements,
                );
            }
            Elements::Ports(pairs) => {
                let key = SetKeyType::Concat(vec![field.key_type(), SetKeyType::InetService]);
                let pair = |(address, port): &(IpAddr, u16)| {
                    SetElement::concat([element(*address), SetElement::port(*port)])
                };
                draft.set(
                    &draft.new_set(&set.name).key_type(key),
                    pairs.iter().map(pair).collect(),
                );
            }
        }
    }
    flow_counters::chains(&mut draft, flows)?;
    for chain in &rules.chains {
        match chain.base {
            Some(base) => draft.base(&chain.name, base_chain(base))?,
            None => draft.chain(&chain.name)?,
        }
    }
    for map in &rules.maps {
        let mut elements = Vec::with_capacity(map.elements.len());
        for (address, chain) in &map.elements {
            elements
                .push(element(*address).verdict(Verdict::GotoTo(ChainName::new(chain.as_str())?)));
        }
        draft.set(
            &draft
                .new_set(&map.name)
                .key_type(address_type(map.family).0)
                .vmap(),
            elements,
        );
    }
    super::leak::chain(&mut draft, extras.leaks)?;
    for family in Family::ALL {
        let own = extras
            .reference_pods
            .iter()
            .filter(|address| Family::of(**address) == family);
        let elements = own.map(|address| element(*address)).collect();
        draft.set(
            &draft
                .new_set(reference_pod_set(family))
                .key_type(address_type(family).0),
            elements,
        );
    }
    for chain in &rules.chains {
        if chain.base.is_some() {
            for family in Family::ALL {
                let source = side(family, Side::Source);
                draft.rule(&chain.name, |rule| {
                    family_is(rule, family)
                        .match_in_set(source, reference_pod_set(family))
                        .accept()
                });
            }
        }
        if chain.base.is_some() && extras.through {
            for family in Family::ALL {
                draft.rule(&chain.name, |rule| {
                    super::leak::hops_left(rule, family, CmpOp::Gt, THROUGH).accept()
                });
            }
        }
        for rule in &chain.rules {
            let mut jumps = Vec::new();
            for statement in &rule.statements {
                if let Statement::Jump(to) = statement {
                    jumps.push(ChainName::new(to.as_str())?);
                }
            }
            draft.rule(&chain.name, |mut written| {
                for condition in &rule.matches {
                    written = matching(written, condition);
                }
                let mut jumps = jumps.into_iter();
                for statement in &rule.statements {
                    written = doing(written, statement, &mut jumps);
                }
                written
            });
        }
    }
    Ok(draft)
}

fn reference_pod_set(family: Family) -> &'static str {
    match family {
        Family::V4 => "witnesses4",
        Family::V6 => "witnesses6",
    }
}

fn base_chain(base: Base) -> BaseChain {
    let hook = match base.hook {
        Hook::Forward => FilterHook::Forward,
        Hook::Input => FilterHook::Input,
    };
    BaseChain::filter(hook, Priority::Custom(base.priority))
}

/// A set's type for an address, and the destination as a packet's field.
fn address_type(family: Family) -> (SetKeyType, PacketField) {
    match family {
        Family::V4 => (SetKeyType::Ipv4Addr, PacketField::Ip4Daddr),
        Family::V6 => (SetKeyType::Ipv6Addr, PacketField::Ip6Daddr),
    }
}

/// An address as an element.
pub(super) fn element(address: IpAddr) -> SetElement {
    match address {
        IpAddr::V4(v4) => SetElement::ipv4(v4),
        IpAddr::V6(v6) => SetElement::ipv6(v6),
    }
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn side(family: Family, side: Side) -> PacketField {
    match (family, side) {
        (Family::V4, Side::Source) => PacketField::Ip4Saddr,
        (Family::V4, Side::Destination) => PacketField::Ip4Daddr,
        (Family::V6, Side::Source) => PacketField::Ip6Saddr,
        (Family::V6, Side::Destination) => PacketField::Ip6Daddr,
    }
}

fn matching(rule: Rule, condition: &Match) -> Rule {
    match condition {
        Match::EstablishedOrRelated => rule.match_ct_state(CtState::ESTABLISHED | CtState::RELATED),
        Match::NeighbourDiscovery => {
            // IPPROTO_ICMPV6.
            let rule = equal(
                rule,
                Expr::Meta {
                    dreg: Register::R0,
                    key: MetaKey::L4Proto,
                },
                vec![58],
            );
            let load = Expr::Payload {
                dreg: Register::R0,
                base: PayloadBase::Transport,
                offset: 0,
                len: 1,
            };
            within(rule.expr(load), vec![133], vec![137])
        }
        Match::Family(family) => family_is(rule, *family),
        Match::Address {
            family,
            side: which,
            set,
        } => rule.match_in_interval_set(side(*family, *which), set),
        Match::Transport(transport) => transport_is(rule, *transport),
        Match::Port {
            transport,
            first,
            last,
        } => {
            let load = Expr::Payload {
                dreg: Register::R0,
                base: PayloadBase::Transport,
                offset: 2,
                len: 2,
            };
            let rule = transport_is(rule, *transport);
            if first == last {
                equal(rule, load, first.to_be_bytes().to_vec())
            } else {
                within(
                    rule.expr(load),
                    first.to_be_bytes().to_vec(),
                    last.to_be_bytes().to_vec(),
                )
            }
        }
        Match::AddressPort {
            family,
            transport,
            set,
        } => {
            let rule = transport_is(family_is(rule, *family), *transport);
            let (offset, len, port) = match family {
                Family::V4 => (16, 4, Register::Reg32_01),
                Family::V6 => (24, 16, Register::Reg32_04),
            };
            rule.expr(Expr::Payload {
                dreg: Register::R0,
                base: PayloadBase::Network,
                offset,
                len,
            })
            .expr(Expr::Payload {
                dreg: port,
                base: PayloadBase::Transport,
                offset: 2,
                len: 2,
            })
            .expr(LookupExpr::new(set, Register::R0))
        }
    }
}

fn doing(rule: Rule, statement: &Statement, jumps: &mut impl Iterator<Item = ChainName>) -> Rule {
    match statement {
        Statement::Count(counter) => rule.counter_named(counter),
        Statement::CountDeniedFlow(direction) => rule.jump(flow_counters::chain_name(*direction)),
        Statement::Dispatch {
            family,
            side: which,
            map,
        } => rule.vmap(side(*family, *which), map),
        Statement::Jump(_) => match jumps.next() {
            Some(chain) => rule.jump(chain),
            None => rule,
        },
        Statement::Return => rule.expr(Expr::Verdict(Verdict::Return)),
        Statement::Accept => rule.accept(),
        Statement::Deny(Deny::Drop) => rule.drop(),
        Statement::Deny(Deny::RejectTcpReset) => rule.reject_tcp_reset(),
        Statement::Deny(Deny::RejectIcmpAdmin) => rule.reject_icmpx(IcmpxCode::AdminProhibited),
    }
}

/// Matches a family (`NFPROTO_IPV4`, `NFPROTO_IPV6` of linux/netfilter.h).
pub(super) fn family_is(rule: Rule, family: Family) -> Rule {
    let number = match family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    equal(
        rule,
        Expr::Meta {
            dreg: Register::R0,
            key: MetaKey::NfProto,
        },
        vec![number],
    )
}

fn transport_is(rule: Rule, transport: Transport) -> Rule {
    let number = match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
        Transport::Sctp => 132,
    };
    equal(
        rule,
        Expr::Meta {
            dreg: Register::R0,
            key: MetaKey::L4Proto,
        },
        vec![number],
    )
}

/// Matches when what `load` puts into the first register is `data`.
pub(super) fn equal(rule: Rule, load: Expr, data: Vec<u8>) -> Rule {
    rule.expr(load).expr(Expr::Cmp {
        sreg: Register::R0,
        op: CmpOp::Eq,
        data,
    })
}

fn within(rule: Rule, from: Vec<u8>, to: Vec<u8>) -> Rule {
    rule.expr(Expr::Range {
        sreg: Register::R0,
        op: RangeOp::Eq,
        from,
        to,
    })
}

/// Both directions.
pub(super) const DIRECTIONS: [Direction; 2] = [Direction::Egress, Direction::Ingress];
