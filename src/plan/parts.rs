//! The contents of a [`Plan`](super::Plan), and how it is taken apart and put together.

use super::{
    Check, Composite, Coverage, Flow, FlowId, Path, Plan, ProbeId, Rate, Source, SourceControls,
    SuiteRef, TargetKey, WeakerControls,
};
use crate::model::Family;
use crate::suite::Expected;
use crate::wire;
use std::collections::{BTreeMap, BTreeSet};

/// The contents of a [`Plan`] as public fields, for tests that alter a plan by hand.
///
/// Everything else reads a plan by its methods and makes one by [`resolve`](super::resolve).
#[derive(Debug, Clone, Default)]
pub struct PlanParts {
    /// The suites, in the order of the command line.
    pub suites: Vec<SuiteRef>,
    /// The checks, in the order in which they are reported.
    pub checks: Vec<Check>,
    /// What is tried once and is no check: see [`Plan::swept`].
    pub swept: Vec<Check>,
    /// The source of each probe, by [`ProbeId`].
    pub probes: Vec<Source>,
    /// The rate of each probe, by [`ProbeId`].
    pub rates: Vec<Rate>,
    /// The rates of targets that many flows of checks go to.
    pub target_rates: BTreeMap<TargetKey, Rate>,
    /// The name servers of each probe, by [`ProbeId`]; `None` is its own `resolv.conf`.
    pub resolvers: Vec<Option<wire::Resolver>>,
    /// The port on which each pod's probe answers, where the backend does not answer there itself.
    pub control_port: Option<u16>,
    /// Whether targets are servers of the cluster's users, in place of our own responders.
    pub foreign_targets: bool,
    /// The flows, by [`FlowId`]; those that serve as controls included.
    pub flows: Vec<Flow>,
    /// The target controls of each target.
    pub target_controls: BTreeMap<TargetKey, Vec<FlowId>>,
    /// Controls of Services that no single sender is certain to reach.
    pub composites: BTreeMap<TargetKey, Composite>,
    /// The source controls of each probe, family and transport.
    pub source_controls: BTreeMap<(ProbeId, Family, wire::Transport), SourceControls>,
    /// The flows that take each path.
    pub path_controls: BTreeMap<Path, Vec<FlowId>>,
    /// Denied flows for which weaker controls are enough, since the policies admit no stronger ones.
    pub weaker_controls: BTreeMap<FlowId, WeakerControls>,
    /// The probes whose pods this run creates.
    pub created_probes: BTreeSet<ProbeId>,
    /// The probes that run as ephemeral containers, within the pods whose identity they have.
    pub ephemeral_probes: BTreeSet<ProbeId>,
    /// For a created probe and a node, the flows that show that the probe's labels are known there.
    pub policy_delay_flows: BTreeMap<(ProbeId, String), Vec<FlowId>>,
    /// The uid of every pod that a flow starts from or goes to, by `namespace/name`.
    pub pod_uids: BTreeMap<String, String>,
    /// The kind of each source that is a pod: policies cannot tell pods of one kind apart.
    pub source_kinds: BTreeMap<Source, u32>,
    /// What the policies say of each flow, where they give one answer.
    pub predicted: BTreeMap<FlowId, Expected>,
    /// How much of what exists the checks touch; `None` where the policies cannot be read.
    pub coverage: Option<Coverage>,
    /// Notes for the user, shown before anything is sampled.
    pub notes: Vec<String>,
}

impl Plan {
    /// Makes a plan of its parts. Whether they fit together is not verified.
    pub fn from_parts(parts: PlanParts) -> Self {
        Self { parts }
    }

    /// Takes a plan apart.
    pub fn into_parts(self) -> PlanParts {
        self.parts
    }
}
