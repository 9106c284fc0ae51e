//! The enforcer's counter of each planned flow's denied packets.
//!
//! Sets have one counter an element and are looked up just before a denied packet ends. On the
//! source's node the key is the address that the source sent to, a Service's included, as
//! connection tracking knows it there. The target's node never saw that address; there such packets
//! are distinguished by the hops that they have left, which the source's node lowered. So a pod tried
//! by its own address and through its Service has two counters.

use super::dns::zone;
use super::leak::{LEAK_HOPS, hops_left};
use super::nat::protocol;
use super::netlink::{
    self, BaseChain, Comparison, Element, Hook, KeyPart, KeyType, Load, Nftables, Rule, Set,
    SetKind, Table,
};
use super::nft::DIRECTIONS;
use super::ruleset::Direction;
use super::services::{self, ByAddress};
use super::table_builder::{TableBuilder, commit_in_parts, element_messages};
use super::world::World;
use crate::backend::{EnforcerCounts, Launch};
use crate::model::EnforcerCount;
use crate::model::Family;
use crate::plan::{FlowId, Source};
use crate::wire::{Flow, Target, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// What one flow's packets have in common, and no other's should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) from: IpAddr,
    /// As the source sent it, or as it arrives on the target's node.
    pub(super) to: IpAddr,
    pub(super) transport: Transport,
    pub(super) port: u16,
    pub(super) delivery: Delivery,
}

/// How a packet came to its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Delivery {
    /// The source sent it there.
    Direct,
    /// Another node sent it on for a Service.
    ByService,
}

impl Delivery {
    const ALL: [Self; 2] = [Self::Direct, Self::ByService];
}

/// Packets that a node sent on for a Service leave it with this many hops; others have nearly 64.
const SERVICE_HOPS: u8 = 32;

/// Statuses of connections (`linux/netfilter/nf_conntrack_common.h`): the destination is
/// translated.
const DESTINATION_TRANSLATED: u32 = 1 << 5;

/// A packet in the direction in which the connection was opened (`IP_CT_DIR_ORIGINAL`).
const ORIGINAL: u8 = 0;

impl Key {
    fn element(&self) -> Element {
        Element::new(&[
            KeyPart::Address(self.from),
            KeyPart::Address(self.to),
            KeyPart::Protocol(protocol(self.transport)),
            KeyPart::Port(self.port),
        ])
    }

    /// From an element's bytes: two addresses, then protocol and port in four bytes each.
    fn of(bytes: &[u8], family: Family, delivery: Delivery) -> Option<Self> {
        let (from, rest) = split_address(bytes, family)?;
        let (to, rest) = split_address(rest, family)?;
        let &[number, _, _, _, high, low, ..] = rest else {
            return None;
        };
        let transport = [Transport::Tcp, Transport::Udp]
            .into_iter()
            .find(|transport| protocol(*transport) == number)?;

        Some(Self {
            from,
            to,
            transport,
            port: u16::from_be_bytes([high, low]),
            delivery,
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

/// Denied packets by flow, node and direction; no entry where there were none.
pub(super) type Counted = BTreeMap<Key, Vec<Hits>>;

/// What one node counted of a flow's packets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hits {
    packets: u64,
    node: usize,
    direction: Direction,
}

/// The flows of all launches, and what was counted of them in tables that were removed.
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

    /// Adds the flows of a launch; gives the keys that are new.
    pub(super) fn add_flows(&mut self, world: &World, launch: &Launch) -> Vec<Key> {
        let resolver = Resolver::new(world, launch);
        let services = services::by_address(&world.inventory);
        let sources = source_addresses(world, &launch.source);

        let mut new = Vec::new();
        for flow in &launch.plan.flows {
            let keys: Vec<_> = resolver
                .addresses(&flow.target)
                .into_iter()
                .flat_map(|to| keys(flow, to, &sources, &services))
                .collect();
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

    /// Keeps what a table counted that was removed.
    pub(super) fn keep(&mut self, counted: Counted) {
        for (key, hits) in counted {
            self.earlier.entry(key).or_default().extend(hits);
        }
    }

    /// Whether any flow has this key.
    fn contains(&self, key: &Key) -> bool {
        self.users.contains_key(key)
    }

    /// The counters of flows that share no key with another. `rule` names what denies on a node, in
    /// a direction, for a flow.
    pub(super) fn counters(
        &self,
        now: &Counted,
        rule: impl Fn(usize, Direction, &Key) -> String,
    ) -> EnforcerCounts {
        let mut counters = EnforcerCounts::new();
        for (flow, keys) in &self.flows {
            if keys.iter().any(|key| self.is_shared(key)) {
                continue;
            }
            let denied = self.denied(keys, now);

            // Where both ends deny, the one with more packets names the rule.
            let most = denied.iter().max_by_key(|(_, packets)| **packets);
            if let Some(((node, direction, key), _)) = most {
                let count = EnforcerCount {
                    packets: denied.values().sum(),
                    rule: rule(*node, *direction, key),
                };
                counters.insert(*flow, count);
            }
        }
        counters
    }

    fn is_shared(&self, key: &Key) -> bool {
        self.users.get(key).is_some_and(|users| *users > 1)
    }

    /// Denied packets of these keys, by node and direction.
    fn denied<'a>(
        &self,
        keys: &'a [Key],
        now: &Counted,
    ) -> BTreeMap<(usize, Direction, &'a Key), u64> {
        let mut denied = BTreeMap::new();
        for key in keys {
            let counted = [&self.earlier, now];
            for hits in counted.iter().filter_map(|all| all.get(key)).flatten() {
                *denied.entry((hits.node, hits.direction, key)).or_default() += hits.packets;
            }
        }
        denied
    }
}

/// Resolves targets as a launch's probe does.
struct Resolver<'a> {
    zone: BTreeMap<String, Vec<IpAddr>>,
    search: &'a [String],
}

impl<'a> Resolver<'a> {
    fn new(world: &World, launch: &'a Launch) -> Self {
        let flows = &launch.plan.flows;
        let has_names = flows
            .iter()
            .any(|flow| matches!(flow.target, Target::Name { .. }));
        let resolver = launch.plan.resolver.as_ref();
        Self {
            zone: if has_names {
                zone(&world.inventory)
            } else {
                BTreeMap::new()
            },
            search: resolver.map_or(&[], |resolver| &resolver.search),
        }
    }

    fn addresses(&self, target: &Target) -> BTreeSet<IpAddr> {
        match target {
            Target::Address(address) => BTreeSet::from([*address]),
            Target::Name { name, v6 } => {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                self.search
                    .iter()
                    .map(|domain| format!("{name}.{domain}"))
                    .chain([name.clone()])
                    .filter_map(|name| self.zone.get(&name))
                    .flatten()
                    .copied()
                    .filter(|address| address.is_ipv6() == *v6)
                    .collect()
            }
        }
    }
}

/// The keys of a flow to one address: direct, and through each Service that leads on from it.
fn keys(flow: &Flow, to: IpAddr, sources: &[IpAddr], services: &ByAddress) -> Vec<Key> {
    let service = services.get(&(flow.transport, SocketAddr::new(to, flow.port)));
    let mut keys = Vec::new();
    for from in sources.iter().filter(|from| from.is_ipv4() == to.is_ipv4()) {
        keys.push(Key {
            from: *from,
            to,
            transport: flow.transport,
            port: flow.port,
            delivery: Delivery::Direct,
        });
        if let Some(service) = service {
            // What came to a node's port goes on with that node's address.
            let from = if service.by_node { to } else { *from };
            keys.extend(service.backends.iter().map(|backend| Key {
                from,
                to: backend.ip(),
                transport: flow.transport,
                port: backend.port(),
                delivery: Delivery::ByService,
            }));
        }
    }
    keys
}

/// The addresses that a source sends from.
fn source_addresses(world: &World, source: &Source) -> Vec<IpAddr> {
    let inventory = &world.inventory;
    let addresses = match source {
        Source::Pod {
            namespace, name, ..
        } => {
            let mut pods = inventory.pods.iter();
            pods.find(|pod| pod.namespace == *namespace && pod.name == *name)
                .map(|pod| pod.addresses.clone())
        }
        Source::Node { name } => {
            let mut nodes = inventory.nodes.iter();
            nodes
                .find(|node| node.name == *name)
                .map(|node| node.addresses.clone())
        }
        Source::ReferencePod { node } => world
            .node_index(node)
            .map(|n| super::addresses::reference_pod(n).to_vec()),
        Source::Runner => Some(super::addresses::RUNNER.to_vec()),
    };
    addresses.unwrap_or_default()
}

/// The chain that looks the flows of a direction up.
pub(super) fn chain_name(direction: Direction) -> String {
    format!("flows_{direction}")
}

fn set_name(direction: Direction, family: Family, delivery: Delivery) -> String {
    let delivery = match delivery {
        Delivery::Direct => "direct",
        Delivery::ByService => "service",
    };
    match family {
        Family::V4 => format!("{delivery}4_{direction}"),
        Family::V6 => format!("{delivery}6_{direction}"),
    }
}

/// Every set, by what is in it.
fn sets() -> impl Iterator<Item = (Direction, Family, Delivery)> {
    DIRECTIONS.into_iter().flat_map(|direction| {
        Family::ALL.into_iter().flat_map(move |family| {
            Delivery::ALL
                .into_iter()
                .map(move |delivery| (direction, family, delivery))
        })
    })
}

fn elements<'a>(
    keys: impl Iterator<Item = &'a Key>,
    family: Family,
    delivery: Delivery,
) -> Vec<Element> {
    keys.filter(|key| key.delivery == delivery && Family::of(key.from) == family)
        .map(Key::element)
        .collect()
}

/// Adds the sets with these flows, and the chains that look them up.
pub(super) fn chains<'a>(
    table: &mut TableBuilder,
    flows: &(impl Iterator<Item = &'a Key> + Clone),
) {
    for direction in DIRECTIONS {
        table.chain(&chain_name(direction));
    }
    for (direction, family, delivery) in sets() {
        let name = set_name(direction, family, delivery);
        let address = KeyType::Address(family);
        table.set(
            &Set {
                name: &name,
                key: &[address, address, KeyType::Protocol, KeyType::Port],
                kind: SetKind::Counted,
            },
            &elements(flows.clone(), family, delivery),
        );

        let fields = [
            Load::Source(family),
            Load::OpenedDestination(family),
            Load::Protocol,
            Load::OpenedPort,
        ];
        let by_hops = match delivery {
            Delivery::Direct => Comparison::Above,
            Delivery::ByService => Comparison::AtMost,
        };
        let count = hops_left(Rule::new(), family, by_hops, SERVICE_HOPS).in_set(&fields, &name);
        table.rule(&chain_name(direction), &count);
    }
}

/// Adds the chains that lower the hops of packets that a node sends on for a Service, once the
/// policies have passed them.
pub(super) fn mark_served(table: &mut TableBuilder) {
    for (name, hook) in [
        ("served", Hook::Forward),
        ("served-from-node", Hook::Output),
    ] {
        table.base_chain(name, BaseChain::filter(hook, 50));
        for family in Family::ALL {
            // A leak's mark is a high number of hops and must stay.
            let lower = hops_left(Rule::new(), family, Comparison::AtMost, LEAK_HOPS)
                .connection_status(DESTINATION_TRANSLATED)
                .equal(Load::Direction, &[ORIGINAL])
                .set_hops(family, SERVICE_HOPS);
            table.rule(name, &lower);
        }
    }
}

/// Adds flows to the sets of a table that is in force.
///
/// # Errors
/// What the kernel refused.
pub(super) fn add(
    nftables: &mut Nftables,
    table: &str,
    keys: &[Key],
) -> Result<(), netlink::Error> {
    let table = Table::new(table);
    let mut messages = Vec::new();
    for (direction, family, delivery) in sets() {
        let set = set_name(direction, family, delivery);
        let elements = elements(keys.iter(), family, delivery);
        messages.extend(element_messages(&table, &set, &elements));
    }
    commit_in_parts(nftables, &messages)
}

/// Reads what a table has counted of the known flows.
///
/// # Errors
/// What the kernel refused.
pub(super) fn read(
    nftables: &mut Nftables,
    table: &str,
    node: usize,
    flows: &FlowCounters,
) -> Result<Counted, netlink::Error> {
    let mut counted = Counted::new();
    for (direction, family, delivery) in sets() {
        let set = set_name(direction, family, delivery);
        for (key, packets) in nftables.element_counts(table, &set)? {
            let key = Key::of(&key, family, delivery).filter(|key| flows.contains(key));
            if let Some(key) = key.filter(|_| packets > 0) {
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
            for (transport, delivery) in [
                (Transport::Tcp, Delivery::Direct),
                (Transport::Udp, Delivery::ByService),
            ] {
                let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
                let key = Key {
                    from,
                    to,
                    transport,
                    port: 8_443,
                    delivery,
                };
                assert_eq!(
                    Key::of(key.element().key(), Family::of(from), delivery),
                    Some(key)
                );
            }
        }
        assert_eq!(Key::of(&[0; 9], Family::V4, Delivery::Direct), None);
    }
}
