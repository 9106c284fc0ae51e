//! Conditions 3 and 4: the source was able, the path was open.

use super::controls::Evaluation;
use super::deny::{BlockedSuffix, UnprovenCause};
use super::moment::Moment;
use super::proof::{PathProof, SourceProof, Window};
use super::reason::Reason;
use super::streak::Streak;
use super::timeline::OPENINGS_IN_A_ROW;
use crate::plan::{FlowId, Path, PathEnd};
use crate::wire::Stage;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Condition 3: when the source is known to have been able, first and last.
pub(super) struct SourceWindow {
    first: Option<(Moment, FlowId)>,
    last: Option<(Moment, FlowId)>,
    reached: bool,
}

impl SourceWindow {
    pub(super) fn of(evaluation: Evaluation<'_>, id: FlowId) -> Self {
        let none = Self {
            first: None,
            last: None,
            reached: false,
        };
        let Some(source_window) = evaluation.source_window(id) else {
            return none;
        };
        let own = source_window
            .allowed
            .iter()
            .chain(&source_window.tried)
            .filter(|flow| **flow != id);
        // What the suite expects to be allowed and is not would be an excuse for looking less
        // closely.
        if source_window.allowed.iter().any(|flow| *flow != id) {
            return Self::among(evaluation, own);
        }
        // A new pod may have got out before it was known; from then on only its node tells.
        let this = Self::among(evaluation, own.chain(&source_window.reached));
        let is_reach = |end: Option<(Moment, FlowId)>| {
            end.is_some_and(|(_, flow)| source_window.reached.contains(&flow))
        };
        Self {
            reached: is_reach(this.first) || is_reach(this.last),
            ..this
        }
    }

    fn among<'f>(evaluation: Evaluation<'_>, flows: impl Iterator<Item = &'f FlowId>) -> Self {
        let mut this = Self {
            first: None,
            last: None,
            reached: false,
        };
        for flow in flows {
            for (first, last, _) in evaluation.openings(*flow, Stage::Resolve) {
                if this
                    .first
                    .is_none_or(|(moment, _)| first.latest < moment.latest)
                {
                    this.first = Some((first, *flow));
                }
                if this
                    .last
                    .is_none_or(|(moment, _)| last.earliest > moment.earliest)
                {
                    this.last = Some((last, *flow));
                }
            }
        }
        this
    }

    /// The part of the samples before and after which the source opened something.
    pub(super) fn narrow(
        &self,
        blocked: &BlockedSuffix<'_>,
        inside: impl Fn(Moment) -> bool,
    ) -> Option<(Window, SourceProof)> {
        let (first, before) = self.first?;
        let (last, after) = self.last?;
        let window = blocked
            .window(|moment| inside(moment) && first.surely_by(moment) && moment.surely_by(last))?;
        Some((
            window,
            SourceProof {
                before,
                after,
                reached: self.reached,
            },
        ))
    }

    pub(super) fn unproven_cause(&self, evaluation: Evaluation<'_>, id: FlowId) -> UnprovenCause {
        let source = evaluation.plan.source(evaluation.plan.flow(id).probe);
        let detail = match self.first {
            None => format!("{source} opened nothing else in the same way"),
            Some(_) => {
                format!("{source} did not open anything both before and after these samples")
            }
        };
        (Reason::SourceNotVerified, detail)
    }
}

/// Condition 4: from when to when something crossed, without a failure and without a long pause.
#[derive(Debug, Clone, Copy)]
pub(super) struct PathControl {
    flow: FlowId,
    first: Moment,
    last: Moment,
}

impl PathControl {
    pub(super) fn spans(&self, moment: Moment) -> bool {
        self.first.surely_by(moment) && moment.surely_by(self.last)
    }

    pub(super) fn proof(&self) -> PathProof {
        PathProof { flow: self.flow }
    }
}

/// For each end of the flow's paths, the longest time in which a flow crossed: one crossing at the
/// start of the window would say nothing of a path that was cut after it.
///
/// # Errors
/// An end that nothing reached.
pub(super) fn path_controls(
    evaluation: Evaluation<'_>,
    id: FlowId,
) -> Result<Vec<PathControl>, PathEnd> {
    evaluation
        .paths(id)
        .into_iter()
        .map(|path| {
            evaluation
                .path_controls
                .longest(evaluation, &path, id)
                .ok_or(path.to)
        })
        .collect()
}

/// The longest crossings of each path that was asked for, while the evidence stands still: a run
/// has few paths, and each is asked for by thousands of flows.
#[derive(Debug, Default)]
pub(super) struct PathControls(RefCell<BTreeMap<Path, [Option<PathControl>; 2]>>);

impl PathControls {
    /// The longest crossing of a path by a flow other than `id`.
    fn longest(&self, evaluation: Evaluation<'_>, path: &Path, id: FlowId) -> Option<PathControl> {
        let mut known = self.0.borrow_mut();
        let two = match known.get(path) {
            Some(two) => *two,
            None => *known
                .entry(path.clone())
                .or_insert(longest_two(evaluation, path)),
        };
        two.into_iter()
            .flatten()
            .find(|path_control| path_control.flow != id)
    }
}

/// The longest crossing of a path, and the longest by another flow than that.
fn longest_two(evaluation: Evaluation<'_>, path: &Path) -> [Option<PathControl>; 2] {
    let takers = evaluation
        .plan
        .path_controls()
        .get(path)
        .map_or(&[][..], Vec::as_slice);
    let length =
        |path_control: &PathControl| path_control.last.earliest - path_control.first.latest;
    let longest = takers.iter().filter_map(|flow| {
        let own = evaluation
            .openings(*flow, Stage::Resolve)
            .map(|(first, last, _)| PathControl {
                flow: *flow,
                first,
                last,
            });
        own.max_by_key(length)
    });
    longest.fold([None, None], |[best, second], next| {
        let heartbeats =
            |other: Option<PathControl>| other.is_none_or(|other| length(&next) >= length(&other));
        match (heartbeats(best), heartbeats(second)) {
            (true, _) => [Some(next), best],
            (false, true) => [best, Some(next)],
            (false, false) => [best, second],
        }
    })
}

/// `to` is the end that nothing reached at all, if it is that.
pub(super) fn nothing_crossed(
    evaluation: Evaluation<'_>,
    id: FlowId,
    to: Option<&PathEnd>,
) -> UnprovenCause {
    let flow = evaluation.plan.flow(id);
    let source = evaluation.plan.source(flow.probe);
    let from = source
        .node()
        .map_or_else(|| source.to_string(), |node| format!("node {node}"));
    let to = to.map_or_else(|| flow.target_kind.to_string(), ToString::to_string);
    (
        Reason::PathNotVerified,
        format!("nothing got from {from} to {to} meanwhile"),
    )
}

/// Whether a flow opened, at least up to `stage`, surely within a window.
pub(super) fn opened_within(
    evaluation: Evaluation<'_>,
    id: FlowId,
    stage: Stage,
    window: Window,
) -> bool {
    evaluation
        .openings(id, stage)
        .any(|streak| is_within(evaluation, id, streak, window))
}

/// Whether a flow passed `stage`, whatever became of it after, surely within a window.
pub(super) fn passed_within(
    evaluation: Evaluation<'_>,
    id: FlowId,
    stage: Stage,
    window: Window,
) -> bool {
    evaluation
        .passings(id, stage)
        .any(|streak| is_within(evaluation, id, streak, window))
}

fn is_within(
    evaluation: Evaluation<'_>,
    id: FlowId,
    (first, last, streak): (Moment, Moment, &Streak),
    window: Window,
) -> bool {
    let throughout = first.surely_by(window.from)
        && window.to.surely_by(last)
        && streak.count >= OPENINGS_IN_A_ROW;
    let mut moments = streak
        .points()
        .iter()
        .filter_map(|(own, _)| evaluation.moment(id, *own));
    throughout || moments.any(|moment| window.from.surely_by(moment) && moment.surely_by(window.to))
}
