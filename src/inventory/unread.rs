//! Policies of kinds that are not read: those of network plugins and meshes.

use super::Inventory;

/// At most so many policies are named in a warning.
const MAX_NAMED: usize = 8;

/// Kinds, besides those that end with `NetworkPolicy`, whose objects can deny traffic, with the end of
/// their API group; an empty end stands for every group.
const KINDS: [(&str, &str); 14] = [
    ("AuthorizationPolicy", ""),
    ("ClusterUserDefinedNetwork", "ovn.org"),
    ("EgressFirewall", "ovn.org"),
    ("HostEndpoint", "projectcalico.org"),
    ("MeshTrafficPermission", "kuma.io"),
    ("PeerAuthentication", "istio.io"),
    ("SecurityGroupPolicy", "k8s.aws"),
    ("SecurityPolicy", "vmware.com"),
    ("Server", "linkerd.io"),
    ("ServerAuthorization", "linkerd.io"),
    ("ServiceIntentions", "consul.hashicorp.com"),
    ("Sidecar", "istio.io"),
    ("TrafficPermission", "kuma.io"),
    ("UserDefinedNetwork", "ovn.org"),
];

/// A policy of a kind that is not read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnreadPolicy {
    /// The kind with its group, such as `CiliumNetworkPolicy (cilium.io)`.
    pub kind: String,
    /// Empty where it has none.
    pub namespace: String,
    pub name: String,
    /// `file:line` of a manifest.
    pub origin: String,
}

impl std::fmt::Display for UnreadPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kind,
            namespace,
            name,
            origin,
        } = self;
        if namespace.is_empty() {
            write!(f, "{kind} {name} ({origin})")
        } else {
            write!(f, "{kind} {namespace}/{name} ({origin})")
        }
    }
}

/// Whether objects of a kind can deny traffic, though the kind is not read. Staged policies are not
/// enforced.
pub(super) fn is_unread_policy(group: &str, kind: &str) -> bool {
    let is_listed = |(known, end): &(&str, &str)| *known == kind && group.ends_with(end);
    (kind.ends_with("NetworkPolicy") && !kind.starts_with("Staged")) || KINDS.iter().any(is_listed)
}

impl Inventory {
    /// The warning that policies are not read and can deny what is shown as allowed; `None` where
    /// there are none.
    pub fn unread_policies_warning(&self) -> Option<String> {
        let policies = &self.unread_policies;
        if policies.is_empty() {
            return None;
        }
        let mut named: Vec<String> = policies
            .iter()
            .take(MAX_NAMED)
            .map(ToString::to_string)
            .collect();
        if policies.len() > MAX_NAMED {
            named.push(format!("and {} more", policies.len() - MAX_NAMED));
        }
        Some(format!(
            "policies of kinds that are not read can deny what is shown as allowed: {}",
            named.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_can_deny_are_known_by_kind_and_group() {
        for (group, kind) in [
            ("cilium.io", "CiliumNetworkPolicy"),
            ("cilium.io", "CiliumClusterwideNetworkPolicy"),
            ("crd.projectcalico.org", "NetworkPolicy"),
            ("projectcalico.org", "GlobalNetworkPolicy"),
            ("networking.k8s.aws", "ClusterNetworkPolicy"),
            ("crd.antrea.io", "ClusterNetworkPolicy"),
            ("k8s.cni.cncf.io", "MultiNetworkPolicy"),
            ("security.istio.io", "AuthorizationPolicy"),
            ("policy.linkerd.io", "AuthorizationPolicy"),
            ("policy.linkerd.io", "Server"),
            ("k8s.ovn.org", "UserDefinedNetwork"),
            ("k8s.ovn.org", "EgressFirewall"),
        ] {
            assert!(is_unread_policy(group, kind), "{kind} ({group})");
        }
        for (group, kind) in [
            ("", "ConfigMap"),
            ("projectcalico.org", "StagedNetworkPolicy"),
            ("networking.istio.io", "VirtualService"),
            ("example.com", "Server"),
            ("policy", "PodDisruptionBudget"),
        ] {
            assert!(!is_unread_policy(group, kind), "{kind} ({group})");
        }
    }
}
