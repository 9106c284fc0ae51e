//! The `ClusterNetworkPolicy` kind, for clusters whose API serves it.

use crate::model::PolicyKind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde_json::{Value, json};
use std::borrow::Cow;

/// A `ClusterNetworkPolicy` whose spec is kept as JSON.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct ClusterNetworkPolicy {
    metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: Value,
}

impl ClusterNetworkPolicy {
    /// The object as a manifest.
    pub(super) fn as_manifest(&self) -> Value {
        json!({
            "apiVersion": Self::api_version(&()), "kind": Self::kind(&()),
            "metadata": { "name": self.metadata.name }, "spec": self.spec,
        })
    }
}

impl Resource for ClusterNetworkPolicy {
    type DynamicType = ();
    type Scope = k8s_openapi::ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        PolicyKind::ClusterNetworkPolicy.as_str().into()
    }

    fn group((): &()) -> Cow<'_, str> {
        PolicyKind::ClusterNetworkPolicy.group().into()
    }

    fn version((): &()) -> Cow<'_, str> {
        PolicyKind::ClusterNetworkPolicy.version().into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "clusternetworkpolicies".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
