//! Condition 2: who got through to the target around and throughout a window.

use super::controls::Evaluation;
use super::moment::Moment;
use super::proof::Window;
use super::streak::StageTimes;
use crate::plan::FlowId;
use crate::wire::Stage;

/// A time in which somebody got past a stage at the same address and port, again and again, never
/// more than two seconds apart, and without a failure that says anything.
#[derive(Debug, Clone)]
pub(super) struct ControlInterval {
    /// Who.
    pub(super) flow: FlowId,
    /// Who had to get through as well, for this to say anything.
    pub(super) with: Vec<FlowId>,
    /// Start of the first attempt that got through.
    pub(super) first: Moment,
    /// Start of the last.
    pub(super) last: Moment,
    /// The longest that a stage took.
    pub(super) slowest: StageTimes,
    /// How many got through.
    pub(super) openings: u32,
    /// Where they were stopped after that stage, if they were.
    pub(super) only: Option<Stage>,
}

impl<'a> Evaluation<'a> {
    /// Every stretch in which a flow passed `stage`, whatever became of it after.
    pub(super) fn control_intervals(
        self,
        flow: FlowId,
        stage: Stage,
    ) -> impl Iterator<Item = ControlInterval> + use<'a> {
        self.passings(flow, stage)
            .map(move |(first, last, streak)| ControlInterval {
                flow,
                with: Vec::new(),
                first,
                last,
                slowest: streak.slowest,
                openings: streak.count,
                only: streak.stopped_after(),
            })
    }
}

/// Somebody else got through to the same address and port around and throughout a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlProof {
    flow: FlowId,
    with: Vec<FlowId>,
    openings: u32,
    only: Option<Stage>,
}

impl ControlProof {
    /// Condition 2. A stretch has no pause above two seconds, by construction.
    pub(super) fn new(window: Window, control_interval: &ControlInterval) -> Option<Self> {
        let around = control_interval.first.surely_by(window.from)
            && window.to.surely_by(control_interval.last);
        let ControlInterval {
            flow,
            ref with,
            openings,
            only,
            ..
        } = *control_interval;
        around.then(|| Self {
            flow,
            with: with.clone(),
            openings,
            only,
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
    pub fn only(&self) -> Option<Stage> {
        self.only
    }

    /// How many of its attempts got so far; in a row, unless it needs others beside it.
    pub fn openings(&self) -> u32 {
        self.openings
    }
}
