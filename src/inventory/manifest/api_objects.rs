//! Reads the objects of a cluster's API into an [`Inventory`].
//!
//! The readers are those of manifests, so that a cluster and a dump of it give the same objects.

use super::assemble::deployment_of;
use super::cluster_policy::read_cluster_policy;
use super::node::{add_addresses, internal_addresses};
use super::object::{Metadata, owner_of};
use super::pod::read_pod;
use super::problem::{FieldPath, Problems};
use super::service::read_service;
use crate::inventory::{
    Inventory, Labels, Namespace, NetworkPolicy, Node, Placement, Pod, Policy, RuleOrigins,
};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// The objects of a cluster's API.
#[derive(Debug, Default)]
pub struct ApiObjects<'a> {
    /// Empty where they must not be listed; then the namespaces of the pods and Services are known,
    /// with the one label that all namespaces have.
    pub namespaces: Vec<&'a core::Namespace>,
    /// Empty where they must not be listed; then the nodes of the pods are known, without labels.
    pub nodes: Vec<&'a core::Node>,
    pub pods: Vec<&'a core::Pod>,
    pub services: Vec<&'a core::Service>,
    /// Policies of every kind.
    pub policies: Vec<ApiPolicy<'a>>,
}

/// A policy of a cluster's API.
#[derive(Debug)]
pub enum ApiPolicy<'a> {
    Network(&'a networking::NetworkPolicy),
    /// A cluster-wide policy, as a manifest would have it.
    Cluster(serde_json::Value),
}

/// Reads the objects of a cluster's API into an inventory.
///
/// A pod or a Service that cannot be read is left out and named, with the reason, in the second
/// value. A plan made with such an inventory would miss a target; only a newer API can cause that.
pub fn read_api_objects(objects: &ApiObjects<'_>) -> (Inventory, Vec<String>) {
    let mut inventory = Inventory::default();
    let mut unreadable = Vec::new();
    inventory.nodes = nodes(objects);
    inventory.policies = objects.policies.iter().filter_map(read_policy).collect();

    for pod in &objects.pods {
        let pod = read(&pod.metadata, "pod", &mut unreadable, |meta, problems| {
            existing_pod(pod, meta, problems)
        });
        inventory.pods.extend(pod.flatten());
    }
    for service in &objects.services {
        let spec = service.spec.clone().unwrap_or_default();
        let path = FieldPath::root(0);
        let metadata = &service.metadata;
        let service = read(metadata, "Service", &mut unreadable, |meta, problems| {
            read_service(meta, &spec, &path, problems)
        });
        inventory.services.extend(service);
    }

    for namespace in &objects.namespaces {
        let namespace = existing_namespace(namespace);
        let name = namespace.name.clone();
        inventory.namespaces.insert(name, namespace);
    }
    let of_pods = inventory.pods.iter().map(|pod| &pod.namespace);
    let of_services = inventory.services.iter().map(|service| &service.namespace);
    for name in of_pods.chain(of_services) {
        inventory
            .namespaces
            .entry(name.clone())
            .or_insert_with(|| Namespace::unlabelled(name));
    }
    (inventory, unreadable)
}

fn existing_namespace(namespace: &core::Namespace) -> Namespace {
    let name = namespace.metadata.name.clone().unwrap_or_default();
    let mut labels = Namespace::unlabelled(&name).labels;
    labels.extend(namespace.metadata.labels.clone().unwrap_or_default());
    Namespace { name, labels }
}

/// Reads a policy; `None` for a cluster-wide one that cannot be read. Predictions miss it; verdicts
/// do not need it.
fn read_policy(policy: &ApiPolicy<'_>) -> Option<Policy> {
    match policy {
        ApiPolicy::Network(policy) => Some(Policy::Network(NetworkPolicy {
            namespace: policy.metadata.namespace.clone().unwrap_or_default(),
            name: policy.metadata.name.clone().unwrap_or_default(),
            spec: policy.spec.clone().unwrap_or_default(),
            origin: String::new(),
            rule_origins: RuleOrigins::default(),
        })),
        ApiPolicy::Cluster(object) => read_cluster_policy(object).ok().map(Policy::Cluster),
    }
}

/// Reads one object with a reader of manifests; `None` after a problem, which is then among the
/// unreadable.
fn read<T>(
    metadata: &ObjectMeta,
    kind: &str,
    unreadable: &mut Vec<String>,
    reader: impl FnOnce(&Metadata, &mut Problems) -> T,
) -> Option<T> {
    let meta = Metadata {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        labels: metadata.labels.clone().unwrap_or_default(),
        owner: owner_of(metadata.owner_references.as_deref().unwrap_or_default()),
        terminating: metadata.deletion_timestamp.is_some(),
    };
    let mut problems = Problems::default();
    let object = reader(&meta, &mut problems);

    let problems = problems.into_vec();
    unreadable.extend(problems.iter().map(|problem| {
        let (namespace, name) = (&meta.namespace, &meta.name);
        format!(
            "{kind} {namespace}/{name}: {}: {}",
            problem.path, problem.message
        )
    }));
    problems.is_empty().then_some(object)
}

/// A pod that exists; `None` for one that has finished and has no address any more.
fn existing_pod(pod: &core::Pod, meta: &Metadata, problems: &mut Problems) -> Option<Pod> {
    let spec = pod.spec.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let object = read_pod(meta, &spec, &status, &FieldPath::root(0), problems);
    if object.finished {
        return None;
    }

    let mut workloads = Vec::new();
    let mut next = object.owner;
    while let Some(workload) = next.filter(|workload| !workloads.contains(workload)) {
        next = deployment_of(&workload, &object.pod.labels);
        workloads.push(workload);
    }
    workloads.extend(object.pod.workloads);

    Some(Pod {
        namespace: object.pod.namespace,
        name: object.pod.name,
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        labels: object.pod.labels,
        ports: object.pod.ports,
        workloads,
        host_network: object.pod.host_network,
        has_proxy: object.pod.has_proxy,
        // Unlike a manifest's, a cluster's pod without a status is not ready: no kubelet has
        // reported it yet.
        ready: object.pod.ready && pod.status.is_some(),
        node: match object.pod.placement {
            Placement::Node(node) => node,
            Placement::Anywhere | Placement::EveryNode => String::new(),
        },
        addresses: object.pod.addresses,
    })
}

/// The nodes; where they are not listed, those that the pods run on.
fn nodes(objects: &ApiObjects<'_>) -> Vec<Node> {
    let mut nodes = NodeMap::default();
    for node in &objects.nodes {
        let internal = node.status.iter().flat_map(internal_addresses);
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let labels = node.metadata.labels.clone().unwrap_or_default();
        nodes.add(name, labels, internal);
    }

    if objects.nodes.is_empty() {
        for pod in &objects.pods {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            let host_ips = pod
                .status
                .as_ref()
                .and_then(|status| status.host_ips.as_deref())
                .unwrap_or_default();
            if let Some(node) = node.filter(|name| !name.is_empty()) {
                let addresses = host_ips.iter().map(|host| host.ip.as_str());
                nodes.add(node, Labels::new(), addresses);
            }
        }
    }
    nodes.0.into_values().collect()
}

/// Nodes by name.
#[derive(Default)]
struct NodeMap(BTreeMap<String, Node>);

impl NodeMap {
    /// Adds a node, or addresses to it; at most one a family, and none that cannot be parsed.
    fn add<'a>(&mut self, name: &str, labels: Labels, addresses: impl Iterator<Item = &'a str>) {
        let node = self.0.entry(name.to_owned()).or_insert_with(|| Node {
            name: name.to_owned(),
            labels,
            addresses: Vec::new(),
        });
        add_addresses(node, addresses);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{WorkloadKind, WorkloadRef};
    use serde_json::json;

    fn parsed<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[expect(clippy::needless_pass_by_value, reason = "a literal at each call")]
    fn web(status: serde_json::Value) -> core::Pod {
        parsed(json!({
            "metadata": {
                "name": "web-5d4f-x", "namespace": "shop", "uid": "u1",
                "labels": { "app": "web", "pod-template-hash": "5d4f" },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f", "uid": "r", "controller": true
                }],
            },
            "spec": { "nodeName": "node-1", "containers": [{ "name": "c", "ports": [{ "containerPort": 8080 }] }] },
            "status": status,
        }))
    }

    #[test]
    fn a_pod_has_its_replica_set_and_the_deployment_that_owns_it_as_workloads() {
        let pod = web(json!({
            "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }],
            "hostIPs": [{ "ip": "172.30.0.11" }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        }));
        let (inventory, unreadable) = read_api_objects(&ApiObjects {
            pods: vec![&pod],
            ..ApiObjects::default()
        });
        assert_eq!(unreadable, Vec::<String>::new());
        let pod = &inventory.pods[0];
        let kinds: Vec<WorkloadKind> = pod.workloads.iter().map(|workload| workload.kind).collect();
        assert_eq!(
            kinds,
            [
                WorkloadKind::ReplicaSet,
                WorkloadKind::Deployment,
                WorkloadKind::Pod
            ]
        );
        assert_eq!(
            pod.workloads[1],
            WorkloadRef {
                kind: WorkloadKind::Deployment,
                name: "web".into()
            }
        );
        assert!(pod.ready);
        assert_eq!((pod.node.as_str(), pod.addresses.len()), ("node-1", 2));
        // Neither nodes nor namespaces are listed: both are known from the pod.
        let node = &inventory.nodes[0];
        assert_eq!(
            (node.name.as_str(), node.addresses.as_slice()),
            ("node-1", &["172.30.0.11".parse().unwrap()][..])
        );
        assert_eq!(
            inventory.namespaces["shop"].labels["kubernetes.io/metadata.name"],
            "shop"
        );
    }

    #[test]
    fn finished_pods_are_left_out_and_pods_that_are_not_ready_are_kept() {
        let (finished, pending) = (
            web(json!({ "phase": "Succeeded" })),
            web(json!({ "phase": "Pending" })),
        );
        assert_eq!(
            read_api_objects(&ApiObjects {
                pods: vec![&finished],
                ..ApiObjects::default()
            })
            .0
            .pods,
            []
        );
        let (inventory, _) = read_api_objects(&ApiObjects {
            pods: vec![&pending],
            ..ApiObjects::default()
        });
        assert!(!inventory.pods[0].ready);
    }

    #[test]
    fn a_pod_that_cannot_be_read_is_left_out_and_named() {
        let pod = web(json!({ "phase": "Running", "podIPs": [{ "ip": "10.0.0" }] }));
        let (inventory, unreadable) = read_api_objects(&ApiObjects {
            pods: vec![&pod],
            ..ApiObjects::default()
        });
        assert_eq!(inventory.pods, []);
        assert_eq!(
            unreadable,
            ["pod shop/web-5d4f-x: status.podIPs[0].ip: \"10.0.0\" is not an IP address"]
        );
    }
}
