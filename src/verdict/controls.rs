//! Who can vouch for whom: the plan's relations looked up in the evidence.

use super::evidence::Evidence;
use super::moment::Moment;
use super::source_and_path::PathControls;
use super::streak::Streak;
use crate::model::ClusterChange;
use crate::plan::{FlowId, Path, Plan, Source, SourceControls, TargetKind};
use crate::wire::Stage;

/// A plan with the evidence for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evaluation<'a> {
    pub(super) plan: &'a Plan,
    pub(super) evidence: &'a Evidence,
    /// What was found of paths so far.
    pub(super) path_controls: &'a PathControls,
}

impl<'a> Evaluation<'a> {
    /// When a moment of a flow's probe was, by the run's clock; `None` before its hello.
    pub(super) fn moment(self, flow: FlowId, own: u64) -> Option<Moment> {
        let probe = self.plan.flow(flow).probe;
        self.evidence
            .probe(probe)
            .clock
            .map(|clock| clock.moment(own))
    }

    /// Start of a streak's first and last samples by the run's clock. Nothing of a probe counts
    /// after it failed.
    fn bounds(self, flow: FlowId, streak: &Streak) -> Option<(Moment, Moment)> {
        let failed_at = self
            .evidence
            .probe(self.plan.flow(flow).probe)
            .failure
            .as_ref()
            .map(|(at, _)| *at);
        if failed_at.is_some_and(|at| at < streak.last()) {
            return None;
        }
        Some((
            self.moment(flow, streak.first())?,
            self.moment(flow, streak.last())?,
        ))
    }

    /// Every streak of openings of a flow that passed `stage`: from when to when.
    pub(super) fn openings(
        self,
        flow: FlowId,
        stage: Stage,
    ) -> impl Iterator<Item = (Moment, Moment, &'a Streak)> {
        let streaks = self.evidence.flow(flow).streaks.iter();
        streaks
            .filter(move |streak| streak.passed(stage))
            .filter_map(move |streak| {
                let (first, last) = self.bounds(flow, streak)?;
                Some((first, last, streak))
            })
    }

    /// Every streak of a flow that passed `stage`, whatever became of it after: from when to when.
    pub(super) fn passings(
        self,
        flow: FlowId,
        stage: Stage,
    ) -> impl Iterator<Item = (Moment, Moment, &'a Streak)> {
        let streaks = self.evidence.flow(flow).streaks.iter();
        streaks
            .filter(move |streak| streak.got_past(stage))
            .filter_map(move |streak| {
                let (first, last) = self.bounds(flow, streak)?;
                Some((first, last, streak))
            })
    }

    /// Who can vouch that the target of a flow is alive: other sources, never the target itself.
    pub(super) fn target_controls(self, flow: FlowId) -> impl Iterator<Item = FlowId> {
        let of = self.plan.flow(flow);
        let target_controls = self
            .plan
            .target_controls()
            .get(&of.to)
            .map_or(&[][..], Vec::as_slice);
        target_controls.iter().copied().filter(move |control| {
            let from = self.plan.flow(*control);
            let source = self.plan.source(from.probe);
            // One vantage may have several probes.
            from.probe != of.probe
                && source != self.plan.source(of.probe)
                && !is_self(source, &of.target_kind)
        })
    }

    /// As [`Self::target_controls`], but for passing `stage`: that a name resolves is vouched for
    /// by pods only where the source is a pod (or wired like one), since nodes and the runner ask
    /// other name servers.
    pub(super) fn target_controls_past(
        self,
        flow: FlowId,
        stage: Stage,
    ) -> impl Iterator<Item = FlowId> {
        let is_pod = move |flow: FlowId| {
            matches!(
                self.plan.source(self.plan.flow(flow).probe),
                Source::Pod { .. } | Source::ReferencePod { .. }
            )
        };
        // A control that says something else than what may be said only once shows no more than the
        // way there.
        let says_the_same = move |control: FlowId| {
            self.plan.flow(control).to.request == self.plan.flow(flow).to.request
        };
        let on_the_way = matches!(stage, Stage::Resolve | Stage::Connect | Stage::Tls);
        self.target_controls(flow)
            .filter(move |control| stage != Stage::Resolve || !is_pod(flow) || is_pod(*control))
            .filter(move |control| on_the_way || says_the_same(*control))
    }

    /// What can vouch that the source of a flow is able to send in the same way.
    pub(super) fn source_window(self, flow: FlowId) -> Option<&'a SourceControls> {
        let of = self.plan.flow(flow);
        self.plan
            .source_controls()
            .get(&(of.probe, of.family(), of.to.transport))
    }

    /// The paths that a flow takes; empty where planning could not tell.
    pub(super) fn paths(self, flow: FlowId) -> Vec<Path> {
        let of = self.plan.flow(flow);
        of.target_kind
            .path_ends(of)
            .into_iter()
            .map(|to| Path {
                from: self.plan.source(of.probe).node().map(str::to_owned),
                to,
                family: of.family(),
            })
            .collect()
    }
}

/// Whether a vantage is the very pod that a flow dials.
fn is_self(source: &Source, target_kind: &TargetKind) -> bool {
    match (source, target_kind) {
        (
            Source::Pod {
                namespace, name, ..
            },
            TargetKind::Pod {
                namespace: of,
                name: target,
                ..
            },
        ) => namespace == of && name == target,
        _ => false,
    }
}

/// Whether a change concerns either end of a flow, now or before.
pub fn concerns(plan: &Plan, flow: FlowId, what: &ClusterChange) -> bool {
    let of = plan.flow(flow);
    let (source, target_kind) = (plan.source(of.probe), &*of.target_kind);
    let source_namespace = match source {
        Source::Pod { namespace, .. } => Some(namespace.as_str()),
        Source::Node { .. } | Source::ReferencePod { .. } | Source::Runner => None,
    };
    let target_namespace = match target_kind {
        TargetKind::Pod { namespace, .. } => Some(namespace.as_str()),
        TargetKind::Service { service, .. } => Some(service.namespace.as_str()),
        TargetKind::Node { .. } | TargetKind::ReferencePod { .. } | TargetKind::Outside { .. } => {
            None
        }
    };
    let either = |namespace: &str| {
        source_namespace == Some(namespace) || target_namespace == Some(namespace)
    };
    match what {
        ClusterChange::Pod(namespace, name) => {
            let is_source = matches!(source, Source::Pod { namespace: of, name: pod, .. } if of == namespace && pod == name);
            let is_target = match target_kind {
                TargetKind::Pod {
                    namespace: of,
                    name: pod,
                    ..
                } => of == namespace && pod == name,
                TargetKind::Service { pods, .. } => pods
                    .iter()
                    .any(|pod| pod.split_once('/') == Some((namespace, name))),
                TargetKind::Node { .. }
                | TargetKind::ReferencePod { .. }
                | TargetKind::Outside { .. } => false,
            };
            is_source || is_target
        }
        ClusterChange::Namespace(name) => either(name),
        // A policy selects pods of its own namespace only, so only those of the two ends'
        // namespaces matter; one of the cluster has none and may select any.
        ClusterChange::Policy(namespace, _) => namespace.is_empty() || either(namespace),
        ClusterChange::Service(namespace, name) => {
            matches!(target_kind, TargetKind::Service { service, .. } if service.namespace == *namespace && service.name == *name)
        }
    }
}
