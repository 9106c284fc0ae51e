//! Inputs of a run beside plan and backend.

use super::{Replan, RunnerClock};
use crate::plan::Schedule;

/// Inputs of a run beside plan and backend.
#[derive(Debug, Clone)]
pub struct Options {
    /// The parts of the probes' plans that are the same for all.
    pub schedule: Schedule,
    /// The name of the backend in reports.
    pub backend: &'static str,
    /// The runner's clock when the run started.
    pub clock: RunnerClock,
    pub about: About,
    /// How to plan again when pods or Services change; without it their flows stay unproven unless
    /// they hold for the pods that were planned.
    pub replan: Replan,
}

/// Statements of the report about a run that no step of the run needs.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// SHA-256 of the executable that runs, hexadecimal.
    pub digest: Option<String>,
    /// SHA-256 of the probe's executable, hexadecimal.
    pub probe_digest: Option<String>,
    /// The settings of this run beside its suites: name and value, `null` where it was not given.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// What the verdicts of this run do not speak of, besides what holds for every run.
    pub limits: Vec<String>,
}
