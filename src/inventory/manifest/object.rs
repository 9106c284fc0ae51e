//! One object of a manifest: its kind, its metadata, and which reader takes it.

use super::cluster_policy;
use super::decode::decode;
use super::fields::check_fields;
use super::pod::{LivePod, read_pod};
use super::policy::check_policy;
use super::problem::{At, Problems, nearest};
use super::selector::check_labels;
use super::service::read_service;
use super::syntax;
use super::workload::{Workload, read_workload};
use crate::inventory::{
    ClusterPolicyKind, Labels, Namespace, NetworkPolicy, Policy, RuleOrigins, Service,
};
use crate::model::{PolicyKind, Scope, WorkloadKind, WorkloadRef};
use k8s_openapi::api::core::v1::{PodSpec, PodStatus, ServiceSpec};
use k8s_openapi::api::networking::v1::NetworkPolicySpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;

/// The namespace of objects that name none, as kubectl has it.
const DEFAULT_NAMESPACE: &str = "default";

/// A kind that is read, with its API group and the version of it.
struct ApiKind {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
}

impl ApiKind {
    const fn new(group: &'static str, version: &'static str, kind: &'static str) -> Self {
        Self {
            group,
            version,
            kind,
        }
    }

    /// `apps/v1`, or `v1` in the core group.
    fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// The kinds that are read besides policies.
const OTHER_KINDS: [ApiKind; 9] = [
    ApiKind::new("", "v1", "Namespace"),
    ApiKind::new("", "v1", "Pod"),
    ApiKind::new("", "v1", "Service"),
    ApiKind::new("apps", "v1", "Deployment"),
    ApiKind::new("apps", "v1", "StatefulSet"),
    ApiKind::new("apps", "v1", "DaemonSet"),
    ApiKind::new("apps", "v1", "ReplicaSet"),
    ApiKind::new("batch", "v1", "Job"),
    ApiKind::new("batch", "v1", "CronJob"),
];

/// All kinds that are read.
fn read_kinds() -> impl Iterator<Item = ApiKind> {
    let policies = PolicyKind::ALL
        .into_iter()
        .map(|kind| ApiKind::new(kind.group(), kind.version(), kind.as_str()));
    OTHER_KINDS.into_iter().chain(policies)
}

/// Whether objects of a kind are in no namespace.
fn is_cluster_scoped(kind: &str) -> bool {
    kind == "Namespace"
        || PolicyKind::parse(kind).is_some_and(|kind| kind.scope() == Scope::Cluster)
}

/// A group that is served no more since Kubernetes 1.22; its kinds live in the groups above.
const RETIRED_GROUP: &str = "extensions";

/// An object whose kind is known to be needed or not.
#[derive(Debug)]
pub(super) struct Item<'a> {
    /// Where it stands.
    pub(super) at: At,
    /// The whole object.
    pub(super) value: &'a Value,
    /// Its kind.
    pub(super) kind: String,
    /// Its apiVersion.
    pub(super) api_version: String,
}

/// Metadata that any needed kind has.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) labels: Labels,
    /// The workload that controls it: an owner of another kind, such as a custom one, cannot be
    /// named in a suite.
    pub(super) owner: Option<WorkloadRef>,
    /// Being deleted: it keeps its address to the end, but is not ready any more.
    pub(super) terminating: bool,
}

/// An object of a needed kind.
#[derive(Debug)]
pub(super) enum Object {
    Namespace(Namespace),
    Pod(LivePod),
    Workload(Workload),
    Service(Service),
    Policy(Policy),
}

/// How an item's kind stands to what is needed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Needed.
    Needed,
    /// Not needed: counted under this name.
    Ignored(String),
    /// An error, which is among the problems.
    Faulty,
}

impl Item<'_> {
    /// Whether this kind is needed. Kinds of other groups never are, even if they share a name:
    /// Calico has a NetworkPolicy too.
    pub(super) fn need(&self, problems: &mut Problems) -> Need {
        let (group, version) = self
            .api_version
            .split_once('/')
            .unwrap_or(("", &self.api_version));
        let at = &self.at;
        let same_kind: Vec<ApiKind> = read_kinds()
            .filter(|known| known.kind == self.kind)
            .collect();
        if group == RETIRED_GROUP
            && let Some(known) = same_kind.first()
        {
            problems
                .error(
                    at.key("apiVersion"),
                    format!("{} is in {} no more", self.kind, self.api_version),
                )
                .help(format!("write apiVersion: {}", known.api_version()));
            return Need::Faulty;
        }

        let same_group: Vec<&str> = read_kinds()
            .filter(|known| known.group == group)
            .map(|known| known.kind)
            .collect();
        if same_group.is_empty() {
            return Need::Ignored(format!("{} ({group})", self.kind));
        }

        if let Some(known) = same_kind.iter().find(|known| known.group == group) {
            if version == known.version {
                return Need::Needed;
            }
            problems
                .error(
                    at.key("apiVersion"),
                    format!("{} is not served as {}", self.kind, self.api_version),
                )
                .help(format!("write apiVersion: {}", known.api_version()));
            return Need::Faulty;
        }

        // A misspelt NetworkPolicy that is ignored would be a world without that policy.
        let nearest = nearest(&self.kind, same_group);
        if let Some(kind) = nearest.filter(|kind| is_misspelt(&self.kind, kind)) {
            problems
                .error(
                    at.key("kind"),
                    format!("there is no kind {:?} in {}", self.kind, self.api_version),
                )
                .help(format!("did you mean {kind}?"));
            return Need::Faulty;
        }

        Need::Ignored(self.kind.clone())
    }

    /// Reads an object of a needed kind, with its metadata; `None` after an error.
    ///
    /// `origin` writes a place for people.
    pub(super) fn read(
        &self,
        origin: &dyn Fn(&At) -> String,
        problems: &mut Problems,
    ) -> Option<(Meta, Object)> {
        let before = problems.len();
        if self.kind == "NetworkPolicy" {
            check_fields(self.value, &self.at, problems);
        }
        let meta = self.meta(problems);
        let object = self.object(meta.as_ref(), origin, problems);
        match (meta, object) {
            (Some(meta), Some(object)) if problems.len() == before => Some((meta, object)),
            _ => None,
        }
    }

    /// Reads the part that only its kind has; goes on after faulty metadata, so that all faults
    /// show at once.
    fn object(
        &self,
        meta: Option<&Meta>,
        origin: &dyn Fn(&At) -> String,
        problems: &mut Problems,
    ) -> Option<Object> {
        let unnamed = Meta {
            namespace: String::new(),
            name: String::new(),
            labels: Labels::new(),
            owner: None,
            terminating: false,
        };
        let meta = meta.unwrap_or(&unnamed);
        let at = &self.at;
        let spec = self.value.get("spec");
        let at_spec = at.key("spec");
        if self.kind != "Namespace" && matches!(spec, None | Some(Value::Null)) {
            problems.error(at.clone(), format!("this {} has no spec", self.kind));
            return None;
        }
        if let Some(kind) = PolicyKind::parse(&self.kind) {
            return self
                .policy(kind, meta, origin, problems)
                .map(Object::Policy);
        }
        match self.kind.as_str() {
            "Namespace" => {
                // The API server sets this label and lets nobody change it (strategy of core/v1
                // namespaces).
                let mut labels = meta.labels.clone();
                labels.insert("kubernetes.io/metadata.name".to_owned(), meta.name.clone());
                Some(Object::Namespace(Namespace {
                    name: meta.name.clone(),
                    labels,
                }))
            }
            "Pod" => {
                let spec: Option<PodSpec> = decode(spec, &at_spec, problems);
                let status: Option<PodStatus> =
                    decode(self.value.get("status"), &at.key("status"), problems);
                Some(Object::Pod(read_pod(meta, &spec?, &status?, at, problems)))
            }
            "Service" => {
                let spec: ServiceSpec = decode(spec, &at_spec, problems)?;
                Some(Object::Service(read_service(meta, &spec, at, problems)))
            }
            kind => {
                let workload =
                    read_workload(WorkloadKind::parse(kind)?, meta, self.value, at, problems)?;
                Some(Object::Workload(workload))
            }
        }
    }

    fn policy(
        &self,
        kind: PolicyKind,
        meta: &Meta,
        origin: &dyn Fn(&At) -> String,
        problems: &mut Problems,
    ) -> Option<Policy> {
        match kind {
            PolicyKind::NetworkPolicy => self
                .network_policy(meta, origin, problems)
                .map(Policy::from),
            PolicyKind::ClusterNetworkPolicy
            | PolicyKind::AdminNetworkPolicy
            | PolicyKind::BaselineAdminNetworkPolicy => {
                let kind = ClusterPolicyKind::of(kind)?;
                cluster_policy::read(kind, meta, self.value, &self.at, origin, problems)
                    .map(Policy::from)
            }
        }
    }

    fn network_policy(
        &self,
        meta: &Meta,
        origin: &dyn Fn(&At) -> String,
        problems: &mut Problems,
    ) -> Option<NetworkPolicy> {
        let at_spec = self.at.key("spec");
        let spec: NetworkPolicySpec = decode(self.value.get("spec"), &at_spec, problems)?;
        check_policy(&spec, &at_spec, problems);
        let rule_origins = |direction: &'static str, rules: usize| {
            let at = at_spec.key(direction);
            (0..rules).map(|index| origin(&at.index(index))).collect()
        };
        let rule_origins = RuleOrigins {
            ingress: rule_origins("ingress", spec.ingress.as_ref().map_or(0, Vec::len)),
            egress: rule_origins("egress", spec.egress.as_ref().map_or(0, Vec::len)),
        };
        Some(NetworkPolicy {
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            spec,
            origin: origin(&self.at),
            rule_origins,
        })
    }

    fn meta(&self, problems: &mut Problems) -> Option<Meta> {
        let at = self.at.key("metadata");
        let meta: ObjectMeta = decode(self.value.get("metadata"), &at, problems)?;
        let labels = meta.labels.unwrap_or_default();
        check_labels(&labels, &at.key("labels"), problems);
        let namespace = meta
            .namespace
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        let namespace = if is_cluster_scoped(&self.kind) {
            String::new()
        } else {
            namespace
        };
        if !namespace.is_empty() {
            problems.check(
                &at.key("namespace"),
                "namespace",
                &namespace,
                syntax::dns_label(&namespace),
            );
        }
        let Some(name) = meta.name.filter(|name| !name.is_empty()) else {
            let problem = problems.error(at, format!("this {} has no name", self.kind));
            if meta.generate_name.is_some() {
                problem
                    .help("results refer to objects by name: write a name instead of generateName");
            }
            return None;
        };
        let spelling = match self.kind.as_str() {
            "Namespace" | "Service" => syntax::dns_label(&name),
            _ => syntax::dns_subdomain(&name),
        };
        problems.check(&at.key("name"), "name", &name, spelling);
        Some(Meta {
            namespace,
            name,
            labels,
            owner: owner_of(meta.owner_references.as_deref().unwrap_or_default()),
            terminating: meta.deletion_timestamp.is_some(),
        })
    }
}

/// The workload that controls an object, among its owners.
pub(super) fn owner_of(owners: &[OwnerReference]) -> Option<WorkloadRef> {
    let controller = owners.iter().find(|owner| owner.controller == Some(true))?;
    let is_kubernetes = matches!(
        controller.api_version.split('/').next(),
        Some("apps" | "batch")
    );
    let kind = WorkloadKind::parse(&controller.kind).filter(|_| is_kubernetes)?;
    Some(WorkloadRef {
        kind,
        name: controller.name.clone(),
    })
}

/// Whether a kind is so near to a needed one that it can only be meant: other case, or up to two
/// letters in a long word. Short words are too near to kinds that exist (`Node` to `Pod`).
fn is_misspelt(kind: &str, needed: &str) -> bool {
    kind.eq_ignore_ascii_case(needed)
        || (needed.len() > 6 && strsim::damerau_levenshtein(kind, needed) <= 2)
}
