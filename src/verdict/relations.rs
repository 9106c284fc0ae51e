//! Who can vouch for whom: the plan's relations looked up in the evidence.

use super::conditions::Crossed;
use super::evidence::{Disturbed, Evidence};
use super::moment::Moment;
use super::streak::Streak;
use crate::plan::{Able, FlowId, Party, Path, Plan, Vantage};
use crate::wire::Stage;

/// A plan with the evidence for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) plan: &'a Plan,
    pub(super) evidence: &'a Evidence,
    /// What was found of paths so far.
    pub(super) crossed: &'a Crossed,
}

impl<'a> Case<'a> {
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
    pub(super) fn vouchers(self, flow: FlowId) -> impl Iterator<Item = FlowId> {
        let of = self.plan.flow(flow);
        let vouchers = self
            .plan
            .vouchers
            .get(&of.to)
            .map_or(&[][..], Vec::as_slice);
        vouchers.iter().copied().filter(move |voucher| {
            let from = self.plan.flow(*voucher);
            let vantage = self.plan.vantage(from.probe);
            // One vantage may have several probes.
            from.probe != of.probe
                && vantage != self.plan.vantage(of.probe)
                && !is_self(vantage, &of.party)
        })
    }

    /// As [`Self::vouchers`], but for passing `stage`: that a name resolves is vouched for by pods
    /// only where the source is a pod (or wired like one), since nodes and the runner ask other
    /// name servers.
    pub(super) fn vouchers_for(self, flow: FlowId, stage: Stage) -> impl Iterator<Item = FlowId> {
        let is_pod = move |flow: FlowId| {
            matches!(
                self.plan.vantage(self.plan.flow(flow).probe),
                Vantage::Pod { .. } | Vantage::Witness { .. }
            )
        };
        // A control that says something else than what may be said only once shows no more than the
        // way there.
        let says_the_same = move |voucher: FlowId| {
            self.plan.flow(voucher).to.request == self.plan.flow(flow).to.request
        };
        let on_the_way = matches!(stage, Stage::Resolve | Stage::Connect | Stage::Tls);
        self.vouchers(flow)
            .filter(move |voucher| stage != Stage::Resolve || !is_pod(flow) || is_pod(*voucher))
            .filter(move |voucher| on_the_way || says_the_same(*voucher))
    }

    /// What can vouch that the source of a flow is able to send in the same way.
    pub(super) fn able(self, flow: FlowId) -> Option<&'a Able> {
        let of = self.plan.flow(flow);
        self.plan
            .able
            .get(&(of.probe, of.family(), of.to.transport))
    }

    /// The paths that a flow takes; empty where planning could not tell.
    pub(super) fn paths(self, flow: FlowId) -> Vec<Path> {
        let of = self.plan.flow(flow);
        of.party
            .ends(of)
            .into_iter()
            .map(|to| Path {
                from: self.plan.vantage(of.probe).node().map(str::to_owned),
                to,
                family: of.family(),
            })
            .collect()
    }
}

/// Whether a vantage is the very pod that a flow dials.
fn is_self(vantage: &Vantage, party: &Party) -> bool {
    match (vantage, party) {
        (
            Vantage::Pod {
                namespace, name, ..
            },
            Party::Pod {
                namespace: of,
                name: target,
                ..
            },
        ) => namespace == of && name == target,
        _ => false,
    }
}

/// Whether a change concerns either end of a flow, now or before.
pub fn concerns(plan: &Plan, flow: FlowId, what: &Disturbed) -> bool {
    let of = plan.flow(flow);
    let (source, party) = (plan.vantage(of.probe), &*of.party);
    let source_namespace = match source {
        Vantage::Pod { namespace, .. } => Some(namespace.as_str()),
        Vantage::Node { .. } | Vantage::Witness { .. } | Vantage::Runner => None,
    };
    let target_namespace = match party {
        Party::Pod { namespace, .. } => Some(namespace.as_str()),
        Party::Service { service, .. } => Some(service.namespace.as_str()),
        Party::Node { .. } | Party::Witness { .. } | Party::Outside { .. } => None,
    };
    let either = |namespace: &str| {
        source_namespace == Some(namespace) || target_namespace == Some(namespace)
    };
    match what {
        Disturbed::Pod(namespace, name) => {
            let is_source = matches!(source, Vantage::Pod { namespace: of, name: pod, .. } if of == namespace && pod == name);
            let is_target = match party {
                Party::Pod {
                    namespace: of,
                    name: pod,
                    ..
                } => of == namespace && pod == name,
                Party::Service { pods, .. } => pods
                    .iter()
                    .any(|pod| pod.split_once('/') == Some((namespace, name))),
                Party::Node { .. } | Party::Witness { .. } | Party::Outside { .. } => false,
            };
            is_source || is_target
        }
        Disturbed::Namespace(name) => either(name),
        // A policy selects pods of its own namespace only, so only those of the two ends'
        // namespaces matter; one of the cluster has none and may select any.
        Disturbed::Policy(namespace, _) => namespace.is_empty() || either(namespace),
        Disturbed::Service(namespace, name) => {
            matches!(party, Party::Service { service, .. } if service.namespace == *namespace && service.name == *name)
        }
    }
}
