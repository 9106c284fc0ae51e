//! What one attempt counts as: open, blocked, or not sent.

use super::tiers::AllowTier;
use crate::suite::Mechanism;
use crate::wire::{HttpDenial, Stage, Stop, StopCause};

/// What one attempt of a flow counts as.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reading {
    /// It got through.
    Open(Success),
    /// It was stopped on the way or by the target.
    Blocked(Block),
    /// It never left: nothing about the network follows.
    NotSent(Stop),
}

impl Reading {
    /// The stage at which the attempt stopped; of one that passed everything that was asked for, the
    /// stage after the last that it passed.
    pub(super) fn stopped_at(&self) -> Stage {
        match self {
            Self::Open(success) => match &success.then {
                Some(stop) => stop.stage,
                None => success.passed.max(Stage::FirstBytes),
            },
            Self::Blocked(block) => block.stage,
            Self::NotSent(stop) => stop.stage,
        }
    }
}

/// How far an attempt got that opened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Success {
    /// The highest tier that it reached.
    pub tier: AllowTier,
    /// The last stage that it passed.
    pub passed: Stage,
    /// Where it stopped after that, if it did not pass everything.
    pub then: Option<Stop>,
}

/// Where and how an attempt was blocked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Block {
    /// The last stage that was passed before, if any.
    pub passed: Option<Stage>,
    /// The stage that was not passed.
    pub stage: Stage,
    pub how: Refusal,
    /// The enforcer that the refusal names.
    pub signature: Option<Signature>,
    /// Whether it came from the target's own address: it is then worth nothing without a control.
    pub by_target: bool,
}

impl Block {
    /// The mechanism as far as a line can require one.
    fn mechanism(&self) -> Option<Mechanism> {
        let named = self
            .signature
            .is_some_and(|signature| signature != Signature::IcmpProhibited);
        match &self.how {
            _ if named => Some(Mechanism::Signature),
            Refusal::Wire(StopCause::Silence) => Some(Mechanism::Drop),
            Refusal::Wire(StopCause::Error { icmp: Some(_), .. }) => Some(Mechanism::Icmp),
            Refusal::Wire(StopCause::Error { icmp: None, .. }) => Some(Mechanism::Reset),
            Refusal::Wire(_) | Refusal::Status(_) => None,
        }
    }
}

/// The set of mechanisms that blocked attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mechanisms(u8);

impl Mechanisms {
    const OTHER: u8 = 1 << 7;

    /// The set with the mechanism of one block.
    pub(super) fn of(block: &Block) -> Self {
        Self(
            block
                .mechanism()
                .map_or(Self::OTHER, |mechanism| 1 << mechanism as u8),
        )
    }

    /// The union of both sets.
    #[must_use]
    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the set holds this mechanism.
    pub(super) fn contains(self, mechanism: Mechanism) -> bool {
        self.0 & (1 << mechanism as u8) != 0
    }

    /// Whether the set holds this mechanism and no other.
    pub fn is_only(self, mechanism: Mechanism) -> bool {
        self.0 == 1 << mechanism as u8
    }
}

impl std::fmt::Display for Mechanisms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named = Mechanism::ALL
            .iter()
            .filter(|mechanism| self.contains(**mechanism))
            .map(|mechanism| mechanism.name());
        let other = (self.0 & Self::OTHER != 0).then_some("another");
        f.write_str(&named.chain(other).collect::<Vec<_>>().join(" and "))
    }
}

/// What came back from a stage that was not passed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Silence or an error of the transport, of TLS or of DNS.
    Wire(StopCause),
    /// The HTTP status of an answer that counts as a refusal.
    Status(u16),
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
    /// What the denied line's `refusal` describes.
    Stated,
}

impl From<HttpDenial> for Signature {
    fn from(denial: HttpDenial) -> Self {
        match denial {
            HttpDenial::CiliumHttp => Self::CiliumHttp,
            HttpDenial::IstioAuthorization => Self::IstioAuthorization,
            HttpDenial::IstioRegistryOnly => Self::IstioRegistryOnly,
            HttpDenial::Linkerd => Self::Linkerd,
            HttpDenial::AzureFirewall => Self::AzureFirewall,
            HttpDenial::ApplicationGatewayWaf => Self::ApplicationGatewayWaf,
        }
    }
}

impl Signature {
    /// Whether it says by itself that packets were denied on the way. A name server may refuse for
    /// reasons of its own, so there it takes another source that got an answer.
    pub(super) fn names_an_enforcer(self) -> bool {
        match self {
            Self::IcmpProhibited
            | Self::CiliumHttp
            | Self::IstioAuthorization
            | Self::IstioRegistryOnly
            | Self::Linkerd
            | Self::AzureFirewall
            | Self::ApplicationGatewayWaf => true,
            Self::DnsRefused | Self::Stated => false,
        }
    }

    /// The enforcer's name in reports.
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
            Self::Stated => "the enforcer that `refusal` describes",
        }
    }
}
