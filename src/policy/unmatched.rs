//! What matches no pod: policies that select no pod, peers that match none, and port names that no pod
//! declares. Mostly a label, a namespace or a name is spelt in two ways.
//!
//! # Limitations
//! - Peers that are address blocks, nodes or domain names are not checked: hosts outside are not
//!   known.
//! - A peer that selects the cluster's DNS is not named where there is no DNS: every cluster has it,
//!   and few manifests do.

use super::change::at_origin;
use super::classes::namespace_labels;
use super::near_miss::{describe, is_similar};
use super::rules::{
    Direction, DirectionalPolicy, Namespaces, Peer, PolicyName, Ports, Rule, Rules, Scope,
};
use super::selector::{Operator, Selector};
use crate::inventory::{ContainerPort, Inventory, Labels};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// At most so many labels, namespaces or port names are named in a note.
const MAX_NAMED: usize = 6;

/// The labels of the pods of the cluster's DNS, with every DNS server (Kubernetes, "DNS for Services
/// and Pods").
const DNS_LABEL: (&str, &str) = ("k8s-app", "kube-dns");
const DNS_NAMESPACE: &str = "kube-system";

/// Notes on policies that select no pod, on peers of rules that match none, and on port names that
/// no pod declares that the rule is about; none for an inventory without pods.
///
/// Policies that cannot be read have no notes.
pub fn notes_on_unmatched(inventory: &Inventory) -> Vec<String> {
    let Ok(rules) = Rules::of(inventory) else {
        return Vec::new();
    };
    if inventory.pods.is_empty() {
        return Vec::new();
    }

    let mut population = Population::of(inventory);
    let mut notes = Vec::new();
    let mut named: BTreeSet<&PolicyName> = BTreeSet::new();
    for policy in &rules.policies {
        if !population.has_members(&policy.subject) {
            // A policy of both directions is here twice.
            if named.insert(&policy.name) {
                notes.push(population.no_subject(policy));
            }
        } else if policy.in_force {
            for (index, rule) in policy.rules.iter().enumerate() {
                population.note_rule(policy, index, rule, &mut notes);
            }
        }
    }
    notes
}

/// The pods of a namespace, by their labels.
#[derive(Default)]
struct NamespacePods<'a> {
    labels: Labels,
    /// The declared ports of the pods with each label set.
    pods: BTreeMap<&'a Labels, BTreeSet<&'a ContainerPort>>,
    /// The label sets of pods in their node's network, which nothing selects.
    host_network: BTreeSet<&'a Labels>,
}

/// All pods, and the scopes that were asked about.
struct Population<'a> {
    namespaces: BTreeMap<&'a str, NamespacePods<'a>>,
    /// Whether a scope has a pod.
    known: HashMap<Scope, bool>,
}

impl<'a> Population<'a> {
    fn of(inventory: &'a Inventory) -> Self {
        let mut namespaces: BTreeMap<&str, NamespacePods<'_>> = BTreeMap::new();
        let of_pods = inventory.pods.iter().map(|pod| &pod.namespace);
        for name in inventory.namespaces.keys().chain(of_pods) {
            namespaces.entry(name).or_insert_with(|| NamespacePods {
                labels: namespace_labels(inventory, name),
                ..NamespacePods::default()
            });
        }
        for pod in &inventory.pods {
            let namespace = namespaces.entry(&pod.namespace).or_default();
            if pod.host_network {
                namespace.host_network.insert(&pod.labels);
            } else {
                let ports = namespace.pods.entry(&pod.labels).or_default();
                ports.extend(&pod.ports);
            }
        }
        Self {
            namespaces,
            known: HashMap::new(),
        }
    }

    /// The namespaces that a scope selects.
    fn namespaces_of<'b>(
        &'b self,
        scope: &'b Scope,
    ) -> impl Iterator<Item = (&'a str, &'b NamespacePods<'a>)> {
        self.namespaces
            .iter()
            .map(|(name, pods)| (*name, pods))
            .filter(|(name, pods)| scope.namespaces.selects(name, &pods.labels))
    }

    /// The ports that the pods of a scope declare.
    fn ports_of(&self, scope: &Scope) -> BTreeSet<&'a ContainerPort> {
        self.namespaces_of(scope)
            .flat_map(|(_, namespace)| &namespace.pods)
            .filter(|(labels, _)| scope.pods.matches(labels))
            .flat_map(|(_, ports)| ports.iter().copied())
            .collect()
    }

    fn has_members(&mut self, scope: &Scope) -> bool {
        if let Some(known) = self.known.get(scope) {
            return *known;
        }
        let has_members = self
            .namespaces_of(scope)
            .flat_map(|(_, namespace)| namespace.pods.keys())
            .any(|labels| scope.pods.matches(labels));
        self.known.insert(scope.clone(), has_members);
        has_members
    }

    /// The note on a policy that selects no pod.
    fn no_subject(&self, policy: &DirectionalPolicy) -> String {
        let scope = &policy.subject;
        let title = format!("{} selects no pod", policy.name);
        let host_network = self
            .namespaces_of(scope)
            .flat_map(|(_, namespace)| &namespace.host_network);
        if host_network
            .copied()
            .any(|labels| scope.pods.matches(labels))
        {
            return format!(
                "{title}: those with its labels share their node's network, and no policy selects such pods"
            );
        }
        format!("{title}: {}", self.why_empty(scope))
    }

    /// Adds the notes on a rule of a policy that selects pods.
    fn note_rule(
        &mut self,
        policy: &DirectionalPolicy,
        index: usize,
        rule: &Rule,
        notes: &mut Vec<String>,
    ) {
        let title = format!(
            "{} rule {} of {}{}",
            policy.direction.as_str(),
            index + 1,
            policy.name,
            at_origin(&rule.origin)
        );
        let mut selected = Vec::new();
        for peer in rule.peers.iter().flatten() {
            let Peer::Pods(scope) = peer else { continue };
            if self.has_members(scope) {
                selected.push(scope);
            } else if !selects_dns(scope) {
                let (peer, why) = (describe(peer), self.why_empty(scope));
                notes.push(format!("{title} matches no pod by {peer}: {why}"));
            }
        }

        // Port names are those of the destination.
        let declared: BTreeSet<&ContainerPort> = match (policy.direction, &rule.peers) {
            (Direction::Ingress, _) => self.ports_of(&policy.subject),
            (Direction::Egress, None) => {
                let pods = self.namespaces.values().flat_map(|pods| pods.pods.values());
                pods.flatten().copied().collect()
            }
            (Direction::Egress, Some(_)) if selected.is_empty() => return,
            (Direction::Egress, Some(_)) => selected
                .into_iter()
                .flat_map(|scope| self.ports_of(scope))
                .collect(),
        };
        for ports in rule.ports.iter().flatten() {
            notes.extend(no_port(ports, &declared).map(|why| format!("{title} {why}")));
        }
    }

    /// Why a scope has no pod, and the nearest that there is.
    fn why_empty(&self, scope: &Scope) -> String {
        let mut selected = self.namespaces_of(scope).peekable();
        match &scope.namespaces {
            Namespaces::Matching(selector) if selected.peek().is_none() => {
                let carried = self.namespaces.values().map(|namespace| &namespace.labels);
                self.no_namespace(selector, &labels_with_keys(carried, selector))
            }
            Namespaces::Own(own) if !selected.any(|(_, namespace)| !namespace.pods.is_empty()) => {
                self.no_pods_in(own)
            }
            namespaces => {
                let labels = self
                    .namespaces_of(scope)
                    .flat_map(|(_, namespace)| namespace.pods.keys().copied());
                let carried = labels_with_keys(labels, &scope.pods);
                let there = match namespaces {
                    Namespaces::Own(own) => format!("pods in namespace {own}"),
                    Namespaces::Matching(_) => "pods there".to_owned(),
                };
                format!(
                    "it wants {}, {there} {}",
                    scope.pods,
                    carry(&carried, &scope.pods)
                )
            }
        }
    }

    fn no_namespace(&self, selector: &Selector, carried: &BTreeSet<(String, String)>) -> String {
        let name = selector.requirements.iter().find_map(|requirement| {
            let Operator::In(values) = &requirement.operator else {
                return None;
            };
            // The label `name` is not set by itself; the one that is has another key.
            values
                .iter()
                .find(|value| self.namespaces.contains_key(value.as_str()))
        });
        match name {
            Some(name) => format!(
                "no namespace has {selector}; write kubernetes.io/metadata.name: {name}, which namespace {name} has"
            ),
            None => format!(
                "no namespace has {selector}; they {}",
                carry(carried, selector)
            ),
        }
    }

    fn no_pods_in(&self, namespace: &str) -> String {
        let with_pods = self
            .namespaces
            .iter()
            .filter(|(_, pods)| !pods.pods.is_empty())
            .map(|(name, _)| *name);
        let nearest = with_pods
            .clone()
            .filter(|name| is_similar(name, namespace))
            .min_by_key(|name| strsim::damerau_levenshtein(name, namespace));
        if let Some(nearest) = nearest {
            return format!("namespace {namespace} has no pods; did you mean {nearest}?");
        }

        let named: Vec<&str> = with_pods.take(MAX_NAMED).collect();
        format!(
            "namespace {namespace} has no pods; there are some in {}",
            named.join(", ")
        )
    }
}

/// Whether a scope would select the pods of the cluster's DNS.
fn selects_dns(scope: &Scope) -> bool {
    let (key, value) = DNS_LABEL;
    let pod = Labels::from([(key.to_owned(), value.to_owned())]);
    let namespace = Labels::from([(
        "kubernetes.io/metadata.name".to_owned(),
        DNS_NAMESPACE.to_owned(),
    )]);
    scope.namespaces.selects(DNS_NAMESPACE, &namespace) && scope.pods.matches(&pod)
}

/// Why a port name matches no pod; `None` for a number, and for a name that is declared.
fn no_port(ports: &Ports, declared: &BTreeSet<&ContainerPort>) -> Option<String> {
    let Ports::Named(transport, name) = ports else {
        return None;
    };
    let with_name: Vec<&&ContainerPort> = declared
        .iter()
        .filter(|port| port.name.as_deref() == Some(name))
        .collect();
    let matches = |port: &ContainerPort| transport.is_none_or(|of| port.port.transport() == of);
    if with_name.iter().any(|port| matches(port)) {
        return None;
    }
    if let Some(other) = with_name.first() {
        return Some(format!(
            "matches no pod by port {name}: pods declare it as {}",
            other.port
        ));
    }

    let names: BTreeSet<&str> = declared
        .iter()
        .filter_map(|port| port.name.as_deref())
        .collect();
    let nearest = names.iter().find(|known| is_similar(known, name));
    let there = match nearest {
        Some(nearest) => format!("did you mean {nearest}?"),
        None if names.is_empty() => "they declare none by name".to_owned(),
        None => {
            let names: Vec<&str> = names.into_iter().take(MAX_NAMED).collect();
            format!("they declare {}", names.join(", "))
        }
    };
    Some(format!(
        "matches no pod by port {name}: no pod that it is about declares a port of that name; {there}"
    ))
}

/// The labels among these whose keys a selector names.
fn labels_with_keys<'a>(
    carried: impl Iterator<Item = &'a Labels>,
    selector: &Selector,
) -> BTreeSet<(String, String)> {
    let is_named = |key: &str| {
        let mut requirements = selector.requirements.iter();
        requirements.any(|requirement| requirement.key == key)
    };
    carried
        .flatten()
        .filter(|(key, _)| is_named(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// What objects carry of the keys of a selector, those that are nearly wanted first.
fn carry(carried: &BTreeSet<(String, String)>, selector: &Selector) -> String {
    if carried.is_empty() {
        return "carry none of these keys".to_owned();
    }
    let is_near = |(key, value): &(String, String)| {
        let mut requirements = selector.requirements.iter();
        requirements.any(|requirement| match &requirement.operator {
            Operator::In(values) if requirement.key == *key => {
                values.iter().any(|wanted| is_similar(wanted, value))
            }
            _ => false,
        })
    };
    let (near, others): (Vec<_>, Vec<_>) = carried.iter().partition(|label| is_near(label));
    let labels: Vec<String> = near
        .into_iter()
        .chain(others)
        .take(MAX_NAMED)
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    format!("carry {}", labels.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{NetworkPolicy, Pod, RuleOrigins, read_manifests};
    use crate::source::Sources;
    use k8s_openapi::api::networking::v1::NetworkPolicySpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

    fn inventory(pod_label: &str, policy_label: &str) -> Inventory {
        let labels = |value: &str| Labels::from([("app".to_owned(), value.to_owned())]);
        let pod = Pod {
            namespace: "data".into(),
            name: "postgres-0".into(),
            uid: "1".into(),
            labels: labels(pod_label),
            ports: vec![],
            workloads: vec![],
            host_network: false,
            has_proxy: false,
            ready: true,
            node: "node-1".into(),
            addresses: vec![],
        };
        let spec = NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(labels(policy_label)),
                match_expressions: None,
            }),
            ..Default::default()
        };
        let (namespace, name) = ("data".into(), "postgres".into());
        let policy = NetworkPolicy {
            namespace,
            name,
            spec,
            origin: "p.yaml:1".into(),
            rule_origins: RuleOrigins::default(),
        };
        Inventory {
            pods: vec![pod],
            policies: vec![policy.into()],
            ..Inventory::default()
        }
    }

    #[test]
    fn note_on_a_policy_that_selects_no_pod_names_the_labels_that_pods_carry() {
        let notes = notes_on_unmatched(&inventory("postgres", "postgresql"));
        let expected = "NetworkPolicy data/postgres (p.yaml:1) selects no pod: it wants app=postgresql, \
                        pods in namespace data carry app=postgres";
        assert_eq!(notes, [expected]);
    }

    #[test]
    fn policy_that_selects_a_pod_has_no_note() {
        assert_eq!(
            notes_on_unmatched(&inventory("postgres", "postgres")),
            Vec::<String>::new()
        );
        let mut empty = inventory("postgres", "postgresql");
        empty.pods.clear();
        assert_eq!(notes_on_unmatched(&empty), Vec::<String>::new());
    }

    #[test]
    fn policy_for_host_network_pods_is_noted_as_selecting_no_pod() {
        let mut inventory = inventory("postgres", "postgres");
        inventory.pods[0].host_network = true;
        let expected = "NetworkPolicy data/postgres (p.yaml:1) selects no pod: those with its labels share their node's \
                        network, and no policy selects such pods";
        assert_eq!(notes_on_unmatched(&inventory), [expected]);
    }

    const WORLD: &str = "\
apiVersion: v1
kind: Pod
metadata: { name: web, namespace: prod, labels: { app: web } }
spec: { containers: [{ name: c, ports: [{ name: http, containerPort: 80 }, { name: dns, containerPort: 53, protocol: UDP }] }] }
---
apiVersion: v1
kind: Pod
metadata: { name: cli, namespace: prod, labels: { app: cli } }
spec: { containers: [{ name: c }] }
---
";

    /// The notes on a spec of a NetworkPolicy, without their title.
    fn notes_on(policy: &str) -> Vec<String> {
        let mut sources = Sources::new();
        let file = sources.add("m.yaml", format!("{WORLD}{policy}"));
        let (manifests, diagnostics) = read_manifests(&[file], &sources);
        assert!(
            diagnostics.is_empty(),
            "{}",
            diagnostics.render_compact(&sources)
        );
        notes_on_unmatched(&Inventory::from(&manifests))
    }

    fn network_policy(namespace: &str, spec: &str) -> String {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{ name: p, namespace: {namespace} }}\nspec: {spec}\n"
        )
    }

    #[test]
    fn policy_in_a_namespace_without_pods_is_noted_with_the_nearest_one() {
        assert_eq!(
            notes_on(&network_policy("prodd", "{ podSelector: {} }")),
            [
                "NetworkPolicy prodd/p (m.yaml:11) selects no pod: namespace prodd has no pods; did you mean prod?"
            ]
        );
        assert_eq!(
            notes_on(&network_policy(
                "default",
                "{ podSelector: { matchLabels: { app: web } } }"
            )),
            [
                "NetworkPolicy default/p (m.yaml:11) selects no pod: namespace default has no pods; there are some in prod"
            ]
        );
    }

    #[test]
    fn cluster_policy_without_a_subject_is_noted_once() {
        let policy = "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: { name: p }\nspec: { tier: Admin, priority: 4, \
                      subject: { namespaces: { matchLabels: { tier: none } } }, ingress: [{ action: Deny, from: [{ namespaces: {} }] }], egress: [{ action: Deny, to: [{ namespaces: {} }] }] }\n";
        assert_eq!(
            notes_on(policy),
            [
                "ClusterNetworkPolicy p (m.yaml:11) selects no pod: no namespace has tier=none; they carry none of these keys"
            ]
        );
    }

    #[test]
    fn peers_that_match_no_pod_are_noted_each_with_what_there_is() {
        let peers = "{ podSelector: { matchLabels: { app: clj } } }, { podSelector: { matchLabels: { app: cli } } }, \
                     { namespaceSelector: { matchLabels: { name: prod } } }, { ipBlock: { cidr: 10.0.0.0/8 } }";
        let spec = format!("{{ podSelector: {{}}, ingress: [{{ from: [{peers}] }}] }}");
        assert_eq!(
            notes_on(&network_policy("prod", &spec)),
            [
                "Ingress rule 1 of NetworkPolicy prod/p (m.yaml:11) at m.yaml:14 matches no pod by pods with app=clj in namespace prod: it wants app=clj, pods in namespace prod carry app=cli, app=web",
                "Ingress rule 1 of NetworkPolicy prod/p (m.yaml:11) at m.yaml:14 matches no pod by every pod in namespaces with name=prod: no namespace has name=prod; write kubernetes.io/metadata.name: prod, which namespace prod has",
            ]
        );
        // A policy that selects no pod is noted as a whole, and DNS is in every cluster.
        let spec = format!(
            "{{ podSelector: {{ matchLabels: {{ app: x }} }}, ingress: [{{ from: [{peers}] }}] }}"
        );
        assert_eq!(notes_on(&network_policy("prod", &spec)).len(), 1);
        let dns = "{ podSelector: {}, policyTypes: [Egress], egress: [{ to: [{ namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: kube-system } }, \
                   podSelector: { matchLabels: { k8s-app: kube-dns } } }] }] }";
        assert_eq!(notes_on(&network_policy("prod", dns)), [""; 0]);
    }

    #[test]
    fn port_names_that_no_pod_declares_are_noted() {
        let ingress = |port: &str| {
            let spec = format!(
                "{{ podSelector: {{ matchLabels: {{ app: web }} }}, ingress: [{{ ports: [{{ port: {port} }}] }}] }}"
            );
            notes_on(&network_policy("prod", &spec))
        };
        assert_eq!(ingress("http"), [""; 0]);
        assert_eq!(ingress("8080"), [""; 0]);
        assert!(ingress("htttp")[0].ends_with(
            "matches no pod by port htttp: no pod that it is about declares a port of that name; did you mean http?"
        ));
        assert!(ingress("metrics")[0].ends_with("they declare dns, http"));
        assert!(
            ingress("dns")[0].ends_with("matches no pod by port dns: pods declare it as 53/udp")
        );

        let egress = |to: &str| {
            let spec = format!(
                "{{ podSelector: {{}}, policyTypes: [Egress], egress: [{{ {to} ports: [{{ port: http }}] }}] }}"
            );
            notes_on(&network_policy("prod", &spec))
        };
        assert_eq!(egress(""), [""; 0]);
        assert_eq!(egress("to: [{ ipBlock: { cidr: 10.0.0.0/8 } }],"), [""; 0]);
        assert!(
            egress("to: [{ podSelector: { matchLabels: { app: cli } } }],")[0]
                .ends_with("they declare none by name")
        );
    }
}
