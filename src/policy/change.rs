//! What could turn an answer: changes of one side, each with what would have to be written.

use super::edit::{self, Edit, NAMESPACE_NAME};
use super::explain::Walk;
use super::near_miss::{self, MissingRequirement, PeerStanding};
use super::rules::{Block, Direction, DirectionalPolicy, Namespaces, Peer, Scope};
use super::selector::Must;
use super::what_if::SideEffects;
use crate::inventory::{Action, Cidr, Labels, Pod, PolicyTier, identity_labels};
use crate::model::{ObjectRef, PolicyRef};
use serde::Serialize;

/// A change that turns an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// How much it is: the things that would have to be written, and more for what is seldom meant.
    /// The smallest change has the least.
    pub size: usize,
    /// What to do, with the place.
    pub text: String,
    /// What else it would do, where that was looked at.
    pub beside: Option<SideEffects>,
    #[serde(skip)]
    pub(super) edits: Vec<Edit>,
}

impl Change {
    fn new(size: usize, text: String, edits: Vec<Edit>) -> Self {
        Self {
            size,
            text,
            beside: None,
            edits,
        }
    }

    /// Both.
    pub(super) fn and(&self, other: &Self) -> Self {
        let edits = self.edits.iter().chain(&other.edits).cloned().collect();
        Self::new(
            self.size + other.size,
            format!("{}; and {}", self.text, other.text),
            edits,
        )
    }
}

/// What has to be written, in words and as edits.
#[derive(Debug, Clone, Default)]
struct Objects {
    size: usize,
    texts: Vec<String>,
    edits: Vec<Edit>,
}

impl Objects {
    fn add(&mut self, size: usize, text: String, edits: impl IntoIterator<Item = Edit>) {
        self.size += size;
        self.texts.push(text);
        self.edits.extend(edits);
    }

    fn into_change(self) -> Option<Change> {
        (self.size > 0).then(|| Change::new(self.size, self.texts.join("; "), self.edits))
    }
}

/// What a rule of a half lacks to admit the flow. `None` for one that cannot.
fn lacks(walk: &Walk<'_>, (at, policy): (usize, &DirectionalPolicy), number: usize) -> Option<Objects> {
    let rule = &policy.rules[number];
    if !rule.unknown.is_empty() || rule.action != Action::Accept {
        return None;
    }
    let place = place(&rule.origin);
    let mut things = Objects::default();
    let standings = near_miss::peers(rule, walk.other);
    let names_count = near_miss::names_count(rule, walk.direction, &standings);
    let (port_holds, _) = near_miss::ports(rule, walk.port, walk.target, names_count);
    if !port_holds {
        let text = format!(
            "add port {} to rule {} of {}{place}",
            walk.port,
            number + 1,
            policy.name
        );
        things.add(
            1,
            text,
            [Edit::AddPort {
                policy: at,
                rule: number,
                port: walk.port,
            }],
        );
    }
    if rule.peers.is_none() || standings.iter().any(PeerStanding::holds) {
        return Some(things);
    }
    let nearest = standings.iter().enumerate().filter_map(|(peer, standing)| {
        let edits: Option<Vec<Edit>> =
            standing.missing_requirement.iter().map(|missing_requirement| remedy(walk, missing_requirement, (at, number, peer))).collect();
        let names_pods =
            matches!(rule.peers.iter().flatten().nth(peer), Some(Peer::Pods(scope)) if !scope.pods.requirements.is_empty());
        let size = standing.missing_requirement.iter().map(|missing_requirement| size_of(missing_requirement, names_pods)).sum::<usize>();
        Some((standing, size, edits.filter(|edits| !edits.is_empty())?))
    });
    if let Some((standing, size, edits)) = nearest.min_by_key(|(_, size, _)| *size) {
        let remedies: Vec<String> = standing
            .missing_requirement
            .iter()
            .map(|missing_requirement| missing_requirement.remedy(&walk.other.name))
            .collect();
        let text = format!(
            "{}, so that rule {} of {}{place} means it",
            remedies.join(" and "),
            number + 1,
            policy.name
        );
        things.add(size, text, edits);
    } else {
        let peer = peer_for(walk, policy)?;
        let text = format!(
            "add {} to the peers of rule {} of {}{place}",
            named(walk),
            number + 1,
            policy.name
        );
        things.add(
            2,
            text,
            [Edit::AddPeer {
                policy: at,
                rule: number,
                peer,
            }],
        );
    }
    Some(things)
}

/// What a rule for this flow alone counts.
const A_RULE: usize = 3;

/// How much it is to remove what stands in the way. What is probably not a slip counts more than a
/// rule of its own: another value of a label, or a whole namespace where all of another one is
/// meant.
fn size_of(missing_requirement: &MissingRequirement, names_pods: bool) -> usize {
    match missing_requirement {
        MissingRequirement::PodLabel { .. } if missing_requirement.may_be_a_slip() => 1,
        // All pods of the namespace would get another label.
        MissingRequirement::NamespaceLabel { .. } if missing_requirement.may_be_a_slip() => 2,
        MissingRequirement::OtherNamespace { .. } if names_pods => 1,
        MissingRequirement::PodLabel { .. } | MissingRequirement::OtherNamespace { .. } => {
            A_RULE + 1
        }
        MissingRequirement::NamespaceLabel { .. } => A_RULE + 2,
    }
}

/// What would make a peer mean the other end; nothing if nobody can write it.
fn remedy(
    walk: &Walk<'_>,
    missing_requirement: &MissingRequirement,
    (policy, rule, peer): (usize, usize, usize),
) -> Option<Edit> {
    match missing_requirement {
        MissingRequirement::PodLabel { requirement, .. } => {
            let (key, to) = (requirement.key.clone(), value(&requirement.must));
            Some(Edit::PodLabel {
                workload: workload(walk.other.pod?),
                key,
                to,
            })
        }
        MissingRequirement::NamespaceLabel { requirement, .. }
            if requirement.key == NAMESPACE_NAME =>
        {
            None
        }
        MissingRequirement::NamespaceLabel {
            namespace,
            requirement,
            ..
        } => {
            let (key, to) = (requirement.key.clone(), value(&requirement.must));
            Some(Edit::NamespaceLabel {
                namespace: namespace.clone(),
                key,
                to,
            })
        }
        MissingRequirement::OtherNamespace { namespace, .. } => Some(Edit::LookInto {
            policy,
            rule,
            peer,
            namespace: namespace.clone(),
        }),
    }
}

/// What a label would have to be.
fn value(must: &Must) -> Option<String> {
    match must {
        Must::In(values) => values.first().cloned(),
        // Any value will do.
        Must::Exist => Some("true".to_owned()),
        Must::NotIn(_) | Must::NotExist => None,
    }
}

fn workload(pod: &Pod) -> ObjectRef {
    super::map::workload_of(pod)
}

/// A side denies: what could let the flow through.
pub(super) fn opening(walk: &Walk<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    for (at, policy, missing_requirement) in walk.numbered() {
        if policy.tier != PolicyTier::NetworkPolicy {
            if missing_requirement.is_empty() {
                changes.extend(before_denying(walk, (at, policy)));
            }
            continue;
        }
        let to_select = selecting(walk, (at, policy), &missing_requirement);
        for number in 0..policy.rules.len() {
            let (Some(mut things), Some(to_select)) =
                (lacks(walk, (at, policy), number), to_select.clone())
            else {
                continue;
            };
            things.size += to_select.size;
            things.texts.extend(to_select.texts);
            things.edits.extend(to_select.edits);
            changes.extend(things.into_change());
        }
        if policy.in_force
            && missing_requirement.is_empty()
            && let Some(peer) = peer_for(walk, policy)
        {
            let list = match walk.direction {
                Direction::Egress => "egress",
                Direction::Ingress => "ingress",
            };
            let (preposition, whom) = (preposition(walk), named(walk));
            let text = format!(
                "add a rule to {list} of {}: {preposition} {whom} on port {}",
                policy.name, walk.port
            );
            let rule = edit::admitting(peer, walk.port);
            changes.push(Change::new(
                A_RULE,
                text,
                vec![Edit::InsertRule {
                    policy: at,
                    at: policy.rules.len(),
                    rule,
                }],
            ));
        }
    }
    changes
}

/// A rule before each one of an Admin or Baseline policy that denies the flow.
fn before_denying(walk: &Walk<'_>, (at, policy): (usize, &DirectionalPolicy)) -> Vec<Change> {
    let mut changes = Vec::new();
    for number in 0..policy.rules.len() {
        let Some(rule) = policy.rules[number]
            .as_understood()
            .filter(|rule| rule.action == Action::Deny)
        else {
            continue;
        };
        let peers = near_miss::peers(&rule, walk.other);
        let names_count = near_miss::names_count(&rule, walk.direction, &peers);
        let is_meant = (rule.peers.is_none() || peers.iter().any(PeerStanding::holds))
            && near_miss::ports(&rule, walk.port, walk.target, names_count).0;
        let Some(peer) = peer_for(walk, policy).filter(|_| is_meant) else {
            continue;
        };
        let text = format!(
            "put a rule that accepts {} {} on {} before rule {} of {}{}",
            preposition(walk),
            named(walk),
            walk.port,
            number + 1,
            policy.name,
            place(&rule.origin)
        );
        let rule = edit::admitting(peer, walk.port);
        changes.push(Change::new(
            2,
            text,
            vec![Edit::InsertRule {
                policy: at,
                at: number,
                rule,
            }],
        ));
    }
    changes
}

/// What it takes for a half to be in force for the pod; `None` if that is too much to suggest.
fn selecting(
    walk: &Walk<'_>,
    (at, policy): (usize, &DirectionalPolicy),
    missing_requirement: &[MissingRequirement],
) -> Option<Objects> {
    let mut things = Objects::default();
    match missing_requirement {
        [] => {}
        [only @ MissingRequirement::PodLabel { requirement, has }]
            if walk.nearly_selects(at, only) =>
        {
            let edit = match (&requirement.must, has) {
                (Must::In(_), Some(value)) => Edit::Select {
                    policy: at,
                    requirement: requirement.clone(),
                    value: value.clone(),
                },
                (must, _) => Edit::PodLabel {
                    workload: workload(walk.own.pod?),
                    key: requirement.key.clone(),
                    to: value(must),
                },
            };
            things.add(
                1,
                only.reconcile(&policy.name.to_string(), &walk.own.name),
                [edit],
            );
        }
        _ => return None,
    }
    if !policy.in_force {
        let text = format!(
            "add {} to policyTypes of {}",
            walk.direction.as_str(),
            policy.name
        );
        things.add(1, text, [Edit::Enforce { policy: at }]);
    }
    Some(things)
}

/// A side allows: what could stop the flow there.
pub(super) fn closing(walk: &Walk<'_>) -> Vec<Change> {
    let Some(pod) = walk.own.pod else {
        return Vec::new();
    };
    let mut admitting: Vec<(String, Edit)> = Vec::new();
    let mut isolated = false;
    let mut changes = Vec::new();
    for (at, policy, missing_requirement) in walk.numbered() {
        let admits: Vec<usize> = (0..policy.rules.len())
            .filter(|number| {
                lacks(walk, (at, policy), *number).is_some_and(|things| things.size == 0)
            })
            .collect();
        if policy.in_force && missing_requirement.is_empty() {
            isolated |= policy.tier == PolicyTier::NetworkPolicy;
            // Without any egress rule, a policy that names no policyTypes is none for egress.
            let keeps_isolating = policy.stated
                || walk.direction == Direction::Ingress
                || admits.len() < policy.rules.len();
            let verb = if keeps_isolating || policy.tier != PolicyTier::NetworkPolicy {
                "remove or narrow"
            } else {
                "narrow"
            };
            admitting.extend(admits.iter().map(|number| {
                let text = format!(
                    "{verb} rule {} of {}{}",
                    number + 1,
                    policy.name,
                    place(&policy.rules[*number].origin)
                );
                (
                    text,
                    Edit::Narrow {
                        policy: at,
                        rule: *number,
                    },
                )
            }));
        } else if policy.tier == PolicyTier::NetworkPolicy
            && admits.is_empty()
            && let Some(things) = selecting(walk, (at, policy), &missing_requirement)
        {
            changes.extend(things.into_change());
        }
    }
    if !admitting.is_empty() {
        // A policy that would select the pod stops nothing where another one admits the flow
        // already.
        changes.clear();
        let size = admitting.len();
        let (texts, edits): (Vec<String>, Vec<Edit>) = admitting.into_iter().unzip();
        changes.push(Change::new(size, texts.join(" and "), edits));
    }
    if !isolated {
        changes.push(isolating(walk, pod));
    }
    changes
}

/// A new policy for the pod, without a rule for the flow.
fn isolating(walk: &Walk<'_>, pod: &Pod) -> Change {
    let direction = walk.direction.as_str();
    let text = format!(
        "add a NetworkPolicy in namespace {} that selects {} with policyTypes: [{direction}] and without a rule for this flow",
        pod.namespace, walk.own.name
    );
    let name = super::PolicyName {
        reference: PolicyRef::network(&pod.namespace, "added"),
        origin: String::new(),
    };
    let subject = Scope {
        namespaces: Namespaces::Own(pod.namespace.clone()),
        pods: edit::by_labels(&identity_labels(&pod.labels)),
    };
    let policy = DirectionalPolicy {
        name,
        tier: PolicyTier::NetworkPolicy,
        priority: 0,
        direction: walk.direction,
        in_force: true,
        stated: true,
        subject,
        rules: Vec::new(),
    };
    Change::new(
        3,
        text,
        vec![Edit::AddPolicy {
            policy: Box::new(policy),
        }],
    )
}

/// The other end, as a rule of this policy would name it; nothing for what no peer can name.
fn peer_for(walk: &Walk<'_>, policy: &DirectionalPolicy) -> Option<Peer> {
    let own = policy.name.reference.namespace.as_deref();
    match (walk.other.pod, walk.other.address) {
        (Some(pod), _) => Some(edit::pods(
            &pod.namespace,
            &identity_labels(&pod.labels),
            own,
        )),
        (None, Some(address)) => {
            let length = if address.is_ipv4() { 32 } else { 128 };
            let cidr = Cidr::parse(&format!("{address}/{length}")).ok()?;
            Some(Peer::Block(Block {
                cidr,
                except: Vec::new(),
            }))
        }
        (None, None) => None,
    }
}

/// The key of a rule's peers.
fn preposition(walk: &Walk<'_>) -> &'static str {
    match walk.direction {
        Direction::Egress => "to",
        Direction::Ingress => "from",
    }
}

/// The same in words.
fn named(walk: &Walk<'_>) -> String {
    match (walk.other.pod, walk.other.address) {
        (Some(pod), _) => {
            let labels: Labels = identity_labels(&pod.labels);
            let labels: Vec<String> = labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let pods = if labels.is_empty() {
                "every pod".to_owned()
            } else {
                format!("pods with {}", labels.join(", "))
            };
            let own = walk
                .own
                .pod
                .is_some_and(|own| own.namespace == pod.namespace);
            let of = if own {
                String::new()
            } else {
                format!(" of namespace {}", pod.namespace)
            };
            format!("{pods}{of}")
        }
        (None, Some(address)) => {
            let length = if address.is_ipv4() { 32 } else { 128 };
            format!("ipBlock {address}/{length}")
        }
        (None, None) => walk.other.name.clone(),
    }
}

fn place(origin: &str) -> String {
    if origin.is_empty() {
        String::new()
    } else {
        format!(" at {origin}")
    }
}
