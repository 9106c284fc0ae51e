//! Kinds of policies, and references to single ones.

use serde::{Serialize, Serializer};

/// The kinds of policies that are read, in alphabetical order.
///
/// The names are Kubernetes' own. Spelling, API group, version and scope of a kind stand in
/// [`PolicyKind::definition`] and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, schemars::JsonSchema)]
pub enum PolicyKind {
    AdminNetworkPolicy,
    BaselineAdminNetworkPolicy,
    ClusterNetworkPolicy,
    NetworkPolicy,
}

/// Whether objects of a kind are in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// What the API server knows about a kind.
struct Definition {
    kind: &'static str,
    group: &'static str,
    version: &'static str,
    scope: Scope,
}

impl PolicyKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [
        Self::AdminNetworkPolicy,
        Self::BaselineAdminNetworkPolicy,
        Self::ClusterNetworkPolicy,
        Self::NetworkPolicy,
    ];

    const fn definition(self) -> Definition {
        match self {
            Self::AdminNetworkPolicy => Definition {
                kind: "AdminNetworkPolicy",
                group: "policy.networking.k8s.io",
                version: "v1alpha1",
                scope: Scope::Cluster,
            },
            Self::BaselineAdminNetworkPolicy => Definition {
                kind: "BaselineAdminNetworkPolicy",
                group: "policy.networking.k8s.io",
                version: "v1alpha1",
                scope: Scope::Cluster,
            },
            Self::ClusterNetworkPolicy => Definition {
                kind: "ClusterNetworkPolicy",
                group: "policy.networking.k8s.io",
                version: "v1alpha2",
                scope: Scope::Cluster,
            },
            Self::NetworkPolicy => Definition {
                kind: "NetworkPolicy",
                group: "networking.k8s.io",
                version: "v1",
                scope: Scope::Namespaced,
            },
        }
    }

    /// The kind as Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        self.definition().kind
    }

    /// Its API group.
    pub const fn group(self) -> &'static str {
        self.definition().group
    }

    /// The version of the group that is read.
    pub const fn version(self) -> &'static str {
        self.definition().version
    }

    /// Whether its objects are in a namespace.
    pub const fn scope(self) -> Scope {
        self.definition().scope
    }

    /// The kind with exactly this spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl std::fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for PolicyKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A reference to a policy; written `NetworkPolicy data/postgres` or `ClusterNetworkPolicy
/// deny-all`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema)]
pub struct PolicyRef {
    pub kind: PolicyKind,
    /// `None` for cluster-wide kinds.
    pub namespace: Option<String>,
    pub name: String,
}

impl PolicyRef {
    /// A NetworkPolicy.
    pub fn network(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind: PolicyKind::NetworkPolicy,
            namespace: Some(namespace.into()),
            name: name.into(),
        }
    }

    /// A cluster-wide policy of a kind.
    pub fn cluster(kind: PolicyKind, name: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: None,
            name: name.into(),
        }
    }
}

impl std::fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_written_with_its_kind_and_its_namespace_if_any() {
        let deny_all = PolicyRef::cluster(PolicyKind::ClusterNetworkPolicy, "deny-all");
        assert_eq!(deny_all.to_string(), "ClusterNetworkPolicy deny-all");
        let postgres = PolicyRef::network("data", "postgres");
        assert_eq!(postgres.to_string(), "NetworkPolicy data/postgres");
    }

    #[test]
    fn kinds_are_in_alphabetical_order_and_parse_as_they_are_written() {
        assert!(PolicyKind::ALL.is_sorted_by_key(|kind| kind.as_str()));
        assert!(PolicyKind::ALL.is_sorted());
        for kind in PolicyKind::ALL {
            assert_eq!(PolicyKind::parse(kind.as_str()), Some(kind));
        }
    }
}
