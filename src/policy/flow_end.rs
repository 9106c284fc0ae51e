//! One end of a flow, with everything that a rule may compare.

use super::classes::namespace_labels;
use super::flow::EndpointRef;
use crate::inventory::{ContainerPort, Inventory, Labels, Node, Pod};
use crate::model::Family;
use std::net::IpAddr;

/// One end of a flow: a pod, a node or an address outside the cluster.
#[derive(Debug)]
pub(super) struct FlowEnd<'a> {
    /// The pod; `None` for a pod in its node's network, which has the node's identity.
    pub(super) pod: Option<&'a Pod>,
    /// Labels of the pod's namespace.
    pub(super) namespace_labels: Labels,
    /// The node: for a node, and for a pod in its node's network.
    pub(super) node: Option<&'a Node>,
    /// The address in the family of the flow, where it is known.
    pub(super) address: Option<IpAddr>,
    /// The name that messages use.
    pub(super) name: String,
}

impl<'a> FlowEnd<'a> {
    /// Looks up an endpoint. Without a family, its first known address is used.
    pub(super) fn resolve(
        inventory: &'a Inventory,
        endpoint: EndpointRef<'_>,
        family: Option<Family>,
    ) -> Self {
        match endpoint {
            EndpointRef::Pod(index) | EndpointRef::ServicePod(index) => {
                Self::pod(inventory, &inventory.pods[index], family)
            }
            EndpointRef::Node(name) => Self::node(inventory, name, family),
            EndpointRef::Address(address) => Self::address(inventory, address),
        }
    }

    pub(super) fn pod(inventory: &'a Inventory, pod: &'a Pod, family: Option<Family>) -> Self {
        let node = if pod.host_network {
            inventory.nodes.iter().find(|node| node.name == pod.node)
        } else {
            None
        };
        // A pod in its node's network has all of the node's addresses.
        let addresses = node.map_or(&pod.addresses, |node| &node.addresses);

        Self {
            pod: (!pod.host_network).then_some(pod),
            namespace_labels: namespace_labels(inventory, &pod.namespace),
            node,
            address: first_address(addresses, family),
            name: pod.full_name(),
        }
    }

    fn node(inventory: &'a Inventory, name: &str, family: Option<Family>) -> Self {
        let node = inventory.nodes.iter().find(|node| node.name == name);
        Self {
            pod: None,
            namespace_labels: Labels::new(),
            node,
            address: node.and_then(|node| first_address(&node.addresses, family)),
            name: format!("node {name}"),
        }
    }

    /// The pod or node that has an address, or else the address as one outside the cluster.
    fn address(inventory: &'a Inventory, address: IpAddr) -> Self {
        let mut pods = inventory.pods.iter();
        if let Some(pod) = pods.find(|pod| !pod.host_network && pod.addresses.contains(&address)) {
            return Self::pod(inventory, pod, Some(Family::of(address)));
        }

        let mut nodes = inventory.nodes.iter();
        let node = nodes.find(|node| node.addresses.contains(&address));
        Self {
            pod: None,
            namespace_labels: Labels::new(),
            node,
            address: Some(address),
            name: node.map_or_else(|| address.to_string(), |node| format!("node {}", node.name)),
        }
    }

    /// The ports that a pod declares, in which port names are looked up.
    pub(super) fn declared_ports(&self) -> &'a [ContainerPort] {
        self.pod.map(|pod| pod.ports.as_slice()).unwrap_or_default()
    }
}

fn first_address(addresses: &[IpAddr], family: Option<Family>) -> Option<IpAddr> {
    addresses
        .iter()
        .copied()
        .find(|address| family.is_none_or(|family| Family::of(*address) == family))
}
