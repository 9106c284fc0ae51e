//! Edits of policies and labels, as suggested changes need them, applied to copies.

use super::classes::namespace_labels;
use super::flow_end::FlowEnd;
use super::map::workload_of;
use super::rules::{DirectionalPolicy, Namespaces, Peer, Ports, Rule, Rules, Scope};
use super::selector::{Operator, Requirement, Selector};
use crate::inventory::{Action, Inventory, Labels, Namespace, Pod};
use crate::model::{ObjectRef, Port};
use std::sync::Arc;

/// The label that holds the name of a namespace. The API server sets it, and no user can change it
/// (Kubernetes, "Well-Known Labels").
pub(super) const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// One edit. Policies and rules are given by their indexes in [`Rules`], peers by theirs in the
/// rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Edit {
    /// Sets a label of all pods of a workload, or removes it.
    PodLabel {
        workload: ObjectRef,
        key: String,
        to: Option<String>,
    },
    /// Sets a label of a namespace, or removes it.
    NamespaceLabel {
        namespace: String,
        key: String,
        to: Option<String>,
    },
    AddPort {
        policy: usize,
        rule: usize,
        port: Port,
    },
    AddPeer {
        policy: usize,
        rule: usize,
        peer: Peer,
    },
    /// Makes a peer select pods of another namespace.
    SetPeerNamespace {
        policy: usize,
        rule: usize,
        peer: usize,
        namespace: String,
    },
    /// Inserts a rule before the one at the index.
    InsertRule {
        policy: usize,
        at: usize,
        rule: Rule,
    },
    /// Makes a rule match no peer.
    RemovePeers {
        policy: usize,
        rule: usize,
    },
    /// Puts a policy in force in its direction.
    Enforce {
        policy: usize,
    },
    /// Makes a requirement of a policy's podSelector ask for another value.
    SetSubjectLabel {
        policy: usize,
        requirement: Requirement,
        value: String,
    },
    AddPolicy {
        policy: Box<DirectionalPolicy>,
    },
}

/// The rules with edits applied.
pub(super) fn rules(rules: &Rules, edits: &[Edit]) -> Rules {
    let mut edited = rules.clone();
    // No change edits a rule of a policy after it has inserted one there, so indexes stay valid.
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
            if let Some(ports) = &mut rule_mut(rules, *policy, *rule).ports {
                ports.push(Ports::Range(transport, number, number));
            }
        }
        Edit::AddPeer { policy, rule, peer } => {
            if let Some(peers) = &mut rule_mut(rules, *policy, *rule).peers {
                peers.push(peer.clone());
            }
        }
        Edit::SetPeerNamespace {
            policy,
            rule,
            peer,
            namespace,
        } => {
            let peers = rule_mut(rules, *policy, *rule).peers.as_mut();
            if let Some(Peer::Pods(scope)) = peers.and_then(|peers| peers.get_mut(*peer)) {
                scope.namespaces = Namespaces::Matching(by_name(namespace));
            }
        }
        Edit::InsertRule { policy, at, rule } => {
            policy_mut(rules, *policy).rules.insert(*at, rule.clone());
        }
        Edit::RemovePeers { policy, rule } => {
            rule_mut(rules, *policy, *rule).peers = Some(Vec::new());
        }
        Edit::Enforce { policy } => policy_mut(rules, *policy).in_force = true,
        Edit::SetSubjectLabel {
            policy,
            requirement,
            value,
        } => {
            for existing in &mut policy_mut(rules, *policy).subject.pods.requirements {
                if existing == requirement {
                    existing.operator = Operator::In(vec![value.clone()]);
                }
            }
        }
        Edit::AddPolicy { policy } => rules.policies.push(Arc::new((**policy).clone())),
    }
}

fn policy_mut(rules: &mut Rules, policy: usize) -> &mut DirectionalPolicy {
    Arc::make_mut(&mut rules.policies[policy])
}

fn rule_mut(rules: &mut Rules, policy: usize, rule: usize) -> &mut Rule {
    &mut policy_mut(rules, policy).rules[rule]
}

/// A selector of one namespace by its name.
fn by_name(namespace: &str) -> Selector {
    Selector {
        requirements: vec![equals(NAMESPACE_NAME, namespace)],
    }
}

/// A selector with exactly these labels.
pub(super) fn by_labels(labels: &Labels) -> Selector {
    Selector {
        requirements: labels
            .iter()
            .map(|(key, value)| equals(key, value))
            .collect(),
    }
}

fn equals(key: &str, value: &str) -> Requirement {
    Requirement {
        key: key.to_owned(),
        operator: Operator::In(vec![value.to_owned()]),
    }
}

/// The pod with edits applied; `None` if they do not change it.
pub(super) fn pod(pod: &Pod, edits: &[Edit]) -> Option<Pod> {
    let pod_workload = workload_of(pod);
    let mut edited = None;
    for edit in edits {
        if let Edit::PodLabel { workload, key, to } = edit
            && *workload == pod_workload
        {
            let edited = edited.get_or_insert_with(|| pod.clone());
            set(&mut edited.labels, key, to.as_ref());
        }
    }
    edited
}

/// An end of a flow with edits applied; `pod` is the result of [`pod`] for its pod.
pub(super) fn flow_end<'a>(end: &FlowEnd<'a>, pod: Option<&'a Pod>, edits: &[Edit]) -> FlowEnd<'a> {
    let mut edited = FlowEnd {
        pod: pod.or(end.pod),
        namespace_labels: end.namespace_labels.clone(),
        name: end.name.clone(),
        ..*end
    };

    let own_namespace = edited
        .pod
        .map(|pod| pod.namespace.as_str())
        .unwrap_or_default();
    for edit in edits {
        if let Edit::NamespaceLabel { namespace, key, to } = edit
            && namespace == own_namespace
        {
            set(&mut edited.namespace_labels, key, to.as_ref());
        }
    }
    edited
}

/// The inventory with edits of labels applied.
pub(super) fn inventory(inventory: &Inventory, edits: &[Edit]) -> Inventory {
    let mut edited = inventory.clone();
    for existing in &mut edited.pods {
        if let Some(pod) = pod(existing, edits) {
            *existing = pod;
        }
    }

    for edit in edits {
        if let Edit::NamespaceLabel { namespace, key, to } = edit {
            let entry = edited.namespaces.entry(namespace.clone());
            let entry = entry.or_insert_with(|| Namespace {
                name: namespace.clone(),
                labels: namespace_labels(inventory, namespace),
            });
            set(&mut entry.labels, key, to.as_ref());
        }
    }
    edited
}

fn set(labels: &mut Labels, key: &str, to: Option<&String>) {
    match to {
        Some(value) => labels.insert(key.to_owned(), value.clone()),
        None => labels.remove(key),
    };
}

/// A rule that accepts one peer on one port.
pub(super) fn accept_rule(peer: Peer, port: Port) -> Rule {
    let ports = Ports::Range(port.transport(), port.number(), port.number());
    Rule {
        name: None,
        origin: String::new(),
        action: Action::Accept,
        peers: Some(vec![peer]),
        ports: Some(vec![ports]),
        unknown: Vec::new(),
    }
}

/// Pods of a namespace with exactly these labels, as a peer of a policy in that or another
/// namespace; without a namespace, the policy is cluster-wide.
pub(super) fn pod_peer(namespace: &str, labels: &Labels, policy_namespace: Option<&str>) -> Peer {
    let namespaces = if policy_namespace == Some(namespace) {
        Namespaces::Own(namespace.to_owned())
    } else {
        Namespaces::Matching(by_name(namespace))
    };
    Peer::Pods(Scope {
        namespaces,
        pods: by_labels(labels),
    })
}
