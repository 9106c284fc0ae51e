//! A node's ruleset as plain data, near to nftables and free of netlink.
//!
//! Everything goes into one `inet` table. Order is part of the meaning in chains, and deterministic
//! everywhere: the same inventory gives the same ruleset, byte for byte.

use crate::model::{Family, Transport};
use std::net::IpAddr;

/// All rules of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeRuleset {
    /// Sets that rules look addresses up in.
    pub sets: Vec<Set>,
    /// Maps from a pod's address to the chain of its group.
    pub maps: Vec<VerdictMap>,
    /// Named counters.
    pub counters: Vec<Counter>,
    /// Chains; each stands before those that lead to it, the base chains last.
    pub chains: Vec<Chain>,
    /// What is in the policies and never met by a packet of the lab.
    pub notes: Vec<Note>,
}

/// Which half of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Into the pods that it selects.
    Ingress,
    /// Out of them.
    Egress,
}

impl Direction {
    /// The word in names and comments.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A named set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// The family of its addresses.
    pub family: Family,
    /// What is in it; never empty.
    pub elements: Elements,
}

/// The elements of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elements {
    /// An interval set of addresses: first and last of each range, both within it; sorted, apart
    /// from each other. A last address may be the highest of its family, which nftables writes as
    /// an interval without an end.
    Ranges(Vec<(IpAddr, IpAddr)>),
    /// A concatenation of address and port.
    Ports(Vec<(IpAddr, u16)>),
}

/// A verdict map on an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictMap {
    /// Its name.
    pub name: String,
    /// The family of its addresses.
    pub family: Family,
    /// Address and the chain to go to; may be empty.
    pub elements: Vec<(IpAddr, String)>,
}

/// A named counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// Its name.
    pub name: String,
    /// For people who list the ruleset: at most [`COMMENT_BYTES`].
    pub comment: String,
    /// What it counts.
    pub counts: Counts,
}

/// Longest comment that nft shows (`NFTNL_UDATA_COMMENT_MAXLEN` in libnftnl).
pub const COMMENT_BYTES: usize = 128;

/// What a counter counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counts {
    /// First packets that a policy's rule let through.
    Allowed {
        /// `data/NetworkPolicy/postgres ingress`.
        policy: String,
        /// Index of the rule in its list.
        rule: usize,
    },
    /// Packets that no NetworkPolicy allowed, of one group of pods.
    Denied {
        /// `data/NetworkPolicy/postgres ingress`; all policies of the group, with a comma between.
        policies: String,
    },
    /// Packets that a rule of a cluster-wide policy denied.
    DeniedByRule {
        /// `ClusterNetworkPolicy/lockdown egress`.
        policy: String,
        /// Index of the rule in its list.
        rule: usize,
    },
    /// Packets that a rule of a cluster-wide policy handed on to the next tier.
    Passed {
        /// `ClusterNetworkPolicy/lockdown egress`.
        policy: String,
        /// Index of the rule in its list.
        rule: usize,
    },
}

impl std::fmt::Display for Counts {
    /// The policies, and the rule, counted from 1, where it is one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Denied { policies } => f.write_str(policies),
            Self::Allowed { policy, rule }
            | Self::DeniedByRule { policy, rule }
            | Self::Passed { policy, rule } => {
                write!(f, "{policy} rule {}", rule + 1)
            }
        }
    }
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where packets enter it; `None` for chains that others lead to. A base chain's own policy is
    /// accept.
    pub base: Option<Base>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// Where a base chain hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// The hook.
    pub hook: Hook,
    /// Lower comes first. An accept ends its own base chain only; the next one still sees the
    /// packet.
    pub priority: i32,
}

/// A netfilter hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// From elsewhere, to elsewhere.
    Forward,
    /// To the node itself.
    Input,
}

/// A rule: when everything matches, the statements are carried out in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All must match; none matches every packet.
    pub matches: Vec<Match>,
    /// In order.
    pub statements: Vec<Statement>,
}

/// Which address of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Source.
    Source,
    /// Destination.
    Destination,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// `ct state established,related`.
    EstablishedOrRelated,
    /// ICMPv6 types 133 to 137: router and neighbour discovery (RFC 4861), without which IPv6 has
    /// no link.
    NeighbourDiscovery,
    /// `meta nfproto`.
    Family(Family),
    /// An address is in a set of ranges, of this family.
    Address {
        /// The family, which must match too.
        family: Family,
        /// Which address.
        side: Side,
        /// The set's name.
        set: String,
    },
    /// `meta l4proto`.
    Transport(Transport),
    /// The destination port of a transport is in a range, both ends within it.
    Port {
        /// The transport, which must match too.
        transport: Transport,
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
    },
    /// Destination address and destination port are in a set of pairs.
    AddressPort {
        /// The family, which must match too.
        family: Family,
        /// The transport, which must match too.
        transport: Transport,
        /// The set's name.
        set: String,
    },
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Counts in a named counter.
    Count(String),
    /// The place for the lab's per-flow records, just before the verdict: nothing but a denied
    /// packet comes here. It stands alone in its rule, since a lookup that finds nothing ends a
    /// rule.
    RecordDeny(Direction),
    /// Goes where a map leads for an address of that family; on, where it leads nowhere.
    Dispatch {
        /// The family.
        family: Family,
        /// Which address.
        side: Side,
        /// The map's name.
        map: String,
    },
    /// Goes through another chain and comes back, unless a verdict ends it there.
    Jump(String),
    /// Goes back to where the chain was jumped to from.
    Return,
    /// Ends this base chain.
    Accept,
    /// Ends the packet.
    Deny(Deny),
}

/// How a packet ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deny {
    /// Silence.
    #[default]
    Drop,
    /// A reset; only in rules for TCP.
    RejectTcpReset,
    /// ICMP or ICMPv6 "administratively prohibited".
    RejectIcmpAdmin,
}

/// Something in the policies that packets of the lab never meet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    /// A rule for SCTP: it is in the ruleset, but no probe sends SCTP.
    Sctp {
        /// `data/NetworkPolicy/postgres ingress`.
        policy: String,
    },
    /// A port name that no destination pod of the rule has in that transport: it allows nothing.
    UnknownPortName {
        /// `data/NetworkPolicy/postgres ingress`.
        policy: String,
        /// The name.
        name: String,
    },
    /// A peer that matches no address now: it allows nothing.
    NoMatch {
        /// `data/NetworkPolicy/postgres ingress`.
        policy: String,
        /// Index of the rule in its list.
        rule: usize,
    },
    /// A peer by domain names, which are not resolved here: it matches no address.
    DomainNames {
        /// `ClusterNetworkPolicy/lockdown egress`.
        policy: String,
        /// Index of the rule in its list.
        rule: usize,
    },
    /// A rule with unknown fields: an Accept rule then matches nothing, any other rule denies
    /// everything.
    FailsClosed {
        /// `ClusterNetworkPolicy/lockdown egress`.
        policy: String,
        /// Index of the rule in its list.
        rule: usize,
    },
}

/// The name of a dispatch map: `egress4`.
pub(super) fn map_name(direction: Direction, family: Family) -> String {
    format!("{direction}{}", digit(family))
}

/// A family in a name.
pub(super) fn digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}
