//! Who can vouch: for targets, for sources, for paths. The planner adds what the suite lacks.

use super::builder::Builder;
use super::ends::{Ends, party_of, service_party, vantage_of};
use super::{FlowId, Party, PathEnd, TargetKey, Vantage};
use crate::inventory::{Inventory, Pod};
use crate::model::Family;
use crate::suite::{Expected, Suite};
use crate::wire::{Request, Stage, Transport};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// Ports at which a backend itself answers, so that controls never depend on the workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Landmarks {
    /// On every pod, for the pod's own node only.
    pub on_pods: Option<u16>,
    /// On every node.
    pub on_nodes: Option<u16>,
    /// Whether there is a [`Vantage::Witness`] on every node.
    pub witnesses: bool,
}

/// Sources tried as witnesses where no check of the suite is allowed to reach a Service.
const MAX_WITNESSES: usize = 6;

/// Adds controls for every check.
pub(super) fn add(builder: &mut Builder, suites: &[Suite], ends: &Ends<'_>, landmarks: Landmarks) {
    let inventory = ends.inventory;
    let mut this = Controls {
        pods: inventory.pods.iter().map(|pod| ((pod.namespace.as_str(), pod.name.as_str()), pod)).collect(),
        inventory,
        ends,
        landmarks,
        builder,
    };
    let (allowed, denied) = this.sampled();
    this.vouch_by_allowed(&allowed);
    this.vouch_by_named_control(suites);
    for flow in allowed.iter().chain(&denied) {
        this.vouch_for_target(*flow);
    }
    for flow in allowed.iter().chain(&denied) {
        this.vouch_for_source(*flow, &allowed);
    }
    for flow in &denied {
        this.vouch_for_path(*flow);
    }
}

struct Controls<'a, 'b> {
    pods: HashMap<(&'a str, &'a str), &'a Pod>,
    inventory: &'a Inventory,
    ends: &'a Ends<'a>,
    landmarks: Landmarks,
    builder: &'b mut Builder,
}

impl Controls<'_, '_> {
    /// Flows that checks expect to be allowed, and those they expect to be denied.
    fn sampled(&self) -> (BTreeSet<FlowId>, BTreeSet<FlowId>) {
        let of = |expected| {
            let checks = self.builder.checks.iter().filter(move |check| check.expected == expected);
            checks.flat_map(|check| check.flows.iter().copied()).collect()
        };
        (of(Expected::Allowed), of(Expected::Denied))
    }

    fn vouch(&mut self, key: &TargetKey, flow: FlowId) {
        let vouchers = self.builder.vouchers.entry(key.clone()).or_default();
        if !vouchers.contains(&flow) {
            vouchers.push(flow);
        }
    }

    /// First choice: an allowed check of any source.
    fn vouch_by_allowed(&mut self, allowed: &BTreeSet<FlowId>) {
        for flow in allowed {
            let key = self.builder.flows[flow.0 as usize].to.clone();
            self.vouch(&key, *flow);
        }
    }

    /// Second choice: the line's own `control:`.
    fn vouch_by_named_control(&mut self, suites: &[Suite]) {
        for index in 0..self.builder.checks.len() {
            let check = &self.builder.checks[index];
            let suite = &suites[check.suite];
            let line = suite
                .lines
                .iter()
                .find(|line| line.place.line == check.line.line && line.place.file == check.line.file);
            let Some(control) = line.and_then(|line| line.settings.control).or(suite.settings.control) else {
                continue;
            };
            let found = super::expand::find(&suite.endpoints[control.0], self.inventory);
            let vantage = match found.place {
                super::expand::Place::Runner => Some(Vantage::Runner),
                _ => found.pods.first().map(|pod| vantage_of(pod)),
            };
            let Some(vantage) = vantage else { continue };
            for flow in check.flows.clone() {
                self.copy_from(&vantage, flow);
            }
        }
    }

    /// The same target from another vantage.
    fn copy_from(&mut self, vantage: &Vantage, flow: FlowId) {
        let of = &self.builder.flows[flow.0 as usize];
        let (key, party, opens_at) = (of.to.clone(), of.party.clone(), of.opens_at);
        if !self.ends.has_family_of(vantage, key.address) {
            return;
        }
        let id = self.builder.flow(vantage, key.clone(), party, opens_at);
        self.vouch(&key, id);
    }

    /// Third choice: what no policy can stop. A node may always reach its own pods (Kubernetes, "Network Policies");
    /// outside targets are reached from the source's node, past the policies of its pods.
    fn vouch_for_target(&mut self, flow: FlowId) {
        let of = &self.builder.flows[flow.0 as usize];
        let source = self.builder.probes[of.probe.0 as usize].clone();
        match of.party.clone() {
            Party::Pod { node, .. } => self.copy_from(&Vantage::Node { name: node }, flow),
            Party::Service { nodes, pods, .. } => {
                if let [node] = nodes.as_slice() {
                    self.copy_from(&Vantage::Node { name: node.clone() }, flow);
                } else {
                    let near = source.node().map(str::to_owned).or_else(|| nodes.first().cloned());
                    self.vouch_like_a_pod(near, flow, &pods);
                }
            }
            Party::Node { name } => {
                let other = self.inventory.nodes.iter().find(|node| node.name != name).map(|node| node.name.clone());
                if let Some(name) = other {
                    self.copy_from(&Vantage::Node { name }, flow);
                }
                self.copy_from(&Vantage::Runner, flow);
            }
            Party::Outside { .. } => match source.node() {
                Some(node) => {
                    self.copy_from(&Vantage::Node { name: node.to_owned() }, flow);
                    if self.builder.flows[flow.0 as usize].to.name.is_some() {
                        // A node asks other name servers than its pods: only what is wired like a pod can vouch for theirs.
                        self.vouch_like_a_pod(Some(node.to_owned()), flow, &[]);
                    }
                }
                None => {
                    if let Some(node) = self.inventory.nodes.first() {
                        self.copy_from(&Vantage::Node { name: node.name.clone() }, flow);
                    }
                }
            },
        }
    }

    /// From the backend's own witness where there is one, else from whatever pods may be admitted.
    fn vouch_like_a_pod(&mut self, node: Option<String>, flow: FlowId, backends: &[String]) {
        match node {
            Some(node) if self.landmarks.witnesses => self.copy_from(&Vantage::Witness { node }, flow),
            _ => self.try_witnesses(flow, backends),
        }
    }

    /// Where no other pod tries the same target, one pod of each of a few workloads does: a policy may admit one of them,
    /// and the failures of the others do not count. For a Service whose pods run on several nodes no node is sure to get
    /// through, since its packets may go to a pod of the other.
    fn try_witnesses(&mut self, flow: FlowId, backends: &[String]) {
        let of = &self.builder.flows[flow.0 as usize];
        let vouchers = self.builder.vouchers.get(&of.to).into_iter().flatten();
        let mut other_pods =
            vouchers.map(|flow| &self.builder.flows[flow.0 as usize]).filter(|voucher| voucher.probe != of.probe);
        if other_pods.any(|voucher| matches!(self.builder.probes[voucher.probe.0 as usize], Vantage::Pod { .. })) {
            return;
        }
        let mut seen = BTreeSet::new();
        let candidates: Vec<Vantage> = self
            .inventory
            .pods
            .iter()
            .filter(|pod| pod.ready && !pod.host_network && !backends.contains(&pod.full_name()))
            .filter(|pod| seen.insert((&pod.namespace, &pod.labels)))
            .map(vantage_of)
            .take(MAX_WITNESSES)
            .collect();
        for vantage in candidates {
            self.copy_from(&vantage, flow);
        }
    }

    /// What shows that a source can send in the way of a flow: what is allowed to it; cluster DNS, on the chance that it
    /// is; and its own node reaching it.
    fn vouch_for_source(&mut self, flow: FlowId, allowed: &BTreeSet<FlowId>) {
        let of = &self.builder.flows[flow.0 as usize];
        let (probe, family, transport) = (of.probe, of.family(), of.to.transport);
        if allowed.contains(&flow) {
            let able = self.builder.able.entry((probe, family, transport)).or_default();
            if !able.allowed.contains(&flow) {
                able.allowed.push(flow);
            }
        }
        let known = self
            .builder
            .able
            .get(&(probe, family, transport))
            .is_some_and(|able| !able.tried.is_empty() || !able.reached.is_empty());
        if known {
            return;
        }
        let vantage = self.builder.probes[probe.0 as usize].clone();
        let mut tried = Vec::new();
        let mut reached = Vec::new();
        if let Some((key, party)) = self.cluster_dns(family, transport) {
            tried.push(self.builder.flow(&vantage, key, party, Stage::FirstBytes));
        }
        match &vantage {
            Vantage::Pod { namespace, name, node } => {
                let pod = self.pods.get(&(namespace.as_str(), name.as_str())).copied();
                let landmark = pod.and_then(|pod| Some((pod.address(family)?, self.landmarks.on_pods?, party_of(pod))));
                if let Some((address, port, party)) = landmark {
                    let key = nonce_to(address, port, transport);
                    reached.push(self.builder.flow(
                        &Vantage::Node { name: node.clone() },
                        key,
                        party,
                        opens_at(transport),
                    ));
                }
            }
            Vantage::Node { name } => tried.extend(self.beyond_node(&vantage, Some(name), family, transport)),
            Vantage::Witness { .. } => {}
            Vantage::Runner => tried.extend(self.beyond_node(&vantage, None, family, transport)),
        }
        // A flow may already belong to another probe of the same vantage; only the same probe vouches for itself.
        tried.retain(|flow| self.builder.flows[flow.0 as usize].probe == probe);
        let able = self.builder.able.entry((probe, family, transport)).or_default();
        able.tried.extend(tried);
        able.reached.extend(reached);
    }

    fn beyond_node(
        &mut self,
        vantage: &Vantage,
        own: Option<&str>,
        family: Family,
        transport: Transport,
    ) -> Option<FlowId> {
        let port = self.landmarks.on_nodes?;
        let node = self.inventory.nodes.iter().find(|node| Some(node.name.as_str()) != own)?;
        let address = node.addresses.iter().copied().find(|address| Family::of(*address) == family)?;
        let party = Party::Node { name: node.name.clone() };
        Some(self.builder.flow(vantage, nonce_to(address, port, transport), party, opens_at(transport)))
    }

    fn cluster_dns(&self, family: Family, transport: Transport) -> Option<(TargetKey, Party)> {
        let service = self
            .inventory
            .services
            .iter()
            .find(|service| service.namespace == "kube-system" && service.name == "kube-dns")?;
        let address = service.addresses.iter().copied().find(|address| Family::of(*address) == family)?;
        let request = Request::Dns { name: "kubernetes.default.svc.cluster.local".into(), record: "A".into() };
        Some((
            TargetKey { address, name: None, port: 53, transport, request, once: false },
            service_party(service, self.inventory),
        ))
    }

    /// A flow of our own along the same path, past all policies: node to node, or node to its own pod.
    fn vouch_for_path(&mut self, flow: FlowId) {
        let of = &self.builder.flows[flow.0 as usize];
        let family = of.family();
        let from = self.builder.probes[of.probe.0 as usize].node().map(str::to_owned);
        let ends = of.party.ends(of);
        for end in ends {
            let PathEnd::Node(to) = end else { continue };
            let vantage = match &from {
                // Within a node the source's own node reaches the target, or the source: both stay on it.
                Some(from) if *from == to => continue,
                Some(from) => Vantage::Node { name: from.clone() },
                None => Vantage::Runner,
            };
            let node = self.inventory.nodes.iter().find(|node| node.name == to);
            let address =
                node.and_then(|node| node.addresses.iter().copied().find(|address| Family::of(*address) == family));
            if let (Some(address), Some(port)) = (address, self.landmarks.on_nodes) {
                let party = Party::Node { name: to.clone() };
                self.builder.flow(&vantage, nonce_to(address, port, Transport::Tcp), party, Stage::Connect);
            }
        }
    }
}

fn nonce_to(address: IpAddr, port: u16, transport: Transport) -> TargetKey {
    TargetKey { address, name: None, port, transport, request: Request::Nonce, once: false }
}

fn opens_at(transport: Transport) -> Stage {
    match transport {
        Transport::Tcp => Stage::Connect,
        Transport::Udp => Stage::FirstBytes,
    }
}
