//! The creation of one probe: a probe pod, or an ephemeral container.

use super::created_objects::{CreatedObject, PodRef};
use super::ephemeral;
use super::error::{Error, describe};
use super::launch::RunContext;
use super::preflight::objection;
use super::probe_pod::{self, PodRequest};
use super::secrets;
use super::teardown::delete;
use crate::backend::Launch;
use crate::plan::Source;
use crate::wire;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::PostParams;
use std::sync::Arc;
use tokio::time::timeout;

/// Creates one probe. `plan` may differ from the launch's plan in addresses. A probe pod needs an
/// owner, an ephemeral container has none.
///
/// # Errors
/// The reason why there is no probe. A pod that admission changed is deleted again.
pub(super) async fn create_probe(
    context: &RunContext,
    launch: &Launch,
    plan: &wire::Plan,
    owner: Option<OwnerReference>,
) -> Result<CreatedObject, String> {
    let environment = watertight_probe::encode_plan(plan).map_err(|error| error.to_string())?;
    create_secret(context, launch, plan, owner.as_ref()).await?;
    let run = &context.settings.run;
    if let Some((namespace, name)) = launch.ephemeral_target() {
        let pod = source_pod(context, namespace, name)?;
        let mut container = ephemeral::container_as_pod(&pod, &context.settings, &environment);
        secrets::refer(&mut container, run, launch.probe, plan.secret_names());
        let request = ephemeral::add_container(&context.client, &pod, &container);
        return with_timeout(context, request)
            .await
            .map(CreatedObject::EphemeralContainer);
    }

    let request = PodRequest {
        probe: launch.probe,
        owner: owner.ok_or("there is no owner Job")?,
        environment: &environment,
    };
    let mut pod = pod_for(context, &launch.source, &request)?;
    secrets::refer(&mut pod, run, launch.probe, plan.secret_names());
    let created = with_timeout(context, create_pod(context, &pod)).await?;

    let pod_ref = PodRef {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: created.metadata.name.clone().unwrap_or_default(),
        uid: created.metadata.uid.clone().unwrap_or_default(),
    };
    match objection(&pod, original(context, &launch.source).as_deref(), &created) {
        None => Ok(CreatedObject::Pod(pod_ref)),
        Some(why) => {
            // A pod that cannot be deleted now is removed with its owner.
            let _deletion = delete(context, &pod_ref).await;
            Err(format!(
                "the created pod differs from the requested one and was deleted: {why}"
            ))
        }
    }
}

/// Creates the Secret of a probe whose requests need one.
///
/// # Errors
/// The reason why there is none.
async fn create_secret(
    context: &RunContext,
    launch: &Launch,
    plan: &wire::Plan,
    owner: Option<&OwnerReference>,
) -> Result<(), String> {
    let secrets = context.secrets.select(plan.secret_names())?;
    let Some(namespace) = launch
        .namespace(&context.namespace)
        .filter(|_| !secrets.is_empty())
    else {
        return Ok(());
    };
    let owner = owner.cloned().ok_or("there is no owner Job")?;
    let request = secrets::create(context, namespace, launch.probe, owner, &secrets);
    with_timeout(context, request).await
}

async fn create_pod(context: &RunContext, pod: &Pod) -> Result<Pod, Error> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    api.create(&PostParams::default(), pod)
        .await
        .map_err(|error| Error::api(format!("create a probe in namespace {namespace}"), error))
}

/// The pod whose identity a source has, if it has one.
fn original(context: &RunContext, source: &Source) -> Option<Arc<Pod>> {
    match source {
        Source::Pod {
            namespace, name, ..
        } => context.shared.store().pod(namespace, name),
        Source::Node { .. } | Source::ReferencePod { .. } | Source::Runner => None,
    }
}

/// The current state of a source's pod.
///
/// # Errors
/// A message when the pod does not exist.
pub(super) fn source_pod(
    context: &RunContext,
    namespace: &str,
    name: &str,
) -> Result<Arc<Pod>, String> {
    let pod = context.shared.store().pod(namespace, name);
    pod.ok_or_else(|| format!("pod {namespace}/{name} is gone"))
}

/// The probe pod for a source.
///
/// # Errors
/// A message when the source's pod does not exist, or the source is the runner.
pub(super) fn pod_for(
    context: &RunContext,
    source: &Source,
    request: &PodRequest<'_>,
) -> Result<Pod, String> {
    let (namespace, settings) = (&context.namespace, &context.settings);
    match source {
        Source::Pod {
            namespace, name, ..
        } => {
            let original = source_pod(context, namespace, name)?;
            Ok(probe_pod::clone_of(&original, settings, request))
        }
        Source::Node { name } => Ok(probe_pod::node_pod(name, namespace, settings, request)),
        Source::ReferencePod { node } => {
            let node = Some(node.as_str()).filter(|node| !node.is_empty());
            Ok(probe_pod::unlabelled(node, namespace, settings, request))
        }
        Source::Runner => Err("the runner's probe is not a pod".into()),
    }
}

/// One request with the run's request timeout.
///
/// # Errors
/// A sentence with the API server's message, or why there is no answer.
pub(super) async fn with_timeout<T>(
    context: &RunContext,
    request: impl Future<Output = Result<T, Error>>,
) -> Result<T, String> {
    match timeout(context.timeout, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Error::Api { source, doing })) => {
            Err(format!("failed to {doing}: {}", describe(&source)))
        }
        Ok(Err(error)) => Err(format!("failed to {error}")),
        Err(_) => Err(format!(
            "the API server gave no answer within {} s",
            context.timeout.as_secs()
        )),
    }
}
