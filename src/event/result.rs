//! The result of a check, with its flows and controls.

use super::{CheckRef, Expected, Reach, Reason};
use crate::model::Family;
use crate::wire;
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt;

/// The verdict on a check, as reports show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The expectation holds.
    Proven,
    /// The expectation does not hold.
    Violated,
    /// Neither could be shown.
    Unproven,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proven => "proven",
            Self::Violated => "violated",
            Self::Unproven => "unproven",
        })
    }
}

/// A check's result, in words.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckResult {
    #[serde(flatten)]
    pub check: CheckRef,
    /// `unproven` with the reason `not-finished` until the check is judged.
    pub verdict: Outcome,
    /// How strong the proof is: `D2+counter`, `A2`, ...; null of what is not proven.
    pub tier: Option<String>,
    /// Which part of source and target the verdict speaks of; null of a check without flows.
    pub reach: Option<Reach>,
    /// Of a proven deny: the least share of attempts, in percent, at which a leak would have shown
    /// with 95 % probability.
    pub power_percent: Option<u32>,
    /// Why the check is unproven.
    pub reason: Option<ReasonText>,
    /// One sentence: what was observed.
    pub seen: String,
    /// What was observed and not predicted, with the usual causes.
    pub unpredicted: Option<String>,
    /// One sentence: which other source did or did not get through, which tells the verdict from a
    /// broken target.
    pub contrast: Option<String>,
    /// What to do next; null of what is proven.
    pub next_step: Option<String>,
    /// How a deny showed: `drop`, `reset`, `icmp`, ..., or the enforcer's name.
    pub mechanism: Option<String>,
    /// Milliseconds that an allow took to come up.
    pub delay_ms: Option<u64>,
    /// How long successful attempts took.
    pub latency: Option<Latency>,
    /// Milliseconds that a new source could reach a denied target.
    pub startup_leak_ms: Option<u64>,
    /// Attempts of all flows of the check.
    pub attempts: u32,
    /// Attempts that opened.
    pub opened: u32,
    pub flows: Vec<FlowReport>,
    /// The controls of these flows, each once for each role. Of what is unproven, also those that
    /// were planned and did not suffice.
    pub controls: Vec<ControlReport>,
}

/// How long successful attempts took, all stages together: of the last 32 of each flow of a check.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Half of them took no longer, milliseconds.
    pub median_ms: f64,
    /// 95 % of them took no longer, milliseconds.
    pub p95_ms: f64,
}

impl Latency {
    /// The latency of single attempts, in microseconds; `None` where there is none.
    pub fn of(mut durations_us: Vec<u32>) -> Option<Self> {
        durations_us.sort_unstable();

        Some(Self {
            median_ms: percentile_ms(&durations_us, 50)?,
            p95_ms: percentile_ms(&durations_us, 95)?,
        })
    }
}

/// A percentile by the nearest rank: the smallest value that so many percent do not exceed.
fn percentile_ms(sorted_us: &[u32], percent: usize) -> Option<f64> {
    let rank = (sorted_us.len() * percent).div_ceil(100).checked_sub(1)?;
    sorted_us.get(rank).map(|us| f64::from(*us) / 1_000.0)
}

/// Why a check is unproven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReasonText {
    /// From the documented list.
    pub code: Reason,
    /// What the reason was in this case.
    pub text: String,
}

/// One flow of a check.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlowReport {
    /// The flow's number in the run, as in the raw evidence.
    pub flow: u32,
    /// Its probe's number in the run, as in the raw evidence.
    pub probe: u32,
    pub source: String,
    pub sent_as: SentAs,
    pub target: String,
    /// The family of the address, which shows it already.
    #[serde(skip)]
    pub family: Family,
    /// The address and port that were dialled.
    pub address: String,
    pub transport: Transport,
    /// What was sent once connected, in words.
    pub request: String,
    /// What the policies say of this flow; null where it is not known.
    pub predicted: Option<Expected>,
    pub verdict: FlowOutcome,
    /// The verdict in words.
    pub text: String,
    pub attempts: u32,
    /// Attempts that opened.
    pub opened: u32,
    /// How often sampling restarted, because something relevant changed or the probe stood still.
    pub restarts: u32,
    /// The attempts that a deny's proof rests on.
    pub window: Option<WindowReport>,
    /// Which flow got through to the same address and port.
    pub target_control: Option<String>,
    /// Which flow shows that the source could send.
    pub source_control: Option<String>,
    /// Which flow got through between the two nodes in the same window.
    pub path_control: Option<String>,
    /// Which pod on the source's node got through.
    pub same_node_control: Option<String>,
    /// What a deny's proof rests on that is weaker than a pod's control, since the policies admit no
    /// stronger one.
    pub weaker: Vec<WeakerControl>,
    /// The enforcer's packet counter.
    pub counter: Option<String>,
    /// The responders that answered, by the names they gave.
    pub answered_by: Vec<String>,
}

/// A control that is weaker than a pod's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WeakerControl {
    /// What it shows.
    pub role: ControlRole,
    /// Why no stronger control could be required.
    pub because: String,
}

/// The verdict on one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FlowOutcome {
    /// The expectation holds on this flow.
    Proven,
    /// The expectation does not hold on this flow.
    Violated,
    /// Neither could be shown.
    Unproven,
    /// The flow does not count: for example, its pod is not ready.
    LeftOut,
}

impl fmt::Display for FlowOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proven => "proven",
            Self::Violated => "violated",
            Self::Unproven => "unproven",
            Self::LeftOut => "left-out",
        })
    }
}

/// From where the attempts of a flow were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SentAs {
    /// From a probe pod with the labels and service account of the source's pod.
    Clone,
    /// From within the pod itself, as an ephemeral container.
    Ephemeral,
    /// From the pod itself, in the lab.
    Pod,
    /// From the network of the node.
    Node,
    /// From a reference pod.
    ReferencePod,
    /// From where watertight runs.
    Runner,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl From<wire::Transport> for Transport {
    fn from(transport: wire::Transport) -> Self {
        match transport {
            wire::Transport::Tcp => Self::Tcp,
            wire::Transport::Udp => Self::Udp,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A flow that serves as a control of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlReport {
    pub role: ControlRole,
    /// Whether a verdict rests on it; false of a control that was planned and did not suffice.
    pub used: bool,
    /// The flow's number in the run, as in the raw evidence.
    pub flow: u32,
    /// Its probe's number in the run, as in the raw evidence.
    pub probe: u32,
    pub source: String,
    pub target: String,
    /// The address and port that were dialled.
    pub address: String,
    pub transport: Transport,
    pub attempts: u32,
    /// Attempts that opened.
    pub opened: u32,
}

/// What a control shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ControlRole {
    /// The target answers.
    Target,
    /// The source can send.
    Source,
    /// The path between the two nodes is open.
    Path,
    /// The target answers a pod with other labels on the source's node.
    SameNode,
}

/// The consecutive attempts that a proof rests on.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WindowReport {
    /// Start of the first attempt, milliseconds of the run.
    pub from_ms: i64,
    /// Start of the last attempt, milliseconds of the run.
    pub to_ms: i64,
    pub attempts: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_by_the_nearest_rank() {
        let latency = |durations_us: Vec<u32>| {
            Latency::of(durations_us).map(|latency| (latency.median_ms, latency.p95_ms))
        };
        assert_eq!(latency(vec![]), None);
        assert_eq!(latency(vec![1_500]), Some((1.5, 1.5)));
        assert_eq!(
            latency((1..=100).rev().map(|n| n * 1_000).collect()),
            Some((50.0, 95.0))
        );
    }

    #[test]
    fn reasons_are_serialised_by_their_codes() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.code());
        }
    }
}
