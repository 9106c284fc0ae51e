//! Preflight: the risks of probe pods, determined before any is created.
//!
//! ```text
//!  cluster objects  ──┐
//!  clones to create ──┼─ risks ─▶ Vec<Risk>   code, severity, object, reason, remedy
//!  dry-run responses ─┘
//! ```
//!
//! A clone has a workload's labels, by which controllers, disruption budgets, autoscalers and
//! Services select pods. Each file holds one such mechanism, with the rule of the component that
//! implements it. All are pure functions of [`ClusterObjects`]; only `queries` calls the API
//! server.
//!
//! # Limitations
//!
//! Controllers that are not part of Kubernetes may adopt pods by labels too, by rules that are not
//! known: a source whose pod belongs to such a controller is refused. Changes by webhooks that do
//! not support dry runs are found only after a pod's creation.

mod adoption;
mod autoscaler;
mod budget;
mod dry_run;
mod ephemeral;
mod findings;
mod image;
mod limit_range;
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
mod vendor_policies;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

pub(super) use dry_run::objection;
pub use dry_run::{Answer, Refusal};
pub use ephemeral::EphemeralTarget;
pub use findings::Findings;
pub use queries::{NewPod, inspect};
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
    /// The pod as it would be sent to the API server.
    pub pod: &'a Pod,
    /// The pods whose identity it has; empty for node probes, reference pods and canaries.
    pub originals: Vec<&'a Pod>,
}

/// The objects that were read from the cluster: at least those of the namespaces of all candidates.
#[derive(Debug, Clone, Default)]
pub struct ClusterObjects {
    pub namespaces: Vec<Namespace>,
    pub nodes: Vec<Node>,
    /// They adopt no pods, but autoscalers name them.
    pub deployments: Vec<Deployment>,
    pub replica_sets: Vec<ReplicaSet>,
    pub replication_controllers: Vec<ReplicationController>,
    pub stateful_sets: Vec<StatefulSet>,
    pub daemon_sets: Vec<DaemonSet>,
    pub jobs: Vec<Job>,
    pub budgets: Vec<PodDisruptionBudget>,
    pub autoscalers: Vec<HorizontalPodAutoscaler>,
    pub services: Vec<Service>,
    pub quotas: Vec<ResourceQuota>,
    pub limit_ranges: Vec<LimitRange>,
    /// Policies of any kind.
    pub policies: Vec<PolicyObject>,
}

/// A policy of any kind, as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyObject {
    /// `NetworkPolicy`, `ClusterNetworkPolicy`, ...
    pub kind: String,
    /// `None` for a cluster-scoped policy.
    pub namespace: Option<String>,
    pub name: String,
    pub spec: serde_json::Value,
}

/// The risks that the user accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowances {
    /// `--allow-hpa`: autoscalers may count clones.
    pub autoscalers: bool,
}

/// The risks of creating these pods: refusals first, and within a severity in the order of the
/// pods.
pub fn risks(
    candidates: &[Candidate<'_>],
    cluster: &ClusterObjects,
    allowances: Allowances,
) -> Vec<Risk> {
    let mut risks = Vec::new();
    for candidate in candidates {
        adoption::risks(candidate, cluster, &mut risks);
        budget::risks(candidate, cluster, &mut risks);
        autoscaler::risks(candidate, cluster, allowances, &mut risks);
        service::risks(candidate, cluster, &mut risks);
        security::risks(candidate, cluster, &mut risks);
        policy::risks(candidate, cluster, &mut risks);
        placement::risks(candidate, cluster, &mut risks);
        image::risks(candidate, cluster, &mut risks);
        limit_range::risks(candidate, cluster, &mut risks);
    }

    quota::risks(candidates, cluster, &mut risks);
    risks.sort_by_key(|risk| risk.severity);
    risks
}

/// The risks of one pod that the API server's answer to a dry run shows, refusals first.
pub fn dry_run_risks(candidate: &Candidate<'_>, answer: &Answer) -> Vec<Risk> {
    let mut risks = dry_run::risks(candidate, answer);
    risks.sort_by_key(|risk| risk.severity);
    risks
}

/// The namespace of a pod.
fn namespace_of(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// `NAMESPACE/KIND/NAME`, as suites name workloads; `KIND/NAME` for cluster-scoped objects.
fn object_name(namespace: Option<&str>, kind: &str, name: Option<&str>) -> String {
    let name = name.unwrap_or("?");
    match namespace {
        Some(namespace) => format!("{namespace}/{kind}/{name}"),
        None => format!("{kind}/{name}"),
    }
}
