//! Conditions 3 and 4: the source was able to send, the path was open.

use super::blocked::BlockedAttempts;
use super::control_interval::open_intervals;
use super::controls::Evaluation;
use super::deny_proof::SourceProof;
use super::moment::Moment;
use super::open_interval::{IntervalsOf, Load, OpenInterval};
use super::window::Window;
use crate::plan::{FlowId, Path, PathEnd, SourceControls};

/// Condition 3: the intervals in which the source opened something, or its node reached it.
pub(super) struct SourceIntervals {
    intervals: Vec<OpenInterval>,
    /// The node's flows to the source, where they may be the control.
    reached: Vec<FlowId>,
}

impl SourceIntervals {
    /// The intervals of the source controls of a flow. Its node's flows to the source count only
    /// where the policies let the source open nothing.
    pub(super) fn of(evaluation: Evaluation<'_>, id: FlowId) -> Self {
        let Some(controls) = evaluation.source_controls(id) else {
            return Self {
                intervals: Vec::new(),
                reached: Vec::new(),
            };
        };
        let flow = evaluation.plan.flow(id);
        let with_reached = !evaluation.plan.requires_own_success(id) && controls.allowed.is_empty();
        let of = IntervalsOf::Source {
            probe: flow.probe,
            family: flow.family(),
            transport: flow.to.transport,
            with_reached,
        };

        Self {
            intervals: evaluation.open_intervals.longest(of, id, || {
                source_intervals(evaluation, controls, with_reached)
            }),
            reached: controls.reached.clone(),
        }
    }

    /// Whether the source opened nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// The window with the most attempts that satisfy `is_inside` while one source control opened
    /// all the time.
    pub(super) fn narrow(
        &self,
        blocked: &BlockedAttempts<'_>,
        is_inside: impl Fn(Moment) -> bool,
    ) -> Option<(Window, SourceProof)> {
        let windows = self.intervals.iter().filter_map(|interval| {
            let window = blocked.window(|moment| is_inside(moment) && interval.spans(moment))?;
            Some((window, interval.flow))
        });
        let (window, flow) = windows.max_by_key(|(window, _)| window.attempts)?;
        let proof = SourceProof {
            flow,
            reached: self.reached.contains(&flow),
        };
        Some((window, proof))
    }
}

fn source_intervals(
    evaluation: Evaluation<'_>,
    controls: &SourceControls,
    with_reached: bool,
) -> Vec<OpenInterval> {
    let own = controls.allowed.iter().chain(&controls.tried);
    let reached = controls.reached.iter().filter(|_| with_reached);
    own.chain(reached)
        .flat_map(|flow| open_intervals(evaluation, *flow))
        .map(OpenInterval::from)
        .collect()
}

/// Condition 4: for each end of the flow's paths the longest intervals in which path controls got
/// through, of which there is one at least. One success at the start of the window would say nothing
/// of a path that was cut after it.
///
/// `load` is what the controls must have carried, if a handshake does not do.
///
/// # Errors
/// An end that no control reached.
pub(super) fn path_intervals(
    evaluation: Evaluation<'_>,
    id: FlowId,
    load: Option<Load>,
) -> Result<Vec<Vec<OpenInterval>>, PathEnd> {
    let paths = evaluation.paths(id).into_iter();
    paths
        .map(|path| {
            let of_pods = evaluation.plan.requires_path_of_pod(id, &path);
            // How a Service's address is translated does not depend on the size of a packet.
            let load = load.filter(|_| path.to != PathEnd::Services);
            let of = IntervalsOf::Path {
                path: path.clone(),
                of_pods,
                load,
            };
            let longest = evaluation
                .open_intervals
                .longest(of, id, || intervals_on(evaluation, &path, of_pods, load));
            if longest.is_empty() {
                Err(path.to)
            } else {
                Ok(longest)
            }
        })
        .collect()
}

/// The intervals in which flows on a path got through.
fn intervals_on(
    evaluation: Evaluation<'_>,
    path: &Path,
    of_pods: bool,
    load: Option<Load>,
) -> Vec<OpenInterval> {
    evaluation
        .flows_on(path)
        .iter()
        .filter(|flow| {
            let to = &evaluation.plan.flow(**flow).to;
            !to.request.is_kept_open() && load.is_none_or(|load| load.is_carried_by(to))
        })
        .filter(|flow| !of_pods || evaluation.source(**flow).is_on_pod_network())
        .flat_map(|flow| open_intervals(evaluation, *flow))
        .map(OpenInterval::from)
        .collect()
}
