//! What runs have left in a cluster: found by the annotation that everything of a run carries, and
//! removed.
//!
//! A run that is killed is removed by the cluster itself a few minutes later; this is for whoever
//! does not want to wait. Nobody can tell a killed run from one that goes on elsewhere, so only
//! what is older than any run takes is removed, unless that is asked for.

use super::connect::{Access, connect};
use super::error::{Error, is_absent, is_forbidden};
use super::names::run_of;
use super::{REQUEST_TIMEOUT, probe_pod::GRACE_SECONDS};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, Resource, ResourceExt};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Which runs are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// All, also those that may be going on.
    All,
    /// Those that began longer ago.
    OlderThan(Duration),
}

/// One object of a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left {
    /// `Pod` or `Job`.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The run that it belongs to.
    pub run: String,
    uid: String,
    age: Duration,
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {}/{} of run {}",
            self.kind, self.namespace, self.name, self.run
        )
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Cleaned {
    /// What was removed.
    pub removed: Vec<Left>,
    /// Runs that may be going on, with the age of each.
    pub spared: BTreeMap<String, Duration>,
    /// What could not be removed.
    pub errors: Vec<Error>,
}

/// Parts what is to be removed from the runs that are spared. A run is as old as its oldest object.
fn choose(found: Vec<Left>, runs: Runs) -> (Vec<Left>, BTreeMap<String, Duration>) {
    let mut ages: BTreeMap<String, Duration> = BTreeMap::new();
    for left in &found {
        let age = ages.entry(left.run.clone()).or_default();
        *age = left.age.max(*age);
    }
    let is_meant = |age: Duration| match runs {
        Runs::All => true,
        Runs::OlderThan(limit) => age >= limit,
    };
    let removed = found
        .into_iter()
        .filter(|left| ages.get(&left.run).is_some_and(|age| is_meant(*age)))
        .collect();
    let spared = ages
        .into_iter()
        .filter(|(_, age)| !is_meant(*age))
        .collect();
    (removed, spared)
}

/// Removes what runs have left: in the whole cluster, or where that may not be read, in one
/// namespace.
///
/// # Errors
/// When there is no cluster, or nothing may be read.
pub async fn clean(access: &Access, runs: Runs, now: jiff::Timestamp) -> Result<Cleaned, Error> {
    let connection = connect(access).await?;
    let timeout = access
        .request_timeout
        .filter(|timeout| !timeout.is_zero())
        .unwrap_or(REQUEST_TIMEOUT);
    let client = &connection.client;
    let mut found = Vec::new();
    // The owners first: what is deleted with them does not have to be deleted by itself.
    found.extend(ours::<Job>(client, "Job", &connection.namespace, timeout, now).await?);
    found.extend(ours::<Pod>(client, "Pod", &connection.namespace, timeout, now).await?);
    let (victims, spared) = choose(found, runs);
    let mut cleaned = Cleaned {
        spared,
        ..Cleaned::default()
    };
    for left in victims {
        let deleted = match left.kind {
            "Job" => delete::<Job>(client, &left, timeout).await,
            _ => delete::<Pod>(client, &left, timeout).await,
        };
        match deleted {
            Ok(()) => cleaned.removed.push(left),
            Err(error) => cleaned.errors.push(error),
        }
    }
    Ok(cleaned)
}

async fn ours<K>(
    client: &Client,
    kind: &'static str,
    namespace: &str,
    timeout: Duration,
    now: jiff::Timestamp,
) -> Result<BTreeSet<Left>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let doing = || format!("list {}", K::plural(&()));
    let list =
        async |api: Api<K>| match tokio::time::timeout(timeout, api.list(&ListParams::default()))
            .await
        {
            Ok(answer) => Ok(answer),
            Err(_) => Err(Error::Silent {
                doing: doing(),
                after: timeout,
            }),
        };
    let objects = match list(Api::all(client.clone())).await? {
        Err(error) if is_forbidden(&error) => {
            list(Api::namespaced(client.clone(), namespace)).await?
        }
        answer => answer,
    };
    let objects = objects.map_err(|error| Error::api(doing(), error))?;
    let left = |object: K| {
        let meta = object.meta();
        let age = meta
            .creation_timestamp
            .as_ref()
            .map(|time| now.duration_since(time.0))
            .unwrap_or_default();
        Some(Left {
            kind,
            run: run_of(meta)?.to_owned(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            age: Duration::try_from(age).unwrap_or_default(),
        })
    };
    Ok(objects.items.into_iter().filter_map(left).collect())
}

/// Deletes that very object and no later one of the same name.
async fn delete<K>(client: &Client, left: &Left, timeout: Duration) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), &left.namespace);
    let parameters = DeleteParams {
        grace_period_seconds: (left.kind == "Pod").then_some(GRACE_SECONDS),
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions {
            uid: Some(left.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match tokio::time::timeout(timeout, api.delete(&left.name, &parameters)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if is_absent(&error) => Ok(()),
        Ok(Err(error)) => Err(Error::api(format!("remove {left}"), error)),
        Err(_) => Err(Error::Silent {
            doing: format!("remove {left}"),
            after: timeout,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(run: &str, name: &str, minutes: u64) -> Left {
        Left {
            kind: "Pod",
            namespace: "shop".into(),
            name: name.into(),
            run: run.into(),
            uid: "u".into(),
            age: Duration::from_secs(60 * minutes),
        }
    }

    #[test]
    fn a_run_is_as_old_as_its_oldest_object_and_young_ones_are_spared() {
        let found = vec![
            left("old", "a", 30),
            left("old", "b", 1),
            left("young", "c", 2),
        ];
        let (removed, spared) = choose(found.clone(), Runs::OlderThan(Duration::from_secs(600)));
        let names: Vec<&str> = removed.iter().map(|left| left.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(
            spared,
            BTreeMap::from([("young".to_owned(), Duration::from_secs(120))])
        );
        let (removed, spared) = choose(found, Runs::All);
        assert_eq!((removed.len(), spared.len()), (3, 0));
    }
}
