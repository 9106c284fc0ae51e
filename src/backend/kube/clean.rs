//! Removal of the objects that killed runs left in a cluster.
//!
//! The cluster removes the objects of a killed run by itself a few minutes later; this is for users
//! who do not want to wait. A killed run looks like one that goes on elsewhere, so by default only
//! objects that are older than any run are removed.
//!
//! An owner Job of a run carries its annotation, has the name that follows from it, and runs no pod;
//! a pod of a run carries the annotation, has a probe pod's name and is owned by such a Job. An
//! object with the annotation alone is the user's: it is named and left alone.

use super::connect::{Access, connect};
use super::error::{Error, is_absent, is_forbidden};
use super::names::{self, run_id};
use super::{REQUEST_TIMEOUT, probe_pod::GRACE_SECONDS};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, Resource, ResourceExt};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The runs whose objects are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// All, including those that may be going on.
    All,
    /// Those that began longer ago than this.
    OlderThan(Duration),
}

/// An object that a run left.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leftover {
    /// `Pod` or `Job`.
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    /// The run's id.
    pub run: String,
    uid: String,
    age: Duration,
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {}/{} of run {}",
            self.kind, self.namespace, self.name, self.run
        )
    }
}

/// The result of a removal.
#[derive(Debug, Default)]
pub struct Cleaned {
    pub removed: Vec<Leftover>,
    /// The ages of the runs that may be going on and were not touched.
    pub spared: BTreeMap<String, Duration>,
    /// Jobs and pods that carry the annotation of runs and that no run has made, as
    /// `NAMESPACE/KIND/NAME`.
    pub left_alone: Vec<String>,
    /// One error for each object that could not be removed.
    pub errors: Vec<Error>,
}

impl Runs {
    /// Whether the objects of a run of this age are removed.
    fn includes(self, age: Duration) -> bool {
        match self {
            Self::All => true,
            Self::OlderThan(limit) => age >= limit,
        }
    }
}

/// Selects the objects to remove, and the ages of the runs that are spared. A run is as old as its
/// oldest object.
fn select(leftovers: Vec<Leftover>, runs: Runs) -> (Vec<Leftover>, BTreeMap<String, Duration>) {
    let mut ages: BTreeMap<String, Duration> = BTreeMap::new();
    for leftover in &leftovers {
        let age = ages.entry(leftover.run.clone()).or_default();
        *age = leftover.age.max(*age);
    }

    let selected = leftovers
        .into_iter()
        .filter(|leftover| runs.includes(ages[&leftover.run]))
        .collect();
    ages.retain(|_, age| !runs.includes(*age));
    (selected, ages)
}

/// Removes what runs have left: in the whole cluster, or where that is forbidden, in the namespace
/// of `access`.
///
/// # Errors
/// When there is no cluster, or its Jobs and pods may not be listed.
pub async fn clean(access: &Access, runs: Runs, now: jiff::Timestamp) -> Result<Cleaned, Error> {
    let connection = connect(access).await?;
    let timeout = access
        .request_timeout
        .filter(|timeout| !timeout.is_zero())
        .unwrap_or(REQUEST_TIMEOUT);
    let client = &connection.client;
    let namespace = &connection.namespace;

    let jobs = list::<Job>(client, namespace, timeout).await?;
    let pods = list::<Pod>(client, namespace, timeout).await?;
    let (leftovers, left_alone) = leftovers(&jobs, &pods, now);
    let (selected, spared) = select(leftovers, runs);

    let mut cleaned = Cleaned {
        spared,
        left_alone,
        ..Cleaned::default()
    };
    for leftover in selected {
        let deleted = match leftover.kind {
            "Job" => delete::<Job>(client, &leftover, timeout).await,
            _ => delete::<Pod>(client, &leftover, timeout).await,
        };
        match deleted {
            Ok(()) => cleaned.removed.push(leftover),
            Err(error) => cleaned.errors.push(error),
        }
    }
    Ok(cleaned)
}

/// The objects of one kind, in the whole cluster, or where that is forbidden, in one namespace.
async fn list<K>(client: &Client, namespace: &str, timeout: Duration) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    match list_objects::<K>(Api::all(client.clone()), timeout).await {
        Err(Error::Api { source, .. }) if is_forbidden(&source) => {
            list_objects::<K>(Api::namespaced(client.clone(), namespace), timeout).await
        }
        listed => listed,
    }
}

async fn list_objects<K>(api: Api<K>, timeout: Duration) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let doing = format!("list {}", K::plural(&()));
    match tokio::time::timeout(timeout, api.list(&ListParams::default())).await {
        Ok(Ok(list)) => Ok(list.items),
        Ok(Err(error)) => Err(Error::api(doing, error)),
        Err(_) => Err(Error::Timeout {
            doing,
            after: timeout,
        }),
    }
}

/// The objects of runs, owner Jobs first since their pods are deleted with them, and the names of
/// those that only carry the annotation.
fn leftovers(jobs: &[Job], pods: &[Pod], now: jiff::Timestamp) -> (Vec<Leftover>, Vec<String>) {
    let owners: BTreeMap<&str, &str> = jobs
        .iter()
        .filter(|job| is_owner_job(job))
        .filter_map(|job| Some((job.metadata.uid.as_deref()?, run_id(&job.metadata)?)))
        .collect();

    let (of_runs, mut left_alone) = sort_out(jobs, "Job", now, is_owner_job);
    let (pods_of_runs, pods_left_alone) =
        sort_out(pods, "Pod", now, |pod| is_pod_of_run(pod, &owners));
    left_alone.extend(pods_left_alone);
    (
        of_runs.into_iter().chain(pods_of_runs).collect(),
        left_alone,
    )
}

/// The objects with the annotation of runs: those that runs have made, and the names of the others.
fn sort_out<K: Resource<DynamicType = ()>>(
    objects: &[K],
    kind: &'static str,
    now: jiff::Timestamp,
    is_of_run: impl Fn(&K) -> bool,
) -> (BTreeSet<Leftover>, Vec<String>) {
    let (mut leftovers, mut left_alone) = (BTreeSet::new(), Vec::new());
    for object in objects {
        let Some(leftover) = leftover(object, kind, now) else {
            continue;
        };
        if is_of_run(object) {
            leftovers.insert(leftover);
        } else {
            left_alone.push(format!("{}/{kind}/{}", leftover.namespace, leftover.name));
        }
    }
    (leftovers, left_alone)
}

/// Whether a Job is the owner of a run's objects in its namespace.
fn is_owner_job(job: &Job) -> bool {
    let runs_no_pod = job
        .spec
        .as_ref()
        .is_some_and(|spec| spec.completions == Some(0) && spec.parallelism == Some(0));
    runs_no_pod
        && run_id(&job.metadata).is_some_and(|run| {
            names::is_run_id(run) && job.metadata.name == Some(names::run_object(run))
        })
}

/// Whether a pod is a probe pod of a run, by the runs of the owner Jobs.
fn is_pod_of_run(pod: &Pod, owners: &BTreeMap<&str, &str>) -> bool {
    run_id(&pod.metadata).is_some_and(|run| {
        names::is_probe_pod(&pod.name_any(), run)
            && names::is_owned_by(&pod.metadata, run, |uid| owners.get(uid) == Some(&run))
    })
}

/// An object with the annotation of a run; `None` for one without it.
fn leftover<K: Resource<DynamicType = ()>>(
    object: &K,
    kind: &'static str,
    now: jiff::Timestamp,
) -> Option<Leftover> {
    let meta = object.meta();
    let age = meta
        .creation_timestamp
        .as_ref()
        .map(|time| now.duration_since(time.0))
        .unwrap_or_default();
    Some(Leftover {
        kind,
        run: run_id(meta)?.to_owned(),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        age: Duration::try_from(age).unwrap_or_default(),
    })
}

/// Deletes an object by its uid, so that a later object with the same name is not deleted.
async fn delete<K>(client: &Client, leftover: &Leftover, timeout: Duration) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), &leftover.namespace);
    let parameters = DeleteParams {
        grace_period_seconds: (leftover.kind == "Pod").then_some(GRACE_SECONDS),
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions {
            uid: Some(leftover.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match tokio::time::timeout(timeout, api.delete(&leftover.name, &parameters)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if is_absent(&error) => Ok(()),
        Ok(Err(error)) => Err(Error::api(format!("remove {leftover}"), error)),
        Err(_) => Err(Error::Timeout {
            doing: format!("remove {leftover}"),
            after: timeout,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::RUN;
    use super::*;
    use serde_json::{Value, json};

    const THIS: &str = "0123456789abcdef";
    const NAME: &str = "watertight-0123456789abcdef";
    const PROBE: &str = "watertight-00112233aa-p0x0123456789abcdef";

    fn job(name: &str, run: &str, uid: &str, completions: i32) -> Job {
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "shop", "uid": uid, "annotations": { RUN: run } },
            "spec": { "completions": completions, "parallelism": completions, "template": {} },
        }))
        .unwrap()
    }

    fn pod(name: &str, owner: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "shop", "uid": "p", "annotations": { RUN: THIS },
                "ownerReferences": [owner],
            },
        }))
        .unwrap()
    }

    fn owner(uid: &str) -> Value {
        json!({ "apiVersion": "batch/v1", "kind": "Job", "name": NAME, "uid": uid })
    }

    #[test]
    fn objects_with_the_annotation_alone_are_left_alone() {
        let jobs = [
            job(NAME, THIS, "j", 0),
            job("nightly", THIS, "k", 0),
            job(NAME, THIS, "l", 1),
            job("watertight-nightly", "nightly", "m", 0),
        ];
        let replica_set =
            json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "j" });
        let pods = [
            pod(PROBE, &owner("j")),
            pod(PROBE, &owner("gone")),
            pod(PROBE, &owner("l")),
            pod("web-1", &owner("j")),
            pod("web-2", &replica_set),
        ];
        let (leftovers, left_alone) = leftovers(&jobs, &pods, jiff::Timestamp::UNIX_EPOCH);
        let names: Vec<String> = leftovers.iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                format!("Job shop/{NAME} of run {THIS}"),
                format!("Pod shop/{PROBE} of run {THIS}"),
            ]
        );
        assert_eq!(
            left_alone.len(),
            jobs.len() + pods.len() - 2,
            "{left_alone:?}"
        );
    }

    fn leftover(run: &str, name: &str, minutes: u64) -> Leftover {
        Leftover {
            kind: "Pod",
            namespace: "shop".into(),
            name: name.into(),
            run: run.into(),
            uid: "u".into(),
            age: Duration::from_secs(60 * minutes),
        }
    }

    #[test]
    fn runs_whose_oldest_object_is_young_are_spared() {
        let leftovers = vec![
            leftover("old", "a", 30),
            leftover("old", "b", 1),
            leftover("young", "c", 2),
        ];
        let (removed, spared) =
            select(leftovers.clone(), Runs::OlderThan(Duration::from_secs(600)));
        let names: Vec<&str> = removed
            .iter()
            .map(|leftover| leftover.name.as_str())
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(
            spared,
            BTreeMap::from([("young".to_owned(), Duration::from_secs(120))])
        );
        let (removed, spared) = select(leftovers, Runs::All);
        assert_eq!((removed.len(), spared.len()), (3, 0));
    }
}
