//! The strongest controls that the policies admit, for denied flows from pods, and where they admit
//! no strong one, the reason why a weaker one is enough.

mod path;
mod source;
mod target;

use super::Controls;
use crate::model::Family;
use crate::plan::addresses::source_of;
use crate::plan::strength::{ControlStrength, WeakerControls};
use crate::plan::{FlowId, Path, ProbeId, Source, TargetKey, TargetKind};
use crate::policy::selects_unlabelled_pods;
use crate::wire::Transport;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// What a search has found so far, so that flows with something in common share it.
#[derive(Default)]
struct Search {
    /// One pod for each namespace, label set and node, of the namespaces in which a run makes probes.
    candidates: Vec<Source>,
    /// Which pods those are, in words that follow "pod": "" for all, or " of shop".
    of_namespaces: String,
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
        let namespaces = self.namespaces_of_probes();
        let mut search = Search {
            of_namespaces: namespaces.map_or_else(String::new, |namespaces| {
                let names: Vec<&str> = namespaces.iter().map(String::as_str).collect();
                format!(" of {}", names.join(", "))
            }),
            candidates: self.candidate_pods(),
            flows_on: self.flows_of_pods(),
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
        self.possible_sources()
            .filter(|pod| !pod.node.is_empty())
            .filter(|pod| kinds.insert((&pod.namespace, &pod.labels, &pod.node)))
            .map(source_of)
            .collect()
    }

    /// The flows from pods by the paths that an answer certainly took.
    fn flows_of_pods(&self) -> BTreeMap<Path, Vec<FlowId>> {
        let mut flows_on = self.builder.path_controls(&BTreeSet::new());
        for flows in flows_on.values_mut() {
            flows.retain(|flow| self.source_of(*flow).is_on_pod_network());
        }
        flows_on
    }

    /// Whether no policy selects the reference pods, for sure: they have no labels, and may be in
    /// any namespace, so none may select all pods of its namespace.
    fn reference_pods_are_free(&self) -> bool {
        self.control_endpoints.reference_pods_pass
            || self.inventory.cluster_policies().next().is_none()
                && !selects_unlabelled_pods(self.inventory)
    }

    /// Whether no policy keeps the reference pods from a target, for sure.
    fn reference_pods_reach(&self, target_kind: &TargetKind) -> bool {
        match target_kind {
            TargetKind::Pod { .. } | TargetKind::Service { .. } => {
                self.control_endpoints.reference_pods_pass
            }
            TargetKind::Node { .. }
            | TargetKind::ReferencePod { .. }
            | TargetKind::Outside { .. } => self.reference_pods_are_free(),
        }
    }

    /// Adds a flow from a pod to a target, if the policies certainly admit it.
    fn reach_if_admitted(
        &mut self,
        source: &Source,
        to: &Arc<TargetKey>,
        target_kind: &Arc<TargetKind>,
    ) -> Option<FlowId> {
        if !self.addressing.can_connect(source, to, target_kind)
            || self.admits(source, to, target_kind) != Some(true)
        {
            return None;
        }
        let opens_at = to.request.opens_at(to.transport);
        Some(self.builder.flow(
            source,
            TargetKey::clone(to),
            TargetKind::clone(target_kind),
            opens_at,
        ))
    }
}
