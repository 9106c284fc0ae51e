//! Rules whose answer about a host outside depends on what is not known of it: its addresses, or
//! what enforcers do with its name.

use super::change::at_origin;
use super::explain::Explainer;
use super::rules::{Block, Direction, DirectionalPolicy, Peer, Rule};
use crate::inventory::Pod;
use crate::model::Family;

/// A rule for the connections of a pod to hosts outside, as a phrase: `rule 3 of NetworkPolicy
/// shop/api names 203.0.113.0/28`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutsideRule(String);

impl std::fmt::Display for OutsideRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Explainer<'_> {
    /// The first egress rule in force for a pod that tells addresses outside apart: it names a
    /// block smaller than a whole family, or only one of the families. Without such a rule the
    /// answer is the same whatever address a host has.
    pub fn rule_by_address(&self, pod: &Pod) -> Option<OutsideRule> {
        self.egress_rules(pod).find_map(|(policy, number, rule)| {
            let what = distinction(rule)?;
            Some(phrase(policy, number, rule, &format!("names {what}")))
        })
    }

    /// The first egress rule in force for a pod that names a host by a domain name. Whether packets
    /// to its addresses match is up to the enforcer.
    pub fn rule_by_name(&self, pod: &Pod, host: &str) -> Option<OutsideRule> {
        self.egress_rules(pod).find_map(|(policy, number, rule)| {
            let name = domain_names(rule).find(|name| covers(name, host))?;
            let what = format!("names {host} by the domain name {name}");
            Some(phrase(policy, number, rule, &what))
        })
    }

    /// The egress rules in force for a pod, each with its policy and its number from 1.
    fn egress_rules<'s>(
        &'s self,
        pod: &'s Pod,
    ) -> impl Iterator<Item = (&'s DirectionalPolicy, usize, &'s Rule)> {
        self.in_force()
            .filter(|policy| policy.direction == Direction::Egress)
            .filter(|policy| self.is_in_scope(&policy.subject, pod))
            .flat_map(|policy| {
                let rules = policy.rules.iter().enumerate();
                rules.map(move |(index, rule)| (policy, index + 1, rule))
            })
    }
}

/// What a rule tells apart among addresses outside; `None` for a rule that treats all in the same way.
fn distinction(rule: &Rule) -> Option<String> {
    let blocks: Vec<&Block> = blocks(rule).collect();
    let narrow = blocks
        .iter()
        .find(|block| block.cidr.length() > 0 || !block.except.is_empty());
    if let Some(block) = narrow {
        return Some(block.to_string());
    }

    let names_family = |family| blocks.iter().any(|block| block.cidr.family() == family);
    match (names_family(Family::V4), names_family(Family::V6)) {
        (true, false) => Some("every IPv4 address and no IPv6 address".to_owned()),
        (false, true) => Some("every IPv6 address and no IPv4 address".to_owned()),
        (true, true) | (false, false) => None,
    }
}

fn blocks(rule: &Rule) -> impl Iterator<Item = &Block> {
    rule.peers.iter().flatten().filter_map(|peer| match peer {
        Peer::Block(block) => Some(block),
        Peer::Pods(_) | Peer::Nodes(_) | Peer::Names(_) => None,
    })
}

fn domain_names(rule: &Rule) -> impl Iterator<Item = &str> {
    rule.peers
        .iter()
        .flatten()
        .filter_map(|peer| match peer {
            Peer::Names(names) => Some(names),
            Peer::Pods(_) | Peer::Nodes(_) | Peer::Block(_) => None,
        })
        .flatten()
        .map(String::as_str)
}

/// Whether a domain name of a policy covers a host; `*.example` covers every name below `example`
/// (`ClusterNetworkPolicy`, `DomainName`).
fn covers(name: &str, host: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    match name.strip_prefix('*') {
        Some(suffix) => host.ends_with(suffix),
        None => name == host,
    }
}

fn phrase(policy: &DirectionalPolicy, number: usize, rule: &Rule, what: &str) -> OutsideRule {
    OutsideRule(format!(
        "rule {number} of {}{} {what}",
        policy.name,
        at_origin(&rule.origin)
    ))
}
