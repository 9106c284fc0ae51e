//! The intermediate representation of a node's ruleset: plain data, close to nftables, without
//! netlink.
//!
//! All of it goes into one `inet` table. The order of rules is significant, and every order is
//! deterministic: the same inventory gives the same ruleset, byte for byte.

use crate::model::{Family, Transport};
use std::net::IpAddr;

/// All rules of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeRuleset {
    /// Sets in which rules look up addresses.
    pub sets: Vec<Set>,
    /// Maps from the address of a pod to the chain of its group.
    pub maps: Vec<VerdictMap>,
    pub counters: Vec<Counter>,
    /// Chains; each comes before the chains that jump to it, the base chains last.
    pub chains: Vec<Chain>,
    /// Parts of the policies that match no packet of the lab.
    pub notes: Vec<Note>,
}

/// Direction of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Traffic into the selected pods.
    Ingress,
    /// Traffic out of the selected pods.
    Egress,
}

impl Direction {
    /// The word for it in names and comments.
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
    pub name: String,
    pub family: Family,
    /// Elements; never empty.
    pub elements: Elements,
}

/// The elements of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elements {
    /// An interval set of addresses: first and last address of each range, inclusive; sorted,
    /// neither overlapping nor adjacent. The last address can be the highest of its family, which
    /// nftables writes as an interval without an end.
    Ranges(Vec<(IpAddr, IpAddr)>),
    /// Concatenations of address and port.
    Ports(Vec<(IpAddr, u16)>),
}

/// A verdict map on an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictMap {
    pub name: String,
    pub family: Family,
    /// Addresses with the chain to go to; can be empty.
    pub elements: Vec<(IpAddr, String)>,
}

/// A named counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    pub name: String,
    /// Comment for people who list the ruleset: at most [`COMMENT_BYTES`] bytes.
    pub comment: String,
    pub counts: Counts,
}

/// Length in bytes of the longest comment that nft shows (`NFTNL_UDATA_COMMENT_MAXLEN` in
/// libnftnl).
pub const COMMENT_BYTES: usize = 128;

/// The packets that a counter counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counts {
    /// First packets of connections that a policy's rule allowed.
    Allowed {
        /// `data/NetworkPolicy/postgres ingress`.
        policy: String,
        /// Index of the rule in its list.
        rule: usize,
    },
    /// Packets of one group of pods that no NetworkPolicy allowed.
    Denied {
        /// All policies of the group, separated by commas: `data/NetworkPolicy/postgres ingress`.
        policies: String,
    },
    /// Packets that a rule of a cluster-wide policy denied.
    DeniedByRule {
        /// `ClusterNetworkPolicy/lockdown egress`.
        policy: String,
        /// Index of the rule in its list.
        rule: usize,
    },
    /// Packets that a rule of a cluster-wide policy passed to the next tier.
    Passed {
        /// `ClusterNetworkPolicy/lockdown egress`.
        policy: String,
        /// Index of the rule in its list.
        rule: usize,
    },
}

impl std::fmt::Display for Counts {
    /// The policies, with the number of the rule, counted from 1, for a counter of one rule.
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
    pub name: String,
    /// Hook of a base chain; `None` for a chain that others jump to. The default of a base chain is
    /// accept.
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

/// Hook and priority of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    pub hook: Hook,
    /// Chains run from the lowest priority up. An accept ends only its base chain; the next one
    /// still gets the packet.
    pub priority: i32,
}

/// A netfilter hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Packets that the node forwards.
    Forward,
    /// Packets to the node itself.
    Input,
}

/// A rule: if all conditions match, its statements run in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Conditions that must all match; an empty list matches every packet.
    pub matches: Vec<Match>,
    pub statements: Vec<Statement>,
}

/// One of the two addresses of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Source,
    Destination,
}

/// A condition on a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// `ct state established,related`.
    EstablishedOrRelated,
    /// ICMPv6 types 133 to 137: router and neighbour discovery (RFC 4861), which every IPv6 link
    /// needs.
    NeighbourDiscovery,
    /// `meta nfproto`.
    Family(Family),
    /// An address of this family is in a set of ranges.
    Address {
        family: Family,
        side: Side,
        /// Name of the set.
        set: String,
    },
    /// `meta l4proto`.
    Transport(Transport),
    /// The destination port of this transport is in a range, inclusive.
    Port {
        transport: Transport,
        first: u16,
        last: u16,
    },
    /// Destination address and port, of this family and transport, are in a set of pairs.
    AddressPort {
        family: Family,
        transport: Transport,
        /// Name of the set.
        set: String,
    },
}

/// An action of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Increments a named counter.
    Count(String),
    /// Counts a denied packet of a planned flow. The only statement of its rule, since a lookup
    /// without a result ends a rule.
    CountDeniedFlow(Direction),
    /// Goes to the chain that a map has for an address of this family; continues if it has none.
    Dispatch {
        family: Family,
        side: Side,
        /// Name of the map.
        map: String,
    },
    /// Runs another chain and returns from it, unless a verdict ends the packet there.
    Jump(String),
    /// Returns to the chain that jumped here.
    Return,
    /// Ends this base chain; the packet continues.
    Accept,
    /// Drops or rejects the packet.
    Deny(Deny),
}

/// How a packet is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deny {
    /// Dropped silently.
    #[default]
    Drop,
    /// Rejected with a TCP reset; only in rules for TCP.
    RejectTcpReset,
    /// Rejected with ICMP or ICMPv6 "administratively prohibited".
    RejectIcmpAdmin,
}

/// A part of a policy that matches no packet of the lab.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    /// A rule for SCTP: the ruleset contains it, but no probe sends SCTP.
    Sctp {
        /// `data/NetworkPolicy/postgres ingress`.
        policy: String,
    },
    /// A named port that no destination pod of the rule declares in that transport: it matches
    /// nothing.
    UnknownPortName {
        /// `data/NetworkPolicy/postgres ingress`.
        policy: String,
        name: String,
    },
    /// A list of peers that matches no address now: its rule matches nothing.
    NoMatch {
        /// `data/NetworkPolicy/postgres ingress`.
        policy: String,
        /// Index of the rule in its list.
        rule: usize,
    },
    /// A peer by domain names, which are not resolved: it matches no address.
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

/// Name of a dispatch map: `egress4`.
pub(super) fn map_name(direction: Direction, family: Family) -> String {
    format!("{direction}{}", digit(family))
}

/// The digit of a family in names.
pub(super) fn digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}
