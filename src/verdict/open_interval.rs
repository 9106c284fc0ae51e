//! Intervals in which a flow opened, looked up once for all flows that have the control in common.

use super::control_interval::ControlInterval;
use super::moment::Moment;
use crate::model::Family;
use crate::plan::{FlowId, Path, ProbeId, SMALL_REQUEST, TargetKey};
use crate::wire::{Stage, Transport};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Number of flows whose longest interval is kept for each control.
const KEPT: usize = 3;

/// An interval in which a flow opened again and again.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenInterval {
    pub(super) flow: FlowId,
    /// Start of the first success.
    first: Moment,
    /// Start of the last success.
    last: Moment,
}

impl OpenInterval {
    /// Whether it opened both before and after a moment.
    pub(super) fn spans(&self, moment: Moment) -> bool {
        self.first.surely_by(moment) && moment.surely_by(self.last)
    }

    /// The shortest possible length, microseconds.
    fn length_us(&self) -> i64 {
        self.last.earliest - self.first.latest
    }
}

impl From<ControlInterval> for OpenInterval {
    fn from(interval: ControlInterval) -> Self {
        Self {
            flow: interval.flow,
            first: interval.first,
            last: interval.last,
        }
    }
}

/// What a path must have carried to count as open for a request that large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Load {
    pub(super) transport: Transport,
    /// Octets of the request, or more.
    pub(super) size: usize,
}

impl Load {
    /// What a path must have carried for the silence of a flow at a stage to say something: nothing
    /// more than a handshake where its request is small, or was not sent by then.
    pub(super) fn of(to: &TargetKey, stage: Stage) -> Option<Self> {
        let size = to.request.size();
        let was_sent = match stage {
            Stage::FirstBytes | Stage::Request => true,
            Stage::Resolve | Stage::Connect | Stage::Tls => false,
        };
        (was_sent && size > SMALL_REQUEST).then_some(Self {
            transport: to.transport,
            size,
        })
    }

    /// Whether a flow that opened carried as much.
    pub(super) fn is_carried_by(self, to: &TargetKey) -> bool {
        to.transport == self.transport && to.request.size() >= self.size
    }
}

/// What the longest intervals are kept by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum IntervalsOf {
    /// Flows on a path; only those of pods, or of any source; those of at least a size, or all.
    Path {
        path: Path,
        of_pods: bool,
        load: Option<Load>,
    },
    /// Source controls of a probe; with its node's flows to it, or without.
    Source {
        probe: ProbeId,
        family: Family,
        transport: Transport,
        with_reached: bool,
    },
}

/// The longest intervals looked up so far, valid while the evidence does not change: a run has few
/// paths and sources, and each is looked up for thousands of flows.
#[derive(Debug, Default)]
pub(super) struct OpenIntervals(RefCell<BTreeMap<IntervalsOf, Vec<OpenInterval>>>);

impl OpenIntervals {
    /// The longest intervals of flows other than `id`, the longest first; `find` is called once.
    pub(super) fn longest(
        &self,
        of: IntervalsOf,
        id: FlowId,
        find: impl FnOnce() -> Vec<OpenInterval>,
    ) -> Vec<OpenInterval> {
        let mut known = self.0.borrow_mut();
        let longest = known.entry(of).or_insert_with(|| longest_by_flow(find()));
        longest
            .iter()
            .copied()
            .filter(|interval| interval.flow != id)
            .collect()
    }
}

/// The longest interval of each flow, for the flows with the longest.
fn longest_by_flow(mut intervals: Vec<OpenInterval>) -> Vec<OpenInterval> {
    intervals.sort_by_key(|interval| std::cmp::Reverse(interval.length_us()));
    let mut kept: Vec<OpenInterval> = Vec::new();
    for interval in intervals {
        if kept.len() < KEPT && kept.iter().all(|known| known.flow != interval.flow) {
            kept.push(interval);
        }
    }
    kept
}
