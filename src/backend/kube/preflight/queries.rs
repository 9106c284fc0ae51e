//! What is asked of the API server before anything is created: lists, rights, dry runs. It changes
//! nothing.
//!
//! Few calls, whatever the number of probes: one list for each kind, one review of rules for each
//! namespace, one dry run for each shape of pod (probes of one workload on several nodes have one).

use super::dry_run::{Answer, Refusal};
use super::rights::{self, Right};
use super::risk::full_name;
use super::{
    Allowances, Candidate, Code, Entering, Findings, Neighbours, Risk, Severity, dry_run_risks,
    ephemeral, object_name, risks,
};
use futures::{StreamExt, future, stream};
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

/// Requests under way at a time.
const AT_ONCE: usize = 16;

/// One pod to create, and the pods whose identity it takes.
#[derive(Debug, Clone)]
pub struct Intended {
    /// As it would be sent.
    pub pod: Pod,
    /// Its originals.
    pub originals: Vec<Pod>,
    /// Whether a check needs it. The run does without the others, which only strengthen proofs.
    pub needed: bool,
}

/// Asks everything, and judges it. `enterings` are the pods that get a probe within; `known` is
/// what the caller watches already: Services, policies, namespaces, nodes; `read` are the
/// namespaces that suites name.
///
/// # Errors
/// When the API server cannot be asked at all. What it refuses is a finding.
pub async fn look(
    client: &Client,
    intended: &[Intended],
    enterings: &[Entering],
    known: Neighbours,
    read: &BTreeSet<String>,
    user: Option<&str>,
    allowances: Allowances,
) -> Result<Findings, kube::Error> {
    let candidates: Vec<Candidate<'_>> = intended
        .iter()
        .map(|it| Candidate {
            pod: &it.pod,
            originals: it.originals.iter().collect(),
        })
        .collect();
    let written: BTreeSet<String> = intended
        .iter()
        .filter_map(|it| it.pod.metadata.namespace.clone())
        .collect();
    let entered: BTreeSet<String> = enterings
        .iter()
        .filter_map(|it| it.pod.metadata.namespace.clone())
        .collect();
    let (missing, around, answers, enterings) = future::try_join4(
        missing_rights(client, read, &rights::needed(read, &written, &entered)),
        neighbours(client, &written, known),
        dry_runs(client, &candidates),
        would_enter(client, enterings),
    )
    .await?;
    let (around, unseen) = around;
    let role = (!missing.is_empty()).then(|| rights::role_yaml(&missing, user));
    // What may not be listed is among the missing rights, unless the rules promised more than the
    // API server keeps.
    let mut found = if missing.is_empty() {
        unseen
    } else {
        missing_rights_by_namespace(&missing)
    };
    found.extend(risks(&candidates, &around, allowances));
    let refused_already: BTreeSet<String> = found
        .iter()
        .filter(|risk| {
            matches!(
                risk.code,
                Code::Quota | Code::QuotaDemands | Code::LimitRange | Code::PodSecurity
            )
        })
        .filter_map(|risk| risk.pod.clone())
        .collect();
    for (alike, answer) in &answers {
        let Some(candidate) = alike.first() else {
            continue;
        };
        let answered = dry_run_risks(candidate, answer)
            .into_iter()
            .flat_map(|risk| {
                let of = |candidate: &&Candidate<'_>| Risk {
                    pod: Some(full_name(candidate.pod)),
                    ..risk.clone()
                };
                alike.iter().map(of).collect::<Vec<_>>()
            });
        // The same refusal in the API server's words adds nothing to the one that names object and
        // way out.
        found.extend(answered.filter(|risk| {
            let denied = risk.code == Code::AdmissionDenied;
            let said = risk
                .pod
                .as_ref()
                .is_some_and(|pod| refused_already.contains(pod));
            // Without the right to create, the dry run says only that.
            let for_want_of_rights = !missing.is_empty() && risk.reason.contains("cannot create");
            !(denied && (said || for_want_of_rights))
        }));
    }
    for (entering, answer) in &enterings {
        let answered = ephemeral::risks(entering, &around, answer);
        let for_want_of_rights =
            |risk: &Risk| !missing.is_empty() && risk.reason.contains("cannot patch");
        found.extend(
            answered
                .into_iter()
                .filter(|risk| !for_want_of_rights(risk)),
        );
    }
    let created = intended.iter().map(|it| (full_name(&it.pod), it.needed));
    let entered = enterings
        .iter()
        .map(|(it, _)| (full_name(&it.pod), it.needed));
    Ok(Findings::of(found, &created.chain(entered).collect(), role))
}

fn missing_rights_by_namespace(missing: &[Right]) -> Vec<Risk> {
    let mut by_namespace: BTreeMap<&str, BTreeMap<String, Vec<&str>>> = BTreeMap::new();
    for right in missing {
        let verbs = by_namespace
            .entry(right.namespace.as_deref().unwrap_or_default())
            .or_default();
        verbs
            .entry(right.full_resource())
            .or_default()
            .push(right.verb);
    }
    let risk = |(namespace, resources): (&str, BTreeMap<String, Vec<&str>>)| {
        let lacking: Vec<String> = resources
            .into_iter()
            .map(|(resource, verbs)| format!("{} {resource}", verbs.join("/")))
            .collect();
        Risk {
            code: Code::Permission,
            severity: Severity::Refuse,
            pod: None,
            object: object_name(None, "Namespace", Some(namespace)),
            reason: format!("these rights are missing there: {}", lacking.join(", ")),
            remedy: "apply the Role that is printed with this".into(),
        }
    };
    by_namespace.into_iter().map(risk).collect()
}

/// The rights that are needed and not there: by the API server's rules for each namespace, and one
/// by one where it says that these are not all.
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
    let reviews = namespaces.into_iter().map(|namespace| {
        let here: Vec<&Right> = needed
            .iter()
            .filter(|right| right.namespace.as_ref() == Some(namespace))
            .collect();
        async move {
            let spec = SelfSubjectRulesReviewSpec {
                namespace: Some(namespace.clone()),
            };
            let review = SelfSubjectRulesReview {
                spec,
                ..SelfSubjectRulesReview::default()
            };
            let api: Api<SelfSubjectRulesReview> = Api::all(client.clone());
            let status = api
                .create(&PostParams::default(), &review)
                .await?
                .status
                .unwrap_or_default();
            let open = rights::not_granted(here, &status);
            if !status.incomplete {
                return Ok(open);
            }
            let asked = stream::iter(open)
                .map(|right| async move { Ok((right, is_allowed(client, right).await?)) });
            let answers: Vec<Result<(&Right, bool), kube::Error>> =
                asked.buffered(AT_ONCE).collect().await;
            let answers: Result<Vec<_>, _> = answers.into_iter().collect();
            Ok(answers?
                .into_iter()
                .filter(|(_, allowed)| !allowed)
                .map(|(right, _)| right)
                .collect())
        }
    });
    let open: Vec<Result<Vec<&Right>, kube::Error>> =
        stream::iter(reviews).buffered(AT_ONCE).collect().await;
    let open: Result<Vec<Vec<&Right>>, kube::Error> = open.into_iter().collect();
    Ok(open?.into_iter().flatten().cloned().collect())
}

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

/// Lists what is near the pods to create. What may not be seen could be in the way, so it refuses.
async fn neighbours(
    client: &Client,
    namespaces: &BTreeSet<String>,
    known: Neighbours,
) -> Result<(Neighbours, Vec<Risk>), kube::Error> {
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
    let mut unseen = Vec::new();
    let mut around = Neighbours {
        replica_sets: seen(replica_sets, &mut unseen),
        replication_controllers: seen(replication_controllers, &mut unseen),
        stateful_sets: seen(stateful_sets, &mut unseen),
        daemon_sets: seen(daemon_sets, &mut unseen),
        jobs: seen(jobs, &mut unseen),
        budgets: seen(budgets, &mut unseen),
        autoscalers: seen(autoscalers, &mut unseen),
        quotas: seen(quotas, &mut unseen),
        limit_ranges: seen(limit_ranges, &mut unseen),
        ..known
    };
    let scales_deployments = around
        .autoscalers
        .iter()
        .any(|autoscaler| autoscaler.spec.scale_target_ref.kind == "Deployment");
    if scales_deployments {
        around.deployments = seen(lister.list().await?, &mut unseen);
    }
    Ok((around, unseen))
}

/// What was listed, or the word for what may not be.
type Listed<K> = Result<Vec<K>, String>;

fn seen<K>(listed: Listed<K>, unseen: &mut Vec<Risk>) -> Vec<K> {
    listed.unwrap_or_else(|what| {
        unseen.push(Risk {
            code: Code::Permission,
            severity: Severity::Refuse,
            pod: None,
            object: format!("list {what}"),
            reason: "these may not be listed, so it cannot be excluded that they would take or count a probe".into(),
            remedy: "allow it to whoever runs watertight".into(),
        });
        Vec::new()
    })
}

struct Lister<'a> {
    client: &'a Client,
    namespaces: &'a BTreeSet<String>,
}

impl Lister<'_> {
    /// All objects of a kind, of one namespace or of all; where all may not be listed, of each
    /// namespace.
    async fn list<K>(&self) -> Result<Listed<K>, kube::Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        if self.namespaces.len() != 1 {
            match everything::<K>(&Api::all(self.client.clone())).await {
                Err(kube::Error::Api(status)) if status.code == 403 => {}
                other => return other.map(Ok),
            }
        }
        let mut objects = Vec::new();
        for namespace in self.namespaces {
            match everything::<K>(&Api::namespaced(self.client.clone(), namespace)).await {
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

/// From the API server's cache: what it misses by a moment, a controller misses too.
async fn everything<K>(api: &Api<K>) -> Result<Vec<K>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    match api.list(&ListParams::default().match_any()).await {
        Ok(list) => Ok(list.items),
        // A kind that this cluster does not serve has no objects.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The answers to one dry run for each shape of pod, each with the pods that have it.
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
    let runs = shapes.into_values().map(|alike| async move {
        let answer = dry_run(client, alike[0].pod).await?;
        Ok((alike, answer))
    });
    let answers: Vec<Result<_, kube::Error>> = stream::iter(runs).buffered(AT_ONCE).collect().await;
    answers.into_iter().collect()
}

/// What admission tells pods apart by: everything but their name, their node, their plan, and what
/// labels without a domain are set to. Whoever acts on a label's value mostly does on one of a
/// domain of its own (`azure.workload.identity/use: "true"`); if not, the answer to the probe's
/// creation shows it.
fn shape(pod: &Pod) -> String {
    let mut pod = pod.clone();
    pod.metadata.name = None;
    for (_, value) in pod
        .metadata
        .labels
        .iter_mut()
        .flatten()
        .filter(|(key, _)| !key.contains('/'))
    {
        value.clear();
    }
    pod.metadata.annotations = None;
    if let Some(spec) = &mut pod.spec {
        spec.affinity = None;
        spec.node_name = None;
        for container in &mut spec.containers {
            container.env = None;
        }
    }
    // A pod that cannot be written has a shape of its own, by its text for people.
    serde_json::to_string(&pod).unwrap_or_else(|_| format!("{pod:?}"))
}

/// The answers to a dry run for each pod that is to get a probe within: what it already has within
/// decides too.
async fn would_enter<'a>(
    client: &Client,
    enterings: &'a [Entering],
) -> Result<Vec<(&'a Entering, Answer)>, kube::Error> {
    let runs = enterings.iter().map(|entering| async move {
        Ok((
            entering,
            answer(
                crate::backend::kube::ephemeral::would_enter(
                    client,
                    &entering.pod,
                    &entering.alone,
                )
                .await,
            )?,
        ))
    });
    let answers: Vec<Result<_, kube::Error>> = stream::iter(runs).buffered(AT_ONCE).collect().await;
    answers.into_iter().collect()
}

async fn dry_run(client: &Client, pod: &Pod) -> Result<Answer, kube::Error> {
    let api: Api<Pod> = match &pod.metadata.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::default_namespaced(client.clone()),
    };
    answer(
        api.create(
            &PostParams {
                dry_run: true,
                ..PostParams::default()
            },
            pod,
        )
        .await,
    )
}

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
