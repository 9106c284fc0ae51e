//! What everything of a run hangs on, in each namespace: a Job that runs nothing.
//!
//! With `completions: 0` it is complete at once, and the cluster itself deletes it when
//! `ttlSecondsAfterFinished` is over; what it owns goes with it. So a run leaves nothing even if
//! its runner is killed. It is not the controller of what it owns: a disruption budget would ask a
//! controller for its scale, and a Job has none.

use super::error::Error;
use super::names;
use super::probe_pod::{Common, restricted};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PostParams;
use kube::{Api, Client};

/// The owner of everything of a run in one namespace.
fn job(common: &Common) -> Job {
    let template = PodSpec {
        // Never started; it only has to pass admission.
        containers: vec![Container {
            name: names::CONTAINER.into(),
            image: Some(common.image.clone()),
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
            name: Some(names::of_run(&common.run)),
            annotations: Some(names::annotations(&common.run, "everything of this run")),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            completions: Some(0),
            parallelism: Some(0),
            ttl_seconds_after_finished: Some(
                i32::try_from(common.deadline.as_secs()).unwrap_or(i32::MAX),
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

/// Creates the owner in a namespace.
///
/// # Errors
/// What the API server refused.
pub(super) async fn create(
    client: &Client,
    namespace: &str,
    common: &Common,
) -> Result<OwnerReference, Error> {
    let api: Api<Job> = Api::namespaced(client.clone(), namespace);
    let job = api
        .create(&PostParams::default(), &job(common))
        .await
        .map_err(|error| {
            Error::api(
                format!("create the owner Job in namespace {namespace}"),
                error,
            )
        })?;
    Ok(OwnerReference {
        api_version: "batch/v1".into(),
        kind: "Job".into(),
        name: job.metadata.name.unwrap_or_default(),
        uid: job.metadata.uid.unwrap_or_default(),
        controller: Some(false),
        block_owner_deletion: Some(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_runs_nothing_and_goes_by_itself() {
        let common = Common {
            run: "r".into(),
            image: "i".into(),
            pull_policy: "Never".into(),
            deadline: Duration::from_secs(90),
        };
        let spec = job(&common).spec.unwrap();
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
