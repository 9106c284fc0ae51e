//! Policies of the whole cluster in one shape: ClusterNetworkPolicy
//! (`policy.networking.k8s.io/v1alpha2`) and the two older kinds of the group, `AdminNetworkPolicy`
//! and `BaselineAdminNetworkPolicy` (v1alpha1).

use super::{Cidr, PolicyTier};
use crate::model::{PolicyKind, Transport};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// A policy of the whole cluster, its selectors, blocks and ports validated.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterPolicy {
    /// Its kind.
    pub kind: ClusterPolicyKind,
    /// Its name.
    pub name: String,
    /// Admin or Baseline.
    pub tier: PolicyTier,
    /// 0 to 1000; the lowest is asked first within its tier. A `BaselineAdminNetworkPolicy`, of
    /// which there is one, has 0.
    pub priority: u16,
    /// The pods that it applies to; never those that share their node's network.
    pub subject: PodScope,
    /// Rules for what comes to them, in order.
    pub ingress: Vec<ClusterRule>,
    /// Rules for what they send, in order.
    pub egress: Vec<ClusterRule>,
    /// `file:line` of a manifest; empty for a cluster's.
    pub origin: String,
    /// SHA-256 of its `spec` as JSON, hexadecimal.
    pub sha256: String,
}

/// Which kind of the API group a policy is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClusterPolicyKind {
    /// v1alpha2.
    ClusterNetworkPolicy,
    /// v1alpha1, tier Admin.
    AdminNetworkPolicy,
    /// v1alpha1, tier Baseline.
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

/// Pods of namespaces. An empty selector selects all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PodScope {
    /// Which namespaces.
    pub namespaces: LabelSelector,
    /// Which pods of them.
    pub pods: LabelSelector,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterRule {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// What happens to traffic that it matches.
    pub action: Action,
    /// The other end: any of these.
    pub peers: Vec<ClusterPeer>,
    /// Destination ports: any of these; `None` matches everything.
    pub ports: Option<Vec<ClusterPort>>,
    /// Fields that this version does not know. Such a rule fails closed: Accept matches nothing,
    /// Deny and Pass deny everything (`ClusterNetworkPolicyIngressPeer`).
    pub unknown: Vec<String>,
    /// `file:line` of a manifest; empty for a cluster's.
    pub origin: String,
}

/// What happens to traffic that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It is let through; no later policy is asked. v1alpha1 calls it Allow.
    Accept,
    /// It is dropped; no later policy is asked.
    Deny,
    /// The rest of the tier is skipped.
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

/// The other end.
#[derive(Debug, Clone, PartialEq)]
pub enum ClusterPeer {
    /// Pods, but not those that share their node's network.
    Pods(PodScope),
    /// Nodes, by their addresses. Egress only.
    Nodes(LabelSelector),
    /// Address blocks, pods' addresses included. Egress only.
    Networks(Vec<Cidr>),
    /// Names that only DNS knows. Egress and Accept only.
    DomainNames(Vec<String>),
}

/// Destination ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClusterPort {
    /// A range of one transport, both ends within it.
    Range(Transport, u16, u16),
    /// What the destination pod calls so, in whatever transport.
    Named(String),
}
