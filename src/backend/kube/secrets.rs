//! The Secrets of a run: header values and bodies that a suite takes from the environment.
//!
//! A probe's plan stands in the specification of its pod. Credentials do not: they reach a probe by
//! a Secret of its own, which the owner Job of its namespace owns, so that it goes with the rest.
//! Only a suite that needs one makes one, and only then the right to create Secrets is asked for.

use super::error::Error;
use super::launch::RunContext;
use super::names;
use crate::model::Secrets;
use crate::plan::ProbeId;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, Pod, Secret, SecretKeySelector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::PostParams;
use std::collections::BTreeSet;
use watertight_probe::secret_variable;

/// The Secret of a probe.
fn secret(run: &str, probe: ProbeId, owner: OwnerReference, secrets: &Secrets) -> Secret {
    let texts = secrets.expose();
    Secret {
        metadata: ObjectMeta {
            name: Some(names::probe_secret(run, probe)),
            annotations: Some(names::annotations(run, "header values and bodies")),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        string_data: Some(
            texts
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .collect(),
        ),
        ..Secret::default()
    }
}

/// Creates the Secret of a probe.
///
/// # Errors
/// [`Error::Api`] when the API server refuses it.
pub(super) async fn create(
    context: &RunContext,
    namespace: &str,
    probe: ProbeId,
    owner: OwnerReference,
    secrets: &Secrets,
) -> Result<(), Error> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let secret = secret(&context.settings.run, probe, owner, secrets);
    api.create(&PostParams::default(), &secret)
        .await
        .map(drop)
        .map_err(|error| {
            Error::api(
                format!("create the Secret of a probe in namespace {namespace}"),
                error,
            )
        })
}

/// Lets the probe's container take the named secrets from the probe's Secret.
pub(super) fn refer<'a>(
    pod: &mut Pod,
    run: &str,
    probe: ProbeId,
    secrets: impl IntoIterator<Item = &'a str>,
) {
    let secret = names::probe_secret(run, probe);
    let variables: Vec<EnvVar> = secrets
        .into_iter()
        .map(|name| EnvVar {
            name: secret_variable(name),
            value: None,
            value_from: Some(EnvVarSource {
                secret_key_ref: Some(SecretKeySelector {
                    name: secret.clone(),
                    key: name.to_owned(),
                    optional: Some(false),
                }),
                ..EnvVarSource::default()
            }),
        })
        .collect();
    if variables.is_empty() {
        return;
    }
    for container in pod.spec.iter_mut().flat_map(|spec| &mut spec.containers) {
        let environment = container.env.get_or_insert_default();
        environment.extend(variables.iter().cloned());
    }
}

/// The namespaces of the pods that take something from a Secret of ours.
pub(super) fn namespaces<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> BTreeSet<String> {
    pods.into_iter()
        .filter(|pod| takes_a_secret(pod))
        .filter_map(|pod| pod.metadata.namespace.clone())
        .collect()
}

fn takes_a_secret(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut variables = containers.flat_map(|container| container.env.iter().flatten());
    variables.any(|variable| {
        variable
            .value_from
            .as_ref()
            .is_some_and(|source| source.secret_key_ref.is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SecretText;
    use serde_json::json;

    #[test]
    fn a_pod_names_a_secret_and_never_holds_its_text() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "shop" },
            "spec": { "containers": [{ "name": "probe", "env": [{ "name": "WATERTIGHT_PLAN_0", "value": "x" }] }] },
        }))
        .unwrap();
        assert!(namespaces([&pod]).is_empty());
        refer(&mut pod, "r", ProbeId(3), ["TOKEN"]);
        assert_eq!(namespaces([&pod]), BTreeSet::from(["shop".to_owned()]));
        let pod = serde_json::to_value(&pod).unwrap();
        assert_eq!(
            pod["spec"]["containers"][0]["env"][1],
            json!({ "name": "WATERTIGHT_SECRET_TOKEN", "valueFrom": { "secretKeyRef": { "name": "watertight-r-p3", "key": "TOKEN", "optional": false } } })
        );
    }

    #[test]
    fn a_secret_is_owned_by_the_runs_job_and_immutable() {
        let owner = OwnerReference {
            kind: "Job".into(),
            uid: "u".into(),
            ..OwnerReference::default()
        };
        let mut secrets = Secrets::default();
        secrets.insert("TOKEN", SecretText::new("hunter2".into()));
        let secret = secret("r", ProbeId(3), owner.clone(), &secrets);
        assert_eq!(secret.metadata.owner_references, Some(vec![owner]));
        assert_eq!(secret.immutable, Some(true));
        assert_eq!(secret.string_data.unwrap()["TOKEN"], "hunter2");
    }
}
