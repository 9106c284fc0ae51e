//! The runner's own clocks.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The runner's clocks at the moment that counts as zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerClock {
    /// `/proc/sys/kernel/random/boot_id`: a probe with the same one shares the clocks.
    pub boot: String,
    /// `CLOCK_BOOTTIME`, microseconds.
    pub boottime_us: u64,
    /// `CLOCK_REALTIME`, microseconds since 1970.
    pub wall_us: u64,
}

impl RunnerClock {
    /// Microseconds since the moment that counts as zero.
    pub fn elapsed_us(&self) -> i64 {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME);
        let now = now.map_or(0, |time| time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000);
        now - self.boottime_us as i64
    }

    /// The clocks as they were so long ago.
    pub fn read(ago: Duration) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let ago = ago.as_micros() as u64;
        let then = |clock| {
            let now = clock_gettime(clock).map_or(0, |time| {
                time.tv_sec() as u64 * 1_000_000 + time.tv_nsec() as u64 / 1_000
            });
            now.saturating_sub(ago)
        };
        Self {
            boot: boot.trim().to_owned(),
            boottime_us: then(ClockId::CLOCK_BOOTTIME),
            wall_us: then(ClockId::CLOCK_REALTIME),
        }
    }
}
