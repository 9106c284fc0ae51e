//! What one observation counts as, before anyone asks what was expected.

use crate::plan::Flow;
use crate::suite::{Mechanism, RequiredTier};
use crate::wire::{How, HttpFacts, Icmp, Linger, Observation, Request, Stage, Stop};
use std::net::IpAddr;

/// What one sample of a flow was.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reading {
    /// It got through.
    Open(Success),
    /// It was stopped by someone.
    Blocked(Block),
    /// It never left: nothing about the network follows.
    NotSent(Stop),
}

/// An opening: how far it went.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Success {
    /// The highest tier that it reached.
    pub tier: AllowTier,
    /// The last stage that it passed.
    pub passed: Stage,
    /// Where it stopped after that, if it did not pass everything.
    pub then: Option<Stop>,
}

/// A block: where and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Block {
    /// The last stage that was passed before, if any.
    pub passed: Option<Stage>,
    /// The stage that was not passed.
    pub stage: Stage,
    /// What was seen.
    pub how: Refusal,
    /// Whether the refusal names its enforcer.
    pub signature: Option<Signature>,
    /// Whether it came from the target's own address: it is then worth nothing without a control.
    pub by_target: bool,
}

impl Block {
    /// What it was blocked by, as far as a line can demand it.
    fn mechanism(&self) -> Option<Mechanism> {
        let named = self
            .signature
            .is_some_and(|signature| signature != Signature::IcmpProhibited);
        match &self.how {
            _ if named => Some(Mechanism::Signature),
            Refusal::Wire(How::Silence) => Some(Mechanism::Drop),
            Refusal::Wire(How::Error { icmp: Some(_), .. }) => Some(Mechanism::Icmp),
            Refusal::Wire(How::Error { icmp: None, .. }) => Some(Mechanism::Reset),
            Refusal::Wire(_) | Refusal::Status(_) => None,
        }
    }
}

/// By what samples were blocked, each kind once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mechanisms(u8);

impl Mechanisms {
    const OTHER: u8 = 1 << 7;

    /// Of one block.
    pub(super) fn of(block: &Block) -> Self {
        Self(
            block
                .mechanism()
                .map_or(Self::OTHER, |kind| 1 << kind as u8),
        )
    }

    /// Those of both.
    #[must_use]
    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it was this one and no other.
    pub fn is_only(self, kind: Mechanism) -> bool {
        self.0 == 1 << kind as u8
    }
}

impl std::fmt::Display for Mechanisms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = Mechanism::ALL
            .iter()
            .filter(|kind| self.0 & (1 << **kind as u8) != 0)
            .map(|kind| kind.name());
        let other = (self.0 & Self::OTHER != 0).then_some("another");
        f.write_str(&named.chain(other).collect::<Vec<_>>().join(" and "))
    }
}

/// What was seen of a stage that was not passed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The transport's, TLS's or DNS's own words.
    Wire(How),
    /// An HTTP answer that counts as a refusal.
    Status(u16),
}

/// How much an opening shows: that somebody answered, that the target did, that it is the right
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum AllowTier {
    /// A handshake.
    A0,
    /// Bytes or a certificate of the target.
    A1,
    /// Our nonce came back, or the expected certificate.
    A2,
}

impl AllowTier {
    /// The tier that a demand asks of an opening; `None` for the demands of denials.
    pub(super) fn demanded(required_tier: RequiredTier) -> Option<Self> {
        match required_tier {
            RequiredTier::A0 => Some(Self::A0),
            RequiredTier::A1 => Some(Self::A1),
            // A mesh identity is not observed; planning calls such a line unprovable.
            RequiredTier::A2 | RequiredTier::A3 => Some(Self::A2),
            RequiredTier::D1
            | RequiredTier::D2
            | RequiredTier::D2SameNode
            | RequiredTier::D2Counter => None,
        }
    }
}

/// A refusal that names its enforcer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signature {
    /// ICMP *administratively prohibited* (3/9, 3/10, 3/13; ICMPv6 1/1) from an address that is not
    /// the target's.
    IcmpProhibited,
    /// Cilium's HTTP proxy.
    CiliumHttp,
    /// Istio's authorisation.
    IstioAuthorization,
    /// Istio's `REGISTRY_ONLY`.
    IstioRegistryOnly,
    /// Linkerd's proxy.
    Linkerd,
    /// Azure Firewall's application rules.
    AzureFirewall,
    /// Azure Application Gateway's WAF with its default answer.
    ApplicationGatewayWaf,
    /// A resolver that refuses the name.
    DnsRefused,
}

impl Signature {
    /// The enforcement layer's name, for people.
    pub fn enforcer(self) -> &'static str {
        match self {
            Self::IcmpProhibited => "a packet filter (ICMP administratively prohibited)",
            Self::CiliumHttp => "Cilium's HTTP policy",
            Self::IstioAuthorization => "Istio's AuthorizationPolicy",
            Self::IstioRegistryOnly => "Istio's REGISTRY_ONLY",
            Self::Linkerd => "Linkerd's policy",
            Self::AzureFirewall => "Azure Firewall's application rules",
            Self::ApplicationGatewayWaf => "Application Gateway's WAF",
            Self::DnsRefused => "the resolver (REFUSED)",
        }
    }
}

/// Reads one observation of a flow. `status` is the HTTP status that the line states, if any.
pub fn read(flow: &Flow, status: Option<u16>, seen: &Observation) -> Reading {
    let passed = |stage| seen.passed.iter().any(|(at, _)| *at == stage);
    if passed(flow.opens_at)
        && let Some(last) = seen.passed.last()
    {
        if let Some(block) = http_refusal(flow, status, seen) {
            return Reading::Blocked(block);
        }
        return Reading::Open(Success {
            tier: tier(flow, seen),
            passed: last.0,
            then: seen.stop.clone(),
        });
    }
    let unheard = unheard(flow, seen);
    match seen.stop.as_ref().or(unheard.as_ref()) {
        Some(stop) => blocked_or_unsent(flow, seen, stop),
        // Everything asked for was passed and yet not the stage that decides: such a plan asks for
        // too little, and nothing may be concluded from it.
        None => Reading::NotSent(Stop {
            stage: flow.opens_at,
            how: How::Garbled {
                what: "nothing was asked of this stage".into(),
            },
        }),
    }
}

/// What followed a handshake that something on the path may have answered, where it was not the
/// target's bytes.
fn unheard(flow: &Flow, seen: &Observation) -> Option<Stop> {
    if flow.opens_at != Stage::FirstBytes || flow.to.request.linger().is_none() {
        return None;
    }
    let how = match seen.linger? {
        Linger::Bytes => return None,
        Linger::Quiet => How::Silence,
        Linger::Fin => How::Closed,
        Linger::Rst => How::Error {
            errno: libc_errno::ECONNRESET,
            icmp: None,
        },
    };
    Some(Stop {
        stage: Stage::FirstBytes,
        how,
    })
}

fn blocked_or_unsent(flow: &Flow, seen: &Observation, stop: &Stop) -> Reading {
    let blocked = |signature, by_target| {
        Reading::Blocked(Block {
            passed: seen.passed.last().map(|(stage, _)| *stage),
            stage: stop.stage,
            how: Refusal::Wire(stop.how.clone()),
            signature,
            by_target,
        })
    };
    match &stop.how {
        // Of an attempt that nobody let finish nothing follows.
        How::Unfinished => Reading::NotSent(stop.clone()),
        How::Silence | How::Closed | How::Alert { .. } | How::Garbled { .. } => {
            blocked(None, false)
        }
        How::Rcode { code: 5 } => blocked(Some(Signature::DnsRefused), false),
        How::Rcode { .. } => blocked(None, false),
        How::Error {
            icmp: Some(icmp), ..
        } => match kind_of(*icmp, flow.to.address) {
            IcmpKind::NoHost => Reading::NotSent(stop.clone()),
            IcmpKind::Prohibited => blocked(Some(Signature::IcmpProhibited), false),
            IcmpKind::Other { by_target } => blocked(None, by_target),
        },
        // Without a queued ICMP message, a refusal or a reset is an RST, and a time-out is the
        // kernel's own.
        How::Error { errno, icmp: None } => match *errno {
            libc_errno::ECONNREFUSED | libc_errno::ECONNRESET | libc_errno::EPIPE => {
                blocked(None, true)
            }
            libc_errno::ETIMEDOUT => blocked(None, false),
            _ => Reading::NotSent(stop.clone()),
        },
    }
}

/// Linux errno values (asm-generic/errno.h), the same on every architecture that Kubernetes runs
/// on.
mod libc_errno {
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
fn kind_of(icmp: Icmp, target: IpAddr) -> IcmpKind {
    let by_target = icmp.offender == Some(target);
    match (icmp.v6, icmp.ty, icmp.code) {
        (false, 3, 1) | (true, 1, 3) => IcmpKind::NoHost,
        (false, 3, 9 | 10 | 13) | (true, 1, 1) if !by_target => IcmpKind::Prohibited,
        _ => IcmpKind::Other { by_target },
    }
}

fn tier(flow: &Flow, seen: &Observation) -> AllowTier {
    let ours = seen.answer.as_ref().is_some_and(|answer| answer.nonce);
    let expected_certificate = seen.tls.as_ref().is_some_and(|tls| {
        names_a_server(&flow.to.request)
            && tls.chain_error.is_none()
            && tls.name_error.is_none()
            && !tls.expired
    });
    let bytes = seen.linger == Some(Linger::Bytes)
        || seen
            .passed
            .iter()
            .any(|(stage, _)| matches!(stage, Stage::FirstBytes | Stage::Tls | Stage::Request));
    if ours || expected_certificate {
        AllowTier::A2
    } else if bytes {
        AllowTier::A1
    } else {
        AllowTier::A0
    }
}

fn names_a_server(request: &Request) -> bool {
    request.tls().is_some_and(|tls| tls.server_name.is_some())
}

/// An HTTP answer opens a flow, unless it is a known deny signature or the line states another
/// status. A 403 of the application itself is an opening: the request arrived.
fn http_refusal(flow: &Flow, stated: Option<u16>, seen: &Observation) -> Option<Block> {
    let http = seen
        .http
        .as_deref()
        .filter(|_| flow.to.request.http().is_some())?;
    let signature = signature_of(http);
    let refused = match stated {
        Some(stated) => http.status != stated,
        None => signature.is_some(),
    };
    refused.then_some(Block {
        passed: Some(Stage::FirstBytes),
        stage: Stage::Request,
        how: Refusal::Status(http.status),
        signature,
        by_target: false,
    })
}

/// How enforcement layers answer HTTP when they deny, as their sources and documentation give it;
/// version 1.
fn signature_of(http: &HttpFacts) -> Option<Signature> {
    let body = http.body_start.as_str();
    let envoy = http
        .server
        .as_deref()
        .is_some_and(|server| server.contains("envoy"));
    match http.status {
        403 if body.starts_with("Access denied") && http.body_bytes <= 16 => {
            Some(Signature::CiliumHttp)
        }
        403 if body.starts_with("RBAC: access denied") => Some(Signature::IstioAuthorization),
        403 | 404 if http.marks.iter().any(|mark| mark == "l5d-proxy-error") => {
            Some(Signature::Linkerd)
        }
        502 if http.body_bytes == 0 && envoy => Some(Signature::IstioRegistryOnly),
        470 if body.starts_with("Action: Deny") => Some(Signature::AzureFirewall),
        403 if body.contains("The request is blocked.") => Some(Signature::ApplicationGatewayWaf),
        _ => None,
    }
}
