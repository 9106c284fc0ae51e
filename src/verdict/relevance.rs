//! Which changes concern which flows.

use crate::model::ClusterChange;
use crate::plan::{FlowId, Plan, Source, TargetKind};

/// Whether a change concerns either end of a flow, now or before.
pub fn concerns(plan: &Plan, flow: FlowId, change: &ClusterChange) -> bool {
    let flow = plan.flow(flow);
    let (source, target) = (plan.source(flow.probe), &*flow.target_kind);
    match change {
        ClusterChange::Pod(namespace, name) => {
            is_source_pod(source, namespace, name) || is_target_pod(target, namespace, name)
        }
        ClusterChange::Namespace(name) => is_namespace_of_an_end(source, target, name),
        // A NetworkPolicy selects pods of its namespace only; a cluster-wide one may select any.
        ClusterChange::Policy(policy) => policy
            .namespace
            .as_deref()
            .is_none_or(|namespace| is_namespace_of_an_end(source, target, namespace)),
        ClusterChange::Service(namespace, name) => {
            matches!(target, TargetKind::Service { service, .. } if service.namespace == *namespace && service.name == *name)
        }
    }
}

fn is_namespace_of_an_end(source: &Source, target: &TargetKind, namespace: &str) -> bool {
    source_namespace(source) == Some(namespace) || target_namespace(target) == Some(namespace)
}

fn source_namespace(source: &Source) -> Option<&str> {
    match source {
        Source::Pod { namespace, .. } => Some(namespace),
        Source::Node { .. } | Source::ReferencePod { .. } | Source::Runner => None,
    }
}

fn target_namespace(target: &TargetKind) -> Option<&str> {
    match target {
        TargetKind::Pod { namespace, .. } => Some(namespace),
        TargetKind::Service { service, .. } => Some(&service.namespace),
        TargetKind::Node { .. } | TargetKind::ReferencePod { .. } | TargetKind::Outside { .. } => {
            None
        }
    }
}

fn is_source_pod(source: &Source, namespace: &str, name: &str) -> bool {
    matches!(source, Source::Pod { namespace: pod_namespace, name: pod, .. } if pod_namespace == namespace && pod == name)
}

fn is_target_pod(target: &TargetKind, namespace: &str, name: &str) -> bool {
    match target {
        TargetKind::Pod {
            namespace: pod_namespace,
            name: pod,
            ..
        } => pod_namespace == namespace && pod == name,
        TargetKind::Service { pods, .. } => pods
            .iter()
            .any(|pod| pod.split_once('/') == Some((namespace, name))),
        TargetKind::Node { .. } | TargetKind::ReferencePod { .. } | TargetKind::Outside { .. } => {
            false
        }
    }
}
