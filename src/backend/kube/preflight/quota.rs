//! `ResourceQuotas`: whether they have room for the probe pods.
//!
//! A quota counts the resources that `LimitRanges` have completed
//! (`pkg/quota/v1/evaluator/core/pods.go`). A probe pod has an active deadline, so quotas with the
//! scope `Terminating` count it, and those with `NotTerminating` do not.

use super::limit_range::{Amounts, Resources, effective_resources};
use super::quantity::thousandths;
use super::risk::{Code, Risk};
use super::{Candidate, ClusterObjects, namespace_of, object_name};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, ScopedResourceSelectorRequirement};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The risks of all pods of a namespace together, by its quotas.
pub(super) fn risks(candidates: &[Candidate<'_>], cluster: &ClusterObjects, risks: &mut Vec<Risk>) {
    for quota in &cluster.quotas {
        let namespace = quota.metadata.namespace.as_deref().unwrap_or_default();
        let pods: Vec<&Pod> = candidates
            .iter()
            .map(|candidate| candidate.pod)
            .filter(|pod| namespace_of(pod) == namespace && is_in_scope(quota, pod))
            .collect();
        if pods.is_empty() {
            continue;
        }

        let resources: Vec<Vec<Resources>> = pods
            .iter()
            .map(|pod| effective_resources(pod, cluster))
            .collect();
        let hard = quota
            .spec
            .iter()
            .flat_map(|spec| spec.hard.iter().flatten());
        risks.extend(hard.filter_map(|(resource, hard)| {
            resource_risk(quota, resource, hard, &pods, &resources)
        }));
    }
}

/// The risk that a quota refuses the pods for one of its resources. It is attributed to the first
/// pod.
fn resource_risk(
    quota: &ResourceQuota,
    resource: &str,
    hard: &Quantity,
    pods: &[&Pod],
    resources: &[Vec<Resources>],
) -> Option<Risk> {
    let first = pods.first()?;
    let object = object_name(
        quota.metadata.namespace.as_deref(),
        "ResourceQuota",
        quota.metadata.name.as_deref(),
    );
    let needed = match usage(resource, resources)? {
        Usage::Needed(needed) => needed,
        Usage::NotStated => {
            return Some(Risk::refusal(
                first,
                Code::QuotaRequiresLimit,
                object,
                format!(
                    "it counts {resource}, and refuses pods that do not state it; probe pods do not"
                ),
                "give the namespace a LimitRange with a default for it, or leave this source out",
            ));
        }
    };

    let used = quota
        .status
        .as_ref()
        .and_then(|status| status.used.as_ref()?.get(resource));
    let used_amount = used.and_then(thousandths).unwrap_or_default();
    if used_amount + needed <= thousandths(hard)? {
        return None;
    }
    Some(Risk::refusal(
        first,
        Code::QuotaExceeded,
        object,
        format!(
            "{} probe pods need {} of {resource}; {} of {} are in use",
            pods.len(),
            show(needed),
            used.map_or("0", |used| used.0.as_str()),
            hard.0
        ),
        "raise the quota for the run, select fewer checks (--only, --tag), or use `spread: one`",
    ))
}

/// The amount of a quota's resource that pods use.
enum Usage {
    /// In thousandths.
    Needed(i128),
    /// A container does not state the resource.
    NotStated,
}

/// The amount of a quota's resource that all pods use together; `None` if pods do not use it.
fn usage(resource: &str, pods: &[Vec<Resources>]) -> Option<Usage> {
    match resource {
        "pods" | "count/pods" => Some(Usage::Needed(pods.len() as i128 * 1_000)),
        // The owner Job of the run.
        "count/jobs.batch" => Some(Usage::Needed(1_000)),
        "cpu" | "memory" => Some(sum(pods, requests, resource)),
        other => match other.split_once('.')? {
            ("requests", resource @ ("cpu" | "memory")) => Some(sum(pods, requests, resource)),
            ("limits", resource @ ("cpu" | "memory")) => Some(sum(pods, limits, resource)),
            _ => None,
        },
    }
}

fn requests(resources: &Resources) -> &Amounts {
    &resources.requests
}

fn limits(resources: &Resources) -> &Amounts {
    &resources.limits
}

fn sum(pods: &[Vec<Resources>], amounts: fn(&Resources) -> &Amounts, resource: &str) -> Usage {
    let containers = pods.iter().flatten();
    let sum: Option<i128> = containers
        .map(|container| amounts(container).get(resource).and_then(thousandths))
        .sum();
    sum.map_or(Usage::NotStated, Usage::Needed)
}

/// Thousandths as a Kubernetes quantity.
fn show(thousandths: i128) -> String {
    if thousandths % 1_000 == 0 {
        (thousandths / 1_000).to_string()
    } else {
        format!("{thousandths}m")
    }
}

/// Whether a pod is in all scopes of a quota (`podMatchesScopeFunc`).
fn is_in_scope(quota: &ResourceQuota, pod: &Pod) -> bool {
    let Some(spec) = &quota.spec else {
        return false;
    };
    let mut scopes = spec.scopes.iter().flatten();
    let mut expressions = spec
        .scope_selector
        .iter()
        .flat_map(|selector| selector.match_expressions.iter().flatten());
    scopes.all(|scope| has_scope(pod, scope))
        && expressions.all(|expression| matches_expression(pod, expression))
}

fn has_scope(pod: &Pod, scope: &str) -> bool {
    let spec = pod.spec.clone().unwrap_or_default();
    let is_best_effort = spec.containers.iter().all(|container| {
        let resources = container.resources.clone().unwrap_or_default();
        resources.requests.unwrap_or_default().is_empty()
            && resources.limits.unwrap_or_default().is_empty()
    });
    match scope {
        "Terminating" => spec.active_deadline_seconds.is_some(),
        "NotTerminating" => spec.active_deadline_seconds.is_none(),
        "BestEffort" => is_best_effort,
        "NotBestEffort" => !is_best_effort,
        "PriorityClass" => spec.priority_class_name.is_some(),
        // CrossNamespacePodAffinity: probe pods have no affinity to other pods.
        _ => false,
    }
}

fn matches_expression(pod: &Pod, expression: &ScopedResourceSelectorRequirement) -> bool {
    if expression.scope_name != "PriorityClass" {
        return has_scope(pod, &expression.scope_name) == (expression.operator != "DoesNotExist");
    }
    let class = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.priority_class_name.clone());
    let is_listed = class.as_ref().is_some_and(|class| {
        expression
            .values
            .iter()
            .flatten()
            .any(|value| value == class)
    });
    match expression.operator.as_str() {
        "In" => is_listed,
        "NotIn" => !is_listed,
        "Exists" => class.is_some(),
        "DoesNotExist" => class.is_none(),
        _ => true,
    }
}
