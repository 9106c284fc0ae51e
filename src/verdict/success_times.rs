//! Times of successes of a flow that is expected to fail now and then.

use super::streak::{Durations, StageTimes};
use crate::wire::Stage;
use std::collections::VecDeque;

/// Successes closer together than this are kept as one, microseconds.
const MIN_DISTANCE_US: u64 = 250_000;

/// Number of successes kept: two minutes of them at the least.
const MAX_KEPT: usize = 512;

/// When a flow opened, however many attempts failed between: kept only for flows whose failures say
/// nothing ([`crate::plan::Composite`]).
#[derive(Debug, Clone, Default)]
pub struct SuccessTimes {
    /// Start in the probe's own time, and the last stage that it passed.
    kept: VecDeque<(u64, Stage)>,
    /// How long they took.
    durations: Durations,
}

impl SuccessTimes {
    /// Records a success whose start is known.
    pub(super) fn record(&mut self, start: u64, passed: Stage, times: StageTimes) {
        if times == StageTimes::default() {
            self.durations.add_unreported(1);
        } else {
            self.durations.add(times);
        }
        let is_covered = self.kept.back().is_some_and(|(last_start, last_passed)| {
            start < last_start + MIN_DISTANCE_US && *last_passed >= passed
        });
        if is_covered {
            return;
        }

        if self.kept.len() == MAX_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((start, passed));
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Starts of the successes that passed a stage, oldest first.
    pub(super) fn passed(&self, stage: Stage) -> impl Iterator<Item = u64> {
        self.kept
            .iter()
            .filter(move |(_, passed)| *passed >= stage)
            .map(|(start, _)| *start)
    }

    /// How long they took.
    pub(super) fn durations(&self) -> &Durations {
        &self.durations
    }
}
