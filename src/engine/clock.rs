//! The runner's own clocks.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The runner's clocks at the start of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerClock {
    /// `/proc/sys/kernel/random/boot_id`: a probe with the same id shares the clocks.
    pub boot: String,
    /// `CLOCK_BOOTTIME`, microseconds.
    pub boottime_us: u64,
    /// `CLOCK_REALTIME`, microseconds since 1970.
    pub wall_us: u64,
}

impl RunnerClock {
    /// Microseconds since the start.
    pub fn elapsed_us(&self) -> i64 {
        now_us(ClockId::CLOCK_BOOTTIME) - self.boottime_us as i64
    }

    /// Reads the clocks of a run that started this long ago.
    pub fn read(ago: Duration) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let ago_us = ago.as_micros() as u64;
        Self {
            boot: boot.trim().to_owned(),
            boottime_us: (now_us(ClockId::CLOCK_BOOTTIME) as u64).saturating_sub(ago_us),
            wall_us: (now_us(ClockId::CLOCK_REALTIME) as u64).saturating_sub(ago_us),
        }
    }
}

/// Microseconds of a clock; 0 where it cannot be read.
fn now_us(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000)
}
