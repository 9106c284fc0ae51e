//! The namespace's Pod Security level against a pod.
//!
//! The fields of the Pod Security Standards that a probe pod can have. What the cluster's own
//! default level is cannot be read; the dry run tells.

use super::risk::{Code, Finding, Severity};
use super::{Candidate, Neighbours, Risk, namespace_of, object_name};
use k8s_openapi::api::core::v1::{Container, PodSpec};

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

pub(super) fn risks(candidate: &Candidate<'_>, around: &Neighbours, found: &mut Vec<Risk>) {
    let pod = candidate.pod;
    let namespace = namespace_of(pod);
    let level = around
        .namespaces
        .iter()
        .find(|it| it.metadata.name.as_deref() == Some(namespace))
        .and_then(|it| it.metadata.labels.as_ref()?.get(ENFORCE).cloned());
    let Some(spec) = &pod.spec else { return };
    let faults = match level.as_deref() {
        Some("baseline") => baseline(spec),
        Some("restricted") => baseline(spec).into_iter().chain(restricted(spec)).collect(),
        _ => Vec::new(),
    };
    if !faults.is_empty() {
        let object = object_name(None, "Namespace", Some(namespace));
        let finding = Finding {
            pod,
            code: Code::PodSecurity,
            severity: Severity::Refuse,
            object,
        };
        found.push(finding.because(
            format!(
                "it enforces Pod Security {}, which refuses {}",
                level.unwrap_or_default(),
                faults.join(", ")
            ),
            "leave this vantage out, or run it in a namespace of another level",
        ));
    }
}

fn baseline(spec: &PodSpec) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, set) in [
        ("hostNetwork", spec.host_network),
        ("hostPID", spec.host_pid),
        ("hostIPC", spec.host_ipc),
    ] {
        if set == Some(true) {
            faults.push(name.to_owned());
        }
    }
    for container in &spec.containers {
        let security = container.security_context.clone().unwrap_or_default();
        if security.privileged == Some(true) {
            faults.push("privileged containers".into());
        }
        if security
            .capabilities
            .and_then(|it| it.add)
            .is_some_and(|added| !added.is_empty())
        {
            faults.push("added capabilities".into());
        }
        if container
            .ports
            .iter()
            .flatten()
            .any(|port| port.host_port.is_some_and(|port| port != 0))
        {
            faults.push("host ports".into());
        }
    }
    if spec
        .volumes
        .iter()
        .flatten()
        .any(|volume| volume.host_path.is_some())
    {
        faults.push("hostPath volumes".into());
    }
    faults
}

fn restricted(spec: &PodSpec) -> Vec<String> {
    let of_pod = spec.security_context.clone().unwrap_or_default();
    let mut faults = Vec::new();
    let mut every = |what: &str, holds: &dyn Fn(&Container) -> bool| {
        if !spec.containers.iter().all(holds) {
            faults.push(what.to_owned());
        }
    };
    every(
        "a container that may be root (runAsNonRoot)",
        &|container| {
            let own = container
                .security_context
                .as_ref()
                .and_then(|it| it.run_as_non_root);
            own.or(of_pod.run_as_non_root) == Some(true)
        },
    );
    every("user 0 (runAsUser)", &|container| {
        let own = container
            .security_context
            .as_ref()
            .and_then(|it| it.run_as_user);
        own.or(of_pod.run_as_user) != Some(0)
    });
    every(
        "a container that may gain privileges (allowPrivilegeEscalation)",
        &|container| {
            container
                .security_context
                .as_ref()
                .and_then(|it| it.allow_privilege_escalation)
                == Some(false)
        },
    );
    every(
        "capabilities that are not dropped (capabilities.drop: [ALL])",
        &|container| {
            let capabilities = container
                .security_context
                .as_ref()
                .and_then(|it| it.capabilities.as_ref());
            capabilities
                .and_then(|it| it.drop.as_ref())
                .is_some_and(|dropped| dropped.iter().any(|it| it == "ALL"))
        },
    );
    every("a container without a seccomp profile", &|container| {
        let own = container
            .security_context
            .as_ref()
            .and_then(|it| it.seccomp_profile.as_ref());
        let profile = own.or(of_pod.seccomp_profile.as_ref());
        profile
            .is_some_and(|profile| matches!(profile.type_.as_str(), "RuntimeDefault" | "Localhost"))
    });
    faults
}
