//! When a flow's samples begin to count: hello, arming, settle; and what a new source could reach
//! before.

use super::controls::Evaluation;
use crate::plan::{Check, FlowId, shows_identity_towards};
use std::time::Duration;

/// From when on a flow's samples count, and over how long a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watch {
    /// Microseconds of the run: samples that surely started later count.
    pub(super) from: i64,
    /// From the first sample to the last.
    pub(super) hold: Duration,
    /// How many samples.
    pub(super) attempts: u32,
}

impl Watch {
    /// Settle starts at the later of the hellos of all probes of the check and the arming. Where
    /// nothing armed the source it starts at the hellos, and the hold is longer.
    pub(super) fn of(evaluation: Evaluation<'_>, check: &Check, id: FlowId) -> Self {
        let hellos = check
            .flows
            .iter()
            .filter_map(|flow| evaluation.moment(*flow, 0))
            .map(|moment| moment.latest);
        let hellos = hellos.max().unwrap_or(i64::MIN);
        let settle = check.settings.settle.as_micros() as i64;
        let (began, hold) = match identity_known(evaluation, id) {
            IdentityKnown::Always => (hellos, check.settings.hold),
            IdentityKnown::At(at) => (hellos.max(at), check.settings.hold),
            IdentityKnown::Never => (hellos, check.settings.unknown_identity_hold),
        };
        let (hold, attempts) = if evaluation.plan.flow(id).to.once {
            (Duration::ZERO, 1)
        } else {
            (hold, check.settings.attempts)
        };
        Self {
            from: began.saturating_add(settle),
            hold,
            attempts,
        }
    }
}

/// Whether and when a source's labels were known where its packets are judged.
enum IdentityKnown {
    /// It was there before the run.
    Always,
    /// From a moment of the run on, at the latest.
    At(i64),
    /// Nothing shows it.
    Never,
}

fn identity_known(evaluation: Evaluation<'_>, id: FlowId) -> IdentityKnown {
    let of = evaluation.plan.flow(id);
    if !evaluation.plan.created_probes().contains(&of.probe) {
        return IdentityKnown::Always;
    }
    let first_opening = |node: &String| {
        let flows = evaluation
            .plan
            .policy_delay_flows()
            .get(&(of.probe, node.clone()))?;
        let openings = flows.iter().filter_map(|flow| {
            let opened = evaluation.evidence.flow(*flow).first_open.as_ref()?;
            Some(evaluation.moment(*flow, opened.start)?.latest)
        });
        openings.min()
    };
    let nodes = shows_identity_towards(&of.target_kind).unwrap_or_default();
    let all: Option<Vec<i64>> = nodes.iter().map(first_opening).collect();
    all.and_then(|all| all.into_iter().max())
        .map_or(IdentityKnown::Never, IdentityKnown::At)
}

/// What a source that this run created could reach of what it must not.
pub(super) enum Startup {
    /// While it was new, and never again: for so long at the most.
    Leaked(Duration),
    /// Perhaps no more than that: it may still end, or be seen not to come back.
    Leaking,
    /// While it was new; and what it was denied by changed at that time.
    Changed,
    /// No such thing: what opened, opened.
    FirstSuccess,
}

/// How much later than it takes effect a change may be noticed, microseconds.
const NOTICE_US: i64 = 2_000_000;

/// Reads the openings of a denied flow.
///
/// Where a pod's packets are judged, it becomes known some time after its start, and at another
/// time at each place: so a new source may be let out at first by its own node and not be let in by
/// the target's, then get through, then be stopped. All of that is over within the grace. Openings
/// with gaps between them may also be a leak that lasts and shows in some attempts only: then so
/// many attempts must be blocked afterwards as rule that out.
pub(super) fn startup(evaluation: Evaluation<'_>, check: &Check, id: FlowId) -> Startup {
    let (seen, leak) = (
        evaluation.evidence.flow(id),
        evaluation.evidence.flow(id).leak,
    );
    let is_new = evaluation
        .plan
        .created_probes()
        .contains(&evaluation.plan.flow(id).probe)
        && !check.settings.startup_isolated;
    let (Some(first), Some(last), true) = (&seen.first_open, leak.last, is_new) else {
        return Startup::FirstSuccess;
    };
    let grace = evaluation
        .evidence
        .canary
        .map_or(check.settings.grace, |canary| canary * 3);
    // A probe's time begins with its pod's. What is tried late, or only once, is no part of a start
    // that is over.
    let within_grace = |at: u64| Duration::from_micros(at) <= grace;
    let Some(end) = leak.ended else {
        let latest = seen
            .streaks
            .last()
            .map_or(last, |streak| streak.last().max(last));
        return if within_grace(latest) {
            Startup::Leaking
        } else {
            Startup::FirstSuccess
        };
    };
    if !within_grace(last) {
        return Startup::FirstSuccess;
    }
    let Some((from, to)) = evaluation
        .moment(id, first.start)
        .zip(evaluation.moment(id, end))
    else {
        return Startup::FirstSuccess;
    };
    let meanwhile = from.earliest..=to.latest.saturating_add(NOTICE_US);
    if seen
        .restarts
        .iter()
        .flat_map(|restarts| &restarts.changes)
        .any(|change| meanwhile.contains(change))
    {
        return Startup::Changed;
    }
    if leak.blocked_since < leak.refutation() {
        return Startup::Leaking;
    }
    Startup::Leaked(Duration::from_micros(end.saturating_sub(first.start)))
}
