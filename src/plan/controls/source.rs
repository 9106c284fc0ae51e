//! Source controls: flows of the same probe, or to the source itself, that show that it can send.

use super::{Controls, nonce_to};
use crate::model::Family;
use crate::plan::addresses::target_kind_of;
use crate::plan::{FlowId, Source};
use crate::wire::{Request, Stage, Transport};
use std::collections::BTreeSet;

impl Controls<'_, '_> {
    /// Adds what shows that a source can send in the family and transport of a flow: what is
    /// allowed to it, cluster DNS on the chance that it is, and its own node reaching it.
    pub(super) fn add_source_controls(&mut self, flow: FlowId, allowed: &BTreeSet<FlowId>) {
        let original = self.flow(flow);
        let key = (original.probe, original.family(), original.to.transport);
        let (probe, family, transport) = key;
        if allowed.contains(&flow) {
            let source_controls = self.builder.source_controls.entry(key).or_default();
            if !source_controls.allowed.contains(&flow) {
                source_controls.allowed.push(flow);
            }
        }

        let is_complete = self
            .builder
            .source_controls
            .get(&key)
            .is_some_and(|controls| !controls.tried.is_empty() || !controls.reached.is_empty());
        if is_complete {
            return;
        }

        let source = self.source_of(flow);
        let mut tried = Vec::new();
        let mut reached = Vec::new();
        if let Some((key, target_kind)) = self.cluster_dns(family, transport) {
            let query = self
                .builder
                .flow(&source, key, target_kind, Stage::FirstBytes);
            tried.push(query);
        }
        match &source {
            Source::Pod {
                namespace,
                name,
                node,
            } => reached.extend(self.reach_source((namespace, name), node, family, transport)),
            Source::Node { name } => {
                tried.extend(self.reach_other_node(&source, Some(name), family, transport));
            }
            Source::ReferencePod { .. } => {}
            Source::Runner => {
                tried.extend(self.reach_other_node(&source, None, family, transport));
            }
        }

        // A flow may already belong to another probe of the same source; a source control of a
        // probe is a flow of the same probe.
        tried.retain(|flow| self.flow(*flow).probe == probe);
        let source_controls = self.builder.source_controls.entry(key).or_default();
        source_controls.tried.extend(tried);
        source_controls.reached.extend(reached);
    }

    /// Adds a flow from a pod's own node to the pod's control port.
    fn reach_source(
        &mut self,
        (namespace, name): (&str, &str),
        node: &str,
        family: Family,
        transport: Transport,
    ) -> Option<FlowId> {
        if !self.control_endpoints.from_nodes {
            return None;
        }
        let pod = self.pods.get(&(namespace, name)).copied()?;
        let port = self.control_endpoints.on_pods?;
        let key = nonce_to(pod.address(family)?, port, transport);
        let own_node = Source::Node {
            name: node.to_owned(),
        };
        let opens_at = Request::Nonce.opens_at(transport);

        Some(
            self.builder
                .flow(&own_node, key, target_kind_of(pod), opens_at),
        )
    }

    /// Adds a flow to what answers on the first node that is not the source's own.
    fn reach_other_node(
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
}
