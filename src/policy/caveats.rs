//! Warnings about cluster-wide policies: what the API leaves undefined, and what cannot be
//! predicted.

use super::change::at_origin;
use super::classes::namespace_labels;
use super::explain::Explainer;
use super::near_miss::missing_requirements;
use super::rules::{DirectionalPolicy, Peer, Rule, Scope};
use crate::inventory::{Action, Pod, PolicyTier};
use std::collections::BTreeSet;

impl Explainer<'_> {
    /// Rules that fail closed, domain names that match nothing, and policies whose order is
    /// undefined: one sentence each, in the order in which policies are evaluated.
    pub fn caveats(&self) -> Vec<String> {
        let policies: Vec<&DirectionalPolicy> = self
            .rules
            .policies
            .iter()
            .map(AsRef::as_ref)
            .filter(|policy| policy.in_force && policy.tier != PolicyTier::NetworkPolicy)
            .collect();

        let mut caveats: Vec<String> = Vec::new();
        for (index, policy) in policies.iter().enumerate() {
            for (number, rule) in policy.rules.iter().enumerate() {
                caveats.extend(unknown_fields(policy, number, rule));
                caveats.extend(domain_names(policy, number, rule));
            }
            for other in &policies[index + 1..] {
                if self.has_undefined_order(policy, other) {
                    let caveat = undefined_order(policy, other);
                    // Two policies that both have egress and ingress rules are paired twice.
                    if !caveats.contains(&caveat) {
                        caveats.push(caveat);
                    }
                }
            }
        }
        caveats
    }

    /// Whether the order of two cluster-wide policies matters and is undefined: same tier, priority
    /// and direction, a pod that both select, and different actions.
    fn has_undefined_order(&self, policy: &DirectionalPolicy, other: &DirectionalPolicy) -> bool {
        let have_same_precedence = (policy.tier, policy.priority, policy.direction)
            == (other.tier, other.priority, other.direction);

        have_same_precedence
            && actions(policy).union(&actions(other)).count() > 1
            && self
                .inventory
                .pods
                .iter()
                .any(|pod| self.is_subject(policy, pod) && self.is_subject(other, pod))
    }

    fn is_subject(&self, policy: &DirectionalPolicy, pod: &Pod) -> bool {
        self.is_in_scope(&policy.subject, pod)
    }

    /// Whether a scope selects a pod. None selects pods in their node's network.
    pub(super) fn is_in_scope(&self, scope: &Scope, pod: &Pod) -> bool {
        if pod.host_network {
            return false;
        }
        let labels = namespace_labels(self.inventory, &pod.namespace);
        missing_requirements(scope, pod, &labels).is_empty()
    }
}

fn undefined_order(policy: &DirectionalPolicy, other: &DirectionalPolicy) -> String {
    format!(
        "{} and {} have the same priority and select the same pods: which one is evaluated first \
         is undefined; this prediction evaluates {} first",
        policy.name, other.name, policy.name.reference.name
    )
}

/// The actions of the rules that match anything.
fn actions(policy: &DirectionalPolicy) -> BTreeSet<Action> {
    policy
        .rules
        .iter()
        .filter_map(Rule::as_understood)
        .map(|rule| rule.action)
        .collect()
}

fn title(policy: &DirectionalPolicy, number: usize, rule: &Rule) -> String {
    format!(
        "{} rule {} of {}{}",
        policy.direction.as_str(),
        number + 1,
        policy.name,
        at_origin(&rule.origin)
    )
}

fn unknown_fields(policy: &DirectionalPolicy, number: usize, rule: &Rule) -> Option<String> {
    if rule.unknown.is_empty() {
        return None;
    }
    let effect = if rule.as_understood().is_some() {
        "denies everything"
    } else {
        "accepts nothing"
    };
    Some(format!(
        "{}: this version does not know {}, so the rule fails closed: it {effect}",
        title(policy, number, rule),
        rule.unknown.join(", ")
    ))
}

fn domain_names(policy: &DirectionalPolicy, number: usize, rule: &Rule) -> Option<String> {
    let names: Vec<&str> = rule
        .peers
        .iter()
        .flatten()
        .flat_map(names_of)
        .map(String::as_str)
        .collect();
    if names.is_empty() || !rule.unknown.is_empty() {
        return None;
    }
    Some(format!(
        "{}: the addresses of {} are unknown, so the rule matches none of them",
        title(policy, number, rule),
        names.join(", ")
    ))
}

fn names_of(peer: &Peer) -> &[String] {
    match peer {
        Peer::Names(names) => names,
        Peer::Pods(_) | Peer::Block(_) | Peer::Nodes(_) => &[],
    }
}
