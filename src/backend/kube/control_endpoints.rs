//! What a cluster offers to send from and to send to, whatever its workloads do. Pure.

use crate::inventory::{Inventory, Node};
use crate::plan::{BackendProperties, ControlEndpoints, NodeEndpoint, ReferencePodAddress};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The TCP port of every kubelet. Nothing is sent to it.
pub const KUBELET_PORT: u16 = 10_250;

/// The TCP and UDP port on which the probe of a pod answers by itself: the sign that its network is
/// alive where nothing is allowed to it. Its own node may always reach it (Kubernetes, "Network
/// Policies").
pub const CONTROL_PORT: u16 = 65_533;

/// Where a plan says that a witness is, before it has an address: in blocks that are routed
/// nowhere, for benchmarks (RFC 2544 appendix C) and for discarding (RFC 6666). Nothing is ever
/// sent there. It depends on the node's name alone, so that a plan that is made again says the
/// same.
fn placeholder(node: &str, v4: bool) -> IpAddr {
    let digest = Sha256::digest(node.as_bytes());
    let word = |at: usize| u16::from_be_bytes([digest[at], digest[at + 1]]);
    if v4 {
        Ipv4Addr::new(198, 0x12 | (digest[2] & 1), digest[0], digest[1]).into()
    } else {
        Ipv6Addr::new(0x0100, 0, 0, 0, word(0), word(2), word(4), word(6)).into()
    }
}

/// Whether an address stands for a witness's.
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

/// A kubelet on every node; a probe without labels on every node, in the families that its pods
/// have.
pub fn control_endpoints(inventory: &Inventory) -> ControlEndpoints {
    let mut taken = BTreeSet::new();
    let mut reference_pod = |node: &Node| {
        let pods = inventory
            .pods
            .iter()
            .filter(|pod| pod.node == node.name && !pod.host_network);
        let has = |v4: bool| {
            pods.clone()
                .flat_map(|pod| &pod.addresses)
                .any(|address| address.is_ipv4() == v4)
        };
        let addresses = [true, false]
            .into_iter()
            .filter(|v4| has(*v4))
            .map(|v4| placeholder(&node.name, v4));
        ReferencePodAddress {
            node: node.name.clone(),
            // Of two nodes whose names come out alike, one has no witness, which proves nothing.
            addresses: addresses.filter(|address| taken.insert(*address)).collect(),
            port: CONTROL_PORT,
        }
    };
    ControlEndpoints {
        on_pods: Some(CONTROL_PORT),
        on_nodes: Some(NodeEndpoint::Handshake(KUBELET_PORT)),
        from_nodes: true,
        reference_pods_pass: false,
        reference_pods: inventory
            .nodes
            .iter()
            .filter(|node| !inventory.runs_windows(&node.name))
            .map(&mut reference_pod)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_told_apart_from_addresses_that_exist() {
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
