//! When an allow is proven, violated or neither.

use super::allow_proof::AllowProof;
use super::controls::Evaluation;
use super::reading::{Block, Reading, Refusal, Signature, Success};
use super::reason::Reason;
use super::stability::Stability;
use super::streak::{Outcome, Streak};
use super::tiers::AllowTier;
use super::timeline::FlowEvidence;
use super::unusable::unusable;
use super::verdicts::{FlowVerdict, Unproven, Violation};
use super::window::Window;
use super::wording::describe_how;
use crate::plan::{CheckSettings, FlowId};
use crate::wire::Stage;

/// The number of attempts after a flow was up from which on a share of losses counts.
const MIN_ATTEMPTS_FOR_SHARE: u32 = 20;

/// Judges an allowed flow.
pub(super) fn judge_allowed(
    evaluation: Evaluation<'_>,
    settings: &CheckSettings,
    id: FlowId,
) -> FlowVerdict {
    if let Some(unproven) = unusable(evaluation, id) {
        return FlowVerdict::Unproven(unproven);
    }
    let evidence = evaluation.evidence.flow(id);
    let Some(proof) = AllowProof::new(settings, evidence) else {
        return match judge_blocked(evaluation, settings, id) {
            Ok(violation) => FlowVerdict::Violated(violation),
            Err(unproven) => FlowVerdict::Unproven(unproven),
        };
    };
    match evidence.stability.as_deref() {
        Some(stability) if is_unstable(stability) => judge_unstable(evaluation, id, stability),
        Some(_) | None => FlowVerdict::Allowed(proof),
    }
}

/// Whether two attempts were lost in a row, or more than 5 % of many.
fn is_unstable(stability: &Stability) -> bool {
    let Stability {
        attempts_since,
        lost,
        longest_loss,
        ..
    } = *stability;
    longest_loss >= 2 || (attempts_since >= MIN_ATTEMPTS_FOR_SHARE && lost * 20 > attempts_since)
}

/// Judges a flow that came up and did not stay up: violated if the target answered another source
/// in the same window.
fn judge_unstable(evaluation: Evaluation<'_>, id: FlowId, stability: &Stability) -> FlowVerdict {
    let (lost, of) = (stability.lost, stability.attempts_since);
    let contrast = attempted_window(evaluation, id)
        .and_then(|window| contrast(evaluation, id, Stage::Connect, window));
    if contrast.is_none() {
        let detail = format!(
            "it came up, then {lost} of {of} attempts were lost, and no other source shows that the target was alive"
        );
        return FlowVerdict::Unproven(Unproven::for_now(id, Reason::TargetUnreachable, detail));
    }
    FlowVerdict::Violated(Violation::Unstable {
        flow: id,
        lost,
        of,
        in_a_row: stability.longest_loss,
    })
}

/// Judges a flow that never came up: violated if the source was able to send and another source got
/// through, or the refusal names its enforcer.
fn judge_blocked(
    evaluation: Evaluation<'_>,
    settings: &CheckSettings,
    id: FlowId,
) -> Result<Violation, Unproven> {
    let evidence = evaluation.evidence.flow(id);
    let (Some(window), Some(last)) = (attempted_window(evaluation, id), evidence.streaks.last())
    else {
        return Err(Unproven::for_now(
            id,
            Reason::NotAttempted,
            "no attempt was reported",
        ));
    };
    let stopped_at = stopped_at(settings, id, evidence, last)?;

    let once = evaluation.plan.flow(id).to.once;
    if !once && window.length() < settings.timeout {
        let detail = format!(
            "blocked for {:.1} s so far; waiting up to {:.1} s more",
            window.length().as_secs_f32(),
            settings
                .timeout
                .saturating_sub(window.length())
                .as_secs_f32()
        );
        return Err(Unproven::for_now(id, Reason::TooFewAttempts, detail));
    }

    let names_enforcer = stopped_at
        .block
        .as_ref()
        .and_then(|block| block.signature)
        .is_some_and(Signature::names_an_enforcer);
    let contrast = if names_enforcer {
        None
    } else {
        Some(contrast_and_source(
            evaluation,
            id,
            stopped_at.stage,
            window,
        )?)
    };
    Ok(Violation::AllowedFlowBlocked {
        flow: id,
        block: stopped_at.block,
        contrast,
    })
}

/// The other source that got through where the flow was stopped.
///
/// # Errors
/// When there is none, or the flow's own source was not able to send.
fn contrast_and_source(
    evaluation: Evaluation<'_>,
    id: FlowId,
    stage: Stage,
    window: Window,
) -> Result<FlowId, Unproven> {
    let contrast = contrast(evaluation, id, stage, window).ok_or_else(|| match stage {
        Stage::Resolve => Unproven::for_now(
            id,
            Reason::NameDidNotResolve,
            "neither the source nor a control could resolve the name",
        ),
        Stage::Request => Unproven::for_now(
            id,
            Reason::TargetUnreachable,
            "no other source got the answer that the line expects",
        ),
        Stage::Connect | Stage::FirstBytes | Stage::Tls => Unproven::for_now(
            id,
            Reason::TargetUnreachable,
            "no other source reached the target",
        ),
    })?;
    if !is_source_able(evaluation, id, window) {
        let source = evaluation.source(id);
        let detail = format!("{source} opened nothing else, and nothing reached it");
        return Err(Unproven::for_now(id, Reason::SourceNotVerified, detail));
    }
    Ok(contrast)
}

/// The stage at which a flow that did not come up is stopped.
struct StoppedAt {
    stage: Stage,
    block: Option<Block>,
}

impl StoppedAt {
    fn by(block: &Block) -> Self {
        Self {
            stage: block.stage,
            block: Some(block.clone()),
        }
    }

    /// Where an attempt stopped that opened and did not pass everything.
    fn after(success: &Success) -> Self {
        let Some(stop) = &success.then else {
            return Self {
                stage: Stage::FirstBytes,
                block: None,
            };
        };
        Self {
            stage: stop.stage,
            block: Some(Block {
                passed: Some(success.passed),
                stage: stop.stage,
                how: Refusal::Wire(stop.how.clone()),
                signature: None,
                by_target: true,
            }),
        }
    }
}

/// Where a flow that did not come up is stopped, by its last streak.
///
/// # Errors
/// When it is not stopped by the network: by our own faults, its own node, or its tier.
fn stopped_at(
    settings: &CheckSettings,
    id: FlowId,
    evidence: &FlowEvidence,
    last: &Streak,
) -> Result<StoppedAt, Unproven> {
    match &last.outcome {
        Outcome::Fault(_) => Err(Unproven::for_now(
            id,
            Reason::ProbeFault,
            "the probe could not carry out the attempts",
        )),
        Outcome::Read(Reading::NotSent(stop)) => Err(Unproven::for_now(
            id,
            Reason::SendFailed,
            format!(
                "the attempts did not leave the source: {}",
                describe_how(&stop.how)
            ),
        )),
        Outcome::Read(Reading::Blocked(block)) => Ok(StoppedAt::by(block)),
        Outcome::Read(Reading::Open(success)) if success.then.is_some() => {
            Ok(StoppedAt::after(success))
        }
        Outcome::Read(Reading::Open(success)) => {
            stopped_while_open(settings, id, evidence, success)
        }
    }
}

/// Where a flow was stopped whose last attempt passed everything.
fn stopped_while_open(
    settings: &CheckSettings,
    id: FlowId,
    evidence: &FlowEvidence,
    success: &Success,
) -> Result<StoppedAt, Unproven> {
    // Nothing is blocked, and another source that gets through contrasts with nothing.
    let needed = AllowTier::meeting(settings.required_tier);
    if needed.is_some_and(|needed| success.tier < needed) {
        let detail = format!(
            "it opens at {:?}, the line requires {}",
            success.tier,
            settings.required_tier.name()
        );
        return Err(Unproven::for_now(id, Reason::TierNotMet, detail));
    }

    // It gets through now. Unless some attempts were blocked before, nothing but our own faults
    // kept it from doing so three times in a row.
    match last_block(evidence) {
        Some(block) => Ok(StoppedAt::by(block)),
        None if evidence.has_fault() => Err(Unproven::for_now(
            id,
            Reason::ProbeFault,
            "the probe could not carry out all attempts",
        )),
        None => Err(Unproven::for_now(
            id,
            Reason::TooFewAttempts,
            "it did not yet get through three times in a row",
        )),
    }
}

fn last_block(evidence: &FlowEvidence) -> Option<&Block> {
    evidence
        .streaks
        .iter()
        .rev()
        .find_map(|streak| match &streak.outcome {
            Outcome::Read(Reading::Blocked(block)) => Some(block),
            Outcome::Read(Reading::Open(_) | Reading::NotSent(_)) | Outcome::Fault(_) => None,
        })
}

/// The window from the first attempt of a flow to the last.
fn attempted_window(evaluation: Evaluation<'_>, id: FlowId) -> Option<Window> {
    let evidence = evaluation.evidence.flow(id);
    Some(Window {
        from: evaluation.moment(id, evidence.first_start?)?,
        to: evaluation.moment(id, evidence.streaks.last()?.last())?,
        attempts: evidence.attempts,
    })
}

/// A flow of another source that passed `stage` at the same address and port in the window.
fn contrast(
    evaluation: Evaluation<'_>,
    id: FlowId,
    stage: Stage,
    window: Window,
) -> Option<FlowId> {
    evaluation
        .target_controls_past(id, stage)
        .find(|control| evaluation.passed_within(*control, stage, window))
}

/// Whether the source opened something else in the window, or its node reached it.
fn is_source_able(evaluation: Evaluation<'_>, id: FlowId, window: Window) -> bool {
    let Some(controls) = evaluation.source_controls(id) else {
        return false;
    };
    controls
        .allowed
        .iter()
        .chain(&controls.tried)
        .chain(&controls.reached)
        .filter(|flow| **flow != id)
        .any(|flow| evaluation.opened_within(*flow, Stage::Resolve, window))
}
