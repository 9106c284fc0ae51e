//! Target controls: intervals in which another source got through to the same target.

use super::controls::Evaluation;
use super::moment::Moment;
use super::streak::StageTimes;
use super::window::Window;
use crate::plan::FlowId;
use crate::wire::Stage;

/// An interval in which a control passed a stage at the same address and port, again and again,
/// never more than two seconds apart, and without a failure that says anything.
#[derive(Debug, Clone)]
pub(super) struct ControlInterval {
    pub(super) flow: FlowId,
    /// The flows that had to get through as well, for this to say anything.
    pub(super) with: Vec<FlowId>,
    /// Start of the first attempt that got through.
    pub(super) first: Moment,
    /// Start of the last.
    pub(super) last: Moment,
    /// The longest duration of each stage.
    pub(super) slowest: StageTimes,
    /// Number of attempts that got through.
    pub(super) successes: u32,
    /// The last stage that it passed, where it was stopped after that.
    pub(super) stopped_after: Option<Stage>,
}

impl ControlInterval {
    /// Whether it got through both before and after a moment.
    pub(super) fn spans(&self, moment: Moment) -> bool {
        self.first.surely_by(moment) && moment.surely_by(self.last)
    }
}

/// The intervals in which a flow passed `stage`, open or stopped after it.
pub(super) fn control_intervals(
    evaluation: Evaluation<'_>,
    flow: FlowId,
    stage: Stage,
) -> impl Iterator<Item = ControlInterval> + use<'_> {
    evaluation
        .passes(flow, stage)
        .map(move |timed| ControlInterval {
            flow,
            with: Vec::new(),
            first: timed.first,
            last: timed.last,
            slowest: timed.streak.slowest,
            successes: timed.streak.count,
            stopped_after: timed.streak.stopped_after(),
        })
}

/// The proof that the target answered before, during and after a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlProof {
    flow: FlowId,
    with: Vec<FlowId>,
    successes: u32,
    stopped_after: Option<Stage>,
}

impl ControlProof {
    /// The only constructor: the interval must span the window. It has no pause above two seconds,
    /// by construction.
    pub(super) fn new(window: Window, interval: &ControlInterval) -> Option<Self> {
        if !interval.spans(window.from) || !interval.spans(window.to) {
            return None;
        }
        Some(Self {
            flow: interval.flow,
            with: interval.with.clone(),
            successes: interval.successes,
            stopped_after: interval.stopped_after,
        })
    }

    /// The flow that got through.
    pub fn flow(&self) -> FlowId {
        self.flow
    }

    /// The flows that got through as well, without which that one would say nothing: the other
    /// nodes of a Service's pods, and each pod's node to the pod.
    pub fn with(&self) -> &[FlowId] {
        &self.with
    }

    /// The last stage that it passed, where it was stopped after that; `None` where it opened.
    pub fn stopped_after(&self) -> Option<Stage> {
        self.stopped_after
    }

    /// Number of its attempts that got so far; in a row, unless it needs [others](Self::with).
    pub fn successes(&self) -> u32 {
        self.successes
    }
}
