//! The flows of one plan: their due attempts, and the queues of attempts that wait for a socket.

use super::line_emitter::{AttemptResult, FlowLog};
use super::schedule::Schedule;
use crate::probe::Prepared;
use crate::wire::{Flow, Request};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::iter::Peekable;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Maximum number of TCP and UDP sockets in flight.
const MAX_LIGHT: usize = 512;

/// Maximum number of TLS and HTTP exchanges in flight: each has its buffers and cryptography.
const MAX_HEAVY: usize = 64;

/// A flow of the plan and the state of its attempts.
pub(crate) struct SampledFlow {
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) log: FlowLog,
    schedule: Peekable<Schedule>,
    weight: Weight,
    /// Connections that the target accepted.
    accepted: u32,
    max_accepted: u32,
}

impl SampledFlow {
    /// Whether one more attempt could exceed the maximum of accepted connections.
    fn may_exceed_accepted(&self) -> bool {
        self.accepted > 0 && self.accepted.saturating_add(self.log.in_flight()) >= self.max_accepted
    }
}

/// The queue that an attempt waits in.
#[derive(Debug, Clone, Copy)]
enum Weight {
    Light,
    Heavy,
}

impl Weight {
    fn of(request: &Request) -> Self {
        match request {
            Request::Tls(_) | Request::Http(_) => Self::Heavy,
            Request::Connect { .. }
            | Request::Nonce
            | Request::Payload { .. }
            | Request::Dns { .. } => Self::Light,
        }
    }
}

/// An attempt that is due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DueAttempt {
    /// Index of the flow in [`Flows::all`].
    pub(crate) flow: usize,
    /// Number of the attempt.
    pub(crate) attempt: u32,
    /// Due time, microseconds since hello.
    pub(crate) at: u64,
}

/// Attempts that wait for one of a limited number of sockets.
struct Queue {
    waiting: VecDeque<DueAttempt>,
    permits: Arc<Semaphore>,
}

impl Queue {
    fn new(sockets: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            permits: Arc::new(Semaphore::new(sockets)),
        }
    }

    /// Removes the first attempt if it was due before `now` by more than `tolerance`.
    fn pop_late(&mut self, now: u64, tolerance: u64) -> Option<DueAttempt> {
        let first = self.waiting.front()?;
        if is_late(first.at, now, tolerance) {
            self.waiting.pop_front()
        } else {
            None
        }
    }

    /// Removes the first attempt if a socket is free for it.
    fn pop_ready(&mut self) -> Option<(DueAttempt, OwnedSemaphorePermit)> {
        self.waiting.front()?;
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        self.waiting.pop_front().map(|due| (due, permit))
    }
}

/// All flows of a plan.
pub(crate) struct Flows {
    pub(crate) all: Vec<SampledFlow>,
    /// Next start of each flow: time and index.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    light: Queue,
    heavy: Queue,
}

impl Flows {
    /// An empty set of flows.
    pub(crate) fn new() -> Self {
        Self {
            all: Vec::new(),
            due: BinaryHeap::new(),
            light: Queue::new(MAX_LIGHT),
            heavy: Queue::new(MAX_HEAVY),
        }
    }

    /// Adds a flow and schedules its first attempt.
    pub(crate) fn add(&mut self, flow: &Flow, prepared: Prepared) {
        let mut schedule = Schedule::new(&flow.pace).peekable();
        if let Some(&at) = schedule.peek() {
            self.due.push(Reverse((at, self.all.len())));
        }

        self.all.push(SampledFlow {
            prepared: Arc::new(prepared),
            log: FlowLog::new(flow.id),
            schedule,
            weight: Weight::of(&flow.request),
            accepted: 0,
            max_accepted: flow.pace.accepted.unwrap_or(u32::MAX),
        });
    }

    /// Whether every attempt is made and reported.
    pub(crate) fn is_done(&self) -> bool {
        self.due.is_empty() && !self.all.iter().any(|flow| flow.log.has_pending())
    }

    /// Numbers the attempts that are due at `now` and queues them for a socket.
    ///
    /// Of the attempts of a flow that are already late by more than `tolerance`, only the first
    /// gets a number: one fault reports them all.
    pub(crate) fn queue_due(&mut self, now: u64, tolerance: u64) {
        while let Some(&Reverse((at, index))) = self.due.peek()
            && at <= now
        {
            self.due.pop();
            let flow = &mut self.all[index];
            flow.schedule.next();
            if is_late(at, now, tolerance) {
                while flow
                    .schedule
                    .next_if(|&next| is_late(next, now, tolerance))
                    .is_some()
                {}
            }
            if let Some(&next) = flow.schedule.peek() {
                self.due.push(Reverse((next, index)));
            }

            if flow.may_exceed_accepted() {
                continue;
            }
            let due = DueAttempt {
                flow: index,
                attempt: flow.log.begin(),
                at,
            };
            match flow.weight {
                Weight::Light => self.light.waiting.push_back(due),
                Weight::Heavy => self.heavy.waiting.push_back(due),
            }
        }
    }

    /// Removes the next attempt that has waited longer than `tolerance`.
    pub(crate) fn take_late(&mut self, now: u64, tolerance: u64) -> Option<DueAttempt> {
        self.light
            .pop_late(now, tolerance)
            .or_else(|| self.heavy.pop_late(now, tolerance))
    }

    /// Removes the next attempt for which a socket is free, with the permit for that socket.
    pub(crate) fn take_ready(&mut self) -> Option<(DueAttempt, OwnedSemaphorePermit)> {
        self.light.pop_ready().or_else(|| self.heavy.pop_ready())
    }

    /// Records the result of an attempt.
    pub(crate) fn finish(&mut self, due: DueAttempt, result: AttemptResult) {
        let flow = &mut self.all[due.flow];
        if let AttemptResult::Observed { observation, .. }
        | AttemptResult::Unfinished { observation, .. } = &result
            && observation.is_answered()
        {
            flow.accepted += 1;
        }
        flow.log.finish(due.attempt, result);
    }
}

/// Whether a time is before `now` by more than `tolerance`.
fn is_late(at: u64, now: u64, tolerance: u64) -> bool {
    at.saturating_add(tolerance) < now
}
