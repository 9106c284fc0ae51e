//! Openings of a flow that is expected to fail now and then.

use super::streak::StageTimes;
use crate::wire::Stage;
use std::collections::VecDeque;

/// Openings closer together than this are as good as one, microseconds.
const CLOSE_US: u64 = 250_000;

/// Openings kept: two minutes of them at the least.
const MAX_KEPT: usize = 512;

/// When a flow opened, whatever happened between: kept only for flows whose failures say nothing
/// ([`crate::plan::Composite`]).
#[derive(Debug, Clone, Default)]
pub struct SuccessTimes {
    /// Start in the probe's own time, and the last stage that it passed.
    kept: VecDeque<(u64, Stage)>,
    /// The longest time to pass each stage.
    slowest: StageTimes,
}

impl SuccessTimes {
    /// Takes one in whose start is known.
    pub(super) fn note(&mut self, start: u64, passed: Stage, times: StageTimes) {
        self.slowest = self.slowest.max(times);
        let is_close = |(last, as_far): &(u64, Stage)| start < last + CLOSE_US && *as_far >= passed;
        if self.kept.back().is_some_and(is_close) {
            return;
        }
        if self.kept.len() == MAX_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((start, passed));
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Starts of those that passed a stage, oldest first.
    pub(super) fn passed(&self, stage: Stage) -> impl Iterator<Item = u64> {
        self.kept
            .iter()
            .filter(move |(_, passed)| *passed >= stage)
            .map(|(start, _)| *start)
    }

    /// The longest time to pass each stage among those that were reported one by one.
    pub(super) fn slowest(&self) -> StageTimes {
        self.slowest
    }
}
