//! Intervals in which a flow got through again and again, without a failure that says anything.
//!
//! One lost packet is no failure: an attempt that failed alone, between two that got through, is
//! left out, up to one attempt in ten. So no interval contains two failures in a row, nor a pause
//! that is longer than the flow's pace explains.

use super::controls::{Evaluation, TimedStreak};
use super::moment::Moment;
use super::streak::{Durations, MAX_GAP_US, Streak};
use crate::plan::FlowId;
use crate::wire::Stage;

/// One attempt in so many may fail alone.
const ATTEMPTS_PER_LOSS: u32 = 10;

/// How much longer two successes may be apart where an attempt between them was lost, microseconds:
/// the interval at which controls are tried.
const PAUSE_OF_A_LOSS_US: u64 = 1_000_000;

/// An interval in which a flow passed a stage again and again.
#[derive(Debug, Clone)]
pub(super) struct ControlInterval {
    pub(super) flow: FlowId,
    /// The flows that had to get through as well, for this to say anything.
    pub(super) with: Vec<FlowId>,
    /// Start of the first attempt that got through.
    pub(super) first: Moment,
    /// Start of the last.
    pub(super) last: Moment,
    /// How long the attempts took.
    pub(super) durations: Durations,
    /// Number of attempts that got through.
    pub(super) successes: u32,
    /// Number of attempts that failed alone and are left out.
    pub(super) lost: u32,
    /// The last stage that it passed, where it was stopped after that.
    pub(super) stopped_after: Option<Stage>,
}

impl ControlInterval {
    /// Whether it got through both before and after a moment.
    pub(super) fn spans(&self, moment: Moment) -> bool {
        self.first.surely_by(moment) && moment.surely_by(self.last)
    }

    fn of(flow: FlowId, timed: TimedStreak<'_>) -> Self {
        Self {
            flow,
            with: Vec::new(),
            first: timed.first,
            last: timed.last,
            durations: timed.streak.durations.clone(),
            successes: timed.streak.count,
            lost: 0,
            stopped_after: timed.streak.stopped_after(),
        }
    }

    fn extend(&mut self, timed: TimedStreak<'_>, lost: u32) {
        self.last = timed.last;
        self.durations.append(&timed.streak.durations);
        self.successes += timed.streak.count;
        self.lost += lost;
        self.stopped_after = timed.streak.stopped_after().or(self.stopped_after);
    }

    fn has_few_losses(&self) -> bool {
        self.lost * ATTEMPTS_PER_LOSS <= self.successes + self.lost
    }
}

/// The intervals in which the attempts of a flow that `passes` takes were never more than
/// `longest_pause_us` apart, by the probe's own time. Two of them may overlap.
pub(super) fn control_intervals(
    evaluation: Evaluation<'_>,
    flow: FlowId,
    longest_pause_us: u64,
    passes: impl Fn(&Streak) -> bool,
) -> Vec<ControlInterval> {
    let streaks = &evaluation.evidence.flow(flow).streaks;
    (0..streaks.len())
        .filter(|start| passes(&streaks[*start]))
        .filter_map(|start| {
            longest_from(
                evaluation,
                flow,
                longest_pause_us,
                &passes,
                &streaks[start..],
            )
        })
        .collect()
}

/// The longest interval that begins with the first of some streaks.
fn longest_from(
    evaluation: Evaluation<'_>,
    flow: FlowId,
    longest_pause_us: u64,
    passes: &impl Fn(&Streak) -> bool,
    streaks: &[Streak],
) -> Option<ControlInterval> {
    let (first, later) = streaks.split_first()?;
    let mut interval = ControlInterval::of(flow, evaluation.timed(flow, first)?);
    // A copy from before the latest loss, in case that loss is one too many.
    let mut before_loss = None;
    let mut previous = first;
    let mut lost = 0;

    for streak in later {
        if !passes(streak) {
            lost += streak.count;
            if lost > 1 {
                break;
            }
            continue;
        }
        let pause = streak.first().saturating_sub(previous.last());
        let longest_pause = longest_pause_us + u64::from(lost) * PAUSE_OF_A_LOSS_US;
        let Some(timed) = evaluation
            .timed(flow, streak)
            .filter(|_| pause <= longest_pause)
        else {
            break;
        };
        if lost > 0 && interval.has_few_losses() {
            before_loss = Some(interval.clone());
        }
        interval.extend(timed, lost);
        (previous, lost) = (streak, 0);
    }
    if interval.has_few_losses() {
        Some(interval)
    } else {
        before_loss
    }
}

/// The intervals in which a flow passed `stage`, open or stopped after it, as a target control must:
/// never more than two seconds apart.
pub(super) fn target_intervals(
    evaluation: Evaluation<'_>,
    flow: FlowId,
    stage: Stage,
) -> Vec<ControlInterval> {
    control_intervals(evaluation, flow, MAX_GAP_US, |streak| {
        streak.got_past(stage)
    })
}

/// The intervals in which a flow opened: never more than two seconds, or two of its own intervals,
/// apart.
pub(super) fn open_intervals(evaluation: Evaluation<'_>, flow: FlowId) -> Vec<ControlInterval> {
    let interval = evaluation.plan.interval_of(flow).as_micros() as u64;
    control_intervals(evaluation, flow, MAX_GAP_US.max(2 * interval), |streak| {
        streak.opened_past(Stage::Resolve)
    })
}
