//! The inventory after manifests are applied to it.
//!
//! # Limitations
//! - A workload that has pods keeps their number; pods of a new workload have no node and no
//!   address.
//! - Nothing is removed: objects that the manifests do not have stay.
//! - Labels of a namespace that the manifests do not have stay, as with `kubectl apply` for labels
//!   that others have set.

use super::declared::pod as declared_pod;
use super::{
    DeclaredPod, Inventory, Labels, Manifests, Namespace, Node, Pod, Policy, Service,
    identity_labels,
};
use crate::model::{WorkloadKind, WorkloadRef};
use std::collections::BTreeSet;
use std::net::IpAddr;

impl Inventory {
    /// The inventory after these manifests are applied.
    #[must_use]
    pub fn with_applied(&self, manifests: &Manifests) -> Self {
        let mut after = self.clone();
        for namespace in manifests.namespaces.values() {
            after.apply_namespace(namespace);
        }
        for node in manifests.nodes.values() {
            after.apply_node(node);
        }
        for policy in &manifests.policies {
            after.apply_policy(policy);
        }
        for service in &manifests.services {
            after.apply_service(service);
        }
        let unread = manifests.unread_policies.iter().cloned();
        after.unread_policies.extend(unread);
        after.apply_pods(&manifests.pods, self);
        after
    }

    fn apply_namespace(&mut self, namespace: &Namespace) {
        let existing = self
            .namespaces
            .entry(namespace.name.clone())
            .or_insert_with(|| namespace.clone());
        existing.labels.extend(namespace.labels.clone());
    }

    /// Adds a node, or the labels of one that exists: its kubelet keeps its addresses.
    fn apply_node(&mut self, node: &Node) {
        let mut nodes = self.nodes.iter_mut();
        match nodes.find(|existing| existing.name == node.name) {
            Some(existing) => existing.labels.extend(node.labels.clone()),
            None => self.nodes.push(node.clone()),
        }
    }

    fn apply_policy(&mut self, policy: &Policy) {
        replace_or_push(&mut self.policies, policy.clone(), |a, b| {
            a.reference() == b.reference()
        });
    }

    fn apply_service(&mut self, service: &Service) {
        let mut service = service.clone();
        let existing = self
            .services
            .iter()
            .find(|existing| existing.object() == service.object());
        if let Some(existing) = existing {
            // The API server keeps the addresses and families that it has assigned.
            if service.addresses.is_empty() && service.kind == existing.kind {
                service.addresses.clone_from(&existing.addresses);
            }
            if service.families.is_empty() {
                service.families.clone_from(&existing.families);
            }
        }
        replace_or_push(&mut self.services, service, |a, b| a.object() == b.object());
    }

    /// Updates the pods of workloads that have some, by the first declared pod of each workload,
    /// and adds the pods of new workloads.
    fn apply_pods(&mut self, declared_pods: &[DeclaredPod], before: &Self) {
        let mut applied: BTreeSet<(&str, WorkloadRef)> = BTreeSet::new();
        for declared in declared_pods {
            let namespace = declared.namespace.as_str();
            let workload = outermost_workload(&declared.workloads);
            let is_first = applied.insert((namespace, workload.clone()));
            if is_first && self.has_pods_of(namespace, &workload) {
                self.update_pods_of(namespace, &workload, declared);
            } else if is_first || !before.has_pods_of(namespace, &workload) {
                self.pods.push(declared_pod(declared));
            }
        }
    }

    fn has_pods_of(&self, namespace: &str, workload: &WorkloadRef) -> bool {
        self.pods
            .iter()
            .any(|pod| pod.namespace == namespace && pod.workloads.contains(workload))
    }

    fn update_pods_of(&mut self, namespace: &str, workload: &WorkloadRef, declared: &DeclaredPod) {
        let Self { pods, nodes, .. } = self;
        for pod in pods {
            if pod.namespace == namespace && pod.workloads.contains(workload) {
                let node = nodes.iter().find(|node| node.name == pod.node);
                let node_addresses = node.map(|node| node.addresses.as_slice());
                update(pod, declared, node_addresses.unwrap_or_default());
            }
        }
    }
}

/// The outermost workload; the pod itself where no workload owns it.
fn outermost_workload(workloads: &[WorkloadRef]) -> WorkloadRef {
    let outermost = workloads
        .iter()
        .rev()
        .find(|workload| workload.kind != WorkloadKind::Pod)
        .or(workloads.last());
    outermost.cloned().unwrap_or(WorkloadRef {
        kind: WorkloadKind::Pod,
        name: String::new(),
    })
}

/// Makes a pod its own successor: with the labels and ports of the new template, and the labels
/// that controllers have set.
fn update(pod: &mut Pod, declared: &DeclaredPod, node_addresses: &[IpAddr]) {
    let identity = identity_labels(&pod.labels);
    let of_controllers: Labels = pod
        .labels
        .iter()
        .filter(|(key, _)| !identity.contains_key(*key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    pod.labels = identity_labels(&declared.labels);
    pod.labels.extend(of_controllers);
    pod.ports.clone_from(&declared.ports);

    if pod.host_network != declared.host_network {
        pod.host_network = declared.host_network;
        pod.addresses = if pod.host_network {
            node_addresses.to_vec()
        } else {
            Vec::new()
        };
    }
}

/// Replaces the item that is the same object, or adds a new one at the end.
fn replace_or_push<T>(items: &mut Vec<T>, new: T, is_same: impl Fn(&T, &T) -> bool) {
    match items.iter_mut().find(|item| is_same(item, &new)) {
        Some(item) => *item = new,
        None => items.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::read_manifests;
    use crate::source::Sources;

    fn manifests(text: &str) -> Manifests {
        let mut sources = Sources::new();
        let file = sources.add("manifests.yaml", text);
        let (manifests, diagnostics) = read_manifests(&[file], &sources);
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        manifests
    }

    fn deployment(name: &str, labels: &str, replicas: u32) -> String {
        format!(
            "---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: shop}}, spec: {{replicas: {replicas}, \
             selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}{labels}}}}}, \
             spec: {{containers: [{{name: c, image: i, ports: [{{containerPort: 8080}}]}}]}}}}}}}}\n"
        )
    }

    fn policy(name: &str, app: &str) -> String {
        format!(
            "---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {name}, namespace: shop}}, \
             spec: {{podSelector: {{matchLabels: {{app: {app}}}}}}}}}\n"
        )
    }

    /// Two pods of web as in a cluster, one of api, a policy, and a namespace with another label.
    fn cluster() -> Inventory {
        let text = deployment("web", "", 2) + &deployment("api", "", 1) + &policy("isolate", "api");
        let mut inventory = Inventory::from(&manifests(&text));
        for (number, pod) in inventory.pods.iter_mut().enumerate() {
            pod.name = format!("{}-5d9f-{number}", pod.name);
            pod.node = "node-1".into();
            pod.addresses = vec![std::net::IpAddr::from([10, 0, 0, number as u8 + 1])];
            pod.labels.insert("pod-template-hash".into(), "5d9f".into());
        }
        for policy in &mut inventory.policies {
            if let Policy::Network(policy) = policy {
                policy.origin = String::new();
            }
        }
        let shop = inventory.namespaces.get_mut("shop").expect("the namespace");
        shop.labels.insert("team".into(), "a".into());
        inventory
    }

    #[test]
    fn empty_manifests_change_nothing() {
        let before = cluster();
        let after = before.with_applied(&Manifests::default());
        assert_eq!(
            (&after.pods, &after.policies, &after.namespaces),
            (&before.pods, &before.policies, &before.namespaces)
        );
    }

    #[test]
    fn a_policy_replaces_the_one_with_its_name_and_a_new_one_is_added() {
        let after = cluster().with_applied(&manifests(
            &(policy("isolate", "web") + &policy("more", "api")),
        ));
        let names: Vec<(&str, bool)> = after
            .policies
            .iter()
            .map(|policy| (policy.name(), policy.origin().is_empty()))
            .collect();
        assert_eq!(names, [("isolate", false), ("more", false)]);
        let policy = after.network_policies().next().expect("a policy");
        let selector = policy
            .spec
            .pod_selector
            .as_ref()
            .and_then(|selector| selector.match_labels.as_ref());
        assert_eq!(
            selector
                .and_then(|labels| labels.get("app"))
                .map(String::as_str),
            Some("web")
        );
    }

    #[test]
    fn pods_of_a_workload_get_its_new_labels_and_keep_their_nodes_and_addresses() {
        let before = cluster();
        let after = before.with_applied(&manifests(&deployment("web", ", tier: front", 5)));
        assert_eq!(
            after.pods.len(),
            before.pods.len(),
            "the number of pods does not change"
        );
        for (was, is) in before.pods.iter().zip(&after.pods) {
            assert_eq!(
                (&was.name, &was.node, &was.addresses),
                (&is.name, &is.node, &is.addresses)
            );
            let is_web = is.labels.get("app").is_some_and(|app| app == "web");
            assert_eq!(
                is.labels.get("tier").map(String::as_str),
                is_web.then_some("front"),
                "{}",
                is.name
            );
            assert_eq!(
                is.labels.get("pod-template-hash").map(String::as_str),
                Some("5d9f")
            );
        }
        // A label that the template no longer has is removed.
        let reverted = after.with_applied(&manifests(&deployment("web", "", 5)));
        assert!(
            reverted
                .pods
                .iter()
                .all(|pod| !pod.labels.contains_key("tier"))
        );
    }

    #[test]
    fn a_new_workload_gets_all_of_its_pods() {
        let after = cluster().with_applied(&manifests(&deployment("cart", "", 3)));
        let new: Vec<&Pod> = after
            .pods
            .iter()
            .filter(|pod| pod.name.starts_with("cart"))
            .collect();
        assert_eq!(new.len(), 3);
        assert!(new.iter().all(|pod| pod.addresses.is_empty()));
    }

    #[test]
    fn labels_of_a_namespace_are_merged() {
        let text = "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {zone: b}}}";
        let after = cluster().with_applied(&manifests(text));
        let labels = &after.namespaces["shop"].labels;
        assert_eq!(
            (labels["team"].as_str(), labels["zone"].as_str()),
            ("a", "b")
        );
    }

    #[test]
    fn a_service_keeps_its_address() {
        let service = |port: u16| {
            manifests(&format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: api, namespace: shop}}, spec: {{selector: {{app: api}}, ports: [{{port: {port}}}]}}}}"
            ))
        };
        let mut before = cluster().with_applied(&service(80));
        before.services[0].addresses = vec![std::net::IpAddr::from([10, 96, 0, 9])];
        let after = before.with_applied(&service(81));
        assert_eq!(after.services.len(), 1);
        assert_eq!(after.services[0].ports[0].port.number(), 81);
        assert_eq!(after.services[0].addresses, before.services[0].addresses);
    }
}
