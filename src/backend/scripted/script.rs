//! What a network does, as a file says it.

use super::pattern::Pattern;
use super::seen::Seen;
use crate::model::parse_duration;
use crate::model::{ClusterChange, PolicyKind, PolicyRef};
use crate::wire::Stage;
use serde::{Deserialize, Deserializer};
use std::path::Path;
use std::time::Duration;

/// A script.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Script {
    /// What flows see. The first that speaks of a flow counts; a flow of which none speaks opens.
    pub(super) flows: Vec<FlowScript>,
    /// How probes behave. The first that speaks of a probe counts.
    pub(super) probes: Vec<ProbeScript>,
    /// What changes.
    pub(super) changes: Vec<ChangeScript>,
    /// What the enforcer counts, told at the end.
    pub(super) counters: Vec<RecordScript>,
    /// What changes cannot be seen for a while.
    pub(super) unseen: Option<UnseenScript>,
    /// The run is interrupted.
    pub(super) interrupted: Option<Interruption>,
    /// No probe can be launched, and why.
    pub(super) refuses: Option<String>,
    /// What cannot be removed.
    pub(super) leftovers: Vec<String>,
}

/// What some flows see.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct FlowScript {
    /// Senders, as plans name them: `shop/web-0 on node-1`, `node node-1`, `the runner`.
    #[serde(default)]
    pub(super) from: Pattern,
    /// Targets: `WHO:PORT`.
    #[serde(default)]
    pub(super) to: Pattern,
    /// Only this family: 4 or 6.
    #[serde(default)]
    pub(super) family: Option<u8>,
    /// What they see; the first that is not over counts.
    pub(super) sees: Vec<Span>,
}

/// What is seen for a while.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Span {
    /// What.
    pub(super) seen: Seen,
    /// Attempts that start before this moment of the run.
    #[serde(default, deserialize_with = "some_time")]
    pub(super) until: Option<Duration>,
    /// Every so-manieth attempt only.
    #[serde(default)]
    pub(super) every: Option<u32>,
    /// The stage that is not passed, unless said the first that could fail like this; of an opening
    /// the one that takes its time, unless said the last.
    #[serde(default)]
    pub(super) at: Option<Stage>,
    /// How long that stage takes.
    #[serde(default = "a_millisecond", deserialize_with = "time")]
    pub(super) takes: Duration,
    /// Who answers, by its own word; the target's name unless said.
    #[serde(default)]
    pub(super) who: Option<String>,
}

/// How some probes behave.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct ProbeScript {
    /// Which.
    pub(super) from: Pattern,
    /// The machine's boot id, where it is not the runner's.
    pub(super) boot: Option<String>,
    /// How far its wall clock is ahead of the runner's, milliseconds; negative is behind.
    pub(super) ahead_ms: i64,
    /// How fast its clock runs: 1.001 gains a millisecond each second.
    pub(super) rate: Option<f64>,
    /// When it says hello.
    #[serde(deserialize_with = "time")]
    pub(super) starts: Duration,
    /// How late its lines arrive.
    #[serde(deserialize_with = "time")]
    pub(super) delay: Duration,
    /// Numbers of lines that never arrive.
    pub(super) loses: Vec<u64>,
    /// It ends like that at some time.
    pub(super) dies: Option<Ending>,
    /// It never starts, and why.
    pub(super) never_starts: Option<String>,
    /// It stands still: no attempt and no line from one moment to the other.
    pub(super) stalls: Option<Stall>,
    /// It reports a fault of its own.
    pub(super) reports: Option<Ending>,
    /// It says that it was given another plan.
    pub(super) wrong_plan: bool,
    /// The version of the protocol that it speaks, where it is not this one.
    pub(super) version: Option<u32>,
}

/// Something ends, and how it says so.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ending {
    /// When.
    #[serde(deserialize_with = "time")]
    pub(super) at: Duration,
    /// The words.
    pub(super) because: String,
}

/// A probe that stands still.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stall {
    /// From when.
    #[serde(deserialize_with = "time")]
    pub(super) from: Duration,
    /// Until when.
    #[serde(deserialize_with = "time")]
    pub(super) to: Duration,
}

/// Something changes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeScript {
    /// When.
    #[serde(deserialize_with = "time")]
    pub(super) at: Duration,
    /// What: `Pod`, `Namespace`, `NetworkPolicy`, `ClusterNetworkPolicy`, `Service`.
    pub(super) kind: ChangedKind,
    /// Where; nothing for a namespace and for a cluster-wide policy.
    #[serde(default)]
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
}

/// What can change.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) enum ChangedKind {
    Pod,
    Namespace,
    NetworkPolicy,
    ClusterNetworkPolicy,
    Service,
}

impl ChangeScript {
    /// What changes.
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

/// Changes cannot be seen.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UnseenScript {
    /// From when.
    #[serde(deserialize_with = "time")]
    pub(super) from: Duration,
    /// Until when; to the end unless said.
    #[serde(default, deserialize_with = "some_time")]
    pub(super) to: Option<Duration>,
    /// Why.
    pub(super) because: String,
}

/// What the enforcer counts of some flows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordScript {
    /// Senders.
    #[serde(default)]
    pub(super) from: Pattern,
    /// Targets.
    #[serde(default)]
    pub(super) to: Pattern,
    /// Packets.
    pub(super) packets: u64,
    /// By which rule.
    pub(super) rule: String,
}

/// The run ends early.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Interruption {
    /// When.
    #[serde(deserialize_with = "time")]
    pub(super) at: Duration,
    /// Why.
    pub(super) because: String,
}

/// Why a script is none.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The file cannot be read.
    #[error("read the script {file}")]
    File {
        /// As named.
        file: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not of the form.
    #[error("read the script {file}: {message}")]
    Form {
        /// As named.
        file: String,
        /// What is wrong, with its place.
        message: String,
    },
}

impl Script {
    /// Reads a file, YAML or JSON.
    ///
    /// # Errors
    /// [`ScriptError`].
    pub fn read(path: &Path) -> Result<Self, ScriptError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| ScriptError::File {
            file: file.clone(),
            source,
        })?;
        Self::parse(&text).map_err(|message| ScriptError::Form { file, message })
    }

    /// Reads a text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }
}

fn a_millisecond() -> Duration {
    Duration::from_millis(1)
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}

fn some_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    time(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_with_all_its_words() {
        let script = Script::parse(
            "flows:\n  - from: shop/web-*\n    to: data/postgres-0:5432\n    family: 4\n    sees:\n      \
             - { seen: open, until: 2s, takes: 30ms, who: someone }\n      - { seen: { status: { code: 403 } }, every: 20 }\n      \
             - { seen: silence, at: tls }\n\
             probes:\n  - { from: shop/*, boot: other, aheadMs: -20, rate: 1.001, delay: 40ms, loses: [3, 4] }\n\
             changes:\n  - { at: 1s, kind: NetworkPolicy, namespace: data, name: postgres }\n\
             counters: [{ packets: 12, rule: data/postgres }]\n\
             interrupted: { at: 1.5s, because: SIGINT }\nleftovers: [a pod]\n",
        )
        .unwrap();
        assert_eq!(script.flows[0].sees.len(), 3);
        assert_eq!(script.flows[0].sees[0].takes, Duration::from_millis(30));
        assert_eq!(script.flows[0].sees[2].at, Some(Stage::Tls));
        assert_eq!(script.probes[0].ahead_ms, -20);
        assert_eq!(
            script.changes[0].what(),
            ClusterChange::Policy(PolicyRef::network("data", "postgres"))
        );
    }

    #[test]
    fn a_word_that_is_none_is_an_error() {
        for text in [
            "flow: []",
            "flows: [{ sees: [{ seen: opened }] }]",
            "flows: [{ sees: [{ seen: open, until: 3 }] }]",
        ] {
            assert!(Script::parse(text).is_err(), "{text}");
        }
    }
}
