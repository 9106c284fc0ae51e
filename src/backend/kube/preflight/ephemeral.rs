//! What a container of ours would do within a pod of the user's.

use super::dry_run::{Answer, refused};
use super::risk::{Code, Finding, Severity};
use super::{Candidate, Neighbours, Risk, image, object_name, placement};
use k8s_openapi::api::core::v1::Pod;

/// The annotation of pods that a kubelet runs from files of its own
/// (`kubernetes.io/config.mirror`): the API server's is a picture of it, and what is added there
/// never runs.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// A pod of the user's, and the container that it is to get.
#[derive(Debug, Clone)]
pub struct Entering {
    /// The pod.
    pub pod: Pod,
    /// The container by itself, as if it were a pod of that name on that node: images and nodes are
    /// judged by it.
    pub alone: Pod,
    /// Whether a check needs it.
    pub needed: bool,
}

/// Everything that speaks against it.
pub(super) fn risks(entering: &Entering, around: &Neighbours, answer: &Answer) -> Vec<Risk> {
    let pod = &entering.pod;
    let object = || {
        object_name(
            pod.metadata.namespace.as_deref(),
            "Pod",
            pod.metadata.name.as_deref(),
        )
    };
    let find = |code, severity| Finding {
        pod,
        code,
        severity,
        object: object(),
    };
    let mut found = Vec::new();
    if pod
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|all| all.contains_key(MIRROR))
    {
        found.push(find(Code::StaticPod, Severity::Refuse).because(
            "its kubelet runs it from a file: what is added to it at the API server never runs",
            "leave this source out, or send from its node (source: node)",
        ));
        return found;
    }
    let alone = Candidate {
        pod: &entering.alone,
        originals: Vec::new(),
    };
    placement::risks(&alone, around, &mut found);
    image::risks(&alone, around, &mut found);
    match answer {
        Answer::Refused(refusal) => found.push(refused(pod, refusal)),
        Answer::Accepted(stored) => {
            if changed(&entering.alone, stored) {
                found.push(find(Code::AdmissionProgram, Severity::Refuse).because(
                    "admission changes what the container would run",
                    "exempt the probe's image from it, or leave this source out",
                ));
            }
            found.push(find(Code::EphemeralContainerRemains, Severity::Warn).because(
                "the run adds an ephemeral container, which stays in the pod until the pod is deleted, and takes its memory from it",
                "restart the workload afterwards, or send from clones (source: clone)",
            ));
        }
    }
    found
}

/// Whether the container that was added last is not the one that was sent.
fn changed(alone: &Pod, stored: &Pod) -> bool {
    let sent = alone.spec.iter().flat_map(|spec| &spec.containers).next();
    let got = stored
        .spec
        .iter()
        .flat_map(|spec| spec.ephemeral_containers.iter().flatten())
        .last();
    match (sent, got) {
        (Some(sent), Some(got)) => {
            (&sent.image, &sent.args, None) != (&got.image, &got.args, got.command.as_ref())
        }
        (Some(_), None) | (None, _) => true,
    }
}
