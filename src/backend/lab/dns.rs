//! The DNS zone of the world and the resolver configuration of each source. Pure.

use super::addresses;
use super::services::endpoints;
use super::world::World;
use crate::inventory::{Inventory, Pod, Service, ServiceKind};
use crate::model::{Family, WorkloadKind};
use crate::plan::Source;
use crate::wire;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Names, lower case and without trailing dot, with their addresses.
pub(super) type Zone = BTreeMap<String, Vec<IpAddr>>;

/// All names that the world's name servers answer (Kubernetes DNS specification 1.1.0, sections 2.3
/// and 2.4).
pub(super) fn zone(inventory: &Inventory) -> Zone {
    let mut zone: Zone = inventory.hosts.clone();
    for service in &inventory.services {
        let name = service_name(service);
        match &service.kind {
            ServiceKind::ClusterIp => {
                zone.insert(name, service.addresses.clone());
            }
            ServiceKind::Headless => {
                let pods = endpoints(service, &inventory.pods);
                let mut all = Vec::new();
                for pod in pods {
                    let addresses = addresses_in(pod, &service.families);
                    all.extend_from_slice(&addresses);
                    if is_of_stateful_set(pod) {
                        zone.insert(format!("{}.{name}", pod.name), addresses);
                    }
                }
                zone.insert(name, all);
            }
            ServiceKind::ExternalName(_) => {}
        }
    }

    // Aliases come last, since they copy the addresses of their targets. Each pass resolves one
    // more link of a chain of aliases.
    for _ in 0..inventory.services.len().min(8) {
        for service in &inventory.services {
            if let ServiceKind::ExternalName(target) = &service.kind
                && let Some(addresses) =
                    zone.get(target.trim_end_matches('.').to_ascii_lowercase().as_str())
            {
                let addresses = addresses.clone();
                zone.insert(service_name(service), addresses);
            }
        }
    }
    zone
}

/// Whether a StatefulSet owns a pod.
fn is_of_stateful_set(pod: &Pod) -> bool {
    pod.workloads
        .iter()
        .any(|workload| workload.kind == WorkloadKind::StatefulSet)
}

/// A pod's addresses in the families of a Service; in both families if the Service states none.
fn addresses_in(pod: &Pod, families: &[Family]) -> Vec<IpAddr> {
    pod.addresses
        .iter()
        .copied()
        .filter(|address| families.is_empty() || families.contains(&Family::of(*address)))
        .collect()
}

fn service_name(service: &Service) -> String {
    format!("{}.{}.svc.cluster.local", service.name, service.namespace)
}

impl World {
    /// The contents of `resolv.conf` at a source. In a pod: cluster DNS and its search list. On a
    /// node, in a pod with its node's network and at the runner: a name server outside the cluster,
    /// which answers the same names.
    pub fn resolver(&self, source: &Source) -> wire::Resolver {
        resolver(&self.inventory, source)
    }
}

/// The same as [`World::resolver`], for an inventory that may have changed since.
pub fn resolver(inventory: &Inventory, source: &Source) -> wire::Resolver {
    let pod_namespace = match source {
        Source::Pod {
            namespace, name, ..
        } => inventory
            .pods
            .iter()
            .find(|pod| pod.namespace == *namespace && pod.name == *name)
            .filter(|pod| !pod.host_network)
            .map(|pod| pod.namespace.as_str()),
        Source::ReferencePod { .. } => Some("default"),
        Source::Node { .. } | Source::Runner => None,
    };
    match pod_namespace {
        Some(namespace) => wire::Resolver {
            servers: inventory
                .cluster_dns()
                .map(|dns| dns.addresses.clone())
                .unwrap_or_default(),
            search: vec![
                format!("{namespace}.svc.cluster.local"),
                "svc.cluster.local".to_owned(),
                "cluster.local".to_owned(),
            ],
            ndots: 5,
        },
        None => wire::Resolver {
            servers: addresses::OUTSIDE_DNS.to_vec(),
            search: Vec::new(),
            ndots: 1,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{Layout, Outside};
    use super::*;
    use crate::inventory::read_manifests;
    use crate::source::Sources;

    const MANIFESTS: &str = "
{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db, namespace: data}, spec: {replicas: 2, serviceName: db,
  selector: {matchLabels: {app: db}}, template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: c}]}}}}
---
{apiVersion: v1, kind: Service, metadata: {name: db, namespace: data}, spec: {clusterIP: None, selector: {app: db}, ports: [{port: 1}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: four, namespace: data}, spec: {clusterIP: None, ipFamilies: [IPv4], selector: {app: db}, ports: [{port: 1}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: virtual, namespace: data}, spec: {selector: {app: db}, ports: [{port: 1}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: pay, namespace: data}, spec: {type: ExternalName, externalName: pay.example}}
---
{apiVersion: v1, kind: Service, metadata: {name: twice, namespace: data}, spec: {type: ExternalName, externalName: pay.data.svc.cluster.local}}
---
{apiVersion: v1, kind: Service, metadata: {name: lost, namespace: data}, spec: {type: ExternalName, externalName: unknown.example}}
";

    fn world() -> World {
        let mut sources = Sources::new();
        let file = sources.add("test.yaml", MANIFESTS);
        let (manifests, diagnostics) = read_manifests(&[file], &sources);
        assert!(!diagnostics.has_errors(), "{diagnostics:?}");
        let host = Outside {
            name: Some("pay.example".into()),
            ..Outside::default()
        };
        World::place(&manifests, &[host], Layout::dual_stack()).expect("placed")
    }

    /// The addresses of a name, separated by spaces.
    fn addresses_of(zone: &Zone, name: &str) -> Option<String> {
        let addresses: Vec<String> = zone.get(name)?.iter().map(ToString::to_string).collect();
        Some(addresses.join(" "))
    }

    #[test]
    fn the_zone_contains_services_stateful_pods_hosts_and_aliases() {
        let world = world();
        let zone = zone(&world.inventory);
        let cases = [
            (
                "db.data.svc.cluster.local",
                Some("10.244.16.1 fd00:10:244:1::1 10.244.32.1 fd00:10:244:2::1"),
            ),
            (
                "four.data.svc.cluster.local",
                Some("10.244.16.1 10.244.32.1"),
            ),
            (
                "db-1.db.data.svc.cluster.local",
                Some("10.244.32.1 fd00:10:244:2::1"),
            ),
            (
                "virtual.data.svc.cluster.local",
                Some("10.96.1.0 fd00:10:96::101"),
            ),
            (
                "kube-dns.kube-system.svc.cluster.local",
                Some("10.96.0.10 fd00:10:96::a"),
            ),
            ("pay.example", Some("203.0.113.1 2001:db8:113::1")),
            (
                "pay.data.svc.cluster.local",
                Some("203.0.113.1 2001:db8:113::1"),
            ),
            (
                "twice.data.svc.cluster.local",
                Some("203.0.113.1 2001:db8:113::1"),
            ),
            ("lost.data.svc.cluster.local", None),
        ];
        for (name, addresses) in cases {
            assert_eq!(addresses_of(&zone, name).as_deref(), addresses, "{name}");
        }
    }

    #[test]
    fn pods_use_cluster_dns_and_nodes_an_outside_name_server() {
        let world = world();
        let pod = Source::Pod {
            namespace: "data".into(),
            name: "db-0".into(),
            node: "node-1".into(),
        };
        let resolver = world.resolver(&pod);
        assert_eq!(resolver.servers, addresses::CLUSTER_DNS);
        assert_eq!(
            resolver.search,
            [
                "data.svc.cluster.local",
                "svc.cluster.local",
                "cluster.local"
            ]
        );
        assert_eq!(resolver.ndots, 5);
        for outside in [
            Source::Runner,
            Source::Node {
                name: "node-1".into(),
            },
        ] {
            assert_eq!(world.resolver(&outside).servers, addresses::OUTSIDE_DNS);
        }
    }
}
