//! From single objects to [`Manifests`]: duplicates, owners, and the pods that templates make.
//!
//! # Which pods
//!
//! A dump of a cluster (`kubectl get all -o yaml`) holds a Deployment, its ReplicaSets and their
//! pods: the same pods three times. Where a workload's pods are listed, they are taken and its
//! template is not; a workload whose owner is listed makes no pods.
//!
//! # Names
//!
//! Pods of a template are `NAME-0`, `NAME-1`, ... for every kind, as a StatefulSet's are. Where
//! that name is taken (a Deployment and a StatefulSet of one name), the names of pods of other
//! kinds contain the kind: `NAME-deployment-0`. A DaemonSet has one entry, with the DaemonSet's
//! name, until it is placed on nodes.

use super::lists::objects_of;
use super::object::{Classification, Metadata, Object, Origin, RawObject};
use super::pod::PodObject;
use super::problem::{FieldPath, Problem, Problems};
use super::workload::{Count, Workload};
use crate::inventory::{DeclaredPod, Labels, Manifests, Namespace, UnreadPolicy};
use crate::model::{WorkloadKind, WorkloadRef};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Makes manifests of documents.
///
/// With any problem the manifests are incomplete and must not be used.
pub(super) fn assemble(documents: &[Value], origin: Origin<'_>) -> (Manifests, Vec<Problem>) {
    let mut problems = Problems::default();
    let mut assembly = Assembly::default();
    for (index, document) in documents.iter().enumerate() {
        for raw in objects_of(document, FieldPath::root(index), &mut problems) {
            match raw.classify(&mut problems) {
                Classification::Read => assembly.add(&raw, origin, &mut problems),
                Classification::UnreadPolicy(kind) => {
                    let policy = unread_policy(&raw, kind, origin);
                    let manifests = &mut assembly.manifests;
                    manifests.unread_policies.push(policy);
                    manifests.add_namespace_of(raw.value);
                }
                Classification::Ignored(kind) => {
                    let manifests = &mut assembly.manifests;
                    *manifests.ignored.entry(kind).or_default() += 1;
                    manifests.add_namespace_of(raw.value);
                }
                Classification::Invalid => {}
            }
        }
    }

    let manifests = assembly.finish(&mut problems);
    (manifests, problems.into_vec())
}

/// A policy of a kind that is not read, with what its metadata says.
fn unread_policy(raw: &RawObject<'_>, kind: String, origin: Origin<'_>) -> UnreadPolicy {
    let of_metadata = |field: &str| {
        let metadata = raw.value.get("metadata");
        let text = metadata.and_then(|metadata| metadata.get(field)?.as_str());
        text.unwrap_or_default().to_owned()
    };
    UnreadPolicy {
        kind,
        namespace: of_metadata("namespace"),
        name: of_metadata("name"),
        origin: origin(&raw.path),
    }
}

/// An object that pods come from, in the order of declaration.
enum PodSource {
    Pod(PodObject),
    /// A workload with a template, and the path of the object.
    Template(Workload, FieldPath),
}

/// The key of a declared object.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct ObjectKey {
    kind: String,
    namespace: String,
    name: String,
}

/// Paths of the names of the declared objects.
type NamePaths = BTreeMap<ObjectKey, FieldPath>;

/// All objects, before the owners of pods are known.
#[derive(Default)]
struct Assembly {
    manifests: Manifests,
    name_paths: NamePaths,
    pod_sources: Vec<PodSource>,
    /// The owner of each listed workload, by namespace and workload.
    workloads: BTreeMap<(String, WorkloadRef), Option<WorkloadRef>>,
}

impl Assembly {
    fn add(&mut self, raw: &RawObject<'_>, origin: Origin<'_>, problems: &mut Problems) {
        let Some((meta, object)) = raw.read(origin, problems) else {
            return;
        };
        if !self.is_new(raw, &meta, problems) {
            return;
        }
        if !meta.namespace.is_empty() {
            self.manifests.ensure_namespace(&meta.namespace);
        }

        match object {
            Object::Namespace(namespace) => {
                let name = namespace.name.clone();
                self.manifests.namespaces.insert(name, namespace);
            }
            Object::Node(node) => {
                self.manifests.nodes.insert(node.name.clone(), node);
            }
            Object::Pod(pod) => self.pod_sources.push(PodSource::Pod(pod)),
            Object::Workload(workload) => {
                let key = (meta.namespace, workload.reference.clone());
                self.workloads.insert(key, workload.owner.clone());
                let source = PodSource::Template(workload, raw.path.clone());
                self.pod_sources.push(source);
            }
            Object::Service(service) => self.manifests.services.push(service),
            Object::Policy(policy) => self.manifests.policies.push(policy),
        }
    }

    /// Whether no object with the same kind, namespace and name was declared before; otherwise adds
    /// a problem.
    fn is_new(&mut self, raw: &RawObject<'_>, meta: &Metadata, problems: &mut Problems) -> bool {
        let key = ObjectKey {
            kind: raw.kind.clone(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
        };
        let path = raw.path.keys(["metadata", "name"]);
        let Some(first) = self.name_paths.get(&key) else {
            self.name_paths.insert(key, path);
            return true;
        };

        let name = if meta.namespace.is_empty() {
            meta.name.clone()
        } else {
            format!("{}/{}", meta.namespace, meta.name)
        };
        problems
            .error(
                path,
                format!("{} {name} is declared a second time", raw.kind),
            )
            .related(first.clone(), "the first");
        false
    }

    fn finish(mut self, problems: &mut Problems) -> Manifests {
        let sources = self.pod_sources_that_count();
        let mut names = PodNames::taken_by(&sources, &self.name_paths, problems);

        let mut pods: Vec<DeclaredPod> = Vec::new();
        for source in &sources {
            match source {
                PodSource::Pod(object) if object.finished => {}
                PodSource::Pod(object) => {
                    let mut pod = object.pod.clone();
                    pod.workloads.splice(0..0, self.owners_of_pod(object));
                    pods.push(pod);
                }
                PodSource::Template(workload, _) => {
                    let mut owners = vec![workload.reference.clone()];
                    owners.extend(self.owners_of_workload(workload));
                    pods.extend(workload.pods(&owners, |ordinal| names.assign(workload, ordinal)));
                }
            }
        }
        self.manifests.pods = pods;
        self.manifests
    }

    /// All pods, and the templates that make pods: those of workloads without listed pods and
    /// without a listed owner.
    fn pod_sources_that_count(&mut self) -> Vec<PodSource> {
        let sources = std::mem::take(&mut self.pod_sources);
        let mut workloads_with_pods: BTreeSet<(String, WorkloadRef)> = BTreeSet::new();
        for source in &sources {
            // Finished pods count here too: their workload has been dumped with its pods.
            if let PodSource::Pod(object) = source {
                let owners = self.owners_of_pod(object).into_iter();
                let namespace = &object.pod.namespace;
                workloads_with_pods.extend(owners.map(|owner| (namespace.clone(), owner)));
            }
        }

        let counts = |source: &PodSource| match source {
            PodSource::Pod(_) => true,
            PodSource::Template(workload, _) => {
                let key = (workload.namespace.clone(), workload.reference.clone());
                !workloads_with_pods.contains(&key) && !self.has_listed_owner(workload)
            }
        };
        sources.into_iter().filter(counts).collect()
    }

    fn has_listed_owner(&self, workload: &Workload) -> bool {
        self.owners_of_workload(workload).into_iter().any(|owner| {
            let key = (workload.namespace.clone(), owner);
            self.workloads.contains_key(&key)
        })
    }

    fn owners_of_workload(&self, workload: &Workload) -> Vec<WorkloadRef> {
        self.owners(&workload.namespace, workload.owner.clone(), None)
    }

    fn owners_of_pod(&self, object: &PodObject) -> Vec<WorkloadRef> {
        let pod = &object.pod;
        self.owners(&pod.namespace, object.owner.clone(), Some(&pod.labels))
    }

    /// The workloads from the nearest owner outwards, whether listed or only referred to.
    fn owners(
        &self,
        namespace: &str,
        nearest: Option<WorkloadRef>,
        pod_labels: Option<&Labels>,
    ) -> Vec<WorkloadRef> {
        let mut owners: Vec<WorkloadRef> = Vec::new();
        let mut next = nearest;
        // Owner references in a circle end where they meet themselves.
        while let Some(workload) = next.filter(|workload| !owners.contains(workload)) {
            let key = (namespace.to_owned(), workload.clone());
            next = match self.workloads.get(&key) {
                Some(owner) => owner.clone(),
                None => pod_labels.and_then(|labels| deployment_of(&workload, labels)),
            };
            owners.push(workload);
        }
        owners
    }
}

/// The Deployment of a ReplicaSet that is not listed: the Deployment controller names a ReplicaSet
/// `DEPLOYMENT-HASH` and labels its pods with the hash (`getNewReplicaSet` in
/// pkg/controller/deployment/sync.go).
pub(super) fn deployment_of(replica_set: &WorkloadRef, pod_labels: &Labels) -> Option<WorkloadRef> {
    let hash = pod_labels
        .get("pod-template-hash")
        .filter(|_| replica_set.kind == WorkloadKind::ReplicaSet)?;
    let name = replica_set
        .name
        .strip_suffix(hash)?
        .strip_suffix('-')
        .filter(|name| !name.is_empty())?;
    Some(WorkloadRef {
        kind: WorkloadKind::Deployment,
        name: name.to_owned(),
    })
}

/// The pod names that are taken, by namespace and name.
struct PodNames(BTreeSet<(String, String)>);

impl PodNames {
    /// The fixed names: of listed pods, and of the pods of StatefulSets.
    fn taken_by(sources: &[PodSource], name_paths: &NamePaths, problems: &mut Problems) -> Self {
        let listed = sources.iter().filter_map(|source| match source {
            PodSource::Pod(object) => Some((object.pod.namespace.clone(), object.pod.name.clone())),
            PodSource::Template(..) => None,
        });
        let mut names = Self(listed.collect());

        for source in sources {
            if let PodSource::Template(workload, path) = source
                && workload.reference.kind == WorkloadKind::StatefulSet
            {
                names.take_for_stateful_set(workload, path, name_paths, problems);
            }
        }
        names
    }

    fn take_for_stateful_set(
        &mut self,
        workload: &Workload,
        path: &FieldPath,
        name_paths: &NamePaths,
        problems: &mut Problems,
    ) {
        let Count::Replicas { first, number } = workload.count else {
            return;
        };
        for ordinal in first..first.saturating_add(number) {
            let name = format!("{}-{ordinal}", workload.reference.name);
            let is_free = self.0.insert((workload.namespace.clone(), name.clone()));
            let pod = ObjectKey {
                kind: "Pod".to_owned(),
                namespace: workload.namespace.clone(),
                name: name.clone(),
            };
            if let Some(pod_path) = name_paths.get(&pod).filter(|_| !is_free) {
                problems
                    .error(
                        path.keys(["metadata", "name"]),
                        format!(
                            "{} would make a Pod {name}, which is listed too",
                            workload.reference
                        ),
                    )
                    .related(pod_path.clone(), "the Pod, which is not owned by it");
            }
        }
    }

    /// Takes a name for a pod of a template.
    fn assign(&mut self, workload: &Workload, ordinal: Option<u32>) -> String {
        let WorkloadRef { kind, name } = &workload.reference;
        let suffix = ordinal
            .map(|ordinal| format!("-{ordinal}"))
            .unwrap_or_default();
        let plain = format!("{name}{suffix}");
        // These names are taken already, for this very pod.
        if *kind == WorkloadKind::StatefulSet {
            return plain;
        }

        let kind = kind.as_str().to_ascii_lowercase();
        let alternatives = (1_u32..).map(|number| match number {
            1 => format!("{name}-{kind}{suffix}"),
            _ => format!("{name}-{kind}-{number}{suffix}"),
        });
        std::iter::once(plain)
            .chain(alternatives)
            .find(|name| self.0.insert((workload.namespace.clone(), name.clone())))
            .unwrap_or_default()
    }
}

impl Manifests {
    /// Adds a namespace that an object names, unless it is there.
    fn ensure_namespace(&mut self, name: &str) {
        self.namespaces
            .entry(name.to_owned())
            .or_insert_with(|| Namespace::unlabelled(name));
    }

    /// Adds the namespace of an object that is not read.
    fn add_namespace_of(&mut self, object: &Value) {
        let name = object
            .pointer("/metadata/namespace")
            .and_then(Value::as_str);
        if let Some(name) = name.filter(|name| super::syntax::dns_label(name).is_ok()) {
            self.ensure_namespace(name);
        }
    }
}
