//! The smallest change that would turn an answer.

use super::near::{self, Unmet};
use super::rules::{Direction, Half, Place};
use super::walk::{Side, Walk};
use crate::inventory::Action;
use serde::Serialize;

/// How many changes are told for one side.
const MOST: usize = 3;

/// A change of one side's answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    /// How many things would have to be written: the smallest change has the least.
    pub size: usize,
    /// What to do, with the place.
    pub text: String,
}

/// What would turn the answer of both sides together: a denied flow needs every side that denies it to let it through, an
/// allowed one is stopped by either.
pub(super) fn turning(walks: &[Walk<'_>], sides: &[Side]) -> Vec<Change> {
    let denied = sides.iter().any(|side| !side.allowed);
    let mut all = Vec::new();
    for (walk, side) in walks.iter().zip(sides) {
        let mut changes = match (denied, side.allowed) {
            (true, true) => continue,
            (true, false) => opening(walk),
            (false, _) => closing(walk),
        };
        changes.sort();
        changes.dedup();
        changes.truncate(MOST);
        all.extend(changes);
    }
    if !denied {
        all.sort();
        all.truncate(MOST);
    }
    all
}

/// What a rule of a half lacks to admit the flow: how many things, and what to do about them.
fn lacks(walk: &Walk<'_>, half: &Half, number: usize) -> Option<(usize, Vec<String>)> {
    let rule = &half.rules[number];
    if !rule.unknown.is_empty() || rule.action != Action::Accept {
        return None;
    }
    let place = at(&rule.origin);
    let mut things = Vec::new();
    let standings = near::peers(rule, walk.other);
    let names_count = near::names_count(rule, walk.direction, &standings);
    let (port_holds, _) = near::ports(rule, walk.port, walk.target, names_count);
    if !port_holds {
        things.push(format!("add port {} to rule {} of {}{place}", walk.port, number + 1, half.name));
    }
    let is_meant = rule.peers.is_none() || standings.iter().any(near::PeerStanding::holds);
    if !is_meant {
        let nearest = standings.iter().filter(|one| !one.remedies.is_empty()).min_by_key(|one| one.remedies.len());
        match nearest {
            Some(peer) => things.push(format!(
                "{}, so that rule {} of {}{place} means it",
                peer.remedies.join(" and "),
                number + 1,
                half.name
            )),
            None => things.push(format!("add {} to rule {} of {}{place}", peer_for(walk), number + 1, half.name)),
        }
        let size = nearest.map_or(2, |peer| peer.remedies.len());
        return Some((size + usize::from(!port_holds), things));
    }
    Some((things.len(), things))
}

/// A side denies: what would let the flow through.
fn opening(walk: &Walk<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    for (half, unmet) in walk.halves() {
        let selects = selecting(walk, half, &unmet);
        for number in 0..half.rules.len() {
            let rule = &half.rules[number];
            let denies = rule.as_understood().is_some_and(|rule| rule.action == Action::Deny);
            if half.place != Place::NetworkPolicy && denies && unmet.is_empty() {
                let meant = rule.as_understood().is_some_and(|rule| {
                    let peers = near::peers(&rule, walk.other);
                    (rule.peers.is_none() || peers.iter().any(near::PeerStanding::holds))
                        && near::ports(&rule, walk.port, walk.target, near::names_count(&rule, walk.direction, &peers))
                            .0
                });
                if meant {
                    let place = at(&rule.origin);
                    let text = format!(
                        "put a rule that accepts {} on {} before rule {} of {}{place}",
                        peer_for(walk),
                        walk.port,
                        number + 1,
                        half.name
                    );
                    changes.push(Change { size: 2, text });
                }
                continue;
            }
            if half.place != Place::NetworkPolicy {
                continue;
            }
            let (Some((size, mut things)), Some(mut to_select)) = (lacks(walk, half, number), selects.clone()) else {
                continue;
            };
            if size + to_select.len() == 0 {
                continue;
            }
            let size = size + to_select.len();
            things.append(&mut to_select);
            changes.push(Change { size, text: things.join("; ") });
        }
        if half.place == Place::NetworkPolicy && half.in_force && unmet.is_empty() {
            let list = match walk.direction {
                Direction::Egress => "egress",
                Direction::Ingress => "ingress",
            };
            let text = format!("add a rule to {} of {}: {} on port {}", list, half.name, peer_for(walk), walk.port);
            changes.push(Change { size: 3, text });
        }
    }
    changes
}

/// What it takes for a half to be in force for the pod; `None` if that is too much to suggest.
fn selecting(walk: &Walk<'_>, half: &Half, unmet: &[Unmet]) -> Option<Vec<String>> {
    let mut things = Vec::new();
    match unmet {
        [] => {}
        [only @ (Unmet::PodLabel { .. } | Unmet::NamespaceLabel { .. })] => {
            things.push(only.reconcile(&half.name.to_string(), &walk.own.name));
        }
        _ => return None,
    }
    if !half.in_force {
        things.push(format!("add {} to policyTypes of {}", walk.direction.as_str(), half.name));
    }
    Some(things)
}

/// A side allows: what would stop the flow there.
fn closing(walk: &Walk<'_>) -> Vec<Change> {
    let Some(pod) = walk.own.pod else { return Vec::new() };
    let direction = walk.direction.as_str();
    let mut admitting = Vec::new();
    let mut isolated = false;
    let mut changes = Vec::new();
    for (half, unmet) in walk.halves() {
        let admits: Vec<usize> = (0..half.rules.len())
            .filter(|number| lacks(walk, half, *number).is_some_and(|(size, _)| size == 0))
            .collect();
        if half.in_force && unmet.is_empty() {
            isolated |= half.place == Place::NetworkPolicy;
            admitting.extend(
                admits
                    .iter()
                    .map(|number| format!("rule {} of {}{}", number + 1, half.name, at(&half.rules[*number].origin))),
            );
        } else if half.place == Place::NetworkPolicy
            && admits.is_empty()
            && let Some(things) = selecting(walk, half, &unmet)
        {
            changes.push(Change { size: things.len(), text: things.join("; ") });
        }
    }
    match (isolated, admitting.as_slice()) {
        // A policy that would select the pod stops nothing where another one admits the flow already.
        (_, [only]) => changes = vec![Change { size: 1, text: format!("remove or narrow {only}") }],
        (_, [_, ..]) => {
            changes = vec![Change { size: admitting.len(), text: format!("remove or narrow {}", admitting.join(" and ")) }];
        }
        (_, []) => changes.push(Change {
            size: 3,
            text: format!(
                "add a NetworkPolicy in namespace {} that selects {} with policyTypes: [{direction}] and without a rule for this flow",
                pod.namespace, walk.own.name
            ),
        }),
    }
    changes
}

/// The other end, as a rule would name it.
fn peer_for(walk: &Walk<'_>) -> String {
    let preposition = match walk.direction {
        Direction::Egress => "to",
        Direction::Ingress => "from",
    };
    match (walk.other.pod, walk.other.address) {
        (Some(pod), _) => {
            let labels: Vec<String> = pod.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let pods =
                if labels.is_empty() { "every pod".to_owned() } else { format!("pods with {}", labels.join(", ")) };
            let own = walk.own.pod.is_some_and(|own| own.namespace == pod.namespace);
            let of = if own { String::new() } else { format!(" of namespace {}", pod.namespace) };
            format!("{preposition} {pods}{of}")
        }
        (None, Some(address)) => {
            let length = if address.is_ipv4() { 32 } else { 128 };
            format!("{preposition} ipBlock {address}/{length}")
        }
        (None, None) => format!("{preposition} {}", walk.other.name),
    }
}

fn at(origin: &str) -> String {
    if origin.is_empty() { String::new() } else { format!(" at {origin}") }
}
