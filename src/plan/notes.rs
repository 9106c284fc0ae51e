//! What is worth telling about an inventory before anything is sampled: the usual mistakes that no
//! packet names.

use crate::inventory::{Inventory, Labels, NetworkPolicy};
use crate::suite::{EndpointId, Locator, SourceMode, Subject, Suite};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube_core::{Selector, SelectorExt};
use std::collections::{BTreeMap, BTreeSet};

/// Pods' labels of one namespace, told apart.
type ByNamespace<'a> = BTreeMap<&'a str, BTreeSet<&'a Labels>>;

/// Policies that select no pod though their namespace has some: mostly a label spelt in two ways.
pub fn policies_selecting_no_pod(inventory: &Inventory) -> Vec<String> {
    // Who shares its node's network is selected by nothing.
    let (mut pods, mut of_nodes): (ByNamespace<'_>, ByNamespace<'_>) =
        (BTreeMap::new(), BTreeMap::new());
    for pod in &inventory.pods {
        let of = if pod.host_network {
            &mut of_nodes
        } else {
            &mut pods
        };
        of.entry(&pod.namespace).or_default().insert(&pod.labels);
    }
    inventory
        .network_policies()
        .filter_map(|policy| selects_nothing(policy, &pods, &of_nodes))
        .collect()
}

/// Sources whose packets do not have the identity of their pods: what is said of them is not said
/// of the pods.
pub(super) fn source_modes(suite: &Suite) -> impl Iterator<Item = String> {
    let named: BTreeSet<EndpointId> = suite
        .lines
        .iter()
        .flat_map(|line| &line.sources)
        .flat_map(Subject::members)
        .copied()
        .collect();
    let everybody = suite.everything_else.is_some()
        || suite
            .lines
            .iter()
            .any(|line| line.sources.contains(&Subject::All));
    let numbered = (0..).map(EndpointId).zip(&suite.endpoints);
    numbered.filter(move |(id, _)| everybody || named.contains(id)).filter_map(|(_, endpoint)| {
        let from = match endpoint.source_mode.unwrap_or_default() {
            SourceMode::Clone | SourceMode::Ephemeral => return None,
            SourceMode::Node => "the nodes of its pods",
            SourceMode::Runner => "where watertight runs",
        };
        // Only what is made of pods could have sent otherwise.
        match &endpoint.locator {
            Locator::Workload { .. } | Locator::Pods { .. } | Locator::Service { .. } => {}
            Locator::Host(_) | Locator::Address(_) | Locator::Runner | Locator::Nodes => return None,
        }
        let label = &endpoint.label;
        Some(format!(
            "{label} sends from {from}, not with its pods' identity: policies that select those are not tested"
        ))
    })
}

fn selects_nothing(
    policy: &NetworkPolicy,
    pods: &ByNamespace<'_>,
    of_nodes: &ByNamespace<'_>,
) -> Option<String> {
    let namespace = policy.namespace.as_str();
    let wanted = policy.spec.pod_selector.clone().unwrap_or_default();
    let selector = Selector::try_from(wanted.clone()).ok()?;
    let selects = |all: &ByNamespace<'_>| {
        all.get(namespace)
            .into_iter()
            .flatten()
            .any(|pod| selector.matches(pod))
    };
    if selects(pods) {
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
    if selects(of_nodes) {
        return Some(format!(
            "{title}: those with its labels share their node's network, and no policy selects such pods"
        ));
    }
    let there = pods.get(namespace)?;
    let keys = keys(&wanted);
    let carried: BTreeSet<String> = there
        .iter()
        .flat_map(|labels| labels.iter())
        .filter(|(key, _)| keys.contains(key.as_str()))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let carried: Vec<String> = carried.into_iter().take(6).collect();
    let carry = if carried.is_empty() {
        "carry none of these keys".into()
    } else {
        format!("carry {}", carried.join(", "))
    };
    Some(format!(
        "{title}: it wants {selector}, pods in namespace {namespace} {carry}"
    ))
}

fn keys(selector: &LabelSelector) -> BTreeSet<&str> {
    let by_label = selector
        .match_labels
        .iter()
        .flatten()
        .map(|(key, _)| key.as_str());
    by_label
        .chain(
            selector
                .match_expressions
                .iter()
                .flatten()
                .map(|expression| expression.key.as_str()),
        )
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
    fn policy_that_selects_no_pod_is_told_with_what_pods_carry() {
        let notes = policies_selecting_no_pod(&inventory("postgres", "postgresql"));
        let expected = "NetworkPolicy data/postgres (p.yaml:1) selects no pod: it wants app=postgresql, \
                        pods in namespace data carry app=postgres";
        assert_eq!(notes, [expected]);
    }

    #[test]
    fn policy_that_selects_a_pod_is_not_told() {
        assert_eq!(
            policies_selecting_no_pod(&inventory("postgres", "postgres")),
            Vec::<String>::new()
        );
        let mut empty = inventory("postgres", "postgresql");
        empty.pods.clear();
        assert_eq!(policies_selecting_no_pod(&empty), Vec::<String>::new());
    }

    #[test]
    fn policy_for_pods_of_their_nodes_network_is_told_to_select_none() {
        let mut inventory = inventory("postgres", "postgres");
        inventory.pods[0].host_network = true;
        let expected = "NetworkPolicy data/postgres (p.yaml:1) selects no pod: those with its labels share their node's \
                        network, and no policy selects such pods";
        assert_eq!(policies_selecting_no_pod(&inventory), [expected]);
    }
}
