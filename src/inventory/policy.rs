//! Policies of every kind, as one type.

use super::{Cidr, ClusterPeer, ClusterPolicy, Inventory, spec_digest};
use crate::model::{PolicyKind, PolicyRef};
use k8s_openapi::api::networking::v1::NetworkPolicySpec;

/// A policy of any kind, its selectors, blocks and ports validated.
#[derive(Debug, Clone, PartialEq)]
pub enum Policy {
    Network(NetworkPolicy),
    /// A cluster-wide policy of any kind.
    Cluster(ClusterPolicy),
}

impl Policy {
    /// Its kind.
    pub fn kind(&self) -> PolicyKind {
        match self {
            Self::Network(_) => PolicyKind::NetworkPolicy,
            Self::Cluster(policy) => policy.kind.into(),
        }
    }

    /// Its namespace; `None` for a cluster-wide policy.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Network(policy) => Some(&policy.namespace),
            Self::Cluster(_) => None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Network(policy) => &policy.name,
            Self::Cluster(policy) => &policy.name,
        }
    }

    /// A reference to it.
    pub fn reference(&self) -> PolicyRef {
        PolicyRef {
            kind: self.kind(),
            namespace: self.namespace().map(str::to_owned),
            name: self.name().to_owned(),
        }
    }

    /// `NetworkPolicy data/postgres` or `ClusterNetworkPolicy deny-all`.
    pub fn full_name(&self) -> String {
        self.reference().to_string()
    }

    /// `file:line` of a manifest; empty for a cluster's.
    pub fn origin(&self) -> &str {
        match self {
            Self::Network(policy) => &policy.origin,
            Self::Cluster(policy) => &policy.origin,
        }
    }

    /// SHA-256 of its `spec` as JSON, hexadecimal.
    pub fn digest(&self) -> String {
        match self {
            Self::Network(policy) => spec_digest(&policy.spec),
            Self::Cluster(policy) => policy.sha256.clone(),
        }
    }

    /// When it is asked.
    pub fn tier(&self) -> PolicyTier {
        match self {
            Self::Network(_) => PolicyTier::NetworkPolicy,
            Self::Cluster(policy) => policy.tier,
        }
    }

    /// Every address block that it names, in either direction, exceptions included.
    pub fn blocks(&self) -> Vec<Cidr> {
        match self {
            Self::Network(policy) => blocks_of_network_policy(&policy.spec),
            Self::Cluster(policy) => {
                let rules = policy.ingress.iter().chain(&policy.egress);
                rules
                    .flat_map(|rule| &rule.peers)
                    .flat_map(ClusterPeer::blocks)
                    .copied()
                    .collect()
            }
        }
    }

    /// The NetworkPolicy, if it is one.
    pub fn as_network(&self) -> Option<&NetworkPolicy> {
        match self {
            Self::Network(policy) => Some(policy),
            Self::Cluster(_) => None,
        }
    }

    /// The cluster-wide policy, if it is one.
    pub fn as_cluster(&self) -> Option<&ClusterPolicy> {
        match self {
            Self::Network(_) => None,
            Self::Cluster(policy) => Some(policy),
        }
    }
}

fn blocks_of_network_policy(spec: &NetworkPolicySpec) -> Vec<Cidr> {
    let from = spec
        .ingress
        .iter()
        .flatten()
        .flat_map(|rule| rule.from.iter().flatten());
    let to = spec
        .egress
        .iter()
        .flatten()
        .flat_map(|rule| rule.to.iter().flatten());
    from.chain(to)
        .filter_map(|peer| peer.ip_block.as_ref())
        .flat_map(|block| std::iter::once(&block.cidr).chain(block.except.iter().flatten()))
        .filter_map(|text| Cidr::parse(text).ok())
        .collect()
}

impl From<NetworkPolicy> for Policy {
    fn from(policy: NetworkPolicy) -> Self {
        Self::Network(policy)
    }
}

impl From<ClusterPolicy> for Policy {
    fn from(policy: ClusterPolicy) -> Self {
        Self::Cluster(policy)
    }
}

/// Policies, one list a kind of [`Policy`].
///
/// For code that treats the kinds apart: taking this apart with all its fields makes the compiler
/// name the place when a kind is added.
#[derive(Debug, Clone, Default)]
pub struct PoliciesByKind<'a> {
    pub network: Vec<&'a NetworkPolicy>,
    pub cluster: Vec<&'a ClusterPolicy>,
}

impl Inventory {
    /// The policies, one list a kind.
    pub fn policies_by_kind(&self) -> PoliciesByKind<'_> {
        let mut by_kind = PoliciesByKind::default();
        for policy in &self.policies {
            match policy {
                Policy::Network(policy) => by_kind.network.push(policy),
                Policy::Cluster(policy) => by_kind.cluster.push(policy),
            }
        }
        by_kind
    }

    /// The NetworkPolicies among the policies.
    pub fn network_policies(&self) -> impl Iterator<Item = &NetworkPolicy> {
        self.policies.iter().filter_map(Policy::as_network)
    }

    /// The cluster-wide policies among the policies.
    pub fn cluster_policies(&self) -> impl Iterator<Item = &ClusterPolicy> {
        self.policies.iter().filter_map(Policy::as_cluster)
    }
}

/// The tier of a policy: Admin is asked first, then the NetworkPolicies, then Baseline; what no
/// tier decides is allowed (ClusterNetworkPolicySpec.tier of policy.networking.k8s.io/v1alpha2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyTier {
    /// Cluster-wide policies that are asked before the NetworkPolicies.
    Admin,
    /// NetworkPolicies: they isolate the pods that they select, so what none of them admits is
    /// denied.
    NetworkPolicy,
    /// Cluster-wide policies for pods that no NetworkPolicy isolates.
    Baseline,
}

impl std::fmt::Display for PolicyTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Admin => "Admin",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Baseline => "Baseline",
        })
    }
}

/// A NetworkPolicy.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkPolicy {
    pub namespace: String,
    pub name: String,
    /// As the API gives it; defaults not applied.
    pub spec: NetworkPolicySpec,
    /// `file:line` of a manifest; empty for a cluster's.
    pub origin: String,
    pub rule_origins: RuleOrigins,
}

/// `file:line` of each rule of a NetworkPolicy, by the rule's index; empty for a cluster's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleOrigins {
    pub ingress: Vec<String>,
    pub egress: Vec<String>,
}
