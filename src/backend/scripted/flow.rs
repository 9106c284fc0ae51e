//! The attempts of one flow and their times: pure arithmetic over the probe's plan and a script.

use super::outcome::{AttemptResult, Outcome, attempt};
use super::script::{FlowScript, ProbeScript, Span};
use crate::wire::{Flow, Pace};
use std::collections::BTreeSet;
use std::time::Duration;

/// Attempts of a burst, microseconds after its start, as in the agent.
const BURST_US: [u64; 3] = [0, 150_000, 400_000];

/// An attempt of the interval at most this far from one of a burst is left out, microseconds.
const NEAR_US: u64 = 150_000;

/// Longest time of a script's run, microseconds.
const HORIZON_US: u64 = 300_000_000;

/// An attempt that is not reported yet. Times are microseconds since the probe's hello.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attempt {
    /// Number of the attempt: 1, 2, 3, ...
    pub(super) number: u32,
    pub(super) start: u64,
    /// Time of the report: the end of the attempt, or of the slowest before it.
    pub(super) reported: u64,
    pub(super) result: AttemptResult,
    /// Whether the outcome is that of the attempt before, so that a heartbeat reports it.
    pub(super) unchanged: bool,
}

/// All attempts of one flow. `script` is the one that applies to it, if any; `target` is the
/// target's name.
pub(super) fn attempts(
    flow: &Flow,
    script: Option<&FlowScript>,
    probe: &ProbeScript,
    target: &str,
) -> Vec<Attempt> {
    let open = Span {
        outcome: Outcome::Open,
        until: None,
        every: None,
        stage: None,
        latency: Duration::from_millis(1),
        answered_by: None,
    };
    let spans = script.map_or(&[][..], |script| script.observes.as_slice());

    let mut attempts: Vec<Attempt> = Vec::new();
    let mut last_span: Option<&Span> = None;
    for start in starts(&flow.pace) {
        let at = probe.run_time(start);
        if probe.is_stalled(at) {
            continue;
        }

        let number = attempts.len() as u32 + 1;
        let span = spans
            .iter()
            .find(|span| span.applies(at, number))
            .unwrap_or(&open);
        let (result, latency) = attempt(flow, span, target);
        let end = start + latency.as_micros() as u64;
        let reported = end.max(attempts.last().map_or(0, |before| before.reported));

        // The attempt after a fault is a sample, whatever its outcome.
        let is_fault = matches!(result, AttemptResult::Fault(_));
        let unchanged = last_span == Some(span) && !is_fault;
        last_span = Some(span).filter(|_| !is_fault);
        attempts.push(Attempt {
            number,
            start,
            reported,
            result,
            unchanged,
        });
    }
    attempts
}

impl Span {
    /// Whether the span applies to the attempt with this number at this moment of the run.
    fn applies(&self, at: Duration, number: u32) -> bool {
        self.until.is_none_or(|until| at < until)
            && self.every.is_none_or(|every| number.is_multiple_of(every))
    }
}

/// Starts of a flow's attempts, microseconds since hello.
fn starts(pace: &Pace) -> Vec<u64> {
    let burst = if pace.single {
        &BURST_US[..1]
    } else {
        &BURST_US[..]
    };
    let mut starts: BTreeSet<u64> = pace
        .bursts_ms
        .iter()
        .flat_map(|&at| burst.iter().map(move |after| micros(at) + after))
        .collect();

    if pace.interval_ms > 0
        && let Some(&first) = pace.bursts_ms.iter().min()
    {
        let bursts = starts.clone();
        let ticks = (1..)
            .map(|n| micros(first) + n * micros(pace.interval_ms))
            .take_while(|tick| *tick < HORIZON_US);
        starts.extend(
            ticks.filter(|tick| bursts.iter().all(|burst| burst.abs_diff(*tick) > NEAR_US)),
        );
    }

    let limit = pace
        .attempts
        .map_or(usize::MAX, |attempts| attempts as usize);
    starts.into_iter().take(limit).collect()
}

fn micros(ms: u32) -> u64 {
    u64::from(ms) * 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first starts of a pace, milliseconds.
    fn starts_ms(
        bursts_ms: &[u32],
        interval_ms: u32,
        attempts: Option<u32>,
        single: bool,
    ) -> Vec<u64> {
        let pace = Pace {
            bursts_ms: bursts_ms.to_vec(),
            interval_ms,
            attempts,
            single,
            accepted: None,
        };
        starts(&pace)
            .into_iter()
            .take(7)
            .map(|us| us / 1_000)
            .collect()
    }

    #[test]
    fn starts_are_those_of_the_agent() {
        assert_eq!(
            starts_ms(&[0, 1_000], 1_000, None, false),
            [0, 150, 400, 1_000, 1_150, 1_400, 2_000]
        );
        assert_eq!(starts_ms(&[200], 0, None, false), [200, 350, 600]);
        assert_eq!(starts_ms(&[200], 500, Some(3), true), [200, 700, 1_200]);
    }
}
