//! The state of a run, and its first and last steps.

use super::collector::Collector;
use super::completion::Completion;
use super::environment;
use super::replan::{PendingChanges, Replan};
use super::{Observer, Options};
use crate::backend::{Arrival, Backend, Change};
use crate::event::{CheckRef, NEW_CONNECTIONS_ONLY, Outcome, RunEvent, RunInfo, Summary};
use crate::inventory::EnvironmentInfo;
use crate::plan::{Plan, Schedule, longest};
use std::borrow::Cow;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Number of lines that may wait between the readers and the engine: a slow runner slows the
/// readers.
const LINES_IN_FLIGHT: usize = 4_096;

/// The time beyond that which the slowest check may take: start-up, heartbeats under way, a busy
/// machine.
pub(super) const MARGIN: Duration = Duration::from_secs(5);

/// A run, from its first probe to its last line.
pub(super) struct Run<'a> {
    /// The plan as it was given, until replanning changes it.
    pub(super) plan: Cow<'a, Plan>,
    pub(super) collector: Collector,
    pub(super) info: RunInfo,
    pub(super) checks: &'a [CheckRef],
    /// For each check whether it is settled.
    pub(super) settled: Vec<bool>,
    /// For each check the index of the flow that it waited for when it was last judged.
    pub(super) pending_flows: Vec<usize>,
    /// Number of times that all checks were judged.
    pub(super) rounds: u32,
    /// For each check the outcome that was last reported.
    pub(super) reported: Vec<Option<Outcome>>,
    pub(super) pending_changes: PendingChanges,
    pub(super) replan: Replan,
    pub(super) schedule: Schedule,
    /// Number of probes launched so far.
    pub(super) launched: usize,
    /// Lines of the probes, in the order of their arrival.
    pub(super) lines: mpsc::Receiver<Arrival>,
    /// The sending side, as long as any probe runs.
    pub(super) sender: mpsc::WeakSender<Arrival>,
    pub(super) changes: mpsc::Receiver<Change>,
    pub(super) started: Instant,
    /// The longest time of the watch, from its start.
    pub(super) limit: Duration,
}

impl<'a> Run<'a> {
    /// A run of which no probe is launched yet, and the sender for the lines of its probes.
    pub(super) fn new(
        plan: &'a Plan,
        checks: &'a [CheckRef],
        info: RunInfo,
        options: Options,
        changes: mpsc::Receiver<Change>,
    ) -> (Self, mpsc::Sender<Arrival>) {
        let (sender, lines) = mpsc::channel(LINES_IN_FLIGHT);
        let run = Self {
            collector: Collector::new(plan, options.clock),
            plan: Cow::Borrowed(plan),
            info,
            checks,
            settled: vec![false; checks.len()],
            pending_flows: vec![0; checks.len()],
            rounds: 0,
            reported: vec![None; checks.len()],
            pending_changes: PendingChanges::default(),
            replan: options.replan,
            schedule: options.schedule,
            launched: 0,
            lines,
            sender: sender.downgrade(),
            changes,
            started: Instant::now(),
            limit: longest(plan) + MARGIN,
        };
        (run, sender)
    }

    /// Collects one line.
    pub(super) fn collect(&mut self, arrival: Arrival, observer: &mut impl Observer) {
        observer.arrival(&arrival);
        self.collector.line(&self.plan, arrival);
    }

    /// Waits for an operation of the backend and collects lines during it: readers may not wait for
    /// it.
    pub(super) async fn collect_during<T>(
        &mut self,
        operation: impl Future<Output = T>,
        observer: &mut impl Observer,
    ) -> T {
        tokio::pin!(operation);
        loop {
            tokio::select! {
                done = &mut operation => return done,
                Some(arrival) = self.lines.recv() => self.collect(arrival, observer),
            }
        }
    }

    /// Step 3: stops all probes and collects everything that is known then.
    pub(super) async fn stop<B: Backend>(
        &mut self,
        backend: &mut B,
        interrupted: Option<String>,
        observer: &mut impl Observer,
    ) -> Completion {
        self.collector.stopping(self.collector.now());
        self.drain(backend, observer).await;
        self.collector.close();
        while let Ok(change) = self.changes.try_recv() {
            self.handle_change(change, observer);
        }
        self.apply_changes_at_the_end();

        let completion = Completion::of(interrupted, backend.watch_gap(), backend.start_failure());
        match backend.counters().await {
            Ok(counters) => {
                observer.counters(&counters);
                self.collector.evidence.counters = counters;
            }
            Err(error) => {
                observer.event(RunEvent::Note {
                    text: format!("the enforcer's own counts could not be read: {error}"),
                });
            }
        }
        completion
    }

    /// Collects lines while the probes stop. The channel closes once every reader has seen its
    /// probe's end.
    async fn drain<B: Backend>(&mut self, backend: &mut B, observer: &mut impl Observer) {
        let stop = backend.stop();
        tokio::pin!(stop);
        let mut is_stopping = true;
        loop {
            tokio::select! {
                () = &mut stop, if is_stopping => is_stopping = false,
                line = self.lines.recv() => match line {
                    Some(arrival) => self.collect(arrival, observer),
                    None if is_stopping => {
                        stop.await;
                        return;
                    }
                    None => return,
                },
            }
        }
    }

    /// Step 4: judges every check for good and hands over the results.
    pub(super) async fn finish<B: Backend>(
        mut self,
        completion: &Completion,
        environment_at_start: Option<EnvironmentInfo>,
        backend: &mut B,
        observer: &mut impl Observer,
    ) -> Summary {
        self.info.ended_at = Some(jiff::Timestamp::now());
        self.info.complete = *completion == Completion::Complete;
        self.info.incomplete_because = completion.why_incomplete().map(str::to_owned);
        let (swept_open, swept_silent) = self.swept();
        if swept_silent > 0 {
            observer.event(RunEvent::Note {
                text: format!(
                    "{swept_silent} ports of denied ranges and of sweeps were tried once: closed or denied, which proves nothing"
                ),
            });
        }

        let environment =
            environment::read_at_the_end(environment_at_start.as_ref(), backend, observer).await;
        let policies = environment.map(|environment| {
            self.info.probe_images = environment.probe_images;
            environment.policies
        });
        observer.finished(
            self.info.clone(),
            policies,
            &mut self.final_results(completion).chain(swept_open),
        )
    }
}

/// The facts of a run that are known at its start.
pub(super) fn start_info(options: &Options) -> RunInfo {
    RunInfo {
        id: options.schedule.run.clone(),
        started_at: jiff::Timestamp::now(),
        ended_at: None,
        complete: false,
        incomplete_because: None,
        backend: options.backend.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        digest: options.about.digest.clone(),
        probe_digest: options.about.probe_digest.clone(),
        probe_images: Vec::new(),
        settings: options.about.settings.clone(),
        limits: std::iter::once(NEW_CONNECTIONS_ONLY.to_owned())
            .chain(options.about.limits.clone())
            .collect(),
    }
}

/// Reports the start of a run; returns its environment, where it could be read.
pub(super) async fn announce<B: Backend>(
    plan: &Plan,
    checks: &[CheckRef],
    info: &RunInfo,
    backend: &mut B,
    observer: &mut impl Observer,
) -> Option<EnvironmentInfo> {
    let (environment, unread) = match environment::read(backend).await {
        Ok(environment) => (Some(environment), None),
        Err(note) => (None, Some(note)),
    };
    observer.event(RunEvent::Started {
        run: info.clone(),
        environment: environment.clone(),
        suites: plan.suites().to_vec(),
        checks: checks.to_vec(),
        coverage: plan.coverage().cloned().map(Box::new),
    });
    observer.planned(plan, info);
    for text in plan.notes().iter().cloned().chain(unread) {
        observer.event(RunEvent::Note { text });
    }
    environment
}
