//! `ResourceQuotas` and `LimitRanges`: whether there is room, and whether the pod states what they
//! demand.
//!
//! A LimitRange first fills in what a container leaves out, then judges it
//! (`plugin/pkg/admission/limitranger`); a quota counts what comes out
//! (`pkg/quota/v1/evaluator/core/pods.go`). A probe has a deadline, so it is counted by quotas of
//! scope `Terminating` and not by those of `NotTerminating`.

use super::quantity::thousandths;
use super::risk::{Code, Finding, Severity};
use super::{Candidate, Neighbours, Risk, namespace_of, object_name};
use k8s_openapi::api::core::v1::{
    LimitRangeItem, Pod, ResourceQuota, ScopedResourceSelectorRequirement,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

type Amounts = BTreeMap<String, Quantity>;

/// One container's resources, after the namespace's `LimitRanges` have filled them in.
#[derive(Debug, Clone, Default, PartialEq)]
struct Resources {
    requests: Amounts,
    limits: Amounts,
}

fn limit_items<'a>(
    namespace: &'a str,
    around: &'a Neighbours,
) -> impl Iterator<Item = (&'a str, &'a LimitRangeItem)> {
    around
        .limit_ranges
        .iter()
        .filter(move |range| range.metadata.namespace.as_deref() == Some(namespace))
        .flat_map(|range| {
            let name = range.metadata.name.as_deref().unwrap_or("?");
            range
                .spec
                .iter()
                .flat_map(|spec| &spec.limits)
                .map(move |item| (name, item))
        })
}

/// Every container's resources as they will be judged and counted.
fn filled_in(pod: &Pod, around: &Neighbours) -> Vec<Resources> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .map(|container| {
            let stated = container.resources.clone().unwrap_or_default();
            let mut own = Resources {
                requests: stated.requests.unwrap_or_default(),
                limits: stated.limits.unwrap_or_default(),
            };
            // A limit without a request is the request too, before any LimitRange is asked.
            for (resource, limit) in &own.limits {
                own.requests
                    .entry(resource.clone())
                    .or_insert_with(|| limit.clone());
            }
            for (_, item) in
                limit_items(namespace_of(pod), around).filter(|(_, item)| item.type_ == "Container")
            {
                for (resource, limit) in item.default.iter().flatten() {
                    own.limits
                        .entry(resource.clone())
                        .or_insert_with(|| limit.clone());
                }
                for (resource, request) in item.default_request.iter().flatten() {
                    own.requests
                        .entry(resource.clone())
                        .or_insert_with(|| request.clone());
                }
            }
            own
        })
        .collect()
}

/// What the namespace's `LimitRanges` say of one pod.
pub(super) fn limit_risks(candidate: &Candidate<'_>, around: &Neighbours, found: &mut Vec<Risk>) {
    let pod = candidate.pod;
    let containers = filled_in(pod, around);
    let states_cpu_limit = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .all(|container| {
            container
                .resources
                .as_ref()
                .and_then(|it| it.limits.as_ref())
                .is_some_and(|limits| limits.contains_key("cpu"))
        });
    for (name, item) in limit_items(namespace_of(pod), around) {
        let object = || object_name(Some(namespace_of(pod)), "LimitRange", Some(name));
        let subjects = match item.type_.as_str() {
            "Container" => containers.clone(),
            "Pod" => vec![summed(&containers)],
            _ => continue,
        };
        let mut faults: Vec<String> = subjects
            .iter()
            .flat_map(|subject| breaks(item, subject))
            .collect();
        faults.dedup();
        for fault in faults {
            let finding = Finding {
                pod,
                code: Code::LimitRange,
                severity: Severity::Refuse,
                object: object(),
            };
            found.push(finding.because(
                format!("the API server would refuse the pod: {fault}"),
                "let the LimitRange admit 10m of CPU and 16Mi of memory, or leave this source out",
            ));
        }
        let throttles = item.type_ == "Container"
            && item
                .default
                .iter()
                .flatten()
                .any(|(resource, _)| resource == "cpu");
        if throttles && !states_cpu_limit {
            let limit = item
                .default
                .iter()
                .flatten()
                .find(|(resource, _)| *resource == "cpu");
            let limit = limit.map_or_else(String::new, |(_, limit)| limit.0.clone());
            let finding = Finding {
                pod,
                code: Code::LimitRangeCpu,
                severity: Severity::Warn,
                object: object(),
            };
            found.push(finding.because(
                format!("it gives the probe a CPU limit of {limit}: a probe that is throttled is `starved`, and what it saw is unproven"),
                "watch for `starved` in the results",
            ));
        }
    }
}

fn summed(containers: &[Resources]) -> Resources {
    let total = |pick: fn(&Resources) -> &Amounts| {
        let mut sums: BTreeMap<String, i128> = BTreeMap::new();
        for (resource, amount) in containers.iter().flat_map(pick) {
            *sums.entry(resource.clone()).or_default() += thousandths(amount).unwrap_or_default();
        }
        // A resource counts as stated only where every container states it.
        sums.retain(|resource, _| containers.iter().all(|it| pick(it).contains_key(resource)));
        sums.into_iter()
            .map(|(resource, sum)| (resource, Quantity(format!("{sum}m"))))
            .collect()
    };
    Resources {
        requests: total(|it| &it.requests),
        limits: total(|it| &it.limits),
    }
}

/// What one item of a LimitRange holds against a container, or a pod.
fn breaks(item: &LimitRangeItem, subject: &Resources) -> Vec<String> {
    let mut faults = Vec::new();
    let kind = item.type_.as_str();
    for (resource, least) in item.min.iter().flatten() {
        match subject.requests.get(resource) {
            None => {
                faults.push(format!(
                    "a {kind} must request at least {} of {resource}, and it requests none",
                    least.0
                ));
            }
            Some(request) if thousandths(request) < thousandths(least) => {
                faults.push(format!(
                    "a {kind} must request at least {} of {resource}, and it requests {}",
                    least.0, request.0
                ));
            }
            Some(_) => {}
        }
        if let Some(limit) = subject
            .limits
            .get(resource)
            .filter(|limit| thousandths(limit) < thousandths(least))
        {
            faults.push(format!(
                "a {kind} must be allowed at least {} of {resource}, and its limit is {}",
                least.0, limit.0
            ));
        }
    }
    for (resource, most) in item.max.iter().flatten() {
        match subject.limits.get(resource) {
            None => {
                faults.push(format!(
                    "a {kind} must have a limit of at most {} of {resource}, and it has none",
                    most.0
                ));
            }
            Some(limit) if thousandths(limit) > thousandths(most) => {
                faults.push(format!(
                    "a {kind} may have at most {} of {resource}, and its limit is {}",
                    most.0, limit.0
                ));
            }
            Some(_) => {}
        }
    }
    for (resource, ratio) in item.max_limit_request_ratio.iter().flatten() {
        let (request, limit) = (subject.requests.get(resource), subject.limits.get(resource));
        let (Some(request), Some(limit)) =
            (request.and_then(thousandths), limit.and_then(thousandths))
        else {
            faults.push(format!(
                "a {kind} must state request and limit of {resource}, for their ratio"
            ));
            continue;
        };
        if thousandths(ratio).is_some_and(|ratio| request == 0 || limit * 1_000 > ratio * request) {
            faults.push(format!(
                "a {kind}'s limit of {resource} may be at most {} times its request",
                ratio.0
            ));
        }
    }
    faults
}

/// Whether each namespace's quotas have room for all of its candidates together.
pub(super) fn risks(candidates: &[Candidate<'_>], around: &Neighbours, found: &mut Vec<Risk>) {
    for quota in &around.quotas {
        let namespace = quota.metadata.namespace.as_deref().unwrap_or_default();
        let counted: Vec<&Pod> = candidates
            .iter()
            .map(|candidate| candidate.pod)
            .filter(|pod| namespace_of(pod) == namespace && in_scope(quota, pod))
            .collect();
        let Some(first) = counted.first() else {
            continue;
        };
        let containers: Vec<Vec<Resources>> =
            counted.iter().map(|pod| filled_in(pod, around)).collect();
        let object = || {
            object_name(
                Some(namespace),
                "ResourceQuota",
                quota.metadata.name.as_deref(),
            )
        };
        let hard = quota
            .spec
            .as_ref()
            .and_then(|spec| spec.hard.clone())
            .unwrap_or_default();
        let used = quota
            .status
            .as_ref()
            .and_then(|status| status.used.clone())
            .unwrap_or_default();
        for (resource, most) in &hard {
            let Some(usage) = usage(resource, &containers) else {
                continue;
            };
            let needed = match usage {
                Usage::Unstated => {
                    let finding = Finding {
                        pod: first,
                        code: Code::QuotaDemands,
                        severity: Severity::Refuse,
                        object: object(),
                    };
                    found.push(finding.because(
                        format!(
                            "it counts {resource}, and refuses pods that do not state it; a probe has no such limit"
                        ),
                        "give the namespace a LimitRange with a default for it, or leave this source out",
                    ));
                    continue;
                }
                Usage::Needed(needed) => needed,
            };
            let taken = used.get(resource).and_then(thousandths).unwrap_or_default();
            if thousandths(most).is_some_and(|most| taken + needed > most) {
                let taken = used.get(resource).map_or("0", |used| used.0.as_str());
                let finding = Finding {
                    pod: first,
                    code: Code::Quota,
                    severity: Severity::Refuse,
                    object: object(),
                };
                found.push(finding.because(
                    format!(
                        "{} probe pods need {} of {resource}; {taken} of {} are in use",
                        counted.len(),
                        show(needed),
                        most.0
                    ),
                    "raise the quota for the run, select fewer checks (--only, --tag), or use `spread: one`",
                ));
            }
        }
    }
}

enum Usage {
    Needed(i128),
    Unstated,
}

/// What all pods together add to a quota's resource; `None` if pods do not count there.
fn usage(resource: &str, pods: &[Vec<Resources>]) -> Option<Usage> {
    let sum = |pick: fn(&Resources) -> &Amounts, resource: &str| {
        let amounts: Option<Vec<i128>> = pods
            .iter()
            .flatten()
            .map(|container| pick(container).get(resource).and_then(thousandths))
            .collect();
        amounts.map_or(Usage::Unstated, |amounts| {
            Usage::Needed(amounts.into_iter().sum())
        })
    };
    match resource {
        "pods" | "count/pods" => Some(Usage::Needed(pods.len() as i128 * 1_000)),
        // What owns a run's pods in a namespace.
        "count/jobs.batch" => Some(Usage::Needed(1_000)),
        "cpu" | "memory" => Some(sum(|it| &it.requests, resource)),
        other => match other.split_once('.') {
            Some(("requests", resource @ ("cpu" | "memory"))) => {
                Some(sum(|it| &it.requests, resource))
            }
            Some(("limits", resource @ ("cpu" | "memory"))) => Some(sum(|it| &it.limits, resource)),
            _ => None,
        },
    }
}

fn show(thousandths: i128) -> String {
    if thousandths % 1_000 == 0 {
        (thousandths / 1_000).to_string()
    } else {
        format!("{thousandths}m")
    }
}

/// Whether a quota counts a pod (`podMatchesScopeFunc`).
fn in_scope(quota: &ResourceQuota, pod: &Pod) -> bool {
    let Some(spec) = &quota.spec else {
        return false;
    };
    let scopes = spec
        .scopes
        .iter()
        .flatten()
        .all(|scope| has_scope(pod, scope));
    let expressions = spec
        .scope_selector
        .iter()
        .flat_map(|it| it.match_expressions.iter().flatten());
    scopes
        && expressions
            .into_iter()
            .all(|expression| selected(pod, expression))
}

fn has_scope(pod: &Pod, scope: &str) -> bool {
    let spec = pod.spec.clone().unwrap_or_default();
    let best_effort = spec.containers.iter().all(|container| {
        let resources = container.resources.clone().unwrap_or_default();
        resources.requests.is_none_or(|it| it.is_empty())
            && resources.limits.is_none_or(|it| it.is_empty())
    });
    match scope {
        "Terminating" => spec.active_deadline_seconds.is_some(),
        "NotTerminating" => spec.active_deadline_seconds.is_none(),
        "BestEffort" => best_effort,
        "NotBestEffort" => !best_effort,
        "PriorityClass" => spec.priority_class_name.is_some(),
        // Probes have no affinity to other pods.
        _ => false,
    }
}

fn selected(pod: &Pod, expression: &ScopedResourceSelectorRequirement) -> bool {
    if expression.scope_name != "PriorityClass" {
        return has_scope(pod, &expression.scope_name) == (expression.operator != "DoesNotExist");
    }
    let class = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.priority_class_name.clone());
    let listed = class.as_ref().is_some_and(|class| {
        expression
            .values
            .iter()
            .flatten()
            .any(|value| value == class)
    });
    match expression.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => class.is_some(),
        "DoesNotExist" => class.is_none(),
        _ => true,
    }
}
