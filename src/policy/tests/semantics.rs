//! Semantics of NetworkPolicy.

use super::{allowed, assert_allowed, endpoint, with, world};
use crate::model::Family;
use crate::policy::{InvalidPolicy, Predictor};
use serde_json::{Value, json};

const ALL: &str = "everything";
const NONE: &str = "nothing";

#[test]
fn without_policies_everything_is_allowed() {
    let inventory = world();
    for (from, to) in [
        ("shop/web", "data/db"),
        ("203.0.113.1", "shop/web"),
        ("shop/web", "2001:db8::1"),
        ("n1", "data/db"),
    ] {
        assert_eq!(allowed(&inventory, from, to, Family::V4).to_string(), ALL);
    }
}

#[test]
fn policy_types_default_to_ingress_and_to_egress_with_a_rule() {
    let cases: [(Value, &str, &str); 8] = [
        (json!({}), NONE, ALL),
        (json!({ "egress": [] }), NONE, ALL),
        (json!({ "egress": [{}] }), NONE, ALL),
        (
            json!({ "egress": [{ "ports": [{ "port": 1 }] }] }),
            NONE,
            "1",
        ),
        (
            json!({ "policyTypes": [], "egress": [{ "ports": [{ "port": 1 }] }] }),
            NONE,
            "1",
        ),
        (json!({ "policyTypes": ["Egress"] }), ALL, NONE),
        (
            json!({ "policyTypes": ["Ingress"], "egress": [{ "ports": [{ "port": 1 }] }] }),
            NONE,
            ALL,
        ),
        (
            json!({ "policyTypes": ["Ingress", "Egress"], "ingress": [{}] }),
            ALL,
            NONE,
        ),
    ];
    for (spec, ingress, egress) in cases {
        let inventory = with(&[("data", spec.clone())]);
        assert_allowed(&inventory, "shop/web", "data/db", ingress);
        assert_allowed(&inventory, "data/db", "shop/web", egress);
    }
}

#[test]
fn empty_rules_and_lists_mean_different_things() {
    let cases = [
        (json!({ "ingress": [] }), NONE),
        (json!({ "ingress": [{}] }), ALL),
        (json!({ "ingress": [{ "from": [] }] }), ALL),
        (json!({ "ingress": [{ "from": [], "ports": [] }] }), ALL),
        (json!({ "ingress": [{ "ports": [{}] }] }), "every tcp port"),
        (
            json!({ "ingress": [{ "ports": [{ "protocol": "UDP" }] }] }),
            "every udp port",
        ),
        (
            json!({ "ingress": [{ "ports": [{ "protocol": "SCTP", "port": 7 }] }] }),
            "7/sctp",
        ),
    ];
    for (spec, expected) in cases {
        assert_allowed(&with(&[("data", spec)]), "shop/web", "data/db", expected);
    }
}

#[test]
fn peers_select_pods_of_own_or_matching_namespaces() {
    let web = json!({ "matchLabels": { "app": "web" } });
    let team_a = json!({ "matchLabels": { "team": "a" } });
    // Whether shop/web, shop/api, data/web and other/x-0 may reach data/db.
    let cases: [(Value, [bool; 4]); 10] = [
        (json!([{ "podSelector": {} }]), [false, false, true, false]),
        (json!([{ "podSelector": web }]), [false, false, true, false]),
        (
            json!([{ "namespaceSelector": {} }]),
            [true, true, true, true],
        ),
        (
            json!([{ "namespaceSelector": team_a }]),
            [true, true, false, false],
        ),
        (
            json!([{ "namespaceSelector": team_a, "podSelector": web }]),
            [true, false, false, false],
        ),
        (
            json!([{ "namespaceSelector": team_a }, { "podSelector": web }]),
            [true, true, true, false],
        ),
        (
            json!([{ "namespaceSelector": {}, "podSelector": web }]),
            [true, false, true, false],
        ),
        (
            json!([{ "namespaceSelector": team_a, "podSelector": {} }]),
            [true, true, false, false],
        ),
        (
            json!([{ "namespaceSelector": { "matchExpressions": [{ "key": "team", "operator": "DoesNotExist" }] } }]),
            [false, false, false, true],
        ),
        (
            json!([{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "shop" } } }]),
            [true, true, false, false],
        ),
    ];
    for (from, expected) in cases {
        let inventory = with(&[(
            "data",
            json!({ "podSelector": { "matchLabels": { "app": "db" } }, "ingress": [{ "from": from }] }),
        )]);
        for (source, expected) in ["shop/web", "shop/api", "data/web", "other/x-0"]
            .into_iter()
            .zip(expected)
        {
            assert_allowed(
                &inventory,
                source,
                "data/db",
                if expected { ALL } else { NONE },
            );
        }
        // Not selected.
        assert_allowed(&inventory, "other/x-0", "data/web", ALL);
    }
}

#[test]
fn rules_of_all_policies_are_united() {
    let first = json!({ "ingress": [{ "ports": [{ "port": 80, "endPort": 90 }] }] });
    let second = json!({ "ingress": [{ "ports": [{ "port": 91 }] }, { "ports": [{ "port": 85, "endPort": 88 }] }] });
    let deny = json!({});
    assert_allowed(
        &with(&[("data", first), ("data", second), ("data", deny)]),
        "shop/web",
        "data/db",
        "80-91",
    );
}

#[test]
fn both_sides_have_to_allow_a_flow() {
    let egress = json!({ "policyTypes": ["Egress"], "egress": [{ "ports": [{ "port": 80, "endPort": 85 }] }] });
    let ingress = json!({ "ingress": [{ "ports": [{ "port": 84, "endPort": 90 }] }] });
    assert_allowed(
        &with(&[("shop", egress), ("data", ingress)]),
        "shop/web",
        "data/db",
        "84-85",
    );
}

#[test]
fn named_ports_are_those_of_the_destination() {
    let ingress = json!({ "ingress": [{ "ports": [{ "port": "http" }, { "protocol": "UDP", "port": "dns" }, { "port": "dns" }] }] });
    let inventory = with(&[("data", ingress)]);
    assert_allowed(&inventory, "shop/web", "data/db", "5432, 53/udp");
    assert_allowed(&inventory, "shop/web", "data/web", "8082, 53/udp");
    let egress =
        json!({ "policyTypes": ["Egress"], "egress": [{ "ports": [{ "port": "http" }] }] });
    let inventory = with(&[("shop", egress)]);
    assert_allowed(&inventory, "shop/web", "data/db", "5432");
    assert_allowed(&inventory, "shop/web", "shop/api", "8081");
    // Port names do not apply outside the cluster, nor to pods that a block matches.
    let to_block = json!({ "policyTypes": ["Egress"], "egress": [
        { "to": [{ "ipBlock": { "cidr": "10.0.0.0/8" } }], "ports": [{ "port": "http" }, { "port": 9 }] },
    ] });
    assert_eq!(
        allowed(
            &with(&[("shop", to_block)]),
            "shop/web",
            "data/db",
            Family::V4
        )
        .to_string(),
        "9"
    );
    assert_eq!(
        allowed(&inventory, "shop/web", "203.0.113.1", Family::V4).to_string(),
        NONE
    );
}

#[test]
fn blocks_match_addresses_of_their_family_without_exceptions() {
    let block = json!([
        { "ipBlock": { "cidr": "203.0.113.0/24", "except": ["203.0.113.64/26", "203.0.113.7/32"] } },
        { "ipBlock": { "cidr": "203.0.113.65/32" } },
    ]);
    let inventory = with(&[(
        "shop",
        json!({ "policyTypes": ["Egress"], "egress": [{ "to": block }] }),
    )]);
    for (address, expected) in [
        ("203.0.113.1", ALL),
        ("203.0.113.7", NONE),
        ("203.0.113.64", NONE),
        ("203.0.113.65", ALL),
        ("203.0.114.0", NONE),
        ("2001:db8::1", NONE),
    ] {
        let family = Family::of(address.parse().expect("an address"));
        assert_eq!(
            allowed(&inventory, "shop/web", address, family).to_string(),
            expected,
            "{address}"
        );
    }
}

#[test]
fn blocks_match_known_addresses_of_pods_and_nodes_in_their_family_only() {
    let inventory = with(&[(
        "data",
        json!({ "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.0.0.1/32" } }, { "ipBlock": { "cidr": "fd01::/16" } }] }] }),
    )]);
    assert_eq!(
        allowed(&inventory, "shop/web", "data/db", Family::V4).to_string(),
        ALL
    );
    assert_eq!(
        allowed(&inventory, "shop/web", "data/db", Family::V6).to_string(),
        NONE
    );
    assert_eq!(
        allowed(&inventory, "shop/api", "data/db", Family::V4).to_string(),
        NONE
    );
    assert_eq!(
        allowed(&inventory, "n1", "data/db", Family::V4).to_string(),
        NONE
    );
    assert_eq!(
        allowed(&inventory, "n1", "data/db", Family::V6).to_string(),
        ALL
    );

    // Equal pods of which only one has an address in the block.
    let one = with(&[(
        "data",
        json!({ "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.0.0.5/32" } }] }] }),
    )]);
    assert_eq!(
        allowed(&one, "other/x-0", "data/db", Family::V4).to_string(),
        ALL
    );
    assert_eq!(
        allowed(&one, "other/x-1", "data/db", Family::V4).to_string(),
        NONE
    );
}

#[test]
fn blocks_match_unknown_addresses_where_they_have_every_private_one() {
    for (cidr, except, expected, unknown) in [
        ("0.0.0.0/0", json!([]), ALL, NONE),
        ("0.0.0.0/0", json!(["169.254.169.254/32"]), ALL, NONE),
        ("203.0.113.0/24", json!([]), NONE, NONE),
        ("10.0.0.0/8", json!([]), NONE, ALL),
        ("0.0.0.0/0", json!(["10.0.0.0/8"]), NONE, ALL),
    ] {
        let block = json!({ "cidr": cidr, "except": except });
        let mut inventory = with(&[(
            "data",
            json!({ "ingress": [{ "from": [{ "ipBlock": block }] }] }),
        )]);
        for pod in &mut inventory.pods {
            pod.addresses.clear();
        }

        let (from, to) = ("shop/web", "data/db");
        let answer = allowed(&inventory, from, to, Family::V4);
        assert_eq!(answer.to_string(), expected, "{block}");
        let depends = Predictor::new(&inventory).expect("valid").unknown(
            endpoint(&inventory, from),
            endpoint(&inventory, to),
            Family::V4,
        );
        assert_eq!(depends.to_string(), unknown, "{block}");
        let outside = allowed(&inventory, "203.0.113.1", to, Family::V4);
        assert_eq!(outside.is_all(), cidr != "10.0.0.0/8", "{block}");
    }
}

#[test]
fn nodes_reach_their_own_pods_and_pods_reach_themselves() {
    let closed = json!({ "policyTypes": ["Ingress", "Egress"] });
    let inventory = with(&[
        ("shop", closed.clone()),
        ("data", closed.clone()),
        ("other", closed),
    ]);
    assert_allowed(&inventory, "n1", "shop/web", ALL);
    assert_allowed(&inventory, "n2", "shop/web", NONE);
    assert_allowed(&inventory, "shop/web", "shop/web", ALL);
    assert_allowed(&inventory, "other/x-0", "other/x-1", NONE);
    // No egress policy applies to nodes as sources; to nodes as targets, that of the source does.
    assert_allowed(&inventory, "n1", "n2", ALL);
    assert_allowed(&inventory, "shop/web", "n1", NONE);
}

#[test]
fn host_network_pods_have_the_identity_of_their_node() {
    let from_web = json!({ "ingress": [{ "from": [{ "namespaceSelector": {}, "podSelector": { "matchLabels": { "app": "web" } } }] }] });
    let closed = json!({ "policyTypes": ["Ingress", "Egress"] });
    let inventory = with(&[
        ("data", from_web),
        ("other", closed),
        (
            "shop",
            json!({ "policyTypes": ["Egress"], "egress": [{ "to": [{ "namespaceSelector": {} }] }] }),
        ),
    ]);
    assert_allowed(&inventory, "data/web", "data/db", ALL);
    // Its label app=web has no effect, and no policy of its namespace selects it.
    assert_allowed(&inventory, "other/host", "data/db", NONE);
    assert_allowed(&inventory, "other/host", "shop/web", ALL);
    assert_allowed(&inventory, "shop/api", "other/host", NONE);
    assert_allowed(&inventory, "data/web", "other/host", ALL);
}

#[test]
fn pods_that_are_not_ready_are_selected() {
    let mut inventory = with(&[("data", json!({}))]);
    inventory.pods.iter_mut().for_each(|pod| pod.ready = false);
    assert_allowed(&inventory, "shop/web", "data/db", NONE);
}

#[test]
fn an_invalid_policy_is_an_error_with_its_name() {
    let faults: [Value; 9] = [
        json!({ "podSelector": { "matchExpressions": [{ "key": "a", "operator": "Like", "values": ["b"] }] } }),
        json!({ "ingress": [{ "from": [{}] }] }),
        json!({ "ingress": [{ "from": [{ "podSelector": {}, "ipBlock": { "cidr": "10.0.0.0/8" } }] }] }),
        json!({ "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/33" } }] }] }),
        json!({ "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["::/0"] } }] }] }),
        json!({ "ingress": [{ "ports": [{ "port": 65_536 }] }] }),
        json!({ "ingress": [{ "ports": [{ "port": 0 }] }] }),
        json!({ "ingress": [{ "ports": [{ "port": 90, "endPort": 80 }] }] }),
        json!({ "ingress": [{ "ports": [{ "protocol": "ICMP" }] }] }),
    ];
    for spec in faults {
        let inventory = with(&[("data", json!({})), ("data", spec.clone())]);
        let Err(error) = Predictor::new(&inventory).map(|_| ()) else {
            panic!("{spec} was accepted")
        };
        assert!(matches!(error, InvalidPolicy::In { .. }), "{error:?}");
        assert!(
            error
                .to_string()
                .starts_with("read NetworkPolicy data/p1 (p1.yaml:1): "),
            "{error}"
        );
    }
}
