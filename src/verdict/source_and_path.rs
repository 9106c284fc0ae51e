//! Conditions 3 and 4: the source was able to send, the path was open.

use super::blocked::BlockedAttempts;
use super::controls::{Evaluation, TimedStreak};
use super::deny_proof::SourceProof;
use super::moment::Moment;
use super::path_control::{LongestTwo, PathControl, longest_two};
use super::window::Window;
use crate::plan::{FlowId, Path, PathEnd};
use crate::wire::Stage;

/// Condition 3: the first and last moments at which the source is known to have been able to send.
#[derive(Default)]
pub(super) struct SourceWindow {
    first: Option<(Moment, FlowId)>,
    last: Option<(Moment, FlowId)>,
    /// Whether it rests on the node's flows to the source.
    reached: bool,
}

impl SourceWindow {
    /// The window by the source controls of a flow.
    pub(super) fn of(evaluation: Evaluation<'_>, id: FlowId) -> Self {
        let Some(controls) = evaluation.source_controls(id) else {
            return Self::default();
        };
        let sent = controls
            .allowed
            .iter()
            .chain(&controls.tried)
            .filter(|flow| **flow != id);
        // A flow that the suite expects to be allowed is the stronger control: where it fails, the
        // node's flows to the source are no excuse.
        if controls.allowed.iter().any(|flow| *flow != id) {
            return Self::by(evaluation, sent);
        }

        // A new pod may have got out before its identity was known; from then on only its node's
        // flows to it show that it is there.
        let window = Self::by(evaluation, sent.chain(&controls.reached));
        let reached = [window.first, window.last]
            .into_iter()
            .flatten()
            .any(|(_, flow)| controls.reached.contains(&flow));
        Self { reached, ..window }
    }

    /// From the earliest success of these flows to the latest.
    fn by<'f>(evaluation: Evaluation<'_>, flows: impl Iterator<Item = &'f FlowId>) -> Self {
        let mut window = Self::default();
        for flow in flows {
            for TimedStreak { first, last, .. } in evaluation.successes(*flow, Stage::Resolve) {
                if window
                    .first
                    .is_none_or(|(moment, _)| first.latest < moment.latest)
                {
                    window.first = Some((first, *flow));
                }
                if window
                    .last
                    .is_none_or(|(moment, _)| last.earliest > moment.earliest)
                {
                    window.last = Some((last, *flow));
                }
            }
        }
        window
    }

    /// Whether the source opened nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The window of the attempts that satisfy `is_inside` and before and after which the source
    /// opened something.
    pub(super) fn narrow(
        &self,
        blocked: &BlockedAttempts<'_>,
        is_inside: impl Fn(Moment) -> bool,
    ) -> Option<(Window, SourceProof)> {
        let (first, before) = self.first?;
        let (last, after) = self.last?;
        let window = blocked.window(|moment| {
            is_inside(moment) && first.surely_by(moment) && moment.surely_by(last)
        })?;
        let proof = SourceProof {
            before,
            after,
            reached: self.reached,
        };
        Some((window, proof))
    }
}

/// Condition 4: for each end of the flow's paths the longest path control. One success at the start
/// of the window would say nothing of a path that was cut after it.
///
/// # Errors
/// An end that no control reached.
pub(super) fn path_controls(
    evaluation: Evaluation<'_>,
    id: FlowId,
) -> Result<Vec<PathControl>, PathEnd> {
    let paths = evaluation.paths(id).into_iter();
    paths
        .map(|path| {
            evaluation
                .path_controls
                .longest(&path, id, || longest_on(evaluation, &path))
                .ok_or(path.to)
        })
        .collect()
}

/// The longest path control of a path, and the longest by another flow than that.
fn longest_on(evaluation: Evaluation<'_>, path: &Path) -> LongestTwo {
    let flows = evaluation.flows_on(path).iter();
    longest_two(flows.filter_map(|flow| {
        evaluation
            .successes(*flow, Stage::Resolve)
            .map(|timed| PathControl {
                flow: *flow,
                first: timed.first,
                last: timed.last,
            })
            .max_by_key(PathControl::length_us)
    }))
}
