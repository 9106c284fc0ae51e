//! The interface to a network under test: starting probes, reading their lines, reporting changes.
//!
//! A backend reports what the network did. It does not know what a suite expects: the probe plans
//! that it gets name addresses and ports, no expectations.

pub mod kube;
pub mod lab;
mod lines;
mod probe_stdin;
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
    /// Number of the probe in the run.
    pub probe: ProbeId,
    /// The source from which it makes its attempts.
    pub source: Source,
    /// Whether it runs as an ephemeral container of the source's pod instead of in a pod that the
    /// run creates.
    pub ephemeral: bool,
    /// The flows of the probe.
    pub plan: wire::Plan,
}

impl Launch {
    /// The namespace of its pod or ephemeral container; `None` for the runner's probe. Probes
    /// without a pod of the user's are in `run_namespace`.
    pub fn namespace<'a>(&'a self, run_namespace: &'a str) -> Option<&'a str> {
        match &self.source {
            Source::Pod { namespace, .. } => Some(namespace),
            Source::Node { .. } | Source::ReferencePod { .. } => Some(run_namespace),
            Source::Runner => None,
        }
    }

    /// Namespace and name of the pod that gets the ephemeral container; `None` for every other
    /// probe.
    pub fn ephemeral_target(&self) -> Option<(&str, &str)> {
        match &self.source {
            Source::Pod {
                namespace, name, ..
            } if self.ephemeral => Some((namespace, name)),
            Source::Pod { .. }
            | Source::Node { .. }
            | Source::ReferencePod { .. }
            | Source::Runner => None,
        }
    }
}

/// A line of a probe, or the fault that ended its output.
#[derive(Debug)]
pub struct Arrival {
    pub probe: ProbeId,
    /// When the runner read the line, since the start of the run's clock.
    pub at: Duration,
    pub line: Result<wire::Line, ProbeFault>,
}

/// A fault of a probe or of the transport of its lines. A fault can only make a verdict unproven,
/// never proven or violated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFault {
    /// The probe could not be started.
    #[error("the probe did not start: {0}")]
    NotStarted(String),
    /// A line of its output does not follow the probe protocol.
    #[error("the probe wrote a line that is not of its protocol: {0}")]
    Unreadable(String),
    /// The process ended, after `bye` or without it.
    #[error("the probe ended: {0}")]
    Ended(String),
}

/// A change of an object in the cluster during the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Earliest time at which it can have happened, since the start of the run's clock.
    pub earliest: Duration,
    /// Latest time at which it can have happened: when the backend observed it.
    pub latest: Duration,
    /// The object that changed.
    pub object: ClusterChange,
}

/// A part of the cluster's state that cannot be watched now; changes there are missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchGap {
    /// Start of the gap, since the start of the run's clock.
    pub since: Duration,
    /// The objects that are not watched: `pods`, or `the cluster` for several kinds.
    pub what: String,
    /// The error that stopped the watch.
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

/// Packets that the enforcer denied, per flow, since the network came up.
///
/// A flow is present only where its count is conclusive: no packets other than its own can have
/// raised it.
pub type EnforcerCounts = BTreeMap<FlowId, EnforcerCount>;

/// A network under test: the lab, a cluster, or the scripted backend of tests.
#[expect(
    async_fn_in_trait,
    reason = "used through generics on one thread only; no Send bound is wanted"
)]
pub trait Backend {
    /// The error of a failed operation.
    type Error: std::error::Error + 'static;

    /// Reads the objects that exist now.
    ///
    /// # Errors
    /// When they cannot be read.
    async fn inventory(&mut self) -> Result<Inventory, Self::Error>;

    /// Reads the cluster's identity and the state of its policies. The engine calls it before the
    /// first probe and after the last.
    ///
    /// # Errors
    /// When they cannot be read.
    async fn environment_info(&mut self) -> Result<EnvironmentInfo, Self::Error>;

    /// Channel of changes, in the order in which they are observed. Called once.
    fn changes(&mut self) -> mpsc::Receiver<Change>;

    /// The open gap in the watches; `None` while every change is observed.
    fn watch_gap(&self) -> Option<WatchGap> {
        None
    }

    /// Why probes could not start for a reason that the user has to remove before any test, such as
    /// an image that a node cannot get; `None` while there is none.
    fn start_failure(&self) -> Option<String> {
        None
    }

    /// Starts probes and sends their lines to the channel. A probe that cannot start sends a fault,
    /// so that the rest of the run continues.
    ///
    /// # Errors
    /// When no probe can be started at all.
    async fn launch(
        &mut self,
        probes: Vec<Launch>,
        lines: mpsc::Sender<Arrival>,
    ) -> Result<(), Self::Error>;

    /// Stops all probes; returns when their last line is on the channel.
    async fn stop(&mut self);

    /// The policy delay that a canary measured; `None` without a canary.
    fn canary(&self) -> Option<Duration> {
        None
    }

    /// Reads the enforcer's counts.
    ///
    /// # Errors
    /// When they cannot be read.
    async fn counters(&mut self) -> Result<EnforcerCounts, Self::Error>;

    /// Removes everything that the backend created; continues after an error and returns them all.
    async fn teardown(self) -> Vec<Self::Error>;
}
