//! Objects as a cluster's API gives them → [`Inventory`].
//!
//! The readers are those of manifests: what a dump of a cluster says and what the cluster says
//! cannot differ.

use super::assemble::deployment_of;
use super::cluster_policy::read_cluster_policy;
use super::object::{Meta, owner_of};
use super::pod::read_pod;
use super::problem::{At, Problems};
use super::service::read_service;
use crate::inventory::{
    Inventory, Labels, Namespace, NetworkPolicy, Node, Placement, Pod, Policy, RuleOrigins,
};
use crate::model::Family;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What a cluster's API gave.
#[derive(Debug, Default)]
pub struct Objects<'a> {
    /// Namespaces; where they may not be read, pods' namespaces count with the one label that all
    /// have.
    pub namespaces: Vec<&'a core::Namespace>,
    /// Nodes; where they may not be read, pods tell of those that they run on.
    pub nodes: Vec<&'a core::Node>,
    /// Pods.
    pub pods: Vec<&'a core::Pod>,
    /// Services.
    pub services: Vec<&'a core::Service>,
    /// Policies of every kind.
    pub policies: Vec<ApiPolicy<'a>>,
}

/// A policy as a cluster's API gave it.
#[derive(Debug)]
pub enum ApiPolicy<'a> {
    Network(&'a networking::NetworkPolicy),
    /// A cluster-wide policy, as a manifest would have it.
    Cluster(serde_json::Value),
}

/// Makes an inventory of them. A pod or a Service that cannot be read is told in words and left
/// out; only a newer API could cause that, and whoever plans with such an inventory would miss a
/// target.
pub fn observe(objects: &Objects<'_>) -> (Inventory, Vec<String>) {
    let mut inventory = Inventory::default();
    let mut told = Vec::new();
    for namespace in &objects.namespaces {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        let mut labels = namespace.metadata.labels.clone().unwrap_or_default();
        labels
            .entry("kubernetes.io/metadata.name".to_owned())
            .or_insert_with(|| name.clone());
        inventory
            .namespaces
            .insert(name.clone(), Namespace { name, labels });
    }
    for pod in &objects.pods {
        if let Some(pod) = read(&pod.metadata, "pod", &mut told, |meta, problems| {
            live_pod(pod, meta, problems)
        }) {
            inventory.pods.extend(pod);
        }
    }
    for service in &objects.services {
        let spec = service.spec.clone().unwrap_or_default();
        inventory.services.extend(read(
            &service.metadata,
            "Service",
            &mut told,
            |meta, problems| read_service(meta, &spec, &At::root(0), problems),
        ));
    }
    inventory.policies = objects.policies.iter().filter_map(read_policy).collect();
    let named = inventory.pods.iter().map(|pod| &pod.namespace);
    let named: Vec<String> = named
        .chain(inventory.services.iter().map(|service| &service.namespace))
        .cloned()
        .collect();
    for name in named {
        inventory
            .namespaces
            .entry(name.clone())
            .or_insert_with(|| Namespace {
                labels: Labels::from([("kubernetes.io/metadata.name".to_owned(), name.clone())]),
                name,
            });
    }
    inventory.nodes = nodes(objects);
    (inventory, told)
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

/// Reads one object with a reader of manifests.
fn read<T>(
    metadata: &ObjectMeta,
    kind: &str,
    told: &mut Vec<String>,
    reader: impl FnOnce(&Meta, &mut Problems) -> T,
) -> Option<T> {
    let meta = Meta {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        labels: metadata.labels.clone().unwrap_or_default(),
        owner: owner_of(metadata.owner_references.as_deref().unwrap_or_default()),
        terminating: metadata.deletion_timestamp.is_some(),
    };
    let mut problems = Problems::default();
    let object = reader(&meta, &mut problems);
    let problems = problems.into_vec();
    for problem in &problems {
        told.push(format!(
            "{kind} {}/{}: {}: {}",
            meta.namespace, meta.name, problem.at, problem.message
        ));
    }
    problems.is_empty().then_some(object)
}

/// A pod that exists; `None` for one that has run to its end and given its address back.
fn live_pod(pod: &core::Pod, meta: &Meta, problems: &mut Problems) -> Option<Pod> {
    let spec = pod.spec.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let live = read_pod(meta, &spec, &status, &At::root(0), problems);
    if live.finished {
        return None;
    }
    let mut workloads = Vec::new();
    let mut next = live.owner;
    while let Some(workload) = next.filter(|workload| !workloads.contains(workload)) {
        next = deployment_of(&workload, &live.pod.labels);
        workloads.push(workload);
    }
    workloads.extend(live.pod.workloads);
    Some(Pod {
        namespace: live.pod.namespace,
        name: live.pod.name,
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        labels: live.pod.labels,
        ports: live.pod.ports,
        workloads,
        host_network: live.pod.host_network,
        has_proxy: live.pod.has_proxy,
        // A pod that was never asked about has no condition yet.
        ready: live.pod.ready && pod.status.is_some(),
        node: match live.pod.placement {
            Placement::Node(node) => node,
            Placement::Anywhere | Placement::EveryNode => String::new(),
        },
        addresses: live.pod.addresses,
    })
}

fn nodes(objects: &Objects<'_>) -> Vec<Node> {
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    let mut add = |name: &str, labels: &Labels, texts: &mut dyn Iterator<Item = &str>| {
        let new = || Node {
            name: name.to_owned(),
            labels: labels.clone(),
            addresses: Vec::new(),
        };
        let addresses = &mut nodes.entry(name.to_owned()).or_insert_with(new).addresses;
        for address in texts.filter_map(|text| text.parse::<IpAddr>().ok()) {
            if !addresses
                .iter()
                .any(|known| Family::of(*known) == Family::of(address))
            {
                addresses.push(address);
            }
        }
    };
    let none = Labels::new();
    for node in &objects.nodes {
        let status = node.status.as_ref();
        let addresses = status
            .and_then(|status| status.addresses.as_deref())
            .unwrap_or_default();
        let mut internal = addresses
            .iter()
            .filter(|address| address.type_ == "InternalIP")
            .map(|address| address.address.as_str());
        let labels = node.metadata.labels.as_ref().unwrap_or(&none);
        add(
            node.metadata.name.as_deref().unwrap_or_default(),
            labels,
            &mut internal,
        );
    }
    if objects.nodes.is_empty() {
        for pod in &objects.pods {
            let name = pod
                .spec
                .as_ref()
                .and_then(|spec| spec.node_name.as_deref())
                .filter(|name| !name.is_empty());
            let hosts = pod
                .status
                .as_ref()
                .and_then(|status| status.host_ips.as_deref())
                .unwrap_or_default();
            if let Some(name) = name {
                add(name, &none, &mut hosts.iter().map(|host| host.ip.as_str()));
            }
        }
    }
    nodes.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{WorkloadKind, WorkloadRef};
    use serde_json::json;

    fn of<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[expect(clippy::needless_pass_by_value, reason = "given as written")]
    fn web(status: serde_json::Value) -> core::Pod {
        of(json!({
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
    fn a_pod_is_of_its_replica_set_and_of_the_deployment_behind_it() {
        let pod = web(json!({
            "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }],
            "hostIPs": [{ "ip": "172.30.0.11" }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        }));
        let (inventory, told) = observe(&Objects {
            pods: vec![&pod],
            ..Objects::default()
        });
        assert_eq!(told, Vec::<String>::new());
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
        // Without the right to read nodes and namespaces, pods tell of both.
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
    fn pods_that_have_run_to_their_end_are_gone_and_those_not_ready_are_not() {
        let (gone, waiting) = (
            web(json!({ "phase": "Succeeded" })),
            web(json!({ "phase": "Pending" })),
        );
        assert_eq!(
            observe(&Objects {
                pods: vec![&gone],
                ..Objects::default()
            })
            .0
            .pods,
            []
        );
        let (inventory, _) = observe(&Objects {
            pods: vec![&waiting],
            ..Objects::default()
        });
        assert!(!inventory.pods[0].ready);
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_name() {
        let pod = web(json!({ "phase": "Running", "podIPs": [{ "ip": "10.0.0" }] }));
        let (inventory, told) = observe(&Objects {
            pods: vec![&pod],
            ..Objects::default()
        });
        assert_eq!(inventory.pods, []);
        assert_eq!(
            told,
            ["pod shop/web-5d4f-x: status.podIPs[0].ip: \"10.0.0\" is not an IP address"]
        );
    }
}
