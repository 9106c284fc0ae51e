//! Controls of a flow: the plan's relations, looked up in the evidence.

use super::evidence::Evidence;
use super::moment::Moment;
use super::open_interval::OpenIntervals;
use super::stability::SUCCESSES_IN_A_ROW;
use super::streak::Streak;
use super::window::Window;
use crate::plan::{FlowId, Path, Plan, ProbeId, Source, SourceControls, TargetKind};
use crate::wire::Stage;

/// A plan with its evidence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evaluation<'a> {
    pub(super) plan: &'a Plan,
    pub(super) evidence: &'a Evidence,
    /// The intervals of source and path controls found so far.
    pub(super) open_intervals: &'a OpenIntervals,
}

/// A streak with the start of its first and last attempts by the run's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimedStreak<'a> {
    pub(super) first: Moment,
    pub(super) last: Moment,
    pub(super) streak: &'a Streak,
}

impl<'a> Evaluation<'a> {
    /// The probe of a flow.
    pub(super) fn probe(self, flow: FlowId) -> ProbeId {
        self.plan.flow(flow).probe
    }

    /// The source of a flow.
    pub(super) fn source(self, flow: FlowId) -> &'a Source {
        self.plan.source(self.probe(flow))
    }

    /// A time of a flow's probe by the run's clock; `None` before its hello.
    pub(super) fn moment(self, flow: FlowId, probe_us: u64) -> Option<Moment> {
        self.evidence
            .probe(self.probe(flow))
            .clock
            .map(|clock| clock.moment(probe_us))
    }

    /// A streak by the run's clock; `None` where its probe failed before its end, since nothing of
    /// a probe counts after that.
    pub(super) fn timed(self, flow: FlowId, streak: &'a Streak) -> Option<TimedStreak<'a>> {
        let probe = self.evidence.probe(self.probe(flow));
        if !probe.is_intact_at(streak.last()) {
            return None;
        }
        Some(TimedStreak {
            first: self.moment(flow, streak.first())?,
            last: self.moment(flow, streak.last())?,
            streak,
        })
    }

    /// The streaks of a flow that `selects` takes, in the order of their times.
    fn timed_streaks(
        self,
        flow: FlowId,
        selects: impl Fn(&Streak) -> bool,
    ) -> impl Iterator<Item = TimedStreak<'a>> {
        let streaks = self.evidence.flow(flow).streaks.iter();
        streaks
            .filter(move |streak| selects(streak))
            .filter_map(move |streak| self.timed(flow, streak))
    }

    /// The streaks of a flow that opened and passed `stage`.
    pub(super) fn successes(
        self,
        flow: FlowId,
        stage: Stage,
    ) -> impl Iterator<Item = TimedStreak<'a>> {
        self.timed_streaks(flow, move |streak| streak.opened_past(stage))
    }

    /// The streaks of a flow that passed `stage`, open or stopped after it.
    pub(super) fn passes(
        self,
        flow: FlowId,
        stage: Stage,
    ) -> impl Iterator<Item = TimedStreak<'a>> {
        self.timed_streaks(flow, move |streak| streak.got_past(stage))
    }

    /// Whether a flow opened and passed `stage` surely within a window.
    pub(super) fn opened_within(self, flow: FlowId, stage: Stage, window: Window) -> bool {
        self.successes(flow, stage)
            .any(|timed| self.is_within(flow, timed, window))
    }

    /// Whether a flow passed `stage`, open or stopped after it, surely within a window.
    pub(super) fn passed_within(self, flow: FlowId, stage: Stage, window: Window) -> bool {
        self.passes(flow, stage)
            .any(|timed| self.is_within(flow, timed, window))
    }

    /// Whether a streak surely has an attempt within a window: one whose start is kept, or some of
    /// several around the whole window.
    fn is_within(self, flow: FlowId, timed: TimedStreak<'_>, window: Window) -> bool {
        let TimedStreak {
            first,
            last,
            streak,
        } = timed;
        if first.surely_by(window.from)
            && window.to.surely_by(last)
            && streak.count >= SUCCESSES_IN_A_ROW
        {
            return true;
        }
        streak
            .points()
            .iter()
            .filter_map(|(start, _)| self.moment(flow, *start))
            .any(|moment| window.from.surely_by(moment) && moment.surely_by(window.to))
    }

    /// The target controls of a flow: flows of other sources, never of the target itself.
    pub(super) fn target_controls(self, id: FlowId) -> impl Iterator<Item = FlowId> {
        let flow = self.plan.flow(id);
        let target_controls = self
            .plan
            .target_controls()
            .get(&flow.to)
            .map_or(&[][..], Vec::as_slice);
        target_controls.iter().copied().filter(move |control| {
            let source = self.source(*control);
            // One source may have several probes.
            self.probe(*control) != flow.probe
                && source != self.source(id)
                && !is_target_itself(source, &flow.target_kind)
        })
    }

    /// The target controls that can show that `stage` can be passed.
    ///
    /// Only a pod shows to a source that is a pod that a name resolves, since nodes and the runner
    /// ask other name servers. A control that sends another request than one that may be sent only
    /// once shows no more than the stages before the request.
    pub(super) fn target_controls_past(
        self,
        id: FlowId,
        stage: Stage,
    ) -> impl Iterator<Item = FlowId> {
        let must_be_pod = stage == Stage::Resolve && self.is_from_pod(id);
        let may_differ = matches!(stage, Stage::Resolve | Stage::Connect | Stage::Tls);
        self.target_controls(id)
            .filter(move |control| !must_be_pod || self.is_from_pod(*control))
            .filter(move |control| may_differ || self.sends_same_request(*control, id))
    }

    fn is_from_pod(self, flow: FlowId) -> bool {
        matches!(
            self.source(flow),
            Source::Pod { .. } | Source::ReferencePod { .. }
        )
    }

    fn sends_same_request(self, one: FlowId, other: FlowId) -> bool {
        self.plan.flow(one).to.request == self.plan.flow(other).to.request
    }

    /// The source controls of a flow, of the same family and transport.
    pub(super) fn source_controls(self, id: FlowId) -> Option<&'a SourceControls> {
        let flow = self.plan.flow(id);
        self.plan
            .source_controls()
            .get(&(flow.probe, flow.family(), flow.to.transport))
    }

    /// The flows that can show that a path is open.
    pub(super) fn flows_on(self, path: &Path) -> &'a [FlowId] {
        self.plan
            .path_controls()
            .get(path)
            .map_or(&[][..], Vec::as_slice)
    }

    /// The paths of a flow; empty where planning could not tell.
    pub(super) fn paths(self, id: FlowId) -> Vec<Path> {
        let flow = self.plan.flow(id);
        let from = self.source(id).node();
        flow.target_kind
            .path_ends(flow)
            .into_iter()
            .map(|to| Path {
                from: from.map(str::to_owned),
                to,
                family: flow.family(),
            })
            .collect()
    }
}

/// Whether a source is the very pod that a flow dials.
fn is_target_itself(source: &Source, target_kind: &TargetKind) -> bool {
    match (source, target_kind) {
        (
            Source::Pod {
                namespace, name, ..
            },
            TargetKind::Pod {
                namespace: target_namespace,
                name: target_name,
                ..
            },
        ) => namespace == target_namespace && name == target_name,
        _ => false,
    }
}
