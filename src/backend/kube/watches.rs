//! Watches: each kind of objects is listed once, and then its changes are applied to the store.

use super::cluster_policy::ClusterNetworkPolicy;
use super::connect::Connection;
use super::error::{Error, describe, is_absent, is_forbidden};
use super::final_list::{ListedScope, ReadNamespaces, WatchedScope};
use super::objects::{SharedStore, WatchKey};
use super::watched_kinds::WatchedKind;
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

/// The first and the longest pause before an interrupted watch is started again. They are short,
/// since a run takes about a minute.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The watches of a run, which end when this is dropped.
#[derive(Default)]
pub(super) struct Watches {
    running: Vec<Watch>,
    /// The namespaces that are read one by one, since they may not be watched.
    read_namespaces: Option<ReadNamespaces>,
    /// Sentences about objects that may not be read.
    pub(super) notes: Vec<String>,
}

impl Drop for Watches {
    fn drop(&mut self) {
        for watch in &self.running {
            watch.task.abort();
        }
    }
}

/// A watch that runs, with what it watches.
struct Watch {
    task: JoinHandle<()>,
    scope: Box<dyn WatchedScope>,
}

impl Watches {
    /// Lists everything that is watched afresh, and compares it with what the watches showed: a
    /// watch that hangs shows neither changes nor an error. What it did not show is reported as
    /// changes since it last showed anything, and as a gap.
    ///
    /// Kinds that cannot be listed are a gap too.
    pub(super) async fn confirm(&self, shared: &SharedStore, timeout: Duration) {
        let scopes = self.running.iter().map(|watch| watch.scope.as_ref());
        let namespaces = self
            .read_namespaces
            .iter()
            .map(|namespaces| namespaces as _);
        let confirmations = scopes
            .chain(namespaces)
            .map(|scope: &dyn WatchedScope| async move {
                if tokio::time::timeout(timeout, scope.confirm(shared))
                    .await
                    .is_err()
                {
                    let why = format!(
                        "their list at the end took longer than {} s",
                        timeout.as_secs()
                    );
                    shared.open_gap(&scope.key(), why);
                }
            });
        futures::future::join_all(confirmations).await;
    }
}

/// Starts all watches and returns when each kind has been listed once: in the whole cluster, or
/// where that is forbidden, in the given namespaces.
///
/// # Errors
/// When the API server cannot be reached, does not answer within `timeout`, or forbids to list
/// pods, Services, `EndpointSlices` or NetworkPolicies in a namespace.
pub(super) async fn start(
    connection: &Connection,
    shared: &Arc<SharedStore>,
    namespaces: &BTreeSet<String>,
    timeout: Duration,
) -> Result<Watches, Error> {
    let listing = start_all(connection, shared, namespaces);
    tokio::time::timeout(timeout, listing)
        .await
        .unwrap_or_else(|_| {
            Err(Error::Timeout {
                doing: "list the cluster's objects".into(),
                after: timeout,
            })
        })
}

async fn start_all(
    connection: &Connection,
    shared: &Arc<SharedStore>,
    namespaces: &BTreeSet<String>,
) -> Result<Watches, Error> {
    let mut watches = Watches::default();
    let (pods, services, slices, policies, all_namespaces, nodes, cluster_policies) = tokio::join!(
        watch_namespaced::<Pod>(connection, shared, namespaces),
        watch_namespaced::<Service>(connection, shared, namespaces),
        watch_namespaced::<EndpointSlice>(connection, shared, namespaces),
        watch_namespaced::<NetworkPolicy>(connection, shared, namespaces),
        watch::<Namespace>(Api::all(connection.client.clone()), None, shared),
        watch::<Node>(Api::all(connection.client.clone()), None, shared),
        watch::<ClusterNetworkPolicy>(Api::all(connection.client.clone()), None, shared),
    );
    for running in [pods, services, slices, policies] {
        watches.running.extend(running?);
    }
    match nodes {
        Ok(watch) => watches.running.push(watch),
        Err(error) if is_refused(&error) => {
            watches
                .notes
                .push("nodes may not be listed: only nodes that run pods are known".to_owned());
        }
        Err(error) => return Err(Error::watch("list nodes", error)),
    }
    match cluster_policies {
        Ok(watch) => watches.running.push(watch),
        Err(error) if is_not_served(&error) => {}
        Err(error) if is_refused(&error) => {
            let note =
                "ClusterNetworkPolicies may not be watched: a change of one would not be noticed";
            watches.notes.push(note.to_owned());
        }
        Err(error) => return Err(Error::watch("list ClusterNetworkPolicies", error)),
    }
    match all_namespaces {
        Ok(watch) => watches.running.push(watch),
        Err(error) if is_refused(&error) => {
            let unreadable = read_namespaces(connection, shared, namespaces).await?;
            watches.read_namespaces = Some(ReadNamespaces {
                api: Api::all(connection.client.clone()),
                names: namespaces
                    .iter()
                    .filter(|name| !unreadable.contains(name))
                    .cloned()
                    .collect(),
            });
            watches.notes.push(
                "namespaces may not be watched: a change of their labels is noticed at the end only"
                    .to_owned(),
            );
            if !unreadable.is_empty() {
                watches.notes.push(format!(
                    "the labels of these namespaces may not be read: {}",
                    unreadable.join(", ")
                ));
            }
        }
        Err(error) => return Err(Error::watch("list namespaces", error)),
    }
    Ok(watches)
}

/// Watches a kind in all namespaces, or where that is forbidden, in each of the given ones.
async fn watch_namespaced<K>(
    connection: &Connection,
    shared: &Arc<SharedStore>,
    namespaces: &BTreeSet<String>,
) -> Result<Vec<Watch>, Error>
where
    K: WatchedKind + Resource<Scope = NamespaceResourceScope>,
{
    let doing = format!("list {}", K::plural(&()));
    match watch::<K>(Api::all(connection.client.clone()), None, shared).await {
        Ok(watch) => return Ok(vec![watch]),
        Err(error) if is_refused(&error) => {}
        Err(error) => return Err(Error::watch(doing, error)),
    }

    let mut watches = Vec::new();
    for namespace in namespaces {
        let api = Api::namespaced(connection.client.clone(), namespace);
        match watch::<K>(api, Some(namespace.clone()), shared).await {
            Ok(watch) => watches.push(watch),
            Err(error) if is_refused(&error) => {
                return Err(Error::Forbidden {
                    doing,
                    verb: "list and watch",
                    what: format!("{} in namespace {namespace}", K::plural(&())),
                    help: "the Role that grants it follows".into(),
                });
            }
            Err(error) => return Err(Error::watch(doing, error)),
        }
    }
    Ok(watches)
}

/// Reads namespaces one by one, and returns the names of those that may not be read.
async fn read_namespaces(
    connection: &Connection,
    shared: &Arc<SharedStore>,
    namespaces: &BTreeSet<String>,
) -> Result<Vec<String>, Error> {
    let api: Api<Namespace> = Api::all(connection.client.clone());
    let mut unreadable = Vec::new();
    for name in namespaces {
        match api.get(name).await {
            Ok(namespace) => shared.apply(namespace, shared.now()).await,
            Err(error) if is_forbidden(&error) => unreadable.push(name.clone()),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(Error::api(format!("read namespace {name}"), error)),
        }
    }
    Ok(unreadable)
}

/// Starts one watch and returns when it has listed all objects once.
///
/// The list is streamed, which takes a single request (Kubernetes, "Streaming lists"). API servers
/// that cannot do that refuse the request as invalid; then a plain list comes first.
async fn watch<K: WatchedKind>(
    api: Api<K>,
    namespace: Option<String>,
    shared: &Arc<SharedStore>,
) -> Result<Watch, watcher::Error> {
    let streamed = watcher::Config::default().streaming_lists();
    // Boxed, since a run starts many watches at once and their futures are large.
    match Box::pin(watch_with(api.clone(), streamed, namespace.clone(), shared)).await {
        Err(error) if is_invalid(&error) => {
            Box::pin(watch_with(
                api,
                watcher::Config::default(),
                namespace,
                shared,
            ))
            .await
        }
        started => started,
    }
}

async fn watch_with<K: WatchedKind>(
    api: Api<K>,
    config: watcher::Config,
    namespace: Option<String>,
    shared: &Arc<SharedStore>,
) -> Result<Watch, watcher::Error> {
    let (first, listed) = oneshot::channel();
    let scope = Box::new(ListedScope {
        api: api.clone(),
        namespace: namespace.clone(),
    });
    let task = tokio::spawn(run_watch(api, config, namespace, Arc::clone(shared), first));
    match listed.await {
        // Without an answer the task ended without an error, which the stream of a watch never does.
        Ok(Ok(())) | Err(_) => Ok(Watch { task, scope }),
        Ok(Err(error)) => {
            task.abort();
            Err(error)
        }
    }
}

/// Keeps the stored objects of a kind up to date.
///
/// An error before the end of the first list ends the watch. After a later error, as when the API
/// server restarts, the watch is started again with a new list, which shows the changes that were
/// missed: a resumed watch does not say when it has caught up.
async fn run_watch<K: WatchedKind>(
    api: Api<K>,
    config: watcher::Config,
    namespace: Option<String>,
    shared: Arc<SharedStore>,
    first: oneshot::Sender<Result<(), watcher::Error>>,
) {
    let key: WatchKey = (K::plural(&()).into_owned(), namespace);
    let mut first = Some(first);
    let mut interrupted: Option<Duration> = None;
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
            shared.watch_showed(&key, now);
            match event {
                Event::Init => listing.clear(),
                Event::InitApply(object) => listing.push(object),
                Event::InitDone => {
                    let at = interrupted.take().unwrap_or(now);
                    shared
                        .replace(key.1.as_deref(), std::mem::take(&mut listing), at)
                        .await;
                    shared.close_gap(&key);
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
            // The kind was removed from the cluster, and its objects with it.
            shared
                .replace(
                    key.1.as_deref(),
                    Vec::<K>::new(),
                    interrupted.unwrap_or_else(|| shared.now()),
                )
                .await;
            shared.close_gap(&key);
            return;
        }

        interrupted.get_or_insert_with(|| shared.now());
        shared.open_gap(&key, describe_watch(&error));
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The error that ended a watch, in one line.
fn describe_watch(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => describe(error),
        watcher::Error::WatchError(status) => status.message.clone(),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

/// The HTTP status of a refusal by the API server; `None` for other errors.
fn status(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => super::error::status(error),
        watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::NoResourceVersion => None,
    }
}

/// Whether the cluster does not serve this kind (404).
fn is_not_served(error: &watcher::Error) -> bool {
    status(error) == Some(404)
}

/// Whether the API server called the request invalid: 400 or 422 (API conventions, "HTTP Status
/// codes").
fn is_invalid(error: &watcher::Error) -> bool {
    matches!(status(error), Some(400 | 422))
}

/// Whether the API server forbids to list or watch this kind (403).
fn is_refused(error: &watcher::Error) -> bool {
    status(error) == Some(403)
}
