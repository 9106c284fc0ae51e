//! The script: a YAML or JSON file that says what the network does.

use super::outcome::Outcome;
use super::pattern::Pattern;
use crate::model::{ClusterChange, PolicyKind, PolicyRef, parse_duration};
use crate::wire::Stage;
use serde::{Deserialize, Deserializer};
use std::path::Path;
use std::time::Duration;

/// What the network, its probes and its enforcer do in a run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Script {
    /// Outcomes of flows. The first entry that matches a flow counts; a flow that matches none gets
    /// through.
    pub(super) flows: Vec<FlowScript>,
    /// Behaviour of probes. The first entry that matches a probe counts.
    pub(super) probes: Vec<ProbeScript>,
    /// Changes in the cluster.
    pub(super) changes: Vec<ChangeScript>,
    /// Counts of the enforcer, available at the end.
    pub(super) counters: Vec<CounterScript>,
    /// An interval in which changes cannot be watched.
    pub(super) watch_gap: Option<WatchGapScript>,
    /// The run is interrupted.
    pub(super) interrupted: Option<Interruption>,
    /// Why no probe can be launched.
    pub(super) launch_error: Option<String>,
    /// Objects that cannot be removed.
    pub(super) leftovers: Vec<String>,
}

/// Outcomes of some flows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct FlowScript {
    /// Sources, as plans name them: `shop/web-0 on node-1`, `node node-1`, `the runner`.
    #[serde(default)]
    pub(super) from: Pattern,
    /// Targets as `NAME:PORT`.
    #[serde(default)]
    pub(super) to: Pattern,
    /// Address family, 4 or 6; both unless given.
    #[serde(default)]
    pub(super) family: Option<u8>,
    /// Outcomes in order; the first that applies to an attempt counts. Older scripts say `sees`.
    #[serde(alias = "sees")]
    pub(super) observes: Vec<Span>,
}

/// An outcome, and the attempts that have it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Span {
    /// Older scripts say `seen`.
    #[serde(alias = "seen")]
    pub(super) outcome: Outcome,
    /// Only attempts that start before this moment of the run.
    #[serde(default, deserialize_with = "optional_duration")]
    pub(super) until: Option<Duration>,
    /// Only every nth attempt.
    #[serde(default)]
    pub(super) every: Option<u32>,
    /// Of an attempt that stops, the stage that is not passed; by default the first that can stop
    /// like this. Of a success, the stage that takes the latency; by default the last.
    #[serde(default)]
    pub(super) stage: Option<Stage>,
    /// Duration of that stage.
    #[serde(default = "default_latency", deserialize_with = "duration")]
    pub(super) latency: Duration,
    /// Name that the responder gives itself; by default the target's.
    #[serde(default)]
    pub(super) answered_by: Option<String>,
}

/// Behaviour of some probes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct ProbeScript {
    /// Sources of the probes.
    pub(super) from: Pattern,
    /// Boot id of the machine, where it is not the runner's.
    pub(super) boot: Option<String>,
    /// Milliseconds by which its wall clock is ahead of the runner's; negative if it is behind.
    pub(super) wall_clock_offset_ms: i64,
    /// Rate of its clock: 1.001 gains a millisecond each second.
    pub(super) clock_rate: Option<f64>,
    /// Moment of its hello.
    #[serde(deserialize_with = "duration")]
    pub(super) starts_at: Duration,
    /// Delay with which its lines arrive.
    #[serde(deserialize_with = "duration")]
    pub(super) line_delay: Duration,
    /// Sequence numbers of lines that do not arrive.
    pub(super) lost_lines: Vec<u64>,
    /// It exits, with this exit status.
    pub(super) exits: Option<Ending>,
    /// Why it fails to start.
    pub(super) fails_to_start: Option<String>,
    /// It stalls: no attempt and no line in this interval.
    pub(super) stalls: Option<Stall>,
    /// It reports a fault of the whole probe and ends.
    pub(super) reports_fault: Option<Ending>,
    /// Its hello has the digest of another plan.
    pub(super) wrong_plan: bool,
    /// Version of its protocol, where it is not this one.
    pub(super) protocol_version: Option<u32>,
}

/// When and why a probe ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ending {
    #[serde(deserialize_with = "duration")]
    pub(super) at: Duration,
    pub(super) because: String,
}

/// An interval in which a probe is stalled.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stall {
    #[serde(deserialize_with = "duration")]
    pub(super) from: Duration,
    #[serde(deserialize_with = "duration")]
    pub(super) to: Duration,
}

impl Stall {
    pub(super) fn contains(self, at: Duration) -> bool {
        self.from <= at && at < self.to
    }
}

/// A change in the cluster.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeScript {
    #[serde(deserialize_with = "duration")]
    pub(super) at: Duration,
    pub(super) kind: ChangedKind,
    /// Namespace of the object; empty for a namespace and for a cluster-wide policy.
    #[serde(default)]
    pub(super) namespace: String,
    pub(super) name: String,
}

/// Kind of an object that changes.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) enum ChangedKind {
    Pod,
    Namespace,
    NetworkPolicy,
    ClusterNetworkPolicy,
    Service,
}

impl ChangeScript {
    /// The object that changes.
    pub(super) fn what(&self) -> ClusterChange {
        let (namespace, name) = (self.namespace.clone(), self.name.clone());
        match self.kind {
            ChangedKind::Pod => ClusterChange::Pod(namespace, name),
            ChangedKind::Namespace => ClusterChange::Namespace(name),
            ChangedKind::NetworkPolicy => {
                ClusterChange::Policy(PolicyRef::network(namespace, name))
            }
            ChangedKind::ClusterNetworkPolicy => {
                ClusterChange::Policy(PolicyRef::cluster(PolicyKind::ClusterNetworkPolicy, name))
            }
            ChangedKind::Service => ClusterChange::Service(namespace, name),
        }
    }
}

/// An interval in which changes cannot be watched.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WatchGapScript {
    #[serde(deserialize_with = "duration")]
    pub(super) from: Duration,
    /// End of the interval; by default the end of the run.
    #[serde(default, deserialize_with = "optional_duration")]
    pub(super) to: Option<Duration>,
    pub(super) because: String,
}

impl WatchGapScript {
    pub(super) fn contains(&self, at: Duration) -> bool {
        self.from <= at && self.to.is_none_or(|to| at < to)
    }
}

/// The enforcer's count for some flows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CounterScript {
    /// Sources.
    #[serde(default)]
    pub(super) from: Pattern,
    /// Targets.
    #[serde(default)]
    pub(super) to: Pattern,
    pub(super) packets: u64,
    /// Rule that counts them.
    pub(super) rule: String,
}

/// When and why the run is interrupted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Interruption {
    #[serde(deserialize_with = "duration")]
    pub(super) at: Duration,
    pub(super) because: String,
}

/// Why a script cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The file cannot be read.
    #[error("read the script {file}")]
    File {
        file: String,
        source: std::io::Error,
    },
    /// The text is no script.
    #[error("read the script {file}: {message}")]
    Form {
        file: String,
        /// What is wrong, with its position.
        message: String,
    },
}

impl Script {
    /// Reads a file in YAML or JSON.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is no script.
    pub fn read(path: &Path) -> Result<Self, ScriptError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| ScriptError::File {
            file: file.clone(),
            source,
        })?;
        Self::parse(&text).map_err(|message| ScriptError::Form { file, message })
    }

    /// Parses a text in YAML or JSON.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }
}

fn default_latency() -> Duration {
    Duration::from_millis(1)
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}

fn optional_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_is_parsed_with_its_fields() {
        let script = Script::parse(
            "flows:\n  - from: shop/web-*\n    to: data/postgres-0:5432\n    family: 4\n    observes:\n      \
             - { outcome: open, until: 2s, latency: 30ms, answeredBy: other }\n      - { outcome: { status: { code: 403 } }, every: 20 }\n      \
             - { outcome: silence, stage: tls }\n\
             probes:\n  - { from: shop/*, boot: other, wallClockOffsetMs: -20, clockRate: 1.001, lineDelay: 40ms, lostLines: [3, 4] }\n\
             changes:\n  - { at: 1s, kind: NetworkPolicy, namespace: data, name: postgres }\n\
             counters: [{ packets: 12, rule: data/postgres }]\n\
             interrupted: { at: 1.5s, because: SIGINT }\nleftovers: [a pod]\n",
        )
        .unwrap();
        assert_eq!(script.flows[0].observes.len(), 3);
        assert_eq!(
            script.flows[0].observes[0].latency,
            Duration::from_millis(30)
        );
        assert_eq!(script.flows[0].observes[2].stage, Some(Stage::Tls));
        assert_eq!(script.probes[0].wall_clock_offset_ms, -20);
        assert_eq!(
            script.changes[0].what(),
            ClusterChange::Policy(PolicyRef::network("data", "postgres"))
        );
    }

    #[test]
    fn unknown_field_or_value_is_an_error() {
        for text in [
            "flow: []",
            "flows: [{ observes: [{ outcome: opened }] }]",
            "flows: [{ observes: [{ outcome: open, until: 3 }] }]",
        ] {
            assert!(Script::parse(text).is_err(), "{text}");
        }
    }
}
