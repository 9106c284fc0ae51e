//! Classes of endpoints: two endpoints are in one class if no rule distinguishes them.
//!
//! There are classes of pods, one class for each node, and classes of addresses outside the
//! cluster. Two pods are in one class if they have the same namespace, the same values of the
//! labels that any selector uses, the same ports for the port names that any rule uses, and
//! addresses in the same address blocks of any rule. Of a label that no selector names with its
//! value, only the key counts.

use super::addresses::{AddressBook, Membership};
use super::bits::Bits;
use super::edit::NAMESPACE_NAME;
use super::rules::{Block, DirectionalPolicy, Peer, Ports, Rule, Rules, Scope};
use super::selector::{Operator, Requirement, Selector};
use crate::inventory::{ContainerPort, Inventory, Labels, Pod};
use crate::model::Family;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The index of a class: first the classes of pods, then the nodes, then one class for all nodes
/// that the inventory does not have, then the classes of outside addresses.
pub(super) type ClassIndex = usize;

/// All endpoints of an inventory in classes.
pub(super) struct EndpointClasses<'a> {
    pub(super) inventory: &'a Inventory,
    /// The classes of pods.
    pub(super) pods: Vec<PodClass>,
    /// The class of each pod of the inventory; for a pod in its node's network, that of the node.
    pub(super) of_pod: Vec<ClassIndex>,
    /// Ranges of outside addresses by their first address, sorted, without gaps, with their class.
    outside: BTreeMap<Family, Vec<(IpAddr, ClassIndex)>>,
    length: usize,
    labels: LabelIndex,
    blocks: HashMap<Block, BlockMembers>,
    /// Whether the inventory has both families.
    pub(super) is_dual_stack: bool,
}

/// Pods that no rule distinguishes.
pub(super) struct PodClass {
    /// Indexes into the inventory's pods; at least one.
    pub(super) members: Vec<usize>,
    /// The ports whose names any rule uses.
    pub(super) named_ports: Vec<ContainerPort>,
    /// The families in which any of them has an address.
    pub(super) families: Vec<Family>,
}

/// The classes with an address in a block.
struct BlockMembers {
    /// Classes of pods and nodes, by their address in the block's family.
    inside: Bits,
    /// Classes of pods and nodes that may be inside: their address is not known.
    unsure: Bits,
    /// Classes of outside addresses.
    outside: Bits,
}

/// Classes of pods by namespace and label.
struct LabelIndex {
    /// Namespaces with their labels and their classes.
    namespaces: Vec<(String, Labels, Bits)>,
    by_label: HashMap<String, HashMap<String, Bits>>,
    by_key: HashMap<String, Bits>,
    none: Bits,
}

/// Everything by which rules distinguish endpoints.
#[derive(Default)]
struct Criteria {
    /// The values that selectors name, by key.
    labels: BTreeMap<String, BTreeSet<String>>,
    port_names: BTreeSet<String>,
    blocks: BTreeSet<Block>,
}

impl Criteria {
    fn of(rules: &Rules) -> Self {
        let mut criteria = Self::default();
        for policy in &rules.policies {
            criteria.add_selector(&policy.subject.pods);
            for rule in &policy.rules {
                criteria.add_rule(rule);
            }
        }
        criteria
    }

    fn add_rule(&mut self, rule: &Rule) {
        for peer in rule.peers.iter().flatten() {
            match peer {
                Peer::Pods(scope) => self.add_selector(&scope.pods),
                Peer::Block(block) => {
                    self.blocks.insert(block.clone());
                }
                Peer::Nodes(_) | Peer::Names(_) => {}
            }
        }
        for ports in rule.ports.iter().flatten() {
            if let Ports::Named(_, name) = ports {
                self.port_names.insert(name.clone());
            }
        }
    }

    fn add_selector(&mut self, selector: &Selector) {
        for requirement in &selector.requirements {
            let named = self.labels.entry(requirement.key.clone()).or_default();
            match &requirement.operator {
                Operator::In(values) | Operator::NotIn(values) => {
                    named.extend(values.iter().cloned());
                }
                Operator::Exists | Operator::DoesNotExist => {}
            }
        }
    }

    /// The ports of a pod whose names any rule uses, sorted.
    fn named_ports(&self, pod: &Pod) -> Vec<ContainerPort> {
        let mut named: Vec<ContainerPort> = pod
            .ports
            .iter()
            .filter(|port| {
                let name = port.name.as_ref();
                name.is_some_and(|name| self.port_names.contains(name))
            })
            .cloned()
            .collect();
        named.sort();
        named
    }

    /// A pod's labels of which any selector names the key; without a value that none names.
    fn labels<'p>(&self, pod: &'p Pod) -> Vec<(&'p str, Option<&'p str>)> {
        let mut labels = Vec::new();
        for (key, value) in &pod.labels {
            if let Some(named) = self.labels.get(key) {
                labels.push((
                    key.as_str(),
                    named.contains(value).then_some(value.as_str()),
                ));
            }
        }
        labels
    }

    /// The blocks in which a pod is or may be, by index.
    fn blocks_with(&self, pod: &Pod, book: &AddressBook<'_>) -> Vec<(usize, bool)> {
        self.blocks
            .iter()
            .enumerate()
            .map(|(index, block)| (index, book.is_in(block, &pod.addresses)))
            .filter(|(_, Membership { holds, depends })| *holds || *depends)
            .map(|(index, membership)| (index, membership.depends))
            .collect()
    }
}

/// The classes of pods, and the class of each pod; `None` for pods in their node's network.
fn classify_pods(
    inventory: &Inventory,
    criteria: &Criteria,
    book: &AddressBook<'_>,
) -> (Vec<PodClass>, Vec<Option<ClassIndex>>) {
    let mut classes: Vec<PodClass> = Vec::new();
    let mut by_key = HashMap::new();
    let mut of_pod = Vec::new();
    for (index, pod) in inventory.pods.iter().enumerate() {
        if pod.host_network {
            of_pod.push(None);
            continue;
        }

        let named_ports = criteria.named_ports(pod);
        let key = (
            pod.namespace.as_str(),
            criteria.labels(pod),
            named_ports.clone(),
            criteria.blocks_with(pod, book),
        );
        let class = *by_key.entry(key).or_insert_with(|| {
            classes.push(PodClass {
                members: Vec::new(),
                named_ports,
                families: Vec::new(),
            });
            classes.len() - 1
        });
        let class_of_pod: &mut PodClass = &mut classes[class];
        class_of_pod.members.push(index);
        for family in book.families(&pod.addresses) {
            if !class_of_pod.families.contains(&family) {
                class_of_pod.families.push(family);
            }
        }
        of_pod.push(Some(class));
    }
    (classes, of_pod)
}

impl<'a> EndpointClasses<'a> {
    pub(super) fn new(inventory: &'a Inventory, rules: &Rules) -> Self {
        let criteria = Criteria::of(rules);
        let blocks: Vec<Block> = criteria.blocks.iter().cloned().collect();
        let book = AddressBook::of(inventory);
        let (pods, of_pod) = classify_pods(inventory, &criteria, &book);
        let of_pod = with_nodes(inventory, &of_pod, pods.len());

        // The last node class is for nodes that the inventory does not have. Their addresses are not
        // known, so that no rule distinguishes them.
        let mut length = pods.len() + inventory.nodes.len() + 1;
        let mut outside = BTreeMap::new();
        let mut outside_classes = Vec::new();
        for family in Family::ALL {
            let (ranges, classes) = classify_addresses(family, &blocks, length);
            length += classes.len();
            outside_classes.extend(classes);
            outside.insert(family, ranges);
        }

        let mut members: Vec<BlockMembers> = blocks
            .iter()
            .map(|block| block_members(inventory, &pods, block, &book, length))
            .collect();
        for class in outside_classes {
            for block in class.blocks {
                members[block].outside.insert(class.index);
            }
        }

        Self {
            inventory,
            labels: LabelIndex::new(inventory, &pods, &criteria, length),
            pods,
            of_pod,
            outside,
            length,
            blocks: blocks.into_iter().zip(members).collect(),
            is_dual_stack: book.is_dual_stack(),
        }
    }

    /// The number of classes.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The class of a node by its index in the inventory; for an unknown node, the number of nodes.
    pub(super) fn of_node(&self, index: usize) -> ClassIndex {
        self.pods.len() + index
    }

    /// The class of an address outside the cluster.
    pub(super) fn of_outside(&self, address: IpAddr) -> Option<ClassIndex> {
        let ranges = self.outside.get(&Family::of(address))?;
        let after = ranges.partition_point(|(first, _)| *first <= address);
        Some(ranges[after.checked_sub(1)?].1)
    }

    /// Ranges of outside addresses, first and last, with the class of each; sorted.
    pub(super) fn outside_ranges(&self, family: Family) -> Vec<(IpAddr, IpAddr, ClassIndex)> {
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

    /// The classes of pods that a scope selects.
    fn select(&self, scope: &Scope) -> Bits {
        let mut selected = Bits::none(self.length);
        for (name, labels, classes) in &self.labels.namespaces {
            if scope.namespaces.selects(name, labels) {
                selected.add(classes);
            }
        }
        for requirement in &scope.pods.requirements {
            self.labels.narrow(&mut selected, requirement);
        }
        selected
    }

    /// The classes that a peer matches in a family. Only blocks distinguish families.
    pub(super) fn peer(&self, peer: &Peer, family: Family) -> Bits {
        match peer {
            Peer::Pods(scope) => self.select(scope),
            Peer::Block(block) => {
                let Some(members) = self.blocks.get(block) else {
                    return Bits::none(self.length);
                };
                let mut matching = members.outside.clone();
                if block.cidr.family() == family {
                    matching.add(&members.inside);
                }
                matching
            }
            Peer::Nodes(selector) => {
                let mut matching = Bits::none(self.length);
                for (index, node) in self.inventory.nodes.iter().enumerate() {
                    if selector.matches(&node.labels) {
                        matching.insert(self.of_node(index));
                    }
                }
                matching
            }
            Peer::Names(_) => Bits::none(self.length),
        }
    }

    /// The classes of pods and nodes that a peer matches or not, depending on addresses that are not
    /// known.
    pub(super) fn unsure(&self, peer: &Peer, family: Family) -> Option<&Bits> {
        let Peer::Block(block) = peer else {
            return None;
        };
        let members = self.blocks.get(block)?;
        (block.cidr.family() == family && !members.unsure.is_empty()).then_some(&members.unsure)
    }

    /// The classes of outside addresses of a family.
    pub(super) fn outside_classes(&self, family: Family) -> Vec<ClassIndex> {
        let ranges = self.outside.get(&family).into_iter().flatten();
        let classes: BTreeSet<ClassIndex> = ranges.map(|(_, class)| *class).collect();
        classes.into_iter().collect()
    }

    /// Whether any block contains or may contain the address of a pod or node, so that results
    /// differ by family.
    pub(super) fn families_differ(&self) -> bool {
        self.blocks
            .values()
            .any(|members| !members.inside.is_empty() || !members.unsure.is_empty())
    }

    /// The classes of pods that a policy selects.
    pub(super) fn subjects(&self, policy: &DirectionalPolicy) -> Bits {
        self.select(&policy.subject)
    }
}

/// The class of each pod, where a pod in its node's network has the class of the node.
fn with_nodes(
    inventory: &Inventory,
    of_pod: &[Option<ClassIndex>],
    pod_classes: usize,
) -> Vec<ClassIndex> {
    let nodes: HashMap<&str, ClassIndex> = inventory
        .nodes
        .iter()
        .enumerate()
        .map(|(index, node)| (node.name.as_str(), pod_classes + index))
        .collect();
    let unknown_node = pod_classes + inventory.nodes.len();

    let mut classes = Vec::with_capacity(of_pod.len());
    for (class, pod) in of_pod.iter().zip(&inventory.pods) {
        let node = nodes.get(pod.node.as_str()).copied();
        classes.push(class.or(node).unwrap_or(unknown_node));
    }
    classes
}

/// The classes of pods and nodes that have an address in a block.
fn block_members(
    inventory: &Inventory,
    pods: &[PodClass],
    block: &Block,
    book: &AddressBook<'_>,
    length: usize,
) -> BlockMembers {
    let mut members = BlockMembers {
        inside: Bits::none(length),
        unsure: Bits::none(length),
        outside: Bits::none(length),
    };

    // All pods of a class are in the same blocks.
    let of_pods = pods
        .iter()
        .map(|class| inventory.pods[class.members[0]].addresses.as_slice());
    let of_nodes = inventory.nodes.iter().map(|node| node.addresses.as_slice());
    let of_unknown_node: &[IpAddr] = &[];
    let ends = of_pods.chain(of_nodes).chain([of_unknown_node]);
    for (class, addresses) in ends.enumerate() {
        let membership = book.is_in(block, addresses);
        if membership.holds {
            members.inside.insert(class);
        }
        if membership.depends {
            members.unsure.insert(class);
        }
    }
    members
}

impl LabelIndex {
    fn new(inventory: &Inventory, pods: &[PodClass], criteria: &Criteria, length: usize) -> Self {
        let none = Bits::none(length);
        let mut namespaces: BTreeMap<&str, Bits> = BTreeMap::new();
        let mut by_label: HashMap<String, HashMap<String, Bits>> = HashMap::new();
        let mut by_key: HashMap<String, Bits> = HashMap::new();
        for (index, class) in pods.iter().enumerate() {
            let pod = &inventory.pods[class.members[0]];
            let namespace = namespaces.entry(&pod.namespace);
            namespace.or_insert_with(|| none.clone()).insert(index);
            for (key, value) in criteria.labels(pod) {
                let with_key = by_key.entry(key.to_owned());
                with_key.or_insert_with(|| none.clone()).insert(index);
                if let Some(value) = value {
                    let by_value = by_label.entry(key.to_owned()).or_default();
                    let with_value = by_value.entry(value.to_owned());
                    with_value.or_insert_with(|| none.clone()).insert(index);
                }
            }
        }

        let namespaces = namespaces
            .into_iter()
            .map(|(name, classes)| (name.to_owned(), namespace_labels(inventory, name), classes))
            .collect();
        Self {
            namespaces,
            by_label,
            by_key,
            none,
        }
    }

    /// Keeps the classes that meet a requirement.
    fn narrow(&self, selected: &mut Bits, requirement: &Requirement) {
        let with_key = self.by_key.get(&requirement.key).unwrap_or(&self.none);
        match &requirement.operator {
            Operator::In(values) => selected.keep(&self.with_values(&requirement.key, values)),
            Operator::NotIn(values) => {
                selected.remove(&self.with_values(&requirement.key, values));
            }
            Operator::Exists => selected.keep(with_key),
            Operator::DoesNotExist => selected.remove(with_key),
        }
    }

    /// The classes that have one of the values of a label.
    fn with_values(&self, key: &str, values: &[String]) -> Bits {
        let mut matching = self.none.clone();
        if let Some(by_value) = self.by_label.get(key) {
            for classes in values.iter().filter_map(|value| by_value.get(value)) {
                matching.add(classes);
            }
        }
        matching
    }
}

/// The labels of a namespace. The API server gives each its name as a label
/// (`NamespaceDefaultLabelName`).
pub(super) fn namespace_labels(inventory: &Inventory, name: &str) -> Labels {
    let mut labels = inventory
        .namespaces
        .get(name)
        .map(|namespace| namespace.labels.clone())
        .unwrap_or_default();
    labels
        .entry(NAMESPACE_NAME.to_owned())
        .or_insert_with(|| name.to_owned());
    labels
}

/// A class of outside addresses, with the indexes of the blocks that contain them.
struct OutsideClass {
    index: ClassIndex,
    blocks: Vec<usize>,
}

/// Cuts the address space of a family where any block begins or ends: the ranges by their first
/// address, and their classes, numbered from `first`. Ranges in the same blocks share a class.
fn classify_addresses(
    family: Family,
    blocks: &[Block],
    first: ClassIndex,
) -> (Vec<(IpAddr, ClassIndex)>, Vec<OutsideClass>) {
    let mut cuts: BTreeSet<IpAddr> = BTreeSet::from([first_of(family)]);
    for block in blocks.iter().filter(|block| block.cidr.family() == family) {
        for cidr in block.except.iter().chain([&block.cidr]) {
            cuts.insert(cidr.first());
            cuts.extend(after(cidr.last()));
        }
    }

    let mut by_blocks: HashMap<Vec<usize>, ClassIndex> = HashMap::new();
    let mut classes: Vec<OutsideClass> = Vec::new();
    let mut ranges: Vec<(IpAddr, ClassIndex)> = Vec::new();
    for cut in cuts {
        let containing: Vec<usize> = blocks
            .iter()
            .enumerate()
            .filter(|(_, block)| block.contains(cut))
            .map(|(index, _)| index)
            .collect();
        let class = *by_blocks.entry(containing).or_insert_with_key(|blocks| {
            let index = first + classes.len();
            classes.push(OutsideClass {
                index,
                blocks: blocks.clone(),
            });
            index
        });
        if ranges.last().is_none_or(|(_, previous)| *previous != class) {
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

/// The next address; `None` after the last one.
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

/// The previous address; the first address is its own.
pub(super) fn before(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().saturating_sub(1)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().saturating_sub(1)).into(),
    }
}
