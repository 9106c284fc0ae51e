//! From single objects to [`Manifests`]: duplicates, owners, and the pods that templates make.
//!
//! # Which pods
//!
//! A dump of a cluster (`kubectl get all -o yaml`) holds a Deployment, its ReplicaSets and their
//! pods: the same pods three times. Where pods that a workload owns are given, they are taken and
//! its template is not; a workload whose owner is given makes no pods of its own.
//!
//! # Names
//!
//! Pods of a template are `NAME-0`, `NAME-1`, ... for every kind, as a StatefulSet's are. Where
//! that name is taken (a Deployment and a StatefulSet of one name), pods of the other kinds carry
//! theirs: `NAME-deployment-0`. A DaemonSet's one entry has the DaemonSet's name until it is placed
//! on nodes.

use super::lists::open_lists;
use super::object::{Item, Meta, Need, Object};
use super::pod::LivePod;
use super::problem::{At, Problem, Problems};
use super::workload::{Count, Workload};
use crate::inventory::{DeclaredPod, Labels, Manifests, Namespace};
use crate::model::{WorkloadKind, WorkloadRef};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Makes manifests of documents. `origin` writes a place as `file:line`.
///
/// With any problem the manifests are incomplete and must not be used.
pub(super) fn assemble(
    documents: &[Value],
    origin: impl Fn(&At) -> String,
) -> (Manifests, Vec<Problem>) {
    let mut problems = Problems::default();
    let mut world = World::default();
    for (number, document) in documents.iter().enumerate() {
        for item in open_lists(document, At::root(number), &mut problems) {
            match item.need(&mut problems) {
                Need::Needed => world.add(&item, &origin, &mut problems),
                Need::Ignored(kind) => {
                    *world.manifests.ignored.entry(kind).or_default() += 1;
                    world.manifests.touch_namespace(item.value);
                }
                Need::Faulty => {}
            }
        }
    }
    let manifests = world.finish(&mut problems);
    (manifests, problems.into_vec())
}

/// Something that stands for pods, in the order of declaration.
enum PodSource {
    Live(LivePod),
    Template(Workload, At),
}

/// All objects, before it is known whose pods are whose.
#[derive(Default)]
struct World {
    manifests: Manifests,
    /// Where each object stands: kind, namespace, name.
    places: BTreeMap<(String, String, String), At>,
    sources: Vec<PodSource>,
    /// The owner of each given workload.
    workloads: BTreeMap<(String, WorkloadRef), Option<WorkloadRef>>,
}

impl World {
    fn add(&mut self, item: &Item<'_>, origin: &dyn Fn(&At) -> String, problems: &mut Problems) {
        let Some((meta, object)) = item.read(origin, problems) else {
            return;
        };
        if !self.is_new(item, &meta, problems) {
            return;
        }
        if !meta.namespace.is_empty() {
            self.manifests.name_namespace(&meta.namespace);
        }
        match object {
            Object::Namespace(namespace) => {
                self.manifests
                    .namespaces
                    .insert(namespace.name.clone(), namespace);
            }
            Object::Pod(pod) => self.sources.push(PodSource::Live(pod)),
            Object::Workload(workload) => {
                self.workloads.insert(
                    (meta.namespace, workload.itself.clone()),
                    workload.owner.clone(),
                );
                self.sources
                    .push(PodSource::Template(workload, item.at.clone()));
            }
            Object::Service(service) => self.manifests.services.push(service),
            Object::Policy(policy) => self.manifests.policies.push(policy),
        }
    }

    fn is_new(&mut self, item: &Item<'_>, meta: &Meta, problems: &mut Problems) -> bool {
        let key = (item.kind.clone(), meta.namespace.clone(), meta.name.clone());
        let at = item.at.keys(["metadata", "name"]);
        let Some(first) = self.places.get(&key) else {
            self.places.insert(key, at);
            return true;
        };
        let prefix = if meta.namespace.is_empty() {
            String::new()
        } else {
            format!("{}/", meta.namespace)
        };
        problems
            .error(
                at,
                format!(
                    "{} {prefix}{} stands here a second time",
                    item.kind, meta.name
                ),
            )
            .also(first.clone(), "the first");
        false
    }

    fn finish(mut self, problems: &mut Problems) -> Manifests {
        let sources = std::mem::take(&mut self.sources);
        // Pods that have run to their end count here too: their workload is one that has been
        // dumped.
        let covered: BTreeSet<(String, WorkloadRef)> = sources
            .iter()
            .filter_map(|source| match source {
                PodSource::Live(live) => Some(live),
                PodSource::Template(..) => None,
            })
            .flat_map(|live| {
                let namespace = live.pod.namespace.clone();
                self.live_chain(live)
                    .into_iter()
                    .map(move |workload| (namespace.clone(), workload))
            })
            .collect();
        let makes_pods = |workload: &Workload| {
            let is_given = |owner: &WorkloadRef| {
                self.workloads
                    .contains_key(&(workload.namespace.clone(), owner.clone()))
            };
            !covered.contains(&(workload.namespace.clone(), workload.itself.clone()))
                && !self
                    .owners(&workload.namespace, workload.owner.clone(), None)
                    .iter()
                    .any(is_given)
        };
        let mut names = Names::of(&sources, &makes_pods, &self.places, problems);
        let mut pods: Vec<DeclaredPod> = Vec::new();
        for source in &sources {
            match source {
                PodSource::Live(live) if live.finished => {}
                PodSource::Live(live) => {
                    let mut pod = live.pod.clone();
                    pod.workloads.splice(0..0, self.live_chain(live));
                    pods.push(pod);
                }
                PodSource::Template(workload, _) if makes_pods(workload) => {
                    let mut chain = vec![workload.itself.clone()];
                    chain.extend(self.owners(&workload.namespace, workload.owner.clone(), None));
                    pods.extend(workload.pods(&chain, |ordinal| names.give(workload, ordinal)));
                }
                PodSource::Template(..) => {}
            }
        }
        self.manifests.pods = pods;
        self.manifests
    }

    fn live_chain(&self, live: &LivePod) -> Vec<WorkloadRef> {
        self.owners(
            &live.pod.namespace,
            live.owner.clone(),
            Some(&live.pod.labels),
        )
    }

    /// The workloads from the nearest owner on, whether given or only named.
    fn owners(
        &self,
        namespace: &str,
        nearest: Option<WorkloadRef>,
        labels: Option<&Labels>,
    ) -> Vec<WorkloadRef> {
        let mut chain: Vec<WorkloadRef> = Vec::new();
        let mut next = nearest;
        while let Some(workload) = next.filter(|workload| !chain.contains(workload)) {
            next = match self
                .workloads
                .get(&(namespace.to_owned(), workload.clone()))
            {
                Some(owner) => owner.clone(),
                None => labels.and_then(|labels| deployment_of(&workload, labels)),
            };
            chain.push(workload);
        }
        chain
    }
}

/// The Deployment of a ReplicaSet that is not given itself: its controller names it
/// `DEPLOYMENT-HASH` and labels the pods with the hash (`getNewReplicaSet` in
/// pkg/controller/deployment/sync.go).
pub(super) fn deployment_of(replica_set: &WorkloadRef, labels: &Labels) -> Option<WorkloadRef> {
    let hash = labels
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

/// Pod names that are taken, by namespace and name.
struct Names(BTreeSet<(String, String)>);

impl Names {
    /// The names that nobody else may have: of given pods, and of the pods of StatefulSets.
    fn of(
        sources: &[PodSource],
        makes_pods: &impl Fn(&Workload) -> bool,
        places: &BTreeMap<(String, String, String), At>,
        problems: &mut Problems,
    ) -> Self {
        let mut names = BTreeSet::new();
        for source in sources {
            if let PodSource::Live(live) = source {
                names.insert((live.pod.namespace.clone(), live.pod.name.clone()));
            }
        }
        for source in sources {
            let PodSource::Template(workload, at) = source else {
                continue;
            };
            let Count::Replicas { first, number } = workload.count else {
                continue;
            };
            if workload.itself.kind != WorkloadKind::StatefulSet || !makes_pods(workload) {
                continue;
            }
            for ordinal in first..first.saturating_add(number) {
                let name = format!("{}-{ordinal}", workload.itself.name);
                let place =
                    places.get(&("Pod".to_owned(), workload.namespace.clone(), name.clone()));
                if !names.insert((workload.namespace.clone(), name.clone()))
                    && let Some(place) = place
                {
                    problems
                        .error(
                            at.keys(["metadata", "name"]),
                            format!(
                                "{} would make a Pod {name}, which is given too",
                                workload.itself
                            ),
                        )
                        .also(place.clone(), "the Pod, which is not owned by it");
                }
            }
        }
        Self(names)
    }

    /// A name for a pod of a template that nothing else has.
    fn give(&mut self, workload: &Workload, ordinal: Option<u32>) -> String {
        let WorkloadRef { kind, name } = &workload.itself;
        let end = ordinal
            .map(|ordinal| format!("-{ordinal}"))
            .unwrap_or_default();
        let plain = format!("{name}{end}");
        if *kind == WorkloadKind::StatefulSet {
            return plain;
        }
        let kind = kind.as_str().to_ascii_lowercase();
        let others = (1_u32..).map(|number| match number {
            1 => format!("{name}-{kind}{end}"),
            more => format!("{name}-{kind}-{more}{end}"),
        });
        std::iter::once(plain)
            .chain(others)
            .find(|name| self.0.insert((workload.namespace.clone(), name.clone())))
            .unwrap_or_default()
    }
}

impl Manifests {
    /// Adds a namespace that an object names, unless it is there.
    fn name_namespace(&mut self, name: &str) {
        self.namespaces
            .entry(name.to_owned())
            .or_insert_with(|| Namespace {
                name: name.to_owned(),
                labels: Labels::from([("kubernetes.io/metadata.name".to_owned(), name.to_owned())]),
            });
    }

    /// Adds the namespace of an object that is not needed itself.
    fn touch_namespace(&mut self, object: &Value) {
        let name = object
            .pointer("/metadata/namespace")
            .and_then(Value::as_str);
        if let Some(name) = name.filter(|name| super::syntax::dns_label(name).is_ok()) {
            self.name_namespace(name);
        }
    }
}
