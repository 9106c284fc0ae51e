//! Checks as a plan holds them: what is expected, where it is written, how it is judged.

use super::{CheckSettings, FlowId};
use crate::suite::Expected;

/// An expectation for one source endpoint, one target endpoint, one port and request.
#[derive(Debug, Clone)]
pub struct Check {
    /// `SOURCE -> TARGET:PORT allowed|denied`, unique within its suite.
    pub name: String,
    /// Index into [`Plan::suites`].
    pub suite: usize,
    /// The source as the suite names it, for matrices.
    pub source: String,
    /// The target and port as the suite names them, for matrices.
    pub target: String,
    pub expected: Expected,
    pub line: LineRef,
    pub settings: CheckSettings,
    pub flows: Vec<FlowId>,
    /// Flows that were sampled until a pod at either end was replaced: their successes before that
    /// still count.
    pub retired: Vec<FlowId>,
    /// How much of the source and of the target these flows cover.
    pub scope: Scope,
    pub provability: Provability,
    /// What the policies say of it; `None` where that is not known.
    pub prediction: Option<Prediction>,
    /// Why what they say is not known, where that depends on addresses that nothing gives.
    pub prediction_unknown: Option<String>,
}

/// What the policies say of a check, before any packet is sent. It is shown, and may choose which
/// controls are tried; no verdict reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prediction {
    /// What they say of all of its flows; `None` where they differ.
    pub answer: Option<Expected>,
    /// Why that is not what the suite expects, if it is not.
    pub because: Option<String>,
    /// The smallest change of policies or labels that would give what the suite expects.
    pub change: Option<String>,
}

impl Prediction {
    /// `allowed`, `denied` or `mixed`.
    pub fn word(&self) -> &'static str {
        match self.answer {
            Some(Expected::Allowed) => "allowed",
            Some(Expected::Denied) => "denied",
            None => "mixed",
        }
    }
}

impl Check {
    /// Why the policies cannot do what the suite expects, in one sentence, if they cannot.
    pub fn contradiction(&self) -> Option<String> {
        if self.settings.established {
            // Its connection has to be opened before the policies are what the suite expects.
            return None;
        }
        let prediction = self.prediction.as_ref()?;
        let because = prediction.because.as_ref()?;
        let change = prediction.change.as_ref().map_or(String::new(), |change| {
            format!("; to change that: {change}")
        });
        Some(format!(
            "the policies cannot do what the suite expects: {because}{change}"
        ))
    }
}

/// The line of a suite that a check comes from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LineRef {
    /// File as named.
    pub file: String,
    /// Line number, from 1.
    pub line: u32,
    /// Column of the line's first character, from 1.
    pub column: u32,
    /// The line as written.
    pub text: String,
    /// `because:`.
    pub because: Option<String>,
    /// `tags:`.
    pub tags: Vec<String>,
    /// `id:`.
    pub id: Option<String>,
}

impl LineRef {
    /// `file:line:column`.
    pub fn place(&self) -> String {
        format!("{}:{}:{}", self.file, self.line, self.column)
    }
}

/// How many nodes, pods and addresses a check could cover when the plan was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope {
    /// Nodes on which the source has pods.
    pub source_nodes: usize,
    /// Kinds of the source's pods, as policies tell pods apart; 0 where no pod sends.
    pub source_kinds: usize,
    /// Pods of the target that are ready, and that are not the only source; 0 for targets that are
    /// not pods.
    pub target_pods: usize,
    /// Addresses of the target, a host outside by name; 0 for all others.
    pub target_addresses: usize,
}

/// Whether a check can be proven, as far as planning can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provability {
    /// Yes, if the network is as expected.
    Provable,
    /// No, and why; it is sampled where possible.
    Unprovable(String),
    /// The source or the target matches nothing that exists.
    MatchesNothing(String),
    /// The target is a host whose addresses are not given, and policies of the source tell
    /// addresses apart; nothing is sent.
    AddressUnknown(String),
    /// A deny whose target has no ready pod: the silence of others does not count.
    NothingReady(String),
    /// Something of the source or of the target cannot be tested, and what: the rest is sampled.
    Incomplete(String),
    /// Policies admit ports that no line allows, and which: a sample of them is tried once.
    PoliciesAdmitMore(String),
}

impl Provability {
    /// Why the check will not be proven, if it will not.
    pub fn obstacle(&self) -> Option<&str> {
        match self {
            Self::Provable => None,
            Self::Unprovable(why)
            | Self::MatchesNothing(why)
            | Self::AddressUnknown(why)
            | Self::NothingReady(why)
            | Self::Incomplete(why)
            | Self::PoliciesAdmitMore(why) => Some(why),
        }
    }
}
