//! What is known of the cluster's objects, and what of a change to them matters.

use super::cluster_policy::ClusterNetworkPolicy;
use super::fingerprint::{self, Fingerprint};
use super::names::run_of;
use crate::backend::{Change, WatchGap};
use crate::inventory::{ApiObjects, ApiPolicy, PolicyState, spec_digest};
use crate::model::{ClusterChange, PolicyKind, PolicyRef};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Resource;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Namespace (empty for what has none) and name.
pub(super) type Key = (String, String);

/// All objects of a kind.
pub(super) type ObjectMap<K> = BTreeMap<Key, Arc<K>>;

/// A kind of objects that is watched.
pub(super) trait Kind:
    Resource<DynamicType = ()>
    + Clone
    + std::fmt::Debug
    + serde::de::DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Where its objects are kept.
    fn shelf(store: &mut Store) -> &mut ObjectMap<Self>;
    /// What of it matters.
    fn fingerprint(&self) -> Fingerprint;
    /// What has changed when that has; `None` where no verdict asks.
    fn changed(&self) -> Option<ClusterChange>;
}

/// A kind of policies that is watched.
trait WatchedPolicy: Kind {
    const KIND: PolicyKind;

    /// SHA-256 of its spec.
    fn digest(&self) -> String;

    fn reference(&self) -> PolicyRef {
        PolicyRef {
            kind: Self::KIND,
            namespace: self.meta().namespace.clone(),
            name: self.meta().name.clone().unwrap_or_default(),
        }
    }

    fn state(&self) -> PolicyState {
        PolicyState {
            policy: self.reference(),
            uid: self.meta().uid.clone(),
            resource_version: self.meta().resource_version.clone(),
            sha256: self.digest(),
        }
    }
}

impl WatchedPolicy for NetworkPolicy {
    const KIND: PolicyKind = PolicyKind::NetworkPolicy;

    fn digest(&self) -> String {
        spec_digest(&self.spec)
    }
}

impl WatchedPolicy for ClusterNetworkPolicy {
    const KIND: PolicyKind = PolicyKind::ClusterNetworkPolicy;

    fn digest(&self) -> String {
        spec_digest(&self.spec)
    }
}

/// Everything that is watched.
#[derive(Debug, Default)]
pub(super) struct Store {
    namespaces: ObjectMap<Namespace>,
    nodes: ObjectMap<Node>,
    pods: ObjectMap<Pod>,
    services: ObjectMap<Service>,
    slices: ObjectMap<EndpointSlice>,
    policies: ObjectMap<NetworkPolicy>,
    cluster_policies: ObjectMap<ClusterNetworkPolicy>,
    /// Whether changes are told: from the first inventory on.
    told: bool,
}

impl Store {
    /// All but what belongs to us.
    pub(super) fn objects(&self) -> ApiObjects<'_> {
        ApiObjects {
            namespaces: self.namespaces.values().map(AsRef::as_ref).collect(),
            nodes: self.nodes.values().map(AsRef::as_ref).collect(),
            pods: self
                .pods
                .values()
                .map(AsRef::as_ref)
                .filter(|pod| run_of(&pod.metadata).is_none())
                .collect(),
            services: self.services.values().map(AsRef::as_ref).collect(),
            policies: self.api_policies(),
        }
    }

    fn api_policies(&self) -> Vec<ApiPolicy<'_>> {
        let network = self.network_policies().map(ApiPolicy::Network);
        let cluster = self.cluster_policies.values();
        network
            .chain(cluster.map(|policy| ApiPolicy::Cluster(policy.as_manifest())))
            .collect()
    }

    /// The NetworkPolicies.
    pub(super) fn network_policies(&self) -> impl Iterator<Item = &NetworkPolicy> {
        self.policies.values().map(AsRef::as_ref)
    }

    /// The policies of every kind, for the report.
    pub(super) fn policy_states(&self) -> Vec<PolicyState> {
        let network = self.policies.values().map(|policy| policy.state());
        let cluster = self.cluster_policies.values().map(|policy| policy.state());
        let mut states: Vec<PolicyState> = network.chain(cluster).collect();
        states.sort();
        states
    }

    /// A pod, ours or not.
    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// Whether any pod of a run is still there.
    pub(super) fn has_pods_of(&self, run: &str) -> bool {
        self.pods
            .values()
            .any(|pod| run_of(&pod.metadata) == Some(run))
    }

    /// A namespace.
    pub(super) fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.namespaces
            .get(&(String::new(), name.to_owned()))
            .cloned()
    }
}

/// The store, shared by the watches that fill it and by everything that reads it.
pub(super) struct Shared {
    store: Mutex<Store>,
    started: Instant,
    notice: mpsc::Sender<Change>,
    version: watch::Sender<u64>,
    lost: Mutex<BTreeMap<WatchKey, Lost>>,
}

/// What one watch shows: a kind, of one namespace where not the whole cluster may be read.
pub(super) type WatchKey = (String, Option<String>);

/// A watch that was lost.
#[derive(Debug, Clone)]
struct Lost {
    since: Duration,
    why: String,
}

impl Shared {
    /// Nothing is known yet.
    pub(super) fn new(started: Instant, notice: mpsc::Sender<Change>) -> Self {
        Self {
            store: Mutex::default(),
            started,
            notice,
            version: watch::Sender::new(0),
            lost: Mutex::default(),
        }
    }

    /// The store as it is now. To be held for no longer than a look takes.
    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whenever anything in the store is new.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Waits while something holds of the store, at most so long.
    pub(super) async fn wait_while(&self, most: Duration, holds: impl Fn() -> bool) {
        let mut news = self.news();
        let waiting = async { while holds() && news.changed().await.is_ok() {} };
        // Whoever waits looks again.
        let _ = tokio::time::timeout(most, waiting).await;
    }

    /// The time since the run's clock was started.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// From now on changes are told.
    pub(super) fn tell(&self) {
        self.store().told = true;
    }

    /// A watch is lost, since now or earlier.
    pub(super) fn lose(&self, sight: &WatchKey, why: String) {
        let since = self.now();
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.entry(sight.clone()).or_insert(Lost { since, why });
    }

    /// A watch that was lost shows everything again.
    pub(super) fn regain(&self, sight: &WatchKey) {
        self.lost
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(sight);
    }

    /// What is not seen now, for the longest time.
    pub(super) fn unseen(&self) -> Option<WatchGap> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let ((what, _), first) = lost.iter().min_by_key(|(_, lost)| lost.since)?;
        let what = if lost.len() == 1 {
            what.clone()
        } else {
            "the cluster".to_owned()
        };
        Some(WatchGap {
            since: first.since,
            what,
            why: first.why.clone(),
        })
    }

    /// Takes one object in; `at` is the earliest moment at which it may have changed.
    pub(super) async fn apply<K: Kind>(&self, object: K, at: Duration) {
        let key = key_of(&object);
        self.update(at, |store: &mut Store| {
            let new = Arc::new(object);
            let old = K::shelf(store).insert(key, Arc::clone(&new));
            vec![(old, Some(new))]
        })
        .await;
    }

    /// Takes one object out.
    pub(super) async fn delete<K: Kind>(&self, object: &K, at: Duration) {
        let key = key_of(object);
        self.update(at, |store: &mut Store| {
            vec![(K::shelf(store).remove(&key), None)]
        })
        .await;
    }

    /// Replaces all objects of a kind, or of one namespace of it.
    pub(super) async fn replace<K: Kind>(
        &self,
        namespace: Option<&str>,
        objects: Vec<K>,
        at: Duration,
    ) {
        self.update(at, |store: &mut Store| {
            let kept = K::shelf(store);
            let mut new: ObjectMap<K> = objects
                .into_iter()
                .map(|object| (key_of(&object), Arc::new(object)))
                .collect();
            let is_meant = |key: &Key| namespace.is_none_or(|namespace| key.0 == namespace);
            let known: Vec<Key> = kept.keys().filter(|key| is_meant(key)).cloned().collect();
            let mut pairs = Vec::new();
            for key in known {
                let old = kept.remove(&key);
                pairs.push((old, new.get(&key).cloned()));
                if let Some(object) = new.remove(&key) {
                    kept.insert(key, object);
                }
            }
            for (key, object) in new {
                kept.insert(key, Arc::clone(&object));
                pairs.push((None, Some(object)));
            }
            pairs
        })
        .await;
    }

    async fn update<K: Kind>(
        &self,
        at: Duration,
        update: impl FnOnce(&mut Store) -> Vec<(Option<Arc<K>>, Option<Arc<K>>)>,
    ) {
        let changes: Vec<ClusterChange> = {
            let mut store = self.store();
            let pairs = update(&mut store);
            if store.told {
                pairs
                    .iter()
                    .filter_map(|(old, new)| difference(old.as_deref(), new.as_deref()))
                    .collect()
            } else {
                Vec::new()
            }
        };
        self.version.send_modify(|version| *version += 1);
        let noticed = self.now();
        for what in changes {
            // Nobody listens: then nobody judges by it either.
            let _ = self.notice.send(Change { at, noticed, what }).await;
        }
    }
}

/// What a verdict must know of the step from one state of an object to the next.
fn difference<K: Kind>(old: Option<&K>, new: Option<&K>) -> Option<ClusterChange> {
    let object = new.or(old)?;
    let state = |object: Option<&K>| object.map(K::fingerprint).unwrap_or_default();
    if run_of(object.meta()).is_some() || state(old) == state(new) {
        return None;
    }
    object.changed()
}

fn key_of<K: Kind>(object: &K) -> Key {
    (
        object.meta().namespace.clone().unwrap_or_default(),
        object.meta().name.clone().unwrap_or_default(),
    )
}

impl Kind for Namespace {
    fn shelf(store: &mut Store) -> &mut ObjectMap<Self> {
        &mut store.namespaces
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint::of_namespace(self)
    }

    fn changed(&self) -> Option<ClusterChange> {
        Some(ClusterChange::Namespace(key_of(self).1))
    }
}

impl Kind for Node {
    fn shelf(store: &mut Store) -> &mut ObjectMap<Self> {
        &mut store.nodes
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint::of_node(self)
    }

    fn changed(&self) -> Option<ClusterChange> {
        None
    }
}

impl Kind for Pod {
    fn shelf(store: &mut Store) -> &mut ObjectMap<Self> {
        &mut store.pods
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint::of_pod(self)
    }

    fn changed(&self) -> Option<ClusterChange> {
        let (namespace, name) = key_of(self);
        Some(ClusterChange::Pod(namespace, name))
    }
}

impl Kind for Service {
    fn shelf(store: &mut Store) -> &mut ObjectMap<Self> {
        &mut store.services
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint::of_service(self)
    }

    fn changed(&self) -> Option<ClusterChange> {
        let (namespace, name) = key_of(self);
        Some(ClusterChange::Service(namespace, name))
    }
}

impl Kind for EndpointSlice {
    fn shelf(store: &mut Store) -> &mut ObjectMap<Self> {
        &mut store.slices
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint::of_slice(self)
    }

    /// The Service that it belongs to, by the label that its controller sets (discovery/v1,
    /// `LabelServiceName`).
    fn changed(&self) -> Option<ClusterChange> {
        let service = self
            .metadata
            .labels
            .as_ref()?
            .get("kubernetes.io/service-name")?;
        Some(ClusterChange::Service(key_of(self).0, service.clone()))
    }
}

impl Kind for NetworkPolicy {
    fn shelf(store: &mut Store) -> &mut ObjectMap<Self> {
        &mut store.policies
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint::of_policy(self)
    }

    fn changed(&self) -> Option<ClusterChange> {
        Some(ClusterChange::Policy(self.reference()))
    }
}

impl Kind for ClusterNetworkPolicy {
    fn shelf(store: &mut Store) -> &mut ObjectMap<Self> {
        &mut store.cluster_policies
    }

    fn fingerprint(&self) -> Fingerprint {
        serde_json::json!({ "uid": self.meta().uid, "spec": self.spec })
    }

    fn changed(&self) -> Option<ClusterChange> {
        Some(ClusterChange::Policy(self.reference()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::RUN;
    use super::*;
    use serde_json::json;

    fn pod(name: &str, uid: &str, run: Option<&str>) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "n", "uid": uid, "annotations": run.map(|run| json!({ RUN: run })) },
            "spec": { "containers": [] },
        }))
        .unwrap()
    }

    fn told(receiver: &mut mpsc::Receiver<Change>) -> Vec<ClusterChange> {
        std::iter::from_fn(|| receiver.try_recv().ok())
            .map(|change| change.what)
            .collect()
    }

    #[tokio::test]
    async fn what_was_missed_while_nobody_watched_is_found_when_all_is_listed_again() {
        let (notice, mut changes) = mpsc::channel(16);
        let shared = Shared::new(Instant::now(), notice);
        shared
            .replace(
                None,
                vec![
                    pod("a", "1", None),
                    pod("b", "1", None),
                    pod("c", "1", None),
                ],
                Duration::ZERO,
            )
            .await;
        assert_eq!(
            told(&mut changes),
            [],
            "nothing is a change before there is a plan"
        );
        shared.tell();
        shared
            .replace(
                None,
                vec![
                    pod("a", "1", None),
                    pod("b", "2", None),
                    pod("d", "1", None),
                ],
                Duration::ZERO,
            )
            .await;
        let pod = |name: &str| ClusterChange::Pod("n".into(), name.into());
        assert_eq!(told(&mut changes), [pod("b"), pod("c"), pod("d")]);
    }

    #[tokio::test]
    async fn our_own_objects_do_not_count_and_are_no_part_of_the_inventory() {
        let (notice, mut changes) = mpsc::channel(16);
        let shared = Shared::new(Instant::now(), notice);
        shared.tell();
        shared.apply(pod("a", "1", Some("r")), Duration::ZERO).await;
        shared
            .delete(&pod("a", "1", Some("r")), Duration::ZERO)
            .await;
        shared.apply(pod("b", "1", Some("r")), Duration::ZERO).await;
        assert_eq!(told(&mut changes), []);
        assert!(shared.store().objects().pods.is_empty());
        assert!(shared.store().pod("n", "b").is_some());
    }

    #[tokio::test]
    async fn one_namespace_listed_again_leaves_the_others_alone() {
        let (notice, mut changes) = mpsc::channel(16);
        let shared = Shared::new(Instant::now(), notice);
        let mut elsewhere = pod("a", "1", None);
        elsewhere.metadata.namespace = Some("m".into());
        shared.apply(elsewhere, Duration::ZERO).await;
        shared.tell();
        shared
            .replace(Some("n"), vec![pod("a", "1", None)], Duration::ZERO)
            .await;
        assert_eq!(
            told(&mut changes),
            [ClusterChange::Pod("n".into(), "a".into())]
        );
        assert_eq!(shared.store().objects().pods.len(), 2);
    }
}
