//! Drives a backend, folds lines into evidence, emits events.
//!
//! A run has four steps:
//! 1. *launch*: every probe starts at once;
//! 2. *watch*: lines are folded as they arrive, and every check that is not settled is judged again and again, until
//!    all are settled or the time that the slowest may take is over;
//! 3. *stop*: all probes stop, and what they still had to say is folded;
//! 4. *judge*: every check is judged once more, for good.

mod clock;
mod fold;

pub use clock::RunnerClock;
pub use fold::Fold;

use crate::backend::{Arrival, Backend, Change, Changed, Launch, Records};
use crate::event::{CheckRef, CheckResult, RunEvent, RunInfo, Summary, check_ref, check_refs, check_result};
use crate::inventory::{PolicyState, Surroundings, changed_policies};
use crate::plan::{Plan, ProbeId, REQUEST_DEADLINE, Schedule, floor, longest, probe_plans};
use crate::verdict::{
    Disturbance, Disturbed, EnforcerRecord, Finality, Judgement, Reading, Reason, Refusal, Unproven, Verdict, judge,
};
use crate::wire::{How, Stage};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// Lines that may wait between the readers and the engine: a slow runner slows the readers.
const LINES_IN_FLIGHT: usize = 4_096;

/// How often checks are judged while probes run.
const JUDGE_EVERY: Duration = Duration::from_millis(200);

/// Beyond the time that the slowest check may take: start-up, beats under way, a busy machine.
const SPARE: Duration = Duration::from_secs(5);

/// What a run is given beside plan and backend.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the wire's plans carry.
    pub schedule: Schedule,
    /// The name of the backend in reports.
    pub backend: &'static str,
    /// The runner's clock when the run started.
    pub clock: RunnerClock,
    /// What the report says of the run's tools and settings.
    pub about: About,
}

/// What a report says of a run and no step of the run needs.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// SHA-256 of the executable that runs, hexadecimal.
    pub digest: Option<String>,
    /// SHA-256 of the agent that samples.
    pub probe_digest: Option<String>,
    /// What was asked of this run beside its suites: name and value, `null` where it was not given.
    pub settings: serde_json::Map<String, serde_json::Value>,
}

/// Whoever is told what happens in a run.
pub trait Observer {
    /// Something happened.
    fn event(&mut self, event: RunEvent);

    /// A probe's line arrived, before anything is made of it.
    fn arrival(&mut self, arrival: &Arrival);

    /// What the numbers of probes and flows stand for, before the first line arrives.
    fn planned(&mut self, _plan: &Plan, _run: &RunInfo) {}

    /// Something changed that a verdict may depend on.
    fn change(&mut self, _change: &Change) {}

    /// What the enforcer itself counted.
    fn records(&mut self, _records: &Records) {}
}

/// Why a run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum EngineError<E: std::error::Error + 'static> {
    /// The backend refused.
    #[error(transparent)]
    Backend(E),
}

/// Runs a plan. `interrupted` completes with a reason when the run shall end early.
///
/// # Errors
/// When not one probe could be launched. Everything later is part of the results.
pub async fn run<B: Backend>(
    plan: &Plan,
    backend: &mut B,
    options: Options,
    interrupted: impl Future<Output = String>,
    observer: &mut impl Observer,
) -> Result<Summary, EngineError<B::Error>> {
    let checks = check_refs(plan);
    let mut info = start_info(&options);
    let (surroundings, unread) = surroundings(backend).await;
    observer.event(RunEvent::Started {
        run: info.clone(),
        surroundings: surroundings.clone(),
        suites: plan.suites.clone(),
        checks: checks.clone(),
    });
    observer.planned(plan, &info);

    for text in plan.notes.iter().cloned().chain(unread) {
        observer.event(RunEvent::Note { text });
    }
    let mut run =
        Run { plan, fold: Fold::new(plan, options.clock), checks: &checks, settled: vec![false; checks.len()] };
    let (sender, mut lines) = mpsc::channel(LINES_IN_FLIGHT);
    let mut changes = backend.changes();
    let launches = run.launches(&options.schedule);
    backend.launch(launches, sender).await.map_err(EngineError::Backend)?;

    let why = run.watch(&mut lines, &mut changes, interrupted, observer).await;
    run.fold.stopping();
    run.drain(backend, &mut lines, observer).await;
    while let Ok(change) = changes.try_recv() {
        run.disturb(change, observer);
    }
    match backend.records().await {
        Ok(records) => {
            observer.records(&records);
            let records = records.into_iter();
            run.fold.evidence.records = records
                .map(|(flow, record)| (flow, EnforcerRecord { packets: record.packets, rule: record.rule }))
                .collect();
        }
        Err(error) => {
            observer.event(RunEvent::Note { text: format!("the enforcer's own counts could not be read: {error}") });
        }
    }

    info.ended_at = Some(jiff::Timestamp::now());
    info.complete = why.is_none();
    info.incomplete_because.clone_from(&why);
    let mut results: Vec<_> = run.final_results(why.as_deref()).collect();
    let (found_open, silent) = run.swept();
    if silent > 0 {
        observer.event(RunEvent::Note {
            text: format!("{silent} ports of denied ranges were tried once: closed or denied, which proves nothing"),
        });
    }
    results.extend(found_open);
    let policies = policies_at_the_end(surroundings.as_ref(), backend, observer).await;
    let summary = Summary::of(&results, info.complete);
    observer.event(RunEvent::Finished { run: info, results, summary, policies });
    Ok(summary)
}

/// Where the run takes place, or a note on why that could not be read.
async fn surroundings<B: Backend>(backend: &mut B) -> (Option<Surroundings>, Option<String>) {
    match backend.surroundings().await {
        Ok(surroundings) => (Some(surroundings), None),
        Err(error) => (None, Some(format!("where the run takes place could not be read: {error}"))),
    }
}

/// The policies when all probes have stopped; that one is not as it was at the start is told.
async fn policies_at_the_end<B: Backend>(
    before: Option<&Surroundings>,
    backend: &mut B,
    observer: &mut impl Observer,
) -> Option<Vec<PolicyState>> {
    let (after, unread) = surroundings(backend).await;
    if let Some(text) = unread {
        observer.event(RunEvent::Note { text });
    }
    let after = after?.policies;
    let changed = before.map(|before| changed_policies(&before.policies, &after)).unwrap_or_default();
    if !changed.is_empty() {
        let text = format!("not the same at the end as at the start: {}", changed.join(", "));
        observer.event(RunEvent::Note { text });
    }
    Some(after)
}

fn start_info(options: &Options) -> RunInfo {
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
        settings: options.about.settings.clone(),
    }
}

struct Run<'a> {
    plan: &'a Plan,
    fold: Fold<'a>,
    checks: &'a [CheckRef],
    settled: Vec<bool>,
}

impl Run<'_> {
    fn launches(&mut self, schedule: &Schedule) -> Vec<Launch> {
        let plans = probe_plans(self.plan, schedule).into_iter().enumerate();
        plans
            .map(|(index, plan)| {
                let probe = ProbeId(index as u32);
                self.fold.expect(probe, &plan);
                Launch { probe, vantage: self.plan.vantage(probe).clone(), plan }
            })
            .collect()
    }

    /// Step 2. Returns why the run ends early, if it does.
    async fn watch(
        &mut self,
        lines: &mut mpsc::Receiver<Arrival>,
        changes: &mut mpsc::Receiver<Change>,
        interrupted: impl Future<Output = String>,
        observer: &mut impl Observer,
    ) -> Option<String> {
        let mut limit = longest(self.plan) + SPARE;
        let started = Instant::now();
        let mut extended = false;
        let mut tick = interval(JUDGE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watching_changes = true;
        tokio::pin!(interrupted);
        loop {
            tokio::select! {
                why = &mut interrupted => return Some(why),
                line = lines.recv() => match line {
                    Some(arrival) => self.take(arrival, observer),
                    // Every probe has ended: nothing more can be learned.
                    None => return None,
                },
                change = changes.recv(), if watching_changes => match change {
                    Some(change) => self.disturb(change, observer),
                    None => watching_changes = false,
                },
                _ = tick.tick() => {
                    self.settle(observer);
                    let settled = self.settled.iter().filter(|settled| **settled).count();
                    observer.event(RunEvent::Progress {
                        settled,
                        of: self.settled.len(),
                        elapsed_ms: started.elapsed().as_millis() as u64,
                        floor_ms: floor(self.plan).as_millis() as u64,
                    });
                    if settled == self.settled.len() && self.is_swept() {
                        return None;
                    }
                }
                () = sleep_until(started + limit) => {
                    if extended || !self.awaits_answers() {
                        return None;
                    }
                    limit += REQUEST_DEADLINE;
                    extended = true;
                }
            }
        }
    }

    fn take(&mut self, arrival: Arrival, observer: &mut impl Observer) {
        observer.arrival(&arrival);
        self.fold.line(arrival);
    }

    fn disturb(&mut self, change: Change, observer: &mut impl Observer) {
        observer.change(&change);
        let what = match change.what {
            Changed::Pod(namespace, name) => Disturbed::Pod(namespace, name),
            Changed::Namespace(name) => Disturbed::Namespace(name),
            Changed::Policy(namespace, name) => Disturbed::Policy(namespace, name),
            Changed::Service(namespace, name) => Disturbed::Service(namespace, name),
        };
        let at = change.at.as_micros() as i64;
        self.fold.evidence.disturbances.push(Disturbance { at, what });
    }

    /// Judges what is not settled, and says what is now.
    fn settle(&mut self, observer: &mut impl Observer) {
        for (index, check) in self.plan.checks.iter().enumerate() {
            if self.settled[index] {
                continue;
            }
            let judgement = judge(self.plan, check, &self.fold.evidence, Finality::Interim);
            if judgement.is_settled() {
                self.settled[index] = true;
                let result = check_result(self.plan, &self.checks[index], &judgement, &self.fold.evidence);
                observer.event(RunEvent::Settled { result: Box::new(result) });
            }
        }
    }

    /// Step 3. The channel closes once every reader has seen its probe's end.
    async fn drain<B: Backend>(
        &mut self,
        backend: &mut B,
        lines: &mut mpsc::Receiver<Arrival>,
        observer: &mut impl Observer,
    ) {
        let stop = backend.stop();
        tokio::pin!(stop);
        let mut stopping = true;
        loop {
            tokio::select! {
                () = &mut stop, if stopping => stopping = false,
                line = lines.recv() => match line {
                    Some(arrival) => self.take(arrival, observer),
                    None if stopping => {
                        stop.await;
                        return;
                    }
                    None => return,
                },
            }
        }
    }

    /// Whether attempts of a check that is not settled may be waiting for an answer after their handshake: what they saw
    /// is told only once that long deadline is over.
    fn awaits_answers(&self) -> bool {
        let checks = self.plan.checks.iter().zip(&self.settled).filter(|(_, settled)| !**settled);
        checks.flat_map(|(check, _)| &check.flows).any(|flow| match self.fold.evidence.flow(*flow).latest() {
            None => true,
            Some(Reading::Blocked(block)) => block.stage > Stage::Connect && block.how == Refusal::Wire(How::Silence),
            Some(Reading::Open(opening)) => opening.then.as_ref().is_some_and(|stop| stop.how == How::Silence),
            Some(Reading::NotSent(_)) => false,
        })
    }

    /// Whether every port of a sweep was tried, as far as its probe can.
    fn is_swept(&self) -> bool {
        let flows = self.plan.swept.iter().flat_map(|check| &check.flows);
        flows.copied().all(|flow| {
            let probe = self.plan.flow(flow).probe;
            self.fold.evidence.flow(flow).attempts > 0 || self.fold.evidence.probe(probe).failure.is_some()
        })
    }

    /// Swept ports that were found open, and how many were silent.
    fn swept(&self) -> (Vec<CheckResult>, usize) {
        let mut open = Vec::new();
        for check in &self.plan.swept {
            let judgement = judge(self.plan, check, &self.fold.evidence, Finality::Final);
            if matches!(judgement.verdict, Verdict::Violated(_)) {
                let named = check_ref(self.plan, check);
                open.push(check_result(self.plan, &named, &judgement, &self.fold.evidence));
            }
        }
        let silent = self.plan.swept.len() - open.len();
        (open, silent)
    }

    /// Step 4. After an interruption a check that was not settled is not finished, whatever else it lacks.
    fn final_results(&self, interrupted: Option<&str>) -> impl Iterator<Item = crate::event::CheckResult> {
        self.plan.checks.iter().enumerate().map(move |(index, check)| {
            let mut judgement = judge(self.plan, check, &self.fold.evidence, Finality::Final);
            if let (Some(why), false) = (interrupted, self.settled[index]) {
                not_finished(&mut judgement, why);
            }
            check_result(self.plan, &self.checks[index], &judgement, &self.fold.evidence)
        })
    }
}

fn not_finished(judgement: &mut Judgement, why: &str) {
    match &judgement.verdict {
        Verdict::Unproven(_) => {
            judgement.verdict = Verdict::Unproven(Unproven {
                reason: Reason::NotFinished,
                detail: format!("the run ended before this was judged: {why}"),
                flow: None,
                open: false,
            });
        }
        // What was already shown is not undone by an interruption.
        Verdict::Proven | Verdict::Violated(_) => {}
    }
}
