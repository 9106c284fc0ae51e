//! Pods by selector, with a cache of the selections.

use super::ranges::Ranges;
use crate::inventory::{Inventory, Labels, Pod};
use crate::model::Family;
use kube_core::{Expression, Selector, SelectorExt};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

/// Index into the pods of an [`PodIndex`].
pub(super) type PodId = usize;

/// The pods that a selector selects, with their addresses.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// In order of namespace and name.
    pub(super) pods: Vec<PodId>,
    pub(super) v4: Ranges,
    pub(super) v6: Ranges,
}

/// The namespaces in which a selector applies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    Namespace(String),
    /// Namespaces whose labels match all expressions.
    Matching(Vec<Expression>),
}

/// Index of the pods with their own network. Selectors match no pod in its node's network, which is
/// the more common of the two behaviours that Kubernetes permits.
pub(super) struct PodIndex<'a> {
    pods: Vec<&'a Pod>,
    namespaces: BTreeMap<&'a str, NamespacePods<'a>>,
    namespace_labels: BTreeMap<&'a str, Labels>,
    cache: BTreeMap<(Scope, Vec<Expression>), Rc<Selection>>,
}

/// The pods of one namespace.
#[derive(Default)]
struct NamespacePods<'a> {
    all: Vec<PodId>,
    /// Pods by label key and value: nearly every selector requires an exact label.
    by_label: HashMap<&'a str, HashMap<&'a str, Vec<PodId>>>,
}

impl<'a> PodIndex<'a> {
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

        let namespace_labels = namespaces
            .keys()
            .map(|name| {
                let mut labels = inventory
                    .namespaces
                    .get(*name)
                    .map(|namespace| namespace.labels.clone())
                    .unwrap_or_default();
                // The API server sets this label on every namespace (namespace strategy).
                labels
                    .entry("kubernetes.io/metadata.name".to_owned())
                    .or_insert_with(|| (*name).to_owned());
                (*name, labels)
            })
            .collect();
        Self {
            pods,
            namespaces,
            namespace_labels,
            cache: BTreeMap::new(),
        }
    }

    pub(super) fn pod(&self, id: PodId) -> &'a Pod {
        self.pods[id]
    }

    /// All pods, in order of namespace and name.
    pub(super) fn all(&self) -> std::ops::Range<PodId> {
        0..self.pods.len()
    }

    /// Selects pods in a scope; an empty selector selects all of them.
    pub(super) fn select(&mut self, scope: Scope, pods: Selector) -> Rc<Selection> {
        let key = (scope, pods.into_iter().collect::<Vec<_>>());
        if let Some(cached) = self.cache.get(&key) {
            return Rc::clone(cached);
        }
        let selection = Rc::new(self.find(&key.0, &key.1));
        self.cache.insert(key, Rc::clone(&selection));
        selection
    }

    fn find(&self, scope: &Scope, expressions: &[Expression]) -> Selection {
        let mut pods = Vec::new();
        for (name, namespace) in &self.namespaces {
            if self.is_in_scope(name, scope) {
                let candidates = namespace.candidates(expressions).iter().copied();
                pods.extend(candidates.filter(|id| all_match(expressions, &self.pods[*id].labels)));
            }
        }
        Selection {
            v4: self.addresses(&pods, Family::V4),
            v6: self.addresses(&pods, Family::V6),
            pods,
        }
    }

    fn is_in_scope(&self, namespace: &str, scope: &Scope) -> bool {
        match scope {
            Scope::Namespace(name) => name == namespace,
            Scope::Matching(expressions) => self
                .namespace_labels
                .get(namespace)
                .is_some_and(|labels| all_match(expressions, labels)),
        }
    }

    /// The addresses of pods in one family.
    fn addresses(&self, pods: &[PodId], family: Family) -> Ranges {
        let addresses = pods.iter().filter_map(|id| self.pods[*id].address(family));
        Ranges::union(addresses.map(|address: IpAddr| (address, address)))
    }
}

fn all_match(expressions: &[Expression], labels: &Labels) -> bool {
    expressions
        .iter()
        .all(|expression| expression.matches(labels))
}

impl NamespacePods<'_> {
    /// A small superset of the pods that match: those with one of the required labels, or all.
    fn candidates(&self, expressions: &[Expression]) -> &[PodId] {
        let by_label = expressions
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
        by_label.min_by_key(|pods| pods.len()).unwrap_or(&self.all)
    }
}
