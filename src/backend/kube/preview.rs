//! What a run would create, told before it does: for preflight, and for `watertight plan`.

use super::ephemeral;
use super::error::Error;
use super::launch::{RunContext, pod_of};
use super::preflight::{self, Allowances, Entering, Findings, Intended, Neighbours, PolicyObject};
use super::probe_pod::Wanted;
use super::{Kube, names};
use crate::backend::Launch;
use crate::plan::{Plan, ProbeId, Source};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::BTreeSet;

/// What a run would create, and what speaks against it.
#[derive(Debug, Clone, Default)]
pub struct LaunchPreview {
    /// Pods and Jobs: `shop/Pod/watertight-4d1f-p0x...`, with whose identity and where.
    pub creations: Vec<String>,
    /// What speaks against it.
    pub findings: Findings,
}

impl Kube {
    /// Says what a run of this plan would create, and judges it. Changes nothing. `read` are the
    /// namespaces that suites name.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn preview(
        &mut self,
        plan: &Plan,
        read: &BTreeSet<String>,
        allowances: Allowances,
    ) -> Result<LaunchPreview, Error> {
        let prospects = prospects(plan);
        let user = self.operator().await;
        let (findings, creations) = self
            .judge(&prospects, read, user.as_deref(), allowances)
            .await?;
        let runner = plan.probes().contains(&Source::Runner);
        let runner = runner.then(|| "a process of this machine: the runner's own probe".to_owned());
        self.allowances = allowances;
        Ok(LaunchPreview {
            creations: creations.into_iter().chain(runner).collect(),
            findings,
        })
    }

    /// Judges probes that came with what changed during the run, as all others were before it. What
    /// cannot be judged is not launched. The runner's own is no pod, and nothing to judge.
    pub(super) async fn judge_later(&mut self, launches: &[Launch]) {
        let is_new = |launch: &&Launch| {
            launch.source != Source::Runner && !self.judged.contains(&launch.probe)
        };
        let new = launches.iter().filter(is_new);
        let prospects: Vec<Prospect<'_>> = new.map(Prospect::from).collect();
        if prospects.is_empty() {
            return;
        }
        let allowances = self.allowances;
        if let Err(error) = self
            .judge(&prospects, &BTreeSet::new(), None, allowances)
            .await
        {
            let why = format!("what it would disturb is not known: failed to {error}");
            self.refused.extend(
                prospects
                    .iter()
                    .map(|prospect| (prospect.probe, why.clone())),
            );
        }
    }

    /// What speaks against probes, and what would be created. Remembers whom not to launch.
    async fn judge(
        &mut self,
        prospects: &[Prospect<'_>],
        read: &BTreeSet<String>,
        user: Option<&str>,
        allowances: Allowances,
    ) -> Result<(Findings, Vec<String>), Error> {
        let (beside, intended): (Vec<ProbeId>, Vec<Intended>) =
            intended(&self.place, prospects).into_iter().unzip();
        let (within, enterings): (Vec<ProbeId>, Vec<Entering>) =
            enterings(&self.place, prospects).into_iter().unzip();
        let known = neighbours(&self.place);
        let asked = preflight::look(
            &self.place.client,
            &intended,
            &enterings,
            known,
            read,
            user,
            allowances,
        );
        let Ok(findings) = tokio::time::timeout(self.place.timeout, asked).await else {
            return Err(Error::Silent {
                doing: "look at what probes would disturb".into(),
                after: self.place.timeout,
            });
        };
        let findings =
            findings.map_err(|source| Error::api("look at what probes would disturb", source))?;
        self.judged.extend(beside.iter().chain(&within));
        let pods = intended
            .iter()
            .map(|it| &it.pod)
            .chain(enterings.iter().map(|it| &it.pod));
        let refused = beside
            .iter()
            .chain(&within)
            .zip(pods)
            .filter_map(|(probe, pod)| {
                let why = findings.refused.get(&preflight::full_name(pod))?;
                Some((*probe, format!("preflight refuses it: {why}")))
            });
        self.refused.extend(refused);
        let creations = creations(&self.place, &intended, &enterings);
        Ok((findings, creations))
    }
}

/// A probe to be launched, as far as it is judged: with its plan left out, which is long and
/// changes nothing here.
struct Prospect<'a> {
    probe: ProbeId,
    source: &'a Source,
    inside: bool,
    /// Whether a check needs it; others only strengthen proofs.
    needed: bool,
}

impl<'a> From<&'a Launch> for Prospect<'a> {
    fn from(launch: &'a Launch) -> Self {
        Self {
            probe: launch.probe,
            source: &launch.source,
            inside: launch.inside,
            needed: true,
        }
    }
}

/// All probes of a plan.
fn prospects(plan: &Plan) -> Vec<Prospect<'_>> {
    let deciding: BTreeSet<ProbeId> = plan
        .checks()
        .iter()
        .flat_map(|check| &check.flows)
        .map(|flow| plan.flow(*flow).probe)
        .collect();
    let numbered = plan.probes().iter().zip((0..).map(ProbeId));
    let prospect = |(source, probe)| Prospect {
        probe,
        source,
        inside: plan.ephemeral_probes().contains(&probe),
        needed: deciding.contains(&probe),
    };
    numbered.map(prospect).collect()
}

/// Those that are pods of our own.
fn intended(place: &RunContext, prospects: &[Prospect<'_>]) -> Vec<(ProbeId, Intended)> {
    let owner = OwnerReference {
        api_version: "batch/v1".into(),
        kind: "Job".into(),
        name: names::of_run(&place.common.run),
        uid: "00000000-0000-0000-0000-000000000000".into(),
        controller: Some(false),
        block_owner_deletion: Some(false),
    };
    let of = |prospect: &Prospect<'_>| {
        let Prospect {
            probe,
            source,
            needed,
            ..
        } = *prospect;
        let pod = pod_of(
            place,
            source,
            &Wanted {
                probe,
                owner: owner.clone(),
                environment: &[],
            },
        )
        .ok()?;
        let originals = match source {
            Source::Pod {
                namespace, name, ..
            } => place
                .shared
                .store()
                .pod(namespace, name)
                .map(|pod| pod.as_ref().clone())
                .into_iter()
                .collect(),
            Source::Node { .. } | Source::ReferencePod { .. } | Source::Runner => Vec::new(),
        };
        Some((
            probe,
            Intended {
                pod,
                originals,
                needed,
            },
        ))
    };
    prospects
        .iter()
        .filter(|prospect| !prospect.inside)
        .filter_map(of)
        .collect()
}

/// The pods of the user's that get one within.
fn enterings(place: &RunContext, prospects: &[Prospect<'_>]) -> Vec<(ProbeId, Entering)> {
    let store = place.shared.store();
    let of = |prospect: &Prospect<'_>| {
        let Source::Pod {
            namespace, name, ..
        } = prospect.source
        else {
            return None;
        };
        let pod = store.pod(namespace, name)?.as_ref().clone();
        let alone = ephemeral::alone(&pod, &place.common, &[]);
        Some((
            prospect.probe,
            Entering {
                pod,
                alone,
                needed: prospect.needed,
            },
        ))
    };
    prospects
        .iter()
        .filter(|prospect| prospect.inside)
        .filter_map(of)
        .collect()
}

/// What the watches know already.
fn neighbours(place: &RunContext) -> Neighbours {
    let store = place.shared.store();
    let objects = store.objects();
    let policies = objects.policies.iter().map(|policy| PolicyObject {
        kind: "NetworkPolicy".into(),
        namespace: policy.metadata.namespace.clone(),
        name: policy.metadata.name.clone().unwrap_or_default(),
        spec: serde_json::to_value(&policy.spec).unwrap_or_default(),
    });
    Neighbours {
        policies: policies.collect(),
        namespaces: objects.namespaces.into_iter().cloned().collect(),
        nodes: objects.nodes.into_iter().cloned().collect(),
        services: objects.services.into_iter().cloned().collect(),
        ..Neighbours::default()
    }
}

fn creations(place: &RunContext, intended: &[Intended], enterings: &[Entering]) -> Vec<String> {
    let namespaces: BTreeSet<&str> = intended
        .iter()
        .filter_map(|it| it.pod.metadata.namespace.as_deref())
        .collect();
    let owner = names::of_run(&place.common.run);
    let jobs = namespaces.into_iter().map(|namespace| {
        format!("{namespace}/Job/{owner}: owns everything of the run there, runs nothing, and goes by itself")
    });
    let pods = intended.iter().map(|it| {
        let meta = &it.pod.metadata;
        let (namespace, name) = (
            meta.namespace.as_deref().unwrap_or("?"),
            meta.name.as_deref().unwrap_or("?"),
        );
        let source = meta
            .annotations
            .as_ref()
            .and_then(|all| all.get(names::SOURCE))
            .map_or("?", String::as_str);
        format!("{namespace}/Pod/{name}: as {source}")
    });
    let within = enterings.iter().map(|it| {
        let meta = &it.pod.metadata;
        let (namespace, name) = (meta.namespace.as_deref().unwrap_or("?"), meta.name.as_deref().unwrap_or("?"));
        format!("{namespace}/Pod/{name}: an ephemeral container, which stays there until the pod is deleted")
    });
    jobs.chain(pods).chain(within).collect()
}
