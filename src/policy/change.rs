//! Changes that could give the opposite answer for one side of a flow. Each is a suggestion that
//! `what_if` tries before it is shown.

use super::edit::{self, Edit};
use super::near_miss::MissingRequirement;
use super::rule_change;
use super::rules::{Block, Direction, DirectionalPolicy, Namespaces, Peer, PolicyName, Scope};
use super::selector::Operator;
use super::side::{Candidate, SideEvaluation};
use super::what_if::SideEffects;
use crate::inventory::{Action, Cidr, Pod, PolicyTier, identity_labels};
use crate::model::PolicyRef;
use serde::Serialize;
use std::net::IpAddr;

/// The size of a new rule that matches this flow alone.
pub(super) const NEW_RULE_SIZE: usize = 3;

/// A change that gives the opposite answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The number of objects to write, increased for changes that are seldom intended. The
    /// smallest change comes first.
    pub size: usize,
    /// The instruction, with the place to change.
    pub text: String,
    /// Other connections that the change opens or closes, where they were calculated.
    #[serde(rename = "beside")]
    pub side_effects: Option<SideEffects>,
    #[serde(skip)]
    pub(super) edits: Vec<Edit>,
}

impl Change {
    fn new(size: usize, text: String, edits: Vec<Edit>) -> Self {
        Self {
            size,
            text,
            side_effects: None,
            edits,
        }
    }

    /// Both changes as one.
    pub(super) fn and(&self, other: &Self) -> Self {
        let edits = self.edits.iter().chain(&other.edits).cloned().collect();
        Self::new(
            self.size + other.size,
            format!("{}; and {}", self.text, other.text),
            edits,
        )
    }
}

/// A change under construction. With size 0 nothing has to change.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub(super) size: usize,
    texts: Vec<String>,
    edits: Vec<Edit>,
}

impl Draft {
    pub(super) fn add(&mut self, size: usize, text: String, edits: impl IntoIterator<Item = Edit>) {
        self.size += size;
        self.texts.push(text);
        self.edits.extend(edits);
    }

    fn extend(&mut self, other: Self) {
        self.size += other.size;
        self.texts.extend(other.texts);
        self.edits.extend(other.edits);
    }

    fn into_change(self) -> Option<Change> {
        if self.size == 0 {
            return None;
        }
        Some(Change::new(self.size, self.texts.join("; "), self.edits))
    }
}

/// Changes after which a side that denies the flow could allow it.
pub(super) fn allowing(side: &SideEvaluation<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    for candidate in side.candidates() {
        if candidate.policy.tier == PolicyTier::NetworkPolicy {
            changes.extend(allowing_by_network_policy(side, &candidate));
        } else if candidate.selects() {
            changes.extend(accepting_before_denies(side, &candidate));
        }
    }
    changes
}

/// Changes to the rules of a NetworkPolicy, and a new rule of it.
fn allowing_by_network_policy(side: &SideEvaluation<'_>, candidate: &Candidate<'_>) -> Vec<Change> {
    let policy = candidate.policy;
    let mut changes = Vec::new();
    if let Some(to_select) = selecting(side, candidate) {
        for number in 0..policy.rules.len() {
            if let Some(mut draft) = rule_change::missing_from_rule(side, candidate, number) {
                draft.extend(to_select.clone());
                changes.extend(draft.into_change());
            }
        }
    }

    if policy.in_force
        && candidate.selects()
        && let Some(peer) = peer_for_other_end(side, policy)
    {
        changes.push(add_rule(side, candidate, peer));
    }
    changes
}

/// A new rule of a NetworkPolicy for this flow.
fn add_rule(side: &SideEvaluation<'_>, candidate: &Candidate<'_>, peer: Peer) -> Change {
    let policy = candidate.policy;
    let list = match side.direction {
        Direction::Egress => "egress",
        Direction::Ingress => "ingress",
    };
    let text = format!(
        "add a rule to {list} of {}: {} {} on port {}",
        policy.name,
        preposition(side.direction),
        describe_other_end(side),
        side.port
    );
    let edit = Edit::InsertRule {
        policy: candidate.index,
        at: policy.rules.len(),
        rule: edit::accept_rule(peer, side.port),
    };
    Change::new(NEW_RULE_SIZE, text, vec![edit])
}

/// For each rule of an Admin or Baseline policy that denies the flow, a new rule before it that
/// accepts the flow.
fn accepting_before_denies(side: &SideEvaluation<'_>, candidate: &Candidate<'_>) -> Vec<Change> {
    let policy = candidate.policy;
    let mut changes = Vec::new();
    for (number, rule) in policy.rules.iter().enumerate() {
        let denies = rule
            .as_understood()
            .is_some_and(|rule| rule.action == Action::Deny && side.rule_matches(&rule));
        let Some(peer) = peer_for_other_end(side, policy).filter(|_| denies) else {
            continue;
        };

        let text = format!(
            "insert a rule that accepts traffic {} {} on port {} before rule {} of {}{}",
            preposition(side.direction),
            describe_other_end(side),
            side.port,
            number + 1,
            policy.name,
            at_origin(&rule.origin)
        );
        let edit = Edit::InsertRule {
            policy: candidate.index,
            at: number,
            rule: edit::accept_rule(peer, side.port),
        };
        changes.push(Change::new(2, text, vec![edit]));
    }
    changes
}

/// Changes after which a policy selects the pod and is in force; `None` if they are too many to
/// suggest.
fn selecting(side: &SideEvaluation<'_>, candidate: &Candidate<'_>) -> Option<Draft> {
    let policy = candidate.policy;
    let mut draft = Draft::default();
    match candidate.missing.as_slice() {
        [] => {}
        [only @ MissingRequirement::PodLabel { requirement, has }]
            if side.nearly_selects(candidate.index, only) =>
        {
            let edit = match (&requirement.operator, has) {
                (Operator::In(_), Some(value)) => Edit::SetSubjectLabel {
                    policy: candidate.index,
                    requirement: requirement.clone(),
                    value: value.clone(),
                },
                (operator, _) => Edit::PodLabel {
                    workload: super::map::workload_of(side.own.pod?),
                    key: requirement.key.clone(),
                    to: rule_change::required_value(operator),
                },
            };
            let text = only.reconcile(&policy.name.to_string(), &side.own.name);
            draft.add(1, text, [edit]);
        }
        _ => return None,
    }

    if !policy.in_force {
        let direction = side.direction.as_str();
        let text = format!("add {direction} to policyTypes of {}", policy.name);
        let edit = Edit::Enforce {
            policy: candidate.index,
        };
        draft.add(1, text, [edit]);
    }
    Some(draft)
}

/// Changes after which a side that allows the flow could deny it.
pub(super) fn denying(side: &SideEvaluation<'_>) -> Vec<Change> {
    let Some(pod) = side.own.pod else {
        return Vec::new();
    };
    let mut narrowing: Vec<(String, Edit)> = Vec::new();
    let mut is_isolated = false;
    let mut changes = Vec::new();
    for candidate in side.candidates() {
        let policy = candidate.policy;
        let is_network_policy = policy.tier == PolicyTier::NetworkPolicy;
        let admitting = admitting_rules(side, &candidate);
        if policy.in_force && candidate.selects() {
            is_isolated |= is_network_policy;
            narrowing.extend(narrow_rules(side, &candidate, &admitting));
        } else if is_network_policy && admitting.is_empty() {
            changes.extend(selecting(side, &candidate).and_then(Draft::into_change));
        }
    }

    if !narrowing.is_empty() {
        // A further policy that selects the pod denies nothing while another one admits the flow.
        changes.clear();
        let rule_count = narrowing.len();
        let (texts, edits): (Vec<String>, Vec<Edit>) = narrowing.into_iter().unzip();
        changes.push(Change::new(rule_count, texts.join(" and "), edits));
    }
    if !is_isolated {
        changes.push(isolating(side, pod));
    }
    changes
}

/// The rules of a policy that admit the flow, by index.
fn admitting_rules(side: &SideEvaluation<'_>, candidate: &Candidate<'_>) -> Vec<usize> {
    (0..candidate.policy.rules.len())
        .filter(|number| {
            rule_change::missing_from_rule(side, candidate, *number)
                .is_some_and(|draft| draft.size == 0)
        })
        .collect()
}

/// The removal of each rule that admits the flow.
fn narrow_rules(
    side: &SideEvaluation<'_>,
    candidate: &Candidate<'_>,
    admitting: &[usize],
) -> Vec<(String, Edit)> {
    let policy = candidate.policy;
    // A policy without policyTypes and without any egress rule does not isolate for egress.
    let still_isolates = policy.stated
        || side.direction == Direction::Ingress
        || admitting.len() < policy.rules.len();
    let verb = if still_isolates || policy.tier != PolicyTier::NetworkPolicy {
        "remove or narrow"
    } else {
        "narrow"
    };

    let edits = admitting.iter().map(|number| {
        let text = format!(
            "{verb} rule {} of {}{}",
            number + 1,
            policy.name,
            at_origin(&policy.rules[*number].origin)
        );
        let edit = Edit::RemovePeers {
            policy: candidate.index,
            rule: *number,
        };
        (text, edit)
    });
    edits.collect()
}

/// A new policy for the pod, without a rule for the flow.
fn isolating(side: &SideEvaluation<'_>, pod: &Pod) -> Change {
    let direction = side.direction.as_str();
    let text = format!(
        "add a NetworkPolicy in namespace {} that selects {} with policyTypes: [{direction}] \
         and without a rule for this flow",
        pod.namespace, side.own.name
    );
    let policy = DirectionalPolicy {
        name: PolicyName {
            reference: PolicyRef::network(pod.namespace.clone(), "added"),
            origin: String::new(),
        },
        tier: PolicyTier::NetworkPolicy,
        priority: 0,
        direction: side.direction,
        in_force: true,
        stated: true,
        subject: Scope {
            namespaces: Namespaces::Own(pod.namespace.clone()),
            pods: edit::by_labels(&identity_labels(&pod.labels)),
        },
        rules: Vec::new(),
    };
    let edit = Edit::AddPolicy {
        policy: Box::new(policy),
    };
    Change::new(3, text, vec![edit])
}

/// The other end as a peer in a rule of a policy; `None` if no peer can describe it.
pub(super) fn peer_for_other_end(
    side: &SideEvaluation<'_>,
    policy: &DirectionalPolicy,
) -> Option<Peer> {
    if let Some(pod) = side.other.pod {
        let labels = identity_labels(&pod.labels);
        let policy_namespace = policy.name.reference.namespace.as_deref();
        return Some(edit::pod_peer(&pod.namespace, &labels, policy_namespace));
    }

    let address = side.other.address?;
    let cidr = Cidr::parse(&single_address_block(address)).ok()?;
    Some(Peer::Block(Block::from(cidr)))
}

/// The other end as a peer, as text.
pub(super) fn describe_other_end(side: &SideEvaluation<'_>) -> String {
    match (side.other.pod, side.other.address) {
        (Some(pod), _) => {
            let pods = describe_pods(pod);
            let own_namespace = side.own.pod.map(|own| own.namespace.as_str());
            if own_namespace == Some(pod.namespace.as_str()) {
                pods
            } else {
                format!("{pods} of namespace {}", pod.namespace)
            }
        }
        (None, Some(address)) => format!("ipBlock {}", single_address_block(address)),
        (None, None) => side.other.name.clone(),
    }
}

fn describe_pods(pod: &Pod) -> String {
    let labels: Vec<String> = identity_labels(&pod.labels)
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if labels.is_empty() {
        "every pod".to_owned()
    } else {
        format!("pods with {}", labels.join(", "))
    }
}

fn single_address_block(address: IpAddr) -> String {
    let length = if address.is_ipv4() { 32 } else { 128 };
    format!("{address}/{length}")
}

/// The key of a rule's peers.
fn preposition(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "to",
        Direction::Ingress => "from",
    }
}

pub(super) fn at_origin(origin: &str) -> String {
    if origin.is_empty() {
        String::new()
    } else {
        format!(" at {origin}")
    }
}
