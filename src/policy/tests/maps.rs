//! Complete maps, and the differences between two.

use super::with;
use crate::policy::{ConnectionMap, Link, Predictor};
use serde_json::json;

fn map(inventory: &crate::inventory::Inventory) -> ConnectionMap {
    Predictor::new(inventory).expect("valid").map()
}

fn show(links: &[Link]) -> Vec<String> {
    links.iter().map(show_link).collect()
}

fn show_link(link: &Link) -> String {
    let family = link
        .family
        .map_or(String::new(), |family| format!(" over {family}"));
    format!("{} -> {}{family}: {}", link.from, link.to, link.ports)
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
    let map = map(&inventory);
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
    assert_eq!(show(&map.links), expected[1..], "{:#?}", show(&map.links));
    let workloads: Vec<String> = map.workloads.iter().map(ToString::to_string).collect();
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
    let links = show(&map(&inventory).links);
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
    let links = show(&map(&one).links);
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

#[test]
fn changes_are_split_by_port_and_by_address() {
    let spec = |to: &str, first: u16, last: u16| {
        json!({ "policyTypes": ["Ingress", "Egress"],
            "ingress": [{ "from": [{ "namespaceSelector": { "matchLabels": { "team": "a" } }, "podSelector": { "matchLabels": { "app": "api" } } }], "ports": [{ "port": first, "endPort": last }] }],
            "egress": [{ "to": [{ "ipBlock": { "cidr": to } }], "ports": [{ "port": 443 }] }] })
    };
    let closed = || json!({ "policyTypes": ["Ingress", "Egress"] });
    let before = map(&with(&[
        ("data", spec("203.0.113.0/24", 80, 90)),
        ("other", closed()),
    ]));
    let after = map(&with(&[
        ("data", spec("203.0.113.128/24", 80, 90)),
        ("other", closed()),
    ]));
    assert_eq!(
        before.changes(&after),
        (Vec::new(), Vec::new()),
        "host bits are ignored"
    );

    let after = map(&with(&[
        ("data", spec("203.0.112.0/23", 85, 95)),
        ("other", closed()),
    ]));
    let (opened, closed) = before.changes(&after);
    let opened = show(&opened);
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
        show(&closed),
        [
            "shop/Pod/api -> data/Pod/db: 80-84",
            "shop/Pod/api -> data/Pod/web: 80-84"
        ]
    );
}
