//! `PodDisruptionBudgets` that count a clone.
//!
//! The disruption controller (`pkg/controller/disruption/disruption.go`) counts pods by labels.
//! Healthy pods are those that are Ready; the number of expected pods is the scale of the pods'
//! controllers, or with a whole number in `minAvailable` the number of pods. With one clone beside
//! three ready pods:
//!
//! | the clone | `maxUnavailable`, or a percentage | `minAvailable: 2` |
//! |---|---|---|
//! | no controller, never Ready | same disruptions; an event names the pod as unmanaged | same disruptions; `expectedPods` is one more |
//! | no controller, may become Ready | one more disruption | one more disruption |
//! | a controller without a scale (a Job) | no disruption: drains hang | same disruptions |
//! | a controller of one pod, never Ready | one fewer disruption | same disruptions |

use super::risk::{Code, NO_CLONE, Risk};
use super::selector::matches;
use super::{Candidate, ClusterObjects, namespace_of, object_name};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

const NOTHING_TO_DO: &str = "nothing to do: it ends with the run";

pub(super) fn risks(candidate: &Candidate<'_>, cluster: &ClusterObjects, risks: &mut Vec<Risk>) {
    let selecting = cluster
        .budgets
        .iter()
        .filter(|budget| selects(budget, candidate.pod));
    risks.extend(selecting.map(|budget| risk(candidate.pod, budget)));
}

/// Whether a budget counts a pod. In policy/v1 an empty selector selects every pod of the
/// namespace, and a missing one no pod.
fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let spec = budget.spec.as_ref();
    let selector = spec.and_then(|spec| spec.selector.as_ref());
    budget.metadata.namespace.as_deref() == Some(namespace_of(pod))
        && selector.is_some_and(|selector| matches(selector, &labels))
}

fn risk(pod: &Pod, budget: &PodDisruptionBudget) -> Risk {
    let object = object_name(
        Some(namespace_of(pod)),
        "PodDisruptionBudget",
        budget.metadata.name.as_deref(),
    );
    let counts_pods = budget.spec.as_ref().is_some_and(|spec| {
        spec.max_unavailable.is_none() && matches!(spec.min_available, Some(IntOrString::Int(_)))
    });
    let has_controller = pod
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.controller == Some(true));

    if has_controller && !counts_pods {
        Risk::refusal(
            pod,
            Code::DisruptionBudgetChanged,
            object,
            "it would ask the clone's controller for a scale, and allow fewer disruptions or none",
            NO_CLONE,
        )
    } else if can_become_ready(pod) {
        Risk::refusal(
            pod,
            Code::DisruptionBudgetChanged,
            object,
            "it would count the clone as healthy, and allow one more disruption",
            NO_CLONE,
        )
    } else if counts_pods {
        Risk::warning(
            pod,
            Code::DisruptionBudget,
            object,
            "its status would count the clone in expectedPods; it allows as many disruptions as before",
            NOTHING_TO_DO,
        )
    } else {
        Risk::warning(
            pod,
            Code::DisruptionBudget,
            object,
            "an event would name the clone as a pod without a controller; it allows as many disruptions as before",
            NOTHING_TO_DO,
        )
    }
}

/// Whether a pod can become Ready: a readiness gate, which no component sets, prevents it.
pub(super) fn can_become_ready(pod: &Pod) -> bool {
    pod.spec
        .as_ref()
        .is_none_or(|spec| spec.readiness_gates.as_ref().is_none_or(Vec::is_empty))
}
