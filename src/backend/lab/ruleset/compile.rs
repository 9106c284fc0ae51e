//! From resolved policies to the rules of one node.

use super::direction::Half;
use super::ir::{
    Base, COMMENT_BYTES, Chain, Counter, Counts, Deny, Direction, Hook, Match, NodeRuleset, Rule,
    Side, Statement, VerdictMap, map_name,
};
use super::pods::{Index, PodId};
use super::ranges::Ranges;
use crate::inventory::{Action, PolicyTier};
use crate::model::{Family, Transport};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// The priority of packet filters (`NF_IP_PRI_FILTER`): after the translation of destinations, so
/// that rules see the pod behind a Service.
const FILTER: i32 = 0;

/// Compiles the rules for the pods of one node.
pub(super) fn compile(index: &Index<'_>, halves: &[Half], node: &str, deny: Deny) -> NodeRuleset {
    let local = index
        .all()
        .filter(|id| index.pod(*id).node == node)
        .collect();
    let mut node = Node {
        index,
        deny,
        local,
        rules: NodeRuleset::default(),
        address_sets: HashMap::new(),
    };
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
pub(super) struct Node<'a> {
    pub(super) index: &'a Index<'a>,
    deny: Deny,
    /// The pods that run here.
    local: BTreeSet<PodId>,
    pub(super) rules: NodeRuleset,
    /// Sets by what is in them, so that rules with the same peers share one.
    pub(super) address_sets: HashMap<(Family, Rc<Ranges>), String>,
}

/// The halves that are about a pod, by stage, in the order in which they are asked: pods with the
/// same are a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    admin: Vec<usize>,
    namespaced: Vec<usize>,
    baseline: Vec<usize>,
}

impl Asked {
    fn of(&mut self, tier: PolicyTier) -> &mut Vec<usize> {
        match tier {
            PolicyTier::Admin => &mut self.admin,
            PolicyTier::NetworkPolicy => &mut self.namespaced,
            PolicyTier::Baseline => &mut self.baseline,
        }
    }

    /// Of a pod that a NetworkPolicy isolates the NetworkPolicies' word is final.
    fn without_what_is_never_asked(mut self) -> Self {
        if !self.namespaced.is_empty() {
            self.baseline.clear();
        }
        self
    }
}

impl Node<'_> {
    fn direction(&mut self, halves: &[Half], direction: Direction) {
        let mut asked: BTreeMap<PodId, Asked> = BTreeMap::new();
        let mut present: Vec<(usize, Vec<PodId>)> = Vec::new();
        for (number, half) in halves
            .iter()
            .enumerate()
            .filter(|(_, half)| half.direction == direction)
        {
            let here: Vec<PodId> = half
                .subjects
                .pods
                .iter()
                .copied()
                .filter(|id| self.local.contains(id))
                .collect();
            for id in &here {
                asked.entry(*id).or_default().of(half.tier).push(number);
            }
            if !here.is_empty() {
                present.push((number, here));
            }
        }
        if !present.is_empty() {
            self.deny_chain(direction);
        }
        let mut tier_rules: BTreeMap<usize, Vec<Rule>> = BTreeMap::new();
        for (number, here) in present {
            let half = &halves[number];
            self.rules.notes.extend(half.notes.iter().cloned());
            match half.tier {
                PolicyTier::NetworkPolicy => self.policy_chain(half, number, &here),
                PolicyTier::Admin | PolicyTier::Baseline => {
                    drop(tier_rules.insert(number, self.tier_rules(half, number, &here)))
                }
            }
        }
        let mut members: BTreeMap<Asked, Vec<PodId>> = BTreeMap::new();
        for (id, asked) in asked {
            members
                .entry(asked.without_what_is_never_asked())
                .or_default()
                .push(id);
        }
        let tiers: BTreeSet<&Vec<usize>> = members
            .keys()
            .flat_map(|asked| [&asked.admin, &asked.baseline])
            .filter(|tier| !tier.is_empty())
            .collect();
        let tiers: BTreeMap<Vec<usize>, String> = (0..)
            .zip(tiers)
            .map(|(number, tier)| {
                (
                    tier.clone(),
                    self.tier_chain(direction, number, tier, &tier_rules),
                )
            })
            .collect();
        let mut maps = Family::ALL.map(|family| VerdictMap {
            name: map_name(direction, family),
            family,
            elements: Vec::new(),
        });
        for (number, (asked, pods)) in members.into_iter().enumerate() {
            let chain = format!("{direction}_g{number}");
            self.group_chain(&chain, halves, &asked, &tiers, direction);
            for map in &mut maps {
                let addresses = pods
                    .iter()
                    .filter_map(|id| self.index.pod(*id).address(map.family));
                map.elements
                    .extend(addresses.map(|address| (address, chain.clone())));
            }
        }
        for map in &mut maps {
            map.elements.sort();
        }
        self.rules.maps.extend(maps);
    }

    /// A group's chain: the Admin tier; then every NetworkPolicy in turn, whose silence is a deny;
    /// or, where there is none, the Baseline tier, whose silence is not.
    fn group_chain(
        &mut self,
        name: &str,
        halves: &[Half],
        asked: &Asked,
        tiers: &BTreeMap<Vec<usize>, String>,
        direction: Direction,
    ) {
        let jump = |to: String| Rule {
            matches: Vec::new(),
            statements: vec![Statement::Jump(to)],
        };
        let tier = |tier: &Vec<usize>| tiers.get(tier).cloned().map(jump);
        let mut rules: Vec<Rule> = tier(&asked.admin).into_iter().collect();
        if asked.namespaced.is_empty() {
            rules.extend(tier(&asked.baseline));
        } else {
            let policies = asked
                .namespaced
                .iter()
                .map(|number| halves[*number].policy.as_str());
            let policies = format!("{} {direction}", policies.collect::<Vec<_>>().join(", "));
            let with_rules = asked
                .namespaced
                .iter()
                .filter(|number| !halves[**number].rules.is_empty());
            rules.extend(with_rules.map(|number| jump(policy_chain(direction, *number))));
            let counter = format!("deny_{name}");
            rules.push(Rule {
                matches: Vec::new(),
                statements: vec![
                    Statement::Count(counter.clone()),
                    Statement::Jump(deny_chain(direction)),
                ],
            });
            self.counter(counter, Counts::Denied { policies });
        }
        self.rules.chains.push(Chain {
            name: name.to_owned(),
            base: None,
            rules,
        });
    }

    /// Where denied packets end: recorded, then refused in the chosen way.
    fn deny_chain(&mut self, direction: Direction) {
        let mut rules = vec![Rule {
            matches: Vec::new(),
            statements: vec![Statement::RecordDeny(direction)],
        }];
        if self.deny == Deny::RejectTcpReset {
            rules.push(Rule {
                matches: vec![Match::Transport(Transport::Tcp)],
                statements: vec![Statement::Deny(Deny::RejectTcpReset)],
            });
        }
        // Only TCP has a reset; the rest is refused the other way.
        let rest = if self.deny == Deny::Drop {
            Deny::Drop
        } else {
            Deny::RejectIcmpAdmin
        };
        rules.push(Rule {
            matches: Vec::new(),
            statements: vec![Statement::Deny(rest)],
        });
        self.rules.chains.push(Chain {
            name: deny_chain(direction),
            base: None,
            rules,
        });
    }

    /// A NetworkPolicy's chain, shared by every group that it selects; it comes back when nothing
    /// matched.
    fn policy_chain(&mut self, half: &Half, number: usize, here: &[PodId]) {
        if half.rules.is_empty() {
            return;
        }
        let mut rules = Vec::new();
        for (rule, allowed) in half.rules.iter().enumerate() {
            let counter = format!("allow_{}_p{number}_r{rule}", half.direction);
            rules.extend(
                self.conditions(half, allowed, here)
                    .into_iter()
                    .map(|matches| Rule {
                        matches,
                        statements: vec![Statement::Count(counter.clone()), Statement::Accept],
                    }),
            );
            self.counter(
                counter,
                Counts::Allowed {
                    policy: half.title(),
                    rule,
                },
            );
        }
        self.rules.chains.push(Chain {
            name: policy_chain(half.direction, number),
            base: None,
            rules,
        });
    }

    /// The rules of a cluster-wide policy in order: the first that matches decides.
    fn tier_rules(&mut self, half: &Half, number: usize, here: &[PodId]) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (rule, resolved) in half.rules.iter().enumerate() {
            let policy = half.title();
            let (word, counts, verdict) = match resolved.action {
                Action::Accept => ("allow", Counts::Allowed { policy, rule }, Statement::Accept),
                Action::Deny => (
                    "deny",
                    Counts::DeniedByRule { policy, rule },
                    Statement::Jump(deny_chain(half.direction)),
                ),
                // It leaves the chain, and that is the tier.
                Action::Pass => ("pass", Counts::Passed { policy, rule }, Statement::Return),
            };
            let counter = format!("{word}_{}_p{number}_r{rule}", half.direction);
            rules.extend(
                self.conditions(half, resolved, here)
                    .into_iter()
                    .map(|matches| Rule {
                        matches,
                        statements: vec![Statement::Count(counter.clone()), verdict.clone()],
                    }),
            );
            self.counter(counter, counts);
        }
        rules
    }

    /// A tier as some pods see it: the rules of all policies that select them, one after the other.
    /// It comes back when no rule matched, or one that passes did.
    fn tier_chain(
        &mut self,
        direction: Direction,
        number: usize,
        tier: &[usize],
        rules: &BTreeMap<usize, Vec<Rule>>,
    ) -> String {
        let name = format!("{direction}_t{number}");
        let rules = tier
            .iter()
            .filter_map(|half| rules.get(half))
            .flatten()
            .cloned()
            .collect();
        self.rules.chains.push(Chain {
            name: name.clone(),
            base: None,
            rules,
        });
        name
    }

    fn counter(&mut self, name: String, counts: Counts) {
        self.rules.counters.push(Counter {
            name,
            comment: comment(&counts.to_string()),
            counts,
        });
    }

    fn base_chain(&mut self, name: &str, hook: Hook, priority: i32, direction: Direction) {
        let accept = |matches: Match| Rule {
            matches: vec![matches],
            statements: vec![Statement::Accept],
        };
        let side = match direction {
            Direction::Ingress => Side::Destination,
            Direction::Egress => Side::Source,
        };
        let dispatch = |family| Rule {
            matches: Vec::new(),
            statements: vec![Statement::Dispatch {
                family,
                side,
                map: map_name(direction, family),
            }],
        };
        let rules = [
            accept(Match::EstablishedOrRelated),
            accept(Match::NeighbourDiscovery),
        ]
        .into_iter()
        .chain(Family::ALL.map(dispatch))
        .collect();
        self.rules.chains.push(Chain {
            name: name.to_owned(),
            base: Some(Base { hook, priority }),
            rules,
        });
    }
}

/// The name of the chain in which denied packets end.
fn deny_chain(direction: Direction) -> String {
    format!("{direction}_deny")
}

/// The name of a NetworkPolicy's chain.
fn policy_chain(direction: Direction, number: usize) -> String {
    format!("{direction}_p{number}")
}

/// A comment, cut where it is too long; names are ASCII, the cut falls on a character in any case.
fn comment(text: &str) -> String {
    const CUT: &str = "...";
    if text.len() <= COMMENT_BYTES {
        return text.to_owned();
    }
    let end = (0..=COMMENT_BYTES - CUT.len())
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or_default();
    format!("{}{CUT}", &text[..end])
}
