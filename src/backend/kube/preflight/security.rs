//! The Pod Security level of the namespace.
//!
//! Only those rules of the Pod Security Standards are checked that concern fields a probe pod may
//! have. The cluster's default level cannot be read; there the dry run shows a refusal.

use super::risk::{Code, Risk};
use super::{Candidate, ClusterObjects, namespace_of, object_name};
use k8s_openapi::api::core::v1::{Container, PodSecurityContext, PodSpec, SecurityContext};

/// The namespace label that sets the enforced level.
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

pub(super) fn risks(candidate: &Candidate<'_>, cluster: &ClusterObjects, risks: &mut Vec<Risk>) {
    let pod = candidate.pod;
    let namespace = namespace_of(pod);
    let level = cluster
        .namespaces
        .iter()
        .find(|object| object.metadata.name.as_deref() == Some(namespace))
        .and_then(|object| object.metadata.labels.as_ref()?.get(ENFORCE));
    let (Some(spec), Some(level)) = (&pod.spec, level) else {
        return;
    };

    let violations = match level.as_str() {
        "baseline" => baseline(spec),
        "restricted" => baseline(spec).into_iter().chain(restricted(spec)).collect(),
        _ => Vec::new(),
    };
    if !violations.is_empty() {
        risks.push(Risk::refusal(
            pod,
            Code::PodSecurity,
            object_name(None, "Namespace", Some(namespace)),
            format!(
                "it enforces Pod Security {level}, which refuses {}",
                violations.join(", ")
            ),
            "leave this source out, or run watertight in a namespace with another level",
        ));
    }
}

/// The rules of the level `baseline` that a pod breaks.
fn baseline(spec: &PodSpec) -> Vec<String> {
    let mut violations = Vec::new();
    for (name, set) in [
        ("hostNetwork", spec.host_network),
        ("hostPID", spec.host_pid),
        ("hostIPC", spec.host_ipc),
    ] {
        if set == Some(true) {
            violations.push(name.to_owned());
        }
    }

    for container in &spec.containers {
        let security = container.security_context.clone().unwrap_or_default();
        if security.privileged == Some(true) {
            violations.push("privileged containers".into());
        }
        if security
            .capabilities
            .and_then(|capabilities| capabilities.add)
            .is_some_and(|added| !added.is_empty())
        {
            violations.push("added capabilities".into());
        }
        if container
            .ports
            .iter()
            .flatten()
            .any(|port| port.host_port.is_some_and(|port| port != 0))
        {
            violations.push("host ports".into());
        }
    }

    if spec
        .volumes
        .iter()
        .flatten()
        .any(|volume| volume.host_path.is_some())
    {
        violations.push("hostPath volumes".into());
    }
    violations
}

/// The rules of the level `restricted` that a pod breaks, besides those of `baseline`.
fn restricted(spec: &PodSpec) -> Vec<String> {
    let pod_context = spec.security_context.clone().unwrap_or_default();
    RESTRICTED_RULES
        .iter()
        .filter(|(_, is_met)| {
            spec.containers
                .iter()
                .any(|container| !is_met(&container_context(container), &pod_context))
        })
        .map(|(refused, _)| (*refused).to_owned())
        .collect()
}

fn container_context(container: &Container) -> SecurityContext {
    container.security_context.clone().unwrap_or_default()
}

/// Whether a container meets a rule, by its own security context and the pod's.
type Rule = fn(&SecurityContext, &PodSecurityContext) -> bool;

/// The rules of the level `restricted`, each with what it refuses.
const RESTRICTED_RULES: [(&str, Rule); 5] = [
    (
        "a container that may run as root (runAsNonRoot)",
        |container, pod| container.run_as_non_root.or(pod.run_as_non_root) == Some(true),
    ),
    ("user 0 (runAsUser)", |container, pod| {
        container.run_as_user.or(pod.run_as_user) != Some(0)
    }),
    (
        "a container that may gain privileges (allowPrivilegeEscalation)",
        |container, _| container.allow_privilege_escalation == Some(false),
    ),
    (
        "capabilities that are not dropped (capabilities.drop: [ALL])",
        |container, _| {
            let capabilities = container.capabilities.as_ref();
            capabilities
                .and_then(|capabilities| capabilities.drop.as_ref())
                .is_some_and(|dropped| dropped.iter().any(|capability| capability == "ALL"))
        },
    ),
    ("a container without a seccomp profile", |container, pod| {
        let profile = container.seccomp_profile.as_ref();
        profile
            .or(pod.seccomp_profile.as_ref())
            .is_some_and(|profile| matches!(profile.type_.as_str(), "RuntimeDefault" | "Localhost"))
    }),
];
