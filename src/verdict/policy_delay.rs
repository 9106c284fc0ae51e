//! When a flow's attempts begin to count: after hello, policy delay and settle.

use super::controls::Evaluation;
use crate::plan::{Check, CheckSettings, FlowId, shows_identity_towards};
use std::time::Duration;

/// From when on a flow's attempts count, how many are needed and over how long a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watch {
    /// Microseconds of the run: attempts that surely started later count.
    pub(super) from: i64,
    /// The time from the first attempt to the last.
    pub(super) hold: Duration,
    /// The number of attempts.
    pub(super) attempts: u32,
}

impl Watch {
    /// Settle starts at the later of the hellos of all probes of the check and the moment from
    /// which the source's identity is known. Where nothing shows that it is known settle starts at
    /// the hellos, and the hold is longer.
    pub(super) fn of(evaluation: Evaluation<'_>, check: &Check, id: FlowId) -> Self {
        let settings = &check.settings;
        let last_hello = check
            .flows
            .iter()
            .filter_map(|flow| evaluation.moment(*flow, 0))
            .map(|moment| moment.latest)
            .max()
            .unwrap_or(i64::MIN);
        let (settle_from, hold) = match identity_known(evaluation, id) {
            IdentityKnown::Always => (last_hello, settings.hold),
            IdentityKnown::From(at) => (last_hello.max(at), settings.hold),
            IdentityKnown::NotShown => (last_hello, settings.unknown_identity_hold),
        };

        Self {
            from: settle_from.saturating_add(settings.settle.as_micros() as i64),
            hold,
            attempts: settings.attempts,
        }
    }
}

/// How long policies may not apply yet to a pod that the run created: three times as long as a
/// canary measured, else as the settings say.
pub(super) fn grace(evaluation: Evaluation<'_>, settings: &CheckSettings) -> Duration {
    evaluation
        .evidence
        .canary
        .map_or(settings.grace, |canary| canary * 3)
}

/// Whether and when a source's labels were known where its packets are judged.
pub(super) enum IdentityKnown {
    /// It existed before the run.
    Always,
    /// From a moment of the run on, at the latest.
    From(i64),
    NotShown,
}

pub(super) fn identity_known(evaluation: Evaluation<'_>, id: FlowId) -> IdentityKnown {
    let flow = evaluation.plan.flow(id);
    if !evaluation.plan.created_probes().contains(&flow.probe) {
        return IdentityKnown::Always;
    }
    let nodes = shows_identity_towards(&flow.target_kind).unwrap_or_default();
    let known_at: Option<Vec<i64>> = nodes
        .iter()
        .map(|node| identity_known_on(evaluation, id, node))
        .collect();
    match known_at.and_then(|known_at| known_at.into_iter().max()) {
        Some(at) => IdentityKnown::From(at),
        None => IdentityKnown::NotShown,
    }
}

/// The first success of a flow that shows that the source's labels are known on a node.
fn identity_known_on(evaluation: Evaluation<'_>, id: FlowId, node: &str) -> Option<i64> {
    let shows_identity = evaluation
        .plan
        .policy_delay_flows()
        .get(&(evaluation.probe(id), node.to_owned()))?;
    shows_identity
        .iter()
        .filter_map(|flow| {
            let first = evaluation.evidence.flow(*flow).first_success.as_ref()?;
            Some(evaluation.moment(*flow, first.start)?.latest)
        })
        .min()
}
