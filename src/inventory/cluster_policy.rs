//! Cluster-wide policies as one type: `ClusterNetworkPolicy`
//! (`policy.networking.k8s.io/v1alpha2`) and the two older kinds of the group, `AdminNetworkPolicy`
//! and `BaselineAdminNetworkPolicy` (v1alpha1).

use super::{Cidr, PolicyTier};
use crate::model::{PolicyKind, Transport};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// A cluster-wide policy, its selectors, blocks and ports validated.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterPolicy {
    pub kind: ClusterPolicyKind,
    pub name: String,
    /// Admin or Baseline.
    pub tier: PolicyTier,
    /// 0 to 1000; within a tier the policy with the lowest number is asked first. 0 for a
    /// `BaselineAdminNetworkPolicy`, of which a cluster has one at most.
    pub priority: u16,
    /// The pods that it applies to; never those that share their node's network.
    pub subject: PodScope,
    /// Rules for the connections to the subject, in order.
    pub ingress: Vec<ClusterRule>,
    /// Rules for the connections from the subject, in order.
    pub egress: Vec<ClusterRule>,
    /// `file:line` of a manifest; empty for a cluster's.
    pub origin: String,
    /// SHA-256 of its `spec` as JSON, hexadecimal.
    pub sha256: String,
}

/// The kinds of cluster-wide policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClusterPolicyKind {
    /// v1alpha2, of either tier.
    ClusterNetworkPolicy,
    /// v1alpha1, of tier Admin.
    AdminNetworkPolicy,
    /// v1alpha1, of tier Baseline.
    BaselineAdminNetworkPolicy,
}

impl ClusterPolicyKind {
    /// The cluster-wide kind; `None` for kinds that are in a namespace.
    pub fn of(kind: PolicyKind) -> Option<Self> {
        match kind {
            PolicyKind::ClusterNetworkPolicy => Some(Self::ClusterNetworkPolicy),
            PolicyKind::AdminNetworkPolicy => Some(Self::AdminNetworkPolicy),
            PolicyKind::BaselineAdminNetworkPolicy => Some(Self::BaselineAdminNetworkPolicy),
            PolicyKind::NetworkPolicy => None,
        }
    }
}

impl From<ClusterPolicyKind> for PolicyKind {
    fn from(kind: ClusterPolicyKind) -> Self {
        match kind {
            ClusterPolicyKind::ClusterNetworkPolicy => Self::ClusterNetworkPolicy,
            ClusterPolicyKind::AdminNetworkPolicy => Self::AdminNetworkPolicy,
            ClusterPolicyKind::BaselineAdminNetworkPolicy => Self::BaselineAdminNetworkPolicy,
        }
    }
}

/// Pods, by the labels of their namespaces and their own. An empty selector selects all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PodScope {
    pub namespaces: LabelSelector,
    pub pods: LabelSelector,
}

/// A rule of a cluster-wide policy.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterRule {
    pub name: Option<String>,
    pub action: Action,
    /// The other end of the connection: any of these.
    pub peers: Vec<ClusterPeer>,
    /// Destination ports: any of these; `None` matches every port and protocol.
    pub ports: Option<Vec<ClusterPort>>,
    /// Names of the fields that this version does not know. A rule with such a field fails closed:
    /// Accept matches nothing, Deny and Pass deny everything (`ClusterNetworkPolicyIngressPeer`).
    pub unknown: Vec<String>,
    /// `file:line` of a manifest; empty for a cluster's.
    pub origin: String,
}

/// The action of a rule on the connections that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Allow; no later policy is asked. v1alpha1 calls it Allow.
    Accept,
    /// Deny; no later policy is asked.
    Deny,
    /// Skip the rest of the tier.
    Pass,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Accept => "Accept",
            Self::Deny => "Deny",
            Self::Pass => "Pass",
        })
    }
}

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum ClusterPeer {
    /// Pods, except those that share their node's network.
    Pods(PodScope),
    /// Addresses of nodes. Egress only.
    Nodes(LabelSelector),
    /// Address blocks, which contain addresses of pods too. Egress only.
    Networks(Vec<Cidr>),
    /// DNS names. Egress and Accept only.
    DomainNames(Vec<String>),
}

impl ClusterPeer {
    /// Its address blocks.
    pub(super) fn blocks(&self) -> &[Cidr] {
        match self {
            Self::Networks(blocks) => blocks,
            Self::Pods(_) | Self::Nodes(_) | Self::DomainNames(_) => &[],
        }
    }
}

/// A destination port or a range of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClusterPort {
    /// The first and the last port of a range, both included.
    Range(Transport, u16, u16),
    /// The name of a container's port on the destination pod, of any transport.
    Named(String),
}
