//! The sampler's loop: start what is due, report what has ended, send heartbeats.
//!
//! 1. Measure the lag first, so that each stall is known before the results that arrived during it.
//! 2. An attempt that would start late is a fault. One that overlaps a stall is a fault too, unless
//!    it got through: the stages it passed count, however late the probe noticed them.
//! 3. Report the attempts of each flow in order.
//! 4. Wait only for time, results and the end.

use super::clock::{Clock, LAG_LIMIT_US, LagMeter};
use super::flows::{DueAttempt, Flows};
use super::line_emitter::{AttemptResult, Emitted, heartbeat, latencies};
use super::output::{Output, Sent};
use super::tcp_lane::{Finished, TcpLane};
use crate::probe::{Common, Outcome, Prepared};
use crate::wire::{
    Body, ByeReason, Fault, FaultReason, Linger, Observation, Plan, Stage, Stop, StopCause,
};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// How long attempts in flight may take, once the probe ends, to report the stages they passed.
const END_TIMEOUT: Duration = Duration::from_millis(150);

/// The flows of one plan, their attempts in flight, and the output of their lines.
pub(crate) struct Sampler<'a> {
    clock: Clock,
    output: &'a mut Output,
    flows: Flows,
    common: Arc<Common>,
    tcp: TcpLane,
    lag: LagMeter,
    ttl: u64,
    /// Whether the probe answers on a port: then it does not end after its last attempt.
    listens: bool,
    heartbeat_interval: u64,
    next_heartbeat: u64,
    output_exhausted: bool,
    results: UnboundedReceiver<Completed>,
    result_sender: UnboundedSender<Completed>,
}

/// A completed attempt. Times are microseconds since hello.
struct Completed {
    due: DueAttempt,
    start: u64,
    end: u64,
    result: AttemptResult,
}

impl<'a> Sampler<'a> {
    /// Prepares the plan's flows; a flow that cannot be attempted is reported as a fault at once.
    ///
    /// # Errors
    ///
    /// The kernel refuses a resource that sampling needs.
    pub(crate) fn new(
        plan: &Plan,
        common: Common,
        clock: Clock,
        output: &'a mut Output,
    ) -> io::Result<Self> {
        let (result_sender, results) = unbounded_channel();
        let heartbeat_interval = u64::from(plan.heartbeat_ms) * 1_000;
        let now = clock.now();
        let mut sampler = Self {
            clock,
            output,
            flows: Flows::new(),
            common: Arc::new(common),
            tcp: TcpLane::new()?,
            lag: LagMeter::new(now),
            ttl: plan.ttl_ms.saturating_mul(1_000),
            listens: plan.listen.is_some(),
            heartbeat_interval,
            next_heartbeat: heartbeat_interval,
            output_exhausted: false,
            results,
            result_sender,
        };

        for flow in &plan.flows {
            match Prepared::new(flow, &sampler.common) {
                Ok(prepared) => sampler.flows.add(flow, prepared),
                Err(error) => sampler.send(Body::Fault(Fault {
                    flow: Some(flow.id),
                    attempt: None,
                    start: now,
                    reason: FaultReason::Plan,
                    detail: crate::text::printable(&error, 200),
                })),
            }
        }
        Ok(sampler)
    }

    /// Samples until `ended`, the time to live, the last attempt, or the output's limit; returns
    /// which.
    pub(crate) async fn run(mut self, ended: impl Future<Output = ByeReason>) -> ByeReason {
        tokio::pin!(ended);
        // Preparing thousands of flows takes time before the first attempt; that is no lag.
        self.lag = LagMeter::new(self.clock.now());

        loop {
            let now = self.clock.now();
            self.lag.observe(now);
            self.advance_tcp();
            self.start_due(now);
            if now >= self.next_heartbeat {
                self.send_heartbeat();
                // Heartbeats that were missed are not made up for.
                self.next_heartbeat = self.next_heartbeat.max(now - now % self.heartbeat_interval)
                    + self.heartbeat_interval;
            }
            if let Some(reason) = self.end_reason(now) {
                self.end(reason).await;
                return reason;
            }

            let wake = sleep_until(self.wake_time(now));
            tokio::select! {
                reason = &mut ended => {
                    self.lag.observe(self.clock.now());
                    self.end(reason).await;
                    return reason;
                }
                Some(completed) = self.results.recv() => self.complete_all(completed),
                () = self.tcp.ready() => {}
                () = wake => {}
            }
        }
    }

    /// Why the probe must end by itself now, if it must.
    fn end_reason(&self, now: u64) -> Option<ByeReason> {
        if self.output_exhausted {
            Some(ByeReason::OutputLimit)
        } else if self.output.is_broken() {
            Some(ByeReason::StdoutClosed)
        } else if now >= self.ttl {
            Some(ByeReason::TimeToLive)
        } else if self.flows.is_done() && !self.listens {
            Some(ByeReason::Done)
        } else {
            None
        }
    }

    /// Time at which the loop continues if nothing happens.
    ///
    /// The lag is measured every 25 ms, and attempts that are due by then start then: a probe of a
    /// thousand flows that woke for each start and each deadline would spend more time on waking
    /// than on sampling.
    fn wake_time(&self, now: u64) -> Instant {
        let at = self.lag.next_tick().min(self.next_heartbeat).min(self.ttl);
        Instant::now() + Duration::from_micros(at.saturating_sub(now))
    }

    /// Advances the TCP attempts in flight.
    fn advance_tcp(&mut self) {
        for finished in self.tcp.advance(&self.common) {
            self.complete_tcp(finished);
        }
    }

    fn complete_tcp(&mut self, finished: Finished) {
        let end = self.clock.now();
        self.lag.observe(end);
        self.complete(Completed {
            due: finished.due,
            start: finished.start,
            end,
            result: result_of(finished.start, finished.outcome),
        });
    }

    /// Starts the attempts that are due and have a socket; one that would start too late is a
    /// fault.
    fn start_due(&mut self, now: u64) {
        self.flows.queue_due(now, LAG_LIMIT_US);

        while let Some(due) = self.flows.take_late(now, LAG_LIMIT_US) {
            let fault = AttemptResult::Fault {
                start: now,
                reason: FaultReason::Starved,
                detail: format!("due {} ms ago", (now - due.at) / 1_000),
            };
            self.flows.finish(due, fault);
            self.emit(due.flow);
        }

        while let Some((due, permit)) = self.flows.take_ready() {
            let prepared = Arc::clone(&self.flows.all[due.flow].prepared);
            if prepared.as_tcp().is_some() {
                let started = self.tcp.start(prepared, due, self.clock.now(), permit);
                if let Some(finished) = started {
                    self.complete_tcp(finished);
                }
            } else {
                self.spawn_attempt(prepared, due, now, permit);
            }
        }
    }

    /// Makes an attempt in a task.
    fn spawn_attempt(
        &self,
        prepared: Arc<Prepared>,
        due: DueAttempt,
        now: u64,
        permit: OwnedSemaphorePermit,
    ) {
        let mut reporter = AttemptReporter {
            clock: self.clock,
            due,
            start: now,
            sender: self.result_sender.clone(),
            sent: false,
        };
        let common = Arc::clone(&self.common);
        // The handle is not kept: the reporter sends a result even if the task panics.
        drop(tokio::spawn(async move {
            attempt(&prepared, &common, &mut reporter, permit).await;
        }));
    }

    /// Completes an attempt and all others whose results are waiting.
    fn complete_all(&mut self, first: Completed) {
        self.lag.observe(self.clock.now());
        let mut next = Some(first);
        while let Some(completed) = next {
            self.complete(completed);
            next = self.results.try_recv().ok();
        }
    }

    /// Records a result, corrected for stalls, and reports what can be reported.
    fn complete(&mut self, completed: Completed) {
        let Completed {
            due,
            start,
            end,
            result,
        } = completed;
        let lateness = start.saturating_sub(due.at);
        let starved = if lateness > LAG_LIMIT_US {
            Some(format!("started {} ms late", lateness / 1_000))
        } else if self.lag.stalled(start, end) {
            Some("the probe stalled during the attempt".to_owned())
        } else {
            None
        };

        let result = match (starved, result) {
            (Some(detail), AttemptResult::Observed { start, observation }) => {
                result_despite_stall(start, observation, detail)
            }
            (_, result) => result,
        };
        self.flows.finish(due, result);
        self.emit(due.flow);
    }

    /// Reports the attempts of a flow whose turn has come.
    fn emit(&mut self, flow: usize) {
        loop {
            if self.flows.all[flow].log.needs_heartbeat() {
                self.send_heartbeat();
            }
            match self.flows.all[flow].log.emit() {
                Some(Emitted::Line(body)) => self.send(body),
                Some(Emitted::InHeartbeat) => {}
                None => return,
            }
        }
    }

    fn send_heartbeat(&mut self) {
        let lag = self.lag.take_worst();
        let parts = heartbeat(self.flows.all.iter_mut().map(|flow| &mut flow.log), lag);
        for part in parts {
            self.send(part);
        }
    }

    /// Ends the attempts in flight and sends the last lines.
    async fn end(&mut self, reason: ByeReason) {
        self.end_attempts().await;
        if reason != ByeReason::OutputLimit {
            self.send_last_lines();
        }
    }

    /// Ends the attempts in flight: each reports the stages it passed, however long it would have
    /// waited for the next.
    async fn end_attempts(&mut self) {
        self.common.end_attempts();
        for finished in self.tcp.end(&self.common) {
            self.complete_tcp(finished);
        }

        let deadline = Instant::now() + END_TIMEOUT;
        while self.flows.all.iter().any(|flow| flow.log.in_flight() > 0) {
            match timeout_at(deadline, self.results.recv()).await {
                Ok(Some(completed)) => self.complete(completed),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Sends the results that have arrived, successes behind attempts in flight, the latencies and
    /// a heartbeat.
    fn send_last_lines(&mut self) {
        self.advance_tcp();
        while let Ok(completed) = self.results.try_recv() {
            self.complete(completed);
        }
        for flow in 0..self.flows.all.len() {
            self.flows.all[flow].log.abandon_pending();
            self.emit(flow);
        }
        for part in latencies(self.flows.all.iter().map(|flow| &flow.log)) {
            self.send(part);
        }
        self.send_heartbeat();
    }

    fn send(&mut self, body: Body) {
        match self.output.send(body) {
            Sent::Queued => {}
            // The reader does not know which lines it missed, so each flow sends a sample again.
            Sent::Dropped => {
                for flow in &mut self.flows.all {
                    flow.log.require_sample();
                }
            }
            Sent::Exhausted => self.output_exhausted = true,
        }
    }
}

/// Sends the result of one attempt, at the latest when it is dropped: even an attempt whose code
/// panicked is reported.
struct AttemptReporter {
    clock: Clock,
    due: DueAttempt,
    start: u64,
    sender: UnboundedSender<Completed>,
    sent: bool,
}

impl AttemptReporter {
    fn send(&mut self, result: AttemptResult) {
        self.sent = true;
        let completed = Completed {
            due: self.due,
            start: self.start,
            end: self.clock.now(),
            result,
        };
        // The receiver is gone once the probe has ended.
        drop(self.sender.send(completed));
    }

    fn send_defect(&mut self, detail: &str) {
        self.send(AttemptResult::Fault {
            start: self.start,
            reason: FaultReason::Defect,
            detail: detail.to_owned(),
        });
    }
}

impl Drop for AttemptReporter {
    fn drop(&mut self) {
        if !self.sent {
            self.send_defect("the attempt was not finished");
        }
    }
}

/// Makes one attempt, reports it and closes its connection; `permit` is held until then.
async fn attempt(
    prepared: &Prepared,
    common: &Common,
    reporter: &mut AttemptReporter,
    permit: OwnedSemaphorePermit,
) {
    let start = reporter.clock.now();
    reporter.start = start;
    let attempt = prepared.attempt(common, reporter.due.attempt);
    let Ok((outcome, connection)) = timeout(prepared.time_limit(), attempt).await else {
        reporter.send_defect("the attempt took longer than its deadlines together");
        return;
    };

    reporter.send(result_of(start, outcome));
    if let Some(connection) = connection {
        connection.close().await;
    }
    drop(permit);
}

/// Result of an attempt that overlaps a stall: the stages it passed, without their times, and what
/// was answered. Silence at the next stage, or after a handshake, may be the probe's own.
fn result_despite_stall(start: u64, mut observation: Observation, detail: String) -> AttemptResult {
    if observation.stop.is_some() && !observation.is_answered() {
        return AttemptResult::Fault {
            start,
            reason: FaultReason::Starved,
            detail,
        };
    }

    for (_, us) in &mut observation.passed {
        *us = 0;
    }
    match &mut observation.stop {
        // What a name server answered does not depend on when it is read.
        Some(Stop {
            how: StopCause::Rcode { .. },
            ..
        })
        | None => {}
        Some(stop) => stop.how = StopCause::Unfinished,
    }
    if observation
        .linger
        .take_if(|linger| *linger == Linger::Quiet)
        .is_some()
    {
        observation.stop = Some(Stop {
            stage: Stage::FirstBytes,
            how: StopCause::Unfinished,
        });
    }
    AttemptResult::Observed { start, observation }
}

fn result_of(start: u64, outcome: Outcome) -> AttemptResult {
    match outcome {
        Ok(observation) if observation.is_unfinished() => {
            AttemptResult::Unfinished { start, observation }
        }
        Ok(observation) => AttemptResult::Observed { start, observation },
        Err((reason, detail)) => AttemptResult::Fault {
            start,
            reason,
            detail,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn during_a_stall(passed: &[Stage], stopped_at: Option<Stage>) -> AttemptResult {
        let stop = stopped_at.map(|stage| Stop {
            stage,
            how: StopCause::Silence,
        });
        let passed = passed.iter().map(|stage| (*stage, 250_000)).collect();
        let observation = Observation {
            passed,
            stop,
            ..Observation::default()
        };
        result_despite_stall(7, observation, String::new())
    }

    #[test]
    fn success_during_a_stall_counts_without_its_times() {
        let AttemptResult::Observed {
            start: 7,
            observation,
        } = during_a_stall(&[Stage::Connect], None)
        else {
            panic!("a success was lost")
        };
        assert_eq!(
            (observation.passed, observation.stop),
            (vec![(Stage::Connect, 0)], None)
        );
    }

    #[test]
    fn handshake_during_a_stall_counts_and_its_request_is_unfinished() {
        let AttemptResult::Observed { observation, .. } =
            during_a_stall(&[Stage::Connect], Some(Stage::Request))
        else {
            panic!("a handshake was lost")
        };
        assert!(observation.is_unfinished() && observation.passed == [(Stage::Connect, 0)]);
    }

    #[test]
    fn response_code_during_a_stall_is_kept() {
        let stop = Some(Stop {
            stage: Stage::Request,
            how: StopCause::Rcode { code: 5 },
        });
        let answered = Observation {
            passed: vec![(Stage::FirstBytes, 250_000)],
            stop: stop.clone(),
            ..Observation::default()
        };
        let AttemptResult::Observed { observation, .. } =
            result_despite_stall(7, answered, String::new())
        else {
            panic!("an answer was lost")
        };
        assert_eq!(observation.stop, stop);
    }

    #[test]
    fn silence_after_a_handshake_during_a_stall_is_unfinished() {
        let during_a_stall = |linger| {
            let established = Observation {
                passed: vec![(Stage::Connect, 250_000)],
                linger: Some(linger),
                ..Observation::default()
            };
            match result_despite_stall(7, established, String::new()) {
                AttemptResult::Observed { observation, .. } => observation,
                AttemptResult::Unfinished { .. } | AttemptResult::Fault { .. } => {
                    panic!("a handshake was lost")
                }
            }
        };

        let quiet = during_a_stall(Linger::Quiet);
        assert!(quiet.is_unfinished() && quiet.linger.is_none());
        let reset = during_a_stall(Linger::Rst);
        assert_eq!((reset.stop, reset.linger), (None, Some(Linger::Rst)));
    }

    #[test]
    fn attempt_without_an_answer_during_a_stall_is_a_fault() {
        for passed in [&[][..], &[Stage::Resolve]] {
            assert!(matches!(
                during_a_stall(passed, Some(Stage::Connect)),
                AttemptResult::Fault { .. }
            ));
        }
    }
}
