//! The preview of a run: the objects that it would create, and the risks that preflight finds in
//! them.

use super::create_probe::pod_for;
use super::ephemeral;
use super::error::Error;
use super::launch::RunContext;
use super::preflight::{
    self, Allowances, ClusterObjects, EphemeralTarget, Findings, NewPod, PolicyObject,
};
use super::probe_pod::PodRequest;
use super::{Kube, names, secrets};
use crate::backend::Launch;
use crate::model::PolicyKind;
use crate::plan::{Plan, ProbeId, Source};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use std::collections::{BTreeMap, BTreeSet};

/// The objects that a run would create, and the risks that preflight finds in them.
#[derive(Debug, Clone, Default)]
pub struct LaunchPreview {
    /// One sentence for each object: `shop/Pod/watertight-4d1f-p0x...: as shop/web-0`.
    pub creations: Vec<String>,
    pub findings: Findings,
}

impl Kube {
    /// The preview of a run of this plan. Changes nothing. `read` are the namespaces that suites
    /// name.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn preview(
        &mut self,
        plan: &Plan,
        read: &BTreeSet<String>,
        allowances: Allowances,
    ) -> Result<LaunchPreview, Error> {
        let user = self.operator().await;
        let (findings, mut creations) = self
            .judge(&planned_probes(plan), read, user.as_deref(), allowances)
            .await?;
        if plan.probes().contains(&Source::Runner) {
            creations.push("a process of this machine: the runner's probe".to_owned());
        }
        self.allowances = allowances;
        Ok(LaunchPreview {
            creations,
            findings,
        })
    }

    /// Judges the probes that were added by changes during the run, as the others were before it. A
    /// probe that cannot be judged is refused. The runner's probe is no pod and is not judged.
    pub(super) async fn judge_new_probes(&mut self, launches: &[Launch]) {
        let probes: Vec<PlannedProbe<'_>> = launches
            .iter()
            .filter(|launch| {
                launch.source != Source::Runner && !self.judged.contains(&launch.probe)
            })
            .map(PlannedProbe::from)
            .collect();
        if probes.is_empty() {
            return;
        }

        let allowances = self.allowances;
        let judged = self
            .judge(&probes, &BTreeSet::new(), None, allowances)
            .await;
        if let Err(error) = judged {
            let why = format!("preflight could not judge it: failed to {error}");
            let refused = probes.iter().map(|planned| (planned.probe, why.clone()));
            self.refused.extend(refused);
        }
    }

    /// Judges probes, records those that are refused, and describes the objects that would be
    /// created.
    async fn judge(
        &mut self,
        probes: &[PlannedProbe<'_>],
        read: &BTreeSet<String>,
        user: Option<&str>,
        allowances: Allowances,
    ) -> Result<(Findings, Vec<String>), Error> {
        let (new_pod_probes, new_pods): (Vec<ProbeId>, Vec<NewPod>) =
            new_pods(&self.context, probes).into_iter().unzip();
        let (ephemeral_probes, ephemeral_targets): (Vec<ProbeId>, Vec<EphemeralTarget>) =
            ephemeral_targets(&self.context, probes).into_iter().unzip();
        let request = preflight::inspect(
            &self.context.client,
            &new_pods,
            &ephemeral_targets,
            watched_objects(&self.context),
            read,
            user,
            allowances,
        );
        let doing = "inspect the objects that probes would affect";
        let findings = tokio::time::timeout(self.context.timeout, request)
            .await
            .map_err(|_| Error::Timeout {
                doing: doing.into(),
                after: self.context.timeout,
            })?
            .map_err(|source| Error::api(doing, source))?;

        let judged: Vec<ProbeId> = new_pod_probes.into_iter().chain(ephemeral_probes).collect();
        self.judged.extend(&judged);
        let pods = new_pods
            .iter()
            .map(|new| &new.pod)
            .chain(ephemeral_targets.iter().map(|target| &target.pod));
        for (probe, pod) in judged.into_iter().zip(pods) {
            if let Some(why) = findings.refused.get(&preflight::full_name(pod)) {
                let why = format!("preflight refuses it: {why}");
                self.refused.insert(probe, why);
            }
        }
        let creations = creations(&self.context, &new_pods, &ephemeral_targets);
        Ok((findings, creations))
    }
}

/// The probe whose Secret all previewed pods name, so that pods of one shape stay of one shape.
const ANY_PROBE: ProbeId = ProbeId(0);

/// A probe to be judged. Its wire plan is left out, since that does not matter here.
struct PlannedProbe<'a> {
    probe: ProbeId,
    source: &'a Source,
    /// Whether it is an ephemeral container.
    inside: bool,
    /// Whether a check needs it; other probes are only controls.
    needed: bool,
    /// The names of the secrets that its requests need.
    secrets: BTreeSet<&'a str>,
}

impl<'a> From<&'a Launch> for PlannedProbe<'a> {
    fn from(launch: &'a Launch) -> Self {
        Self {
            probe: launch.probe,
            source: &launch.source,
            inside: launch.ephemeral,
            needed: true,
            secrets: launch.plan.secret_names(),
        }
    }
}

/// All probes of a plan.
fn planned_probes(plan: &Plan) -> Vec<PlannedProbe<'_>> {
    let needed: BTreeSet<ProbeId> = plan
        .checks()
        .iter()
        .flat_map(|check| &check.flows)
        .map(|flow| plan.flow(*flow).probe)
        .collect();
    let mut secrets: BTreeMap<ProbeId, BTreeSet<&str>> = BTreeMap::new();
    for flow in plan.flows() {
        for secret in flow.to.request.secret_names() {
            secrets.entry(flow.probe).or_default().insert(secret);
        }
    }
    plan.probes()
        .iter()
        .zip((0..).map(ProbeId))
        .map(|(source, probe)| PlannedProbe {
            probe,
            source,
            inside: plan.ephemeral_probes().contains(&probe),
            needed: needed.contains(&probe),
            secrets: secrets.remove(&probe).unwrap_or_default(),
        })
        .collect()
}

/// The pods to create for probes that are no ephemeral containers.
fn new_pods(context: &RunContext, probes: &[PlannedProbe<'_>]) -> Vec<(ProbeId, NewPod)> {
    probes
        .iter()
        .filter(|planned| !planned.inside)
        .filter_map(|planned| Some((planned.probe, new_pod(context, planned)?)))
        .collect()
}

/// The pod to create for a probe; `None` where it cannot be one, as the runner's probe.
fn new_pod(context: &RunContext, planned: &PlannedProbe<'_>) -> Option<NewPod> {
    let request = PodRequest {
        probe: planned.probe,
        owner: placeholder_owner(context),
        environment: &[],
    };
    let mut pod = pod_for(context, planned.source, &request).ok()?;
    let run = &context.settings.run;
    secrets::refer(&mut pod, run, ANY_PROBE, planned.secrets.iter().copied());
    Some(NewPod {
        pod,
        originals: original(context, planned.source).into_iter().collect(),
        needed: planned.needed,
    })
}

/// A reference to the owner Job, which does not exist yet.
fn placeholder_owner(context: &RunContext) -> OwnerReference {
    OwnerReference {
        api_version: "batch/v1".into(),
        kind: "Job".into(),
        name: names::run_object(&context.settings.run),
        uid: "00000000-0000-0000-0000-000000000000".into(),
        controller: Some(false),
        block_owner_deletion: Some(false),
    }
}

/// The pod whose identity a source has, if it has one and the pod exists.
fn original(context: &RunContext, source: &Source) -> Option<Pod> {
    match source {
        Source::Pod {
            namespace, name, ..
        } => {
            let pod = context.shared.store().pod(namespace, name)?;
            Some(pod.as_ref().clone())
        }
        Source::Node { .. } | Source::ReferencePod { .. } | Source::Runner => None,
    }
}

/// The user's pods to which an ephemeral container is to be added.
fn ephemeral_targets(
    context: &RunContext,
    probes: &[PlannedProbe<'_>],
) -> Vec<(ProbeId, EphemeralTarget)> {
    probes
        .iter()
        .filter(|planned| planned.inside)
        .filter_map(|planned| {
            let pod = original(context, planned.source)?;
            let mut container = ephemeral::container_as_pod(&pod, &context.settings, &[]);
            let names = planned.secrets.iter().copied();
            secrets::refer(&mut container, &context.settings.run, ANY_PROBE, names);
            let target = EphemeralTarget {
                pod,
                container,
                needed: planned.needed,
            };
            Some((planned.probe, target))
        })
        .collect()
}

/// The objects that are watched already and need not be listed.
fn watched_objects(context: &RunContext) -> ClusterObjects {
    let store = context.shared.store();
    let objects = store.objects();
    let policies = store.network_policies().map(|policy| PolicyObject {
        kind: PolicyKind::NetworkPolicy.to_string(),
        namespace: policy.metadata.namespace.clone(),
        name: policy.metadata.name.clone().unwrap_or_default(),
        spec: serde_json::to_value(&policy.spec).unwrap_or_default(),
    });
    let cluster_policies = store.cluster_policies.values().map(|policy| PolicyObject {
        kind: PolicyKind::ClusterNetworkPolicy.to_string(),
        namespace: None,
        name: policy.meta().name.clone().unwrap_or_default(),
        spec: policy.spec.clone(),
    });
    ClusterObjects {
        policies: policies.chain(cluster_policies).collect(),
        namespaces: objects.namespaces.into_iter().cloned().collect(),
        nodes: objects.nodes.into_iter().cloned().collect(),
        services: objects.services.into_iter().cloned().collect(),
        ..ClusterObjects::default()
    }
}

/// One sentence for each object to create: owner Jobs, pods, ephemeral containers.
fn creations(
    context: &RunContext,
    new_pods: &[NewPod],
    ephemeral_targets: &[EphemeralTarget],
) -> Vec<String> {
    let pods = new_pods.iter().map(|new| &new.pod);
    let with_secrets = secrets::namespaces(
        pods.clone()
            .chain(ephemeral_targets.iter().map(|target| &target.container)),
    );
    let namespaces: BTreeSet<&str> = pods
        .filter_map(|pod| pod.metadata.namespace.as_deref())
        .chain(with_secrets.iter().map(String::as_str))
        .collect();
    let owner = names::run_object(&context.settings.run);
    let jobs = namespaces.into_iter().map(|namespace| {
        format!(
            "{namespace}/Job/{owner}: owns all objects of the run there, runs no pod, and expires by itself"
        )
    });
    let pods = new_pods.iter().map(|new| {
        let source = new
            .pod
            .metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(names::SOURCE))
            .map_or("?", String::as_str);
        format!("{}: as {source}", pod_name(&new.pod))
    });
    let containers = ephemeral_targets.iter().map(|target| {
        format!(
            "{}: an ephemeral container, which stays there until the pod is deleted",
            pod_name(&target.pod)
        )
    });
    let secrets = with_secrets.iter().map(|namespace| {
        format!("{namespace}/Secret/{owner}-p...: one for each probe that sends what a suite takes from the environment")
    });
    jobs.chain(secrets).chain(pods).chain(containers).collect()
}

/// `NAMESPACE/Pod/NAME`.
fn pod_name(pod: &Pod) -> String {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("?");
    let name = pod.metadata.name.as_deref().unwrap_or("?");
    format!("{namespace}/Pod/{name}")
}
