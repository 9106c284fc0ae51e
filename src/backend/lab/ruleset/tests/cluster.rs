//! What policies of the whole cluster mean, point by point, each accept beside a deny.

use super::{Counts, check_in, deny_counter, evaluate, packet, v4, world};
use crate::backend::lab::ruleset::{Compiler, Deny, Direction, Hook, Note, Statement};
use crate::inventory::{ClusterPolicy, Inventory, Policy, read_cluster_policy};
use serde_json::{Value, json};

/// A `ClusterNetworkPolicy` named `a`, `b`, ... for each: tier, priority and the rest of its spec.
fn with(policies: &[(&str, Value)], cluster: &[(&str, u16, Value)]) -> Inventory {
    let read = |(number, (tier, priority, rest)): (usize, &(&str, u16, Value))| -> ClusterPolicy {
        let mut spec =
            json!({ "tier": tier, "priority": priority, "subject": { "namespaces": {} } });
        spec.as_object_mut()
            .expect("a spec")
            .extend(rest.as_object().expect("fields").clone());
        let name = char::from(b'a' + number as u8).to_string();
        let object =
            json!({ "kind": "ClusterNetworkPolicy", "metadata": { "name": name }, "spec": spec });
        read_cluster_policy(&object).unwrap_or_else(|faults| panic!("{faults:?}"))
    };
    let mut inventory = world(policies);
    let cluster = cluster.iter().enumerate().map(read);
    inventory.policies.extend(cluster.map(Policy::Cluster));
    inventory
}

/// Every pod that comes to namespace data meets these rules.
fn into_data(rules: &Value) -> Value {
    json!({ "subject": { "namespaces": { "matchLabels": { "team": "b" } } }, "ingress": rules })
}

/// What pods of namespace shop send meets these rules.
fn out_of_shop(rules: &Value) -> Value {
    json!({ "subject": { "namespaces": { "matchLabels": { "team": "a" } } }, "egress": rules })
}

fn rule(action: &str, key: &str, peer: &Value, protocols: &Value) -> Value {
    let mut rule = json!({ "action": action, key: [peer] });
    if !protocols.is_null() {
        rule["protocols"] = protocols.clone();
    }
    rule
}

fn from(action: &str, protocols: &Value) -> Value {
    rule(action, "from", &json!({ "namespaces": {} }), protocols)
}

fn to(action: &str, peer: &Value) -> Value {
    rule(action, "to", peer, &Value::Null)
}

fn tcp(first: u16, last: u16) -> Value {
    if first == last {
        json!([{ "tcp": { "destinationPort": { "number": first } } }])
    } else {
        json!([{ "tcp": { "destinationPort": { "range": { "start": first, "end": last } } } }])
    }
}

#[test]
fn admin_comes_before_network_policies_and_baseline_after_them() {
    let admits = (
        "data",
        json!({ "ingress": [{ "ports": [{ "port": 80, "endPort": 90 }] }] }),
    );
    let admin = (
        "Admin",
        1,
        into_data(&json!([
            from("Deny", &tcp(85, 85)),
            from("Accept", &tcp(443, 443))
        ])),
    );
    let baseline = (
        "Baseline",
        1,
        into_data(&json!([from("Deny", &Value::Null)])),
    );
    let all = with(&[admits], &[baseline.clone(), admin.clone()]);
    let near = |port: &str| format!("shop/web -> data/db:{port}");
    check_in(
        &all,
        &[&near("80"), &near("90"), &near("443"), &near("443 v6")],
        &[&near("85"), &near("91"), &near("85 v6")],
    );
    // A NetworkPolicy's word is final for the pods that it selects.
    check_in(
        &with(
            &[("data", json!({ "ingress": [{}] }))],
            std::slice::from_ref(&baseline),
        ),
        &[&near("1")],
        &[],
    );
    // Nothing is isolated by a cluster-wide policy; an address outside is no pod.
    let two = with(&[], &[baseline, admin]);
    check_in(
        &two,
        &[
            &near("443"),
            "203.0.113.1 -> data/db:1",
            "data/db -> shop/web:1",
        ],
        &[&near("1"), &near("85")],
    );
}

#[test]
fn pass_leaves_the_tier_and_the_rest_of_it_is_not_asked() {
    let admin = (
        "Admin",
        1,
        into_data(&json!([
            from("Pass", &tcp(80, 90)),
            from("Deny", &Value::Null)
        ])),
    );
    let late = (
        "Admin",
        2,
        into_data(&json!([from("Accept", &Value::Null)])),
    );
    let baseline = (
        "Baseline",
        0,
        into_data(&json!([
            from("Pass", &tcp(91, 91)),
            from("Deny", &tcp(88, 100))
        ])),
    );
    let admits = (
        "data",
        json!({ "ingress": [{ "ports": [{ "port": 88, "endPort": 95 }] }] }),
    );
    let near = |port: &str| format!("shop/web -> data/db:{port}");
    let all = [admin, late, baseline];
    check_in(
        &with(&[admits], &all),
        &[&near("88"), &near("90")],
        &[&near("80"), &near("91")],
    );
    check_in(
        &with(&[], &all),
        &[&near("80"), &near("87")],
        &[&near("88"), &near("90"), &near("91")],
    );
    let alone = with(&[], &all[2..]);
    check_in(
        &alone,
        &[&near("87"), &near("91"), &near("101")],
        &[&near("88"), &near("92")],
    );
}

#[test]
fn lower_priorities_go_first_then_rules_in_their_order() {
    let accept = into_data(&json!([
        from("Accept", &tcp(80, 80)),
        from("Deny", &tcp(80, 81))
    ]));
    let deny = into_data(&json!([from("Deny", &tcp(80, 90))]));
    let near = |port: &str| format!("shop/web -> data/db:{port}");
    let ordered = |first, second| {
        with(
            &[],
            &[
                ("Admin", first, accept.clone()),
                ("Admin", second, deny.clone()),
            ],
        )
    };
    check_in(
        &ordered(1, 2),
        &[&near("80"), &near("91")],
        &[&near("81"), &near("90")],
    );
    check_in(&ordered(2, 1), &[&near("91")], &[&near("80"), &near("81")]);
}

#[test]
fn subjects_and_peers_are_pods_by_namespace_or_by_both_labels() {
    let web = json!({ "pods": { "namespaceSelector": { "matchLabels": { "team": "a" } }, "podSelector": { "matchLabels": { "app": "web" } } } });
    let inventory = with(
        &[],
        &[(
            "Admin",
            1,
            into_data(&json!([rule("Deny", "from", &web, &Value::Null)])),
        )],
    );
    check_in(
        &inventory,
        &[
            "shop/api -> data/db:1",
            "data/web -> data/db:1",
            "192.0.2.2 -> data/db:1",
            "192.0.2.1 -> data/db:1",
        ],
        &["shop/web -> data/db:1", "shop/far -> data/db:1 v6"],
    );
    let one = json!({
        "subject": { "pods": { "namespaceSelector": {}, "podSelector": { "matchLabels": { "app": "db" } } } },
        "ingress": [{ "action": "Deny", "from": [{ "namespaces": { "matchLabels": { "team": "a" } } }] }],
    });
    check_in(
        &with(&[], &[("Baseline", 7, one)]),
        &["shop/web -> data/web:1", "other/x -> data/db:1"],
        &["shop/web -> data/db:1", "shop/api -> data/db:1 v6"],
    );
}

#[test]
fn pods_of_their_nodes_network_are_no_subjects_and_no_peers() {
    let every = json!({ "egress": [{ "action": "Deny", "to": [{ "namespaces": {} }] }], "ingress": [{ "action": "Deny", "from": [{ "namespaces": {} }] }] });
    check_in(
        &with(&[], &[("Admin", 1, every)]),
        &["192.0.2.1 -> shop/far:1", "shop/far -> 192.0.2.1:1"],
        &["shop/far -> data/db:1", "data/db -> shop/far:1"],
    );
}

#[test]
fn networks_hold_pods_too_and_nodes_are_all_of_their_addresses() {
    let blocks = json!({ "networks": ["10.0.0.4/32", "203.0.113.0/24", "2001:db8::/32"] });
    check_in(
        &with(
            &[],
            &[("Admin", 1, out_of_shop(&json!([to("Deny", &blocks)])))],
        ),
        &[
            "shop/web -> data/db:1 v6",
            "shop/web -> data/web:1",
            "shop/web -> 203.0.114.0:1",
        ],
        &[
            "shop/web -> data/db:1",
            "shop/web -> 203.0.113.7:1",
            "shop/web -> [2001:db8::1]:1 v6",
        ],
    );
    let mut inventory = with(
        &[],
        &[(
            "Admin",
            1,
            out_of_shop(&json!([to(
                "Deny",
                &json!({ "nodes": { "matchLabels": { "rack": "1" } } })
            )])),
        )],
    );
    inventory.nodes[0]
        .labels
        .insert("rack".to_owned(), "1".to_owned());
    check_in(
        &inventory,
        &[
            "shop/web -> 192.0.2.2:1",
            "shop/web -> shop/api:1",
            "192.0.2.1 -> shop/far:1",
        ],
        &["shop/web -> 192.0.2.1:1", "shop/far -> 192.0.2.1:1"],
    );
}

#[test]
fn overlapping_networks_are_decided_by_the_first_rule() {
    let rules = json!([
        to("Accept", &json!({ "networks": ["203.0.113.64/26"] })),
        to("Deny", &json!({ "networks": ["203.0.113.0/24"] })),
        to("Accept", &json!({ "networks": ["0.0.0.0/0"] })),
    ]);
    check_in(
        &with(&[], &[("Admin", 1, out_of_shop(&rules))]),
        &[
            "shop/web -> 203.0.113.64:1",
            "shop/web -> 203.0.113.127:1",
            "shop/web -> 203.0.114.1:1",
        ],
        &["shop/web -> 203.0.113.63:1", "shop/web -> 203.0.113.128:1"],
    );
}

#[test]
fn ports_are_numbers_ranges_and_names_in_whatever_transport() {
    let ports = |ports: Value| {
        with(
            &[],
            &[("Admin", 1, into_data(&json!([from("Deny", &ports)])))],
        )
    };
    check_in(
        &ports(
            json!([{ "tcp": { "destinationPort": { "number": 80 } } }, { "udp": { "destinationPort": { "range": { "start": 50, "end": 60 } } } }, { "sctp": { "destinationPort": { "number": 9 } } }]),
        ),
        &[
            "shop/web -> data/db:81",
            "shop/web -> data/db:80/udp",
            "shop/web -> data/db:50",
            "shop/web -> data/db:61/udp",
            "shop/web -> data/db:icmp",
        ],
        &[
            "shop/web -> data/db:80",
            "shop/web -> data/db:50/udp",
            "shop/web -> data/db:60/udp",
            "shop/web -> data/db:9/sctp",
        ],
    );
    let http = json!([{ "destinationNamedPort": "http" }]);
    check_in(
        &ports(http.clone()),
        &[
            "shop/web -> data/db:8081",
            "shop/web -> data/web:5432",
            "shop/web -> data/db:5432/udp",
        ],
        &["shop/web -> data/db:5432", "shop/web -> data/web:8081 v6"],
    );
    let egress = |peer: &Value| {
        with(
            &[],
            &[(
                "Admin",
                1,
                out_of_shop(&json!([rule("Deny", "to", peer, &http)])),
            )],
        )
    };
    check_in(
        &egress(&json!({ "namespaces": {} })),
        &["shop/web -> data/db:8081", "shop/web -> 203.0.113.1:5432"],
        &[
            "shop/web -> data/db:5432",
            "shop/web -> data/web:8081 v6",
            "shop/web -> shop/api:8080",
        ],
    );
    // Behind a block there is no pod to ask for the name.
    check_in(
        &egress(&json!({ "networks": ["0.0.0.0/0"] })),
        &["shop/web -> data/db:5432"],
        &[],
    );
}

#[test]
fn a_port_name_of_several_containers_is_all_of_their_ports() {
    let mut inventory = with(
        &[],
        &[(
            "Admin",
            1,
            into_data(&json!([from(
                "Deny",
                &json!([{ "destinationNamedPort": "http" }])
            )])),
        )],
    );
    let db = inventory
        .pods
        .iter_mut()
        .find(|pod| pod.name == "db")
        .expect("the pod");
    let named = |number, transport| crate::inventory::ContainerPort {
        name: Some("http".to_owned()),
        port: crate::model::Port::new(number, transport).expect("a port"),
    };
    db.ports.extend([
        named(81, crate::model::Transport::Tcp),
        named(82, crate::model::Transport::Udp),
    ]);
    check_in(
        &inventory,
        &["shop/web -> data/db:82", "shop/web -> data/db:81/udp"],
        &[
            "shop/web -> data/db:5432",
            "shop/web -> data/db:81",
            "shop/web -> data/db:82/udp",
        ],
    );
}

#[test]
fn what_is_not_known_fails_closed_and_is_noted() {
    let unknown = |action: &str| {
        let rules =
            json!([{ "action": action, "from": [{ "gateways": {} }] }, from("Accept", &tcp(1, 1))]);
        with(&[], &[("Admin", 1, into_data(&rules))])
    };
    check_in(&unknown("Accept"), &["shop/web -> data/db:1"], &[]);
    for action in ["Deny", "Pass"] {
        check_in(
            &unknown(action),
            &["shop/web -> shop/api:1"],
            &[
                "shop/web -> data/db:1",
                "203.0.113.1 -> data/db:1",
                "shop/web -> data/db:icmp v6",
            ],
        );
    }
    let names = json!([
        to("Accept", &json!({ "domainNames": ["pay.example"] })),
        to("Deny", &json!({ "networks": ["0.0.0.0/0"] }))
    ]);
    let inventory = with(&[], &[("Admin", 1, out_of_shop(&names))]);
    check_in(&inventory, &[], &["shop/web -> 203.0.113.1:443"]);
    let notes = |inventory: &Inventory, node: &str| {
        Compiler::new(inventory)
            .expect("valid")
            .node(node, Deny::Drop)
            .notes
    };
    let policy = |direction: &str| format!("ClusterNetworkPolicy/a {direction}");
    assert!(notes(&inventory, "n1").contains(&Note::DomainNames {
        policy: policy("egress"),
        rule: 0
    }));
    assert!(notes(&unknown("Deny"), "n2").contains(&Note::FailsClosed {
        policy: policy("ingress"),
        rule: 0
    }));
}

#[test]
fn the_older_kinds_are_the_same_tiers() {
    let read = |kind: &str, spec: &Value| {
        let object = json!({ "kind": kind, "metadata": { "name": "default" }, "spec": spec });
        read_cluster_policy(&object).unwrap_or_else(|faults| panic!("{faults:?}"))
    };
    let subject = json!({ "namespaces": { "matchLabels": { "team": "b" } } });
    let admin = read(
        "AdminNetworkPolicy",
        &json!({ "priority": 5, "subject": subject, "ingress": [
        { "action": "Allow", "from": [{ "namespaces": {} }], "ports": [{ "portNumber": { "protocol": "TCP", "port": 80 } }] },
        { "action": "Pass", "from": [{ "namespaces": {} }], "ports": [{ "portRange": { "protocol": "TCP", "start": 81, "end": 90 } }] },
        { "action": "Deny", "from": [{ "namespaces": {} }], "ports": [{ "portRange": { "protocol": "TCP", "start": 81, "end": 100 } }] },
    ] }),
    );
    let baseline = read(
        "BaselineAdminNetworkPolicy",
        &json!({ "subject": subject, "ingress": [
        { "action": "Deny", "from": [{ "namespaces": {} }], "ports": [{ "portRange": { "protocol": "TCP", "start": 80, "end": 85 } }] },
    ] }),
    );
    let inventory = Inventory {
        policies: vec![baseline.into(), admin.into()],
        ..world(&[])
    };
    let near = |port: &str| format!("shop/web -> data/db:{port}");
    check_in(
        &inventory,
        &[&near("80"), &near("86"), &near("90"), &near("101")],
        &[&near("81"), &near("85"), &near("91"), &near("100")],
    );
}

#[test]
fn each_rule_has_a_counter_and_a_deny_names_its_rule() {
    let inventory = with(
        &[(
            "data",
            json!({ "podSelector": { "matchLabels": { "app": "db" } }, "ingress": [] }),
        )],
        &[(
            "Admin",
            1,
            into_data(&json!([
                from("Accept", &tcp(1, 1)),
                from("Pass", &tcp(2, 2)),
                from("Deny", &tcp(3, 3))
            ])),
        )],
    );
    let rules = Compiler::new(&inventory)
        .expect("valid")
        .node("n2", Deny::Drop);
    let denier = |text: &str| {
        rules
            .denier(Direction::Ingress, &packet(text))
            .map(|counter| &counter.counts)
    };
    let policy = || "ClusterNetworkPolicy/a ingress".to_owned();
    assert_eq!(denier("shop/web -> data/db:1"), None);
    let isolated = Counts::Denied {
        policies: "data/NetworkPolicy/p0 ingress".to_owned(),
    };
    assert_eq!(denier("shop/web -> data/db:2"), Some(&isolated));
    assert_eq!(
        denier("shop/web -> data/db:3"),
        Some(&Counts::DeniedByRule {
            policy: policy(),
            rule: 2
        })
    );
    assert_eq!(
        Counts::DeniedByRule {
            policy: policy(),
            rule: 2
        }
        .to_string(),
        "ClusterNetworkPolicy/a ingress rule 3"
    );
    assert_eq!(
        deny_counter(&rules, Direction::Ingress, v4(4)).map(|counter| &counter.counts),
        Some(&isolated)
    );
    let counted = evaluate(&rules, Hook::Forward, &packet("shop/web -> data/db:2")).counted;
    assert_eq!(counted, ["pass_ingress_p0_r1", "deny_ingress_g0"]);
    let outcome = evaluate(&rules, Hook::Forward, &packet("shop/web -> data/db:3"));
    assert_eq!(
        (outcome.denied, outcome.counted),
        (Some(Deny::Drop), vec!["deny_ingress_p0_r2".to_owned()])
    );
}

#[test]
fn pods_with_the_same_policies_of_a_tier_share_its_chain() {
    let every = |number: u16| {
        (
            "Admin",
            number,
            json!({ "ingress": [from("Pass", &tcp(number, number))] }),
        )
    };
    let spec =
        |app: &str| json!({ "podSelector": { "matchLabels": { "app": app } }, "ingress": [] });
    let inventory = with(
        &[("shop", spec("web")), ("shop", spec("api"))],
        &[every(2), every(1)],
    );
    let rules = Compiler::new(&inventory)
        .expect("valid")
        .node("n1", Deny::Drop);
    let tiers: Vec<_> = rules
        .chains
        .iter()
        .filter(|chain| chain.name.starts_with("ingress_t"))
        .collect();
    assert_eq!(tiers.len(), 1, "three groups, one chain");
    let first: Vec<_> = tiers[0]
        .rules
        .iter()
        .map(|rule| rule.statements.as_slice())
        .collect();
    let returns = |statements: &[Statement]| statements.last() == Some(&Statement::Return);
    assert!(!first.is_empty() && first.into_iter().all(returns));
    let groups = rules
        .chains
        .iter()
        .filter(|chain| chain.name.starts_with("ingress_g"))
        .count();
    assert_eq!(groups, 3);
}
