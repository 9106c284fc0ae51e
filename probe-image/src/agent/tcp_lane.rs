//! Plain TCP attempts under way: their sockets in one epoll instance, their deadlines in one heap.
//!
//! The sampler looks at them whenever it wakes. Each keeps its right to a socket until its
//! connection is closed.

use super::flows::Due;
use crate::probe::{Attempt, Common, Prepared, Seen, not_registered};
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

/// Sockets that are asked for at once.
const EVENTS: usize = 64;

/// One attempt under way.
struct InFlight {
    attempt: Attempt,
    flow: Arc<Prepared>,
    due: Due,
    start: u64,
    /// Tells it from those that had its place before.
    serial: u32,
    _slot: OwnedSemaphorePermit,
}

/// An attempt that is over.
pub(crate) struct Over {
    pub(crate) due: Due,
    /// When it started, microseconds since hello.
    pub(crate) start: u64,
    pub(crate) seen: Seen,
}

/// All plain attempts of a probe.
pub(crate) struct PlainLane {
    epoll: Epoll,
    /// The same instance, as the runtime watches it.
    watched: AsyncFd<OwnedFd>,
    places: Vec<Option<InFlight>>,
    free: Vec<u32>,
    /// Deadlines, by place and serial; those that were moved since are passed over.
    deadlines: BinaryHeap<Reverse<(Instant, u32, u32)>>,
    serial: u32,
}

impl PlainLane {
    /// No attempt yet. To be called within a runtime.
    ///
    /// # Errors
    ///
    /// The kernel gives no epoll instance.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let watched = watch(epoll.0.try_clone()?)?;
        let (places, free, deadlines) = (Vec::new(), Vec::new(), BinaryHeap::new());
        Ok(Self {
            epoll,
            watched,
            places,
            free,
            deadlines,
            serial: 0,
        })
    }

    /// Waits until a socket is ready.
    pub(crate) async fn ready(&self) {
        match self.watched.readable().await {
            // Cleared before the sockets are asked: what comes after that is told anew.
            Ok(mut ready) => ready.clear_ready(),
            // Only when the runtime ends.
            Err(_) => std::future::pending().await,
        }
    }

    /// Starts an attempt of a flow that is plain; returns it where it was over at once.
    pub(crate) fn start(
        &mut self,
        flow: Arc<Prepared>,
        due: Due,
        start: u64,
        slot: OwnedSemaphorePermit,
    ) -> Option<Over> {
        let plain = flow.plain()?;
        let over = |seen| Some(Over { due, start, seen });
        let attempt = match Attempt::begin(&plain) {
            Ok(attempt) => attempt,
            Err(seen) => return over(seen),
        };
        let place = self
            .free
            .last()
            .copied()
            .unwrap_or(self.places.len() as u32);
        self.serial = self.serial.wrapping_add(1);
        let events = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        let event = EpollEvent::new(events, u64::from(self.serial) << 32 | u64::from(place));
        if let Err(errno) = self.epoll.add(&attempt, event) {
            return over(not_registered(&errno.into()).into_seen());
        }
        self.deadlines
            .push(Reverse((attempt.deadline(), place, self.serial)));
        let under_way = InFlight {
            attempt,
            flow,
            due,
            start,
            serial: self.serial,
            _slot: slot,
        };
        if self.free.pop().is_some() {
            self.places[place as usize] = Some(under_way);
        } else {
            self.places.push(Some(under_way));
        }
        None
    }

    /// Goes on with every attempt whose socket is ready or whose deadline is over; those that end
    /// are handed to `over`.
    pub(crate) fn advance(&mut self, common: &Common, mut over: impl FnMut(Over)) {
        let mut events = [EpollEvent::empty(); EVENTS];
        // An error of epoll_wait(2) with these arguments is a defect; deadlines still end every
        // attempt.
        while let Ok(ready @ 1..) = self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            for event in &events[..ready] {
                let (place, serial) = (event.data() as u32, (event.data() >> 32) as u32);
                self.look(place, serial, common, &mut over);
            }
            if ready < EVENTS {
                break;
            }
        }
        let now = Instant::now();
        while let Some(&Reverse((at, place, serial))) = self.deadlines.peek()
            && at <= now
        {
            self.deadlines.pop();
            self.look(place, serial, common, &mut over);
        }
    }

    /// The probe is ending: every attempt under way tells how far it has come.
    pub(crate) fn end(&mut self, common: &Common, mut over: impl FnMut(Over)) {
        self.advance(common, &mut over);
        for InFlight {
            mut attempt,
            flow,
            due,
            start,
            ..
        } in self.places.drain(..).flatten()
        {
            if let Some(plain) = flow.plain()
                && let Some(seen) = attempt.end(&plain, || flow.nonce(common, due.attempt))
            {
                over(Over { due, start, seen });
            }
        }
        self.free.clear();
    }

    /// Goes on with one attempt, if it is still there.
    fn look(&mut self, place: u32, serial: u32, common: &Common, over: &mut impl FnMut(Over)) {
        let Some(held) = self.places.get_mut(place as usize) else {
            return;
        };
        let Some(under_way) = held.as_mut().filter(|under_way| under_way.serial == serial) else {
            return;
        };
        let InFlight {
            attempt,
            flow,
            due,
            start,
            ..
        } = under_way;
        let before = attempt.deadline();
        if let Some(plain) = flow.plain()
            && let Some(seen) = attempt.advance(&plain, || flow.nonce(common, due.attempt))
        {
            over(Over {
                due: *due,
                start: *start,
                seen,
            });
        }
        if attempt.is_closed() {
            *held = None;
            self.free.push(place);
        } else if attempt.deadline() != before {
            self.deadlines
                .push(Reverse((attempt.deadline(), place, serial)));
        }
    }
}

/// Has the runtime watch a descriptor for what can be read of it.
#[expect(
    unsafe_code,
    reason = "the runtime must be promised that nobody closes the descriptor under it"
)]
fn watch(epoll: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is valid and owned; it is never replaced, and closed only after it was
    // taken off.
    unsafe { AsyncFd::register_with_interest(epoll, Interest::READABLE) }.map_err(io::Error::from)
}
