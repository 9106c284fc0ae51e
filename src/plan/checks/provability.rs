//! Whether a check can be proven, as far as its two ends and its request tell.

use super::super::endpoints::{EndpointKind, ResolvedEndpoint};
use super::super::outside::OutsideHosts;
use super::super::predict::Predictions;
use super::super::{BackendKind, Provability};
use super::SuiteExpander;
use super::spec::CheckSpec;
use crate::model::Transport;
use crate::suite::{Expected, RequiredTier};

impl SuiteExpander<'_, '_> {
    /// Whether a check can be proven, before its flows are known.
    pub(super) fn provability(&self, spec: &CheckSpec<'_>) -> Provability {
        self.absence_of_source(spec)
            .map(Provability::MatchesNothing)
            .or_else(|| self.unknown_address(spec).map(Provability::AddressUnknown))
            .or_else(|| self.absence(spec).map(Provability::MatchesNothing))
            .or_else(|| spec.unsampled.clone())
            .or_else(|| self.unprovable_outside(spec).map(Provability::Unprovable))
            .or_else(|| self.impossibility(spec).map(Provability::Unprovable))
            .unwrap_or(Provability::Provable)
    }

    /// Whether the source does not exist, as a sentence.
    fn absence_of_source(&self, spec: &CheckSpec<'_>) -> Option<String> {
        let source = &self.endpoints[spec.source.0];
        (!source.exists() || source.lacks_pods()).then(|| source.absence(self.addressing.inventory))
    }

    /// What is known of hosts outside.
    fn outside(&self) -> OutsideHosts<'_, '_> {
        OutsideHosts {
            inventory: self.addressing.inventory,
            backend: self.backend,
            explainer: self.predictions.as_deref().map(Predictions::explainer),
        }
    }

    /// Why it is not known what the policies do with the packets of a check; see
    /// [`OutsideHosts::unknown_address`].
    pub(super) fn unknown_address(&self, spec: &CheckSpec<'_>) -> Option<String> {
        self.outside().unknown_address(
            &self.endpoints[spec.source.0],
            &self.endpoints[spec.target.0],
        )
    }

    /// Why nothing can be proven of a target outside.
    fn unprovable_outside(&self, spec: &CheckSpec<'_>) -> Option<String> {
        self.outside().unprovable(
            &self.endpoints[spec.source.0],
            &self.endpoints[spec.target.0],
            spec.expected,
        )
    }

    /// What of the two ends does not exist, as a sentence.
    fn absence(&self, spec: &CheckSpec<'_>) -> Option<String> {
        let inventory = self.addressing.inventory;
        let (source, target) = (
            &self.endpoints[spec.source.0],
            &self.endpoints[spec.target.0],
        );
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
        if spec.is_established()
            && let Some(why) = why_no_connection_is_kept(spec, target)
        {
            return Some(why.to_owned());
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

/// Why a connection that is kept open to a target shows nothing, if it is so.
fn why_no_connection_is_kept(
    spec: &CheckSpec<'_>,
    target: &ResolvedEndpoint<'_>,
) -> Option<&'static str> {
    if spec.port.transport != Transport::Tcp {
        return Some("`established: true` needs a TCP port: no connection is kept open over UDP");
    }
    match target.kind {
        EndpointKind::Outside(_) if matches!(spec.port.number, 80 | 443) => Some(
            "on 80 and 443 outside of the cluster a firewall may answer for the target, so a connection that is kept open there shows nothing",
        ),
        EndpointKind::Outside(_)
        | EndpointKind::Pods
        | EndpointKind::Nodes
        | EndpointKind::Runner => None,
    }
}
