//! What the checks of a plan leave untouched: rules of policies, pairs of endpoints, pods, nodes.

use super::endpoints::{EndpointKind, resolve_endpoint};
use super::predict::{Predictions, Seen};
use super::{Plan, Source, TargetKind};
use crate::inventory::{Inventory, Pod};
use crate::suite::Suite;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// At most so many are named that are left: nobody reads more, and of pairs there are as many as
/// endpoints squared.
const NAMED: usize = 1_000;

/// How much of what exists the checks touch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, schemars::JsonSchema)]
pub struct Coverage {
    /// Policies by direction, and those that no flow of a check is judged by.
    pub policies: Touched,
    /// Rules of policies, and those that no flow of a check matches.
    pub rules: Touched,
    /// Ordered pairs of the suites' endpoints, and those between which no check has a flow.
    pub pairs: Touched,
    /// Pods with an identity of their own, and those that are at no end of a check by their own
    /// address.
    pub pods: Touched,
    /// Nodes, and those on which no check has an end.
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

/// How many of how many, and which are left.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, schemars::JsonSchema)]
pub struct Touched {
    /// All.
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

/// Looks at every flow of every check.
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
            // Which of its pods answers is not known before.
            TargetKind::Service { .. }
            | TargetKind::ReferencePod { .. }
            | TargetKind::Outside { .. } => {}
        }
    }
    let touched = |pod: &Pod| pods.contains(&(pod.namespace.as_str(), pod.name.as_str()));
    let of_pods = inventory
        .pods
        .iter()
        .filter(|pod| !pod.host_network)
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

type ByName = BTreeMap<String, bool>;

/// One policy in one direction, and whether any flow of a check meets it, and which of its rules.
struct Tried {
    title: String,
    met: bool,
    rules: Vec<bool>,
    /// Where its rules stand: `file:line`, or nothing.
    origins: Vec<String>,
}

/// Policies by direction and their rules, and whether any flow of a check meets them.
fn of_policies(plan: &Plan, predictions: &Predictions<'_>) -> (ByName, ByName) {
    let all = predictions.rules().map(|(policy, direction, origins)| {
        let origins: Vec<String> = origins.map(str::to_owned).collect();
        let title = format!("{policy} for {}", direction.as_str());
        Tried {
            title,
            met: false,
            rules: vec![false; origins.len()],
            origins,
        }
    });
    let mut all: Vec<Tried> = all.collect();
    let mut left: usize = all.iter().map(|policy| 1 + policy.rules.len()).sum();
    let touch = |touched: &mut bool| usize::from(!std::mem::replace(touched, true));
    let mut seen = Seen::new();
    for flow in plan
        .checks()
        .iter()
        .flat_map(|check| &check.flows)
        .map(|flow| plan.flow(*flow))
    {
        if left == 0 {
            break;
        }
        for met in predictions.met_unseen(plan.source(flow.probe), flow, &mut seen) {
            let policy = &mut all[met.policy];
            left -= touch(&mut policy.met);
            for rule in met.rules {
                left -= touch(&mut policy.rules[rule]);
            }
        }
    }
    let rules = all.iter().flat_map(
        |Tried {
             title,
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
                    (format!("rule {number} of {title}{place}"), *met)
                })
        },
    );
    let rules = rules.collect();
    (
        all.into_iter()
            .map(|policy| (policy.title, policy.met))
            .collect(),
        rules,
    )
}

/// Who a suite's endpoints are, for looking up flows.
#[derive(Default)]
struct Roles<'a> {
    sources: HashMap<&'a str, usize>,
    targets: Vec<usize>,
    pods: HashMap<(&'a str, &'a str), Vec<usize>>,
    services: HashMap<(&'a str, &'a str), Vec<usize>>,
    outside: HashMap<&'a str, usize>,
}

impl<'a> Roles<'a> {
    fn of(suite: &'a Suite, inventory: &'a Inventory) -> Self {
        let mut roles = Self::default();
        for (number, endpoint) in suite.endpoints.iter().enumerate() {
            let found = resolve_endpoint(endpoint, inventory);
            if found.is_source_by_wildcard() {
                roles.sources.insert(&endpoint.label, number);
            }
            match found.kind {
                EndpointKind::Pods => {
                    for pod in &found.pods {
                        roles
                            .pods
                            .entry((&pod.namespace, &pod.name))
                            .or_default()
                            .push(number);
                    }
                    if let Some(service) = found.service {
                        roles
                            .services
                            .entry((&service.namespace, &service.name))
                            .or_default()
                            .push(number);
                    }
                    roles.targets.push(number);
                }
                EndpointKind::Outside(_) => {
                    roles.outside.insert(&endpoint.label, number);
                    roles.targets.push(number);
                }
                EndpointKind::Runner | EndpointKind::Nodes => {}
            }
        }
        roles
    }

    /// The endpoints that a flow goes to.
    fn at<'s>(&'s self, target_kind: &'s TargetKind) -> &'s [usize] {
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

/// Ordered pairs of different endpoints of one suite, the first of which has pods.
fn pairs(plan: &Plan, suites: &[Suite], inventory: &Inventory) -> Touched {
    let mut sum = Touched::default();
    for (index, suite) in suites.iter().enumerate() {
        let roles = Roles::of(suite, inventory);
        let mut met: HashSet<(usize, usize)> = HashSet::new();
        for check in plan.checks().iter().filter(|check| check.suite == index) {
            let Some(source) = roles.sources.get(check.source.as_str()) else {
                continue;
            };
            for flow in &check.flows {
                met.extend(
                    roles
                        .at(&plan.flow(*flow).target_kind)
                        .iter()
                        .map(|target| (*source, *target)),
                );
            }
        }
        let sources: BTreeSet<usize> = roles.sources.values().copied().collect();
        let whose = if suites.len() > 1 {
            format!("{}: ", suite.name)
        } else {
            String::new()
        };
        for (source, target) in sources
            .iter()
            .flat_map(|source| roles.targets.iter().map(move |to| (*source, *to)))
        {
            if source == target {
                continue;
            }
            sum.all += 1;
            if met.contains(&(source, target)) {
                sum.touched += 1;
            } else if sum.left.len() < NAMED {
                let label = |number: usize| &suite.endpoints[number].label;
                sum.left
                    .push(format!("{whose}{} -> {}", label(source), label(target)));
            }
        }
    }
    sum
}
