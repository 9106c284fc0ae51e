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
use kube_core::{Selector, SelectorExt};

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
