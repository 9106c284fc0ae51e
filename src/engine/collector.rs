//! Lines → evidence.
//!
//! The protocol's own rules are held here: a hole in `seq`, three seconds without a sign of life in
//! the probe's own time, a second hello, a wrong digest or version make everything after the last
//! good line no evidence.

use super::RunnerClock;
use crate::backend::{Arrival, ProbeFault};
use crate::plan::{FlowId, Plan, ProbeId};
use crate::verdict::{
    Cause, Clock, Evidence, FirstSuccess, MAX_WALL_ERROR_US, ProbeFailure, Reading, StageTimes,
    read,
};
use crate::wire::{self, Body, Fault, Heartbeat, Hello, Line, Sample};
use std::time::Duration;

/// A probe's silence in its own time that makes it faulty.
const MAX_SILENCE_US: u64 = 3_000_000;

/// A stall of the probe's timer after which its flows begin anew: its attempts in that time did not
/// happen.
const STALL_US: u64 = 1_000_000;

/// The evidence of a run, and how far each probe's lines have come.
#[derive(Debug)]
pub struct Collector {
    clock: RunnerClock,
    /// What was folded so far.
    pub evidence: Evidence,
    probes: Vec<ProbeState>,
    /// The HTTP status that an allowed line states, by flow.
    statuses: Vec<Option<u16>>,
    /// When the probes were told to stop, microseconds of the run.
    stopping: Option<i64>,
    began_anew: bool,
}

#[derive(Debug, Clone, Default)]
struct ProbeState {
    digest: String,
    next_seq: u64,
    last_t: u64,
    /// How it ended, once it has.
    end: Option<String>,
    /// Whether it said that all that it was told to do is done.
    done: bool,
}

impl Collector {
    /// Nothing folded yet.
    pub fn new(plan: &Plan, clock: RunnerClock) -> Self {
        let mut this = Self {
            clock,
            evidence: Evidence::default(),
            probes: Vec::new(),
            statuses: Vec::new(),
            stopping: None,
            began_anew: false,
        };
        this.extend(plan);
        this
    }

    /// Makes room for what was added to the plan.
    pub fn extend(&mut self, plan: &Plan) {
        self.evidence.extend(plan);
        self.probes
            .resize_with(plan.probes().len(), ProbeState::default);
        self.statuses.resize(plan.flows().len(), None);
        for check in plan.checks() {
            for flow in &check.flows {
                let status = &mut self.statuses[flow.0 as usize];
                *status = status.or(check.settings.status);
            }
        }
    }

    /// Now, microseconds of the run.
    pub fn now(&self) -> i64 {
        self.clock.elapsed_us()
    }

    /// What a flow's probe sampled before a moment of the run counts for no proof any more.
    pub fn restart(&mut self, plan: &Plan, flow: FlowId, at: i64, cause: Cause) {
        let from = self.own(plan, flow, at);
        self.evidence.flows[flow.0 as usize].restart(from, at, cause);
    }

    /// As [`Self::restart`], for a flow one of whose pods was replaced at some time from `since`
    /// on.
    pub fn replaced(&mut self, plan: &Plan, flow: FlowId, since: i64, at: i64, cause: Cause) {
        let (since, from) = (self.own(plan, flow, since), self.own(plan, flow, at));
        self.evidence.flows[flow.0 as usize].replaced(since, from, at, cause);
    }

    /// Gives up a flow one of whose pods was gone at some time from `since` on.
    pub fn retire(&mut self, plan: &Plan, flow: FlowId, since: i64, at: i64) {
        let (since, from) = (self.own(plan, flow, since), self.own(plan, flow, at));
        self.evidence.flows[flow.0 as usize].retire(since, from);
    }

    /// Whether any flow began anew since this was asked last, without anybody having asked for it.
    pub fn began_anew(&mut self) -> bool {
        std::mem::take(&mut self.began_anew)
    }

    /// A moment of the run by the clock of a flow's probe: from then on its samples surely started
    /// after it.
    fn own(&self, plan: &Plan, flow: FlowId, at: i64) -> u64 {
        let clock = self.evidence.probe(plan.flow(flow).probe).clock;
        clock.map_or(0, |clock| u64::try_from(at - clock.least).unwrap_or(0))
    }

    /// Remembers what a probe was told, to compare it with what it says it was told.
    pub fn expect(&mut self, probe: ProbeId, plan: &wire::Plan) {
        self.probes[probe.0 as usize].digest = watertight_probe::plan_digest(plan);
    }

    /// From a moment of the run on, microseconds, the end of a probe is what was asked of it.
    pub fn stopping(&mut self, at: i64) {
        self.stopping = Some(at);
    }

    /// No more lines will come. A probe of which nothing was read up to the time at which it was
    /// told to stop may have seen anything meanwhile: its log could not be reached.
    pub fn close(&mut self) {
        let Some(stopped) = self.stopping else { return };
        for (index, state) in self.probes.iter().enumerate() {
            let probe = &mut self.evidence.probes[index];
            let Some(clock) = probe.clock.filter(|_| !state.done) else {
                continue;
            };
            let unread = stopped - clock.moment(state.last_t).latest;
            if unread > MAX_SILENCE_US as i64 {
                let how = state
                    .end
                    .as_deref()
                    .map(|how| format!(": {how}"))
                    .unwrap_or_default();
                let text = format!(
                    "nothing was read of the last {} s of what the probe saw{how}",
                    unread / 1_000_000
                );
                probe
                    .failure
                    .get_or_insert((state.last_t, ProbeFailure::Ended(text)));
            }
        }
    }

    /// Folds in one line.
    pub fn line(&mut self, plan: &Plan, arrival: Arrival) {
        let index = arrival.probe.0 as usize;
        match arrival.line {
            Err(fault) => self.ended(index, &fault),
            Ok(line) => {
                if let Err(failure) = self.accept(index, arrival.at, &line) {
                    self.fail(index, failure);
                }
                if self.evidence.probes[index].failure.is_some() {
                    self.keep_opening(plan, index, &line);
                } else {
                    let t = line.t;
                    match self.take(plan, index, line) {
                        Ok(()) => self.probes[index].last_t = t,
                        Err(failure) => self.fail(index, failure),
                    }
                }
            }
        }
    }

    fn ended(&mut self, index: usize, fault: &ProbeFault) {
        self.evidence.probes[index].stopped = true;
        if let ProbeFault::Ended(how) = fault {
            self.probes[index].end = Some(how.clone());
        }
        match fault {
            ProbeFault::Ended(_) if self.stopping.is_some() || self.probes[index].done => {}
            ProbeFault::Ended(_) | ProbeFault::NotStarted(_) => {
                self.fail(index, ProbeFailure::Ended(fault.to_string()));
            }
            ProbeFault::Unreadable(_) => {
                self.fail(index, ProbeFailure::Protocol(fault.to_string()))
            }
        }
    }

    /// The first failure counts: everything after the last good line is no evidence.
    fn fail(&mut self, index: usize, failure: ProbeFailure) {
        let at = self.probes[index].last_t;
        self.evidence.probes[index]
            .failure
            .get_or_insert((at, failure));
    }

    /// The rules of the protocol that hold for every line.
    fn accept(&mut self, index: usize, arrived: Duration, line: &Line) -> Result<(), ProbeFailure> {
        let protocol = |what: String| Err(ProbeFailure::Protocol(what));
        let state = &mut self.probes[index];
        if line.v != wire::VERSION {
            return protocol(format!(
                "the probe speaks version {} of the protocol, this is version {}",
                line.v,
                wire::VERSION
            ));
        }
        let expected = state.next_seq;
        state.next_seq = line.seq + 1;
        if line.seq != expected {
            return protocol(format!(
                "lines {expected} to {} of the probe are missing",
                line.seq.saturating_sub(1)
            ));
        }
        let first = matches!(line.body, Body::Hello(_));
        if first != (line.seq == 0) {
            return protocol("the probe said hello at the wrong time".into());
        }
        if line.t < state.last_t || line.t - state.last_t > MAX_SILENCE_US {
            return protocol(format!(
                "the probe gave no sign of life from {} ms to {} ms of its own time",
                state.last_t / 1_000,
                line.t / 1_000
            ));
        }
        if let Some(clock) = &mut self.evidence.probes[index].clock
            && clock.least != clock.most
        {
            // What arrives now was written before now.
            clock.most = clock.most.min(arrived.as_micros() as i64 - line.t as i64);
            if clock.most < clock.least {
                return Err(ProbeFailure::Clocks(
                    "the probe's clock and the runner's drift apart".into(),
                ));
            }
        }
        if let Body::Hello(hello) = &line.body {
            self.hello(index, arrived, hello)?;
        }
        Ok(())
    }

    fn hello(
        &mut self,
        index: usize,
        arrived: Duration,
        hello: &Hello,
    ) -> Result<(), ProbeFailure> {
        if hello.digest != self.probes[index].digest {
            return Err(ProbeFailure::Protocol(
                "the probe was given another plan than this run's".into(),
            ));
        }
        let clock = if hello.boot == self.clock.boot {
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

    fn take(&mut self, plan: &Plan, index: usize, line: Line) -> Result<(), ProbeFailure> {
        match line.body {
            Body::Hello(_) => Ok(()),
            Body::Sample(sample) => self.sample(plan, index, &sample),
            Body::Heartbeat(heartbeat) => self.heartbeat(plan, index, line.t, &heartbeat),
            Body::Fault(fault) => self.fault(plan, index, fault),
            Body::Took { flows } => {
                for (flow, took) in flows {
                    let id = Self::its(plan, index, flow)?;
                    self.evidence.flows[id.0 as usize].took =
                        took.into_iter().take(wire::MAX_TOOK).collect();
                }
                Ok(())
            }
            Body::Bye { .. } if self.stopping.is_some() => {
                self.evidence.probes[index].stopped = true;
                Ok(())
            }
            // Nothing is left to do where everything was to be tried only once.
            Body::Bye { reason } if reason == "done" => {
                self.probes[index].done = true;
                self.evidence.probes[index].stopped = true;
                Ok(())
            }
            Body::Bye { reason } if reason == "term" => Err(ProbeFailure::Ended(
                "the probe was told to end by somebody else: deleted, evicted or preempted".into(),
            )),
            Body::Bye { reason } => Err(ProbeFailure::Ended(format!(
                "the probe ended by itself: {reason}"
            ))),
        }
    }

    /// A flow of this very probe.
    fn its(plan: &Plan, index: usize, flow: u32) -> Result<FlowId, ProbeFailure> {
        let id = FlowId(flow);
        let known = plan
            .flows()
            .get(flow as usize)
            .is_some_and(|flow| flow.probe.0 as usize == index);
        if known {
            Ok(id)
        } else {
            Err(ProbeFailure::Protocol(format!(
                "the probe speaks of flow {flow}, which is not its own"
            )))
        }
    }

    fn sample(&mut self, plan: &Plan, index: usize, sample: &Sample) -> Result<(), ProbeFailure> {
        let id = Self::its(plan, index, sample.flow)?;
        let flow = plan.flow(id);
        let reading = read(flow, self.statuses[id.0 as usize], &sample.seen);
        if sample.seen.is_unfinished() && !matches!(reading, Reading::Open(_)) {
            let folded = self.evidence.flows[id.0 as usize].unfinished(sample.attempt);
            return folded.map_err(|error| ProbeFailure::Protocol(error.to_string()));
        }
        if let Some(peer) = sample.seen.peer {
            self.evidence.flows[id.0 as usize].dialled(peer.ip(), sample.seen.is_answered());
        }
        let who = sample
            .seen
            .answer
            .as_ref()
            .map(|answer| answer.who.as_str());
        let folded = self.evidence.flows[id.0 as usize].sample(
            sample.attempt,
            sample.start,
            reading,
            StageTimes::of(&sample.seen.passed),
            who,
        );
        folded.map_err(|error| ProbeFailure::Protocol(error.to_string()))
    }

    fn heartbeat(
        &mut self,
        plan: &Plan,
        index: usize,
        t: u64,
        heartbeat: &Heartbeat,
    ) -> Result<(), ProbeFailure> {
        for (flow, attempts, last) in &heartbeat.flows {
            let id = Self::its(plan, index, *flow)?;
            let folded = self.evidence.flows[id.0 as usize].heartbeat(*attempts, *last);
            folded.map_err(|error| ProbeFailure::Protocol(error.to_string()))?;
        }
        if heartbeat.lag_us >= STALL_US {
            self.stalled(plan, index, t, heartbeat.lag_us / 1_000);
        }
        Ok(())
    }

    /// All flows of a probe that stood still begin anew after that.
    fn stalled(&mut self, plan: &Plan, index: usize, t: u64, ms: u64) {
        let at = self.evidence.probes[index]
            .clock
            .map_or(0, |clock| clock.moment(t).latest);
        for (flow, seen) in plan.flows().iter().zip(&mut self.evidence.flows) {
            if flow.probe.0 as usize == index {
                seen.restart(t, at, Cause::Stalled(ms));
            }
        }
        self.began_anew = true;
    }

    fn fault(&mut self, plan: &Plan, index: usize, fault: Fault) -> Result<(), ProbeFailure> {
        let Some(flow) = fault.flow else {
            return Err(ProbeFailure::Reported {
                reason: fault.reason,
                detail: fault.detail,
            });
        };
        let id = Self::its(plan, index, flow)?;
        // A flow that cannot be carried out at all has no attempt to speak of.
        let attempt = fault
            .attempt
            .unwrap_or_else(|| self.evidence.flow(id).attempts + 1);
        let folded = self.evidence.flows[id.0 as usize].fault(attempt, fault.start, fault.reason);
        folded.map_err(|error| ProbeFailure::Protocol(error.to_string()))
    }

    /// Once a probe has failed its lines prove nothing, but an opening that it did see is still an
    /// opening.
    fn keep_opening(&mut self, plan: &Plan, index: usize, line: &Line) {
        let Body::Sample(sample) = &line.body else {
            return;
        };
        // Before a hello that was accepted it is not known that its flows are ours.
        if self.evidence.probes[index].clock.is_none() {
            return;
        }
        let Ok(id) = Self::its(plan, index, sample.flow) else {
            return;
        };
        let reading = read(plan.flow(id), self.statuses[id.0 as usize], &sample.seen);
        if matches!(reading, Reading::Open(_)) {
            let seen = &mut self.evidence.flows[id.0 as usize];
            let who = sample.seen.answer.as_ref().map(|answer| answer.who.clone());
            seen.opened = seen.opened.max(1);
            seen.leak.opened(1, Some(sample.start));
            seen.attempts = seen.attempts.max(sample.attempt);
            seen.first_open.get_or_insert_with(|| {
                Box::new(FirstSuccess {
                    attempt: sample.attempt,
                    start: sample.start,
                    who,
                })
            });
        }
    }
}
