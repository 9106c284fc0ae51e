//! The pods that a run creates, from the pods that they stand for. Pure.
//!
//! - The labels are the workload's, less what its controller adds, and none of ours: labels are
//!   identity.
//! - It is never ready, since nobody sets its readiness gate: no Service sends it traffic, and no
//!   disruption budget counts it as healthy.
//! - Its owner is no controller, so no budget asks that controller for its scale; and no controller
//!   adopts it, which preflight sees to.
//! - It has no priority class: its priority is 0, or the cluster's own default. That it preempts
//!   nobody cannot be asked for without one (the Priority admission plugin refuses
//!   `preemptionPolicy: Never` in a pod whose class does not say it); at priority 0 it could push
//!   out only pods of a negative priority.
//! - It runs under Pod Security `restricted`, whatever the original has, but for a node's own
//!   network, which no restricted pod may use.

use super::names::{self, CONTAINER, NEVER};
use crate::inventory::{Labels, identity_labels};
use crate::plan::ProbeId;
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, EnvVar, NodeAffinity, NodeSelector, NodeSelectorRequirement,
    NodeSelectorTerm, Pod, PodReadinessGate, PodSecurityContext, PodSpec, ResourceRequirements,
    SeccompProfile, SecurityContext, Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::BTreeMap;
use std::time::Duration;

/// The user of a probe. Not 1337 (Istio) nor 2102 (Linkerd): meshes let traffic of those users pass
/// them by.
const USER: i64 = 65_532;

/// Seconds between the signal to stop and the kill: a probe takes one at most.
pub(super) const GRACE_SECONDS: u32 = 2;

/// What a probe asks of its node. A probe that samples 1,000 flows takes less than 16 MiB.
const REQUESTS: [(&str, &str); 2] = [("cpu", "10m"), ("memory", "32Mi")];

/// What a probe may take; never a limit of processor time, which would make it lag.
const LIMITS: [(&str, &str); 1] = [("memory", "128Mi")];

/// What is the same for all probes of a run.
#[derive(Debug, Clone)]
pub(super) struct Common {
    /// The run's id.
    pub(super) run: String,
    /// The image.
    pub(super) image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub(super) pull_policy: String,
    /// The cluster ends a probe after this, whatever became of us.
    pub(super) deadline: Duration,
}

/// One probe to be made.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// Its number in the run.
    pub(super) probe: ProbeId,
    /// Its namespace's owner.
    pub(super) owner: OwnerReference,
    /// Its plan, as variables.
    pub(super) environment: &'a [(String, String)],
}

/// A probe with a pod's identity, on that pod's node.
pub(super) fn clone_of(source: &Pod, common: &Common, wanted: &Wanted<'_>) -> Pod {
    let spec = source.spec.clone().unwrap_or_default();
    let labels = identity_labels(source.metadata.labels.as_ref().unwrap_or(&Labels::new()));
    let namespace = source.metadata.namespace.clone().unwrap_or_default();
    let source_name = format!(
        "{namespace}/{}",
        source.metadata.name.as_deref().unwrap_or_default()
    );
    let node = spec.node_name.clone().unwrap_or_default();
    let placed = PodSpec {
        service_account_name: spec.service_account_name,
        runtime_class_name: spec.runtime_class_name,
        dns_config: spec.dns_config,
        dns_policy: spec.dns_policy,
        host_aliases: spec.host_aliases,
        image_pull_secrets: spec.image_pull_secrets,
        tolerations: spec.tolerations,
        ..pod_spec(common, wanted, &node)
    };
    Pod {
        metadata: metadata(common, wanted, namespace, labels, &source_name),
        spec: Some(placed),
        status: None,
    }
}

/// A probe in a node's own network.
pub(super) fn of_node(node: &str, namespace: &str, common: &Common, wanted: &Wanted<'_>) -> Pod {
    let everything = Toleration {
        operator: Some("Exists".into()),
        ..Toleration::default()
    };
    let spec = PodSpec {
        host_network: Some(true),
        dns_policy: Some("Default".into()),
        tolerations: Some(vec![everything]),
        ..pod_spec(common, wanted, node)
    };
    // No label: nothing may select it.
    let metadata = metadata(
        common,
        wanted,
        namespace.to_owned(),
        Labels::new(),
        &format!("node {node}"),
    );
    Pod {
        metadata,
        spec: Some(spec),
        status: None,
    }
}

/// A probe without labels, on one node or wherever there is room: it resolves names as pods do, and
/// goes where nothing stops a pod of its namespace.
pub(super) fn unlabelled(
    node: Option<&str>,
    namespace: &str,
    common: &Common,
    wanted: &Wanted<'_>,
) -> Pod {
    let spec = PodSpec {
        affinity: node.map(on_node),
        ..pod_spec(common, wanted, "")
    };
    let metadata = metadata(
        common,
        wanted,
        namespace.to_owned(),
        Labels::new(),
        "nobody",
    );
    Pod {
        metadata,
        spec: Some(spec),
        status: None,
    }
}

fn metadata(
    common: &Common,
    wanted: &Wanted<'_>,
    namespace: String,
    labels: Labels,
    source: &str,
) -> ObjectMeta {
    ObjectMeta {
        name: Some(names::probe(&labels, &common.run, wanted.probe)),
        namespace: Some(namespace),
        labels: Some(labels),
        annotations: Some(names::annotations(&common.run, source)),
        owner_references: Some(vec![wanted.owner.clone()]),
        ..ObjectMeta::default()
    }
}

fn pod_spec(common: &Common, wanted: &Wanted<'_>, node: &str) -> PodSpec {
    PodSpec {
        containers: vec![container(common, wanted.environment)],
        active_deadline_seconds: Some(i64::try_from(common.deadline.as_secs()).unwrap_or(i64::MAX)),
        affinity: Some(on_node(node)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        readiness_gates: Some(vec![PodReadinessGate {
            condition_type: NEVER.into(),
        }]),
        restart_policy: Some("Never".into()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        termination_grace_period_seconds: Some(i64::from(GRACE_SECONDS)),
        ..PodSpec::default()
    }
}

/// The container of a probe.
pub(super) fn container(common: &Common, environment: &[(String, String)]) -> Container {
    let quantities = |pairs: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
        pairs
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
            .collect()
    };
    Container {
        name: CONTAINER.into(),
        image: Some(common.image.clone()),
        image_pull_policy: Some(common.pull_policy.clone()),
        args: Some(vec!["__probe".into()]),
        env: Some(variables(environment)),
        resources: Some(ResourceRequirements {
            requests: Some(quantities(&REQUESTS)),
            limits: Some(quantities(&LIMITS)),
            ..ResourceRequirements::default()
        }),
        security_context: Some(restricted()),
        ..Container::default()
    }
}

/// Environment variables of a container.
pub(super) fn variables(environment: &[(String, String)]) -> Vec<EnvVar> {
    let variable = |(name, value): &(String, String)| EnvVar {
        name: name.clone(),
        value: Some(value.clone()),
        ..EnvVar::default()
    };
    environment.iter().map(variable).collect()
}

/// What Pod Security `restricted` asks of a container.
pub(super) fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            add: None,
        }),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            ..SeccompProfile::default()
        }),
        ..SecurityContext::default()
    }
}

/// On one node, by way of the scheduler: it heeds taints and room, which `nodeName` would not. As
/// the DaemonSet controller does it (`ReplaceDaemonSetPodNodeNameNodeAffinity` in
/// pkg/controller/daemon/util).
fn on_node(node: &str) -> Affinity {
    let field = NodeSelectorRequirement {
        key: "metadata.name".into(),
        operator: "In".into(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm {
        match_fields: Some(vec![field]),
        match_expressions: None,
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![term],
            }),
            preferred_during_scheduling_ignored_during_execution: None,
        }),
        ..Affinity::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn common() -> Common {
        Common {
            run: "0123456789abcdef".into(),
            image: "probe:1".into(),
            pull_policy: "Never".into(),
            deadline: Duration::from_secs(90),
        }
    }

    fn source() -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "web-5d4f-x", "namespace": "shop", "uid": "u",
                "labels": { "app": "web", "pod-template-hash": "5d4f" },
                "annotations": { "cni.projectcalico.org/podIP": "10.0.0.1/32" },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f", "uid": "r", "controller": true
                }],
            },
            "spec": {
                "nodeName": "node-2", "serviceAccountName": "web", "priorityClassName": "high", "priority": 1000,
                "dnsPolicy": "None", "dnsConfig": { "nameservers": ["10.0.0.53"] },
                "tolerations": [{ "key": "gpu", "operator": "Exists" }],
                "imagePullSecrets": [{ "name": "pull" }],
                "containers": [{
                    "name": "c", "image": "web", "ports": [{ "name": "http", "containerPort": 8080 }],
                    "securityContext": { "privileged": true }
                }],
                "volumes": [{ "name": "v", "emptyDir": {} }],
                "affinity": { "podAntiAffinity": {} },
            },
        }))
        .unwrap()
    }

    fn made() -> Pod {
        let owner = OwnerReference {
            name: "o".into(),
            ..OwnerReference::default()
        };
        let environment = [("WATERTIGHT_PLAN_0".to_owned(), "x".to_owned())];
        clone_of(
            &source(),
            &common(),
            &Wanted {
                probe: ProbeId(7),
                owner,
                environment: &environment,
            },
        )
    }

    #[test]
    fn a_clone_has_the_identity_and_the_place_and_nothing_else_of_the_original() {
        let pod = made();
        assert_eq!(
            pod.metadata.labels,
            Some(Labels::from([("app".to_owned(), "web".to_owned())]))
        );
        assert_eq!(
            pod.metadata.annotations.as_ref().unwrap().len(),
            3,
            "no annotation of the original"
        );
        let spec = pod.spec.unwrap();
        assert_eq!(spec.service_account_name.as_deref(), Some("web"));
        assert_eq!(spec.dns_policy.as_deref(), Some("None"));
        assert_eq!(spec.dns_config.unwrap().nameservers.unwrap(), ["10.0.0.53"]);
        assert_eq!(spec.tolerations.unwrap()[0].key.as_deref(), Some("gpu"));
        assert_eq!(spec.image_pull_secrets.unwrap()[0].name, "pull");
        assert_eq!(
            (spec.priority_class_name, spec.priority, spec.volumes),
            (None, None, None)
        );
        let affinity = spec.affinity.unwrap();
        assert_eq!(affinity.pod_anti_affinity, None);
        let settings = affinity
            .node_affinity
            .unwrap()
            .required_during_scheduling_ignored_during_execution
            .unwrap();
        assert_eq!(
            settings.node_selector_terms[0]
                .match_fields
                .as_ref()
                .unwrap()[0]
                .values,
            Some(vec!["node-2".into()])
        );
    }

    #[test]
    fn a_clone_is_never_ready_owned_by_no_controller_and_ends_by_itself() {
        let pod = made();
        let owners = pod.metadata.owner_references.unwrap();
        assert!(owners.iter().all(|owner| owner.controller != Some(true)));
        let spec = pod.spec.unwrap();
        assert_eq!(spec.readiness_gates.unwrap()[0].condition_type, NEVER);
        assert_eq!(
            (spec.restart_policy.as_deref(), spec.active_deadline_seconds),
            (Some("Never"), Some(90))
        );
        assert_eq!(spec.automount_service_account_token, Some(false));
        let container = &spec.containers[0];
        assert_eq!(
            container.ports, None,
            "a named port of the original would lead a Service here"
        );
        let context = container.security_context.as_ref().unwrap();
        assert_eq!(
            (context.privileged, context.allow_privilege_escalation),
            (None, Some(false))
        );
        let limits = container
            .resources
            .as_ref()
            .unwrap()
            .limits
            .as_ref()
            .unwrap();
        assert!(!limits.contains_key("cpu"));
    }

    #[test]
    fn a_probe_of_a_node_can_be_selected_by_nothing() {
        let owner = OwnerReference::default();
        let pod = of_node(
            "node-1",
            "tests",
            &common(),
            &Wanted {
                probe: ProbeId(0),
                owner,
                environment: &[],
            },
        );
        assert_eq!(pod.metadata.labels, Some(Labels::new()));
        assert_eq!(pod.spec.unwrap().host_network, Some(true));
    }
}
