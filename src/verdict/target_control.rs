//! Target controls: the proof that another source got through to the same target.

use super::control_interval::ControlInterval;
use super::window::Window;
use crate::plan::FlowId;
use crate::wire::Stage;

/// The proof that the target answered before, during and after a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlProof {
    flow: FlowId,
    with: Vec<FlowId>,
    successes: u32,
    lost: u32,
    stopped_after: Option<Stage>,
}

impl ControlProof {
    /// The only constructor: the interval must span the window. It has no pause above two seconds,
    /// by construction, but where one attempt was lost.
    pub(super) fn new(window: Window, interval: &ControlInterval) -> Option<Self> {
        if !interval.spans(window.from) || !interval.spans(window.to) {
            return None;
        }
        Some(Self {
            flow: interval.flow,
            with: interval.with.clone(),
            successes: interval.successes,
            lost: interval.lost,
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

    /// Number of its attempts that got so far; in a row but for [lost ones](Self::lost), unless it
    /// needs [others](Self::with).
    pub fn successes(&self) -> u32 {
        self.successes
    }

    /// Number of its attempts that failed alone, between two that got so far.
    pub fn lost(&self) -> u32 {
        self.lost
    }
}
