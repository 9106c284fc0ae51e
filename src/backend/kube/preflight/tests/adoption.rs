//! Controllers that adopt clones.

use super::{REFUSE, controller, labels};
use crate::backend::kube::preflight::Code;
use crate::backend::kube::preflight::fixtures::{Scenario, changed, clone, object, original};
use serde_json::{Value, json};

#[test]
fn a_clone_of_a_deployments_pod_has_no_risk() {
    let mut scenario = Scenario::new();
    scenario.cluster.replica_sets = vec![object(controller(&labels(
        &json!({ "app": "web", "pod-template-hash": "6f7" }),
    )))];
    scenario.cluster.deployments = vec![object(controller(&labels(&json!({ "app": "web" }))))];
    assert_eq!(scenario.risks(), []);
}

#[test]
fn a_controller_whose_selector_matches_refuses_the_clone() {
    let matching = labels(&json!({ "app": "web" }));
    let expressions = json!({ "matchExpressions": [{ "key": "tier", "operator": "In", "values": ["front", "back"] }] });
    for selector in [&matching, &expressions] {
        let mut scenario = Scenario::new();
        scenario.cluster.replica_sets = vec![object(controller(selector))];
        assert_eq!(
            scenario.risks(),
            [(Code::Adoption, REFUSE)],
            "ReplicaSet {selector}"
        );
        let mut scenario = Scenario::new();
        scenario.cluster.daemon_sets = vec![object(controller(selector))];
        assert_eq!(
            scenario.risks(),
            [(Code::Adoption, REFUSE)],
            "DaemonSet {selector}"
        );
        let mut scenario = Scenario::new();
        scenario.cluster.jobs = vec![object(controller(selector))];
        assert_eq!(
            scenario.risks(),
            [(Code::Adoption, REFUSE)],
            "Job {selector}"
        );
    }
    let mut scenario = Scenario::new();
    scenario.cluster.replication_controllers = vec![object(
        json!({ "metadata": { "namespace": "shop", "name": "web" }, "spec": { "selector": { "app": "web" } } }),
    )];
    assert_eq!(scenario.risks(), [(Code::Adoption, REFUSE)]);
}

#[test]
fn a_controller_that_adopts_nothing_is_no_risk() {
    let other = labels(&json!({ "app": "api" }));
    let matching = labels(&json!({ "app": "web" }));
    let in_other_namespace = changed(controller(&matching), "/metadata/namespace", json!("data"));
    let deleted = changed(
        controller(&matching),
        "/metadata/deletionTimestamp",
        json!("2026-01-01T00:00:00Z"),
    );
    let empty = controller(&json!({}));
    for harmless in [controller(&other), in_other_namespace, deleted, empty] {
        let mut scenario = Scenario::new();
        scenario.cluster.replica_sets = vec![object(harmless.clone())];
        scenario.cluster.daemon_sets = vec![object(harmless.clone())];
        scenario.cluster.stateful_sets = vec![object(harmless.clone())];
        scenario.cluster.jobs = vec![object(harmless.clone())];
        assert_eq!(scenario.risks(), [], "{harmless}");
    }
    let mut scenario = Scenario::new();
    let finished = json!({ "conditions": [{ "type": "Complete", "status": "True" }] });
    scenario.cluster.jobs = vec![object(changed(controller(&matching), "/status", finished))];
    assert_eq!(scenario.risks(), [], "a finished Job adopts nothing");
}

#[test]
fn a_pod_with_a_controller_is_not_adopted() {
    let mut scenario = Scenario::new().with_clone(changed(
        clone(),
        "/metadata/ownerReferences/0",
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "3", "controller": true
        }),
    ));
    scenario.cluster.daemon_sets = vec![object(controller(&labels(&json!({ "app": "web" }))))];
    assert_eq!(scenario.risks(), []);
}

#[test]
fn a_statefulset_adopts_pods_with_matching_labels_and_member_names() {
    for (name, adopted) in [
        ("web-0", true),
        ("web-17", true),
        ("watertight-0123456789-p0x4d1f", false),
        ("web-a", false),
        ("web-", false),
        ("web", false),
        ("my-web-0", false),
        ("web-1-2", false),
    ] {
        let mut scenario =
            Scenario::new().with_clone(changed(clone(), "/metadata/name", json!(name)));
        scenario.cluster.stateful_sets =
            vec![object(controller(&labels(&json!({ "app": "web" }))))];
        let expected = if adopted {
            vec![(Code::Adoption, REFUSE)]
        } else {
            Vec::new()
        };
        assert_eq!(scenario.risks(), expected, "{name}");
    }
}

#[test]
fn an_original_with_an_unknown_controller_refuses_the_clone() {
    let owned = |kind: &str, version: &str| {
        Scenario::new().with_original(changed(
            original(),
            "/metadata/ownerReferences",
            json!([
                { "apiVersion": version, "kind": kind, "name": "web", "uid": "2", "controller": true }
            ]),
        ))
    };
    assert_eq!(
        owned("CloneSet", "apps.kruise.io/v1alpha1").risks(),
        [(Code::UnknownController, REFUSE)]
    );
    // A kind of another API group with a name that Kubernetes uses too.
    assert_eq!(
        owned("StatefulSet", "apps.kruise.io/v1beta1").risks(),
        [(Code::UnknownController, REFUSE)]
    );
    for kind in ["ReplicaSet", "StatefulSet", "DaemonSet"] {
        assert_eq!(owned(kind, "apps/v1").risks(), [], "{kind}");
    }
    assert_eq!(owned("Node", "v1").risks(), []);
    assert_eq!(
        Scenario::new()
            .with_original(changed(
                original(),
                "/metadata/ownerReferences",
                Value::Null
            ))
            .risks(),
        []
    );
}
