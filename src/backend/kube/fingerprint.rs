//! What of an object matters to a verdict: two states with the same fingerprint are the same to
//! condition 5.
//!
//! The spec and never the `resourceVersion`; labels; UIDs, addresses and nodes; restarts of
//! containers; which endpoints are ready. Whether a pod is ready is no part of it: a control tells
//! more of that than its condition.

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The part of an object that matters.
pub(super) type Fingerprint = Value;

pub(super) fn of_pod(pod: &Pod) -> Fingerprint {
    let status = pod.status.as_ref();
    let restarts: i32 = status
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default()
        .iter()
        .map(|container| container.restart_count)
        .sum();
    let addresses: Vec<&str> = status
        .and_then(|status| status.pod_ips.as_deref())
        .unwrap_or_default()
        .iter()
        .map(|address| address.ip.as_str())
        .collect();
    json!({
        "uid": pod.metadata.uid,
        "labels": pod.metadata.labels,
        "node": pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()),
        "addresses": addresses,
        "restarts": restarts,
        "terminating": pod.metadata.deletion_timestamp.is_some(),
        "over": status.and_then(|status| status.phase.as_deref()).filter(|phase| matches!(*phase, "Succeeded" | "Failed")),
    })
}

pub(super) fn of_namespace(namespace: &Namespace) -> Fingerprint {
    json!({ "uid": namespace.metadata.uid, "labels": namespace.metadata.labels })
}

pub(super) fn of_node(node: &Node) -> Fingerprint {
    json!({ "uid": node.metadata.uid })
}

pub(super) fn of_service(service: &Service) -> Fingerprint {
    json!({ "uid": service.metadata.uid, "spec": service.spec })
}

pub(super) fn of_policy(policy: &NetworkPolicy) -> Fingerprint {
    json!({ "uid": policy.metadata.uid, "spec": policy.spec })
}

/// Which addresses a Service sends to. Nothing where none is ready: our own probes, which never
/// are, may have a slice of their own, since they do not declare the ports that a Service names.
pub(super) fn of_slice(slice: &EndpointSlice) -> Fingerprint {
    let ready: BTreeSet<&str> = slice
        .endpoints
        .iter()
        .flatten()
        .filter(|endpoint| {
            endpoint
                .conditions
                .as_ref()
                .is_none_or(|conditions| conditions.ready != Some(false))
        })
        .flat_map(|endpoint| endpoint.addresses.iter().map(String::as_str))
        .collect();
    if ready.is_empty() {
        Value::Null
    } else {
        json!({ "ready": ready, "ports": slice.ports })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(version: &str, label: &str, restarts: i32, ready: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "a", "namespace": "n", "uid": "u", "resourceVersion": version, "labels": { "app": label } },
            "spec": { "nodeName": "node-1", "containers": [] },
            "status": {
                "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }],
                "conditions": [{ "type": "Ready", "status": ready }],
                "containerStatuses": [{
                    "name": "c", "image": "i", "imageID": "i", "ready": true, "restartCount": restarts
                }],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_new_version_alone_is_no_change_and_a_label_or_a_restart_is() {
        let before = of_pod(&pod("1", "web", 0, "True"));
        assert_eq!(before, of_pod(&pod("2", "web", 0, "False")));
        assert_ne!(before, of_pod(&pod("2", "other", 0, "True")));
        assert_ne!(before, of_pod(&pod("2", "web", 1, "True")));
    }

    #[test]
    fn endpoints_that_are_not_ready_are_no_members() {
        let slice = |second: bool| -> EndpointSlice {
            serde_json::from_value(json!({
                "metadata": { "name": "api-x", "namespace": "n" }, "addressType": "IPv4",
                "endpoints": [
                    { "addresses": ["10.0.0.1"], "conditions": { "ready": true } },
                    { "addresses": ["10.0.0.2"], "conditions": { "ready": second } },
                ],
            }))
            .unwrap()
        };
        let mut without = slice(false);
        without.endpoints.as_mut().unwrap().pop();
        assert_eq!(of_slice(&slice(false)), of_slice(&without));
        assert_ne!(of_slice(&slice(true)), of_slice(&without));
        without.endpoints.as_mut().unwrap().pop();
        assert_eq!(
            of_slice(&without),
            Value::Null,
            "a slice that nobody is ready in is none"
        );
    }
}
