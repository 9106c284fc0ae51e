//! Times of several clocks: known within intervals, and never compared raw.

/// The largest accepted difference between a probe's wall clock and the runner's, microseconds.
pub const MAX_WALL_ERROR_US: i64 = 1_000_000;

/// The offset from a probe's clock to the run's, known within an interval of microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The smallest possible offset, to be added to the probe's time.
    pub least: i64,
    /// The largest possible offset.
    pub most: i64,
}

impl Clock {
    /// A clock shared with the runner (same boot id): the offset is exact.
    pub fn shared(offset: i64) -> Self {
        Self {
            least: offset,
            most: offset,
        }
    }

    /// The difference between the probe's wall clock and the arrival of its lines, microseconds.
    ///
    /// The lower bound of a clock that is not shared assumes a wall clock that is at most
    /// [`MAX_WALL_ERROR_US`] ahead, so that much of the interval is no disagreement.
    pub(super) fn disagreement(self) -> i64 {
        self.most - self.least - MAX_WALL_ERROR_US
    }

    /// Converts a time of the probe, microseconds, to the run's clock.
    pub fn moment(self, probe_us: u64) -> Moment {
        let probe_us = i64::try_from(probe_us).unwrap_or(i64::MAX / 2);
        Moment {
            earliest: probe_us + self.least,
            latest: probe_us + self.most,
        }
    }
}

/// A moment of the run, known within an interval, microseconds since the run's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The lower bound.
    pub earliest: i64,
    /// The upper bound.
    pub latest: i64,
}

impl Moment {
    /// Whether this was before or at the other moment for every offset that both clocks may have.
    pub fn surely_by(self, other: Self) -> bool {
        self.latest <= other.earliest
    }
}
