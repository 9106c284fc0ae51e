//! What the ruleset looks like: groups, shared sets, counters, verdicts, notes, and its cost.

use super::{
    check, deny_counter, evaluate, from_api, ip, on_db, outcome, packet, policy, v4, world,
};
use crate::backend::lab::ruleset::{
    COMMENT_BYTES, Compiler, Counts, Deny, Direction, Elements, Hook, InvalidPolicy, NodeRuleset,
    Note, Payload, Set, Statement,
};
use crate::inventory::{Inventory, NetworkPolicy};
use crate::model::{Family, Transport};
use serde_json::json;

fn compile(inventory: &Inventory, node: &str, deny: Deny) -> NodeRuleset {
    Compiler::new(inventory)
        .expect("valid policies")
        .node(node, deny)
}

#[test]
fn a_node_without_isolated_pods_has_the_base_chains_alone() {
    let rules = compile(&world(&on_db(&json!([]))), "n1", Deny::Drop);
    let base: Vec<_> = rules
        .chains
        .iter()
        .map(|chain| (chain.name.as_str(), chain.base.map(|base| base.hook)))
        .collect();
    assert_eq!(
        base,
        [
            ("egress", Some(Hook::Forward)),
            ("egress_to_node", Some(Hook::Input)),
            ("ingress", Some(Hook::Forward))
        ]
    );
    let priority = |number: usize| rules.chains[number].base.map(|base| base.priority);
    assert!(priority(0) < priority(2), "egress is judged first");
    assert!(
        rules.sets.is_empty()
            && rules.counters.is_empty()
            && rules.maps.iter().all(|map| map.elements.is_empty())
    );
}

#[test]
fn pods_under_the_same_policies_share_a_chain() {
    let rules = compile(
        &world(&[
            (
                "shop",
                json!({ "podSelector": {}, "ingress": [{ "from": [{ "podSelector": {} }] }] }),
            ),
            (
                "shop",
                json!({ "podSelector": { "matchLabels": { "app": "api" } }, "ingress": [{ "from": [{ "podSelector": {} }], "ports": [{ "port": 1 }] }] }),
            ),
            ("data", json!({ "podSelector": {} })),
        ]),
        "n1",
        Deny::Drop,
    );
    let map = rules
        .maps
        .iter()
        .find(|map| map.name == "ingress4")
        .expect("the map");
    let chains: Vec<_> = map
        .elements
        .iter()
        .map(|(address, chain)| (*address, chain.as_str()))
        .collect();
    // In order of the policies: those under data/p2, under shop/p0, under shop/p0 and shop/p1.
    assert_eq!(
        chains,
        [
            (v4(1), "ingress_g1"),
            (v4(2), "ingress_g2"),
            (v4(5), "ingress_g0")
        ]
    );
    // The same peers are one set a family, whatever number of rules names them.
    assert_eq!(rules.sets.len(), 2, "{:?}", rules.sets);
    let ranges = vec![(v4(1), v4(3))];
    assert_eq!(
        rules.sets[0],
        Set {
            name: "a4_0".to_owned(),
            family: Family::V4,
            elements: Elements::Ranges(ranges)
        }
    );
}

#[test]
fn denies_are_counted_by_group_and_name_their_policies() {
    let inventory = world(&[
        ("data", json!({ "podSelector": {} })),
        (
            "data",
            json!({ "podSelector": { "matchLabels": { "app": "db" } }, "ingress": [{ "ports": [{ "port": 1 }] }] }),
        ),
    ]);
    let rules = compile(&inventory, "n2", Deny::Drop);
    let counter = deny_counter(&rules, Direction::Ingress, v4(4)).expect("isolated");
    assert_eq!(
        counter.comment,
        "data/NetworkPolicy/p0, data/NetworkPolicy/p1 ingress"
    );
    assert_eq!(
        counter.counts,
        Counts::Denied {
            policies: counter.comment.clone()
        }
    );
    assert_eq!(deny_counter(&rules, Direction::Egress, v4(4)), None);
    assert_eq!(
        deny_counter(&rules, Direction::Ingress, v4(5)),
        None,
        "on another node"
    );

    let denied = evaluate(&rules, Hook::Forward, &packet("shop/web -> data/db:2"));
    assert_eq!(
        (denied.denied, &denied.counted),
        (Some(Deny::Drop), &vec![counter.name.clone()])
    );
    let allowed = evaluate(&rules, Hook::Forward, &packet("shop/web -> data/db:1"));
    assert_eq!((allowed.denied, allowed.counted.len()), (None, 1));
    let accepted = rules
        .counters
        .iter()
        .find(|counter| counter.name == allowed.counted[0])
        .expect("the counter");
    assert_eq!(
        accepted.counts,
        Counts::Allowed {
            policy: "data/NetworkPolicy/p1 ingress".to_owned(),
            rule: 0
        }
    );
    assert_eq!(accepted.comment, "data/NetworkPolicy/p1 ingress rule 1");
}

#[test]
fn the_place_for_records_is_just_before_the_verdict() {
    let rules = compile(&world(&from_api(&json!([]))), "n1", Deny::Drop);
    let statements = |name: &str| -> Vec<&[Statement]> {
        let chain = rules
            .chains
            .iter()
            .find(|chain| chain.name == name)
            .expect("the chain");
        chain
            .rules
            .iter()
            .map(|rule| rule.statements.as_slice())
            .collect()
    };
    let deny = [
        Statement::Count("deny_egress_g0".to_owned()),
        Statement::Jump("egress_deny".to_owned()),
    ];
    assert_eq!(statements("egress_g0"), [&deny[..]]);
    assert_eq!(
        statements("egress_deny"),
        [
            &[Statement::RecordDeny(Direction::Egress)][..],
            &[Statement::Deny(Deny::Drop)]
        ]
    );
}

#[test]
fn the_verdict_is_chosen_and_only_tcp_is_reset() {
    let inventory = world(&on_db(&json!([])));
    let verdict = |deny, text: &str| {
        evaluate(
            &compile(&inventory, "n2", deny),
            Hook::Forward,
            &packet(text),
        )
        .denied
    };
    let (tcp, udp) = ("shop/web -> data/db:1", "shop/web -> data/db:1/udp");
    assert_eq!(
        [verdict(Deny::Drop, tcp), verdict(Deny::Drop, udp)],
        [Some(Deny::Drop); 2]
    );
    assert_eq!(
        [
            verdict(Deny::RejectIcmpAdmin, tcp),
            verdict(Deny::RejectIcmpAdmin, udp)
        ],
        [Some(Deny::RejectIcmpAdmin); 2]
    );
    assert_eq!(
        verdict(Deny::RejectTcpReset, tcp),
        Some(Deny::RejectTcpReset)
    );
    assert_eq!(
        verdict(Deny::RejectTcpReset, udp),
        Some(Deny::RejectIcmpAdmin)
    );
}

#[test]
fn what_allows_nothing_is_noted() {
    let inventory = world(&on_db(&json!([
        { "ports": [{ "port": 1, "protocol": "SCTP" }, { "port": "none" }] },
        { "from": [{ "podSelector": { "matchLabels": { "app": "missing" } } }] },
    ])));
    let notes = compile(&inventory, "n2", Deny::Drop).notes;
    let policy = "data/NetworkPolicy/p0 ingress".to_owned();
    assert!(notes.contains(&Note::Sctp {
        policy: policy.clone()
    }));
    assert!(notes.contains(&Note::UnknownPortName {
        policy: policy.clone(),
        name: "none".to_owned()
    }));
    assert!(notes.contains(&Note::NobodyMatches { policy, rule: 1 }));
    assert!(outcome(&inventory, &packet("shop/web -> data/db:1/sctp")).is_ok());
    assert!(outcome(&inventory, &packet("shop/web -> data/db:1")).is_err());
}

#[test]
fn peer_without_a_matching_pod_is_not_every_peer() {
    let no_pod = json!([{ "from": [{ "podSelector": { "matchLabels": { "app": "missing" } } }] }]);
    check(
        &on_db(&no_pod),
        &[],
        &["shop/web -> data/db:1", "203.0.113.1 -> data/db:1"],
    );
}

#[test]
fn long_comments_are_cut() {
    let name = "n".repeat(200);
    let inventory = Inventory {
        policies: vec![
            NetworkPolicy {
                name,
                ..policy("data", 0, &json!({}))
            }
            .into(),
        ],
        ..world(&[])
    };
    let rules = compile(&inventory, "n2", Deny::Drop);
    let counter = deny_counter(&rules, Direction::Ingress, v4(4)).expect("isolated");
    assert_eq!(counter.comment.len(), COMMENT_BYTES);
    assert!(
        matches!(&counter.counts, Counts::Denied { policies } if policies.ends_with("n ingress"))
    );
}

#[test]
fn invalid_policies_are_refused_by_name() {
    for spec in [
        json!({ "podSelector": { "matchExpressions": [{ "key": "a", "operator": "Near" }] } }),
        json!({ "ingress": [{ "from": [{}] }] }),
        json!({ "ingress": [{ "from": [{ "ipBlock": { "cidr": "x" } }] }] }),
        json!({ "ingress": [{ "ports": [{ "port": 70000 }] }] }),
        json!({ "ingress": [{ "ports": [{ "protocol": "ICMP" }] }] }),
    ] {
        let inventory = world(&[("data", spec)]);
        let refused = Compiler::new(&inventory).err();
        assert!(
            matches!(refused, Some(InvalidPolicy { policy, .. }) if policy == "data/NetworkPolicy/p0")
        );
    }
}

#[test]
fn the_order_of_the_inventory_does_not_matter() {
    let mut inventory = world(&[
        (
            "shop",
            json!({ "podSelector": {}, "egress": [{ "to": [{ "namespaceSelector": {} }], "ports": [{ "port": "http" }] }] }),
        ),
        (
            "data",
            json!({ "podSelector": {}, "ingress": [{ "from": [{ "podSelector": {} }] }] }),
        ),
    ]);
    let before = ["n1", "n2"].map(|node| compile(&inventory, node, Deny::Drop));
    inventory.pods.reverse();
    inventory.policies.reverse();
    assert_eq!(
        ["n1", "n2"].map(|node| compile(&inventory, node, Deny::Drop)),
        before
    );
}

#[test]
fn a_thousand_pods_with_a_policy_each_stay_small() {
    let template = world(&[]);
    let mut inventory = Inventory {
        namespaces: template.namespaces.clone(),
        ..Inventory::default()
    };
    for number in 0..1_000_u32 {
        let mut pod = template.pods[0].clone();
        pod.name = format!("pod-{number:04}");
        pod.labels.insert("id".to_owned(), number.to_string());
        pod.addresses = vec![ip(&format!("10.1.{}.{}", number / 250, number % 250 + 1))];
        pod.node = format!("n{}", number % 2);
        inventory.pods.push(pod);
        let near = json!([{ "from": [{ "podSelector": { "matchLabels": { "id": ((number + 1) % 1_000).to_string() } } }, { "podSelector": { "matchLabels": { "app": "api" } } }] }, { "from": [{ "namespaceSelector": {} }], "ports": [{ "port": "http" }] }]);
        let spec = json!({ "podSelector": { "matchLabels": { "id": number.to_string() } }, "ingress": near });
        inventory
            .policies
            .push(policy("shop", number as usize, &spec).into());
    }
    let compiler = Compiler::new(&inventory).expect("valid policies");
    for node in ["n0", "n1"] {
        let rules = compiler.node(node, Deny::Drop);
        // A policy's chain and its group's, for each pod here; the deny and the three hooks; the
        // set of everyone is one.
        assert_eq!(rules.chains.len(), 2 * 500 + 4);
        let elements: usize = rules
            .sets
            .iter()
            .map(|set| match &set.elements {
                Elements::Ranges(ranges) => ranges.len(),
                Elements::Ports(pairs) => pairs.len(),
            })
            .sum();
        assert!(elements < 1_500, "{elements}");
    }
    let inside = super::Packet {
        source: ip("10.1.0.2"),
        destination: ip("10.1.0.1"),
        payload: Payload::Ports(Transport::Tcp, 1),
        established: false,
    };
    let rules = compiler.node("n0", Deny::Drop);
    assert_eq!(evaluate(&rules, Hook::Forward, &inside).denied, None);
    let other = super::Packet {
        source: ip("10.1.0.3"),
        ..inside
    };
    assert_eq!(
        evaluate(&rules, Hook::Forward, &other).denied,
        Some(Deny::Drop)
    );
}
