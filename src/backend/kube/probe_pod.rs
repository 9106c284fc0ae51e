//! Probe pods, made from the pods whose identity they have. Pure.
//!
//! - A clone has the labels of the workload's pod, without those that its controller adds and with
//!   none of ours: policies select by labels.
//! - A probe pod is never ready, since no component sets the condition of its readiness gate: no
//!   Service sends it traffic, and no disruption budget counts it as healthy.
//! - Its owner is not a controller, so no disruption budget asks that owner for its scale.
//!   Preflight checks that no controller adopts it.
//! - It has no priority class: its priority is 0, or the cluster's default. It cannot ask not to
//!   preempt other pods, since the Priority admission plugin refuses `preemptionPolicy: Never` in a
//!   pod whose priority class does not say it; at priority 0 it can preempt only pods with a
//!   negative priority.
//! - It meets Pod Security `restricted` whatever the original pod does, except for a node's probe,
//!   which uses the host network.

use super::names::{self, CONTAINER, NEVER_READY};
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

/// The user id of a probe. Not 1337 (Istio) or 2102 (Linkerd), whose traffic meshes do not
/// redirect.
const USER: i64 = 65_532;

/// The termination grace period of a probe pod, in seconds. A probe needs at most one second.
pub(super) const GRACE_SECONDS: u32 = 2;

/// The resource requests of a probe. A probe of 1,000 flows takes less than 16 MiB.
const REQUESTS: [(&str, &str); 2] = [("cpu", "10m"), ("memory", "32Mi")];

/// The resource limits of a probe. There is no CPU limit, since a throttled probe is late.
const LIMITS: [(&str, &str); 1] = [("memory", "128Mi")];

/// The settings that all probe pods of a run share.
#[derive(Debug, Clone)]
pub(super) struct RunSettings {
    /// The run's id.
    pub(super) run: String,
    pub(super) image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub(super) pull_policy: String,
    /// The time after which the cluster ends a probe pod, even if this process was killed.
    pub(super) active_deadline: Duration,
}

/// The parts of a probe pod that differ from probe to probe.
#[derive(Debug)]
pub(super) struct PodRequest<'a> {
    pub(super) probe: ProbeId,
    /// The owner Job of the pod's namespace.
    pub(super) owner: OwnerReference,
    /// The probe's plan, as environment variables.
    pub(super) environment: &'a [(String, String)],
}

/// A clone: a probe pod with a pod's identity, on that pod's node.
pub(super) fn clone_of(source: &Pod, settings: &RunSettings, request: &PodRequest<'_>) -> Pod {
    let spec = source.spec.clone().unwrap_or_default();
    let labels = identity_labels(source.metadata.labels.as_ref().unwrap_or(&Labels::new()));
    let namespace = source.metadata.namespace.clone().unwrap_or_default();
    let source_name = format!(
        "{namespace}/{}",
        source.metadata.name.as_deref().unwrap_or_default()
    );
    let node = spec.node_name.clone().unwrap_or_default();
    let clone_spec = PodSpec {
        service_account_name: spec.service_account_name,
        runtime_class_name: spec.runtime_class_name,
        dns_config: spec.dns_config,
        dns_policy: spec.dns_policy,
        host_aliases: spec.host_aliases,
        image_pull_secrets: spec.image_pull_secrets,
        tolerations: spec.tolerations,
        ..pod_spec(settings, request, &node)
    };
    Pod {
        metadata: metadata(settings, request, namespace, labels, &source_name),
        spec: Some(clone_spec),
        status: None,
    }
}

/// A probe pod in a node's host network.
pub(super) fn node_pod(
    node: &str,
    namespace: &str,
    settings: &RunSettings,
    request: &PodRequest<'_>,
) -> Pod {
    let tolerate_all = Toleration {
        operator: Some("Exists".into()),
        ..Toleration::default()
    };
    let spec = PodSpec {
        host_network: Some(true),
        dns_policy: Some("Default".into()),
        tolerations: Some(vec![tolerate_all]),
        ..pod_spec(settings, request, node)
    };
    // Without labels, so that no policy, Service or controller selects it.
    let metadata = metadata(
        settings,
        request,
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

/// A probe pod without labels, on the given node or on any.
///
/// It resolves names as pods do, and only policies that select every pod of its namespace apply to
/// it.
pub(super) fn unlabelled(
    node: Option<&str>,
    namespace: &str,
    settings: &RunSettings,
    request: &PodRequest<'_>,
) -> Pod {
    let spec = PodSpec {
        affinity: node.map(on_node),
        ..pod_spec(settings, request, "")
    };
    let metadata = metadata(
        settings,
        request,
        namespace.to_owned(),
        Labels::new(),
        "no workload",
    );
    Pod {
        metadata,
        spec: Some(spec),
        status: None,
    }
}

fn metadata(
    settings: &RunSettings,
    request: &PodRequest<'_>,
    namespace: String,
    labels: Labels,
    source: &str,
) -> ObjectMeta {
    ObjectMeta {
        name: Some(names::probe_pod(&labels, &settings.run, request.probe)),
        namespace: Some(namespace),
        labels: Some(labels),
        annotations: Some(names::annotations(&settings.run, source)),
        owner_references: Some(vec![request.owner.clone()]),
        ..ObjectMeta::default()
    }
}

fn pod_spec(settings: &RunSettings, request: &PodRequest<'_>, node: &str) -> PodSpec {
    PodSpec {
        containers: vec![container(settings, request.environment)],
        active_deadline_seconds: Some(
            i64::try_from(settings.active_deadline.as_secs()).unwrap_or(i64::MAX),
        ),
        affinity: Some(on_node(node)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        readiness_gates: Some(vec![PodReadinessGate {
            condition_type: NEVER_READY.into(),
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
pub(super) fn container(settings: &RunSettings, environment: &[(String, String)]) -> Container {
    Container {
        name: CONTAINER.into(),
        image: Some(settings.image.clone()),
        image_pull_policy: Some(settings.pull_policy.clone()),
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

/// The resources of a probe, for messages.
pub(super) fn resources_text() -> String {
    format!(
        "requests of {} and a limit of {}",
        amounts_text(&REQUESTS),
        amounts_text(&LIMITS)
    )
}

fn amounts_text(pairs: &[(&str, &str)]) -> String {
    let amounts: Vec<String> = pairs
        .iter()
        .map(|(name, amount)| format!("{amount} of {name}"))
        .collect();
    amounts.join(" and ")
}

fn quantities(pairs: &[(&str, &str)]) -> BTreeMap<String, Quantity> {
    pairs
        .iter()
        .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
        .collect()
}

/// The environment variables of a container.
pub(super) fn variables(environment: &[(String, String)]) -> Vec<EnvVar> {
    environment
        .iter()
        .map(|(name, value)| EnvVar {
            name: name.clone(),
            value: Some(value.clone()),
            ..EnvVar::default()
        })
        .collect()
}

/// The security context that Pod Security `restricted` requires of a container.
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

/// The affinity that makes the scheduler place a pod on one node.
///
/// Unlike `nodeName` it respects taints and free resources. The DaemonSet controller does the same
/// (`ReplaceDaemonSetPodNodeNameNodeAffinity` in pkg/controller/daemon/util).
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

    fn settings() -> RunSettings {
        RunSettings {
            run: "0123456789abcdef".into(),
            image: "probe:1".into(),
            pull_policy: "Never".into(),
            active_deadline: Duration::from_secs(90),
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

    fn clone_pod() -> Pod {
        let owner = OwnerReference {
            name: "o".into(),
            ..OwnerReference::default()
        };
        let environment = [("WATERTIGHT_PLAN_0".to_owned(), "x".to_owned())];
        clone_of(
            &source(),
            &settings(),
            &PodRequest {
                probe: ProbeId(7),
                owner,
                environment: &environment,
            },
        )
    }

    #[test]
    fn a_clone_has_the_identity_and_node_of_the_original_and_nothing_else() {
        let pod = clone_pod();
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
        let required = affinity
            .node_affinity
            .unwrap()
            .required_during_scheduling_ignored_during_execution
            .unwrap();
        assert_eq!(
            required.node_selector_terms[0]
                .match_fields
                .as_ref()
                .unwrap()[0]
                .values,
            Some(vec!["node-2".into()])
        );
    }

    #[test]
    fn a_clone_is_never_ready_has_no_controller_and_has_an_active_deadline() {
        let pod = clone_pod();
        let owners = pod.metadata.owner_references.unwrap();
        assert!(owners.iter().all(|owner| owner.controller != Some(true)));
        let spec = pod.spec.unwrap();
        assert_eq!(spec.readiness_gates.unwrap()[0].condition_type, NEVER_READY);
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
    fn a_probe_pod_of_a_node_has_no_labels() {
        let owner = OwnerReference::default();
        let pod = node_pod(
            "node-1",
            "tests",
            &settings(),
            &PodRequest {
                probe: ProbeId(0),
                owner,
                environment: &[],
            },
        );
        assert_eq!(pod.metadata.labels, Some(Labels::new()));
        assert_eq!(pod.spec.unwrap().host_network, Some(true));
    }
}
