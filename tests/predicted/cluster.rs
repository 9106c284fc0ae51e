//! Policies of the whole cluster: both tiers, all actions, all kinds of peers and ports, and the
//! two older kinds.

use super::{namespaces, pods, selector};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A policy, as it was generated; its name comes from its place.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    kind: Kind,
    spec: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cluster,
    Admin,
    Baseline,
}

/// Blocks that overlap: pods of the first node and one of them, nodes, the outside host, all
/// addresses.
const BLOCKS: [&str; 10] = [
    "10.244.16.0/20",
    "10.244.16.0/31",
    "10.244.0.0/16",
    "172.30.0.0/16",
    "203.0.113.0/24",
    "203.0.113.64/26",
    "0.0.0.0/0",
    "fd00:10:244::/48",
    "2001:db8::/32",
    "::/0",
];

/// The objects. There is one `BaselineAdminNetworkPolicy` in a cluster, named default.
pub(super) fn objects(policies: &[Policy]) -> Vec<Value> {
    let mut objects = Vec::new();
    let mut has_baseline = false;
    for (number, Policy { kind, spec }) in policies.iter().enumerate() {
        let (version, word, name) = match kind {
            Kind::Cluster => ("v1alpha2", "ClusterNetworkPolicy", format!("c{number}")),
            Kind::Admin => ("v1alpha1", "AdminNetworkPolicy", format!("a{number}")),
            Kind::Baseline if has_baseline => continue,
            Kind::Baseline => (
                "v1alpha1",
                "BaselineAdminNetworkPolicy",
                "default".to_owned(),
            ),
        };
        has_baseline |= *kind == Kind::Baseline;
        objects.push(
            json!({ "apiVersion": format!("policy.networking.k8s.io/{version}"), "kind": word,
            "metadata": { "name": name }, "spec": spec }),
        );
    }
    objects
}

/// Any policy.
pub(super) fn policy() -> impl Strategy<Value = Policy> {
    let kind =
        prop_oneof![4 => Just(Kind::Cluster), 1 => Just(Kind::Admin), 1 => Just(Kind::Baseline)];
    kind.prop_flat_map(|kind| {
        let priority = prop::sample::select(&[0, 1, 1, 2, 1_000][..]);
        let tier = prop::sample::select(&["Admin", "Baseline"][..]);
        (
            priority,
            tier,
            subject(),
            rules(kind, "from"),
            rules(kind, "to"),
        )
            .prop_map(move |(priority, tier, subject, ingress, egress)| {
                let mut spec = json!({ "subject": subject, "ingress": ingress, "egress": egress });
                if kind != Kind::Baseline {
                    spec["priority"] = json!(priority);
                }
                if kind == Kind::Cluster {
                    spec["tier"] = json!(tier);
                }
                Policy { kind, spec }
            })
    })
}

fn subject() -> impl Strategy<Value = Value> {
    prop_oneof![
        namespaces().prop_map(|namespaces| json!({ "namespaces": namespaces })),
        (namespaces(), pods())
            .prop_map(|(namespaces, pods)| json!({ "pods": { "namespaceSelector": namespaces, "podSelector": pods } })),
    ]
}

fn rules(kind: Kind, key: &'static str) -> impl Strategy<Value = Value> {
    vec(rule(kind, key), 0..4).prop_map(|rules| json!(rules))
}

fn rule(kind: Kind, key: &'static str) -> impl Strategy<Value = Value> {
    let actions = match kind {
        Kind::Cluster => &["Accept", "Deny", "Pass"][..],
        Kind::Admin => &["Allow", "Deny", "Pass"],
        Kind::Baseline => &["Allow", "Deny"],
    };
    let ports = prop::option::of(vec(port(kind), 1..4));
    (
        prop::sample::select(actions),
        vec(peer(kind, key), 1..4),
        ports,
    )
        .prop_map(move |(action, mut peers, ports)| {
            // "Domain name peers are only allowed for Accept rules".
            if action != "Accept" {
                peers.retain(|peer| peer.get("domainNames").is_none());
            }
            if peers.is_empty() {
                peers.push(json!({ "namespaces": {} }));
            }
            let mut rule = json!({ "action": action, key: peers });
            if let Some(ports) = ports {
                rule[if kind == Kind::Cluster {
                    "protocols"
                } else {
                    "ports"
                }] = json!(ports);
            }
            rule
        })
}

fn peer(kind: Kind, key: &'static str) -> BoxedStrategy<Value> {
    let inside = subject();
    // A field of a later version.
    let unknown = u32::from(kind == Kind::Cluster);
    if key == "from" {
        return prop_oneof![24 => inside, unknown => Just(json!({ "gateways": {} }))].boxed();
    }
    let blocks = vec(prop::sample::select(&BLOCKS[..]), 1..4)
        .prop_map(|blocks| json!({ "networks": blocks }));
    let nodes = selector(&[("kubernetes.io/hostname", &["node-1", "node-2", "node-9"])]);
    let names = Just(json!({ "domainNames": ["out.example"] }));
    prop_oneof![
        12 => inside,
        8 => blocks,
        6 => nodes.prop_map(|nodes| json!({ "nodes": nodes })),
        unknown => names,
        unknown => Just(json!({ "gateways": {} })),
    ]
    .boxed()
}

fn port(kind: Kind) -> BoxedStrategy<Value> {
    let tcp = prop::sample::select(&["tcp", "tcp", "udp", "sctp"][..]);
    let range = prop_oneof![
        (7_999..8_004_u16, 0..1_100_u16),
        (8_999..9_004_u16, 0..3_u16),
        (5_299..5_304_u16, 0..3_u16),
        (443..444_u16, 0..2_u16),
    ];
    let name = prop::sample::select(&["http", "more", "dns", "none"][..]);
    if kind == Kind::Cluster {
        let number = (tcp, range).prop_map(|(transport, (first, more))| {
            let port = if more == 0 {
                json!({ "number": first })
            } else {
                json!({ "range": { "start": first, "end": first + more } })
            };
            json!({ transport: { "destinationPort": port } })
        });
        return prop_oneof![3 => number, 1 => name.prop_map(|name| json!({ "destinationNamedPort": name }))].boxed();
    }
    let number = (tcp, range).prop_map(|(transport, (first, more))| {
        let protocol = transport.to_uppercase();
        if more == 0 {
            json!({ "portNumber": { "protocol": protocol, "port": first } })
        } else {
            json!({ "portRange": { "protocol": protocol, "start": first, "end": first + more } })
        }
    });
    prop_oneof![3 => number, 1 => name.prop_map(|name| json!({ "namedPort": name }))].boxed()
}
