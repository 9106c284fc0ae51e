//! Workloads: controllers with a template for pods.

use super::decode::decode;
use super::object::Meta;
use super::pod::Template;
use super::problem::{At, Problems};
use super::selector::check_selector;
use crate::inventory::{DeclaredPod, Labels, Placement};
use crate::model::{WorkloadKind, WorkloadRef};
use k8s_openapi::api::apps::v1::{DaemonSetSpec, DeploymentSpec, ReplicaSetSpec, StatefulSetSpec};
use k8s_openapi::api::batch::v1::{CronJobSpec, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube_core::{Selector, SelectorExt};
use serde_json::Value;

/// More pods of one workload are taken for a slip of the keyboard; ten times what the lab was
/// measured with.
const MAX_REPLICAS: u32 = 10_000;

/// A controller and the pods that its template would make.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    pub(super) namespace: String,
    pub(super) itself: WorkloadRef,
    /// The workload that controls it.
    pub(super) owner: Option<WorkloadRef>,
    /// How many pods, and where.
    pub(super) count: Count,
    pub(super) template: Template,
}

/// How many pods a workload wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// So many, numbered from `first`.
    Replicas { first: u32, number: u32 },
    /// One on every node.
    EveryNode,
}

/// Reads a workload; `None` for kinds that are none and after a wrong type.
pub(super) fn read_workload(
    kind: WorkloadKind,
    meta: &Meta,
    object: &Value,
    at: &At,
    problems: &mut Problems,
) -> Option<Workload> {
    let spec = object.get("spec");
    let at_status = at.key("status");
    let at = at.key("spec");
    let one = Count::Replicas {
        first: 0,
        number: 1,
    };
    let (selector, template, at_template, count) = match kind {
        WorkloadKind::Deployment => {
            let spec: DeploymentSpec = decode(spec, &at, problems)?;
            let count = replicas(spec.replicas, 0, &at.key("replicas"), problems);
            (
                Some(spec.selector),
                spec.template,
                at.key("template"),
                count,
            )
        }
        WorkloadKind::ReplicaSet => {
            let spec: ReplicaSetSpec = decode(spec, &at, problems)?;
            let count = replicas(spec.replicas, 0, &at.key("replicas"), problems);
            (
                Some(spec.selector),
                spec.template.unwrap_or_default(),
                at.key("template"),
                count,
            )
        }
        WorkloadKind::StatefulSet => {
            let spec: StatefulSetSpec = decode(spec, &at, problems)?;
            let first = spec
                .ordinals
                .and_then(|ordinals| ordinals.start)
                .unwrap_or(0);
            let count = replicas(spec.replicas, first, &at.key("replicas"), problems);
            (
                Some(spec.selector),
                spec.template,
                at.key("template"),
                count,
            )
        }
        WorkloadKind::DaemonSet => {
            let spec: DaemonSetSpec = decode(spec, &at, problems)?;
            (
                Some(spec.selector),
                spec.template,
                at.key("template"),
                Count::EveryNode,
            )
        }
        WorkloadKind::Job => {
            let spec: JobSpec = decode(spec, &at, problems)?;
            let status: JobStatus = decode(object.get("status"), &at_status, problems)?;
            let (template, count) = job(spec, &at, problems);
            let none = Count::Replicas {
                first: 0,
                number: 0,
            };
            (
                None,
                template,
                at.key("template"),
                if is_over(&status) { none } else { count },
            )
        }
        WorkloadKind::CronJob => {
            let spec: CronJobSpec = decode(spec, &at, problems)?;
            let at = at.keys(["jobTemplate", "spec"]);
            let (template, count) = job(spec.job_template.spec.unwrap_or_default(), &at, problems);
            (None, template, at.key("template"), count)
        }
        WorkloadKind::Pod => (None, PodTemplateSpec::default(), at, one),
    };
    let before = problems.len();
    let mut read = Template::read(&template, &at_template, problems);
    if let Some(selector) = selector {
        check_match(&selector, &read.labels, &at_template, problems, before);
    }
    if kind == WorkloadKind::Job {
        // The API server adds these to the template of every Job (generateSelector in
        // pkg/registry/batch/job).
        for key in ["job-name", "batch.kubernetes.io/job-name"] {
            read.labels.insert(key.to_owned(), meta.name.clone());
        }
    }
    Some(Workload {
        namespace: meta.namespace.clone(),
        itself: WorkloadRef {
            kind,
            name: meta.name.clone(),
        },
        owner: meta.owner.clone(),
        count,
        template: read,
    })
}

/// Pods of a Job that run at the same time. A CronJob's next run may be any time: its `suspend`
/// does not count.
fn job(spec: JobSpec, at: &At, problems: &mut Problems) -> (PodTemplateSpec, Count) {
    let wanted = match (spec.parallelism, spec.completions) {
        (Some(parallelism), Some(completions)) => parallelism.min(completions),
        (parallelism, _) => parallelism.unwrap_or(1),
    };
    let wanted = if spec.suspend == Some(true) {
        0
    } else {
        wanted
    };
    (
        spec.template,
        replicas(Some(wanted), 0, &at.key("parallelism"), problems),
    )
}

/// Whether a Job has run to its end.
fn is_over(status: &JobStatus) -> bool {
    let over = |kind: &str| matches!(kind, "Complete" | "Failed");
    status
        .conditions
        .iter()
        .flatten()
        .any(|condition| over(&condition.type_) && condition.status == "True")
}

/// One replica unless written (`SetDefaults_Deployment` and its like).
fn replicas(wanted: Option<i32>, first: i32, at: &At, problems: &mut Problems) -> Count {
    let wanted = wanted.unwrap_or(1);
    let number = match u32::try_from(wanted) {
        Ok(number @ 0..=MAX_REPLICAS) => number,
        Ok(number) => {
            problems.error(
                at.clone(),
                format!("{number} pods of one workload; at most {MAX_REPLICAS} can be tested"),
            );
            0
        }
        Err(_) => {
            problems.error(at.clone(), format!("{wanted} must not be negative"));
            0
        }
    };
    let first = u32::try_from(first).unwrap_or_else(|_| {
        problems.error(
            at.clone(),
            format!("ordinals start at {first}, which must not be negative"),
        );
        0
    });
    Count::Replicas { first, number }
}

/// Checks that the selector is one and that it selects the template's own pods, as the API server
/// demands.
fn check_match(
    selector: &LabelSelector,
    labels: &Labels,
    at: &At,
    problems: &mut Problems,
    before: usize,
) {
    let at_selector = At {
        document: at.document,
        steps: at.steps.iter().take(at.steps.len() - 1).cloned().collect(),
    }
    .key("selector");
    check_selector(selector, &at_selector, problems);
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
            at_selector,
            "a workload needs a selector, and it must not be empty",
        );
        return;
    }
    // A faulty selector or label is reported already; its not matching would only repeat that.
    if problems.len() > before {
        return;
    }
    if let Ok(parsed) = Selector::try_from(selector.clone())
        && !parsed.matches(labels)
    {
        let shown: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let shown = if shown.is_empty() {
            "none".to_owned()
        } else {
            shown.join(", ")
        };
        problems
            .error(
                at.keys(["metadata", "labels"]),
                format!("the template's labels do not match the selector; they are: {shown}"),
            )
            .help("the API server refuses such a workload: write each label of the selector into the template")
            .also(at_selector, format!("the selector: {parsed}"));
    }
}

impl Workload {
    /// The pods that the template makes, under the names that `name` makes of their ordinals.
    pub(super) fn pods(
        &self,
        chain: &[WorkloadRef],
        mut name: impl FnMut(Option<u32>) -> String,
    ) -> Vec<DeclaredPod> {
        let make = |name: String, ordinal: Option<u32>| {
            let mut labels = self.template.labels.clone();
            if let (WorkloadKind::StatefulSet, Some(ordinal)) = (self.itself.kind, ordinal) {
                // Set by the StatefulSet controller; policies select single members by them.
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
                workloads: chain.iter().cloned().chain([pod]).collect(),
                host_network: self.template.host_network,
                has_proxy: self.template.has_proxy,
                ready: true,
                placement,
                addresses: Vec::new(),
            }
        };
        match self.count {
            Count::EveryNode => vec![make(name(None), None)],
            Count::Replicas { first, number } => (first..first.saturating_add(number))
                .map(|ordinal| make(name(Some(ordinal)), Some(ordinal)))
                .collect(),
        }
    }
}
