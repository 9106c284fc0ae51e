//! When an allow is proven, violated or neither.

use super::classify::{AllowTier, Block, Reading, Refusal, Success};
use super::controls::Evaluation;
use super::deny::unusable;
use super::moment::Moment;
use super::proof::Window;
use super::reason::Reason;
use super::source_and_path::{opened_within, passed_within};
use super::streak::Outcome;
use super::timeline::{FlowEvidence, OPENINGS_IN_A_ROW, Stability};
use super::wording::{describe_demand, describe_how};
use super::{FlowVerdict, Unproven, Violation};
use crate::plan::{CheckSettings, FlowId};
use crate::wire::Stage;
use std::time::Duration;

/// Attempts after it was up, from which on a share of losses says something.
const STABILITY_SAMPLES: u32 = 20;

/// Why one flow's allow is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowProof {
    tier: AllowTier,
    delay: Duration,
    openings: u32,
    attempts: u32,
    restarts: u32,
}

impl AllowProof {
    /// Three openings in a row within the patience, at the demanded tier; the fold counts only
    /// these.
    fn new(settings: &CheckSettings, seen: &FlowEvidence) -> Option<Self> {
        let steady = seen
            .steady
            .as_deref()
            .filter(|steady| steady.at.is_some())?;
        let (first, up) = (seen.first_start?, steady.from?);
        let delay = Duration::from_micros(up.saturating_sub(first));
        (delay <= settings.timeout).then_some(Self {
            tier: steady.tier?,
            delay,
            openings: seen.opened,
            attempts: seen.attempts,
            restarts: seen.restarts.as_ref().map_or(0, |restarts| restarts.count),
        })
    }

    /// How often the flow began anew before these openings, because something relevant had changed.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// The tier.
    pub fn tier(&self) -> AllowTier {
        self.tier
    }

    /// From the first attempt to the first of the openings that count.
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// Attempts that opened, and all attempts.
    pub fn counts(&self) -> (u32, u32) {
        (self.openings, self.attempts)
    }
}

/// Judges an allowed flow.
pub(super) fn judge_allowed(
    evaluation: Evaluation<'_>,
    settings: &CheckSettings,
    id: FlowId,
) -> FlowVerdict {
    let seen = evaluation.evidence.flow(id);
    if let Some(unproven) = unusable(evaluation, id) {
        return FlowVerdict::Unproven(unproven);
    }
    let proof = AllowProof::new(settings, seen);
    if let Some(proof) = proof {
        if let Some(steady) = seen.steady.as_deref().filter(|steady| is_unstable(steady)) {
            return unstable_or_unproven(evaluation, id, seen, steady);
        }
        return FlowVerdict::Allowed(proof);
    }
    shut(evaluation, settings, id, seen)
}

/// Two attempts lost in a row, or more than 5 % of many.
fn is_unstable(steady: &Stability) -> bool {
    steady.longest_loss >= 2
        || (steady.since >= STABILITY_SAMPLES && steady.lost * 20 > steady.since)
}

/// It came up and did not stay up: violated if the target answered somebody else meanwhile.
fn unstable_or_unproven(
    evaluation: Evaluation<'_>,
    id: FlowId,
    seen: &FlowEvidence,
    steady: &Stability,
) -> FlowVerdict {
    let Stability {
        lost,
        since,
        longest_loss,
        ..
    } = *steady;
    let violation = Violation::Unstable {
        flow: id,
        lost,
        of: since,
        in_a_row: longest_loss,
    };
    match watched(evaluation, id, seen) {
        Some(window) if contrast(evaluation, id, Stage::Connect, window).is_some() => {
            FlowVerdict::Violated(violation)
        }
        _ => FlowVerdict::Unproven(Unproven {
            reason: Reason::TargetUnreachable,
            detail: format!(
                "it came up, then {lost} of {since} attempts were lost, and nobody else shows that the target was alive"
            ),
            flow: Some(id),
            open: true,
        }),
    }
}

/// It never came up: violated if the source was able and somebody else got through, or the refusal
/// names its enforcer.
fn shut(
    evaluation: Evaluation<'_>,
    settings: &CheckSettings,
    id: FlowId,
    seen: &FlowEvidence,
) -> FlowVerdict {
    let unproven = |reason, detail: String| {
        FlowVerdict::Unproven(Unproven {
            reason,
            detail,
            flow: Some(id),
            open: true,
        })
    };
    let (Some(window), Some(last)) = (watched(evaluation, id, seen), seen.streaks.last()) else {
        return unproven(Reason::NotAttempted, "no sample arrived".into());
    };
    let stopped_at = match &last.outcome {
        Outcome::Fault(_) => {
            return unproven(
                Reason::ProbeFault,
                "the probe could not carry out the attempts".into(),
            );
        }
        Outcome::Read(Reading::NotSent(stop)) => {
            return unproven(
                Reason::SendFailed,
                format!(
                    "the attempts did not leave the source: {}",
                    describe_how(&stop.how)
                ),
            );
        }
        // It passed everything: nothing is shut, and who got through elsewhere contrasts with
        // nothing.
        Outcome::Read(Reading::Open(Success {
            then: None, tier, ..
        })) if AllowTier::demanded(settings.required_tier)
            .is_some_and(|demanded| *tier < demanded) =>
        {
            let demanded = describe_demand(settings.required_tier);
            return unproven(
                Reason::TierNotMet,
                format!("it opens at {tier:?}, the line demands {demanded}"),
            );
        }
        Outcome::Read(Reading::Blocked(block)) => StoppedAt {
            stage: block.stage,
            block: Some(block.clone()),
        },
        // It gets through now. Unless some attempts were blocked before, nothing but our own faults
        // kept it from doing so three times in a row.
        Outcome::Read(Reading::Open(Success { then: None, .. })) => match last_block(seen) {
            Some(block) => StoppedAt {
                stage: block.stage,
                block: Some(block.clone()),
            },
            None if seen.has_fault() => {
                return unproven(
                    Reason::ProbeFault,
                    "the probe could not carry out all attempts".into(),
                );
            }
            None => {
                return unproven(
                    Reason::TooFewAttempts,
                    "it did not yet get through three times in a row".into(),
                );
            }
        },
        Outcome::Read(Reading::Open(opening)) => StoppedAt {
            stage: opening
                .then
                .as_ref()
                .map_or(Stage::FirstBytes, |stop| stop.stage),
            block: opening.then.as_ref().map(|stop| Block {
                passed: Some(opening.passed),
                stage: stop.stage,
                how: Refusal::Wire(stop.how.clone()),
                signature: None,
                by_target: true,
            }),
        },
    };
    let once = evaluation.plan.flow(id).to.once;
    if !once && window.length() < settings.timeout {
        return unproven(
            Reason::TooFewAttempts,
            format!(
                "shut for {:.1} s so far; {:.1} s of patience are not over",
                window.length().as_secs_f32(),
                settings.timeout.as_secs_f32()
            ),
        );
    }
    if stopped_at
        .block
        .as_ref()
        .is_some_and(|block| block.signature.is_some())
    {
        return FlowVerdict::Violated(Violation::Shut {
            flow: id,
            block: stopped_at.block,
            contrast: None,
        });
    }
    let Some(contrast) = contrast(evaluation, id, stopped_at.stage, window) else {
        return match stopped_at.stage {
            Stage::Resolve => unproven(
                Reason::NameDidNotResolve,
                "the name did not resolve, for anybody".into(),
            ),
            Stage::Connect | Stage::FirstBytes | Stage::Tls | Stage::Request => unproven(
                Reason::TargetUnreachable,
                "nobody reached the target".into(),
            ),
        };
    };
    if !able_throughout(evaluation, id, window) {
        let source = evaluation.plan.source(evaluation.plan.flow(id).probe);
        return unproven(
            Reason::SourceNotVerified,
            format!("{source} opened nothing else, and nothing reached it"),
        );
    }
    FlowVerdict::Violated(Violation::Shut {
        flow: id,
        block: stopped_at.block,
        contrast: Some(contrast),
    })
}

fn last_block(seen: &FlowEvidence) -> Option<&Block> {
    seen.streaks
        .iter()
        .rev()
        .find_map(|streak| match &streak.outcome {
            Outcome::Read(Reading::Blocked(block)) => Some(block),
            Outcome::Read(Reading::Open(_) | Reading::NotSent(_)) | Outcome::Fault(_) => None,
        })
}

struct StoppedAt {
    stage: Stage,
    block: Option<Block>,
}

/// From the first sample of a flow to the last.
fn watched(evaluation: Evaluation<'_>, id: FlowId, seen: &FlowEvidence) -> Option<Window> {
    let from = evaluation.moment(id, seen.first_start?)?;
    let to: Moment = evaluation.moment(id, seen.streaks.last()?.last())?;
    Some(Window {
        from,
        to,
        attempts: seen.attempts,
    })
}

/// Somebody else who passed `stage` at the same address and port in the window.
fn contrast(
    evaluation: Evaluation<'_>,
    id: FlowId,
    stage: Stage,
    window: Window,
) -> Option<FlowId> {
    evaluation
        .target_controls_past(id, stage)
        .find(|control| passed_within(evaluation, *control, stage, window))
}

/// Whether the source opened something else in the window, or its node reached it.
fn able_throughout(evaluation: Evaluation<'_>, id: FlowId, window: Window) -> bool {
    evaluation.source_window(id).is_some_and(|source_window| {
        let flows = source_window
            .allowed
            .iter()
            .chain(&source_window.tried)
            .chain(&source_window.reached)
            .filter(|flow| **flow != id);
        flows
            .copied()
            .any(|flow| opened_within(evaluation, flow, Stage::Resolve, window))
    })
}

const _: () = assert!(OPENINGS_IN_A_ROW == 3, "the rule for allows says three");
