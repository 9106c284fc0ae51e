//! The enforcer's own count of each planned flow's denied packets.
//!
//! A set with one counter an element, looked up just before a denied packet ends. On the source's
//! node the key is what the source dialled, a Service's address included, as connection tracking
//! remembers it there. The target's node never saw that address; to it such packets are told apart
//! by the hops that they have left, which the source's node lowered. So a pod tried by its own
//! address and through its Service gives two records.

use super::dns::zone;
use super::leak::{THROUGH, hops_left};
use super::nat::protocol;
use super::nft::element;
use super::ruleset::Direction;
use super::services;
use super::table_builder::Draft;
use super::world::World;
use crate::backend::{EnforcerCounts, Launch};
use crate::model::EnforcerCount;
use crate::model::Family;
use crate::plan::{FlowId, Source};
use crate::wire::{Target, Transport};
use nlink::netlink::nftables::expr::{Expr, LookupExpr};
use nlink::netlink::nftables::types::{
    BaseChain, ChainName, CmpOp, CtDirection, CtKey, CtStatus, Family as Nfproto, FilterHook,
    HeaderWrite, MetaKey, PayloadBase, Priority, Register, SetElement, SetKeyType,
};
use nlink::netlink::{Connection, Nftables};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// What one flow's packets have in common, and no other's should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) from: IpAddr,
    /// As dialled, or as it arrives on the target's node.
    pub(super) to: IpAddr,
    pub(super) transport: Transport,
    pub(super) port: u16,
    pub(super) way: Way,
}

/// How a packet came to its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// It was sent to it.
    Direct,
    /// Another node sent it on for a Service.
    Served,
}

impl Way {
    const ALL: [Self; 2] = [Self::Direct, Self::Served];
}

/// Packets that a node sent on for a Service leave it with this many hops; others have nearly 64.
pub(super) const SERVED_HOPS: u8 = 32;

impl Key {
    fn element(&self) -> SetElement {
        let (protocol, port) = (
            SetElement::inet_proto(protocol(self.transport)),
            SetElement::port(self.port),
        );
        SetElement::concat([element(self.from), element(self.to), protocol, port])
    }

    /// From an element's bytes: two addresses, then protocol and port in four bytes each.
    fn of(bytes: &[u8], family: Family, way: Way) -> Option<Self> {
        let (from, rest) = split_address(bytes, family)?;
        let (to, rest) = split_address(rest, family)?;
        let &[number, _, _, _, high, low, ..] = rest else {
            return None;
        };
        let transport = [Transport::Tcp, Transport::Udp]
            .into_iter()
            .find(|of| protocol(*of) == number)?;
        Some(Self {
            from,
            to,
            transport,
            port: u16::from_be_bytes([high, low]),
            way,
        })
    }
}

fn split_address(bytes: &[u8], family: Family) -> Option<(IpAddr, &[u8])> {
    match family {
        Family::V4 => bytes
            .split_first_chunk::<4>()
            .map(|(address, rest)| (IpAddr::from(*address), rest)),
        Family::V6 => bytes
            .split_first_chunk::<16>()
            .map(|(address, rest)| (IpAddr::from(*address), rest)),
    }
}

/// Denied packets by flow, node and direction; none where there were none.
pub(super) type Counted = BTreeMap<Key, Vec<Hits>>;

/// What one node counted of a flow's packets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hits {
    packets: u64,
    node: usize,
    direction: Direction,
}

/// The flows of all launches, and what was counted of them in tables that are gone.
#[derive(Debug, Default)]
pub(super) struct FlowCounters {
    flows: BTreeMap<FlowId, Vec<Key>>,
    /// How many flows have each key.
    users: BTreeMap<Key, usize>,
    earlier: Counted,
}

impl FlowCounters {
    /// All keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> + Clone {
        self.users.keys()
    }

    /// Takes the flows of a launch in; gives the keys that are new.
    pub(super) fn enter(&mut self, world: &World, launch: &Launch) -> Vec<Key> {
        let from = sources(world, &launch.source);
        let names = launch
            .plan
            .flows
            .iter()
            .any(|flow| matches!(flow.target, Target::Name { .. }));
        let zone = if names {
            zone(&world.inventory)
        } else {
            BTreeMap::new()
        };
        let search = launch
            .plan
            .resolver
            .as_ref()
            .map_or(&[][..], |resolver| &resolver.search);
        let services = services::by_address(&world.inventory);
        let mut new = Vec::new();
        for flow in &launch.plan.flows {
            let to: BTreeSet<IpAddr> = match &flow.target {
                Target::Address(address) => BTreeSet::from([*address]),
                Target::Name { name, v6 } => {
                    let name = name.trim_end_matches('.').to_ascii_lowercase();
                    let full = search
                        .iter()
                        .map(|domain| format!("{name}.{domain}"))
                        .chain([name.clone()]);
                    full.filter_map(|name| zone.get(&name))
                        .flatten()
                        .copied()
                        .filter(|a| a.is_ipv6() == *v6)
                        .collect()
                }
            };
            let mut keys = Vec::new();
            for to in to {
                let served = services.get(&(flow.transport, SocketAddr::new(to, flow.port)));
                for from in from.iter().filter(|from| from.is_ipv4() == to.is_ipv4()) {
                    keys.push(Key {
                        from: *from,
                        to,
                        transport: flow.transport,
                        port: flow.port,
                        way: Way::Direct,
                    });
                    for (backend, by_node) in served
                        .iter()
                        .flat_map(|port| port.backends.iter().map(|b| (b, port.by_node)))
                    {
                        // What came to a node's port goes on as that node's own.
                        let from = if by_node { to } else { *from };
                        let (to, port) = (backend.ip(), backend.port());
                        keys.push(Key {
                            from,
                            to,
                            transport: flow.transport,
                            port,
                            way: Way::Served,
                        });
                    }
                }
            }
            for key in &keys {
                let users = self.users.entry(*key).or_default();
                *users += 1;
                if *users == 1 {
                    new.push(*key);
                }
            }
            self.flows.insert(FlowId(flow.id), keys);
        }
        new
    }

    /// Keeps what a table counted that is gone now.
    pub(super) fn keep(&mut self, counted: Counted) {
        for (key, hits) in counted {
            self.earlier.entry(key).or_default().extend(hits);
        }
    }

    /// Whether any flow has this key.
    pub(super) fn knows(&self, key: &Key) -> bool {
        self.users.contains_key(key)
    }

    /// The records of flows that share no key with another. `rule` names what denies on a node, in
    /// a direction, for a flow.
    pub(super) fn counters(
        &self,
        now: &Counted,
        rule: impl Fn(usize, Direction, &Key) -> String,
    ) -> EnforcerCounts {
        let mut counters = EnforcerCounts::new();
        for (flow, keys) in &self.flows {
            if keys
                .iter()
                .any(|key| self.users.get(key).is_some_and(|users| *users > 1))
            {
                continue;
            }
            let mut all: BTreeMap<(usize, Direction, &Key), u64> = BTreeMap::new();
            for key in keys {
                for hits in [&self.earlier, now]
                    .into_iter()
                    .filter_map(|counted| counted.get(key))
                    .flatten()
                {
                    *all.entry((hits.node, hits.direction, key)).or_default() += hits.packets;
                }
            }
            // Where both ends deny, the one with more packets names the rule.
            if let Some(((node, direction, key), _)) =
                all.iter().max_by_key(|(_, packets)| **packets)
            {
                counters.insert(
                    *flow,
                    EnforcerCount {
                        packets: all.values().sum(),
                        rule: rule(*node, *direction, key),
                    },
                );
            }
        }
        counters
    }
}

/// The addresses that a vantage sends from.
fn sources(world: &World, source: &Source) -> Vec<IpAddr> {
    let inventory = &world.inventory;
    let found = match source {
        Source::Pod {
            namespace, name, ..
        } => {
            let pod = inventory
                .pods
                .iter()
                .find(|pod| pod.namespace == *namespace && pod.name == *name);
            pod.map(|pod| pod.addresses.clone())
        }
        Source::Node { name } => inventory
            .nodes
            .iter()
            .find(|node| node.name == *name)
            .map(|node| node.addresses.clone()),
        Source::ReferencePod { node } => world
            .node_index(node)
            .map(|n| super::addresses::reference_pod(n).to_vec()),
        Source::Runner => Some(super::addresses::RUNNER.to_vec()),
    };
    found.unwrap_or_default()
}

/// The chain that looks the flows of a direction up.
pub(super) fn chain_name(direction: Direction) -> ChainName {
    #[expect(clippy::expect_used, reason = "both names are short and plain")]
    ChainName::new(format!("record_{direction}")).expect("a chain's name")
}

fn set_name(direction: Direction, family: Family, way: Way) -> String {
    let way = match way {
        Way::Direct => "direct",
        Way::Served => "served",
    };
    match family {
        Family::V4 => format!("{way}4_{direction}"),
        Family::V6 => format!("{way}6_{direction}"),
    }
}

/// Every set, by what is in it.
fn sets() -> impl Iterator<Item = (Direction, Family, Way)> {
    super::nft::DIRECTIONS.into_iter().flat_map(|direction| {
        Family::ALL.into_iter().flat_map(move |family| {
            Way::ALL
                .into_iter()
                .map(move |way| (direction, family, way))
        })
    })
}

fn key_type(family: Family) -> SetKeyType {
    let address = match family {
        Family::V4 => SetKeyType::Ipv4Addr,
        Family::V6 => SetKeyType::Ipv6Addr,
    };
    SetKeyType::Concat(vec![
        address.clone(),
        address,
        SetKeyType::InetProto,
        SetKeyType::InetService,
    ])
}

/// Adds the sets with these flows, and the chains that look them up.
///
/// # Errors
/// A name that the kernel does not take; it is none.
pub(super) fn chains<'a>(
    draft: &mut Draft,
    flows: &(impl Iterator<Item = &'a Key> + Clone),
) -> nlink::Result<()> {
    for direction in super::nft::DIRECTIONS {
        draft.chain(chain_name(direction).as_str())?;
    }
    for (direction, family, way) in sets() {
        let elements = flows
            .clone()
            .filter(|key| key.way == way && Family::of(key.from) == family)
            .map(Key::element)
            .collect();
        let set = set_name(direction, family, way);
        draft.set(
            &draft.new_set(&set).key_type(key_type(family)).counter(),
            elements,
        );
        // Registers are words of four bytes: an IPv4 address fills one, an IPv6 address four.
        let (source, len, to_key, to, protocol, port) = match family {
            Family::V4 => (
                12,
                4,
                CtKey::DstIp,
                Register::Reg32_01,
                Register::Reg32_02,
                Register::Reg32_03,
            ),
            Family::V6 => (
                8,
                16,
                CtKey::DstIp6,
                Register::Reg32_04,
                Register::Reg32_08,
                Register::Reg32_09,
            ),
        };
        let by_hops = match way {
            Way::Direct => CmpOp::Gt,
            Way::Served => CmpOp::Lte,
        };
        draft.rule(chain_name(direction).as_str(), |rule| {
            let dialled = CtDirection::Original;
            hops_left(rule, family, by_hops, SERVED_HOPS)
                .expr(Expr::Payload {
                    dreg: Register::R0,
                    base: PayloadBase::Network,
                    offset: source,
                    len,
                })
                .expr(Expr::CtDirectional {
                    dreg: to,
                    key: to_key,
                    direction: dialled,
                })
                .expr(Expr::Meta {
                    dreg: protocol,
                    key: MetaKey::L4Proto,
                })
                .expr(Expr::CtDirectional {
                    dreg: port,
                    key: CtKey::ProtoDst,
                    direction: dialled,
                })
                .expr(LookupExpr::new(set, Register::R0))
        });
    }
    Ok(())
}

/// Adds the chain that lowers the hops of what a node sends on for a Service, once the policies
/// have passed it.
///
/// # Errors
/// A name that the kernel does not take; it is none.
pub(super) fn mark_served(draft: &mut Draft) -> nlink::Result<()> {
    for (name, hook) in [
        ("served", FilterHook::Forward),
        ("served-from-node", FilterHook::Output),
    ] {
        draft.base(name, BaseChain::filter(hook, Priority::Custom(50)))?;
        for family in Family::ALL {
            let lowered = match family {
                Family::V4 => HeaderWrite::IpTtl(SERVED_HOPS),
                Family::V6 => HeaderWrite::Ip6HopLimit(SERVED_HOPS),
            };
            draft.rule(name, |rule| {
                // A leak's mark is a high number of hops and must stay.
                let rule = hops_left(rule, family, CmpOp::Lte, THROUGH);
                rule.match_ct_status(CtStatus::DST_NAT)
                    .match_ct_direction(CtDirection::Original)
                    .set_header(lowered)
            });
        }
    }
    Ok(())
}

/// Adds flows to the sets of a table that is in force.
///
/// # Errors
/// What the kernel refused.
pub(super) async fn add(
    conn: &Connection<Nftables>,
    table: &str,
    keys: &[Key],
) -> nlink::Result<()> {
    for (direction, family, way) in sets() {
        let set = Draft::new(table)
            .new_set(&set_name(direction, family, way))
            .key_type(key_type(family))
            .counter();
        let mut here = keys
            .iter()
            .filter(|key| key.way == way && Family::of(key.from) == family)
            .map(Key::element);
        loop {
            let some: Vec<_> = here.by_ref().take(super::table_builder::ELEMENTS).collect();
            if some.is_empty() {
                break;
            }
            conn.add_set_elements(&set, &some).await?;
        }
    }
    Ok(())
}

/// Reads what a table has counted of the flows that the ledger knows.
///
/// # Errors
/// What the kernel refused.
pub(super) async fn read(
    conn: &Connection<Nftables>,
    table: &str,
    node: usize,
    ledger: &FlowCounters,
) -> nlink::Result<Counted> {
    let mut counted = Counted::new();
    for (direction, family, way) in sets() {
        for element in conn
            .list_set_elements(table, &set_name(direction, family, way), Nfproto::Inet)
            .await?
        {
            let Some((packets @ 1.., _)) = element.counter() else {
                continue;
            };
            if let Some(key) = Key::of(element.key(), family, way).filter(|key| ledger.knows(key)) {
                counted.entry(key).or_default().push(Hits {
                    packets,
                    node,
                    direction,
                });
            }
        }
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_read_back_from_its_element() {
        for (from, to) in [("10.0.0.1", "10.1.2.3"), ("fd00::1", "fd00:1::2")] {
            for (transport, way) in [(Transport::Tcp, Way::Direct), (Transport::Udp, Way::Served)] {
                let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
                let key = Key {
                    from,
                    to,
                    transport,
                    port: 8_443,
                    way,
                };
                assert_eq!(
                    Key::of(key.element().key(), Family::of(from), way),
                    Some(key)
                );
            }
        }
        assert_eq!(Key::of(&[0; 9], Family::V4, Way::Direct), None);
    }
}
