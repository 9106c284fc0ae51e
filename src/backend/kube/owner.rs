//! The owner of a run's objects in each namespace: a Job that runs no pod.
//!
//! With `completions: 0` the Job is complete at once, and the cluster deletes it, and all that it
//! owns, when `ttlSecondsAfterFinished` is over. So a run leaves nothing behind even if watertight
//! is killed. The Job is not the controller of the objects it owns: a disruption budget would ask a
//! controller for its scale, and a Job has none.

use super::error::Error;
use super::launch::RunContext;
use super::names;
use super::probe_pod::{RunSettings, restricted};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::PostParams;

/// The owner Job of a run in one namespace.
fn job(settings: &RunSettings) -> Job {
    let template = PodSpec {
        // No pod is made of this template; it only has to pass admission.
        containers: vec![Container {
            name: names::CONTAINER.into(),
            image: Some(settings.image.clone()),
            security_context: Some(restricted()),
            ..Container::default()
        }],
        automount_service_account_token: Some(false),
        restart_policy: Some("Never".into()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    };
    Job {
        metadata: ObjectMeta {
            name: Some(names::run_object(&settings.run)),
            annotations: Some(names::annotations(&settings.run, "all sources of this run")),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            completions: Some(0),
            parallelism: Some(0),
            ttl_seconds_after_finished: Some(
                i32::try_from(settings.active_deadline.as_secs()).unwrap_or(i32::MAX),
            ),
            template: PodTemplateSpec {
                metadata: None,
                spec: Some(template),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// Creates the owner Job in a namespace. From then on the objects that it owns are those of this
/// run.
///
/// # Errors
/// [`Error::Api`] when the API server refuses it.
pub(super) async fn create(
    context: &RunContext,
    namespace: &str,
    settings: &RunSettings,
) -> Result<OwnerReference, Error> {
    let api: Api<Job> = Api::namespaced(context.client.clone(), namespace);
    let job = api
        .create(&PostParams::default(), &job(settings))
        .await
        .map_err(|error| {
            Error::api(
                format!("create the owner Job in namespace {namespace}"),
                error,
            )
        })?;
    let uid = job.metadata.uid.unwrap_or_default();
    context.shared.add_owner(&uid, &settings.run);
    Ok(OwnerReference {
        api_version: "batch/v1".into(),
        kind: "Job".into(),
        name: job.metadata.name.unwrap_or_default(),
        uid,
        controller: Some(false),
        block_owner_deletion: Some(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_owner_job_runs_no_pod_and_expires() {
        let settings = RunSettings {
            run: "r".into(),
            image: "i".into(),
            pull_policy: "Never".into(),
            active_deadline: Duration::from_secs(90),
        };
        let spec = job(&settings).spec.unwrap();
        assert_eq!(
            (
                spec.completions,
                spec.parallelism,
                spec.ttl_seconds_after_finished
            ),
            (Some(0), Some(0), Some(90))
        );
    }
}
