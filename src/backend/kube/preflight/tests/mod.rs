//! Each mechanism with objects that refuse a clone, and with similar ones that do not.

mod admission;
mod adoption;
mod counted;
mod nodes;
mod policies;
mod resources;

use super::fixtures::{Scenario, object};
use super::{Code, Severity};
use serde_json::{Value, json};

const REFUSE: Severity = Severity::Refuse;
const WARN: Severity = Severity::Warn;

/// A controller in the clone's namespace, with a selector.
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
fn refusals_come_before_warnings() {
    let mut scenario = Scenario::new();
    scenario.cluster.services = vec![object(json!({
        "metadata": { "namespace": "shop", "name": "web" }, "spec": { "selector": { "app": "web" } }
    }))];
    scenario.cluster.quotas = vec![object(json!({
        "metadata": { "namespace": "shop", "name": "q" }, "spec": { "hard": { "pods": "0" } }
    }))];
    assert_eq!(
        scenario.risks(),
        [
            (Code::QuotaExceeded, REFUSE),
            (Code::ServiceNotReadyEndpoint, WARN)
        ]
    );
}
