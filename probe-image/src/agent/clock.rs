//! The probe's clock, and the measure of its own slowness.

use nix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;

/// Beyond this delay of the probe's own timer an attempt says nothing: its deadlines may have
/// passed while nobody looked. Microseconds.
pub(crate) const LAG_LIMIT_US: u64 = 100_000;

/// How often the lag is measured. Microseconds; a quarter of the limit, so that a stall just above
/// the limit is measured nearly whole.
pub(crate) const TICK_US: u64 = 25_000;

/// Stalls kept in memory. Older ones are joined, which can only call more attempts starved, never
/// fewer.
const MAX_STALLS: usize = 64;

/// `CLOCK_BOOTTIME`, microseconds: never steps, counts suspension, and is one clock for all
/// processes of a kernel.
pub(crate) fn boottime_us() -> u64 {
    micros(ClockId::CLOCK_BOOTTIME)
}

/// `CLOCK_REALTIME`, microseconds since 1970.
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

/// Microseconds since hello.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    hello: u64,
}

impl Clock {
    /// Starts at the boot time given.
    pub(crate) fn since(boottime_us: u64) -> Self {
        Self { hello: boottime_us }
    }

    /// Now.
    pub(crate) fn now(self) -> u64 {
        boottime_us().saturating_sub(self.hello)
    }
}

/// How late the probe's own timer is, and when it was too late.
#[derive(Debug)]
pub(crate) struct LagMeter {
    expected: u64,
    worst: u64,
    stalls: VecDeque<(u64, u64)>,
}

impl LagMeter {
    /// Starts to measure at `now`.
    pub(crate) fn new(now: u64) -> Self {
        Self {
            expected: now + TICK_US,
            worst: 0,
            stalls: VecDeque::new(),
        }
    }

    /// When the next tick is due.
    pub(crate) fn next_tick(&self) -> u64 {
        self.expected
    }

    /// Measures. Called whenever the loop wakes, before anything is done with what arrived, so that
    /// no result of a stall is handled before the stall is known.
    pub(crate) fn observe(&mut self, now: u64) {
        if now < self.expected {
            return;
        }
        let lag = now - self.expected;
        self.worst = self.worst.max(lag);
        if lag > LAG_LIMIT_US {
            self.stalls.push_back((self.expected, now));
            if self.stalls.len() > MAX_STALLS
                && let (Some((from, _)), Some(second)) =
                    (self.stalls.pop_front(), self.stalls.front_mut())
            {
                second.0 = from;
            }
        }
        self.expected = now + TICK_US;
    }

    /// Whether an attempt from `start` to `end` overlaps a stall.
    pub(crate) fn stalled(&self, start: u64, end: u64) -> bool {
        self.stalls
            .iter()
            .any(|&(from, to)| start <= to && from <= end)
    }

    /// The worst lag since it was last asked for.
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
    fn joining_old_stalls_forgets_none() {
        let mut meter = LagMeter::new(0);
        let first = meter.next_tick();
        for _ in 0..2 * MAX_STALLS {
            meter.observe(meter.next_tick() + LAG_LIMIT_US + 1);
        }
        assert!(meter.stalls.len() <= MAX_STALLS);
        assert!(meter.stalled(first, first));
    }
}
