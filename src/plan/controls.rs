//! Who can vouch: for targets, for sources, for paths. The planner adds what the suite lacks.

use super::addresses::{Addressing, service_target_kind, source_of, target_kind_of};
use super::builder::Builder;
use super::composite::{self, Composite};
use super::policy_delay::isolates;
use super::predict::Predictions;
use super::{Flow, FlowId, PathEnd, ProbeId, Source, TargetKey, TargetKind, Waits};
use crate::inventory::{Inventory, Pod};
use crate::model::Family;
use crate::suite::{Expected, Suite};
use crate::wire::{Http, Request, Stage, Transport};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What a backend itself offers to send from and to send to, so that controls never depend on the
/// workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlEndpoints {
    /// A port on every pod, for the pod's own node only.
    pub on_pods: Option<u16>,
    /// A port on every node.
    pub on_nodes: Option<NodeEndpoint>,
    /// Whether packets can be sent from nodes themselves ([`Source::Node`]).
    pub from_nodes: bool,
    /// At most one on every node.
    pub reference_pods: Vec<ReferencePodAddress>,
    /// Whether what witnesses send gets through to every pod, whatever policies isolate it.
    pub reference_pods_pass: bool,
}

/// A port at which something answers that is no workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeEndpoint {
    /// Our responder, over TCP and UDP.
    Responder(u16),
    /// Somebody else, a kubelet for instance, who completes TCP handshakes and is sent nothing.
    Handshake(u16),
}

/// A [`Source::ReferencePod`], and where it can be reached: past all policies, as any pod of its
/// node would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferencePodAddress {
    /// Its node.
    pub node: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Where our responder listens, over TCP.
    pub port: u16,
}

/// Pods of a node that are tried where something must cross to its pods and there is no witness.
const MAX_CROSSINGS: usize = 2;

/// Sources tried as witnesses where no check of the suite is allowed to reach a Service.
const MAX_POD_CONTROLS: usize = 6;

/// Adds controls for every check.
///
/// `predictions` say whom policies admit; without them, since the policies cannot be read, nobody
/// is known to be.
pub(super) fn add<'a>(
    builder: &mut Builder,
    suites: &[Suite],
    ends: &'a Addressing<'a>,
    control_endpoints: &'a ControlEndpoints,
    predictions: Option<&mut Predictions<'a>>,
) {
    let inventory = ends.inventory;
    let mut this = Controls {
        pods: inventory
            .pods
            .iter()
            .map(|pod| ((pod.namespace.as_str(), pod.name.as_str()), pod))
            .collect(),
        inventory,
        ends,
        control_endpoints,
        builder,
        predictions,
        paths_tried: HashSet::new(),
    };
    let (allowed, denied) = this.sampled();
    this.add_allowed_checks(&allowed);
    this.add_named_controls(suites);
    for flow in allowed.iter().chain(&denied) {
        this.add_target_controls(*flow);
    }
    for flow in &denied {
        this.add_composite_control(*flow, &allowed);
    }
    for flow in allowed.iter().chain(&denied) {
        this.add_source_controls(*flow, &allowed);
    }
    for flow in &denied {
        this.add_path_controls(*flow);
    }
}

struct Controls<'a, 'b> {
    pods: HashMap<(&'a str, &'a str), &'a Pod>,
    inventory: &'a Inventory,
    ends: &'a Addressing<'a>,
    control_endpoints: &'a ControlEndpoints,
    builder: &'b mut Builder,
    predictions: Option<&'b mut Predictions<'a>>,
    /// Crossings to the pods of a node that were looked for: beside whom, from whom, to which node,
    /// in which family.
    paths_tried: HashSet<(Source, Source, String, Family)>,
}

impl Controls<'_, '_> {
    /// Flows that checks expect to be allowed, and those they expect to be denied.
    fn sampled(&self) -> (BTreeSet<FlowId>, BTreeSet<FlowId>) {
        let of = |expected| {
            let checks = self
                .builder
                .checks
                .iter()
                .filter(move |check| check.expected == expected);
            checks
                .flat_map(|check| check.flows.iter().copied())
                .collect()
        };
        (of(Expected::Allowed), of(Expected::Denied))
    }

    fn add_target_control(&mut self, key: &TargetKey, flow: FlowId) {
        let target_controls = self.builder.target_controls.entry(key.clone()).or_default();
        if !target_controls.contains(&flow) {
            target_controls.push(flow);
        }
    }

    /// First choice: an allowed check of any source.
    fn add_allowed_checks(&mut self, allowed: &BTreeSet<FlowId>) {
        for flow in allowed {
            let key = self.builder.flows[flow.0 as usize].to.clone();
            self.add_target_control(&key, *flow);
        }
    }

    /// Second choice: the line's own `control:`.
    fn add_named_controls(&mut self, suites: &[Suite]) {
        for index in 0..self.builder.checks.len() {
            let check = &self.builder.checks[index];
            let suite = &suites[check.suite];
            let line = suite.lines.iter().find(|line| {
                line.place.line == check.line.line && line.place.file == check.line.file
            });
            let Some(control) = line
                .and_then(|line| line.settings.control)
                .or(suite.settings.control)
            else {
                continue;
            };
            let found = super::endpoints::find(&suite.endpoints[control.0], self.inventory);
            let source = match found.place {
                super::endpoints::Place::Runner => Some(Source::Runner),
                _ => found.pods.first().map(|pod| source_of(pod)),
            };
            let Some(source) = source else { continue };
            for flow in check.flows.clone() {
                self.copy_from(&source, flow);
            }
        }
    }

    /// The same target from another vantage.
    fn copy_from(&mut self, source: &Source, flow: FlowId) {
        let of = &self.builder.flows[flow.0 as usize];
        let (key, target_kind, opens_at) = (
            TargetKey::clone(&of.to),
            TargetKind::clone(&of.target_kind),
            of.opens_at,
        );
        let windows = source
            .node()
            .is_some_and(|node| self.inventory.runs_windows(node));
        let sends = (self.control_endpoints.from_nodes || !matches!(source, Source::Node { .. }))
            && !windows;
        if !sends || !self.ends.has_family_of(source, key.address) {
            return;
        }
        let (asked, opens_at) = match &key.request {
            // What may be sent only once is not what a control repeats: it shows the way there and
            // no more.
            Request::Http(http) if key.once => {
                let get = Http {
                    method: "GET".into(),
                    body: None,
                    ..http.clone()
                };
                (
                    TargetKey {
                        request: Request::Http(get),
                        once: false,
                        ..key.clone()
                    },
                    opens_at,
                )
            }
            _ => (key.clone(), opens_at),
        };
        let id = self.builder.flow(source, asked, target_kind, opens_at);
        self.add_target_control(&key, id);
    }

    /// Third choice: what no policy can stop. A node may always reach its own pods (Kubernetes,
    /// "Network Policies"); outside targets are reached from the source's node, past the policies
    /// of its pods.
    fn add_target_controls(&mut self, flow: FlowId) {
        let of = &self.builder.flows[flow.0 as usize];
        let source = self.builder.probes[of.probe.0 as usize].clone();
        match TargetKind::clone(&of.target_kind) {
            TargetKind::Pod { node, .. } if self.control_endpoints.from_nodes => {
                self.copy_from(&Source::Node { name: node }, flow);
            }
            TargetKind::Pod {
                namespace, name, ..
            } => self.try_pod_controls(flow, &[format!("{namespace}/{name}")]),
            TargetKind::Service { nodes, pods, .. } => {
                if let ([node], true) = (nodes.as_slice(), self.control_endpoints.from_nodes) {
                    self.copy_from(&Source::Node { name: node.clone() }, flow);
                } else {
                    let near = source
                        .node()
                        .map(str::to_owned)
                        .or_else(|| nodes.first().cloned());
                    self.add_pod_like_control(near, flow, &pods);
                }
            }
            TargetKind::Node { name } => {
                let other = self
                    .inventory
                    .nodes
                    .iter()
                    .find(|node| node.name != name)
                    .map(|node| node.name.clone());
                if let Some(name) = other {
                    self.copy_from(&Source::Node { name }, flow);
                }
                self.copy_from(&Source::Runner, flow);
            }
            // Only the planner's own flows go there.
            TargetKind::ReferencePod { .. } => {}
            TargetKind::Outside { .. } => match source.node() {
                Some(node) => {
                    self.copy_from(
                        &Source::Node {
                            name: node.to_owned(),
                        },
                        flow,
                    );
                    if self.builder.flows[flow.0 as usize].to.name.is_some() {
                        // A node asks other name servers than its pods: only what is wired like a
                        // pod can vouch for theirs.
                        self.add_pod_like_control(Some(node.to_owned()), flow, &[]);
                    }
                }
                None => {
                    if let Some(node) = self.inventory.nodes.first() {
                        self.copy_from(
                            &Source::Node {
                                name: node.name.clone(),
                            },
                            flow,
                        );
                    }
                }
            },
        }
    }

    /// Fourth choice, for a Service whose pods are on several nodes and which nobody is allowed to
    /// reach: see [`Composite`].
    fn add_composite_control(&mut self, flow: FlowId, allowed: &BTreeSet<FlowId>) {
        if !self.control_endpoints.from_nodes || self.control_endpoints.reference_pods_pass {
            return;
        }
        let of = &self.builder.flows[flow.0 as usize];
        let key = TargetKey::clone(&of.to);
        let others = self.builder.target_controls.get(&key).into_iter().flatten();
        let mut others =
            others.filter(|control| self.builder.flows[control.0 as usize].probe != of.probe);
        if self.builder.composites.contains_key(&key)
            || others.any(|control| allowed.contains(control))
        {
            return;
        }
        let Some(dialled) = composite::dialled(self.inventory, &key, &of.target_kind) else {
            return;
        };
        let (target_kind, opens_at) = (TargetKind::clone(&of.target_kind), of.opens_at);
        let through = dialled.nodes.into_iter().map(|name| {
            let source = Source::Node { name };
            self.builder
                .flow(&source, key.clone(), target_kind.clone(), opens_at)
        });
        let through = through.collect();
        let backends = dialled
            .backends
            .into_iter()
            .map(|(node, key, target_kind)| {
                let source = Source::Node { name: node };
                self.builder.flow(&source, key, target_kind, opens_at)
            });
        let backends = backends.collect();
        self.builder
            .composites
            .insert(key, Composite { through, backends });
    }

    /// From the backend's own witness where there is one, else from whatever pods may be admitted.
    fn add_pod_like_control(&mut self, node: Option<String>, flow: FlowId, backends: &[String]) {
        match node {
            Some(node) if self.reference_pod_on(&node).is_some() => {
                self.copy_from(&Source::ReferencePod { node }, flow)
            }
            _ => self.try_pod_controls(flow, backends),
        }
    }

    fn reference_pod_on(&self, node: &str) -> Option<&ReferencePodAddress> {
        self.control_endpoints
            .reference_pods
            .iter()
            .find(|reference_pod| reference_pod.node == node)
    }

    /// Whether policies admit a flow, as far as they say one thing.
    fn admits(
        &mut self,
        source: &Source,
        to: &Arc<TargetKey>,
        target_kind: &Arc<TargetKind>,
    ) -> Option<bool> {
        let (to, target_kind) = (Arc::clone(to), Arc::clone(target_kind));
        let flow = Flow {
            probe: ProbeId(0),
            to,
            target_kind,
            opens_at: Stage::Connect,
            waits: Waits::default(),
        };
        self.predictions
            .as_deref_mut()?
            .flow(source, &flow)
            .map(|answer| answer == Expected::Allowed)
    }

    /// Where no other pod tries the same target, one pod of each of a few workloads does: those
    /// that the policies admit, or else any, since the failures of those that are not admitted do
    /// not count. For a Service whose pods run on several nodes no node is sure to get through,
    /// since its packets may go to a pod of the other.
    fn try_pod_controls(&mut self, flow: FlowId, backends: &[String]) {
        let of = &self.builder.flows[flow.0 as usize];
        let target_controls = self
            .builder
            .target_controls
            .get(&of.to)
            .into_iter()
            .flatten();
        let mut other_pods = target_controls
            .map(|flow| &self.builder.flows[flow.0 as usize])
            .filter(|control| control.probe != of.probe);
        if other_pods.any(|control| {
            matches!(
                self.builder.probes[control.probe.0 as usize],
                Source::Pod { .. }
            )
        }) {
            return;
        }
        let (to, target_kind) = (Arc::clone(&of.to), Arc::clone(&of.target_kind));
        let own = self.builder.probes[of.probe.0 as usize].clone();
        let mut seen = BTreeSet::new();
        let candidates: Vec<Source> = self
            .inventory
            .pods
            .iter()
            .filter(|pod| pod.ready && !pod.host_network && !backends.contains(&pod.full_name()))
            .filter(|pod| !self.inventory.runs_windows(&pod.node))
            .filter(|pod| seen.insert((&pod.namespace, &pod.labels)))
            .map(source_of)
            .collect();
        let of_family =
            |source: &&Source| **source != own && self.ends.has_family_of(source, to.address);
        let source_controls: Vec<Source> = candidates.iter().filter(of_family).cloned().collect();
        let mut admitted: Vec<Source> = Vec::new();
        for source in source_controls {
            if admitted.len() < MAX_POD_CONTROLS
                && self.admits(&source, &to, &target_kind) == Some(true)
            {
                admitted.push(source);
            }
        }
        let chosen = if admitted.is_empty() {
            candidates
        } else {
            admitted
        };
        for source in chosen.iter().take(MAX_POD_CONTROLS) {
            self.copy_from(source, flow);
        }
    }

    /// What shows that a source can send in the way of a flow: what is allowed to it; cluster DNS,
    /// on the chance that it is; and its own node reaching it.
    fn add_source_controls(&mut self, flow: FlowId, allowed: &BTreeSet<FlowId>) {
        let of = &self.builder.flows[flow.0 as usize];
        let (probe, family, transport) = (of.probe, of.family(), of.to.transport);
        if allowed.contains(&flow) {
            let source_controls = self
                .builder
                .source_controls
                .entry((probe, family, transport))
                .or_default();
            if !source_controls.allowed.contains(&flow) {
                source_controls.allowed.push(flow);
            }
        }
        let known = self
            .builder
            .source_controls
            .get(&(probe, family, transport))
            .is_some_and(|source_controls| {
                !source_controls.tried.is_empty() || !source_controls.reached.is_empty()
            });
        if known {
            return;
        }
        let source = self.builder.probes[probe.0 as usize].clone();
        let mut tried = Vec::new();
        let mut reached = Vec::new();
        if let Some((key, target_kind)) = self.cluster_dns(family, transport) {
            tried.push(
                self.builder
                    .flow(&source, key, target_kind, Stage::FirstBytes),
            );
        }
        match &source {
            Source::Pod {
                namespace,
                name,
                node,
            } => {
                let pod = self.pods.get(&(namespace.as_str(), name.as_str())).copied();
                let landmark = pod.and_then(|pod| {
                    Some((
                        pod.address(family)?,
                        self.control_endpoints.on_pods?,
                        target_kind_of(pod),
                    ))
                });
                if let (Some((address, port, target_kind)), true) =
                    (landmark, self.control_endpoints.from_nodes)
                {
                    let key = nonce_to(address, port, transport);
                    reached.push(self.builder.flow(
                        &Source::Node { name: node.clone() },
                        key,
                        target_kind,
                        opens_at(transport),
                    ));
                }
            }
            Source::Node { name } => {
                tried.extend(self.beyond_node(&source, Some(name), family, transport))
            }
            Source::ReferencePod { .. } => {}
            Source::Runner => tried.extend(self.beyond_node(&source, None, family, transport)),
        }
        // A flow may already belong to another probe of the same vantage; only the same probe
        // vouches for itself.
        tried.retain(|flow| self.builder.flows[flow.0 as usize].probe == probe);
        let source_controls = self
            .builder
            .source_controls
            .entry((probe, family, transport))
            .or_default();
        source_controls.tried.extend(tried);
        source_controls.reached.extend(reached);
    }

    fn beyond_node(
        &mut self,
        source: &Source,
        own: Option<&str>,
        family: Family,
        transport: Transport,
    ) -> Option<FlowId> {
        let node = self
            .inventory
            .nodes
            .iter()
            .find(|node| Some(node.name.as_str()) != own)?;
        self.reach_node(source, &node.name, family, transport)
    }

    /// From a vantage to what answers on a node.
    fn reach_node(
        &mut self,
        source: &Source,
        name: &str,
        family: Family,
        transport: Transport,
    ) -> Option<FlowId> {
        let node = self.inventory.nodes.iter().find(|node| node.name == name)?;
        let address = node
            .addresses
            .iter()
            .copied()
            .find(|address| Family::of(*address) == family)?;
        let key = match (self.control_endpoints.on_nodes?, transport) {
            (NodeEndpoint::Responder(port), _) => nonce_to(address, port, transport),
            (NodeEndpoint::Handshake(port), Transport::Tcp) => TargetKey {
                request: Request::Connect { linger_ms: 0 },
                ..nonce_to(address, port, transport)
            },
            (NodeEndpoint::Handshake(_), Transport::Udp) => return None,
        };
        Some(self.builder.flow(
            source,
            key,
            TargetKind::Node {
                name: name.to_owned(),
            },
            opens_at(transport),
        ))
    }

    fn cluster_dns(&self, family: Family, transport: Transport) -> Option<(TargetKey, TargetKind)> {
        let service = self.inventory.cluster_dns()?;
        let address = service
            .addresses
            .iter()
            .copied()
            .find(|address| Family::of(*address) == family)?;
        let request = Request::Dns {
            name: "kubernetes.default.svc.cluster.local".into(),
            record: "A".into(),
        };
        Some((
            TargetKey {
                address,
                name: None,
                port: 53,
                transport,
                request,
                once: false,
            },
            service_target_kind(service, self.inventory),
        ))
    }

    /// A flow of our own to each end of a flow's paths, past all policies where there is such a
    /// way.
    fn add_path_controls(&mut self, flow: FlowId) {
        let of = &self.builder.flows[flow.0 as usize];
        let (family, ends) = (of.family(), of.target_kind.ends(of));
        let source = self.builder.probes[of.probe.0 as usize].clone();
        let beside = match source.node() {
            Some(node) if self.control_endpoints.from_nodes => Source::Node {
                name: node.to_owned(),
            },
            Some(_) | None => source.clone(),
        };
        for end in ends {
            match end {
                // Within a node the node's own packets to the target stay on it, as the source's
                // do.
                PathEnd::Pods(to)
                    if self.control_endpoints.from_nodes && source.node() == Some(to.as_str()) => {}
                PathEnd::Pods(to) => self.reach_pods(&beside, &source, &to, family),
                PathEnd::Node(to) => {
                    let own = source.node() == Some(to.as_str());
                    // What a node sends to itself never leaves it.
                    let from = match self.reference_pod_on(&to) {
                        Some(reference_pod) if own => Source::ReferencePod {
                            node: reference_pod.node.clone(),
                        },
                        None if own => source.clone(),
                        Some(_) | None => beside.clone(),
                    };
                    self.reach_node(&from, &to, family, Transport::Tcp);
                }
                PathEnd::Services => self.reach_services(&source, flow, family),
                // Whoever vouches for an outside target sends from the source's node.
                PathEnd::Address(_) => {}
            }
        }
    }

    /// To the network of a node's pods: to the witness there, else to pods of it that may admit
    /// somebody.
    fn reach_pods(&mut self, beside: &Source, source: &Source, to: &str, family: Family) {
        if let Some(reference_pod) = self.reference_pod_on(to) {
            let address = reference_pod
                .addresses
                .iter()
                .copied()
                .find(|address| Family::of(*address) == family);
            let (port, target_kind) = (
                reference_pod.port,
                TargetKind::ReferencePod {
                    node: to.to_owned(),
                },
            );
            if let Some(address) = address {
                self.builder.flow(
                    beside,
                    nonce_to(address, port, Transport::Tcp),
                    target_kind,
                    Stage::Connect,
                );
            }
            return;
        }
        if !self
            .paths_tried
            .insert((beside.clone(), source.clone(), to.to_owned(), family))
        {
            return;
        }
        let mut path_candidates: Vec<PathCandidate> = Vec::new();
        for pod in self
            .inventory
            .pods
            .iter()
            .filter(|pod| pod.node == to && pod.ready && !pod.host_network)
        {
            let mut ports = pod.ports.iter().map(|declared| declared.port);
            let port = ports.find(|port| port.transport() == crate::model::Transport::Tcp);
            let (Some(port), Some(address)) = (port, pod.address(family)) else {
                continue;
            };
            let target_kind = Arc::new(target_kind_of(pod));
            let key = Arc::new(TargetKey {
                request: Request::Connect { linger_ms: 0 },
                ..nonce_to(address, port.number(), Transport::Tcp)
            });
            let mut rank = None;
            let mut sources = Vec::new();
            for source in BTreeSet::from([beside, source]) {
                if !self.ends.can_meet(source, &key, &target_kind) {
                    continue;
                }
                let of = match self.admits(source, &key, &target_kind) {
                    Some(true) => Rank::Admitted,
                    None if !is_isolated_for_ingress(self.inventory, pod) => Rank::Open,
                    None | Some(false) => continue,
                };
                rank = rank.min(Some(of)).or(Some(of));
                sources.push(source.clone());
            }
            path_candidates.extend(rank.map(|rank| PathCandidate {
                rank,
                sources,
                key,
                target_kind,
            }));
        }
        // Cluster DNS first: it is there to be asked.
        path_candidates
            .sort_by_key(|crossing| (crossing.rank, !self.is_cluster_dns(&crossing.target_kind)));
        for PathCandidate {
            sources,
            key,
            target_kind,
            ..
        } in path_candidates.into_iter().take(MAX_CROSSINGS)
        {
            for source in sources {
                self.builder.flow(
                    &source,
                    TargetKey::clone(&key),
                    TargetKind::clone(&target_kind),
                    Stage::Connect,
                );
            }
        }
    }

    fn is_cluster_dns(&self, target_kind: &TargetKind) -> bool {
        let TargetKind::Pod {
            namespace, name, ..
        } = target_kind
        else {
            return false;
        };
        self.pods
            .get(&(namespace.as_str(), name.as_str()))
            .is_some_and(|pod| is_cluster_dns(pod))
    }

    /// To any Service's cluster address: the very Service from the witness beside the source; where
    /// that may be stopped, or there is none, cluster DNS as well, from the source's node or from
    /// the source itself.
    fn reach_services(&mut self, source: &Source, flow: FlowId, family: Family) {
        let reference_pod = source
            .node()
            .and_then(|node| self.reference_pod_on(node))
            .map(|reference_pod| reference_pod.node.clone());
        if let Some(node) = &reference_pod {
            self.copy_from(&Source::ReferencePod { node: node.clone() }, flow);
        }
        match (reference_pod, source.node()) {
            (Some(_), _) if self.control_endpoints.reference_pods_pass => {}
            (_, Some(node)) if self.control_endpoints.from_nodes => {
                if let Some((key, target_kind)) = self.cluster_dns(family, Transport::Tcp) {
                    self.builder.flow(
                        &Source::Node {
                            name: node.to_owned(),
                        },
                        key,
                        target_kind,
                        Stage::FirstBytes,
                    );
                }
            }
            (_, Some(_) | None) => {
                if let Some((key, target_kind)) = self.cluster_dns(family, Transport::Tcp) {
                    self.builder
                        .flow(source, key, target_kind, Stage::FirstBytes);
                }
            }
        }
    }
}

/// What may cross to a pod.
struct PathCandidate {
    rank: Rank,
    sources: Vec<Source>,
    key: Arc<TargetKey>,
    target_kind: Arc<TargetKind>,
}

/// How likely something crosses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Policies admit it.
    Admitted,
    /// Who sends is not known to policies, and none isolates the pod.
    Open,
}

/// Whether any policy isolates a pod for ingress.
fn is_isolated_for_ingress(inventory: &Inventory, pod: &Pod) -> bool {
    inventory
        .network_policies()
        .any(|policy| isolates(policy, pod))
}

fn is_cluster_dns(pod: &Pod) -> bool {
    pod.namespace == "kube-system"
        && pod
            .labels
            .get("k8s-app")
            .is_some_and(|app| app == "kube-dns")
}

fn nonce_to(address: IpAddr, port: u16, transport: Transport) -> TargetKey {
    TargetKey {
        address,
        name: None,
        port,
        transport,
        request: Request::Nonce,
        once: false,
    }
}

fn opens_at(transport: Transport) -> Stage {
    match transport {
        Transport::Tcp => Stage::Connect,
        Transport::Udp => Stage::FirstBytes,
    }
}
