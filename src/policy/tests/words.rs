//! What an explanation says.

use super::{cluster, end, tcp, with, with_cluster};
use crate::inventory::Inventory;
use crate::policy::{EndpointRef, Explainer, Explanation, Selects};
use serde_json::{Value, json};

fn of(inventory: &Inventory, from: &str, to: &str, port: u16) -> Explanation {
    Explainer::new(inventory).expect("valid").advise(
        end(inventory, from),
        end(inventory, to),
        tcp(port),
        None,
    )
}

fn db(spec: &Value) -> Inventory {
    let mut spec = spec.clone();
    spec["podSelector"] = json!({ "matchLabels": { "app": "db" } });
    with(&[("data", spec)])
}

/// The first suggestion.
fn first(explanation: &Explanation) -> &str {
    explanation
        .changes
        .first()
        .map_or("none", |change| change.text.as_str())
}

#[test]
fn a_missing_port_a_missing_label_and_a_wrong_namespace_are_named() {
    let from_web = json!([{ "namespaceSelector": { "matchLabels": { "team": "a" } }, "podSelector": { "matchLabels": { "app": "web" } } }]);
    let inventory = db(&json!({ "ingress": [{ "from": from_web, "ports": [{ "port": 5433 }] }] }));
    let walk = of(&inventory, "shop/web", "data/db", 5432);
    assert!(!walk.allowed);
    assert_eq!(
        walk.sides[0].because,
        "no policy isolates shop/web for Egress: everything is allowed"
    );
    assert_eq!(
        walk.sides[1].because,
        "NetworkPolicy data/p0 (p0.yaml:1) isolates data/db for Ingress, and no rule admits this flow"
    );
    assert_eq!(
        first(&walk),
        "add port 5432 to rule 1 of NetworkPolicy data/p0 (p0.yaml:1)"
    );
    let rule = &walk.sides[1].policies[0].rules[0];
    assert!(rule.peer.holds && !rule.port.holds && !rule.decides);
    assert_eq!(rule.port.text, "5433, not 5432");
    let walk = of(&inventory, "shop/api", "data/db", 5433);
    assert_eq!(
        walk.sides[1].policies[0].rules[0].peer.text,
        "pods with app=web in namespaces with team=a: the pod has app=api, not app=web"
    );
    // Another value is another pod: a rule of its own comes first.
    let texts: Vec<&str> = walk
        .changes
        .iter()
        .map(|change| change.text.as_str())
        .collect();
    assert_eq!(
        texts,
        [
            "add a rule to ingress of NetworkPolicy data/p0 (p0.yaml:1): from pods with app=api of namespace shop on port 5433",
            "change the label app=api of pod shop/api to web, so that rule 1 of NetworkPolicy data/p0 (p0.yaml:1) means it"
        ]
    );
    let walk = of(&inventory, "data/web", "data/db", 5433);
    assert!(
        walk.sides[1].policies[0].rules[0]
            .peer
            .text
            .contains("namespace data has team=b, not team=a")
    );
    let own = db(
        &json!({ "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "web" } } }] }] }),
    );
    let walk = of(&own, "shop/web", "data/db", 5432);
    assert!(
        first(&walk).starts_with("add a namespaceSelector for shop beside the podSelector"),
        "{walk:#?}"
    );
}

#[test]
fn a_named_port_that_nobody_declares_is_named() {
    let inventory = db(&json!({ "ingress": [{ "ports": [{ "port": "pg" }] }] }));
    let walk = of(&inventory, "shop/web", "data/db", 5432);
    assert_eq!(
        walk.sides[1].policies[0].rules[0].port.text,
        "\"pg\": data/db declares no port named \"pg\""
    );
}

#[test]
fn a_policy_that_nearly_selects_is_the_first_suspect_of_a_leak() {
    let inventory = with(&[(
        "data",
        json!({ "podSelector": { "matchLabels": { "app": "postgres" } } }),
    )]);
    let walk = of(&inventory, "shop/web", "data/db", 5432);
    assert!(walk.allowed);
    assert_eq!(
        walk.sides[1].policies[0].selects,
        Selects::Nearly("the pod has app=db, not app=postgres".to_owned())
    );
    assert_eq!(
        first(&walk),
        "NetworkPolicy data/p0 (p0.yaml:1) selects app=postgres and pod data/db has app=db: make the two the same"
    );
}

#[test]
fn a_slip_is_told_apart_from_a_policy_for_other_pods() {
    let select = |app: &str| {
        (
            "data",
            json!({ "podSelector": { "matchLabels": { "app": app } }, "ingress": [{}] }),
        )
    };
    let from = |app: &str| json!([{ "from": [{ "namespaceSelector": {}, "podSelector": { "matchLabels": { "app": app } } }] }]);
    // data/web has app=web: the policy is for it, and no slip of whoever wrote data/db.
    let inventory = with(&[
        select("web"),
        (
            "data",
            json!({ "podSelector": { "matchLabels": { "app": "db" } } }),
        ),
    ]);
    let walk = of(&inventory, "shop/web", "data/db", 5432);
    assert_eq!(walk.sides[1].policies.len(), 1, "{walk:#?}");
    assert!(
        walk.changes
            .iter()
            .all(|change| !change.text.contains("make the two the same")),
        "{walk:#?}"
    );
    // A label that is nearly right, and one that is missing, are put right first.
    let nearly = db(&json!({ "ingress": from("webb") }));
    let walk = of(&nearly, "shop/web", "data/db", 5432);
    assert!(
        first(&walk).starts_with("change the label app=web of pod shop/web to webb"),
        "{walk:#?}"
    );
    let tier = db(
        &json!({ "ingress": [{ "from": [{ "namespaceSelector": {}, "podSelector": { "matchLabels": { "role": "client" } } }] }] }),
    );
    let walk = of(&tier, "shop/web", "data/db", 5432);
    assert!(
        first(&walk).starts_with("give pod shop/web the label role=client"),
        "{walk:#?}"
    );
    // What only must not be there was put there by somebody.
    let excluded = json!([{ "from": [{ "namespaceSelector": {}, "podSelector": { "matchExpressions": [{ "key": "app", "operator": "DoesNotExist" }] } }] }]);
    let walk = of(
        &db(&json!({ "ingress": excluded })),
        "shop/web",
        "data/db",
        5432,
    );
    assert!(
        first(&walk).starts_with("add a rule to ingress"),
        "{walk:#?}"
    );
    let peer = &walk.sides[1].policies[0].rules[0].peer;
    assert_eq!(
        peer.text,
        "pods with no label app in any namespace: the pod has the label app, which is excluded"
    );
}

#[test]
fn a_policy_that_is_not_asked_says_why() {
    let deny = |tier: &str, action: &str| json!({ "tier": tier, "priority": 1, "subject": { "namespaces": {} }, "ingress": [{ "action": action, "from": [{ "namespaces": {} }] }] });
    let why = |policies: Vec<crate::inventory::ClusterPolicy>, own: &[(&str, Value)]| {
        let walk = of(&with_cluster(own, policies), "shop/web", "data/db", 5432);
        let steps = walk.sides[1].policies.iter();
        steps
            .map(|step| (step.policy.reference.name.clone(), step.not_asked.clone()))
            .collect::<Vec<_>>()
    };
    let own = [("data", json!({ "ingress": [{}] }))];
    let decided = Some("rule 1 of ClusterNetworkPolicy a has decided".to_owned());
    let policies = vec![
        cluster("a", &deny("Admin", "Deny")),
        cluster("b", &deny("Baseline", "Deny")),
    ];
    assert_eq!(
        why(policies, &own),
        [
            ("a".to_owned(), None),
            ("p0".to_owned(), decided.clone()),
            ("b".to_owned(), decided)
        ]
    );
    let policies = vec![
        cluster("a", &deny("Admin", "Pass")),
        cluster("late", &deny("Admin", "Deny")),
        cluster("b", &deny("Baseline", "Deny")),
    ];
    let passed = "rule 1 of ClusterNetworkPolicy a has passed the rest of this tier by".to_owned();
    let isolated = "Baseline is for pods that no NetworkPolicy isolates".to_owned();
    assert_eq!(
        why(policies, &own),
        [
            ("a".to_owned(), None),
            ("late".to_owned(), Some(passed)),
            ("p0".to_owned(), None),
            ("b".to_owned(), Some(isolated))
        ]
    );
}

#[test]
fn policy_types_that_leave_a_direction_out_are_named() {
    let inventory = with(&[(
        "shop",
        json!({ "policyTypes": ["Ingress"], "ingress": [{}], "egress": [{ "ports": [{ "port": 443 }] }] }),
    )]);
    let walk = of(&inventory, "shop/web", "data/db", 5432);
    assert!(walk.allowed);
    assert_eq!(walk.sides[0].policies[0].selects, Selects::NotThisDirection);
    assert_eq!(
        first(&walk),
        "add Egress to policyTypes of NetworkPolicy shop/p0 (p0.yaml:1)"
    );
}

#[test]
fn the_only_rule_that_admits_is_what_to_narrow() {
    let inventory = db(
        &json!({ "ingress": [{ "ports": [{ "port": 1 }] }, { "from": [{ "namespaceSelector": {} }] }] }),
    );
    let walk = of(&inventory, "shop/web", "data/db", 5432);
    assert_eq!(
        walk.sides[1].because,
        "rule 2 of NetworkPolicy data/p0 (p0.yaml:1) admits it"
    );
    assert_eq!(
        first(&walk),
        "remove or narrow rule 2 of NetworkPolicy data/p0 (p0.yaml:1)"
    );
}

#[test]
fn both_sides_that_deny_are_told() {
    let inventory = with(&[
        ("shop", json!({ "policyTypes": ["Egress"] })),
        ("data", json!({})),
    ]);
    let walk = of(&inventory, "shop/web", "data/db", 5432);
    assert!(walk.sides.iter().all(|side| !side.allowed));
    let texts: Vec<&str> = walk
        .changes
        .iter()
        .map(|change| change.text.as_str())
        .collect();
    let [both] = texts.as_slice() else {
        panic!("{texts:?}")
    };
    assert!(
        both.starts_with("add a rule to egress of NetworkPolicy shop/p0"),
        "{both}"
    );
    assert!(
        both.contains("; and add a rule to ingress of NetworkPolicy data/p1"),
        "{both}"
    );
}

#[test]
fn an_admin_deny_is_named_with_its_rule() {
    let spec = json!({ "tier": "Admin", "priority": 1, "subject": { "namespaces": {} }, "ingress": [{ "name": "stop", "action": "Deny", "from": [{ "namespaces": {} }] }] });
    let inventory = with_cluster(
        &[("data", json!({ "ingress": [{}] }))],
        vec![cluster("a", &spec)],
    );
    let walk = of(&inventory, "shop/web", "data/db", 5432);
    assert_eq!(
        walk.sides[1].because,
        "rule 1 of ClusterNetworkPolicy a denies it"
    );
    assert!(
        first(&walk).contains("before rule 1 of ClusterNetworkPolicy a"),
        "{walk:#?}"
    );
}

#[test]
fn flows_beyond_policies_say_so() {
    let inventory = with(&[("shop", json!({ "policyTypes": ["Ingress", "Egress"] }))]);
    assert!(
        of(&inventory, "shop/web", "shop/web", 80)
            .beyond_policies
            .is_some()
    );
    assert!(
        of(&inventory, "n1", "shop/web", 80)
            .beyond_policies
            .is_some()
    );
    // Through a Service it leaves the pod, and comes back.
    let web = inventory
        .pods
        .iter()
        .position(|pod| pod.full_name() == "shop/web")
        .expect("the pod");
    let explainer = Explainer::new(&inventory).expect("valid");
    let walk = explainer.explain(EndpointRef::Pod(web), EndpointRef::ServicePod(web), tcp(80), None);
    assert!(walk.beyond_policies.is_none() && !walk.allowed, "{walk:#?}");
    let walk = of(&inventory, "203.0.113.1", "shop/web", 80);
    assert_eq!(
        walk.sides[0].because,
        "policies select pods, and this is outside the cluster"
    );
    let walk = of(&inventory, "other/host", "shop/web", 80);
    assert!(
        walk.beyond_policies.is_some(),
        "it runs on the pod's node: {walk:#?}"
    );
}

#[test]
fn what_a_change_does_besides_is_told() {
    let from_web = json!([{ "podSelector": { "matchLabels": { "app": "web" } } }]);
    let inventory = db(&json!({ "ingress": [{ "from": from_web, "ports": [{ "port": 5433 }] }] }));
    let explainer = Explainer::new(&inventory).expect("valid");
    let (from, to) = (end(&inventory, "data/web"), end(&inventory, "data/db"));
    let walk = explainer.advise(from, to, tcp(5432), None);
    assert_eq!(
        first(&walk),
        "add port 5432 to rule 1 of NetworkPolicy data/p0 (p0.yaml:1)"
    );
    let beside = explainer
        .side_effects(&walk.changes[0], from, to, tcp(5432))
        .expect("valid");
    assert_eq!(
        (beside.opens.len(), beside.closes.len()),
        (0, 0),
        "{beside:?}"
    );
    // A rule for every pod of a namespace opens it to those that were not meant.
    let from = end(&inventory, "shop/web");
    let walk = explainer.advise(from, to, tcp(5433), None);
    assert!(
        first(&walk).starts_with("add a namespaceSelector for shop beside the podSelector"),
        "{walk:#?}"
    );
    let beside = explainer
        .side_effects(&walk.changes[0], from, to, tcp(5433))
        .expect("valid");
    assert_eq!(beside.opens, Vec::<String>::new());
    assert_eq!(beside.closes, ["data/Pod/web -> data/Pod/db: 5433"]);
}

#[test]
fn the_name_of_a_namespace_is_no_label_to_change() {
    let from = json!([{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "elsewhere" } } }]);
    let inventory = db(&json!({ "ingress": [{ "from": from }] }));
    let walk = of(&inventory, "shop/web", "data/db", 5432);
    assert!(
        walk.changes
            .iter()
            .all(|change| !change.text.contains("change the label")),
        "{walk:#?}"
    );
    assert_eq!(
        first(&walk),
        "add pods with app=web, tier=front of namespace shop to the peers of rule 1 of NetworkPolicy data/p0 (p0.yaml:1)"
    );
}

#[test]
fn the_last_egress_rule_of_a_policy_without_types_is_narrowed_and_not_removed() {
    let rule = json!([{ "ports": [{ "port": 5432 }] }]);
    let unstated = with(&[("shop", json!({ "egress": rule }))]);
    let walk = of(&unstated, "shop/web", "data/db", 5432);
    assert_eq!(
        first(&walk),
        "narrow rule 1 of NetworkPolicy shop/p0 (p0.yaml:1)"
    );
    let stated = with(&[("shop", json!({ "egress": rule, "policyTypes": ["Egress"] }))]);
    let walk = of(&stated, "shop/web", "data/db", 5432);
    assert_eq!(
        first(&walk),
        "remove or narrow rule 1 of NetworkPolicy shop/p0 (p0.yaml:1)"
    );
}
