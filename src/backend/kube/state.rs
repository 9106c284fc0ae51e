//! The state of a probe's container, read from its pod's status. Pure.

use super::names::CONTAINER;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateWaiting, ContainerStatus, Pod};
use std::time::Duration;

/// How long a probe pod may wait to be scheduled. Adding a node for it would take minutes, so the
/// probe gives up before.
pub(super) const SCHEDULE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a scheduled probe may take to start, including the image pull.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How far the start of a probe has come. Texts give the reason, where it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProbeState {
    /// It has no node yet.
    Unscheduled(String),
    /// It has a node and does not run yet.
    NotStarted(String),
    Running,
    /// Its node cannot get its image.
    NoImage(ImageError),
    /// It has ended, or cannot start.
    Ended(String),
}

/// An image that a node cannot get.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ImageError {
    pub(super) image: String,
    pub(super) node: String,
    /// The kubelet's reason and message, which has the registry's or the runtime's own answer.
    pub(super) answer: String,
}

impl std::fmt::Display for ImageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} cannot get the probe image {}: {}",
            self.node, self.image, self.answer
        )
    }
}

/// Waiting reasons (`ContainerStateWaiting.reason`) of a node that cannot get an image (Kubernetes,
/// `pkg/kubelet/images/types.go`, and the runtime's errors of `cri-api/pkg/errors`). The kubelet
/// tries most of them again, at first after 10 s: a run does not wait for a registry to change.
const NO_IMAGE: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

/// Other waiting reasons that waiting does not resolve.
const UNRECOVERABLE: [&str; 2] = ["CreateContainerConfigError", "CreateContainerError"];

/// How the kubelet's message begins where it has not yet read a Secret or ConfigMap for the container
/// (Kubernetes, `pkg/kubelet/util/manager/watch_based_manager.go`); it soon tries again.
const NOT_YET_READ: &str = "failed to sync ";

/// Whether waiting does not resolve why a container waits.
fn is_unrecoverable(waiting: &ContainerStateWaiting) -> bool {
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let message = waiting.message.as_deref().unwrap_or_default();
    UNRECOVERABLE.contains(&reason) && !message.starts_with(NOT_YET_READ)
}

/// Reads the state of a pod's container, by default the one of a probe pod; `None` is a pod that
/// does not exist.
pub(super) fn probe_state(pod: Option<&Pod>, container: Option<&str>) -> ProbeState {
    let Some(pod) = pod else {
        return ProbeState::Ended("its pod was deleted".into());
    };
    let Some(status) = &pod.status else {
        return ProbeState::Unscheduled("the scheduler has not processed it yet".into());
    };
    let name = container.unwrap_or(CONTAINER);
    let container = container_statuses(pod).find(|container| container.name == name);
    if let Some(how) = container.and_then(termination) {
        return ProbeState::Ended(how);
    }

    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        let parts: Vec<&str> = [status.reason.as_deref(), status.message.as_deref()]
            .into_iter()
            .flatten()
            .collect();
        return ProbeState::Ended(if parts.is_empty() {
            "its pod ended".into()
        } else {
            parts.join(": ")
        });
    }

    match container.and_then(|container| container.state.as_ref()) {
        Some(ContainerState {
            running: Some(_), ..
        }) => ProbeState::Running,
        Some(ContainerState {
            waiting: Some(waiting),
            ..
        }) => {
            let reason = waiting.reason.clone().unwrap_or_default();
            let message = waiting
                .message
                .as_deref()
                .map(|message| format!(": {message}"))
                .unwrap_or_default();
            let why = format!("{reason}{message}");
            if NO_IMAGE.contains(&reason.as_str()) {
                ProbeState::NoImage(ImageError {
                    image: image_of(pod, name),
                    node: node_of(pod),
                    answer: why,
                })
            } else if is_unrecoverable(waiting) {
                ProbeState::Ended(why)
            } else {
                ProbeState::NotStarted(why)
            }
        }
        Some(_) | None => {
            let conditions = status.conditions.as_deref().unwrap_or_default();
            match conditions
                .iter()
                .find(|condition| condition.type_ == "PodScheduled")
            {
                Some(condition) if condition.status == "True" => {
                    ProbeState::NotStarted("its node has not started it yet".into())
                }
                Some(condition) => {
                    ProbeState::Unscheduled(condition.message.clone().unwrap_or_default())
                }
                None => ProbeState::Unscheduled("the scheduler has not processed it yet".into()),
            }
        }
    }
}

/// The image of a container, as its pod names it.
fn image_of(pod: &Pod, container: &str) -> String {
    let spec = pod.spec.iter();
    let containers = spec.clone().flat_map(|spec| {
        let containers = spec.containers.iter();
        containers.map(|container| (&container.name, &container.image))
    });
    let ephemeral_containers = spec.flat_map(|spec| {
        let containers = spec.ephemeral_containers.iter().flatten();
        containers.map(|container| (&container.name, &container.image))
    });
    containers
        .chain(ephemeral_containers)
        .find(|(name, _)| *name == container)
        .and_then(|(_, image)| image.clone())
        .unwrap_or_default()
}

/// The name of a pod's node.
fn node_of(pod: &Pod) -> String {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    node.unwrap_or_default()
}

/// The statuses of a pod's containers, including its ephemeral containers.
pub(super) fn container_statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let lists = pod.status.iter().flat_map(|status| {
        [
            &status.container_statuses,
            &status.ephemeral_container_statuses,
        ]
    });
    lists.flatten().flatten()
}

/// How a container terminated; `None` if it has not.
fn termination(container: &ContainerStatus) -> Option<String> {
    let terminated = container.state.as_ref()?.terminated.as_ref()?;
    let reason = terminated.reason.as_deref().unwrap_or("ended");
    let message = terminated
        .message
        .as_deref()
        .map(|message| format!(": {message}"))
        .unwrap_or_default();
    Some(format!(
        "{reason}, exit code {}{message}",
        terminated.exit_code
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "given as written")]
    fn state_of_pod(status: serde_json::Value) -> ProbeState {
        let pod: Pod = serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap();
        probe_state(Some(&pod), None)
    }

    #[expect(clippy::needless_pass_by_value, reason = "given as written")]
    fn state_of_container(state: serde_json::Value) -> ProbeState {
        let container = json!({
            "name": CONTAINER, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state
        });
        state_of_pod(json!({ "phase": "Pending", "containerStatuses": [container] }))
    }

    #[test]
    fn image_that_a_node_cannot_get_is_named_with_the_nodes_own_answer() {
        for reason in NO_IMAGE {
            let container = json!({
                "name": CONTAINER, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": reason, "message": "not found" } },
            });
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {},
                "spec": {
                    "nodeName": "node-1",
                    "containers": [{ "name": CONTAINER, "image": "registry.example/probe:2" }],
                },
                "status": { "phase": "Pending", "containerStatuses": [container] },
            }))
            .unwrap();
            let ProbeState::NoImage(error) = probe_state(Some(&pod), None) else {
                panic!("{reason} is the lack of an image");
            };
            assert_eq!(
                error.to_string(),
                format!(
                    "node-1 cannot get the probe image registry.example/probe:2: {reason}: not found"
                )
            );
        }
    }

    #[test]
    fn secret_that_the_kubelet_has_not_read_yet_is_waited_for_and_a_missing_one_is_not() {
        let waiting = |message: &str| {
            let reason = "CreateContainerConfigError";
            state_of_container(json!({ "waiting": { "reason": reason, "message": message } }))
        };
        let late = waiting("failed to sync secret cache: timed out waiting for the condition");
        assert!(matches!(late, ProbeState::NotStarted(_)), "{late:?}");
        let missing = waiting("secret \"s\" not found");
        assert!(matches!(missing, ProbeState::Ended(_)), "{missing:?}");
    }

    #[test]
    fn every_state_is_read_with_its_reason() {
        let scheduled = |status: &str, message: &str| {
            state_of_pod(json!({
                "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": status, "message": message }]
            }))
        };
        let full = "0/2 nodes are available: 2 Insufficient cpu.";
        assert_eq!(
            scheduled("False", full),
            ProbeState::Unscheduled(full.into())
        );
        assert_eq!(
            scheduled("True", ""),
            ProbeState::NotStarted("its node has not started it yet".into())
        );
        assert_eq!(
            state_of_container(json!({ "running": {} })),
            ProbeState::Running
        );
        assert_eq!(
            state_of_container(json!({ "waiting": { "reason": "ContainerCreating" } })),
            ProbeState::NotStarted("ContainerCreating".into())
        );
        assert_eq!(
            state_of_container(json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } })),
            ProbeState::Ended("OOMKilled, exit code 137".into())
        );
        let evicted = state_of_pod(
            json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on memory." }),
        );
        assert_eq!(
            evicted,
            ProbeState::Ended("Evicted: The node was low on memory.".into())
        );
        assert_eq!(
            probe_state(None, None),
            ProbeState::Ended("its pod was deleted".into())
        );
    }
}
