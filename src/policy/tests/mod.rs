//! Predictions and explanations, compared with the texts of the Kubernetes API.

mod cluster;
mod explanations;
mod maps;
mod random;
mod semantics;

use super::{EndpointRef, Explainer, PortSet, Predictor};
use crate::inventory::{
    ClusterPolicy, ContainerPort, Inventory, Labels, Namespace, NetworkPolicy, Node, Pod, Policy,
    RuleOrigins, read_cluster_policy,
};
use crate::model::{Family, Port, Transport, WorkloadKind, WorkloadRef};
use serde_json::Value;
use std::net::IpAddr;

fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').expect("key=value"))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

fn port(number: u16, transport: Transport) -> Port {
    Port::new(number, transport).expect("a port")
}

fn tcp(number: u16) -> Port {
    port(number, Transport::Tcp)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Two nodes, and pods of three namespaces. Each pod declares `http`, on different ports, and `dns`
/// on 53/udp. `x-0` and `x-1` are replicas; the last pod shares its node's network.
fn world() -> Inventory {
    let pods = [
        ("shop", "web", "app=web,tier=front", "n1", 8080),
        ("shop", "api", "app=api", "n1", 8081),
        ("data", "db", "app=db", "n2", 5432),
        ("data", "web", "app=web", "n2", 8082),
        ("other", "x-0", "", "n1", 80),
        ("other", "x-1", "", "n2", 80),
        ("other", "host", "app=web", "n1", 80),
    ];
    let pod =
        |(number, (namespace, name, of, node, http)): (usize, (&str, &str, &str, &str, u16))| Pod {
            namespace: namespace.into(),
            name: name.into(),
            uid: String::new(),
            labels: labels(of),
            ports: vec![
                ContainerPort {
                    name: Some("http".into()),
                    port: tcp(http),
                },
                ContainerPort {
                    name: Some("dns".into()),
                    port: port(53, Transport::Udp),
                },
            ],
            workloads: match name.split_once('-') {
                Some((owner, _)) => vec![WorkloadRef {
                    kind: WorkloadKind::Deployment,
                    name: owner.into(),
                }],
                None => vec![WorkloadRef {
                    kind: WorkloadKind::Pod,
                    name: name.into(),
                }],
            },
            host_network: name == "host",
            has_proxy: false,
            ready: true,
            node: node.into(),
            addresses: if name == "host" {
                vec![address("192.0.2.1")]
            } else {
                vec![
                    address(&format!("10.0.0.{}", number + 1)),
                    address(&format!("fd00::{}", number + 1)),
                ]
            },
        };
    let node = |name: &str, last: u8| Node {
        name: name.into(),
        labels: labels(&format!("kubernetes.io/hostname={name}")),
        addresses: vec![
            address(&format!("192.0.2.{last}")),
            address(&format!("fd01::{last}")),
        ],
    };
    let namespace = |name: &str, of: &str| {
        (
            name.to_owned(),
            Namespace {
                name: name.into(),
                labels: labels(of),
            },
        )
    };
    Inventory {
        namespaces: [
            namespace("shop", "team=a"),
            namespace("data", "team=b"),
            namespace("other", ""),
        ]
        .into(),
        nodes: vec![node("n1", 1), node("n2", 2)],
        pods: pods.into_iter().enumerate().map(pod).collect(),
        ..Inventory::default()
    }
}

/// The inventory of [`world`] with NetworkPolicies, by namespace and spec.
fn with(policies: &[(&str, Value)]) -> Inventory {
    let policy = |(number, (namespace, spec)): (usize, &(&str, Value))| {
        Policy::Network(NetworkPolicy {
            namespace: (*namespace).to_owned(),
            name: format!("p{number}"),
            spec: serde_json::from_value(spec.clone()).expect("a spec"),
            origin: format!("p{number}.yaml:1"),
            rule_origins: RuleOrigins::default(),
        })
    };
    Inventory {
        policies: policies.iter().enumerate().map(policy).collect(),
        ..world()
    }
}

/// The same world with cluster-wide policies too.
fn with_cluster(policies: &[(&str, Value)], cluster: Vec<ClusterPolicy>) -> Inventory {
    let mut inventory = with(policies);
    inventory
        .policies
        .extend(cluster.into_iter().map(Policy::Cluster));
    inventory
}

fn cluster(name: &str, spec: &Value) -> ClusterPolicy {
    of_kind("ClusterNetworkPolicy", name, spec)
}

fn of_kind(kind: &str, name: &str, spec: &Value) -> ClusterPolicy {
    let object = serde_json::json!({ "kind": kind, "metadata": { "name": name }, "spec": spec });
    read_cluster_policy(&object).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// A pod by `namespace/name`, a node by its name, or an address.
fn endpoint<'a>(inventory: &Inventory, name: &'a str) -> EndpointRef<'a> {
    if let Ok(address) = name.parse() {
        return EndpointRef::Address(address);
    }
    match inventory
        .pods
        .iter()
        .position(|pod| pod.full_name() == name)
    {
        Some(number) => EndpointRef::Pod(number),
        None => EndpointRef::Node(name),
    }
}

/// The ports that the predictor allows. The explainer must give the same answers for ports that the
/// tests' policies distinguish.
#[track_caller]
fn allowed(inventory: &Inventory, from: &str, to: &str, family: Family) -> PortSet {
    let (from, to) = (endpoint(inventory, from), endpoint(inventory, to));
    let set = Predictor::new(inventory)
        .expect("valid")
        .allowed(from, to, family);
    for transport in [Transport::Tcp, Transport::Udp, Transport::Sctp] {
        for number in [1, 53, 79, 80, 81, 90, 443, 5432, 8080, 8081, 8082, 65_535] {
            let port = port(number, transport);
            let explanation =
                Explainer::new(inventory)
                    .expect("valid")
                    .explain(from, to, port, Some(family));
            assert_eq!(
                explanation.allowed,
                set.contains(port),
                "{from:?} -> {to:?}:{port} {family}: {explanation:#?}"
            );
        }
    }
    set
}

#[track_caller]
fn assert_allowed(inventory: &Inventory, from: &str, to: &str, ports: &str) {
    for family in Family::ALL {
        assert_eq!(
            allowed(inventory, from, to, family).to_string(),
            ports,
            "{from} -> {to} over {family}"
        );
    }
}
