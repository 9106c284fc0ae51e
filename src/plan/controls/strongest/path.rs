//! The strongest path controls that the policies admit.

use super::super::path::has_labels_of_cluster_dns;
use super::super::{Controls, handshake_with, handshake_with_pod};
use super::Search;
use crate::inventory::Pod;
use crate::model::Family;
use crate::plan::{FlowId, Path, PathEnd, Source, TargetKey, TargetKind};
use crate::wire::{Stage, Transport};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// Pods that are tried where one must be reached that the policies admit: a port that one declares
/// may not be served.
const MAX_TRIED: usize = 3;

impl Controls<'_, '_> {
    /// Adds flows from pods on the paths of a flow; returns the ends that no pod can reach, with
    /// the reason.
    pub(super) fn strongest_paths(
        &mut self,
        flow: FlowId,
        node: &str,
        allowed: &BTreeSet<FlowId>,
        search: &mut Search,
    ) -> BTreeMap<PathEnd, String> {
        let original = self.flow(flow);
        let family = original.family();
        let mut weaker = BTreeMap::new();
        for to in original.target_kind.path_ends(original) {
            let path = Path {
                from: Some(node.to_owned()),
                to,
                family,
            };
            let reason = if let Some(reason) = search.paths.get(&path) {
                reason.clone()
            } else {
                let reason = self.strongest_path(flow, node, &path, allowed, search);
                search.paths.insert(path.clone(), reason.clone());
                reason
            };
            weaker.extend(reason.map(|reason| (path.to, reason)));
        }
        weaker
    }

    /// Adds a flow from a pod on a path, if the plan has none; returns why none can be sent, if it
    /// is so.
    fn strongest_path(
        &mut self,
        flow: FlowId,
        node: &str,
        path: &Path,
        allowed: &BTreeSet<FlowId>,
        search: &mut Search,
    ) -> Option<String> {
        let planned = search.flows_on.get(path).cloned().unwrap_or_default();
        let passing: Vec<FlowId> = planned
            .into_iter()
            .filter(|planned| self.passes(*planned, allowed))
            .collect();
        if passing.iter().any(|planned| allowed.contains(planned)) {
            return None;
        }
        if let Some(reference_pod) = self.reference_pod_on(node) {
            let from = Source::ReferencePod {
                node: reference_pod.node.clone(),
            };
            if self.reach_end_from(&from, flow, path) && self.reference_pods_are_free() {
                return None;
            }
        }
        if let PathEnd::Pods(target_node) = &path.to
            && self.reach_admitted_pod(flow, node, target_node, path.family, allowed, search)
        {
            return None;
        }
        // What planning added on the chance that a policy admits it, cluster DNS for instance.
        if !passing.is_empty() {
            return None;
        }
        Some(format!(
            "the policies admit no pod{} on {node} to {}",
            search.of_namespaces, path.to
        ))
    }

    /// Whether a planned flow gets through, as far as the policies say.
    fn passes(&mut self, id: FlowId, allowed: &BTreeSet<FlowId>) -> bool {
        let source = self.source_of(id);
        let flow = self.flow(id);
        let (key, target_kind) = (Arc::clone(&flow.to), Arc::clone(&flow.target_kind));
        if matches!(source, Source::ReferencePod { .. }) {
            return self.reference_pods_reach(&target_kind);
        }
        match self.admits(&source, &key, &target_kind) {
            Some(admitted) => admitted,
            None => allowed.contains(&id),
        }
    }

    /// Adds a flow from a reference pod to an end of a path that no policy keeps it from; false if
    /// there is none.
    fn reach_end_from(&mut self, from: &Source, flow: FlowId, path: &Path) -> bool {
        match &path.to {
            PathEnd::Pods(node) => {
                if from.node() == Some(node.as_str()) {
                    // A pod does not show the way to other pods by reaching itself.
                    return self.control_endpoints.reference_pods_pass && self.copies(from, flow);
                }
                self.reach_reference_pod(from, node, path.family).is_some()
            }
            PathEnd::Node(node) => self
                .reach_node(from, node, path.family, Transport::Tcp)
                .is_some(),
            PathEnd::Services if self.control_endpoints.reference_pods_pass => {
                self.copies(from, flow)
            }
            PathEnd::Services => match self.cluster_dns(path.family, Transport::Tcp) {
                Some((key, target_kind)) => {
                    self.builder.flow(from, key, target_kind, Stage::FirstBytes);
                    true
                }
                None => false,
            },
            PathEnd::Address(_) => self.copies(from, flow),
        }
    }

    /// Adds a copy of a flow from another source, which always can be sent.
    fn copies(&mut self, from: &Source, flow: FlowId) -> bool {
        let address = self.flow(flow).to.address;
        if !self.addressing.has_family_of(from, address) {
            return false;
        }
        self.copy_from(from, flow);
        true
    }

    /// Adds a flow from a pod on one node to a pod on another that the policies admit: from the
    /// flow's own source, else from a probe that runs there anyway, else from any pod; false if
    /// there is none.
    fn reach_admitted_pod(
        &mut self,
        flow: FlowId,
        node: &str,
        target_node: &str,
        family: Family,
        allowed: &BTreeSet<FlowId>,
        search: &Search,
    ) -> bool {
        let own = self.source_of(flow);
        let is_pod_on_node =
            |source: &&Source| matches!(source, Source::Pod { .. }) && source.node() == Some(node);
        let mut running = vec![own.clone()];
        let probes = self.builder.probes.iter().filter(is_pod_on_node);
        running.extend(probes.filter(|source| **source != own).cloned());
        let candidates = search.candidates.iter().filter(is_pod_on_node);
        let others: Vec<Source> = candidates
            .filter(|source| !running.contains(source))
            .cloned()
            .collect();

        let targets = self.likely_to_answer(target_node, family, allowed);
        let added = self.reach_first_admitted(&running, &targets, MAX_TRIED);
        added || self.reach_first_admitted(&others, &targets, 1)
    }

    /// Handshakes with pods of a node, the most likely to be answered first: what allowed checks
    /// dial, cluster DNS, and then one pod of each kind by the first port that it declares, which it
    /// may not serve.
    fn likely_to_answer(
        &self,
        node: &str,
        family: Family,
        allowed: &BTreeSet<FlowId>,
    ) -> Vec<(Arc<TargetKey>, Arc<TargetKind>)> {
        let dialled = allowed.iter().map(|id| self.flow(*id)).filter(|flow| {
            let is_on_node = matches!(
                &*flow.target_kind,
                TargetKind::Pod { node: on, host_network: false, .. } if on == node
            );
            is_on_node && flow.family() == family && flow.to.transport == Transport::Tcp
        });
        let mut targets: Vec<_> = dialled
            .map(|flow| {
                let to = handshake_with(flow.to.address, flow.to.port);
                (Arc::new(to), Arc::clone(&flow.target_kind))
            })
            .collect();

        let mut kinds = HashSet::new();
        let mut pods: Vec<&Pod> = self
            .inventory
            .pods
            .iter()
            .filter(|pod| pod.node == node && pod.ready && !pod.host_network)
            .filter(|pod| kinds.insert((&pod.namespace, &pod.labels)))
            .collect();
        pods.sort_by_key(|pod| !has_labels_of_cluster_dns(pod));
        targets.extend(
            pods.into_iter()
                .filter_map(|pod| handshake_with_pod(pod, family)),
        );
        targets
    }

    /// Adds at most so many flows that the policies admit; false if there is none.
    fn reach_first_admitted(
        &mut self,
        senders: &[Source],
        targets: &[(Arc<TargetKey>, Arc<TargetKind>)],
        most: usize,
    ) -> bool {
        let mut added = 0;
        for sender in senders {
            for (to, target_kind) in targets {
                if self.reach_if_admitted(sender, to, target_kind).is_some() {
                    added += 1;
                }
                if added == most {
                    return true;
                }
            }
        }
        added > 0
    }
}
