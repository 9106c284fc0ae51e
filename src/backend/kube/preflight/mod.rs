//! What probe pods would do to a cluster, and what the cluster would do to them: told before
//! anything is created.
//!
//! ```text
//!  objects around ──┐
//!  clones to create ├─ risks ─▶ Vec<Risk>   code, severity, object, reason, way out
//!  dry-run answers ─┘
//! ```
//!
//! A clone carries a workload's labels, and labels are how controllers, disruption budgets,
//! autoscalers and Services find pods. Each file holds one such mechanism with the rule of the
//! component that carries it out. All are pure, over [`Neighbours`]; only `look` asks the API
//! server.
//!
//! # Limitations
//!
//! Controllers that are not Kubernetes' own may take pods by labels too. They cannot be looked
//! into: a pod of such a controller is refused as a clone's original. Webhooks that do not take
//! part in dry runs are not seen.

mod adoption;
mod autoscaler;
mod budget;
mod dry_run;
mod ephemeral;
mod findings;
mod image;
mod placement;
mod policy;
mod quantity;
mod queries;
mod quota;
pub mod rights;
mod risk;
mod security;
mod selector;
mod service;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

pub(super) use dry_run::objection;
pub use dry_run::{Answer, Refusal};
pub use ephemeral::Entering;
pub use findings::Findings;
pub use queries::{Intended, look};
pub(super) use risk::full_name;
pub use risk::{Code, Risk, Severity};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    LimitRange, Namespace, Node, Pod, ReplicationController, ResourceQuota, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

/// A probe pod to create.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// As it would be sent to the API server.
    pub pod: &'a Pod,
    /// The pods whose identity it takes; empty for a pod of our own (a node's vantage, a canary).
    pub originals: Vec<&'a Pod>,
}

/// What was read of the cluster: all namespaces that candidates are in, and perhaps more.
#[derive(Debug, Clone, Default)]
pub struct Neighbours {
    /// Namespaces.
    pub namespaces: Vec<Namespace>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// Deployments; they adopt no pods, autoscalers name them.
    pub deployments: Vec<Deployment>,
    /// ReplicaSets.
    pub replica_sets: Vec<ReplicaSet>,
    /// `ReplicationControllers`.
    pub replication_controllers: Vec<ReplicationController>,
    /// StatefulSets.
    pub stateful_sets: Vec<StatefulSet>,
    /// DaemonSets.
    pub daemon_sets: Vec<DaemonSet>,
    /// Jobs.
    pub jobs: Vec<Job>,
    /// `PodDisruptionBudgets`.
    pub budgets: Vec<PodDisruptionBudget>,
    /// `HorizontalPodAutoscalers`.
    pub autoscalers: Vec<HorizontalPodAutoscaler>,
    /// Services.
    pub services: Vec<Service>,
    /// `ResourceQuotas`.
    pub quotas: Vec<ResourceQuota>,
    /// `LimitRanges`.
    pub limit_ranges: Vec<LimitRange>,
    /// Policies of any kind.
    pub policies: Vec<PolicyObject>,
}

/// A policy of any kind, as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyObject {
    /// `NetworkPolicy`, `ClusterNetworkPolicy`, ...
    pub kind: String,
    /// Its namespace; `None` for the cluster's.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// `spec`.
    pub spec: serde_json::Value,
}

/// What the user takes upon himself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowances {
    /// `--allow-hpa`: clones may be counted by autoscalers.
    pub autoscalers: bool,
}

/// Everything that speaks against creating these pods, refusals first; in each severity in the
/// order of the pods.
pub fn risks(
    candidates: &[Candidate<'_>],
    around: &Neighbours,
    allowances: Allowances,
) -> Vec<Risk> {
    let mut found = Vec::new();
    for candidate in candidates {
        adoption::risks(candidate, around, &mut found);
        budget::risks(candidate, around, &mut found);
        autoscaler::risks(candidate, around, allowances, &mut found);
        service::risks(candidate, around, &mut found);
        security::risks(candidate, around, &mut found);
        policy::risks(candidate, around, &mut found);
        placement::risks(candidate, around, &mut found);
        image::risks(candidate, around, &mut found);
        quota::limit_risks(candidate, around, &mut found);
    }
    quota::risks(candidates, around, &mut found);
    found.sort_by_key(|risk| risk.severity);
    found
}

/// What speaks against one pod by the API server's own answer to a dry run.
pub fn dry_run_risks(candidate: &Candidate<'_>, answer: &Answer) -> Vec<Risk> {
    let mut found = dry_run::risks(candidate, answer);
    found.sort_by_key(|risk| risk.severity);
    found
}

/// The namespace of an object that has one.
fn namespace_of(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// `NAMESPACE/Kind/NAME`, as suites name workloads.
fn object_name(namespace: Option<&str>, kind: &str, name: Option<&str>) -> String {
    let name = name.unwrap_or("?");
    match namespace {
        Some(namespace) => format!("{namespace}/{kind}/{name}"),
        None => format!("{kind}/{name}"),
    }
}
