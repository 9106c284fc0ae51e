//! What policies allow, row by row: for each group of pods and direction, every port of everyone
//! else.
//!
//! # How the cost grows
//! A rule is a set of peers (bits) and a number for its set of ports. Rules with one set of ports
//! are joined by words of bits before any pair is looked at, groups to which the same policies
//! apply share a row, and sets of ports are joined once for each distinct pair of them. What is
//! left for each pair of groups is one look-up. A tier of cluster-wide policies, whose rules must
//! be gone through in order, is calculated once for all groups that it selects alike.

use super::bits::Bits;
use super::classes::{Entity, Universe};
use super::ports::{PortSet, PortSets, SetId};
use super::rules::{Direction, DirectionalPolicy, Peer, Ports, Rules};
use crate::inventory::{Action, ContainerPort, Inventory, PolicyTier};
use crate::model::{Family, Transport};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// For everyone of the universe, the ports that are open to or from one group.
pub(super) type Row = Rc<Vec<SetId>>;

/// Policies, ready for rows.
pub(super) struct Rows<'a> {
    pub(super) universe: Universe<'a>,
    pub(super) sets: PortSets,
    compiled: Vec<Compiled>,
    /// Per direction and group: the halves that apply to it, in the order in which they are asked.
    applying: HashMap<Direction, Vec<Vec<u32>>>,
    /// Rows that are known: by family, direction, the halves that apply and what the names of ports
    /// mean there.
    known: HashMap<RowKey, Row>,
    /// What tiers decide, by the halves of the tiers before and of their own: few tiers select many
    /// groups.
    known_tiers: HashMap<RowKey, Rc<Decided>>,
    /// Whether families must be told apart.
    families_differ: bool,
}

type RowKey = (Family, Direction, Vec<u32>, Vec<ContainerPort>);

/// What a tier makes of each peer's ports.
struct Decided {
    /// What it accepts.
    accepted: Vec<SetId>,
    /// What it leaves to the next tier.
    onward: Vec<SetId>,
}

/// A half of a policy.
struct Compiled {
    tier: PolicyTier,
    rules: Vec<CompiledRule>,
}

pub(super) struct CompiledRule {
    /// Its place in its policy, from 0. Rules that match nothing are left out.
    number: usize,
    action: Action,
    /// In IPv4 and in IPv6; one and the same where no block tells them apart.
    peers: [Rc<Bits>; 2],
    /// Ports by number.
    set: SetId,
    /// Ports by name.
    named: Vec<(Option<Transport>, String)>,
    /// Peers that are meant as pods: only of these do names count ("a named port on a pod",
    /// NetworkPolicyPort.port).
    pods: Rc<Bits>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(inventory: &'a Inventory, rules: &Rules) -> Self {
        let universe = Universe::of(inventory, rules);
        let mut sets = PortSets::new();
        let families_differ = universe.families_differ();
        let mut applying: HashMap<Direction, Vec<Vec<u32>>> = Direction::ALL
            .into_iter()
            .map(|direction| (direction, vec![Vec::new(); universe.groups.len()]))
            .collect();
        let mut compiled = Vec::new();
        for policy in rules.policies.iter().filter(|policy| policy.in_force) {
            let number = compiled.len() as u32;
            if let Some(groups) = applying.get_mut(&policy.direction) {
                universe
                    .subjects(policy)
                    .iter()
                    .for_each(|group| groups[group].push(number));
            }
            compiled.push(compile(policy, &universe, &mut sets, families_differ));
        }
        Self {
            universe,
            sets,
            compiled,
            applying,
            known: HashMap::new(),
            known_tiers: HashMap::new(),
            families_differ,
        }
    }

    /// The halves that apply to each group, by their numbers among those in force.
    pub(super) fn applying(&self, direction: Direction) -> &[Vec<u32>] {
        self.applying
            .get(&direction)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// The rules of a half that match anything.
    pub(super) fn rules(&self, policy: u32) -> impl Iterator<Item = &CompiledRule> {
        self.compiled[policy as usize].rules.iter()
    }

    /// Whether a family has answers of its own.
    pub(super) fn families(&self) -> &'static [Family] {
        if self.families_differ {
            &Family::ALL
        } else {
            &Family::ALL[..1]
        }
    }

    /// What is allowed between a group and everyone, as far as the policies of this group say. Node
    /// and outside entities have no policies: for them there is no row.
    pub(super) fn row(&mut self, family: Family, direction: Direction, group: Entity) -> Row {
        let family = if self.families_differ {
            family
        } else {
            Family::V4
        };
        let policies = self
            .applying
            .get(&direction)
            .map(|groups| groups[group].clone())
            .unwrap_or_default();
        // Names of ports are looked up at the destination: the group itself, or each peer.
        let named = match direction {
            Direction::Ingress => self.universe.groups[group].named.clone(),
            Direction::Egress => Vec::new(),
        };
        let key = (family, direction, policies, named);
        if let Some(row) = self.known.get(&key) {
            return Rc::clone(row);
        }
        let row = Rc::new(self.calculate(&key));
        self.known.insert(key, Rc::clone(&row));
        row
    }

    /// What one entity may send to another: what egress of the one and ingress of the other both
    /// allow ("For a connection from a source pod to a destination pod to be allowed, both the
    /// egress policy on the source pod and the ingress policy on the destination pod need to allow
    /// the connection", Kubernetes, "Network Policies").
    pub(super) fn allowed(&mut self, family: Family, from: Entity, to: Entity) -> SetId {
        let (egress, ingress) = self.sides(family, from, to);
        self.sets.intersection(egress, ingress)
    }

    /// What egress of the one and ingress of the other allow, each by itself.
    pub(super) fn sides(&mut self, family: Family, from: Entity, to: Entity) -> (SetId, SetId) {
        let groups = self.universe.groups.len();
        let egress = if from < groups {
            self.row(family, Direction::Egress, from)[to]
        } else {
            SetId::ALL
        };
        let ingress = if to < groups {
            self.row(family, Direction::Ingress, to)[from]
        } else {
            SetId::ALL
        };
        (egress, ingress)
    }

    /// Those of a tier.
    fn of_tier(&self, policies: &[u32], tier: PolicyTier) -> Vec<u32> {
        policies
            .iter()
            .copied()
            .filter(|policy| self.compiled[*policy as usize].tier == tier)
            .collect()
    }

    fn calculate(&mut self, key: &RowKey) -> Vec<SetId> {
        let (family, direction, policies, named) = key;
        let admin = self.of_tier(policies, PolicyTier::Admin);
        let network = self.of_tier(policies, PolicyTier::NetworkPolicy);
        let baseline = self.of_tier(policies, PolicyTier::Baseline);
        // The tiers in turn: Admin; then the NetworkPolicies, whose word is final for the pods that
        // they select; then Baseline; and what nobody has decided is allowed
        // (ClusterNetworkPolicySpec.tier).
        let everything = vec![SetId::ALL; self.universe.length()];
        let first = self.known_tier(&[], &admin, *family, *direction, named, &everything);
        let mut allowed = first.accepted.clone();
        if network.is_empty() {
            let last =
                self.known_tier(&admin, &baseline, *family, *direction, named, &first.onward);
            for (entity, set) in allowed.iter_mut().enumerate() {
                let late = self.sets.union(last.accepted[entity], last.onward[entity]);
                *set = self.sets.union(*set, late);
            }
        } else {
            let admitted = self.admitted(&network, *family, *direction, named);
            for (entity, set) in allowed.iter_mut().enumerate() {
                let admitted = self
                    .sets
                    .intersection(first.onward[entity], admitted[entity]);
                *set = self.sets.union(*set, admitted);
            }
        }
        allowed
    }

    /// A tier that is asked about what the tier before it has left. That is the same for all groups
    /// that both select alike, unless their rules have names of ports, which each subject reads in
    /// its own way.
    fn known_tier(
        &mut self,
        before: &[u32],
        policies: &[u32],
        family: Family,
        direction: Direction,
        own: &[ContainerPort],
        left: &[SetId],
    ) -> Rc<Decided> {
        if policies.is_empty() {
            return Rc::new(Decided {
                accepted: vec![SetId::NONE; left.len()],
                onward: left.to_vec(),
            });
        }
        let both = [before, policies].concat();
        let has_names = both
            .iter()
            .any(|policy| self.rules(*policy).any(|rule| !rule.named.is_empty()));
        let key = (
            family,
            direction,
            both,
            if has_names { own.to_vec() } else { Vec::new() },
        );
        if let Some(known) = self.known_tiers.get(&key) {
            return Rc::clone(known);
        }
        let decided = Rc::new(self.tier(policies, family, direction, own, left.to_vec()));
        self.known_tiers.insert(key, Rc::clone(&decided));
        decided
    }

    /// What the NetworkPolicies admit: the union of all their rules, in whatever order.
    fn admitted(
        &mut self,
        policies: &[u32],
        family: Family,
        direction: Direction,
        own: &[ContainerPort],
    ) -> Vec<SetId> {
        let length = self.universe.length();
        let mut by_set: BTreeMap<SetId, Bits> = BTreeMap::new();
        let mut single: Vec<(Entity, SetId)> = Vec::new();
        for policy in policies {
            for rule in 0..self.compiled[*policy as usize].rules.len() {
                let rule = &self.compiled[*policy as usize].rules[rule];
                let peers = Rc::clone(&rule.peers[family as usize]);
                let (set, named, pods) = (rule.set, rule.named.clone(), Rc::clone(&rule.pods));
                let (for_all, each) = self.resolve(set, &named, &pods, direction, own);
                if for_all != SetId::NONE {
                    by_set
                        .entry(for_all)
                        .or_insert_with(|| Bits::none(length))
                        .add(&peers);
                }
                single.extend(each);
            }
        }
        let mut row = vec![SetId::NONE; length];
        for (set, peers) in by_set {
            for peer in peers.iter() {
                row[peer] = self.sets.union(row[peer], set);
            }
        }
        for (peer, set) in single {
            row[peer] = self.sets.union(row[peer], set);
        }
        row
    }

    /// A rule's ports: those that are the same for all peers, and those that names add for some.
    fn resolve(
        &mut self,
        set: SetId,
        named: &[(Option<Transport>, String)],
        pods: &Bits,
        direction: Direction,
        own: &[ContainerPort],
    ) -> (SetId, Vec<(Entity, SetId)>) {
        if named.is_empty() {
            return (set, Vec::new());
        }
        match direction {
            Direction::Ingress => {
                let set_of_names = self.sets.intern(on(named, own));
                (self.sets.union(set, set_of_names), Vec::new())
            }
            Direction::Egress => {
                let mut each = Vec::new();
                let groups = self.universe.groups.len();
                for peer in pods.iter().take_while(|peer| *peer < groups) {
                    let set_of_names = on(named, &self.universe.groups[peer].named);
                    if !set_of_names.is_empty() {
                        each.push((peer, self.sets.intern(set_of_names)));
                    }
                }
                (set, each)
            }
        }
    }

    /// One tier of cluster-wide policies: what it accepts, and what it leaves to the next one. Each
    /// rule in turn decides what no rule before it has; Pass leaves the tier.
    fn tier(
        &mut self,
        policies: &[u32],
        family: Family,
        direction: Direction,
        own: &[ContainerPort],
        start: Vec<SetId>,
    ) -> Decided {
        let mut undecided = start;
        let mut accepted = vec![SetId::NONE; undecided.len()];
        let mut passed = vec![SetId::NONE; undecided.len()];
        for policy in policies {
            for rule in 0..self.compiled[*policy as usize].rules.len() {
                let rule = &self.compiled[*policy as usize].rules[rule];
                let (action, peers) = (rule.action, Rc::clone(&rule.peers[family as usize]));
                let (set, named, pods) = (rule.set, rule.named.clone(), Rc::clone(&rule.pods));
                let (for_all, each) = self.resolve(set, &named, &pods, direction, own);
                let mut each = each.into_iter().peekable();
                for peer in peers.iter() {
                    let more = each
                        .next_if(|(of, _)| *of == peer)
                        .map_or(SetId::NONE, |(_, set)| set);
                    let ports = self.sets.union(for_all, more);
                    let hit = self.sets.intersection(undecided[peer], ports);
                    if hit == SetId::NONE {
                        continue;
                    }
                    undecided[peer] = self.sets.minus(undecided[peer], hit);
                    match action {
                        Action::Accept => accepted[peer] = self.sets.union(accepted[peer], hit),
                        Action::Pass => passed[peer] = self.sets.union(passed[peer], hit),
                        Action::Deny => {}
                    }
                }
            }
        }
        for (peer, set) in undecided.iter_mut().enumerate() {
            *set = self.sets.union(*set, passed[peer]);
        }
        Decided {
            accepted,
            onward: undecided,
        }
    }
}

impl CompiledRule {
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Whom it means in a family.
    pub(super) fn peers(&self, family: Family) -> &Bits {
        &self.peers[family as usize]
    }

    /// Its ports by number.
    pub(super) fn set(&self) -> SetId {
        self.set
    }

    /// Whether its names of ports count: at the subject always, at a peer only if that is meant as
    /// a pod.
    pub(super) fn names_count(&self, direction: Direction, peer: Entity) -> bool {
        !self.named.is_empty() && (direction == Direction::Ingress || self.pods.contains(peer))
    }

    /// What its names of ports stand for on a pod that declares these.
    pub(super) fn on(&self, declared: &[ContainerPort]) -> PortSet {
        on(&self.named, declared)
    }
}

/// What names of ports stand for on a pod that declares these.
fn on(named: &[(Option<Transport>, String)], declared: &[ContainerPort]) -> PortSet {
    named
        .iter()
        .fold(PortSet::none(), |set, (transport, name)| {
            set.union(&Ports::Named(*transport, name.clone()).on(declared))
        })
}

fn compile(
    policy: &DirectionalPolicy,
    universe: &Universe<'_>,
    sets: &mut PortSets,
    families_differ: bool,
) -> Compiled {
    let mut rules = Vec::new();
    let understood = policy
        .rules
        .iter()
        .enumerate()
        .filter_map(|(number, rule)| Some((number, rule.as_understood()?)));
    for (number, rule) in understood {
        let peers = |family| match &rule.peers {
            None => Rc::new(Bits::all(universe.length())),
            Some(peers) => {
                let mut all = Bits::none(universe.length());
                for peer in peers {
                    all.add(&universe.peer(peer, family));
                }
                Rc::new(all)
            }
        };
        let v4 = peers(Family::V4);
        let v6 = if families_differ {
            peers(Family::V6)
        } else {
            Rc::clone(&v4)
        };
        let mut named = Vec::new();
        let set = match &rule.ports {
            None => SetId::ALL,
            Some(ports) => {
                let mut set = PortSet::none();
                for port in ports {
                    match port {
                        Ports::Range(transport, first, last) => {
                            set = set.union(&PortSet::range(*transport, *first, *last));
                        }
                        Ports::Named(transport, name) => named.push((*transport, name.clone())),
                    }
                }
                sets.intern(set)
            }
        };
        let pods = match &rule.peers {
            _ if named.is_empty() => Rc::clone(&v4),
            None => Rc::clone(&v4),
            Some(peers) => {
                let mut pods = Bits::none(universe.length());
                let by_labels = peers.iter().filter(|peer| matches!(peer, Peer::Pods(_)));
                by_labels.for_each(|peer| pods.add(&universe.peer(peer, Family::V4)));
                Rc::new(pods)
            }
        };
        rules.push(CompiledRule {
            number,
            action: rule.action,
            peers: [v4, v6],
            set,
            named,
            pods,
        });
    }
    Compiled {
        tier: policy.tier,
        rules,
    }
}
