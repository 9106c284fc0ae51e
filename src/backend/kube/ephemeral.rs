//! Probes inside the tested pods: one ephemeral container for each pod and run.
//!
//! An ephemeral container can be neither removed nor stopped before its pod is deleted (Kubernetes,
//! "Ephemeral Containers"). It ends by itself once its node's probe, which sends to it
//! continuously, is gone, or when its plan's time is over. It states no resources, since the API
//! does not allow that: it uses the pod's.

use super::error::Error;
use super::names;
use super::probe_pod::{self, RunSettings};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

/// An ephemeral container, by the user's pod that it runs in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EphemeralContainer {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

/// A pod with the same name and node that holds only the ephemeral container, so that preflight can
/// judge its image and node as it does for other pods.
pub(super) fn container_as_pod(
    pod: &Pod,
    settings: &RunSettings,
    environment: &[(String, String)],
) -> Pod {
    let spec = pod.spec.clone().unwrap_or_default();
    let container = Container {
        name: names::run_object(&settings.run),
        resources: None,
        ..probe_pod::container(settings, environment)
    };
    let spec = PodSpec {
        node_name: spec.node_name,
        image_pull_secrets: spec.image_pull_secrets,
        containers: vec![container],
        ..PodSpec::default()
    };
    let metadata = ObjectMeta {
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        ..ObjectMeta::default()
    };
    Pod {
        metadata,
        spec: Some(spec),
        status: None,
    }
}

/// The patch that adds the ephemeral container. It names the pod's uid, so that it fails for a
/// later pod with the same name.
fn patch(pod: &Pod, container: &Pod) -> Patch<Value> {
    let added = container
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .collect::<Vec<_>>();
    Patch::Strategic(
        json!({ "metadata": { "uid": pod.metadata.uid }, "spec": { "ephemeralContainers": added } }),
    )
}

/// Adds the ephemeral container to a pod.
///
/// # Errors
/// [`Error::Api`] when the API server refuses it.
pub(super) async fn add_container(
    client: &Client,
    pod: &Pod,
    container: &Pod,
) -> Result<EphemeralContainer, Error> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let name = pod.metadata.name.clone().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    api.patch_ephemeral_containers(&name, &PatchParams::default(), &patch(pod, container))
        .await
        .map_err(|error| {
            Error::api(
                format!("add an ephemeral container to pod {namespace}/{name}"),
                error,
            )
        })?;
    Ok(EphemeralContainer {
        namespace,
        name,
        uid: pod.metadata.uid.clone().unwrap_or_default(),
    })
}

/// The pod with the ephemeral container added, by a dry run that changes nothing.
///
/// # Errors
/// The API server's refusal, or why it could not be reached.
pub(super) async fn add_container_dry_run(
    client: &Client,
    pod: &Pod,
    container: &Pod,
) -> Result<Pod, kube::Error> {
    let api: Api<Pod> = Api::namespaced(
        client.clone(),
        pod.metadata.namespace.as_deref().unwrap_or_default(),
    );
    let parameters = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    api.patch_ephemeral_containers(
        pod.metadata.name.as_deref().unwrap_or_default(),
        &parameters,
        &patch(pod, container),
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_patch_adds_one_container_to_the_pod_with_that_uid_and_changes_nothing_else() {
        let settings = RunSettings {
            run: "0123456789abcdef".into(),
            image: "probe:1".into(),
            pull_policy: "Never".into(),
            active_deadline: Duration::from_secs(90),
        };
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "web-1", "namespace": "shop", "uid": "u", "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "web" }] },
        }))
        .unwrap();
        let container = container_as_pod(&pod, &settings, &[("A".into(), "b".into())]);
        let Patch::Strategic(patch) = patch(&pod, &container) else {
            panic!("only a strategic patch adds to a list")
        };
        assert_eq!(patch["metadata"], json!({ "uid": "u" }));
        assert_eq!(
            patch["spec"]
                .as_object()
                .unwrap()
                .keys()
                .collect::<Vec<_>>(),
            ["ephemeralContainers"]
        );
        let added = &patch["spec"]["ephemeralContainers"][0];
        assert_eq!(added["name"], "watertight-0123456789abcdef");
        assert_eq!(added["securityContext"]["allowPrivilegeEscalation"], false);
        for field in [
            "ports",
            "livenessProbe",
            "readinessProbe",
            "resources",
            "lifecycle",
            "targetContainerName",
        ] {
            assert_eq!(
                added.get(field),
                None,
                "the API refuses it, or it would share the pod's resources"
            );
        }
    }
}
