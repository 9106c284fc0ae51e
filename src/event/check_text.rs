//! Judgements in words.

use super::prediction::unpredicted;
use super::{
    CheckRef, CheckResult, FlowReport, Latency, Outcome, ReasonText, WindowReport, describe_request,
};
use crate::model::show_duration;
use crate::plan::{Flow, FlowId, Plan, ProbeId, Source, TargetKind};
use crate::verdict::{
    Block, ControlProof, Evidence, FlowResult, FlowVerdict, Judgement, Refusal, Unproven, Verdict,
    Violation, describe_how,
};
use crate::wire::{How, Stage, Transport};
use std::time::Duration;

/// A check's judgement, in words.
pub fn check_result(
    plan: &Plan,
    check: &CheckRef,
    judgement: &Judgement,
    evidence: &Evidence,
) -> CheckResult {
    let words = Words { plan, evidence };
    let flows: Vec<FlowReport> = judgement
        .flows
        .iter()
        .map(|flow| words.flow(flow))
        .collect();
    let took = judgement
        .flows
        .iter()
        .flat_map(|flow| &*evidence.flow(flow.flow).took)
        .copied();
    let mut result = CheckResult {
        check: check.clone(),
        verdict: Outcome::Proven,
        tier: None,
        reach: judgement.reach,
        power_percent: None,
        reason: None,
        seen: String::new(),
        unpredicted: unpredicted(check.expected, &flows),
        contrast: None,
        next_step: None,
        mechanism: None,
        delay_ms: None,
        latency: Latency::of(took.collect()),
        startup_leak_ms: None,
        attempts: flows.iter().map(|flow| flow.attempts).sum(),
        opened: flows.iter().map(|flow| flow.opened).sum(),
        flows,
        controls: super::controls::of(plan, judgement, evidence),
    };
    match &judgement.verdict {
        Verdict::Proven => {
            words.proven(judgement, &mut result);
            result.seen.push_str(&words.restarts(judgement));
        }
        Verdict::Violated(violation) => words.violated(violation, &mut result),
        Verdict::Unproven(unproven) => words.unproven(unproven, &mut result),
    }
    result
}

struct Words<'a> {
    plan: &'a Plan,
    evidence: &'a Evidence,
}

impl Words<'_> {
    /// How often a check began anew, and why the last time.
    fn restarts(&self, judgement: &Judgement) -> String {
        let flows = judgement
            .flows
            .iter()
            .filter_map(|flow| self.evidence.flow(flow.flow).restarts.as_deref());
        let often = |count: u32| {
            if count == 1 {
                "once".to_owned()
            } else {
                format!("{count} times")
            }
        };
        flows
            .max_by_key(|restarts| restarts.count)
            .map_or(String::new(), |restarts| {
                format!(
                    "; it began anew {}, the last time since {}",
                    often(restarts.count),
                    restarts.cause
                )
            })
    }

    fn proven(&self, judgement: &Judgement, result: &mut CheckResult) {
        let mut deny_tier = None;
        let mut allow_tier = None;
        let mut delay = Duration::ZERO;
        let mut weakest = 0;
        let mut contrast = None;
        for flow in &judgement.flows {
            match &flow.verdict {
                FlowVerdict::Denied(proof) => {
                    deny_tier = Some(
                        deny_tier.map_or(proof.tier(), |tier: crate::verdict::DenyTier| {
                            tier.and(proof.tier())
                        }),
                    );
                    weakest = weakest.max(proof.window().power_percent());
                    let leak = proof.startup_leak().map(|leak| leak.as_millis() as u64);
                    result.startup_leak_ms = result.startup_leak_ms.max(leak);
                    result
                        .mechanism
                        .get_or_insert_with(|| mechanism(proof.block()));
                    contrast.get_or_insert_with(|| {
                        format!(
                            "{} {} meanwhile",
                            self.sender(proof.control().flow()),
                            how_far(proof.control())
                        )
                    });
                }
                FlowVerdict::Allowed(proof) => {
                    allow_tier = Some(
                        allow_tier.map_or(proof.tier(), |tier: crate::verdict::AllowTier| {
                            tier.min(proof.tier())
                        }),
                    );
                    delay = delay.max(proof.delay());
                }
                FlowVerdict::Violated(_) | FlowVerdict::Unproven(_) | FlowVerdict::LeftOut(_) => {}
            }
        }
        result.contrast = contrast;
        if let Some(tier) = deny_tier {
            result.tier = Some(tier.to_string());
            result.power_percent = Some(weakest);
            result.seen = match result.startup_leak_ms {
                None => format!("{} attempts, all blocked", result.attempts),
                Some(ms) => {
                    let blocked = result.attempts.saturating_sub(result.opened);
                    format!(
                        "open for {ms} ms while the source was new, then {blocked} attempts, all blocked"
                    )
                }
            };
        }
        if let Some(tier) = allow_tier {
            result.tier = Some(format!("{tier:?}"));
            result.delay_ms = Some(delay.as_millis() as u64);
            result.seen = format!(
                "{} of {} attempts got through",
                result.opened, result.attempts
            );
            if delay >= Duration::from_millis(500) {
                result
                    .seen
                    .push_str(&format!(", the first after {}", show_duration(delay)));
            }
        }
    }

    fn violated(&self, violation: &Violation, result: &mut CheckResult) {
        result.verdict = Outcome::Violated;
        let flow = violation.flow();
        let (source, target) = (self.sender(flow), self.receiver(flow));
        match violation {
            Violation::FirstSuccess {
                first,
                opened,
                attempts,
                ..
            } => {
                let by = first
                    .who
                    .as_ref()
                    .map_or(String::new(), |who| format!(", answered by {who}"));
                result.seen = format!(
                    "{source} reached {target}: {opened} of {attempts} attempts opened{by}"
                );
                result.next_step =
                    Some("find the policy that should stop this flow: it does not select the target (or the source), or another one admits it".into());
            }
            Violation::Shut {
                block, contrast, ..
            } => {
                let how = block
                    .as_ref()
                    .map_or("no answer of its own".to_owned(), describe_block);
                let seen = self.evidence.flow(flow);
                result.seen = if seen.opened > 0 {
                    format!(
                        "unstable: {source} got through to {target} in {} of {} attempts, never three times in a row: {how}",
                        seen.opened, seen.attempts
                    )
                } else {
                    format!("{source} never got through to {target}: {how}")
                };
                result.contrast = Some(
                    match (contrast, block.as_ref().and_then(|block| block.signature)) {
                        (Some(contrast), _) => {
                            format!(
                                "{} got through to the same address and port meanwhile",
                                self.sender(*contrast)
                            )
                        }
                        (None, Some(signature)) => {
                            format!("the refusal is that of {}", signature.enforcer())
                        }
                        (None, None) => "nobody else was seen to get through".into(),
                    },
                );
                result.next_step = Some(
                    "look for the policy that isolates the source or the target without a rule that admits this flow"
                        .into(),
                );
            }
            Violation::Unstable {
                lost, of, in_a_row, ..
            } => {
                result.seen = format!(
                    "unstable: {source} got through to {target}, then lost {lost} of {of} attempts, {in_a_row} in a row"
                );
                result.next_step = Some(
                    "look at what comes and goes on this path: one replica, one node, a policy being rewritten".into(),
                );
            }
        }
        if result.contrast.is_none() {
            result.contrast = self.denied_elsewhere(flow);
        }
    }

    /// For a leak: who else is stopped at the same target, which shows what the leaking flow lacks.
    fn denied_elsewhere(&self, flow: FlowId) -> Option<String> {
        let of = self.plan.flow(flow);
        let stopped = self.plan.flows().iter().enumerate().find(|(index, other)| {
            let seen = &self.evidence.flows[*index];
            other.to == of.to && other.probe != of.probe && seen.blocked > 0 && seen.opened == 0
        });
        stopped.map(|(index, _)| {
            format!(
                "{} was stopped at the same address and port",
                self.sender(FlowId(index as u32))
            )
        })
    }

    fn unproven(&self, unproven: &Unproven, result: &mut CheckResult) {
        result.verdict = Outcome::Unproven;
        result.reason = Some(ReasonText {
            code: unproven.reason.code(),
            text: unproven.detail.clone(),
        });
        result.next_step = Some(unproven.reason.next_step().to_owned());
        result.seen = match unproven.flow {
            Some(flow) => {
                let seen = self.evidence.flow(flow);
                let tried = format!("{} -> {}", self.sender(flow), self.receiver(flow));
                match seen.attempts {
                    0 => format!("{tried}: no attempt"),
                    n => format!(
                        "{tried}: {} of {n} attempts blocked, {} opened",
                        seen.blocked, seen.opened
                    ),
                }
            }
            None => "nothing could be sampled that settles it".into(),
        };
    }

    fn flow(&self, result: &FlowResult) -> FlowReport {
        let flow = self.plan.flow(result.flow);
        let seen = self.evidence.flow(result.flow);
        let mut report = FlowReport {
            flow: result.flow.0,
            probe: flow.probe.0,
            source: self.sender(result.flow),
            sent_as: self.sent_as(flow.probe),
            target: flow.target_kind.to_string(),
            address: dialled(flow),
            transport: transport(flow),
            request: describe_request(&flow.to.request),
            predicted: self.plan.predicted().get(&result.flow).copied(),
            shows: "proven",
            text: String::new(),
            attempts: seen.attempts,
            opened: seen.opened,
            restarts: seen.restarts.as_ref().map_or(0, |restarts| restarts.count),
            window: None,
            control: None,
            able: None,
            path: None,
            same_node_control: None,
            record: None,
            answered_by: seen.answerers.keys().cloned().collect(),
        };
        match &result.verdict {
            FlowVerdict::Denied(proof) => {
                let window = proof.window();
                report.text = format!(
                    "{} samples blocked: {}",
                    window.attempts,
                    describe_block(proof.block())
                );
                report.window = Some(WindowReport {
                    from_ms: window.from.earliest / 1_000,
                    to_ms: window.to.latest / 1_000,
                    attempts: window.attempts,
                });
                let control = proof.control();
                let how = if control.with().is_empty() {
                    format!("{} times in a row", control.openings())
                } else {
                    format!(
                        "{} times together with its pods' nodes, which reach each pod",
                        control.openings()
                    )
                };
                report.control = Some(format!(
                    "{} {}, {how}",
                    self.sender(control.flow()),
                    how_far(control)
                ));
                report.able = proof.source().map(|source| {
                    let (before, after) = source.flows();
                    let by = if source.by_being_reached() {
                        "was reached: "
                    } else {
                        "opened: "
                    };
                    let both = if before == after {
                        String::new()
                    } else {
                        format!("; {} -> {}", self.sender(after), self.receiver(after))
                    };
                    format!(
                        "{by}{} -> {}{both}",
                        self.sender(before),
                        self.receiver(before)
                    )
                });
                report.path = proof.paths().map(|paths| {
                    let crossed: Vec<String> = paths
                        .iter()
                        .map(|path| {
                            format!(
                                "{} -> {}",
                                self.sender(path.flow()),
                                self.receiver(path.flow())
                            )
                        })
                        .collect();
                    crossed.join("; ")
                });
                report.same_node_control = proof
                    .same_node_control()
                    .map(|same_node_control| self.sender(same_node_control));
                report.record = proof
                    .counter()
                    .map(|record| format!("{} packets counted by {}", record.packets, record.rule));
            }
            FlowVerdict::Allowed(proof) => {
                let (opened, attempts) = proof.counts();
                report.text = format!(
                    "{opened} of {attempts} attempts got through, up after {}",
                    show_duration(proof.delay())
                );
            }
            FlowVerdict::Violated(violation) => {
                report.shows = "violated";
                report.text = match violation {
                    Violation::FirstSuccess {
                        opened, attempts, ..
                    } => format!("{opened} of {attempts} attempts opened"),
                    Violation::Shut { block, .. } => {
                        let how = block
                            .as_ref()
                            .map_or("no answer of its own".to_owned(), describe_block);
                        match report.opened {
                            0 => format!("never opened: {how}"),
                            n => format!(
                                "unstable: {n} of {} attempts opened, never three in a row: {how}",
                                report.attempts
                            ),
                        }
                    }
                    Violation::Unstable { lost, of, .. } => {
                        format!("unstable: {lost} of {of} attempts lost")
                    }
                };
            }
            FlowVerdict::Unproven(unproven) => {
                report.shows = "unproven";
                report.text = format!("{}: {}", unproven.reason.code(), unproven.detail);
            }
            FlowVerdict::LeftOut(why) => {
                report.shows = "left-out";
                report.text.clone_from(why);
            }
        }
        report
    }

    fn sender(&self, flow: FlowId) -> String {
        sender(self.plan.source(self.plan.flow(flow).probe))
    }

    fn sent_as(&self, probe: ProbeId) -> &'static str {
        match self.plan.source(probe) {
            Source::Pod { .. } if self.plan.created_probes().contains(&probe) => "clone",
            Source::Pod { .. } if self.plan.ephemeral_probes().contains(&probe) => "ephemeral",
            Source::Pod { .. } => "pod",
            Source::Node { .. } => "node",
            Source::ReferencePod { .. } => "witness",
            Source::Runner => "runner",
        }
    }

    fn receiver(&self, flow: FlowId) -> String {
        let flow = self.plan.flow(flow);
        let port = flow.to.port;
        match &*flow.target_kind {
            TargetKind::Pod {
                namespace,
                name,
                node,
                ..
            } => format!("{namespace}/{name}:{port} ({node})"),
            TargetKind::Service { service, .. } => {
                format!("Service {}/{}:{port}", service.namespace, service.name)
            }
            TargetKind::Node { name } => format!("node {name}:{port}"),
            TargetKind::ReferencePod { node } => format!("the witness on {node}:{port}"),
            TargetKind::Outside { name } => format!("{name}:{port}"),
        }
    }
}

/// Who sends, for people.
pub(super) fn sender(source: &Source) -> String {
    match source {
        Source::Pod {
            namespace,
            name,
            node,
        } => format!("{namespace}/{name} ({node})"),
        Source::Node { name } => format!("node {name}"),
        Source::ReferencePod { node } => format!("the witness ({node})"),
        Source::Runner => "the runner".into(),
    }
}

/// What is dialled: the address, or the name that the probe resolves itself.
pub(super) fn dialled(flow: &Flow) -> String {
    match &flow.to.name {
        Some(name) => format!("{name}:{} over {}", flow.to.port, flow.family()),
        None => std::net::SocketAddr::new(flow.to.address, flow.to.port).to_string(),
    }
}

/// By what.
pub(super) fn transport(flow: &Flow) -> &'static str {
    match flow.to.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

/// How far a control got.
fn how_far(control: &ControlProof) -> &'static str {
    match control.only() {
        None => "got through",
        Some(Stage::Resolve) => "resolved the name",
        Some(Stage::Connect) => "completed the handshake",
        Some(Stage::Tls) => "completed the TLS handshake",
        Some(Stage::FirstBytes | Stage::Request) => "got an answer",
    }
}

fn describe_block(block: &Block) -> String {
    let how = match &block.how {
        Refusal::Wire(how) => describe_how(how),
        Refusal::Status(status) => format!("HTTP status {status}"),
    };
    match block.signature {
        Some(signature) => format!("{how}, which is the refusal of {}", signature.enforcer()),
        None => how,
    }
}

fn mechanism(block: &Block) -> String {
    match (&block.how, block.signature) {
        (_, Some(signature)) => signature.enforcer().to_owned(),
        (Refusal::Status(status), None) => format!("status {status}"),
        (Refusal::Wire(How::Silence), None) => "drop".into(),
        (Refusal::Wire(How::Error { icmp: Some(_), .. }), None) => "icmp".into(),
        (Refusal::Wire(How::Error { icmp: None, .. }), None) => "reset".into(),
        (Refusal::Wire(How::Closed), None) => "close".into(),
        (Refusal::Wire(How::Alert { .. }), None) => "alert".into(),
        (Refusal::Wire(How::Rcode { .. }), None) => "dns".into(),
        (Refusal::Wire(How::Garbled { .. }), None) => "garbled".into(),
        (Refusal::Wire(How::Unfinished), None) => "unfinished".into(),
    }
}
