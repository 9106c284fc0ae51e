//! Questions about single pods and policies that planning asks.
//!
//! # Limitations
//! - Policies of the whole cluster (`AdminNetworkPolicy`, `BaselineAdminNetworkPolicy`,
//!   `ClusterNetworkPolicy`) are not considered here, but are by [`Predictor`](super::Predictor). A
//!   pod that only they isolate counts as not isolated, and a rule of theirs that admits by address
//!   does not count against [`admits_by_labels_only`]. The answers choose which controls are tried
//!   and which notes are shown; no verdict reads them.

use crate::inventory::{Inventory, Labels, NetworkPolicy, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube_core::{Selector, SelectorExt};
use std::collections::{BTreeMap, BTreeSet};

/// At most so many labels that pods carry are named in a note.
const MAX_NAMED_LABELS: usize = 6;

/// Whether any NetworkPolicy isolates a pod for ingress.
pub fn is_isolated_for_ingress(inventory: &Inventory, pod: &Pod) -> bool {
    inventory
        .network_policies()
        .any(|policy| isolates_for_ingress(policy, pod))
}

/// Whether any NetworkPolicy selects pods without labels, as one with an empty selector does.
pub fn selects_unlabelled_pods(inventory: &Inventory) -> bool {
    inventory.network_policies().any(|policy| {
        let selector = policy.spec.pod_selector.clone().unwrap_or_default();
        Selector::try_from(selector).is_ok_and(|selector| selector.matches(&Labels::new()))
    })
}

/// Whether NetworkPolicies isolate a pod for ingress and admit by labels alone: no rule of theirs
/// admits every source, or a source by its address. A packet that such a pod admits shows that the
/// labels of its sender are known.
pub fn admits_by_labels_only(inventory: &Inventory, pod: &Pod) -> bool {
    let mut isolating = inventory
        .network_policies()
        .filter(|policy| isolates_for_ingress(policy, pod))
        .peekable();
    if isolating.peek().is_none() {
        return false;
    }

    isolating
        .flat_map(|policy| policy.spec.ingress.iter().flatten())
        .all(|rule| match rule.from.as_deref() {
            None | Some([]) => false,
            Some(peers) => peers.iter().all(selects_by_labels),
        })
}

fn selects_by_labels(peer: &NetworkPolicyPeer) -> bool {
    peer.ip_block.is_none() && (peer.pod_selector.is_some() || peer.namespace_selector.is_some())
}

/// Whether a policy isolates a pod for ingress (NetworkPolicySpec.policyTypes: without it every
/// policy does).
fn isolates_for_ingress(policy: &NetworkPolicy, pod: &Pod) -> bool {
    let is_for_ingress = match &policy.spec.policy_types {
        Some(types) => types.iter().any(|direction| direction == "Ingress"),
        None => true,
    };
    let selector = policy.spec.pod_selector.clone().unwrap_or_default();

    is_for_ingress
        && policy.namespace == pod.namespace
        && Selector::try_from(selector).is_ok_and(|selector| selector.matches(&pod.labels))
}

/// The different label sets of pods, by namespace.
type LabelsByNamespace<'a> = BTreeMap<&'a str, BTreeSet<&'a Labels>>;

/// Notes on NetworkPolicies that select no pod though their namespace has pods: mostly a label that
/// is spelt in two ways.
pub fn policies_selecting_no_pod(inventory: &Inventory) -> Vec<String> {
    // No selector selects a pod that shares its node's network.
    let mut pods = LabelsByNamespace::new();
    let mut host_network = LabelsByNamespace::new();
    for pod in &inventory.pods {
        let labels = if pod.host_network {
            &mut host_network
        } else {
            &mut pods
        };
        labels
            .entry(&pod.namespace)
            .or_default()
            .insert(&pod.labels);
    }

    inventory
        .network_policies()
        .filter_map(|policy| note_if_selecting_no_pod(policy, &pods, &host_network))
        .collect()
}

fn note_if_selecting_no_pod(
    policy: &NetworkPolicy,
    pods: &LabelsByNamespace<'_>,
    host_network: &LabelsByNamespace<'_>,
) -> Option<String> {
    let namespace = policy.namespace.as_str();
    let label_selector = policy.spec.pod_selector.clone().unwrap_or_default();
    let selector = Selector::try_from(label_selector.clone()).ok()?;
    if selects_any(&selector, namespace, pods) {
        return None;
    }

    let origin = if policy.origin.is_empty() {
        String::new()
    } else {
        format!(" ({})", policy.origin)
    };
    let title = format!(
        "NetworkPolicy {namespace}/{}{origin} selects no pod",
        policy.name
    );
    if selects_any(&selector, namespace, host_network) {
        return Some(format!(
            "{title}: those with its labels share their node's network, and no policy selects such pods"
        ));
    }

    let carried = labels_with_keys(pods.get(namespace)?, &keys(&label_selector));
    let carry = if carried.is_empty() {
        "carry none of these keys".to_owned()
    } else {
        format!("carry {}", carried.join(", "))
    };
    Some(format!(
        "{title}: it wants {selector}, pods in namespace {namespace} {carry}"
    ))
}

fn selects_any(selector: &Selector, namespace: &str, labels: &LabelsByNamespace<'_>) -> bool {
    labels
        .get(namespace)
        .into_iter()
        .flatten()
        .any(|labels| selector.matches(labels))
}

/// The labels with one of some keys, as `key=value`; the first few.
fn labels_with_keys(pods: &BTreeSet<&Labels>, keys: &BTreeSet<&str>) -> Vec<String> {
    let labels: BTreeSet<String> = pods
        .iter()
        .flat_map(|labels| labels.iter())
        .filter(|(key, _)| keys.contains(key.as_str()))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    labels.into_iter().take(MAX_NAMED_LABELS).collect()
}

/// The label keys that a selector names.
fn keys(selector: &LabelSelector) -> BTreeSet<&str> {
    let labels = selector.match_labels.iter().flatten();
    let expressions = selector.match_expressions.iter().flatten();

    labels
        .map(|(key, _)| key.as_str())
        .chain(expressions.map(|expression| expression.key.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{Pod, RuleOrigins};
    use k8s_openapi::api::networking::v1::NetworkPolicySpec;

    fn inventory(pod_label: &str, policy_label: &str) -> Inventory {
        let labels = |value: &str| Labels::from([("app".to_owned(), value.to_owned())]);
        let pod = Pod {
            namespace: "data".into(),
            name: "postgres-0".into(),
            uid: "1".into(),
            labels: labels(pod_label),
            ports: vec![],
            workloads: vec![],
            host_network: false,
            has_proxy: false,
            ready: true,
            node: "node-1".into(),
            addresses: vec![],
        };
        let spec = NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(labels(policy_label)),
                match_expressions: None,
            }),
            ..Default::default()
        };
        let (namespace, name) = ("data".into(), "postgres".into());
        let policy = NetworkPolicy {
            namespace,
            name,
            spec,
            origin: "p.yaml:1".into(),
            rule_origins: RuleOrigins::default(),
        };
        Inventory {
            pods: vec![pod],
            policies: vec![policy.into()],
            ..Inventory::default()
        }
    }

    #[test]
    fn note_on_a_policy_that_selects_no_pod_names_the_labels_that_pods_carry() {
        let notes = policies_selecting_no_pod(&inventory("postgres", "postgresql"));
        let expected = "NetworkPolicy data/postgres (p.yaml:1) selects no pod: it wants app=postgresql, \
                        pods in namespace data carry app=postgres";
        assert_eq!(notes, [expected]);
    }

    #[test]
    fn policy_that_selects_a_pod_has_no_note() {
        assert_eq!(
            policies_selecting_no_pod(&inventory("postgres", "postgres")),
            Vec::<String>::new()
        );
        let mut empty = inventory("postgres", "postgresql");
        empty.pods.clear();
        assert_eq!(policies_selecting_no_pod(&empty), Vec::<String>::new());
    }

    #[test]
    fn policy_for_host_network_pods_is_noted_as_selecting_no_pod() {
        let mut inventory = inventory("postgres", "postgres");
        inventory.pods[0].host_network = true;
        let expected = "NetworkPolicy data/postgres (p.yaml:1) selects no pod: those with its labels share their node's \
                        network, and no policy selects such pods";
        assert_eq!(policies_selecting_no_pod(&inventory), [expected]);
    }
}
