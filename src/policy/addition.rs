//! Policies that are added to forbid something, and forbid nothing since others still admit it.

use super::explain::Explainer;
use super::map::workload_of;
use super::rules::{Direction, DirectionalPolicy, Rule};
use crate::inventory::{Action, Inventory, PolicyTier};
use std::collections::{BTreeMap, BTreeSet};

/// At most so many policies and workloads are named in a note.
const NAMED: usize = 4;

/// For each NetworkPolicy that a later inventory adds and that admits nothing: which others still
/// admit what its pods send or receive ("network policies do not conflict; they are additive",
/// Kubernetes, "Network Policies"). Where the whole change opens and closes nothing, also for those
/// that admit something.
pub fn additions_without_effect(
    before: &Inventory,
    after: &Inventory,
    changes_nothing: bool,
) -> Vec<String> {
    // An invalid policy has been an error already.
    let (Ok(earlier), Ok(later)) = (Explainer::new(before), Explainer::new(after)) else {
        return Vec::new();
    };
    let mut notes = Vec::new();
    for policy in later.in_force() {
        let is_addition = policy.tier == PolicyTier::NetworkPolicy
            && !earlier.in_force().any(|known| is_like(known, policy));
        if is_addition && (policy.rules.is_empty() || changes_nothing) {
            notes.extend(later.still_admitting(policy));
        }
    }
    notes
}

/// Whether two policies are one with the same content, wherever they are written.
fn is_like(one: &DirectionalPolicy, other: &DirectionalPolicy) -> bool {
    fn content(rule: &Rule) -> impl PartialEq + use<'_> {
        (rule.action, &rule.peers, &rule.ports)
    }
    one.name.reference == other.name.reference
        && one.direction == other.direction
        && one.subject == other.subject
        && one
            .rules
            .iter()
            .map(content)
            .eq(other.rules.iter().map(content))
}

impl Explainer<'_> {
    /// Which other policies admit something for the pods that a policy isolates; `None` if none
    /// does.
    fn still_admitting(&self, policy: &DirectionalPolicy) -> Option<String> {
        let mut workloads: BTreeSet<String> = BTreeSet::new();
        let mut admitting: BTreeMap<String, usize> = BTreeMap::new();
        for pod in &self.inventory.pods {
            if !self.is_in_scope(&policy.subject, pod) {
                continue;
            }
            for other in self.in_force() {
                let admits = admitting_rules(other);
                if other.name.reference != policy.name.reference
                    && other.direction == policy.direction
                    && admits > 0
                    && self.is_in_scope(&other.subject, pod)
                {
                    workloads.insert(workload_of(pod).to_string());
                    admitting.insert(other.name.to_string(), admits);
                }
            }
        }
        if admitting.is_empty() {
            return None;
        }

        let others: Vec<String> = admitting
            .iter()
            .map(|(name, rules)| format!("{name} ({rules} {})", plural(*rules)))
            .collect();
        let (what, verb) = match policy.direction {
            Direction::Egress => ("Egress from", "sent"),
            Direction::Ingress => ("Ingress to", "received"),
        };
        Some(format!(
            "{} isolates {} for {}, and what other policies admit is still {verb}: a policy takes nothing \
             away from another. {what} it is admitted by {}",
            policy.name,
            first_few(workloads.into_iter().collect()),
            policy.direction.as_str(),
            first_few(others)
        ))
    }
}

/// The number of rules that admit something whatever NetworkPolicies say or as one of them.
fn admitting_rules(policy: &DirectionalPolicy) -> usize {
    match policy.tier {
        PolicyTier::NetworkPolicy | PolicyTier::Admin => {
            let rules = policy.rules.iter().filter_map(Rule::as_understood);
            rules.filter(|rule| rule.action == Action::Accept).count()
        }
        // Baseline policies do not apply to pods that a NetworkPolicy isolates.
        PolicyTier::Baseline => 0,
    }
}

fn plural(rules: usize) -> &'static str {
    if rules == 1 { "rule" } else { "rules" }
}

fn first_few(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let text = names.join(", ");
    if more == 0 {
        text
    } else {
        format!("{text} and {more} more")
    }
}
