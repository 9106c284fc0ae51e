//! Lines with `established: true`: a connection that was open before the deny applied must be cut.
//!
//! The deny begins to apply with the last relevant change of the run, at the latest by the grace
//! after it. Then
//!
//! 1. new connections are judged as those of any denied line; what opened before does not count
//!    ([`super::denied_success`]);
//! 2. the connection that is kept open must have been alive until the change, and must not be
//!    acknowledged any more after it ([`judge_kept_open`]). Where it still is, after the timeout, the
//!    line is violated. Where it is not, the five conditions of any deny must hold: so a target that
//!    went away, a source that lost its network or a path that was cut is no proof.
//!
//! A connection that ended with FIN or RST may have been ended by the target itself. So the control
//! of that is a connection of another source that was kept open as well and lived on. Silence needs
//! no such control: a target that answers new connections would acknowledge an open one, or reset
//! it.

use super::control_interval::target_intervals;
use super::controls::Evaluation;
use super::deny::{Basis, prove};
use super::deny_begins::{Change, nothing_changed};
use super::deny_proof::DenyProof;
use super::moment::Moment;
use super::reading::{Block, Reading, Refusal};
use super::reason::Reason;
use super::streak::{Outcome, Streak};
use super::unusable::unusable;
use super::verdicts::{FlowVerdict, Unproven, Violation};
use crate::model::show_duration;
use crate::plan::{Check, FlowId};
use crate::wire::{Stage, StopCause};
use std::time::Duration;

/// How long before the change a connection must have been acknowledged, microseconds: the longest
/// pause over which anything counts as alive.
const ALIVE_BEFORE_US: i64 = 2_000_000;

/// Linux errno of a connection that the kernel gave up without an answer.
const ETIMEDOUT: i32 = 110;

/// Judges the connection that is kept open.
pub(super) fn judge_kept_open(
    evaluation: Evaluation<'_>,
    check: &Check,
    id: FlowId,
) -> FlowVerdict {
    let evidence = evaluation.evidence.flow(id);
    let change = Change::of(evaluation, check, id);
    let last_alive = evaluation
        .successes(id, Stage::Connect)
        .map(|timed| timed.last)
        .max_by_key(|moment| moment.latest);
    let was_open = was_open_before(evaluation, id, change.as_ref());

    if let (Some(change), Some(alive), Ok(()), false) =
        (&change, last_alive, &was_open, evidence.was_replaced())
        && let Some(violation) = stayed_open(check, id, change, alive)
    {
        return FlowVerdict::Violated(violation);
    }
    if let Some(unproven) = unusable(evaluation, id) {
        return FlowVerdict::Unproven(unproven);
    }
    if evidence.was_replaced() {
        let detail = "a pod at either end was replaced, and its connections ended with it";
        let unproven = Unproven::for_good(id, Reason::ChangedDuringRun, detail);
        return FlowVerdict::Unproven(unproven);
    }
    if let Err(unproven) = was_open {
        return FlowVerdict::Unproven(unproven);
    }
    let (Some(change), Some(alive)) = (change, last_alive) else {
        return FlowVerdict::Unproven(nothing_changed(id));
    };
    match was_cut(evaluation, check, id, &change, alive) {
        Ok(proof) => FlowVerdict::Denied(proof),
        Err(unproven) => FlowVerdict::Unproven(unproven),
    }
}

/// Whether the connection was opened before the change.
fn was_open_before(
    evaluation: Evaluation<'_>,
    id: FlowId,
    change: Option<&Change<'_>>,
) -> Result<(), Unproven> {
    let opened = evaluation
        .evidence
        .flow(id)
        .first_success
        .as_ref()
        .and_then(|first| evaluation.moment(id, first.start));
    match (opened, change) {
        (Some(opened), Some(change)) if opened.latest >= change.at => {
            let detail = format!(
                "the connection was not surely open before {} changed",
                change.what
            );
            Err(Unproven::for_good(id, Reason::WasNotOpen, detail))
        }
        (Some(_), _) => Ok(()),
        (None, Some(change)) => {
            let detail = format!(
                "no connection could be opened before {} changed",
                change.what
            );
            Err(Unproven::for_now(id, Reason::WasNotOpen, detail))
        }
        (None, None) => {
            let detail = "no connection could be opened: the deny applies already, or the target does not answer";
            Err(Unproven::for_now(id, Reason::WasNotOpen, detail))
        }
    }
}

/// The violation, if the connection surely went on for the timeout after the deny applied.
fn stayed_open(check: &Check, id: FlowId, change: &Change<'_>, alive: Moment) -> Option<Violation> {
    let timeout = check.settings.timeout.as_micros() as i64;
    (alive.earliest > change.applies_at.saturating_add(timeout)).then(|| Violation::StayedOpen {
        flow: id,
        change: change.what.clone(),
        lasted: time_from(change.at, alive.earliest),
    })
}

/// Whether the connection was alive until the change, and dead from then on by the five conditions.
fn was_cut(
    evaluation: Evaluation<'_>,
    check: &Check,
    id: FlowId,
    change: &Change<'_>,
    alive: Moment,
) -> Result<DenyProof, Unproven> {
    let is_over = match evaluation.evidence.flow(id).latest() {
        Some(Reading::Blocked(_)) => true,
        Some(Reading::Open(_) | Reading::NotSent(_)) | None => false,
    };
    if is_over && alive.latest < change.at - ALIVE_BEFORE_US {
        let detail = format!(
            "the connection had ended {} before {} changed",
            show_duration(time_from(alive.latest, change.at)),
            change.what
        );
        return Err(Unproven::for_good(id, Reason::WasNotOpen, detail));
    }
    if !is_over {
        let detail = format!(
            "the connection goes on, {} after {} changed; it has {} to be cut",
            show_duration(time_from(change.at, alive.earliest)),
            change.what,
            show_duration(check.settings.timeout)
        );
        return Err(Unproven::for_now(id, Reason::TooFewAttempts, detail));
    }

    let own = Basis {
        from: change.at,
        controls_of: id,
    };
    let unproven = match prove(evaluation, check, id, None, own) {
        Ok(proof) if outlived(evaluation, &proof, alive) => return Ok(proof),
        Ok(proof) => Unproven::for_now(
            id,
            Reason::NoControlAnswered,
            format!(
                "the connection ended, and that of {} did not go on all through its end: the target may have ended both",
                evaluation.source(proof.control().flow())
            ),
        ),
        Err(unproven) if is_silent(evaluation, id) || control_went_on(evaluation, id, alive) => {
            unproven
        }
        Err(unproven)
            if unproven.reason == Reason::TooFewAttempts
                || unproven.reason == Reason::NoControlAnswered =>
        {
            let detail = "the connection was closed or reset, and no open connection of another source went on: the target may have ended them";
            Unproven::for_now(id, Reason::NoControlAnswered, detail)
        }
        Err(unproven) => unproven,
    };

    let sibling = new_connections_of(evaluation, check, id).filter(|_| is_silent(evaluation, id));
    let Some(sibling) = sibling else {
        return Err(unproven);
    };
    let by_new_connections = Basis {
        controls_of: sibling,
        ..own
    };
    prove(evaluation, check, id, None, by_new_connections).map_err(|_| unproven)
}

/// Whether the control of a proof, a connection that was kept open as well, was alive before the end
/// of this one and all the time until the end of the proof's window.
fn outlived(evaluation: Evaluation<'_>, proof: &DenyProof, alive: Moment) -> bool {
    let control = proof.control().flow();
    target_intervals(evaluation, control, Stage::Connect)
        .iter()
        .any(|interval| interval.spans(alive) && interval.spans(proof.window().to))
}

/// Whether a control's connection was open when this one ended, and went on.
fn control_went_on(evaluation: Evaluation<'_>, id: FlowId, alive: Moment) -> bool {
    evaluation
        .target_controls_past(id, Stage::Connect)
        .flat_map(|control| target_intervals(evaluation, control, Stage::Connect))
        .any(|interval| {
            interval.spans(alive) && interval.last.earliest > alive.latest + ALIVE_BEFORE_US
        })
}

/// The flow of new connections from the same source to the same address and port.
fn new_connections_of(evaluation: Evaluation<'_>, check: &Check, id: FlowId) -> Option<FlowId> {
    let kept = evaluation.plan.flow(id);
    check.flows.iter().copied().find(|other| {
        let flow = evaluation.plan.flow(*other);
        !flow.to.request.is_kept_open()
            && flow.probe == kept.probe
            && (flow.to.address, &flow.to.name, flow.to.port)
                == (kept.to.address, &kept.to.name, kept.to.port)
    })
}

/// Whether the connection ended in silence: neither FIN nor RST came.
fn is_silent(evaluation: Evaluation<'_>, id: FlowId) -> bool {
    let streaks = &evaluation.evidence.flow(id).streaks;
    let after_last_success = streaks
        .iter()
        .rposition(Streak::is_open)
        .map_or(0, |last| last + 1);
    streaks[after_last_success..]
        .iter()
        .all(|streak| match &streak.outcome {
            Outcome::Read(Reading::Blocked(Block { how, .. })) => is_silence(how),
            Outcome::Read(Reading::Open(_) | Reading::NotSent(_)) | Outcome::Fault(_) => false,
        })
}

fn is_silence(how: &Refusal) -> bool {
    match how {
        Refusal::Wire(StopCause::Silence) => true,
        Refusal::Wire(StopCause::Error { errno, icmp: None }) => *errno == ETIMEDOUT,
        Refusal::Wire(
            StopCause::Unfinished
            | StopCause::Error { .. }
            | StopCause::Closed
            | StopCause::Alert { .. }
            | StopCause::Rcode { .. }
            | StopCause::Garbled { .. },
        )
        | Refusal::Status(_) => false,
    }
}

/// The time between two moments of the run, microseconds.
fn time_from(from: i64, to: i64) -> Duration {
    Duration::from_micros(u64::try_from(to - from).unwrap_or(0))
}
