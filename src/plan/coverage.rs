//! What the checks of a plan leave untouched: rules of policies, pairs of endpoints, pods, nodes.

use super::endpoints::{EndpointKind, resolve_endpoint};
use super::predict::{Predictions, SeenClasses};
use super::{Plan, Source, TargetKind};
use crate::inventory::{Inventory, Pod};
use crate::policy::Direction;
use crate::suite::Suite;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// At most so many of what is untouched are named: there are as many pairs as endpoints squared.
const NAMED: usize = 1_000;

/// How much of what exists the checks touch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, schemars::JsonSchema)]
pub struct Coverage {
    /// Policies, and those of which a direction applies to no flow of a check.
    pub policies: Touched,
    /// Rules of policies, and those that no flow of a check matches.
    pub rules: Touched,
    /// Ordered pairs of the suites' endpoints, and those between which no check has a flow.
    pub pairs: Touched,
    /// Pods that do not share their node's network and are not the lab's own, and those that are
    /// neither source nor target of a check by their own address.
    pub pods: Touched,
    /// Nodes, and those that no check sends from or to.
    pub nodes: Touched,
}

impl Coverage {
    /// All parts, with what they count.
    pub fn parts(&self) -> [(&'static str, &Touched); 5] {
        let Self {
            policies,
            rules,
            pairs,
            pods,
            nodes,
        } = self;
        [
            ("policies", policies),
            ("rules", rules),
            ("pairs of endpoints", pairs),
            ("pods", pods),
            ("nodes", nodes),
        ]
    }
}

/// How many of how many are touched, and which are not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, schemars::JsonSchema)]
pub struct Touched {
    pub all: usize,
    /// How many of them are touched.
    pub touched: usize,
    /// Those that are not, in words; the first thousand.
    pub left: Vec<String>,
}

impl Touched {
    fn of(all: &BTreeMap<String, bool>) -> Self {
        let left = all
            .iter()
            .filter(|(_, touched)| !**touched)
            .map(|(name, _)| name.clone());
        let touched = all.values().filter(|touched| **touched).count();
        Self {
            all: all.len(),
            touched,
            left: left.take(NAMED).collect(),
        }
    }
}

/// The coverage of all flows of all checks.
pub(super) fn coverage(
    plan: &Plan,
    suites: &[Suite],
    inventory: &Inventory,
    predictions: &Predictions<'_>,
) -> Coverage {
    let (policies, rules) = of_policies(plan, predictions);
    let (mut pods, mut nodes): (BTreeSet<(&str, &str)>, BTreeSet<&str>) =
        (BTreeSet::new(), BTreeSet::new());
    for flow in plan
        .checks()
        .iter()
        .flat_map(|check| &check.flows)
        .map(|flow| plan.flow(*flow))
    {
        let source = plan.source(flow.probe);
        if let Source::Pod {
            namespace, name, ..
        } = source
        {
            pods.insert((namespace, name));
        }
        nodes.extend(source.node());
        match &*flow.target_kind {
            TargetKind::Pod {
                namespace,
                name,
                node,
                ..
            } => {
                pods.insert((namespace, name));
                nodes.insert(node);
            }
            TargetKind::Node { name } => drop(nodes.insert(name)),
            // Which of its pods answers is not known before the run.
            TargetKind::Service { .. }
            | TargetKind::ReferencePod { .. }
            | TargetKind::Outside { .. } => {}
        }
    }
    let touched = |pod: &Pod| pods.contains(&(pod.namespace.as_str(), pod.name.as_str()));
    let of_pods = inventory
        .pods
        .iter()
        .filter(|pod| !pod.host_network && !inventory.added_pods.contains(&pod.full_name()))
        .map(|pod| (pod.full_name(), touched(pod)));
    let of_nodes = inventory
        .nodes
        .iter()
        .map(|node| (node.name.clone(), nodes.contains(node.name.as_str())));
    Coverage {
        policies: Touched::of(&policies),
        rules: Touched::of(&rules),
        pairs: pairs(plan, suites, inventory),
        pods: Touched::of(&of_pods.collect()),
        nodes: Touched::of(&of_nodes.collect()),
    }
}

/// Whether each is touched, by name.
type TouchedByName = BTreeMap<String, bool>;

/// One policy in one direction, and whether any flow of a check matches it, and which of its rules.
struct TriedPolicy {
    policy: String,
    direction: Direction,
    matched: bool,
    rules: Vec<bool>,
    /// `file:line` of each rule, or nothing.
    origins: Vec<String>,
}

/// Policies and their rules, and whether any flow of a check matches them.
fn of_policies(plan: &Plan, predictions: &Predictions<'_>) -> (TouchedByName, TouchedByName) {
    let all = predictions.rules().map(|(policy, direction, origins)| {
        let origins: Vec<String> = origins.map(str::to_owned).collect();
        TriedPolicy {
            policy: policy.to_string(),
            direction,
            matched: false,
            rules: vec![false; origins.len()],
            origins,
        }
    });
    let mut all: Vec<TriedPolicy> = all.collect();
    let mut left: usize = all.iter().map(|policy| 1 + policy.rules.len()).sum();
    let touch = |touched: &mut bool| usize::from(!std::mem::replace(touched, true));
    let mut seen = SeenClasses::new();
    for flow in plan
        .checks()
        .iter()
        .flat_map(|check| &check.flows)
        .map(|flow| plan.flow(*flow))
    {
        if left == 0 {
            break;
        }
        for met in predictions.new_matches(plan.source(flow.probe), flow, &mut seen) {
            let policy = &mut all[met.policy];
            left -= touch(&mut policy.matched);
            for rule in met.rules {
                left -= touch(&mut policy.rules[rule]);
            }
        }
    }
    let rules = all.iter().flat_map(
        |TriedPolicy {
             policy,
             direction,
             rules,
             origins,
             ..
         }| {
            rules
                .iter()
                .zip(origins)
                .zip(1..)
                .map(move |((met, origin), number)| {
                    let place = if origin.is_empty() {
                        String::new()
                    } else {
                        format!(" at {origin}")
                    };
                    let way = direction.as_str();
                    (format!("rule {number} of {policy} for {way}{place}"), *met)
                })
        },
    );
    let rules = rules.collect();
    (whole_policies(&all), rules)
}

/// Each policy once: touched where every direction is, and otherwise named with the direction that
/// is not, if the other is.
fn whole_policies(all: &[TriedPolicy]) -> TouchedByName {
    let mut directions: BTreeMap<&str, Vec<&TriedPolicy>> = BTreeMap::new();
    for tried in all {
        directions.entry(&tried.policy).or_default().push(tried);
    }

    directions
        .into_iter()
        .map(|(policy, tried)| {
            let (matched, missed): (Vec<&TriedPolicy>, Vec<&TriedPolicy>) =
                tried.into_iter().partition(|tried| tried.matched);
            let name = match missed.first() {
                Some(missed) if !matched.is_empty() => {
                    format!("{policy} for {}", missed.direction.as_str())
                }
                _ => policy.to_owned(),
            };
            (name, missed.is_empty())
        })
        .collect()
}

/// A suite's endpoints, for looking up flows.
#[derive(Default)]
struct EndpointIndex<'a> {
    sources: HashMap<&'a str, usize>,
    /// Endpoints that make a pair with themselves.
    with_themselves: BTreeSet<usize>,
    targets: Vec<usize>,
    pods: HashMap<(&'a str, &'a str), Vec<usize>>,
    services: HashMap<(&'a str, &'a str), Vec<usize>>,
    outside: HashMap<&'a str, usize>,
}

impl<'a> EndpointIndex<'a> {
    fn of(suite: &'a Suite, inventory: &'a Inventory) -> Self {
        let mut index = Self::default();
        for (number, endpoint) in suite.endpoints.iter().enumerate() {
            let found = resolve_endpoint(endpoint, inventory);
            if found.is_source_by_wildcard() {
                index.sources.insert(&endpoint.label, number);
            }
            if found.is_pair_with_itself() {
                index.with_themselves.insert(number);
            }
            match found.kind {
                EndpointKind::Pods => {
                    for pod in &found.pods {
                        index
                            .pods
                            .entry((&pod.namespace, &pod.name))
                            .or_default()
                            .push(number);
                    }
                    if let Some(service) = found.service {
                        index
                            .services
                            .entry((&service.namespace, &service.name))
                            .or_default()
                            .push(number);
                    }
                    index.targets.push(number);
                }
                EndpointKind::Outside(_) => {
                    index.outside.insert(&endpoint.label, number);
                    index.targets.push(number);
                }
                EndpointKind::Runner | EndpointKind::Nodes => {}
            }
        }
        index
    }

    /// The endpoints that a flow goes to.
    fn targets_of<'s>(&'s self, target_kind: &'s TargetKind) -> &'s [usize] {
        let found = match target_kind {
            TargetKind::Pod {
                namespace, name, ..
            } => self.pods.get(&(namespace.as_str(), name.as_str())),
            TargetKind::Service { service, .. } => self
                .services
                .get(&(service.namespace.as_str(), service.name.as_str())),
            TargetKind::Outside { name } => {
                return self
                    .outside
                    .get(name.as_str())
                    .map_or(&[], std::slice::from_ref);
            }
            TargetKind::Node { .. } | TargetKind::ReferencePod { .. } => None,
        };
        found.map_or(&[], Vec::as_slice)
    }
}

/// Ordered pairs of endpoints of one suite, the first of which has pods: different ones, and one
/// with itself where it has two pods or more.
fn pairs(plan: &Plan, suites: &[Suite], inventory: &Inventory) -> Touched {
    let mut sum = Touched::default();
    for (index, suite) in suites.iter().enumerate() {
        let endpoints = EndpointIndex::of(suite, inventory);
        let mut tested: HashSet<(usize, usize)> = HashSet::new();
        for check in plan.checks().iter().filter(|check| check.suite == index) {
            let Some(source) = endpoints.sources.get(check.source.as_str()) else {
                continue;
            };
            for flow in &check.flows {
                tested.extend(
                    endpoints
                        .targets_of(&plan.flow(*flow).target_kind)
                        .iter()
                        .map(|target| (*source, *target)),
                );
            }
        }
        let sources: BTreeSet<usize> = endpoints.sources.values().copied().collect();
        let prefix = if suites.len() > 1 {
            format!("{}: ", suite.name)
        } else {
            String::new()
        };
        for (source, target) in sources
            .iter()
            .flat_map(|source| endpoints.targets.iter().map(move |to| (*source, *to)))
        {
            if source == target && !endpoints.with_themselves.contains(&source) {
                continue;
            }
            sum.all += 1;
            if tested.contains(&(source, target)) {
                sum.touched += 1;
            } else if sum.left.len() < NAMED {
                let label = |number: usize| &suite.endpoints[number].label;
                sum.left
                    .push(format!("{prefix}{} -> {}", label(source), label(target)));
            }
        }
    }
    sum
}
