//! One direction of one policy, its subjects, peers and ports known: what both kinds of policy
//! become.

use super::ir::{Direction, Note};
use super::pods::{PodId, Selection};
use super::ranges::Ranges;
use crate::inventory::{Action, PolicyTier};
use crate::model::{Family, Transport};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;

/// One direction of one policy.
#[derive(Debug)]
pub(super) struct Half {
    /// `data/NetworkPolicy/postgres`; without a namespace for a policy of the whole cluster.
    pub(super) policy: String,
    pub(super) tier: PolicyTier,
    pub(super) direction: Direction,
    /// The pods that it is about.
    pub(super) subjects: Rc<Selection>,
    /// In the order of the policy, which counts in cluster-wide ones.
    pub(super) rules: Vec<Resolved>,
    pub(super) notes: BTreeSet<Note>,
}

impl Half {
    /// `data/NetworkPolicy/postgres ingress`.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.policy, self.direction)
    }

    /// Takes a rule in, and notes what no packet of the lab meets of it.
    pub(super) fn push(&mut self, rule: Resolved) {
        if let Peers::Some { v4, v6, .. } = &rule.peers
            && v4.is_empty()
            && v6.is_empty()
        {
            self.notes.insert(Note::NobodyMatches {
                policy: self.title(),
                rule: self.rules.len(),
            });
        }
        if let Ports::Some(ports) = &rule.ports
            && ports
                .iter()
                .any(|port| port.transport() == Some(Transport::Sctp))
        {
            self.notes.insert(Note::Sctp {
                policy: self.title(),
            });
        }
        self.rules.push(rule);
    }
}

/// What a rule does with whom: peers AND ports.
#[derive(Debug)]
pub(super) struct Resolved {
    /// A NetworkPolicy's rules only accept.
    pub(super) action: Action,
    pub(super) peers: Peers,
    pub(super) ports: Ports,
}

/// The other end.
#[derive(Debug)]
pub(super) enum Peers {
    /// Anyone, pods or not.
    Anyone,
    /// Addresses of pods and of blocks.
    Some {
        v4: Rc<Ranges>,
        v6: Rc<Ranges>,
        /// The pods among them that a selector matched: named ports of egress rules are looked up
        /// on these.
        pods: Vec<PodId>,
    },
}

impl Peers {
    /// Any of these: selections of pods, and ranges of addresses.
    pub(super) fn any_of(selections: &[Rc<Selection>], ranges: &[(IpAddr, IpAddr)]) -> Self {
        let mut pods: BTreeSet<PodId> = BTreeSet::new();
        for selection in selections {
            pods.extend(&selection.pods);
        }
        let union = |family: Family| {
            let of_pods = selections.iter().flat_map(|selection| match family {
                Family::V4 => selection.v4.as_slice(),
                Family::V6 => selection.v6.as_slice(),
            });
            let others = ranges
                .iter()
                .filter(|(first, _)| Family::of(*first) == family);
            Rc::new(Ranges::union(of_pods.chain(others).copied()))
        };
        Self::Some {
            v4: union(Family::V4),
            v6: union(Family::V6),
            pods: pods.into_iter().collect(),
        }
    }
}

/// Destination ports.
#[derive(Debug)]
pub(super) enum Ports {
    /// Every protocol, those without ports too.
    All,
    /// Only these.
    Some(Vec<PortMatch>),
}

impl Ports {
    /// The same ports with fewer matches: a whole transport holds its ranges and names, ranges that
    /// meet are one.
    pub(super) fn any_of(ports: &BTreeSet<PortMatch>) -> Self {
        let mut merged: Vec<PortMatch> = Vec::new();
        // In the order of BTreeSet: whole transports, then ranges by transport and first port, then
        // names.
        for port in ports {
            let whole = |transport| merged.contains(&PortMatch::Transport(transport));
            match port {
                PortMatch::Range(..) | PortMatch::Named(..)
                    if port.transport().is_some_and(whole) => {}
                PortMatch::Range(transport, first, last) => match merged.last_mut() {
                    Some(PortMatch::Range(before, _, end))
                        if before == transport && u32::from(*first) <= u32::from(*end) + 1 =>
                    {
                        *end = (*end).max(*last);
                    }
                    _ => merged.push(port.clone()),
                },
                PortMatch::Transport(_) | PortMatch::Named(..) => merged.push(port.clone()),
            }
        }
        Self::Some(merged)
    }
}

/// One kind of destination port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PortMatch {
    /// Every port of a transport.
    Transport(Transport),
    /// A range, both ends within it.
    Range(Transport, u16, u16),
    /// A name, which stands for what the destination pod says; in one transport, or in whatever
    /// transport it has there.
    Named(Option<Transport>, String),
}

impl PortMatch {
    /// The transport, where there is but one.
    fn transport(&self) -> Option<Transport> {
        match self {
            Self::Transport(transport) | Self::Range(transport, ..) => Some(*transport),
            Self::Named(transport, _) => *transport,
        }
    }
}
