//! The API server's answer to a dry run: the pod as admission would change it, or the refusal.
//!
//! Containers and credentials that admission adds to the originals too (a mesh's sidecar, a token
//! of the service account) are a warning. Those that the originals lack would make the clone differ
//! from them, and refuse it.

use super::budget::can_become_ready;
use super::risk::{Code, NO_CLONE, Risk, Severity};
use super::{Candidate, namespace_of, object_name};
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodSpec, Volume};
use std::collections::BTreeSet;

/// The answer to a dry run.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The pod as it would be stored.
    Accepted(Box<Pod>),
    Refused(Refusal),
}

/// The fields of the API server's `Status` that are reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// `Forbidden`, `Invalid`, ...
    pub reason: String,
    /// Verbatim: admission policies explain their refusal there.
    pub message: String,
}

/// Why a created pod must not be used: admission changed it in a way that refuses a clone. The dry
/// run may not have shown it, since a webhook may not support dry runs, and only one pod of each
/// shape is tested.
pub(in super::super) fn objection(
    sent: &Pod,
    original: Option<&Pod>,
    stored: &Pod,
) -> Option<String> {
    let candidate = Candidate {
        pod: sent,
        originals: original.into_iter().collect(),
    };
    changes(&candidate, stored)
        .into_iter()
        .find(|risk| risk.severity == Severity::Refuse)
        .map(|risk| risk.reason)
}

pub(super) fn risks(candidate: &Candidate<'_>, answer: &Answer) -> Vec<Risk> {
    match answer {
        Answer::Accepted(stored) => changes(candidate, stored),
        Answer::Refused(refusal) => vec![refusal_risk(candidate.pod, refusal)],
    }
}

/// The risk that a refused dry run shows.
pub(super) fn refusal_risk(pod: &Pod, refusal: &Refusal) -> Risk {
    let message = refusal.message.trim();
    if message.contains("does not support dry run") {
        return Risk::warning(
            pod,
            Code::DryRunUnsupported,
            object_name(None, "Webhook", first_quoted(message)),
            format!("the API server cannot say how admission would change the probe: {message}"),
            "nothing to do: the pod is compared once it is created",
        );
    }
    if refusal.code >= 500 || refusal.code == 429 {
        return Risk::refusal(
            pod,
            Code::DryRunFailed,
            object_name(None, "APIServer", Some(&refusal.code.to_string())),
            format!("the dry run failed: {message}"),
            "run again",
        );
    }

    let (object, remedy) = refusing_object(message);
    Risk::refusal(
        pod,
        Code::AdmissionDenied,
        object,
        format!("it refuses the probe ({}): {message}", refusal.reason),
        remedy,
    )
}

/// The object that refused, recognized by the form of its message, and a remedy.
fn refusing_object(message: &str) -> (String, String) {
    if let Some((_, rest)) = message.split_once("admission webhook ") {
        let name = first_quoted(rest).unwrap_or("?");
        let product = match name {
            "validation.gatekeeper.sh" if message.contains("azurepolicy") => "Azure Policy",
            "validation.gatekeeper.sh" => "Gatekeeper",
            name if name.contains("kyverno") => "Kyverno",
            _ => "it",
        };
        let object = object_name(None, "Webhook", Some(name));
        return (object, exemption_remedy(product));
    }
    if message.contains("ValidatingAdmissionPolicy") {
        let name = first_quoted(message);
        let object = object_name(None, "ValidatingAdmissionPolicy", name);
        return (object, exemption_remedy("it"));
    }
    if message.contains("violates PodSecurity") {
        return (
            object_name(None, "PodSecurity", first_quoted(message)),
            "leave this source out, or run watertight in a namespace with another level".into(),
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
        "correct what its message names, or leave this source out".into(),
    )
}

fn exemption_remedy(product: &str) -> String {
    format!(
        "exempt the run's namespace or the probe image from {product}, or leave this source out"
    )
}

/// The first text between double quotes.
fn first_quoted(text: &str) -> Option<&str> {
    text.split('"').nth(1)
}

/// The risks of admission's changes to a pod.
fn changes(candidate: &Candidate<'_>, stored: &Pod) -> Vec<Risk> {
    let sent = candidate.pod;
    let object = object_name(Some(namespace_of(sent)), "Admission", Some("dry run"));
    let mut risks = Vec::new();

    let labels = label_changes(sent, stored);
    if !labels.is_empty() {
        risks.push(Risk::refusal(
            sent,
            Code::AdmissionChangesLabels,
            &object,
            format!(
                "admission changes the clone's labels, which policies select by: {}",
                labels.join(", ")
            ),
            NO_CLONE,
        ));
    }

    let (Some(sent_spec), Some(stored_spec)) = (&sent.spec, &stored.spec) else {
        return risks;
    };
    let in_originals = in_all_originals(candidate, container_names);
    for name in container_names(stored_spec).difference(&container_names(sent_spec)) {
        risks.push(if in_originals.contains(name) {
            Risk::warning(
                sent,
                Code::AdmissionAddsContainer,
                &object,
                format!(
                    "admission adds container {name:?}, as to the original pod: a proxy may answer handshakes itself"
                ),
                "nothing to do: verdicts use the response to the request, not the handshake",
            )
        } else {
            Risk::refusal(
                sent,
                Code::AdmissionAddsContainer,
                &object,
                format!("admission adds container {name:?}, which the original pod lacks"),
                NO_CLONE,
            )
        });
    }

    let in_originals = in_all_originals(candidate, credentials);
    for credential in credentials(stored_spec).difference(&credentials(sent_spec)) {
        risks.push(if in_originals.contains(credential) {
            Risk::warning(
                sent,
                Code::AdmissionAddsCredentials,
                &object,
                format!(
                    "admission gives the probe credentials, as to the original pod: {credential}"
                ),
                "nothing to do: the probe reads no files, and ends with the run",
            )
        } else {
            Risk::refusal(
                sent,
                Code::AdmissionAddsCredentials,
                &object,
                format!("admission gives the probe credentials: {credential}"),
                NO_CLONE,
            )
        });
    }

    for change in container_changes(sent_spec, stored_spec) {
        let code = Code::AdmissionChangesContainer;
        risks.push(Risk::refusal(sent, code, &object, change, NO_CLONE));
    }
    for change in pod_changes(sent, stored) {
        let code = Code::AdmissionChangesPod;
        risks.push(Risk::refusal(sent, code, &object, change, NO_CLONE));
    }
    risks
}

/// The labels that differ, as `KEY=VALUE` or `KEY=(removed)`.
fn label_changes(sent: &Pod, stored: &Pod) -> Vec<String> {
    let before = sent.metadata.labels.clone().unwrap_or_default();
    let after = stored.metadata.labels.clone().unwrap_or_default();
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| {
            let value = after.get(key).map_or("(removed)", String::as_str);
            format!("{key}={value}")
        })
        .collect()
}

fn container_names(spec: &PodSpec) -> BTreeSet<String> {
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|container| container.name.clone())
        .collect()
}

/// The properties that every original has; none where there is no original.
fn in_all_originals(
    candidate: &Candidate<'_>,
    properties: fn(&PodSpec) -> BTreeSet<String>,
) -> BTreeSet<String> {
    let sets = candidate
        .originals
        .iter()
        .filter_map(|original| original.spec.as_ref())
        .map(properties);
    sets.reduce(|all, one| all.intersection(&one).cloned().collect())
        .unwrap_or_default()
}

/// The credentials of a pod as texts, which are equal for equal credentials.
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
    let variables = containers
        .flat_map(|container| container.env.iter().flatten())
        .filter_map(credential_of_variable);
    volumes.chain(variables).collect()
}

fn credentials_of_volume(volume: &Volume) -> Vec<String> {
    let mut credentials = Vec::new();
    if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or(&volume.name);
        credentials.push(format!("secret {name}"));
    }

    for source in volume
        .projected
        .iter()
        .flat_map(|projected| projected.sources.iter().flatten())
    {
        if let Some(token) = &source.service_account_token {
            let audience = token.audience.as_deref().unwrap_or("the API server");
            credentials.push(format!("a token of the service account for {audience}"));
        }
        if let Some(secret) = &source.secret {
            credentials.push(format!("secret {}", secret.name));
        }
    }

    if let Some(csi) = &volume.csi {
        credentials.push(format!("a volume of {}", csi.driver));
    }
    credentials
}

fn credential_of_variable(variable: &EnvVar) -> Option<String> {
    if let Some(secret) = variable
        .value_from
        .as_ref()
        .and_then(|from| from.secret_key_ref.as_ref())
    {
        return Some(format!("secret {} in {}", secret.name, variable.name));
    }

    let is_credential = ["TOKEN", "SECRET", "PASSWORD", "CREDENTIAL"]
        .iter()
        .any(|word| variable.name.contains(word));
    is_credential.then(|| format!("variable {}", variable.name))
}

/// Admission's changes to the containers that were sent, as sentences.
fn container_changes(sent: &PodSpec, stored: &PodSpec) -> Vec<String> {
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
                "admission changes the image to {}",
                after.image.as_deref().unwrap_or("none")
            ));
        }
        if (&before.command, &before.args) != (&after.command, &after.args) {
            changes.push(format!(
                "admission changes the command of container {:?}",
                before.name
            ));
        }
        for variable in before.env.iter().flatten() {
            if !after.env.iter().flatten().any(|other| other == variable) {
                changes.push(format!("admission changes variable {}", variable.name));
            }
        }

        let new_user = user(after, stored).filter(|new| user(before, sent) != Some(*new));
        if let Some(user) = new_user.filter(|user| MESH_PROXY_USERS.contains(user)) {
            changes.push(format!(
                "admission runs the probe as user {user}, whose traffic meshes do not redirect"
            ));
        }
    }
    changes
}

/// The users of the proxies of Istio and Linkerd, whose traffic meshes do not redirect.
const MESH_PROXY_USERS: [i64; 2] = [1337, 2102];

/// The user that a container runs as, if the pod says it.
fn user(container: &Container, spec: &PodSpec) -> Option<i64> {
    let container_context = container.security_context.as_ref();
    let pod_context = spec.security_context.as_ref();
    container_context
        .and_then(|context| context.run_as_user)
        .or_else(|| pod_context.and_then(|context| context.run_as_user))
}

/// Admission's changes to properties of the pod that other risks were judged by, as sentences.
fn pod_changes(sent: &Pod, stored: &Pod) -> Vec<String> {
    let (Some(before), Some(after)) = (&sent.spec, &stored.spec) else {
        return Vec::new();
    };
    let mut changes = Vec::new();
    if !can_become_ready(sent) && can_become_ready(stored) {
        changes.push(
            "admission removes the readiness gate that keeps the probe from becoming Ready".into(),
        );
    }
    if before.host_network.unwrap_or_default() != after.host_network.unwrap_or_default() {
        changes.push("admission changes whether the probe uses the host network".into());
    }
    // Where the pod names no service account, admission sets the namespace's default.
    if before.service_account_name.is_some()
        && before.service_account_name != after.service_account_name
    {
        changes.push(format!(
            "admission changes the service account to {}",
            after.service_account_name.as_deref().unwrap_or("none")
        ));
    }
    if before.active_deadline_seconds.is_some() && after.active_deadline_seconds.is_none() {
        changes.push("admission removes the probe's active deadline".into());
    }
    if owners(sent) != owners(stored) {
        changes.push(format!(
            "admission changes the probe's owners to {:?}",
            owners(stored)
        ));
    }
    changes
}

/// The owners of a pod, as `KIND NAME`.
fn owners(pod: &Pod) -> Vec<String> {
    pod.metadata
        .owner_references
        .iter()
        .flatten()
        .map(|owner| format!("{} {}", owner.kind, owner.name))
        .collect()
}
