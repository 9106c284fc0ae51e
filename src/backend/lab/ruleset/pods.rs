//! Which pods a selector selects, asked once for each distinct selector.

use super::ranges::Ranges;
use crate::inventory::{Inventory, Labels, Pod};
use crate::model::Family;
use kube_core::{Expression, Selector, SelectorExt};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

/// Index into the pods of an [`Index`].
pub(super) type PodId = usize;

/// A selection of pods, with their addresses.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// In order of namespace and name.
    pub(super) pods: Vec<PodId>,
    pub(super) v4: Ranges,
    pub(super) v6: Ranges,
}

/// Where pods are looked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// One namespace.
    Namespace(String),
    /// Those whose labels match.
    Matching(Vec<Expression>),
}

/// Pods with an identity of their own: those that share their node's network have the node's, and
/// no selector matches them (the usual one of the two behaviours that Kubernetes permits).
pub(super) struct Index<'a> {
    pods: Vec<&'a Pod>,
    namespaces: BTreeMap<&'a str, NamespacePods<'a>>,
    labels_of: BTreeMap<&'a str, Labels>,
    known: BTreeMap<(Scope, Vec<Expression>), Rc<Selection>>,
}

/// The pods of one namespace.
#[derive(Default)]
struct NamespacePods<'a> {
    all: Vec<PodId>,
    /// Pods by one label: nearly every selector asks for one.
    by_label: HashMap<&'a str, HashMap<&'a str, Vec<PodId>>>,
}

impl<'a> Index<'a> {
    pub(super) fn new(inventory: &'a Inventory) -> Self {
        let mut pods: Vec<&Pod> = inventory
            .pods
            .iter()
            .filter(|pod| !pod.host_network)
            .collect();
        pods.sort_by_key(|pod| (&pod.namespace, &pod.name));
        let mut namespaces: BTreeMap<&str, NamespacePods<'a>> = BTreeMap::new();
        for (id, pod) in pods.iter().enumerate() {
            let namespace = namespaces.entry(&pod.namespace).or_default();
            namespace.all.push(id);
            for (key, value) in &pod.labels {
                namespace
                    .by_label
                    .entry(key)
                    .or_default()
                    .entry(value)
                    .or_default()
                    .push(id);
            }
        }
        let labels_of = namespaces
            .keys()
            .map(|name| {
                let mut labels = inventory
                    .namespaces
                    .get(*name)
                    .map(|space| space.labels.clone())
                    .unwrap_or_default();
                // Every namespace of a cluster has it (namespace strategy of the API server).
                labels
                    .entry("kubernetes.io/metadata.name".to_owned())
                    .or_insert_with(|| (*name).to_owned());
                (*name, labels)
            })
            .collect();
        Self {
            pods,
            namespaces,
            labels_of,
            known: BTreeMap::new(),
        }
    }

    pub(super) fn pod(&self, id: PodId) -> &'a Pod {
        self.pods[id]
    }

    /// All pods, in order of namespace and name.
    pub(super) fn all(&self) -> std::ops::Range<PodId> {
        0..self.pods.len()
    }

    /// The pods that a selector selects in a scope; an empty selector selects all of them.
    pub(super) fn select(&mut self, scope: Scope, pods: Selector) -> Rc<Selection> {
        let key = (scope, pods.into_iter().collect::<Vec<_>>());
        if let Some(known) = self.known.get(&key) {
            return Rc::clone(known);
        }
        let found = Rc::new(self.find(&key.0, &key.1));
        self.known.insert(key, Rc::clone(&found));
        found
    }

    fn find(&self, scope: &Scope, expressions: &[Expression]) -> Selection {
        let in_scope = |name: &str, labels: &Labels| match scope {
            Scope::Namespace(only) => only == name,
            Scope::Matching(namespace) => namespace
                .iter()
                .all(|expression| expression.matches(labels)),
        };
        let mut pods = Vec::new();
        for (name, namespace) in &self.namespaces {
            if self
                .labels_of
                .get(name)
                .is_some_and(|labels| in_scope(name, labels))
            {
                let matching = namespace.candidates(expressions).iter().copied();
                pods.extend(matching.filter(|id| {
                    expressions
                        .iter()
                        .all(|one| one.matches(&self.pods[*id].labels))
                }));
            }
        }
        let of = |family| {
            let addresses = pods.iter().filter_map(|id| self.pods[*id].address(family));
            Ranges::union(addresses.map(|address: IpAddr| (address, address)))
        };
        Selection {
            v4: of(Family::V4),
            v6: of(Family::V6),
            pods,
        }
    }
}

impl NamespacePods<'_> {
    /// Few pods among which all matching ones are.
    fn candidates(&self, expressions: &[Expression]) -> &[PodId] {
        let equal = expressions
            .iter()
            .filter_map(|expression| match expression {
                Expression::Equal(key, value) => {
                    let pods = self
                        .by_label
                        .get(key.as_str())
                        .and_then(|values| values.get(value.as_str()));
                    Some(pods.map_or(&[][..], Vec::as_slice))
                }
                _ => None,
            });
        equal.min_by_key(|pods| pods.len()).unwrap_or(&self.all)
    }
}
