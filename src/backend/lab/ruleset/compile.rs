//! From resolved policies to the rules of one node.

use super::ir::{
    Base, COMMENT_BYTES, Chain, Counter, Counts, Deny, Direction, Elements, Hook, Match, NodeRuleset, Note, Rule, Set,
    Side, Statement, VerdictMap, deny_name, digit, map_name,
};
use super::pods::{Index, PodId};
use super::ranges::Ranges;
use super::resolve::{Allowed, Half, Peers, PortMatch, Ports};
use crate::model::{Family, Transport};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

/// The priority of packet filters (`NF_IP_PRI_FILTER`): after the translation of destinations, so that rules
/// see the pod behind a Service.
const FILTER: i32 = 0;

/// Compiles the rules for the pods of one node.
pub(super) fn compile(index: &Index<'_>, halves: &[Half], node: &str, deny: Deny) -> NodeRuleset {
    let local = index.all().filter(|id| index.pod(*id).node == node).collect();
    let mut node = Node { index, deny, local, rules: NodeRuleset::default(), address_sets: HashMap::new() };
    for direction in [Direction::Egress, Direction::Ingress] {
        node.direction(halves, direction);
    }
    node.base_chain("egress", Hook::Forward, FILTER, Direction::Egress);
    node.base_chain("egress_to_node", Hook::Input, FILTER, Direction::Egress);
    // After egress: an accept there goes on to this chain.
    node.base_chain("ingress", Hook::Forward, FILTER + 1, Direction::Ingress);
    node.rules
}

/// One node's rules in the making.
struct Node<'a> {
    index: &'a Index<'a>,
    deny: Deny,
    /// The pods that run here.
    local: BTreeSet<PodId>,
    rules: NodeRuleset,
    /// Sets by what is in them, so that rules with the same peers share one.
    address_sets: HashMap<(Family, Rc<Ranges>), String>,
}

impl Node<'_> {
    fn direction(&mut self, halves: &[Half], direction: Direction) {
        // Which halves isolate each pod of this node: the pod's group.
        let mut groups: BTreeMap<PodId, Vec<usize>> = BTreeMap::new();
        for (number, half) in halves.iter().enumerate().filter(|(_, half)| half.direction == direction) {
            let here: Vec<PodId> = half.subjects.pods.iter().copied().filter(|id| self.local.contains(id)).collect();
            if here.is_empty() {
                continue;
            }
            self.policy_chain(half, number, &here);
            for id in here {
                groups.entry(id).or_default().push(number);
            }
        }
        let mut members: BTreeMap<Vec<usize>, Vec<PodId>> = BTreeMap::new();
        for (id, group) in groups {
            members.entry(group).or_default().push(id);
        }
        let mut maps =
            Family::ALL.map(|family| VerdictMap { name: map_name(direction, family), family, elements: Vec::new() });
        for (number, (group, pods)) in members.into_iter().enumerate() {
            let chain = format!("{direction}_g{number}");
            self.group_chain(&chain, halves, &group, direction);
            for map in &mut maps {
                let addresses = pods.iter().filter_map(|id| self.index.pod(*id).address(map.family));
                map.elements.extend(addresses.map(|address| (address, chain.clone())));
            }
        }
        for map in &mut maps {
            map.elements.sort();
        }
        self.rules.maps.extend(maps);
    }

    /// A group's chain: every policy in turn, then the deny.
    fn group_chain(&mut self, name: &str, halves: &[Half], group: &[usize], direction: Direction) {
        let policies = group.iter().map(|number| halves[*number].policy.as_str()).collect::<Vec<_>>().join(", ");
        let policies = format!("{policies} {direction}");
        let counter = deny_name(name);
        let jumps = group.iter().filter(|number| !halves[**number].rules.is_empty());
        let mut rules: Vec<Rule> = jumps
            .map(|number| Rule {
                matches: Vec::new(),
                statements: vec![Statement::Jump(policy_chain(direction, *number))],
            })
            .collect();
        rules.push(Rule { matches: Vec::new(), statements: vec![Statement::Count(counter.clone())] });
        rules.push(Rule { matches: Vec::new(), statements: vec![Statement::RecordDeny(direction)] });
        if self.deny == Deny::RejectTcpReset {
            rules.push(Rule {
                matches: vec![Match::Transport(Transport::Tcp)],
                statements: vec![Statement::Deny(Deny::RejectTcpReset)],
            });
        }
        // Only TCP has a reset; the rest is refused the other way.
        let rest = if self.deny == Deny::Drop { Deny::Drop } else { Deny::RejectIcmpAdmin };
        rules.push(Rule { matches: Vec::new(), statements: vec![Statement::Deny(rest)] });
        self.rules.chains.push(Chain { name: name.to_owned(), base: None, rules });
        self.rules.counters.push(Counter {
            name: counter,
            comment: comment(&policies),
            counts: Counts::Denied { policies },
        });
    }

    /// A policy's chain, shared by every group that it selects; it comes back when nothing matched.
    fn policy_chain(&mut self, half: &Half, number: usize, here: &[PodId]) {
        self.rules.notes.extend(half.notes.iter().cloned());
        if half.rules.is_empty() {
            return;
        }
        let mut rules = Vec::new();
        for (rule, allowed) in half.rules.iter().enumerate() {
            let policy = half.title();
            let counter = format!("allow_{}_p{number}_r{rule}", half.direction);
            let matches = self.allowed(half, allowed, here);
            rules.extend(matches.into_iter().map(|matches| Rule {
                matches,
                statements: vec![Statement::Count(counter.clone()), Statement::Accept],
            }));
            let comment = comment(&format!("{policy} rule {rule}"));
            self.rules.counters.push(Counter { name: counter, comment, counts: Counts::Allowed { policy, rule } });
        }
        self.rules.chains.push(Chain { name: policy_chain(half.direction, number), base: None, rules });
    }

    /// The alternatives in which a rule matches: each a list of conditions that must hold together.
    fn allowed(&mut self, half: &Half, allowed: &Allowed, here: &[PodId]) -> Vec<Vec<Match>> {
        let peers = self.peers(&allowed.peers, half.direction);
        let ports = match &allowed.ports {
            Ports::All => return peers.into_iter().map(|(_, matches)| matches).collect(),
            Ports::Some(ports) => ports,
        };
        let mut alternatives = Vec::new();
        for port in ports {
            match port {
                PortMatch::Transport(transport) => {
                    alternatives.extend(with(&peers, &Match::Transport(*transport)));
                }
                PortMatch::Range(transport, first, last) => {
                    let port = Match::Port { transport: *transport, first: *first, last: *last };
                    alternatives.extend(with(&peers, &port));
                }
                PortMatch::Named(transport, name) => {
                    alternatives.extend(self.named(half, allowed, here, &peers, *transport, name));
                }
            }
        }
        alternatives
    }

    /// A port's name stands for what the destination pod declares: the subject of an ingress rule, the peer of
    /// an egress rule. It may be another number on each.
    fn named(
        &mut self,
        half: &Half,
        allowed: &Allowed,
        here: &[PodId],
        peers: &[(Option<Family>, Vec<Match>)],
        transport: Transport,
        name: &str,
    ) -> Vec<Vec<Match>> {
        let destinations: Vec<PodId> = match (half.direction, &allowed.peers) {
            (Direction::Ingress, _) => here.to_vec(),
            (Direction::Egress, Peers::Some { pods, .. }) => pods.clone(),
            (Direction::Egress, Peers::Anyone) => self.index.all().collect(),
        };
        let mut alternatives = Vec::new();
        let mut known = false;
        for family in Family::ALL {
            let mut pairs: Vec<(IpAddr, u16)> = destinations
                .iter()
                .map(|id| self.index.pod(*id))
                .filter_map(|pod| Some((pod.address(family)?, pod.named_port(name, transport)?.number())))
                .collect();
            if pairs.is_empty() {
                continue;
            }
            known = true;
            pairs.sort_unstable();
            pairs.dedup();
            let set = self.add_set('n', family, Elements::Ports(pairs));
            let port = Match::AddressPort { family, transport, set };
            match half.direction {
                Direction::Ingress => {
                    let peers = peers.iter().filter(|(of, _)| of.is_none_or(|of| of == family));
                    alternatives
                        .extend(peers.map(|(_, matches)| matches.iter().cloned().chain([port.clone()]).collect()));
                }
                // The pairs hold the peers' own addresses.
                Direction::Egress => alternatives.push(vec![port]),
            }
        }
        if !known {
            let note = Note::UnknownPortName { policy: half.title(), name: name.to_owned() };
            if !self.rules.notes.contains(&note) {
                self.rules.notes.push(note);
            }
        }
        alternatives
    }

    /// Conditions on the other end, one alternative a family; none where nobody matches.
    fn peers(&mut self, peers: &Peers, direction: Direction) -> Vec<(Option<Family>, Vec<Match>)> {
        let (v4, v6) = match peers {
            Peers::Anyone => return vec![(None, Vec::new())],
            Peers::Some { v4, v6, .. } => (v4, v6),
        };
        let side = match direction {
            Direction::Ingress => Side::Source,
            Direction::Egress => Side::Destination,
        };
        let mut alternatives = Vec::new();
        for (family, ranges) in [(Family::V4, v4), (Family::V6, v6)] {
            if ranges.is_everything() {
                alternatives.push((Some(family), vec![Match::Family(family)]));
            } else if !ranges.is_empty() {
                let set = self.address_set(family, ranges);
                alternatives.push((Some(family), vec![Match::Address { family, side, set }]));
            }
        }
        alternatives
    }

    fn address_set(&mut self, family: Family, ranges: &Rc<Ranges>) -> String {
        if let Some(name) = self.address_sets.get(&(family, Rc::clone(ranges))) {
            return name.clone();
        }
        let name = self.add_set('a', family, Elements::Ranges(ranges.as_slice().to_vec()));
        self.address_sets.insert((family, Rc::clone(ranges)), name.clone());
        name
    }

    fn add_set(&mut self, letter: char, family: Family, elements: Elements) -> String {
        let name = format!("{letter}{}_{}", digit(family), self.rules.sets.len());
        self.rules.sets.push(Set { name: name.clone(), family, elements });
        name
    }

    fn base_chain(&mut self, name: &str, hook: Hook, priority: i32, direction: Direction) {
        let accept = |matches: Match| Rule { matches: vec![matches], statements: vec![Statement::Accept] };
        let side = match direction {
            Direction::Ingress => Side::Destination,
            Direction::Egress => Side::Source,
        };
        let dispatch = |family| Rule {
            matches: Vec::new(),
            statements: vec![Statement::Dispatch { family, side, map: map_name(direction, family) }],
        };
        let rules = [accept(Match::EstablishedOrRelated), accept(Match::NeighbourDiscovery)]
            .into_iter()
            .chain(Family::ALL.map(dispatch))
            .collect();
        self.rules.chains.push(Chain { name: name.to_owned(), base: Some(Base { hook, priority }), rules });
    }
}

/// The name of a policy's chain.
fn policy_chain(direction: Direction, number: usize) -> String {
    format!("{direction}_p{number}")
}

/// Each alternative of the peers, with one more condition.
fn with(peers: &[(Option<Family>, Vec<Match>)], port: &Match) -> Vec<Vec<Match>> {
    peers.iter().map(|(_, matches)| matches.iter().cloned().chain([port.clone()]).collect()).collect()
}

/// A comment, cut where it is too long; names are ASCII, the cut falls on a character in any case.
fn comment(text: &str) -> String {
    const CUT: &str = "...";
    if text.len() <= COMMENT_BYTES {
        return text.to_owned();
    }
    let end = (0..=COMMENT_BYTES - CUT.len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}{CUT}", &text[..end])
}
