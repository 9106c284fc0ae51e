//! The two ends of a check: from where its packets are sent, and every address that they go to.

use super::endpoints::{
    EndpointKind, ResolvedEndpoint, ResolvedPort, cluster_addresses, resolve_endpoint, selects,
};
use super::request::RequestSpec;
use super::transport::wire_transport;
use super::{Source, TargetKey, TargetKind};
use crate::inventory::{Inventory, Labels, Pod, Service, identity_labels};
use crate::model::Family;
use crate::suite::{Locator, SourceMode, Spread, Suite};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

/// At most so many addresses of an outside name are dialled in each family.
const MAX_ADDRESSES: usize = 4;

/// At most so many nodes are used of a source, unless the suite says otherwise.
const MAX_SPREAD: usize = 3;

/// What exists, asked for ends.
#[derive(Debug)]
pub(super) struct Addressing<'a> {
    pub(super) inventory: &'a Inventory,
    /// Pods and nodes with addresses of one family only, and which it is. Mostly there is none.
    one_family: HashMap<Source, Family>,
    /// Services whose packets stay on their node, by namespace and name. Mostly there is none.
    local_only: HashSet<(&'a str, &'a str)>,
}

impl<'a> Addressing<'a> {
    pub(super) fn of(inventory: &'a Inventory) -> Self {
        let pods = inventory
            .pods
            .iter()
            .map(|pod| (source_of(pod), &pod.addresses));
        let nodes = inventory.nodes.iter().map(|node| {
            (
                Source::Node {
                    name: node.name.clone(),
                },
                &node.addresses,
            )
        });
        let only = |addresses: &[IpAddr]| {
            let first = Family::of(*addresses.first()?);
            addresses
                .iter()
                .all(|address| Family::of(*address) == first)
                .then_some(first)
        };
        let one_family = pods
            .chain(nodes)
            .filter_map(|(source, addresses)| Some((source, only(addresses)?)))
            .collect();
        let local_only = inventory
            .services
            .iter()
            .filter(|service| service.local_only);
        let local_only = local_only
            .map(|service| (service.namespace.as_str(), service.name.as_str()))
            .collect();
        Self {
            inventory,
            one_family,
            local_only,
        }
    }

    /// Whether packets to an address can be sent from a vantage at all: a family is tested where
    /// both ends have it.
    pub(super) fn has_family_of(&self, source: &Source, address: IpAddr) -> bool {
        self.one_family
            .get(source)
            .is_none_or(|family| *family == Family::of(address))
    }

    /// From where an endpoint's packets are sent: with a spread those used, else all.
    pub(super) fn sources(
        &self,
        found: &ResolvedEndpoint<'_>,
        spread: Option<Spread>,
    ) -> Vec<Source> {
        match found.kind {
            EndpointKind::Runner => return vec![Source::Runner],
            EndpointKind::Nodes => {
                let source_controls = self
                    .inventory
                    .nodes
                    .iter()
                    .filter(|node| !self.inventory.runs_windows(&node.name));
                return source_controls
                    .map(|node| Source::Node {
                        name: node.name.clone(),
                    })
                    .collect();
            }
            EndpointKind::Outside(_) => return Vec::new(),
            EndpointKind::Pods => {}
        }
        // A pod without a node sends nothing yet, and no probe runs on Windows.
        let can_send = |pod: &&Pod| !pod.node.is_empty() && !self.inventory.runs_windows(&pod.node);
        let mut chosen: Vec<&Pod> = found.pods.iter().copied().filter(can_send).collect();
        match spread {
            None | Some(Spread::Replicas) => {}
            Some(Spread::One) => {
                chosen.sort_by_key(|pod| !pod.ready);
                chosen.truncate(1);
            }
            Some(Spread::Nodes) => {
                chosen.sort_by_key(|pod| !pod.ready);
                // Pods of one endpoint may differ in their labels, and then policies tell them
                // apart.
                let mut nodes: BTreeMap<Labels, BTreeSet<&str>> = BTreeMap::new();
                chosen.retain(|pod| {
                    let nodes = nodes.entry(identity_labels(&pod.labels)).or_default();
                    nodes.len() < MAX_SPREAD && nodes.insert(&pod.node)
                });
                chosen.sort_by(|a, b| a.name.cmp(&b.name));
            }
        }
        match found.endpoint.source_mode.unwrap_or_default() {
            SourceMode::Clone | SourceMode::Ephemeral => {
                let mut sources: Vec<Source> = chosen.into_iter().map(source_of).collect();
                sources.dedup();
                sources
            }
            SourceMode::Node => {
                let nodes: BTreeSet<&String> = chosen.into_iter().map(|pod| &pod.node).collect();
                nodes
                    .into_iter()
                    .map(|name| Source::Node { name: name.clone() })
                    .collect()
            }
            SourceMode::Runner => vec![Source::Runner],
        }
    }

    /// The pods of a suite's endpoints that are sent from within.
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

    /// Whether a packet can go there at all: between two ends that are not one pod, in a family
    /// that the source has, to a Service that leads to pods from there.
    pub(super) fn can_connect(
        &self,
        source: &Source,
        key: &TargetKey,
        target_kind: &TargetKind,
    ) -> bool {
        !is_same_pod(source, target_kind)
            && self.has_family_of(source, key.address)
            && self.is_served_on(source, target_kind)
    }

    /// Whether a Service leads anywhere from a vantage's node, as far as its own settings go.
    fn is_served_on(&self, source: &Source, target_kind: &TargetKind) -> bool {
        match (target_kind, source.node()) {
            (TargetKind::Service { service, nodes, .. }, Some(node)) => {
                !self
                    .local_only
                    .contains(&(service.namespace.as_str(), service.name.as_str()))
                    || nodes.iter().any(|of| of == node)
            }
            _ => true,
        }
    }

    /// Who has an address inside the cluster.
    fn inside(&self, address: IpAddr) -> Option<TargetKind> {
        let pods = self
            .inventory
            .pods
            .iter()
            .find(|pod| !pod.host_network && pod.addresses.contains(&address));
        let services = || {
            self.inventory
                .services
                .iter()
                .find(|service| cluster_addresses(service).contains(&address))
        };
        let nodes = || {
            self.inventory
                .nodes
                .iter()
                .find(|node| node.addresses.contains(&address))
        };
        pods.map(target_kind_of)
            .or_else(|| services().map(|service| service_target_kind(service, self.inventory)))
            .or_else(|| {
                nodes().map(|node| TargetKind::Node {
                    name: node.name.clone(),
                })
            })
    }

    /// Every address that is dialled to reach a port of an endpoint.
    pub(super) fn targets(
        &self,
        found: &ResolvedEndpoint<'_>,
        at: &ResolvedPort,
        request_spec: &RequestSpec,
    ) -> Vec<(TargetKey, TargetKind)> {
        let Some(transport) = wire_transport(at.transport) else {
            return Vec::new();
        };
        let key = |address: IpAddr, port: u16| TargetKey {
            address,
            name: None,
            port,
            transport,
            request: request_spec.request(address),
            once: request_spec.once,
        };
        let mut targets = Vec::new();
        match &found.kind {
            EndpointKind::Outside(addresses) => {
                let target_kind = TargetKind::Outside {
                    name: found.endpoint.label.clone(),
                };
                for family in Family::ALL {
                    let mut of_family = addresses
                        .iter()
                        .filter(|address| Family::of(**address) == family);
                    let known: Vec<TargetKey> = of_family
                        .by_ref()
                        .take(MAX_ADDRESSES)
                        .map(|address| key(*address, at.number))
                        .collect();
                    // Each probe dials what others got for the name, and what it resolves itself.
                    if let (Some(first), Locator::Host(host)) =
                        (known.first(), &found.endpoint.locator)
                    {
                        targets.push((
                            TargetKey {
                                name: Some(format!("{host}.")),
                                ..first.clone()
                            },
                            target_kind.clone(),
                        ));
                    }
                    targets.extend(known.into_iter().map(|key| {
                        let there = self
                            .inside(key.address)
                            .unwrap_or_else(|| target_kind.clone());
                        (key, there)
                    }));
                }
            }
            EndpointKind::Nodes => {
                for node in &self.inventory.nodes {
                    let target_kind = TargetKind::Node {
                        name: node.name.clone(),
                    };
                    targets.extend(
                        node.addresses
                            .iter()
                            .map(|address| (key(*address, at.number), target_kind.clone())),
                    );
                }
            }
            EndpointKind::Runner => {}
            EndpointKind::Pods => {
                for pod in &found.pods {
                    let Some(number) = at.on_pods.number_on(pod, at.transport) else {
                        continue;
                    };
                    for family in Family::ALL {
                        let Some(address) = pod.address(family) else {
                            continue;
                        };
                        targets.push((key(address, number), target_kind_of(pod)));
                    }
                }
                if let Some(service) = found.service {
                    let target_kind = service_target_kind(service, self.inventory);
                    for port in &at.on_service {
                        targets.extend(
                            cluster_addresses(service)
                                .iter()
                                .map(|address| (key(*address, *port), target_kind.clone())),
                        );
                    }
                }
            }
        }
        targets
    }
}

/// A pod that shares its node's network has the node's identity.
pub(super) fn source_of(pod: &Pod) -> Source {
    if pod.host_network {
        Source::Node {
            name: pod.node.clone(),
        }
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

fn is_same_pod(source: &Source, target_kind: &TargetKind) -> bool {
    match (source, target_kind) {
        (
            Source::Pod {
                namespace, name, ..
            },
            TargetKind::Pod {
                namespace: of,
                name: target,
                ..
            },
        ) => namespace == of && name == target,
        (Source::Node { name }, TargetKind::Node { name: target }) => name == target,
        _ => false,
    }
}

/// A Service with the nodes and names of its ready pods.
pub(super) fn service_target_kind(service: &Service, inventory: &Inventory) -> TargetKind {
    let mut backends: BTreeMap<String, &str> = BTreeMap::new();
    for pod in inventory
        .pods
        .iter()
        .filter(|pod| selects(service, pod) && (pod.ready || service.publish_not_ready))
    {
        backends.insert(pod.full_name(), &pod.node);
    }
    let nodes: BTreeSet<&str> = backends.values().copied().collect();
    TargetKind::Service {
        service: service.object(),
        nodes: nodes.into_iter().map(str::to_owned).collect(),
        pods: backends.into_keys().collect(),
    }
}
