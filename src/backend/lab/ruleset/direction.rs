//! One direction of one policy with resolved subjects, peers and ports: the common form of
//! NetworkPolicies and cluster-wide policies.

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
pub(super) struct DirectionalPolicy {
    /// `data/NetworkPolicy/postgres`; without a namespace for a policy of the whole cluster.
    pub(super) policy: String,
    pub(super) tier: PolicyTier,
    pub(super) direction: Direction,
    /// The pods that the policy selects.
    pub(super) subjects: Rc<Selection>,
    /// In the order of the policy, which is significant in cluster-wide policies.
    pub(super) rules: Vec<ResolvedRule>,
    pub(super) notes: BTreeSet<Note>,
}

impl DirectionalPolicy {
    /// `data/NetworkPolicy/postgres ingress`.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.policy, self.direction)
    }

    /// Adds a rule, with notes on the parts that match no packet of the lab.
    pub(super) fn push(&mut self, rule: ResolvedRule) {
        if let Peers::Addresses { v4, v6, .. } = &rule.peers
            && v4.is_empty()
            && v6.is_empty()
        {
            self.notes.insert(Note::NoMatch {
                policy: self.title(),
                rule: self.rules.len(),
            });
        }
        if let Ports::Only(ports) = &rule.ports
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

/// A rule: its action applies to packets that match the peers AND the ports.
#[derive(Debug)]
pub(super) struct ResolvedRule {
    /// Always [`Action::Accept`] in a NetworkPolicy.
    pub(super) action: Action,
    pub(super) peers: Peers,
    pub(super) ports: Ports,
}

/// The other endpoint of a packet.
#[derive(Debug)]
pub(super) enum Peers {
    /// Any address, of a pod or not.
    Any,
    /// Addresses of pods and of blocks.
    Addresses {
        v4: Rc<Ranges>,
        v6: Rc<Ranges>,
        /// The pods that a selector matched, on which named ports of egress rules are looked up.
        pods: Vec<PodId>,
    },
}

impl Peers {
    /// The union of selections of pods and ranges of addresses.
    pub(super) fn any_of(selections: &[Rc<Selection>], ranges: &[(IpAddr, IpAddr)]) -> Self {
        let mut pods: BTreeSet<PodId> = BTreeSet::new();
        for selection in selections {
            pods.extend(&selection.pods);
        }
        Self::Addresses {
            v4: addresses_of(Family::V4, selections, ranges),
            v6: addresses_of(Family::V6, selections, ranges),
            pods: pods.into_iter().collect(),
        }
    }
}

/// The addresses of one family in selections of pods and in ranges.
fn addresses_of(
    family: Family,
    selections: &[Rc<Selection>],
    ranges: &[(IpAddr, IpAddr)],
) -> Rc<Ranges> {
    let of_pods = selections.iter().flat_map(|selection| match family {
        Family::V4 => selection.v4.as_slice(),
        Family::V6 => selection.v6.as_slice(),
    });
    let of_blocks = ranges
        .iter()
        .filter(|(first, _)| Family::of(*first) == family);
    Rc::new(Ranges::union(of_pods.chain(of_blocks).copied()))
}

/// Destination ports.
#[derive(Debug)]
pub(super) enum Ports {
    /// Every port of every protocol, and protocols without ports.
    All,
    Only(Vec<PortMatch>),
}

impl Ports {
    /// The union of ports, simplified: a whole transport includes its ranges and names, and
    /// adjacent or overlapping ranges are merged.
    pub(super) fn any_of(ports: &BTreeSet<PortMatch>) -> Self {
        let mut merged: Vec<PortMatch> = Vec::new();
        // The set is in the order whole transports, ranges by transport and first port, names.
        for port in ports {
            let is_included = port
                .transport()
                .is_some_and(|transport| merged.contains(&PortMatch::Transport(transport)));
            match port {
                PortMatch::Range(..) | PortMatch::Named(..) if is_included => {}
                PortMatch::Range(transport, first, last) => match merged.last_mut() {
                    Some(PortMatch::Range(previous, _, end))
                        if previous == transport && u32::from(*first) <= u32::from(*end) + 1 =>
                    {
                        *end = (*end).max(*last);
                    }
                    _ => merged.push(port.clone()),
                },
                PortMatch::Transport(_) | PortMatch::Named(..) => merged.push(port.clone()),
            }
        }
        Self::Only(merged)
    }
}

/// A condition on the destination port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PortMatch {
    /// Every port of a transport.
    Transport(Transport),
    /// An inclusive range.
    Range(Transport, u16, u16),
    /// A named port of the destination pod, in one transport or in any.
    Named(Option<Transport>, String),
}

impl PortMatch {
    /// The transport; `None` for a named port in any transport.
    fn transport(&self) -> Option<Transport> {
        match self {
            Self::Transport(transport) | Self::Range(transport, ..) => Some(*transport),
            Self::Named(transport, _) => *transport,
        }
    }
}
