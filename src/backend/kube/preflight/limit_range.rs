//! `LimitRanges`: whether they admit a probe pod.
//!
//! A LimitRange first sets the resources that a container does not state, and then checks them
//! (`plugin/pkg/admission/limitranger`).

use super::quantity::thousandths;
use super::risk::{Code, Risk};
use super::{Candidate, ClusterObjects, namespace_of, object_name};
use crate::backend::kube::probe_pod;
use k8s_openapi::api::core::v1::{LimitRangeItem, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Quantities by resource.
pub(super) type Amounts = BTreeMap<String, Quantity>;

/// The resources of a container, after the namespace's `LimitRanges` have set those that it does
/// not state.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Resources {
    pub(super) requests: Amounts,
    pub(super) limits: Amounts,
}

/// The items of all `LimitRanges` of a namespace, with the LimitRange's name.
fn limit_items<'a>(
    namespace: &'a str,
    cluster: &'a ClusterObjects,
) -> impl Iterator<Item = (&'a str, &'a LimitRangeItem)> {
    cluster
        .limit_ranges
        .iter()
        .filter(move |range| range.metadata.namespace.as_deref() == Some(namespace))
        .flat_map(|range| {
            let name = range.metadata.name.as_deref().unwrap_or("?");
            let items = range.spec.iter().flat_map(|spec| &spec.limits);
            items.map(move |item| (name, item))
        })
}

/// The resources of each container of a pod, as admission checks and quotas count them.
pub(super) fn effective_resources(pod: &Pod, cluster: &ClusterObjects) -> Vec<Resources> {
    let items: Vec<&LimitRangeItem> = limit_items(namespace_of(pod), cluster)
        .map(|(_, item)| item)
        .filter(|item| item.type_ == "Container")
        .collect();
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .map(|container| {
            let stated = container.resources.clone().unwrap_or_default();
            let mut resources = Resources {
                requests: stated.requests.unwrap_or_default(),
                limits: stated.limits.unwrap_or_default(),
            };
            // The API server sets a missing request to the limit before LimitRanges apply.
            set_missing(&mut resources.requests, &resources.limits);
            for item in &items {
                set_missing(&mut resources.limits, item.default.iter().flatten());
                set_missing(
                    &mut resources.requests,
                    item.default_request.iter().flatten(),
                );
            }
            resources
        })
        .collect()
}

fn set_missing<'a>(
    amounts: &mut Amounts,
    defaults: impl IntoIterator<Item = (&'a String, &'a Quantity)>,
) {
    for (resource, amount) in defaults {
        amounts
            .entry(resource.clone())
            .or_insert_with(|| amount.clone());
    }
}

/// The risks of one pod by the namespace's `LimitRanges`.
pub(super) fn risks(candidate: &Candidate<'_>, cluster: &ClusterObjects, risks: &mut Vec<Risk>) {
    let pod = candidate.pod;
    let containers = effective_resources(pod, cluster);
    for (name, item) in limit_items(namespace_of(pod), cluster) {
        let object = object_name(Some(namespace_of(pod)), "LimitRange", Some(name));
        let checked = match item.type_.as_str() {
            "Container" => containers.clone(),
            "Pod" => vec![sum(&containers)],
            _ => continue,
        };
        let mut violations: Vec<String> = checked
            .iter()
            .flat_map(|resources| violations(item, resources))
            .collect();
        violations.dedup();
        for violation in violations {
            risks.push(Risk::refusal(
                pod,
                Code::LimitRange,
                object.clone(),
                format!("the API server would refuse the pod: {violation}"),
                format!(
                    "change the LimitRange to admit {}, or leave this source out",
                    probe_pod::resources_text()
                ),
            ));
        }

        let cpu_limit = item.default.as_ref().and_then(|default| default.get("cpu"));
        if let Some(limit) = cpu_limit.filter(|_| item.type_ == "Container")
            && !states_cpu_limit(pod)
        {
            risks.push(Risk::warning(
                pod,
                Code::LimitRangeCpu,
                object,
                format!(
                    "it gives the probe a CPU limit of {}: the checks of a probe that is throttled are unproven (probe-cpu-starved)",
                    limit.0
                ),
                "look for probe-cpu-starved in the results, and if there are any, remove the default CPU limit for the run",
            ));
        }
    }
}

/// Whether every container of a pod states a CPU limit.
fn states_cpu_limit(pod: &Pod) -> bool {
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.all(|container| {
        let resources = container.resources.as_ref();
        let limits = resources.and_then(|resources| resources.limits.as_ref());
        limits.is_some_and(|limits| limits.contains_key("cpu"))
    })
}

/// The resources of a pod, from those of its containers.
fn sum(containers: &[Resources]) -> Resources {
    Resources {
        requests: sum_amounts(containers, |resources| &resources.requests),
        limits: sum_amounts(containers, |resources| &resources.limits),
    }
}

/// The sums of the resources that every container states.
fn sum_amounts(containers: &[Resources], amounts: fn(&Resources) -> &Amounts) -> Amounts {
    let mut sums: BTreeMap<String, i128> = BTreeMap::new();
    for (resource, amount) in containers.iter().flat_map(amounts) {
        *sums.entry(resource.clone()).or_default() += thousandths(amount).unwrap_or_default();
    }
    sums.retain(|resource, _| {
        containers
            .iter()
            .all(|container| amounts(container).contains_key(resource))
    });
    sums.into_iter()
        .map(|(resource, sum)| (resource, Quantity(format!("{sum}m"))))
        .collect()
}

/// The rules of a LimitRange item that a container or pod breaks, as sentences.
fn violations(item: &LimitRangeItem, resources: &Resources) -> Vec<String> {
    let mut violations = Vec::new();
    let kind = item.type_.as_str();

    for (resource, min) in item.min.iter().flatten() {
        match resources.requests.get(resource) {
            None => {
                violations.push(format!(
                    "a {kind} must request at least {} of {resource}, and it requests none",
                    min.0
                ));
            }
            Some(request) if thousandths(request) < thousandths(min) => {
                violations.push(format!(
                    "a {kind} must request at least {} of {resource}, and it requests {}",
                    min.0, request.0
                ));
            }
            Some(_) => {}
        }
        if let Some(limit) = resources
            .limits
            .get(resource)
            .filter(|limit| thousandths(limit) < thousandths(min))
        {
            violations.push(format!(
                "a {kind} must have a limit of at least {} of {resource}, and its limit is {}",
                min.0, limit.0
            ));
        }
    }

    for (resource, max) in item.max.iter().flatten() {
        match resources.limits.get(resource) {
            None => {
                violations.push(format!(
                    "a {kind} must have a limit of at most {} of {resource}, and it has none",
                    max.0
                ));
            }
            Some(limit) if thousandths(limit) > thousandths(max) => {
                violations.push(format!(
                    "a {kind} may have a limit of at most {} of {resource}, and its limit is {}",
                    max.0, limit.0
                ));
            }
            Some(_) => {}
        }
    }

    for (resource, ratio) in item.max_limit_request_ratio.iter().flatten() {
        let (request, limit) = (
            resources.requests.get(resource),
            resources.limits.get(resource),
        );
        let (Some(request), Some(limit)) =
            (request.and_then(thousandths), limit.and_then(thousandths))
        else {
            violations.push(format!(
                "a {kind} must state request and limit of {resource}, for their ratio"
            ));
            continue;
        };
        if thousandths(ratio).is_some_and(|ratio| request == 0 || limit * 1_000 > ratio * request) {
            violations.push(format!(
                "a {kind}'s limit of {resource} may be at most {} times its request",
                ratio.0
            ));
        }
    }
    violations
}
