//! The watched kinds of objects: where each is stored, and what its changes mean. Pure.

use super::cluster_policy::ClusterNetworkPolicy;
use super::fingerprint::{self, Fingerprint};
use super::names;
use super::objects::{ObjectKey, ObjectMap, Store};
use crate::inventory::{PolicyState, spec_digest};
use crate::model::{ClusterChange, PolicyKind, PolicyRef};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Resource;

/// A kind of objects that is watched.
pub(super) trait WatchedKind:
    Resource<DynamicType = ()>
    + Clone
    + std::fmt::Debug
    + serde::de::DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The stored objects of this kind.
    fn objects(store: &mut Store) -> &mut ObjectMap<Self>;

    /// The fields that matter to verdicts.
    fn fingerprint(&self) -> Fingerprint;

    /// Whether the name is one that a run gives to its objects of this kind. Kinds of which runs make
    /// none have no such name.
    fn has_name_of(&self, _run: &str) -> bool {
        false
    }

    /// The change to report when the fingerprint has changed; `None` where no verdict depends on
    /// it.
    fn cluster_change(&self) -> Option<ClusterChange>;
}

/// A kind of policies that is watched.
pub(super) trait WatchedPolicy: WatchedKind {
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

/// The namespace and name of an object.
pub(super) fn key_of<K: WatchedKind>(object: &K) -> ObjectKey {
    (
        object.meta().namespace.clone().unwrap_or_default(),
        object.meta().name.clone().unwrap_or_default(),
    )
}

impl WatchedKind for Namespace {
    fn objects(store: &mut Store) -> &mut ObjectMap<Self> {
        &mut store.namespaces
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint::of_namespace(self)
    }

    fn cluster_change(&self) -> Option<ClusterChange> {
        Some(ClusterChange::Namespace(key_of(self).1))
    }
}

impl WatchedKind for Node {
    fn objects(store: &mut Store) -> &mut ObjectMap<Self> {
        &mut store.nodes
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint::of_node(self)
    }

    fn cluster_change(&self) -> Option<ClusterChange> {
        None
    }
}

impl WatchedKind for Pod {
    fn objects(store: &mut Store) -> &mut ObjectMap<Self> {
        &mut store.pods
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint::of_pod(self)
    }

    fn has_name_of(&self, run: &str) -> bool {
        names::is_probe_pod(&key_of(self).1, run)
    }

    fn cluster_change(&self) -> Option<ClusterChange> {
        let (namespace, name) = key_of(self);
        Some(ClusterChange::Pod(namespace, name))
    }
}

impl WatchedKind for Service {
    fn objects(store: &mut Store) -> &mut ObjectMap<Self> {
        &mut store.services
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint::of_service(self)
    }

    fn cluster_change(&self) -> Option<ClusterChange> {
        let (namespace, name) = key_of(self);
        Some(ClusterChange::Service(namespace, name))
    }
}

impl WatchedKind for EndpointSlice {
    fn objects(store: &mut Store) -> &mut ObjectMap<Self> {
        &mut store.slices
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint::of_slice(self)
    }

    /// A change of the slice's Service, which is named by the label that the EndpointSlice
    /// controller sets (discovery/v1, `LabelServiceName`).
    fn cluster_change(&self) -> Option<ClusterChange> {
        let service = self
            .metadata
            .labels
            .as_ref()?
            .get("kubernetes.io/service-name")?;
        Some(ClusterChange::Service(key_of(self).0, service.clone()))
    }
}

impl WatchedKind for NetworkPolicy {
    fn objects(store: &mut Store) -> &mut ObjectMap<Self> {
        &mut store.policies
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint::of_policy(self)
    }

    fn has_name_of(&self, run: &str) -> bool {
        names::is_canary_policy(&key_of(self).1, run)
    }

    fn cluster_change(&self) -> Option<ClusterChange> {
        Some(ClusterChange::Policy(self.reference()))
    }
}

impl WatchedKind for ClusterNetworkPolicy {
    fn objects(store: &mut Store) -> &mut ObjectMap<Self> {
        &mut store.cluster_policies
    }

    fn fingerprint(&self) -> Fingerprint {
        let metadata = self.meta();
        serde_json::json!({ "uid": metadata.uid, "generation": metadata.generation, "spec": self.spec })
    }

    fn cluster_change(&self) -> Option<ClusterChange> {
        Some(ClusterChange::Policy(self.reference()))
    }
}
