//! Whether a check can be proven, as far as its two ends and its request tell.

use super::super::{BackendKind, Provability};
use super::SuiteExpander;
use super::spec::CheckSpec;
use crate::suite::{Expected, RequiredTier};

impl SuiteExpander<'_, '_> {
    /// Whether a check can be proven, before its flows are known.
    pub(super) fn provability(&self, spec: &CheckSpec<'_>) -> Provability {
        self.absence(spec)
            .map(Provability::MatchesNothing)
            .or_else(|| spec.unsampled.clone())
            .or_else(|| self.impossibility(spec).map(Provability::Unprovable))
            .unwrap_or(Provability::Provable)
    }

    /// What of the two ends does not exist, as a sentence.
    fn absence(&self, spec: &CheckSpec<'_>) -> Option<String> {
        let inventory = self.addressing.inventory;
        let (source, target) = (
            &self.endpoints[spec.source.0],
            &self.endpoints[spec.target.0],
        );
        if !source.exists() || source.lacks_pods() {
            return Some(source.absence(inventory));
        }
        if !target.exists() {
            return Some(target.absence(inventory));
        }
        [source, target]
            .into_iter()
            .find_map(|endpoint| endpoint.service_fault.clone())
    }

    /// Why no packet could prove a check, as a sentence.
    fn impossibility(&self, spec: &CheckSpec<'_>) -> Option<String> {
        let inventory = self.addressing.inventory;
        let (source, target) = (
            &self.endpoints[spec.source.0],
            &self.endpoints[spec.target.0],
        );
        let mut pods = source.pods.iter().chain(&target.pods);
        if let Some(pod) = pods.find(|pod| inventory.runs_windows(&pod.node)) {
            return Some(format!(
                "{} runs on node {}, which runs Windows: no probe runs there",
                pod.full_name(),
                pod.node
            ));
        }
        if let Some(why) = &spec.request_spec.unprovable {
            return Some(why.clone());
        }

        let requires_counter = spec.settings.required_tier == Some(RequiredTier::D2Counter)
            && spec.expected == Expected::Denied;
        if requires_counter && self.backend == BackendKind::Cluster {
            return Some(
                "D2+counter needs the enforcer's own count, which cannot be read in a cluster"
                    .to_owned(),
            );
        }

        let requires_mesh_identity = spec.settings.required_tier == Some(RequiredTier::A3)
            && spec.expected == Expected::Allowed;
        requires_mesh_identity
            .then(|| "A3 needs a mesh identity, which is not observed here".to_owned())
    }
}
