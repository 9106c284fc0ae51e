//! Times of a flow's attempts: pure arithmetic over [`Pace`].

use crate::wire::Pace;
use std::collections::VecDeque;

/// Attempts of a burst, milliseconds after its start. A socket sends its second SYN only after one
/// second (RFC 6298 §2.1), so staggered sockets find a leak sooner than one that waits.
const BURST_MS: [u64; 3] = [0, 150, 400];

/// An attempt of the interval at most this far from one of a burst is left out, milliseconds.
const NEAR_MS: u64 = 150;

/// Starts of a flow's attempts, microseconds since hello, in order. Infinite, unless
/// [`Pace::attempts`] or an interval of 0 (bursts only) limits it.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// Attempts of bursts to come, milliseconds.
    bursts: VecDeque<u64>,
    /// The last attempt of a burst that was returned: the next tick may be near it.
    last_burst: Option<u64>,
    /// The next attempt of the interval, milliseconds.
    next_tick: Option<u64>,
    interval: u64,
    remaining: u32,
}

impl Schedule {
    /// The schedule of a flow with this pace.
    pub(crate) fn new(pace: &Pace) -> Self {
        let burst = if pace.single {
            &BURST_MS[..1]
        } else {
            &BURST_MS[..]
        };
        let mut bursts: Vec<u64> = pace
            .bursts_ms
            .iter()
            .flat_map(|&at| burst.iter().map(move |after| u64::from(at) + after))
            .collect();
        bursts.sort_unstable();
        bursts.dedup();

        let interval = u64::from(pace.interval_ms);
        let first = pace.bursts_ms.iter().min().map(|&at| u64::from(at));
        Self {
            bursts: bursts.into(),
            last_burst: None,
            next_tick: first.filter(|_| interval > 0).map(|first| first + interval),
            interval,
            remaining: pace.attempts.unwrap_or(u32::MAX),
        }
    }

    /// Skips the ticks that are too close to an attempt of a burst.
    fn skip_near_ticks(&mut self) {
        while let Some(tick) = self.next_tick {
            let next_burst = self.bursts.front().copied();
            if !is_near(tick, next_burst) && !is_near(tick, self.last_burst) {
                return;
            }
            self.next_tick = Some(tick + self.interval);
        }
    }
}

/// Whether a tick is too close to an attempt of a burst.
fn is_near(tick: u64, burst: Option<u64>) -> bool {
    burst.is_some_and(|burst| burst.abs_diff(tick) <= NEAR_MS)
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.remaining = self.remaining.checked_sub(1)?;
        self.skip_near_ticks();

        let next_burst = self.bursts.front();
        let next_tick = self
            .next_tick
            .filter(|tick| next_burst.is_none_or(|burst| tick < burst));
        let at = if let Some(tick) = next_tick {
            self.next_tick = Some(tick + self.interval);
            tick
        } else {
            let burst = self.bursts.pop_front()?;
            self.last_burst = Some(burst);
            burst
        };
        Some(at * 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(bursts: &[u32], interval: u32, attempts: Option<u32>, take: usize) -> Vec<u64> {
        let pace = Pace {
            bursts_ms: bursts.to_vec(),
            interval_ms: interval,
            attempts,
            single: false,
            accepted: None,
        };
        Schedule::new(&pace)
            .take(take)
            .map(|us| us / 1_000)
            .collect()
    }

    #[test]
    fn burst_comes_first_then_one_attempt_an_interval() {
        assert_eq!(
            starts(&[0], 1_000, None, 6),
            [0, 150, 400, 1_000, 2_000, 3_000]
        );
        assert_eq!(starts(&[70], 1_000, None, 4), [70, 220, 470, 1_070]);
    }

    #[test]
    fn attempts_near_a_burst_are_left_out() {
        // 3,000 is within 150 ms of 2,950, and 4,000 of 4,100; 3,350 belongs to the burst.
        assert_eq!(
            starts(&[0, 2_950, 4_100], 1_000, None, 12),
            [
                0, 150, 400, 1_000, 2_000, 2_950, 3_100, 3_350, 4_100, 4_250, 4_500, 5_000
            ]
        );
    }

    #[test]
    fn overlapping_bursts_keep_their_order() {
        assert_eq!(
            starts(&[100, 0], 1_000, None, 7),
            [0, 100, 150, 250, 400, 500, 1_000]
        );
    }

    #[test]
    fn single_burst_is_one_attempt() {
        let pace = Pace {
            bursts_ms: vec![100],
            interval_ms: 2_000,
            attempts: None,
            single: true,
            accepted: None,
        };
        let starts: Vec<u64> = Schedule::new(&pace).take(3).map(|us| us / 1_000).collect();
        assert_eq!(starts, [100, 2_100, 4_100]);
    }

    #[test]
    fn number_of_attempts_is_limited() {
        assert_eq!(starts(&[0], 1_000, Some(4), 9), [0, 150, 400, 1_000]);
        assert_eq!(starts(&[0], 0, None, 9), [0, 150, 400]);
        assert_eq!(starts(&[], 1_000, None, 9), [0; 0]);
        assert_eq!(starts(&[0], 1_000, Some(0), 9), [0; 0]);
    }
}
