//! What the checks of a plan leave untouched: rules of policies, pods, nodes.

use super::predict::Predictions;
use super::{Party, Plan, Vantage};
use crate::inventory::Inventory;
use crate::policy::{Direction, InvalidPolicy, PolicyName, Selects};
use std::collections::{BTreeMap, BTreeSet};

/// How much of an inventory the checks touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Coverage {
    /// Rules of policies, and those that no flow of a check matches.
    pub rules: Touched,
    /// Policies by direction, and those that no flow of a check is judged by.
    pub policies: Touched,
    /// Pods with an identity of their own, and those that are at no end of a check.
    pub pods: Touched,
    /// Nodes, and those on which no check has an end.
    pub nodes: Touched,
}

/// How many of how many, and which are left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Touched {
    /// All.
    pub all: usize,
    /// Those that are not touched, in words.
    pub left: Vec<String>,
}

impl Touched {
    fn of(all: &BTreeMap<String, bool>) -> Self {
        let left = all.iter().filter(|(_, touched)| !**touched).map(|(name, _)| name.clone()).collect();
        Self { all: all.len(), left }
    }

    /// How many are touched.
    pub fn touched(&self) -> usize {
        self.all - self.left.len()
    }
}

/// Looks at every flow of every check.
///
/// # Errors
/// [`InvalidPolicy`]: the first policy that no API server would have taken.
pub fn coverage(plan: &Plan, inventory: &Inventory) -> Result<Coverage, InvalidPolicy> {
    let predictions = Predictions::new(inventory)?;
    let mut rules: BTreeMap<String, bool> = BTreeMap::new();
    let mut policies: BTreeMap<String, bool> = BTreeMap::new();
    let title = |policy: &PolicyName, direction: Direction| format!("{} for {}", policy, direction.as_str());
    let rule_title = |policy: &PolicyName, direction: Direction, number: usize, origin: &str| {
        let place = if origin.is_empty() { String::new() } else { format!(" at {origin}") };
        format!("rule {number} of {}{place}", title(policy, direction))
    };
    for (policy, direction, origins) in predictions.rules() {
        policies.insert(title(policy, direction), false);
        for (index, origin) in origins.enumerate() {
            rules.insert(rule_title(policy, direction, index + 1, origin), false);
        }
    }
    let (mut pods, mut nodes) = (BTreeSet::new(), BTreeSet::new());
    for flow in plan.checks.iter().flat_map(|check| &check.flows).map(|flow| plan.flow(*flow)) {
        let vantage = plan.vantage(flow.probe);
        if let Vantage::Pod { namespace, name, .. } = vantage {
            pods.insert(format!("{namespace}/{name}"));
        }
        nodes.extend(vantage.node().map(str::to_owned));
        match &*flow.party {
            Party::Pod { namespace, name, node, .. } => {
                pods.insert(format!("{namespace}/{name}"));
                nodes.insert(node.clone());
            }
            Party::Node { name } => drop(nodes.insert(name.clone())),
            // Which of its pods answers is not known before.
            Party::Service { .. } | Party::Witness { .. } | Party::Outside { .. } => {}
        }
        for walk in predictions.explain(vantage, flow) {
            for side in &walk.sides {
                for step in side.policies.iter().filter(|step| step.selects == Selects::Yes) {
                    policies.insert(title(&step.policy, side.direction), true);
                    for rule in step.rules.iter().filter(|rule| rule.peer.holds && rule.port.holds) {
                        rules.insert(rule_title(&step.policy, side.direction, rule.number, &rule.origin), true);
                    }
                }
            }
        }
    }
    let of_pods = inventory.pods.iter().filter(|pod| !pod.host_network).map(crate::inventory::Pod::full_name);
    let of_pods = of_pods.map(|name| (name.clone(), pods.contains(&name))).collect();
    let of_nodes = inventory.nodes.iter().map(|node| (node.name.clone(), nodes.contains(&node.name))).collect();
    Ok(Coverage {
        rules: Touched::of(&rules),
        policies: Touched::of(&policies),
        pods: Touched::of(&of_pods),
        nodes: Touched::of(&of_nodes),
    })
}
