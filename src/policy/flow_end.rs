//! One end of a flow, with everything that a rule may compare.

use super::addresses::{AddressBook, KnownAddress};
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
    /// The address in the family of the flow, where there is one to show.
    pub(super) address: Option<IpAddr>,
    /// The same address, with what is known of it.
    pub(super) known: KnownAddress,
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
        let known = known_address(inventory, addresses, family);

        Self {
            pod: (!pod.host_network).then_some(pod),
            namespace_labels: namespace_labels(inventory, &pod.namespace),
            node,
            address: known.shown(),
            known,
            name: pod.full_name(),
        }
    }

    fn node(inventory: &'a Inventory, name: &str, family: Option<Family>) -> Self {
        let node = inventory.nodes.iter().find(|node| node.name == name);
        let addresses = node.map_or(&[][..], |node| &node.addresses);
        let known = known_address(inventory, addresses, family);
        Self {
            pod: None,
            namespace_labels: Labels::new(),
            node,
            address: known.shown(),
            known,
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
        let known = node.map_or(KnownAddress::At(address), |node| {
            known_address(inventory, &node.addresses, Some(Family::of(address)))
        });
        Self {
            pod: None,
            namespace_labels: Labels::new(),
            node,
            address: Some(address),
            known,
            name: node.map_or_else(|| address.to_string(), |node| format!("node {}", node.name)),
        }
    }

    /// The ports that a pod declares, in which port names are looked up.
    pub(super) fn declared_ports(&self) -> &'a [ContainerPort] {
        self.pod.map(|pod| pod.ports.as_slice()).unwrap_or_default()
    }
}

/// The address in a family; without one, in the first family in which the end has an address.
fn known_address(
    inventory: &Inventory,
    addresses: &[IpAddr],
    family: Option<Family>,
) -> KnownAddress {
    let book = AddressBook::of(inventory);
    let first = addresses.first().map(|address| Family::of(*address));
    let family = family
        .or(first)
        .or_else(|| book.families(addresses).first().copied());
    family.map_or(KnownAddress::Absent, |family| {
        book.address(addresses, family)
    })
}
