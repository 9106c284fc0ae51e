//! The scripted backend: a network that does what a file says, in compressed time.
//!
//! It is a backend like the others, so that the whole binary is tested without a network: planning,
//! the probe's protocol, clocks, the collector, every verdict and reason, reports and exit code.
//! The inventory (pods, Services, policies, addresses) is that of the given manifests, placed as in
//! the lab. A [`Script`] gives the outcomes of attempts, the clocks of probes, the lines that are
//! lost, and the changes during the run. Time is tokio's and may be paused: then a minute of a run
//! takes only the time of its computation.
//!
//! ```text
//! Launch, Script ── flow ──▶ attempts: times and observations
//!                ── probe ─▶ lines, in the probe's time; pure
//!                ── mod ───▶ arrivals, in the run's time
//! ```
//!
//! # Limitations
//!
//! It sends no packets: it tests what watertight concludes from what a network does. That networks
//! do it is tested in the lab and in a cluster.

mod flow;
mod outcome;
mod pattern;
mod probe;
mod script;

pub use script::{Script, ScriptError};

use super::{Arrival, Backend, Change, EnforcerCounts, Launch, ProbeFault, WatchGap};
use crate::inventory::{EnvironmentInfo, Inventory};
use crate::model::EnforcerCount;
use crate::plan::{FlowId, ProbeId};
use crate::wire::Line;
use pattern::Names;
use probe::{Clocks, Probe};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// An error that the script asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScriptedError(String);

/// The scripted backend of one run.
#[derive(Debug)]
pub struct Scripted {
    script: Script,
    inventory: Inventory,
    clocks: Clocks,
    started: Instant,
    names: Names,
    stop: watch::Sender<bool>,
    probes: Vec<JoinHandle<()>>,
    counters: EnforcerCounts,
}

impl Scripted {
    /// A network with this inventory. `boot`, `boottime_us` and `wall_us` are the current values of
    /// the runner's clock.
    pub fn new(
        script: Script,
        inventory: Inventory,
        boot: &str,
        boottime_us: u64,
        wall_us: u64,
    ) -> Self {
        let names = Names::of(&inventory);
        let clocks = Clocks {
            boot: boot.to_owned(),
            boottime_us,
            wall_us,
        };
        let (stop, _) = watch::channel(false);
        let started = Instant::now();
        Self {
            script,
            inventory,
            clocks,
            started,
            names,
            stop,
            probes: Vec::new(),
            counters: EnforcerCounts::new(),
        }
    }

    /// Waits until the script interrupts the run; returns the reason.
    pub fn interruption(&self) -> impl Future<Output = String> + use<> {
        let interrupted = self.script.interrupted.clone();
        let started = self.started;
        async move {
            match interrupted {
                Some(interrupted) => {
                    sleep_until(started + interrupted.at).await;
                    interrupted.because
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Records the script's counts for the flows of a probe.
    fn record_counters(&mut self, launch: &Launch) {
        let source = launch.source.to_string();
        for flow in &launch.plan.flows {
            let target = self.names.target(flow);
            let counter = self
                .script
                .counters
                .iter()
                .find(|counter| counter.from.matches(&source) && counter.to.matches(&target));
            if let Some(counter) = counter {
                let count = EnforcerCount {
                    packets: counter.packets,
                    rule: counter.rule.clone(),
                };
                self.counters.insert(FlowId(flow.id), count);
            }
        }
    }
}

impl Backend for Scripted {
    type Error = ScriptedError;

    async fn inventory(&mut self) -> Result<Inventory, ScriptedError> {
        Ok(self.inventory.clone())
    }

    async fn environment_info(&mut self) -> Result<EnvironmentInfo, ScriptedError> {
        Ok(EnvironmentInfo {
            policies: self.inventory.policy_states(),
            ..EnvironmentInfo::default()
        })
    }

    fn changes(&mut self) -> mpsc::Receiver<Change> {
        let (sender, receiver) = mpsc::channel(64);
        let mut changes = self.script.changes.clone();
        changes.sort_by_key(|change| change.at);
        let started = self.started;
        tokio::spawn(async move {
            for change in changes {
                sleep_until(started + change.at).await;
                let change = Change {
                    at: change.at,
                    noticed: change.at,
                    what: change.what(),
                };
                if sender.send(change).await.is_err() {
                    // The receiver is gone: the run has ended.
                    return;
                }
            }
        });
        receiver
    }

    fn unseen(&self) -> Option<WatchGap> {
        let gap = self.script.watch_gap.as_ref()?;
        if !gap.contains(self.started.elapsed()) {
            return None;
        }
        Some(WatchGap {
            since: gap.from,
            what: "pods".into(),
            why: gap.because.clone(),
        })
    }

    async fn launch(
        &mut self,
        probes: Vec<Launch>,
        lines: mpsc::Sender<Arrival>,
    ) -> Result<(), ScriptedError> {
        if let Some(error) = &self.script.launch_error {
            return Err(ScriptedError(error.clone()));
        }

        for launch in probes {
            self.record_counters(&launch);
            let probe = Probe::new(
                &launch,
                self.started.elapsed(),
                &self.script,
                &self.names,
                &self.clocks,
            );
            let player = Player {
                id: launch.probe,
                probe,
                started: self.started,
                lines: lines.clone(),
            };
            let task = tokio::spawn(player.run(self.stop.subscribe()));
            self.probes.push(task);
        }
        Ok(())
    }

    async fn stop(&mut self) {
        self.stop.send_replace(true);
        for probe in self.probes.drain(..) {
            // A panic of the task shows by the missing lines.
            let _ = probe.await;
        }
    }

    async fn counters(&mut self) -> Result<EnforcerCounts, ScriptedError> {
        Ok(self.counters.clone())
    }

    async fn teardown(self) -> Vec<ScriptedError> {
        self.script
            .leftovers
            .into_iter()
            .map(ScriptedError)
            .collect()
    }
}

/// Sends the lines of one probe at their times.
struct Player {
    id: ProbeId,
    probe: Probe,
    started: Instant,
    lines: mpsc::Sender<Arrival>,
}

impl Player {
    /// Plays the probe until it ends or is stopped.
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        if let Some(error) = self.probe.start_error() {
            self.send(Err(ProbeFault::NotStarted(error))).await;
            return;
        }

        let delay = self.probe.line_delay();
        while let Some(at) = self.probe.next() {
            tokio::select! {
                () = sleep_until(self.started + at + delay) => {
                    let lines = self.probe.advance(at);
                    self.send_all(lines).await;
                }
                () = stop_requested(&mut stop) => {
                    let now = self.started.elapsed();
                    sleep_until(self.started + now + delay).await;
                    let lines = self.probe.stop(now);
                    self.send_all(lines).await;
                    break;
                }
            }
        }
        let exit_status = self.probe.exit_status().to_owned();
        self.send(Err(ProbeFault::Ended(exit_status))).await;
    }

    async fn send_all(&self, lines: Vec<Line>) {
        for line in lines {
            self.send(Ok(line)).await;
        }
    }

    async fn send(&self, line: Result<Line, ProbeFault>) {
        let arrival = Arrival {
            probe: self.id,
            at: self.started.elapsed(),
            line,
        };
        // The receiver is gone once the run has ended.
        let _ = self.lines.send(arrival).await;
    }
}

async fn stop_requested(stop: &mut watch::Receiver<bool>) {
    // A backend that was dropped stops its probes too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A moment of a run, since its start.
type Moment = Duration;
