//! Each mechanism as a table: what harms, and beside it the nearest thing that does not.

use super::fixtures::{Scene, changed, clone, object, original, policy};
use super::{Allowances, Answer, Code, PolicyObject, Refusal, Severity, dry_run_risks, risks};
use serde_json::{Value, json};

const REFUSE: Severity = Severity::Refuse;
const WARN: Severity = Severity::Warn;

/// A controller of the clone's namespace, with a selector.
fn controller(selector: &Value) -> Value {
    json!({
        "metadata": { "namespace": "shop", "name": "web" },
        "spec": {
            "selector": selector, "serviceName": "web",
            "template": { "metadata": {}, "spec": { "containers": [] } }
        }
    })
}

fn labels(labels: &Value) -> Value {
    json!({ "matchLabels": labels })
}

#[test]
fn a_clone_of_a_plain_deployment_has_no_risk() {
    let mut scene = Scene::new();
    scene.around.replica_sets = vec![object(controller(&labels(
        &json!({ "app": "web", "pod-template-hash": "6f7" }),
    )))];
    scene.around.deployments = vec![object(controller(&labels(&json!({ "app": "web" }))))];
    assert_eq!(scene.finds(), []);
}

#[test]
fn every_controller_that_would_claim_the_clone_is_told() {
    let matching = labels(&json!({ "app": "web" }));
    let expressions = json!({ "matchExpressions": [{ "key": "tier", "operator": "In", "values": ["front", "back"] }] });
    for selector in [&matching, &expressions] {
        let mut scene = Scene::new();
        scene.around.replica_sets = vec![object(controller(selector))];
        assert_eq!(
            scene.finds(),
            [(Code::Adoption, REFUSE)],
            "ReplicaSet {selector}"
        );
        let mut scene = Scene::new();
        scene.around.daemon_sets = vec![object(controller(selector))];
        assert_eq!(
            scene.finds(),
            [(Code::Adoption, REFUSE)],
            "DaemonSet {selector}"
        );
        let mut scene = Scene::new();
        scene.around.jobs = vec![object(controller(selector))];
        assert_eq!(scene.finds(), [(Code::Adoption, REFUSE)], "Job {selector}");
    }
    let mut scene = Scene::new();
    scene.around.replication_controllers = vec![object(
        json!({ "metadata": { "namespace": "shop", "name": "web" }, "spec": { "selector": { "app": "web" } } }),
    )];
    assert_eq!(scene.finds(), [(Code::Adoption, REFUSE)]);
}

#[test]
fn a_controller_that_claims_nothing_here_is_no_risk() {
    let other = labels(&json!({ "app": "api" }));
    let matching = labels(&json!({ "app": "web" }));
    let elsewhere = changed(controller(&matching), "/metadata/namespace", json!("data"));
    let leaving = changed(
        controller(&matching),
        "/metadata/deletionTimestamp",
        json!("2026-01-01T00:00:00Z"),
    );
    let everything = controller(&json!({}));
    for harmless in [controller(&other), elsewhere, leaving, everything] {
        let mut scene = Scene::new();
        scene.around.replica_sets = vec![object(harmless.clone())];
        scene.around.daemon_sets = vec![object(harmless.clone())];
        scene.around.stateful_sets = vec![object(harmless.clone())];
        scene.around.jobs = vec![object(harmless.clone())];
        assert_eq!(scene.finds(), [], "{harmless}");
    }
    let mut scene = Scene::new();
    let finished = json!({ "conditions": [{ "type": "Complete", "status": "True" }] });
    scene.around.jobs = vec![object(changed(controller(&matching), "/status", finished))];
    assert_eq!(scene.finds(), [], "a finished Job claims nothing more");
}

#[test]
fn a_pod_that_a_controller_owns_is_not_adopted_by_another() {
    let mut scene = Scene::new().with_clone(changed(
        clone(),
        "/metadata/ownerReferences/0",
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "name": "anchor", "uid": "3", "controller": true
        }),
    ));
    scene.around.daemon_sets = vec![object(controller(&labels(&json!({ "app": "web" }))))];
    assert_eq!(scene.finds(), []);
}

#[test]
fn a_statefulset_claims_by_name_and_labels() {
    for (name, adopted) in [
        ("web-0", true),
        ("web-17", true),
        ("wt-4d1f-0", false),
        ("web-a", false),
        ("web-", false),
        ("web", false),
        ("my-web-0", false),
        ("web-1-2", false),
    ] {
        let mut scene = Scene::new().with_clone(changed(clone(), "/metadata/name", json!(name)));
        scene.around.stateful_sets = vec![object(controller(&labels(&json!({ "app": "web" }))))];
        let expected = if adopted {
            vec![(Code::Adoption, REFUSE)]
        } else {
            Vec::new()
        };
        assert_eq!(scene.finds(), expected, "{name}");
    }
}

#[test]
fn a_pod_of_a_controller_that_is_not_known_is_not_cloned() {
    let owned = |kind: &str, version: &str| {
        Scene::new().with_original(changed(
            original(),
            "/metadata/ownerReferences",
            json!([
                { "apiVersion": version, "kind": kind, "name": "web", "uid": "2", "controller": true }
            ]),
        ))
    };
    assert_eq!(
        owned("CloneSet", "apps.kruise.io/v1alpha1").finds(),
        [(Code::UnknownController, REFUSE)]
    );
    // A name that Kubernetes uses too, of somebody else's group.
    assert_eq!(
        owned("StatefulSet", "apps.kruise.io/v1beta1").finds(),
        [(Code::UnknownController, REFUSE)]
    );
    for kind in ["ReplicaSet", "StatefulSet", "DaemonSet"] {
        assert_eq!(owned(kind, "apps/v1").finds(), [], "{kind}");
    }
    assert_eq!(owned("Node", "v1").finds(), []);
    assert_eq!(
        Scene::new()
            .with_original(changed(
                original(),
                "/metadata/ownerReferences",
                Value::Null
            ))
            .finds(),
        []
    );
}

/// The table of `budget.rs`.
#[test]
fn budgets_are_judged_by_the_shape_of_the_clone() {
    let ready = changed(clone(), "/spec/readinessGates", Value::Null);
    let owned = changed(
        clone(),
        "/metadata/ownerReferences",
        json!([
            { "apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "3", "controller": true }
        ]),
    );
    let percentage = json!({ "maxUnavailable": "30%" });
    let max = json!({ "maxUnavailable": 1 });
    let min = json!({ "minAvailable": 2 });
    let min_percentage = json!({ "minAvailable": "60%" });
    for (shape, spec, code, severity) in [
        (clone(), &max, Code::DisruptionBudget, WARN),
        (clone(), &percentage, Code::DisruptionBudget, WARN),
        (clone(), &min, Code::DisruptionBudget, WARN),
        (ready.clone(), &max, Code::BudgetChanged, REFUSE),
        (ready.clone(), &min, Code::BudgetChanged, REFUSE),
        (owned.clone(), &max, Code::BudgetChanged, REFUSE),
        (owned.clone(), &min_percentage, Code::BudgetChanged, REFUSE),
        (owned.clone(), &min, Code::DisruptionBudget, WARN),
    ] {
        let mut scene = Scene::new().with_clone(shape);
        let budget = json!({ "metadata": { "namespace": "shop", "name": "web" }, "spec": spec });
        let selecting = changed(
            budget.clone(),
            "/spec/selector",
            labels(&json!({ "app": "web" })),
        );
        scene.around.budgets = vec![object(selecting)];
        assert_eq!(
            scene.finds(),
            [(code, severity)],
            "{spec} {:?}",
            scene.pod.metadata.owner_references
        );
        // Without a selector it counts nobody; with an empty one, everybody.
        scene.around.budgets = vec![object(budget.clone())];
        assert_eq!(scene.finds(), []);
        scene.around.budgets = vec![object(changed(budget, "/spec/selector", json!({})))];
        assert_eq!(scene.finds(), [(code, severity)]);
    }
}

fn autoscaler(kind: &str) -> Value {
    json!({
        "metadata": { "namespace": "shop", "name": "web" },
        "spec": { "maxReplicas": 9, "scaleTargetRef": { "apiVersion": "apps/v1", "kind": kind, "name": "web" } }
    })
}

#[test]
fn an_autoscaler_that_would_count_the_clone_refuses_it_unless_allowed() {
    let mut scene = Scene::new();
    scene.around.autoscalers = vec![object(autoscaler("Deployment"))];
    assert_eq!(scene.finds(), [], "its target does not exist");
    scene.around.deployments = vec![object(controller(&labels(&json!({ "app": "web" }))))];
    assert_eq!(scene.finds(), [(Code::Autoscaler, REFUSE)]);
    let allowed = risks(
        &[scene.candidate()],
        &scene.around,
        Allowances { autoscalers: true },
    );
    assert_eq!(
        allowed.iter().map(|risk| risk.severity).collect::<Vec<_>>(),
        [WARN],
        "it is still told"
    );
    scene.around.deployments = vec![object(controller(&labels(&json!({ "app": "api" }))))];
    assert_eq!(scene.finds(), []);
}

#[test]
fn an_autoscaler_of_what_cannot_be_looked_into_is_told() {
    let mut scene = Scene::new();
    scene.around.autoscalers = vec![object(autoscaler("Rollout"))];
    assert_eq!(scene.finds(), [(Code::AutoscalerUnknown, WARN)]);
    let owner = json!([{ "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web", "uid": "2" }]);
    let mut scene =
        Scene::new().with_original(changed(original(), "/metadata/ownerReferences", owner));
    scene.around.autoscalers = vec![object(autoscaler("Rollout"))];
    assert_eq!(scene.finds(), [(Code::AutoscalerUnknown, REFUSE)]);
}

#[test]
fn a_service_that_would_send_the_clone_traffic_refuses_it() {
    let service = |more: &Value| {
        let mut spec = json!({ "selector": { "app": "web" } });
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({ "metadata": { "namespace": "shop", "name": "web" }, "spec": spec })
    };
    for (more, expected) in [
        (json!({}), vec![(Code::ServiceListed, WARN)]),
        (
            json!({ "publishNotReadyAddresses": true }),
            vec![(Code::ServiceTraffic, REFUSE)],
        ),
        (
            json!({ "publishNotReadyAddresses": false }),
            vec![(Code::ServiceListed, WARN)],
        ),
        (
            json!({ "selector": { "app": "api" }, "publishNotReadyAddresses": true }),
            vec![],
        ),
        (
            json!({ "selector": {}, "publishNotReadyAddresses": true }),
            vec![],
        ),
        (
            json!({ "type": "ExternalName", "publishNotReadyAddresses": true }),
            vec![],
        ),
    ] {
        let mut scene = Scene::new();
        scene.around.services = vec![object(service(&more))];
        assert_eq!(scene.finds(), expected, "{more}");
    }
    let mut scene = Scene::new().with_clone(changed(clone(), "/spec/readinessGates", Value::Null));
    scene.around.services = vec![object(service(&json!({})))];
    assert_eq!(scene.finds(), [(Code::ServiceTraffic, REFUSE)]);
}

#[test]
fn a_quota_is_held_against_all_probes_of_its_namespace_together() {
    let quota = |hard: &Value, used: &Value| {
        json!({
            "metadata": { "namespace": "shop", "name": "q" }, "spec": { "hard": hard }, "status": { "used": used }
        })
    };
    for (hard, used, expected) in [
        (json!({ "pods": "10" }), json!({ "pods": "9" }), vec![]),
        (
            json!({ "pods": "10" }),
            json!({ "pods": "10" }),
            vec![(Code::Quota, REFUSE)],
        ),
        (
            json!({ "requests.cpu": "1" }),
            json!({ "requests.cpu": "990m" }),
            vec![],
        ),
        (
            json!({ "requests.cpu": "1" }),
            json!({ "requests.cpu": "991m" }),
            vec![(Code::Quota, REFUSE)],
        ),
        (
            json!({ "memory": "1Gi" }),
            json!({ "memory": "1023Mi" }),
            vec![(Code::Quota, REFUSE)],
        ),
        (json!({ "limits.memory": "1Gi" }), json!({}), vec![]),
        (
            json!({ "limits.cpu": "8" }),
            json!({}),
            vec![(Code::QuotaDemands, REFUSE)],
        ),
        (
            json!({ "count/jobs.batch": "1" }),
            json!({ "count/jobs.batch": "1" }),
            vec![(Code::Quota, REFUSE)],
        ),
        (json!({ "configmaps": "0" }), json!({}), vec![]),
    ] {
        let mut scene = Scene::new();
        scene.around.quotas = vec![object(quota(&hard, &used))];
        assert_eq!(scene.finds(), expected, "{hard} {used}");
    }
    let mut scene = Scene::new();
    scene.around.quotas = vec![object(quota(
        &json!({ "pods": "10" }),
        &json!({ "pods": "8" }),
    ))];
    let three = vec![scene.candidate(); 3];
    let found = risks(&three, &scene.around, Allowances::default());
    assert_eq!(
        found.iter().map(|risk| risk.code).collect::<Vec<_>>(),
        [Code::Quota]
    );
    assert!(
        found[0]
            .reason
            .contains("3 probe pods need 3 of pods; 8 of 10 are in use"),
        "{}",
        found[0].reason
    );
}

#[test]
fn a_quota_counts_only_pods_of_its_scopes() {
    for (spec, counted) in [
        (json!({ "scopes": ["Terminating"] }), true),
        (json!({ "scopes": ["NotTerminating"] }), false),
        (json!({ "scopes": ["BestEffort"] }), false),
        (json!({ "scopes": ["NotBestEffort", "Terminating"] }), true),
        (
            json!({ "scopeSelector": { "matchExpressions": [
            { "scopeName": "PriorityClass", "operator": "In", "values": ["high"] }] } }),
            false,
        ),
        (
            json!({ "scopeSelector": { "matchExpressions": [
            { "scopeName": "PriorityClass", "operator": "DoesNotExist" }] } }),
            true,
        ),
    ] {
        let mut scene = Scene::new();
        let spec = changed(spec, "/hard", json!({ "pods": "0" }));
        scene.around.quotas = vec![object(
            json!({ "metadata": { "namespace": "shop", "name": "q" }, "spec": spec }),
        )];
        let expected = if counted {
            vec![(Code::Quota, REFUSE)]
        } else {
            Vec::new()
        };
        assert_eq!(scene.finds(), expected, "{spec}");
    }
}

#[test]
fn limit_ranges_fill_in_and_then_judge() {
    for (item, expected) in [
        (
            json!({ "type": "Container", "min": { "cpu": "10m" } }),
            vec![],
        ),
        (
            json!({ "type": "Container", "min": { "cpu": "50m" } }),
            vec![(Code::LimitRange, REFUSE)],
        ),
        (
            json!({ "type": "Container", "min": { "memory": "128Mi" } }),
            vec![(Code::LimitRange, REFUSE); 2],
        ),
        (
            json!({ "type": "Container", "max": { "memory": "64Mi" } }),
            vec![],
        ),
        (
            json!({ "type": "Container", "max": { "memory": "32Mi" } }),
            vec![(Code::LimitRange, REFUSE)],
        ),
        // Without a default the container has no limit to be judged by; with one it is throttled.
        (
            json!({ "type": "Container", "max": { "cpu": "1" } }),
            vec![(Code::LimitRange, REFUSE)],
        ),
        (
            json!({ "type": "Container", "max": { "cpu": "1" }, "default": { "cpu": "1" } }),
            vec![(Code::LimitRangeCpu, WARN)],
        ),
        (
            json!({ "type": "Container", "maxLimitRequestRatio": { "memory": "4" } }),
            vec![],
        ),
        (
            json!({ "type": "Container", "maxLimitRequestRatio": { "memory": "3" } }),
            vec![(Code::LimitRange, REFUSE)],
        ),
        (
            json!({ "type": "Pod", "min": { "cpu": "20m" } }),
            vec![(Code::LimitRange, REFUSE)],
        ),
        (
            json!({ "type": "PersistentVolumeClaim", "min": { "storage": "1Gi" } }),
            vec![],
        ),
    ] {
        let mut scene = Scene::new();
        let range = json!({ "metadata": { "namespace": "shop", "name": "r" }, "spec": { "limits": [item] } });
        scene.around.limit_ranges = vec![object(range.clone())];
        assert_eq!(scene.finds(), expected, "{item}");
        scene.around.limit_ranges =
            vec![object(changed(range, "/metadata/namespace", json!("data")))];
        assert_eq!(scene.finds(), [], "of another namespace");
    }
    // A default limit answers what a quota demands.
    let mut scene = Scene::new();
    let quota =
        json!({ "metadata": { "namespace": "shop" }, "spec": { "hard": { "limits.cpu": "8" } } });
    scene.around.quotas = vec![object(quota)];
    let range = json!({ "type": "Container", "default": { "cpu": "1" } });
    scene.around.limit_ranges = vec![object(
        json!({ "metadata": { "namespace": "shop", "name": "r" }, "spec": { "limits": [range] } }),
    )];
    assert_eq!(scene.finds(), [(Code::LimitRangeCpu, WARN)]);
}

#[test]
fn pod_security_refuses_what_a_level_refuses() {
    let context = "/spec/containers/0/securityContext";
    let host = changed(clone(), "/spec/hostNetwork", json!(true));
    for (level, pod, refused) in [
        ("restricted", clone(), None),
        ("baseline", host.clone(), Some("hostNetwork")),
        ("privileged", host.clone(), None),
        ("restricted", host, Some("hostNetwork")),
        (
            "restricted",
            changed(clone(), "/spec/securityContext", json!({})),
            Some("runAsNonRoot"),
        ),
        (
            "restricted",
            changed(clone(), "/spec/securityContext/seccompProfile", Value::Null),
            Some("seccomp"),
        ),
        (
            "restricted",
            changed(clone(), &format!("{context}/capabilities"), Value::Null),
            Some("capabilities"),
        ),
        (
            "restricted",
            changed(
                clone(),
                &format!("{context}/allowPrivilegeEscalation"),
                json!(true),
            ),
            Some("privileges"),
        ),
        (
            "restricted",
            changed(clone(), &format!("{context}/runAsUser"), json!(0)),
            Some("user 0"),
        ),
        (
            "baseline",
            changed(clone(), &format!("{context}/privileged"), json!(true)),
            Some("privileged"),
        ),
        (
            "baseline",
            changed(clone(), &format!("{context}/capabilities"), Value::Null),
            None,
        ),
    ] {
        let mut scene = Scene::new().with_clone(pod);
        let labels = json!({ "pod-security.kubernetes.io/enforce": level });
        scene.around.namespaces = vec![object(
            json!({ "metadata": { "name": "shop", "labels": labels } }),
        )];
        let found = risks(&[scene.candidate()], &scene.around, Allowances::default());
        match refused {
            None => assert_eq!(found, [], "{level}"),
            Some(word) => {
                assert_eq!(found.len(), 1, "{level} {word}");
                assert_eq!(found[0].code, Code::PodSecurity);
                assert!(found[0].reason.contains(word), "{}", found[0].reason);
            }
        }
    }
}

#[test]
fn a_policy_that_a_dropped_label_decides_refuses_the_clone() {
    let by_hash = json!({ "matchLabels": { "app": "web", "pod-template-hash": "6f7" } });
    let without_hash =
        json!({ "matchExpressions": [{ "key": "pod-template-hash", "operator": "DoesNotExist" }] });
    let of_another = json!({ "matchLabels": { "app": "api", "pod-template-hash": "6f7" } });
    let by_app = json!({ "matchLabels": { "app": "web" } });
    let peer = |selector: &Value| json!({ "podSelector": {}, "ingress": [{ "from": [{ "podSelector": selector }] }] });
    let far_peer = |selector: &Value| json!({ "podSelector": {}, "ingress": [{ "from": [{ "namespaceSelector": {}, "podSelector": selector }] }] });
    let cilium = json!({ "endpointSelector": { "matchLabels": { "k8s:app": "web", "k8s:pod-template-hash": "6f7" } } });
    let of_cilium =
        json!({ "endpointSelector": {}, "ingress": [{ "fromEndpoints": [by_hash, by_app] }] });
    let cluster =
        json!({ "subject": { "pods": { "namespaceSelector": {}, "podSelector": by_hash } } });
    let here = |spec: Value| policy("NetworkPolicy", Some("shop"), spec);
    let there = |spec: Value| policy("NetworkPolicy", Some("data"), spec);
    let refused: [PolicyObject; 7] = [
        here(json!({ "podSelector": by_hash })),
        here(json!({ "podSelector": without_hash })),
        here(peer(&by_hash)),
        there(far_peer(&by_hash)),
        policy("CiliumNetworkPolicy", Some("shop"), cilium),
        policy("CiliumNetworkPolicy", Some("shop"), of_cilium),
        policy("ClusterNetworkPolicy", None, cluster),
    ];
    for policy in refused {
        let mut scene = Scene::new();
        scene.around.policies = vec![policy.clone()];
        assert_eq!(scene.finds(), [(Code::PolicyLabel, REFUSE)], "{policy:?}");
        // An original without that label is seen by the policy as its clone is.
        let mut scene = Scene::new().with_original(changed(
            original(),
            "/metadata/labels/pod-template-hash",
            Value::Null,
        ));
        scene.around.policies = vec![policy];
        assert_eq!(scene.finds(), []);
    }
    for policy in [
        here(json!({ "podSelector": by_app })),
        here(json!({ "podSelector": {} })),
        here(json!({ "podSelector": of_another })),
        there(json!({ "podSelector": by_hash })),
        there(peer(&by_hash)),
    ] {
        let mut scene = Scene::new();
        scene.around.policies = vec![policy.clone()];
        assert_eq!(scene.finds(), [], "{policy:?}");
    }
}

fn node(labels: &Value, ready: &str, images: &Value) -> Value {
    json!({
        "metadata": { "name": "node-1", "labels": labels },
        "status": { "conditions": [{ "type": "Ready", "status": ready }], "images": images }
    })
}

fn held() -> Value {
    json!([{ "names": ["localhost/watertight-probe:0.1.0"] }])
}

#[test]
fn windows_is_named_and_never_scheduled() {
    let mut scene = Scene::new();
    scene.around.nodes = vec![object(node(
        &json!({ "kubernetes.io/os": "windows" }),
        "True",
        &held(),
    ))];
    assert_eq!(scene.finds(), [(Code::Windows, REFUSE)]);
    let says_so = changed(original(), "/spec/os", json!({ "name": "windows" }));
    assert_eq!(
        Scene::new().with_original(says_so).finds(),
        [(Code::Windows, REFUSE)]
    );
    scene.around.nodes = vec![object(node(
        &json!({ "kubernetes.io/os": "linux" }),
        "True",
        &held(),
    ))];
    assert_eq!(scene.finds(), []);
}

#[test]
fn a_node_that_is_not_ready_is_told() {
    for ready in ["False", "Unknown"] {
        let mut scene = Scene::new();
        scene.around.nodes = vec![object(node(&json!({}), ready, &held()))];
        assert_eq!(scene.finds(), [(Code::NodeNotReady, WARN)]);
    }
}

#[test]
fn an_image_that_the_node_does_not_list_is_told() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let by_digest = format!("registry.example/probe@{digest}");
    for (image, pull, listed, expected) in [
        (
            "localhost/watertight-probe:0.1.0",
            "IfNotPresent",
            held(),
            vec![],
        ),
        ("localhost/watertight-probe:0.1.0", "Never", held(), vec![]),
        (
            "localhost/watertight-probe:0.2.0",
            "Never",
            held(),
            vec![(Code::ImageAbsent, WARN)],
        ),
        (
            "localhost/watertight-probe:0.2.0",
            "IfNotPresent",
            held(),
            vec![(Code::ImageAbsent, WARN)],
        ),
        (
            "registry.example/probe:1",
            "IfNotPresent",
            held(),
            vec![(Code::ImagePull, WARN)],
        ),
        (
            "probe:1",
            "IfNotPresent",
            json!([{ "names": ["docker.io/library/probe:1"] }]),
            vec![],
        ),
        (
            &by_digest,
            "IfNotPresent",
            json!([{ "names": [by_digest] }]),
            vec![],
        ),
        (
            &by_digest,
            "IfNotPresent",
            json!([{ "names": ["registry.example/probe:1"] }]),
            vec![(Code::ImagePull, WARN)],
        ),
    ] {
        let pod = changed(clone(), "/spec/containers/0/image", json!(image));
        let pod = changed(pod, "/spec/containers/0/imagePullPolicy", json!(pull));
        let mut scene = Scene::new().with_clone(pod);
        scene.around.nodes = vec![object(node(&json!({}), "True", &listed))];
        assert_eq!(scene.finds(), expected, "{image} {pull} {listed}");
    }
}

#[test]
fn the_node_that_an_affinity_demands_is_the_pods_node() {
    let affinity = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
        { "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["node-1"] }] }
    ] } } });
    let pod = changed(
        changed(clone(), "/spec/nodeName", Value::Null),
        "/spec/affinity",
        affinity,
    );
    let mut scene = Scene::new().with_clone(pod);
    scene.around.nodes = vec![object(node(&json!({}), "False", &held()))];
    assert_eq!(scene.finds(), [(Code::NodeNotReady, WARN)]);
}

/// What a dry run's answer is judged as.
fn answered(original: Value, stored: Value) -> Vec<(Code, Severity)> {
    let scene = Scene::new().with_original(original);
    let answer = Answer::Accepted(Box::new(object(stored)));
    dry_run_risks(&scene.candidate(), &answer)
        .into_iter()
        .map(|risk| (risk.code, risk.severity))
        .collect()
}

#[test]
fn what_the_api_server_always_fills_in_is_no_change() {
    let stored = changed(
        clone(),
        "/spec/tolerations",
        json!([{ "key": "node.kubernetes.io/not-ready", "operator": "Exists" }]),
    );
    let stored = changed(stored, "/spec/dnsPolicy", json!("ClusterFirst"));
    let stored = changed(stored, "/spec/serviceAccountName", json!("default"));
    let stored = changed(stored, "/metadata/uid", json!("9"));
    let stored = changed(
        stored,
        "/spec/containers/0/terminationMessagePath",
        json!("/dev/termination-log"),
    );
    assert_eq!(answered(original(), stored), []);
}

#[test]
fn labels_that_admission_changes_refuse_the_clone() {
    for stored in [
        changed(clone(), "/metadata/labels/team", json!("a")),
        changed(clone(), "/metadata/labels/app", json!("other")),
        changed(clone(), "/metadata/labels/tier", Value::Null),
    ] {
        assert_eq!(
            answered(original(), stored),
            [(Code::AdmissionLabels, REFUSE)]
        );
    }
}

#[test]
fn a_sidecar_that_the_original_lacks_refuses_the_clone() {
    let proxy = json!({ "name": "istio-proxy", "image": "proxy:1" });
    let meshed = changed(original(), "/spec/containers/1", proxy.clone());
    let injected = changed(clone(), "/spec/containers/1", proxy.clone());
    assert_eq!(
        answered(original(), injected.clone()),
        [(Code::AdmissionContainer, REFUSE)]
    );
    assert_eq!(
        answered(meshed.clone(), injected),
        [(Code::AdmissionContainer, WARN)]
    );
    let native = changed(clone(), "/spec/initContainers", json!([proxy]));
    assert_eq!(
        answered(original(), native.clone()),
        [(Code::AdmissionContainer, REFUSE)]
    );
    assert_eq!(answered(meshed, native), [(Code::AdmissionContainer, WARN)]);
    // A pod of our own has no original: nothing may be added to it.
    let scene = Scene {
        originals: Vec::new(),
        ..Scene::new()
    };
    let answer = Answer::Accepted(Box::new(object(changed(
        clone(),
        "/spec/containers/1",
        json!({ "name": "x" }),
    ))));
    assert_eq!(
        dry_run_risks(&scene.candidate(), &answer)[0].severity,
        REFUSE
    );
}

#[test]
fn credentials_that_the_original_lacks_refuse_the_clone() {
    let token = json!([{ "name": "t", "projected": { "sources": [
        { "serviceAccountToken": { "path": "token", "audience": "api://AzureADTokenExchange" } }] } }]);
    let injected = changed(clone(), "/spec/volumes", token.clone());
    assert_eq!(
        answered(original(), injected.clone()),
        [(Code::AdmissionCredential, REFUSE)]
    );
    assert_eq!(
        answered(changed(original(), "/spec/volumes", token), injected),
        [(Code::AdmissionCredential, WARN)]
    );
    for stored in [
        changed(
            clone(),
            "/spec/volumes",
            json!([{ "name": "s", "secret": { "secretName": "db" } }]),
        ),
        changed(
            clone(),
            "/spec/volumes",
            json!([{ "name": "s", "csi": { "driver": "secrets-store.csi.k8s.io" } }]),
        ),
        changed(
            clone(),
            "/spec/containers/0/env/1",
            json!({ "name": "AZURE_FEDERATED_TOKEN_FILE", "value": "/x" }),
        ),
        changed(
            clone(),
            "/spec/containers/0/env/1",
            json!({ "name": "X", "valueFrom": { "secretKeyRef": { "name": "db", "key": "k" } } }),
        ),
    ] {
        assert_eq!(
            answered(original(), stored),
            [(Code::AdmissionCredential, REFUSE)]
        );
    }
}

#[test]
fn a_program_that_admission_changes_refuses_the_clone() {
    for stored in [
        changed(
            clone(),
            "/spec/containers/0/image",
            json!("mirror.example/watertight-probe:0.1.0"),
        ),
        changed(clone(), "/spec/containers/0/command", json!(["sh"])),
        changed(clone(), "/spec/containers/0/args", json!([])),
        changed(clone(), "/spec/containers/0/env", json!([])),
        changed(
            clone(),
            "/spec/containers/0/securityContext/runAsUser",
            json!(1337),
        ),
        changed(clone(), "/spec/containers/0/name", json!("other")),
    ] {
        let found = answered(original(), stored.clone());
        assert!(
            found.contains(&(Code::AdmissionProgram, REFUSE)),
            "{found:?} {stored}"
        );
    }
}

#[test]
fn a_shape_that_admission_changes_refuses_the_clone() {
    for stored in [
        changed(clone(), "/spec/readinessGates", Value::Null),
        changed(clone(), "/spec/hostNetwork", json!(true)),
        changed(clone(), "/spec/activeDeadlineSeconds", Value::Null),
        changed(clone(), "/metadata/ownerReferences", json!([])),
    ] {
        assert_eq!(
            answered(original(), stored.clone()),
            [(Code::AdmissionShape, REFUSE)],
            "{stored}"
        );
    }
}

#[test]
fn refusals_show_the_message_and_who_refused() {
    for (code, message, expected, object) in [
        (
            403,
            "admission webhook \"validation.gatekeeper.sh\" denied the request: [azurepolicy-k8sazurev3-allowed-x] no",
            Code::AdmissionDenied,
            "validation.gatekeeper.sh",
        ),
        (
            400,
            "admission webhook \"validate.kyverno.svc-fail\" denied the request: no",
            Code::AdmissionDenied,
            "kyverno",
        ),
        (
            422,
            "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
            Code::AdmissionDenied,
            "ValidatingAdmissionPolicy",
        ),
        (
            403,
            "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": host namespaces",
            Code::AdmissionDenied,
            "PodSecurity",
        ),
        (
            403,
            "pods \"x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
            Code::AdmissionDenied,
            "ResourceQuota",
        ),
        (
            404,
            "serviceaccounts \"x\" not found",
            Code::AdmissionDenied,
            "APIServer",
        ),
        (
            400,
            "admission webhook \"w.example\" does not support dry run",
            Code::DryRunUnsupported,
            "Webhook",
        ),
        (
            503,
            "etcdserver: leader changed",
            Code::DryRunFailed,
            "APIServer",
        ),
    ] {
        let scene = Scene::new();
        let refusal = Refusal {
            code,
            reason: "Forbidden".into(),
            message: message.into(),
        };
        let found = dry_run_risks(&scene.candidate(), &Answer::Refused(refusal));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].code, expected, "{message}");
        assert!(found[0].object.contains(object), "{}", found[0].object);
        assert!(found[0].reason.contains(message), "{}", found[0].reason);
        let severity = if expected == Code::DryRunUnsupported {
            WARN
        } else {
            REFUSE
        };
        assert_eq!(found[0].severity, severity);
    }
}

#[test]
fn refusals_come_before_warnings() {
    let mut scene = Scene::new();
    scene.around.services = vec![object(json!({
        "metadata": { "namespace": "shop", "name": "web" }, "spec": { "selector": { "app": "web" } }
    }))];
    scene.around.quotas = vec![object(json!({
        "metadata": { "namespace": "shop", "name": "q" }, "spec": { "hard": { "pods": "0" } }
    }))];
    assert_eq!(
        scene.finds(),
        [(Code::Quota, REFUSE), (Code::ServiceListed, WARN)]
    );
}
