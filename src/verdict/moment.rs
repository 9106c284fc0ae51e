//! Times of several clocks: known within intervals, and never compared raw.

/// How far a probe's wall clock may be from the runner's, microseconds.
pub const MAX_WALL_ERROR_US: i64 = 1_000_000;

/// How a probe's own time maps to the run's: an offset known within an interval, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The least that must be added to the probe's time.
    pub least: i64,
    /// The most.
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

    /// By how much the probe's wall clock and the arrival of its lines disagree, microseconds: a
    /// clock that is not shared is taken to be at most [`MAX_WALL_ERROR_US`] ahead.
    pub(super) fn disagreement(self) -> i64 {
        self.most - self.least - MAX_WALL_ERROR_US
    }

    /// When something happened, by the run's clock.
    pub fn moment(self, own: u64) -> Moment {
        let own = i64::try_from(own).unwrap_or(i64::MAX / 2);
        Moment {
            earliest: own + self.least,
            latest: own + self.most,
        }
    }
}

/// A moment of the run, known within an interval, microseconds since the run's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Not before.
    pub earliest: i64,
    /// Not after.
    pub latest: i64,
}

impl Moment {
    /// Whether this was before the other, or at the same time, whatever both clocks were.
    pub fn surely_by(self, other: Self) -> bool {
        self.latest <= other.earliest
    }
}
