//! Events of a run: the only source of every report.
//!
//! [`RunEvent`] serialised is the JSON-lines format; the JSON report holds the same types, so both
//! have one name for each thing. Everything is in the suite's and Kubernetes' own words: a report
//! needs neither plan nor evidence.
//!
//! A value that is not known is `None`, in JSON `null`, and never absent. Durations carry their
//! unit in the name of the field.

mod check_ref;
mod check_text;
mod controls;
mod exit;
mod flow_text;
mod prediction;
mod request;
mod result;

pub use check_ref::{CheckRef, Predicted, SettingsReport, check_ref, check_refs};
pub use check_text::check_result;
pub use exit::{ExitCode, Summary};
pub use request::describe_request;
pub use result::{
    CheckResult, ControlReport, ControlRole, FlowOutcome, FlowReport, Latency, Outcome, ReasonText,
    SentAs, Transport, WeakerControl, WindowReport,
};

// Types of other modules that events hold: reports take them from here.
pub use crate::inventory::{EnvironmentInfo, PolicyState};
pub use crate::plan::{Coverage, SuiteRef, Touched};
pub use crate::suite::{Expected, Mechanism, RequiredTier, Spread};
pub use crate::verdict::{Reach, Reason};

use serde::Serialize;

/// What no proof of a run says, unless a line asks for it.
pub const NEW_CONNECTIONS_ONLY: &str = "proofs speak of new connections: connections that were open before a policy changed may live on (`established: true` tests them)";

/// Something that happened in a run.
#[derive(Debug, Clone, Serialize)]
#[serde(
    tag = "event",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum RunEvent {
    /// First: everything that will be judged.
    Started {
        run: RunInfo,
        /// Where the run takes place, and the policies at its start; `None` if they could not be
        /// read.
        environment: Option<EnvironmentInfo>,
        suites: Vec<SuiteRef>,
        /// The checks, in the order of all reports.
        checks: Vec<CheckRef>,
        /// How much of what exists the checks touch; `None` where the policies cannot be read.
        coverage: Option<Box<Coverage>>,
    },
    /// A sentence for people that is no verdict.
    Note { text: String },
    /// How far the run is.
    Progress {
        /// Checks that are settled.
        settled: usize,
        /// All checks.
        total: usize,
        /// Milliseconds since the start.
        elapsed_ms: u64,
        /// Milliseconds that the run takes at the least.
        floor_ms: u64,
    },
    /// A check is settled. Evidence that arrives later may still change its result.
    Settled { result: Box<CheckResult> },
    /// The final results, all of them, in order.
    Finished {
        /// The run, with its end.
        run: RunInfo,
        /// One for each check of `Started`; then one for each port that was swept and found open.
        results: Vec<CheckResult>,
        summary: Summary,
        /// The policies at the end of the run; `None` if they could not be read.
        policies_after: Option<Vec<PolicyState>>,
    },
    /// Last: the objects that the run created are removed.
    CleanedUp {
        /// Objects that could not be removed, each with the reason.
        leftovers: Vec<String>,
    },
}

/// A run: its identity, its times, and the programs that took part.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunInfo {
    /// 16 hexadecimal digits.
    pub id: String,
    /// RFC 3339, UTC.
    pub started_at: jiff::Timestamp,
    /// RFC 3339, UTC; `None` while the run goes on.
    pub ended_at: Option<jiff::Timestamp>,
    /// Whether every planned check was judged with all its evidence.
    pub complete: bool,
    /// Why the run is not complete.
    pub incomplete_because: Option<String>,
    /// `lab`, `cluster` or `scripted`.
    pub backend: String,
    /// The version of watertight.
    pub version: String,
    /// SHA-256 of watertight's executable, hexadecimal; `None` if it could not be read.
    pub digest: Option<String>,
    /// SHA-256 of the probe: of its executable, or of its image.
    pub probe_digest: Option<String>,
    /// The images that probes ran, as the cluster names them (`imageID` of the containers'
    /// status); empty before the end, or where no image ran.
    pub probe_images: Vec<String>,
    /// The settings that were given by flag or environment, beside the suites': name and value,
    /// `null` where one was not given.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// What the proofs of the run do not say, one sentence each.
    pub limits: Vec<String>,
}
