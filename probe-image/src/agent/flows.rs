//! The attempts of one plan: who is due, who waits for a free socket, who has been told of.

use super::line_emitter::{Ended, FlowLog};
use super::schedule::Schedule;
use crate::probe::Prepared;
use crate::wire::Flow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::iter::Peekable;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// TCP and UDP sockets in flight.
const MAX_LIGHT: usize = 512;

/// TLS and HTTP exchanges in flight: each has buffers and cryptography of its own.
const MAX_HEAVY: usize = 64;

/// A flow being sampled.
pub(crate) struct Sampled {
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) log: FlowLog,
    schedule: Peekable<Schedule>,
    lane: Lane,
    /// Connections that were accepted.
    accepted: u32,
    /// How many may be.
    may_be_accepted: u32,
}

impl Sampled {
    /// Whether one attempt more might be one connection too many.
    fn is_sated(&self) -> bool {
        self.accepted > 0
            && self.accepted.saturating_add(self.log.under_way()) >= self.may_be_accepted
    }
}

/// What an attempt counts against.
#[derive(Debug, Clone, Copy)]
enum Lane {
    Light,
    Heavy,
}

/// An attempt whose time has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    /// The flow's place.
    pub(crate) flow: usize,
    /// Its number.
    pub(crate) attempt: u32,
    /// When it was due, microseconds since hello.
    pub(crate) at: u64,
}

/// Attempts that wait for one of a limited number of sockets.
struct Queue {
    waiting: VecDeque<Due>,
    slots: Arc<Semaphore>,
}

impl Queue {
    fn new(slots: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            slots: Arc::new(Semaphore::new(slots)),
        }
    }
}

/// All flows of a plan.
pub(crate) struct Flows {
    pub(crate) all: Vec<Sampled>,
    due: BinaryHeap<Reverse<(u64, usize)>>,
    light: Queue,
    heavy: Queue,
}

impl Flows {
    /// No flow yet.
    pub(crate) fn new() -> Self {
        Self {
            all: Vec::new(),
            due: BinaryHeap::new(),
            light: Queue::new(MAX_LIGHT),
            heavy: Queue::new(MAX_HEAVY),
        }
    }

    /// Adds a flow.
    pub(crate) fn add(&mut self, flow: &Flow, prepared: Prepared) {
        let lane = if flow.request.is_heavy() {
            Lane::Heavy
        } else {
            Lane::Light
        };
        let mut schedule = Schedule::new(&flow.pace).peekable();
        if let Some(&at) = schedule.peek() {
            self.due.push(Reverse((at, self.all.len())));
        }
        let (prepared, log) = (Arc::new(prepared), FlowLog::new(flow.id));
        let may_be_accepted = flow.pace.accepted.unwrap_or(u32::MAX);
        self.all.push(Sampled {
            prepared,
            log,
            schedule,
            lane,
            accepted: 0,
            may_be_accepted,
        });
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_done(&self) -> bool {
        self.due.is_empty() && !self.all.iter().any(|flow| flow.log.is_busy())
    }

    /// Numbers the attempts that are due and lets them wait for a socket. Of those that are late
    /// already by more than `late`, only the first of a flow gets a number: the others were not
    /// begun, and one fault tells of them all.
    pub(crate) fn take_due(&mut self, now: u64, late: u64) {
        while let Some(&Reverse((at, flow))) = self.due.peek()
            && at <= now
        {
            self.due.pop();
            let sampled = &mut self.all[flow];
            sampled.schedule.next();
            let is_late = |at: &u64| at.saturating_add(late) < now;
            if is_late(&at) {
                while sampled.schedule.next_if(is_late).is_some() {}
            }
            if let Some(&next) = sampled.schedule.peek() {
                self.due.push(Reverse((next, flow)));
            }
            if sampled.is_sated() {
                continue;
            }
            let due = Due {
                flow,
                attempt: sampled.log.begin(),
                at,
            };
            match sampled.lane {
                Lane::Light => self.light.waiting.push_back(due),
                Lane::Heavy => self.heavy.waiting.push_back(due),
            }
        }
    }

    /// The next attempt that has waited longer than `late`.
    pub(crate) fn take_late(&mut self, now: u64, late: u64) -> Option<Due> {
        [&mut self.light, &mut self.heavy]
            .into_iter()
            .find(|queue| {
                let first = queue.waiting.front();
                first.is_some_and(|due| due.at.saturating_add(late) < now)
            })
            .and_then(|queue| queue.waiting.pop_front())
    }

    /// The next attempt for which a socket is free, with the right to it.
    pub(crate) fn take_ready(&mut self) -> Option<(Due, OwnedSemaphorePermit)> {
        [&mut self.light, &mut self.heavy]
            .into_iter()
            .find_map(|queue| {
                queue.waiting.front()?;
                let slot = Arc::clone(&queue.slots).try_acquire_owned().ok()?;
                queue.waiting.pop_front().map(|due| (due, slot))
            })
    }

    /// An attempt ended.
    pub(crate) fn end(&mut self, due: Due, ended: Ended) {
        let sampled = &mut self.all[due.flow];
        if let Ended::Seen { seen, .. } | Ended::Unfinished { seen, .. } = &ended
            && seen.is_answered()
        {
            sampled.accepted += 1;
        }
        sampled.log.end(due.attempt, ended);
    }
}
