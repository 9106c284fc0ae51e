//! All successes of a flow, read as one leak that came to an end: how many, until when, and what
//! followed.

/// Counts over a flow's whole life, restarts included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leak {
    pub successes: u32,
    /// Attempts that were blocked before the last success.
    pub blocked_before: u32,
    /// Attempts that were blocked after it.
    pub blocked_since: u32,
    /// Start of the last success whose start is known, the probe's own time.
    pub last_success: Option<u64>,
    /// Start of the first attempt after the last success that did not get through, where it is
    /// known.
    pub ended: Option<u64>,
}

/// The probability with which a lasting leak must be ruled out.
const CONFIDENCE: f64 = 0.99;

impl Leak {
    /// Counts successes; `start` is the last one's.
    pub fn opened(&mut self, attempts: u32, start: Option<u64>) {
        self.successes += attempts;
        self.blocked_before += std::mem::take(&mut self.blocked_since);
        self.last_success = start.or(self.last_success);
        self.ended = None;
    }

    /// Counts blocked attempts; `start` is the last one's.
    pub(super) fn blocked(&mut self, attempts: u32, start: Option<u64>) {
        self.blocked_since += attempts;
        self.did_not_open(start);
    }

    /// Notes an attempt that did not get through, for whatever reason.
    pub(super) fn did_not_open(&mut self, start: Option<u64>) {
        if self.successes > 0 {
            self.ended = self.ended.or(start);
        }
    }

    /// Number of attempts that must be blocked after the last success to rule out a lasting leak.
    ///
    /// A leak that opened every time is over as soon as it does not. One with gaps may be a leak in
    /// a share of all attempts, which lasts and happens not to show: as many must be blocked as
    /// would have shown a leak of that share with a probability of 99 %.
    pub(super) fn blocked_needed(&self) -> u32 {
        if self.blocked_before == 0 || self.successes == 0 {
            return 0;
        }
        let share = f64::from(self.successes) / f64::from(self.successes + self.blocked_before);
        ((1.0 - CONFIDENCE).ln() / (1.0 - share).ln()).ceil() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocked_needed(successes: u32, blocked_before: u32) -> u32 {
        Leak {
            successes,
            blocked_before,
            ..Leak::default()
        }
        .blocked_needed()
    }

    #[test]
    fn rarer_leak_needs_more_blocked_attempts() {
        assert_eq!(blocked_needed(4, 0), 0);
        assert_eq!(
            [(3, 1), (1, 1), (1, 2), (1, 9)]
                .map(|(successes, blocked)| blocked_needed(successes, blocked)),
            [4, 7, 12, 44]
        );
    }

    #[test]
    fn leak_ends_at_the_first_attempt_after_its_last_success() {
        let mut leak = Leak::default();
        leak.blocked(1, Some(1));
        leak.opened(1, Some(2));
        leak.blocked(1, Some(3));
        leak.opened(2, Some(5));
        leak.did_not_open(Some(6));
        leak.blocked(4, Some(10));
        assert_eq!(
            (leak.successes, leak.blocked_before, leak.blocked_since),
            (3, 2, 4)
        );
        assert_eq!((leak.last_success, leak.ended), (Some(5), Some(6)));
    }
}
