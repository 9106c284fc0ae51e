//! The end of a run: probes are stopped, everything is removed, and what remains is told.

use super::created_objects::{Deletion, PodRef};
use super::error::{Error, describe, is_absent, is_busy, is_conflict};
use super::launch::{AT_ONCE, Run, RunContext};
use super::names;
use super::probe_pod::GRACE_SECONDS;
use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long probes may take to say their last, from the moment at which they are told to stop.
const LAST_WORDS: Duration = Duration::from_secs(8);

/// How long the garbage collector may take until it deletes a probe; then we do.
const COLLECTION: Duration = Duration::from_secs(2);

/// How long a reader may take to say what kept it from reading on.
const LAST_WORD: Duration = Duration::from_secs(1);

/// How long those are read on that cannot be stopped: what they saw until now is told with their
/// next life sign.
const NEXT_HEARTBEAT: Duration = Duration::from_millis(1_500);

/// For how long deletions are tried again, from the first on, where the API server gives no answer:
/// one that restarts is back by then.
const FAREWELL: Duration = Duration::from_secs(30);

/// The pause between two such tries.
const FAREWELL_PAUSE: Duration = Duration::from_secs(1);

/// How long the cluster may take to remove what was deleted, before it counts as left. A kubelet
/// that lost the API server looks for it again after half a minute at the latest (client-go,
/// `reflector.go`: its backoff ends at 30 s).
const REMOVAL: Duration = Duration::from_secs(45);

/// The same while the API server cannot be watched: then nothing more will be seen of it.
const REMOVAL_UNSEEN: Duration = Duration::from_secs(2);

impl Run {
    /// Ends all probes and returns when the last line of each is on the channel, or can no more be
    /// waited for.
    pub(super) async fn stop(&mut self, place: &RunContext) {
        self.created.note_images(place);
        let farewell = *self
            .farewell
            .get_or_insert_with(|| Instant::now() + FAREWELL);
        loop {
            let owners = self.release(place).await;
            self.end_probes(place).await;
            let is_answered = self.created.unanswered().is_none()
                && !owners
                    .iter()
                    .any(|(_, it)| matches!(it, Deletion::Unanswered(_)));
            // What cannot be deleted now is tried again at the end, and told then.
            if is_answered || Instant::now() + FAREWELL_PAUSE >= farewell {
                break;
            }
            sleep(FAREWELL_PAUSE).await;
        }
        let now = Instant::now();
        let deadline = now + LAST_WORDS;
        for runner in self.created.take_runners() {
            runner.stop().await;
        }
        for mut reader in self.readers_within.drain(..) {
            if timeout_at(now + NEXT_HEARTBEAT, &mut reader).await.is_err() {
                reader.abort();
            }
        }
        for mut reader in self.readers.drain(..) {
            if timeout_at(deadline, &mut reader).await.is_err() {
                // All others have had as much time.
                self.enough.send_replace(true);
                if timeout(LAST_WORD, &mut reader).await.is_err() {
                    reader.abort();
                }
            }
        }
    }

    /// Deletes the owners: the cluster's garbage collector then deletes what hangs on them
    /// (Kubernetes, "Garbage Collection"), which takes one request for each namespace in place of
    /// one for each probe. Gives what failed.
    async fn release(&mut self, place: &RunContext) -> Vec<(String, Deletion)> {
        let deletions =
            std::mem::take(&mut self.owners)
                .into_iter()
                .map(|(namespace, owner)| async move {
                    let api: Api<Job> = Api::namespaced(place.client.clone(), &namespace);
                    let answer = timeout(
                        place.timeout,
                        api.delete(&owner.name, &DeleteParams::background()),
                    )
                    .await;
                    (namespace, owner, deletion(answer, place))
                });
        let answers: Vec<_> = futures::stream::iter(deletions)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut failed = Vec::new();
        for (namespace, owner, deletion) in answers {
            if deletion != Deletion::Taken {
                failed.push((format!("Job {namespace}/{}", owner.name), deletion));
                self.owners.insert(namespace, owner);
            }
        }
        failed
    }

    /// Deletes those probes that the garbage collector leaves alone.
    async fn end_probes(&self, place: &RunContext) {
        let stays = |ours: &PodRef| {
            let pod = place.shared.store().pod(&ours.namespace, &ours.name);
            pod.is_some_and(|pod| {
                pod.metadata.uid.as_deref() == Some(&ours.uid)
                    && pod.metadata.deletion_timestamp.is_none()
            })
        };
        let due = self.created.due();
        place
            .shared
            .wait_while(COLLECTION, || due.iter().any(stays))
            .await;
        let (slow, collected): (Vec<PodRef>, Vec<PodRef>) = due.into_iter().partition(stays);
        for ours in &collected {
            self.created.note_deletion(ours, Deletion::Taken);
        }
        let deletions = slow.into_iter().map(|ours| {
            let (place, created) = (place.clone(), Arc::clone(&self.created));
            async move { created.note_deletion(&ours, delete(&place, &ours).await) }
        });
        let _: Vec<_> = futures::stream::iter(deletions)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
    }

    /// Removes everything; what remains is told.
    pub(super) async fn remove(mut self, place: &RunContext) -> Vec<Error> {
        // Where the API server gave no answer for so long, the owners are asked for once more, and
        // no more.
        if self.created.unanswered().is_none() {
            self.stop(place).await;
        }
        // What is left, by the reason.
        let mut left: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (what, deletion) in self.release(place).await {
            if let Deletion::Unanswered(why) | Deletion::Refused(why) = deletion {
                left.entry(why).or_default().push(what);
            }
        }
        let pods = self.created.deletions();
        let is_blind = place.shared.unseen().is_some() || self.created.unanswered().is_some();
        let most = if is_blind { REMOVAL_UNSEEN } else { REMOVAL };
        place
            .shared
            .wait_while(most, || pods.iter().any(|(ours, _)| is_there(place, ours)))
            .await;
        let mut lingering = Vec::new();
        for (ours, deletion) in pods.iter().filter(|(ours, _)| is_there(place, ours)) {
            let name = format!("Pod {}/{}", ours.namespace, ours.name);
            match deletion {
                Deletion::Taken | Deletion::Due => lingering.push(name),
                Deletion::Unanswered(why) | Deletion::Refused(why) => {
                    left.entry(why.clone()).or_default().push(name)
                }
            }
        }
        let by = self.gone_by.map_or_else(String::new, |by| {
            by.strftime(" at %H:%M:%S UTC").to_string()
        });
        let mut errors: Vec<Error> = left
            .into_iter()
            .map(|(why, what)| Error::Left {
                what: what.join(", "),
                why,
                by: by.clone(),
            })
            .collect();
        if !lingering.is_empty() {
            errors.push(Error::Lingering {
                what: lingering.join(", "),
            });
        }
        let container = names::of_run(&place.common.run);
        errors.extend(self.created.entered().into_iter().map(|entered| {
            Error::EphemeralContainerRemains {
                container: container.clone(),
                pod: format!("{}/{}", entered.namespace, entered.name),
            }
        }));
        errors
    }
}

/// Whether a pod of ours is still known to exist.
fn is_there(place: &RunContext, ours: &PodRef) -> bool {
    let pod = place.shared.store().pod(&ours.namespace, &ours.name);
    pod.is_some_and(|pod| pod.metadata.uid.as_deref() == Some(&ours.uid))
}

/// Asks for the end of one probe.
pub(super) async fn delete(place: &RunContext, ours: &PodRef) -> Deletion {
    let api: Api<Pod> = Api::namespaced(place.client.clone(), &ours.namespace);
    let parameters = DeleteParams {
        grace_period_seconds: Some(GRACE_SECONDS),
        preconditions: Some(Preconditions {
            uid: Some(ours.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    deletion(
        timeout(place.timeout, api.delete(&ours.name, &parameters)).await,
        place,
    )
}

/// What the answer to a request to delete comes to.
fn deletion<T>(answer: Result<Result<T, kube::Error>, Elapsed>, place: &RunContext) -> Deletion {
    match answer {
        Ok(Ok(_)) => Deletion::Taken,
        // Conflict: by now something else has that name (API conventions, "HTTP Status codes").
        Ok(Err(error)) if is_absent(&error) || is_conflict(&error) => Deletion::Taken,
        Ok(Err(error @ kube::Error::Api(_))) if !is_busy(&error) => {
            Deletion::Refused(describe(&error))
        }
        Ok(Err(error)) => Deletion::Unanswered(describe(&error)),
        Err(_) => Deletion::Unanswered(format!(
            "the API server gave no answer within {} s",
            place.timeout.as_secs()
        )),
    }
}
