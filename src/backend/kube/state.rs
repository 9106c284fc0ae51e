//! The state of a probe's container, read from its pod's status. Pure.

use super::names::CONTAINER;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
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
    /// It has ended, or cannot start.
    Ended(String),
}

/// Waiting reasons (`ContainerStateWaiting.reason`) that waiting does not resolve.
const UNRECOVERABLE: [&str; 4] = [
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
];

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
            if UNRECOVERABLE.contains(&reason.as_str()) {
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
            state_of_container(
                json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } })
            ),
            ProbeState::NotStarted("ImagePullBackOff: no such image".into())
        );
        assert_eq!(
            state_of_container(json!({ "waiting": { "reason": "ErrImageNeverPull" } })),
            ProbeState::Ended("ErrImageNeverPull".into())
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
