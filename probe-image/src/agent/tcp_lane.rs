//! TCP attempts in flight without TLS or HTTP: their sockets in one epoll instance, their deadlines
//! in one heap.
//!
//! The sampler advances them whenever it wakes. Each holds its permit for a socket until its
//! connection is closed.

use super::flows::DueAttempt;
use crate::probe::{Common, Outcome, Prepared, TcpAttempt, registration_failed};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// Number of events that one `epoll_wait(2)` returns.
const EVENTS: usize = 64;

/// An attempt in flight.
struct InFlight {
    attempt: TcpAttempt,
    flow: Arc<Prepared>,
    due: DueAttempt,
    start: u64,
    /// Tells the attempt from earlier ones in the same slot.
    serial: u32,
    _permit: OwnedSemaphorePermit,
}

impl InFlight {
    /// Advances the attempt; returns its outcome when it ends.
    fn advance(&mut self, common: &Common) -> Option<Finished> {
        let nonce = || self.flow.nonce(common, self.due.attempt);
        let outcome = self.attempt.advance(&self.flow.as_tcp()?, nonce)?;
        Some(Finished {
            due: self.due,
            start: self.start,
            outcome,
        })
    }

    /// Ends the attempt where it is; returns its outcome unless it was returned before.
    fn end(mut self, common: &Common) -> Option<Finished> {
        let nonce = || self.flow.nonce(common, self.due.attempt);
        let outcome = self.attempt.end(&self.flow.as_tcp()?, nonce)?;
        Some(Finished {
            due: self.due,
            start: self.start,
            outcome,
        })
    }
}

/// A finished attempt.
pub(crate) struct Finished {
    pub(crate) due: DueAttempt,
    /// Start of the attempt, microseconds since hello.
    pub(crate) start: u64,
    pub(crate) outcome: Outcome,
}

/// All such attempts of a probe.
pub(crate) struct TcpLane {
    epoll: Epoll,
    /// A duplicate of `epoll`, registered with the runtime.
    readiness: AsyncFd<OwnedFd>,
    slots: Vec<Option<InFlight>>,
    free: Vec<u32>,
    /// Deadlines with slot and serial. Those of attempts that ended or moved on are stale.
    deadlines: BinaryHeap<Reverse<(Instant, u32, u32)>>,
    last_serial: u32,
}

impl TcpLane {
    /// An empty lane. To be called within a runtime.
    ///
    /// # Errors
    ///
    /// The kernel gives no epoll instance.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let readiness = register(epoll.0.try_clone()?)?;
        Ok(Self {
            epoll,
            readiness,
            slots: Vec::new(),
            free: Vec::new(),
            deadlines: BinaryHeap::new(),
            last_serial: 0,
        })
    }

    /// Waits until a socket is ready.
    pub(crate) async fn ready(&self) {
        match self.readiness.readable().await {
            // Cleared before the sockets are read: later events set it again.
            Ok(mut ready) => ready.clear_ready(),
            // Happens only when the runtime ends.
            Err(_) => std::future::pending().await,
        }
    }

    /// Starts an attempt of a flow for which [`Prepared::as_tcp`] returns something; returns it if
    /// it ended at once.
    pub(crate) fn start(
        &mut self,
        flow: Arc<Prepared>,
        due: DueAttempt,
        start: u64,
        permit: OwnedSemaphorePermit,
    ) -> Option<Finished> {
        let attempt = match TcpAttempt::begin(&flow.as_tcp()?) {
            Ok(attempt) => attempt,
            Err(outcome) => {
                return Some(Finished {
                    due,
                    start,
                    outcome,
                });
            }
        };

        let slot = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        self.last_serial = self.last_serial.wrapping_add(1);
        let serial = self.last_serial;
        let events = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        let event = EpollEvent::new(events, u64::from(serial) << 32 | u64::from(slot));
        if let Err(errno) = self.epoll.add(&attempt, event) {
            let outcome = registration_failed(&errno.into()).into_outcome();
            return Some(Finished {
                due,
                start,
                outcome,
            });
        }

        self.deadlines
            .push(Reverse((attempt.deadline(), slot, serial)));
        let in_flight = InFlight {
            attempt,
            flow,
            due,
            start,
            serial,
            _permit: permit,
        };
        if self.free.pop().is_some() {
            self.slots[slot as usize] = Some(in_flight);
        } else {
            self.slots.push(Some(in_flight));
        }
        None
    }

    /// Advances every attempt whose socket is ready or whose deadline is over; returns those that
    /// ended.
    pub(crate) fn advance(&mut self, common: &Common) -> Vec<Finished> {
        let mut finished = Vec::new();
        let mut events = [EpollEvent::empty(); EVENTS];
        // An error of epoll_wait(2) with these arguments is a defect; deadlines still end every
        // attempt.
        while let Ok(ready @ 1..) = self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            for event in &events[..ready] {
                let (slot, serial) = (event.data() as u32, (event.data() >> 32) as u32);
                finished.extend(self.advance_slot(slot, serial, common));
            }
            if ready < EVENTS {
                break;
            }
        }

        let now = Instant::now();
        while let Some(&Reverse((deadline, slot, serial))) = self.deadlines.peek()
            && deadline <= now
        {
            self.deadlines.pop();
            finished.extend(self.advance_slot(slot, serial, common));
        }
        finished
    }

    /// Ends every attempt in flight where it is; returns them.
    pub(crate) fn end(&mut self, common: &Common) -> Vec<Finished> {
        let mut finished = self.advance(common);
        let in_flight = self.slots.drain(..).flatten();
        finished.extend(in_flight.filter_map(|attempt| attempt.end(common)));
        self.free.clear();
        finished
    }

    /// Advances the attempt with this serial if it still has the slot.
    fn advance_slot(&mut self, slot: u32, serial: u32, common: &Common) -> Option<Finished> {
        let entry = self.slots.get_mut(slot as usize)?;
        let in_flight = entry
            .as_mut()
            .filter(|in_flight| in_flight.serial == serial)?;

        let before = in_flight.attempt.deadline();
        let finished = in_flight.advance(common);
        let deadline = in_flight.attempt.deadline();
        if in_flight.attempt.is_closed() {
            *entry = None;
            self.free.push(slot);
        } else if deadline != before {
            self.deadlines.push(Reverse((deadline, slot, serial)));
        }
        finished
    }
}

/// Registers a descriptor with the runtime for reading.
#[expect(
    unsafe_code,
    reason = "the caller must guarantee that the descriptor stays open while it is registered"
)]
fn register(epoll: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is valid and owned by the returned value, which deregisters it before
    // it closes it.
    unsafe { AsyncFd::register_with_interest(epoll, Interest::READABLE) }.map_err(io::Error::from)
}
