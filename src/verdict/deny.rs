//! When a deny is proven: five conditions, on every flow.
//!
//! 1. *Blocked throughout*: enough samples over the hold, all blocked, none open until the probe stopped.
//! 2. *The target was alive*: somebody else passed the stage at which these samples were blocked, just before the
//!    first and just after the last of them, and never more than two seconds apart between.
//! 3. *The source was able*: the same probe opened something in the same way before and after.
//! 4. *The path was open*: some flow crossed from the source's node to the target's, all through the same window.
//! 5. *Nothing relevant changed* while the flow was watched.

use super::conditions::{Ability, Crossing, crossings, nothing_crossed, opened_within};
use super::evidence::{FlowEvidence, Moment, Outcome};
use super::proof::{ControlProof, DenyProof, Window};
use super::reading::{Block, Reading, Refusal, Signature};
use super::reason::Reason;
use super::relations::Case;
use super::words::{describe_demand, describe_how};
use super::{FlowVerdict, Unproven, Violation};
use crate::plan::{FlowId, REQUEST_DEADLINE, RESOLVE_DEADLINE, TLS_DEADLINE, Terms, Vantage};
use crate::suite::{Demand, Mechanism};
use crate::wire::{FaultReason, How, Stage, Transport};
use std::time::Duration;

/// How soon after an opening a replacement of either pod may be noticed for the opening to count as the new pod's.
const NOTICE_US: i64 = 2_000_000;

/// Judges a denied flow.
pub(super) fn judge_denied(case: Case<'_>, terms: &Terms, id: FlowId) -> FlowVerdict {
    let seen = case.evidence.flow(id);
    if let Some(first) = &seen.first_open {
        return opened(case, id, seen, first);
    }
    if let Some(unproven) = unusable(case, id) {
        return FlowVerdict::Unproven(unproven);
    }
    let unproven =
        |reason, detail: String| FlowVerdict::Unproven(Unproven { reason, detail, flow: Some(id), open: true });
    let blocked = match BlockedSuffix::of(case, id, seen) {
        Ok(blocked) => blocked,
        Err((reason, detail)) => return unproven(reason, detail),
    };
    match blocked.prove(case, terms, id) {
        Ok(proof) if !proof.tier().meets(terms.demand) => unproven(
            Reason::DemandNotMet,
            format!("proven at {}, the line demands {}", proof.tier(), describe_demand(terms.demand)),
        ),
        Ok(proof) if terms.mechanism.is_some_and(|kind| !is_kind(kind, &proof.block)) => {
            unproven(Reason::DemandNotMet, "it is blocked by another mechanism than the line demands".into())
        }
        Ok(proof) => FlowVerdict::Denied(proof),
        Err((reason, detail)) => unproven(reason, detail),
    }
}

/// An opening of a denied flow: once is enough, provided that the two pods were still the planned ones.
fn opened(case: Case<'_>, id: FlowId, seen: &FlowEvidence, first: &super::Opened) -> FlowVerdict {
    let replaced = case.moment(id, first.start).and_then(|at| {
        case.replacements(id).find(|change| change.at <= at.latest + NOTICE_US).map(|change| change.what.to_string())
    });
    match replaced {
        None => FlowVerdict::Violated(Violation::Opened {
            flow: id,
            first: first.clone(),
            opened: seen.opened,
            attempts: seen.attempts,
        }),
        Some(what) => FlowVerdict::Unproven(Unproven {
            reason: Reason::ChangedUnderUs,
            detail: format!("it opened, but {what} changed around that time: somebody else may have answered"),
            flow: Some(id),
            open: false,
        }),
    }
}

/// What makes a flow's evidence unusable whatever it shows: no samples, a failed probe, a relevant change (condition 5).
pub(super) fn unusable(case: Case<'_>, id: FlowId) -> Option<Unproven> {
    let probe = case.evidence.probe(case.plan.flow(id).probe);
    let seen = case.evidence.flow(id);
    let unproven = |reason, detail: String, open| Some(Unproven { reason, detail, flow: Some(id), open });
    if let Some((_, failure)) = &probe.failure {
        let reason = match failure {
            super::ProbeFailure::Stalled(_) => Reason::Starved,
            super::ProbeFailure::Clocks(_) => Reason::Clocks,
            super::ProbeFailure::Ended(_) | super::ProbeFailure::Protocol(_) | super::ProbeFailure::Reported { .. } => {
                Reason::ProbeFault
            }
        };
        return unproven(reason, failure.to_string(), false);
    }
    if let Some(change) = case.disturbances(id).next() {
        return unproven(Reason::ChangedUnderUs, format!("{} changed during the run", change.what), false);
    }
    if seen.attempts == 0 {
        return unproven(Reason::NotSampled, "no sample arrived".into(), !probe.stopped);
    }
    None
}

pub(super) type Shortfall = (Reason, String);

/// The blocked samples at the end of a flow's evidence.
pub(super) struct BlockedSuffix<'a> {
    /// Known starts, with the number of the sample, counted from the first of the suffix.
    points: Vec<(Moment, u32)>,
    /// The highest stage at which one of them was blocked: a control must have passed it.
    stage: Stage,
    block: &'a Block,
}

impl<'a> BlockedSuffix<'a> {
    /// Condition 1, first half: everything from some sample on is blocked.
    fn of(case: Case<'_>, id: FlowId, seen: &'a FlowEvidence) -> Result<Self, Shortfall> {
        let from = seen.streaks.iter().rposition(|streak| !streak.is_blocked()).map_or(0, |last| last + 1);
        let suffix = &seen.streaks[from..];
        let Some(Outcome::Read(Reading::Blocked(block))) = suffix.last().map(|streak| &streak.outcome) else {
            return Err(match seen.streaks.last().map(|streak| &streak.outcome) {
                Some(Outcome::Read(Reading::NotSent(stop))) => (
                    Reason::CouldNotSend,
                    format!("the attempts did not leave the source: {}", describe_how(&stop.how)),
                ),
                Some(Outcome::Fault(FaultReason::Starved)) => {
                    (Reason::Starved, "the probe's timer lagged by more than 100 ms".into())
                }
                Some(Outcome::Fault(_)) => (Reason::ProbeFault, "the probe could not carry out the attempts".into()),
                _ => (Reason::NotSampled, "no sample arrived".into()),
            });
        };
        let mut points = Vec::new();
        let mut before = 0;
        let mut stage = block.stage;
        for streak in suffix {
            if let Outcome::Read(Reading::Blocked(block)) = &streak.outcome {
                stage = stage.max(block.stage);
            }
            points.extend(streak.points().iter().filter_map(|(own, nth)| Some((case.moment(id, *own)?, before + nth))));
            before += streak.count;
        }
        Ok(Self { points, stage, block })
    }

    /// Conditions 1 to 4: the window with the most samples for which all hold, or the condition that failed last.
    fn prove(&self, case: Case<'_>, terms: &Terms, id: FlowId) -> Result<DenyProof, Shortfall> {
        let strict = terms.demand != Demand::D1;
        let able = Ability::of(case, id);
        let crossings = match self.stage {
            _ if !strict => None,
            // A name that did not resolve sent nothing to the target; the addresses that others got stand for the path.
            Stage::Resolve => Some(Vec::new()),
            Stage::Connect | Stage::FirstBytes | Stage::Tls | Stage::Request => crossings(case, id),
        };
        let mut best: Option<DenyProof> = None;
        let mut shortfall: Option<Shortfall> = None;
        let mut note = |rank: usize, found: Shortfall, at: &mut usize| {
            if rank >= *at {
                *at = rank;
                shortfall = Some(found);
            }
        };
        let mut rank = 0;
        note(0, self.nobody(case, id), &mut rank);
        for voucher in case.vouchers_for(id, self.stage) {
            for (first, last, streak) in case.passings(voucher, self.stage) {
                let inside = |moment: Moment| first.surely_by(moment) && moment.surely_by(last);
                let Some(widest) = self.window(inside) else {
                    note(1, too_few(0, Duration::ZERO, terms), &mut rank);
                    continue;
                };
                let (window, source) = if strict {
                    let Some((window, source)) = able.narrow(self, inside) else {
                        note(2, able.shortfall(case, id), &mut rank);
                        continue;
                    };
                    (window, Some(source))
                } else {
                    (widest, None)
                };
                if window.samples < terms.samples || window.length() < terms.hold {
                    note(3, too_few(window.samples, window.length(), terms), &mut rank);
                    continue;
                }
                let Some(control) = ControlProof::new(window, voucher, first, last, streak) else { continue };
                let (took, deadline) = (control.slowest.at(self.stage), deadline(case, terms, id, self.stage));
                if took * 10 > deadline {
                    let slow = format!("the control took {took:?}, so a deadline of {deadline:?} is too short");
                    note(3, (Reason::DeadlineTooShort, slow), &mut rank);
                    continue;
                }
                let (window, paths) = if strict {
                    let crossed = crossings.as_ref().and_then(|crossings| {
                        let open = |moment| inside(moment) && crossings.iter().all(|crossing| crossing.spans(moment));
                        let (window, _) = able.narrow(self, open)?;
                        (window.samples >= terms.samples && window.length() >= terms.hold).then_some(window)
                    });
                    let Some(window) = crossed else {
                        note(4, nothing_crossed(case, id), &mut rank);
                        continue;
                    };
                    (window, crossings.as_deref().map(|crossings| crossings.iter().map(Crossing::proof).collect()))
                } else {
                    (window, None)
                };
                if best.as_ref().is_none_or(|proof| proof.window.samples < window.samples) {
                    let twin = self.twin(case, id, window);
                    let record = case.evidence.records.get(&id).cloned();
                    best = Some(DenyProof { window, control, source, paths, twin, record, block: self.block.clone() });
                }
            }
        }
        best.ok_or_else(|| shortfall.unwrap_or_else(|| self.nobody(case, id)))
    }

    /// The samples whose start satisfies `inside`.
    pub(super) fn window(&self, inside: impl Fn(Moment) -> bool) -> Option<Window> {
        let mut points = self.points.iter().filter(|(moment, _)| inside(*moment));
        let &(from, first) = points.next()?;
        let (to, last) = points.last().copied().unwrap_or((from, first));
        Some(Window { from, to, samples: last - first + 1 })
    }

    /// A pod on the source's node, not the source, that got through in the window.
    fn twin(&self, case: Case<'_>, id: FlowId, window: Window) -> Option<FlowId> {
        let node = case.plan.vantage(case.plan.flow(id).probe).node()?;
        case.vouchers(id).find(|voucher| {
            let vantage = case.plan.vantage(case.plan.flow(*voucher).probe);
            matches!(vantage, Vantage::Pod { node: at, .. } if at == node)
                && opened_within(case, *voucher, self.stage, window)
        })
    }

    /// Why there is no control at all: nobody answered, or everybody was refused by a layer that names itself.
    fn nobody(&self, case: Case<'_>, id: FlowId) -> Shortfall {
        let refused_by = |voucher: FlowId| match case.evidence.flow(voucher).latest() {
            Some(Reading::Blocked(Block { signature, .. })) => *signature,
            Some(Reading::Open(_) | Reading::NotSent(_)) | None => None,
        };
        let vouchers: Vec<_> = case.vouchers(id).collect();
        if self.stage > Stage::Connect
            && !vouchers.is_empty()
            && vouchers.iter().all(|voucher| refused_by(*voucher).is_some())
        {
            return (Reason::EveryoneRefused, "everybody who tried this target was refused alike".into());
        }
        if self.stage == Stage::Resolve {
            return (Reason::NameDidNotResolve, "the name did not resolve, for anybody".into());
        }
        let tried = match vouchers.len() {
            0 => "nobody else could be sent to this target".to_owned(),
            1 => "the one control got no answer from this target".to_owned(),
            n => format!("none of {n} controls got an answer from this target"),
        };
        (Reason::NoControlAnswered, tried)
    }
}

fn too_few(samples: u32, length: Duration, terms: &Terms) -> Shortfall {
    let detail = format!(
        "{samples} blocked samples over {:.1} s between two answers of a control; {} over {:.1} s are needed",
        length.as_secs_f32(),
        terms.samples,
        terms.hold.as_secs_f32(),
    );
    (Reason::TooFewSamples, detail)
}

/// How long a stage was waited for: a control must be ten times faster, or silence may only be slowness.
fn deadline(case: Case<'_>, terms: &Terms, id: FlowId, stage: Stage) -> Duration {
    let udp = case.plan.flow(id).to.transport == Transport::Udp;
    match stage {
        Stage::Resolve => RESOLVE_DEADLINE,
        Stage::Connect => terms.deadline,
        Stage::FirstBytes if udp => terms.deadline,
        Stage::Tls => TLS_DEADLINE.max(terms.deadline),
        Stage::FirstBytes | Stage::Request => REQUEST_DEADLINE,
    }
}

fn is_kind(kind: Mechanism, block: &Block) -> bool {
    match (&block.how, kind) {
        (Refusal::Wire(How::Silence), Mechanism::Drop)
        | (Refusal::Wire(How::Error { icmp: Some(_), .. }), Mechanism::Icmp) => true,
        (Refusal::Wire(How::Error { icmp: None, .. }), Mechanism::Reset) => true,
        (_, Mechanism::Signature) => block.signature.is_some_and(|signature| signature != Signature::IcmpProhibited),
        _ => false,
    }
}
