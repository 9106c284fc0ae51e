//! Kinds of pods: two pods are of one kind if no policy can tell them apart.

use super::InvalidPolicy;
use super::rules::{Block, Peer, Rules};
use super::selector::Selector;
use crate::inventory::{Inventory, Pod};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The kind of every pod of an inventory.
///
/// Two pods are of one kind if the same pod selectors of policies match their labels, and the same
/// address blocks contain their addresses: of policies of every kind, in either direction, as
/// subject or as peer. Labels that controllers set on each pod count like any other.
#[derive(Debug, Clone, Default)]
pub struct PodKinds {
    /// By the pod's index in [`Inventory::pods`].
    by_pod: Vec<u32>,
}

impl PodKinds {
    /// Reads all policies of an inventory.
    ///
    /// # Errors
    /// [`InvalidPolicy`]: the first policy that an API server would refuse.
    pub fn of(inventory: &Inventory) -> Result<Self, InvalidPolicy> {
        let criteria = Criteria::of(&Rules::of(inventory)?);
        let mut by_labels: HashMap<Vec<(&str, &str)>, Vec<usize>> = HashMap::new();
        let mut numbers: BTreeMap<(Vec<usize>, Vec<usize>), u32> = BTreeMap::new();
        let mut by_pod = Vec::with_capacity(inventory.pods.len());

        for pod in &inventory.pods {
            let matching = by_labels
                .entry(criteria.labels_of(pod))
                .or_insert_with(|| criteria.matching(pod));
            let kind = (matching.clone(), criteria.blocks_with(pod));
            let next = numbers.len() as u32;
            by_pod.push(*numbers.entry(kind).or_insert(next));
        }
        Ok(Self { by_pod })
    }

    /// The kind of each pod, in the order of [`Inventory::pods`].
    pub fn by_pod(&self) -> &[u32] {
        &self.by_pod
    }
}

/// Everything by which policies tell pods of one namespace apart.
#[derive(Default)]
struct Criteria {
    selectors: Vec<Selector>,
    /// The label keys that the selectors name.
    keys: BTreeSet<String>,
    blocks: BTreeSet<Block>,
}

impl Criteria {
    fn of(rules: &Rules) -> Self {
        let mut criteria = Self::default();
        let mut seen = HashSet::new();
        for policy in &rules.policies {
            criteria.add(&policy.subject.pods, &mut seen);
            for peer in policy.rules.iter().flat_map(|rule| &rule.peers).flatten() {
                match peer {
                    Peer::Pods(scope) => criteria.add(&scope.pods, &mut seen),
                    Peer::Block(block) => drop(criteria.blocks.insert(block.clone())),
                    Peer::Nodes(_) | Peer::Names(_) => {}
                }
            }
        }
        criteria
    }

    fn add(&mut self, selector: &Selector, seen: &mut HashSet<Selector>) {
        let selects_all = selector.requirements.is_empty();
        if selects_all || !seen.insert(selector.clone()) {
            return;
        }
        let requirements = selector.requirements.iter();
        self.keys
            .extend(requirements.map(|requirement| requirement.key.clone()));
        self.selectors.push(selector.clone());
    }

    /// The labels of a pod that any selector names.
    fn labels_of<'p>(&self, pod: &'p Pod) -> Vec<(&'p str, &'p str)> {
        pod.labels
            .iter()
            .filter(|(key, _)| self.keys.contains(*key))
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect()
    }

    /// The selectors that match a pod's labels, by index.
    fn matching(&self, pod: &Pod) -> Vec<usize> {
        let selectors = self.selectors.iter().enumerate();
        selectors
            .filter(|(_, selector)| selector.matches(&pod.labels))
            .map(|(index, _)| index)
            .collect()
    }

    /// The blocks that contain an address of a pod, by index.
    fn blocks_with(&self, pod: &Pod) -> Vec<usize> {
        let blocks = self.blocks.iter().enumerate();
        blocks
            .filter(|(_, block)| pod.addresses.iter().any(|address| block.contains(*address)))
            .map(|(index, _)| index)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{NetworkPolicy, RuleOrigins};

    fn kinds(spec: &serde_json::Value) -> Vec<u32> {
        let policy = NetworkPolicy {
            namespace: "shop".into(),
            name: "p".into(),
            spec: serde_json::from_value(spec.clone()).expect("a spec"),
            origin: String::new(),
            rule_origins: RuleOrigins::default(),
        };
        let pods = (0..3).map(|number| Pod {
            namespace: "shop".into(),
            name: format!("web-{number}"),
            uid: number.to_string(),
            labels: [
                ("app".to_owned(), "web".to_owned()),
                (
                    "statefulset.kubernetes.io/pod-name".to_owned(),
                    format!("web-{number}"),
                ),
            ]
            .into(),
            ports: vec![],
            workloads: vec![],
            host_network: false,
            has_proxy: false,
            ready: true,
            node: "node-1".into(),
            addresses: vec![format!("10.0.{number}.1").parse().expect("an address")],
        });
        let inventory = Inventory {
            pods: pods.collect(),
            policies: vec![policy.into()],
            ..Inventory::default()
        };
        PodKinds::of(&inventory).expect("valid").by_pod().to_vec()
    }

    fn spec(subject: &serde_json::Value, from: &serde_json::Value) -> serde_json::Value {
        serde_json::json!({ "podSelector": subject, "ingress": [{ "from": [from] }] })
    }

    fn all() -> serde_json::Value {
        serde_json::json!({})
    }

    #[test]
    fn replicas_that_no_selector_tells_apart_are_one_kind() {
        let web = serde_json::json!({ "matchLabels": { "app": "web" } });
        let by_app = spec(&web, &serde_json::json!({ "podSelector": web }));
        assert_eq!(kinds(&by_app), [0, 0, 0]);
    }

    #[test]
    fn replica_that_a_peer_or_a_subject_names_is_another_kind() {
        let named = serde_json::json!({
            "matchLabels": { "statefulset.kubernetes.io/pod-name": "web-2" }
        });
        let as_peer = spec(&all(), &serde_json::json!({ "podSelector": named }));
        assert_eq!(kinds(&as_peer), [0, 0, 1]);
        let as_subject = spec(&named, &serde_json::json!({ "podSelector": {} }));
        assert_eq!(kinds(&as_subject), [0, 0, 1]);
    }

    #[test]
    fn replica_within_an_address_block_is_another_kind() {
        let block = serde_json::json!({ "ipBlock": { "cidr": "10.0.1.0/24" } });
        assert_eq!(kinds(&spec(&all(), &block)), [0, 1, 0]);
    }
}
