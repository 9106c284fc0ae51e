//! Reads workloads: controllers with a template for pods.

use super::decode::decode;
use super::object::Metadata;
use super::pod::Template;
use super::problem::{FieldPath, Problems};
use super::selector::check_selector;
use crate::inventory::{DeclaredPod, Labels, Placement};
use crate::model::{WorkloadKind, WorkloadRef};
use k8s_openapi::api::apps::v1::{DaemonSetSpec, DeploymentSpec, ReplicaSetSpec, StatefulSetSpec};
use k8s_openapi::api::batch::v1::{CronJobSpec, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube_core::{Selector, SelectorExt};
use serde_json::Value;

/// The most pods of one workload. More are taken for a typing error: the number is ten times what
/// the lab was measured with.
const MAX_REPLICAS: u32 = 10_000;

/// A controller and the pods that its template would make.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    pub(super) namespace: String,
    pub(super) reference: WorkloadRef,
    /// The workload that controls it.
    pub(super) owner: Option<WorkloadRef>,
    pub(super) count: Count,
    pub(super) template: Template,
}

/// The number of a workload's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// `number` pods, whose ordinals begin at `first`.
    Replicas { first: u32, number: u32 },
    /// One on every node.
    EveryNode,
}

impl Count {
    const NONE: Self = Self::Replicas {
        first: 0,
        number: 0,
    };
    const ONE: Self = Self::Replicas {
        first: 0,
        number: 1,
    };
}

/// Reads a workload; `None` after a wrong type.
pub(super) fn read_workload(
    kind: WorkloadKind,
    meta: &Metadata,
    object: &Value,
    path: &FieldPath,
    problems: &mut Problems,
) -> Option<Workload> {
    let spec = object.get("spec");
    let status_path = path.key("status");
    let path = path.key("spec");
    let (selector, template, template_path, count) = match kind {
        WorkloadKind::Deployment => {
            let spec: DeploymentSpec = decode(spec, &path, problems)?;
            let count = replicas(spec.replicas, 0, &path.key("replicas"), problems);
            let template_path = path.key("template");
            (Some(spec.selector), spec.template, template_path, count)
        }
        WorkloadKind::ReplicaSet => {
            let spec: ReplicaSetSpec = decode(spec, &path, problems)?;
            let count = replicas(spec.replicas, 0, &path.key("replicas"), problems);
            let template = spec.template.unwrap_or_default();
            (Some(spec.selector), template, path.key("template"), count)
        }
        WorkloadKind::StatefulSet => {
            let spec: StatefulSetSpec = decode(spec, &path, problems)?;
            let first = spec.ordinals.and_then(|ordinals| ordinals.start);
            let first = first.unwrap_or(0);
            let count = replicas(spec.replicas, first, &path.key("replicas"), problems);
            let template_path = path.key("template");
            (Some(spec.selector), spec.template, template_path, count)
        }
        WorkloadKind::DaemonSet => {
            let spec: DaemonSetSpec = decode(spec, &path, problems)?;
            let (template_path, count) = (path.key("template"), Count::EveryNode);
            (Some(spec.selector), spec.template, template_path, count)
        }
        WorkloadKind::Job => {
            let spec: JobSpec = decode(spec, &path, problems)?;
            let status: JobStatus = decode(object.get("status"), &status_path, problems)?;
            let (template, count) = job(spec, &path, problems);
            let count = if is_finished(&status) {
                Count::NONE
            } else {
                count
            };
            (None, template, path.key("template"), count)
        }
        WorkloadKind::CronJob => {
            let spec: CronJobSpec = decode(spec, &path, problems)?;
            let path = path.keys(["jobTemplate", "spec"]);
            let spec = spec.job_template.spec.unwrap_or_default();
            let (template, count) = job(spec, &path, problems);
            (None, template, path.key("template"), count)
        }
        WorkloadKind::Pod => (None, PodTemplateSpec::default(), path, Count::ONE),
    };

    let problems_before = problems.len();
    let mut template = Template::read(&template, &template_path, problems);
    if let Some(selector) = selector {
        check_match(
            &selector,
            &template.labels,
            &template_path,
            problems,
            problems_before,
        );
    }
    if kind == WorkloadKind::Job {
        // The API server adds these to the template of every Job (generateSelector in
        // pkg/registry/batch/job).
        for key in ["job-name", "batch.kubernetes.io/job-name"] {
            template.labels.insert(key.to_owned(), meta.name.clone());
        }
    }
    Some(Workload {
        namespace: meta.namespace.clone(),
        reference: WorkloadRef {
            kind,
            name: meta.name.clone(),
        },
        owner: meta.owner.clone(),
        count,
        template,
    })
}

/// The template of a Job and the number of its pods that run at the same time. A suspended Job has
/// none; the `suspend` of a CronJob does not count, since its next run may come at any time.
fn job(spec: JobSpec, path: &FieldPath, problems: &mut Problems) -> (PodTemplateSpec, Count) {
    let pods = match (spec.suspend, spec.parallelism, spec.completions) {
        (Some(true), _, _) => 0,
        (_, Some(parallelism), Some(completions)) => parallelism.min(completions),
        (_, parallelism, _) => parallelism.unwrap_or(1),
    };
    let count = replicas(Some(pods), 0, &path.key("parallelism"), problems);
    (spec.template, count)
}

fn is_finished(status: &JobStatus) -> bool {
    status.conditions.iter().flatten().any(|condition| {
        matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
    })
}

/// Reads `replicas`; one where it is absent (`SetDefaults_Deployment` and its counterparts for
/// other kinds).
fn replicas(replicas: Option<i32>, first: i32, path: &FieldPath, problems: &mut Problems) -> Count {
    let replicas = replicas.unwrap_or(1);
    let number = match u32::try_from(replicas) {
        Ok(number @ 0..=MAX_REPLICAS) => number,
        Ok(number) => {
            problems.error(
                path.clone(),
                format!("{number} pods of one workload; at most {MAX_REPLICAS} can be tested"),
            );
            0
        }
        Err(_) => {
            problems.error(path.clone(), format!("{replicas} must not be negative"));
            0
        }
    };
    let first = u32::try_from(first).unwrap_or_else(|_| {
        problems.error(
            path.clone(),
            format!("ordinals start at {first}, which must not be negative"),
        );
        0
    });
    Count::Replicas { first, number }
}

/// Checks a workload's selector, and that it selects the pods of its template, as the API server
/// requires.
fn check_match(
    selector: &LabelSelector,
    labels: &Labels,
    path: &FieldPath,
    problems: &mut Problems,
    problems_before: usize,
) {
    let selector_path = FieldPath {
        document: path.document,
        segments: path
            .segments
            .iter()
            .take(path.segments.len() - 1)
            .cloned()
            .collect(),
    }
    .key("selector");
    check_selector(selector, &selector_path, problems);
    let is_empty = selector
        .match_labels
        .as_ref()
        .is_none_or(std::collections::BTreeMap::is_empty)
        && selector
            .match_expressions
            .as_ref()
            .is_none_or(Vec::is_empty);
    if is_empty {
        problems.error(
            selector_path,
            "a workload needs a selector, and it must not be empty",
        );
        return;
    }

    // A selector or label with a problem is reported already; a second report would repeat it.
    if problems.len() > problems_before {
        return;
    }
    if let Ok(parsed) = Selector::try_from(selector.clone())
        && !parsed.matches(labels)
    {
        let labels: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let labels = if labels.is_empty() {
            "none".to_owned()
        } else {
            labels.join(", ")
        };
        problems
            .error(
                path.keys(["metadata", "labels"]),
                format!("the template's labels do not match the selector; they are: {labels}"),
            )
            .help("the API server refuses such a workload: write each label of the selector into the template")
            .related(selector_path, format!("the selector: {parsed}"));
    }
}

impl Workload {
    /// The pods that the template makes, each with a name that `name` makes of its ordinal.
    ///
    /// `owners` are the workloads that own the pods, nearest first, this one included.
    pub(super) fn pods(
        &self,
        owners: &[WorkloadRef],
        mut name: impl FnMut(Option<u32>) -> String,
    ) -> Vec<DeclaredPod> {
        match self.count {
            Count::EveryNode => vec![self.pod(owners, name(None), None)],
            Count::Replicas { first, number } => (first..first.saturating_add(number))
                .map(|ordinal| self.pod(owners, name(Some(ordinal)), Some(ordinal)))
                .collect(),
        }
    }

    fn pod(&self, owners: &[WorkloadRef], name: String, ordinal: Option<u32>) -> DeclaredPod {
        let mut labels = self.template.labels.clone();
        if let (WorkloadKind::StatefulSet, Some(ordinal)) = (self.reference.kind, ordinal) {
            // The StatefulSet controller sets these; policies can select a single pod by them.
            labels.insert(
                "statefulset.kubernetes.io/pod-name".to_owned(),
                name.clone(),
            );
            labels.insert(
                "apps.kubernetes.io/pod-index".to_owned(),
                ordinal.to_string(),
            );
        }

        let placement = match (self.count, &self.template.node) {
            (Count::EveryNode, _) => Placement::EveryNode,
            (Count::Replicas { .. }, Some(node)) => Placement::Node(node.clone()),
            (Count::Replicas { .. }, None) => Placement::Anywhere,
        };
        let pod = WorkloadRef {
            kind: WorkloadKind::Pod,
            name: name.clone(),
        };
        DeclaredPod {
            namespace: self.namespace.clone(),
            name,
            labels,
            ports: self.template.ports.clone(),
            workloads: owners.iter().cloned().chain([pod]).collect(),
            host_network: self.template.host_network,
            has_proxy: self.template.has_proxy,
            ready: true,
            placement,
            addresses: Vec::new(),
            probe_ports: self.template.probe_ports.clone(),
        }
    }
}
