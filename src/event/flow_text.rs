//! One flow in words: its ends, its verdict, and what a proof rests on.

use super::{
    ControlRole, FlowOutcome, FlowReport, SentAs, WeakerControl, WindowReport, describe_request,
};
use crate::model::show_duration;
use crate::plan::{Flow, FlowId, Plan, ProbeId, Source, TargetKind};
use crate::verdict::{
    AllowProof, Block, ControlProof, DenyProof, Evidence, FlowResult, FlowVerdict, PathProof,
    Refusal, SourceProof, Violation, WeakerProof, describe_how,
};
use crate::wire::Stage;

/// Describes the flows of a plan by their evidence.
pub(super) struct FlowTexts<'a> {
    pub(super) plan: &'a Plan,
    /// The flows of the check, to tell what differs between address families.
    pub(super) results: &'a [FlowResult],
    pub(super) evidence: &'a Evidence,
}

impl FlowTexts<'_> {
    /// The report of one flow.
    pub(super) fn report(&self, result: &FlowResult) -> FlowReport {
        let mut report = self.without_verdict(result.flow);
        match &result.verdict {
            FlowVerdict::Denied(proof) => self.describe_deny(proof, &mut report),
            FlowVerdict::Allowed(proof) => report.text = describe_allow(proof),
            FlowVerdict::Violated(violation) => {
                report.verdict = FlowOutcome::Violated;
                report.text = describe_violation(violation, &report);
            }
            FlowVerdict::Unproven(unproven) => {
                report.verdict = FlowOutcome::Unproven;
                report.text = format!("{}: {}", unproven.reason.code(), unproven.detail);
            }
            FlowVerdict::LeftOut(why) => {
                report.verdict = FlowOutcome::LeftOut;
                report.text.clone_from(why);
            }
        }
        report
    }

    fn without_verdict(&self, id: FlowId) -> FlowReport {
        let flow = self.plan.flow(id);
        let evidence = self.evidence.flow(id);

        FlowReport {
            flow: id.0,
            probe: flow.probe.0,
            source: self.sender(id),
            sent_as: self.sent_as(flow.probe),
            target: flow.target_kind.to_string(),
            family: flow.family(),
            address: dialled(flow),
            transport: flow.to.transport.into(),
            request: describe_request(&flow.to.request),
            predicted: self.plan.predicted().get(&id).copied(),
            verdict: FlowOutcome::Proven,
            text: String::new(),
            attempts: evidence.attempts,
            opened: evidence.opened,
            restarts: evidence
                .restarts
                .as_ref()
                .map_or(0, |restarts| restarts.count),
            window: None,
            target_control: None,
            source_control: None,
            path_control: None,
            same_node_control: None,
            weaker: Vec::new(),
            counter: None,
            answered_by: evidence.responders.keys().cloned().collect(),
        }
    }

    fn describe_deny(&self, proof: &DenyProof, report: &mut FlowReport) {
        let window = proof.window();
        report.text = format!(
            "{} attempts blocked: {}",
            window.attempts,
            describe_block(proof.block())
        );
        report.window = Some(WindowReport {
            from_ms: window.from.earliest / 1_000,
            to_ms: window.to.latest / 1_000,
            attempts: window.attempts,
        });

        report.target_control = Some(self.describe_target_control(proof.control()));
        report.source_control = proof
            .source()
            .map(|source| self.describe_source_control(source));
        report.path_control = proof
            .paths()
            .map(|paths| self.describe_path_controls(paths));
        report.weaker = weaker_controls(proof.weaker());
        report.same_node_control = proof.same_node_control().map(|flow| self.sender(flow));
        report.counter = proof
            .counter()
            .map(|counter| format!("{} packets counted by {}", counter.packets, counter.rule));
    }

    fn describe_target_control(&self, control: &ControlProof) -> String {
        let successes = control.successes();
        let how_often = if control.with().is_empty() {
            format!("{successes} times in a row")
        } else {
            format!("{successes} times together with its pods' nodes, which reach each pod")
        };
        format!(
            "{} {}, {how_often}",
            self.sender(control.flow()),
            stage_passed(control)
        )
    }

    fn describe_source_control(&self, source: &SourceProof) -> String {
        let direction = if source.by_being_reached() {
            "was reached"
        } else {
            "opened"
        };
        format!("{direction}: {}", self.ends(source.flow()))
    }

    fn describe_path_controls(&self, paths: &[PathProof]) -> String {
        let flows: Vec<String> = paths.iter().map(|path| self.ends(path.flow())).collect();
        flows.join("; ")
    }

    fn ends(&self, flow: FlowId) -> String {
        format!("{} -> {}", self.sender(flow), self.receiver(flow))
    }

    /// The source of a flow, for people.
    pub(super) fn sender(&self, flow: FlowId) -> String {
        describe_source(self.plan.source(self.plan.flow(flow).probe))
    }

    fn sent_as(&self, probe: ProbeId) -> SentAs {
        match self.plan.source(probe) {
            Source::Pod { .. } if self.plan.created_probes().contains(&probe) => SentAs::Clone,
            Source::Pod { .. } if self.plan.ephemeral_probes().contains(&probe) => {
                SentAs::Ephemeral
            }
            Source::Pod { .. } => SentAs::Pod,
            Source::Node { .. } => SentAs::Node,
            Source::ReferencePod { .. } => SentAs::ReferencePod,
            Source::Runner => SentAs::Runner,
        }
    }

    /// " over IPv6", where a flow of the check between the same ends over the other family has
    /// another result; otherwise nothing.
    pub(super) fn over_family(&self, id: FlowId) -> String {
        let flow = self.plan.flow(id);
        let kind = |wanted: FlowId| {
            let result = self.results.iter().find(|result| result.flow == wanted);
            result.map(|result| std::mem::discriminant(&result.verdict))
        };
        let is_other_family = |other: &&FlowResult| {
            let other = self.plan.flow(other.flow);
            other.probe == flow.probe
                && other.target_kind == flow.target_kind
                && other.to.port == flow.to.port
                && other.to.transport == flow.to.transport
                && other.family() != flow.family()
        };
        let differs = self
            .results
            .iter()
            .filter(is_other_family)
            .any(|other| kind(other.flow) != kind(id));
        if differs {
            format!(" over {}", flow.family())
        } else {
            String::new()
        }
    }

    /// The target of a flow with its port, for people.
    pub(super) fn receiver(&self, flow: FlowId) -> String {
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
            TargetKind::ReferencePod { node } => format!("the reference pod on {node}:{port}"),
            TargetKind::Outside { name } => format!("{name}:{port}"),
        }
    }
}

/// The conditions that rest on weaker controls.
fn weaker_controls(weaker: &WeakerProof) -> Vec<WeakerControl> {
    [
        (ControlRole::Target, &weaker.target),
        (ControlRole::Source, &weaker.source),
        (ControlRole::Path, &weaker.path),
    ]
    .into_iter()
    .filter_map(|(role, because)| {
        Some(WeakerControl {
            role,
            because: because.clone()?,
        })
    })
    .collect()
}

/// A source, for people.
pub(super) fn describe_source(source: &Source) -> String {
    match source {
        Source::Pod {
            namespace,
            name,
            node,
        } => format!("{namespace}/{name} ({node})"),
        Source::Node { name } => format!("node {name}"),
        Source::ReferencePod { node } => format!("the reference pod ({node})"),
        Source::Runner => "the runner".into(),
    }
}

/// What a flow dials: the address, or the name that the probe resolves itself.
pub(super) fn dialled(flow: &Flow) -> String {
    match &flow.to.name {
        Some(name) => format!("{name}:{} over {}", flow.to.port, flow.family()),
        None => std::net::SocketAddr::new(flow.to.address, flow.to.port).to_string(),
    }
}

/// The stage that a target control passed.
pub(super) fn stage_passed(control: &ControlProof) -> &'static str {
    match control.stopped_after() {
        None => "got through",
        Some(Stage::Resolve) => "resolved the name",
        Some(Stage::Connect) => "completed the handshake",
        Some(Stage::Tls) => "completed the TLS handshake",
        Some(Stage::FirstBytes | Stage::Request) => "got an answer",
    }
}

/// How an attempt was blocked, and by whom where the refusal shows it.
pub(super) fn describe_block(block: &Block) -> String {
    let how = match &block.how {
        Refusal::Wire(how) => describe_how(how),
        Refusal::Status(status) => format!("HTTP status {status}"),
    };
    match block.signature {
        Some(signature) => format!("{how}, which is the refusal of {}", signature.enforcer()),
        None => how,
    }
}

fn describe_allow(proof: &AllowProof) -> String {
    let (opened, attempts) = proof.counts();
    let delay = show_duration(proof.delay());
    format!("{opened} of {attempts} attempts got through, up after {delay}")
}

fn describe_violation(violation: &Violation, report: &FlowReport) -> String {
    match violation {
        Violation::DeniedFlowOpened {
            opened, attempts, ..
        } => format!("{opened} of {attempts} attempts opened"),
        Violation::StayedOpen { change, lasted, .. } => format!(
            "the connection opened before went on for {} after {change} changed",
            show_duration(*lasted)
        ),
        Violation::AllowedFlowBlocked { block, .. } => {
            let cause = block
                .as_ref()
                .map_or("no answer".to_owned(), describe_block);
            match report.opened {
                0 => format!("never opened: {cause}"),
                opened => format!(
                    "unstable: {opened} of {} attempts opened, never three in a row: {cause}",
                    report.attempts
                ),
            }
        }
        Violation::Unstable { lost, of, .. } => {
            format!("unstable: {lost} of {of} attempts lost")
        }
    }
}
