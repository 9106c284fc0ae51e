//! All openings of a flow, read as one leak that came to an end: how often, until when, and what
//! followed.

/// Counts over a flow's whole life, whatever begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leak {
    /// Attempts that opened.
    pub openings: u32,
    /// Attempts that were blocked before the last of them.
    pub blocked_before: u32,
    /// Attempts that were blocked after it.
    pub blocked_since: u32,
    /// Start of the last opening whose start is known, the probe's own time.
    pub last: Option<u64>,
    /// Start of the first attempt after the last opening that was none, where it is known.
    pub ended: Option<u64>,
}

/// How sure it must be that a leak with gaps is over.
const SURE: f64 = 0.99;

impl Leak {
    /// Some attempts opened; `start` is the last one's.
    pub fn opened(&mut self, times: u32, start: Option<u64>) {
        self.openings += times;
        self.blocked_before += std::mem::take(&mut self.blocked_since);
        self.last = start.or(self.last);
        self.ended = None;
    }

    /// Some attempts were blocked.
    pub(super) fn blocked(&mut self, times: u32, start: Option<u64>) {
        self.blocked_since += times;
        self.stopped(start);
    }

    /// An attempt did not get through, for whatever reason.
    pub(super) fn stopped(&mut self, start: Option<u64>) {
        if self.openings > 0 {
            self.ended = self.ended.or(start);
        }
    }

    /// How many attempts must be blocked after the last opening before a leak that lasts is ruled
    /// out.
    ///
    /// One that opened every time is over as soon as it does not. One with gaps may be a leak in a
    /// share of all attempts, which lasts and happens not to show: as many must be blocked as would
    /// have shown a leak of that share with a probability of 99 %.
    pub(super) fn refutation(&self) -> u32 {
        if self.blocked_before == 0 || self.openings == 0 {
            return 0;
        }
        let share = f64::from(self.openings) / f64::from(self.openings + self.blocked_before);
        ((1.0 - SURE).ln() / (1.0 - share).ln()).ceil() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rarer_it_opened_the_longer_it_must_stay_shut() {
        let needed = |openings, blocked_before| {
            Leak {
                openings,
                blocked_before,
                ..Leak::default()
            }
            .refutation()
        };
        assert_eq!(needed(4, 0), 0);
        assert_eq!(
            [(3, 1), (1, 1), (1, 2), (1, 9)].map(|(opened, blocked)| needed(opened, blocked)),
            [4, 7, 12, 44]
        );
    }

    #[test]
    fn a_leak_ends_at_the_first_attempt_after_its_last_opening() {
        let mut leak = Leak::default();
        leak.blocked(1, Some(1));
        leak.opened(1, Some(2));
        leak.blocked(1, Some(3));
        leak.opened(2, Some(5));
        leak.stopped(Some(6));
        leak.blocked(4, Some(10));
        assert_eq!(
            (leak.openings, leak.blocked_before, leak.blocked_since),
            (3, 2, 4)
        );
        assert_eq!((leak.last, leak.ended), (Some(5), Some(6)));
    }
}
