//! Controls: flows that show that a target answers, that a source can send, that a path is open.
//! Planning adds those that the suite lacks.

mod path;
mod source;
mod strongest;
mod target;

use super::addresses::{Addressing, target_kind_of};
use super::backend_properties::{ControlEndpoints, NodeEndpoint, ReferencePodAddress};
use super::builder::Builder;
use super::predict::Predictions;
use super::request::DNS_CONTROL_NAME;
use super::{AnswerRule, Flow, FlowId, ProbeId, Source, TargetKey, TargetKind, Waits};
use crate::inventory::{Inventory, Pod};
use crate::model::{self, Family};
use crate::suite::{Expected, Suite};
use crate::wire::{Request, Stage, Transport};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Adds controls for every check.
///
/// `predictions` say which sources policies admit; without them, where the policies cannot be read,
/// no source counts as admitted.
pub(super) fn add<'a>(
    builder: &mut Builder,
    suites: &[Suite],
    addressing: &'a Addressing<'a>,
    control_endpoints: &'a ControlEndpoints,
    predictions: Option<&mut Predictions<'a>>,
) {
    let inventory = addressing.inventory;
    let mut controls = Controls {
        pods: inventory
            .pods
            .iter()
            .map(|pod| ((pod.namespace.as_str(), pod.name.as_str()), pod))
            .collect(),
        inventory,
        addressing,
        control_endpoints,
        builder,
        predictions,
        paths_tried: HashSet::new(),
    };
    let allowed = controls.builder.flows_expected(Expected::Allowed);
    let denied = controls.builder.flows_expected(Expected::Denied);

    controls.add_allowed_checks(&allowed);
    controls.add_allowed_checks_of_another_rule(&allowed, &denied);
    controls.add_named_controls(suites);
    for flow in allowed.iter().chain(&denied) {
        controls.add_target_controls(*flow);
    }
    for flow in &denied {
        controls.add_composite_control(*flow, &allowed);
    }

    for flow in allowed.iter().chain(&denied) {
        controls.add_source_controls(*flow, &allowed);
    }

    for flow in &denied {
        controls.add_path_controls(*flow);
    }
    controls.add_strongest_controls(&allowed, &denied);
}

struct Controls<'a, 'b> {
    pods: HashMap<(&'a str, &'a str), &'a Pod>,
    inventory: &'a Inventory,
    addressing: &'a Addressing<'a>,
    control_endpoints: &'a ControlEndpoints,
    builder: &'b mut Builder,
    predictions: Option<&'b mut Predictions<'a>>,
    /// Searches for controls to the pods of a node that were made: the preferred source, the
    /// check's source, the node, the family.
    paths_tried: HashSet<(Source, Source, String, Family)>,
}

impl Controls<'_, '_> {
    fn flow(&self, id: FlowId) -> &Flow {
        &self.builder.flows[id.0 as usize]
    }

    fn source_of(&self, flow: FlowId) -> Source {
        self.builder.probes[self.flow(flow).probe.0 as usize].clone()
    }

    fn reference_pod_on(&self, node: &str) -> Option<&ReferencePodAddress> {
        self.control_endpoints
            .reference_pods
            .iter()
            .find(|reference_pod| reference_pod.node == node)
    }

    /// Whether policies admit a flow; `None` where they do not give one answer.
    fn admits(
        &mut self,
        source: &Source,
        to: &Arc<TargetKey>,
        target_kind: &Arc<TargetKind>,
    ) -> Option<bool> {
        let flow = Flow {
            probe: ProbeId(0),
            to: Arc::clone(to),
            target_kind: Arc::clone(target_kind),
            opens_at: Stage::Connect,
            waits: Waits::default(),
        };
        let answer = self.predictions.as_deref_mut()?.flow(source, &flow)?;
        Some(answer == Expected::Allowed)
    }

    /// The namespaces of the sources so far, the only ones in which a run makes probes: it may have
    /// no right to make pods in others, and an account that may make pods in `kube-system` owns the
    /// cluster. `None` where probes take no rights.
    fn namespaces_of_probes(&self) -> Option<BTreeSet<String>> {
        if self.control_endpoints.reference_pods_pass {
            return None;
        }
        let sources = self.builder.probes.iter();
        let namespaces = sources.filter_map(|source| match source {
            Source::Pod { namespace, .. } => Some(namespace.clone()),
            Source::ReferencePod { .. } | Source::Node { .. } | Source::Runner => None,
        });
        Some(namespaces.collect())
    }

    /// The pods that controls may be sent from: ready ones on the pod network, of which probes can
    /// be made.
    fn possible_sources(&self) -> impl Iterator<Item = &Pod> {
        let namespaces = self.namespaces_of_probes();
        let pods = self.inventory.pods.iter();
        pods.filter(|pod| pod.ready && !pod.host_network)
            .filter(|pod| !self.inventory.runs_windows(&pod.node))
            .filter(move |pod| {
                let namespaces = namespaces.as_ref();
                namespaces.is_none_or(|namespaces| namespaces.contains(&pod.namespace))
            })
    }

    /// Adds a flow to the reference pod on a node, if there is one with an address of a family.
    fn reach_reference_pod(
        &mut self,
        source: &Source,
        node: &str,
        family: Family,
    ) -> Option<FlowId> {
        let to = self.reference_pod_target(node, family, Transport::Tcp)?;
        let target_kind = TargetKind::ReferencePod {
            node: node.to_owned(),
        };
        Some(self.builder.flow(source, to, target_kind, Stage::Connect))
    }

    /// A nonce to the reference pod on a node, if there is one with an address of a family.
    fn reference_pod_target(
        &self,
        node: &str,
        family: Family,
        transport: Transport,
    ) -> Option<TargetKey> {
        let reference_pod = self.reference_pod_on(node)?;
        let address = address_of(&reference_pod.addresses, family)?;
        Some(nonce_to(address, reference_pod.port, transport))
    }

    /// Adds a flow to what answers on a node.
    fn reach_node(
        &mut self,
        source: &Source,
        name: &str,
        family: Family,
        transport: Transport,
    ) -> Option<FlowId> {
        let (key, target_kind) = self.node_target(name, family, transport)?;
        let opens_at = key.request.opens_at(transport);
        Some(self.builder.flow(source, key, target_kind, opens_at))
    }

    /// What answers on a node.
    fn node_target(
        &self,
        name: &str,
        family: Family,
        transport: Transport,
    ) -> Option<(TargetKey, TargetKind)> {
        let node = self.inventory.nodes.iter().find(|node| node.name == name)?;
        let address = address_of(&node.addresses, family)?;
        let key = match (self.control_endpoints.on_nodes?, transport) {
            (NodeEndpoint::Responder(port), Transport::Tcp | Transport::Udp) => {
                nonce_to(address, port, transport)
            }
            (NodeEndpoint::Handshake(port), Transport::Tcp) => handshake_with(address, port),
            (NodeEndpoint::Handshake(_), Transport::Udp) => return None,
        };
        let target_kind = TargetKind::Node {
            name: name.to_owned(),
        };
        Some((key, target_kind))
    }

    /// A query to cluster DNS by its Service's address.
    fn cluster_dns(&self, family: Family, transport: Transport) -> Option<(TargetKey, TargetKind)> {
        let service = self.inventory.cluster_dns()?;
        let key = TargetKey {
            address: address_of(&service.addresses, family)?,
            name: None,
            port: 53,
            transport,
            request: Request::Dns {
                name: DNS_CONTROL_NAME.into(),
                record: "A".into(),
            },
            answer_rule: AnswerRule::Any,
            once: false,
        };
        Some((key, self.addressing.service_kind(service)?))
    }
}

/// The first address of a family.
fn address_of(addresses: &[IpAddr], family: Family) -> Option<IpAddr> {
    addresses
        .iter()
        .copied()
        .find(|address| Family::of(*address) == family)
}

fn nonce_to(address: IpAddr, port: u16, transport: Transport) -> TargetKey {
    TargetKey {
        address,
        name: None,
        port,
        transport,
        request: Request::Nonce,
        answer_rule: AnswerRule::Any,
        once: false,
    }
}

/// A bare TCP handshake, for servers that are sent nothing.
fn handshake_with(address: IpAddr, port: u16) -> TargetKey {
    TargetKey {
        request: Request::Connect { linger_ms: 0 },
        ..nonce_to(address, port, Transport::Tcp)
    }
}

/// A handshake with the first TCP port that a pod declares.
fn handshake_with_pod(pod: &Pod, family: Family) -> Option<(Arc<TargetKey>, Arc<TargetKind>)> {
    let port = pod
        .ports
        .iter()
        .map(|declared| declared.port)
        .find(|port| port.transport() == model::Transport::Tcp)?;
    let to = handshake_with(pod.address(family)?, port.number());
    Some((Arc::new(to), Arc::new(target_kind_of(pod))))
}
