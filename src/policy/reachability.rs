//! The ports that policies allow, as rows: for each class of pods and each direction, the ports to
//! or from every other class.
//!
//! # How the cost grows
//! A rule is a set of peers (bits) and the number of a set of ports. Rules with the same ports are
//! joined by words of bits before any pair is calculated; classes to which the same policies apply
//! share a row; sets of ports are joined once for each distinct pair of sets. What remains for each
//! pair of classes is one look-up. A tier of cluster-wide policies, whose rules have to be
//! evaluated in order, is calculated once for all classes that the same of its policies select.

use super::bits::Bits;
use super::classes::{ClassIndex, EndpointClasses};
use super::ports::{PortSet, PortSets, SetId};
use super::rules::{Direction, DirectionalPolicy, Peer, Ports, Rule, Rules};
use crate::inventory::{Action, ContainerPort, Inventory, PolicyTier};
use crate::model::{Family, Transport};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// For every class, the ports that are allowed to or from one class of pods.
pub(super) type Row = Rc<Vec<SetId>>;

/// The allowed ports between all classes, calculated on demand.
pub(super) struct Reachability<'a> {
    pub(super) classes: EndpointClasses<'a>,
    pub(super) sets: PortSets,
    compiled: Vec<CompiledPolicy>,
    /// By direction and class of pods: the policies that select it, in order of evaluation.
    selecting: HashMap<Direction, Vec<Vec<u32>>>,
    rows: HashMap<RowKey, Row>,
    /// The results of tiers. Their key has the policies of the tiers before and of the tier itself.
    tiers: HashMap<RowKey, Rc<TierResult>>,
    /// Whether results differ by family.
    families_differ: bool,
}

/// Everything that a row depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RowKey {
    scope: RowScope,
    /// The policies that apply, by number.
    policies: Vec<u32>,
}

/// The direction of a row, with what port names mean in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RowScope {
    family: Family,
    direction: Direction,
    /// The named ports of the class of pods, where it is the destination; empty for egress.
    own_ports: Vec<ContainerPort>,
}

/// The result of a tier, for each class of peers.
struct TierResult {
    accepted: Vec<SetId>,
    /// The ports that the next tier decides.
    undecided: Vec<SetId>,
}

/// A policy in force, in one direction.
struct CompiledPolicy {
    tier: PolicyTier,
    rules: Vec<CompiledRule>,
}

/// A rule with its peers as classes. Rules that match nothing have none.
pub(super) struct CompiledRule {
    /// The index in the policy.
    index: usize,
    action: Action,
    /// The matching classes in IPv4 and in IPv6; one set where families do not differ.
    peers: [Rc<Bits>; 2],
    ports: RulePorts,
}

/// The ports of a rule.
#[derive(Clone)]
struct RulePorts {
    /// The ports given by number.
    set: SetId,
    /// The ports given by name.
    named: Vec<(Option<Transport>, String)>,
    /// The peers to which port names apply: those that labels select ("a named port on a pod",
    /// NetworkPolicyPort.port).
    pods: Rc<Bits>,
}

/// The ports of a rule with names looked up.
struct ResolvedPorts {
    /// The ports for every peer.
    common: SetId,
    /// Further ports of single peers, ascending by class.
    further: Vec<(ClassIndex, SetId)>,
}

impl<'a> Reachability<'a> {
    pub(super) fn new(inventory: &'a Inventory, rules: &Rules) -> Self {
        let classes = EndpointClasses::new(inventory, rules);
        let mut sets = PortSets::new();
        let families_differ = classes.families_differ();
        let mut selecting: HashMap<Direction, Vec<Vec<u32>>> = Direction::ALL
            .into_iter()
            .map(|direction| (direction, vec![Vec::new(); classes.pods.len()]))
            .collect();

        let mut compiled = Vec::new();
        for policy in rules.policies.iter().filter(|policy| policy.in_force) {
            let number = compiled.len() as u32;
            if let Some(of_class) = selecting.get_mut(&policy.direction) {
                for class in classes.subjects(policy).iter() {
                    of_class[class].push(number);
                }
            }
            compiled.push(compile(policy, &classes, &mut sets, families_differ));
        }

        Self {
            classes,
            sets,
            compiled,
            selecting,
            rows: HashMap::new(),
            tiers: HashMap::new(),
            families_differ,
        }
    }

    /// The policies that select each class of pods, by their numbers among those in force.
    pub(super) fn selecting(&self, direction: Direction) -> &[Vec<u32>] {
        self.selecting
            .get(&direction)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// The rules of a policy that can match anything.
    pub(super) fn rules(&self, policy: u32) -> impl Iterator<Item = &CompiledRule> {
        self.compiled[policy as usize].rules.iter()
    }

    /// The families to calculate: one of them stands for both where results do not differ.
    pub(super) fn families(&self) -> &'static [Family] {
        if self.families_differ {
            &Family::ALL
        } else {
            &Family::ALL[..1]
        }
    }

    /// The ports between a class of pods and every class that the policies of these pods allow.
    /// Nodes and outside addresses have no policies, and no row.
    pub(super) fn row(&mut self, family: Family, direction: Direction, pods: ClassIndex) -> Row {
        // Port names are looked up at the destination: the pods themselves, or each peer.
        let own_ports = match direction {
            Direction::Ingress => self.classes.pods[pods].named_ports.clone(),
            Direction::Egress => Vec::new(),
        };
        let family = if self.families_differ {
            family
        } else {
            Family::V4
        };
        let key = RowKey {
            scope: RowScope {
                family,
                direction,
                own_ports,
            },
            policies: self.selecting(direction)[pods].clone(),
        };
        if let Some(row) = self.rows.get(&key) {
            return Rc::clone(row);
        }

        let row = Rc::new(self.calculate(&key));
        self.rows.insert(key, Rc::clone(&row));
        row
    }

    /// The ports between two classes that both sides allow ("For a connection from a source pod to
    /// a destination pod to be allowed, both the egress policy on the source pod and the ingress
    /// policy on the destination pod need to allow the connection", Kubernetes, "Network
    /// Policies").
    pub(super) fn allowed(&mut self, family: Family, from: ClassIndex, to: ClassIndex) -> SetId {
        let (egress, ingress) = self.sides(family, from, to);
        self.sets.intersection(egress, ingress)
    }

    /// The ports that egress of the source allows, and those that ingress of the destination
    /// allows.
    pub(super) fn sides(
        &mut self,
        family: Family,
        from: ClassIndex,
        to: ClassIndex,
    ) -> (SetId, SetId) {
        let pod_classes = self.classes.pods.len();
        let egress = if from < pod_classes {
            self.row(family, Direction::Egress, from)[to]
        } else {
            SetId::ALL
        };
        let ingress = if to < pod_classes {
            self.row(family, Direction::Ingress, to)[from]
        } else {
            SetId::ALL
        };
        (egress, ingress)
    }

    /// A row: first Admin decides; then the NetworkPolicies, which decide everything for the pods
    /// that they select; then Baseline. What no tier decides is allowed
    /// (ClusterNetworkPolicySpec.tier).
    fn calculate(&mut self, key: &RowKey) -> Vec<SetId> {
        let scope = &key.scope;
        let admin = self.of_tier(&key.policies, PolicyTier::Admin);
        let network = self.of_tier(&key.policies, PolicyTier::NetworkPolicy);
        let baseline = self.of_tier(&key.policies, PolicyTier::Baseline);

        let everything = vec![SetId::ALL; self.classes.length()];
        let first = self.tier(&[], &admin, scope, &everything);
        let mut allowed = first.accepted.clone();
        if network.is_empty() {
            let last = self.tier(&admin, &baseline, scope, &first.undecided);
            for (class, set) in allowed.iter_mut().enumerate() {
                let later = self.sets.union(last.accepted[class], last.undecided[class]);
                *set = self.sets.union(*set, later);
            }
        } else {
            let admitted = self.admitted(&network, scope);
            for (class, set) in allowed.iter_mut().enumerate() {
                let admitted = self
                    .sets
                    .intersection(first.undecided[class], admitted[class]);
                *set = self.sets.union(*set, admitted);
            }
        }
        allowed
    }

    fn of_tier(&self, policies: &[u32], tier: PolicyTier) -> Vec<u32> {
        policies
            .iter()
            .copied()
            .filter(|policy| self.compiled[*policy as usize].tier == tier)
            .collect()
    }

    /// The result of a tier for the ports that the tier before it left undecided. All classes that
    /// the same policies of both tiers select share it, unless rules have port names, which differ
    /// in meaning between the classes.
    fn tier(
        &mut self,
        policies_before: &[u32],
        policies: &[u32],
        scope: &RowScope,
        undecided: &[SetId],
    ) -> Rc<TierResult> {
        if policies.is_empty() {
            return Rc::new(TierResult {
                accepted: vec![SetId::NONE; undecided.len()],
                undecided: undecided.to_vec(),
            });
        }
        let mut key = RowKey {
            scope: scope.clone(),
            policies: [policies_before, policies].concat(),
        };
        if !self.have_port_names(&key.policies) {
            key.scope.own_ports = Vec::new();
        }
        if let Some(result) = self.tiers.get(&key) {
            return Rc::clone(result);
        }

        let result = Rc::new(self.evaluate_tier(policies, scope, undecided.to_vec()));
        self.tiers.insert(key, Rc::clone(&result));
        result
    }

    fn have_port_names(&self, policies: &[u32]) -> bool {
        policies
            .iter()
            .flat_map(|policy| self.rules(*policy))
            .any(|rule| !rule.ports.named.is_empty())
    }

    /// The ports that NetworkPolicies admit: the union of all their rules, whose order does not
    /// matter.
    fn admitted(&mut self, policies: &[u32], scope: &RowScope) -> Vec<SetId> {
        let length = self.classes.length();
        let mut peers_by_ports: BTreeMap<SetId, Bits> = BTreeMap::new();
        let mut further: Vec<(ClassIndex, SetId)> = Vec::new();
        for policy in policies {
            for index in 0..self.compiled[*policy as usize].rules.len() {
                let rule = &self.compiled[*policy as usize].rules[index];
                let peers = Rc::clone(&rule.peers[scope.family as usize]);
                let ports = self.resolve(&rule.ports.clone(), scope);
                if ports.common != SetId::NONE {
                    peers_by_ports
                        .entry(ports.common)
                        .or_insert_with(|| Bits::none(length))
                        .add(&peers);
                }
                further.extend(ports.further);
            }
        }

        let mut row = vec![SetId::NONE; length];
        for (set, peers) in peers_by_ports {
            for peer in peers.iter() {
                row[peer] = self.sets.union(row[peer], set);
            }
        }
        for (peer, set) in further {
            row[peer] = self.sets.union(row[peer], set);
        }
        row
    }

    /// Looks up the port names of a rule at the destination.
    fn resolve(&mut self, ports: &RulePorts, scope: &RowScope) -> ResolvedPorts {
        let mut resolved = ResolvedPorts {
            common: ports.set,
            further: Vec::new(),
        };
        if ports.named.is_empty() {
            return resolved;
        }

        match scope.direction {
            Direction::Ingress => {
                let named = self.sets.intern(named_on(&ports.named, &scope.own_ports));
                resolved.common = self.sets.union(ports.set, named);
            }
            Direction::Egress => {
                let pod_classes = self.classes.pods.len();
                for peer in ports.pods.iter().take_while(|peer| *peer < pod_classes) {
                    let named = named_on(&ports.named, &self.classes.pods[peer].named_ports);
                    if !named.is_empty() {
                        resolved.further.push((peer, self.sets.intern(named)));
                    }
                }
            }
        }
        resolved
    }

    /// Evaluates one tier of cluster-wide policies: each rule in order decides what no earlier rule
    /// did; Pass leaves it to the next tier.
    fn evaluate_tier(
        &mut self,
        policies: &[u32],
        scope: &RowScope,
        mut undecided: Vec<SetId>,
    ) -> TierResult {
        let mut accepted = vec![SetId::NONE; undecided.len()];
        let mut passed = vec![SetId::NONE; undecided.len()];
        for policy in policies {
            for index in 0..self.compiled[*policy as usize].rules.len() {
                let rule = &self.compiled[*policy as usize].rules[index];
                let action = rule.action;
                let peers = Rc::clone(&rule.peers[scope.family as usize]);
                let ports = self.resolve(&rule.ports.clone(), scope);
                let mut further = ports.further.into_iter().peekable();
                for peer in peers.iter() {
                    let own = further
                        .next_if(|(class, _)| *class == peer)
                        .map_or(SetId::NONE, |(_, set)| set);
                    let set = self.sets.union(ports.common, own);
                    let decided = self.sets.intersection(undecided[peer], set);
                    if decided == SetId::NONE {
                        continue;
                    }

                    undecided[peer] = self.sets.minus(undecided[peer], decided);
                    match action {
                        Action::Accept => {
                            accepted[peer] = self.sets.union(accepted[peer], decided);
                        }
                        Action::Pass => passed[peer] = self.sets.union(passed[peer], decided),
                        Action::Deny => {}
                    }
                }
            }
        }

        for (peer, set) in undecided.iter_mut().enumerate() {
            *set = self.sets.union(*set, passed[peer]);
        }
        TierResult {
            accepted,
            undecided,
        }
    }
}

impl CompiledRule {
    /// The index in its policy.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// The classes that the rule's peers match in a family.
    pub(super) fn peers(&self, family: Family) -> &Bits {
        &self.peers[family as usize]
    }

    /// The ports given by number.
    pub(super) fn set(&self) -> SetId {
        self.ports.set
    }

    /// Whether the rule has port names that apply: on ingress always, on egress to peers that
    /// labels select.
    pub(super) fn port_names_apply(&self, direction: Direction, peer: ClassIndex) -> bool {
        !self.ports.named.is_empty()
            && (direction == Direction::Ingress || self.ports.pods.contains(peer))
    }

    /// The ports that the rule's port names have on a pod that declares these.
    pub(super) fn named_on(&self, declared: &[ContainerPort]) -> PortSet {
        named_on(&self.ports.named, declared)
    }
}

/// The ports that names have on a pod that declares these.
fn named_on(named: &[(Option<Transport>, String)], declared: &[ContainerPort]) -> PortSet {
    named
        .iter()
        .fold(PortSet::none(), |set, (transport, name)| {
            set.union(&Ports::Named(*transport, name.clone()).on(declared))
        })
}

fn compile(
    policy: &DirectionalPolicy,
    classes: &EndpointClasses<'_>,
    sets: &mut PortSets,
    families_differ: bool,
) -> CompiledPolicy {
    let mut rules = Vec::new();
    for (index, rule) in policy.rules.iter().enumerate() {
        if let Some(rule) = rule.as_understood() {
            rules.push(compile_rule(index, &rule, classes, sets, families_differ));
        }
    }
    CompiledPolicy {
        tier: policy.tier,
        rules,
    }
}

fn compile_rule(
    index: usize,
    rule: &Rule,
    classes: &EndpointClasses<'_>,
    sets: &mut PortSets,
    families_differ: bool,
) -> CompiledRule {
    let v4 = Rc::new(matching_classes(rule, classes, Family::V4));
    let v6 = if families_differ {
        Rc::new(matching_classes(rule, classes, Family::V6))
    } else {
        Rc::clone(&v4)
    };

    let (set, named) = compile_ports(rule, sets);
    let pods = match &rule.peers {
        Some(peers) if !named.is_empty() => {
            let mut pods = Bits::none(classes.length());
            for peer in peers.iter().filter(|peer| matches!(peer, Peer::Pods(_))) {
                pods.add(&classes.peer(peer, Family::V4));
            }
            Rc::new(pods)
        }
        Some(_) | None => Rc::clone(&v4),
    };

    CompiledRule {
        index,
        action: rule.action,
        peers: [v4, v6],
        ports: RulePorts { set, named, pods },
    }
}

/// The classes that any peer of a rule matches.
fn matching_classes(rule: &Rule, classes: &EndpointClasses<'_>, family: Family) -> Bits {
    let Some(peers) = &rule.peers else {
        return Bits::all(classes.length());
    };
    let mut matching = Bits::none(classes.length());
    for peer in peers {
        matching.add(&classes.peer(peer, family));
    }
    matching
}

/// The ports of a rule that are given by number, and those given by name.
fn compile_ports(rule: &Rule, sets: &mut PortSets) -> (SetId, Vec<(Option<Transport>, String)>) {
    let Some(ports) = &rule.ports else {
        return (SetId::ALL, Vec::new());
    };
    let mut numbered = PortSet::none();
    let mut named = Vec::new();
    for port in ports {
        match port {
            Ports::Range(transport, first, last) => {
                numbered = numbered.union(&PortSet::range(*transport, *first, *last));
            }
            Ports::Named(transport, name) => named.push((*transport, name.clone())),
        }
    }
    (sets.intern(numbered), named)
}
