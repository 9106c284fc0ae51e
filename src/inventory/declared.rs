//! What manifests declare, as an [`Inventory`]: nothing has a node or an address unless the
//! manifests say so.

use super::{DeclaredPod, Inventory, Labels, Manifests, Node, Placement, Pod};
use std::collections::BTreeSet;

impl From<&Manifests> for Inventory {
    fn from(manifests: &Manifests) -> Self {
        let names = manifests
            .pods
            .iter()
            .filter_map(|pod| match &pod.placement {
                Placement::Node(name) => Some(name.clone()),
                Placement::Anywhere | Placement::EveryNode => None,
            });
        let node = |name: String| Node {
            labels: Labels::from([("kubernetes.io/hostname".to_owned(), name.clone())]),
            name,
            addresses: Vec::new(),
        };
        Self {
            namespaces: manifests.namespaces.clone(),
            nodes: names
                .collect::<BTreeSet<_>>()
                .into_iter()
                .map(node)
                .collect(),
            pods: manifests.pods.iter().map(pod).collect(),
            services: manifests.services.clone(),
            policies: manifests.policies.clone(),
            ..Self::default()
        }
    }
}

/// A DaemonSet's one entry stands for its pods on all nodes.
pub(super) fn pod(declared: &DeclaredPod) -> Pod {
    Pod {
        namespace: declared.namespace.clone(),
        name: declared.name.clone(),
        uid: String::new(),
        labels: declared.labels.clone(),
        ports: declared.ports.clone(),
        workloads: declared.workloads.clone(),
        host_network: declared.host_network,
        has_proxy: declared.has_proxy,
        ready: declared.ready,
        node: match &declared.placement {
            Placement::Node(name) => name.clone(),
            Placement::Anywhere | Placement::EveryNode => String::new(),
        },
        addresses: declared.addresses.clone(),
    }
}
