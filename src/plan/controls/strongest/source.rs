//! What the policies let the source of a denied flow open.

use super::super::{Controls, handshake_with_pod};
use super::Search;
use crate::inventory::Pod;
use crate::model::Family;
use crate::plan::{FlowId, Source};
use crate::policy::Direction;
use crate::wire::Transport;
use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

impl Controls<'_, '_> {
    /// Adds something that the policies let a flow's source open; returns why there is nothing, if
    /// it is so.
    pub(super) fn strongest_source(
        &mut self,
        flow: FlowId,
        denied: &BTreeSet<FlowId>,
        search: &mut Search,
    ) -> Option<String> {
        let original = self.flow(flow);
        let key = (original.probe, original.family(), original.to.transport);
        if let Some(reason) = search.sources.get(&key) {
            return reason.clone();
        }
        let reason = self.open_something(flow, denied);
        search.sources.insert(key, reason.clone());
        reason
    }

    fn open_something(&mut self, flow: FlowId, denied: &BTreeSet<FlowId>) -> Option<String> {
        let source = self.source_of(flow);
        let original = self.flow(flow);
        let key = (original.probe, original.family(), original.to.transport);
        let (probe, family, transport) = key;
        let planned = self.builder.source_controls.get(&key).cloned();
        let planned = planned.unwrap_or_default();
        if !planned.allowed.is_empty() {
            return None;
        }
        for tried in planned.tried {
            let tried = self.flow(tried);
            let (to, target_kind) = (Arc::clone(&tried.to), Arc::clone(&tried.target_kind));
            if self.admits(&source, &to, &target_kind) == Some(true) {
                return None;
            }
        }

        let added = self.open_anything(&source, family, transport, denied);
        match added {
            // A source control of a probe is a flow of the same probe.
            Some(added) if self.flow(added).probe == probe => {
                let controls = self.builder.source_controls.entry(key).or_default();
                controls.tried.push(added);
                None
            }
            Some(_) | None => Some(format!(
                "the policies admit {source} to nothing else over {family}"
            )),
        }
    }

    /// Adds a flow that the policies let a source open: to a reference pod, to another pod, or to a
    /// node, on another node where there is one.
    fn open_anything(
        &mut self,
        source: &Source,
        family: Family,
        transport: Transport,
        denied: &BTreeSet<FlowId>,
    ) -> Option<FlowId> {
        let own = source.node().unwrap_or_default().to_owned();
        let mut nodes: Vec<String> = self
            .inventory
            .nodes
            .iter()
            .filter(|node| !self.inventory.runs_windows(&node.name))
            .map(|node| node.name.clone())
            .collect();
        nodes.sort_by_key(|node| *node == own);

        if transport == Transport::Tcp
            && self.reference_pods_are_free()
            && !self.is_isolated_for_egress(source)
        {
            for node in &nodes {
                if let Some(flow) = self.reach_reference_pod(source, node, family) {
                    return Some(flow);
                }
            }
        }
        if transport == Transport::Tcp
            && let Some(flow) = self.open_a_pod(source, &own, family, denied)
        {
            return Some(flow);
        }
        nodes
            .iter()
            .find_map(|node| self.open_a_node(source, node, family, transport))
    }

    /// Adds a handshake with a pod that the policies admit a source to.
    fn open_a_pod(
        &mut self,
        source: &Source,
        own_node: &str,
        family: Family,
        denied: &BTreeSet<FlowId>,
    ) -> Option<FlowId> {
        let expected_denied: HashSet<(IpAddr, u16)> = denied
            .iter()
            .map(|id| self.flow(*id))
            .filter(|flow| self.builder.probes[flow.probe.0 as usize] == *source)
            .map(|flow| (flow.to.address, flow.to.port))
            .collect();
        let inventory = self.inventory;
        let mut pods: Vec<&Pod> = inventory
            .pods
            .iter()
            .filter(|pod| pod.ready && !pod.host_network)
            .collect();
        pods.sort_by_key(|pod| pod.node == own_node);

        for pod in pods {
            let Some((to, target_kind)) = handshake_with_pod(pod, family) else {
                continue;
            };
            if expected_denied.contains(&(to.address, to.port)) {
                continue;
            }
            if let Some(flow) = self.reach_if_admitted(source, &to, &target_kind) {
                return Some(flow);
            }
        }
        None
    }

    /// Adds a flow to what answers on a node, if the policies admit a source to it.
    fn open_a_node(
        &mut self,
        source: &Source,
        node: &str,
        family: Family,
        transport: Transport,
    ) -> Option<FlowId> {
        let (to, target_kind) = self.node_target(node, family, transport)?;
        self.reach_if_admitted(source, &Arc::new(to), &Arc::new(target_kind))
    }

    /// Whether any policy selects a source for egress, or it is not known.
    fn is_isolated_for_egress(&self, source: &Source) -> bool {
        let Source::Pod {
            namespace, name, ..
        } = source
        else {
            return false;
        };
        self.predictions
            .as_deref()
            .and_then(|predictions| predictions.is_isolated((namespace, name), Direction::Egress))
            .unwrap_or(true)
    }
}
