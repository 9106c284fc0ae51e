//! The requests of preflight to the API server: lists, rights and dry runs. They change nothing.
//!
//! Their number does not depend on the number of probes: one list for each kind, one rules review
//! for each namespace, one dry run for each shape of pod (the probes of one workload on several
//! nodes have the same shape).

use super::dry_run::{Answer, Refusal};
use super::rights::{self, Right};
use super::risk::full_name;
use super::{
    Allowances, Candidate, ClusterObjects, Code, EphemeralTarget, Findings, Risk, Severity,
    dry_run_risks, ephemeral, object_name, risks, vendor_policies,
};
use crate::backend::kube::ephemeral::add_container_dry_run;
use crate::backend::kube::secrets;
use futures::{StreamExt, TryStreamExt, future, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// The number of concurrent requests of one type.
const CONCURRENT_REQUESTS: usize = 16;

/// A pod to create, and the pods whose identity it has.
#[derive(Debug, Clone)]
pub struct NewPod {
    /// The pod as it would be sent.
    pub pod: Pod,
    pub originals: Vec<Pod>,
    /// Whether a check needs it; other probes are only controls, and the run goes on without them.
    pub needed: bool,
}

/// Determines the risks of creating pods and ephemeral containers. `watched` are the Services,
/// policies, namespaces and nodes that the caller watches, `read` the namespaces that suites name.
///
/// # Errors
/// When the API server cannot be asked. A refusal is a finding.
pub async fn inspect(
    client: &Client,
    new_pods: &[NewPod],
    ephemeral_targets: &[EphemeralTarget],
    watched: ClusterObjects,
    read: &BTreeSet<String>,
    user: Option<&str>,
    allowances: Allowances,
) -> Result<Findings, kube::Error> {
    let candidates: Vec<Candidate<'_>> = new_pods
        .iter()
        .map(|new| Candidate {
            pod: &new.pod,
            originals: new.originals.iter().collect(),
        })
        .collect();
    let pod_namespaces = namespaces(new_pods.iter().map(|new| &new.pod));
    let ephemeral_namespaces = namespaces(ephemeral_targets.iter().map(|target| &target.pod));
    let created = new_pods.iter().map(|new| &new.pod);
    let entered = ephemeral_targets.iter().map(|target| &target.container);
    let secret_namespaces = secrets::namespaces(created.chain(entered));
    let mut needed = rights::needed(read, &pod_namespaces, &ephemeral_namespaces);
    needed.extend(rights::needed_for_secrets(&secret_namespaces));
    needed.sort();
    needed.dedup();
    let (
        missing,
        (mut cluster, unlisted),
        dry_runs,
        ephemeral_dry_runs,
        (policies, unlisted_policies),
    ) = future::try_join5(
        missing_rights(client, read, &needed),
        list_objects(client, &pod_namespaces, watched),
        dry_runs(client, &candidates),
        ephemeral_dry_runs(client, ephemeral_targets),
        vendor_policies::list(client, &pod_namespaces),
    )
    .await?;
    cluster.policies.extend(policies);

    // Kinds that may not be listed are among the missing rights, unless the rules promise rights
    // that the API server does not grant.
    let mut findings = if missing.is_empty() {
        unlisted
    } else {
        missing_right_risks(&missing)
    };
    findings.extend(unlisted_policies);
    findings.extend(risks(&candidates, &cluster, allowances));
    let may_create = missing.is_empty();
    let risks = new_dry_run_risks(&dry_runs, &findings, may_create);
    findings.extend(risks);
    for (target, answer) in &ephemeral_dry_runs {
        // Without the right to add it, the dry run shows nothing else.
        let risks = ephemeral::risks(target, &cluster, answer)
            .into_iter()
            .filter(|risk| may_create || !risk.reason.contains("cannot patch"));
        findings.extend(risks);
    }

    let pods = new_pods.iter().map(|new| (full_name(&new.pod), new.needed));
    let ephemeral_pods = ephemeral_targets
        .iter()
        .map(|target| (full_name(&target.pod), target.needed));
    let role = if missing.is_empty() {
        None
    } else {
        Some(rights::role_yaml(&missing, user))
    };
    Ok(Findings::new(
        findings,
        &pods.chain(ephemeral_pods).collect(),
        role,
    ))
}

fn namespaces<'a>(pods: impl Iterator<Item = &'a Pod>) -> BTreeSet<String> {
    pods.filter_map(|pod| pod.metadata.namespace.clone())
        .collect()
}

/// The risks that dry runs show and that are not among the earlier findings, for each pod with the
/// same shape.
fn new_dry_run_risks(
    dry_runs: &[(Vec<&Candidate<'_>>, Answer)],
    earlier: &[Risk],
    may_create: bool,
) -> Vec<Risk> {
    // A refusal by the API server adds nothing to an earlier one that names object and remedy.
    let refused_pods: BTreeSet<&str> = earlier
        .iter()
        .filter(|risk| {
            matches!(
                risk.code,
                Code::QuotaExceeded
                    | Code::QuotaRequiresLimit
                    | Code::LimitRange
                    | Code::PodSecurity
            )
        })
        .filter_map(|risk| risk.pod.as_deref())
        .collect();

    let mut new = Vec::new();
    for (same_shape, answer) in dry_runs {
        let Some(first) = same_shape.first() else {
            continue;
        };
        for risk in dry_run_risks(first, answer) {
            let is_denied = risk.code == Code::AdmissionDenied;
            // Without the right to create pods, the dry run shows nothing else.
            let shows_missing_right = !may_create && risk.reason.contains("cannot create");
            if is_denied && shows_missing_right {
                continue;
            }
            for candidate in same_shape {
                let name = full_name(candidate.pod);
                if is_denied && refused_pods.contains(name.as_str()) {
                    continue;
                }
                new.push(Risk {
                    pod: Some(name),
                    ..risk.clone()
                });
            }
        }
    }
    new
}

/// One risk for each namespace in which rights are missing.
fn missing_right_risks(missing: &[Right]) -> Vec<Risk> {
    let mut by_namespace: BTreeMap<&str, BTreeMap<String, Vec<&str>>> = BTreeMap::new();
    for right in missing {
        by_namespace
            .entry(right.namespace.as_deref().unwrap_or_default())
            .or_default()
            .entry(right.full_resource())
            .or_default()
            .push(right.verb);
    }
    by_namespace
        .into_iter()
        .map(|(namespace, resources)| {
            let rights: Vec<String> = resources
                .into_iter()
                .map(|(resource, verbs)| format!("{} {resource}", verbs.join("/")))
                .collect();
            Risk {
                code: Code::PermissionMissing,
                severity: Severity::Refuse,
                pod: None,
                object: object_name(None, "Namespace", Some(namespace)),
                reason: format!("these rights are missing there: {}", rights.join(", ")),
                remedy: "apply the Role that is printed with this".into(),
            }
        })
        .collect()
}

/// The missing rights: by the API server's rules for each namespace, and where these are
/// incomplete, by one request for each right.
async fn missing_rights(
    client: &Client,
    read: &BTreeSet<String>,
    needed: &[Right],
) -> Result<Vec<Right>, kube::Error> {
    let namespaces: BTreeSet<&String> = needed
        .iter()
        .filter_map(|right| right.namespace.as_ref())
        .chain(read)
        .collect();
    let requests = namespaces
        .into_iter()
        .map(|namespace| missing_rights_in(client, namespace, needed));
    let missing: Vec<Vec<&Right>> = stream::iter(requests)
        .buffered(CONCURRENT_REQUESTS)
        .try_collect()
        .await?;
    Ok(missing.into_iter().flatten().cloned().collect())
}

async fn missing_rights_in<'a>(
    client: &Client,
    namespace: &String,
    needed: &'a [Right],
) -> Result<Vec<&'a Right>, kube::Error> {
    let in_namespace = needed
        .iter()
        .filter(|right| right.namespace.as_ref() == Some(namespace));
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(namespace.clone()),
        },
        ..SelfSubjectRulesReview::default()
    };
    let api: Api<SelfSubjectRulesReview> = Api::all(client.clone());
    let review = api.create(&PostParams::default(), &review).await?;
    let rules = review.status.unwrap_or_default();
    let not_granted = rights::not_granted(in_namespace, &rules);
    if !rules.incomplete {
        return Ok(not_granted);
    }

    let requests = not_granted.iter().map(|right| is_allowed(client, right));
    let answers: Vec<bool> = stream::iter(requests)
        .buffered(CONCURRENT_REQUESTS)
        .try_collect()
        .await?;
    Ok(not_granted
        .into_iter()
        .zip(answers)
        .filter(|(_, is_allowed)| !is_allowed)
        .map(|(right, _)| right)
        .collect())
}

/// Whether the API server grants a right.
async fn is_allowed(client: &Client, right: &Right) -> Result<bool, kube::Error> {
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (right.resource, None),
    };
    let attributes = ResourceAttributes {
        group: Some(right.group.to_owned()),
        namespace: right.namespace.clone(),
        resource: Some(resource.to_owned()),
        subresource,
        verb: Some(right.verb.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        ..Default::default()
    };
    let review = SelfSubjectAccessReview {
        spec,
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Lists the objects that are not watched, in these namespaces. Each kind that may not be listed is
/// a refusal, since its objects might adopt or count a probe.
async fn list_objects(
    client: &Client,
    namespaces: &BTreeSet<String>,
    watched: ClusterObjects,
) -> Result<(ClusterObjects, Vec<Risk>), kube::Error> {
    let lister = Lister { client, namespaces };
    let (replica_sets, replication_controllers, stateful_sets, daemon_sets, jobs) =
        future::try_join5(
            lister.list(),
            lister.list(),
            lister.list(),
            lister.list(),
            lister.list(),
        )
        .await?;
    let (budgets, autoscalers, quotas, limit_ranges) =
        future::try_join4(lister.list(), lister.list(), lister.list(), lister.list()).await?;

    let mut refusals = Vec::new();
    let mut cluster = ClusterObjects {
        replica_sets: objects_or_refusal(replica_sets, &mut refusals),
        replication_controllers: objects_or_refusal(replication_controllers, &mut refusals),
        stateful_sets: objects_or_refusal(stateful_sets, &mut refusals),
        daemon_sets: objects_or_refusal(daemon_sets, &mut refusals),
        jobs: objects_or_refusal(jobs, &mut refusals),
        budgets: objects_or_refusal(budgets, &mut refusals),
        autoscalers: objects_or_refusal(autoscalers, &mut refusals),
        quotas: objects_or_refusal(quotas, &mut refusals),
        limit_ranges: objects_or_refusal(limit_ranges, &mut refusals),
        ..watched
    };

    let scales_deployments = cluster
        .autoscalers
        .iter()
        .any(|autoscaler| autoscaler.spec.scale_target_ref.kind == "Deployment");
    if scales_deployments {
        cluster.deployments = objects_or_refusal(lister.list().await?, &mut refusals);
    }
    Ok((cluster, refusals))
}

/// The listed objects, or the name of the kind that may not be listed.
type Listed<K> = Result<Vec<K>, String>;

fn objects_or_refusal<K>(listed: Listed<K>, refusals: &mut Vec<Risk>) -> Vec<K> {
    listed.unwrap_or_else(|kind| {
        refusals.push(Risk {
            code: Code::PermissionMissing,
            severity: Severity::Refuse,
            pod: None,
            object: format!("list {kind}"),
            reason: "these may not be listed, so they might adopt or count a probe".into(),
            remedy: "grant the right to list them to the user that runs watertight".into(),
        });
        Vec::new()
    })
}

/// Lists objects of any kind in the same namespaces.
struct Lister<'a> {
    client: &'a Client,
    namespaces: &'a BTreeSet<String>,
}

impl Lister<'_> {
    /// All objects of a kind: with one request for a single namespace, and otherwise with one for
    /// the whole cluster, or where that is forbidden, with one for each namespace.
    async fn list<K>(&self) -> Result<Listed<K>, kube::Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        if self.namespaces.len() != 1 {
            match list_all::<K>(&Api::all(self.client.clone())).await {
                Err(kube::Error::Api(status)) if status.code == 403 => {}
                other => return other.map(Ok),
            }
        }
        let mut objects = Vec::new();
        for namespace in self.namespaces {
            match list_all::<K>(&Api::namespaced(self.client.clone(), namespace)).await {
                Ok(more) => objects.extend(more),
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    return Ok(Err(format!("{} in namespace {namespace}", K::plural(&()))));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Ok(objects))
    }
}

/// Lists objects from the API server's cache, which may lag, as it does for controllers.
async fn list_all<K>(api: &Api<K>) -> Result<Vec<K>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    match api.list(&ListParams::default().match_any()).await {
        Ok(list) => Ok(list.items),
        // The cluster does not serve this kind.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The candidates by shape, with the answer to a dry run of one of each.
async fn dry_runs<'a>(
    client: &Client,
    candidates: &'a [Candidate<'a>],
) -> Result<Vec<(Vec<&'a Candidate<'a>>, Answer)>, kube::Error> {
    let mut shapes: BTreeMap<String, Vec<&Candidate<'a>>> = BTreeMap::new();
    for candidate in candidates {
        shapes
            .entry(shape(candidate.pod))
            .or_default()
            .push(candidate);
    }
    let requests = shapes.into_values().map(|same_shape| async move {
        let answer = dry_run(client, same_shape[0].pod).await?;
        Ok((same_shape, answer))
    });
    stream::iter(requests)
        .buffered(CONCURRENT_REQUESTS)
        .try_collect()
        .await
}

/// The properties of a pod that admission may depend on, as text: all but its name, node, plan, and
/// the values of labels without a domain.
///
/// Admission mostly depends on the values of labels with a domain
/// (`azure.workload.identity/use: "true"`). If it depends on others, the response to the probe's
/// creation shows the change.
fn shape(pod: &Pod) -> String {
    let mut pod = pod.clone();
    pod.metadata.name = None;
    pod.metadata.annotations = None;
    let labels = pod.metadata.labels.iter_mut().flatten();
    for (_, value) in labels.filter(|(key, _)| !key.contains('/')) {
        value.clear();
    }
    if let Some(spec) = &mut pod.spec {
        spec.affinity = None;
        spec.node_name = None;
        for container in &mut spec.containers {
            container.env = None;
        }
    }
    // A pod that cannot be serialized has its own shape.
    serde_json::to_string(&pod).unwrap_or_else(|_| format!("{pod:?}"))
}

/// The answers to the dry runs of adding ephemeral containers: one for each pod, since it also
/// depends on the pod's other ephemeral containers.
async fn ephemeral_dry_runs<'a>(
    client: &Client,
    targets: &'a [EphemeralTarget],
) -> Result<Vec<(&'a EphemeralTarget, Answer)>, kube::Error> {
    let requests = targets.iter().map(|target| async move {
        let outcome = add_container_dry_run(client, &target.pod, &target.container).await;
        Ok((target, answer(outcome)?))
    });
    stream::iter(requests)
        .buffered(CONCURRENT_REQUESTS)
        .try_collect()
        .await
}

async fn dry_run(client: &Client, pod: &Pod) -> Result<Answer, kube::Error> {
    let api: Api<Pod> = match &pod.metadata.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::default_namespaced(client.clone()),
    };
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    answer(api.create(&parameters, pod).await)
}

/// The answer to a dry run.
///
/// # Errors
/// When the API server could not be asked.
fn answer(outcome: Result<Pod, kube::Error>) -> Result<Answer, kube::Error> {
    match outcome {
        Ok(stored) => Ok(Answer::Accepted(Box::new(stored))),
        Err(kube::Error::Api(status)) => Ok(Answer::Refused(Refusal {
            code: status.code,
            reason: status.reason.clone(),
            message: status.message.clone(),
        })),
        Err(error) => Err(error),
    }
}
