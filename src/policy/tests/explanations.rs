//! The text of explanations, and the changes that they suggest.

use super::{cluster, endpoint, tcp, with, with_cluster};
use crate::inventory::{ClusterPolicy, Inventory};
use crate::policy::{EndpointRef, Explainer, Explanation, Selects};
use serde_json::{Value, json};

fn advise(inventory: &Inventory, from: &str, to: &str, port: u16) -> Explanation {
    Explainer::new(inventory).expect("valid").advise(
        endpoint(inventory, from),
        endpoint(inventory, to),
        tcp(port),
        None,
    )
}

fn with_db_policy(spec: &Value) -> Inventory {
    let mut spec = spec.clone();
    spec["podSelector"] = json!({ "matchLabels": { "app": "db" } });
    with(&[("data", spec)])
}

/// The text of the first suggested change.
fn first_change(explanation: &Explanation) -> &str {
    explanation
        .changes
        .first()
        .map_or("none", |change| change.text.as_str())
}

#[test]
fn a_missing_port_label_or_namespace_is_the_suggested_change() {
    let from_web = json!([{ "namespaceSelector": { "matchLabels": { "team": "a" } }, "podSelector": { "matchLabels": { "app": "web" } } }]);
    let inventory =
        with_db_policy(&json!({ "ingress": [{ "from": from_web, "ports": [{ "port": 5433 }] }] }));
    let explanation = advise(&inventory, "shop/web", "data/db", 5432);
    assert!(!explanation.allowed);
    assert_eq!(
        explanation.sides[0].because,
        "no policy isolates shop/web for Egress: everything is allowed"
    );
    assert_eq!(
        explanation.sides[1].because,
        "NetworkPolicy data/p0 (p0.yaml:1) isolates data/db for Ingress, and no rule admits this flow"
    );
    assert_eq!(
        first_change(&explanation),
        "add port 5432 to rule 1 of NetworkPolicy data/p0 (p0.yaml:1)"
    );

    let rule = &explanation.sides[1].policies[0].rules[0];
    assert!(rule.peer.holds && !rule.port.holds && !rule.decides);
    assert_eq!(rule.port.text, "5433, not 5432");
    let explanation = advise(&inventory, "shop/api", "data/db", 5433);
    assert_eq!(
        explanation.sides[1].policies[0].rules[0].peer.text,
        "pods with app=web in namespaces with team=a: the pod has app=api, not app=web"
    );

    // Another value means another pod: a new rule comes first.
    let texts: Vec<&str> = explanation
        .changes
        .iter()
        .map(|change| change.text.as_str())
        .collect();
    assert_eq!(
        texts,
        [
            "add a rule to ingress of NetworkPolicy data/p0 (p0.yaml:1): from pods with app=api of namespace shop on port 5433",
            "change the label app=api of pod shop/api to web, so that rule 1 of NetworkPolicy data/p0 (p0.yaml:1) matches it"
        ]
    );

    let explanation = advise(&inventory, "data/web", "data/db", 5433);
    assert!(
        explanation.sides[1].policies[0].rules[0]
            .peer
            .text
            .contains("namespace data has team=b, not team=a")
    );

    let own_namespace = with_db_policy(
        &json!({ "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "web" } } }] }] }),
    );

    let explanation = advise(&own_namespace, "shop/web", "data/db", 5432);
    assert!(
        first_change(&explanation)
            .starts_with("add a namespaceSelector for shop beside the podSelector"),
        "{explanation:#?}"
    );
}

#[test]
fn an_undeclared_port_name_is_the_reason_of_the_mismatch() {
    let inventory = with_db_policy(&json!({ "ingress": [{ "ports": [{ "port": "pg" }] }] }));
    let explanation = advise(&inventory, "shop/web", "data/db", 5432);
    assert_eq!(
        explanation.sides[1].policies[0].rules[0].port.text,
        "\"pg\": data/db declares no port named \"pg\""
    );
}

#[test]
fn a_policy_that_nearly_selects_the_pod_is_the_first_change_of_an_allowed_flow() {
    let inventory = with(&[(
        "data",
        json!({ "podSelector": { "matchLabels": { "app": "postgres" } } }),
    )]);
    let explanation = advise(&inventory, "shop/web", "data/db", 5432);
    assert!(explanation.allowed);
    assert_eq!(
        explanation.sides[1].policies[0].selects,
        Selects::Nearly("the pod has app=db, not app=postgres".to_owned())
    );
    assert_eq!(
        first_change(&explanation),
        "NetworkPolicy data/p0 (p0.yaml:1) selects app=postgres and pod data/db has app=db: make the two the same"
    );
}

/// A policy in namespace data for pods with a value of `app`, which admits everything.
fn ingress_policy_for(app: &str) -> (&'static str, Value) {
    (
        "data",
        json!({ "podSelector": { "matchLabels": { "app": app } }, "ingress": [{}] }),
    )
}

/// Ingress rules that admit pods of all namespaces with a value of `app`.
fn from_pods_with_app(app: &str) -> Value {
    json!([{ "from": [{ "namespaceSelector": {}, "podSelector": { "matchLabels": { "app": app } } }] }])
}

#[test]
fn likely_typos_are_suggested_and_policies_for_other_pods_are_not() {
    // data/web has app=web: the policy is for it, and data/db has no typo.
    let inventory = with(&[
        ingress_policy_for("web"),
        (
            "data",
            json!({ "podSelector": { "matchLabels": { "app": "db" } } }),
        ),
    ]);
    let explanation = advise(&inventory, "shop/web", "data/db", 5432);
    assert_eq!(explanation.sides[1].policies.len(), 1, "{explanation:#?}");
    assert!(
        explanation
            .changes
            .iter()
            .all(|change| !change.text.contains("make the two the same")),
        "{explanation:#?}"
    );

    // A label with almost the required value, and an absent one, are changed first.
    let nearly = with_db_policy(&json!({ "ingress": from_pods_with_app("webb") }));
    let explanation = advise(&nearly, "shop/web", "data/db", 5432);
    assert!(
        first_change(&explanation).starts_with("change the label app=web of pod shop/web to webb"),
        "{explanation:#?}"
    );

    let absent = with_db_policy(
        &json!({ "ingress": [{ "from": [{ "namespaceSelector": {}, "podSelector": { "matchLabels": { "role": "client" } } }] }] }),
    );

    let explanation = advise(&absent, "shop/web", "data/db", 5432);
    assert!(
        first_change(&explanation).starts_with("add the label role=client to pod shop/web"),
        "{explanation:#?}"
    );

    // A label that must be absent is there on purpose.
    let excluded = json!([{ "from": [{ "namespaceSelector": {}, "podSelector": { "matchExpressions": [{ "key": "app", "operator": "DoesNotExist" }] } }] }]);
    let explanation = advise(
        &with_db_policy(&json!({ "ingress": excluded })),
        "shop/web",
        "data/db",
        5432,
    );
    assert!(
        first_change(&explanation).starts_with("add a rule to ingress"),
        "{explanation:#?}"
    );

    let peer = &explanation.sides[1].policies[0].rules[0].peer;
    assert_eq!(
        peer.text,
        "pods with no label app in any namespace: the pod has the label app, which is excluded"
    );
}

/// A cluster-wide policy with one ingress rule for every pod.
fn ingress_rule(tier: &str, action: &str) -> Value {
    json!({ "tier": tier, "priority": 1, "subject": { "namespaces": {} }, "ingress": [{ "action": action, "from": [{ "namespaces": {} }] }] })
}

/// The policies of the ingress side, each with the reason why it is not evaluated.
fn not_evaluated(
    cluster_policies: Vec<ClusterPolicy>,
    policies: &[(&str, Value)],
) -> Vec<(String, Option<String>)> {
    let inventory = with_cluster(policies, cluster_policies);
    let explanation = advise(&inventory, "shop/web", "data/db", 5432);
    explanation.sides[1]
        .policies
        .iter()
        .map(|step| (step.policy.reference.name.clone(), step.not_asked.clone()))
        .collect()
}

#[test]
fn a_policy_that_is_not_evaluated_has_a_reason() {
    let own = [("data", json!({ "ingress": [{}] }))];
    let decided = Some("rule 1 of ClusterNetworkPolicy a has already decided".to_owned());
    let policies = vec![
        cluster("a", &ingress_rule("Admin", "Deny")),
        cluster("b", &ingress_rule("Baseline", "Deny")),
    ];
    assert_eq!(
        not_evaluated(policies, &own),
        [
            ("a".to_owned(), None),
            ("p0".to_owned(), decided.clone()),
            ("b".to_owned(), decided)
        ]
    );

    let policies = vec![
        cluster("a", &ingress_rule("Admin", "Pass")),
        cluster("late", &ingress_rule("Admin", "Deny")),
        cluster("b", &ingress_rule("Baseline", "Deny")),
    ];
    let passed = "rule 1 of ClusterNetworkPolicy a has passed the flow to the next tier".to_owned();
    let isolated = "Baseline policies apply only to pods that no NetworkPolicy isolates".to_owned();
    assert_eq!(
        not_evaluated(policies, &own),
        [
            ("a".to_owned(), None),
            ("late".to_owned(), Some(passed)),
            ("p0".to_owned(), None),
            ("b".to_owned(), Some(isolated))
        ]
    );
}

#[test]
fn policy_types_without_the_direction_are_the_suggested_change() {
    let inventory = with(&[(
        "shop",
        json!({ "policyTypes": ["Ingress"], "ingress": [{}], "egress": [{ "ports": [{ "port": 443 }] }] }),
    )]);
    let explanation = advise(&inventory, "shop/web", "data/db", 5432);
    assert!(explanation.allowed);
    assert_eq!(
        explanation.sides[0].policies[0].selects,
        Selects::NotThisDirection
    );
    assert_eq!(
        first_change(&explanation),
        "add Egress to policyTypes of NetworkPolicy shop/p0 (p0.yaml:1)"
    );
}

#[test]
fn the_only_rule_that_admits_is_the_one_to_narrow() {
    let inventory = with_db_policy(
        &json!({ "ingress": [{ "ports": [{ "port": 1 }] }, { "from": [{ "namespaceSelector": {} }] }] }),
    );

    let explanation = advise(&inventory, "shop/web", "data/db", 5432);
    assert_eq!(
        explanation.sides[1].because,
        "rule 2 of NetworkPolicy data/p0 (p0.yaml:1) admits it"
    );
    assert_eq!(
        first_change(&explanation),
        "remove or narrow rule 2 of NetworkPolicy data/p0 (p0.yaml:1)"
    );
}

#[test]
fn a_change_for_two_denying_sides_has_both_parts() {
    let inventory = with(&[
        ("shop", json!({ "policyTypes": ["Egress"] })),
        ("data", json!({})),
    ]);
    let explanation = advise(&inventory, "shop/web", "data/db", 5432);
    assert!(explanation.sides.iter().all(|side| !side.allowed));
    let texts: Vec<&str> = explanation
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
fn an_admin_deny_has_its_rule_as_reason() {
    let spec = json!({ "tier": "Admin", "priority": 1, "subject": { "namespaces": {} }, "ingress": [{ "name": "stop", "action": "Deny", "from": [{ "namespaces": {} }] }] });
    let inventory = with_cluster(
        &[("data", json!({ "ingress": [{}] }))],
        vec![cluster("a", &spec)],
    );

    let explanation = advise(&inventory, "shop/web", "data/db", 5432);
    assert_eq!(
        explanation.sides[1].because,
        "rule 1 of ClusterNetworkPolicy a denies it"
    );
    assert!(
        first_change(&explanation).contains("before rule 1 of ClusterNetworkPolicy a"),
        "{explanation:#?}"
    );
}

#[test]
fn flows_beyond_policies_have_a_reason() {
    let inventory = with(&[("shop", json!({ "policyTypes": ["Ingress", "Egress"] }))]);
    assert!(
        advise(&inventory, "shop/web", "shop/web", 80)
            .beyond_policies
            .is_some()
    );
    assert!(
        advise(&inventory, "n1", "shop/web", 80)
            .beyond_policies
            .is_some()
    );

    // Traffic to the pod itself through a Service leaves the pod.
    let web = inventory
        .pods
        .iter()
        .position(|pod| pod.full_name() == "shop/web")
        .expect("the pod");
    let explainer = Explainer::new(&inventory).expect("valid");
    let explanation = explainer.explain(
        EndpointRef::Pod(web),
        EndpointRef::ServicePod(web),
        tcp(80),
        None,
    );
    assert!(
        explanation.beyond_policies.is_none() && !explanation.allowed,
        "{explanation:#?}"
    );

    let explanation = advise(&inventory, "203.0.113.1", "shop/web", 80);
    assert_eq!(
        explanation.sides[0].because,
        "policies select pods, and this address is outside the cluster"
    );

    let explanation = advise(&inventory, "other/host", "shop/web", 80);
    assert!(
        explanation.beyond_policies.is_some(),
        "it runs on the pod's node: {explanation:#?}"
    );
}

#[test]
fn side_effects_are_the_other_links_of_a_change() {
    let from_web = json!([{ "podSelector": { "matchLabels": { "app": "web" } } }]);
    let inventory =
        with_db_policy(&json!({ "ingress": [{ "from": from_web, "ports": [{ "port": 5433 }] }] }));
    let explainer = Explainer::new(&inventory).expect("valid");
    let (from, to) = (
        endpoint(&inventory, "data/web"),
        endpoint(&inventory, "data/db"),
    );

    let explanation = explainer.advise(from, to, tcp(5432), None);
    assert_eq!(
        first_change(&explanation),
        "add port 5432 to rule 1 of NetworkPolicy data/p0 (p0.yaml:1)"
    );

    let side_effects = explainer
        .side_effects(&explanation.changes[0], from, to, tcp(5432))
        .expect("valid");
    assert_eq!(
        (side_effects.opens.len(), side_effects.closes.len()),
        (0, 0),
        "{side_effects:?}"
    );

    // The changed namespaceSelector selects other pods than before.
    let from = endpoint(&inventory, "shop/web");
    let explanation = explainer.advise(from, to, tcp(5433), None);
    assert!(
        first_change(&explanation)
            .starts_with("add a namespaceSelector for shop beside the podSelector"),
        "{explanation:#?}"
    );

    let side_effects = explainer
        .side_effects(&explanation.changes[0], from, to, tcp(5433))
        .expect("valid");
    assert_eq!(side_effects.opens, Vec::<String>::new());
    assert_eq!(side_effects.closes, ["data/Pod/web -> data/Pod/db: 5433"]);
}

#[test]
fn the_name_label_of_a_namespace_is_never_changed() {
    let from = json!([{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "elsewhere" } } }]);
    let inventory = with_db_policy(&json!({ "ingress": [{ "from": from }] }));
    let explanation = advise(&inventory, "shop/web", "data/db", 5432);
    assert!(
        explanation
            .changes
            .iter()
            .all(|change| !change.text.contains("change the label")),
        "{explanation:#?}"
    );
    assert_eq!(
        first_change(&explanation),
        "add pods with app=web, tier=front of namespace shop to the peers of rule 1 of NetworkPolicy data/p0 (p0.yaml:1)"
    );
}

#[test]
fn the_last_egress_rule_of_a_policy_without_types_is_narrowed_and_not_removed() {
    let rule = json!([{ "ports": [{ "port": 5432 }] }]);
    let unstated = with(&[("shop", json!({ "egress": rule }))]);
    let explanation = advise(&unstated, "shop/web", "data/db", 5432);
    assert_eq!(
        first_change(&explanation),
        "narrow rule 1 of NetworkPolicy shop/p0 (p0.yaml:1)"
    );

    let stated = with(&[("shop", json!({ "egress": rule, "policyTypes": ["Egress"] }))]);
    let explanation = advise(&stated, "shop/web", "data/db", 5432);
    assert_eq!(
        first_change(&explanation),
        "remove or narrow rule 1 of NetworkPolicy shop/p0 (p0.yaml:1)"
    );
}
