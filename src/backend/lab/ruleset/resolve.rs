//! Resolves NetworkPolicies to addresses and ports, once for all nodes.
//!
//! The semantics are those of the API's field descriptions (`networking/v1/types.go`). Comments
//! state where an empty and a missing list differ.

use super::InvalidPolicy;
use super::direction::{DirectionalPolicy, Peers, PortMatch, Ports, ResolvedRule};
use super::ir::Direction;
use super::pods::{PodIndex, Scope, Selection};
use super::ranges::Ranges;
use crate::inventory::{Action, Cidr, NetworkPolicy, PolicyTier};
use crate::model::Transport;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube_core::Selector;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

/// Peers and ports of a declared rule of either direction.
type DeclaredRule<'a> = (
    Option<&'a [NetworkPolicyPeer]>,
    Option<&'a [NetworkPolicyPort]>,
);

/// Resolves all NetworkPolicies, in order of namespace and name, egress before ingress.
pub(super) fn resolve(
    mut policies: Vec<&NetworkPolicy>,
    index: &mut PodIndex<'_>,
) -> Result<Vec<DirectionalPolicy>, InvalidPolicy> {
    policies.sort_by_key(|policy| (&policy.namespace, &policy.name));

    let mut resolved = Vec::new();
    for policy in policies {
        let name = format!("{}/NetworkPolicy/{}", policy.namespace, policy.name);
        let invalid = |what: String| InvalidPolicy {
            policy: name.clone(),
            what,
        };
        let spec = &policy.spec;
        // A missing selector is an empty one here, which selects every pod of the namespace.
        let subjects =
            select(index, own_namespace(policy), spec.pod_selector.as_ref()).map_err(invalid)?;
        for direction in directions(policy) {
            let mut directional = DirectionalPolicy {
                policy: name.clone(),
                tier: PolicyTier::NetworkPolicy,
                direction,
                subjects: Rc::clone(&subjects),
                rules: Vec::new(),
                notes: BTreeSet::new(),
            };
            let rules: Vec<DeclaredRule<'_>> = match direction {
                Direction::Ingress => spec
                    .ingress
                    .iter()
                    .flatten()
                    .map(|rule| (rule.from.as_deref(), rule.ports.as_deref()))
                    .collect(),
                Direction::Egress => spec
                    .egress
                    .iter()
                    .flatten()
                    .map(|rule| (rule.to.as_deref(), rule.ports.as_deref()))
                    .collect(),
            };
            for (peers, ports) in rules {
                let peers =
                    read_peers(peers.unwrap_or_default(), policy, index).map_err(invalid)?;
                let ports = read_ports(ports.unwrap_or_default()).map_err(invalid)?;
                directional.push(ResolvedRule {
                    action: Action::Accept,
                    peers,
                    ports,
                });
            }
            resolved.push(directional);
        }
    }
    Ok(resolved)
}

/// The directions of a policy: its `policyTypes`. If these are absent or empty: Ingress, and Egress
/// if it has at least one egress rule (`SetDefaults_NetworkPolicy`); `egress: []` alone isolates
/// nothing.
fn directions(policy: &NetworkPolicy) -> Vec<Direction> {
    let spec = &policy.spec;
    let stated = spec.policy_types.as_deref().unwrap_or_default();
    let has_egress_rules = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
    let (egress, ingress) = if stated.is_empty() {
        (has_egress_rules, true)
    } else {
        (
            stated.iter().any(|name| name == "Egress"),
            stated.iter().any(|name| name == "Ingress"),
        )
    };

    let mut directions = Vec::new();
    if egress {
        directions.push(Direction::Egress);
    }
    if ingress {
        directions.push(Direction::Ingress);
    }
    directions
}

fn own_namespace(policy: &NetworkPolicy) -> Scope {
    Scope::Namespace(policy.namespace.clone())
}

fn select(
    index: &mut PodIndex<'_>,
    scope: Scope,
    selector: Option<&LabelSelector>,
) -> Result<Rc<Selection>, String> {
    Ok(index.select(scope, parse(selector)?))
}

/// Parses a selector; an absent one is an empty one. Callers handle the places where these differ.
fn parse(selector: Option<&LabelSelector>) -> Result<Selector, String> {
    Selector::try_from(selector.cloned().unwrap_or_default()).map_err(|error| error.to_string())
}

/// Resolves the peers of a rule. An empty list matches every address, unlike an empty list of
/// rules, which allows none.
fn read_peers(
    peers: &[NetworkPolicyPeer],
    policy: &NetworkPolicy,
    index: &mut PodIndex<'_>,
) -> Result<Peers, String> {
    if peers.is_empty() {
        return Ok(Peers::Any);
    }
    let mut selections = Vec::new();
    let mut blocks: Vec<(IpAddr, IpAddr)> = Vec::new();
    for peer in peers {
        match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
            (Some(block), None, None) => blocks.extend_from_slice(read_block(block)?.as_slice()),
            (Some(_), ..) => return Err("a peer has an ipBlock and a selector".to_owned()),
            (None, None, None) => return Err("a peer has nothing set".to_owned()),
            // Without namespaceSelector: the policy's namespace. With an empty one: all namespaces.
            (None, None, pods) => {
                selections.push(select(index, own_namespace(policy), pods.as_ref())?);
            }
            // Both in one item: matching pods in matching namespaces.
            (None, Some(namespaces), pods) => {
                let namespaces = parse(Some(namespaces))?.into_iter().collect();
                selections.push(select(index, Scope::Matching(namespaces), pods.as_ref())?);
            }
        }
    }
    // Items are alternatives.
    Ok(Peers::any_of(&selections, &blocks))
}

/// The addresses of a block without its exceptions. An exception applies only to its block: another
/// item can allow the same address.
fn read_block(block: &IPBlock) -> Result<Ranges, String> {
    let cidr = Cidr::parse(&block.cidr).map_err(|error| error.to_string())?;
    let mut excluded = Vec::new();
    for text in block.except.iter().flatten() {
        let exception = Cidr::parse(text).map_err(|error| error.to_string())?;
        if exception.family() != cidr.family() {
            return Err(format!(
                "the exception {text} is of another family than {}",
                block.cidr
            ));
        }
        excluded.push((exception.first(), exception.last()));
    }
    Ok(Ranges::difference((cidr.first(), cidr.last()), excluded))
}

/// Resolves the ports of a rule. An empty list matches every port of every protocol; the protocol
/// of an item defaults to TCP.
fn read_ports(ports: &[NetworkPolicyPort]) -> Result<Ports, String> {
    if ports.is_empty() {
        return Ok(Ports::All);
    }

    let mut matches: BTreeSet<PortMatch> = BTreeSet::new();
    for port in ports {
        let transport = match port.protocol.as_deref() {
            None | Some("" | "TCP") => Transport::Tcp,
            Some("UDP") => Transport::Udp,
            Some("SCTP") => Transport::Sctp,
            Some(other) => return Err(format!("{other:?} is not a protocol")),
        };
        matches.insert(match (&port.port, port.end_port) {
            (None, _) => PortMatch::Transport(transport),
            (Some(IntOrString::String(name)), _) => PortMatch::Named(Some(transport), name.clone()),
            (Some(IntOrString::Int(first)), None) => {
                PortMatch::Range(transport, port_number(*first)?, port_number(*first)?)
            }
            (Some(IntOrString::Int(first)), Some(last)) => {
                PortMatch::Range(transport, port_number(*first)?, port_number(last)?)
            }
        });
    }
    Ok(Ports::any_of(&matches))
}

fn port_number(number: i32) -> Result<u16, String> {
    u16::try_from(number).map_err(|_| format!("{number} is not a port"))
}
