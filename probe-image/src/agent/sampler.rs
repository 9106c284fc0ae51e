//! The sampler's loop: start what is due, report what has ended, beat.
//!
//! 1. Measure the lag first, so that nothing of a stall is handled before the stall is known.
//! 2. An attempt that would start late is a fault; one that overlaps a stall is a fault, unless it
//!    got through: what it passed it has passed, however late that was looked at.
//! 3. Report each flow in the order of attempts.
//! 4. Never wait for anything but time, results and the end.

use super::clock::{Clock, LAG_LIMIT_US, LagMeter};
use super::flows::{Due, Flows};
use super::line_emitter::{Ended, Released, heartbeat, took};
use super::output::{Output, Sent};
use super::tcp_lane::{Over, PlainLane};
use crate::probe::{Common, Prepared, Seen};
use crate::wire::{Body, Fault, FaultReason, How, Observation, Plan};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// How long attempts under way may take to say how far they have come.
const LAST_RESULTS: Duration = Duration::from_millis(150);

/// The flows of one plan, and where their lines go.
pub(crate) struct Sampler<'a> {
    clock: Clock,
    output: &'a mut Output,
    flows: Flows,
    common: Arc<Common>,
    plain: PlainLane,
    lag: LagMeter,
    ttl: u64,
    /// Whether there is something to do beside flows: then only time ends the probe.
    listens: bool,
    heartbeat_every: u64,
    next_heartbeat: u64,
    exhausted: bool,
    results: UnboundedReceiver<Finished>,
    report: UnboundedSender<Finished>,
}

/// An attempt that has ended.
struct Finished {
    due: Due,
    start: u64,
    end: u64,
    ended: Ended,
}

impl<'a> Sampler<'a> {
    /// Prepares the plan's flows; those that cannot be carried out are faults at once.
    ///
    /// # Errors
    ///
    /// The kernel refuses what sampling needs.
    pub(crate) fn new(
        plan: &Plan,
        common: Common,
        clock: Clock,
        output: &'a mut Output,
    ) -> io::Result<Self> {
        let (report, results) = unbounded_channel();
        let heartbeat_every = u64::from(plan.heartbeat_ms) * 1_000;
        let now = clock.now();
        let mut sampler = Self {
            clock,
            output,
            flows: Flows::new(),
            common: Arc::new(common),
            plain: PlainLane::new()?,
            lag: LagMeter::new(now),
            ttl: plan.ttl_ms.saturating_mul(1_000),
            listens: plan.listen.is_some(),
            heartbeat_every,
            next_heartbeat: heartbeat_every,
            exhausted: false,
            results,
            report,
        };
        for flow in &plan.flows {
            match Prepared::new(flow, &sampler.common) {
                Ok(prepared) => sampler.flows.add(flow, prepared),
                Err(why) => {
                    let detail = crate::text::printable(&why, 200);
                    let fault = Fault {
                        flow: Some(flow.id),
                        attempt: None,
                        start: now,
                        reason: FaultReason::Plan,
                        detail,
                    };
                    sampler.send(Body::Fault(fault));
                }
            }
        }
        Ok(sampler)
    }

    /// Samples until `ended`, the time to live, the last attempt, or the output's limit; says
    /// which.
    pub(crate) async fn run(mut self, ended: impl Future<Output = &'static str>) -> &'static str {
        tokio::pin!(ended);
        // Preparing thousands of flows takes time of its own, before any attempt.
        self.lag = LagMeter::new(self.clock.now());
        loop {
            let now = self.clock.now();
            self.lag.observe(now);
            self.look();
            self.start(now);
            if now >= self.next_heartbeat {
                self.heartbeat();
                // Beats that were missed are not made up for.
                self.next_heartbeat = self.next_heartbeat.max(now - now % self.heartbeat_every)
                    + self.heartbeat_every;
            }
            if let Some(reason) = self.over(now) {
                self.hurry().await;
                self.last_heartbeat(reason);
                return reason;
            }
            let wake = sleep_until(self.wake(now));
            tokio::select! {
                reason = &mut ended => {
                    self.lag.observe(self.clock.now());
                    self.hurry().await;
                    self.last_heartbeat(reason);
                    return reason;
                }
                Some(finished) = self.results.recv() => self.finish_all(finished),
                () = self.plain.ready() => {}
                () = wake => {}
            }
        }
    }

    fn over(&self, now: u64) -> Option<&'static str> {
        if self.exhausted {
            Some("output")
        } else if self.output.is_broken() {
            Some("stdout")
        } else if now >= self.ttl {
            Some("ttl")
        } else {
            (self.flows.is_done() && !self.listens).then_some("done")
        }
    }

    /// When to go on if nothing happens. The lag is measured every 25 ms, and what is due by then
    /// is done then: a probe of a thousand flows that woke for each start and each deadline would
    /// spend more on waking than on sampling.
    fn wake(&self, now: u64) -> Instant {
        let at = self.lag.next_tick().min(self.next_heartbeat).min(self.ttl);
        Instant::now() + Duration::from_micros(at.saturating_sub(now))
    }

    /// Goes on with the plain attempts under way.
    fn look(&mut self) {
        let mut ended = Vec::new();
        self.plain.advance(&self.common, |over| ended.push(over));
        for over in ended {
            self.plain_over(over);
        }
    }

    fn plain_over(&mut self, Over { due, start, seen }: Over) {
        let end = self.clock.now();
        self.lag.observe(end);
        self.finish(Finished {
            due,
            start,
            end,
            ended: ended(start, seen),
        });
    }

    /// Starts what is due and has a socket; what would start too late is a fault.
    fn start(&mut self, now: u64) {
        self.flows.take_due(now, LAG_LIMIT_US);
        while let Some(due) = self.flows.take_late(now, LAG_LIMIT_US) {
            let detail = format!("due {} ms ago", (now - due.at) / 1_000);
            self.flows.end(
                due,
                Ended::Fault {
                    start: now,
                    reason: FaultReason::Starved,
                    detail,
                },
            );
            self.release(due.flow);
        }
        while let Some((due, slot)) = self.flows.take_ready() {
            let prepared = Arc::clone(&self.flows.all[due.flow].prepared);
            if prepared.plain().is_some() {
                if let Some(over) = self.plain.start(prepared, due, self.clock.now(), slot) {
                    self.plain_over(over);
                }
                continue;
            }
            let mut report = Report {
                clock: self.clock,
                due,
                start: now,
                to: self.report.clone(),
                done: false,
            };
            let common = Arc::clone(&self.common);
            // The handle is not kept: the report comes even if the task panics.
            drop(tokio::spawn(async move {
                attempt(&prepared, &common, &mut report, slot).await;
            }));
        }
    }

    fn finish_all(&mut self, first: Finished) {
        self.lag.observe(self.clock.now());
        let mut next = Some(first);
        while let Some(finished) = next {
            self.finish(finished);
            next = self.results.try_recv().ok();
        }
    }

    fn finish(
        &mut self,
        Finished {
            due,
            start,
            end,
            ended,
        }: Finished,
    ) {
        let late = start.saturating_sub(due.at);
        let starved = if late > LAG_LIMIT_US {
            Some(format!("started {} ms late", late / 1_000))
        } else {
            self.lag
                .stalled(start, end)
                .then(|| "the probe stood still during the attempt".to_owned())
        };
        let ended = match (starved, ended) {
            (Some(detail), Ended::Seen { start, seen }) => despite_stall(start, seen, detail),
            (_, ended) => ended,
        };
        self.flows.end(due, ended);
        self.release(due.flow);
    }

    fn release(&mut self, flow: usize) {
        loop {
            if self.flows.all[flow].log.owes_heartbeat() {
                self.heartbeat();
            }
            match self.flows.all[flow].log.release() {
                Some(Released::Line(body)) => self.send(body),
                Some(Released::InHeartbeat) => {}
                None => return,
            }
        }
    }

    fn heartbeat(&mut self) {
        let lag = self.lag.take_worst();
        let parts = heartbeat(self.flows.all.iter_mut().map(|flow| &mut flow.log), lag);
        for part in parts {
            self.send(part);
        }
    }

    /// Attempts under way say how far they have come: one that has passed a stage has passed it,
    /// however long it would have waited for the next.
    async fn hurry(&mut self) {
        self.common.end();
        let mut ended = Vec::new();
        self.plain.end(&self.common, |over| ended.push(over));
        for over in ended {
            self.plain_over(over);
        }
        let until = Instant::now() + LAST_RESULTS;
        while self.flows.all.iter().any(|flow| flow.log.waits()) {
            match timeout_at(until, self.results.recv()).await {
                Ok(Some(finished)) => self.finish(finished),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// What is known when the probe ends: results that have arrived, openings behind attempts under
    /// way, and a beat.
    fn last_heartbeat(&mut self, reason: &str) {
        if reason == "output" {
            return;
        }
        self.look();
        while let Ok(finished) = self.results.try_recv() {
            self.finish(finished);
        }
        for flow in 0..self.flows.all.len() {
            self.flows.all[flow].log.give_up();
            self.release(flow);
        }
        for part in took(self.flows.all.iter().map(|flow| &flow.log)) {
            self.send(part);
        }
        self.heartbeat();
    }

    fn send(&mut self, body: Body) {
        match self.output.send(body) {
            Sent::Queued => {}
            // The reader does not know what it missed, so each flow says its outcome anew.
            Sent::Dropped => self.flows.all.iter_mut().for_each(|flow| flow.log.forget()),
            Sent::Exhausted => self.exhausted = true,
        }
    }
}

/// Sees to it that every attempt is reported, even one whose code panicked.
struct Report {
    clock: Clock,
    due: Due,
    start: u64,
    to: UnboundedSender<Finished>,
    done: bool,
}

impl Report {
    fn send(&mut self, ended: Ended) {
        self.done = true;
        let finished = Finished {
            due: self.due,
            start: self.start,
            end: self.clock.now(),
            ended,
        };
        // Nobody listens once the probe is ending.
        drop(self.to.send(finished));
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.done {
            let detail = "the attempt was not finished".into();
            self.send(Ended::Fault {
                start: self.start,
                reason: FaultReason::Defect,
                detail,
            });
        }
    }
}

async fn attempt(
    prepared: &Prepared,
    common: &Common,
    report: &mut Report,
    slot: OwnedSemaphorePermit,
) {
    let start = report.clock.now();
    report.start = start;
    let Ok((seen, open)) = timeout(
        prepared.longest(),
        prepared.attempt(common, report.due.attempt),
    )
    .await
    else {
        let detail = "the attempt took longer than its deadlines together".into();
        report.send(Ended::Fault {
            start,
            reason: FaultReason::Defect,
            detail,
        });
        return;
    };
    report.send(ended(start, seen));
    if let Some(open) = open {
        open.close().await;
    }
    drop(slot);
}

/// What an attempt during a stall still shows: the stages that it passed, without their times.
/// Silence at the next one was our own.
fn despite_stall(start: u64, mut seen: Observation, detail: String) -> Ended {
    if seen.stop.is_some() && !seen.is_answered() {
        return Ended::Fault {
            start,
            reason: FaultReason::Starved,
            detail,
        };
    }
    seen.passed.iter_mut().for_each(|(_, us)| *us = 0);
    if let Some(stop) = &mut seen.stop {
        stop.how = How::Unfinished;
    }
    Ended::Seen { start, seen }
}

fn ended(start: u64, seen: Seen) -> Ended {
    match seen {
        Ok(seen) if seen.is_unfinished() => Ended::Unfinished { start, seen },
        Ok(seen) => Ended::Seen { start, seen },
        Err((reason, detail)) => Ended::Fault {
            start,
            reason,
            detail,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Stage, Stop};

    fn during_a_stall(passed: &[Stage], stopped_at: Option<Stage>) -> Ended {
        let stop = stopped_at.map(|stage| Stop {
            stage,
            how: How::Silence,
        });
        let passed = passed.iter().map(|stage| (*stage, 250_000)).collect();
        despite_stall(
            7,
            Observation {
                passed,
                stop,
                ..Observation::default()
            },
            String::new(),
        )
    }

    #[test]
    fn what_got_through_during_a_stall_got_through_and_what_did_not_is_a_fault() {
        let Ended::Seen { start: 7, seen } = during_a_stall(&[Stage::Connect], None) else {
            panic!("an opening was lost")
        };
        assert_eq!((seen.passed, seen.stop), (vec![(Stage::Connect, 0)], None));
        let Ended::Seen { seen, .. } = during_a_stall(&[Stage::Connect], Some(Stage::Request))
        else {
            panic!("a handshake was lost")
        };
        assert!(seen.is_unfinished() && seen.passed == [(Stage::Connect, 0)]);
        for passed in [&[][..], &[Stage::Resolve]] {
            assert!(matches!(
                during_a_stall(passed, Some(Stage::Connect)),
                Ended::Fault { .. }
            ));
        }
    }
}
