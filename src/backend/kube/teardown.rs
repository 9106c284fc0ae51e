//! The end of a run: probes are stopped, all objects are removed, and what remains is reported.

use super::created_objects::{Deletion, PodRef};
use super::error::{Error, describe, is_absent, is_busy, is_conflict};
use super::launch::{CONCURRENT_REQUESTS, Run, RunContext};
use super::names;
use super::probe_pod::GRACE_SECONDS;
use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long probes may take to write their last lines, from their deletion on.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// How long the garbage collector may take to delete a probe pod; then it is deleted directly.
const GARBAGE_COLLECTION_DELAY: Duration = Duration::from_secs(2);

/// How long a reader may take to report why it cannot read on.
const READER_STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// How long ephemeral containers, which cannot be stopped, are read on: their next heartbeat
/// reports the attempts made until now.
const NEXT_HEARTBEAT: Duration = Duration::from_millis(1_500);

/// For how long unanswered deletions are retried, from the first on: long enough for an API server
/// to restart.
const DELETION_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause between two such attempts.
const DELETION_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How long deleted pods may take to disappear before they are reported. A kubelet that lost the
/// API server connects again after 30 s at the latest (client-go, `reflector.go`: its backoff ends
/// there).
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(45);

/// The same while the API server cannot be watched, so that no removal would be noticed.
const REMOVAL_TIMEOUT_UNWATCHED: Duration = Duration::from_secs(2);

impl Run {
    /// Ends all probes; returns when the last line of each is on the channel, or its time is over.
    pub(super) async fn stop(&mut self, context: &RunContext) {
        self.created.record_images(context);
        self.delete_with_retries(context).await;
        self.stop_readers().await;
    }

    /// Deletes owners and pods, and retries while the API server gives no answer. Deletions that it
    /// refuses are tried again, and reported, by [`Run::remove`].
    async fn delete_with_retries(&mut self, context: &RunContext) {
        let deadline = *self
            .deletion_deadline
            .get_or_insert_with(|| Instant::now() + DELETION_TIMEOUT);
        loop {
            let failed_owners = self.delete_owners(context).await;
            self.delete_remaining_pods(context).await;
            let is_answered = self.created.unanswered_deletion().is_none()
                && !failed_owners
                    .iter()
                    .any(|(_, deletion)| matches!(deletion, Deletion::NoAnswer(_)));
            if is_answered || Instant::now() + DELETION_RETRY_PAUSE >= deadline {
                return;
            }
            sleep(DELETION_RETRY_PAUSE).await;
        }
    }

    async fn stop_readers(&mut self) {
        let now = Instant::now();
        for runner in self.created.take_runner_probes() {
            runner.stop().await;
        }
        for mut reader in self.ephemeral_readers.drain(..) {
            if timeout_at(now + NEXT_HEARTBEAT, &mut reader).await.is_err() {
                reader.abort();
            }
        }

        for mut reader in self.readers.drain(..) {
            if timeout_at(now + STOP_TIMEOUT, &mut reader).await.is_err() {
                // The time of all other readers is over too.
                self.stop_reading.send_replace(true);
                if timeout(READER_STOP_TIMEOUT, &mut reader).await.is_err() {
                    reader.abort();
                }
            }
        }
    }

    /// Deletes the owners, and returns those whose deletion failed.
    ///
    /// The garbage collector then deletes the objects that they own (Kubernetes, "Garbage
    /// Collection"), which takes one request for each namespace instead of one for each probe.
    async fn delete_owners(&mut self, context: &RunContext) -> Vec<(String, Deletion)> {
        let owners = std::mem::take(&mut self.owners);
        let requests = owners.into_iter().map(|(namespace, owner)| async move {
            let api: Api<Job> = Api::namespaced(context.client.clone(), &namespace);
            let parameters = DeleteParams::background();
            let answer = timeout(context.timeout, api.delete(&owner.name, &parameters)).await;
            (namespace, owner, deletion(answer, context))
        });
        let answers: Vec<_> = futures::stream::iter(requests)
            .buffer_unordered(CONCURRENT_REQUESTS)
            .collect()
            .await;

        let mut failed = Vec::new();
        for (namespace, owner, deletion) in answers {
            if deletion != Deletion::Accepted {
                failed.push((format!("Job {namespace}/{}", owner.name), deletion));
                self.owners.insert(namespace, owner);
            }
        }
        failed
    }

    /// Deletes the probe pods that the garbage collector has not deleted.
    async fn delete_remaining_pods(&self, context: &RunContext) {
        let pods = self.created.undeleted_pods();
        context
            .shared
            .wait_while(GARBAGE_COLLECTION_DELAY, || {
                pods.iter().any(|pod| is_undeleted(context, pod))
            })
            .await;

        let (remaining, collected): (Vec<PodRef>, Vec<PodRef>) =
            pods.into_iter().partition(|pod| is_undeleted(context, pod));
        for pod in &collected {
            self.created.set_deletion(pod, Deletion::Accepted);
        }
        let requests = remaining.into_iter().map(|pod| async move {
            let deletion = delete(context, &pod).await;
            self.created.set_deletion(&pod, deletion);
        });
        futures::stream::iter(requests)
            .buffer_unordered(CONCURRENT_REQUESTS)
            .collect::<()>()
            .await;
    }

    /// Removes all objects, and returns an error for everything that remains.
    pub(super) async fn remove(mut self, context: &RunContext) -> Vec<Error> {
        // After a stop that ended without an answer, only the owners are deleted once more.
        if self.created.unanswered_deletion().is_none() {
            self.stop(context).await;
        }
        let mut not_removed: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (owner, deletion) in self.delete_owners(context).await {
            if let Deletion::NoAnswer(why) | Deletion::Refused(why) = deletion {
                not_removed.entry(why).or_default().push(owner);
            }
        }

        let mut still_terminating = Vec::new();
        for (pod, deletion) in self.remaining_pods(context).await {
            let name = format!("Pod {}/{}", pod.namespace, pod.name);
            match deletion {
                Deletion::Accepted | Deletion::Pending => still_terminating.push(name),
                Deletion::NoAnswer(why) | Deletion::Refused(why) => {
                    not_removed.entry(why).or_default().push(name);
                }
            }
        }
        self.removal_errors(context, not_removed, &still_terminating)
    }

    /// Waits for the deleted pods to disappear, and returns those that are left.
    async fn remaining_pods(&self, context: &RunContext) -> Vec<(PodRef, Deletion)> {
        let mut pods = self.created.deletions();
        let is_unwatched =
            context.shared.watch_gap().is_some() || self.created.unanswered_deletion().is_some();
        let limit = if is_unwatched {
            REMOVAL_TIMEOUT_UNWATCHED
        } else {
            REMOVAL_TIMEOUT
        };
        context
            .shared
            .wait_while(limit, || pods.iter().any(|(pod, _)| exists(context, pod)))
            .await;
        pods.retain(|(pod, _)| exists(context, pod));
        pods
    }

    /// One error for each reason in `not_removed`, one for the pods that still terminate, and one
    /// for each ephemeral container.
    fn removal_errors(
        &self,
        context: &RunContext,
        not_removed: BTreeMap<String, Vec<String>>,
        still_terminating: &[String],
    ) -> Vec<Error> {
        let by = self.expires.map_or_else(String::new, |expires| {
            expires.strftime(" at %H:%M:%S UTC").to_string()
        });
        let mut errors: Vec<Error> = not_removed
            .into_iter()
            .map(|(why, objects)| Error::NotRemoved {
                what: objects.join(", "),
                why,
                by: by.clone(),
            })
            .collect();
        if !still_terminating.is_empty() {
            errors.push(Error::StillTerminating {
                what: still_terminating.join(", "),
            });
        }

        let containers = self.created.ephemeral_containers();
        errors.extend(
            containers
                .into_iter()
                .map(|container| Error::EphemeralContainerRemains {
                    container: names::run_object(&context.settings.run),
                    pod: format!("{}/{}", container.namespace, container.name),
                }),
        );
        errors
    }
}

/// Whether the watch shows a probe pod.
fn exists(context: &RunContext, pod: &PodRef) -> bool {
    let stored = context.shared.store().pod(&pod.namespace, &pod.name);
    stored.is_some_and(|stored| stored.metadata.uid.as_deref() == Some(&pod.uid))
}

/// Whether the watch shows a probe pod that was not deleted.
fn is_undeleted(context: &RunContext, pod: &PodRef) -> bool {
    let stored = context.shared.store().pod(&pod.namespace, &pod.name);
    stored.is_some_and(|stored| {
        stored.metadata.uid.as_deref() == Some(&pod.uid)
            && stored.metadata.deletion_timestamp.is_none()
    })
}

/// Deletes one probe pod, with a single request.
pub(super) async fn delete(context: &RunContext, pod: &PodRef) -> Deletion {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &pod.namespace);
    let parameters = DeleteParams {
        grace_period_seconds: Some(GRACE_SECONDS),
        preconditions: Some(Preconditions {
            uid: Some(pod.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let answer = timeout(context.timeout, api.delete(&pod.name, &parameters)).await;
    deletion(answer, context)
}

/// The outcome of a deletion request.
fn deletion<T>(answer: Result<Result<T, kube::Error>, Elapsed>, context: &RunContext) -> Deletion {
    match answer {
        Ok(Ok(_)) => Deletion::Accepted,
        // Conflict: another object has that name by now (API conventions, "HTTP Status codes").
        Ok(Err(error)) if is_absent(&error) || is_conflict(&error) => Deletion::Accepted,
        Ok(Err(error @ kube::Error::Api(_))) if !is_busy(&error) => {
            Deletion::Refused(describe(&error))
        }
        Ok(Err(error)) => Deletion::NoAnswer(describe(&error)),
        Err(_) => Deletion::NoAnswer(format!(
            "the API server gave no answer within {} s",
            context.timeout.as_secs()
        )),
    }
}
