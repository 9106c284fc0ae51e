//! One object of a manifest: whether its kind is read, its metadata, and the reader of its kind.

use super::cluster_policy;
use super::decode::decode;
use super::fields::{check_object_fields, check_policy_fields};
use super::node::read_node;
use super::pod::{PodObject, read_pod};
use super::policy::check_network_policy;
use super::problem::{FieldPath, Problems};
use super::selector::check_labels;
use super::service::read_service;
use super::syntax;
use super::workload::{Workload, read_workload};
use crate::inventory::unread::is_unread_policy;
use crate::inventory::{
    ClusterPolicyKind, Labels, Namespace, NetworkPolicy, Node, Policy, RuleOrigins, Service,
};
use crate::model::{PolicyKind, Scope, WorkloadKind, WorkloadRef};
use k8s_openapi::api::core::v1::{NodeStatus, PodSpec, PodStatus, ServiceSpec};
use k8s_openapi::api::networking::v1::NetworkPolicySpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;

/// The namespace of objects that name none, as with kubectl.
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
const OTHER_KINDS: [ApiKind; 10] = [
    ApiKind::new("", "v1", "Namespace"),
    ApiKind::new("", "v1", "Node"),
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
    matches!(kind, "Namespace" | "Node")
        || PolicyKind::parse(kind).is_some_and(|kind| kind.scope() == Scope::Cluster)
}

/// A group that the API server serves no more since Kubernetes 1.22; its kinds are in the groups
/// above.
const RETIRED_GROUP: &str = "extensions";

/// The groups of Kubernetes' own kinds and of the policies. A kind that is read belongs to one of
/// them, so that it is a mistake in another, and no kind of another project.
const KUBERNETES_GROUPS: [&str; 10] = [
    "",
    "apps",
    "autoscaling",
    "batch",
    "discovery.k8s.io",
    "networking.k8s.io",
    "policy",
    "policy.networking.k8s.io",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
];

/// An object as it is written.
#[derive(Debug)]
pub(super) struct RawObject<'a> {
    pub(super) path: FieldPath,
    pub(super) value: &'a Value,
    pub(super) kind: String,
    pub(super) api_version: String,
}

/// The metadata that objects of every kind have.
#[derive(Debug, Clone, Default)]
pub(super) struct Metadata {
    /// Empty for cluster-wide kinds.
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) labels: Labels,
    /// The workload that controls it. `None` for an owner of another kind, such as a custom one,
    /// which a suite cannot name.
    pub(super) owner: Option<WorkloadRef>,
    /// Whether it is being deleted: it keeps its address to the end, but is not ready any more.
    pub(super) terminating: bool,
}

/// An object of a kind that is read.
#[derive(Debug)]
pub(super) enum Object {
    Namespace(Namespace),
    Node(Node),
    Pod(PodObject),
    Workload(Workload),
    Service(Service),
    Policy(Policy),
}

/// Whether an object is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Classification {
    Read,
    /// A policy of a kind that is not read, by its kind and group.
    UnreadPolicy(String),
    /// Not read; counted under this name.
    Ignored(String),
    /// Neither: the kind or version is wrong, which is among the problems.
    Invalid,
}

/// Writes a field path as `file:line`.
pub(super) type Origin<'a> = &'a dyn Fn(&FieldPath) -> String;

impl RawObject<'_> {
    /// Whether this kind is read. Kinds of other groups are not, even if they share a name: Calico
    /// has a NetworkPolicy too.
    pub(super) fn classify(&self, problems: &mut Problems) -> Classification {
        let (group, version) = self
            .api_version
            .split_once('/')
            .unwrap_or(("", &self.api_version));
        let same_kind: Vec<ApiKind> = read_kinds()
            .filter(|known| known.kind == self.kind)
            .collect();
        if group == RETIRED_GROUP
            && let Some(known) = same_kind.first()
        {
            problems
                .error(
                    self.path.key("apiVersion"),
                    format!("{} is no longer served as {}", self.kind, self.api_version),
                )
                .help(format!("write apiVersion: {}", known.api_version()));
            return Classification::Invalid;
        }

        if let Some(known) = same_kind.iter().find(|known| known.group == group) {
            if version == known.version {
                return Classification::Read;
            }
            problems
                .error(
                    self.path.key("apiVersion"),
                    format!("{} is not served as {}", self.kind, self.api_version),
                )
                .help(format!("write apiVersion: {}", known.api_version()));
            return Classification::Invalid;
        }

        // Ignoring a policy of a misspelt kind or group would mean to test without that policy.
        if let Some(meant) = self.misspelt(group) {
            let problem = problems.error(
                self.path.key("kind"),
                format!("there is no kind {:?} in {}", self.kind, self.api_version),
            );
            problem.help(if meant.group == group {
                format!("did you mean {}?", meant.kind)
            } else {
                format!(
                    "did you mean {}, with apiVersion: {}?",
                    meant.kind,
                    meant.api_version()
                )
            });
            return Classification::Invalid;
        }

        let kind = if KUBERNETES_GROUPS.contains(&group) {
            self.kind.clone()
        } else {
            format!("{} ({group})", self.kind)
        };
        if is_unread_policy(group, &self.kind) {
            Classification::UnreadPolicy(kind)
        } else {
            Classification::Ignored(kind)
        }
    }

    /// The kind that is meant by a misspelt kind, by one in another of Kubernetes' own groups, or by
    /// one in a misspelt group.
    fn misspelt(&self, group: &str) -> Option<ApiKind> {
        let is_kubernetes = KUBERNETES_GROUPS.contains(&group);
        let is_meant = |known: &ApiKind| {
            is_misspelt(&self.kind, known.kind)
                && (is_kubernetes || is_misspelt(group, known.group))
        };
        read_kinds().filter(is_meant).min_by_key(|known| {
            let of_kind = strsim::damerau_levenshtein(&self.kind, known.kind);
            (of_kind, known.group != group)
        })
    }

    /// Reads an object of a kind that is read, with its metadata; `None` after an error.
    pub(super) fn read(
        &self,
        origin: Origin<'_>,
        problems: &mut Problems,
    ) -> Option<(Metadata, Object)> {
        let problems_before = problems.len();
        if let Some(kind) = PolicyKind::parse(&self.kind) {
            check_policy_fields(kind, self.value, &self.path, problems);
        } else {
            check_object_fields(&self.kind, self.value, &self.path, problems);
            // What a misspelt field leaves absent would be a second problem of the same cause.
            if problems.len() > problems_before {
                return None;
            }
        }
        let metadata = self.metadata(problems);
        // Reading goes on after faulty metadata, so that all problems are reported at once.
        let object = self.object(&metadata.clone().unwrap_or_default(), origin, problems);
        match (metadata, object) {
            (Some(metadata), Some(object)) if problems.len() == problems_before => {
                Some((metadata, object))
            }
            _ => None,
        }
    }

    /// Reads all but the metadata.
    fn object(
        &self,
        meta: &Metadata,
        origin: Origin<'_>,
        problems: &mut Problems,
    ) -> Option<Object> {
        if self.kind == "Namespace" {
            return Some(Object::Namespace(namespace(meta)));
        }
        if self.kind == "Node" {
            let status = self.value.get("status");
            let status: NodeStatus = decode(status, &self.path.key("status"), problems)?;
            return Some(Object::Node(read_node(meta, &status)));
        }
        let spec = self.value.get("spec");
        if matches!(spec, None | Some(Value::Null)) {
            problems.error(self.path.clone(), format!("this {} has no spec", self.kind));
            return None;
        }
        if let Some(kind) = PolicyKind::parse(&self.kind) {
            let policy = self.policy(kind, meta, origin, problems)?;
            return Some(Object::Policy(policy));
        }

        let path = &self.path;
        match self.kind.as_str() {
            "Pod" => {
                let status = self.value.get("status");
                let spec: Option<PodSpec> = decode(spec, &path.key("spec"), problems);
                let status: Option<PodStatus> = decode(status, &path.key("status"), problems);
                let pod = read_pod(meta, &spec?, &status?, path, problems);
                Some(Object::Pod(pod))
            }
            "Service" => {
                let spec: ServiceSpec = decode(spec, &path.key("spec"), problems)?;
                let service = read_service(meta, &spec, path, problems);
                Some(Object::Service(service))
            }
            kind => {
                let kind = WorkloadKind::parse(kind)?;
                let workload = read_workload(kind, meta, self.value, path, problems)?;
                Some(Object::Workload(workload))
            }
        }
    }

    fn policy(
        &self,
        kind: PolicyKind,
        meta: &Metadata,
        origin: Origin<'_>,
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
                cluster_policy::read(kind, meta, self.value, &self.path, origin, problems)
                    .map(Policy::from)
            }
        }
    }

    fn network_policy(
        &self,
        meta: &Metadata,
        origin: Origin<'_>,
        problems: &mut Problems,
    ) -> Option<NetworkPolicy> {
        let spec_path = self.path.key("spec");
        let spec: NetworkPolicySpec = decode(self.value.get("spec"), &spec_path, problems)?;
        check_network_policy(&spec, &spec_path, problems);
        let rule_origins = |direction: &'static str, rules: usize| {
            let path = spec_path.key(direction);
            (0..rules).map(|index| origin(&path.index(index))).collect()
        };
        let rule_origins = RuleOrigins {
            ingress: rule_origins("ingress", spec.ingress.as_ref().map_or(0, Vec::len)),
            egress: rule_origins("egress", spec.egress.as_ref().map_or(0, Vec::len)),
        };
        Some(NetworkPolicy {
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            spec,
            origin: origin(&self.path),
            rule_origins,
        })
    }

    fn metadata(&self, problems: &mut Problems) -> Option<Metadata> {
        let path = self.path.key("metadata");
        let meta: ObjectMeta = decode(self.value.get("metadata"), &path, problems)?;
        let labels = meta.labels.unwrap_or_default();
        check_labels(&labels, &path.key("labels"), problems);
        let namespace = self.namespace_of(meta.namespace, &path, problems);

        let Some(name) = meta.name.filter(|name| !name.is_empty()) else {
            let problem = problems.error(path, format!("this {} has no name", self.kind));
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
        problems.check(&path.key("name"), "name", &name, spelling);

        Some(Metadata {
            namespace,
            name,
            labels,
            owner: owner_of(meta.owner_references.as_deref().unwrap_or_default()),
            terminating: meta.deletion_timestamp.is_some(),
        })
    }

    /// The namespace, checked; empty for a cluster-wide kind.
    fn namespace_of(
        &self,
        namespace: Option<String>,
        path: &FieldPath,
        problems: &mut Problems,
    ) -> String {
        if is_cluster_scoped(&self.kind) {
            return String::new();
        }
        let namespace = namespace
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        problems.check(
            &path.key("namespace"),
            "namespace",
            &namespace,
            syntax::dns_label(&namespace),
        );
        namespace
    }
}

/// A namespace with the label that the API server sets and lets no client change (strategy of
/// core/v1 namespaces).
fn namespace(meta: &Metadata) -> Namespace {
    let mut labels = meta.labels.clone();
    labels.insert("kubernetes.io/metadata.name".to_owned(), meta.name.clone());
    Namespace {
        name: meta.name.clone(),
        labels,
    }
}

/// The workload among an object's owners that controls it.
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

/// Whether a kind or a group is a known one, or a misspelling of it: another case, or up to two edits
/// in a word of more than six letters. Shorter words are too near to others that exist (`Node` to
/// `Pod`), and `networking.k8s.aws`, which exists, is three edits away.
fn is_misspelt(word: &str, known: &str) -> bool {
    word.eq_ignore_ascii_case(known)
        || (known.len() > 6 && strsim::damerau_levenshtein(word, known) <= 2)
}
