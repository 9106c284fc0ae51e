//! Policies and labels, written differently: what a suggestion would do.

use super::classes::namespace_labels;
use super::near_miss::Party;
use super::ports::PortSet;
use super::rules::{DirectionalPolicy, Namespaces, Peer, Ports, Rule, Rules, Scope};
use super::selector::{Must, Requirement, Selector};
use crate::inventory::{Inventory, Labels, Namespace, Pod};
use crate::model::{ObjectRef, Port};
use std::sync::Arc;

/// The label by which every namespace is known, and which nobody can change ("immutable",
/// Kubernetes, "Well-Known Labels").
pub(super) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// One thing that is written differently. Halves and rules are named by their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Edit {
    /// A label of all pods of a workload: another value, or none.
    PodLabel {
        workload: ObjectRef,
        key: String,
        to: Option<String>,
    },
    /// A label of a namespace.
    NamespaceLabel {
        namespace: String,
        key: String,
        to: Option<String>,
    },
    /// One more port.
    AddPort {
        policy: usize,
        rule: usize,
        port: Port,
    },
    /// One more peer.
    AddPeer {
        policy: usize,
        rule: usize,
        peer: Peer,
    },
    /// A peer's pods are looked for in this namespace.
    LookInto {
        policy: usize,
        rule: usize,
        peer: usize,
        namespace: String,
    },
    /// One more rule, before the one that stands there.
    InsertRule { policy: usize, at: usize, rule: Rule },
    /// The rule matches this flow no more.
    Narrow { policy: usize, rule: usize },
    /// The policy is in force in this direction.
    Enforce { policy: usize },
    /// The policy's selector asks for this value.
    Select {
        policy: usize,
        requirement: Requirement,
        value: String,
    },
    /// One more policy.
    AddPolicy { policy: Box<DirectionalPolicy> },
}

/// The rules as they would be.
pub(super) fn rules(rules: &Rules, edits: &[Edit]) -> Rules {
    let mut edited = rules.clone();
    // What is inserted moves what stands behind it: it comes last.
    for edit in edits {
        apply(&mut edited, edit);
    }
    edited
}

fn apply(rules: &mut Rules, edit: &Edit) {
    match edit {
        Edit::PodLabel { .. } | Edit::NamespaceLabel { .. } => {}
        Edit::AddPort { policy, rule, port } => {
            let (transport, number) = (port.transport(), port.number());
            if let Some(ports) = &mut rule_of(rules, *policy, *rule).ports {
                ports.push(Ports::Range(transport, number, number));
            }
        }
        Edit::AddPeer { policy, rule, peer } => {
            if let Some(peers) = &mut rule_of(rules, *policy, *rule).peers {
                peers.push(peer.clone());
            }
        }
        Edit::LookInto {
            policy,
            rule,
            peer,
            namespace,
        } => {
            let peers = rule_of(rules, *policy, *rule).peers.as_mut();
            if let Some(Peer::Pods(scope)) = peers.and_then(|peers| peers.get_mut(*peer)) {
                scope.namespaces = Namespaces::Matching(by_name(namespace));
            }
        }
        Edit::InsertRule { policy, at, rule } => {
            policy_mut(rules, *policy).rules.insert(*at, rule.clone())
        }
        Edit::Narrow { policy, rule } => rule_of(rules, *policy, *rule).peers = Some(Vec::new()),
        Edit::Enforce { policy } => policy_mut(rules, *policy).in_force = true,
        Edit::Select {
            policy,
            requirement,
            value,
        } => {
            for known in &mut policy_mut(rules, *policy).subject.pods.requirements {
                if known == requirement {
                    known.must = Must::In(vec![value.clone()]);
                }
            }
        }
        Edit::AddPolicy { policy } => rules.policies.push(Arc::new((**policy).clone())),
    }
}

fn policy_mut(rules: &mut Rules, policy: usize) -> &mut DirectionalPolicy {
    Arc::make_mut(&mut rules.policies[policy])
}

fn rule_of(rules: &mut Rules, policy: usize, rule: usize) -> &mut Rule {
    &mut policy_mut(rules, policy).rules[rule]
}

/// A selector of one namespace, by its name.
pub(super) fn by_name(namespace: &str) -> Selector {
    let must = Must::In(vec![namespace.to_owned()]);
    Selector {
        requirements: vec![Requirement {
            key: NAMESPACE_NAME.to_owned(),
            must,
        }],
    }
}

/// A selector of exactly these labels.
pub(super) fn by_labels(labels: &Labels) -> Selector {
    let one = |(key, value): (&String, &String)| Requirement {
        key: key.clone(),
        must: Must::In(vec![value.clone()]),
    };
    Selector {
        requirements: labels.iter().map(one).collect(),
    }
}

/// The pod as it would be, if anything of it changes.
pub(super) fn pod(pod: &Pod, edits: &[Edit]) -> Option<Pod> {
    let own = super::map::workload_of(pod);
    let mut edited = None;
    for edit in edits {
        if let Edit::PodLabel { workload, key, to } = edit
            && *workload == own
        {
            set(
                &mut edited.get_or_insert_with(|| pod.clone()).labels,
                key,
                to.as_ref(),
            );
        }
    }
    edited
}

/// A party as it would be; `pod` is what [`pod`] made of its pod.
pub(super) fn party<'a>(of: &Party<'a>, pod: Option<&'a Pod>, edits: &[Edit]) -> Party<'a> {
    let mut edited = Party {
        pod: pod.or(of.pod),
        namespace: of.namespace.clone(),
        name: of.name.clone(),
        ..*of
    };
    let name = edited
        .pod
        .map(|pod| pod.namespace.as_str())
        .unwrap_or_default();
    for edit in edits {
        if let Edit::NamespaceLabel { namespace, key, to } = edit
            && namespace == name
        {
            set(&mut edited.namespace, key, to.as_ref());
        }
    }
    edited
}

/// Everything that exists, as it would be.
pub(super) fn inventory(inventory: &Inventory, edits: &[Edit]) -> Inventory {
    let mut after = inventory.clone();
    for of in &mut after.pods {
        if let Some(edited) = pod(of, edits) {
            *of = edited;
        }
    }
    for edit in edits {
        if let Edit::NamespaceLabel {
            namespace: name,
            key,
            to,
        } = edit
        {
            let fresh = || Namespace {
                name: name.clone(),
                labels: namespace_labels(inventory, name),
            };
            set(
                &mut after
                    .namespaces
                    .entry(name.clone())
                    .or_insert_with(fresh)
                    .labels,
                key,
                to.as_ref(),
            );
        }
    }
    after
}

fn set(labels: &mut Labels, key: &str, to: Option<&String>) {
    match to {
        Some(value) => labels.insert(key.to_owned(), value.clone()),
        None => labels.remove(key),
    };
}

/// A rule that admits one peer on one port.
pub(super) fn admitting(peer: Peer, port: Port) -> Rule {
    Rule {
        name: None,
        origin: String::new(),
        action: crate::inventory::Action::Accept,
        peers: Some(vec![peer]),
        ports: Some(vec![Ports::Range(
            port.transport(),
            port.number(),
            port.number(),
        )]),
        unknown: Vec::new(),
    }
}

/// Pods of a namespace with exactly these labels, as a policy of the same or of another namespace
/// names them.
pub(super) fn pods(namespace: &str, labels: &Labels, policy_namespace: Option<&str>) -> Peer {
    let own = policy_namespace == Some(namespace);
    let namespaces = if own {
        Namespaces::Own(namespace.to_owned())
    } else {
        Namespaces::Matching(by_name(namespace))
    };
    Peer::Pods(Scope {
        namespaces,
        pods: by_labels(labels),
    })
}

/// One port, for what is left of a link.
pub(super) fn only(port: Port) -> PortSet {
    PortSet::range(port.transport(), port.number(), port.number())
}
