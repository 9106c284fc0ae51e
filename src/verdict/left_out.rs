//! Flows that do not count: of a pod that is not ready, of a family that is not served, and from a
//! runner that reaches no Service.

use super::controls::Evaluation;
use super::reading::Reading;
use super::unusable::unusable;
use crate::plan::{Check, FlowId, PathEnd, Source, TargetKind};

/// Why a flow does not count, if it is so. A flow that opened always counts.
pub(super) fn left_out(evaluation: Evaluation<'_>, check: &Check, id: FlowId) -> Option<String> {
    if evaluation.evidence.flow(id).opened > 0 || unusable(evaluation, id).is_some() {
        return None;
    }
    let flow = evaluation.plan.flow(id);
    match &*flow.target_kind {
        TargetKind::Pod {
            ready: false,
            namespace,
            name,
            ..
        } => Some(format!("{namespace}/{name} is not ready")),
        TargetKind::Pod { .. } => is_family_not_served(evaluation, check, id)
            .then(|| format!("not served over {}", flow.family())),
        TargetKind::Service { .. } => is_runner_without_services(evaluation, id)
            .then(|| "no Service's cluster address answers the runner at all".into()),
        TargetKind::Node { .. } | TargetKind::ReferencePod { .. } | TargetKind::Outside { .. } => {
            None
        }
    }
}

/// Whether the flow is the runner's and no Service's cluster address answered it.
///
/// Cluster addresses exist inside the cluster only (Kubernetes documentation, "Virtual IPs and
/// Service Proxies"): unless some such address answered the runner, silence is for want of a route.
fn is_runner_without_services(evaluation: Evaluation<'_>, id: FlowId) -> bool {
    if *evaluation.source(id) != Source::Runner {
        return false;
    }
    let paths = evaluation.paths(id);
    let mut flows_to_services = paths
        .iter()
        .filter(|path| path.to == PathEnd::Services)
        .flat_map(|path| evaluation.flows_on(path));
    !flows_to_services.any(|flow| evaluation.evidence.flow(*flow).opened > 0)
}

/// Whether every target control was refused by the pod itself, while the same port answered over
/// the other family.
fn is_family_not_served(evaluation: Evaluation<'_>, check: &Check, id: FlowId) -> bool {
    let mut controls = evaluation.target_controls(id).peekable();
    controls.peek().is_some()
        && controls.all(|control| is_refused_by_target(evaluation, control))
        && check
            .flows
            .iter()
            .any(|other| is_answered_in_other_family(evaluation, id, *other))
}

fn is_refused_by_target(evaluation: Evaluation<'_>, control: FlowId) -> bool {
    let evidence = evaluation.evidence.flow(control);
    evidence.opened == 0
        && matches!(evidence.latest(), Some(Reading::Blocked(block)) if block.by_target)
}

/// Whether `other` dials the same port of the same target over another family, and one of its
/// controls got through.
fn is_answered_in_other_family(evaluation: Evaluation<'_>, id: FlowId, other: FlowId) -> bool {
    let flow = evaluation.plan.flow(id);
    let other_flow = evaluation.plan.flow(other);
    other_flow.target_kind == flow.target_kind
        && other_flow.family() != flow.family()
        && (other_flow.to.port, other_flow.to.transport) == (flow.to.port, flow.to.transport)
        && evaluation
            .target_controls(other)
            .any(|control| evaluation.evidence.flow(control).opened > 0)
}
