//! Suite + Inventory → [`Plan`]: expansion into checks and flows, controls, rates.
//!
//! A plan holds everything that a run does, and the controls that a verdict may need: flows that
//! can show that a target answers, that a source can send, that a path is open. Whether they got
//! through is not known here.

mod addresses;
mod backend_properties;
mod builder;
mod check;
mod check_settings;
mod checks;
mod composite;
mod controls;
mod coverage;
mod credentials;
mod draft;
mod endpoints;
mod flow;
mod invalidate;
mod mesh;
mod notes;
mod outside;
mod parts;
mod path;
mod policy_delay;
mod predict;
mod probe_plan;
mod rates;
mod replan;
mod request;
mod resolve;
mod strength;
mod sweep;
mod transport;

pub use backend_properties::{
    BackendKind, BackendProperties, ControlEndpoints, NodeEndpoint, ReferencePodAddress, ResolverOf,
};
pub use check::{Check, LineRef, Prediction, Provability, Scope};
pub use check_settings::{CheckSettings, MIN_DEADLINE};
pub use composite::Composite;
pub use coverage::{Coverage, Touched};
pub use draft::{DraftError, DraftOptions, DraftSelection, draft};
pub use flow::{AnswerRule, Flow, Source, TargetKey, TargetKind, Waits};
pub use parts::PlanParts;
pub use path::{Path, PathEnd, SMALL_REQUEST, SourceControls};
pub use policy_delay::shows_identity_towards;
pub use predict::{FlowExplanation, explain_flows};
pub use probe_plan::{
    REQUEST_DEADLINE, RESOLVE_DEADLINE, RUNS, Schedule, TLS_DEADLINE, floor, longest, probe_plans,
};
pub use rates::{Rate, rate_of};
pub use replan::Replanned;
pub use request::url_port;
pub use resolve::{PlanDiagnostic, PlanError, Selection, resolve, survey};
pub use strength::{ControlStrength, WeakerControls};
pub use sweep::{METADATA, METADATA_PORT};
pub use transport::{model_transport, wire_transport};

use crate::model::Family;
use crate::suite::Expected;
use crate::wire;
use std::collections::{BTreeMap, BTreeSet};

/// A probe of a run: one process, one source. The index into [`Plan::probes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u32);

/// A flow of a run. The index into [`Plan::flows`], and the flow's id in the probe's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u32);

/// Everything that a run does: complete once [`resolve`] returns it.
///
/// Three methods change it later: [`Plan::merge_replanned`] when the cluster changed,
/// [`Plan::retry_with_longer_waits`] when a control took long, and
/// [`Plan::withdraw_checks_from_clones`] when canaries found that probe pods are not enforced.
#[derive(Debug, Clone)]
pub struct Plan {
    parts: PlanParts,
}

impl Plan {
    /// The suites, in the order of the command line.
    pub fn suites(&self) -> &[SuiteRef] {
        &self.parts.suites
    }

    /// The checks, in the order in which they are reported.
    pub fn checks(&self) -> &[Check] {
        &self.parts.checks
    }

    /// Flows that are tried once, listed like checks: ports of denied ranges on which nothing is
    /// known to listen, and what a swept workload could reach beyond all lines. A success violates;
    /// silence says only "closed or denied".
    pub fn swept(&self) -> &[Check] {
        &self.parts.swept
    }

    /// The probes to launch: from where each sends, by [`ProbeId`].
    pub fn probes(&self) -> &[Source] {
        &self.parts.probes
    }

    /// How often each probe tries its flows, by [`ProbeId`].
    pub fn rates(&self) -> &[Rate] {
        &self.parts.rates
    }

    /// How often the flows of checks try targets that many of them go to.
    pub fn target_rates(&self) -> &BTreeMap<TargetKey, Rate> {
        &self.parts.target_rates
    }

    /// The name servers that each probe asks, by [`ProbeId`]; `None` is its own `resolv.conf`.
    pub fn resolvers(&self) -> &[Option<wire::Resolver>] {
        &self.parts.resolvers
    }

    /// The port on which each pod's probe answers, where the backend does not answer there itself.
    pub fn control_port(&self) -> Option<u16> {
        self.parts.control_port
    }

    /// Whether targets are servers of the cluster's users, in place of our own responders.
    pub fn has_foreign_targets(&self) -> bool {
        self.parts.foreign_targets
    }

    /// The flows, by [`FlowId`]; those that serve as controls included.
    pub fn flows(&self) -> &[Flow] {
        &self.parts.flows
    }

    /// For each target of a check, its target controls: flows that can show that it answers.
    pub fn target_controls(&self) -> &BTreeMap<TargetKey, Vec<FlowId>> {
        &self.parts.target_controls
    }

    /// For Services that no single sender is certain to reach, the flows that together show that
    /// the Service answers.
    pub fn composites(&self) -> &BTreeMap<TargetKey, Composite> {
        &self.parts.composites
    }

    /// For each probe, family and transport, the flows that can show that the source can send.
    pub fn source_controls(&self) -> &BTreeMap<(ProbeId, Family, wire::Transport), SourceControls> {
        &self.parts.source_controls
    }

    /// For each path, the flows that take it.
    pub fn path_controls(&self) -> &BTreeMap<Path, Vec<FlowId>> {
        &self.parts.path_controls
    }

    /// The probes whose pods this run creates.
    pub fn created_probes(&self) -> &BTreeSet<ProbeId> {
        &self.parts.created_probes
    }

    /// The probes that run as ephemeral containers, within the pods whose identity they have.
    pub fn ephemeral_probes(&self) -> &BTreeSet<ProbeId> {
        &self.parts.ephemeral_probes
    }

    /// For each created probe and each node, the flows that show that the probe's labels are known
    /// there.
    pub fn policy_delay_flows(&self) -> &BTreeMap<(ProbeId, String), Vec<FlowId>> {
        &self.parts.policy_delay_flows
    }

    /// The uid of every pod that a flow starts from or goes to, by `namespace/name`.
    pub fn pod_uids(&self) -> &BTreeMap<String, String> {
        &self.parts.pod_uids
    }

    /// The kind of each source that is a pod: policies cannot tell pods of one kind apart.
    pub fn source_kinds(&self) -> &BTreeMap<Source, u32> {
        &self.parts.source_kinds
    }

    /// What the policies say of each flow, where they give one answer.
    pub fn predicted(&self) -> &BTreeMap<FlowId, Expected> {
        &self.parts.predicted
    }

    /// How much of what exists the checks touch; `None` where the policies cannot be read.
    pub fn coverage(&self) -> Option<&Coverage> {
        self.parts.coverage.as_ref()
    }

    /// Notes for the user, shown before anything is sampled.
    pub fn notes(&self) -> &[String] {
        &self.parts.notes
    }

    /// The flow of an id that this plan gave out.
    pub fn flow(&self, id: FlowId) -> &Flow {
        &self.parts.flows[id.0 as usize]
    }

    /// The source of a probe that this plan gave out.
    pub fn source(&self, id: ProbeId) -> &Source {
        &self.parts.probes[id.0 as usize]
    }

    /// Adds notes for the user, such as what canaries found.
    pub fn add_notes(&mut self, notes: impl IntoIterator<Item = String>) {
        self.parts.notes.extend(notes);
    }
}

/// A suite as reports name it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct SuiteRef {
    /// `metadata.name`.
    pub name: String,
    /// The file, as the command line names it.
    pub file: String,
    /// SHA-256 of the file.
    pub sha256: String,
}
