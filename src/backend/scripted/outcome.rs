//! The observation of one attempt, as the agent would report it.

use super::script::Span;
use crate::wire::{
    Answer, AnswerPattern, DnsFacts, FaultReason, Flow, Http, HttpDenial, HttpFacts, Icmp, Linger,
    Observation, Request, Stage, Stop, StopCause, Target, TlsFacts, Transport,
};
use serde::Deserialize;
use std::net::IpAddr;
use std::time::Duration;

/// Duration of a stage for which the script gives none, microseconds.
const QUICK_US: u32 = 200;

/// Linux errno values (asm-generic/errno.h).
const ECONNRESET: i32 = 104;
const ECONNREFUSED: i32 = 111;
const EHOSTUNREACH: i32 = 113;

/// Outcome of an attempt, as a script names it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) enum Outcome {
    /// All stages are passed; our responder answers.
    Open,
    /// All stages are passed; another server than our responder answers.
    UnknownResponder,
    /// Nothing arrives before the deadline.
    Silence,
    /// The connection is refused or reset.
    Reset,
    /// The peer closes the connection.
    Closed,
    /// The kernel returns an error: no packet is sent.
    NotSent {
        /// Linux errno.
        errno: i32,
    },
    /// An ICMP message arrives.
    Icmp {
        ty: u8,
        code: u8,
        /// Sender of the message.
        #[serde(default)]
        from: Option<IpAddr>,
    },
    /// A TLS alert arrives.
    Alert { code: u8 },
    /// A DNS answer arrives without a record of the type asked for.
    Rcode { code: u16 },
    /// Bytes of another protocol arrive.
    Garbled { what: String },
    /// An HTTP response with this status arrives.
    Status {
        code: u16,
        /// The known denial that it is.
        #[serde(default)]
        denial: Option<HttpDenial>,
        /// Whether it has the headers and the body of the request's pattern.
        #[serde(default)]
        matches: bool,
    },
    /// All stages are passed with a certificate that is not trusted.
    Untrusted,
    /// Our own machinery fails.
    Fault(FaultReason),
}

/// Result of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AttemptResult {
    Observed(Observation),
    Fault(FaultReason),
}

/// The result of an attempt of a flow, and its duration. `target` is the target's name.
pub(super) fn attempt(flow: &Flow, span: &Span, target: &str) -> (AttemptResult, Duration) {
    let how = match &span.outcome {
        Outcome::Fault(reason) => return (AttemptResult::Fault(*reason), span.latency),
        Outcome::Open | Outcome::UnknownResponder | Outcome::Status { .. } | Outcome::Untrusted => {
            let observation = success(flow, span, target);
            return (AttemptResult::Observed(observation), span.latency);
        }
        Outcome::Silence => StopCause::Silence,
        Outcome::Reset => StopCause::Error {
            errno: match span.stage {
                Some(stage) if stage > Stage::Connect => ECONNRESET,
                Some(_) | None => ECONNREFUSED,
            },
            icmp: None,
        },
        Outcome::Closed => StopCause::Closed,
        Outcome::NotSent { errno } => StopCause::Error {
            errno: *errno,
            icmp: None,
        },
        Outcome::Icmp { ty, code, from } => StopCause::Error {
            errno: EHOSTUNREACH,
            icmp: Some(Icmp {
                v6: is_v6(flow),
                ty: *ty,
                code: *code,
                offender: *from,
            }),
        },
        Outcome::Alert { code } => StopCause::Alert { code: *code },
        Outcome::Rcode { code } => StopCause::Rcode { code: *code },
        Outcome::Garbled { what } => StopCause::Garbled { what: what.clone() },
    };

    let stage = stop_stage(flow, span, &how);
    let duration = match how {
        StopCause::Silence => deadline(flow, stage),
        _ => span.latency,
    };
    let passed = stages(flow)
        .into_iter()
        .take_while(|passed| *passed < stage)
        .map(|passed| (passed, QUICK_US))
        .collect();
    let observation = Observation {
        passed,
        stop: Some(Stop { stage, how }),
        ..Observation::default()
    };
    (AttemptResult::Observed(observation), duration)
}

/// The stage at which an attempt stops: the script's, or that at which the agent would stop.
fn stop_stage(flow: &Flow, span: &Span, how: &StopCause) -> Stage {
    span.stage
        .unwrap_or_else(|| flow.request.stage_stopped_by(flow.transport, how))
}

/// The observation of an attempt that passes all stages.
fn success(flow: &Flow, span: &Span, target: &str) -> Observation {
    let stages = stages(flow);
    let slow = span.stage.or(stages.last().copied());
    let passed = stages
        .into_iter()
        .map(|stage| {
            let us = if Some(stage) == slow {
                span.latency.as_micros() as u32
            } else {
                QUICK_US
            };
            (stage, us)
        })
        .collect();
    let mut observation = Observation {
        passed,
        ..Observation::default()
    };
    let name = span.answered_by.as_deref().unwrap_or(target);
    add_facts(flow, &span.outcome, name, &mut observation);
    observation
}

/// Stages that an attempt of the flow passes, in order.
fn stages(flow: &Flow) -> Vec<Stage> {
    let mut stages = Vec::new();
    if matches!(flow.target, Target::Name { .. }) {
        stages.push(Stage::Resolve);
    }
    stages.extend(flow.request.stages(flow.transport));
    stages
}

/// Time that a stage may take.
fn deadline(flow: &Flow, stage: Stage) -> Duration {
    let udp = flow.transport == Transport::Udp;
    let ms = match stage {
        Stage::Resolve => flow.deadlines.resolve_ms,
        Stage::Connect => flow.deadlines.connect_ms,
        Stage::FirstBytes if udp => flow.deadlines.connect_ms,
        Stage::Tls => flow.deadlines.tls_ms,
        Stage::FirstBytes | Stage::Request => flow.deadlines.request_ms,
    };
    Duration::from_millis(u64::from(ms))
}

fn is_v6(flow: &Flow) -> bool {
    match &flow.target {
        Target::Address(address) => address.is_ipv6(),
        Target::Name { v6, .. } => *v6,
    }
}

/// Adds the facts of an answer.
fn add_facts(flow: &Flow, outcome: &Outcome, name: &str, observation: &mut Observation) {
    let has_answer = flow.request.asks_for_identity();
    if has_answer && matches!(outcome, Outcome::Open) {
        observation.answer = Some(Answer {
            nonce: true,
            who: name.to_owned(),
        });
    }

    match &flow.request {
        Request::Connect { .. } => observation.linger = Some(Linger::Quiet),
        Request::Nonce | Request::Payload { .. } | Request::KeptOpen => {}
        Request::Tls(tls) => {
            let facts = tls_facts(tls.server_name.as_deref(), outcome, name);
            observation.tls = Some(Box::new(facts));
        }
        Request::Http(http) => {
            if let Some(tls) = &http.tls {
                let facts = tls_facts(tls.server_name.as_deref(), outcome, name);
                observation.tls = Some(Box::new(facts));
            }
            observation.http = Some(Box::new(http_facts(http, outcome)));
        }
        Request::Dns { name, .. } => {
            observation.dns = Some(Box::new(DnsFacts {
                server: None,
                name: name.clone(),
                rcode: Some(0),
                addresses: vec![[10, 0, 0, 1].into()],
                records: 1,
            }));
        }
    }
}

fn tls_facts(server_name: Option<&str>, outcome: &Outcome, name: &str) -> TlsFacts {
    TlsFacts {
        version: "TLSv1.3".into(),
        alpn: None,
        leaf: "00".repeat(32),
        subject: format!("CN={name}"),
        issuer: "CN=the script".into(),
        names: server_name.map(str::to_owned).into_iter().collect(),
        not_after: 4_102_444_800,
        chain_error: matches!(outcome, Outcome::Untrusted).then(|| "unknown issuer".into()),
        name_error: None,
        expired: false,
    }
}

fn http_facts(http: &Http, outcome: &Outcome) -> HttpFacts {
    let (status, denial, matches) = match outcome {
        Outcome::Status {
            code,
            denial,
            matches,
        } => (*code, *denial, *matches),
        _ => (200, None, false),
    };
    HttpFacts {
        version: "HTTP/1.1".into(),
        status,
        denial,
        matched: http
            .pattern
            .as_ref()
            .map(|pattern| has_status(pattern, status) && (matches || !has_texts(pattern))),
        body_bytes: 2,
        body_digest: "00".repeat(8),
    }
}

fn has_status(pattern: &AnswerPattern, status: u16) -> bool {
    pattern.status.is_empty() || pattern.status.contains(&status)
}

/// Whether a pattern has more than a status.
fn has_texts(pattern: &AnswerPattern) -> bool {
    !pattern.headers.is_empty() || pattern.body.is_some()
}
