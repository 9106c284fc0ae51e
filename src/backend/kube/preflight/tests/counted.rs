//! Budgets, autoscalers and Services that count clones.

use super::{REFUSE, WARN, controller, labels};
use crate::backend::kube::preflight::fixtures::{Scenario, changed, clone, object, original};
use crate::backend::kube::preflight::{Allowances, Code, risks};
use serde_json::{Value, json};

/// The cases of the table in `budget.rs`.
#[test]
fn a_budget_refuses_a_clone_that_changes_its_disruptions() {
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
        (ready.clone(), &max, Code::DisruptionBudgetChanged, REFUSE),
        (ready.clone(), &min, Code::DisruptionBudgetChanged, REFUSE),
        (owned.clone(), &max, Code::DisruptionBudgetChanged, REFUSE),
        (
            owned.clone(),
            &min_percentage,
            Code::DisruptionBudgetChanged,
            REFUSE,
        ),
        (owned.clone(), &min, Code::DisruptionBudget, WARN),
    ] {
        let mut scenario = Scenario::new().with_clone(shape);
        let budget = json!({ "metadata": { "namespace": "shop", "name": "web" }, "spec": spec });
        let selecting = changed(
            budget.clone(),
            "/spec/selector",
            labels(&json!({ "app": "web" })),
        );
        scenario.cluster.budgets = vec![object(selecting)];
        assert_eq!(
            scenario.risks(),
            [(code, severity)],
            "{spec} {:?}",
            scenario.pod.metadata.owner_references
        );
        // Without a selector it counts no pod, with an empty one every pod.
        scenario.cluster.budgets = vec![object(budget.clone())];
        assert_eq!(scenario.risks(), []);
        scenario.cluster.budgets = vec![object(changed(budget, "/spec/selector", json!({})))];
        assert_eq!(scenario.risks(), [(code, severity)]);
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
    let mut scenario = Scenario::new();
    scenario.cluster.autoscalers = vec![object(autoscaler("Deployment"))];
    assert_eq!(scenario.risks(), [], "its target does not exist");
    scenario.cluster.deployments = vec![object(controller(&labels(&json!({ "app": "web" }))))];
    assert_eq!(scenario.risks(), [(Code::Autoscaler, REFUSE)]);
    let allowed = risks(
        &[scenario.candidate()],
        &scenario.cluster,
        Allowances { autoscalers: true },
    );
    assert_eq!(
        allowed.iter().map(|risk| risk.severity).collect::<Vec<_>>(),
        [WARN],
        "it is reported as a warning"
    );
    scenario.cluster.deployments = vec![object(controller(&labels(&json!({ "app": "api" }))))];
    assert_eq!(scenario.risks(), []);
}

#[test]
fn an_autoscaler_with_an_unknown_target_is_a_risk() {
    let mut scenario = Scenario::new();
    scenario.cluster.autoscalers = vec![object(autoscaler("Rollout"))];
    assert_eq!(scenario.risks(), [(Code::AutoscalerTargetUnknown, WARN)]);
    let owner = json!([{ "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web", "uid": "2" }]);
    let mut scenario =
        Scenario::new().with_original(changed(original(), "/metadata/ownerReferences", owner));
    scenario.cluster.autoscalers = vec![object(autoscaler("Rollout"))];
    assert_eq!(scenario.risks(), [(Code::AutoscalerTargetUnknown, REFUSE)]);
}

#[test]
fn a_service_that_would_send_traffic_to_the_clone_refuses_it() {
    let service = |more: &Value| {
        let mut spec = json!({ "selector": { "app": "web" } });
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({ "metadata": { "namespace": "shop", "name": "web" }, "spec": spec })
    };
    for (more, expected) in [
        (json!({}), vec![(Code::ServiceNotReadyEndpoint, WARN)]),
        (
            json!({ "publishNotReadyAddresses": true }),
            vec![(Code::ServiceTraffic, REFUSE)],
        ),
        (
            json!({ "publishNotReadyAddresses": false }),
            vec![(Code::ServiceNotReadyEndpoint, WARN)],
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
        let mut scenario = Scenario::new();
        scenario.cluster.services = vec![object(service(&more))];
        assert_eq!(scenario.risks(), expected, "{more}");
    }
    let mut scenario =
        Scenario::new().with_clone(changed(clone(), "/spec/readinessGates", Value::Null));
    scenario.cluster.services = vec![object(service(&json!({})))];
    assert_eq!(scenario.risks(), [(Code::ServiceTraffic, REFUSE)]);
}
