//! The names of the world: what its DNS answers, and what a pod asks. Pure.

use super::addresses;
use super::services::endpoints;
use super::world::World;
use crate::inventory::{Inventory, Service, ServiceKind};
use crate::model::WorkloadKind;
use crate::plan::Vantage;
use crate::wire;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Names, lower case and without trailing dot, with their addresses.
pub(super) type Zone = BTreeMap<String, Vec<IpAddr>>;

/// Everything that the world's name servers know (Kubernetes DNS specification 1.1.0, sections 2.3 and 2.4).
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
                let families = |address: &IpAddr| {
                    service.families.is_empty() || service.families.contains(&crate::model::Family::of(*address))
                };
                let of =
                    |pod: &crate::inventory::Pod| pod.addresses.iter().copied().filter(families).collect::<Vec<_>>();
                for pod in pods.iter().filter(|pod| pod.workloads.iter().any(|w| w.kind == WorkloadKind::StatefulSet)) {
                    zone.insert(format!("{}.{name}", pod.name), of(pod));
                }
                zone.insert(name, pods.iter().flat_map(|pod| of(pod)).collect());
            }
            ServiceKind::ExternalName(_) => {}
        }
    }
    // Aliases last, by what they stand for; an alias of an alias is followed as far as there are Services.
    for _ in 0..inventory.services.len().min(8) {
        for service in &inventory.services {
            if let ServiceKind::ExternalName(target) = &service.kind
                && let Some(addresses) = zone.get(target.trim_end_matches('.').to_ascii_lowercase().as_str())
            {
                let addresses = addresses.clone();
                zone.insert(service_name(service), addresses);
            }
        }
    }
    zone
}

fn service_name(service: &Service) -> String {
    format!("{}.{}.svc.cluster.local", service.name, service.namespace)
}

impl World {
    /// What `resolv.conf` says at a vantage: cluster DNS and its search list in a pod; on a node, in a pod of
    /// its network and where watertight runs, a name server outside the cluster, which knows the same names.
    pub fn resolver(&self, vantage: &Vantage) -> wire::Resolver {
        let in_pod = match vantage {
            Vantage::Pod { namespace, name, .. } => self
                .inventory
                .pods
                .iter()
                .find(|pod| pod.namespace == *namespace && pod.name == *name)
                .filter(|pod| !pod.host_network)
                .map(|pod| pod.namespace.as_str()),
            Vantage::Node { .. } | Vantage::Runner => None,
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
            None => wire::Resolver { servers: addresses::OUTSIDE_DNS.to_vec(), search: Vec::new(), ndots: 1 },
        }
    }
}
