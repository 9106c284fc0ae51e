//! The strongest target control that the policies admit.

use super::super::Controls;
use super::Search;
use crate::plan::addresses::{is_same, may_come_back};
use crate::plan::{ControlStrength, FlowId, Source, TargetKey, TargetKind};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// Pods that are added as target controls of one target, where the suite has none that is strong
/// enough.
const MAX_ADDED: usize = 2;

impl Controls<'_, '_> {
    /// Adds the strongest target control; returns a weaker strength and why it is enough, if it is
    /// so.
    pub(super) fn strongest_target(
        &mut self,
        flow: FlowId,
        node: &str,
        allowed: &BTreeSet<FlowId>,
        search: &mut Search,
    ) -> Option<(ControlStrength, String)> {
        if self.reference_pods_reach(&self.flow(flow).target_kind)
            && self.reference_pod_on(node).is_some()
        {
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
                format!(
                    "the policies admit a pod{} to {target} only from its own node",
                    search.of_namespaces
                ),
            )),
            None => Some((
                ControlStrength::Node,
                format!(
                    "the policies admit no other pod{} to {target}",
                    search.of_namespaces
                ),
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
            // A second one only where its probe runs anyway.
            let chosen: Vec<_> = by_strength
                .into_iter()
                .enumerate()
                .filter(|(nth, (known, by))| {
                    *known == strength && (*nth == 0 || probes.contains(by))
                })
                .map(|(_, chosen)| chosen)
                .take(MAX_ADDED)
                .collect();
            for (strength, by) in chosen {
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
            let is_other_pod = matches!(by, Source::Pod { .. }) && by != *source;
            if !is_other_pod || is_same(&by, &target_kind) || may_come_back(&by, &target_kind) {
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
                || may_come_back(candidate, &target_kind)
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
}
