//! Evidence that proves nothing whatever it shows: a failed probe, a clock that is off, too many
//! relevant changes, no attempt.

use super::controls::Evaluation;
use super::evidence::ProbeFailure;
use super::moment::MAX_WALL_ERROR_US;
use super::reason::Reason;
use super::restarts::Cause;
use super::verdicts::Unproven;
use crate::plan::FlowId;

/// The largest number of restarts of a flow after which it may still be proven.
pub const MAX_RESTARTS: u32 = 3;

/// Why the evidence of a flow proves nothing, if it is so.
pub(super) fn unusable(evaluation: Evaluation<'_>, id: FlowId) -> Option<Unproven> {
    failed_probe(evaluation, id)
        .or_else(|| skewed_clock(evaluation, id))
        .or_else(|| changed_too_often(evaluation, id))
        .or_else(|| not_attempted(evaluation, id))
}

fn failed_probe(evaluation: Evaluation<'_>, id: FlowId) -> Option<Unproven> {
    let probe = evaluation.evidence.probe(evaluation.probe(id));
    let (_, failure) = probe.failure.as_ref()?;
    let reason = match failure {
        ProbeFailure::Clocks(_) => Reason::ClockSkew,
        ProbeFailure::Ended(_) | ProbeFailure::Protocol(_) | ProbeFailure::Reported { .. } => {
            Reason::ProbeFault
        }
    };
    Some(Unproven::for_good(id, reason, failure.to_string()))
}

fn skewed_clock(evaluation: Evaluation<'_>, id: FlowId) -> Option<Unproven> {
    let probe = evaluation.evidence.probe(evaluation.probe(id));
    let disagreement_us = probe.clock?.disagreement();
    if disagreement_us <= MAX_WALL_ERROR_US {
        return None;
    }
    let detail = format!(
        "the probe's wall clock and the arrival of its lines are {} ms apart",
        disagreement_us / 1_000
    );
    Some(Unproven {
        // A line that arrives faster may still show that only the way was slow.
        open: !probe.stopped,
        ..Unproven::for_good(id, Reason::ClockSkew, detail)
    })
}

/// Condition 5: a flow is restarted at most [`MAX_RESTARTS`] times, and its pods still exist.
fn changed_too_often(evaluation: Evaluation<'_>, id: FlowId) -> Option<Unproven> {
    let evidence = evaluation.evidence.flow(id);
    if let Some(restarts) = &evidence.restarts
        && restarts.count > MAX_RESTARTS
    {
        let detail = format!(
            "sampling restarted {} times, last because {}",
            restarts.count, restarts.cause
        );
        return Some(Unproven::for_good(id, reason_of(&restarts.cause), detail));
    }
    if evidence.is_retired() {
        let detail = "a pod at either end was replaced, and its replacement is not known";
        return Some(Unproven::for_good(id, Reason::ChangedDuringRun, detail));
    }
    None
}

fn not_attempted(evaluation: Evaluation<'_>, id: FlowId) -> Option<Unproven> {
    if evaluation.evidence.flow(id).attempts > 0 {
        return None;
    }
    let probe = evaluation.evidence.probe(evaluation.probe(id));
    Some(Unproven {
        open: !probe.stopped,
        ..Unproven::for_good(id, Reason::NotAttempted, "no attempt was reported")
    })
}

/// Names the cause of too little evidence: the restart of the flow, or a machine that gave the
/// probe no processor time.
pub(super) fn name_cause(evaluation: Evaluation<'_>, unproven: Unproven) -> Unproven {
    let has_too_little = matches!(
        unproven.reason,
        Reason::TooFewAttempts | Reason::NotAttempted
    );
    let Some(flow) = unproven.flow.filter(|_| has_too_little) else {
        return unproven;
    };

    let evidence = evaluation.evidence.flow(flow);
    if let Some(restarts) = &evidence.restarts {
        return Unproven {
            reason: reason_of(&restarts.cause),
            detail: format!("{}, and since then: {}", restarts.cause, unproven.detail),
            ..unproven
        };
    }
    if evidence.cpu_starved > 0 {
        let detail = format!(
            "the probe's timer lagged by more than 100 ms in {} of {} attempts: {}",
            evidence.cpu_starved, evidence.attempts, unproven.detail
        );
        return Unproven {
            reason: Reason::ProbeCpuStarved,
            detail,
            ..unproven
        };
    }
    unproven
}

fn reason_of(cause: &Cause) -> Reason {
    match cause {
        Cause::Changed(_) => Reason::ChangedDuringRun,
        Cause::Stalled(_) => Reason::ProbeCpuStarved,
    }
}
