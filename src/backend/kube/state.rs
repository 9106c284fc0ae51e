//! What a probe's pod says of its container. Pure.

use super::names::CONTAINER;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use std::time::Duration;

/// How long a probe may wait for a node: a cluster that has to grow for it takes minutes, and
/// nobody asked for that.
pub(super) const UNSCHEDULED: Duration = Duration::from_secs(20);

/// How long a probe may take on its node until it runs, its image's download included.
pub(super) const UNSTARTED: Duration = Duration::from_secs(60);

/// How far a probe has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has no node yet, and why where that is known.
    Unscheduled(String),
    /// It has a node and does not run yet, and why where that is known.
    Unstarted(String),
    /// It runs.
    Running,
    /// It has ended, or never will run, and why.
    Over(String),
}

/// Reasons for which a container waits that no waiting mends.
const HOPELESS: [&str; 4] = [
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
];

/// Reads how far a probe has come; `None` stands for a pod that is gone.
pub(super) fn stage(pod: Option<&Pod>, container: Option<&str>) -> Stage {
    let Some(pod) = pod else {
        return Stage::Over("its pod was deleted".into());
    };
    let Some(status) = &pod.status else {
        return Stage::Unscheduled("the scheduler has not seen it".into());
    };
    let named = container.unwrap_or(CONTAINER);
    let own = statuses(pod).find(|container| container.name == named);
    if let Some(over) = own.and_then(ended) {
        return Stage::Over(over);
    }
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        let words = [status.reason.as_deref(), status.message.as_deref()];
        let words: Vec<&str> = words.into_iter().flatten().collect();
        return Stage::Over(if words.is_empty() {
            "its pod ended".into()
        } else {
            words.join(": ")
        });
    }
    match own.and_then(|container| container.state.as_ref()) {
        Some(ContainerState {
            running: Some(_), ..
        }) => Stage::Running,
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
            if HOPELESS.contains(&reason.as_str()) {
                Stage::Over(why)
            } else {
                Stage::Unstarted(why)
            }
        }
        Some(_) | None => {
            let conditions = status.conditions.as_deref().unwrap_or_default();
            match conditions
                .iter()
                .find(|condition| condition.type_ == "PodScheduled")
            {
                Some(condition) if condition.status == "True" => {
                    Stage::Unstarted("its node has not begun".into())
                }
                Some(condition) => {
                    Stage::Unscheduled(condition.message.clone().unwrap_or_default())
                }
                None => Stage::Unscheduled("the scheduler has not seen it".into()),
            }
        }
    }
}

/// What is said of a pod's containers, those that were added later included.
pub(super) fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let lists = pod.status.iter().flat_map(|status| {
        [
            &status.container_statuses,
            &status.ephemeral_container_statuses,
        ]
    });
    lists.flatten().flatten()
}

/// How a container ended, if it did.
fn ended(container: &ContainerStatus) -> Option<String> {
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
    fn of(status: serde_json::Value) -> Stage {
        let pod: Pod = serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap();
        stage(Some(&pod), None)
    }

    #[expect(clippy::needless_pass_by_value, reason = "given as written")]
    fn with(state: serde_json::Value) -> Stage {
        let container = json!({
            "name": CONTAINER, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state
        });
        of(json!({ "phase": "Pending", "containerStatuses": [container] }))
    }

    #[test]
    fn each_state_is_read_with_its_reason() {
        let scheduled = |status: &str, message: &str| {
            of(json!({
                "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": status, "message": message }]
            }))
        };
        let full = "0/2 nodes are available: 2 Insufficient cpu.";
        assert_eq!(scheduled("False", full), Stage::Unscheduled(full.into()));
        assert_eq!(
            scheduled("True", ""),
            Stage::Unstarted("its node has not begun".into())
        );
        assert_eq!(with(json!({ "running": {} })), Stage::Running);
        assert_eq!(
            with(
                json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } })
            ),
            Stage::Unstarted("ImagePullBackOff: no such image".into())
        );
        assert_eq!(
            with(json!({ "waiting": { "reason": "ErrImageNeverPull" } })),
            Stage::Over("ErrImageNeverPull".into())
        );
        assert_eq!(
            with(json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } })),
            Stage::Over("OOMKilled, exit code 137".into())
        );
        let evicted = of(
            json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on memory." }),
        );
        assert_eq!(
            evicted,
            Stage::Over("Evicted: The node was low on memory.".into())
        );
        assert_eq!(stage(None, None), Stage::Over("its pod was deleted".into()));
    }
}
