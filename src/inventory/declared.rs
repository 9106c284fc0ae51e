//! Manifests as an [`Inventory`]: only what the manifests give a node or an address has one. A pod in
//! the network of a node that is declared has the node's addresses.

use super::{DeclaredPod, Inventory, Labels, Manifests, Node, Placement, Pod};

impl From<&Manifests> for Inventory {
    fn from(manifests: &Manifests) -> Self {
        let mut nodes = manifests.nodes.clone();
        for name in manifests.pods.iter().filter_map(node_name) {
            nodes
                .entry(name.to_owned())
                .or_insert_with(|| undeclared_node(name));
        }
        let mut pods: Vec<Pod> = manifests.pods.iter().map(pod).collect();
        for pod in pods.iter_mut().filter(|pod| pod.host_network) {
            if let Some(node) = nodes.get(&pod.node).filter(|_| pod.addresses.is_empty()) {
                pod.addresses.clone_from(&node.addresses);
            }
        }

        Self {
            namespaces: manifests.namespaces.clone(),
            nodes: nodes.into_values().collect(),
            pods,
            services: manifests.services.clone(),
            policies: manifests.policies.clone(),
            unread_policies: manifests.unread_policies.clone(),
            ..Self::default()
        }
    }
}

/// The node that a pod is bound to by its manifest.
fn node_name(pod: &DeclaredPod) -> Option<&str> {
    match &pod.placement {
        Placement::Node(name) => Some(name),
        Placement::Anywhere | Placement::EveryNode => None,
    }
}

/// A node that is known by its name only.
fn undeclared_node(name: &str) -> Node {
    Node {
        name: name.to_owned(),
        labels: Labels::from([("kubernetes.io/hostname".to_owned(), name.to_owned())]),
        addresses: Vec::new(),
    }
}

/// A pod that is not placed; the one entry of a DaemonSet represents its pods on all nodes.
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
        node: node_name(declared).unwrap_or_default().to_owned(),
        addresses: declared.addresses.clone(),
    }
}
