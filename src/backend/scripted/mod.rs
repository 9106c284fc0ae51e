//! The test double: a network that sees what a file says, in compressed time.
//!
//! It is a backend like the others, so that the whole binary is tested without a network: planning,
//! the wire's protocol, clocks, the fold, every verdict and reason, reports and exit code. The
//! world (pods, Services, policies, addresses) is that of the given manifests, as the lab would
//! place it; a [`Script`] says what each flow sees and when, how each probe's clock runs, which
//! lines are lost, and what changes meanwhile. Time is tokio's and may be paused: then a minute of
//! a run takes no longer than its arithmetic.
//!
//! ```text
//! Launch, Script ── flow ──▶ attempts: when, and what is seen of each
//!                ── probe ─▶ lines, in the probe's own time; pure
//!                ── mod ───▶ arrivals, in the run's time
//! ```
//!
//! # Limitations
//!
//! What it shows is no evidence about packets: it has none. It is evidence about what watertight
//! makes of what a network may do; that networks do it is shown in the lab and in a cluster.

mod flow;
mod pattern;
mod probe;
mod script;
mod seen;

pub use script::{Script, ScriptError};

use super::{Arrival, Backend, Change, EnforcerCounts, Launch, ProbeFault, WatchGap};
use crate::inventory::{EnvironmentInfo, Inventory};
use crate::model::EnforcerCount;
use crate::plan::{FlowId, ProbeId};
use pattern::Names;
use probe::{Clocks, Probe};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Why the double refuses: because its script says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

/// A running double.
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
    /// A double of a network in which this exists. `boot`, `boottime_us` and `wall_us` are the
    /// runner's clock now.
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

    /// When the script interrupts the run, and with which words.
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

    fn counter(&mut self, launch: &Launch) {
        for flow in &launch.plan.flows {
            let name = self.names.target(flow);
            let from = launch.source.to_string();
            let told = self
                .script
                .counters
                .iter()
                .find(|counter| counter.from.matches(&from) && counter.to.matches(&name));
            if let Some(told) = told {
                self.counters.insert(
                    FlowId(flow.id),
                    EnforcerCount {
                        packets: told.packets,
                        rule: told.rule.clone(),
                    },
                );
            }
        }
    }
}

impl Backend for Scripted {
    type Error = Refused;

    async fn inventory(&mut self) -> Result<Inventory, Refused> {
        Ok(self.inventory.clone())
    }

    async fn environment_info(&mut self) -> Result<EnvironmentInfo, Refused> {
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
                // The run is over: nobody wants to know.
                if sender
                    .send(Change {
                        at: change.at,
                        noticed: change.at,
                        what: change.what(),
                    })
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
        receiver
    }

    fn unseen(&self) -> Option<WatchGap> {
        let now = self.started.elapsed();
        let unseen = self.script.unseen.as_ref()?;
        (unseen.from <= now && unseen.to.is_none_or(|to| now < to)).then(|| WatchGap {
            since: unseen.from,
            what: "pods".into(),
            why: unseen.because.clone(),
        })
    }

    async fn launch(
        &mut self,
        probes: Vec<Launch>,
        lines: mpsc::Sender<Arrival>,
    ) -> Result<(), Refused> {
        if let Some(why) = &self.script.refuses {
            return Err(Refused(why.clone()));
        }
        for launch in probes {
            self.counter(&launch);
            let probe = Probe::new(
                &launch,
                self.started.elapsed(),
                &self.script,
                &self.names,
                &self.clocks,
            );
            let (started, stopped, lines) = (self.started, self.stop.subscribe(), lines.clone());
            self.probes.push(tokio::spawn(play(
                launch.probe,
                probe,
                started,
                stopped,
                lines,
            )));
        }
        Ok(())
    }

    async fn stop(&mut self) {
        self.stop.send_replace(true);
        for probe in self.probes.drain(..) {
            // A panic of the task is a defect that the missing lines show already.
            let _ = probe.await;
        }
    }

    async fn counters(&mut self) -> Result<EnforcerCounts, Refused> {
        Ok(self.counters.clone())
    }

    async fn teardown(self) -> Vec<Refused> {
        self.script.leftovers.into_iter().map(Refused).collect()
    }
}

/// Plays one probe: each of its lines at its time, until it ends or is stopped.
async fn play(
    id: ProbeId,
    mut probe: Probe,
    started: Instant,
    mut stopped: watch::Receiver<bool>,
    lines: mpsc::Sender<Arrival>,
) {
    let since = |now: Instant| now.duration_since(started);
    if let Some(why) = probe.never_starts() {
        let fault = ProbeFault::NotStarted(why);
        // Nobody reads any more: then nobody wants to know. Here and below.
        let _ = lines
            .send(Arrival {
                probe: id,
                at: since(Instant::now()),
                line: Err(fault),
            })
            .await;
        return;
    }
    let delay = probe.delay();
    while let Some(at) = probe.next() {
        tokio::select! {
            () = sleep_until(started + at + delay) => {
                for line in probe.advance(at) {
                    let _ = lines.send(Arrival { probe: id, at: since(Instant::now()), line: Ok(line) }).await;
                }
            }
            () = stop_is_asked(&mut stopped) => {
                let now = since(Instant::now());
                sleep_until(started + now + delay).await;
                for line in probe.stop(now) {
                    let _ = lines.send(Arrival { probe: id, at: since(Instant::now()), line: Ok(line) }).await;
                }
                break;
            }
        }
    }
    let fault = ProbeFault::Ended(probe.end().to_owned());
    let _ = lines
        .send(Arrival {
            probe: id,
            at: since(Instant::now()),
            line: Err(fault),
        })
        .await;
}

async fn stop_is_asked(stopped: &mut watch::Receiver<bool>) {
    // A double that is gone asks too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// A moment of a run, since its start.
type Moment = Duration;
