//! Notes on suites, shown before anything is sampled.

use crate::suite::{Endpoint, EndpointId, Locator, SourceMode, Subject, Suite};
use std::collections::BTreeSet;

/// Notes on source endpoints whose packets do not have the identity of their pods: what is found
/// out about them does not apply to the pods.
pub(super) fn source_modes(suite: &Suite) -> impl Iterator<Item = String> {
    let named: BTreeSet<EndpointId> = suite
        .lines
        .iter()
        .flat_map(|line| &line.sources)
        .flat_map(Subject::members)
        .copied()
        .collect();
    let every_endpoint = suite.everything_else.is_some()
        || suite
            .lines
            .iter()
            .any(|line| line.sources.contains(&Subject::All));

    (0..)
        .map(EndpointId)
        .zip(&suite.endpoints)
        .filter(move |(id, _)| every_endpoint || named.contains(id))
        .filter_map(|(_, endpoint)| source_mode_note(endpoint))
}

fn source_mode_note(endpoint: &Endpoint) -> Option<String> {
    let from = match endpoint.source_mode.unwrap_or_default() {
        SourceMode::Clone | SourceMode::Ephemeral => return None,
        SourceMode::Node => "the nodes of its pods",
        SourceMode::Runner => "where watertight runs",
    };
    // Only an endpoint that is made of pods has another way to send.
    match &endpoint.locator {
        Locator::Workload { .. } | Locator::Pods { .. } | Locator::Service { .. } => {}
        Locator::Host(_) | Locator::Address(_) | Locator::Runner | Locator::Nodes => return None,
    }
    let label = &endpoint.label;
    Some(format!(
        "{label} sends from {from}, not with its pods' identity: policies that select those are not tested"
    ))
}
