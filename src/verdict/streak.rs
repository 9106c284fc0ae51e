//! Consecutive attempts of one flow with the same outcome.

use super::reading::{Block, Mechanisms, Reading, Refusal};
use crate::wire::{FaultReason, Stage, Stop, StopCause};
use std::time::Duration;

/// The longest pause between two successes over which a target counts as alive, microseconds.
pub(super) const MAX_GAP_US: u64 = 2_000_000;

/// Number of starts kept of a streak; beyond that the one that is closest to its neighbours is
/// forgotten.
const MAX_POINTS: usize = 16;

/// Number of last points of a streak that are never forgotten.
const YOUNGEST_KEPT: usize = 3;

/// Number of points by which the allocation grows.
const POINTS_AT_A_TIME: usize = 5;

/// Duration of each stage, microseconds; 0 for a stage that was not passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StageTimes([u32; 5]);

impl StageTimes {
    /// The times of the stages that an observation passed.
    pub fn of(passed: &[(Stage, u32)]) -> Self {
        let mut times = Self::default();
        for (stage, us) in passed {
            times.0[*stage as usize] = *us;
        }
        times
    }

    /// The duration of one stage.
    pub fn at(self, stage: Stage) -> Duration {
        Duration::from_micros(u64::from(self.0[stage as usize]))
    }

    /// The longer duration of each stage.
    pub(super) fn max(mut self, other: Self) -> Self {
        for (us, other_us) in self.0.iter_mut().zip(other.0) {
            *us = (*us).max(other_us);
        }
        self
    }
}

/// Number of different durations kept of a streak; beyond that two neighbours are merged.
const MAX_DURATIONS: usize = 8;

/// How long each of several attempts took to pass the stages, as far as it was reported: an attempt
/// that was not reported by itself took about as long as the last one that was.
#[derive(Debug, Clone, Default)]
pub struct Durations(Vec<(StageTimes, u32)>);

impl Durations {
    /// The duration of one attempt; none where it passed no stage.
    fn of(times: StageTimes) -> Self {
        let mut durations = Self::default();
        durations.add(times);
        durations
    }

    /// Adds an attempt that was reported by itself.
    pub(super) fn add(&mut self, times: StageTimes) {
        if times == StageTimes::default() {
            return;
        }
        let is_full = self.0.len() == MAX_DURATIONS;
        match self.0.last_mut() {
            Some((last, count)) if *last == times || is_full => {
                *last = last.max(times);
                *count += 1;
            }
            Some(_) | None => {
                self.0.reserve_exact(1);
                self.0.push((times, 1));
            }
        }
    }

    /// Adds attempts that were not reported one by one.
    pub(super) fn add_unreported(&mut self, attempts: u32) {
        if let Some((_, count)) = self.0.last_mut() {
            *count += attempts;
        }
    }

    /// Adds those of other attempts.
    pub(super) fn append(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// The time that half of the attempts did not exceed at a stage; zero where nothing is known.
    ///
    /// One attempt whose handshake was sent again takes a second more: the median says how long the
    /// target takes.
    pub(super) fn median(&self, stage: Stage) -> Duration {
        let mut sorted: Vec<(Duration, u32)> = self
            .0
            .iter()
            .map(|(times, count)| (times.at(stage), *count))
            .collect();
        sorted.sort_unstable();
        let half = sorted
            .iter()
            .map(|(_, count)| count)
            .sum::<u32>()
            .div_ceil(2);

        let mut counted = 0;
        for (duration, count) in sorted {
            counted += count;
            if counted >= half {
                return duration;
            }
        }
        Duration::ZERO
    }
}

/// The outcome that a streak's attempts have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Each was read in the same way.
    Read(Reading),
    /// None is evidence.
    Fault(FaultReason),
}

impl Outcome {
    /// Whether two outcomes are the same, texts of an unknown protocol aside: a greeting may differ
    /// each time.
    pub(super) fn is_same_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Read(Reading::Open(a)), Self::Read(Reading::Open(b))) => {
                match (
                    garbled_stage(a.then.as_ref()),
                    garbled_stage(b.then.as_ref()),
                ) {
                    (Some(stage_a), Some(stage_b)) => {
                        (a.tier, a.passed, stage_a) == (b.tier, b.passed, stage_b)
                    }
                    _ => a == b,
                }
            }
            (Self::Read(Reading::Blocked(a)), Self::Read(Reading::Blocked(b))) => {
                match (&a.how, &b.how) {
                    (
                        Refusal::Wire(StopCause::Garbled { .. }),
                        Refusal::Wire(StopCause::Garbled { .. }),
                    ) => (a.stage, a.signature, a.by_target) == (b.stage, b.signature, b.by_target),
                    _ => a == b,
                }
            }
            _ => self == other,
        }
    }
}

/// The stage at which something answered in an unknown protocol.
fn garbled_stage(stop: Option<&Stop>) -> Option<Stage> {
    stop.filter(|stop| matches!(stop.how, StopCause::Garbled { .. }))
        .map(|stop| stop.stage)
}

/// Consecutive attempts with the same outcome, without a pause of more than [`MAX_GAP_US`] among
/// those that passed any stage.
#[derive(Debug, Clone)]
pub struct Streak {
    pub outcome: Outcome,
    /// Number of attempts.
    pub count: u32,
    /// Mechanisms of the streaks that were merged into it, beside that of its outcome.
    merged_mechanisms: Mechanisms,
    /// How long the attempts took.
    pub durations: Durations,
    /// Some of the attempts: start in the probe's own time, and the number within the streak, from
    /// 1. The first attempt is always there, and the last whose start is known.
    points: Vec<(u64, u32)>,
}

impl Streak {
    pub(super) fn new(outcome: Outcome, start: u64, times: StageTimes) -> Self {
        Self {
            outcome,
            count: 1,
            merged_mechanisms: Mechanisms::default(),
            durations: Durations::of(times),
            points: vec![(start, 1)],
        }
    }

    /// Start of the first attempt, the probe's own time.
    pub fn first(&self) -> u64 {
        self.points[0].0
    }

    /// Start of the last attempt whose start is known.
    pub fn last(&self) -> u64 {
        self.points[self.points.len() - 1].0
    }

    /// The attempts whose start is kept: start, and the number within the streak, from 1.
    pub fn points(&self) -> &[(u64, u32)] {
        &self.points
    }

    /// Notes the start of the last attempt, which is counted already.
    pub(super) fn extend(&mut self, start: u64) {
        if self.points.len() == self.points.capacity() {
            self.points.reserve_exact(POINTS_AT_A_TIME);
        }
        self.points.push((start, self.count));
        self.thin();
    }

    /// Merges the streak that followed, both [blocked before any
    /// stage](Self::is_blocked_before_any_stage).
    pub(super) fn merge(&mut self, later: Self) {
        self.merged_mechanisms = self.mechanisms().with(later.mechanisms());
        if let (
            Outcome::Read(Reading::Blocked(block)),
            Outcome::Read(Reading::Blocked(later_block)),
        ) = (&mut self.outcome, later.outcome)
        {
            *block = Block {
                stage: block.stage.max(later_block.stage),
                ..later_block
            };
        }

        for (start, nth) in later.points {
            self.points.push((start, self.count + nth));
            self.thin();
        }
        self.count += later.count;
    }

    fn thin(&mut self) {
        if self.points.len() <= MAX_POINTS {
            return;
        }
        // The points that stay lie evenly over the whole streak: a window may begin and end
        // anywhere in it. The youngest stay, since the end of a control is mostly near.
        let inner = 1..self.points.len() - YOUNGEST_KEPT;
        let closest = inner.min_by_key(|index| self.points[index + 1].0 - self.points[index - 1].0);
        if let Some(closest) = closest {
            self.points.remove(closest);
        }
    }

    /// Whether its attempts opened and passed `stage`.
    pub fn opened_past(&self, stage: Stage) -> bool {
        matches!(&self.outcome, Outcome::Read(Reading::Open(success)) if success.passed >= stage)
    }

    /// The mechanisms that blocked its attempts; none where they were not blocked.
    pub fn mechanisms(&self) -> Mechanisms {
        match &self.outcome {
            Outcome::Read(Reading::Blocked(block)) => {
                self.merged_mechanisms.with(Mechanisms::of(block))
            }
            Outcome::Read(Reading::Open(_) | Reading::NotSent(_)) | Outcome::Fault(_) => {
                self.merged_mechanisms
            }
        }
    }

    /// Whether its attempts passed any stage: they may then serve as a control, and may not pause
    /// for long.
    pub(super) fn got_past_any_stage(&self) -> bool {
        self.got_past(Stage::Resolve)
    }

    /// Whether its attempts passed `stage`, open or stopped after it.
    pub fn got_past(&self, stage: Stage) -> bool {
        let Outcome::Read(reading) = &self.outcome else {
            return false;
        };
        match reading {
            Reading::Open(success) => success.passed >= stage,
            Reading::Blocked(block) => block.passed.is_some_and(|passed| passed >= stage),
            Reading::NotSent(_) => false,
        }
    }

    /// The last stage that its attempts passed before they were blocked.
    pub fn stopped_after(&self) -> Option<Stage> {
        match &self.outcome {
            Outcome::Read(Reading::Blocked(block)) => block.passed,
            Outcome::Read(Reading::Open(_) | Reading::NotSent(_)) | Outcome::Fault(_) => None,
        }
    }

    /// Whether its attempts were blocked before they passed any stage.
    pub(super) fn is_blocked_before_any_stage(&self) -> bool {
        self.is_blocked() && !self.got_past_any_stage()
    }

    /// Whether its attempts opened.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.outcome, Outcome::Read(Reading::Open(_)))
    }

    /// Whether its attempts were blocked.
    pub fn is_blocked(&self) -> bool {
        matches!(self.outcome, Outcome::Read(Reading::Blocked(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_a_long_streak_lie_evenly_over_it() {
        let mut streak = Streak::new(
            Outcome::Fault(FaultReason::Starved),
            0,
            StageTimes::default(),
        );
        for second in 1..=120 {
            streak.count += 1;
            streak.extend(second * 1_000_000);
            let kept = streak.points();
            let widest = kept
                .windows(2)
                .map(|pair| pair[1].0 - pair[0].0)
                .max()
                .unwrap();
            assert!(
                kept.len() <= MAX_POINTS
                    && streak.first() == 0
                    && streak.last() == second * 1_000_000
            );
            assert!(
                widest <= 1_000_000.max(second * 1_000_000 / 5),
                "{widest} µs of {second} s: {kept:?}"
            );
        }
    }
}
