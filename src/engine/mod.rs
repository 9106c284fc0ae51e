//! Drives a backend, folds lines into evidence, emits events.
//!
//! A run has four steps:
//! 1. *launch*: every probe starts at once;
//! 2. *watch*: lines are folded as they arrive, and every check that is not settled is judged again
//!    and again, until all are settled or the time that the slowest may take is over; what changes
//!    meanwhile lets flows begin anew;
//! 3. *stop*: all probes stop, and what they still had to say is folded;
//! 4. *judge*: every check is judged once more, for good.

mod clock;
mod collector;
mod completion;
mod replan;

pub use clock::RunnerClock;
pub use collector::Collector;
pub use replan::Replan;

use crate::backend::{Arrival, Backend, Change, EnforcerCounts};
use crate::event::{
    CheckRef, CheckResult, Outcome, RunEvent, RunInfo, Summary, check_ref, check_refs, check_result,
};
use crate::inventory::{EnvironmentInfo, PolicyState, changed_policies};
use crate::model::EnforcerCount;
use crate::plan::{Check, FlowId, Plan, REQUEST_DEADLINE, Schedule, Waits, floor, longest};
use crate::verdict::{
    FlowResult, FlowVerdict, Judge, Judgement, Reading, Reason, Refusal, Verdict, waits_needed,
};
use crate::wire::{How, Stage};
use completion::End;
use replan::PendingChanges;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Lines that may wait between the readers and the engine: a slow runner slows the readers.
const LINES_IN_FLIGHT: usize = 4_096;

/// How often checks are judged while probes run.
const JUDGE_EVERY: Duration = Duration::from_millis(200);

/// How often the enforcer's own counts are read while a check waits for them.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// After all checks were looked at, at least so many times as long passes before the next look as
/// that one took.
const RESTS: u32 = 4;

/// Every so many looks begin with another flow of a check than the one that it was last seen to
/// wait for.
const ANOTHER_EVERY: u32 = 8;

/// Beyond the time that the slowest check may take: start-up, beats under way, a busy machine.
const SPARE: Duration = Duration::from_secs(5);

/// How much longer a run goes on whose time is over while changes cannot be seen: an API server
/// that restarts is back by then.
const SIGHT: Duration = Duration::from_secs(30);

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
    /// How the plan is made again when pods or Services change; without it what they concern stays
    /// unproven unless it holds for the pods that were planned.
    pub replan: Replan,
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

    /// What the numbers of probes and flows stand for, before the first line arrives; and again
    /// when there are more.
    fn planned(&mut self, _plan: &Plan, _run: &RunInfo) {}

    /// Something changed that a verdict may depend on.
    fn change(&mut self, _change: &Change) {}

    /// What the enforcer itself counted.
    fn counters(&mut self, _records: &EnforcerCounts) {}

    /// The run is over: its final results, in the order of [`RunEvent::Finished`].
    ///
    /// They become that event unless the observer can do with one at a time: those of a large run
    /// are larger than all its evidence.
    fn finished(
        &mut self,
        run: RunInfo,
        policies: Option<Vec<PolicyState>>,
        results: &mut dyn Iterator<Item = CheckResult>,
    ) -> Summary {
        let results: Vec<_> = results.collect();
        let summary = Summary::of(&results, run.complete);
        self.event(RunEvent::Finished {
            run,
            results,
            summary,
            policies,
        });
        summary
    }
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
    let (environment_info, unread) = environment_info(backend).await;
    observer.event(RunEvent::Started {
        run: info.clone(),
        environment_info: environment_info.clone(),
        suites: plan.suites().to_vec(),
        checks: checks.clone(),
        coverage: plan.coverage().cloned().map(Box::new),
    });
    observer.planned(plan, &info);

    for text in plan.notes().iter().cloned().chain(unread) {
        observer.event(RunEvent::Note { text });
    }
    let (sender, mut lines) = mpsc::channel(LINES_IN_FLIGHT);
    let mut changes = backend.changes();
    let mut run = Run {
        fold: Collector::new(plan, options.clock),
        plan: Cow::Borrowed(plan),
        info: info.clone(),
        checks: &checks,
        settled: vec![false; checks.len()],
        awaited: vec![0; checks.len()],
        looks: 0,
        told: vec![None; checks.len()],
        noticed: PendingChanges::default(),
        replan: options.replan,
        schedule: options.schedule,
        launched: 0,
        sender: sender.downgrade(),
        started: Instant::now(),
        limit: longest(plan) + SPARE,
    };
    run.launch(backend, sender, &mut lines, observer)
        .await
        .map_err(EngineError::Backend)?;

    let interrupted = run
        .watch(backend, &mut lines, &mut changes, interrupted, observer)
        .await;
    run.fold.stopping(run.fold.now());
    run.drain(backend, &mut lines, observer).await;
    run.fold.close();
    while let Ok(change) = changes.try_recv() {
        run.disturb(change, observer);
    }
    run.give_up_on_changes();
    let end = End::of(interrupted, backend.unseen());
    match backend.counters().await {
        Ok(counters) => {
            observer.counters(&counters);
            run.fold.evidence.counters = in_evidence(counters);
        }
        Err(error) => {
            observer.event(RunEvent::Note {
                text: format!("the enforcer's own counts could not be read: {error}"),
            });
        }
    }

    info.ended_at = Some(jiff::Timestamp::now());
    info.complete = end == End::Whole;
    info.incomplete_because = end.why().map(str::to_owned);
    let (found_open, silent) = run.swept();
    if silent > 0 {
        observer.event(RunEvent::Note {
            text: format!(
                "{silent} ports of denied ranges and of sweeps were tried once: closed or denied, which proves nothing"
            ),
        });
    }
    let after = at_the_end(environment_info.as_ref(), backend, observer).await;
    let policies = after.map(|after| {
        info.probe_images = after.probe_images;
        after.policies
    });
    Ok(observer.finished(
        info,
        policies,
        &mut run.final_results(&end).chain(found_open),
    ))
}

fn in_evidence(counters: EnforcerCounts) -> BTreeMap<FlowId, EnforcerCount> {
    let counted = |counter: EnforcerCount| EnforcerCount {
        packets: counter.packets,
        rule: counter.rule,
    };
    counters
        .into_iter()
        .map(|(flow, counter)| (flow, counted(counter)))
        .collect()
}

/// Where the run takes place, or a note on why that could not be read.
async fn environment_info<B: Backend>(
    backend: &mut B,
) -> (Option<EnvironmentInfo>, Option<String>) {
    match backend.environment_info().await {
        Ok(environment_info) => (Some(environment_info), None),
        Err(error) => (
            None,
            Some(format!(
                "where the run takes place could not be read: {error}"
            )),
        ),
    }
}

/// The surroundings when all probes have stopped; that a policy is not as it was at the start is
/// told.
async fn at_the_end<B: Backend>(
    before: Option<&EnvironmentInfo>,
    backend: &mut B,
    observer: &mut impl Observer,
) -> Option<EnvironmentInfo> {
    let (after, unread) = environment_info(backend).await;
    if let Some(text) = unread {
        observer.event(RunEvent::Note { text });
    }
    let after = after?;
    let changed = before
        .map(|before| changed_policies(&before.policies, &after.policies))
        .unwrap_or_default();
    if !changed.is_empty() {
        let text = format!(
            "not the same at the end as at the start: {}",
            changed.join(", ")
        );
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
        probe_images: Vec::new(),
        settings: options.about.settings.clone(),
    }
}

struct Run<'a> {
    /// The plan as it was given, until it has to be made again.
    plan: Cow<'a, Plan>,
    fold: Collector,
    info: RunInfo,
    checks: &'a [CheckRef],
    settled: Vec<bool>,
    /// For each check the place of the flow that it was last seen to wait for.
    awaited: Vec<usize>,
    /// How often all checks were looked at.
    looks: u32,
    /// What was said of each check when it was settled last.
    told: Vec<Option<Outcome>>,
    noticed: PendingChanges,
    replan: Replan,
    schedule: Schedule,
    /// Probes launched so far.
    launched: usize,
    /// Where lines arrive, as long as any probe runs.
    sender: mpsc::WeakSender<Arrival>,
    started: Instant,
    /// When the watch ends at the latest, from its start.
    limit: Duration,
}

impl Run<'_> {
    /// Step 2. Returns why the run ends early, if it does.
    async fn watch<B: Backend>(
        &mut self,
        backend: &mut B,
        lines: &mut mpsc::Receiver<Arrival>,
        changes: &mut mpsc::Receiver<Change>,
        interrupted: impl Future<Output = String>,
        observer: &mut impl Observer,
    ) -> Option<String> {
        let mut extended = false;
        let mut waited_for_sight = false;
        let mut counted = Instant::now();
        let mut next_look = self.started;
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
                () = sleep_until(next_look) => {
                    let began = Instant::now();
                    self.fold.evidence.canary = backend.canary();
                    if self.fold.began_anew() {
                        self.reopen();
                    }
                    self.renew(backend, lines, observer).await;
                    if self.awaits_records() && counted.elapsed() >= COUNT_EVERY {
                        self.count(backend, lines, observer).await;
                        counted = Instant::now();
                    }
                    // While changes go unseen nothing is known to have stayed as it was.
                    let slow = if backend.unseen().is_none() { self.settle(observer) } else { Vec::new() };
                    // Where there is much to judge, most of the time is left to what lines bring.
                    next_look = Instant::now() + JUDGE_EVERY.max(began.elapsed() * RESTS);
                    self.lengthen(slow, backend, lines, observer).await;
                    let settled = self.settled.iter().filter(|settled| **settled).count();
                    observer.event(RunEvent::Progress {
                        settled,
                        of: self.settled.len(),
                        elapsed_ms: self.started.elapsed().as_millis() as u64,
                        floor_ms: floor(&self.plan).as_millis() as u64,
                    });
                    if settled == self.settled.len() && self.is_swept() && !self.noticed.is_pending() {
                        return None;
                    }
                }
                () = sleep_until(self.started + self.limit) => {
                    if !waited_for_sight && backend.unseen().is_some() {
                        waited_for_sight = true;
                        self.limit += SIGHT;
                        continue;
                    }
                    if extended || !self.awaits_answers() {
                        return None;
                    }
                    self.limit += REQUEST_DEADLINE;
                    extended = true;
                }
            }
        }
    }

    fn take(&mut self, arrival: Arrival, observer: &mut impl Observer) {
        observer.arrival(&arrival);
        self.fold.line(&self.plan, arrival);
    }

    /// Whether a check that is not settled demands the enforcer's own count.
    fn awaits_records(&self) -> bool {
        let mut open = self
            .plan
            .checks()
            .iter()
            .zip(&self.settled)
            .filter(|(_, settled)| !**settled);
        open.any(|(check, _)| check.settings.demands_record())
    }

    /// Reads the enforcer's own counts while the run is on. What fails now is told when they are
    /// read at the end.
    async fn count<B: Backend>(
        &mut self,
        backend: &mut B,
        lines: &mut mpsc::Receiver<Arrival>,
        observer: &mut impl Observer,
    ) {
        if let Ok(counters) = self.meanwhile(backend.counters(), lines, observer).await {
            self.fold.evidence.counters = in_evidence(counters);
        }
    }

    /// Judges what is not settled, and says what is now. Gives flows that must be waited for
    /// longer.
    fn settle(&mut self, observer: &mut impl Observer) -> Vec<(FlowId, Waits)> {
        let mut slow = Vec::new();
        self.looks += 1;
        let another = self.looks.is_multiple_of(ANOTHER_EVERY);
        let judge = Judge::new(&self.plan, &self.fold.evidence);
        for (index, check) in self.plan.checks().iter().enumerate() {
            if self.settled[index] {
                continue;
            }
            // Most checks wait for one flow at a time: the others are looked at once it is settled,
            // or now and then.
            if let Some(awaited) = judge.awaits(check, self.awaited[index] + usize::from(another)) {
                self.awaited[index] = awaited.place;
                if awaited.lacks == Reason::AttemptTimeoutTooShort {
                    slow.extend(self.too_slow(check, &judge.judge(check)));
                }
                continue;
            }
            let judgement = judge.judge(check);
            self.settled[index] = true;
            let result = check_result(
                &self.plan,
                &self.checks[index],
                &judgement,
                &self.fold.evidence,
            );
            if self.told[index].replace(result.verdict) != Some(result.verdict) {
                observer.event(RunEvent::Settled {
                    result: Box::new(result),
                });
            }
        }
        slow
    }

    /// The denied flows of a check whose silence was not waited for long enough, and that another
    /// probe can try.
    fn too_slow(&self, check: &Check, judgement: &Judgement) -> Vec<(FlowId, Waits)> {
        let is_inside = |flow: &FlowResult| {
            self.plan
                .ephemeral_probes()
                .contains(&self.plan.flow(flow.flow).probe)
        };
        let flows = judgement
            .flows
            .iter()
            .filter(|flow| !is_inside(flow))
            .filter(|flow| match &flow.verdict {
                FlowVerdict::Unproven(unproven) => {
                    unproven.reason == Reason::AttemptTimeoutTooShort
                }
                FlowVerdict::Denied(_)
                | FlowVerdict::Allowed(_)
                | FlowVerdict::Violated(_)
                | FlowVerdict::LeftOut(_) => false,
            });
        flows
            .filter_map(|flow| {
                Some((
                    flow.flow,
                    waits_needed(&self.plan, &self.fold.evidence, check, flow.flow)?,
                ))
            })
            .collect()
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

    /// Whether attempts of a check that is not settled may be waiting for an answer after their
    /// handshake: what they saw is told only once that long deadline is over.
    fn awaits_answers(&self) -> bool {
        let checks = self
            .plan
            .checks()
            .iter()
            .zip(&self.settled)
            .filter(|(_, settled)| !**settled);
        checks.flat_map(|(check, _)| &check.flows).any(|flow| {
            match self.fold.evidence.flow(*flow).latest() {
                None => true,
                Some(Reading::Blocked(block)) => {
                    block.stage > Stage::Connect && block.how == Refusal::Wire(How::Silence)
                }
                Some(Reading::Open(opening)) => opening
                    .then
                    .as_ref()
                    .is_some_and(|stop| stop.how == How::Silence),
                Some(Reading::NotSent(_)) => false,
            }
        })
    }

    /// Whether every port of a sweep was tried, as far as its probe can.
    fn is_swept(&self) -> bool {
        let flows = self.plan.swept().iter().flat_map(|check| &check.flows);
        flows.copied().all(|flow| {
            let probe = self.plan.flow(flow).probe;
            self.fold.evidence.flow(flow).attempts > 0
                || self.fold.evidence.probe(probe).failure.is_some()
        })
    }

    /// Swept ports that were found open, and how many were silent.
    fn swept(&self) -> (Vec<CheckResult>, usize) {
        let mut open = Vec::new();
        let judge = Judge::new(&self.plan, &self.fold.evidence);
        for check in self.plan.swept() {
            let judgement = judge.judge(check);
            // Also what opened and is not called violated must not be taken for silence.
            let opened = check
                .flows
                .iter()
                .any(|flow| self.fold.evidence.flow(*flow).opened > 0);
            if opened || matches!(judgement.verdict, Verdict::Violated(_)) {
                let named = check_ref(&self.plan, check);
                open.push(check_result(
                    &self.plan,
                    &named,
                    &judgement,
                    &self.fold.evidence,
                ));
            }
        }
        let silent = self.plan.swept().len() - open.len();
        (open, silent)
    }

    /// Step 4. Where a run ended early a check that was not settled is not finished, whatever else
    /// it lacks.
    fn final_results(&self, end: &End) -> impl Iterator<Item = crate::event::CheckResult> {
        let judge = Judge::new(&self.plan, &self.fold.evidence);
        self.plan
            .checks()
            .iter()
            .enumerate()
            .map(move |(index, check)| {
                let mut judgement = judge.judge(check);
                if !self.settled[index] {
                    end.leaves_open(&mut judgement);
                }
                check_result(
                    &self.plan,
                    &self.checks[index],
                    &judgement,
                    &self.fold.evidence,
                )
            })
    }
}
