//! Fingerprints: the fields of an object whose change makes a verdict unproven.
//!
//! They are the spec, labels, UIDs, addresses, nodes, container restarts, and the ready endpoints
//! of Services; never the `resourceVersion`. Whether a pod is ready is not among them: the controls
//! of a check show whether the target answers.

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The fields of an object that matter to verdicts.
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

/// The generation counts the changes of the spec: it shows one that was undone before it was seen.
pub(super) fn of_policy(policy: &NetworkPolicy) -> Fingerprint {
    let metadata = &policy.metadata;
    json!({ "uid": metadata.uid, "generation": metadata.generation, "spec": policy.spec })
}

/// The ready addresses and the ports of an EndpointSlice; null where no address is ready.
///
/// Probe pods, which are never ready, may be in a slice that holds no other pods, since they do not
/// declare the ports that a Service names. Such a slice is no change.
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
    fn labels_and_restarts_change_a_pods_fingerprint_and_a_new_version_does_not() {
        let before = of_pod(&pod("1", "web", 0, "True"));
        assert_eq!(before, of_pod(&pod("2", "web", 0, "False")));
        assert_ne!(before, of_pod(&pod("2", "other", 0, "True")));
        assert_ne!(before, of_pod(&pod("2", "web", 1, "True")));
    }

    #[test]
    fn endpoints_that_are_not_ready_do_not_count() {
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
            "a slice without ready endpoints does not count"
        );
    }
}
