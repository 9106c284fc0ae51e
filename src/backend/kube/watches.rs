//! Lists and watches: everything is listed once, and from then on only changes come.

use super::cluster_policy::ClusterNetworkPolicy;
use super::connect::Connection;
use super::error::{Error, describe, is_absent, is_forbidden};
use super::objects::{Kind, Shared};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Pauses between attempts to watch again: a run lasts a minute, so they are short.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The watches of a run. They end with it.
#[derive(Default)]
pub(super) struct Watches {
    tasks: Vec<JoinHandle<()>>,
    /// What could not be read, and what that means.
    pub(super) notes: Vec<String>,
}

impl Drop for Watches {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Starts all watches and returns when everything has been listed once. Where the whole cluster may
/// not be read, the given namespaces are.
///
/// # Errors
/// When the API server cannot be asked, or refuses something without which no verdict is possible.
pub(super) async fn start(
    connection: &Connection,
    shared: &Arc<Shared>,
    namespaces: &BTreeSet<String>,
    timeout: Duration,
) -> Result<Watches, Error> {
    let mut watches = Watches::default();
    let listing = async {
        let (pods, services, slices, policies, all_namespaces, nodes, cluster_policies) = tokio::join!(
            everywhere_or_within::<Pod>(connection, shared, namespaces),
            everywhere_or_within::<Service>(connection, shared, namespaces),
            everywhere_or_within::<EndpointSlice>(connection, shared, namespaces),
            everywhere_or_within::<NetworkPolicy>(connection, shared, namespaces),
            watch::<Namespace>(Api::all(connection.client.clone()), None, shared),
            watch::<Node>(Api::all(connection.client.clone()), None, shared),
            watch::<ClusterNetworkPolicy>(Api::all(connection.client.clone()), None, shared),
        );
        for tasks in [pods, services, slices, policies] {
            watches.tasks.extend(tasks?);
        }
        match nodes {
            Ok(task) => watches.tasks.push(task),
            Err(error) if is_refused(&error) => {
                watches.notes.push(
                    "nodes may not be listed: only those are known that pods run on".to_owned(),
                );
            }
            Err(error) => return Err(Error::watch("list nodes", error)),
        }
        match cluster_policies {
            Ok(task) => watches.tasks.push(task),
            Err(error) if is_not_served(&error) => {}
            Err(error) if is_refused(&error) => {
                let note = "ClusterNetworkPolicies may not be watched: a change of one would not be noticed";
                watches.notes.push(note.to_owned());
            }
            Err(error) => return Err(Error::watch("list ClusterNetworkPolicies", error)),
        }
        match all_namespaces {
            Ok(task) => watches.tasks.push(task),
            Err(error) if is_refused(&error) => {
                let blind = single_namespaces(connection, shared, namespaces).await?;
                watches.notes.push(
                    "namespaces may not be watched: a change of their labels would not be noticed"
                        .to_owned(),
                );
                if !blind.is_empty() {
                    watches.notes.push(format!(
                        "the labels of these namespaces may not be read: {}",
                        blind.join(", ")
                    ));
                }
            }
            Err(error) => return Err(Error::watch("list namespaces", error)),
        }
        Ok(())
    };
    match tokio::time::timeout(timeout, listing).await {
        Ok(listed) => listed?,
        Err(_) => {
            return Err(Error::Silent {
                doing: "list the cluster's objects".into(),
                after: timeout,
            });
        }
    }
    Ok(watches)
}

async fn everywhere_or_within<K>(
    connection: &Connection,
    shared: &Arc<Shared>,
    namespaces: &BTreeSet<String>,
) -> Result<Vec<JoinHandle<()>>, Error>
where
    K: Kind + Resource<Scope = NamespaceResourceScope>,
{
    let doing = || format!("list {}", K::plural(&()));
    match watch::<K>(Api::all(connection.client.clone()), None, shared).await {
        Ok(task) => return Ok(vec![task]),
        Err(error) if is_refused(&error) => {}
        Err(error) => return Err(Error::watch(doing(), error)),
    }
    let mut tasks = Vec::new();
    for namespace in namespaces {
        let api = Api::namespaced(connection.client.clone(), namespace);
        match watch::<K>(api, Some(namespace.clone()), shared).await {
            Ok(task) => tasks.push(task),
            Err(error) if is_refused(&error) => {
                return Err(Error::Forbidden {
                    doing: doing(),
                    verb: "list and watch",
                    what: format!("{} in namespace {namespace}", K::plural(&())),
                    help: "the Role that grants it follows".into(),
                });
            }
            Err(error) => return Err(Error::watch(doing(), error)),
        }
    }
    Ok(tasks)
}

/// Reads namespaces one by one; those whose labels may not be read are named.
async fn single_namespaces(
    connection: &Connection,
    shared: &Arc<Shared>,
    namespaces: &BTreeSet<String>,
) -> Result<Vec<String>, Error> {
    let api: Api<Namespace> = Api::all(connection.client.clone());
    let mut blind = Vec::new();
    for name in namespaces {
        match api.get(name).await {
            Ok(namespace) => shared.apply(namespace, shared.now()).await,
            Err(error) if is_forbidden(&error) => blind.push(name.clone()),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(Error::api(format!("read namespace {name}"), error)),
        }
    }
    Ok(blind)
}

/// Starts one watch and returns when it has listed everything once: in one request where the API
/// server can do that (Kubernetes, "Streaming lists"), which others refuse as an invalid one.
async fn watch<K: Kind>(
    api: Api<K>,
    namespace: Option<String>,
    shared: &Arc<Shared>,
) -> Result<JoinHandle<()>, watcher::Error> {
    let streamed = watcher::Config::default().streaming_lists();
    // On the heap: a run starts many at once, and holds them all while it connects.
    match Box::pin(watch_by(api.clone(), streamed, namespace.clone(), shared)).await {
        Err(error) if is_invalid(&error) => {
            Box::pin(watch_by(api, watcher::Config::default(), namespace, shared)).await
        }
        started => started,
    }
}

async fn watch_by<K: Kind>(
    api: Api<K>,
    config: watcher::Config,
    namespace: Option<String>,
    shared: &Arc<Shared>,
) -> Result<JoinHandle<()>, watcher::Error> {
    let (first, listed) = oneshot::channel();
    let task = tokio::spawn(keep(api, config, namespace, Arc::clone(shared), first));
    match listed.await {
        Ok(Ok(())) => Ok(task),
        Ok(Err(error)) => {
            task.abort();
            Err(error)
        }
        // The sender is dropped without a word only when the task is, which nobody else can do.
        Err(_) => Ok(task),
    }
}

/// Keeps a kind up to date. An error before the first list is over ends it; later ones are waited
/// out, since the API server may be restarting, and what was missed meanwhile is found by listing
/// everything again: a watch that is only resumed does not say when it has caught up.
async fn keep<K: Kind>(
    api: Api<K>,
    config: watcher::Config,
    namespace: Option<String>,
    shared: Arc<Shared>,
    first: oneshot::Sender<Result<(), watcher::Error>>,
) {
    let sight = (K::plural(&()).into_owned(), namespace);
    let mut first = Some(first);
    let mut lost: Option<Duration> = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let mut listing = Vec::new();
        let mut events = watcher(api.clone(), config.clone()).boxed();
        let error = loop {
            let event = match events.try_next().await {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(error) => break error,
            };
            let now = shared.now();
            match event {
                Event::Init => listing.clear(),
                Event::InitApply(object) => listing.push(object),
                Event::InitDone => {
                    let at = lost.take().unwrap_or(now);
                    shared
                        .replace(sight.1.as_deref(), std::mem::take(&mut listing), at)
                        .await;
                    shared.regain(&sight);
                    pause = FIRST_PAUSE;
                    if let Some(first) = first.take() {
                        let _ = first.send(Ok(()));
                    }
                }
                Event::Apply(object) => shared.apply(object, now).await,
                Event::Delete(object) => shared.delete(&object, now).await,
            }
        };
        if let Some(first) = first.take() {
            let _ = first.send(Err(error));
            return;
        }
        if is_not_served(&error) {
            // The kind itself was removed, and its objects with it.
            shared
                .replace(
                    sight.1.as_deref(),
                    Vec::<K>::new(),
                    lost.unwrap_or_else(|| shared.now()),
                )
                .await;
            shared.regain(&sight);
            return;
        }
        lost.get_or_insert_with(|| shared.now());
        shared.lose(&sight, describe_watch(&error));
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What ended a watch, in one line.
fn describe_watch(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => describe(error),
        watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

/// The HTTP status with which the API server refused, where it did.
fn status(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => super::error::status(error),
        watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::NoResourceVersion => None,
    }
}

/// Whether this cluster does not have such objects.
fn is_not_served(error: &watcher::Error) -> bool {
    status(error) == Some(404)
}

/// Whether the request itself was refused: 400 and 422 (API conventions, "HTTP Status codes").
fn is_invalid(error: &watcher::Error) -> bool {
    matches!(status(error), Some(400 | 422))
}

/// Whether this kind may not be listed or watched there.
fn is_refused(error: &watcher::Error) -> bool {
    status(error) == Some(403)
}
