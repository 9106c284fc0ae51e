//! Where a run takes place and under which policies, as whoever reads its report later wants to
//! know it.

use super::{Inventory, Policy};
use crate::model::PolicyRef;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Where a run takes place. What a backend cannot know, or what does not exist there, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentInfo {
    /// The uid of the namespace `kube-system`, which stands for the cluster.
    pub cluster_uid: Option<String>,
    /// The API server's address.
    pub server: Option<String>,
    /// The API server's version.
    pub version: Option<String>,
    /// Who runs it, as the API server knows them.
    pub operator: Option<String>,
    /// The images that probes ran, as the cluster names what it ran; none before the end of a run.
    pub probe_images: Vec<String>,
    /// The policies in force, by kind, namespace and name.
    pub policies: Vec<PolicyState>,
}

/// The state of one policy when it was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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

/// The digest of a policy's `spec`.
pub fn spec_digest(spec: &impl Serialize) -> String {
    // The API's types are trees of strings, numbers and lists, which serde_json always takes.
    let json = serde_json::to_vec(spec).unwrap_or_default();
    Sha256::digest(&json)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Inventory {
    /// The policies as they are now, by kind, namespace and name.
    pub fn policy_states(&self) -> Vec<PolicyState> {
        let mut states: Vec<PolicyState> = self.policies.iter().map(PolicyState::from).collect();
        states.sort();
        states
    }
}

/// The policies that are not the same in two readings, by name: changed, gone or new.
pub fn changed_policies(before: &[PolicyState], after: &[PolicyState]) -> Vec<String> {
    let gone_or_changed = before.iter().filter(|state| !after.contains(state));
    let new_or_changed = after.iter().filter(|state| !before.contains(state));
    let mut names: Vec<String> = gone_or_changed
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
    fn a_policy_is_known_by_its_spec_and_not_by_where_it_was_written() {
        let mut moved = policy("web", &["Ingress"]);
        moved.origin = "other.yaml:9".into();
        assert_eq!(
            states(vec![policy("web", &["Ingress"])]),
            states(vec![moved])
        );
    }

    #[test]
    fn policies_of_the_whole_cluster_are_among_them() {
        let of = |priority: u16| {
            let spec = serde_json::json!({ "tier": "Admin", "priority": priority, "subject": { "namespaces": {} } });
            let object = serde_json::json!({ "kind": "ClusterNetworkPolicy", "metadata": { "name": "a" }, "spec": spec });
            let policy = crate::inventory::read_cluster_policy(&object).expect("a policy");
            Inventory {
                policies: vec![policy.into()],
                ..Inventory::default()
            }
            .policy_states()
        };
        assert_eq!(of(1)[0].policy.to_string(), "ClusterNetworkPolicy a");
        assert!(changed_policies(&of(1), &of(1)).is_empty());
        assert_eq!(changed_policies(&of(1), &of(2)), ["ClusterNetworkPolicy a"]);
    }

    #[test]
    fn what_differs_between_two_readings_is_named_once() {
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
