//! What one attempt sees, as the agent would report it.

use super::script::Span;
use crate::wire::{
    Answer, DnsFacts, FaultReason, Flow, How, HttpFacts, Icmp, Linger, Observation, Request, Stage,
    Stop, Target, TlsFacts, Transport,
};
use serde::Deserialize;
use std::net::IpAddr;
use std::time::Duration;

/// The words of a script for what an attempt sees.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) enum Seen {
    /// Everything is passed; our responder answers.
    Open,
    /// Everything is passed, and a stranger answers.
    Stranger,
    /// Nothing, to the deadline.
    Silence,
    /// A reset.
    Reset,
    /// The other side closes.
    Closed,
    /// The kernel's own error: nothing left.
    Unsent {
        /// Linux errno.
        errno: i32,
    },
    /// An ICMP message.
    Icmp {
        /// Type.
        ty: u8,
        /// Code.
        code: u8,
        /// Who sent it.
        #[serde(default)]
        from: Option<IpAddr>,
    },
    /// A TLS alert.
    Alert {
        /// Its number.
        code: u8,
    },
    /// A DNS answer without what was asked for.
    Rcode {
        /// Its number.
        code: u16,
    },
    /// Bytes of another protocol.
    Garbled {
        /// What.
        what: String,
    },
    /// An HTTP answer with this status.
    Status {
        /// The status.
        code: u16,
        /// The body.
        #[serde(default)]
        body: String,
        /// The `server` header.
        #[serde(default)]
        server: Option<String>,
        /// Headers of enforcement layers.
        #[serde(default)]
        marks: Vec<String>,
    },
    /// A certificate that nobody trusts.
    Untrusted,
    /// Our own machinery fails.
    Fault(FaultReason),
}

/// How an attempt ends.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ends {
    /// The network did this.
    Seen(Observation),
    /// Our machinery failed.
    Fault(FaultReason),
}

/// What an attempt of a flow sees, and how long that takes.
pub(super) fn attempt(flow: &Flow, span: &Span, who: &str) -> (Ends, Duration) {
    let stages = stages(flow);
    let decides = span.at.unwrap_or_else(|| match &span.seen {
        Seen::Alert { .. } => Stage::Tls,
        Seen::Rcode { .. } if matches!(flow.target, Target::Name { .. }) => Stage::Resolve,
        _ => stages
            .iter()
            .copied()
            .find(|stage| *stage != Stage::Resolve)
            .unwrap_or(Stage::Connect),
    });
    let stopped = |how: How| {
        let before = stages.iter().copied().take_while(|stage| *stage < decides);
        let passed = before.map(|stage| (stage, QUICK_US)).collect();
        Ends::Seen(Observation {
            passed,
            stop: Some(Stop {
                stage: decides,
                how,
            }),
            ..Observation::default()
        })
    };
    match &span.seen {
        Seen::Fault(reason) => (Ends::Fault(*reason), span.takes),
        Seen::Silence => (stopped(How::Silence), deadline(flow, decides)),
        Seen::Reset => {
            let errno = if decides > Stage::Connect {
                ECONNRESET
            } else {
                ECONNREFUSED
            };
            (stopped(How::Error { errno, icmp: None }), span.takes)
        }
        Seen::Closed => (stopped(How::Closed), span.takes),
        Seen::Unsent { errno } => (
            stopped(How::Error {
                errno: *errno,
                icmp: None,
            }),
            span.takes,
        ),
        Seen::Icmp { ty, code, from } => {
            let v6 = is_v6(flow);
            let icmp = Icmp {
                v6,
                ty: *ty,
                code: *code,
                offender: *from,
            };
            (
                stopped(How::Error {
                    errno: EHOSTUNREACH,
                    icmp: Some(icmp),
                }),
                span.takes,
            )
        }
        Seen::Alert { code } => (stopped(How::Alert { code: *code }), span.takes),
        Seen::Rcode { code } => (stopped(How::Rcode { code: *code }), span.takes),
        Seen::Garbled { what } => (stopped(How::Garbled { what: what.clone() }), span.takes),
        Seen::Open | Seen::Stranger | Seen::Status { .. } | Seen::Untrusted => {
            let slow = span.at.or(stages.last().copied());
            let takes = |stage| {
                if Some(stage) == slow {
                    span.takes.as_micros() as u32
                } else {
                    QUICK_US
                }
            };
            let passed = stages.iter().map(|stage| (*stage, takes(*stage))).collect();
            let mut seen = Observation {
                passed,
                ..Observation::default()
            };
            answered(
                flow,
                &span.seen,
                span.who.as_deref().unwrap_or(who),
                &mut seen,
            );
            (Ends::Seen(seen), span.takes)
        }
    }
}

/// How long a stage takes of which nothing else is said, microseconds.
const QUICK_US: u32 = 200;

/// Linux errno values (asm-generic/errno.h).
const ECONNRESET: i32 = 104;
const ECONNREFUSED: i32 = 111;
const EHOSTUNREACH: i32 = 113;

/// The stages of a request, in order.
fn stages(flow: &Flow) -> Vec<Stage> {
    let mut stages = Vec::new();
    if matches!(flow.target, Target::Name { .. }) {
        stages.push(Stage::Resolve);
    }
    stages.extend(flow.request.stages(flow.transport));
    stages
}

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

/// The facts of an answer.
fn answered(flow: &Flow, how: &Seen, who: &str, seen: &mut Observation) {
    let ours = matches!(how, Seen::Open);
    let speaks = flow.request.asks_for_identity();
    seen.answer = (ours && speaks).then(|| Answer {
        nonce: true,
        who: who.to_owned(),
    });
    match &flow.request {
        Request::Connect { .. } => seen.linger = Some(Linger::Quiet),
        Request::Nonce | Request::Payload { .. } => {}
        Request::Tls(tls) => {
            seen.tls = Some(Box::new(certificate(tls.server_name.as_deref(), how, who)))
        }
        Request::Http(http) => {
            let tls = http.tls.as_ref();
            seen.tls = tls.map(|tls| Box::new(certificate(tls.server_name.as_deref(), how, who)));
            seen.http = Some(Box::new(page(how)));
        }
        Request::Dns { name, record } => {
            seen.dns = Some(Box::new(DnsFacts {
                server: None,
                name: name.clone(),
                rcode: Some(0),
                records: vec![format!("{name} {record} 10.0.0.1")],
            }));
        }
    }
}

fn certificate(name: Option<&str>, how: &Seen, who: &str) -> TlsFacts {
    TlsFacts {
        version: "TLSv1.3".into(),
        alpn: None,
        leaf: "00".repeat(32),
        subject: format!("CN={who}"),
        issuer: "CN=the script".into(),
        names: name.map(str::to_owned).into_iter().collect(),
        not_after: 4_102_444_800,
        chain_error: matches!(how, Seen::Untrusted).then(|| "unknown issuer".into()),
        name_error: None,
        expired: false,
    }
}

fn page(how: &Seen) -> HttpFacts {
    let (status, body, server, marks) = match how {
        Seen::Status {
            code,
            body,
            server,
            marks,
        } => (*code, body.clone(), server.clone(), marks.clone()),
        _ => (200, "ok".to_owned(), None, Vec::new()),
    };
    HttpFacts {
        version: "HTTP/1.1".into(),
        status,
        server,
        location: None,
        marks,
        body_bytes: body.len() as u64,
        body_start: body,
        body_sha256: "00".repeat(32),
    }
}
