//! Everyone that a rule can tell apart: groups of equal pods, nodes, and the rest of the address
//! space in classes.
//!
//! Two pods are equal if no policy can tell them apart: same namespace, same values of the labels
//! that any selector asks for, same meaning of the port names that any rule uses, and in the same
//! address blocks of any rule.

use super::bits::Bits;
use super::rules::{Block, DirectionalPolicy, Peer, Ports, Rules, Scope, of_family};
use super::selector::{Must, Requirement, Selector};
use crate::inventory::{ContainerPort, Inventory, Labels};
use crate::model::Family;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Someone of a universe: first come groups of pods, then nodes, then classes of outside addresses.
pub(super) type Entity = usize;

/// Everyone.
pub(super) struct Universe<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) groups: Vec<Group>,
    /// The entity of each pod: its group, or the node whose network it shares.
    pub(super) of_pod: Vec<Entity>,
    /// Ranges of outside addresses with their class, sorted, without holes.
    outside: BTreeMap<Family, Vec<(IpAddr, Entity)>>,
    length: usize,
    index: Index,
    blocks: HashMap<Block, BlockMembers>,
}

/// Equal pods.
pub(super) struct Group {
    /// Indices into the inventory's pods; at least one.
    pub(super) pods: Vec<usize>,
    /// The ports whose names any rule uses.
    pub(super) named: Vec<ContainerPort>,
}

/// Who has an address in a block.
struct BlockMembers {
    /// Groups and nodes by their address in the block's family.
    inside: Bits,
    /// Classes of outside addresses.
    outside: Bits,
}

/// Groups by what selectors ask for.
struct Index {
    /// Namespaces with their labels and their groups.
    namespaces: Vec<(String, Labels, Bits)>,
    by_label: HashMap<String, HashMap<String, Bits>>,
    by_key: HashMap<String, Bits>,
    groups: Bits,
}

/// What policies look at.
#[derive(Default)]
struct Asked {
    keys: BTreeSet<String>,
    names: BTreeSet<String>,
    blocks: BTreeSet<Block>,
}

impl Asked {
    fn by(rules: &Rules) -> Self {
        let mut asked = Self::default();
        for policy in &rules.policies {
            asked.selector(&policy.subject.pods);
            for rule in &policy.rules {
                for peer in rule.peers.iter().flatten() {
                    match peer {
                        Peer::Pods(scope) => asked.selector(&scope.pods),
                        Peer::Block(block) => drop(asked.blocks.insert(block.clone())),
                        Peer::Nodes(_) | Peer::Names(_) => {}
                    }
                }
                for ports in rule.ports.iter().flatten() {
                    if let Ports::Named(_, name) = ports {
                        asked.names.insert(name.clone());
                    }
                }
            }
        }
        asked
    }

    fn selector(&mut self, selector: &Selector) {
        self.keys.extend(
            selector
                .requirements
                .iter()
                .map(|requirement| requirement.key.clone()),
        );
    }
}

impl<'a> Universe<'a> {
    pub(super) fn of(inventory: &'a Inventory, rules: &Rules) -> Self {
        let asked = Asked::by(rules);
        let blocks: Vec<Block> = asked.blocks.iter().cloned().collect();
        let mut groups: Vec<Group> = Vec::new();
        let mut known = HashMap::new();
        let mut of_pod: Vec<Option<Entity>> = Vec::new();
        for (number, pod) in inventory.pods.iter().enumerate() {
            if pod.host_network {
                of_pod.push(None);
                continue;
            }
            let labels: Vec<(&str, &str)> = pod
                .labels
                .iter()
                .filter(|(key, _)| asked.keys.contains(*key))
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect();
            let is_named = |port: &&ContainerPort| {
                port.name
                    .as_ref()
                    .is_some_and(|name| asked.names.contains(name))
            };
            let mut named: Vec<ContainerPort> =
                pod.ports.iter().filter(is_named).cloned().collect();
            named.sort();
            let in_blocks: Vec<u32> = (0_u32..)
                .zip(&blocks)
                .filter(|(_, block)| pod.addresses.iter().any(|address| block.contains(*address)))
                .map(|(number, _)| number)
                .collect();
            let key = (pod.namespace.as_str(), labels, named, in_blocks);
            let group = if let Some(group) = known.get(&key) {
                *group
            } else {
                groups.push(Group {
                    pods: Vec::new(),
                    named: key.2.clone(),
                });
                known.insert(key, groups.len() - 1);
                groups.len() - 1
            };
            groups[group].pods.push(number);
            of_pod.push(Some(group));
        }
        let nodes: HashMap<&str, Entity> = inventory
            .nodes
            .iter()
            .enumerate()
            .map(|(n, node)| (node.name.as_str(), groups.len() + n))
            .collect();
        // A node that is not known has no address, so that no rule can name it; it stands behind
        // the known ones.
        let unknown_node = groups.len() + inventory.nodes.len();
        let of_pod = of_pod
            .into_iter()
            .zip(&inventory.pods)
            .map(|(group, pod)| {
                group.unwrap_or_else(|| {
                    nodes
                        .get(pod.node.as_str())
                        .copied()
                        .unwrap_or(unknown_node)
                })
            })
            .collect();
        let mut length = unknown_node + 1;
        let mut outside = BTreeMap::new();
        let mut classes: Vec<(Entity, Vec<u32>)> = Vec::new();
        for family in Family::ALL {
            let (ranges, of_family) = classes_of(family, &blocks, length);
            length += of_family.len();
            classes.extend(of_family);
            outside.insert(family, ranges);
        }
        let mut members: Vec<BlockMembers> = Vec::new();
        for block in &blocks {
            let family = block.cidr.family();
            let mut inside = Bits::none(length);
            let has = |addresses: &[IpAddr]| {
                of_family(addresses, family).is_some_and(|address| block.contains(address))
            };
            for (number, group) in groups.iter().enumerate() {
                // All pods of a group are in the same blocks.
                if has(&inventory.pods[group.pods[0]].addresses) {
                    inside.insert(number);
                }
            }
            for (number, node) in inventory.nodes.iter().enumerate() {
                if has(&node.addresses) {
                    inside.insert(groups.len() + number);
                }
            }
            members.push(BlockMembers {
                inside,
                outside: Bits::none(length),
            });
        }
        for (class, within) in classes {
            for block in within {
                members[block as usize].outside.insert(class);
            }
        }
        let index = Index::of(inventory, &groups, length);
        Self {
            inventory,
            groups,
            of_pod,
            outside,
            length,
            index,
            blocks: blocks.into_iter().zip(members).collect(),
        }
    }

    /// How many there are.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The class of an address that nobody inside has.
    pub(super) fn outside(&self, address: IpAddr) -> Option<Entity> {
        let ranges = self.outside.get(&Family::of(address))?;
        let after = ranges.partition_point(|(first, _)| *first <= address);
        Some(ranges[after.checked_sub(1)?].1)
    }

    /// Outside addresses in ranges, first and last, with the class of each; sorted.
    pub(super) fn outside_ranges(&self, family: Family) -> Vec<(IpAddr, IpAddr, Entity)> {
        let Some(ranges) = self.outside.get(&family) else {
            return Vec::new();
        };
        let ends = ranges
            .iter()
            .skip(1)
            .map(|(first, _)| before(*first))
            .chain([last_of(family)]);
        ranges
            .iter()
            .zip(ends)
            .map(|((first, class), last)| (*first, last, *class))
            .collect()
    }

    /// Pods that a scope selects.
    pub(super) fn select(&self, scope: &Scope) -> Bits {
        let mut selected = Bits::none(self.length);
        for (name, labels, groups) in &self.index.namespaces {
            if scope.namespaces.selects(name, labels) {
                selected.add(groups);
            }
        }
        for requirement in &scope.pods.requirements {
            self.index.narrow(&mut selected, requirement);
        }
        selected
    }

    /// Whom a peer matches in a family. Only blocks tell families apart.
    pub(super) fn peer(&self, peer: &Peer, family: Family) -> Bits {
        match peer {
            Peer::Pods(scope) => self.select(scope),
            Peer::Block(block) => {
                let Some(members) = self.blocks.get(block) else {
                    return Bits::none(self.length);
                };
                let mut bits = members.outside.clone();
                if block.cidr.family() == family {
                    bits.add(&members.inside);
                }
                bits
            }
            Peer::Nodes(selector) => {
                let mut bits = Bits::none(self.length);
                for (number, node) in self.inventory.nodes.iter().enumerate() {
                    if selector.matches(&node.labels) {
                        bits.insert(self.groups.len() + number);
                    }
                }
                bits
            }
            Peer::Names(_) => Bits::none(self.length),
        }
    }

    /// Whether any block holds a pod's or a node's address, so that families must be told apart.
    pub(super) fn families_differ(&self) -> bool {
        self.blocks
            .values()
            .any(|members| !members.inside.is_empty())
    }

    /// Groups that a half selects.
    pub(super) fn subjects(&self, policy: &DirectionalPolicy) -> Bits {
        self.select(&policy.subject)
    }
}

impl Index {
    fn of(inventory: &Inventory, groups: &[Group], length: usize) -> Self {
        let mut namespaces: BTreeMap<&str, Bits> = BTreeMap::new();
        let mut by_label: HashMap<String, HashMap<String, Bits>> = HashMap::new();
        let mut by_key: HashMap<String, Bits> = HashMap::new();
        let mut all = Bits::none(length);
        for (number, group) in groups.iter().enumerate() {
            let pod = &inventory.pods[group.pods[0]];
            all.insert(number);
            namespaces
                .entry(&pod.namespace)
                .or_insert_with(|| Bits::none(length))
                .insert(number);
            for (key, value) in &pod.labels {
                by_key
                    .entry(key.clone())
                    .or_insert_with(|| Bits::none(length))
                    .insert(number);
                let values = by_label.entry(key.clone()).or_default();
                values
                    .entry(value.clone())
                    .or_insert_with(|| Bits::none(length))
                    .insert(number);
            }
        }
        let namespaces = namespaces
            .into_iter()
            .map(|(name, groups)| (name.to_owned(), namespace_labels(inventory, name), groups))
            .collect();
        Self {
            namespaces,
            by_label,
            by_key,
            groups: all,
        }
    }

    /// Keeps those for whom a requirement holds.
    fn narrow(&self, selected: &mut Bits, requirement: &Requirement) {
        let values_of = |values: &[String]| {
            let mut bits = self.none();
            let known = self.by_label.get(&requirement.key);
            for groups in values.iter().filter_map(|value| known?.get(value)) {
                bits.add(groups);
            }
            bits
        };
        let none = self.none();
        let having = self.by_key.get(&requirement.key).unwrap_or(&none);
        match &requirement.must {
            Must::In(values) => selected.keep(&values_of(values)),
            Must::NotIn(values) => selected.remove(&values_of(values)),
            Must::Exist => selected.keep(having),
            Must::NotExist => selected.remove(having),
        }
    }

    fn none(&self) -> Bits {
        let mut none = self.groups.clone();
        none.remove(&self.groups);
        none
    }
}

/// Labels of a namespace. Each has its name as a label (`NamespaceDefaultLabelName`, set by the API
/// server).
pub(super) fn namespace_labels(inventory: &Inventory, name: &str) -> Labels {
    let mut labels = inventory
        .namespaces
        .get(name)
        .map(|namespace| namespace.labels.clone())
        .unwrap_or_default();
    labels
        .entry("kubernetes.io/metadata.name".to_owned())
        .or_insert_with(|| name.to_owned());
    labels
}

/// The address space of a family cut where any block begins or ends: ranges by their first address,
/// and for each class the blocks that its addresses lie in. Classes are numbered from `first`.
type Classes = (Vec<(IpAddr, Entity)>, Vec<(Entity, Vec<u32>)>);

fn classes_of(family: Family, blocks: &[Block], first: Entity) -> Classes {
    let mut cuts: BTreeSet<IpAddr> = BTreeSet::from([first_of(family)]);
    for block in blocks.iter().filter(|block| block.cidr.family() == family) {
        for cidr in block.except.iter().chain([&block.cidr]) {
            cuts.insert(cidr.first());
            cuts.extend(after(cidr.last()));
        }
    }
    let mut known: HashMap<Vec<u32>, Entity> = HashMap::new();
    let mut classes: Vec<(Entity, Vec<u32>)> = Vec::new();
    let mut ranges: Vec<(IpAddr, Entity)> = Vec::new();
    for cut in cuts {
        let within: Vec<u32> = (0_u32..)
            .zip(blocks)
            .filter(|(_, block)| block.contains(cut))
            .map(|(number, _)| number)
            .collect();
        let class = *known.entry(within).or_insert_with_key(|within| {
            let class = first + classes.len();
            classes.push((class, within.clone()));
            class
        });
        if ranges.last().is_none_or(|(_, before)| *before != class) {
            ranges.push((cut, class));
        }
    }
    (ranges, classes)
}

fn first_of(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn last_of(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::BROADCAST.into(),
        Family::V6 => Ipv6Addr::from_bits(u128::MAX).into(),
    }
}

/// The address after one; none after the last.
pub(super) fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4
            .to_bits()
            .checked_add(1)
            .map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6
            .to_bits()
            .checked_add(1)
            .map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

/// The address before one that is not the first.
pub(super) fn before(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().saturating_sub(1)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().saturating_sub(1)).into(),
    }
}
