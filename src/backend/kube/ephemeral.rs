//! Probes within the pods whose identity they have: one ephemeral container for each pod and run.
//!
//! Nothing can take it away again before the pod itself is deleted, nor stop it (Kubernetes,
//! "Ephemeral Containers"). It ends by itself: once its node's probe, which tries it all the time,
//! is gone; or when its time is over. It states no resources, since the API has none for it: what
//! it takes is the pod's.

use super::error::Error;
use super::names;
use super::probe_pod::{self, Common};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

/// A pod of the user's in which a container of ours runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EphemeralContainer {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

/// The container by itself, as if it were a pod of that name on that node.
pub(super) fn alone(pod: &Pod, common: &Common, environment: &[(String, String)]) -> Pod {
    let spec = pod.spec.clone().unwrap_or_default();
    let container = Container {
        name: names::of_run(&common.run),
        resources: None,
        ..probe_pod::container(common, environment)
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

/// What is asked of the API server: one container more, in that very pod and no later one of its
/// name.
fn patch(pod: &Pod, alone: &Pod) -> Patch<Value> {
    let added = alone
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .collect::<Vec<_>>();
    Patch::Strategic(
        json!({ "metadata": { "uid": pod.metadata.uid }, "spec": { "ephemeralContainers": added } }),
    )
}

/// Adds the container to a pod.
///
/// # Errors
/// What the API server refused.
pub(super) async fn enter(
    client: &Client,
    pod: &Pod,
    alone: &Pod,
) -> Result<EphemeralContainer, Error> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let name = pod.metadata.name.clone().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    api.patch_ephemeral_containers(&name, &PatchParams::default(), &patch(pod, alone))
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

/// The pod as it would then be; nothing is changed.
///
/// # Errors
/// What the API server says against it.
pub(super) async fn would_enter(
    client: &Client,
    pod: &Pod,
    alone: &Pod,
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
        &patch(pod, alone),
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_container_is_added_to_that_very_pod_and_nothing_else_is_touched() {
        let common = Common {
            run: "0123456789abcdef".into(),
            image: "probe:1".into(),
            pull_policy: "Never".into(),
            deadline: Duration::from_secs(90),
        };
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "web-1", "namespace": "shop", "uid": "u", "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "web" }] },
        }))
        .unwrap();
        let alone = alone(&pod, &common, &[("A".into(), "b".into())]);
        let Patch::Strategic(asked) = patch(&pod, &alone) else {
            panic!("only a strategic patch adds to a list")
        };
        assert_eq!(asked["metadata"], json!({ "uid": "u" }));
        assert_eq!(
            asked["spec"]
                .as_object()
                .unwrap()
                .keys()
                .collect::<Vec<_>>(),
            ["ephemeralContainers"]
        );
        let added = &asked["spec"]["ephemeralContainers"][0];
        assert_eq!(added["name"], "watertight-0123456789abcdef");
        assert_eq!(added["securityContext"]["allowPrivilegeEscalation"], false);
        for refused in [
            "ports",
            "livenessProbe",
            "readinessProbe",
            "resources",
            "lifecycle",
            "targetContainerName",
        ] {
            assert_eq!(
                added.get(refused),
                None,
                "the API refuses it, or it would share what is the pod's own"
            );
        }
    }
}
