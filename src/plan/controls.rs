//! Who can vouch: for targets, for sources, for paths. The planner adds what the suite lacks.

use super::arming::isolates;
use super::builder::Builder;
use super::composite::{self, Composite};
use super::ends::{Ends, party_of, service_party, vantage_of};
use super::predict::Predictions;
use super::{Flow, FlowId, Party, PathEnd, ProbeId, TargetKey, Vantage, Waits};
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
pub struct Landmarks {
    /// A port on every pod, for the pod's own node only.
    pub on_pods: Option<u16>,
    /// A port on every node.
    pub on_nodes: Option<Landmark>,
    /// Whether packets can be sent from nodes themselves ([`Vantage::Node`]).
    pub from_nodes: bool,
    /// At most one on every node.
    pub witnesses: Vec<WitnessAt>,
    /// Whether what witnesses send gets through to every pod, whatever policies isolate it.
    pub witnesses_pass: bool,
}

/// A port at which something answers that is no workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landmark {
    /// Our responder, over TCP and UDP.
    Responder(u16),
    /// Somebody else, a kubelet for instance, who completes TCP handshakes and is sent nothing.
    Handshake(u16),
}

/// A [`Vantage::Witness`], and where it can be reached: past all policies, as any pod of its node
/// would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessAt {
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
const MAX_WITNESSES: usize = 6;

/// Adds controls for every check.
///
/// `predictions` say whom policies admit; without them, since the policies cannot be read, nobody
/// is known to be.
pub(super) fn add<'a>(
    builder: &mut Builder,
    suites: &[Suite],
    ends: &'a Ends<'a>,
    landmarks: &'a Landmarks,
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
        landmarks,
        builder,
        predictions,
        crossed: HashSet::new(),
    };
    let (allowed, denied) = this.sampled();
    this.vouch_by_allowed(&allowed);
    this.vouch_by_named_control(suites);
    for flow in allowed.iter().chain(&denied) {
        this.vouch_for_target(*flow);
    }
    for flow in &denied {
        this.vouch_together(*flow, &allowed);
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
    landmarks: &'a Landmarks,
    builder: &'b mut Builder,
    predictions: Option<&'b mut Predictions<'a>>,
    /// Crossings to the pods of a node that were looked for: beside whom, from whom, to which node,
    /// in which family.
    crossed: HashSet<(Vantage, Vantage, String, Family)>,
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
            let line = suite.lines.iter().find(|line| {
                line.place.line == check.line.line && line.place.file == check.line.file
            });
            let Some(control) = line
                .and_then(|line| line.settings.control)
                .or(suite.settings.control)
            else {
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
        let (key, party, opens_at) = (
            TargetKey::clone(&of.to),
            Party::clone(&of.party),
            of.opens_at,
        );
        let windows = vantage
            .node()
            .is_some_and(|node| self.inventory.runs_windows(node));
        let sends =
            (self.landmarks.from_nodes || !matches!(vantage, Vantage::Node { .. })) && !windows;
        if !sends || !self.ends.has_family_of(vantage, key.address) {
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
        let id = self.builder.flow(vantage, asked, party, opens_at);
        self.vouch(&key, id);
    }

    /// Third choice: what no policy can stop. A node may always reach its own pods (Kubernetes,
    /// "Network Policies"); outside targets are reached from the source's node, past the policies
    /// of its pods.
    fn vouch_for_target(&mut self, flow: FlowId) {
        let of = &self.builder.flows[flow.0 as usize];
        let source = self.builder.probes[of.probe.0 as usize].clone();
        match Party::clone(&of.party) {
            Party::Pod { node, .. } if self.landmarks.from_nodes => {
                self.copy_from(&Vantage::Node { name: node }, flow);
            }
            Party::Pod {
                namespace, name, ..
            } => self.try_witnesses(flow, &[format!("{namespace}/{name}")]),
            Party::Service { nodes, pods, .. } => {
                if let ([node], true) = (nodes.as_slice(), self.landmarks.from_nodes) {
                    self.copy_from(&Vantage::Node { name: node.clone() }, flow);
                } else {
                    let near = source
                        .node()
                        .map(str::to_owned)
                        .or_else(|| nodes.first().cloned());
                    self.vouch_like_a_pod(near, flow, &pods);
                }
            }
            Party::Node { name } => {
                let other = self
                    .inventory
                    .nodes
                    .iter()
                    .find(|node| node.name != name)
                    .map(|node| node.name.clone());
                if let Some(name) = other {
                    self.copy_from(&Vantage::Node { name }, flow);
                }
                self.copy_from(&Vantage::Runner, flow);
            }
            // Only the planner's own flows go there.
            Party::Witness { .. } => {}
            Party::Outside { .. } => match source.node() {
                Some(node) => {
                    self.copy_from(
                        &Vantage::Node {
                            name: node.to_owned(),
                        },
                        flow,
                    );
                    if self.builder.flows[flow.0 as usize].to.name.is_some() {
                        // A node asks other name servers than its pods: only what is wired like a
                        // pod can vouch for theirs.
                        self.vouch_like_a_pod(Some(node.to_owned()), flow, &[]);
                    }
                }
                None => {
                    if let Some(node) = self.inventory.nodes.first() {
                        self.copy_from(
                            &Vantage::Node {
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
    fn vouch_together(&mut self, flow: FlowId, allowed: &BTreeSet<FlowId>) {
        if !self.landmarks.from_nodes || self.landmarks.witnesses_pass {
            return;
        }
        let of = &self.builder.flows[flow.0 as usize];
        let key = TargetKey::clone(&of.to);
        let others = self.builder.vouchers.get(&key).into_iter().flatten();
        let mut others =
            others.filter(|voucher| self.builder.flows[voucher.0 as usize].probe != of.probe);
        if self.builder.composites.contains_key(&key)
            || others.any(|voucher| allowed.contains(voucher))
        {
            return;
        }
        let Some(dialled) = composite::dialled(self.inventory, &key, &of.party) else {
            return;
        };
        let (party, opens_at) = (Party::clone(&of.party), of.opens_at);
        let through = dialled.nodes.into_iter().map(|name| {
            let vantage = Vantage::Node { name };
            self.builder
                .flow(&vantage, key.clone(), party.clone(), opens_at)
        });
        let through = through.collect();
        let backends = dialled.backends.into_iter().map(|(node, key, party)| {
            let vantage = Vantage::Node { name: node };
            self.builder.flow(&vantage, key, party, opens_at)
        });
        let backends = backends.collect();
        self.builder
            .composites
            .insert(key, Composite { through, backends });
    }

    /// From the backend's own witness where there is one, else from whatever pods may be admitted.
    fn vouch_like_a_pod(&mut self, node: Option<String>, flow: FlowId, backends: &[String]) {
        match node {
            Some(node) if self.witness_on(&node).is_some() => {
                self.copy_from(&Vantage::Witness { node }, flow)
            }
            _ => self.try_witnesses(flow, backends),
        }
    }

    fn witness_on(&self, node: &str) -> Option<&WitnessAt> {
        self.landmarks
            .witnesses
            .iter()
            .find(|witness| witness.node == node)
    }

    /// Whether policies admit a flow, as far as they say one thing.
    fn admits(
        &mut self,
        vantage: &Vantage,
        to: &Arc<TargetKey>,
        party: &Arc<Party>,
    ) -> Option<bool> {
        let (to, party) = (Arc::clone(to), Arc::clone(party));
        let flow = Flow {
            probe: ProbeId(0),
            to,
            party,
            opens_at: Stage::Connect,
            waits: Waits::default(),
        };
        self.predictions
            .as_deref_mut()?
            .flow(vantage, &flow)
            .map(|answer| answer == Expected::Allowed)
    }

    /// Where no other pod tries the same target, one pod of each of a few workloads does: those
    /// that the policies admit, or else any, since the failures of those that are not admitted do
    /// not count. For a Service whose pods run on several nodes no node is sure to get through,
    /// since its packets may go to a pod of the other.
    fn try_witnesses(&mut self, flow: FlowId, backends: &[String]) {
        let of = &self.builder.flows[flow.0 as usize];
        let vouchers = self.builder.vouchers.get(&of.to).into_iter().flatten();
        let mut other_pods = vouchers
            .map(|flow| &self.builder.flows[flow.0 as usize])
            .filter(|voucher| voucher.probe != of.probe);
        if other_pods.any(|voucher| {
            matches!(
                self.builder.probes[voucher.probe.0 as usize],
                Vantage::Pod { .. }
            )
        }) {
            return;
        }
        let (to, party) = (Arc::clone(&of.to), Arc::clone(&of.party));
        let own = self.builder.probes[of.probe.0 as usize].clone();
        let mut seen = BTreeSet::new();
        let candidates: Vec<Vantage> = self
            .inventory
            .pods
            .iter()
            .filter(|pod| pod.ready && !pod.host_network && !backends.contains(&pod.full_name()))
            .filter(|pod| !self.inventory.runs_windows(&pod.node))
            .filter(|pod| seen.insert((&pod.namespace, &pod.labels)))
            .map(vantage_of)
            .collect();
        let of_family =
            |vantage: &&Vantage| **vantage != own && self.ends.has_family_of(vantage, to.address);
        let able: Vec<Vantage> = candidates.iter().filter(of_family).cloned().collect();
        let mut admitted: Vec<Vantage> = Vec::new();
        for vantage in able {
            if admitted.len() < MAX_WITNESSES && self.admits(&vantage, &to, &party) == Some(true) {
                admitted.push(vantage);
            }
        }
        let chosen = if admitted.is_empty() {
            candidates
        } else {
            admitted
        };
        for vantage in chosen.iter().take(MAX_WITNESSES) {
            self.copy_from(vantage, flow);
        }
    }

    /// What shows that a source can send in the way of a flow: what is allowed to it; cluster DNS,
    /// on the chance that it is; and its own node reaching it.
    fn vouch_for_source(&mut self, flow: FlowId, allowed: &BTreeSet<FlowId>) {
        let of = &self.builder.flows[flow.0 as usize];
        let (probe, family, transport) = (of.probe, of.family(), of.to.transport);
        if allowed.contains(&flow) {
            let able = self
                .builder
                .able
                .entry((probe, family, transport))
                .or_default();
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
            Vantage::Pod {
                namespace,
                name,
                node,
            } => {
                let pod = self.pods.get(&(namespace.as_str(), name.as_str())).copied();
                let landmark = pod.and_then(|pod| {
                    Some((pod.address(family)?, self.landmarks.on_pods?, party_of(pod)))
                });
                if let (Some((address, port, party)), true) = (landmark, self.landmarks.from_nodes)
                {
                    let key = nonce_to(address, port, transport);
                    reached.push(self.builder.flow(
                        &Vantage::Node { name: node.clone() },
                        key,
                        party,
                        opens_at(transport),
                    ));
                }
            }
            Vantage::Node { name } => {
                tried.extend(self.beyond_node(&vantage, Some(name), family, transport))
            }
            Vantage::Witness { .. } => {}
            Vantage::Runner => tried.extend(self.beyond_node(&vantage, None, family, transport)),
        }
        // A flow may already belong to another probe of the same vantage; only the same probe
        // vouches for itself.
        tried.retain(|flow| self.builder.flows[flow.0 as usize].probe == probe);
        let able = self
            .builder
            .able
            .entry((probe, family, transport))
            .or_default();
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
        let node = self
            .inventory
            .nodes
            .iter()
            .find(|node| Some(node.name.as_str()) != own)?;
        self.reach_node(vantage, &node.name, family, transport)
    }

    /// From a vantage to what answers on a node.
    fn reach_node(
        &mut self,
        vantage: &Vantage,
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
        let key = match (self.landmarks.on_nodes?, transport) {
            (Landmark::Responder(port), _) => nonce_to(address, port, transport),
            (Landmark::Handshake(port), Transport::Tcp) => TargetKey {
                request: Request::Connect { linger_ms: 0 },
                ..nonce_to(address, port, transport)
            },
            (Landmark::Handshake(_), Transport::Udp) => return None,
        };
        Some(self.builder.flow(
            vantage,
            key,
            Party::Node {
                name: name.to_owned(),
            },
            opens_at(transport),
        ))
    }

    fn cluster_dns(&self, family: Family, transport: Transport) -> Option<(TargetKey, Party)> {
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
            service_party(service, self.inventory),
        ))
    }

    /// A flow of our own to each end of a flow's paths, past all policies where there is such a
    /// way.
    fn vouch_for_path(&mut self, flow: FlowId) {
        let of = &self.builder.flows[flow.0 as usize];
        let (family, ends) = (of.family(), of.party.ends(of));
        let source = self.builder.probes[of.probe.0 as usize].clone();
        let beside = match source.node() {
            Some(node) if self.landmarks.from_nodes => Vantage::Node {
                name: node.to_owned(),
            },
            Some(_) | None => source.clone(),
        };
        for end in ends {
            match end {
                // Within a node the node's own packets to the target stay on it, as the source's
                // do.
                PathEnd::Pods(to)
                    if self.landmarks.from_nodes && source.node() == Some(to.as_str()) => {}
                PathEnd::Pods(to) => self.reach_pods(&beside, &source, &to, family),
                PathEnd::Node(to) => {
                    let own = source.node() == Some(to.as_str());
                    // What a node sends to itself never leaves it.
                    let from = match self.witness_on(&to) {
                        Some(witness) if own => Vantage::Witness {
                            node: witness.node.clone(),
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
    fn reach_pods(&mut self, beside: &Vantage, source: &Vantage, to: &str, family: Family) {
        if let Some(witness) = self.witness_on(to) {
            let address = witness
                .addresses
                .iter()
                .copied()
                .find(|address| Family::of(*address) == family);
            let (port, party) = (
                witness.port,
                Party::Witness {
                    node: to.to_owned(),
                },
            );
            if let Some(address) = address {
                self.builder.flow(
                    beside,
                    nonce_to(address, port, Transport::Tcp),
                    party,
                    Stage::Connect,
                );
            }
            return;
        }
        if !self
            .crossed
            .insert((beside.clone(), source.clone(), to.to_owned(), family))
        {
            return;
        }
        let mut crossings: Vec<Crossing> = Vec::new();
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
            let party = Arc::new(party_of(pod));
            let key = Arc::new(TargetKey {
                request: Request::Connect { linger_ms: 0 },
                ..nonce_to(address, port.number(), Transport::Tcp)
            });
            let mut rank = None;
            let mut vantages = Vec::new();
            for vantage in BTreeSet::from([beside, source]) {
                if !self.ends.can_meet(vantage, &key, &party) {
                    continue;
                }
                let of = match self.admits(vantage, &key, &party) {
                    Some(true) => Rank::Admitted,
                    None if !is_isolated_for_ingress(self.inventory, pod) => Rank::Open,
                    None | Some(false) => continue,
                };
                rank = rank.min(Some(of)).or(Some(of));
                vantages.push(vantage.clone());
            }
            crossings.extend(rank.map(|rank| Crossing {
                rank,
                vantages,
                key,
                party,
            }));
        }
        // Cluster DNS first: it is there to be asked.
        crossings.sort_by_key(|crossing| (crossing.rank, !self.is_cluster_dns(&crossing.party)));
        for Crossing {
            vantages,
            key,
            party,
            ..
        } in crossings.into_iter().take(MAX_CROSSINGS)
        {
            for vantage in vantages {
                self.builder.flow(
                    &vantage,
                    TargetKey::clone(&key),
                    Party::clone(&party),
                    Stage::Connect,
                );
            }
        }
    }

    fn is_cluster_dns(&self, party: &Party) -> bool {
        let Party::Pod {
            namespace, name, ..
        } = party
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
    fn reach_services(&mut self, source: &Vantage, flow: FlowId, family: Family) {
        let witness = source
            .node()
            .and_then(|node| self.witness_on(node))
            .map(|witness| witness.node.clone());
        if let Some(node) = &witness {
            self.copy_from(&Vantage::Witness { node: node.clone() }, flow);
        }
        match (witness, source.node()) {
            (Some(_), _) if self.landmarks.witnesses_pass => {}
            (_, Some(node)) if self.landmarks.from_nodes => {
                if let Some((key, party)) = self.cluster_dns(family, Transport::Tcp) {
                    self.builder.flow(
                        &Vantage::Node {
                            name: node.to_owned(),
                        },
                        key,
                        party,
                        Stage::FirstBytes,
                    );
                }
            }
            (_, Some(_) | None) => {
                if let Some((key, party)) = self.cluster_dns(family, Transport::Tcp) {
                    self.builder.flow(source, key, party, Stage::FirstBytes);
                }
            }
        }
    }
}

/// What may cross to a pod.
struct Crossing {
    rank: Rank,
    vantages: Vec<Vantage>,
    key: Arc<TargetKey>,
    party: Arc<Party>,
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
        .policies
        .iter()
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
