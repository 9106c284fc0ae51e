//! A check's judgement in words.

use super::flow_text::{FlowTexts, describe_block, stage_passed};
use super::prediction::unpredicted;
use super::{CheckRef, CheckResult, FlowReport, Latency, Outcome, ReasonText, controls};
use crate::model::show_duration;
use crate::plan::{FlowId, Plan};
use crate::verdict::{
    AllowProof, AllowTier, Block, DenyProof, DenyTier, Evidence, FlowEvidence, FlowResult,
    FlowVerdict, Judgement, Reading, Refusal, Unproven, Verdict, Violation,
};
use crate::wire::{Stage, StopCause};
use std::time::Duration;

/// From this delay on, the text of a proven allow names it.
const NOTABLE_DELAY: Duration = Duration::from_millis(500);

/// A check's judgement in words.
pub fn check_result(
    plan: &Plan,
    check: &CheckRef,
    judgement: &Judgement,
    evidence: &Evidence,
) -> CheckResult {
    let texts = FlowTexts {
        plan,
        results: &judgement.flows,
        evidence,
    };
    let flows: Vec<FlowReport> = judgement
        .flows
        .iter()
        .map(|flow| texts.report(flow))
        .collect();
    let durations_us = judgement
        .flows
        .iter()
        .flat_map(|flow| &*evidence.flow(flow.flow).latencies_us)
        .copied();

    let mut result = CheckResult {
        check: check.clone(),
        verdict: Outcome::Proven,
        tier: None,
        reach: if flows.is_empty() {
            None
        } else {
            Some(judgement.reach)
        },
        power_percent: None,
        reason: None,
        seen: String::new(),
        unpredicted: if check.settings.established {
            // The policies at the start say what holds before the change.
            None
        } else {
            unpredicted(check.expected, &flows)
        },
        contrast: None,
        next_step: None,
        mechanism: None,
        delay_ms: None,
        latency: Latency::of(durations_us.collect()),
        startup_leak_ms: None,
        attempts: flows.iter().map(|flow| flow.attempts).sum(),
        opened: flows.iter().map(|flow| flow.opened).sum(),
        flows,
        controls: controls::reports(plan, judgement, evidence),
    };

    match &judgement.verdict {
        Verdict::Proven => {
            describe_proven(&texts, judgement, &mut result);
            result.seen.push_str(&restarts(judgement, evidence));
        }
        Verdict::Violated(violation) => describe_violation(&texts, violation, &mut result),
        Verdict::Unproven(unproven) => describe_unproven(&texts, unproven, &mut result),
    }
    result
}

/// How often sampling of a check restarted, and why the last time; empty if never.
fn restarts(judgement: &Judgement, evidence: &Evidence) -> String {
    let most = judgement
        .flows
        .iter()
        .filter_map(|flow| evidence.flow(flow.flow).restarts.as_deref())
        .max_by_key(|restarts| restarts.count);
    let Some(restarts) = most else {
        return String::new();
    };

    let times = match restarts.count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    };
    format!(
        "; sampling restarted {times}, last because {}",
        restarts.cause
    )
}

/// The proofs of a check's flows, those of the weakest flow each.
#[derive(Default)]
struct Proofs {
    deny_tier: Option<DenyTier>,
    allow_tier: Option<AllowTier>,
    /// The longest time that an allowed flow took to come up.
    delay: Duration,
    power_percent: u32,
}

impl Proofs {
    fn add_deny(&mut self, proof: &DenyProof) {
        let tier = proof.tier();
        self.deny_tier = Some(self.deny_tier.map_or(tier, |weakest| weakest.and(tier)));
        self.power_percent = self.power_percent.max(proof.window().power_percent());
    }

    fn add_allow(&mut self, proof: &AllowProof) {
        let tier = proof.tier();
        self.allow_tier = Some(self.allow_tier.map_or(tier, |weakest| weakest.min(tier)));
        self.delay = self.delay.max(proof.delay());
    }
}

fn describe_proven(texts: &FlowTexts<'_>, judgement: &Judgement, result: &mut CheckResult) {
    let mut proofs = Proofs::default();
    for flow in &judgement.flows {
        match &flow.verdict {
            FlowVerdict::Denied(proof) => {
                proofs.add_deny(proof);
                let leak_ms = proof.startup_leak().map(|leak| leak.as_millis() as u64);
                result.startup_leak_ms = result.startup_leak_ms.max(leak_ms);
                result
                    .mechanism
                    .get_or_insert_with(|| mechanism(proof.block()));
                result
                    .contrast
                    .get_or_insert_with(|| contrast_of_deny(texts, proof));
            }
            FlowVerdict::Allowed(proof) => proofs.add_allow(proof),
            FlowVerdict::Violated(_) | FlowVerdict::Unproven(_) | FlowVerdict::LeftOut(_) => {}
        }
    }

    if let Some(tier) = proofs.deny_tier {
        result.tier = Some(tier.to_string());
        result.power_percent = Some(proofs.power_percent);
        let is_kept_open = |flow: &FlowResult| texts.plan.flow(flow.flow).to.request.is_kept_open();
        result.seen = match result.startup_leak_ms {
            _ if judgement.flows.iter().any(is_kept_open) => format!(
                "{} of {} attempts opened before the deny applied; then the connection that was kept \
                 open was cut, and new ones were blocked",
                result.opened, result.attempts
            ),
            None => format!("{} attempts, all blocked", result.attempts),
            Some(ms) => {
                let blocked = result.attempts.saturating_sub(result.opened);
                format!(
                    "open for {ms} ms while the source was new, then {blocked} attempts, all blocked"
                )
            }
        };
    }

    if let Some(tier) = proofs.allow_tier {
        result.tier = Some(format!("{tier:?}"));
        result.delay_ms = Some(proofs.delay.as_millis() as u64);
        result.seen = format!(
            "{} of {} attempts got through",
            result.opened, result.attempts
        );
        if proofs.delay >= NOTABLE_DELAY {
            let delay = show_duration(proofs.delay);
            result.seen.push_str(&format!(", the first after {delay}"));
        }
    }
}

fn contrast_of_deny(texts: &FlowTexts<'_>, proof: &DenyProof) -> String {
    let control = proof.control();
    format!(
        "{} {} in the same window",
        texts.sender(control.flow()),
        stage_passed(control)
    )
}

fn describe_violation(texts: &FlowTexts<'_>, violation: &Violation, result: &mut CheckResult) {
    result.verdict = Outcome::Violated;
    let flow = violation.flow();
    let source = texts.sender(flow);
    let target = format!("{}{}", texts.receiver(flow), texts.over_family(flow));

    match violation {
        Violation::DeniedFlowOpened {
            first,
            opened,
            attempts,
            ..
        } => {
            let responder = first
                .who
                .as_ref()
                .map_or(String::new(), |who| format!(", answered by {who}"));
            result.seen = format!(
                "{source} reached {target}: {opened} of {attempts} attempts opened{responder}"
            );
            result.next_step = Some(
                "find the policy that should stop this flow: it does not select the target (or the \
                 source), or another one admits it"
                    .into(),
            );
        }
        Violation::StayedOpen { change, lasted, .. } => {
            result.seen = format!(
                "{source} -> {target}: the connection opened before went on for {} after {change} \
                 changed",
                show_duration(*lasted)
            );
            result.next_step = Some(
                "let the enforcer forget the connection (`conntrack -D`), or replace one of the two \
                 pods: a policy alone does not cut what is established"
                    .into(),
            );
        }
        Violation::AllowedFlowBlocked {
            block, contrast, ..
        } => {
            let cause = block
                .as_ref()
                .map_or("no answer".to_owned(), describe_block);
            let evidence = texts.evidence.flow(flow);
            result.seen = if evidence.opened > 0 {
                format!(
                    "unstable: {source} got through to {target} in {} of {} attempts, never three \
                     times in a row: {cause}",
                    evidence.opened, evidence.attempts
                )
            } else {
                format!("{source} never got through to {target}: {cause}")
            };
            result.contrast = Some(contrast_of_blocked(texts, block.as_ref(), *contrast));
            result.next_step = Some(
                "look for the policy that isolates the source or the target without a rule that \
                 admits this flow"
                    .into(),
            );
        }
        Violation::Unstable {
            lost, of, in_a_row, ..
        } => {
            result.seen = format!(
                "unstable: {source} got through to {target}, then lost {lost} of {of} attempts, \
                 {in_a_row} in a row"
            );
            result.next_step = Some(
                "look for what comes and goes on this path: one replica, one node, a policy being \
                 rewritten"
                    .into(),
            );
        }
    }

    if result.contrast.is_none() {
        result.contrast = denied_elsewhere(texts, flow);
    }
}

/// What tells an allowed flow that stayed blocked from a broken target.
fn contrast_of_blocked(
    texts: &FlowTexts<'_>,
    block: Option<&Block>,
    control: Option<FlowId>,
) -> String {
    if let Some(control) = control {
        return format!(
            "{} got through to the same address and port at the same time",
            texts.sender(control)
        );
    }
    match block.and_then(|block| block.signature) {
        Some(signature) => format!("the refusal is that of {}", signature.enforcer()),
        None => "no other source got through".into(),
    }
}

/// For a leak: another source that was stopped at the same target, which shows what the leaking
/// flow lacks.
fn denied_elsewhere(texts: &FlowTexts<'_>, leak: FlowId) -> Option<String> {
    let leaking = texts.plan.flow(leak);
    let stopped = texts
        .plan
        .flows()
        .iter()
        .zip(&texts.evidence.flows)
        .position(|(other, evidence)| {
            other.to == leaking.to
                && other.probe != leaking.probe
                && evidence.opened == 0
                && is_stopped_at_address(evidence)
        })?;

    Some(format!(
        "{} was stopped at the same address and port",
        texts.sender(FlowId(stopped as u32))
    ))
}

/// Whether a flow's attempts reached the network at the address and were stopped there: one that
/// could not resolve the name, or was not sent, was not.
fn is_stopped_at_address(evidence: &FlowEvidence) -> bool {
    match evidence.latest() {
        Some(Reading::Blocked(block)) => block.stage > Stage::Resolve,
        Some(Reading::Open(_) | Reading::NotSent(_)) | None => false,
    }
}

fn describe_unproven(texts: &FlowTexts<'_>, unproven: &Unproven, result: &mut CheckResult) {
    result.verdict = Outcome::Unproven;
    result.reason = Some(ReasonText {
        code: unproven.reason,
        text: unproven.detail.clone(),
    });
    result.next_step = Some(unproven.reason.remedy().to_owned());

    let Some(flow) = unproven.flow else {
        result.seen = "no attempt could settle it".into();
        return;
    };
    let ends = format!(
        "{} -> {}{}",
        texts.sender(flow),
        texts.receiver(flow),
        texts.over_family(flow)
    );
    let evidence = texts.evidence.flow(flow);
    result.seen = match evidence.attempts {
        0 => format!("{ends}: no attempt"),
        attempts => format!(
            "{ends}: {} of {attempts} attempts blocked, {} opened",
            evidence.blocked, evidence.opened
        ),
    };
}

/// How a deny showed, in a word.
fn mechanism(block: &Block) -> String {
    match (&block.how, block.signature) {
        (_, Some(signature)) => signature.enforcer().to_owned(),
        (Refusal::Status(status), None) => format!("status {status}"),
        (Refusal::Wire(StopCause::Silence), None) => "drop".into(),
        (Refusal::Wire(StopCause::Error { icmp: Some(_), .. }), None) => "icmp".into(),
        (Refusal::Wire(StopCause::Error { icmp: None, .. }), None) => "reset".into(),
        (Refusal::Wire(StopCause::Closed), None) => "close".into(),
        (Refusal::Wire(StopCause::Alert { .. }), None) => "alert".into(),
        (Refusal::Wire(StopCause::Rcode { .. }), None) => "dns".into(),
        (Refusal::Wire(StopCause::Garbled { .. }), None) => "garbled".into(),
        (Refusal::Wire(StopCause::Unfinished), None) => "unfinished".into(),
    }
}
