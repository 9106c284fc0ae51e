//! Policies that are not watched, of the cluster and of vendors: they are listed once, since one
//! that selects by a label which a clone lacks treats it differently from the original.
//!
//! # Limitations
//!
//! Kinds of other vendors are unknown here.

use super::{Code, PolicyObject, Risk, Severity};
use futures::future;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client};
use serde_json::Value;
use std::collections::BTreeSet;

/// A kind of policies.
struct PolicyResource {
    /// As reports name it.
    name: &'static str,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    is_namespaced: bool,
}

const fn of_cluster(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
) -> PolicyResource {
    PolicyResource {
        name: kind,
        group,
        version,
        kind,
        plural,
        is_namespaced: false,
    }
}

const RESOURCES: [PolicyResource; 6] = [
    of_cluster(
        "policy.networking.k8s.io",
        "v1alpha1",
        "AdminNetworkPolicy",
        "adminnetworkpolicies",
    ),
    of_cluster(
        "policy.networking.k8s.io",
        "v1alpha1",
        "BaselineAdminNetworkPolicy",
        "baselineadminnetworkpolicies",
    ),
    of_cluster(
        "cilium.io",
        "v2",
        "CiliumClusterwideNetworkPolicy",
        "ciliumclusterwidenetworkpolicies",
    ),
    PolicyResource {
        is_namespaced: true,
        ..of_cluster(
            "cilium.io",
            "v2",
            "CiliumNetworkPolicy",
            "ciliumnetworkpolicies",
        )
    },
    PolicyResource {
        name: "Calico GlobalNetworkPolicy",
        ..of_cluster(
            "crd.projectcalico.org",
            "v1",
            "GlobalNetworkPolicy",
            "globalnetworkpolicies",
        )
    },
    PolicyResource {
        name: "Calico NetworkPolicy",
        is_namespaced: true,
        ..of_cluster(
            "crd.projectcalico.org",
            "v1",
            "NetworkPolicy",
            "networkpolicies",
        )
    },
];

/// Lists the policies of every kind that the API server serves: of the whole cluster, or of these
/// namespaces where only that is allowed. A kind that may not be listed is a warning.
///
/// # Errors
/// When the API server cannot be asked.
pub(super) async fn list(
    client: &Client,
    namespaces: &BTreeSet<String>,
) -> Result<(Vec<PolicyObject>, Vec<Risk>), kube::Error> {
    // Where a kind is not served, its list is refused for the lack of a right as well.
    let groups = client.list_api_groups().await?;
    let served = RESOURCES
        .iter()
        .filter(|kind| groups.groups.iter().any(|group| group.name == kind.group));
    let listed =
        future::try_join_all(served.map(|kind| list_kind(client, kind, namespaces))).await?;

    let (mut policies, mut warnings) = (Vec::new(), Vec::new());
    for (of_kind, warning) in listed {
        policies.extend(of_kind);
        warnings.extend(warning);
    }
    Ok((policies, warnings))
}

async fn list_kind(
    client: &Client,
    kind: &PolicyResource,
    namespaces: &BTreeSet<String>,
) -> Result<(Vec<PolicyObject>, Option<Risk>), kube::Error> {
    let resource = ApiResource {
        group: kind.group.into(),
        version: kind.version.into(),
        api_version: format!("{}/{}", kind.group, kind.version),
        kind: kind.kind.into(),
        plural: kind.plural.into(),
    };
    let everywhere = Api::all_with(client.clone(), &resource);
    if let Some(objects) = list_unless_forbidden(&everywhere).await? {
        return Ok((policy_objects(kind, objects), None));
    }

    let mut policies = Vec::new();
    if kind.is_namespaced {
        for namespace in namespaces {
            let api = Api::namespaced_with(client.clone(), namespace, &resource);
            let Some(objects) = list_unless_forbidden(&api).await? else {
                return Ok((policies, Some(unlisted(kind))));
            };
            policies.extend(policy_objects(kind, objects));
        }
        return Ok((policies, None));
    }
    Ok((policies, Some(unlisted(kind))))
}

/// The objects; `None` where they may not be listed.
async fn list_unless_forbidden(
    api: &Api<DynamicObject>,
) -> Result<Option<Vec<DynamicObject>>, kube::Error> {
    match api.list(&ListParams::default().match_any()).await {
        Ok(list) => Ok(Some(list.items)),
        // The group is served, and this kind or version of it is not.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Some(Vec::new())),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(None),
        Err(error) => Err(error),
    }
}

fn policy_objects(kind: &PolicyResource, objects: Vec<DynamicObject>) -> Vec<PolicyObject> {
    objects
        .into_iter()
        .map(|object| PolicyObject {
            kind: kind.name.to_owned(),
            namespace: object.metadata.namespace,
            name: object.metadata.name.unwrap_or_default(),
            // Cilium's have a `spec`, a list of `specs`, or both.
            spec: rules(object.data),
        })
        .collect()
}

/// The parts of a policy that hold selectors: all but its status.
fn rules(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    object
}

fn unlisted(kind: &PolicyResource) -> Risk {
    Risk {
        code: Code::PolicyLabelMissing,
        severity: Severity::Warn,
        pod: None,
        object: format!("list {}.{}", kind.plural, kind.group),
        reason: format!(
            "{} policies may not be listed: whether one selects by a label that clones lack is not known",
            kind.name
        ),
        remedy: "grant the right to list them (ci/kustomize/rbac/cluster-reads)".into(),
    }
}
