//! Objects that a run has created, and how far their deletion has come.

use super::ephemeral::EphemeralContainer;
use super::launch::RunContext;
use super::names::{self, CONTAINER};
use super::runner::RunnerProbe;
use super::state::{ImageError, container_statuses};
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A probe pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodRef {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

/// An object that the API server has created for a probe.
#[derive(Debug, Clone)]
pub(super) enum CreatedObject {
    Pod(PodRef),
    /// A container in a pod of the user's, which is never deleted.
    EphemeralContainer(EphemeralContainer),
}

/// How far the deletion of an object has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deletion {
    /// It was not requested yet.
    Pending,
    /// The API server gave no answer, for this reason.
    NoAnswer(String),
    /// The API server refused it, with this message.
    Refused(String),
    /// The API server accepted it, or the object was gone.
    Accepted,
}

/// The objects of a run, shared by the tasks that create, read and delete them.
#[derive(Default)]
pub(super) struct CreatedObjects {
    pods: Mutex<BTreeMap<PodRef, Deletion>>,
    ephemeral_containers: Mutex<BTreeSet<EphemeralContainer>>,
    runner_probes: Mutex<Vec<RunnerProbe>>,
    images: Mutex<BTreeSet<String>>,
    image_errors: Mutex<BTreeSet<ImageError>>,
}

impl CreatedObjects {
    pub(super) fn add(&self, object: &CreatedObject) {
        match object {
            CreatedObject::Pod(pod) => {
                lock(&self.pods).insert(pod.clone(), Deletion::Pending);
            }
            CreatedObject::EphemeralContainer(container) => {
                lock(&self.ephemeral_containers).insert(container.clone());
            }
        }
    }

    pub(super) fn add_runner_probe(&self, probe: RunnerProbe) {
        lock(&self.runner_probes).push(probe);
    }

    /// All probe pods, with how far the deletion of each has come.
    pub(super) fn deletions(&self) -> Vec<(PodRef, Deletion)> {
        lock(&self.pods)
            .iter()
            .map(|(pod, deletion)| (pod.clone(), deletion.clone()))
            .collect()
    }

    /// Why a deletion has no answer, if any has none.
    pub(super) fn unanswered_deletion(&self) -> Option<String> {
        lock(&self.pods)
            .values()
            .find_map(|deletion| match deletion {
                Deletion::NoAnswer(why) => Some(why.clone()),
                Deletion::Pending | Deletion::Refused(_) | Deletion::Accepted => None,
            })
    }

    pub(super) fn ephemeral_containers(&self) -> Vec<EphemeralContainer> {
        lock(&self.ephemeral_containers).iter().cloned().collect()
    }

    /// Records the image that each probe runs, as its pod's status names it.
    pub(super) fn record_images(&self, context: &RunContext) {
        let ephemeral_container = names::run_object(&context.settings.run);
        let pods: Vec<_> = {
            let store = context.shared.store();
            let probe_pods = lock(&self.pods)
                .keys()
                .filter_map(|pod| store.pod(&pod.namespace, &pod.name))
                .collect::<Vec<_>>();
            let users_pods = self
                .ephemeral_containers()
                .into_iter()
                .filter_map(|container| store.pod(&container.namespace, &container.name));
            probe_pods.into_iter().chain(users_pods).collect()
        };

        let images = pods.iter().filter_map(|pod| {
            image_id(pod, CONTAINER).or_else(|| image_id(pod, &ephemeral_container))
        });
        lock(&self.images).extend(images);
    }

    /// The images that probes ran, as recorded before they were stopped.
    pub(super) fn images(&self) -> Vec<String> {
        lock(&self.images).iter().cloned().collect()
    }

    pub(super) fn add_image_error(&self, error: ImageError) {
        lock(&self.image_errors).insert(error);
    }

    /// What the nodes that cannot get the probe image answered, and the next step; `None` where
    /// every node could.
    pub(super) fn image_failure(&self) -> Option<String> {
        let errors = lock(&self.image_errors);
        let image = &errors.first()?.image;
        let mut nodes: BTreeMap<&str, &str> = BTreeMap::new();
        for error in errors.iter() {
            // The registry's own answer is before that of the pause until the next attempt.
            nodes.entry(&error.node).or_insert(&error.answer);
        }
        let answers: Vec<String> = nodes
            .into_iter()
            .map(|(node, answer)| format!("{node}: {answer}"))
            .collect();
        Some(format!(
            "nodes cannot get the probe image {image}: {}; load it onto them (watertight image -o probe.tar), or name one that they can pull: --probe-image",
            answers.join("; ")
        ))
    }

    /// The probe pods whose deletion the API server has not accepted.
    pub(super) fn undeleted_pods(&self) -> Vec<PodRef> {
        lock(&self.pods)
            .iter()
            .filter(|(_, deletion)| **deletion != Deletion::Accepted)
            .map(|(pod, _)| pod.clone())
            .collect()
    }

    pub(super) fn set_deletion(&self, pod: &PodRef, deletion: Deletion) {
        lock(&self.pods).insert(pod.clone(), deletion);
    }

    pub(super) fn take_runner_probes(&self) -> Vec<RunnerProbe> {
        std::mem::take(&mut lock(&self.runner_probes))
    }
}

/// Locks a mutex, even if a thread panicked while it held it: every change is a single step, so the
/// content is valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The image that a container runs (`ContainerStatus.imageID`); `None` until it has run.
fn image_id(pod: &Pod, container: &str) -> Option<String> {
    let status = container_statuses(pod).find(|status| status.name == container)?;
    Some(status.image_id.clone()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_failure_names_image_nodes_answers_and_the_next_step() {
        let created = CreatedObjects::default();
        assert_eq!(created.image_failure(), None);
        for (node, answer) in [
            ("node-2", "ErrImagePull: not found"),
            ("node-1", "ErrImageNeverPull: not present"),
            ("node-1", "ErrImageNeverPull: not present"),
        ] {
            created.add_image_error(ImageError {
                image: "probe:2".into(),
                node: node.into(),
                answer: answer.into(),
            });
        }
        let failure = created.image_failure().unwrap();
        assert!(
            failure.contains("probe:2") && failure.contains("--probe-image"),
            "{failure}"
        );
        assert!(
            failure.contains(
                "probe:2: node-1: ErrImageNeverPull: not present; node-2: ErrImagePull: not found"
            ),
            "{failure}"
        );
    }
}
