//! What a run has made in a cluster, and what is still to be taken away.

use super::inside::Entered;
use super::launch::Place;
use super::names::{self, CONTAINER};
use super::runner::RunnerProbe;
use super::state::statuses;
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// A pod of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ours {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

/// A probe that the API server has taken.
#[derive(Debug, Clone)]
pub(super) enum Made {
    /// As a pod of its own.
    Pod(Ours),
    /// Within a pod of the user's, which is never deleted.
    Within(Entered),
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
    pods: Mutex<BTreeMap<Ours, Deletion>>,
    entered: Mutex<BTreeSet<Entered>>,
    runners: Mutex<Vec<RunnerProbe>>,
    /// The images that they ran.
    images: Mutex<BTreeSet<String>>,
}

impl Created {
    pub(super) fn note(&self, made: &Made) {
        match made {
            Made::Pod(ours) => {
                self.pods.lock().unwrap_or_else(PoisonError::into_inner).insert(ours.clone(), Deletion::Due);
            }
            Made::Within(entered) => {
                self.entered.lock().unwrap_or_else(PoisonError::into_inner).insert(entered.clone());
            }
        }
    }

    pub(super) fn note_runner(&self, runner: RunnerProbe) {
        self.runners.lock().unwrap_or_else(PoisonError::into_inner).push(runner);
    }

    pub(super) fn pods(&self) -> Vec<Ours> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// With how far the deletion of each has come.
    pub(super) fn deletions(&self) -> Vec<(Ours, Deletion)> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.iter().map(|(ours, deletion)| (ours.clone(), deletion.clone())).collect()
    }

    /// Whether the API server has answered every request to delete.
    pub(super) fn is_answered(&self) -> bool {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        !pods.values().any(|deletion| matches!(deletion, Deletion::Unanswered(_)))
    }

    /// The pods of the user's in which a container of ours is.
    pub(super) fn entered(&self) -> Vec<Entered> {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Notes which image each runs, as its node says.
    pub(super) fn note_images(&self, place: &Place) {
        let within = names::inside(&place.common.run);
        let pods: Vec<_> = {
            let store = place.shared.store();
            let beside = self.pods().into_iter().map(|ours| store.pod(&ours.namespace, &ours.name));
            let entered = self.entered().into_iter().map(|entered| store.pod(&entered.namespace, &entered.name));
            beside.chain(entered).flatten().collect()
        };
        let ran = pods.iter().filter_map(|pod| image_of(pod, CONTAINER).or_else(|| image_of(pod, &within)));
        self.images.lock().unwrap_or_else(PoisonError::into_inner).extend(ran);
    }

    /// The images that probes ran, as far as they were seen before they were stopped.
    pub(super) fn images(&self) -> Vec<String> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Those that are still to be deleted.
    pub(super) fn due(&self) -> Vec<Ours> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.iter().filter(|(_, deletion)| **deletion != Deletion::Taken).map(|(ours, _)| ours.clone()).collect()
    }

    pub(super) fn note_deletion(&self, ours: &Ours, deletion: Deletion) {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).insert(ours.clone(), deletion);
    }

    pub(super) fn take_runners(&self) -> Vec<RunnerProbe> {
        std::mem::take(&mut self.runners.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a container runs (ContainerStatus.imageID); nothing until it has run.
fn image_of(pod: &Pod, container: &str) -> Option<String> {
    let ours = statuses(pod).find(|status| status.name == container)?;
    Some(ours.image_id.clone()).filter(|id| !id.is_empty())
}
