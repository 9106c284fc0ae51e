//! Observation → [`Reading`], before anything asks what was expected.

use super::reading::{Block, Reading, Refusal, Signature, Success};
use super::tiers::AllowTier;
use crate::plan::{AnswerRule, Flow};
use crate::wire::{Icmp, Linger, Observation, Request, Stage, Stop, StopCause};
use std::net::IpAddr;

/// Reads one observation of a flow.
pub fn read(flow: &Flow, observation: &Observation) -> Reading {
    let opened = observation
        .passed
        .iter()
        .any(|(stage, _)| *stage == flow.opens_at);
    if opened && let Some((last_passed, _)) = observation.passed.last() {
        let refusal = http_refusal(flow, observation).or_else(|| dns_refusal(flow, observation));
        if let Some(block) = refusal {
            return Reading::Blocked(block);
        }
        let is_dns_answer = dns_rcode(flow, observation).is_some();
        return Reading::Open(Success {
            tier: tier(flow, observation),
            passed: if is_dns_answer {
                Stage::Request
            } else {
                *last_passed
            },
            then: observation.stop.clone().filter(|_| !is_dns_answer),
        });
    }

    let stop_after_handshake = stop_after_handshake(flow, observation);
    match observation.stop.as_ref().or(stop_after_handshake.as_ref()) {
        Some(stop) => blocked_or_not_sent(flow, observation, stop),
        // Everything requested was passed and yet not the stage that decides: such a plan requests
        // too little, and nothing may be concluded from it.
        None => Reading::NotSent(Stop {
            stage: flow.opens_at,
            how: StopCause::Garbled {
                what: "the probe's plan requests nothing at this stage".into(),
            },
        }),
    }
}

/// The stop after a handshake that something on the path may have answered, unless the target's
/// bytes followed.
fn stop_after_handshake(flow: &Flow, observation: &Observation) -> Option<Stop> {
    if flow.opens_at != Stage::FirstBytes || flow.to.request.linger().is_none() {
        return None;
    }
    let how = match observation.linger? {
        Linger::Bytes => return None,
        Linger::Quiet => StopCause::Silence,
        Linger::Fin => StopCause::Closed,
        Linger::Rst => StopCause::Error {
            errno: errno::ECONNRESET,
            icmp: None,
        },
    };
    Some(Stop {
        stage: Stage::FirstBytes,
        how,
    })
}

fn blocked_or_not_sent(flow: &Flow, observation: &Observation, stop: &Stop) -> Reading {
    match sender_of(&stop.how, flow.to.address) {
        Some(Sender {
            signature,
            by_target,
        }) => Reading::Blocked(Block {
            passed: observation.passed.last().map(|(stage, _)| *stage),
            stage: stop.stage,
            how: Refusal::Wire(stop.how.clone()),
            signature,
            by_target,
        }),
        None => Reading::NotSent(stop.clone()),
    }
}

/// Who may have stopped an attempt.
struct Sender {
    signature: Option<Signature>,
    by_target: bool,
}

/// Who may have stopped an attempt; `None` where it was not sent or not finished.
fn sender_of(how: &StopCause, target: IpAddr) -> Option<Sender> {
    let (signature, by_target) = match how {
        // The probe ended during the attempt.
        StopCause::Unfinished => return None,
        StopCause::Silence
        | StopCause::Closed
        | StopCause::Alert { .. }
        | StopCause::Garbled { .. } => (None, false),
        StopCause::Rcode { code: REFUSED } => (Some(Signature::DnsRefused), false),
        StopCause::Rcode { .. } => (None, false),
        StopCause::Error {
            icmp: Some(icmp), ..
        } => match icmp_kind(*icmp, target) {
            IcmpKind::NoHost => return None,
            IcmpKind::Prohibited => (Some(Signature::IcmpProhibited), false),
            IcmpKind::Other { by_target } => (None, by_target),
        },
        // Without a queued ICMP message, a refusal or a reset is an RST, and a timeout is the
        // kernel's own.
        StopCause::Error { errno, icmp: None } => match *errno {
            errno::ECONNREFUSED | errno::ECONNRESET | errno::EPIPE => (None, true),
            errno::ETIMEDOUT => (None, false),
            _ => return None,
        },
    };
    Some(Sender {
        signature,
        by_target,
    })
}

/// Linux errno values (asm-generic/errno.h), the same on every architecture that Kubernetes runs
/// on.
mod errno {
    pub(super) const EPIPE: i32 = 32;
    pub(super) const ECONNRESET: i32 = 104;
    pub(super) const ETIMEDOUT: i32 = 110;
    pub(super) const ECONNREFUSED: i32 = 111;
}

enum IcmpKind {
    NoHost,
    Prohibited,
    Other { by_target: bool },
}

/// Sorts unreachable messages (RFC 792, RFC 1812 section 5.2.7.1; RFC 4443 section 3.1).
fn icmp_kind(icmp: Icmp, target: IpAddr) -> IcmpKind {
    let by_target = icmp.offender == Some(target);
    match (icmp.v6, icmp.ty, icmp.code) {
        (false, 3, 1) | (true, 1, 3) => IcmpKind::NoHost,
        (false, 3, 9 | 10 | 13) | (true, 1, 1) if !by_target => IcmpKind::Prohibited,
        _ => IcmpKind::Other { by_target },
    }
}

fn tier(flow: &Flow, observation: &Observation) -> AllowTier {
    let has_our_nonce = observation
        .answer
        .as_ref()
        .is_some_and(|answer| answer.nonce);
    let has_expected_certificate = observation.tls.as_ref().is_some_and(|tls| {
        names_a_server(&flow.to.request)
            && tls.chain_error.is_none()
            && tls.name_error.is_none()
            && !tls.expired
    });
    if has_our_nonce || has_expected_certificate {
        return AllowTier::A2;
    }

    let has_bytes = observation.linger == Some(Linger::Bytes)
        || observation
            .passed
            .iter()
            .any(|(stage, _)| matches!(stage, Stage::FirstBytes | Stage::Tls | Stage::Request));
    if has_bytes {
        AllowTier::A1
    } else {
        AllowTier::A0
    }
}

fn names_a_server(request: &Request) -> bool {
    request.tls().is_some_and(|tls| tls.server_name.is_some())
}

/// The response code by which a name server refuses to answer (RFC 1035 section 4.1.1), and an
/// enforcing proxy denies a name. Every other code is an answer about the name.
const REFUSED: u16 = 5;

/// The refusal in a DNS answer. It came after the bytes of an answer: only another source whose
/// request was answered shows that the server would have answered.
fn dns_refusal(flow: &Flow, observation: &Observation) -> Option<Block> {
    if dns_rcode(flow, observation)? != REFUSED {
        return None;
    }
    Some(Block {
        passed: observation.passed.last().map(|(stage, _)| *stage),
        stage: Stage::Request,
        how: Refusal::Wire(StopCause::Rcode { code: REFUSED }),
        signature: Some(Signature::DnsRefused),
        by_target: false,
    })
}

/// The response code of the answer to a flow's DNS request that has no record of the type asked
/// for.
fn dns_rcode(flow: &Flow, observation: &Observation) -> Option<u16> {
    let Request::Dns { .. } = flow.to.request else {
        return None;
    };
    match observation.stop.as_ref()? {
        Stop {
            stage: Stage::Request,
            how: StopCause::Rcode { code },
        } => Some(*code),
        _ => None,
    }
}

/// The refusal in an HTTP answer: a known denial, or what the flow's rule takes for one. A 403 of
/// the application itself is none, since the request arrived.
fn http_refusal(flow: &Flow, observation: &Observation) -> Option<Block> {
    flow.to.request.http()?;
    let http = observation.http.as_deref()?;
    let matched = http.matched == Some(true);
    let signature = match (http.denial, flow.to.answer_rule) {
        (Some(denial), _) => Some(Signature::from(denial)),
        (None, AnswerRule::MatchRefuses) if matched => Some(Signature::Stated),
        (None, AnswerRule::MatchOpens) if !matched => None,
        (None, AnswerRule::Any | AnswerRule::MatchOpens | AnswerRule::MatchRefuses) => return None,
    };

    let before = |(stage, _): &&(Stage, u32)| *stage < Stage::Request;
    let passed = observation.passed.iter().rev().find(before);
    Some(Block {
        passed: passed.map(|(stage, _)| *stage),
        stage: Stage::Request,
        how: Refusal::Status(http.status),
        signature,
        by_target: false,
    })
}
