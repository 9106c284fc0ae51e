//! The place of a run and the policies in force, for its report.

use super::{Inventory, Policy};
use crate::model::PolicyRef;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Where a run takes place. What a backend cannot know, or what does not exist there, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentInfo {
    /// The uid of the namespace `kube-system`, by which a cluster is identified.
    pub cluster_uid: Option<String>,
    /// The URL of the API server.
    pub server: Option<String>,
    /// The API server's version.
    pub version: Option<String>,
    /// The user name of the operator, as the API server knows it.
    pub operator: Option<String>,
    /// The images that probes ran, as the cluster names what it ran; none before the end of a run.
    #[serde(skip)] // the run carries them
    pub probe_images: Vec<String>,
    /// The policies in force, sorted by kind, namespace and name.
    pub policies: Vec<PolicyState>,
}

/// The state of one policy when it was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyState {
    #[serde(flatten)]
    pub policy: PolicyRef,
    /// The API's uid; `None` for a manifest's policy.
    pub uid: Option<String>,
    /// The version that was read; `None` for a manifest's policy.
    pub resource_version: Option<String>,
    /// SHA-256 of its `spec` as JSON, hexadecimal. Fields are in the order of the API's definition
    /// in a NetworkPolicy, in alphabetical order in a cluster-wide policy.
    pub sha256: String,
}

impl From<&Policy> for PolicyState {
    fn from(policy: &Policy) -> Self {
        Self {
            policy: policy.reference(),
            uid: None,
            resource_version: None,
            sha256: policy.digest(),
        }
    }
}

/// The SHA-256 of a policy's `spec` as JSON, hexadecimal.
pub fn spec_digest(spec: &impl Serialize) -> String {
    // The API's types consist of strings, numbers and lists, which serde_json always serializes.
    let json = serde_json::to_vec(spec).unwrap_or_default();
    Sha256::digest(&json)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Inventory {
    /// The states of the policies, sorted by kind, namespace and name.
    pub fn policy_states(&self) -> Vec<PolicyState> {
        let mut states: Vec<PolicyState> = self.policies.iter().map(PolicyState::from).collect();
        states.sort();
        states
    }
}

/// The full names of the policies that differ between two readings: changed, removed or new.
pub fn changed_policies(before: &[PolicyState], after: &[PolicyState]) -> Vec<String> {
    let removed_or_changed = before.iter().filter(|state| !after.contains(state));
    let new_or_changed = after.iter().filter(|state| !before.contains(state));
    let mut names: Vec<String> = removed_or_changed
        .chain(new_or_changed)
        .map(|state| state.policy.to_string())
        .collect();

    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{NetworkPolicy, RuleOrigins};
    use k8s_openapi::api::networking::v1::NetworkPolicySpec;

    fn policy(name: &str, types: &[&str]) -> NetworkPolicy {
        let spec = NetworkPolicySpec {
            policy_types: Some(types.iter().map(|kind| (*kind).to_owned()).collect()),
            ..Default::default()
        };
        NetworkPolicy {
            namespace: "shop".into(),
            name: name.into(),
            spec,
            origin: "shop.yaml:3".into(),
            rule_origins: RuleOrigins::default(),
        }
    }

    fn states(policies: Vec<NetworkPolicy>) -> Vec<PolicyState> {
        Inventory {
            policies: policies.into_iter().map(Policy::from).collect(),
            ..Default::default()
        }
        .policy_states()
    }

    #[test]
    fn the_state_of_a_policy_depends_on_its_spec_and_not_on_its_origin() {
        let mut moved = policy("web", &["Ingress"]);
        moved.origin = "other.yaml:9".into();
        assert_eq!(
            states(vec![policy("web", &["Ingress"])]),
            states(vec![moved])
        );
    }

    #[test]
    fn a_changed_cluster_wide_policy_is_named() {
        let with_priority = |priority: u16| {
            let spec = serde_json::json!({ "tier": "Admin", "priority": priority, "subject": { "namespaces": {} } });
            let object = serde_json::json!({ "kind": "ClusterNetworkPolicy", "metadata": { "name": "a" }, "spec": spec });
            let policy = crate::inventory::read_cluster_policy(&object).expect("a policy");
            Inventory {
                policies: vec![policy.into()],
                ..Inventory::default()
            }
            .policy_states()
        };
        assert_eq!(
            with_priority(1)[0].policy.to_string(),
            "ClusterNetworkPolicy a"
        );
        assert!(changed_policies(&with_priority(1), &with_priority(1)).is_empty());
        assert_eq!(
            changed_policies(&with_priority(1), &with_priority(2)),
            ["ClusterNetworkPolicy a"]
        );
    }

    #[test]
    fn each_policy_that_differs_between_two_readings_is_named_once() {
        let before = states(vec![
            policy("web", &["Ingress"]),
            policy("api", &["Ingress"]),
            policy("old", &[]),
        ]);
        let after = states(vec![
            policy("new", &[]),
            policy("web", &["Egress"]),
            policy("api", &["Ingress"]),
        ]);
        let expected = [
            "NetworkPolicy shop/new",
            "NetworkPolicy shop/old",
            "NetworkPolicy shop/web",
        ];
        assert_eq!(changed_policies(&before, &after), expected);
        assert!(changed_policies(&before, &before).is_empty());
    }
}
