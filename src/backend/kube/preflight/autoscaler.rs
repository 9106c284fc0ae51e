//! `HorizontalPodAutoscalers` that would count a clone.
//!
//! An autoscaler averages over every pod that its target's selector matches, whatever owns the pod
//! (`pkg/controller/podautoscaler/replica_calculator.go`). A pod without a request for the resource
//! makes it stop scaling; an idle pod with a request lowers the average. So a clone that would be
//! counted is refused unless the user accepts it.

use super::risk::{Code, Risk, Severity};
use super::selector::{matches, show};
use super::{Allowances, Candidate, ClusterObjects, namespace_of, object_name};
use k8s_openapi::Metadata;
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

pub(super) fn risks(
    candidate: &Candidate<'_>,
    cluster: &ClusterObjects,
    allowances: Allowances,
    risks: &mut Vec<Risk>,
) {
    let pod = candidate.pod;
    let namespace = namespace_of(pod);
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let severity = if allowances.autoscalers {
        Severity::Warn
    } else {
        Severity::Refuse
    };

    let autoscalers = cluster
        .autoscalers
        .iter()
        .filter(|autoscaler| autoscaler.metadata.namespace.as_deref() == Some(namespace));
    for autoscaler in autoscalers {
        let target = &autoscaler.spec.scale_target_ref;
        let object = object_name(
            Some(namespace),
            "HorizontalPodAutoscaler",
            autoscaler.metadata.name.as_deref(),
        );
        match scale_target(target, namespace, cluster) {
            ScaleTarget::Selects(selector) if matches(&selector, &labels) => {
                risks.push(Risk::new(
                    severity,
                    pod,
                    Code::Autoscaler,
                    object,
                    format!(
                        "it would count the clone among the pods of {} {} ({})",
                        target.kind,
                        target.name,
                        show(&selector)
                    ),
                    "accept it with --allow-hpa (the probe requests little CPU and runs for a short time), or leave this source out",
                ));
            }
            ScaleTarget::Selects(_) | ScaleTarget::Missing => {}
            ScaleTarget::Unknown => {
                let severity = if owns_an_original(target, candidate) {
                    severity
                } else {
                    Severity::Warn
                };
                risks.push(Risk::new(
                    severity,
                    pod,
                    Code::AutoscalerTargetUnknown,
                    object,
                    format!(
                        "it scales {} {}, whose pods cannot be determined, so it may count the clone",
                        target.kind, target.name
                    ),
                    "accept it with --allow-hpa, or leave this source out",
                ));
            }
        }
    }
}

/// Whether an autoscaler's target directly owns one of the originals.
fn owns_an_original(target: &CrossVersionObjectReference, candidate: &Candidate<'_>) -> bool {
    candidate.originals.iter().any(|original| {
        let mut owners = original.metadata.owner_references.iter().flatten();
        owners.any(|owner| owner.kind == target.kind && owner.name == target.name)
    })
}

/// The object that an autoscaler scales.
enum ScaleTarget {
    /// It exists, with this selector.
    Selects(LabelSelector),
    /// It does not exist.
    Missing,
    /// It is of a kind that is not read.
    Unknown,
}

/// The object that an autoscaler in this namespace scales.
fn scale_target(
    reference: &CrossVersionObjectReference,
    namespace: &str,
    cluster: &ClusterObjects,
) -> ScaleTarget {
    let (name, kind) = (reference.name.as_str(), reference.kind.as_str());
    let selector = match kind {
        "Deployment" => find(&cluster.deployments, namespace, name)
            .map(|deployment| deployment.spec.selector.clone()),
        "StatefulSet" => {
            find(&cluster.stateful_sets, namespace, name).map(|set| set.spec.selector.clone())
        }
        "ReplicaSet" => {
            find(&cluster.replica_sets, namespace, name).map(|set| set.spec.selector.clone())
        }
        "ReplicationController" => find(&cluster.replication_controllers, namespace, name)
            .and_then(|controller| controller.spec.as_ref()?.selector.clone())
            .map(|labels| LabelSelector {
                match_labels: Some(labels),
                match_expressions: None,
            }),
        _ => return ScaleTarget::Unknown,
    };
    selector.map_or(ScaleTarget::Missing, ScaleTarget::Selects)
}

fn find<'a, K>(objects: &'a [K], namespace: &str, name: &str) -> Option<&'a K>
where
    K: Metadata<Ty = ObjectMeta>,
{
    objects.iter().find(|object| {
        let meta = object.metadata();
        meta.namespace.as_deref() == Some(namespace) && meta.name.as_deref() == Some(name)
    })
}
