//! The store of watched objects, and the reports of changes to them.

use super::cluster_policy::ClusterNetworkPolicy;
use super::names::{self, run_id};
use super::watched_kinds::{WatchedKind, WatchedPolicy, key_of};
use crate::backend::{Change, WatchGap};
use crate::inventory::{ApiObjects, ApiPolicy, PolicyState};
use crate::model::{ClusterChange, PolicyKind};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Namespace (empty for cluster-scoped objects) and name.
pub(super) type ObjectKey = (String, String);

/// All objects of one kind.
pub(super) type ObjectMap<K> = BTreeMap<ObjectKey, Arc<K>>;

/// The watched objects.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) namespaces: ObjectMap<Namespace>,
    pub(super) nodes: ObjectMap<Node>,
    pub(super) pods: ObjectMap<Pod>,
    pub(super) services: ObjectMap<Service>,
    pub(super) slices: ObjectMap<EndpointSlice>,
    pub(super) policies: ObjectMap<NetworkPolicy>,
    pub(super) cluster_policies: ObjectMap<ClusterNetworkPolicy>,
    /// The owner Jobs of this run, by uid, with the id that their objects carry.
    owners: BTreeMap<String, String>,
    /// Whether changes are reported: from the first inventory on.
    reports_changes: bool,
}

impl Store {
    /// Whether this run has made an object: it carries the run's annotation, has an owner reference
    /// to a Job of this run and a name of the run's form.
    ///
    /// Whatever carries only the annotation, as the pods of a workload whose template has it, is an
    /// object like any other. So are the objects of other runs.
    pub(super) fn is_ours<K: WatchedKind>(&self, object: &K) -> bool {
        let meta = object.meta();
        run_id(meta).is_some_and(|run| {
            let is_job = |uid: &str| self.owners.get(uid).is_some_and(|owner| owner == run);
            object.has_name_of(run) && names::is_owned_by(meta, run, is_job)
        })
    }

    /// The change that verdicts have to know of, unless the object is one that this run has made.
    fn change<K: WatchedKind>(&self, (old, new): &Transition<K>) -> Option<ClusterChange> {
        let object = new.as_ref().or(old.as_ref())?;
        if self.is_ours(object.as_ref()) {
            return None;
        }
        change_between(old.as_deref(), new.as_deref())
    }

    /// The objects that carry a run's annotation and that this run has not made, as
    /// `NAMESPACE/KIND/NAME`.
    pub(super) fn annotated_by_others(&self) -> Vec<String> {
        let pods = self.annotated(&self.pods, "Pod");
        let policies = self.annotated(&self.policies, "NetworkPolicy");
        let services = self.annotated(&self.services, "Service");
        let namespaces = self.annotated(&self.namespaces, "Namespace");
        let cluster_policies = self.annotated(&self.cluster_policies, "ClusterNetworkPolicy");
        [pods, policies, services, namespaces, cluster_policies].concat()
    }

    fn annotated<K: WatchedKind>(&self, objects: &ObjectMap<K>, kind: &str) -> Vec<String> {
        objects
            .iter()
            .filter(|(_, object)| run_id(object.meta()).is_some() && !self.is_ours(object.as_ref()))
            .map(|((namespace, name), _)| match namespace.as_str() {
                "" => format!("{kind}/{name}"),
                namespace => format!("{namespace}/{kind}/{name}"),
            })
            .collect()
    }

    /// All objects except those that this run has made.
    pub(super) fn objects(&self) -> ApiObjects<'_> {
        ApiObjects {
            namespaces: self.namespaces.values().map(AsRef::as_ref).collect(),
            nodes: self.nodes.values().map(AsRef::as_ref).collect(),
            pods: self
                .pods
                .values()
                .map(AsRef::as_ref)
                .filter(|pod| !self.is_ours::<Pod>(pod))
                .collect(),
            services: self.services.values().map(AsRef::as_ref).collect(),
            policies: self.api_policies(),
        }
    }

    fn api_policies(&self) -> Vec<ApiPolicy<'_>> {
        PolicyKind::ALL
            .into_iter()
            .flat_map(|kind| self.api_policies_of(kind))
            .collect()
    }

    /// The policies of a kind, as far as it is watched.
    fn api_policies_of(&self, kind: PolicyKind) -> Vec<ApiPolicy<'_>> {
        match kind {
            PolicyKind::NetworkPolicy => self.network_policies().map(ApiPolicy::Network).collect(),
            PolicyKind::ClusterNetworkPolicy => self
                .cluster_policies
                .values()
                .map(|policy| ApiPolicy::Cluster(policy.as_manifest()))
                .collect(),
            PolicyKind::AdminNetworkPolicy | PolicyKind::BaselineAdminNetworkPolicy => Vec::new(),
        }
    }

    /// The NetworkPolicies, without those of this run's canaries.
    pub(super) fn network_policies(&self) -> impl Iterator<Item = &NetworkPolicy> {
        self.policies
            .values()
            .map(AsRef::as_ref)
            .filter(|policy| !self.is_ours::<NetworkPolicy>(policy))
    }

    /// The policies of every kind, for the report.
    pub(super) fn policy_states(&self) -> Vec<PolicyState> {
        let network = self.network_policies().map(WatchedPolicy::state);
        let cluster = self.cluster_policies.values().map(|policy| policy.state());
        let mut states: Vec<PolicyState> = network.chain(cluster).collect();
        states.sort();
        states
    }

    /// A pod, of the user's or of a run.
    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// Whether any pod exists that was made under this id of the run.
    pub(super) fn has_pods_of(&self, run: &str) -> bool {
        self.pods
            .values()
            .any(|pod| run_id(&pod.metadata) == Some(run) && self.is_ours(pod.as_ref()))
    }

    pub(super) fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.namespaces
            .get(&(String::new(), name.to_owned()))
            .cloned()
    }
}

/// The store, shared by the watches that fill it and the tasks that read it.
pub(super) struct SharedStore {
    store: Mutex<Store>,
    started: Instant,
    changes: mpsc::Sender<Change>,
    version: watch::Sender<u64>,
    gaps: Mutex<BTreeMap<WatchKey, Gap>>,
    /// When each watch last showed anything.
    showed: Mutex<BTreeMap<WatchKey, Duration>>,
}

/// The kind and the namespace that one watch shows; `None` for all namespaces.
pub(super) type WatchKey = (String, Option<String>);

/// The interruption of a watch.
#[derive(Debug, Clone)]
struct Gap {
    since: Duration,
    why: String,
}

impl SharedStore {
    /// An empty store. Times count from `started`.
    pub(super) fn new(started: Instant, changes: mpsc::Sender<Change>) -> Self {
        Self {
            store: Mutex::default(),
            started,
            changes,
            version: watch::Sender::new(0),
            gaps: Mutex::default(),
            showed: Mutex::default(),
        }
    }

    /// Locks the store; hold the guard for a single read only.
    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A receiver that is notified of every update of the store.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Waits while a condition of the store holds, at most for `limit`. The caller checks the
    /// condition again.
    pub(super) async fn wait_while(&self, limit: Duration, condition: impl Fn() -> bool) {
        let mut updates = self.subscribe();
        let waiting = async { while condition() && updates.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(limit, waiting).await;
    }

    /// The time since the run's clock was started.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Adds an owner Job of this run, under which objects with this id are made.
    pub(super) fn add_owner(&self, uid: &str, run: &str) {
        self.store().owners.insert(uid.to_owned(), run.to_owned());
    }

    /// Reports changes from now on.
    pub(super) fn start_reporting_changes(&self) {
        self.store().reports_changes = true;
    }

    /// Records that a watch is interrupted, since now or since an earlier call.
    pub(super) fn open_gap(&self, key: &WatchKey, why: String) {
        let since = self.now();
        self.gaps().entry(key.clone()).or_insert(Gap { since, why });
    }

    /// Records a gap of a watch that began earlier.
    pub(super) fn open_gap_since(&self, key: &WatchKey, since: Duration, why: String) {
        self.gaps().insert(key.clone(), Gap { since, why });
    }

    /// Records that a watch showed an object or the end of a list.
    pub(super) fn watch_showed(&self, key: &WatchKey, at: Duration) {
        self.showed().insert(key.clone(), at);
    }

    /// When a watch last showed anything.
    pub(super) fn watch_last_showed(&self, key: &WatchKey) -> Duration {
        self.showed().get(key).copied().unwrap_or_default()
    }

    fn showed(&self) -> MutexGuard<'_, BTreeMap<WatchKey, Duration>> {
        self.showed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a watch shows all objects again.
    pub(super) fn close_gap(&self, key: &WatchKey) {
        self.gaps().remove(key);
    }

    fn gaps(&self) -> MutexGuard<'_, BTreeMap<WatchKey, Gap>> {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current interruption of watches that began first; `None` while all watches work.
    pub(super) fn watch_gap(&self) -> Option<WatchGap> {
        let gaps = self.gaps();
        let ((kind, _), first) = gaps.iter().min_by_key(|(_, gap)| gap.since)?;
        let what = if gaps.len() == 1 {
            kind.clone()
        } else {
            "the cluster".to_owned()
        };
        Some(WatchGap {
            since: first.since,
            what,
            why: first.why.clone(),
        })
    }

    /// Stores a new state of an object; `at` is the earliest time at which it may have changed.
    pub(super) async fn apply<K: WatchedKind>(&self, object: K, at: Duration) {
        let key = key_of(&object);
        self.update(at, |store: &mut Store| {
            let new = Arc::new(object);
            let old = K::objects(store).insert(key, Arc::clone(&new));
            vec![(old, Some(new))]
        })
        .await;
    }

    /// Removes an object from the store.
    pub(super) async fn delete<K: WatchedKind>(&self, object: &K, at: Duration) {
        let key = key_of(object);
        self.update(at, |store: &mut Store| {
            vec![(K::objects(store).remove(&key), None)]
        })
        .await;
    }

    /// Replaces all objects of a kind, or those of one namespace.
    pub(super) async fn replace<K: WatchedKind>(
        &self,
        namespace: Option<&str>,
        objects: Vec<K>,
        at: Duration,
    ) {
        self.update(at, |store: &mut Store| {
            replace_objects(K::objects(store), namespace, objects)
        })
        .await;
    }

    /// Removes a namespace that does not exist any more.
    pub(super) async fn delete_namespace(&self, name: &str, at: Duration) {
        let stored = self.store().namespace(name);
        if let Some(namespace) = stored {
            self.delete(namespace.as_ref(), at).await;
        }
    }

    /// How many objects of a kind, or of a kind in one namespace, are not as they are stored, in what
    /// matters to verdicts.
    pub(super) fn differences<K: WatchedKind>(
        &self,
        namespace: Option<&str>,
        objects: &[K],
    ) -> usize {
        let mut store = self.store();
        let mut stored = K::objects(&mut store).clone();
        replace_objects(&mut stored, namespace, objects.to_vec())
            .iter()
            .filter(|transition| store.change(transition).is_some())
            .count()
    }

    async fn update<K: WatchedKind>(
        &self,
        at: Duration,
        update: impl FnOnce(&mut Store) -> Vec<Transition<K>>,
    ) {
        let changes: Vec<ClusterChange> = {
            let mut store = self.store();
            let transitions = update(&mut store);
            if store.reports_changes {
                transitions
                    .iter()
                    .filter_map(|transition| store.change(transition))
                    .collect()
            } else {
                Vec::new()
            }
        };
        self.version.send_modify(|version| *version += 1);

        let latest = self.now();
        for object in changes {
            // Without a receiver no verdict is given either.
            let _ = self
                .changes
                .send(Change {
                    earliest: at,
                    latest,
                    object,
                })
                .await;
        }
    }
}

/// The old and the new state of an object; `None` where it did not or does not exist.
type Transition<K> = (Option<Arc<K>>, Option<Arc<K>>);

fn replace_objects<K: WatchedKind>(
    stored: &mut ObjectMap<K>,
    namespace: Option<&str>,
    objects: Vec<K>,
) -> Vec<Transition<K>> {
    let mut new: ObjectMap<K> = objects
        .into_iter()
        .map(|object| (key_of(&object), Arc::new(object)))
        .collect();
    let replaced_keys: Vec<ObjectKey> = stored
        .keys()
        .filter(|key| namespace.is_none_or(|namespace| key.0 == namespace))
        .cloned()
        .collect();

    let mut transitions = Vec::new();
    for key in replaced_keys {
        let old = stored.remove(&key);
        transitions.push((old, new.get(&key).cloned()));
        if let Some(object) = new.remove(&key) {
            stored.insert(key, object);
        }
    }
    for (key, object) in new {
        stored.insert(key, Arc::clone(&object));
        transitions.push((None, Some(object)));
    }
    transitions
}

/// The change that verdicts have to know of between two states of an object.
fn change_between<K: WatchedKind>(old: Option<&K>, new: Option<&K>) -> Option<ClusterChange> {
    let object = new.or(old)?;
    if fingerprint_of(old) == fingerprint_of(new) {
        return None;
    }
    object.cluster_change()
}

fn fingerprint_of<K: WatchedKind>(object: Option<&K>) -> serde_json::Value {
    object.map(K::fingerprint).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::names::RUN;
    use super::*;
    use serde_json::{Value, json};

    const THIS_RUN: &str = "0123456789abcdef";
    const OURS: &str = "watertight-00112233aa-p0x0123456789abcdef";

    fn pod(name: &str, uid: &str, run: Option<&str>) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "n", "uid": uid, "annotations": run.map(|run| json!({ RUN: run })) },
            "spec": { "containers": [] },
        }))
        .unwrap()
    }

    fn owner(uid: &str) -> Value {
        json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": "watertight-0123456789abcdef", "uid": uid }])
    }

    /// A pod that carries this run's annotation.
    fn annotated(name: &str, owners: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "n", "uid": "1", "annotations": { RUN: THIS_RUN }, "ownerReferences": owners },
            "spec": { "containers": [] },
        }))
        .unwrap()
    }

    fn reported(receiver: &mut mpsc::Receiver<Change>) -> Vec<ClusterChange> {
        std::iter::from_fn(|| receiver.try_recv().ok())
            .map(|change| change.object)
            .collect()
    }

    #[tokio::test]
    async fn changes_missed_by_an_interrupted_watch_are_reported_after_the_next_list() {
        let (sender, mut changes) = mpsc::channel(16);
        let shared = SharedStore::new(Instant::now(), sender);
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
            reported(&mut changes),
            [],
            "changes before the first inventory are not reported"
        );
        shared.start_reporting_changes();
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
        assert_eq!(reported(&mut changes), [pod("b"), pod("c"), pod("d")]);
    }

    #[tokio::test]
    async fn objects_of_this_run_are_neither_reported_nor_in_the_inventory() {
        let (sender, mut changes) = mpsc::channel(16);
        let shared = SharedStore::new(Instant::now(), sender);
        shared.add_owner("job", THIS_RUN);
        shared.start_reporting_changes();
        let ours = annotated(OURS, &owner("job"));
        shared.apply(ours.clone(), Duration::ZERO).await;
        shared.delete(&ours, Duration::ZERO).await;
        shared.apply(ours, Duration::ZERO).await;
        assert_eq!(reported(&mut changes), []);
        assert!(shared.store().objects().pods.is_empty());
        assert!(shared.store().pod("n", OURS).is_some());
        assert!(shared.store().has_pods_of(THIS_RUN));
        assert!(shared.store().annotated_by_others().is_empty());
    }

    #[tokio::test]
    async fn pods_with_the_annotation_alone_are_tested_and_watched_like_any_other() {
        for (name, owners, why) in [
            ("web-1", owner("job"), "it has another name"),
            (OURS, json!(null), "it has no owner"),
            (OURS, owner("other"), "its owner is no Job of this run"),
            (
                OURS,
                json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "job" }]),
                "its owner is no Job",
            ),
        ] {
            let (sender, mut changes) = mpsc::channel(16);
            let shared = SharedStore::new(Instant::now(), sender);
            shared.add_owner("job", THIS_RUN);
            shared.start_reporting_changes();
            shared.apply(annotated(name, &owners), Duration::ZERO).await;
            assert_eq!(
                reported(&mut changes),
                [ClusterChange::Pod("n".into(), name.into())],
                "{why}"
            );
            assert_eq!(shared.store().objects().pods.len(), 1, "{why}");
            assert_eq!(
                shared.store().annotated_by_others(),
                [format!("n/Pod/{name}")],
                "{why}"
            );
        }
    }

    #[tokio::test]
    async fn policies_services_and_namespaces_with_the_annotation_are_watched_like_any_other() {
        let (sender, mut changes) = mpsc::channel(16);
        let shared = SharedStore::new(Instant::now(), sender);
        shared.add_owner("job", THIS_RUN);
        shared.start_reporting_changes();
        let metadata = json!({ "name": "a", "namespace": "n", "annotations": { RUN: THIS_RUN }, "ownerReferences": owner("job") });
        let policy: NetworkPolicy =
            serde_json::from_value(json!({ "metadata": metadata, "spec": { "podSelector": {} } }))
                .unwrap();
        let service: Service =
            serde_json::from_value(json!({ "metadata": metadata, "spec": {} })).unwrap();
        let namespace: Namespace = serde_json::from_value(
            json!({ "metadata": { "name": "n", "annotations": { RUN: THIS_RUN } } }),
        )
        .unwrap();
        shared.apply(policy.clone(), Duration::ZERO).await;
        shared.apply(service, Duration::ZERO).await;
        shared.apply(namespace, Duration::ZERO).await;
        assert_eq!(
            reported(&mut changes),
            [
                ClusterChange::Policy(policy.reference()),
                ClusterChange::Service("n".into(), "a".into()),
                ClusterChange::Namespace("n".into()),
            ]
        );
        assert_eq!(shared.store().objects().policies.len(), 1);
        assert_eq!(shared.store().policy_states().len(), 1);
        assert_eq!(shared.store().annotated_by_others().len(), 3);
    }

    #[tokio::test]
    async fn policies_of_this_runs_canaries_are_no_policies_of_the_cluster() {
        let (sender, mut changes) = mpsc::channel(16);
        let shared = SharedStore::new(Instant::now(), sender);
        shared.add_owner("job", THIS_RUN);
        shared.start_reporting_changes();
        let policy: NetworkPolicy = serde_json::from_value(json!({
            "metadata": {
                "name": format!("watertight-canary-deny-{THIS_RUN}"), "namespace": "n",
                "annotations": { RUN: THIS_RUN }, "ownerReferences": owner("job"),
            },
            "spec": { "podSelector": {} },
        }))
        .unwrap();
        shared.apply(policy, Duration::ZERO).await;
        assert_eq!(reported(&mut changes), []);
        assert!(shared.store().policy_states().is_empty());
    }

    #[tokio::test]
    async fn listing_one_namespace_keeps_the_objects_of_the_others() {
        let (sender, mut changes) = mpsc::channel(16);
        let shared = SharedStore::new(Instant::now(), sender);
        let mut elsewhere = pod("a", "1", None);
        elsewhere.metadata.namespace = Some("m".into());
        shared.apply(elsewhere, Duration::ZERO).await;
        shared.start_reporting_changes();
        shared
            .replace(Some("n"), vec![pod("a", "1", None)], Duration::ZERO)
            .await;
        assert_eq!(
            reported(&mut changes),
            [ClusterChange::Pod("n".into(), "a".into())]
        );
        assert_eq!(shared.store().objects().pods.len(), 2);
    }
}
