//! From policies of the whole cluster to addresses and ports, once for all nodes.
//!
//! `ClusterNetworkPolicy` is read as the field descriptions of `policy.networking.k8s.io/v1alpha2`
//! say, and the two older kinds likewise: they have come here in the same shape.

use super::InvalidPolicy;
use super::direction::{Half, Peers, PortMatch, Ports, Resolved};
use super::ir::{Direction, Note};
use super::pods::{Index, Scope, Selection};
use crate::inventory::{
    Action, ClusterPeer, ClusterPolicy, ClusterPort, ClusterRule, Inventory, Node, PodScope,
};
use crate::model::PolicyKind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube_core::{Selector, SelectorExt};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

/// All policies of the whole cluster: tier by tier in the order in which they are asked, egress
/// before ingress.
pub(super) fn resolve(
    inventory: &Inventory,
    index: &mut Index<'_>,
) -> Result<Vec<Half>, InvalidPolicy> {
    let mut policies: Vec<&ClusterPolicy> = inventory.cluster_policies().collect();
    // "Policies with a lower priority value have higher precedence"
    // (ClusterNetworkPolicySpec.priority). Which of two with the same number comes first is left
    // open; here names decide, so that one inventory has one ruleset.
    policies.sort_by_key(|policy| {
        (
            policy.tier,
            policy.priority,
            &policy.name,
            PolicyKind::from(policy.kind),
        )
    });
    let mut halves = Vec::new();
    for policy in policies {
        let name = format!("{}/{}", PolicyKind::from(policy.kind), policy.name);
        let fault = |what: String| InvalidPolicy {
            policy: name.clone(),
            what,
        };
        let subjects = select(index, &policy.subject).map_err(fault)?;
        for (direction, rules) in [
            (Direction::Egress, &policy.egress),
            (Direction::Ingress, &policy.ingress),
        ] {
            // Unlike a NetworkPolicy's, a direction without rules decides nothing.
            if rules.is_empty() {
                continue;
            }
            let mut half = Half {
                policy: name.clone(),
                tier: policy.tier,
                direction,
                subjects: Rc::clone(&subjects),
                rules: Vec::new(),
                notes: BTreeSet::new(),
            };
            for rule in rules {
                take(&mut half, rule, &inventory.nodes, index).map_err(fault)?;
            }
            halves.push(half);
        }
    }
    Ok(halves)
}

/// Takes a rule into a half. One with a field that nobody here knows fails closed: an Accept
/// accepts nothing, a Deny or a Pass denies everything (`ClusterNetworkPolicyIngressPeer`,
/// `ClusterNetworkPolicyEgressPeer`).
fn take(
    half: &mut Half,
    rule: &ClusterRule,
    nodes: &[Node],
    index: &mut Index<'_>,
) -> Result<(), String> {
    let number = half.rules.len();
    if rule.unknown.is_empty() {
        for peer in &rule.peers {
            if let ClusterPeer::DomainNames(_) = peer {
                half.notes.insert(Note::DomainNames {
                    policy: half.title(),
                    rule: number,
                });
            }
        }
        let peers = read_peers(&rule.peers, nodes, index)?;
        half.push(Resolved {
            action: rule.action,
            peers,
            ports: read_ports(rule.ports.as_deref()),
        });
        return Ok(());
    }
    half.notes.insert(Note::FailsClosed {
        policy: half.title(),
        rule: number,
    });
    half.push(match rule.action {
        Action::Accept => Resolved {
            action: Action::Accept,
            peers: Peers::any_of(&[], &[]),
            ports: Ports::All,
        },
        Action::Deny | Action::Pass => Resolved {
            action: Action::Deny,
            peers: Peers::Anyone,
            ports: Ports::All,
        },
    });
    Ok(())
}

fn parse(selector: &LabelSelector) -> Result<Selector, String> {
    Selector::try_from(selector.clone()).map_err(|error| error.to_string())
}

/// Pods of namespaces; those that share their node's network are in no selection.
fn select(index: &mut Index<'_>, pods: &PodScope) -> Result<Rc<Selection>, String> {
    let namespaces = parse(&pods.namespaces)?.into_iter().collect();
    Ok(index.select(Scope::Matching(namespaces), parse(&pods.pods)?))
}

fn read_peers(
    peers: &[ClusterPeer],
    nodes: &[Node],
    index: &mut Index<'_>,
) -> Result<Peers, String> {
    let mut selections = Vec::new();
    let mut ranges: Vec<(IpAddr, IpAddr)> = Vec::new();
    for peer in peers {
        match peer {
            ClusterPeer::Pods(pods) => selections.push(select(index, pods)?),
            // A node is all of its addresses, and so are the pods that share its network.
            ClusterPeer::Nodes(selector) => {
                let selector = parse(selector)?;
                let meant = nodes.iter().filter(|node| selector.matches(&node.labels));
                ranges.extend(
                    meant
                        .flat_map(|node| &node.addresses)
                        .map(|address| (*address, *address)),
                );
            }
            // Blocks hold pods' addresses too (`ClusterNetworkPolicyEgressPeer.networks`).
            ClusterPeer::Networks(blocks) => {
                ranges.extend(blocks.iter().map(|block| (block.first(), block.last())))
            }
            // What they resolve to is not known here: they are nobody.
            ClusterPeer::DomainNames(_) => {}
        }
    }
    Ok(Peers::any_of(&selections, &ranges))
}

fn read_ports(ports: Option<&[ClusterPort]>) -> Ports {
    let Some(ports) = ports else {
        return Ports::All;
    };
    let read = |port: &ClusterPort| match port {
        ClusterPort::Range(transport, first, last) => PortMatch::Range(*transport, *first, *last),
        // "destinationNamedPort" says no transport: it is whatever the pod has under that name.
        ClusterPort::Named(name) => PortMatch::Named(None, name.clone()),
    };
    Ports::any_of(&ports.iter().map(read).collect())
}
