//! Ephemeral containers that would be added to the user's pods.

use super::dry_run::{Answer, refusal_risk};
use super::risk::{Code, Risk};
use super::{Candidate, ClusterObjects, image, object_name, placement};
use k8s_openapi::api::core::v1::Pod;

/// The annotation of a static pod's mirror at the API server. The kubelet runs the pod from a file,
/// so a container that is added to the mirror never runs.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A pod of the user's, and the ephemeral container to add.
#[derive(Debug, Clone)]
pub struct EphemeralTarget {
    pub pod: Pod,
    /// A pod of the same name and node with only the ephemeral container, by which image and node
    /// are judged.
    pub container: Pod,
    /// Whether a check needs it.
    pub needed: bool,
}

/// The risks of adding the container, with the API server's answer to the dry run.
pub(super) fn risks(
    target: &EphemeralTarget,
    cluster: &ClusterObjects,
    answer: &Answer,
) -> Vec<Risk> {
    let pod = &target.pod;
    let object = object_name(
        pod.metadata.namespace.as_deref(),
        "Pod",
        pod.metadata.name.as_deref(),
    );
    if is_static(pod) {
        return vec![Risk::refusal(
            pod,
            Code::StaticPod,
            object,
            "its kubelet runs it from a file: a container that is added at the API server never runs",
            "leave this source out, or send from its node (source: node)",
        )];
    }

    let mut risks = Vec::new();
    let candidate = Candidate {
        pod: &target.container,
        originals: Vec::new(),
    };
    placement::risks(&candidate, cluster, &mut risks);
    image::risks(&candidate, cluster, &mut risks);
    match answer {
        Answer::Refused(refusal) => risks.push(refusal_risk(pod, refusal)),
        Answer::Accepted(stored) => {
            if is_changed(&target.container, stored) {
                risks.push(Risk::refusal(
                    pod,
                    Code::AdmissionChangesContainer,
                    object.clone(),
                    "admission changes the image or command of the container",
                    "exempt the probe image from that change, or leave this source out",
                ));
            }
            risks.push(Risk::warning(
                pod,
                Code::EphemeralContainerRemains,
                object,
                "the run adds an ephemeral container, which stays in the pod until the pod is deleted, and uses the pod's memory",
                "restart the workload after the run, or send from clones (source: clone)",
            ));
        }
    }
    risks
}

fn is_static(pod: &Pod) -> bool {
    pod.metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(MIRROR))
}

/// Whether the last ephemeral container differs from the one that was sent in image or command.
fn is_changed(sent: &Pod, stored: &Pod) -> bool {
    let sent = sent.spec.iter().flat_map(|spec| &spec.containers).next();
    let stored = stored
        .spec
        .iter()
        .flat_map(|spec| spec.ephemeral_containers.iter().flatten())
        .last();
    match (sent, stored) {
        (Some(sent), Some(stored)) => {
            sent.image != stored.image || sent.args != stored.args || stored.command.is_some()
        }
        (Some(_), None) | (None, _) => true,
    }
}
