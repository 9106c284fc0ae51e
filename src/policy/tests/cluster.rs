//! Semantics of ClusterNetworkPolicy and its older kinds.

use super::{Explainer, allowed, assert_allowed, cluster, of_kind, with_cluster as world};
use crate::inventory::{ClusterPolicy, read_cluster_policy};
use crate::model::Family;
use serde_json::{Value, json};

/// A spec about everything that comes to namespace data.
fn spec(tier: &str, priority: u16, rules: &Value) -> Value {
    json!({ "tier": tier, "priority": priority, "subject": { "namespaces": { "matchLabels": { "team": "b" } } }, "ingress": rules })
}

fn rule(action: &str, from: &Value, protocols: &Value) -> Value {
    let mut rule = json!({ "action": action, "from": [from] });
    if !protocols.is_null() {
        rule["protocols"] = protocols.clone();
    }
    rule
}

fn every_pod() -> Value {
    json!({ "namespaces": {} })
}

fn ports(first: u16, last: u16) -> Value {
    if first == last {
        json!([{ "tcp": { "destinationPort": { "number": first } } }])
    } else {
        json!([{ "tcp": { "destinationPort": { "range": { "start": first, "end": last } } } }])
    }
}

#[test]
fn tiers_are_evaluated_in_order() {
    let admits = json!({ "ingress": [{ "ports": [{ "port": 80, "endPort": 90 }] }] });
    let admin = cluster(
        "a",
        &spec(
            "Admin",
            1,
            &json!([
                rule("Deny", &every_pod(), &ports(85, 85)),
                rule("Accept", &every_pod(), &ports(443, 443))
            ]),
        ),
    );

    let baseline = cluster(
        "b",
        &spec(
            "Baseline",
            1,
            &json!([rule("Deny", &every_pod(), &Value::Null)]),
        ),
    );

    let inventory = world(&[("data", admits)], vec![baseline.clone(), admin.clone()]);
    assert_allowed(&inventory, "shop/web", "data/db", "80-84, 86-90, 443");
    // A NetworkPolicy that selects the pod is final: Baseline is not evaluated.
    let inventory = world(
        &[("data", json!({ "ingress": [{}] }))],
        vec![baseline.clone()],
    );
    assert_allowed(&inventory, "shop/web", "data/db", "everything");
    let inventory = world(&[], vec![baseline, admin]);
    assert_allowed(&inventory, "shop/web", "data/db", "443");
    // An address outside is not a pod: only NetworkPolicies can deny it.
    assert_eq!(
        allowed(&inventory, "203.0.113.1", "data/db", Family::V4).to_string(),
        "everything"
    );
    assert_allowed(&inventory, "data/db", "shop/web", "everything");
}

#[test]
fn pass_leaves_the_tier() {
    let admin = cluster(
        "a",
        &spec(
            "Admin",
            1,
            &json!([
                rule("Pass", &every_pod(), &ports(80, 90)),
                rule("Deny", &every_pod(), &Value::Null)
            ]),
        ),
    );

    let later = cluster(
        "late",
        &spec(
            "Admin",
            2,
            &json!([rule("Accept", &every_pod(), &Value::Null)]),
        ),
    );

    let baseline = cluster(
        "b",
        &spec(
            "Baseline",
            0,
            &json!([rule("Deny", &every_pod(), &ports(90, 100))]),
        ),
    );

    let admits = json!({ "ingress": [{ "ports": [{ "port": 88, "endPort": 95 }] }] });
    let with_policy = world(
        &[("data", admits)],
        vec![later.clone(), admin.clone(), baseline.clone()],
    );
    assert_allowed(&with_policy, "shop/web", "data/db", "88-90");
    assert_allowed(
        &world(&[], vec![later, admin, baseline]),
        "shop/web",
        "data/db",
        "80-89",
    );
}

#[test]
fn lower_priority_numbers_go_first_and_rules_in_order() {
    let accept = json!([
        rule("Accept", &every_pod(), &ports(80, 80)),
        rule("Deny", &every_pod(), &ports(80, 81))
    ]);
    let deny = json!([rule("Deny", &every_pod(), &ports(80, 90))]);
    let first = |a, b| {
        world(
            &[],
            vec![
                cluster("x", &spec("Admin", a, &accept)),
                cluster("y", &spec("Admin", b, &deny)),
            ],
        )
    };
    assert_allowed(
        &first(1, 2),
        "shop/web",
        "data/db",
        "1-80, 91-65535, every udp port, every sctp port",
    );
    assert_allowed(
        &first(2, 1),
        "shop/web",
        "data/db",
        "1-79, 91-65535, every udp port, every sctp port",
    );
}

#[test]
fn peers_and_subjects_select_pods_only() {
    let web = json!({ "pods": { "namespaceSelector": { "matchLabels": { "team": "a" } }, "podSelector": { "matchLabels": { "app": "web" } } } });
    let admin = cluster(
        "a",
        &spec("Admin", 1, &json!([rule("Deny", &web, &Value::Null)])),
    );

    let inventory = world(&[], vec![admin]);
    assert_allowed(&inventory, "shop/web", "data/db", "nothing");
    for from in ["shop/api", "data/web", "other/host", "n1"] {
        assert_allowed(&inventory, from, "data/db", "everything");
    }
    let every_pod = json!({ "tier": "Admin", "priority": 1, "subject": { "namespaces": {} }, "egress": [{ "action": "Deny", "to": [{ "namespaces": {} }] }] });
    let inventory = world(&[], vec![cluster("a", &every_pod)]);
    assert_allowed(&inventory, "shop/web", "data/db", "nothing");
    assert_allowed(&inventory, "other/host", "data/db", "everything");
    assert_allowed(&inventory, "shop/web", "other/host", "everything");
}

#[test]
fn networks_match_pods_and_nodes_and_node_peers_match_nodes() {
    let egress = |to: &Value| json!({ "tier": "Admin", "priority": 1, "subject": { "namespaces": {} }, "egress": [{ "action": "Deny", "to": [to] }] });
    let networks = world(
        &[],
        vec![cluster(
            "a",
            &egress(&json!({ "networks": ["10.0.0.3/32", "203.0.113.0/24", "2001:db8::/32"] })),
        )],
    );
    assert_eq!(
        allowed(&networks, "shop/web", "data/db", Family::V4).to_string(),
        "nothing"
    );
    assert_eq!(
        allowed(&networks, "shop/web", "data/db", Family::V6).to_string(),
        "everything"
    );
    assert_eq!(
        allowed(&networks, "shop/web", "203.0.113.9", Family::V4).to_string(),
        "nothing"
    );
    assert_eq!(
        allowed(&networks, "shop/web", "2001:db8::9", Family::V6).to_string(),
        "nothing"
    );

    let nodes = world(
        &[],
        vec![cluster(
            "a",
            &egress(&json!({ "nodes": { "matchLabels": { "kubernetes.io/hostname": "n1" } } })),
        )],
    );
    assert_allowed(&nodes, "shop/web", "n1", "nothing");
    assert_allowed(&nodes, "shop/web", "other/host", "nothing");
    assert_allowed(&nodes, "shop/web", "n2", "everything");
    assert_allowed(&nodes, "shop/web", "shop/api", "everything");
}

#[test]
fn named_ports_are_those_of_the_destination_in_any_transport() {
    let named = json!([{ "destinationNamedPort": "http" }, { "destinationNamedPort": "dns" }]);
    let admin = cluster(
        "a",
        &spec(
            "Admin",
            1,
            &json!([
                rule("Accept", &every_pod(), &named),
                rule("Deny", &every_pod(), &Value::Null)
            ]),
        ),
    );

    let inventory = world(&[], vec![admin]);
    assert_allowed(&inventory, "shop/web", "data/db", "5432, 53/udp");
    let egress = json!({ "tier": "Admin", "priority": 1, "subject": { "namespaces": {} }, "egress": [
        { "action": "Pass", "to": [every_pod()], "protocols": named },
        { "action": "Deny", "to": [every_pod()] },
    ] });
    let inventory = world(&[], vec![cluster("a", &egress)]);
    assert_allowed(&inventory, "shop/web", "data/db", "5432, 53/udp");
    assert_allowed(&inventory, "shop/web", "data/web", "8082, 53/udp");
}

#[test]
fn rules_with_unknown_fields_fail_closed() {
    let accept = json!([{ "action": "Accept", "from": [{ "namespaces": {} }, { "meshes": {} }] }, rule("Deny", &every_pod(), &Value::Null)]);
    let accept = cluster("a", &spec("Admin", 1, &accept));
    assert_eq!(accept.ingress[0].unknown, ["from[1].meshes"]);
    assert_allowed(&world(&[], vec![accept]), "shop/web", "data/db", "nothing");
    for action in ["Deny", "Pass"] {
        let rules = json!([{ "action": action, "from": [{ "namespaces": { "matchLabels": { "no": "one" } } }], "protocols": [{ "quic": {} }] }]);
        let policy = cluster("a", &spec("Admin", 1, &rules));
        assert_eq!(policy.ingress[0].unknown, ["protocols[0].quic"]);
        let inventory = world(&[], vec![policy]);
        assert_allowed(&inventory, "shop/web", "data/db", "nothing");
        assert_eq!(
            allowed(&inventory, "203.0.113.1", "data/db", Family::V4).to_string(),
            "nothing"
        );
    }
    let names = json!({ "tier": "Admin", "priority": 1, "subject": { "namespaces": {} }, "egress": [
        { "action": "Accept", "to": [{ "domainNames": ["*.example.org"] }] },
        { "action": "Deny", "to": [{ "networks": ["0.0.0.0/0"] }] },
    ] });
    let inventory = world(&[], vec![cluster("a", &names)]);
    assert_eq!(
        allowed(&inventory, "shop/web", "203.0.113.1", Family::V4).to_string(),
        "nothing"
    );
}

#[test]
fn older_kinds_map_to_the_same_tiers() {
    let admin = json!({ "priority": 5, "subject": { "namespaces": {} }, "ingress": [
        { "name": "web", "action": "Allow", "from": [every_pod()], "ports": [{ "portNumber": { "protocol": "UDP", "port": 53 } }, { "namedPort": "http" }] },
        { "action": "Pass", "from": [every_pod()], "ports": [{ "portRange": { "protocol": "TCP", "start": 80, "end": 90 } }] },
        { "action": "Deny", "from": [every_pod()] },
    ] });
    let baseline = json!({ "subject": { "namespaces": {} }, "ingress": [{ "action": "Deny", "from": [every_pod()], "ports": [{ "portNumber": { "protocol": "TCP", "port": 85 } }] }] });
    let inventory = world(
        &[],
        vec![
            of_kind("AdminNetworkPolicy", "a", &admin),
            of_kind("BaselineAdminNetworkPolicy", "default", &baseline),
        ],
    );
    assert_allowed(
        &inventory,
        "shop/web",
        "data/db",
        "80-84, 86-90, 5432, 53/udp",
    );
}

#[test]
fn an_invalid_policy_is_an_error_with_its_path() {
    let good = rule("Deny", &every_pod(), &Value::Null);
    let cases = [
        (
            json!({ "priority": 1, "subject": { "namespaces": {} } }),
            "spec: a ClusterNetworkPolicy needs a tier",
        ),
        (
            json!({ "tier": "Middle", "priority": 1, "subject": { "namespaces": {} } }),
            "spec.tier: unknown tier",
        ),
        (
            spec("Admin", 1_001, &json!([good])),
            "spec.priority: 1001 is not a priority",
        ),
        (
            json!({ "tier": "Admin", "priority": 1, "subject": {} }),
            "spec.subject: the subject needs one",
        ),
        (
            spec("Admin", 1, &json!([{ "action": "Deny" }])),
            "spec.ingress[0].from: a rule needs at least one item",
        ),
        (
            spec(
                "Admin",
                1,
                &json!([rule("Allow", &every_pod(), &Value::Null)]),
            ),
            "spec.ingress[0].action: unknown action",
        ),
        (
            spec(
                "Admin",
                1,
                &json!([rule("Deny", &json!({ "networks": ["::/0"] }), &Value::Null)]),
            ),
            "spec.ingress[0].from[0]: nodes, networks",
        ),
        (
            spec(
                "Admin",
                1,
                &json!([rule("Deny", &every_pod(), &ports(0, 0))]),
            ),
            "spec.ingress[0].protocols[0].tcp.destinationPort.number: 0 is not a port",
        ),
        (
            spec(
                "Admin",
                1,
                &json!([rule("Deny", &every_pod(), &ports(90, 80))]),
            ),
            "spec.ingress[0].protocols[0].tcp.destinationPort.range: a range's start",
        ),
        (
            spec("Admin", 1, &json!([rule("Deny", &every_pod(), &json!([]))])),
            "spec.ingress[0].protocols: protocols needs at least one",
        ),
        (
            json!({ "tier": "Admin", "priority": 1, "subject": { "namespaces": {} }, "ingres": [] }),
            "spec.ingres: a ClusterNetworkPolicy has no field",
        ),
    ];
    for (spec, expected) in cases {
        let object =
            json!({ "kind": "ClusterNetworkPolicy", "metadata": { "name": "a" }, "spec": spec });
        let faults = read_cluster_policy(&object).expect_err("refused");
        assert!(
            faults.iter().any(|fault| fault.starts_with(expected)),
            "{faults:?} is not {expected}"
        );
    }
}

fn caveats(policies: Vec<ClusterPolicy>) -> Vec<String> {
    Explainer::new(&world(&[], policies))
        .expect("valid")
        .caveats()
}

fn admin_policy(name: &str, priority: u16, rules: &Value) -> ClusterPolicy {
    cluster(name, &spec("Admin", priority, rules))
}

/// An Admin policy whose rule has a peer that this version does not know.
fn with_unknown_peer(action: &str) -> ClusterPolicy {
    admin_policy(
        "b",
        1,
        &json!([{ "action": action, "from": [{ "meshes": {} }] }]),
    )
}

#[test]
fn undefined_order_and_unknown_fields_and_names_are_caveats() {
    let accept = json!([rule("Accept", &every_pod(), &ports(80, 80))]);
    let deny = json!([rule("Deny", &every_pod(), &ports(80, 90))]);
    assert_eq!(
        caveats(vec![
            admin_policy("x", 1, &accept),
            admin_policy("b", 1, &deny)
        ]),
        [
            "ClusterNetworkPolicy b and ClusterNetworkPolicy x have the same priority and select the same pods: which one is \
             evaluated first is undefined; this prediction evaluates b first"
        ]
    );

    // Another priority or tier, other pods, or the same answer from both: nothing is undefined.
    assert_eq!(
        caveats(vec![
            admin_policy("x", 1, &accept),
            admin_policy("b", 2, &deny)
        ]),
        Vec::<String>::new()
    );
    assert_eq!(
        caveats(vec![
            admin_policy("x", 1, &accept),
            cluster("b", &spec("Baseline", 1, &deny))
        ]),
        Vec::<String>::new()
    );
    assert_eq!(
        caveats(vec![
            admin_policy("x", 1, &deny),
            admin_policy("b", 1, &deny)
        ]),
        Vec::<String>::new()
    );

    let elsewhere = json!({ "tier": "Admin", "priority": 1, "subject": { "namespaces": { "matchLabels": { "team": "a" } } }, "ingress": accept });
    assert_eq!(
        caveats(vec![cluster("x", &elsewhere), admin_policy("b", 1, &deny)]),
        Vec::<String>::new()
    );

    let closed = "Ingress rule 1 of ClusterNetworkPolicy b: this version does not know from[0].meshes, so the rule fails closed";
    assert_eq!(
        caveats(vec![with_unknown_peer("Accept")]),
        [format!("{closed}: it accepts nothing")]
    );
    assert_eq!(
        caveats(vec![with_unknown_peer("Pass")]),
        [format!("{closed}: it denies everything")]
    );

    let names = json!({ "tier": "Admin", "priority": 1, "subject": { "namespaces": {} }, "egress": [{ "action": "Accept", "to": [{ "domainNames": ["pay.example"] }] }] });
    assert_eq!(
        caveats(vec![cluster("b", &names)]),
        [
            "Egress rule 1 of ClusterNetworkPolicy b: the addresses of pay.example are unknown, so the rule matches none of them"
        ]
    );
}
