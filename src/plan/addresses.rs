//! Sources and addresses of a check: where its packets are sent from, and every address that they
//! go to.

use super::endpoints::{
    EndpointKind, PodsByNamespace, ResolvedEndpoint, ResolvedPort, cluster_addresses,
    resolve_endpoint,
};
use super::outside::refused_address;
use super::request::RequestSpec;
use super::transport::wire_transport;
use super::{Source, TargetKey, TargetKind};
use crate::inventory::{Inventory, Labels, Pod, Service, identity_labels};
use crate::model::Family;
use crate::policy::PodKinds;
use crate::suite::{Locator, SourceMode, Spread, Suite};
use crate::wire;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

/// At most so many addresses of an outside name are dialled in each family: more than names have,
/// and what the evidence of a flow by name can keep.
const MAX_ADDRESSES: usize = 32;

/// At most so many nodes are used of a source, unless the suite says otherwise.
const MAX_SPREAD: usize = 3;

/// Looks up sources and target addresses in an inventory.
#[derive(Debug)]
pub(super) struct Addressing<'a> {
    pub(super) inventory: &'a Inventory,
    /// Sources with addresses of one family only, and that family.
    one_family: HashMap<Source, Family>,
    /// Services whose packets stay on their node (`internalTrafficPolicy: Local`), by namespace and
    /// name. Mostly empty.
    local_only: HashSet<(&'a str, &'a str)>,
    /// What packets to each Service go to, by namespace and name.
    service_kinds: HashMap<(&'a str, &'a str), TargetKind>,
    /// The kind of each pod as policies tell pods apart, by namespace and name.
    kinds: HashMap<(&'a str, &'a str), u32>,
    /// Pods whose own packets are sent, from an ephemeral container. Mostly empty.
    within: BTreeSet<Source>,
}

impl<'a> Addressing<'a> {
    pub(super) fn of(inventory: &'a Inventory) -> Self {
        let pods = inventory
            .pods
            .iter()
            .map(|pod| (source_of(pod), &pod.addresses));
        let nodes = inventory
            .nodes
            .iter()
            .map(|node| (node_source(&node.name), &node.addresses));
        let runner = std::iter::once((Source::Runner, &inventory.runner));
        let one_family = pods
            .chain(nodes)
            .chain(runner)
            .filter_map(|(source, addresses)| Some((source, single_family(addresses)?)))
            .collect();

        let local_only = inventory
            .services
            .iter()
            .filter(|service| service.local_only)
            .map(|service| (service.namespace.as_str(), service.name.as_str()))
            .collect();

        Self {
            inventory,
            one_family,
            local_only,
            service_kinds: service_kinds(inventory),
            kinds: kinds_of(inventory),
            within: BTreeSet::new(),
        }
    }

    /// The kind of a pod: policies cannot tell pods of one kind apart.
    pub(super) fn kind(&self, pod: &Pod) -> Option<u32> {
        let name = (pod.namespace.as_str(), pod.name.as_str());
        self.kinds.get(&name).copied()
    }

    /// The kind of a source that has the identity of a pod.
    pub(super) fn kind_of_source(&self, source: &Source) -> Option<u32> {
        match source {
            Source::Pod {
                namespace, name, ..
            } => self
                .kinds
                .get(&(namespace.as_str(), name.as_str()))
                .copied(),
            Source::Node { .. } | Source::ReferencePod { .. } | Source::Runner => None,
        }
    }

    /// How many kinds of sources an endpoint has.
    pub(super) fn source_kinds(&self, endpoint: &ResolvedEndpoint<'_>) -> usize {
        let sources = self.sources(endpoint, None);
        let kinds: BTreeSet<u32> = sources
            .iter()
            .filter_map(|source| self.kind_of_source(source))
            .collect();
        kinds.len()
    }

    /// Whether a source has the family of an address: a family is tested where both ends have it.
    pub(super) fn has_family_of(&self, source: &Source, address: IpAddr) -> bool {
        self.one_family
            .get(source)
            .is_none_or(|family| *family == Family::of(address))
    }

    /// The families in which a source may send.
    pub(super) fn families(&self, source: &Source) -> Vec<Family> {
        match self.one_family.get(source) {
            Some(family) => vec![*family],
            None => Family::ALL.to_vec(),
        }
    }

    /// The pods and addresses of an endpoint, without its Service.
    pub(super) fn places(&self, endpoint: &ResolvedEndpoint<'_>) -> Vec<(TargetKind, IpAddr)> {
        match &endpoint.kind {
            EndpointKind::Pods => endpoint
                .pods
                .iter()
                .flat_map(|pod| {
                    let target_kind = target_kind_of(pod);
                    pod.addresses
                        .iter()
                        .map(move |address| (target_kind.clone(), *address))
                })
                .collect(),
            EndpointKind::Outside(addresses) => addresses
                .iter()
                .map(|address| {
                    let outside = TargetKind::Outside {
                        name: endpoint.endpoint.label.clone(),
                    };
                    let target_kind = self.at_cluster_address(*address).unwrap_or(outside);
                    (target_kind, *address)
                })
                .collect(),
            EndpointKind::Runner | EndpointKind::Nodes => Vec::new(),
        }
    }

    /// The sources of an endpoint: those that a spread selects, or all without one.
    pub(super) fn sources(
        &self,
        endpoint: &ResolvedEndpoint<'_>,
        spread: Option<Spread>,
    ) -> Vec<Source> {
        match endpoint.kind {
            EndpointKind::Runner => vec![Source::Runner],
            EndpointKind::Nodes => self
                .inventory
                .nodes
                .iter()
                .filter(|node| !self.inventory.runs_windows(&node.name))
                .map(|node| node_source(&node.name))
                .collect(),
            EndpointKind::Outside(_) => Vec::new(),
            EndpointKind::Pods => {
                let pods = self.sending_pods(&endpoint.pods, spread);
                sources_of(&pods, endpoint.endpoint.source_mode.unwrap_or_default())
            }
        }
    }

    /// The pods that a spread selects. A pod without a node sends nothing yet, and no probe runs on
    /// Windows.
    fn sending_pods<'p>(&self, pods: &[&'p Pod], spread: Option<Spread>) -> Vec<&'p Pod> {
        let mut chosen: Vec<&Pod> = pods
            .iter()
            .copied()
            .filter(|pod| !pod.node.is_empty() && !self.inventory.runs_windows(&pod.node))
            .collect();

        match spread {
            None | Some(Spread::Replicas) => {}
            Some(Spread::One) => {
                chosen.sort_by_key(|pod| !pod.ready);
                chosen.truncate(1);
            }
            Some(Spread::Nodes) => {
                chosen.sort_by_key(|pod| !pod.ready);
                // Pods of one endpoint may differ, and then policies may tell them apart: those
                // that are read here by their kind, others by any label of the pod's template.
                let mut nodes: BTreeMap<(Labels, Option<u32>), BTreeSet<&str>> = BTreeMap::new();
                chosen.retain(|pod| {
                    let identity = (identity_labels(&pod.labels), self.kind(pod));
                    let nodes = nodes.entry(identity).or_default();
                    nodes.len() < MAX_SPREAD && nodes.insert(&pod.node)
                });
                chosen.sort_by(|a, b| a.name.cmp(&b.name));
            }
        }
        chosen
    }

    /// The pods of a suite's endpoints that probes send from within (ephemeral containers).
    pub(super) fn sent_from_within(&self, suite: &Suite) -> BTreeSet<Source> {
        let endpoints = suite
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.source_mode == Some(SourceMode::Ephemeral));
        endpoints
            .flat_map(|endpoint| resolve_endpoint(endpoint, self.inventory).pods)
            .map(source_of)
            .collect()
    }

    /// Notes the pods that probes send from within: a Service that leads to such a pod may send its
    /// packets back to itself.
    pub(super) fn send_from_within(&mut self, suites: &[Suite]) {
        self.within = suites
            .iter()
            .flat_map(|suite| self.sent_from_within(suite))
            .collect();
    }

    /// Whether any pod could dial a Service that it is itself behind.
    pub(super) fn has_hairpins(&self) -> bool {
        !self.within.is_empty()
    }

    /// Why flows from sources to targets are left out, where a pod would dial a Service that it is
    /// itself behind.
    pub(super) fn hairpin(
        &self,
        sources: &[Source],
        targets: &[(TargetKey, TargetKind)],
    ) -> Option<String> {
        let mut pairs = sources.iter().flat_map(|source| {
            targets
                .iter()
                .map(move |(_, target_kind)| (source, target_kind))
        });
        let (source, target_kind) =
            pairs.find(|(source, target_kind)| is_hairpin(&self.within, source, target_kind))?;
        Some(format!(
            "{source} is itself behind {target_kind}, which may send its packets back to it, and that proves nothing: test this line with source: clone, or the pods without the Service"
        ))
    }

    /// Whether a packet can go from a source to a target: between two different pods, in a family
    /// that the source has, to a Service that leads to pods from the source's node and never to the
    /// source itself.
    pub(super) fn can_connect(
        &self,
        source: &Source,
        key: &TargetKey,
        target_kind: &TargetKind,
    ) -> bool {
        !is_same(source, target_kind)
            && !is_hairpin(&self.within, source, target_kind)
            && self.has_family_of(source, key.address)
            && self.is_served_on(source, target_kind)
    }

    /// Whether a Service leads to a pod from a source's node, as far as its settings go.
    fn is_served_on(&self, source: &Source, target_kind: &TargetKind) -> bool {
        match (target_kind, source.node()) {
            (TargetKind::Service { service, nodes, .. }, Some(node)) => {
                let name = (service.namespace.as_str(), service.name.as_str());
                !self.local_only.contains(&name) || nodes.iter().any(|serving| serving == node)
            }
            (TargetKind::Service { .. }, None)
            | (
                TargetKind::Pod { .. }
                | TargetKind::Node { .. }
                | TargetKind::ReferencePod { .. }
                | TargetKind::Outside { .. },
                _,
            ) => true,
        }
    }

    /// The pod, Service or node that has an address inside the cluster.
    fn at_cluster_address(&self, address: IpAddr) -> Option<TargetKind> {
        let pod = self
            .inventory
            .pods
            .iter()
            .find(|pod| !pod.host_network && pod.addresses.contains(&address));
        if let Some(pod) = pod {
            return Some(target_kind_of(pod));
        }

        let service = self
            .inventory
            .services
            .iter()
            .find(|service| cluster_addresses(service).contains(&address));
        if let Some(service) = service {
            return self.service_kind(service);
        }

        let node = self
            .inventory
            .nodes
            .iter()
            .find(|node| node.addresses.contains(&address))?;
        Some(TargetKind::Node {
            name: node.name.clone(),
        })
    }

    /// A Service with the nodes and names of its ready pods.
    pub(super) fn service_kind(&self, service: &Service) -> Option<TargetKind> {
        let name = (service.namespace.as_str(), service.name.as_str());
        self.service_kinds.get(&name).cloned()
    }

    /// Every address that is dialled to reach a port of an endpoint.
    pub(super) fn targets(
        &self,
        endpoint: &ResolvedEndpoint<'_>,
        port: &ResolvedPort,
        request_spec: &RequestSpec,
    ) -> Vec<(TargetKey, TargetKind)> {
        let Some(transport) = wire_transport(port.transport) else {
            return Vec::new();
        };
        let dial = Dial {
            transport,
            request_spec,
        };
        match &endpoint.kind {
            EndpointKind::Outside(addresses) => {
                self.outside_targets(endpoint, addresses, port.number, dial)
            }
            EndpointKind::Nodes => self.node_targets(port.number, dial),
            EndpointKind::Runner => Vec::new(),
            EndpointKind::Pods => self.pod_targets(endpoint, port, dial),
        }
    }

    /// Addresses of a host outside; each probe dials what others got for the name, and what it
    /// resolves itself.
    fn outside_targets(
        &self,
        endpoint: &ResolvedEndpoint<'_>,
        addresses: &[IpAddr],
        port: u16,
        dial: Dial<'_>,
    ) -> Vec<(TargetKey, TargetKind)> {
        let outside = TargetKind::Outside {
            name: endpoint.endpoint.label.clone(),
        };
        let mut targets = Vec::new();
        if refused_address(endpoint).is_some() {
            return targets;
        }
        for family in Family::ALL {
            let known: Vec<TargetKey> = addresses
                .iter()
                .filter(|address| Family::of(**address) == family)
                .take(MAX_ADDRESSES)
                .map(|address| dial.key(*address, port))
                .collect();

            if let (Some(first), Locator::Host(host)) = (known.first(), &endpoint.endpoint.locator)
            {
                let by_name = TargetKey {
                    name: Some(format!("{host}.")),
                    ..first.clone()
                };
                targets.push((by_name, outside.clone()));
            }
            for key in known {
                let target_kind = self
                    .at_cluster_address(key.address)
                    .unwrap_or_else(|| outside.clone());
                targets.push((key, target_kind));
            }
        }
        targets
    }

    fn node_targets(&self, port: u16, dial: Dial<'_>) -> Vec<(TargetKey, TargetKind)> {
        let mut targets = Vec::new();
        for node in &self.inventory.nodes {
            let target_kind = TargetKind::Node {
                name: node.name.clone(),
            };
            for address in &node.addresses {
                targets.push((dial.key(*address, port), target_kind.clone()));
            }
        }
        targets
    }

    fn pod_targets(
        &self,
        endpoint: &ResolvedEndpoint<'_>,
        port: &ResolvedPort,
        dial: Dial<'_>,
    ) -> Vec<(TargetKey, TargetKind)> {
        let mut targets = Vec::new();
        for pod in &endpoint.pods {
            for number in port.on_pods.dialled_on(pod, port.transport) {
                for family in Family::ALL {
                    if let Some(address) = pod.address(family) {
                        targets.push((dial.key(address, number), target_kind_of(pod)));
                    }
                }
            }
        }

        if let Some(service) = endpoint.service
            && let Some(target_kind) = self.service_kind(service)
        {
            for number in &port.on_service {
                for address in cluster_addresses(service) {
                    targets.push((dial.key(*address, *number), target_kind.clone()));
                }
            }
        }
        targets
    }
}

/// What is dialled at each address.
#[derive(Clone, Copy)]
struct Dial<'s> {
    transport: wire::Transport,
    request_spec: &'s RequestSpec,
}

impl Dial<'_> {
    fn key(self, address: IpAddr, port: u16) -> TargetKey {
        TargetKey {
            address,
            name: None,
            port,
            transport: self.transport,
            request: self.request_spec.request(address),
            answer_rule: self.request_spec.answer_rule,
            once: self.request_spec.once,
        }
    }
}

/// Why a denial to an outside name cannot be proven: it has more addresses than are dialled.
pub(super) fn too_many_addresses(endpoint: &ResolvedEndpoint<'_>) -> Option<String> {
    let EndpointKind::Outside(addresses) = &endpoint.kind else {
        return None;
    };
    let dialled: usize = Family::ALL
        .into_iter()
        .map(|family| {
            let of_family = addresses
                .iter()
                .filter(|address| Family::of(**address) == family);
            of_family.count().min(MAX_ADDRESSES)
        })
        .sum();
    (dialled < addresses.len()).then(|| {
        format!(
            "{} has {} addresses, of which {dialled} are tried: what the policies do with the \
             others is not shown",
            endpoint.endpoint.label,
            addresses.len()
        )
    })
}

/// The kind of every pod. Where policies cannot be read, each pod is of a kind by itself.
fn kinds_of(inventory: &Inventory) -> HashMap<(&str, &str), u32> {
    let kinds = PodKinds::of(inventory).ok();
    let pods = inventory.pods.iter().enumerate();
    pods.map(|(index, pod)| {
        let kind = match &kinds {
            Some(kinds) => kinds.by_pod()[index],
            None => index as u32,
        };
        ((pod.namespace.as_str(), pod.name.as_str()), kind)
    })
    .collect()
}

/// The family of all addresses, where they have one in common.
fn single_family(addresses: &[IpAddr]) -> Option<Family> {
    let first = Family::of(*addresses.first()?);
    let is_single = addresses
        .iter()
        .all(|address| Family::of(*address) == first);
    is_single.then_some(first)
}

fn node_source(name: &str) -> Source {
    Source::Node {
        name: name.to_owned(),
    }
}

/// The sources that send for some pods.
fn sources_of(pods: &[&Pod], source_mode: SourceMode) -> Vec<Source> {
    match source_mode {
        SourceMode::Clone | SourceMode::Ephemeral => {
            let mut sources: Vec<Source> = pods.iter().copied().map(source_of).collect();
            sources.dedup();
            sources
        }
        SourceMode::Node => {
            let nodes: BTreeSet<&str> = pods.iter().map(|pod| pod.node.as_str()).collect();
            nodes.into_iter().map(node_source).collect()
        }
        SourceMode::Runner => vec![Source::Runner],
    }
}

/// A pod as a source. A pod that shares its node's network has the node's identity.
pub(super) fn source_of(pod: &Pod) -> Source {
    if pod.host_network {
        node_source(&pod.node)
    } else {
        Source::Pod {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            node: pod.node.clone(),
        }
    }
}

pub(super) fn target_kind_of(pod: &Pod) -> TargetKind {
    TargetKind::Pod {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        node: pod.node.clone(),
        ready: pod.ready,
        host_network: pod.host_network,
    }
}

/// Whether source and target are one pod, or one node.
pub(super) fn is_same(source: &Source, target_kind: &TargetKind) -> bool {
    match source {
        Source::Pod {
            namespace, name, ..
        } => matches!(
            target_kind,
            TargetKind::Pod { namespace: other, name: other_name, .. }
                if namespace == other && name == other_name
        ),
        Source::Node { name } => {
            matches!(target_kind, TargetKind::Node { name: other } if name == other)
        }
        Source::ReferencePod { .. } | Source::Runner => false,
    }
}

/// Whether a Service may lead back to the pod that sends. Network plugins differ about such
/// packets: some let them through whatever the policies say.
pub(super) fn may_come_back(source: &Source, target_kind: &TargetKind) -> bool {
    match (source, target_kind) {
        (
            Source::Pod {
                namespace, name, ..
            },
            TargetKind::Service { pods, .. },
        ) => pods
            .iter()
            .any(|pod| pod.split_once('/') == Some((namespace, name))),
        (
            Source::Pod { .. } | Source::Node { .. } | Source::ReferencePod { .. } | Source::Runner,
            _,
        ) => false,
    }
}

/// Whether a source is one of the pods `within` which probes run, and the target a Service that
/// leads to it. A clone is never ready, so no Service leads to it.
pub(super) fn is_hairpin(
    within: &BTreeSet<Source>,
    source: &Source,
    target_kind: &TargetKind,
) -> bool {
    within.contains(source) && may_come_back(source, target_kind)
}

/// Every Service, by namespace and name, with the nodes and names of its ready pods.
fn service_kinds(inventory: &Inventory) -> HashMap<(&str, &str), TargetKind> {
    let pods = PodsByNamespace::of(inventory);
    let kind = |service: &Service| {
        let behind = pods.behind(service).into_iter();
        let ready = behind
            .map(|number| &inventory.pods[number])
            .filter(|pod| pod.ready || service.publish_not_ready);
        let backends: BTreeMap<String, &str> = ready
            .map(|pod| (pod.full_name(), pod.node.as_str()))
            .collect();
        let nodes: BTreeSet<&str> = backends.values().copied().collect();
        TargetKind::Service {
            service: service.object(),
            nodes: nodes.into_iter().map(str::to_owned).collect(),
            pods: backends.into_keys().collect(),
        }
    };
    // Of two Services of one name the first counts, as wherever one is looked up by its name.
    let services = inventory.services.iter().rev();
    services
        .map(|service| {
            let name = (service.namespace.as_str(), service.name.as_str());
            (name, kind(service))
        })
        .collect()
}
