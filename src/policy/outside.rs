//! Rules whose answer about a host outside depends on what is not known of it: its addresses, or
//! what enforcers do with its name.

use super::addresses::depends_on_address;
use super::change::at_origin;
use super::explain::Explainer;
use super::flow::EndpointRef;
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
        let mut rules = self.rules_of(pod, Direction::Egress);
        rules.find_map(|(policy, number, rule)| {
            let what = distinction(rule)?;
            Some(phrase(policy, number, rule, &format!("names {what}")))
        })
    }

    /// The first egress rule in force for a pod that names a host by a domain name. Whether packets
    /// to its addresses match is up to the enforcer.
    pub fn rule_by_name(&self, pod: &Pod, host: &str) -> Option<OutsideRule> {
        let mut rules = self.rules_of(pod, Direction::Egress);
        rules.find_map(|(policy, number, rule)| {
            let name = domain_names(rule).find(|name| covers(name, host))?;
            let what = format!("names {host} by the domain name {name}");
            Some(phrase(policy, number, rule, &what))
        })
    }

    /// The rules in force whose address blocks contain some of the addresses that an unknown one may
    /// be.
    pub fn rules_by_unknown_address(&self) -> Vec<OutsideRule> {
        let mut rules = Vec::new();
        for policy in self.in_force() {
            let of_policy = policy.rules.iter().enumerate();
            rules.extend(of_policy.filter_map(|(index, rule)| by_address(policy, index + 1, rule)));
        }
        rules
    }

    /// The first rule for one of the ends of a flow whose match depends on an address that is not
    /// known, if there is one.
    pub fn rule_by_unknown_address(
        &self,
        from: EndpointRef<'_>,
        to: EndpointRef<'_>,
    ) -> Option<OutsideRule> {
        [(from, Direction::Egress), (to, Direction::Ingress)]
            .into_iter()
            .find_map(|(end, direction)| {
                let (EndpointRef::Pod(index) | EndpointRef::ServicePod(index)) = end else {
                    return None;
                };
                let mut rules = self.rules_of(&self.inventory.pods[index], direction);
                rules.find_map(|(policy, number, rule)| by_address(policy, number, rule))
            })
    }

    /// The rules in force for a pod, each with its policy and its number from 1.
    fn rules_of<'s>(
        &'s self,
        pod: &'s Pod,
        direction: Direction,
    ) -> impl Iterator<Item = (&'s DirectionalPolicy, usize, &'s Rule)> {
        self.in_force()
            .filter(move |policy| policy.direction == direction)
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

/// A rule with a block that contains some of the addresses that an unknown one may be.
fn by_address(policy: &DirectionalPolicy, number: usize, rule: &Rule) -> Option<OutsideRule> {
    let block = blocks(rule).find(|block| depends_on_address(block))?;
    Some(phrase(policy, number, rule, &format!("names {block}")))
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
