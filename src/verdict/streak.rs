//! Samples of one flow in a row that read alike.

use super::classify::{Block, Mechanisms, Reading, Refusal};
use crate::wire::{FaultReason, Stage, Stop, StopCause};
use std::time::Duration;

/// The longest pause between two openings over which a target counts as alive throughout,
/// microseconds.
pub(super) const MAX_GAP_US: u64 = 2_000_000;

/// Points in time kept of a streak; beyond that the one that is closest to its neighbours is
/// forgotten.
const MAX_POINTS: usize = 16;

/// The last points of a streak are never forgotten.
const YOUNGEST_KEPT: usize = 3;

/// Room for so many points is made at a time.
const POINTS_AT_A_TIME: usize = 5;

/// How long each stage took, microseconds; 0 for a stage that was not passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StageTimes([u32; 5]);

impl StageTimes {
    /// The times of the stages that an observation passed.
    pub fn of(passed: &[(Stage, u32)]) -> Self {
        let mut this = Self::default();
        for (stage, us) in passed {
            this.0[*stage as usize] = *us;
        }
        this
    }

    /// The time of one stage.
    pub fn at(self, stage: Stage) -> Duration {
        Duration::from_micros(u64::from(self.0[stage as usize]))
    }

    pub(super) fn max(mut self, other: Self) -> Self {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = (*mine).max(theirs);
        }
        self
    }
}

/// What a streak's samples have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All read alike.
    Read(Reading),
    /// None is evidence.
    Fault(FaultReason),
}

impl Outcome {
    /// Whether two samples were the same but for the words of a stranger: a greeting may be another
    /// each time.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let garbled = |stop: &Stop| matches!(stop.how, StopCause::Garbled { .. });
        match (self, other) {
            (Self::Read(Reading::Open(a)), Self::Read(Reading::Open(b))) => {
                match (&a.then, &b.then) {
                    (Some(one), Some(two)) if garbled(one) && garbled(two) => {
                        (a.tier, a.passed, one.stage) == (b.tier, b.passed, two.stage)
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

/// A run of samples that read alike, without a pause of more than [`MAX_GAP_US`] among those that
/// passed any stage.
#[derive(Debug, Clone)]
pub struct Streak {
    /// What they were.
    pub outcome: Outcome,
    /// How many.
    pub count: u32,
    /// By what those were blocked that it took in, beside its own outcome.
    taken_in: Mechanisms,
    /// The longest time to pass each stage among the samples that were reported one by one.
    pub slowest: StageTimes,
    /// Some of the samples: start in the probe's own time, and the how-manieth of the streak it
    /// was, from 1. The first sample is always there, and the last whose start is known.
    points: Vec<(u64, u32)>,
}

impl Streak {
    pub(super) fn new(outcome: Outcome, start: u64, slowest: StageTimes) -> Self {
        Self {
            outcome,
            count: 1,
            taken_in: Mechanisms::default(),
            slowest,
            points: vec![(start, 1)],
        }
    }

    /// Start of the first sample, the probe's own time.
    pub fn first(&self) -> u64 {
        self.points[0].0
    }

    /// Start of the last sample whose start is known.
    pub fn last(&self) -> u64 {
        self.points[self.points.len() - 1].0
    }

    /// The known samples: start, and the how-manieth of the streak.
    pub fn points(&self) -> &[(u64, u32)] {
        &self.points
    }

    pub(super) fn extend(&mut self, start: u64) {
        if self.points.len() == self.points.capacity() {
            self.points.reserve_exact(POINTS_AT_A_TIME);
        }
        self.points.push((start, self.count));
        self.thin();
    }

    /// Takes in a streak that followed on this one, both [silent](Self::is_silent).
    pub(super) fn join(&mut self, later: Self) {
        self.taken_in = self.mechanisms().with(later.mechanisms());
        if let (Outcome::Read(Reading::Blocked(mine)), Outcome::Read(Reading::Blocked(theirs))) =
            (&mut self.outcome, later.outcome)
        {
            *mine = Block {
                stage: mine.stage.max(theirs.stage),
                ..theirs
            };
        }
        for (start, nth) in later.points {
            self.points.push((start, self.count + nth));
            self.thin();
        }
        self.count += later.count;
    }

    fn thin(&mut self) {
        if self.points.len() > MAX_POINTS {
            // What is left lies evenly over the whole streak: a window may begin and end anywhere
            // in it. The youngest stay, since the end of a control is mostly near.
            let inner = 1..self.points.len() - YOUNGEST_KEPT;
            let closest =
                inner.min_by_key(|index| self.points[index + 1].0 - self.points[index - 1].0);
            if let Some(closest) = closest {
                self.points.remove(closest);
            }
        }
    }

    /// Whether its samples are openings that passed `stage`.
    pub fn passed(&self, stage: Stage) -> bool {
        matches!(&self.outcome, Outcome::Read(Reading::Open(opening)) if opening.passed >= stage)
    }

    /// By what its samples were blocked; nothing where they were not.
    pub fn mechanisms(&self) -> Mechanisms {
        match &self.outcome {
            Outcome::Read(Reading::Blocked(block)) => self.taken_in.with(Mechanisms::of(block)),
            Outcome::Read(Reading::Open(_) | Reading::NotSent(_)) | Outcome::Fault(_) => {
                self.taken_in
            }
        }
    }

    /// Whether its samples can vouch for anything, and so may not pause for long.
    pub(super) fn vouches(&self) -> bool {
        self.got_past(Stage::Resolve)
    }

    /// Whether its samples passed `stage`, whatever became of them after it.
    pub fn got_past(&self, stage: Stage) -> bool {
        let Outcome::Read(reading) = &self.outcome else {
            return false;
        };
        match reading {
            Reading::Open(opening) => opening.passed >= stage,
            Reading::Blocked(block) => block.passed.is_some_and(|passed| passed >= stage),
            Reading::NotSent(_) => false,
        }
    }

    /// Where its samples were blocked: the last stage that they passed before.
    pub fn stopped_after(&self) -> Option<Stage> {
        match &self.outcome {
            Outcome::Read(Reading::Blocked(block)) => block.passed,
            Outcome::Read(Reading::Open(_) | Reading::NotSent(_)) | Outcome::Fault(_) => None,
        }
    }

    /// Whether its samples were blocked before they passed anything, so that they vouch for
    /// nothing.
    pub(super) fn is_silent(&self) -> bool {
        self.is_blocked() && !self.vouches()
    }

    /// Whether its samples were blocked.
    pub fn is_blocked(&self) -> bool {
        matches!(self.outcome, Outcome::Read(Reading::Blocked(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_long_streak_lies_evenly_over_it() {
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
