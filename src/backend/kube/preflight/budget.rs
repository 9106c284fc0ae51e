//! `PodDisruptionBudgets` that count a clone.
//!
//! The disruption controller (`pkg/controller/disruption/disruption.go`) counts pods by labels.
//! Healthy is who is Ready; expected is the scale of the pods' controllers, and with a whole number
//! in `minAvailable` the number of pods. One clone more, with three real pods ready:
//!
//! | the clone | `maxUnavailable`, or a percentage | `minAvailable: 2` |
//! |---|---|---|
//! | no controller, never Ready | allowed stays; an event names the pod as unmanaged | allowed stays; `expectedPods` shows one more |
//! | no controller, may become Ready | one disruption more is allowed | one more |
//! | a controller without a scale (a Job) | nothing is allowed: drains hang | stays |
//! | a controller of one pod, never Ready | one fewer is allowed | stays |

use super::risk::{Code, Finding, NO_CLONE, Severity};
use super::selector::matches;
use super::{Candidate, Neighbours, Risk, namespace_of, object_name};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub(super) fn risks(candidate: &Candidate<'_>, around: &Neighbours, found: &mut Vec<Risk>) {
    let pod = candidate.pod;
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    for budget in &around.budgets {
        let Some(spec) = &budget.spec else { continue };
        // In policy/v1 a selector without entries is every pod of the namespace; none at all is no
        // pod.
        let counted = budget.metadata.namespace.as_deref() == Some(namespace_of(pod))
            && spec
                .selector
                .as_ref()
                .is_some_and(|selector| matches(selector, &labels));
        if !counted {
            continue;
        }
        let by_number = spec.max_unavailable.is_none()
            && matches!(spec.min_available, Some(IntOrString::Int(_)));
        let controlled = pod
            .metadata
            .owner_references
            .iter()
            .flatten()
            .any(|owner| owner.controller == Some(true));
        let (code, severity, reason, remedy) = if controlled && !by_number {
            (
                Code::BudgetChanged,
                Severity::Refuse,
                "it would ask the clone's controller for a scale, and allow fewer disruptions or none",
                NO_CLONE,
            )
        } else if can_become_ready(pod) {
            (
                Code::BudgetChanged,
                Severity::Refuse,
                "it would count the clone as healthy, and allow one disruption more",
                NO_CLONE,
            )
        } else if by_number {
            (
                Code::DisruptionBudget,
                Severity::Warn,
                "its status would show the clone in expectedPods; the disruptions that it allows stay the same",
                "nothing to do, it ends with the run",
            )
        } else {
            (
                Code::DisruptionBudget,
                Severity::Warn,
                "an event would name the clone as a pod without a controller; the disruptions that it allows stay the same",
                "nothing to do, it ends with the run",
            )
        };
        let object = object_name(
            Some(namespace_of(pod)),
            "PodDisruptionBudget",
            budget.metadata.name.as_deref(),
        );
        found.push(
            Finding {
                pod,
                code,
                severity,
                object,
            }
            .because(reason, remedy),
        );
    }
}

/// Whether nothing keeps a pod from becoming Ready: a readiness gate that nobody sets does.
pub(super) fn can_become_ready(pod: &Pod) -> bool {
    pod.spec
        .as_ref()
        .is_none_or(|spec| spec.readiness_gates.as_ref().is_none_or(Vec::is_empty))
}
