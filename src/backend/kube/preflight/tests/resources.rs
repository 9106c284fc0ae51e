//! `ResourceQuotas` and `LimitRanges`.

use super::{REFUSE, WARN};
use crate::backend::kube::preflight::fixtures::{Scenario, changed, object};
use crate::backend::kube::preflight::{Allowances, Code, risks};
use serde_json::{Value, json};

#[test]
fn a_quota_counts_all_probes_of_its_namespace() {
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
            vec![(Code::QuotaExceeded, REFUSE)],
        ),
        (
            json!({ "requests.cpu": "1" }),
            json!({ "requests.cpu": "990m" }),
            vec![],
        ),
        (
            json!({ "requests.cpu": "1" }),
            json!({ "requests.cpu": "991m" }),
            vec![(Code::QuotaExceeded, REFUSE)],
        ),
        (
            json!({ "memory": "1Gi" }),
            json!({ "memory": "992Mi" }),
            vec![],
        ),
        (
            json!({ "memory": "1Gi" }),
            json!({ "memory": "993Mi" }),
            vec![(Code::QuotaExceeded, REFUSE)],
        ),
        (json!({ "limits.memory": "1Gi" }), json!({}), vec![]),
        (
            json!({ "limits.cpu": "8" }),
            json!({}),
            vec![(Code::QuotaRequiresLimit, REFUSE)],
        ),
        (
            json!({ "count/jobs.batch": "1" }),
            json!({ "count/jobs.batch": "1" }),
            vec![(Code::QuotaExceeded, REFUSE)],
        ),
        (json!({ "configmaps": "0" }), json!({}), vec![]),
    ] {
        let mut scenario = Scenario::new();
        scenario.cluster.quotas = vec![object(quota(&hard, &used))];
        assert_eq!(scenario.risks(), expected, "{hard} {used}");
    }
    let mut scenario = Scenario::new();
    scenario.cluster.quotas = vec![object(quota(
        &json!({ "pods": "10" }),
        &json!({ "pods": "8" }),
    ))];
    let three = vec![scenario.candidate(); 3];
    let reported = risks(&three, &scenario.cluster, Allowances::default());
    assert_eq!(
        reported.iter().map(|risk| risk.code).collect::<Vec<_>>(),
        [Code::QuotaExceeded]
    );
    assert!(
        reported[0]
            .reason
            .contains("3 probe pods need 3 of pods; 8 of 10 are in use"),
        "{}",
        reported[0].reason
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
        let mut scenario = Scenario::new();
        let spec = changed(spec, "/hard", json!({ "pods": "0" }));
        scenario.cluster.quotas = vec![object(
            json!({ "metadata": { "namespace": "shop", "name": "q" }, "spec": spec }),
        )];
        let expected = if counted {
            vec![(Code::QuotaExceeded, REFUSE)]
        } else {
            Vec::new()
        };
        assert_eq!(scenario.risks(), expected, "{spec}");
    }
}

#[test]
fn limit_ranges_set_defaults_before_they_check() {
    for (item, expected) in [
        (
            json!({ "type": "Container", "min": { "cpu": "10m" } }),
            vec![],
        ),
        (
            json!({ "type": "Container", "min": { "cpu": "50m" } }),
            vec![(Code::LimitRange, REFUSE)],
        ),
        // The request is below the minimum, the limit is not.
        (
            json!({ "type": "Container", "min": { "memory": "128Mi" } }),
            vec![(Code::LimitRange, REFUSE)],
        ),
        (
            json!({ "type": "Container", "min": { "memory": "256Mi" } }),
            vec![(Code::LimitRange, REFUSE); 2],
        ),
        (
            json!({ "type": "Container", "max": { "memory": "128Mi" } }),
            vec![],
        ),
        (
            json!({ "type": "Container", "max": { "memory": "127Mi" } }),
            vec![(Code::LimitRange, REFUSE)],
        ),
        // Without a default the container lacks the required limit; with one it is throttled.
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
        let mut scenario = Scenario::new();
        let range = json!({ "metadata": { "namespace": "shop", "name": "r" }, "spec": { "limits": [item] } });
        scenario.cluster.limit_ranges = vec![object(range.clone())];
        assert_eq!(scenario.risks(), expected, "{item}");
        scenario.cluster.limit_ranges =
            vec![object(changed(range, "/metadata/namespace", json!("data")))];
        assert_eq!(scenario.risks(), [], "in another namespace");
    }
    // A default limit is what the quota requires.
    let mut scenario = Scenario::new();
    let quota =
        json!({ "metadata": { "namespace": "shop" }, "spec": { "hard": { "limits.cpu": "8" } } });
    scenario.cluster.quotas = vec![object(quota)];
    let range = json!({ "type": "Container", "default": { "cpu": "1" } });
    scenario.cluster.limit_ranges = vec![object(
        json!({ "metadata": { "namespace": "shop", "name": "r" }, "spec": { "limits": [range] } }),
    )];
    assert_eq!(scenario.risks(), [(Code::LimitRangeCpu, WARN)]);
}
