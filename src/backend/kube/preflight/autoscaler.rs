//! `HorizontalPodAutoscalers` that would count a clone.
//!
//! An autoscaler averages over every pod that its target's selector matches, whoever owns it
//! (`pkg/controller/podautoscaler/replica_calculator.go`). A pod without a request for the resource
//! makes it give up; one with a request that uses nothing pulls the average down. So a clone is
//! kept away unless the user takes that upon himself.

use super::risk::{Code, Finding, Severity};
use super::selector::{matches, show};
use super::{Allowances, Candidate, Neighbours, Risk, namespace_of, object_name};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

pub(super) fn risks(
    candidate: &Candidate<'_>,
    around: &Neighbours,
    allowances: Allowances,
    found: &mut Vec<Risk>,
) {
    let pod = candidate.pod;
    let namespace = namespace_of(pod);
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    for autoscaler in around
        .autoscalers
        .iter()
        .filter(|it| it.metadata.namespace.as_deref() == Some(namespace))
    {
        let target = &autoscaler.spec.scale_target_ref;
        let severity = if allowances.autoscalers {
            Severity::Warn
        } else {
            Severity::Refuse
        };
        let object = object_name(
            Some(namespace),
            "HorizontalPodAutoscaler",
            autoscaler.metadata.name.as_deref(),
        );
        match selector(&target.kind, &target.name, namespace, around) {
            Target::Selects(selector) if matches(&selector, &labels) => {
                let finding = Finding {
                    pod,
                    code: Code::Autoscaler,
                    severity,
                    object,
                };
                found.push(finding.because(
                    format!("it would count the clone among the pods of {} {} ({})", target.kind, target.name, show(&selector)),
                    "accept it with --allow-hpa (the probe asks for little and runs for a short time), or leave this source out".to_owned(),
                ));
            }
            // Without a target there is nothing to count.
            Target::Selects(_) | Target::Gone => {}
            Target::Unknown => {
                let ours = candidate.originals.iter().any(|original| {
                    let owners = original.metadata.owner_references.iter().flatten();
                    owners
                        .into_iter()
                        .any(|owner| owner.kind == target.kind && owner.name == target.name)
                });
                let severity = if ours { severity } else { Severity::Warn };
                let finding = Finding {
                    pod,
                    code: Code::AutoscalerUnknown,
                    severity,
                    object,
                };
                found.push(finding.because(
                    format!(
                        "it scales {} {}, whose pods' labels cannot be looked up: it may count the clone",
                        target.kind, target.name
                    ),
                    "accept it with --allow-hpa, or leave this source out".to_owned(),
                ));
            }
        }
    }
}

enum Target {
    Selects(LabelSelector),
    Gone,
    Unknown,
}

/// The selector that the target's scale has.
fn selector(kind: &str, name: &str, namespace: &str, around: &Neighbours) -> Target {
    let is = |meta: &ObjectMeta| {
        meta.namespace.as_deref() == Some(namespace) && meta.name.as_deref() == Some(name)
    };
    let found = match kind {
        "Deployment" => {
            let target = around.deployments.iter().find(|it| is(&it.metadata));
            target.map(|it| it.spec.selector.clone())
        }
        "StatefulSet" => {
            let target = around.stateful_sets.iter().find(|it| is(&it.metadata));
            target.map(|it| it.spec.selector.clone())
        }
        "ReplicaSet" => {
            let target = around.replica_sets.iter().find(|it| is(&it.metadata));
            target.map(|it| it.spec.selector.clone())
        }
        "ReplicationController" => {
            let target = around
                .replication_controllers
                .iter()
                .find(|it| is(&it.metadata));
            let labels = target
                .and_then(|it| it.spec.as_ref())
                .and_then(|spec| spec.selector.clone());
            labels.map(|labels| LabelSelector {
                match_labels: Some(labels),
                match_expressions: None,
            })
        }
        _ => return Target::Unknown,
    };
    found.map_or(Target::Gone, Target::Selects)
}
