//! The names of the world: what its DNS answers, and what a pod asks. Pure.

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

/// Everything that the world's name servers know (Kubernetes DNS specification 1.1.0, sections 2.3
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
                let of = |pod: &Pod| addresses_in(pod, &service.families);
                for pod in pods.iter().filter(|pod| {
                    pod.workloads
                        .iter()
                        .any(|w| w.kind == WorkloadKind::StatefulSet)
                }) {
                    zone.insert(format!("{}.{name}", pod.name), of(pod));
                }
                zone.insert(name, pods.iter().flat_map(|pod| of(pod)).collect());
            }
            ServiceKind::ExternalName(_) => {}
        }
    }
    // Aliases last, by what they stand for; an alias of an alias is followed as far as there are
    // Services.
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

/// A pod's addresses in a Service's families; in all, where the Service states none.
fn addresses_in(pod: &Pod, families: &[Family]) -> Vec<IpAddr> {
    let wanted = |address: &IpAddr| families.is_empty() || families.contains(&Family::of(*address));
    pod.addresses.iter().copied().filter(wanted).collect()
}

fn service_name(service: &Service) -> String {
    format!("{}.{}.svc.cluster.local", service.name, service.namespace)
}

impl World {
    /// What `resolv.conf` says at a source: cluster DNS and its search list in a pod; on a node,
    /// in a pod of its network and where watertight runs, a name server outside the cluster, which
    /// knows the same names.
    pub fn resolver(&self, source: &Source) -> wire::Resolver {
        resolver(&self.inventory, source)
    }
}

/// As [`World::resolver`], in a world that has changed since.
pub fn resolver(inventory: &Inventory, source: &Source) -> wire::Resolver {
    let in_pod = match source {
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
    match in_pod {
        Some(namespace) => wire::Resolver {
            servers: addresses::CLUSTER_DNS.to_vec(),
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
        World::place(&manifests, &[host], Layout::default()).expect("placed")
    }

    #[test]
    fn the_zone_has_every_name_that_a_pod_may_ask_for() {
        let world = world();
        let zone = zone(&world.inventory);
        let shown = |name: &str| {
            zone.get(name).map(|known| {
                known
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" ")
            })
        };
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
            assert_eq!(shown(name).as_deref(), addresses, "{name}");
        }
    }

    #[test]
    fn pods_ask_cluster_dns_and_nodes_one_outside() {
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
