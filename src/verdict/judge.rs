//! The verdict of a check, from those of its flows.

use super::allow::judge_allowed;
use super::controls::Evaluation;
use super::deny::{judge_denied, judge_retired};
use super::established::judge_kept_open;
use super::evidence::Evidence;
use super::left_out::left_out;
use super::open_interval::OpenIntervals;
use super::reach::Reach;
use super::reason::Reason;
use super::unusable::{name_cause, unusable};
use super::verdicts::{FlowVerdict, Unproven, Verdict, Violation};
use crate::plan::{Check, FlowId, Plan, Provability};
use crate::suite::Expected;

/// The verdict of a check, with what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub reach: Reach,
    pub flows: Vec<FlowResult>,
}

impl Judgement {
    /// Whether more attempts cannot change it, other than by a success of a denied flow.
    pub fn is_settled(&self) -> bool {
        match &self.verdict {
            Verdict::Proven => true,
            Verdict::Violated(_) | Verdict::Unproven(_) => {
                self.flows.iter().all(|flow| match &flow.verdict {
                    FlowVerdict::Unproven(unproven) => !unproven.open,
                    FlowVerdict::Denied(_)
                    | FlowVerdict::Allowed(_)
                    | FlowVerdict::Violated(_)
                    | FlowVerdict::LeftOut(_) => true,
                })
            }
        }
    }
}

/// The verdict of one flow of a check.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowResult {
    pub flow: FlowId,
    pub verdict: FlowVerdict,
}

/// Judges one check.
pub fn judge(plan: &Plan, check: &Check, evidence: &Evidence) -> Judgement {
    Judge::new(plan, evidence).judge(check)
}

/// Judges the checks of a plan by evidence that does not change in between.
#[derive(Debug)]
pub struct Judge<'a> {
    plan: &'a Plan,
    evidence: &'a Evidence,
    open_intervals: OpenIntervals,
}

/// A flow that keeps a check from being settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingFlow {
    /// Its index among the check's flows.
    pub index: usize,
    /// Why it is unproven so far.
    pub reason: Reason,
}

impl<'a> Judge<'a> {
    /// A judge by this evidence.
    pub fn new(plan: &'a Plan, evidence: &'a Evidence) -> Self {
        Self {
            plan,
            evidence,
            open_intervals: OpenIntervals::default(),
        }
    }

    fn evaluation(&self) -> Evaluation<'_> {
        Evaluation {
            plan: self.plan,
            evidence: self.evidence,
            open_intervals: &self.open_intervals,
        }
    }

    /// Judges one check.
    pub fn judge(&self, check: &Check) -> Judgement {
        let evaluation = self.evaluation();
        let mut flows: Vec<FlowResult> = check
            .flows
            .iter()
            .map(|flow| FlowResult {
                flow: *flow,
                verdict: judge_flow(evaluation, check, *flow),
            })
            .collect();
        if check.expected == Expected::Denied {
            flows.extend(check.retired.iter().filter_map(|flow| {
                Some(FlowResult {
                    flow: *flow,
                    verdict: judge_retired(evaluation, check, *flow)?,
                })
            }));
        }

        let counted = flows.iter().map(|result| (result.flow, &result.verdict));
        let reach = Reach::of(self.plan, self.evidence, check.scope, counted);
        Judgement {
            verdict: combine(check, &flows, reach),
            reach,
            flows,
        }
    }

    /// A flow that keeps a check from being settled, searched from index `from` on; `None` when the
    /// check is settled. The same as [`Judgement::is_settled`], without judging more flows than
    /// needed.
    pub fn pending_flow(&self, check: &Check, from: usize) -> Option<PendingFlow> {
        let evaluation = self.evaluation();
        let count = check.flows.len();
        (0..count).map(|n| (from + n) % count).find_map(|index| {
            let reason = pending_reason(evaluation, check, check.flows[index])?;
            Some(PendingFlow { index, reason })
        })
    }
}

/// Why a flow is unproven so far, if more attempts might settle it.
fn pending_reason(evaluation: Evaluation<'_>, check: &Check, flow: FlowId) -> Option<Reason> {
    if is_too_early(evaluation, check, flow) {
        return Some(Reason::TooFewAttempts);
    }
    match judge_flow(evaluation, check, flow) {
        FlowVerdict::Unproven(unproven) if unproven.open => Some(unproven.reason),
        FlowVerdict::Unproven(_)
        | FlowVerdict::Denied(_)
        | FlowVerdict::Allowed(_)
        | FlowVerdict::Violated(_)
        | FlowVerdict::LeftOut(_) => None,
    }
}

/// Whether a denied flow has so few attempts that it need not be judged yet. (One that will be left
/// out is left out a few attempts later by this.)
fn is_too_early(evaluation: Evaluation<'_>, check: &Check, id: FlowId) -> bool {
    let flow = evaluation.plan.flow(id);
    let evidence = evaluation.evidence.flow(id);
    check.expected == Expected::Denied
        && evidence.attempts < check.settings.attempts
        && evidence.first_success.is_none()
        && evidence.ambiguous_success.is_none()
        && !flow.to.once
        && !evaluation.evidence.probe(flow.probe).stopped
        && unusable(evaluation, id).is_none_or(|unproven| unproven.open)
}

fn judge_flow(evaluation: Evaluation<'_>, check: &Check, flow: FlowId) -> FlowVerdict {
    if let Some(why) = left_out(evaluation, check, flow) {
        return FlowVerdict::LeftOut(why);
    }
    let verdict = match check.expected {
        Expected::Denied if evaluation.plan.flow(flow).to.request.is_kept_open() => {
            judge_kept_open(evaluation, check, flow)
        }
        Expected::Denied => judge_denied(evaluation, check, flow),
        Expected::Allowed => judge_allowed(evaluation, &check.settings, flow),
    };
    match verdict {
        FlowVerdict::Unproven(unproven) => FlowVerdict::Unproven(name_cause(evaluation, unproven)),
        verdict => verdict,
    }
}

/// The verdict of a check. A success of a denied flow outranks unproven, unproven outranks a
/// violated allow, and that outranks proven.
fn combine(check: &Check, flows: &[FlowResult], reach: Reach) -> Verdict {
    let violation = first_violation(flows);
    if check.expected == Expected::Denied
        && let Some(violation) = violation
    {
        return Verdict::Violated(violation.clone());
    }
    match &check.provability {
        Provability::Unprovable(why) => return unproven_check(Reason::Unprovable, why),
        Provability::MatchesNothing(what) => return unproven_check(Reason::MatchesNothing, what),
        Provability::AddressUnknown(why) => return unproven_check(Reason::AddressUnknown, why),
        Provability::NothingReady(what) => return unproven_check(Reason::NotAttempted, what),
        Provability::Incomplete(what) => return unproven_check(Reason::IncompleteReach, what),
        Provability::PoliciesAdmitMore(what) => {
            return unproven_check(Reason::PoliciesAdmitMore, what);
        }
        Provability::Provable => {}
    }

    let all_left_out = flows
        .iter()
        .all(|flow| matches!(flow.verdict, FlowVerdict::LeftOut(_)));
    if all_left_out {
        let why = first_left_out(flows).unwrap_or("the check has no flow to attempt");
        return unproven_check(Reason::NotAttempted, why);
    }
    match (worst_unproven(flows), violation) {
        (Some(unproven), _) => Verdict::Unproven(unproven.clone()),
        (None, Some(violation)) => Verdict::Violated(violation.clone()),
        (None, None) if reach.is_whole(check.settings.spread) => Verdict::Proven,
        (None, None) => {
            let what = format!("only {reach} could be tested");
            unproven_check(Reason::IncompleteReach, &what)
        }
    }
}

fn unproven_check(reason: Reason, detail: &str) -> Verdict {
    Verdict::Unproven(Unproven {
        reason,
        detail: detail.to_owned(),
        flow: None,
        open: false,
    })
}

fn first_violation(flows: &[FlowResult]) -> Option<&Violation> {
    flows.iter().find_map(|flow| match &flow.verdict {
        FlowVerdict::Violated(violation) => Some(violation),
        FlowVerdict::Denied(_)
        | FlowVerdict::Allowed(_)
        | FlowVerdict::Unproven(_)
        | FlowVerdict::LeftOut(_) => None,
    })
}

fn first_left_out(flows: &[FlowResult]) -> Option<&str> {
    flows.iter().find_map(|flow| match &flow.verdict {
        FlowVerdict::LeftOut(why) => Some(why.as_str()),
        FlowVerdict::Denied(_)
        | FlowVerdict::Allowed(_)
        | FlowVerdict::Violated(_)
        | FlowVerdict::Unproven(_) => None,
    })
}

/// The first reason that more attempts cannot settle, else the first of all: it says more than one
/// that they might.
fn worst_unproven(flows: &[FlowResult]) -> Option<&Unproven> {
    let mut unproven = flows.iter().filter_map(|flow| match &flow.verdict {
        FlowVerdict::Unproven(unproven) => Some(unproven),
        FlowVerdict::Denied(_)
        | FlowVerdict::Allowed(_)
        | FlowVerdict::Violated(_)
        | FlowVerdict::LeftOut(_) => None,
    });
    let first = unproven.next()?;
    if !first.open {
        return Some(first);
    }
    unproven.find(|unproven| !unproven.open).or(Some(first))
}
