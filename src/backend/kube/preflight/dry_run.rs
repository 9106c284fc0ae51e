//! The API server's answer to a dry run: the pod as admission would make it, or the refusal.
//!
//! What admission adds that a pod's own kind has too (a mesh's sidecar, an identity of its service
//! account) is told; what the original lacks makes the clone another thing than the original, and
//! is refused.

use super::budget::can_become_ready;
use super::risk::{Code, Finding, NO_CLONE, Severity};
use super::{Candidate, Risk, namespace_of, object_name};
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodSpec, Volume};
use std::collections::BTreeSet;

/// What a dry run was answered with.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The pod as it would be stored.
    Accepted(Box<Pod>),
    /// It would not be stored.
    Refused(Refusal),
}

/// The API server's `Status`, as far as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// `reason`: `Forbidden`, `Invalid`, ...
    pub reason: String,
    /// `message`, verbatim: admission policies explain themselves there.
    pub message: String,
}

/// What admission made of a pod that was created, where it is not what was asked for: a webhook may
/// not take part in dry runs, and not every pod has one of its own.
pub(in super::super) fn objection(
    sent: &Pod,
    original: Option<&Pod>,
    stored: &Pod,
) -> Option<String> {
    let candidate = Candidate {
        pod: sent,
        originals: original.into_iter().collect(),
    };
    let refused = changes(&candidate, stored)
        .into_iter()
        .find(|risk| risk.severity == Severity::Refuse)?;
    Some(refused.reason)
}

pub(super) fn risks(candidate: &Candidate<'_>, answer: &Answer) -> Vec<Risk> {
    match answer {
        Answer::Accepted(pod) => changes(candidate, pod),
        Answer::Refused(refusal) => vec![refused(candidate.pod, refusal)],
    }
}

pub(super) fn refused(pod: &Pod, refusal: &Refusal) -> Risk {
    let message = refusal.message.trim();
    if message.contains("does not support dry run") {
        let object = object_name(None, "Webhook", quoted(message));
        let finding = Finding {
            pod,
            code: Code::DryRunUnsupported,
            severity: Severity::Warn,
            object,
        };
        return finding.because(
            format!("the API server cannot say what admission makes of the probe: {message}"),
            "the pod is compared once it is created",
        );
    }
    if refusal.code >= 500 || refusal.code == 429 {
        let object = object_name(None, "APIServer", Some(&refusal.code.to_string()));
        let finding = Finding {
            pod,
            code: Code::DryRunFailed,
            severity: Severity::Refuse,
            object,
        };
        return finding.because(format!("the dry run failed: {message}"), "try again");
    }
    let (who, remedy) = who_refused(message);
    let finding = Finding {
        pod,
        code: Code::AdmissionDenied,
        severity: Severity::Refuse,
        object: who,
    };
    finding.because(
        format!("it refuses the probe ({}): {message}", refusal.reason),
        remedy,
    )
}

/// Who refused, by the words that each is known to use, and what helps.
fn who_refused(message: &str) -> (String, String) {
    let exempt = |what: &str| {
        format!(
            "exempt the run's namespace or the probe's image from {what}, or leave this source out"
        )
    };
    if let Some(rest) = message
        .split_once("admission webhook ")
        .map(|(_, rest)| rest)
    {
        let name = quoted(rest).unwrap_or("?");
        let what = match name {
            "validation.gatekeeper.sh" if message.contains("azurepolicy") => "Azure Policy",
            "validation.gatekeeper.sh" => "Gatekeeper",
            name if name.contains("kyverno") => "Kyverno",
            _ => "it",
        };
        return (object_name(None, "Webhook", Some(name)), exempt(what));
    }
    if message.contains("ValidatingAdmissionPolicy") {
        return (
            object_name(None, "ValidatingAdmissionPolicy", quoted(message)),
            exempt("it"),
        );
    }
    if message.contains("violates PodSecurity") {
        let remedy = "leave this vantage out, or run it in a namespace of another level";
        return (
            object_name(None, "PodSecurity", quoted(message)),
            remedy.into(),
        );
    }
    if message.contains("exceeded quota") || message.contains("failed quota") {
        return (
            "ResourceQuota".into(),
            "raise the quota for the run, or select fewer checks (--only, --tag)".into(),
        );
    }
    (
        "APIServer".into(),
        "change what its message names, or leave this source out".into(),
    )
}

/// The first text between double quotes.
fn quoted(text: &str) -> Option<&str> {
    text.split('"').nth(1)
}

fn changes(candidate: &Candidate<'_>, stored: &Pod) -> Vec<Risk> {
    let (sent, mut found) = (candidate.pod, Vec::new());
    let object = || object_name(Some(namespace_of(sent)), "Admission", Some("dry run"));
    let mut tell = |code: Code, severity: Severity, reason: String, remedy: &str| {
        found.push(
            Finding {
                pod: sent,
                code,
                severity,
                object: object(),
            }
            .because(reason, remedy),
        );
    };

    let (before, after) = (
        sent.metadata.labels.clone().unwrap_or_default(),
        stored.metadata.labels.clone().unwrap_or_default(),
    );
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed: Vec<String> = keys
        .into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| {
            format!(
                "{key}={}",
                after.get(key).map_or("(removed)", String::as_str)
            )
        })
        .collect();
    if !changed.is_empty() {
        let reason = format!(
            "admission changes the clone's labels, which are its identity: {}",
            changed.join(", ")
        );
        tell(Code::AdmissionLabels, Severity::Refuse, reason, NO_CLONE);
    }

    let (Some(sent_spec), Some(stored_spec)) = (&sent.spec, &stored.spec) else {
        return found;
    };
    let (own, original) = (container_names(sent_spec), original_names(candidate));
    for name in container_names(stored_spec).difference(&own) {
        if original.contains(name) {
            let reason = format!(
                "admission adds container {name:?}, as to the pod that the clone stands for: a proxy may answer handshakes itself"
            );
            tell(
                Code::AdmissionContainer,
                Severity::Warn,
                reason,
                "verdicts go by the stage above the handshake",
            );
        } else {
            let reason = format!(
                "admission adds container {name:?}, which the pod that the clone stands for lacks"
            );
            tell(Code::AdmissionContainer, Severity::Refuse, reason, NO_CLONE);
        }
    }

    let known = credentials_of_originals(candidate);
    for credential in credentials(stored_spec).difference(&credentials(sent_spec)) {
        if known.contains(credential) {
            let reason = format!(
                "admission gives the probe credentials, as to the pod that it stands for: {credential}"
            );
            tell(
                Code::AdmissionCredential,
                Severity::Warn,
                reason,
                "the probe reads no files; it ends with the run",
            );
        } else {
            let reason = format!("admission gives the probe credentials: {credential}");
            tell(
                Code::AdmissionCredential,
                Severity::Refuse,
                reason,
                NO_CLONE,
            );
        }
    }

    for change in program_changes(sent_spec, stored_spec) {
        tell(Code::AdmissionProgram, Severity::Refuse, change, NO_CLONE);
    }
    for change in shape_changes(sent, stored) {
        tell(Code::AdmissionShape, Severity::Refuse, change, NO_CLONE);
    }
    found
}

fn container_names(spec: &PodSpec) -> BTreeSet<String> {
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|it| it.name.clone())
        .collect()
}

/// Containers that every original has: one that only some have, the clone must not get.
fn original_names(candidate: &Candidate<'_>) -> BTreeSet<String> {
    in_all(candidate, container_names)
}

fn credentials_of_originals(candidate: &Candidate<'_>) -> BTreeSet<String> {
    in_all(candidate, credentials)
}

fn in_all(candidate: &Candidate<'_>, of: fn(&PodSpec) -> BTreeSet<String>) -> BTreeSet<String> {
    let sets = candidate
        .originals
        .iter()
        .filter_map(|original| original.spec.as_ref())
        .map(of);
    sets.reduce(|all, one| all.intersection(&one).cloned().collect())
        .unwrap_or_default()
}

/// Credentials of a pod, in words that are the same for two pods with the same ones.
fn credentials(spec: &PodSpec) -> BTreeSet<String> {
    let volumes = spec
        .volumes
        .iter()
        .flatten()
        .flat_map(credentials_of_volume);
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let env = containers
        .flat_map(|container| container.env.iter().flatten())
        .filter_map(credential_of_variable);
    volumes.chain(env).collect()
}

fn credentials_of_volume(volume: &Volume) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(secret) = &volume.secret {
        found.push(format!(
            "secret {}",
            secret.secret_name.as_deref().unwrap_or(&volume.name)
        ));
    }
    for source in volume
        .projected
        .iter()
        .flat_map(|projected| projected.sources.iter().flatten())
    {
        if let Some(token) = &source.service_account_token {
            let audience = token.audience.as_deref().unwrap_or("the API server");
            found.push(format!("a token of the service account for {audience}"));
        }
        if let Some(secret) = &source.secret {
            found.push(format!("secret {}", secret.name));
        }
    }
    if let Some(csi) = &volume.csi {
        found.push(format!("a volume of {}", csi.driver));
    }
    found
}

fn credential_of_variable(variable: &EnvVar) -> Option<String> {
    if let Some(secret) = variable
        .value_from
        .as_ref()
        .and_then(|from| from.secret_key_ref.as_ref())
    {
        return Some(format!("secret {} in {}", secret.name, variable.name));
    }
    let telling = ["TOKEN", "SECRET", "PASSWORD", "CREDENTIAL"]
        .iter()
        .any(|word| variable.name.contains(word));
    telling.then(|| format!("variable {}", variable.name))
}

/// What would run otherwise in the containers that were sent.
fn program_changes(sent: &PodSpec, stored: &PodSpec) -> Vec<String> {
    let mut changes = Vec::new();
    for before in &sent.containers {
        let Some(after) = stored
            .containers
            .iter()
            .find(|after| after.name == before.name)
        else {
            changes.push(format!("admission removes container {:?}", before.name));
            continue;
        };
        if before.image != after.image {
            changes.push(format!(
                "admission runs image {} instead",
                after.image.as_deref().unwrap_or("none")
            ));
        }
        if (&before.command, &before.args) != (&after.command, &after.args) {
            changes.push(format!(
                "admission runs another command in container {:?}",
                before.name
            ));
        }
        for variable in before.env.iter().flatten() {
            if !after.env.iter().flatten().any(|it| it == variable) {
                changes.push(format!("admission changes variable {}", variable.name));
            }
        }
        let user = |container: &Container, spec: &PodSpec| {
            let own = container
                .security_context
                .as_ref()
                .and_then(|it| it.run_as_user);
            own.or_else(|| spec.security_context.as_ref().and_then(|it| it.run_as_user))
        };
        let (wanted, got) = (user(before, sent), user(after, stored));
        if wanted != got && got.is_some_and(is_exempt_from_meshes) {
            changes.push(format!(
                "admission runs the probe as user {}, whom meshes let through",
                got.unwrap_or_default()
            ));
        }
    }
    changes
}

/// Users whose traffic meshes do not redirect: Istio's and Linkerd's proxies.
fn is_exempt_from_meshes(user: i64) -> bool {
    user == 1337 || user == 2102
}

/// What would make it another kind of pod than the one that the other checks judged.
fn shape_changes(sent: &Pod, stored: &Pod) -> Vec<String> {
    let (Some(before), Some(after)) = (&sent.spec, &stored.spec) else {
        return Vec::new();
    };
    let mut changes = Vec::new();
    if !can_become_ready(sent) && can_become_ready(stored) {
        changes
            .push("admission takes away the gate that keeps the probe from becoming Ready".into());
    }
    if before.host_network.unwrap_or_default() != after.host_network.unwrap_or_default() {
        changes.push("admission changes whether the probe is on its node's network".into());
    }
    // An account that was left out becomes the namespace's default one.
    if before.service_account_name.is_some()
        && before.service_account_name != after.service_account_name
    {
        changes.push(format!(
            "admission changes the service account to {}",
            after.service_account_name.as_deref().unwrap_or("none")
        ));
    }
    if before.active_deadline_seconds.is_some() && after.active_deadline_seconds.is_none() {
        changes.push("admission takes away the probe's deadline".into());
    }
    let owners = |pod: &Pod| -> Vec<String> {
        pod.metadata
            .owner_references
            .iter()
            .flatten()
            .map(|it| format!("{} {}", it.kind, it.name))
            .collect()
    };
    if owners(sent) != owners(stored) {
        changes.push(format!(
            "admission changes the probe's owners to {:?}",
            owners(stored)
        ));
    }
    changes
}
