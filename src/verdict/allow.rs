//! When an allow is proven, violated or neither.

use super::allow_proof::AllowProof;
use super::controls::Evaluation;
use super::policy_delay::{IdentityKnown, grace, identity_known};
use super::reading::{Block, Reading, Refusal, Signature, Success};
use super::reason::Reason;
use super::stability::{Loss, Stability};
use super::streak::{Outcome, Streak};
use super::tiers::AllowTier;
use super::timeline::FlowEvidence;
use super::unusable::unusable;
use super::verdicts::{FlowVerdict, Unproven, Violation};
use super::window::Window;
use super::wording::describe_how;
use crate::plan::{CheckSettings, FlowId};
use crate::wire::{Stage, StopCause};
use std::time::Duration;

/// The number of attempts after a flow was up from which on a share of losses counts.
const MIN_ATTEMPTS_FOR_SHARE: u32 = 20;

/// The least time between the first success of an allow and a later one, microseconds: a burst of
/// attempts lasts 400 ms, and an opening that is over after that is no allow.
const SHORTEST_US: u64 = 500_000;

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
    let Some(stability) = evidence.stability.as_deref() else {
        return FlowVerdict::Allowed(proof);
    };
    let counts_from = counts_from(evaluation, settings, id);
    let losses = losses_since(evaluation, id, stability, counts_from);
    if losses.is_unstable() {
        return judge_unstable(evaluation, id, &losses);
    }
    if let Some(from) = counts_from
        && !succeeded_since(evaluation, id, stability, from)
    {
        let detail = "it opened while the source was new, when policies may not apply to it yet: a success after that is missing";
        return FlowVerdict::Unproven(Unproven::for_now(id, Reason::TooFewAttempts, detail));
    }
    if !evaluation.plan.flow(id).to.once && !lasted(stability) {
        let detail = "it opened for a moment: a success half a second after the first is missing";
        return FlowVerdict::Unproven(Unproven::for_now(id, Reason::TooFewAttempts, detail));
    }
    FlowVerdict::Allowed(proof)
}

/// The moment from which a success proves an allow, microseconds of the run; `None` where the source
/// existed before the run.
///
/// Policies may not apply yet to a pod that the run created: until then it may get through to what
/// will be denied. That time is over after settle and the policy delay, or the grace where the
/// policy delay is unknown.
fn counts_from(evaluation: Evaluation<'_>, settings: &CheckSettings, id: FlowId) -> Option<i64> {
    let hello = evaluation.moment(id, 0)?.latest;
    let settled = hello.saturating_add(micros(settings.settle));
    match identity_known(evaluation, id) {
        IdentityKnown::Always => None,
        IdentityKnown::From(at) => Some(settled.max(at)),
        IdentityKnown::NotShown => {
            let grace = grace(evaluation, settings);
            Some(settled.max(hello.saturating_add(micros(grace))))
        }
    }
}

/// Whether successes lie further apart than the attempts of one burst.
fn lasted(stability: &Stability) -> bool {
    let first_and_last = stability.up_from.zip(stability.last_success);
    first_and_last.is_some_and(|(first, last)| last.saturating_sub(first) >= SHORTEST_US)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn succeeded_since(
    evaluation: Evaluation<'_>,
    id: FlowId,
    stability: &Stability,
    from: i64,
) -> bool {
    stability
        .last_success
        .and_then(|start| evaluation.moment(id, start))
        .is_some_and(|moment| moment.earliest >= from)
}

/// The losses of a flow that was up, as far as they count.
struct Losses {
    series: Vec<Loss>,
    lost: u32,
    attempts: u32,
}

impl Losses {
    /// The most attempts that were lost in a row.
    fn in_a_row(&self) -> u32 {
        let lost = self.series.iter().map(|loss| loss.attempts);
        lost.max().unwrap_or(0)
    }

    /// Whether two attempts were lost in a row, or more than 5 % of many.
    fn is_unstable(&self) -> bool {
        self.in_a_row() >= 2
            || (self.attempts >= MIN_ATTEMPTS_FOR_SHARE && self.lost * 20 > self.attempts)
    }
}

/// The losses of a flow, without those that were over before its successes count: a new pod may
/// open at first, be stopped, and be admitted once its identity is known.
fn losses_since(
    evaluation: Evaluation<'_>,
    id: FlowId,
    stability: &Stability,
    counts_from: Option<i64>,
) -> Losses {
    let Some(from) = counts_from else {
        return Losses {
            series: stability.losses.clone(),
            lost: stability.lost,
            attempts: stability.attempts_since,
        };
    };
    let (early, series): (Vec<Loss>, Vec<Loss>) = stability.losses.iter().partition(|loss| {
        let ended = evaluation.moment(id, loss.to);
        loss.is_over && ended.is_some_and(|ended| ended.latest < from)
    });
    let lost_early: u32 = early.iter().map(|loss| loss.attempts).sum();
    Losses {
        series,
        lost: stability.lost.saturating_sub(lost_early),
        attempts: stability.attempts_since.saturating_sub(lost_early),
    }
}

/// Judges a flow that came up and did not stay up: violated if the target answered another source
/// while its attempts were lost. What the controls lost as well was the target's own outage.
fn judge_unstable(evaluation: Evaluation<'_>, id: FlowId, losses: &Losses) -> FlowVerdict {
    if let Some(unproven) = starved(evaluation, id) {
        return FlowVerdict::Unproven(unproven);
    }
    let series: Vec<Loss> = losses
        .series
        .iter()
        .copied()
        .filter(|loss| is_own_loss(evaluation, id, loss))
        .collect();
    let own_losses = Losses {
        lost: series.iter().map(|loss| loss.attempts).sum(),
        series,
        attempts: losses.attempts,
    };

    let (lost, of) = (losses.lost, losses.attempts);
    if !own_losses.is_unstable() {
        let detail = format!(
            "it came up, then {lost} of {of} attempts were lost, and no other source got through at that time"
        );
        return FlowVerdict::Unproven(Unproven::for_now(id, Reason::TargetUnreachable, detail));
    }
    FlowVerdict::Violated(Violation::Unstable {
        flow: id,
        lost: own_losses.lost,
        of,
        in_a_row: own_losses.in_a_row(),
    })
}

/// Whether another source got further at the time of a loss than the lost attempts did.
fn is_own_loss(evaluation: Evaluation<'_>, id: FlowId, loss: &Loss) -> bool {
    let (Some(from), Some(to)) = (
        evaluation.moment(id, loss.from),
        evaluation.moment(id, loss.to),
    ) else {
        return false;
    };
    let window = Window {
        from,
        to,
        attempts: loss.attempts,
    };
    contrast(evaluation, id, loss.stage, window).is_some()
}

/// Why the losses of a flow that opened say nothing, if its probe did not get its time: what was
/// lost may have been lost for want of that.
fn starved(evaluation: Evaluation<'_>, id: FlowId) -> Option<Unproven> {
    let evidence = evaluation.evidence.flow(id);
    if evidence.cpu_starved == 0 || evidence.opened == 0 {
        return None;
    }
    let detail = format!(
        "{} of {} attempts opened, and in {} of them the probe's timer lagged by more than 100 ms",
        evidence.opened, evidence.attempts, evidence.cpu_starved
    );
    Some(Unproven::for_now(id, Reason::ProbeCpuStarved, detail))
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
    if let Some(unproven) = starved(evaluation, id) {
        return Err(unproven);
    }

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
        Outcome::Read(Reading::Open(success)) if is_stopped_by_the_network(success) => {
            Ok(StoppedAt::after(success))
        }
        Outcome::Read(Reading::Open(success)) => {
            stopped_while_open(settings, id, evidence, success)
        }
    }
}

/// Whether the network stopped an attempt that opened, and not the end of its probe.
fn is_stopped_by_the_network(success: &Success) -> bool {
    success
        .then
        .as_ref()
        .is_some_and(|stop| stop.how != StopCause::Unfinished)
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
