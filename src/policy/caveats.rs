//! What the API leaves open about policies of the whole cluster, and what nobody here knows: to be
//! told beside every answer.

use super::explain::Explainer;
use super::near_miss::{self, Party};
use super::rules::{DirectionalPolicy, Peer, Rule};
use crate::inventory::{Action, PolicyTier};
use std::collections::BTreeSet;

impl Explainer<'_> {
    /// Rules that fail closed, domain names that match nobody, and policies of which either may be
    /// asked first: one sentence each, in the order in which policies are asked.
    pub fn caveats(&self) -> Vec<String> {
        let is_meant = |policy: &&DirectionalPolicy| policy.in_force && policy.tier != PolicyTier::NetworkPolicy;
        let policies: Vec<&DirectionalPolicy> = self
            .rules
            .policies
            .iter()
            .map(|policy| &**policy)
            .filter(is_meant)
            .collect();
        let mut told: Vec<String> = Vec::new();
        for (at, policy) in policies.iter().enumerate() {
            for (number, rule) in policy.rules.iter().enumerate() {
                told.extend(unknown(policy, number, rule));
                told.extend(names(policy, number, rule));
            }
            for other in policies[at + 1..]
                .iter()
                .filter(|other| self.may_come_first(policy, other))
            {
                let tie = format!(
                    "{} and {} have the same priority and select the same pods: which one is asked first is undefined; \
                     here it is {}",
                    policy.name, other.name, policy.name.reference.name
                );
                // Two policies meet in each direction that both have rules for.
                if !told.contains(&tie) {
                    told.push(tie);
                }
            }
        }
        told
    }

    /// Whether two halves of cluster-wide policies are of one tier and priority, meet at a pod, and
    /// do not do the same with all that they match.
    fn may_come_first(&self, policy: &DirectionalPolicy, other: &DirectionalPolicy) -> bool {
        let tied = (policy.tier, policy.priority, policy.direction)
            == (other.tier, other.priority, other.direction);
        let actions = |policy: &DirectionalPolicy| -> BTreeSet<Action> {
            policy.rules
                .iter()
                .filter_map(Rule::as_understood)
                .map(|rule| rule.action)
                .collect()
        };
        tied && actions(policy).union(&actions(other)).count() > 1
            && self
                .inventory
                .pods
                .iter()
                .filter(|pod| !pod.host_network)
                .any(|pod| {
                    let party = Party::pod(self.inventory, pod, None);
                    let selects = |policy: &DirectionalPolicy| {
                        near_miss::missing_requirement(&policy.subject, pod, &party.namespace)
                            .is_empty()
                    };
                    selects(policy) && selects(other)
                })
    }
}

fn title(policy: &DirectionalPolicy, number: usize, rule: &Rule) -> String {
    let place = if rule.origin.is_empty() {
        String::new()
    } else {
        format!(" at {}", rule.origin)
    };
    format!(
        "{} rule {} of {}{place}",
        policy.direction.as_str(),
        number + 1,
        policy.name
    )
}

fn unknown(policy: &DirectionalPolicy, number: usize, rule: &Rule) -> Option<String> {
    let fields = (!rule.unknown.is_empty()).then(|| rule.unknown.join(", "))?;
    let does = if rule.as_understood().is_some() {
        "denies everything"
    } else {
        "accepts nothing"
    };
    Some(format!(
        "{}: this version does not know {fields}, so the rule fails closed: it {does}",
        title(policy, number, rule)
    ))
}

fn names(policy: &DirectionalPolicy, number: usize, rule: &Rule) -> Option<String> {
    let names: Vec<&str> = rule
        .peers
        .iter()
        .flatten()
        .filter_map(domain_names)
        .flatten()
        .map(String::as_str)
        .collect();
    let of = (rule.unknown.is_empty() && !names.is_empty()).then(|| names.join(", "))?;
    Some(format!(
        "{}: what {of} resolves to is not known here, so it matches nobody",
        title(policy, number, rule)
    ))
}

fn domain_names(peer: &Peer) -> Option<&[String]> {
    match peer {
        Peer::Names(names) => Some(names),
        Peer::Pods(_) | Peer::Block(_) | Peer::Nodes(_) => None,
    }
}
