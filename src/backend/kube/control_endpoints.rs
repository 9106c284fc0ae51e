//! The control endpoints of a cluster: kubelets, control ports and reference pods. Pure.

use crate::backend::{CONTROL_PORT, KUBELET_PORT};
use crate::inventory::{Inventory, Node};
use crate::plan::{BackendProperties, ControlEndpoints, NodeEndpoint, ReferencePodAddress};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The placeholder of a reference pod's address in plans that are made before the pod exists.
///
/// It lies in blocks that are not routed, for benchmarks (RFC 2544 appendix C) and for discarding
/// (RFC 6666); nothing is ever sent there. It depends on the node's name alone, so that a replan
/// gives the same address.
fn placeholder(node: &str, v4: bool) -> IpAddr {
    let digest = Sha256::digest(node.as_bytes());
    if v4 {
        Ipv4Addr::new(198, 0x12 | (digest[2] & 1), digest[0], digest[1]).into()
    } else {
        let mut octets = [0; 16];
        octets[0] = 0x01;
        octets[8..].copy_from_slice(&digest[..8]);
        Ipv6Addr::from(octets).into()
    }
}

/// Whether an address is a placeholder for a reference pod's.
pub(super) fn is_placeholder(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 198 && v4.octets()[1] & !1 == 18,
        IpAddr::V6(v6) => v6.segments()[..4] == [0x0100, 0, 0, 0],
    }
}

/// What planning has to know of a cluster.
pub fn properties(inventory: &Inventory) -> BackendProperties {
    BackendProperties::cluster(control_endpoints(inventory))
}

/// The control endpoints of a cluster: the kubelet of every node, the control port of every probe
/// pod, and one reference pod on every Linux node, in the address families of that node's pods.
pub fn control_endpoints(inventory: &Inventory) -> ControlEndpoints {
    let mut used = BTreeSet::new();
    let reference_pods = inventory
        .nodes
        .iter()
        .filter(|node| !inventory.runs_windows(&node.name))
        .map(|node| {
            let mut addresses = placeholders(inventory, node);
            // Where the placeholders of two nodes collide, the second node gets no reference pod.
            addresses.retain(|address| used.insert(*address));
            ReferencePodAddress {
                node: node.name.clone(),
                addresses,
                port: CONTROL_PORT,
            }
        })
        .collect();

    ControlEndpoints {
        on_pods: Some(CONTROL_PORT),
        on_nodes: Some(NodeEndpoint::Handshake(KUBELET_PORT)),
        from_nodes: true,
        reference_pods_pass: false,
        reference_pods,
    }
}

/// One placeholder for each address family that the pods of a node have.
fn placeholders(inventory: &Inventory, node: &Node) -> Vec<IpAddr> {
    let families: BTreeSet<bool> = inventory
        .pods
        .iter()
        .filter(|pod| pod.node == node.name && !pod.host_network)
        .flat_map(|pod| &pod.addresses)
        .map(IpAddr::is_ipv4)
        .collect();

    // IPv4 first.
    families
        .into_iter()
        .rev()
        .map(|v4| placeholder(&node.name, v4))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_distinct_from_real_addresses() {
        for node in ["node-1", "node-2", "aks-pool-1234-vmss000000"] {
            assert!(
                is_placeholder(placeholder(node, true)) && is_placeholder(placeholder(node, false)),
                "{node}"
            );
        }
        for address in ["10.0.0.1", "198.51.100.10", "fd00::1", "2001:db8::1"] {
            assert!(!is_placeholder(address.parse().unwrap()), "{address}");
        }
    }
}
