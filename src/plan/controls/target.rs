//! Target controls: flows from elsewhere to the same address, port and request, in order of
//! preference.

use super::Controls;
use crate::plan::addresses::source_of;
use crate::plan::composite::{self, Composite};
use crate::plan::endpoints::{EndpointKind, resolve_endpoint};
use crate::plan::{FlowId, Source, TargetKey, TargetKind};
use crate::suite::Suite;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Pods that are tried as controls where no check of the suite is allowed to reach a Service.
const MAX_POD_CONTROLS: usize = 6;

impl Controls<'_, '_> {
    fn add_target_control(&mut self, key: &TargetKey, flow: FlowId) {
        let target_controls = self.builder.target_controls.entry(key.clone()).or_default();
        if !target_controls.contains(&flow) {
            target_controls.push(flow);
        }
    }

    /// First choice: an allowed check of any source.
    pub(super) fn add_allowed_checks(&mut self, allowed: &BTreeSet<FlowId>) {
        for flow in allowed {
            let key = self.flow(*flow).to.clone();
            self.add_target_control(&key, *flow);
        }
    }

    /// An allowed check that sends the same and expects another answer: its source is asked once
    /// more, and judged by the rule of the flow that it is a control of.
    pub(super) fn add_allowed_checks_of_another_rule(
        &mut self,
        allowed: &BTreeSet<FlowId>,
        denied: &BTreeSet<FlowId>,
    ) {
        let mut by_packets: HashMap<TargetKey, Vec<FlowId>> = HashMap::new();
        for id in allowed {
            let to = &self.flow(*id).to;
            if to.request.http().is_some() {
                let same_packets = by_packets.entry(to.without_answer_rule()).or_default();
                same_packets.push(*id);
            }
        }

        for id in allowed.iter().chain(denied) {
            let to = Arc::clone(&self.flow(*id).to);
            if to.request.http().is_none() {
                continue;
            }
            let same_packets = by_packets.get(&to.without_answer_rule());
            for other in same_packets.into_iter().flatten() {
                if self.flow(*other).to != to {
                    self.copy_from(&self.source_of(*other), *id);
                }
            }
        }
    }

    /// Second choice: the line's `control:`.
    pub(super) fn add_named_controls(&mut self, suites: &[Suite]) {
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

            let endpoint = resolve_endpoint(&suite.endpoints[control.0], self.inventory);
            let source = match endpoint.kind {
                EndpointKind::Runner => Some(Source::Runner),
                EndpointKind::Pods | EndpointKind::Outside(_) | EndpointKind::Nodes => {
                    endpoint.pods.first().map(|pod| source_of(pod))
                }
            };
            let Some(source) = source else { continue };
            for flow in check.flows.clone() {
                self.copy_from(&source, flow);
            }
        }
    }

    /// Adds a control that sends the same to the same target from another source.
    pub(super) fn copy_from(&mut self, source: &Source, flow: FlowId) {
        let original = self.flow(flow);
        let key = TargetKey::clone(&original.to);
        let target_kind = TargetKind::clone(&original.target_kind);
        let opens_at = original.opens_at;

        let runs_windows = source
            .node()
            .is_some_and(|node| self.inventory.runs_windows(node));
        let can_send = match source {
            Source::Node { .. } => self.control_endpoints.from_nodes,
            Source::Pod { .. } | Source::ReferencePod { .. } | Source::Runner => true,
        };
        if !can_send || runs_windows || !self.addressing.has_family_of(source, key.address) {
            return;
        }

        // A control does not repeat what may be sent only once: it shows that the way there is open
        // and no more.
        let repeatable = key.request.repeatable_form().filter(|_| key.once);
        let to = match repeatable {
            Some(request) => TargetKey {
                request,
                once: false,
                ..key.clone()
            },
            None => key.clone(),
        };
        let control = self.builder.flow(source, to, target_kind, opens_at);
        self.add_target_control(&key, control);
    }

    /// Third choice: sources that no policy can stop. A node may always reach its own pods
    /// (Kubernetes, "Network Policies"); targets outside are tried from the source's node, to which
    /// the policies of its pods do not apply.
    pub(super) fn add_target_controls(&mut self, flow: FlowId) {
        let source = self.source_of(flow);
        match TargetKind::clone(&self.flow(flow).target_kind) {
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
            // Only flows that planning adds go there.
            TargetKind::ReferencePod { .. } => {}
            TargetKind::Outside { .. } => self.add_outside_controls(&source, flow),
        }
    }

    fn add_outside_controls(&mut self, source: &Source, flow: FlowId) {
        let Some(node) = source.node() else {
            if let Some(node) = self.inventory.nodes.first() {
                let name = node.name.clone();
                self.copy_from(&Source::Node { name }, flow);
            }
            return;
        };

        let name = node.to_owned();
        self.copy_from(&Source::Node { name: name.clone() }, flow);
        if self.flow(flow).to.name.is_some() {
            // A node asks other name servers than its pods: only a source on the pod network can
            // show that theirs answer.
            self.add_pod_like_control(Some(name), flow, &[]);
        }
    }

    /// Fourth choice, for a Service whose pods are on several nodes and that no check is allowed to
    /// reach: see [`Composite`].
    pub(super) fn add_composite_control(&mut self, flow: FlowId, allowed: &BTreeSet<FlowId>) {
        if !self.control_endpoints.from_nodes || self.control_endpoints.reference_pods_pass {
            return;
        }
        let original = self.flow(flow);
        if original.to.request.is_kept_open() {
            // One connection leads to one of the pods.
            return;
        }
        let key = TargetKey::clone(&original.to);
        let target_controls = self.builder.target_controls.get(&key);
        let has_allowed_control = target_controls
            .into_iter()
            .flatten()
            .filter(|control| self.flow(**control).probe != original.probe)
            .any(|control| allowed.contains(control));
        if has_allowed_control || self.builder.composites.contains_key(&key) {
            return;
        }

        let Some(targets) =
            composite::composite_targets(self.inventory, &key, &original.target_kind)
        else {
            return;
        };
        let target_kind = TargetKind::clone(&original.target_kind);
        let opens_at = original.opens_at;

        let mut through = Vec::new();
        for name in targets.nodes {
            let source = Source::Node { name };
            let flow = self
                .builder
                .flow(&source, key.clone(), target_kind.clone(), opens_at);
            through.push(flow);
        }
        let mut backends = Vec::new();
        for (name, key, target_kind) in targets.backends {
            let source = Source::Node { name };
            backends.push(self.builder.flow(&source, key, target_kind, opens_at));
        }
        self.builder
            .composites
            .insert(key, Composite { through, backends });
    }

    /// Adds a control from the reference pod of a node where there is one, else from pods that
    /// policies may admit.
    fn add_pod_like_control(&mut self, node: Option<String>, flow: FlowId, backends: &[String]) {
        match node {
            Some(node) if self.reference_pod_on(&node).is_some() => {
                self.copy_from(&Source::ReferencePod { node }, flow);
            }
            Some(_) | None => self.try_pod_controls(flow, backends),
        }
    }

    /// Adds controls from one pod of each of a few workloads, where no other pod tries the same
    /// target: from those that the policies admit, or else from any, since a failure of one that is
    /// not admitted does not count. A Service whose pods run on several nodes needs this: no node
    /// is certain to get through, since its packets may go to a pod of another node.
    fn try_pod_controls(&mut self, flow: FlowId, backends: &[String]) {
        if self.has_other_pod_control(flow) {
            return;
        }

        let original = self.flow(flow);
        let (to, target_kind) = (Arc::clone(&original.to), Arc::clone(&original.target_kind));
        let own = self.source_of(flow);
        let mut workloads = BTreeSet::new();
        let candidates: Vec<Source> = self
            .possible_sources()
            .filter(|pod| !backends.contains(&pod.full_name()))
            .filter(|pod| workloads.insert((&pod.namespace, &pod.labels)))
            .map(source_of)
            .collect();

        let mut admitted: Vec<Source> = Vec::new();
        for source in &candidates {
            if admitted.len() < MAX_POD_CONTROLS
                && *source != own
                && self.addressing.has_family_of(source, to.address)
                && self.admits(source, &to, &target_kind) == Some(true)
            {
                admitted.push(source.clone());
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

    /// Whether a pod of another probe already is a control of a flow's target.
    fn has_other_pod_control(&self, flow: FlowId) -> bool {
        let original = self.flow(flow);
        let target_controls = self.builder.target_controls.get(&original.to);
        target_controls
            .into_iter()
            .flatten()
            .map(|control| self.flow(*control).probe)
            .filter(|probe| *probe != original.probe)
            .any(|probe| matches!(self.builder.probes[probe.0 as usize], Source::Pod { .. }))
    }
}
