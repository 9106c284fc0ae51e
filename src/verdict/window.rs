//! The interval that a proof speaks of.

use super::moment::Moment;
use std::time::Duration;

/// The interval of attempts that a proof speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Start of the first attempt, run's clock.
    pub from: Moment,
    /// Start of the last attempt.
    pub to: Moment,
    /// Number of attempts.
    pub attempts: u32,
}

impl Window {
    /// The shortest possible time from the first start to the last.
    pub fn length(self) -> Duration {
        Duration::from_micros(u64::try_from(self.to.earliest - self.from.latest).unwrap_or(0))
    }

    /// The smallest share of attempts, in percent, in which a leak would have shown with 95 %
    /// probability.
    pub fn power_percent(self) -> u32 {
        let missed = 0.05_f64.powf(1.0 / f64::from(self.attempts.max(1)));
        ((1.0 - missed) * 100.0).ceil() as u32
    }
}
