//! What a run needs of a network: a place to send from, and the lines that come back.
//!
//! A backend reports what the network did. It cannot know what anyone expects: it is given wire
//! plans, and the wire has no word for it.

pub mod kube;
pub mod lab;
mod lines;
pub mod scripted;

use crate::inventory::{EnvironmentInfo, Inventory};
use crate::model::{ClusterChange, EnforcerCount};
use crate::plan::{FlowId, ProbeId, Source};
use crate::wire;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// The control port, TCP and UDP: every pod of the lab and every probe pod in a cluster answers
/// there to its own node.
///
/// A success there shows that a source's network works even where policies deny every other flow to
/// it: a pod's own node may always reach it (Kubernetes, "Network Policies").
///
/// # Limitations
///
/// A tested pod cannot use this port itself.
pub const CONTROL_PORT: u16 = 65_533;

/// The kubelet's TCP port, open on every node of a cluster; the lab's nodes answer on it too, over
/// TCP and UDP.
///
/// A success there shows that the path between two nodes is open.
pub const KUBELET_PORT: u16 = 10_250;

/// One probe to start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Its number in the run.
    pub probe: ProbeId,
    /// Where it sends from.
    pub source: Source,
    /// Whether it is to run within the pod whose identity it has, and not beside it.
    pub inside: bool,
    /// What it samples.
    pub plan: wire::Plan,
}

impl Launch {
    /// The pod that it is to run within, by namespace and name.
    pub fn entered(&self) -> Option<(&str, &str)> {
        match &self.source {
            Source::Pod {
                namespace, name, ..
            } if self.inside => Some((namespace, name)),
            Source::Pod { .. }
            | Source::Node { .. }
            | Source::ReferencePod { .. }
            | Source::Runner => None,
        }
    }
}

/// One line of one probe, or what went wrong in getting it.
#[derive(Debug)]
pub struct Arrival {
    /// Whose.
    pub probe: ProbeId,
    /// When the runner read it, since the run's clock was started.
    pub at: Duration,
    /// The line.
    pub line: Result<wire::Line, ProbeFault>,
}

/// What our machinery did wrong. It can only ever lead to "unproven".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFault {
    /// The probe could not be started.
    #[error("the probe did not start: {0}")]
    NotStarted(String),
    /// Its output is not the wire's.
    #[error("the probe wrote a line that is not of its protocol: {0}")]
    Unreadable(String),
    /// It ended: by itself after `bye`, or not.
    #[error("the probe ended: {0}")]
    Ended(String),
}

/// Something in the cluster changed while the run was on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When at the earliest, since the run's clock was started.
    pub at: Duration,
    /// When at the latest: when it was seen.
    pub noticed: Duration,
    /// What.
    pub what: ClusterChange,
}

/// A part of the network's description of itself that cannot be read now: what changes there goes
/// unnoticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchGap {
    /// Since when, since the run's clock was started.
    pub since: Duration,
    /// What: `pods`, or `the cluster` where it is several kinds.
    pub what: String,
    /// Why.
    pub why: String,
}

impl std::fmt::Display for WatchGap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "changes of {} could no longer be seen: {}",
            self.what, self.why
        )
    }
}

/// Packets that the enforcer counted as denied, per flow, since the world came up.
///
/// Present only where the count is a record: nothing but this flow's own packets can have raised
/// it.
pub type EnforcerCounts = BTreeMap<FlowId, EnforcerCount>;

/// A network to test: the lab, a cluster, or the scripted double.
#[expect(
    async_fn_in_trait,
    reason = "used through generics on one thread only; no Send bound is wanted"
)]
pub trait Backend {
    /// Why an operation failed.
    type Error: std::error::Error + 'static;

    /// What exists now.
    ///
    /// # Errors
    /// When it cannot be read.
    async fn inventory(&mut self) -> Result<Inventory, Self::Error>;

    /// Where the run takes place and under which policies, now. Called before the first probe and
    /// after the last.
    ///
    /// # Errors
    /// When it cannot be read.
    async fn environment_info(&mut self) -> Result<EnvironmentInfo, Self::Error>;

    /// Changes as they are noticed. Called once.
    fn changes(&mut self) -> mpsc::Receiver<Change>;

    /// What cannot be watched now; `None` while every change is seen.
    fn unseen(&self) -> Option<WatchGap> {
        None
    }

    /// Starts probes; their lines arrive on the channel. A probe that cannot start arrives as a
    /// fault, so that the rest of the run goes on.
    ///
    /// # Errors
    /// When none can be started at all.
    async fn launch(
        &mut self,
        probes: Vec<Launch>,
        lines: mpsc::Sender<Arrival>,
    ) -> Result<(), Self::Error>;

    /// Stops all probes; returns when the last of their lines is on the channel.
    async fn stop(&mut self);

    /// How long the enforcer took to act on a pod that was new, where a canary measured it.
    fn canary(&self) -> Option<Duration> {
        None
    }

    /// The enforcer's own counts.
    ///
    /// # Errors
    /// When they cannot be read.
    async fn counters(&mut self) -> Result<EnforcerCounts, Self::Error>;

    /// Removes everything; collects every error and never stops early.
    async fn teardown(self) -> Vec<Self::Error>;
}
