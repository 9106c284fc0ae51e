//! Worlds with every feature of NetworkPolicies and of cluster-wide policies, small enough to read.

#[path = "cluster.rs"]
mod cluster;

use crate::worlds;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use watertight::backend::lab::{Outside, World};
use watertight::wire;

/// A world, as it was generated.
#[derive(Debug, Clone)]
pub(crate) struct Sketch {
    pods: Vec<(usize, usize, bool)>,
    policies: Vec<(usize, Value)>,
    cluster: Vec<cluster::Policy>,
}

const NAMESPACES: [(&str, &str); 3] = [("red", "a"), ("green", "b"), ("blue", "")];

/// The Service of the first pod, which is the first pod's only one.
pub(crate) const SERVICE: &str = "service";

/// Its port; behind it is the pod's `http`.
pub(crate) const SERVICE_PORT: u16 = 7_000;

/// TCP ports of the outside host.
pub(crate) const OUTSIDE_PORTS: [u16; 2] = [443, 8_001];

/// Labels that pods have.
const LABELS: [&str; 4] = [
    "app: web, tier: front",
    "app: web",
    "app: api, tier: back",
    "",
];

/// Addresses of pods on the first node; of nodes; of the outside host and of the runner.
const BLOCKS: [&str; 12] = [
    "cidr: 0.0.0.0/0",
    "cidr: 0.0.0.0/0, except: [10.244.0.0/16]",
    "cidr: 0.0.0.0/0, except: [10.244.16.0/31, 203.0.113.0/24]",
    "cidr: 10.244.16.0/30",
    "cidr: 10.244.0.0/16, except: [10.244.16.1/32]",
    "cidr: 172.30.0.0/16",
    "cidr: 203.0.113.0/25, except: [203.0.113.0/30]",
    "cidr: 203.0.113.77/32",
    "cidr: '::/0'",
    "cidr: '::/0', except: ['fd00:10:244:1::/64']",
    "cidr: 'fd00:10:244::/48'",
    "cidr: '2001:db8::/32'",
];

impl Sketch {
    /// The manifests, for people and for the reader.
    pub(crate) fn manifests(&self) -> String {
        let mut text = String::new();
        for (name, team) in NAMESPACES {
            let labels = if team.is_empty() {
                String::new()
            } else {
                format!("team: {team}")
            };
            text.push_str(&format!(
                "---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{{labels}}}}}}}\n"
            ));
        }

        for (number, (namespace, labels, host)) in self.pods.iter().enumerate() {
            let http = 8_000 + number;
            // Two pods of one node's network would want one port.
            let host = if *host { "hostNetwork: true, " } else { "" };
            let id = if LABELS[*labels].is_empty() { "" } else { ", " };
            text.push_str(&format!(
                "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: p{number}, namespace: {}, labels: {{{}{id}id: p{number}}}}}, spec: {{{host}containers: [{{name: c, image: i, ports: [\
                 {{containerPort: {http}, name: http}}, {{containerPort: {}, name: more}}, {{containerPort: {}, name: dns, protocol: UDP}}]}}]}}}}\n",
                NAMESPACES[*namespace].0, LABELS[*labels], 9_000 + number, 5_300 + number,
            ));
        }
        // One pod is reached through a Service too, at another port.
        text.push_str(&format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {SERVICE}, namespace: {}}}, spec: {{selector: {{id: p0}}, \
             ports: [{{port: {SERVICE_PORT}, targetPort: http}}]}}}}\n",
            NAMESPACES[self.pods[0].0].0
        ));

        for (number, (namespace, spec)) in self.policies.iter().enumerate() {
            let object = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": { "name": format!("n{number}"), "namespace": NAMESPACES[*namespace].0 }, "spec": spec });
            text.push_str(&format!("---\n{object}\n"));
        }

        for object in cluster::objects(&self.cluster) {
            text.push_str(&format!("---\n{object}\n"));
        }
        text
    }

    /// The same, placed.
    pub(crate) fn world(&self) -> World {
        let outside = Outside {
            name: Some("out.example".into()),
            addresses: Vec::new(),
            ports: OUTSIDE_PORTS
                .map(|port| (port, wire::Transport::Tcp))
                .to_vec(),
        };
        worlds::world(self.manifests(), &[outside])
    }
}

fn selector(
    pairs: &'static [(&'static str, &'static [&'static str])],
) -> impl Strategy<Value = Value> {
    let one = (0..pairs.len()).prop_flat_map(move |key| {
        let (key, values) = pairs[key];
        (Just(key), prop::sample::select(values))
    });
    prop_oneof![
        3 => Just(json!({})),
        4 => one.clone().prop_map(|(key, value)| json!({ "matchLabels": { key: value } })),
        1 => one.clone().prop_map(|(key, value)| json!({ "matchExpressions": [{ "key": key, "operator": "In", "values": [value, "none"] }] })),
        1 => one.clone().prop_map(|(key, value)| json!({ "matchExpressions": [{ "key": key, "operator": "NotIn", "values": [value] }] })),
        1 => (one, prop::sample::select(&["Exists", "DoesNotExist"][..]))
            .prop_map(|((key, _), operator)| json!({ "matchExpressions": [{ "key": key, "operator": operator }] })),
    ]
}

fn pods() -> impl Strategy<Value = Value> {
    selector(&[("app", &["web", "api"]), ("tier", &["front", "back"])])
}

fn namespaces() -> impl Strategy<Value = Value> {
    selector(&[
        ("team", &["a", "b"]),
        ("kubernetes.io/metadata.name", &["red", "blue"]),
    ])
}

fn peer() -> impl Strategy<Value = Value> {
    prop_oneof![
        pods().prop_map(|pods| json!({ "podSelector": pods })),
        namespaces().prop_map(|namespaces| json!({ "namespaceSelector": namespaces })),
        (namespaces(), pods()).prop_map(
            |(namespaces, pods)| json!({ "namespaceSelector": namespaces, "podSelector": pods })
        ),
        prop::sample::select(&BLOCKS[..]).prop_map(|block| {
            let (cidr, except) = block.split_once(", except: ").unwrap_or((block, ""));
            let mut json = json!({ "cidr": cidr.trim_start_matches("cidr: ").trim_matches('\'') });
            let holes: Vec<&str> = except
                .trim_matches(['[', ']'])
                .split(", ")
                .filter(|hole| !hole.is_empty())
                .map(|hole| hole.trim_matches('\''))
                .collect();
            if !holes.is_empty() {
                json["except"] = json!(holes);
            }
            json!({ "ipBlock": json })
        }),
    ]
}

fn port() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(json!({ "protocol": "UDP" })),
        Just(json!({ "protocol": "SCTP", "port": 8_000 })),
        prop::sample::select(&["http", "more", "none"][..])
            .prop_map(|name| json!({ "port": name })),
        Just(json!({ "protocol": "UDP", "port": "dns" })),
        Just(json!({ "port": 443 })),
        (8_000..8_004_u16).prop_map(|port| json!({ "port": port })),
        (7_999..8_003_u16, 0..1_100_u16)
            .prop_map(|(port, more)| json!({ "port": port, "endPort": port + more })),
        (5_299..5_303_u16, 0..3_u16).prop_map(
            |(port, more)| json!({ "protocol": "UDP", "port": port, "endPort": port + more })
        ),
    ]
}

fn policy() -> impl Strategy<Value = (usize, Value)> {
    let rules = |key: &'static str| {
        let rule = (
            vec(peer(), 0..4),
            vec(port(), 0..4),
            any::<bool>(),
            any::<bool>(),
        );
        let rule = rule.prop_map(move |(peers, ports, with_peers, with_ports)| {
            let mut rule = json!({});
            // A list that is there and empty means the same as one that is not.
            if with_peers || !peers.is_empty() {
                rule[key] = json!(peers);
            }
            if with_ports || !ports.is_empty() {
                rule["ports"] = json!(ports);
            }
            rule
        });
        prop::option::weighted(0.7, vec(rule, 0..3))
    };
    let types = prop::sample::select(vec![
        json!(null),
        json!(["Ingress"]),
        json!(["Egress"]),
        json!(["Ingress", "Egress"]),
    ]);
    (
        0..NAMESPACES.len(),
        pods(),
        types,
        rules("from"),
        rules("to"),
    )
        .prop_map(|(namespace, pods, types, ingress, egress)| {
            let mut spec = json!({ "podSelector": pods });
            if !types.is_null() {
                spec["policyTypes"] = types;
            }
            if let Some(rules) = ingress {
                spec["ingress"] = json!(rules);
            }
            if let Some(rules) = egress {
                spec["egress"] = json!(rules);
            }
            (namespace, spec)
        })
}

/// Any world.
pub(crate) fn world() -> impl Strategy<Value = Sketch> {
    let pod = (
        0..NAMESPACES.len(),
        0..LABELS.len(),
        prop::bool::weighted(0.15),
    );
    // A Baseline policy applies only to pods that no NetworkPolicy selects.
    let policies = prop_oneof![
        1 => (vec(policy(), 2..8), vec(cluster::policy(), 0)),
        3 => (vec(policy(), 0..4), vec(cluster::policy(), 1..6)),
    ];
    (vec(pod, 3..7), policies).prop_map(|(pods, (policies, cluster))| Sketch {
        pods,
        policies,
        cluster,
    })
}
