//! The strongest controls that the policies admit, for denied flows from pods, and where they admit
//! no strong one, the reason why a weaker one is enough.

use super::{Controls, address_of, nonce_to};
use crate::inventory::Pod;
use crate::model::{self, Family};
use crate::plan::addresses::{source_of, target_kind_of};
use crate::plan::strength::{ControlStrength, WeakerControls};
use crate::plan::{FlowId, Path, PathEnd, ProbeId, Source, TargetKey, TargetKind};
use crate::policy::{Direction, selects_unlabelled_pods};
use crate::wire::{Stage, Transport};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Pods that are added as target controls of one target, where the suite has none that is strong
/// enough.
const MAX_ADDED: usize = 2;

/// Pods that are tried where one must be reached that the policies admit: a port that one declares
/// may not be served.
const MAX_TRIED: usize = 3;

/// What a search has found so far, so that flows with something in common share it.
#[derive(Default)]
pub(super) struct Search {
    /// One pod for each namespace, label set and node.
    candidates: Vec<Source>,
    /// The pods that the policies admit to a target, as far as they say, of the candidates.
    admitted: HashMap<TargetKey, Vec<Source>>,
    /// A source that shows a target to pods of a node, and how strong that is.
    shown: HashMap<(TargetKey, String), (Source, ControlStrength)>,
    /// Why no pod can show that a path is open; `None` where one can.
    paths: BTreeMap<Path, Option<String>>,
    /// The flows from pods that take each path, without those that are expected to be denied.
    flows_on: BTreeMap<Path, Vec<FlowId>>,
    /// Why a source can open nothing; `None` where it can.
    sources: HashMap<(ProbeId, Family, Transport), Option<String>>,
}

impl Controls<'_, '_> {
    /// Adds the strongest controls of every denied flow from a pod.
    pub(super) fn add_strongest_controls(
        &mut self,
        allowed: &BTreeSet<FlowId>,
        denied: &BTreeSet<FlowId>,
    ) {
        let mut search = Search {
            candidates: self.candidate_pods(),
            flows_on: self.flows_of_pods(allowed, denied),
            ..Search::default()
        };
        for flow in denied {
            let Source::Pod { node, .. } = self.source_of(*flow) else {
                continue;
            };
            let weaker = WeakerControls {
                target: self.strongest_target(*flow, &node, allowed, &mut search),
                source: self.strongest_source(*flow, denied, &mut search),
                paths: self.strongest_paths(*flow, &node, allowed, &mut search),
            };
            if !weaker.is_empty() {
                self.builder.weaker_controls.insert(*flow, weaker);
            }
        }
    }

    fn candidate_pods(&self) -> Vec<Source> {
        let mut kinds = HashSet::new();
        self.inventory
            .pods
            .iter()
            .filter(|pod| pod.ready && !pod.host_network && !pod.node.is_empty())
            .filter(|pod| !self.inventory.runs_windows(&pod.node))
            .filter(|pod| kinds.insert((&pod.namespace, &pod.labels, &pod.node)))
            .map(source_of)
            .collect()
    }

    /// The flows from pods by the paths that an answer certainly took.
    fn flows_of_pods(
        &self,
        allowed: &BTreeSet<FlowId>,
        denied: &BTreeSet<FlowId>,
    ) -> BTreeMap<Path, Vec<FlowId>> {
        let mut flows_on: BTreeMap<Path, Vec<FlowId>> = BTreeMap::new();
        for index in 0..self.builder.flows.len() {
            let id = FlowId(index as u32);
            let is_denied = denied.contains(&id) && !allowed.contains(&id);
            if is_denied || self.flow(id).to.request.is_kept_open() {
                continue;
            }
            for path in self.paths_of(id) {
                flows_on.entry(path).or_default().push(id);
            }
        }
        flows_on
    }

    /// The paths that an answered flow from a pod certainly took.
    fn paths_of(&self, id: FlowId) -> Vec<Path> {
        let source = self.source_of(id);
        if !source.is_on_pod_network() {
            return Vec::new();
        }
        let flow = self.flow(id);
        let ends = flow.target_kind.proven_path_ends(flow).into_iter();
        ends.map(|to| Path {
            from: source.node().map(str::to_owned),
            to,
            family: flow.family(),
        })
        .collect()
    }

    /// Whether no policy selects the reference pods, for sure: they have no labels, and may be in
    /// any namespace, so none may select all pods of its namespace.
    fn reference_pods_are_free(&self) -> bool {
        self.control_endpoints.reference_pods_pass
            || self.inventory.cluster_policies().next().is_none()
                && !selects_unlabelled_pods(self.inventory)
    }

    /// Adds the strongest target control; returns a weaker strength and why it is enough, if it is
    /// so.
    fn strongest_target(
        &mut self,
        flow: FlowId,
        node: &str,
        allowed: &BTreeSet<FlowId>,
        search: &mut Search,
    ) -> Option<(ControlStrength, String)> {
        let original = self.flow(flow);
        let is_selected_by_policies = match &*original.target_kind {
            TargetKind::Pod { .. } | TargetKind::Service { .. } => true,
            TargetKind::Node { .. }
            | TargetKind::ReferencePod { .. }
            | TargetKind::Outside { .. } => false,
        };
        let passes = self.control_endpoints.reference_pods_pass
            || !is_selected_by_policies && self.reference_pods_are_free();
        if passes && self.reference_pod_on(node).is_some() {
            let node = node.to_owned();
            self.copy_from(&Source::ReferencePod { node }, flow);
            return None;
        }

        let strongest = self.strongest_pod_to_target(flow, node, allowed, search);
        let target = &self.flow(flow).target_kind;
        match strongest {
            Some(ControlStrength::Pod) => None,
            Some(strength) => Some((
                strength,
                format!("the policies admit a pod to {target} only from its own node"),
            )),
            None => Some((
                ControlStrength::Node,
                format!("the policies admit no other pod to {target}"),
            )),
        }
    }

    /// The strength of the strongest pod that the policies admit to a flow's target; its flows are
    /// added where the suite has none as strong.
    fn strongest_pod_to_target(
        &mut self,
        flow: FlowId,
        node: &str,
        allowed: &BTreeSet<FlowId>,
        search: &mut Search,
    ) -> Option<ControlStrength> {
        let source = self.source_of(flow);
        let key = TargetKey::clone(&self.flow(flow).to);
        let memo = (key.clone(), node.to_owned());
        if let Some((by, strength)) = search.shown.get(&memo)
            && *by != source
        {
            return Some(*strength);
        }

        let planned = self.strongest_planned(flow, &source, allowed);
        if let Some((by, ControlStrength::Pod)) = planned {
            search.shown.insert(memo, (by, ControlStrength::Pod));
            return Some(ControlStrength::Pod);
        }

        let target_kind = TargetKind::clone(&self.flow(flow).target_kind);
        let admitted = self.admitted_to(flow, search);
        let mut by_strength: Vec<(ControlStrength, Source)> = admitted
            .into_iter()
            .filter(|candidate| *candidate != source)
            .map(|candidate| {
                let strength = ControlStrength::of(&candidate, &source, &target_kind);
                (strength, candidate)
            })
            .collect();
        // Probes that run anyway cost nothing more.
        let probes: HashSet<&Source> = self.builder.probes.iter().collect();
        by_strength.sort_by_key(|(strength, candidate)| {
            (std::cmp::Reverse(*strength), !probes.contains(candidate))
        });

        let strongest = by_strength.first().map(|(strength, _)| *strength);
        let planned_strength = planned.as_ref().map(|(_, strength)| *strength);
        if let Some(strength) = strongest.filter(|strength| Some(*strength) > planned_strength) {
            let chosen = by_strength
                .into_iter()
                .filter(|(known, _)| *known == strength);
            for (strength, by) in chosen.take(MAX_ADDED) {
                self.copy_from(&by, flow);
                search.shown.insert(memo.clone(), (by, strength));
            }
        } else if let Some((by, strength)) = planned {
            search.shown.insert(memo, (by, strength));
        }
        strongest.max(planned_strength)
    }

    /// The strongest pod among the controls that the plan has already, which the policies do not
    /// stop.
    fn strongest_planned(
        &mut self,
        flow: FlowId,
        source: &Source,
        allowed: &BTreeSet<FlowId>,
    ) -> Option<(Source, ControlStrength)> {
        let original = self.flow(flow);
        let (key, target_kind) = (Arc::clone(&original.to), Arc::clone(&original.target_kind));
        let controls = self
            .builder
            .target_controls
            .get(&*key)
            .cloned()
            .unwrap_or_default();
        let mut strongest: Option<(Source, ControlStrength)> = None;
        for control in controls {
            let by = self.source_of(control);
            let is_pod = matches!(by, Source::Pod { .. });
            if !is_pod || by == *source || is_pod_itself(&by, &target_kind) {
                continue;
            }
            let passes = match self.admits(&by, &key, &target_kind) {
                Some(admitted) => admitted,
                None => allowed.contains(&control),
            };
            let strength = ControlStrength::of(&by, source, &target_kind);
            if passes
                && strongest
                    .as_ref()
                    .is_none_or(|(_, known)| strength > *known)
            {
                strongest = Some((by, strength));
            }
        }
        strongest
    }

    /// The candidates that the policies admit to a flow's target, and those of which they do not
    /// say.
    fn admitted_to(&mut self, flow: FlowId, search: &mut Search) -> Vec<Source> {
        let original = self.flow(flow);
        let (key, target_kind) = (Arc::clone(&original.to), Arc::clone(&original.target_kind));
        if let Some(known) = search.admitted.get(&*key) {
            return known.clone();
        }

        let mut admitted = Vec::new();
        for candidate in &search.candidates {
            // A pod of a Service may be sent to itself, which shows nothing.
            if !self.addressing.can_connect(candidate, &key, &target_kind)
                || is_pod_itself(candidate, &target_kind)
            {
                continue;
            }
            if self.admits(candidate, &key, &target_kind) != Some(false) {
                admitted.push(candidate.clone());
            }
        }
        search
            .admitted
            .insert(TargetKey::clone(&key), admitted.clone());
        admitted
    }

    /// Adds flows from pods on the paths of a flow; returns the ends that no pod can reach, with
    /// the reason.
    fn strongest_paths(
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
            && self.reach_admitted_pod(flow, node, target_node, path.family, search)
        {
            return None;
        }
        // What planning added on the chance that a policy admits it, cluster DNS for instance.
        if !passing.is_empty() {
            return None;
        }
        Some(format!(
            "the policies admit no pod on {node} to {}",
            path.to
        ))
    }

    /// Whether a planned flow gets through, as far as the policies say.
    fn passes(&mut self, id: FlowId, allowed: &BTreeSet<FlowId>) -> bool {
        let source = self.source_of(id);
        let flow = self.flow(id);
        let (key, target_kind) = (Arc::clone(&flow.to), Arc::clone(&flow.target_kind));
        let is_from_reference_pod = matches!(source, Source::ReferencePod { .. });
        if is_from_reference_pod {
            return match &*target_kind {
                TargetKind::Pod { .. } | TargetKind::Service { .. } => {
                    self.control_endpoints.reference_pods_pass
                }
                TargetKind::Node { .. }
                | TargetKind::ReferencePod { .. }
                | TargetKind::Outside { .. } => self.reference_pods_are_free(),
            };
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

    /// Adds a flow to the reference pod on a node.
    fn reach_reference_pod(&mut self, from: &Source, node: &str, family: Family) -> Option<FlowId> {
        let reference_pod = self.reference_pod_on(node)?;
        let key = nonce_to(
            address_of(&reference_pod.addresses, family)?,
            reference_pod.port,
            Transport::Tcp,
        );
        let target_kind = TargetKind::ReferencePod {
            node: node.to_owned(),
        };
        Some(self.builder.flow(from, key, target_kind, Stage::Connect))
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
        search: &Search,
    ) -> bool {
        let own = self.source_of(flow);
        let running = self.builder.probes.iter();
        let any = search.candidates.iter();
        let mut senders: Vec<Source> = vec![own];
        for source in running.chain(any) {
            let is_pod = matches!(source, Source::Pod { .. });
            if is_pod && source.node() == Some(node) && !senders.contains(source) {
                senders.push(source.clone());
            }
        }

        let inventory = self.inventory;
        let receivers = inventory
            .pods
            .iter()
            .filter(|pod| pod.node == target_node && pod.ready && !pod.host_network);
        let mut targets: Vec<(Arc<TargetKey>, Arc<TargetKind>)> = Vec::new();
        for pod in receivers {
            targets.extend(handshake_with_pod(pod, family));
        }
        let mut added = 0;
        for sender in &senders {
            for (key, target_kind) in &targets {
                if added < MAX_TRIED
                    && self.addressing.can_connect(sender, key, target_kind)
                    && self.admits(sender, key, target_kind) == Some(true)
                {
                    let stage = key.request.opens_at(key.transport);
                    self.builder.flow(
                        sender,
                        TargetKey::clone(key),
                        TargetKind::clone(target_kind),
                        stage,
                    );
                    added += 1;
                }
            }
        }
        added > 0
    }

    /// Adds something that the policies let a flow's source open; returns why there is nothing, if
    /// it is so.
    fn strongest_source(
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
        let expected_denied: HashSet<(std::net::IpAddr, u16)> = denied
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
            let Some((key, target_kind)) = handshake_with_pod(pod, family) else {
                continue;
            };
            if !expected_denied.contains(&(key.address, key.port))
                && self.addressing.can_connect(source, &key, &target_kind)
                && self.admits(source, &key, &target_kind) == Some(true)
            {
                let stage = key.request.opens_at(key.transport);
                let (key, target_kind) = (TargetKey::clone(&key), TargetKind::clone(&target_kind));
                return Some(self.builder.flow(source, key, target_kind, stage));
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
        let flow = self.node_target(node, family, transport)?;
        let (key, target_kind) = (Arc::new(flow.0), Arc::new(flow.1));
        if self.admits(source, &key, &target_kind) != Some(true) {
            return None;
        }
        self.reach_node(source, node, family, transport)
    }

    /// Whether any policy selects a source for egress, or it is not known.
    fn is_isolated_for_egress(&self, source: &Source) -> bool {
        let Source::Pod {
            namespace, name, ..
        } = source
        else {
            return false;
        };
        let number = self
            .inventory
            .pods
            .iter()
            .position(|pod| pod.namespace == *namespace && pod.name == *name);
        let (Some(number), Some(predictions)) = (number, self.predictions.as_deref()) else {
            return true;
        };
        !predictions.selecting(number, Direction::Egress).is_empty()
    }
}

/// A handshake with the first TCP port that a pod declares.
fn handshake_with_pod(pod: &Pod, family: Family) -> Option<(Arc<TargetKey>, Arc<TargetKind>)> {
    let port = pod
        .ports
        .iter()
        .map(|declared| declared.port)
        .find(|port| port.transport() == model::Transport::Tcp)?;
    let key = super::handshake_with(pod.address(family)?, port.number());
    Some((Arc::new(key), Arc::new(target_kind_of(pod))))
}

/// Whether a source is a pod that a target's packets may arrive at.
fn is_pod_itself(source: &Source, target_kind: &TargetKind) -> bool {
    let Source::Pod {
        namespace, name, ..
    } = source
    else {
        return false;
    };
    match target_kind {
        TargetKind::Pod {
            namespace: target_namespace,
            name: target,
            ..
        } => namespace == target_namespace && name == target,
        TargetKind::Service { pods, .. } => pods.contains(&format!("{namespace}/{name}")),
        TargetKind::Node { .. } | TargetKind::ReferencePod { .. } | TargetKind::Outside { .. } => {
            false
        }
    }
}
