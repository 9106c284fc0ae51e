//! Compiles resolved policies to the rules of one node.

use super::direction::DirectionalPolicy;
use super::ir::{
    Base, COMMENT_BYTES, Chain, Counter, Counts, Deny, Direction, Hook, Match, NodeRuleset, Rule,
    Side, Statement, VerdictMap, map_name,
};
use super::pods::{PodId, PodIndex};
use super::ranges::Ranges;
use crate::inventory::{Action, PolicyTier};
use crate::model::{Family, Transport};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// The priority of packet filters (`NF_IP_PRI_FILTER`): after destination translation, so that
/// rules match the pod behind a Service.
const FILTER: i32 = 0;

/// Compiles the rules for the pods of one node.
pub(super) fn compile(
    index: &PodIndex<'_>,
    policies: &[DirectionalPolicy],
    node: &str,
    deny: Deny,
) -> NodeRuleset {
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
        node.add_direction(policies, direction);
    }
    node.add_base_chain("egress", Hook::Forward, FILTER, Direction::Egress);
    node.add_base_chain("egress_to_node", Hook::Input, FILTER, Direction::Egress);
    // After egress: a packet accepted there continues here.
    node.add_base_chain("ingress", Hook::Forward, FILTER + 1, Direction::Ingress);
    node.rules
}

/// The compilation of one node's rules.
pub(super) struct Node<'a> {
    pub(super) index: &'a PodIndex<'a>,
    deny: Deny,
    /// The pods on this node.
    local: BTreeSet<PodId>,
    pub(super) rules: NodeRuleset,
    /// Names of sets by their elements, so that rules with the same peers share a set.
    pub(super) address_sets: HashMap<(Family, Rc<Ranges>), String>,
}

/// Indexes of the policies that select a pod, by tier, in the order of evaluation. Pods with the
/// same policies are a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct SelectingPolicies {
    admin: Vec<usize>,
    namespaced: Vec<usize>,
    baseline: Vec<usize>,
}

impl SelectingPolicies {
    fn tier_mut(&mut self, tier: PolicyTier) -> &mut Vec<usize> {
        match tier {
            PolicyTier::Admin => &mut self.admin,
            PolicyTier::NetworkPolicy => &mut self.namespaced,
            PolicyTier::Baseline => &mut self.baseline,
        }
    }

    /// Removes the Baseline tier of an isolated pod: it is never evaluated after a NetworkPolicy.
    fn without_unreachable_tier(mut self) -> Self {
        if !self.namespaced.is_empty() {
            self.baseline.clear();
        }
        self
    }
}

impl Node<'_> {
    /// Adds all chains, maps and counters of one direction, except the base chains.
    fn add_direction(&mut self, policies: &[DirectionalPolicy], direction: Direction) {
        let mut selecting: BTreeMap<PodId, SelectingPolicies> = BTreeMap::new();
        let mut local_subjects: Vec<(usize, Vec<PodId>)> = Vec::new();
        for (number, policy) in policies.iter().enumerate() {
            if policy.direction != direction {
                continue;
            }
            let subjects: Vec<PodId> = policy
                .subjects
                .pods
                .iter()
                .copied()
                .filter(|id| self.local.contains(id))
                .collect();
            for id in &subjects {
                let selecting = selecting.entry(*id).or_default();
                selecting.tier_mut(policy.tier).push(number);
            }
            if !subjects.is_empty() {
                local_subjects.push((number, subjects));
            }
        }

        if !local_subjects.is_empty() {
            self.add_deny_chain(direction);
        }
        let mut tier_rules: BTreeMap<usize, Vec<Rule>> = BTreeMap::new();
        for (number, subjects) in local_subjects {
            let policy = &policies[number];
            self.rules.notes.extend(policy.notes.iter().cloned());
            match policy.tier {
                PolicyTier::NetworkPolicy => self.add_policy_chain(policy, number, &subjects),
                PolicyTier::Admin | PolicyTier::Baseline => {
                    let rules = self.tier_rules(policy, number, &subjects);
                    tier_rules.insert(number, rules);
                }
            }
        }

        let mut groups: BTreeMap<SelectingPolicies, Vec<PodId>> = BTreeMap::new();
        for (id, selecting) in selecting {
            groups
                .entry(selecting.without_unreachable_tier())
                .or_default()
                .push(id);
        }
        let tiers = self.add_tier_chains(direction, groups.keys(), &tier_rules);
        self.add_groups(policies, direction, groups, &tiers);
    }

    /// Adds the chain of each group, and the maps from pods' addresses to these chains.
    fn add_groups(
        &mut self,
        policies: &[DirectionalPolicy],
        direction: Direction,
        groups: BTreeMap<SelectingPolicies, Vec<PodId>>,
        tiers: &BTreeMap<Vec<usize>, String>,
    ) {
        let mut maps = Family::ALL.map(|family| VerdictMap {
            name: map_name(direction, family),
            family,
            elements: Vec::new(),
        });
        for (number, (selecting, pods)) in groups.into_iter().enumerate() {
            let chain = format!("{direction}_g{number}");
            self.add_group_chain(&chain, policies, &selecting, tiers, direction);
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

    /// Adds a group's chain: the Admin tier; then every NetworkPolicy in turn, and the deny; or,
    /// without a NetworkPolicy, the Baseline tier.
    fn add_group_chain(
        &mut self,
        name: &str,
        policies: &[DirectionalPolicy],
        selecting: &SelectingPolicies,
        tiers: &BTreeMap<Vec<usize>, String>,
        direction: Direction,
    ) {
        let mut rules: Vec<Rule> = Vec::new();
        rules.extend(tiers.get(&selecting.admin).cloned().map(jump));
        if selecting.namespaced.is_empty() {
            rules.extend(tiers.get(&selecting.baseline).cloned().map(jump));
        } else {
            let mut names: Vec<&str> = Vec::new();
            for number in &selecting.namespaced {
                let policy = &policies[*number];
                names.push(&policy.policy);
                if !policy.rules.is_empty() {
                    rules.push(jump(policy_chain_name(direction, *number)));
                }
            }
            let counter = format!("deny_{name}");
            rules.push(Rule {
                matches: Vec::new(),
                statements: vec![
                    Statement::Count(counter.clone()),
                    Statement::Jump(deny_chain_name(direction)),
                ],
            });
            let policies = format!("{} {direction}", names.join(", "));
            self.add_counter(counter, Counts::Denied { policies });
        }
        self.add_chain(name.to_owned(), rules);
    }

    /// Adds the chain that counts denied packets per flow, then drops or rejects them.
    fn add_deny_chain(&mut self, direction: Direction) {
        let mut rules = vec![Rule {
            matches: Vec::new(),
            statements: vec![Statement::CountDeniedFlow(direction)],
        }];
        if self.deny == Deny::RejectTcpReset {
            rules.push(Rule {
                matches: vec![Match::Transport(Transport::Tcp)],
                statements: vec![Statement::Deny(Deny::RejectTcpReset)],
            });
        }
        // Only TCP has a reset; other packets are rejected with ICMP.
        let rest = if self.deny == Deny::Drop {
            Deny::Drop
        } else {
            Deny::RejectIcmpAdmin
        };
        rules.push(Rule {
            matches: Vec::new(),
            statements: vec![Statement::Deny(rest)],
        });
        self.add_chain(deny_chain_name(direction), rules);
    }

    /// Adds a NetworkPolicy's chain, shared by all groups that it selects; it returns if no rule
    /// matches.
    fn add_policy_chain(&mut self, policy: &DirectionalPolicy, number: usize, subjects: &[PodId]) {
        if policy.rules.is_empty() {
            return;
        }

        let mut rules = Vec::new();
        for (rule, resolved) in policy.rules.iter().enumerate() {
            let counter = format!("allow_{}_p{number}_r{rule}", policy.direction);
            rules.extend(
                self.conditions(policy, resolved, subjects)
                    .into_iter()
                    .map(|matches| Rule {
                        matches,
                        statements: vec![Statement::Count(counter.clone()), Statement::Accept],
                    }),
            );
            self.add_counter(
                counter,
                Counts::Allowed {
                    policy: policy.title(),
                    rule,
                },
            );
        }
        self.add_chain(policy_chain_name(policy.direction, number), rules);
    }

    /// The rules of a cluster-wide policy in order: the first that matches decides.
    fn tier_rules(
        &mut self,
        policy: &DirectionalPolicy,
        number: usize,
        subjects: &[PodId],
    ) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (rule, resolved) in policy.rules.iter().enumerate() {
            let title = policy.title();
            let (word, counts, verdict) = match resolved.action {
                Action::Accept => (
                    "allow",
                    Counts::Allowed {
                        policy: title,
                        rule,
                    },
                    Statement::Accept,
                ),
                Action::Deny => (
                    "deny",
                    Counts::DeniedByRule {
                        policy: title,
                        rule,
                    },
                    Statement::Jump(deny_chain_name(policy.direction)),
                ),
                // A return from the tier's chain leaves the tier.
                Action::Pass => (
                    "pass",
                    Counts::Passed {
                        policy: title,
                        rule,
                    },
                    Statement::Return,
                ),
            };
            let counter = format!("{word}_{}_p{number}_r{rule}", policy.direction);
            rules.extend(
                self.conditions(policy, resolved, subjects)
                    .into_iter()
                    .map(|matches| Rule {
                        matches,
                        statements: vec![Statement::Count(counter.clone()), verdict.clone()],
                    }),
            );
            self.add_counter(counter, counts);
        }
        rules
    }

    /// Adds a chain for each distinct list of policies of a cluster-wide tier; returns their names.
    fn add_tier_chains<'a>(
        &mut self,
        direction: Direction,
        groups: impl Iterator<Item = &'a SelectingPolicies>,
        rules: &BTreeMap<usize, Vec<Rule>>,
    ) -> BTreeMap<Vec<usize>, String> {
        let tiers: BTreeSet<&Vec<usize>> = groups
            .flat_map(|group| [&group.admin, &group.baseline])
            .filter(|tier| !tier.is_empty())
            .collect();
        let mut names = BTreeMap::new();
        for (number, tier) in tiers.into_iter().enumerate() {
            let name = format!("{direction}_t{number}");
            self.add_tier_chain(name.clone(), tier, rules);
            names.insert(tier.clone(), name);
        }
        names
    }

    /// Adds the chain of a tier: the rules of all its policies in order. It returns if no rule
    /// matches, or after a Pass.
    fn add_tier_chain(&mut self, name: String, tier: &[usize], rules: &BTreeMap<usize, Vec<Rule>>) {
        let rules = tier
            .iter()
            .filter_map(|number| rules.get(number))
            .flatten()
            .cloned()
            .collect();
        self.add_chain(name, rules);
    }

    fn add_chain(&mut self, name: String, rules: Vec<Rule>) {
        self.rules.chains.push(Chain {
            name,
            base: None,
            rules,
        });
    }

    fn add_counter(&mut self, name: String, counts: Counts) {
        self.rules.counters.push(Counter {
            name,
            comment: comment(&counts.to_string()),
            counts,
        });
    }

    /// Adds a base chain, which accepts replies and neighbour discovery and dispatches to groups.
    fn add_base_chain(&mut self, name: &str, hook: Hook, priority: i32, direction: Direction) {
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
        let mut rules = vec![
            accept(Match::EstablishedOrRelated),
            accept(Match::NeighbourDiscovery),
        ];
        rules.extend(Family::ALL.map(dispatch));
        self.rules.chains.push(Chain {
            name: name.to_owned(),
            base: Some(Base { hook, priority }),
            rules,
        });
    }
}

/// A rule that jumps to a chain with every packet.
fn jump(to: String) -> Rule {
    Rule {
        matches: Vec::new(),
        statements: vec![Statement::Jump(to)],
    }
}

/// A rule that accepts packets with one condition.
fn accept(condition: Match) -> Rule {
    Rule {
        matches: vec![condition],
        statements: vec![Statement::Accept],
    }
}

/// Name of the chain that denies packets.
fn deny_chain_name(direction: Direction) -> String {
    format!("{direction}_deny")
}

/// Name of a NetworkPolicy's chain.
fn policy_chain_name(direction: Direction, number: usize) -> String {
    format!("{direction}_p{number}")
}

/// A comment, cut to [`COMMENT_BYTES`] at a character boundary.
fn comment(text: &str) -> String {
    const ELLIPSIS: &str = "...";
    if text.len() <= COMMENT_BYTES {
        return text.to_owned();
    }
    let end = (0..=COMMENT_BYTES - ELLIPSIS.len())
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or_default();
    format!("{}{ELLIPSIS}", &text[..end])
}
