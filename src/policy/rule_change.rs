//! What one rule of a policy lacks to admit a flow, and the change that adds it.

use super::change::{Draft, NEW_RULE_SIZE, at_origin, describe_other_end, peer_for_other_end};
use super::edit::{Edit, NAMESPACE_NAME};
use super::near_miss::{MissingRequirement, PeerMatch, match_peers, match_port, port_names_apply};
use super::rules::{Peer, Rule};
use super::selector::Operator;
use super::side::{Candidate, SideEvaluation};
use crate::inventory::Action;

/// A rule by its place in a policy.
struct RulePosition<'a> {
    /// The policy's index.
    policy: usize,
    /// The rule's index in the policy.
    index: usize,
    rule: &'a Rule,
    /// The rule as text, with its origin.
    title: String,
}

/// The changes after which a rule admits the flow, of size 0 if it does already; `None` for a rule
/// that cannot admit it.
pub(super) fn missing_from_rule(
    side: &SideEvaluation<'_>,
    candidate: &Candidate<'_>,
    index: usize,
) -> Option<Draft> {
    let policy = candidate.policy;
    let rule = &policy.rules[index];
    if !rule.unknown.is_empty() || rule.action != Action::Accept {
        return None;
    }
    let origin = at_origin(&rule.origin);
    let position = RulePosition {
        policy: candidate.index,
        index,
        rule,
        title: format!("rule {} of {}{origin}", index + 1, policy.name),
    };
    let mut draft = Draft::default();
    let peers = match_peers(rule, side.other);

    let names_apply = port_names_apply(rule, side.direction, &peers);
    let (port_matches, _) = match_port(rule, side.port, side.target, names_apply);
    if !port_matches {
        let text = format!("add port {} to {}", side.port, position.title);
        let edit = Edit::AddPort {
            policy: position.policy,
            rule: index,
            port: side.port,
        };
        draft.add(1, text, [edit]);
    }

    if rule.peers.is_none() || peers.iter().any(PeerMatch::matches) {
        return Some(draft);
    }
    if let Some(change) = smallest_peer_change(side, &position, &peers) {
        let text = format!(
            "{}, so that {} matches it",
            change.remedies.join(" and "),
            position.title
        );
        draft.add(change.size, text, change.edits);
    } else {
        let peer = peer_for_other_end(side, policy)?;
        let text = format!(
            "add {} to the peers of {}",
            describe_other_end(side),
            position.title
        );
        let edit = Edit::AddPeer {
            policy: position.policy,
            rule: index,
            peer,
        };
        draft.add(2, text, [edit]);
    }
    Some(draft)
}

/// A change after which an existing peer matches the other end.
struct PeerChange {
    size: usize,
    remedies: Vec<String>,
    edits: Vec<Edit>,
}

/// The smallest change after which one of the peers matches the other end.
fn smallest_peer_change(
    side: &SideEvaluation<'_>,
    position: &RulePosition<'_>,
    peers: &[PeerMatch],
) -> Option<PeerChange> {
    let changes = peers
        .iter()
        .enumerate()
        .filter_map(|(index, peer)| peer_change(side, position, index, peer));
    changes.min_by_key(|change| change.size)
}

fn peer_change(
    side: &SideEvaluation<'_>,
    position: &RulePosition<'_>,
    peer_index: usize,
    peer: &PeerMatch,
) -> Option<PeerChange> {
    let edits: Vec<Edit> = peer
        .missing
        .iter()
        .map(|missing| peer_edit(side, position, peer_index, missing))
        .collect::<Option<_>>()?;
    if edits.is_empty() {
        return None;
    }

    let rule_peers = position.rule.peers.as_deref().unwrap_or_default();
    let has_pod_labels = matches!(
        rule_peers.get(peer_index),
        Some(Peer::Pods(scope)) if !scope.pods.requirements.is_empty()
    );
    let sizes = peer.missing.iter();
    Some(PeerChange {
        size: sizes.map(|missing| size_of(missing, has_pod_labels)).sum(),
        remedies: peer
            .missing
            .iter()
            .map(|missing| missing.remedy(&side.other.name))
            .collect(),
        edits,
    })
}

/// The size of the change for one requirement. A change that is probably not intended counts more
/// than a new rule: a different value of a label, or a whole namespace where the peer has only a
/// podSelector that selects every pod.
fn size_of(missing: &MissingRequirement, has_pod_labels: bool) -> usize {
    match missing {
        MissingRequirement::PodLabel { .. } if missing.is_likely_typo() => 1,
        // The change affects all pods of the namespace.
        MissingRequirement::NamespaceLabel { .. } if missing.is_likely_typo() => 2,
        MissingRequirement::OtherNamespace { .. } if has_pod_labels => 1,
        MissingRequirement::PodLabel { .. } | MissingRequirement::OtherNamespace { .. } => {
            NEW_RULE_SIZE + 1
        }
        MissingRequirement::NamespaceLabel { .. } => NEW_RULE_SIZE + 2,
    }
}

/// The edit after which the other end meets a requirement; `None` where no user can write it.
fn peer_edit(
    side: &SideEvaluation<'_>,
    position: &RulePosition<'_>,
    peer: usize,
    missing: &MissingRequirement,
) -> Option<Edit> {
    match missing {
        MissingRequirement::PodLabel { requirement, .. } => Some(Edit::PodLabel {
            workload: super::map::workload_of(side.other.pod?),
            key: requirement.key.clone(),
            to: required_value(&requirement.operator),
        }),
        MissingRequirement::NamespaceLabel { requirement, .. }
            if requirement.key == NAMESPACE_NAME =>
        {
            None
        }
        MissingRequirement::NamespaceLabel {
            namespace,
            requirement,
            ..
        } => Some(Edit::NamespaceLabel {
            namespace: namespace.clone(),
            key: requirement.key.clone(),
            to: required_value(&requirement.operator),
        }),
        MissingRequirement::OtherNamespace { namespace, .. } => Some(Edit::SetPeerNamespace {
            policy: position.policy,
            rule: position.index,
            peer,
            namespace: namespace.clone(),
        }),
    }
}

/// A value with which a label meets a requirement; `None` if the label has to be absent.
pub(super) fn required_value(operator: &Operator) -> Option<String> {
    match operator {
        Operator::In(values) => values.first().cloned(),
        // Every value meets the requirement.
        Operator::Exists => Some("true".to_owned()),
        Operator::NotIn(_) | Operator::DoesNotExist => None,
    }
}
