//! From a NetworkPolicy's text to addresses and ports, once for all nodes.
//!
//! The rules are those of the API's own field descriptions (`networking/v1/types.go`); where an
//! empty and a missing list differ, or mean the opposite of each other one level up, the line says
//! so.

use super::InvalidPolicy;
use super::direction::{Half, Peers, PortMatch, Ports, Resolved};
use super::ir::Direction;
use super::pods::{Index, Scope, Selection};
use super::ranges::Ranges;
use crate::inventory::{Action, Cidr, Inventory, NetworkPolicy, PolicyTier};
use crate::model::Transport;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube_core::Selector;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

/// A rule of either direction as it is written: peers and ports.
type Written<'a> = (
    Option<&'a [NetworkPolicyPeer]>,
    Option<&'a [NetworkPolicyPort]>,
);

/// All NetworkPolicies, in order of namespace and name, egress before ingress.
pub(super) fn resolve(
    inventory: &Inventory,
    index: &mut Index<'_>,
) -> Result<Vec<Half>, InvalidPolicy> {
    let mut policies: Vec<&NetworkPolicy> = inventory.network_policies().collect();
    policies.sort_by_key(|policy| (&policy.namespace, &policy.name));
    let mut halves = Vec::new();
    for policy in policies {
        let name = format!("{}/NetworkPolicy/{}", policy.namespace, policy.name);
        let fault = |what: String| InvalidPolicy {
            policy: name.clone(),
            what,
        };
        let spec = &policy.spec;
        // Missing means empty here, and empty selects every pod of the namespace.
        let subjects = select(index, own(policy), spec.pod_selector.as_ref()).map_err(fault)?;
        for direction in directions(policy) {
            let mut half = Half {
                policy: name.clone(),
                tier: PolicyTier::NetworkPolicy,
                direction,
                subjects: Rc::clone(&subjects),
                rules: Vec::new(),
                notes: BTreeSet::new(),
            };
            let rules: Vec<Written<'_>> = match direction {
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
                let peers = read_peers(peers.unwrap_or_default(), policy, index).map_err(fault)?;
                let ports = read_ports(ports.unwrap_or_default()).map_err(fault)?;
                half.push(Resolved {
                    action: Action::Accept,
                    peers,
                    ports,
                });
            }
            halves.push(half);
        }
    }
    Ok(halves)
}

/// `policyTypes`; where absent or empty, Ingress always and Egress with at least one egress rule
/// (`SetDefaults_NetworkPolicy`): `egress: []` alone isolates nothing.
fn directions(policy: &NetworkPolicy) -> Vec<Direction> {
    let spec = &policy.spec;
    let stated = spec.policy_types.as_deref().unwrap_or_default();
    let has = |word: &str| stated.iter().any(|direction| direction == word);
    let egress = if stated.is_empty() {
        spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())
    } else {
        has("Egress")
    };
    let ingress = stated.is_empty() || has("Ingress");
    [(egress, Direction::Egress), (ingress, Direction::Ingress)]
        .into_iter()
        .filter_map(|(applies, direction)| applies.then_some(direction))
        .collect()
}

fn own(policy: &NetworkPolicy) -> Scope {
    Scope::Namespace(policy.namespace.clone())
}

fn select(
    index: &mut Index<'_>,
    scope: Scope,
    selector: Option<&LabelSelector>,
) -> Result<Rc<Selection>, String> {
    Ok(index.select(scope, parse(selector)?))
}

/// An absent selector is read as an empty one; where they differ, the caller has looked already.
fn parse(selector: Option<&LabelSelector>) -> Result<Selector, String> {
    Selector::try_from(selector.cloned().unwrap_or_default()).map_err(|error| error.to_string())
}

/// No item matches everyone, unlike no rule, which allows no one.
fn read_peers(
    peers: &[NetworkPolicyPeer],
    policy: &NetworkPolicy,
    index: &mut Index<'_>,
) -> Result<Peers, String> {
    if peers.is_empty() {
        return Ok(Peers::Anyone);
    }
    let mut selections = Vec::new();
    let mut blocks: Vec<(IpAddr, IpAddr)> = Vec::new();
    for peer in peers {
        match (&peer.ip_block, &peer.namespace_selector, &peer.pod_selector) {
            (Some(block), None, None) => blocks.extend_from_slice(read_block(block)?.as_slice()),
            (Some(_), ..) => return Err("a peer has an ipBlock and a selector".to_owned()),
            (None, None, None) => return Err("a peer has nothing set".to_owned()),
            // Without namespaceSelector: the policy's own namespace. An empty one: all namespaces.
            (None, None, pods) => selections.push(select(index, own(policy), pods.as_ref())?),
            // Both in one item: pods that match, of namespaces that match.
            (None, Some(namespaces), pods) => {
                let namespaces = parse(Some(namespaces))?.into_iter().collect();
                selections.push(select(index, Scope::Matching(namespaces), pods.as_ref())?);
            }
        }
    }
    // Items are alternatives.
    Ok(Peers::any_of(&selections, &blocks))
}

/// A block less its exceptions. An exception binds its own block only: another item may allow the
/// same address.
fn read_block(block: &IPBlock) -> Result<Ranges, String> {
    let cidr = Cidr::parse(&block.cidr).map_err(|error| error.to_string())?;
    let mut holes = Vec::new();
    for text in block.except.iter().flatten() {
        let hole = Cidr::parse(text).map_err(|error| error.to_string())?;
        if hole.family() != cidr.family() {
            return Err(format!(
                "the exception {text} is of another family than {}",
                block.cidr
            ));
        }
        holes.push((hole.first(), hole.last()));
    }
    Ok(Ranges::without((cidr.first(), cidr.last()), holes))
}

/// No item matches every port of every protocol; an item is a protocol at least, TCP unless
/// written.
fn read_ports(ports: &[NetworkPolicyPort]) -> Result<Ports, String> {
    if ports.is_empty() {
        return Ok(Ports::All);
    }
    let number = |number: i32| u16::try_from(number).map_err(|_| format!("{number} is not a port"));
    let mut read: BTreeSet<PortMatch> = BTreeSet::new();
    for port in ports {
        let transport = match port.protocol.as_deref() {
            None | Some("" | "TCP") => Transport::Tcp,
            Some("UDP") => Transport::Udp,
            Some("SCTP") => Transport::Sctp,
            Some(other) => return Err(format!("{other:?} is not a protocol")),
        };
        read.insert(match (&port.port, port.end_port) {
            (None, _) => PortMatch::Transport(transport),
            (Some(IntOrString::String(name)), _) => PortMatch::Named(Some(transport), name.clone()),
            (Some(IntOrString::Int(first)), None) => {
                PortMatch::Range(transport, number(*first)?, number(*first)?)
            }
            (Some(IntOrString::Int(first)), Some(last)) => {
                PortMatch::Range(transport, number(*first)?, number(last)?)
            }
        });
    }
    Ok(Ports::any_of(&read))
}
