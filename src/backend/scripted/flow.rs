//! When one flow is tried, and what is told of it: pure arithmetic over the wire's plan and a
//! script.

use super::script::{FlowScript, Span};
use super::seen::{Ends, Seen, attempt};
use crate::wire::{Flow, Pace};
use std::collections::BTreeSet;
use std::time::Duration;

/// The attempts of a burst, microseconds after its start, as the agent makes them.
const BURST_US: [u64; 3] = [0, 150_000, 400_000];

/// An attempt of the interval this close to one of a burst is left out.
const NEAR_US: u64 = 150_000;

/// No run of a script is longer, microseconds.
const HORIZON_US: u64 = 300_000_000;

/// An attempt that ended and has not been told of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attempt {
    /// 1, 2, 3, ...
    pub(super) number: u32,
    /// When it started, the probe's own microseconds.
    pub(super) start: u64,
    /// When it can be told: its end, or that of the slowest before it.
    pub(super) told: u64,
    /// How it ended.
    pub(super) ends: Ends,
    /// Whether it ended like the one before, as the agent compares.
    pub(super) as_before: bool,
}

/// Everything that one flow will ever do.
pub(super) fn attempts(
    flow: &Flow,
    scripts: &[FlowScript],
    applies: impl Fn(&FlowScript) -> bool,
    who: &str,
    run_time: impl Fn(u64) -> Duration,
    stands_still: impl Fn(Duration) -> bool,
) -> Vec<Attempt> {
    let open = Span {
        seen: Seen::Open,
        until: None,
        every: None,
        at: None,
        takes: Duration::from_millis(1),
        who: None,
    };
    let spans = scripts
        .iter()
        .find(|script| applies(script))
        .map_or(&[][..], |script| script.sees.as_slice());
    let mut all: Vec<Attempt> = Vec::new();
    let mut last_span: Option<&Span> = None;
    for start in starts(&flow.pace) {
        let at = run_time(start);
        if stands_still(at) {
            continue;
        }
        let number = all.len() as u32 + 1;
        let span = spans
            .iter()
            .find(|span| {
                span.until.is_none_or(|until| at < until)
                    && span.every.is_none_or(|every| number.is_multiple_of(every))
            })
            .unwrap_or(&open);
        let (ends, takes) = attempt(flow, span, who);
        let told =
            (start + takes.as_micros() as u64).max(all.last().map_or(0, |before| before.told));
        // After a fault the next attempt is told whatever its outcome.
        let as_before = last_span == Some(span) && !matches!(ends, Ends::Fault(_));
        last_span = Some(span).filter(|_| !matches!(ends, Ends::Fault(_)));
        all.push(Attempt {
            number,
            start,
            told,
            ends,
            as_before,
        });
    }
    all
}

/// The starts of a flow's attempts, microseconds since hello.
fn starts(pace: &Pace) -> Vec<u64> {
    let burst = if pace.single {
        &BURST_US[..1]
    } else {
        &BURST_US[..]
    };
    let first = |at: &u32| u64::from(*at) * 1_000;
    let mut starts: BTreeSet<u64> = pace
        .bursts_ms
        .iter()
        .flat_map(|at| burst.iter().map(move |after| first(at) + after))
        .collect();
    if pace.interval_ms > 0
        && let Some(begin) = pace.bursts_ms.iter().min()
    {
        let bursts = starts.clone();
        let step = u64::from(pace.interval_ms) * 1_000;
        let ticks = (1..)
            .map(|nth| first(begin) + nth * step)
            .take_while(|tick| *tick < HORIZON_US);
        starts.extend(
            ticks.filter(|tick| bursts.iter().all(|burst| burst.abs_diff(*tick) > NEAR_US)),
        );
    }
    let most = pace
        .attempts
        .map_or(usize::MAX, |attempts| attempts as usize);
    starts.into_iter().take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_the_agents() {
        let pace = |bursts: &[u32], interval_ms, attempts, single| {
            let pace = Pace {
                bursts_ms: bursts.to_vec(),
                interval_ms,
                attempts,
                single,
                accepted: None,
            };
            starts(&pace)
                .into_iter()
                .take(7)
                .map(|us| us / 1_000)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            pace(&[0, 1_000], 1_000, None, false),
            [0, 150, 400, 1_000, 1_150, 1_400, 2_000]
        );
        assert_eq!(pace(&[200], 0, None, false), [200, 350, 600]);
        assert_eq!(pace(&[200], 500, Some(3), true), [200, 700, 1_200]);
    }
}
