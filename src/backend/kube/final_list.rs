//! The list at the end of a run, which shows what a watch did not: one that hangs ends neither with
//! an error nor with a change.

use super::error::describe;
use super::objects::{SharedStore, WatchKey};
use super::watched_kinds::WatchedKind;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::ListParams;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::sleep;

/// How often a list is compared with what the watch showed. A watch that works is late by the time
/// that an event is under way.
const COMPARISONS: u32 = 4;

/// The pause between two comparisons.
const PAUSE: Duration = Duration::from_millis(500);

/// What one watch shows.
pub(super) trait WatchedScope: Send + Sync {
    fn key(&self) -> WatchKey;

    /// Lists the objects and compares them with the store. See [`super::watches::Watches::confirm`].
    fn confirm<'a>(&'a self, shared: &'a SharedStore) -> BoxFuture<'a, ()>;
}

/// The objects of a kind, in all namespaces or in one.
pub(super) struct ListedScope<K> {
    pub(super) api: Api<K>,
    pub(super) namespace: Option<String>,
}

impl<K: WatchedKind> WatchedScope for ListedScope<K> {
    fn key(&self) -> WatchKey {
        (K::plural(&()).into_owned(), self.namespace.clone())
    }

    fn confirm<'a>(&'a self, shared: &'a SharedStore) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let key = self.key();
            let list = || async {
                let list = self.api.list(&ListParams::default()).await;
                list.map(|list| list.items)
            };
            compare(shared, &key, list).await;
        })
    }
}

/// Namespaces that may be read one by one and not be watched.
pub(super) struct ReadNamespaces {
    pub(super) api: Api<Namespace>,
    pub(super) names: BTreeSet<String>,
}

impl WatchedScope for ReadNamespaces {
    fn key(&self) -> WatchKey {
        ("namespaces".into(), None)
    }

    fn confirm<'a>(&'a self, shared: &'a SharedStore) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for name in &self.names {
                match self.api.get_opt(name).await {
                    Ok(Some(namespace)) => shared.apply(namespace, Duration::ZERO).await,
                    Ok(None) => shared.delete_namespace(name, Duration::ZERO).await,
                    Err(error) => shared.open_gap(&self.key(), cannot_list(&error)),
                }
            }
        })
    }
}

fn cannot_list(error: &kube::Error) -> String {
    format!("they could not be listed at the end: {}", describe(error))
}

/// Compares lists with the store until they agree. What differs to the last was not shown by the
/// watch: it may have changed at any time since the watch last showed anything.
async fn compare<K: WatchedKind, L>(shared: &SharedStore, key: &WatchKey, list: impl Fn() -> L)
where
    L: Future<Output = Result<Vec<K>, kube::Error>>,
{
    for comparison in 1..=COMPARISONS {
        let objects = match list().await {
            Ok(objects) => objects,
            // The kind was removed from the cluster, and its objects with it.
            Err(error) if super::error::is_absent(&error) => Vec::new(),
            Err(error) => {
                shared.open_gap(key, cannot_list(&error));
                return;
            }
        };

        let differences = shared.differences(key.1.as_deref(), &objects);
        if differences == 0 {
            return;
        }
        if comparison == COMPARISONS {
            let since = shared.watch_last_showed(key);
            let why = format!(
                "their watch has shown nothing since {:.1} s after the start, and {differences} of them differ from their list at the end",
                since.as_secs_f64()
            );
            shared.open_gap_since(key, since, why);
            shared.replace(key.1.as_deref(), objects, since).await;
            return;
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Change;
    use crate::model::ClusterChange;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;
    use std::cell::Cell;
    use std::time::Instant;
    use tokio::sync::mpsc;

    fn pod(label: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "a", "namespace": "n", "uid": "1", "labels": { "app": label } },
            "spec": { "containers": [] },
        }))
        .unwrap()
    }

    /// A store whose watch of pods last showed something at 3 s.
    async fn store() -> (SharedStore, WatchKey, mpsc::Receiver<Change>) {
        let (sender, changes) = mpsc::channel(16);
        let shared = SharedStore::new(Instant::now(), sender);
        let key = ("pods".to_owned(), None);
        shared.replace(None, vec![pod("web")], Duration::ZERO).await;
        shared.watch_showed(&key, Duration::from_secs(3));
        shared.start_reporting_changes();
        (shared, key, changes)
    }

    #[tokio::test]
    async fn list_that_agrees_with_the_watch_changes_nothing() {
        let (shared, key, mut changes) = store().await;
        compare(&shared, &key, || async { Ok(vec![pod("web")]) }).await;
        assert_eq!(shared.watch_gap(), None);
        assert!(changes.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn change_that_a_hanging_watch_did_not_show_is_reported_since_it_last_showed_anything() {
        let (shared, key, mut changes) = store().await;
        compare(&shared, &key, || async { Ok(vec![pod("api")]) }).await;
        let change = changes.try_recv().unwrap();
        assert_eq!(change.object, ClusterChange::Pod("n".into(), "a".into()));
        assert_eq!(change.earliest, Duration::from_secs(3));
        let gap = shared.watch_gap().unwrap();
        assert_eq!(
            (gap.since, gap.what.as_str()),
            (Duration::from_secs(3), "pods")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn change_that_the_watch_shows_a_moment_later_is_no_gap() {
        let (shared, key, mut changes) = store().await;
        let lists = Cell::new(0);
        compare(&shared, &key, || async {
            lists.set(lists.get() + 1);
            if lists.get() == 2 {
                shared.apply(pod("api"), Duration::from_secs(4)).await;
            }
            Ok(vec![pod("api")])
        })
        .await;
        assert_eq!(changes.try_recv().unwrap().earliest, Duration::from_secs(4));
        assert_eq!(shared.watch_gap(), None);
    }

    #[tokio::test]
    async fn list_that_is_refused_is_a_gap() {
        let (shared, key, _changes) = store().await;
        let refused = || async {
            let status =
                kube::core::Status::failure("pods is forbidden", "Forbidden").with_code(403);
            Err::<Vec<Pod>, _>(kube::Error::Api(status.boxed()))
        };
        compare(&shared, &key, refused).await;
        let gap = shared.watch_gap().unwrap();
        assert!(gap.why.contains("pods is forbidden"), "{}", gap.why);
    }
}
