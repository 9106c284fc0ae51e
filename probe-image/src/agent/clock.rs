//! The probe's clock, and the lag of its own timer.

use nix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;

/// Longest lag of the probe's own timer, microseconds, at which a failed attempt still counts:
/// after a longer one, the deadlines of the attempt may have passed while the probe did not run.
pub(crate) const LAG_LIMIT_US: u64 = 100_000;

/// Interval at which the lag is measured, microseconds. A quarter of the limit, so that a stall
/// just above the limit is measured almost completely.
pub(crate) const TICK_US: u64 = 25_000;

/// Number of stalls kept in memory. Older ones are merged, which can only mark more attempts as
/// starved, never fewer.
const MAX_STALLS: usize = 64;

/// Current `CLOCK_BOOTTIME`, microseconds: it never steps, includes suspension, and is the same for
/// all processes of a kernel.
pub(crate) fn boottime_us() -> u64 {
    micros(ClockId::CLOCK_BOOTTIME)
}

/// Current `CLOCK_REALTIME`, microseconds since 1970.
pub(crate) fn wall_us() -> u64 {
    micros(ClockId::CLOCK_REALTIME)
}

fn micros(clock: ClockId) -> u64 {
    // Both clocks exist since Linux 2.6.39; with a constant, valid id the call has no other way to
    // fail.
    clock_gettime(clock).map_or(0, |t| {
        u64::try_from(t.tv_sec()).unwrap_or(0) * 1_000_000
            + u64::try_from(t.tv_nsec()).unwrap_or(0) / 1_000
    })
}

/// A clock in microseconds since hello.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    hello_us: u64,
}

impl Clock {
    /// A clock that starts at this boot time.
    pub(crate) fn since(boottime_us: u64) -> Self {
        Self {
            hello_us: boottime_us,
        }
    }

    /// Current time, microseconds since hello.
    pub(crate) fn now(self) -> u64 {
        boottime_us().saturating_sub(self.hello_us)
    }
}

/// The lag of the probe's own timer, and the stalls: intervals in which it exceeded the limit.
#[derive(Debug)]
pub(crate) struct LagMeter {
    expected: u64,
    worst: u64,
    stalls: VecDeque<(u64, u64)>,
}

impl LagMeter {
    /// A meter that starts at `now`.
    pub(crate) fn new(now: u64) -> Self {
        Self {
            expected: now + TICK_US,
            worst: 0,
            stalls: VecDeque::new(),
        }
    }

    /// Time of the next measurement.
    pub(crate) fn next_tick(&self) -> u64 {
        self.expected
    }

    /// Measures the lag at `now`. To be called whenever the loop wakes, before any result is
    /// handled, so that each stall is known before the results that arrived during it.
    pub(crate) fn observe(&mut self, now: u64) {
        if now < self.expected {
            return;
        }

        let lag = now - self.expected;
        self.worst = self.worst.max(lag);
        if lag > LAG_LIMIT_US {
            self.add_stall(self.expected, now);
        }

        self.expected = now + TICK_US;
    }

    fn add_stall(&mut self, from: u64, to: u64) {
        self.stalls.push_back((from, to));
        if self.stalls.len() <= MAX_STALLS {
            return;
        }

        if let (Some((from, _)), Some(second)) = (self.stalls.pop_front(), self.stalls.front_mut())
        {
            second.0 = from;
        }
    }

    /// Whether an attempt from `start` to `end` overlaps a stall.
    pub(crate) fn stalled(&self, start: u64, end: u64) -> bool {
        self.stalls
            .iter()
            .any(|&(from, to)| start <= to && from <= end)
    }

    /// Longest lag since the last call.
    pub(crate) fn take_worst(&mut self) -> u64 {
        std::mem::take(&mut self.worst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_attempts_that_overlap_a_stall_are_starved() {
        let mut meter = LagMeter::new(0);
        meter.observe(TICK_US);
        meter.observe(2 * TICK_US + LAG_LIMIT_US);
        assert!(
            !meter.stalled(0, 10 * LAG_LIMIT_US),
            "a lag at the limit is no stall"
        );

        let expected = meter.next_tick();
        meter.observe(expected + 2_000_000);
        assert!(meter.stalled(expected - 1, expected));
        assert!(meter.stalled(expected + 1_000_000, expected + 3_000_000));
        assert!(!meter.stalled(0, expected - 1));
        assert!(!meter.stalled(expected + 2_000_001, expected + 3_000_000));
        assert_eq!(meter.take_worst(), 2_000_000);
        assert_eq!(meter.take_worst(), 0);
    }

    #[test]
    fn merged_old_stalls_still_count() {
        let mut meter = LagMeter::new(0);
        let first = meter.next_tick();
        for _ in 0..2 * MAX_STALLS {
            meter.observe(meter.next_tick() + LAG_LIMIT_US + 1);
        }
        assert!(meter.stalls.len() <= MAX_STALLS);
        assert!(meter.stalled(first, first));
    }
}
