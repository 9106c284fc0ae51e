//! Lines → evidence.
//!
//! Enforces the rules of the protocol: a gap in `seq`, three seconds of the probe's own time
//! without a line, a second hello, a wrong digest or version make everything after the last good
//! line no evidence.

use super::RunnerClock;
use crate::backend::{Arrival, ProbeFault};
use crate::plan::{FlowId, Plan, ProbeId};
use crate::verdict::{
    Cause, Clock, Evidence, FlowEvidence, MAX_WALL_ERROR_US, ProbeFailure, Reading, StageTimes,
    SuccessfulAttempt, read,
};
use crate::wire::{self, Body, Fault, Heartbeat, Hello, Line, Sample};
use std::time::Duration;

/// The longest time of the probe's own between two lines, microseconds.
const MAX_SILENCE_US: u64 = 3_000_000;

/// The delay of the probe's timer from which on its flows are restarted, microseconds: it made no
/// attempts in that time.
const STALL_US: u64 = 1_000_000;

/// The evidence of a run, and the state of each probe's protocol.
#[derive(Debug)]
pub struct Collector {
    clock: RunnerClock,
    pub evidence: Evidence,
    probes: Vec<ProbeState>,
    /// When the run stopped its probes, microseconds of the run.
    stopped_at: Option<i64>,
    has_restarted: bool,
}

#[derive(Debug, Clone, Default)]
struct ProbeState {
    /// The digest of its plan.
    digest: String,
    next_seq: u64,
    /// The time of its last good line, its own microseconds.
    last_t: u64,
    /// How it ended, once it has.
    end: Option<String>,
    /// Whether it reported that its plan is done.
    done: bool,
}

impl Collector {
    /// A collector without a line yet.
    pub fn new(plan: &Plan, clock: RunnerClock) -> Self {
        let mut collector = Self {
            clock,
            evidence: Evidence::default(),
            probes: Vec::new(),
            stopped_at: None,
            has_restarted: false,
        };
        collector.extend(plan);
        collector
    }

    /// Makes room for what was added to the plan.
    pub fn extend(&mut self, plan: &Plan) {
        self.evidence.extend(plan);
        self.probes
            .resize_with(plan.probes().len(), ProbeState::default);
    }

    /// The present moment, microseconds of the run.
    pub fn now(&self) -> i64 {
        self.clock.elapsed_us()
    }

    /// Restarts sampling of a flow: attempts before `at`, microseconds of the run, count for no
    /// proof any more.
    pub fn restart(&mut self, plan: &Plan, flow: FlowId, at: i64, cause: Cause) {
        if plan.flow(flow).to.request.is_kept_open() {
            // That it was open before the change is what is asked.
            self.flow(flow).note_change(at, cause);
            return;
        }
        let from = self.probe_time(plan, flow, at);
        self.flow(flow).restart(from, at, cause);
    }

    /// As [`Self::restart`], for a flow one of whose pods was replaced at some time from `since`
    /// on.
    pub fn replaced(&mut self, plan: &Plan, flow: FlowId, since: i64, at: i64, cause: Cause) {
        let since = self.probe_time(plan, flow, since);
        let from = self.probe_time(plan, flow, at);
        self.flow(flow).replaced(since, from, at, cause);
    }

    /// Retires a flow one of whose pods was gone at some time from `since` on.
    pub fn retire(&mut self, plan: &Plan, flow: FlowId, since: i64, at: i64) {
        let since = self.probe_time(plan, flow, since);
        let from = self.probe_time(plan, flow, at);
        self.flow(flow).retire(since, from);
    }

    /// Whether the collector restarted a flow since the last call, because its probe was stalled.
    pub fn has_restarted(&mut self) -> bool {
        std::mem::take(&mut self.has_restarted)
    }

    /// A moment of the run by the clock of a flow's probe: attempts from then on surely started
    /// after it.
    fn probe_time(&self, plan: &Plan, flow: FlowId, at: i64) -> u64 {
        let clock = self.evidence.probe(plan.flow(flow).probe).clock;
        clock.map_or(0, |clock| u64::try_from(at - clock.least).unwrap_or(0))
    }

    fn flow(&mut self, id: FlowId) -> &mut FlowEvidence {
        &mut self.evidence.flows[id.0 as usize]
    }

    /// Remembers the plan of a probe, to compare it with the digest in its hello.
    pub fn expect(&mut self, probe: ProbeId, plan: &wire::Plan) {
        self.probes[probe.0 as usize].digest = watertight_probe::plan_digest(plan);
    }

    /// Notes that the run stops its probes at a moment of the run, microseconds: from then on the
    /// end of a probe is no failure.
    pub fn stopping(&mut self, at: i64) {
        self.stopped_at = Some(at);
    }

    /// Ends the collection: no more lines will come. A probe whose log could not be read up to the
    /// stop may have seen anything in the rest of its time, so it has failed.
    pub fn close(&mut self) {
        let Some(stopped_at) = self.stopped_at else {
            return;
        };
        for (state, probe) in self.probes.iter().zip(&mut self.evidence.probes) {
            let Some(clock) = probe.clock.filter(|_| !state.done) else {
                continue;
            };
            let unread_us = stopped_at - clock.moment(state.last_t).latest;
            if unread_us <= MAX_SILENCE_US as i64 {
                continue;
            }
            let end = state
                .end
                .as_deref()
                .map(|end| format!(": {end}"))
                .unwrap_or_default();
            let text = format!(
                "nothing was read of the last {} s of what the probe saw{end}",
                unread_us / 1_000_000
            );
            probe
                .failure
                .get_or_insert((state.last_t, ProbeFailure::Ended(text)));
        }
    }

    /// Adds one line.
    pub fn line(&mut self, plan: &Plan, arrival: Arrival) {
        let index = arrival.probe.0 as usize;
        let line = match arrival.line {
            Ok(line) => line,
            Err(fault) => {
                self.ended(index, &fault);
                return;
            }
        };

        if let Err(failure) = self.accept(index, arrival.at, &line) {
            self.fail(index, failure);
        }
        if self.evidence.probes[index].failure.is_some() {
            self.keep_success(plan, index, &line);
            return;
        }

        let t = line.t;
        match self.add(plan, index, line) {
            Ok(()) => self.probes[index].last_t = t,
            Err(failure) => self.fail(index, failure),
        }
    }

    /// The end of a probe: a failure unless the run stopped it or its plan is done.
    fn ended(&mut self, index: usize, fault: &ProbeFault) {
        self.evidence.probes[index].stopped = true;
        if let ProbeFault::Ended(end) = fault {
            self.probes[index].end = Some(end.clone());
        }
        match fault {
            ProbeFault::Ended(_) if self.stopped_at.is_some() || self.probes[index].done => {}
            ProbeFault::Ended(_) | ProbeFault::NotStarted(_) => {
                self.fail(index, ProbeFailure::Ended(fault.to_string()));
            }
            ProbeFault::Unreadable(_) => {
                self.fail(index, ProbeFailure::Protocol(fault.to_string()));
            }
        }
    }

    /// Notes a failure; the first one counts. Everything after the last good line is no evidence.
    fn fail(&mut self, index: usize, failure: ProbeFailure) {
        let at = self.probes[index].last_t;
        self.evidence.probes[index]
            .failure
            .get_or_insert((at, failure));
    }

    /// Checks the rules of the protocol that hold for every line, and narrows the probe's clock.
    fn accept(&mut self, index: usize, arrived: Duration, line: &Line) -> Result<(), ProbeFailure> {
        self.probes[index]
            .check_order(line)
            .map_err(ProbeFailure::Protocol)?;
        self.narrow_clock(index, arrived, line.t)?;
        if let Body::Hello(hello) = &line.body {
            self.hello(index, arrived, hello)?;
        }
        Ok(())
    }

    /// Narrows a clock that is not shared: a line was written before it arrived.
    fn narrow_clock(
        &mut self,
        index: usize,
        arrived: Duration,
        t: u64,
    ) -> Result<(), ProbeFailure> {
        let Some(clock) = &mut self.evidence.probes[index].clock else {
            return Ok(());
        };
        if clock.least == clock.most {
            return Ok(());
        }
        clock.most = clock.most.min(arrived.as_micros() as i64 - t as i64);
        if clock.most < clock.least {
            return Err(ProbeFailure::Clocks(
                "the probe's clock and the runner's drift apart".into(),
            ));
        }
        Ok(())
    }

    /// Checks the plan's digest, and maps the probe's clock to the runner's.
    fn hello(
        &mut self,
        index: usize,
        arrived: Duration,
        hello: &Hello,
    ) -> Result<(), ProbeFailure> {
        if hello.digest != self.probes[index].digest {
            return Err(ProbeFailure::Protocol(
                "the probe has another plan than this run's".into(),
            ));
        }
        let version = env!("CARGO_PKG_VERSION");
        if hello.version != version {
            return Err(ProbeFailure::Protocol(format!(
                "the probe's image holds version {}, and this is version {version}: name the image of the same version (--probe-image)",
                hello.version
            )));
        }
        let clock = if hello.boot == self.clock.boot && !hello.boot.is_empty() {
            Clock::shared(hello.boottime_us as i64 - self.clock.boottime_us as i64)
        } else {
            let by_wall = hello.wall_us as i64 - self.clock.wall_us as i64;
            let most = arrived.as_micros() as i64;
            if by_wall - most > MAX_WALL_ERROR_US {
                return Err(ProbeFailure::Clocks(format!(
                    "the probe's wall clock is {} ms ahead of the runner's",
                    (by_wall - most) / 1_000
                )));
            }
            let least = by_wall - MAX_WALL_ERROR_US;
            Clock {
                least: least.min(most),
                most,
            }
        };
        self.evidence.probes[index].clock = Some(clock);
        Ok(())
    }

    /// Adds the body of a line that keeps to the protocol.
    fn add(&mut self, plan: &Plan, index: usize, line: Line) -> Result<(), ProbeFailure> {
        match line.body {
            Body::Hello(_) => Ok(()),
            Body::Sample(sample) => self.sample(plan, index, &sample),
            Body::Heartbeat(heartbeat) => self.heartbeat(plan, index, line.t, &heartbeat),
            Body::Fault(fault) => self.fault(plan, index, fault),
            Body::Latencies { flows } => {
                for (flow, latencies_us) in flows {
                    let id = flow_of_probe(plan, index, flow)?;
                    self.flow(id).latencies_us =
                        latencies_us.into_iter().take(wire::MAX_LATENCIES).collect();
                }
                Ok(())
            }
            Body::Bye { .. } if self.stopped_at.is_some() => {
                self.evidence.probes[index].stopped = true;
                Ok(())
            }
            // The plan is done where every flow is tried only once.
            Body::Bye {
                reason: wire::ByeReason::Done,
            } => {
                self.probes[index].done = true;
                self.evidence.probes[index].stopped = true;
                Ok(())
            }
            Body::Bye {
                reason: wire::ByeReason::Signal,
            } => Err(ProbeFailure::Ended(
                "the probe was stopped from outside the run: deleted, evicted or preempted".into(),
            )),
            Body::Bye { reason } => Err(ProbeFailure::Ended(format!(
                "the probe ended by itself: {reason}"
            ))),
        }
    }

    fn sample(&mut self, plan: &Plan, index: usize, sample: &Sample) -> Result<(), ProbeFailure> {
        let id = flow_of_probe(plan, index, sample.flow)?;
        let reading = read(plan.flow(id), &sample.observation);
        let evidence = self.flow(id);
        if sample.observation.is_unfinished() && !matches!(reading, Reading::Open(_)) {
            return Ok(evidence.unfinished(sample.attempt)?);
        }

        if let Some(peer) = sample.observation.peer {
            evidence.dialled(peer.ip(), sample.observation.is_answered());
        }
        let answer = sample.observation.answer.as_ref();
        let answer = answer.filter(|answer| answer.nonce);
        evidence.attempt(
            sample.attempt,
            sample.start,
            reading,
            StageTimes::of(&sample.observation.passed),
            answer.map(|answer| answer.who.as_str()),
        )?;
        Ok(())
    }

    fn heartbeat(
        &mut self,
        plan: &Plan,
        index: usize,
        t: u64,
        heartbeat: &Heartbeat,
    ) -> Result<(), ProbeFailure> {
        for (flow, attempts, last) in &heartbeat.flows {
            let id = flow_of_probe(plan, index, *flow)?;
            self.flow(id).heartbeat(*attempts, *last)?;
        }
        if heartbeat.lag_us >= STALL_US {
            self.restart_stalled(plan, index, t, heartbeat.lag_us / 1_000);
        }
        Ok(())
    }

    /// Restarts all flows of a probe that was stalled.
    fn restart_stalled(&mut self, plan: &Plan, index: usize, t: u64, ms: u64) {
        let at = self.evidence.probes[index]
            .clock
            .map_or(0, |clock| clock.moment(t).latest);
        for (flow, evidence) in plan.flows().iter().zip(&mut self.evidence.flows) {
            if flow.probe.0 as usize == index && !flow.to.request.is_kept_open() {
                evidence.restart(t, at, Cause::Stalled(ms));
            }
        }
        self.has_restarted = true;
    }

    fn fault(&mut self, plan: &Plan, index: usize, fault: Fault) -> Result<(), ProbeFailure> {
        let Some(flow) = fault.flow else {
            return Err(ProbeFailure::Reported {
                reason: fault.reason,
                detail: fault.detail,
            });
        };
        let id = flow_of_probe(plan, index, flow)?;
        let evidence = self.flow(id);
        // A flow that cannot be carried out at all reports no number of an attempt.
        let attempt = fault.attempt.unwrap_or(evidence.attempts + 1);
        evidence.fault(attempt, fault.start, fault.reason)?;
        Ok(())
    }

    /// Keeps the success of a probe that has failed: its lines prove nothing, but a success that it
    /// did see is still a success.
    fn keep_success(&mut self, plan: &Plan, index: usize, line: &Line) {
        let Body::Sample(sample) = &line.body else {
            return;
        };
        // Before a hello that was accepted it is not known that its flows are those of the plan.
        if self.evidence.probes[index].clock.is_none() {
            return;
        }
        let Ok(id) = flow_of_probe(plan, index, sample.flow) else {
            return;
        };
        let reading = read(plan.flow(id), &sample.observation);
        if !matches!(reading, Reading::Open(_)) {
            return;
        }

        let evidence = self.flow(id);
        evidence.opened = evidence.opened.max(1);
        evidence.leak.opened(1, Some(sample.start));
        evidence.attempts = evidence.attempts.max(sample.attempt);
        evidence.first_success.get_or_insert_with(|| {
            Box::new(SuccessfulAttempt {
                attempt: sample.attempt,
                start: sample.start,
                who: sample
                    .observation
                    .answer
                    .as_ref()
                    .filter(|answer| answer.nonce)
                    .map(|answer| answer.who.clone()),
            })
        });
    }
}

impl ProbeState {
    /// Checks version, number, kind and time of a line against those before.
    fn check_order(&mut self, line: &Line) -> Result<(), String> {
        if line.v != wire::VERSION {
            return Err(format!(
                "the probe speaks version {} of the protocol, this is version {}",
                line.v,
                wire::VERSION
            ));
        }
        let expected = self.next_seq;
        self.next_seq = line.seq + 1;
        if line.seq != expected {
            return Err(format!(
                "lines {expected} to {} of the probe are missing",
                line.seq.saturating_sub(1)
            ));
        }
        let is_hello = matches!(line.body, Body::Hello(_));
        if is_hello != (line.seq == 0) {
            return Err("the probe said hello at the wrong time".into());
        }
        if line.t < self.last_t || line.t - self.last_t > MAX_SILENCE_US {
            return Err(format!(
                "no line of the probe from {} ms to {} ms of its own time",
                self.last_t / 1_000,
                line.t / 1_000
            ));
        }
        Ok(())
    }
}

/// The flow of a number that a probe's line names.
///
/// # Errors
/// When it is no flow of this probe.
fn flow_of_probe(plan: &Plan, index: usize, flow: u32) -> Result<FlowId, ProbeFailure> {
    let is_of_probe = plan
        .flows()
        .get(flow as usize)
        .is_some_and(|flow| flow.probe.0 as usize == index);
    if is_of_probe {
        Ok(FlowId(flow))
    } else {
        Err(ProbeFailure::Protocol(format!(
            "the probe reports flow {flow}, which belongs to another probe"
        )))
    }
}
