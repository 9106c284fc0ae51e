//! Complete maps, and the differences between two.

use super::with;
use crate::inventory::Inventory;
use crate::policy::{Comparison, Direction, Link, Predictor};
use serde_json::json;

fn map(inventory: &Inventory) -> Vec<String> {
    let mut predictor = Predictor::new(inventory).expect("valid");
    predictor.all_links().map(|link| link.to_string()).collect()
}

fn show(links: &[Link]) -> Vec<String> {
    links.iter().map(ToString::to_string).collect()
}

/// What opens and what closes between two inventories.
fn changes(before: &Inventory, after: &Inventory) -> [Vec<String>; 2] {
    let mut before = Predictor::new(before).expect("valid");
    let mut after = Predictor::new(after).expect("valid");
    let differences = Comparison::new(&mut before, &mut after).differences(None, None);
    [show(&differences.opened), show(&differences.closed)]
}

#[test]
fn a_map_has_workloads_and_maximal_blocks() {
    let from_shop = json!({ "podSelector": { "matchLabels": { "app": "db" } }, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{ "from": [{ "namespaceSelector": { "matchLabels": { "team": "a" } } }], "ports": [{ "port": 5432 }] }],
        "egress": [{ "to": [{ "ipBlock": { "cidr": "203.0.113.0/25" } }, { "ipBlock": { "cidr": "203.0.113.128/25" } }] },
                   { "to": [{ "ipBlock": { "cidr": "198.51.100.0/24", "except": ["198.51.100.0/26"] } }] }] });
    let closed = json!({ "policyTypes": ["Ingress", "Egress"] });
    let egress =
        json!({ "policyTypes": ["Egress"], "egress": [{ "to": [{ "namespaceSelector": {} }] }] });
    let inventory = with(&[
        ("data", from_shop),
        ("other", closed),
        ("shop", egress.clone()),
        ("shop", json!({})),
    ]);
    let links = map(&inventory);
    let expected = [
        "data/Pod/web -> data/Pod/db: nothing",
        "shop/Pod/api -> data/Pod/db: 5432",
        "shop/Pod/api -> data/Pod/web: everything",
        "shop/Pod/web -> data/Pod/db: 5432",
        "shop/Pod/web -> data/Pod/web: everything",
        "data/Pod/db -> 198.51.100.64-198.51.100.255: everything",
        "data/Pod/db -> 203.0.113.0/24: everything",
        "data/Pod/web -> 0.0.0.0/0: everything",
        "data/Pod/web -> ::/0: everything",
        "0.0.0.0/0 -> data/Pod/web: everything",
        "::/0 -> data/Pod/web: everything",
    ];
    assert_eq!(links, expected[1..], "{links:#?}");
    let ends = Predictor::new(&inventory).expect("valid").map_ends();
    let workloads: Vec<String> = ends.workloads().map(ToString::to_string).collect();
    assert_eq!(
        workloads,
        [
            "data/Pod/db",
            "data/Pod/web",
            "other/Deployment/x",
            "shop/Pod/api",
            "shop/Pod/web"
        ]
    );
}

#[test]
fn replicas_reach_each_other_and_are_split_where_policies_distinguish_them() {
    let inventory = with(&[]);
    let links = map(&inventory);
    assert!(
        links.contains(&"other/Deployment/x -> other/Deployment/x: everything".to_owned()),
        "{links:?}"
    );
    assert!(
        !links
            .iter()
            .any(|link| link.starts_with("data/Pod/db -> data/Pod/db")),
        "{links:?}"
    );

    let one = with(&[(
        "data",
        json!({ "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.0.0.5/32" } }, { "ipBlock": { "cidr": "fd00::6/128" } }] }] }),
    )]);
    let links = map(&one);
    for link in [
        "other/Deployment/x (x-0) -> data/Pod/db over IPv4: everything",
        "other/Deployment/x (x-1) -> data/Pod/db over IPv6: everything",
    ] {
        assert!(links.contains(&link.to_owned()), "{links:#?}");
    }
    assert!(
        !links
            .iter()
            .any(|link| link.starts_with("other/Deployment/x (x-1) -> data/Pod/db over IPv4")),
        "{links:#?}"
    );
}

/// The world without addresses of pods and nodes, as manifests have it.
fn unplaced(policies: &[(&str, serde_json::Value)]) -> Inventory {
    let mut inventory = with(policies);
    for pod in &mut inventory.pods {
        pod.addresses.clear();
    }
    for node in &mut inventory.nodes {
        node.addresses.clear();
    }
    inventory
}

fn to_block(cidr: &str) -> (&'static str, serde_json::Value) {
    (
        "shop",
        json!({ "podSelector": { "matchLabels": { "app": "api" } }, "policyTypes": ["Egress"],
            "egress": [{ "to": [{ "ipBlock": { "cidr": cidr } }], "ports": [{ "port": 443 }] }] }),
    )
}

#[test]
fn a_map_without_addresses_has_what_blocks_allow_and_what_depends_on_them() {
    let everything = map(&unplaced(&[to_block("0.0.0.0/0")]));
    let link = "shop/Pod/api -> data/Pod/db: 443".to_owned();
    assert!(everything.contains(&link), "{everything:#?}");

    let private = map(&unplaced(&[to_block("10.0.0.0/8")]));
    let link = "shop/Pod/api -> data/Pod/db: unknown for 443".to_owned();
    assert!(private.contains(&link), "{private:#?}");
    let outside = "shop/Pod/api -> 10.0.0.0/8: 443".to_owned();
    assert!(private.contains(&outside), "{private:#?}");

    let public = map(&unplaced(&[to_block("203.0.113.0/24")]));
    assert!(
        !public
            .iter()
            .any(|link| link.starts_with("shop/Pod/api -> data/Pod/db")),
        "{public:#?}"
    );
}

#[test]
fn pods_without_a_family_have_no_links_over_it() {
    let mut inventory = with(&[to_block("10.0.0.0/8")]);
    for pod in &mut inventory.pods {
        pod.addresses.truncate(1);
    }
    let links = map(&inventory);
    assert!(
        links.contains(&"shop/Pod/api -> data/Pod/db over IPv4: 443".to_owned()),
        "the nodes have both families: {links:#?}"
    );
    assert!(
        !links
            .iter()
            .any(|link| link.contains("IPv6") || link.contains("::/0")),
        "{links:#?}"
    );
}

#[test]
fn a_replica_more_is_no_change_and_a_relabelled_one_is_its_own() {
    let closed = json!({ "podSelector": { "matchLabels": { "role": "old" } } });
    let before = with(&[("other", closed)]);
    let mut after = before.clone();
    let mut further = after.pods[4].clone();
    further.name = "x-2".into();
    further.addresses = vec![super::address("10.0.0.99"), super::address("fd00::99")];
    after.pods.push(further);
    assert_eq!(changes(&before, &after), [Vec::<String>::new(), Vec::new()]);

    after.pods[4].labels = super::labels("role=old");
    let [opened, closed] = changes(&before, &after);
    assert!(opened.is_empty(), "{opened:#?}");
    let link = "data/Pod/db -> other/Deployment/x (x-0): everything".to_owned();
    assert!(closed.contains(&link), "{closed:#?}");
    assert!(
        !closed
            .iter()
            .any(|link| link.contains("-> other/Deployment/x (x-1")),
        "{closed:#?}"
    );
}

#[test]
fn differences_that_depend_on_addresses_are_given_as_unknown() {
    let none = unplaced(&[(
        "shop",
        json!({ "podSelector": { "matchLabels": { "app": "api" } }, "policyTypes": ["Egress"] }),
    )]);
    let private = unplaced(&[to_block("10.0.0.0/8")]);
    let [opened, closed] = changes(&none, &private);
    let link = "shop/Pod/api -> data/Pod/db: unknown for 443".to_owned();
    assert!(opened.contains(&link) && closed.is_empty(), "{opened:#?}");

    let mut before = Predictor::new(&private).expect("valid");
    let narrower = unplaced(&[to_block("10.0.0.0/16")]);
    let mut after = Predictor::new(&narrower).expect("valid");
    let differences = Comparison::new(&mut before, &mut after).differences(None, None);
    assert!(differences.undecided > 0, "{differences:#?}");
}

#[test]
fn only_many_equal_workloads_are_grouped() {
    let mut inventory = with(&[to_block("0.0.0.0/0")]);
    for number in 0..20 {
        let mut pod = inventory.pods[1].clone();
        pod.name = format!("p{number:02}");
        pod.workloads.clear();
        pod.labels = super::labels("app=p");
        inventory.pods.push(pod);
    }
    let mut predictor = Predictor::new(&inventory).expect("valid");
    let ends = predictor.map_ends().grouped();
    let names: Vec<String> = ends.workloads().map(ToString::to_string).collect();
    assert_eq!(
        names,
        // The web's label tells no policy anything.
        [
            "data/Pod/db",
            "data/Pod/web",
            "other/Deployment/x",
            "shop/Pod/api",
            "shop/Pod/p00 (and 20 equal to it)"
        ]
    );

    let one = predictor.ends_named(&predictor.map_ends(), "shop/Pod/p07");
    let links: Vec<String> = predictor
        .links(one, ends, |_| false)
        .map(|link| link.to_string())
        .collect();
    assert!(
        links.contains(&"shop/Pod/p07 -> shop/Pod/p00 (and 20 equal to it): everything".to_owned()),
        "{links:#?}"
    );
}

#[test]
fn links_are_the_same_whatever_part_of_the_map_is_asked_for() {
    let mut inventory = with(&[to_block("0.0.0.0/0")]);
    // More than a chunk of sources, of as many classes.
    for number in 0..300 {
        let mut pod = inventory.pods[1].clone();
        pod.name = format!("p{number}");
        pod.workloads.clear();
        pod.labels = super::labels(&format!("app=p{number}"));
        inventory.pods.push(pod);
        inventory.policies.extend(
            with(&[(
                "shop",
                json!({ "podSelector": { "matchLabels": { "app": format!("p{number}") } },
                    "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": format!("p{}", number + 1) } } }], "ports": [{ "port": 1000 + number }] }] }),
            )])
            .policies,
        );
    }
    let mut predictor = Predictor::new(&inventory).expect("valid");
    let all: Vec<String> = predictor.all_links().map(|link| link.to_string()).collect();
    for name in ["shop/Pod/p298", "shop/Pod/p0", "shop/Pod/api"] {
        let ends = predictor.map_ends();
        let one = predictor.ends_named(&ends, name);
        let to: Vec<String> = predictor
            .links(ends, one, |direction| direction == Direction::Ingress)
            .map(|link| link.to_string())
            .collect();
        let of_map = all
            .iter()
            .filter(|link| link.contains(&format!("-> {name}:")));
        assert_eq!(to, of_map.cloned().collect::<Vec<_>>(), "to {name}");
        assert!(!to.is_empty(), "{name}");
    }
    assert!(all.contains(&"shop/Pod/p299 -> shop/Pod/p298: 1298".to_owned()));
}

#[test]
fn changes_are_split_by_port_and_by_address() {
    let spec = |to: &str, first: u16, last: u16| {
        json!({ "policyTypes": ["Ingress", "Egress"],
            "ingress": [{ "from": [{ "namespaceSelector": { "matchLabels": { "team": "a" } }, "podSelector": { "matchLabels": { "app": "api" } } }], "ports": [{ "port": first, "endPort": last }] }],
            "egress": [{ "to": [{ "ipBlock": { "cidr": to } }], "ports": [{ "port": 443 }] }] })
    };
    let closed = || json!({ "policyTypes": ["Ingress", "Egress"] });
    let before = with(&[
        ("data", spec("203.0.113.0/24", 80, 90)),
        ("other", closed()),
    ]);
    let after = with(&[
        ("data", spec("203.0.113.128/24", 80, 90)),
        ("other", closed()),
    ]);
    assert_eq!(
        changes(&before, &after),
        [Vec::<String>::new(), Vec::new()],
        "host bits are ignored"
    );

    let after = with(&[
        ("data", spec("203.0.112.0/23", 85, 95)),
        ("other", closed()),
    ]);
    let [opened, closed] = changes(&before, &after);
    assert!(
        opened.contains(&"shop/Pod/api -> data/Pod/db: 91-95".to_owned()),
        "{opened:#?}"
    );
    assert!(
        opened.contains(&"data/Pod/db -> 203.0.112.0/24: 443".to_owned()),
        "{opened:#?}"
    );
    assert_eq!(opened.len(), 4, "{opened:#?}");
    assert_eq!(
        closed,
        [
            "shop/Pod/api -> data/Pod/db: 80-84",
            "shop/Pod/api -> data/Pod/web: 80-84"
        ]
    );
}
