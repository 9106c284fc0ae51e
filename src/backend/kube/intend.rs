//! What a run would create, told before it does: for preflight, and for `watertight plan`.

use super::error::Error;
use super::inside;
use super::launch::{Place, pod_of};
use super::preflight::{self, Allowances, Entering, Findings, Intended, Neighbours, PolicyObject};
use super::probe_pod::Wanted;
use super::{Kube, names};
use crate::plan::{Plan, ProbeId, Vantage};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::BTreeSet;

/// What a run would create, and what speaks against it.
#[derive(Debug, Clone, Default)]
pub struct Foreseen {
    /// Pods and Jobs: `shop/Pod/watertight-4d1f-p0x...`, with whose identity and where.
    pub creations: Vec<String>,
    /// What speaks against it.
    pub findings: Findings,
}

impl Kube {
    /// Says what a run of this plan would create, and judges it. Changes nothing. `read` are the namespaces that suites
    /// name.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn foresee(
        &mut self,
        plan: &Plan,
        read: &BTreeSet<String>,
        allowances: Allowances,
    ) -> Result<Foreseen, Error> {
        let intended = intended(&self.place, plan);
        let enterings = enterings(&self.place, plan);
        let user = self.operator().await;
        let known = neighbours(&self.place);
        let asked =
            preflight::look(&self.place.client, &intended, &enterings, known, read, user.as_deref(), allowances);
        let Ok(findings) = tokio::time::timeout(self.place.patience, asked).await else {
            return Err(Error::Silent {
                doing: "look at what probes would disturb".into(),
                after: self.place.patience,
            });
        };
        let findings = findings.map_err(|source| Error::api("look at what probes would disturb", source))?;
        Ok(Foreseen { creations: creations(&self.place, plan, &intended, &enterings), findings })
    }
}

/// The pods of a plan, with plans of their own left out: those are long, and change nothing here.
fn intended(place: &Place, plan: &Plan) -> Vec<Intended> {
    let deciding = deciding(plan);
    let owner = OwnerReference {
        api_version: "batch/v1".into(),
        kind: "Job".into(),
        name: names::owner(&place.common.run),
        uid: "00000000-0000-0000-0000-000000000000".into(),
        controller: Some(false),
        block_owner_deletion: Some(false),
    };
    let numbered = plan.probes.iter().zip(0..);
    numbered
        .filter(|(_, number)| !plan.inside.contains(&ProbeId(*number)))
        .filter_map(|(vantage, number)| {
            let probe = ProbeId(number);
            let pod = pod_of(place, vantage, &Wanted { probe, owner: owner.clone(), environment: &[] }).ok()?;
            let originals = match vantage {
                Vantage::Pod { namespace, name, .. } => {
                    place.shared.store().pod(namespace, name).map(|pod| pod.as_ref().clone()).into_iter().collect()
                }
                Vantage::Node { .. } | Vantage::Witness { .. } | Vantage::Runner => Vec::new(),
            };
            Some(Intended { pod, originals, needed: deciding.contains(&probe) })
        })
        .collect()
}

/// The probes that checks need; the others only strengthen proofs.
fn deciding(plan: &Plan) -> BTreeSet<ProbeId> {
    plan.checks.iter().flat_map(|check| &check.flows).map(|flow| plan.flow(*flow).probe).collect()
}

/// The pods that get a probe within, without its plan.
fn enterings(place: &Place, plan: &Plan) -> Vec<Entering> {
    let deciding = deciding(plan);
    let store = place.shared.store();
    let of = |probe: &ProbeId| {
        let Vantage::Pod { namespace, name, .. } = plan.vantage(*probe) else { return None };
        let pod = store.pod(namespace, name)?.as_ref().clone();
        let alone = inside::alone(&pod, &place.common, &[]);
        Some(Entering { pod, alone, needed: deciding.contains(probe) })
    };
    plan.inside.iter().filter_map(of).collect()
}

/// What the watches know already.
fn neighbours(place: &Place) -> Neighbours {
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

fn creations(place: &Place, plan: &Plan, intended: &[Intended], enterings: &[Entering]) -> Vec<String> {
    let namespaces: BTreeSet<&str> = intended.iter().filter_map(|it| it.pod.metadata.namespace.as_deref()).collect();
    let owner = names::owner(&place.common.run);
    let jobs = namespaces.into_iter().map(|namespace| {
        format!("{namespace}/Job/{owner}: owns everything of the run there, runs nothing, and goes by itself")
    });
    let pods = intended.iter().map(|it| {
        let meta = &it.pod.metadata;
        let (namespace, name) = (meta.namespace.as_deref().unwrap_or("?"), meta.name.as_deref().unwrap_or("?"));
        let source = meta.annotations.as_ref().and_then(|all| all.get(names::SOURCE)).map_or("?", String::as_str);
        format!("{namespace}/Pod/{name}: as {source}")
    });
    let runner = plan.probes.contains(&Vantage::Runner);
    let runner = runner.then(|| "a process of this machine: the runner's own probe".to_owned());
    let within = enterings.iter().map(|it| {
        let meta = &it.pod.metadata;
        let (namespace, name) = (meta.namespace.as_deref().unwrap_or("?"), meta.name.as_deref().unwrap_or("?"));
        format!("{namespace}/Pod/{name}: an ephemeral container, which stays there until the pod is deleted")
    });
    jobs.chain(pods).chain(within).chain(runner).collect()
}
