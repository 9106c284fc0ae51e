//! `everythingElse: denied`: every ordered pair of endpoints, at every known port of which no line
//! speaks.

use super::super::endpoints::ResolvedEndpoint;
use super::SuiteExpander;
use super::spec::{CheckSpec, SpecPort, ports_of_nothing};
use crate::source::Place;
use crate::suite::EndpointId;

impl SuiteExpander<'_, '_> {
    /// Adds the checks of `everythingElse: denied`.
    pub(super) fn expand_everything_else(&mut self) {
        let Some(place) = self.suite.everything_else.clone() else {
            return;
        };
        self.note_all_node_identities();

        let all: Vec<EndpointId> = (0..self.endpoints.len()).map(EndpointId).collect();
        for source in &all {
            if !self.endpoints[source.0].is_source_by_wildcard() {
                continue;
            }
            for target in &all {
                if self.is_pair(*source, *target) {
                    self.expand_pair(*source, *target, &place);
                }
            }
        }
    }

    /// Whether two endpoints are a pair; one makes a pair with itself where it has two pods.
    fn is_pair(&self, source: EndpointId, target: EndpointId) -> bool {
        let endpoint = &self.endpoints[target.0];
        if source == target {
            return endpoint.is_pair_with_itself();
        }
        endpoint.is_target_by_wildcard()
    }

    fn expand_pair(&mut self, source: EndpointId, target: EndpointId, place: &Place) {
        let ports = match every_port(&self.endpoints[target.0]) {
            Ok(ports) => ports,
            Err(message) => {
                self.report(place, message, None);
                return;
            }
        };
        for port in ports {
            let spec = self.spec((source, target), port, None, None, place);
            if spec.unsampled.is_some() || !self.is_covered_by_lines(&spec) {
                self.add_check(&spec);
            }
        }
        self.add_other_ports(source, target, place);
    }

    /// Whether lines speak of every pair of pods of a check, of which there is at least one.
    fn is_covered_by_lines(&self, spec: &CheckSpec<'_>) -> bool {
        let sources = self
            .addressing
            .sources(&self.endpoints[spec.source.0], None);
        let mut pairs = 0;
        for (key, target_kind) in self.targets(spec) {
            for source in &sources {
                if !self.addressing.can_connect(source, &key, &target_kind) {
                    continue;
                }
                pairs += 1;
                if !self.expectations.speaks_of(source, &key) {
                    return false;
                }
            }
        }
        pairs > 0
    }
}

/// Every known port of an endpoint, or what stands for the ports of one that has none.
///
/// # Errors
/// As [`ResolvedEndpoint::port`].
fn every_port(endpoint: &ResolvedEndpoint<'_>) -> Result<Vec<SpecPort>, String> {
    if !endpoint.exists() {
        return Ok(ports_of_nothing(endpoint, None));
    }
    let known = endpoint.known_ports(None)?;
    let ports: Vec<SpecPort> = known
        .into_iter()
        .chain(endpoint.sctp_ports()?)
        .map(SpecPort::from)
        .collect();
    if ports.is_empty() {
        return Ok(vec![SpecPort::none_known(&endpoint.endpoint.label)]);
    }
    Ok(ports)
}
