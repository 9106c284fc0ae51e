//! When a flow is tried: pure arithmetic over [`Pace`].

use crate::wire::Pace;
use std::collections::VecDeque;

/// The attempts of a burst, milliseconds after its start. One socket gets no second SYN out before
/// a second has passed (RFC 6298 §2.1), so staggered sockets find a leak sooner than one that
/// waits.
const BURST_MS: [u64; 3] = [0, 150, 400];

/// An attempt of the interval this close to one of a burst is left out.
const NEAR_MS: u64 = 150;

/// The starts of a flow's attempts, microseconds since hello, in order. Without end, unless
/// [`Pace::attempts`] or an interval of 0 (bursts only) sets one.
#[derive(Debug)]
pub(crate) struct Schedule {
    bursts: VecDeque<u64>,
    /// The last attempts of a burst that were handed out and may still be near an attempt of the
    /// interval.
    behind: Option<u64>,
    next_tick: Option<u64>,
    interval: u64,
    left: u32,
}

impl Schedule {
    /// The schedule of a pace.
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
            behind: None,
            next_tick: first.filter(|_| interval > 0).map(|first| first + interval),
            interval,
            left: pace.attempts.unwrap_or(u32::MAX),
        }
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        loop {
            let burst = self.bursts.front().copied();
            let near =
                |at: u64, other: Option<u64>| other.is_some_and(|o| o.abs_diff(at) <= NEAR_MS);
            let at = match (self.next_tick, burst) {
                (Some(tick), _) if near(tick, burst) || near(tick, self.behind) => {
                    self.next_tick = Some(tick + self.interval);
                    continue;
                }
                (Some(tick), burst) if burst.is_none_or(|burst| tick < burst) => {
                    self.next_tick = Some(tick + self.interval);
                    tick
                }
                _ => {
                    let burst = self.bursts.pop_front()?;
                    self.behind = Some(burst);
                    burst
                }
            };
            return Some(at * 1_000);
        }
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
    fn a_burst_then_once_an_interval() {
        assert_eq!(
            starts(&[0], 1_000, None, 6),
            [0, 150, 400, 1_000, 2_000, 3_000]
        );
        assert_eq!(starts(&[70], 1_000, None, 4), [70, 220, 470, 1_070]);
    }

    #[test]
    fn attempts_near_a_burst_are_left_out() {
        // 3,000 is within 150 ms of 2,950, as 4,000 is of 4,100; 3,350 is the burst's own.
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
    fn single_attempts_in_place_of_bursts() {
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
    fn attempts_are_capped() {
        assert_eq!(starts(&[0], 1_000, Some(4), 9), [0, 150, 400, 1_000]);
        assert_eq!(starts(&[0], 0, None, 9), [0, 150, 400]);
        assert_eq!(starts(&[], 1_000, None, 9), [0; 0]);
        assert_eq!(starts(&[0], 1_000, Some(0), 9), [0; 0]);
    }
}
