//! Resolves cluster-wide policies to addresses and ports, once for all nodes.
//!
//! `ClusterNetworkPolicy` follows the field descriptions of `policy.networking.k8s.io/v1alpha2`.
//! The two older kinds follow them too: the inventory has converted them to the same form.

use super::InvalidPolicy;
use super::direction::{DirectionalPolicy, Peers, PortMatch, Ports, ResolvedRule};
use super::ir::{Direction, Note};
use super::pods::{PodIndex, Scope, Selection};
use crate::inventory::{
    Action, ClusterPeer, ClusterPolicy, ClusterPort, ClusterRule, Node, PodScope,
};
use crate::model::PolicyKind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube_core::{Selector, SelectorExt};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

/// Resolves all cluster-wide policies, in the order of evaluation, egress before ingress.
pub(super) fn resolve(
    mut policies: Vec<&ClusterPolicy>,
    nodes: &[Node],
    index: &mut PodIndex<'_>,
) -> Result<Vec<DirectionalPolicy>, InvalidPolicy> {
    // "Policies with a lower priority value have higher precedence"
    // (ClusterNetworkPolicySpec.priority). The order of two with the same number is undefined;
    // names decide here, so that the ruleset is deterministic.
    policies.sort_by_key(|policy| {
        (
            policy.tier,
            policy.priority,
            &policy.name,
            PolicyKind::from(policy.kind),
        )
    });

    let mut resolved = Vec::new();
    for policy in policies {
        let name = format!("{}/{}", PolicyKind::from(policy.kind), policy.name);
        let invalid = |what: String| InvalidPolicy {
            policy: name.clone(),
            what,
        };
        let subjects = select(index, &policy.subject).map_err(invalid)?;
        for (direction, rules) in [
            (Direction::Egress, &policy.egress),
            (Direction::Ingress, &policy.ingress),
        ] {
            // Unlike in a NetworkPolicy, a direction without rules has no effect.
            if rules.is_empty() {
                continue;
            }
            let mut directional = DirectionalPolicy {
                policy: name.clone(),
                tier: policy.tier,
                direction,
                subjects: Rc::clone(&subjects),
                rules: Vec::new(),
                notes: BTreeSet::new(),
            };
            for rule in rules {
                add_rule(&mut directional, rule, nodes, index).map_err(invalid)?;
            }
            resolved.push(directional);
        }
    }
    Ok(resolved)
}

/// Resolves a rule and adds it to a policy. A rule with an unknown field fails closed: an Accept
/// matches nothing, a Deny or a Pass denies everything (`ClusterNetworkPolicyIngressPeer`,
/// `ClusterNetworkPolicyEgressPeer`).
fn add_rule(
    policy: &mut DirectionalPolicy,
    rule: &ClusterRule,
    nodes: &[Node],
    index: &mut PodIndex<'_>,
) -> Result<(), String> {
    let number = policy.rules.len();
    if rule.unknown.is_empty() {
        for peer in &rule.peers {
            if let ClusterPeer::DomainNames(_) = peer {
                policy.notes.insert(Note::DomainNames {
                    policy: policy.title(),
                    rule: number,
                });
            }
        }
        let peers = read_peers(&rule.peers, nodes, index)?;
        policy.push(ResolvedRule {
            action: rule.action,
            peers,
            ports: read_ports(rule.ports.as_deref()),
        });
        return Ok(());
    }

    policy.notes.insert(Note::FailsClosed {
        policy: policy.title(),
        rule: number,
    });
    policy.push(match rule.action {
        Action::Accept => ResolvedRule {
            action: Action::Accept,
            peers: Peers::any_of(&[], &[]),
            ports: Ports::All,
        },
        Action::Deny | Action::Pass => ResolvedRule {
            action: Action::Deny,
            peers: Peers::Any,
            ports: Ports::All,
        },
    });
    Ok(())
}

fn parse(selector: &LabelSelector) -> Result<Selector, String> {
    Selector::try_from(selector.clone()).map_err(|error| error.to_string())
}

/// Selects pods by namespace and by labels.
fn select(index: &mut PodIndex<'_>, pods: &PodScope) -> Result<Rc<Selection>, String> {
    let namespaces = parse(&pods.namespaces)?.into_iter().collect();
    Ok(index.select(Scope::Matching(namespaces), parse(&pods.pods)?))
}

fn read_peers(
    peers: &[ClusterPeer],
    nodes: &[Node],
    index: &mut PodIndex<'_>,
) -> Result<Peers, String> {
    let mut selections = Vec::new();
    let mut ranges: Vec<(IpAddr, IpAddr)> = Vec::new();
    for peer in peers {
        match peer {
            ClusterPeer::Pods(pods) => selections.push(select(index, pods)?),
            // A node matches by all of its addresses, which its host-network pods share.
            ClusterPeer::Nodes(selector) => {
                let selector = parse(selector)?;
                let selected = nodes.iter().filter(|node| selector.matches(&node.labels));
                ranges.extend(
                    selected
                        .flat_map(|node| &node.addresses)
                        .map(|address| (*address, *address)),
                );
            }
            // Blocks match addresses of pods too (`ClusterNetworkPolicyEgressPeer.networks`).
            ClusterPeer::Networks(blocks) => {
                ranges.extend(blocks.iter().map(|block| (block.first(), block.last())));
            }
            // Domain names are not resolved and match no address.
            ClusterPeer::DomainNames(_) => {}
        }
    }
    Ok(Peers::any_of(&selections, &ranges))
}

fn read_ports(ports: Option<&[ClusterPort]>) -> Ports {
    let Some(ports) = ports else {
        return Ports::All;
    };
    Ports::any_of(&ports.iter().map(read_port).collect())
}

fn read_port(port: &ClusterPort) -> PortMatch {
    match port {
        ClusterPort::Range(transport, first, last) => PortMatch::Range(*transport, *first, *last),
        // "destinationNamedPort" has no transport: it matches the name in every transport.
        ClusterPort::Named(name) => PortMatch::Named(None, name.clone()),
    }
}
