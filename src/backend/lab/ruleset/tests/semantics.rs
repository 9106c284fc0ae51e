//! Semantics of NetworkPolicies: each case has packets that are allowed and packets that are
//! denied.

use super::{check, from_api, on_db, outcome, packet, world};
use crate::backend::lab::ruleset::{Packet, Payload};
use serde_json::json;

#[test]
fn without_policies_everything_arrives() {
    check(
        &[],
        &[
            "shop/web -> data/db:5432",
            "shop/web -> data/db:icmp v6",
            "203.0.113.1 -> data/db:1/sctp",
        ],
        &[],
    );
}

#[test]
fn a_flow_needs_egress_and_ingress_permission() {
    let web = json!({ "podSelector": { "matchLabels": { "app": "web" } } });
    let egress = |to| {
        (
            "shop",
            json!({ "podSelector": { "matchLabels": { "app": "web" } }, "policyTypes": ["Egress"], "egress": to }),
        )
    };
    let ingress = |from| ("data", json!({ "podSelector": {}, "ingress": from }));
    let to_data = json!([{ "to": [{ "namespaceSelector": { "matchLabels": { "team": "b" } } }] }]);
    let from_shop =
        json!([{ "from": [{ "namespaceSelector": { "matchLabels": { "team": "a" } } }] }]);
    let flow = ["shop/web -> data/db:5432"];
    check(
        &[egress(to_data.clone()), ingress(from_shop.clone())],
        &flow,
        &["shop/web -> shop/api:80", "other/x -> data/db:1"],
    );
    check(&[egress(json!([])), ingress(from_shop)], &[], &flow);
    check(
        &[egress(to_data), ingress(json!([{ "from": [web] }]))],
        &["data/web -> data/db:1"],
        &flow,
    );
}

#[test]
fn policies_are_a_union_in_any_order() {
    let one = (
        "data",
        json!({ "podSelector": {}, "ingress": [{ "ports": [{ "port": 1 }] }] }),
    );
    let two = (
        "data",
        json!({ "podSelector": { "matchLabels": { "app": "db" } }, "ingress": [{ "ports": [{ "port": 2 }] }] }),
    );
    let none = ("data", json!({ "podSelector": {} }));
    let allowed = [
        "shop/web -> data/db:1",
        "shop/web -> data/db:2",
        "shop/web -> data/web:1",
    ];
    let denied = ["shop/web -> data/db:3", "shop/web -> data/web:2"];
    check(&[one.clone(), two.clone(), none.clone()], &allowed, &denied);
    check(&[none, two, one], &allowed, &denied);
}

#[test]
fn absent_policy_types_are_ingress_and_egress_if_it_has_rules() {
    let spec = |extra: serde_json::Value| {
        let mut spec = json!({ "podSelector": { "matchLabels": { "app": "api" } } });
        spec.as_object_mut()
            .expect("a spec")
            .extend(extra.as_object().expect("fields").clone());
        [("shop", spec)]
    };
    let (into, out) = ("shop/web -> shop/api:80", "shop/api -> shop/web:80");
    check(&spec(json!({})), &[out], &[into]);
    check(&spec(json!({ "egress": [] })), &[out], &[into]);
    check(&spec(json!({ "policyTypes": [] })), &[out], &[into]);
    check(
        &spec(json!({ "egress": [{ "ports": [{ "port": 1 }] }] })),
        &["shop/api -> shop/web:1"],
        &[into, out],
    );
    check(&spec(json!({ "policyTypes": ["Egress"] })), &[into], &[out]);
    check(
        &spec(json!({ "policyTypes": ["Egress"], "ingress": [] })),
        &[into],
        &[out],
    );
    check(
        &spec(json!({ "policyTypes": ["Ingress"], "egress": [{ "ports": [{ "port": 1 }] }] })),
        &[out],
        &[into],
    );
    check(
        &spec(json!({ "policyTypes": ["Ingress", "Egress"] })),
        &[],
        &[into, out],
    );
}

#[test]
fn an_empty_or_missing_selector_selects_the_whole_namespace() {
    for spec in [
        json!({ "podSelector": {} }),
        json!({}),
        json!({ "podSelector": { "matchLabels": {}, "matchExpressions": [] } }),
    ] {
        check(
            &[("data", spec)],
            &["data/db -> shop/web:1"],
            &["shop/web -> data/db:1", "data/db -> data/web:1"],
        );
    }
}

#[test]
fn peers_combine_pod_and_namespace_selectors() {
    let web = json!({ "matchLabels": { "app": "web" } });
    let shop = json!({ "matchLabels": { "team": "a" } });
    let from = |peers: serde_json::Value| on_db(&json!([{ "from": peers }]));
    let (own, shop_web, shop_api) = (
        "data/web -> data/db:1",
        "shop/web -> data/db:1",
        "shop/api -> data/db:1",
    );
    check(
        &from(json!([{ "podSelector": web }])),
        &[own],
        &[shop_web, shop_api],
    );
    check(
        &from(json!([{ "namespaceSelector": shop }])),
        &[shop_web, shop_api, "shop/far -> data/db:1"],
        &[own, "other/x -> data/db:1"],
    );
    check(
        &from(json!([{ "namespaceSelector": shop, "podSelector": web }])),
        &[shop_web, "shop/far -> data/db:1"],
        &[own, shop_api],
    );
    check(
        &from(json!([{ "namespaceSelector": shop }, { "podSelector": web }])),
        &[own, shop_web, shop_api],
        &["other/x -> data/db:1"],
    );
    check(&from(json!([{ "podSelector": {} }])), &[own], &[shop_web]);
    check(
        &from(json!([{ "namespaceSelector": {}, "podSelector": web }])),
        &[own, shop_web],
        &[shop_api],
    );
}

#[test]
fn an_empty_namespace_selector_matches_all_pods_and_no_outside_host() {
    let policies = on_db(&json!([{ "from": [{ "namespaceSelector": {} }] }]));
    check(
        &policies,
        &[
            "data/web -> data/db:1",
            "other/x -> data/db:1",
            "shop/web -> data/db:1 v6",
        ],
        &["203.0.113.1 -> data/db:1"],
    );
}

#[test]
fn namespaces_are_selected_by_expressions_on_their_labels() {
    let from = |expression: serde_json::Value| {
        on_db(&json!([{ "from": [{ "namespaceSelector": { "matchExpressions": [expression] } }] }]))
    };
    let (shop, other) = ("shop/web -> data/db:1", "other/x -> data/db:1");
    check(
        &from(json!({ "key": "team", "operator": "In", "values": ["a", "c"] })),
        &[shop],
        &[other],
    );
    check(
        &from(json!({ "key": "team", "operator": "NotIn", "values": ["a"] })),
        &[other],
        &[shop],
    );
    check(
        &from(json!({ "key": "team", "operator": "Exists" })),
        &[shop],
        &[other],
    );
    check(
        &from(json!({ "key": "team", "operator": "DoesNotExist" })),
        &[other],
        &[shop],
    );
    check(
        &from(
            json!({ "key": "kubernetes.io/metadata.name", "operator": "In", "values": ["other"] }),
        ),
        &[other],
        &[shop],
    );
}

#[test]
fn no_rule_denies_all_and_an_empty_rule_allows_all() {
    let flows = [
        "shop/web -> data/db:1",
        "203.0.113.1 -> data/db:9/udp",
        "data/web -> data/db:icmp v6",
    ];
    check(&on_db(&json!([])), &[], &flows);
    check(&on_db(&json!(null)), &[], &flows);
    check(&on_db(&json!([{}])), &flows, &[]);
}

#[test]
fn an_empty_list_of_peers_or_ports_matches_all() {
    for rule in [
        json!({ "from": [], "ports": [{ "port": 1 }] }),
        json!({ "ports": [{ "port": 1 }] }),
        json!({ "from": null, "ports": [{ "port": 1 }] }),
    ] {
        check(
            &on_db(&json!([rule])),
            &["203.0.113.1 -> data/db:1", "shop/web -> data/db:1"],
            &["shop/web -> data/db:2"],
        );
    }
    for rule in [
        json!({ "from": [{ "podSelector": {} }], "ports": [] }),
        json!({ "from": [{ "podSelector": {} }] }),
    ] {
        let all = [
            "data/web -> data/db:1",
            "data/web -> data/db:1/udp",
            "data/web -> data/db:1/sctp",
            "data/web -> data/db:icmp",
        ];
        check(&on_db(&json!([rule])), &all, &["shop/web -> data/db:1"]);
    }
}

#[test]
fn ports_match_by_protocol_number_and_range() {
    let ports = |ports: serde_json::Value| on_db(&json!([{ "ports": ports }]));
    let to = |port: &str| format!("shop/web -> data/db:{port}");
    let table = [
        (
            json!([{ "port": 80 }]),
            vec!["80"],
            vec!["81", "80/udp", "80/sctp", "icmp"],
        ),
        (
            json!([{ "port": 53, "protocol": "UDP" }]),
            vec!["53/udp"],
            vec!["53"],
        ),
        (
            json!([{ "port": 9, "protocol": "SCTP" }]),
            vec!["9/sctp"],
            vec!["9", "9/udp"],
        ),
        (
            json!([{ "protocol": "UDP" }]),
            vec!["1/udp", "65535/udp"],
            vec!["1", "icmp"],
        ),
        (json!([{}]), vec!["1", "65535"], vec!["1/udp", "icmp"]),
        (
            json!([{ "port": 80, "endPort": 90 }]),
            vec!["80", "85", "90"],
            vec!["79", "91", "85/udp"],
        ),
        (
            json!([{ "port": 80, "endPort": 90 }, { "port": 85, "endPort": 95 }, { "port": 97 }]),
            vec!["80", "95", "97"],
            vec!["96", "98"],
        ),
        (
            json!([{ "port": 80 }, { "protocol": "TCP" }, { "port": 53, "protocol": "UDP" }]),
            vec!["1", "53/udp"],
            vec!["80/udp"],
        ),
    ];
    for (spec, allowed, denied) in table {
        let allowed: Vec<String> = allowed.into_iter().map(to).collect();
        let denied: Vec<String> = denied.into_iter().map(to).collect();
        let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
        let denied: Vec<&str> = denied.iter().map(String::as_str).collect();
        check(&ports(spec), &allowed, &denied);
    }
}

#[test]
fn named_ports_are_resolved_on_the_destination() {
    // Ingress: looked up on each subject. `http` is 8080 on shop/web and 9090 on shop/far.
    let ingress = [(
        "shop",
        json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [{ "ports": [{ "port": "http" }] }] }),
    )];
    check(
        &ingress,
        &[
            "data/db -> shop/web:8080",
            "data/db -> shop/far:9090",
            "203.0.113.1 -> shop/far:9090",
            "data/db -> shop/web:8080 v6",
        ],
        &[
            "data/db -> shop/web:9090",
            "data/db -> shop/far:8080",
            "data/db -> shop/web:8080/udp",
        ],
    );
    // Egress: looked up on each peer, also if every address is a peer.
    let all = json!([{ "namespaceSelector": {} }]);
    for rule in [
        json!({ "to": all, "ports": [{ "port": "http" }] }),
        json!({ "ports": [{ "port": "http" }] }),
    ] {
        check(
            &from_api(&json!([rule])),
            &[
                "shop/api -> shop/web:8080",
                "shop/api -> data/db:5432",
                "shop/api -> other/x:80 v6",
            ],
            &[
                "shop/api -> shop/web:80",
                "shop/api -> data/db:8080",
                "shop/api -> 203.0.113.1:8080",
            ],
        );
    }
    let own = from_api(&json!([{ "to": [{ "podSelector": {} }], "ports": [{ "port": "http" }] }]));
    check(
        &own,
        &["shop/api -> shop/far:9090"],
        &["shop/api -> data/db:5432"],
    );
    // Behind a block no pod declares the port.
    let block = from_api(
        &json!([{ "to": [{ "ipBlock": { "cidr": "0.0.0.0/0" } }], "ports": [{ "port": "http" }] }]),
    );
    check(&block, &[], &["shop/api -> shop/web:8080"]);
    let from_block = on_db(
        &json!([{ "from": [{ "ipBlock": { "cidr": "203.0.113.0/24" } }], "ports": [{ "port": "http" }] }]),
    );
    check(
        &from_block,
        &["203.0.113.1 -> data/db:5432"],
        &["203.0.113.1 -> data/db:80", "shop/web -> data/db:5432"],
    );
    // A port name that no pod declares allows nothing.
    check(
        &on_db(&json!([{ "ports": [{ "port": "none" }] }])),
        &[],
        &["shop/web -> data/db:5432"],
    );
}

#[test]
fn a_block_matches_its_family_without_its_exceptions() {
    let to = |peers: serde_json::Value| from_api(&json!([{ "to": peers }]));
    let block = json!({ "ipBlock": { "cidr": "203.0.113.0/24", "except": ["203.0.113.64/26", "203.0.113.1/32"] } });
    let inside = [
        "shop/api -> 203.0.113.0:1",
        "shop/api -> 203.0.113.2:1",
        "shop/api -> 203.0.113.63:1",
        "shop/api -> 203.0.113.128:1",
    ];
    let outside = [
        "shop/api -> 203.0.113.1:1",
        "shop/api -> 203.0.113.64:1",
        "shop/api -> 203.0.113.127:1",
        "shop/api -> 203.0.114.0:1",
    ];
    check(&to(json!([block])), &inside, &outside);
    // An exception applies only to its item.
    let again = json!({ "ipBlock": { "cidr": "203.0.113.1/32" } });
    check(
        &to(json!([block, again])),
        &["shop/api -> 203.0.113.1:1"],
        &["shop/api -> 203.0.113.64:1"],
    );
    // A block of all addresses covers one family and includes pods.
    let v4 = to(json!([{ "ipBlock": { "cidr": "0.0.0.0/0" } }]));
    check(
        &v4,
        &["shop/api -> shop/web:1", "shop/api -> 255.255.255.255:1"],
        &["shop/api -> shop/web:1 v6"],
    );
    let v6 = to(json!([{ "ipBlock": { "cidr": "::/0", "except": ["fd00::4/126"] } }]));
    check(
        &v6,
        &["shop/api -> shop/web:1 v6"],
        &["shop/api -> data/db:1 v6", "shop/api -> shop/web:1"],
    );
    let from = on_db(&json!([{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/30" } }] }]));
    check(
        &from,
        &["shop/web -> data/db:1"],
        &["data/web -> data/db:1", "shop/web -> data/db:1 v6"],
    );
}

#[test]
fn a_node_reaches_its_own_pods_and_no_others() {
    let policies = on_db(&json!([]));
    check(
        &policies,
        &["192.0.2.2 -> data/db:1"],
        &["192.0.2.1 -> data/db:1"],
    );
    let block = on_db(&json!([{ "from": [{ "ipBlock": { "cidr": "192.0.2.1/32" } }] }]));
    check(
        &block,
        &["192.0.2.1 -> data/db:1"],
        &["192.0.2.9 -> data/db:1"],
    );
}

#[test]
fn a_pod_to_its_own_node_is_egress() {
    check(
        &from_api(&json!([])),
        &["192.0.2.1 -> shop/api:1"],
        &["shop/api -> 192.0.2.1:10250", "shop/api -> 192.0.2.2:10250"],
    );
    let node = from_api(
        &json!([{ "to": [{ "ipBlock": { "cidr": "192.0.2.1/32" } }], "ports": [{ "port": 10250 }] }]),
    );
    check(
        &node,
        &["shop/api -> 192.0.2.1:10250"],
        &["shop/api -> 192.0.2.1:22", "shop/api -> 192.0.2.2:10250"],
    );
}

#[test]
fn no_policy_selects_or_isolates_a_host_network_pod() {
    // data/host has the labels of db and the address of n1.
    let all = [(
        "data",
        json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }),
    )];
    check(
        &all,
        &["shop/far -> 192.0.2.1:1", "192.0.2.1 -> shop/far:1"],
        &["shop/far -> data/db:1"],
    );
    let peer = [(
        "other",
        json!({ "podSelector": {}, "ingress": [{ "from": [{ "namespaceSelector": {} }] }] }),
    )];
    check(
        &peer,
        &["data/db -> other/x:1"],
        &["192.0.2.1 -> other/x:1"],
    );
}

#[test]
fn replies_and_neighbour_discovery_are_accepted() {
    let inventory = world(&[(
        "data",
        json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }),
    )]);
    let first = packet("data/db -> shop/web:40000");
    assert!(outcome(&inventory, &first).is_err());
    assert!(
        outcome(
            &inventory,
            &Packet {
                established: true,
                ..first
            }
        )
        .is_ok()
    );
    let icmp = |text: &str, kind| {
        outcome(
            &inventory,
            &Packet {
                payload: Payload::Icmp(kind),
                ..packet(text)
            },
        )
        .is_ok()
    };
    for kind in 133..=137 {
        assert!(icmp("data/db -> shop/web:1 v6", kind), "{kind}");
        assert!(
            !icmp("data/db -> shop/web:1", kind),
            "{kind} is no neighbour discovery in IPv4"
        );
    }
    assert!(!icmp("data/db -> shop/web:1 v6", 128) && !icmp("data/db -> shop/web:1 v6", 138));
}

#[test]
fn pods_that_are_not_ready_are_selected() {
    // No pod of this world is ready.
    check(
        &on_db(&json!([{ "from": [{ "podSelector": {} }] }])),
        &["data/web -> data/db:1"],
        &["shop/web -> data/db:1"],
    );
}

#[test]
fn a_pod_that_reaches_itself_needs_permission() {
    check(&from_api(&json!([])), &[], &["shop/api -> shop/api:1"]);
    check(
        &from_api(&json!([{ "to": [{ "podSelector": {} }] }])),
        &["shop/api -> shop/api:1"],
        &["shop/api -> data/db:1"],
    );
}

#[test]
fn both_directions_are_enforced_on_one_node_and_across_two() {
    let ingress = [(
        "shop",
        json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "api" } } }] }] }),
    )];
    check(
        &ingress,
        &["shop/api -> shop/web:1", "shop/api -> shop/far:1 v6"],
        &["data/web -> shop/web:1", "data/web -> shop/far:1 v6"],
    );
    let egress =
        from_api(&json!([{ "to": [{ "podSelector": { "matchLabels": { "app": "web" } } }] }]));
    check(
        &egress,
        &["shop/api -> shop/web:1", "shop/api -> shop/far:1"],
        &["shop/api -> data/web:1", "shop/api -> data/db:1"],
    );
}
