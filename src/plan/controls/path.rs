//! Path controls: flows between the same two nodes, to which policies do not apply where possible.

use super::{Controls, handshake_with_pod};
use crate::inventory::Pod;
use crate::model::Family;
use crate::plan::{FlowId, PathEnd, SMALL_REQUEST, Source, TargetKey, TargetKind};
use crate::policy::is_isolated_for_ingress;
use crate::wire::{Request, Stage, Transport};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Pods of a node that are tried as path controls where the node has no reference pod.
const MAX_PATH_CONTROLS: usize = 2;

/// A pod of a node that may serve as a path control.
struct PathCandidate {
    rank: Rank,
    sources: Vec<Source>,
    key: Arc<TargetKey>,
    target_kind: Arc<TargetKind>,
}

/// How likely a flow gets through; the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Policies admit it.
    Admitted,
    /// Policies do not give one answer, and none isolates the pod.
    NotIsolated,
}

impl Controls<'_, '_> {
    /// Adds a flow to each end of a flow's paths, from a source that policies do not stop where
    /// there is one.
    pub(super) fn add_path_controls(&mut self, flow: FlowId) {
        let original = self.flow(flow);
        let (family, ends) = (original.family(), original.target_kind.path_ends(original));
        let source = self.source_of(flow);
        // The source's node is the preferred sender.
        let preferred = match source.node() {
            Some(node) if self.control_endpoints.from_nodes => Source::Node {
                name: node.to_owned(),
            },
            Some(_) | None => source.clone(),
        };

        for end in ends {
            if let PathEnd::Pods(node) = &end {
                self.carry_large_request(flow, node);
            }
            match end {
                // Within a node the node's own packets to the target stay on it, as the source's
                // do.
                PathEnd::Pods(node)
                    if self.control_endpoints.from_nodes
                        && source.node() == Some(node.as_str()) => {}
                PathEnd::Pods(node) => self.reach_pods(&preferred, &source, &node, family),
                PathEnd::Node(node) => {
                    let from = self.sender_to_node(&preferred, &source, &node);
                    self.reach_node(&from, &node, family, Transport::Tcp);
                }
                PathEnd::Services => self.reach_services(&source, flow, family),
                // The target control of an outside target sends from the source's node.
                PathEnd::Address(_) => {}
            }
        }
    }

    /// Adds a flow that carries as much as a large request over its path: a path may lose large
    /// packets alone. Between two nodes it is an exchange of two reference pods, within one the
    /// reference pod's own copy.
    fn carry_large_request(&mut self, flow: FlowId, node: &str) {
        let original = self.flow(flow);
        let (family, transport) = (original.family(), original.to.transport);
        let size = original.to.request.size();
        if size <= SMALL_REQUEST {
            return;
        }
        let source = self.source_of(flow);
        let Some(from) = source.node().and_then(|node| self.reference_pod_on(node)) else {
            return;
        };
        let from = Source::ReferencePod {
            node: from.node.clone(),
        };
        if source.node() == Some(node) {
            if self.control_endpoints.reference_pods_pass {
                self.copy_from(&from, flow);
            }
            return;
        }
        if let Some(mut to) = self.reference_pod_target(node, family, transport) {
            to.request = payload_of(size);
            let target_kind = TargetKind::ReferencePod {
                node: node.to_owned(),
            };
            let opens_at = to.request.opens_at(transport);
            self.builder.flow(&from, to, target_kind, opens_at);
        }
    }

    /// The source of a path control to a node's own address. What a node sends to itself never
    /// leaves it, so that another source on the node is needed.
    fn sender_to_node(&self, preferred: &Source, source: &Source, node: &str) -> Source {
        if source.node() != Some(node) {
            return preferred.clone();
        }
        match self.reference_pod_on(node) {
            Some(reference_pod) => Source::ReferencePod {
                node: reference_pod.node.clone(),
            },
            None => source.clone(),
        }
    }

    /// Adds a flow to the pod network of a node: to its reference pod, else to pods of the node
    /// that may admit it.
    fn reach_pods(&mut self, preferred: &Source, source: &Source, node: &str, family: Family) {
        if self.reference_pod_on(node).is_some() {
            self.reach_reference_pod(preferred, node, family);
            return;
        }
        let search = (preferred.clone(), source.clone(), node.to_owned(), family);
        if !self.paths_tried.insert(search) {
            return;
        }

        let pods = self
            .inventory
            .pods
            .iter()
            .filter(|pod| pod.node == node && pod.ready && !pod.host_network);
        let mut candidates: Vec<PathCandidate> = Vec::new();
        for pod in pods {
            candidates.extend(self.path_candidate(pod, preferred, source, family));
        }
        // Cluster DNS comes first: it exists to be asked.
        candidates.sort_by_key(|candidate| {
            (candidate.rank, !self.is_cluster_dns(&candidate.target_kind))
        });

        for candidate in candidates.into_iter().take(MAX_PATH_CONTROLS) {
            for source in candidate.sources {
                self.builder.flow(
                    &source,
                    TargetKey::clone(&candidate.key),
                    TargetKind::clone(&candidate.target_kind),
                    Stage::Connect,
                );
            }
        }
    }

    /// A handshake with the first TCP port of a pod, from those of two sources that may be
    /// admitted.
    fn path_candidate(
        &mut self,
        pod: &Pod,
        preferred: &Source,
        source: &Source,
        family: Family,
    ) -> Option<PathCandidate> {
        let (key, target_kind) = handshake_with_pod(pod, family)?;
        let mut ranked: Vec<(Rank, Source)> = Vec::new();
        for source in BTreeSet::from([preferred, source]) {
            if !self.addressing.can_connect(source, &key, &target_kind) {
                continue;
            }
            let rank = match self.admits(source, &key, &target_kind) {
                Some(true) => Rank::Admitted,
                None if !is_isolated_for_ingress(self.inventory, pod) => Rank::NotIsolated,
                None | Some(false) => continue,
            };
            ranked.push((rank, source.clone()));
        }

        let rank = ranked.iter().map(|(rank, _)| *rank).min()?;
        Some(PathCandidate {
            rank,
            sources: ranked.into_iter().map(|(_, source)| source).collect(),
            key,
            target_kind,
        })
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
            .is_some_and(|pod| has_labels_of_cluster_dns(pod))
    }

    /// Adds a flow to the cluster address of a Service: to the very Service from the reference pod
    /// on the source's node; where policies may stop that, or there is no reference pod, to cluster
    /// DNS as well, from the source's node or from the source itself.
    fn reach_services(&mut self, source: &Source, flow: FlowId, family: Family) {
        let reference_pod = source
            .node()
            .and_then(|node| self.reference_pod_on(node))
            .map(|reference_pod| reference_pod.node.clone());
        let has_reference_pod = reference_pod.is_some();
        if let Some(node) = reference_pod {
            self.copy_from(&Source::ReferencePod { node }, flow);
        }
        if has_reference_pod && self.control_endpoints.reference_pods_pass {
            return;
        }

        let from = match source.node() {
            Some(node) if self.control_endpoints.from_nodes => Source::Node {
                name: node.to_owned(),
            },
            Some(_) | None => source.clone(),
        };
        if let Some((key, target_kind)) = self.cluster_dns(family, Transport::Tcp) {
            self.builder
                .flow(&from, key, target_kind, Stage::FirstBytes);
        }
    }
}

pub(super) fn has_labels_of_cluster_dns(pod: &Pod) -> bool {
    let app = pod.labels.get("k8s-app");
    pod.namespace == "kube-system" && app.is_some_and(|app| app == "kube-dns")
}

/// A line of so many octets, to which our responder answers once it has read it.
fn payload_of(size: usize) -> Request {
    let mut hex = "78".repeat(size - 1);
    hex.push_str("0a");
    Request::Payload { hex }
}
