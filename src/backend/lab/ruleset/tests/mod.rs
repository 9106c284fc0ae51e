//! A small world, and functions that check which packets arrive in it.

mod cluster;
mod semantics;
mod shape;

use super::ir::map_name;
use super::trace::{Outcome, Packet, Payload};
use super::{
    Compiler, Counter, Counts, Deny, Direction, Elements, Hook, Match, NodeRuleset, Statement,
};
use crate::inventory::{
    ContainerPort, Inventory, Labels, Namespace, NetworkPolicy, Node, Pod, RuleOrigins,
};
use crate::model::{Family, Port, Transport};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;

type Pairs = &'static [(&'static str, &'static str)];

/// The pods: namespace, name, labels, node, last part of the addresses, port number of `http`.
const PODS: [(&str, &str, Pairs, &str, u8, u16); 6] = [
    (
        "shop",
        "web",
        &[("app", "web"), ("tier", "front")],
        "n1",
        1,
        8080,
    ),
    ("shop", "api", &[("app", "api")], "n1", 2, 8080),
    (
        "shop",
        "far",
        &[("app", "web"), ("zone", "far")],
        "n2",
        3,
        9090,
    ),
    ("data", "db", &[("app", "db")], "n2", 4, 5432),
    ("data", "web", &[("app", "web")], "n1", 5, 8081),
    ("other", "x", &[], "n2", 6, 80),
];

/// Six pods in three namespaces on two nodes, and `host`, a pod of data with the network of n1.
fn world(policies: &[(&str, Value)]) -> Inventory {
    let labels = |pairs: &[(&str, &str)]| -> Labels {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    let namespace = |name: &str, extra: &[(&str, &str)]| {
        let mut labels = labels(extra);
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
        (
            name.to_owned(),
            Namespace {
                name: name.to_owned(),
                labels,
            },
        )
    };
    let port = |name: &str, number| ContainerPort {
        name: Some(name.to_owned()),
        port: Port::new(number, Transport::Tcp).expect("a port"),
    };
    let pod = |namespace: &str,
               name: &str,
               pairs: &[(&str, &str)],
               node: &str,
               addresses: Vec<IpAddr>,
               http| Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: String::new(),
        labels: labels(pairs),
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
    pods.push(Pod {
        host_network: true,
        ..pod(
            "data",
            "host",
            &[("app", "db")],
            "n1",
            vec![ip("192.0.2.1")],
            5432,
        )
    });
    Inventory {
        namespaces: [
            namespace("shop", &[("team", "a")]),
            namespace("data", &[("team", "b")]),
            namespace("other", &[]),
        ]
        .into(),
        nodes: [("n1", "192.0.2.1"), ("n2", "192.0.2.2")]
            .map(|(name, address)| Node {
                name: name.to_owned(),
                labels: Labels::new(),
                addresses: vec![ip(address)],
            })
            .into(),
        pods,
        policies: policies
            .iter()
            .enumerate()
            .map(|(number, (namespace, spec))| policy(namespace, number, spec).into())
            .collect(),
        ..Inventory::default()
    }
}

fn policy(namespace: &str, number: usize, spec: &Value) -> NetworkPolicy {
    let spec = serde_json::from_value(spec.clone()).expect("a spec");
    NetworkPolicy {
        namespace: namespace.to_owned(),
        name: format!("p{number}"),
        spec,
        origin: String::new(),
        rule_origins: RuleOrigins::default(),
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

/// The address of a pod such as `shop/web`, in IPv6 if `v6_wanted`, or a literal address.
fn endpoint(name: &str, v6_wanted: bool) -> IpAddr {
    let pod = PODS
        .iter()
        .find(|(namespace, pod, ..)| format!("{namespace}/{pod}") == name);
    match pod {
        Some((_, _, _, _, last, _)) if v6_wanted => v6(*last),
        Some((_, _, _, _, last, _)) => v4(*last),
        None => ip(name),
    }
}

/// A packet written `shop/web -> data/db:5432`, with `/udp`, `/sctp` or `icmp` for a port, and `
/// v6` behind it.
fn packet(text: &str) -> Packet {
    let (text, is_v6) = text
        .strip_suffix(" v6")
        .map_or((text, false), |text| (text, true));
    let (source, rest) = text.split_once(" -> ").expect("an arrow");
    let (destination, port) = rest.rsplit_once(':').expect("a port");
    let payload = match port.split_once('/') {
        None if port == "icmp" => Payload::Icmp(8),
        None => Payload::Ports(Transport::Tcp, port.parse().expect("a port")),
        Some((port, "udp")) => Payload::Ports(Transport::Udp, port.parse().expect("a port")),
        Some((port, _)) => Payload::Ports(Transport::Sctp, port.parse().expect("a port")),
    };
    let destination = destination.trim_matches(['[', ']']);
    Packet {
        source: endpoint(source, is_v6),
        destination: endpoint(destination, is_v6),
        payload,
        established: false,
    }
}

fn outcome(inventory: &Inventory, packet: &Packet) -> Result<(), Outcome> {
    let compiler = Compiler::new(inventory).expect("valid policies");
    let rules = |node: &str| {
        let rules = compiler.node(node, Deny::Drop);
        assert_loadable(&rules);
        rules
    };
    arrives(inventory, rules, packet)
}

/// Runs a packet through a hook of one node.
fn evaluate(rules: &NodeRuleset, hook: Hook, packet: &Packet) -> Outcome {
    let mut base: Vec<_> = rules
        .chains
        .iter()
        .filter_map(|chain| Some((chain.base?, &chain.name)))
        .collect();
    base.retain(|(base, _)| base.hook == hook);
    base.sort_by_key(|(base, _)| base.priority);
    base.into_iter()
        .fold(Outcome::default(), |outcome, (_, chain)| {
            match outcome.denied {
                Some(_) => outcome,
                None => rules.run_base_chain(chain, packet, outcome),
            }
        })
}

/// Runs a packet through the nodes of both endpoints; the outcome if it is denied.
fn arrives(
    inventory: &Inventory,
    rules: impl Fn(&str) -> NodeRuleset,
    packet: &Packet,
) -> Result<(), Outcome> {
    let node_of = |address: IpAddr| {
        let pod = inventory
            .pods
            .iter()
            .find(|pod| !pod.host_network && pod.addresses.contains(&address));
        pod.map(|pod| pod.node.clone())
    };
    let is_on = |node: &str, address: IpAddr| {
        inventory
            .nodes
            .iter()
            .any(|known| known.name == node && known.addresses.contains(&address))
    };
    let (from, to) = (node_of(packet.source), node_of(packet.destination));
    let mut hops = Vec::new();
    if let Some(node) = &from {
        let hook = if is_on(node, packet.destination) {
            Hook::Input
        } else {
            Hook::Forward
        };
        hops.push((node, hook));
    }
    if let Some(node) = &to
        && from.as_ref() != Some(node)
        && !is_on(node, packet.source)
    {
        hops.push((node, Hook::Forward));
    }
    for (node, hook) in hops {
        let outcome = evaluate(&rules(node), hook, packet);
        if outcome.denied.is_some() {
            return Err(outcome);
        }
    }
    Ok(())
}

/// The counter of denied packets of the pod with an address, in a direction; `None` if no
/// NetworkPolicy isolates the pod or it is not on this node.
fn deny_counter(rules: &NodeRuleset, direction: Direction, pod: IpAddr) -> Option<&Counter> {
    let map = map_name(direction, Family::of(pod));
    let elements = &rules.maps.iter().find(|known| known.name == map)?.elements;
    let (_, chain) = elements.iter().find(|(address, _)| *address == pod)?;
    let name = format!("deny_{chain}");
    rules.counters.iter().find(|counter| counter.name == name)
}

/// Checks that the kernel would accept a rule set: names are defined before use, no set is empty,
/// and no rule requires two families.
fn assert_loadable(rules: &NodeRuleset) {
    let mut chains = BTreeSet::new();
    let counters: BTreeSet<&str> = rules
        .counters
        .iter()
        .map(|counter| counter.name.as_str())
        .collect();
    assert_eq!(
        counters.len(),
        rules.counters.len(),
        "duplicate counter name"
    );
    for set in &rules.sets {
        let families: BTreeSet<Family> = match &set.elements {
            Elements::Ranges(ranges) => ranges
                .iter()
                .flat_map(|(first, last)| [first, last])
                .copied()
                .map(Family::of)
                .collect(),
            Elements::Ports(pairs) => pairs
                .iter()
                .map(|(address, _)| Family::of(*address))
                .collect(),
        };
        assert_eq!(families, BTreeSet::from([set.family]), "{}", set.name);
    }
    for chain in &rules.chains {
        for rule in &chain.rules {
            for one in &rule.matches {
                if let Match::Address { family, set, .. } | Match::AddressPort { family, set, .. } =
                    one
                {
                    assert!(
                        rules
                            .sets
                            .iter()
                            .any(|known| known.name == *set && known.family == *family),
                        "{set}"
                    );
                }
            }
            let families: BTreeSet<Family> = rule
                .matches
                .iter()
                .filter_map(|one| match one {
                    Match::Family(family)
                    | Match::Address { family, .. }
                    | Match::AddressPort { family, .. } => Some(*family),
                    Match::EstablishedOrRelated
                    | Match::NeighbourDiscovery
                    | Match::Transport(_)
                    | Match::Port { .. } => None,
                })
                .collect();
            assert!(families.len() < 2, "{rule:?}");
            for statement in &rule.statements {
                match statement {
                    Statement::Jump(to) => {
                        assert!(
                            chains.contains(to),
                            "{to} is not defined before {}",
                            chain.name
                        );
                    }
                    Statement::Dispatch { map, .. } => {
                        let map = rules
                            .maps
                            .iter()
                            .find(|known| known.name == *map)
                            .expect("maps exist");
                        assert!(
                            map.elements
                                .iter()
                                .all(|(address, to)| Family::of(*address) == map.family
                                    && chains.contains(to))
                        );
                    }
                    Statement::Count(counter) => {
                        assert!(counters.contains(counter.as_str()), "{counter}");
                    }
                    Statement::CountDeniedFlow(_)
                    | Statement::Return
                    | Statement::Accept
                    | Statement::Deny(_) => {}
                }
            }
        }
        assert!(
            chains.insert(chain.name.clone()),
            "duplicate chain {}",
            chain.name
        );
    }
}

/// Checks which packets arrive and which are denied.
fn check(policies: &[(&str, Value)], allowed: &[&str], denied: &[&str]) {
    check_in(&world(policies), allowed, denied);
}

/// Checks which packets arrive and which are denied, in a given world.
#[track_caller]
fn check_in(inventory: &Inventory, allowed: &[&str], denied: &[&str]) {
    let policies = &inventory.policies;
    for text in allowed {
        assert!(
            outcome(inventory, &packet(text)).is_ok(),
            "{text} should arrive under {policies:?}"
        );
    }
    for text in denied {
        assert!(
            outcome(inventory, &packet(text)).is_err(),
            "{text} should not arrive under {policies:?}"
        );
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
