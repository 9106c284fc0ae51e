//! What a run has made in a cluster, and what is still to be taken away.

use super::ephemeral::EphemeralContainer;
use super::launch::RunContext;
use super::names::{self, CONTAINER};
use super::runner::RunnerProbe;
use super::state::statuses;
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A pod of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodRef {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

/// A probe that the API server has taken.
#[derive(Debug, Clone)]
pub(super) enum CreatedObject {
    /// As a pod of its own.
    Pod(PodRef),
    /// Within a pod of the user's, which is never deleted.
    Within(EphemeralContainer),
}

/// How far the deletion of a pod of ours has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deletion {
    /// It was not asked for yet.
    Due,
    /// The API server gave no answer, and what came in its place.
    Unanswered(String),
    /// The API server refused it, and why.
    Refused(String),
    /// The API server took it, or the pod was gone.
    Taken,
}

/// What is there of ours.
#[derive(Default)]
pub(super) struct Created {
    /// With whether the API server has taken the request to delete it.
    pods: Mutex<BTreeMap<PodRef, Deletion>>,
    entered: Mutex<BTreeSet<EphemeralContainer>>,
    runners: Mutex<Vec<RunnerProbe>>,
    /// The images that they ran.
    images: Mutex<BTreeSet<String>>,
}

impl Created {
    pub(super) fn note(&self, made: &CreatedObject) {
        match made {
            CreatedObject::Pod(ours) => {
                locked(&self.pods).insert(ours.clone(), Deletion::Due);
            }
            CreatedObject::Within(entered) => {
                locked(&self.entered).insert(entered.clone());
            }
        }
    }

    pub(super) fn note_runner(&self, runner: RunnerProbe) {
        locked(&self.runners).push(runner);
    }

    fn pods(&self) -> Vec<PodRef> {
        locked(&self.pods).keys().cloned().collect()
    }

    /// With how far the deletion of each has come.
    pub(super) fn deletions(&self) -> Vec<(PodRef, Deletion)> {
        let pods = locked(&self.pods);
        pods.iter()
            .map(|(ours, deletion)| (ours.clone(), deletion.clone()))
            .collect()
    }

    /// What came in place of an answer to a request to delete, if one had none.
    pub(super) fn unanswered(&self) -> Option<String> {
        locked(&self.pods)
            .values()
            .find_map(|deletion| match deletion {
                Deletion::Unanswered(why) => Some(why.clone()),
                Deletion::Due | Deletion::Refused(_) | Deletion::Taken => None,
            })
    }

    /// The pods of the user's in which a container of ours is.
    pub(super) fn entered(&self) -> Vec<EphemeralContainer> {
        locked(&self.entered).iter().cloned().collect()
    }

    /// Notes which image each runs, as its node says.
    pub(super) fn note_images(&self, place: &RunContext) {
        let within = names::of_run(&place.common.run);
        let pods: Vec<_> = {
            let store = place.shared.store();
            let beside = self
                .pods()
                .into_iter()
                .map(|ours| store.pod(&ours.namespace, &ours.name));
            let entered = self
                .entered()
                .into_iter()
                .map(|entered| store.pod(&entered.namespace, &entered.name));
            beside.chain(entered).flatten().collect()
        };
        let ran = pods
            .iter()
            .filter_map(|pod| image_of(pod, CONTAINER).or_else(|| image_of(pod, &within)));
        locked(&self.images).extend(ran);
    }

    /// The images that probes ran, as far as they were seen before they were stopped.
    pub(super) fn images(&self) -> Vec<String> {
        locked(&self.images).iter().cloned().collect()
    }

    /// Those that are still to be deleted.
    pub(super) fn due(&self) -> Vec<PodRef> {
        let pods = locked(&self.pods);
        pods.iter()
            .filter(|(_, deletion)| **deletion != Deletion::Taken)
            .map(|(ours, _)| ours.clone())
            .collect()
    }

    pub(super) fn note_deletion(&self, ours: &PodRef, deletion: Deletion) {
        locked(&self.pods).insert(ours.clone(), deletion);
    }

    pub(super) fn take_runners(&self) -> Vec<RunnerProbe> {
        std::mem::take(&mut locked(&self.runners))
    }
}

/// What a thread that panicked left is as good as any: every change of it is one step.
fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a container runs (ContainerStatus.imageID); nothing until it has run.
fn image_of(pod: &Pod, container: &str) -> Option<String> {
    let ours = statuses(pod).find(|status| status.name == container)?;
    Some(ours.image_id.clone()).filter(|id| !id.is_empty())
}
