//! A small world, and the question whether a packet arrives in it.

mod semantics;
mod shape;

use super::evaluate::{Outcome, Packet, Payload, arrives};
use super::{Compiler, Deny, Elements, Match, NodeRuleset, Statement};
use crate::inventory::{ContainerPort, Inventory, Labels, Namespace, Node, Pod, Policy, RuleOrigins};
use crate::model::{Family, Port, Transport};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Labels as pairs.
type Pairs = &'static [(&'static str, &'static str)];

/// The pods: namespace, name, labels, node, last part of the addresses, number of the port `http`.
const PODS: [(&str, &str, Pairs, &str, u8, u16); 6] = [
    ("shop", "web", &[("app", "web"), ("tier", "front")], "n1", 1, 8080),
    ("shop", "api", &[("app", "api")], "n1", 2, 8080),
    ("shop", "far", &[("app", "web"), ("zone", "far")], "n2", 3, 9090),
    ("data", "db", &[("app", "db")], "n2", 4, 5432),
    ("data", "web", &[("app", "web")], "n1", 5, 8081),
    ("other", "x", &[], "n2", 6, 80),
];

/// Six pods in three namespaces on two nodes, and `host`, a pod of data with the network of n1.
fn world(policies: &[(&str, Value)]) -> Inventory {
    let labels =
        |pairs: &[(&str, &str)]| -> Labels { pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect() };
    let namespace = |name: &str, extra: &[(&str, &str)]| {
        let mut labels = labels(extra);
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
        (name.to_owned(), Namespace { name: name.to_owned(), labels })
    };
    let port = |name: &str, number| ContainerPort {
        name: Some(name.to_owned()),
        port: Port::new(number, Transport::Tcp).expect("a port"),
    };
    let pod = |namespace: &str, name: &str, of: &[(&str, &str)], node: &str, addresses: Vec<IpAddr>, http| Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: String::new(),
        labels: labels(of),
        ports: vec![port("http", http)],
        workloads: Vec::new(),
        host_network: false,
        has_proxy: false,
        ready: false,
        node: node.to_owned(),
        addresses,
    };
    let mut pods: Vec<Pod> = PODS
        .iter()
        .map(|(namespace, name, of, node, last, http)| {
            pod(namespace, name, of, node, vec![v4(*last), v6(*last)], *http)
        })
        .collect();
    pods.push(Pod { host_network: true, ..pod("data", "host", &[("app", "db")], "n1", vec![ip("192.0.2.1")], 5432) });
    Inventory {
        namespaces: [namespace("shop", &[("team", "a")]), namespace("data", &[("team", "b")]), namespace("other", &[])]
            .into(),
        nodes: [("n1", "192.0.2.1"), ("n2", "192.0.2.2")]
            .map(|(name, address)| Node { name: name.to_owned(), labels: Labels::new(), addresses: vec![ip(address)] })
            .into(),
        pods,
        policies: policies
            .iter()
            .enumerate()
            .map(|(number, (namespace, spec))| policy(namespace, number, spec))
            .collect(),
        ..Inventory::default()
    }
}

fn policy(namespace: &str, number: usize, spec: &Value) -> Policy {
    let spec = serde_json::from_value(spec.clone()).expect("a spec");
    Policy {
        namespace: namespace.to_owned(),
        name: format!("p{number}"),
        spec,
        origin: String::new(),
        rules: RuleOrigins::default(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn v4(last: u8) -> IpAddr {
    ip(&format!("10.0.0.{last}"))
}

fn v6(last: u8) -> IpAddr {
    ip(&format!("fd00::{last}"))
}

/// `shop/web` or an address; the family of names.
fn end(name: &str, six: bool) -> IpAddr {
    let pod = PODS.iter().find(|(namespace, pod, ..)| format!("{namespace}/{pod}") == name);
    match pod {
        Some((_, _, _, _, last, _)) if six => v6(*last),
        Some((_, _, _, _, last, _)) => v4(*last),
        None => ip(name),
    }
}

/// A packet written `shop/web -> data/db:5432`, with `/udp`, `/sctp` or `icmp` for a port, and ` v6` behind it.
fn packet(text: &str) -> Packet {
    let (text, six) = text.strip_suffix(" v6").map_or((text, false), |text| (text, true));
    let (source, rest) = text.split_once(" -> ").expect("an arrow");
    let (destination, port) = rest.rsplit_once(':').expect("a port");
    let payload = match port.split_once('/') {
        None if port == "icmp" => Payload::Icmp(8),
        None => Payload::Ports(Transport::Tcp, port.parse().expect("a port")),
        Some((port, "udp")) => Payload::Ports(Transport::Udp, port.parse().expect("a port")),
        Some((port, _)) => Payload::Ports(Transport::Sctp, port.parse().expect("a port")),
    };
    let destination = destination.trim_matches(['[', ']']);
    Packet { source: end(source, six), destination: end(destination, six), payload, established: false }
}

fn outcome(inventory: &Inventory, packet: &Packet) -> Result<(), Outcome> {
    let compiler = Compiler::new(inventory).expect("valid policies");
    let rules = |node: &str| {
        let rules = compiler.node(node, Deny::Drop);
        loadable(&rules);
        rules
    };
    arrives(inventory, rules, packet)
}

/// Checks what the kernel would refuse: a name before it is defined, an empty set, families in one rule that
/// exclude each other.
fn loadable(rules: &NodeRuleset) {
    let mut chains = BTreeSet::new();
    for set in &rules.sets {
        let families: BTreeSet<Family> = match &set.elements {
            Elements::Ranges(ranges) => {
                ranges.iter().flat_map(|(first, last)| [first, last]).copied().map(Family::of).collect()
            }
            Elements::Ports(pairs) => pairs.iter().map(|(address, _)| Family::of(*address)).collect(),
        };
        assert_eq!(families, BTreeSet::from([set.family]), "{}", set.name);
    }
    for chain in &rules.chains {
        for rule in &chain.rules {
            let families: BTreeSet<Family> = rule
                .matches
                .iter()
                .filter_map(|one| match one {
                    Match::Family(family) | Match::Address { family, .. } | Match::AddressPort { family, .. } => {
                        Some(*family)
                    }
                    Match::EstablishedOrRelated
                    | Match::NeighbourDiscovery
                    | Match::Transport(_)
                    | Match::Port { .. } => None,
                })
                .collect();
            assert!(families.len() < 2, "{rule:?}");
            for statement in &rule.statements {
                match statement {
                    Statement::Jump(to) => assert!(chains.contains(to), "{to} stands before {}", chain.name),
                    Statement::Dispatch { map, .. } => {
                        let map = rules.maps.iter().find(|known| known.name == *map).expect("maps exist");
                        assert!(
                            map.elements
                                .iter()
                                .all(|(address, to)| Family::of(*address) == map.family && chains.contains(to))
                        );
                    }
                    Statement::Count(_) | Statement::RecordDeny(_) | Statement::Accept | Statement::Deny(_) => {}
                }
            }
        }
        assert!(chains.insert(chain.name.clone()), "{} is there once", chain.name);
    }
}

/// Checks which packets arrive and which do not.
fn check(policies: &[(&str, Value)], allowed: &[&str], denied: &[&str]) {
    let inventory = world(policies);
    for text in allowed {
        assert!(outcome(&inventory, &packet(text)).is_ok(), "{text} should arrive under {policies:?}");
    }
    for text in denied {
        assert!(outcome(&inventory, &packet(text)).is_err(), "{text} should not arrive under {policies:?}");
    }
}

/// An ingress policy on `data/db` with these rules.
fn on_db(ingress: &Value) -> [(&'static str, Value); 1] {
    [(
        "data",
        json!({ "podSelector": { "matchLabels": { "app": "db" } }, "policyTypes": ["Ingress"], "ingress": ingress }),
    )]
}

/// An egress policy on `shop/api` with these rules.
fn from_api(egress: &Value) -> [(&'static str, Value); 1] {
    [(
        "shop",
        json!({ "podSelector": { "matchLabels": { "app": "api" } }, "policyTypes": ["Egress"], "egress": egress }),
    )]
}
