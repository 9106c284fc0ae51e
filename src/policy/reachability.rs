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
    /// Whether results differ by family.
    families_differ: bool,
}

/// Rows that have been calculated, of some of the classes.
pub(super) struct Rows {
    columns: Columns,
    known: HashMap<RowKey, Row>,
    /// The results of tiers. Their key has the policies of the tiers before and of the tier itself.
    tiers: HashMap<RowKey, Rc<TierResult>>,
}

/// The classes that rows have an entry for.
enum Columns {
    /// All, of which there are so many.
    All(usize),
    /// These, ascending.
    Some(Vec<ClassIndex>),
}

/// What a rule's address blocks contain where that depends on addresses that are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum View {
    /// The addresses that the lab invented; none where there are none.
    Placed,
    /// Whatever allows least.
    Least,
    /// Whatever allows most.
    Most,
}

/// The ports between two classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// The ports that are allowed, whatever the addresses that are not known.
    pub(super) ports: SetId,
    /// The ports that are allowed or not, depending on such an address.
    pub(super) unknown: SetId,
}

impl Answer {
    pub(super) const NOTHING: Self = Self {
        ports: SetId::NONE,
        unknown: SetId::NONE,
    };
}

impl Rows {
    /// Rows of these classes.
    pub(super) fn of(mut classes: Vec<ClassIndex>) -> Self {
        classes.sort_unstable();
        classes.dedup();
        Self::with(Columns::Some(classes))
    }

    /// Rows of all classes.
    pub(super) fn of_all(classes: &EndpointClasses<'_>) -> Self {
        Self::with(Columns::All(classes.length()))
    }

    fn with(columns: Columns) -> Self {
        Self {
            columns,
            known: HashMap::new(),
            tiers: HashMap::new(),
        }
    }

    /// Forgets all rows where there are more than so many.
    pub(super) fn keep_at_most(&mut self, count: usize) {
        if self.known.len() > count {
            self.known.clear();
            self.tiers.clear();
        }
    }

    /// The place of a class in a row, if rows have one for it.
    pub(super) fn column(&self, class: ClassIndex) -> Option<usize> {
        match &self.columns {
            Columns::All(_) => Some(class),
            Columns::Some(classes) => classes.binary_search(&class).ok(),
        }
    }
}

impl Columns {
    fn length(&self) -> usize {
        match self {
            Self::All(length) => *length,
            Self::Some(classes) => classes.len(),
        }
    }

    /// The classes among these, with their places in a row.
    fn among<'c>(&'c self, these: &'c Bits) -> Box<dyn Iterator<Item = (usize, ClassIndex)> + 'c> {
        match self {
            Self::All(_) => Box::new(these.iter().map(|class| (class, class))),
            Self::Some(classes) => Box::new(
                classes
                    .iter()
                    .copied()
                    .enumerate()
                    .filter(|(_, class)| these.contains(*class)),
            ),
        }
    }
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
    view: View,
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
    /// Whether any rule depends on an address that is not known.
    is_unsure: bool,
    rules: Vec<CompiledRule>,
}

/// A rule with its peers as classes. Rules that match nothing have none.
pub(super) struct CompiledRule {
    /// The index in the policy.
    index: usize,
    action: Action,
    /// The matching classes in IPv4 and in IPv6; one set where families do not differ.
    peers: [Rc<Bits>; 2],
    /// The classes that match or not, depending on an address that is not known, by family.
    unsure: [Option<Rc<Bits>>; 2],
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
    /// Further ports of single peers, ascending, by their places in a row.
    further: Vec<(usize, SetId)>,
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
            families_differ,
        }
    }

    /// The views that results need: one of them stands for all where no address that matters is
    /// unknown.
    pub(super) fn views(&self) -> &'static [View] {
        if self.compiled.iter().any(|policy| policy.is_unsure) {
            &[View::Placed, View::Least, View::Most]
        } else {
            &[View::Placed]
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

    /// The ports between a class of pods and the classes of `rows` that the policies of these pods
    /// allow. Nodes and outside addresses have no policies, and no row.
    pub(super) fn row(
        &mut self,
        rows: &mut Rows,
        (view, family): (View, Family),
        direction: Direction,
        pods: ClassIndex,
    ) -> Row {
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
        let policies = self.selecting(direction)[pods].clone();
        let is_unsure = policies
            .iter()
            .any(|policy| self.compiled[*policy as usize].is_unsure);
        let key = RowKey {
            scope: RowScope {
                view: if is_unsure { view } else { View::Placed },
                family,
                direction,
                own_ports,
            },
            policies,
        };
        if let Some(row) = rows.known.get(&key) {
            return Rc::clone(row);
        }

        let row = Rc::new(self.calculate(rows, &key));
        rows.known.insert(key, Rc::clone(&row));
        row
    }

    /// The ports between two classes that both sides allow ("For a connection from a source pod to
    /// a destination pod to be allowed, both the egress policy on the source pod and the ingress
    /// policy on the destination pod need to allow the connection", Kubernetes, "Network
    /// Policies").
    pub(super) fn allowed(
        &mut self,
        rows: &mut Rows,
        scope: (View, Family),
        from: ClassIndex,
        to: ClassIndex,
    ) -> SetId {
        let (egress, ingress) = self.sides(rows, scope, from, to);
        self.sets.intersection(egress, ingress)
    }

    /// One answer from those of all [views](Self::views).
    pub(super) fn answer(&mut self, by_view: &[SetId]) -> Answer {
        let Some((first, others)) = by_view.split_first() else {
            return Answer::NOTHING;
        };
        let (mut ports, mut possible) = (*first, *first);
        for other in others {
            ports = self.sets.intersection(ports, *other);
            possible = self.sets.union(possible, *other);
        }
        Answer {
            ports,
            unknown: self.sets.minus(possible, ports),
        }
    }

    /// The ports that egress of the source allows, and those that ingress of the destination
    /// allows; `rows` are of all classes.
    pub(super) fn sides(
        &mut self,
        rows: &mut Rows,
        scope: (View, Family),
        from: ClassIndex,
        to: ClassIndex,
    ) -> (SetId, SetId) {
        let pod_classes = self.classes.pods.len();
        let egress = if from < pod_classes {
            self.row(rows, scope, Direction::Egress, from)[to]
        } else {
            SetId::ALL
        };
        let ingress = if to < pod_classes {
            self.row(rows, scope, Direction::Ingress, to)[from]
        } else {
            SetId::ALL
        };
        (egress, ingress)
    }

    /// A row: first Admin decides; then the NetworkPolicies, which decide everything for the pods
    /// that they select; then Baseline. What no tier decides is allowed
    /// (ClusterNetworkPolicySpec.tier).
    fn calculate(&mut self, rows: &mut Rows, key: &RowKey) -> Vec<SetId> {
        let scope = &key.scope;
        let admin = self.of_tier(&key.policies, PolicyTier::Admin);
        let network = self.of_tier(&key.policies, PolicyTier::NetworkPolicy);
        let baseline = self.of_tier(&key.policies, PolicyTier::Baseline);

        let everything = vec![SetId::ALL; rows.columns.length()];
        let first = self.tier(rows, (&[], &admin), scope, &everything);
        let mut allowed = first.accepted.clone();
        if network.is_empty() {
            let last = self.tier(rows, (&admin, &baseline), scope, &first.undecided);
            for (class, set) in allowed.iter_mut().enumerate() {
                let later = self.sets.union(last.accepted[class], last.undecided[class]);
                *set = self.sets.union(*set, later);
            }
        } else {
            let admitted = self.admitted(&rows.columns, &network, scope);
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
        rows: &mut Rows,
        (policies_before, policies): (&[u32], &[u32]),
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
        if let Some(result) = rows.tiers.get(&key) {
            return Rc::clone(result);
        }

        let undecided = undecided.to_vec();
        let result = Rc::new(self.evaluate_tier(&rows.columns, policies, scope, undecided));
        rows.tiers.insert(key, Rc::clone(&result));
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
    fn admitted(&mut self, columns: &Columns, policies: &[u32], scope: &RowScope) -> Vec<SetId> {
        let length = self.classes.length();
        let mut peers_by_ports: BTreeMap<SetId, Bits> = BTreeMap::new();
        let mut further: Vec<(usize, SetId)> = Vec::new();
        for policy in policies {
            for index in 0..self.compiled[*policy as usize].rules.len() {
                let rule = &self.compiled[*policy as usize].rules[index];
                let peers = rule.peers_in(scope);
                let ports = self.resolve(columns, &rule.ports.clone(), scope);
                if ports.common != SetId::NONE {
                    peers_by_ports
                        .entry(ports.common)
                        .or_insert_with(|| Bits::none(length))
                        .add(&peers);
                }
                further.extend(ports.further);
            }
        }

        let mut row = vec![SetId::NONE; columns.length()];
        for (set, peers) in peers_by_ports {
            for (column, _) in columns.among(&peers) {
                row[column] = self.sets.union(row[column], set);
            }
        }
        for (column, set) in further {
            row[column] = self.sets.union(row[column], set);
        }
        row
    }

    /// Looks up the port names of a rule at the destination.
    fn resolve(&mut self, columns: &Columns, ports: &RulePorts, scope: &RowScope) -> ResolvedPorts {
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
                let of_pods = columns.among(&ports.pods);
                for (column, peer) in of_pods.take_while(|(_, peer)| *peer < pod_classes) {
                    let named = named_on(&ports.named, &self.classes.pods[peer].named_ports);
                    if !named.is_empty() {
                        resolved.further.push((column, self.sets.intern(named)));
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
        columns: &Columns,
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
                let peers = rule.peers_in(scope);
                let ports = self.resolve(columns, &rule.ports.clone(), scope);
                let mut further = ports.further.into_iter().peekable();
                for (peer, _) in columns.among(&peers) {
                    let own = further
                        .next_if(|(column, _)| *column == peer)
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
    /// Whether any peer depends on an address that is not known.
    fn is_unsure(&self) -> bool {
        self.unsure.iter().any(Option::is_some)
    }

    /// The classes that the rule's peers match in a scope: of those that depend on addresses that
    /// are not known, the ones with which the least or the most is allowed. A Pass leaves the answer
    /// to the next tier, which may be either; here it counts as allowing.
    fn peers_in(&self, scope: &RowScope) -> Rc<Bits> {
        let family = scope.family as usize;
        let Some(unsure) = &self.unsure[family] else {
            return Rc::clone(&self.peers[family]);
        };
        let matches_unsure = match (scope.view, self.action) {
            (View::Placed, _) => return Rc::clone(&self.peers[family]),
            (View::Least, Action::Deny) | (View::Most, Action::Accept | Action::Pass) => true,
            (View::Least, Action::Accept | Action::Pass) | (View::Most, Action::Deny) => false,
        };

        let mut peers = Bits::clone(&self.peers[family]);
        if matches_unsure {
            peers.add(unsure);
        } else {
            peers.remove(unsure);
        }
        Rc::new(peers)
    }

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
        is_unsure: rules.iter().any(CompiledRule::is_unsure),
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
        unsure: Family::ALL.map(|family| unsure_classes(rule, classes, family).map(Rc::new)),
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

/// The classes that a rule matches or not, depending on addresses that are not known.
fn unsure_classes(rule: &Rule, classes: &EndpointClasses<'_>, family: Family) -> Option<Bits> {
    let peers = rule.peers.as_deref()?;
    let mut unsure: Option<Bits> = None;
    for of_peer in peers.iter().filter_map(|peer| classes.unsure(peer, family)) {
        unsure
            .get_or_insert_with(|| Bits::none(classes.length()))
            .add(of_peer);
    }

    // A class that another peer matches for certain depends on nothing.
    let mut unsure = unsure?;
    for peer in peers {
        let mut certain = classes.peer(peer, family);
        if let Some(of_peer) = classes.unsure(peer, family) {
            certain.remove(of_peer);
        }
        unsure.remove(&certain);
    }
    (!unsure.is_empty()).then_some(unsure)
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
