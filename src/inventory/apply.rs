//! What would exist if manifests were applied to what exists.
//!
//! # Limitations
//! - How many pods a workload has is left as it is where it has any; new ones have no node and no
//!   address.
//! - Nothing is removed: what the manifests do not have stays.
//! - Labels of a namespace that the manifests do not have stay, as those that others set do with
//!   `kubectl apply`.

use super::declared::pod as declared_pod;
use super::{DeclaredPod, Inventory, Labels, Manifests, Pod, identity_labels};
use crate::model::{WorkloadKind, WorkloadRef};
use std::collections::BTreeSet;

impl Inventory {
    /// What would exist if these manifests were applied.
    #[must_use]
    pub fn with_applied(&self, manifests: &Manifests) -> Self {
        let mut after = self.clone();
        for (name, namespace) in &manifests.namespaces {
            let known = after
                .namespaces
                .entry(name.clone())
                .or_insert_with(|| namespace.clone());
            known.labels.extend(namespace.labels.clone());
        }
        for policy in &manifests.policies {
            put(&mut after.policies, policy.clone(), |a, b| {
                (a.kind(), a.namespace(), a.name()) == (b.kind(), b.namespace(), b.name())
            });
        }
        for service in &manifests.services {
            let mut service = service.clone();
            let same = |of: &&super::Service| {
                (&of.namespace, &of.name) == (&service.namespace, &service.name)
            };
            if let Some(known) = self.services.iter().find(same) {
                // The API server keeps what it has given out.
                if service.addresses.is_empty() && service.kind == known.kind {
                    service.addresses.clone_from(&known.addresses);
                }
                if service.families.is_empty() {
                    service.families.clone_from(&known.families);
                }
            }
            put(&mut after.services, service, |a, b| {
                (&a.namespace, &a.name) == (&b.namespace, &b.name)
            });
        }
        let mut updated: BTreeSet<(String, WorkloadRef)> = BTreeSet::new();
        for declared in &manifests.pods {
            let owner = owner(&declared.workloads);
            let key = (declared.namespace.clone(), owner.clone());
            let is_its = |pod: &&mut Pod| {
                pod.namespace == declared.namespace && pod.workloads.contains(&owner)
            };
            let mut existing = after.pods.iter_mut().filter(is_its).peekable();
            if existing.peek().is_some() && !updated.contains(&key) {
                let node_of = |pod: &Pod| self.nodes.iter().find(|node| node.name == pod.node);
                existing.for_each(|pod| {
                    let node = node_of(pod)
                        .map(|node| node.addresses.clone())
                        .unwrap_or_default();
                    update(pod, declared, node);
                });
                updated.insert(key);
            } else if !updated.contains(&key) || !self.has(&declared.namespace, &owner) {
                after.pods.push(declared_pod(declared));
                updated.insert(key);
            }
        }
        after
    }

    fn has(&self, namespace: &str, workload: &WorkloadRef) -> bool {
        self.pods
            .iter()
            .any(|pod| pod.namespace == namespace && pod.workloads.contains(workload))
    }
}

/// The outermost workload, or the pod itself.
fn owner(workloads: &[WorkloadRef]) -> WorkloadRef {
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

/// The pod that takes an existing one's place: its template's labels and ports, with the labels
/// that controllers add.
fn update(pod: &mut Pod, declared: &DeclaredPod, node: Vec<std::net::IpAddr>) {
    let identity = identity_labels(&pod.labels);
    let of_controllers: Labels = pod
        .labels
        .iter()
        .filter(|(key, _)| !identity.contains_key(*key))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    pod.labels = identity_labels(&declared.labels);
    pod.labels.extend(of_controllers);
    pod.ports.clone_from(&declared.ports);
    if pod.host_network != declared.host_network {
        pod.host_network = declared.host_network;
        pod.addresses = if pod.host_network { node } else { Vec::new() };
    }
}

/// In the place of the one that is the same object, or at the end.
fn put<T>(all: &mut Vec<T>, new: T, same: impl Fn(&T, &T) -> bool) {
    match all.iter_mut().find(|known| same(known, &new)) {
        Some(known) => *known = new,
        None => all.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{Policy, read_manifests};
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

    /// Two pods of web as a cluster has them, one of api, a policy, a namespace that somebody has
    /// labelled.
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
    fn nothing_applied_changes_nothing() {
        let before = cluster();
        let after = before.with_applied(&Manifests::default());
        assert_eq!(
            (&after.pods, &after.policies, &after.namespaces),
            (&before.pods, &before.policies, &before.namespaces)
        );
    }

    #[test]
    fn a_policy_takes_the_place_of_its_namesake_and_a_new_one_is_added() {
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
            .and_then(|of| of.match_labels.as_ref());
        assert_eq!(
            selector
                .and_then(|labels| labels.get("app"))
                .map(String::as_str),
            Some("web")
        );
    }

    #[test]
    fn pods_of_a_workload_take_its_new_labels_and_keep_their_places() {
        let before = cluster();
        let after = before.with_applied(&manifests(&deployment("web", ", tier: front", 5)));
        assert_eq!(
            after.pods.len(),
            before.pods.len(),
            "how many there are is left as it is"
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
        // A label that the template has no more is gone.
        let again = after.with_applied(&manifests(&deployment("web", "", 5)));
        assert!(
            again
                .pods
                .iter()
                .all(|pod| !pod.labels.contains_key("tier"))
        );
    }

    #[test]
    fn a_new_workload_has_all_of_its_pods() {
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
    fn labels_of_a_namespace_are_joined() {
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
