//! What a run tells the world: the only thing that a report ever sees.
//!
//! [`RunEvent`] serialised is the JSON-lines format. Everything in it is said in the suite's and
//! Kubernetes' own words, so that a report needs neither plan nor evidence.

mod check_text;
mod controls;
mod exit;
mod prediction;
mod request;

pub use check_text::check_result;
pub use exit::ExitCode;
pub use request::describe_request;

// The words that an event carries from further up: a report takes them from here.
pub use crate::inventory::{EnvironmentInfo, PolicyState};
pub use crate::plan::{Coverage, SuiteRef, Touched};
pub use crate::suite::Expected;
pub use crate::verdict::{Reach, Reason};

use crate::plan::{Check, CheckSettings, Plan, Provability};
use crate::suite::Mechanism;
use serde::Serialize;
use sha2::{Digest, Sha256};

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
        /// The run.
        run: RunInfo,
        /// Where it takes place, and the policies at its start; `None` if they could not be read.
        environment_info: Option<EnvironmentInfo>,
        /// Its suites.
        suites: Vec<SuiteRef>,
        /// Its checks, in the order of all reports.
        checks: Vec<CheckRef>,
        /// How much of what exists they touch; `None` where the policies cannot be read.
        coverage: Option<Box<Coverage>>,
    },
    /// Something worth telling that is no verdict.
    Note {
        /// A sentence.
        text: String,
    },
    /// How far the run is.
    Progress {
        /// Checks settled.
        settled: usize,
        /// Of how many.
        of: usize,
        /// Milliseconds since the start.
        elapsed_ms: u64,
        /// Milliseconds that the run takes at the least.
        floor_ms: u64,
    },
    /// A check is settled, as far as one can tell while probes still run.
    Settled {
        /// The result so far.
        result: Box<CheckResult>,
    },
    /// The final results, all of them, in order.
    Finished {
        /// The run, with its end.
        run: RunInfo,
        /// One for each check of `Started`; then one for each port that was swept and found open.
        results: Vec<CheckResult>,
        /// Their sums.
        summary: Summary,
        /// The policies at its end; `None` if they could not be read.
        policies: Option<Vec<PolicyState>>,
    },
    /// Last: what the run had made is removed again.
    CleanedUp {
        /// What could not be removed, each with the reason.
        leftovers: Vec<String>,
    },
}

/// A run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunInfo {
    /// Its id: 16 hexadecimal digits.
    pub id: String,
    /// When it started, RFC 3339, UTC.
    pub started_at: jiff::Timestamp,
    /// When it ended.
    pub ended_at: Option<jiff::Timestamp>,
    /// Whether every planned check was judged with all its evidence.
    pub complete: bool,
    /// Why it is not complete.
    pub incomplete_because: Option<String>,
    /// `lab`, `cluster` or `scripted`.
    pub backend: String,
    /// The version of watertight.
    pub version: String,
    /// SHA-256 of its executable, hexadecimal; `None` if it could not be read.
    pub digest: Option<String>,
    /// SHA-256 of the agent that samples: of its executable, or of its image.
    pub probe_digest: Option<String>,
    /// The images that probes ran, as the cluster names what it ran; none before the end, or where
    /// no image ran.
    pub probe_images: Vec<String>,
    /// What was asked of this run beside its suites, by flag or environment: name and value, `null`
    /// where it was not given.
    pub settings: serde_json::Map<String, serde_json::Value>,
}

/// A check as known before anything is sampled.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckRef {
    /// First 12 hexadecimal digits of the SHA-256 of suite and check name.
    pub id: String,
    /// Its name, unique within its suite.
    pub name: String,
    /// Its suite's name.
    pub suite: String,
    /// The suite's file.
    pub file: String,
    /// The line in it.
    pub line: u32,
    /// The column of its first character, from 1.
    pub column: u32,
    /// The line as written.
    pub text: String,
    /// `because:`.
    pub because: Option<String>,
    /// `tags:`.
    pub tags: Vec<String>,
    /// The source as the suite names it.
    pub source: String,
    /// The target, with port, as the suite names it.
    pub target: String,
    /// What is expected.
    pub expected: Expected,
    /// What the policies say: `allowed`, `denied`, or `mixed` where it differs between flows;
    /// nothing where that is not known.
    pub predicted: Option<&'static str>,
    /// Why the policies cannot do what is expected, and what would change that.
    pub contradiction: Option<String>,
    /// Why planning knows that it cannot be proven.
    pub unprovable: Option<String>,
    /// How it is judged: its settings with every default filled in.
    pub settings: SettingsReport,
}

/// A check's settings in force. Durations are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SettingsReport {
    /// Wait before the hold.
    pub settle_ms: u64,
    /// How long a deny is watched.
    pub hold_ms: u64,
    /// How long an allow may take to come up.
    pub timeout_ms: u64,
    /// Deadline of the handshake.
    pub attempt_timeout_ms: u64,
    /// Samples that a deny needs at least.
    pub attempts: u32,
    /// The tier demanded: `D2+counter`, `A1`, ...
    pub tier: &'static str,
    /// The kind that a deny must be.
    pub mechanism: Option<&'static str>,
    /// Whether a start-up leak violates.
    pub startup_isolated: bool,
    /// Source instances: `one`, `nodes`, `replicas`.
    pub spread: &'static str,
    /// The HTTP status that counts as allowed.
    pub status: Option<u16>,
}

impl From<&CheckSettings> for SettingsReport {
    fn from(settings: &CheckSettings) -> Self {
        Self {
            settle_ms: settings.settle.as_millis() as u64,
            hold_ms: settings.hold.as_millis() as u64,
            timeout_ms: settings.timeout.as_millis() as u64,
            attempt_timeout_ms: settings.attempt_timeout.as_millis() as u64,
            attempts: settings.attempts,
            tier: settings.required_tier.name(),
            mechanism: settings.mechanism.map(Mechanism::name),
            startup_isolated: settings.startup_isolated,
            spread: settings.spread.name(),
            status: settings.status,
        }
    }
}

/// What is said of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The expectation holds.
    Proven,
    /// It does not.
    Violated,
    /// Neither could be shown.
    Unproven,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Proven => "proven",
            Self::Violated => "violated",
            Self::Unproven => "unproven",
        })
    }
}

/// A check's result, in words.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckResult {
    /// The check.
    #[serde(flatten)]
    pub check: CheckRef,
    /// The verdict.
    pub verdict: Outcome,
    /// `D2+counter`, `A2`, ...: only of what is proven.
    pub tier: Option<String>,
    /// How far it reaches.
    pub reach: Reach,
    /// The least share of attempts, in percent, at which a leak would have shown with 95 %
    /// probability.
    pub power_percent: Option<u32>,
    /// Why it is unproven.
    pub reason: Option<ReasonText>,
    /// One sentence: what was seen.
    pub seen: String,
    /// What was observed and not predicted, with the usual causes.
    pub unpredicted: Option<String>,
    /// One sentence: who did get through, or did not; what tells this from a broken target.
    pub contrast: Option<String>,
    /// What to do next: only of what is not proven.
    pub next_step: Option<String>,
    /// How a deny showed: `drop`, `reset`, `icmp`, or the enforcer's name.
    pub mechanism: Option<String>,
    /// How long an allow took to come up, milliseconds.
    pub delay_ms: Option<u64>,
    /// How long its openings took.
    pub latency: Option<Latency>,
    /// How long a new source could reach what it must not, milliseconds.
    pub startup_leak_ms: Option<u64>,
    /// Attempts of all flows of the check.
    pub attempts: u32,
    /// Attempts that opened.
    pub opened: u32,
    /// Flow by flow.
    pub flows: Vec<FlowReport>,
    /// The flows that vouch for these, each once for each thing that it vouches for. Of what is not
    /// proven: also those that should have, and did not.
    pub controls: Vec<ControlReport>,
}

/// How long openings took, all stages together: of the last 32 of each flow of a check.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Half of them took no longer, milliseconds.
    pub median_ms: f64,
    /// 95 % of them took no longer, milliseconds.
    pub p95_ms: f64,
}

impl Latency {
    /// Of single openings, microseconds; `None` where there is none.
    pub fn of(mut took: Vec<u32>) -> Option<Self> {
        took.sort_unstable();
        // The nearest rank: the smallest value that so many percent do not exceed.
        let at = |percent: usize| {
            let rank = (took.len() * percent).div_ceil(100).checked_sub(1)?;
            Some(f64::from(*took.get(rank)?) / 1_000.0)
        };
        Some(Self {
            median_ms: at(50)?,
            p95_ms: at(95)?,
        })
    }
}

/// Why a check is unproven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReasonText {
    /// The documented code.
    pub code: &'static str,
    /// What it was here.
    pub text: String,
}

/// One flow of a check.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowReport {
    /// Its number in the run, as in the raw evidence.
    pub flow: u32,
    /// Its probe's number in the run, likewise.
    pub probe: u32,
    /// Who sent.
    pub source: String,
    /// As what: a `clone` of that pod, from within the pod itself as an `ephemeral` container, the
    /// `pod`, or its `node`, a `reference_pod`, the `runner`.
    pub sent_as: &'static str,
    /// To whom.
    pub target: String,
    /// The address and port dialled.
    pub address: String,
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// What was said, in words.
    pub request: String,
    /// What the policies say of it.
    pub predicted: Option<Expected>,
    /// What this flow shows: `proven`, `violated`, `unproven` or `left-out`.
    pub shows: &'static str,
    /// In words.
    pub text: String,
    /// Attempts.
    pub attempts: u32,
    /// Attempts that opened.
    pub opened: u32,
    /// How often it began anew, because something relevant changed or its probe stood still.
    pub restarts: u32,
    /// The samples that a deny's proof rests on.
    pub window: Option<WindowReport>,
    /// Who got through to the same address and port.
    pub control: Option<String>,
    /// What shows that the source was able to send.
    pub able: Option<String>,
    /// What crossed between the two nodes.
    pub path: Option<String>,
    /// A pod on the source's node that got through.
    pub same_node_control: Option<String>,
    /// The enforcer's own count.
    pub record: Option<String>,
    /// Who answered, by its own word.
    pub answered_by: Vec<String>,
}

/// A flow that vouches for others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlReport {
    /// For what: the `target` is alive, the `source` is able, the `path` is open; a
    /// `same_node_control` is a pod on the source's own node that got through.
    pub vouches: &'static str,
    /// Whether a proof rests on it; else it was there to vouch, and was not enough.
    pub counts: bool,
    /// Its number in the run, as in the raw evidence.
    pub flow: u32,
    /// Its probe's number in the run, likewise.
    pub probe: u32,
    /// Who sent.
    pub source: String,
    /// To whom.
    pub target: String,
    /// The address and port dialled.
    pub address: String,
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// Attempts.
    pub attempts: u32,
    /// Attempts that opened.
    pub opened: u32,
}

/// A stretch of samples.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowReport {
    /// Start of the first, milliseconds of the run.
    pub from_ms: i64,
    /// Start of the last.
    pub to_ms: i64,
    /// How many.
    pub attempts: u32,
}

/// Sums over the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Checks.
    pub checks: usize,
    /// Of these proven.
    pub proven: usize,
    /// Violated.
    pub violated: usize,
    /// Unproven.
    pub unproven: usize,
    /// Whether the run is complete.
    pub complete: bool,
    /// The exit code that follows.
    pub exit_code: u8,
}

impl Summary {
    /// Sums up. `complete`: every planned check was judged with all its evidence.
    pub fn of(results: &[CheckResult], complete: bool) -> Self {
        let mut this = Self::default();
        for result in results {
            this.add(result);
        }
        this.close(complete)
    }

    /// Counts one result more.
    pub fn add(&mut self, result: &CheckResult) {
        self.checks += 1;
        match result.verdict {
            Outcome::Proven => self.proven += 1,
            Outcome::Violated => self.violated += 1,
            Outcome::Unproven => self.unproven += 1,
        }
    }

    /// The sums once all results are counted, with the exit code that follows.
    #[must_use]
    pub fn close(mut self, complete: bool) -> Self {
        self.complete = complete;
        self.exit_code = ExitCode::of(&self).number();
        self
    }
}

/// The checks of a plan, as reports name them.
pub fn check_refs(plan: &Plan) -> Vec<CheckRef> {
    plan.checks()
        .iter()
        .map(|check| check_ref(plan, check))
        .collect()
}

/// A check of a plan, as reports name it.
pub fn check_ref(plan: &Plan, check: &Check) -> CheckRef {
    let suite = plan.suites()[check.suite].name.clone();
    CheckRef {
        id: check_id(&suite, &check.name),
        name: check.name.clone(),
        suite,
        file: check.line.file.clone(),
        line: check.line.line,
        column: check.line.column,
        text: check.line.text.clone(),
        because: check.line.because.clone(),
        tags: check.line.tags.clone(),
        source: check.source.clone(),
        target: check.target.clone(),
        expected: check.expected,
        predicted: check.prediction.as_ref().map(crate::plan::Prediction::word),
        contradiction: check.contradiction(),
        unprovable: match &check.provability {
            Provability::Provable => None,
            Provability::Unprovable(why) | Provability::MatchesNothing(why) => Some(why.clone()),
        },
        settings: SettingsReport::from(&check.settings),
    }
}

/// The first 12 hexadecimal digits of SHA-256 over suite, a newline, and check name.
fn check_id(suite: &str, name: &str) -> String {
    let digest = Sha256::digest(format!("{suite}\n{name}"));
    digest
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::Latency;

    #[test]
    fn latency_is_by_the_nearest_rank() {
        assert_eq!(Latency::of(vec![]), None);
        let of =
            |took: Vec<u32>| Latency::of(took).map(|latency| (latency.median_ms, latency.p95_ms));
        assert_eq!(of(vec![1_500]), Some((1.5, 1.5)));
        assert_eq!(
            of((1..=100).rev().map(|n| n * 1_000).collect()),
            Some((50.0, 95.0))
        );
    }
}
