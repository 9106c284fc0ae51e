//! The ports that policies allow between two endpoints.

use super::InvalidPolicy;
use super::classes::ClassIndex;
use super::ports::PortSet;
use super::reachability::{Reachability, Rows, View};
use super::rules::Rules;
use crate::inventory::Inventory;
use crate::model::Family;
use std::collections::HashMap;
use std::net::IpAddr;

/// A reference to one end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndpointRef<'a> {
    /// A pod, by its index in [`Inventory::pods`].
    Pod(usize),
    /// A pod that is reached through a Service, by its index in [`Inventory::pods`]. Unlike
    /// traffic to its own address, what a pod sends to itself through a Service leaves the pod, so
    /// that policies apply.
    ServicePod(usize),
    /// A node, by its name.
    Node(&'a str),
    /// The pod or the node with this address, or else an address outside the cluster.
    Address(IpAddr),
}

/// The policies of an inventory, for questions about pairs of endpoints. Results are cached.
pub struct Predictor<'a> {
    pub(super) reachability: Reachability<'a>,
    /// The rows of the questions so far.
    pub(super) rows: Rows,
    by_address: HashMap<IpAddr, Resolved>,
}

/// An endpoint after look-up. Two equal values are one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resolved {
    Pod(usize),
    ServicePod(usize),
    Node(usize),
    Outside(IpAddr),
}

impl<'a> Predictor<'a> {
    /// Reads all policies of an inventory.
    ///
    /// # Errors
    /// [`InvalidPolicy`]: the first policy that an API server would refuse.
    pub fn new(inventory: &'a Inventory) -> Result<Self, InvalidPolicy> {
        Ok(Self::with(inventory, &Rules::of(inventory)?))
    }

    /// Takes rules instead of the inventory's policies.
    pub(super) fn with(inventory: &'a Inventory, rules: &Rules) -> Self {
        let mut by_address = HashMap::new();
        for (index, pod) in inventory.pods.iter().enumerate() {
            if !pod.host_network {
                let addresses = pod.addresses.iter();
                by_address.extend(addresses.map(|address| (*address, Resolved::Pod(index))));
            }
        }
        for (index, node) in inventory.nodes.iter().enumerate() {
            let addresses = node.addresses.iter();
            by_address.extend(addresses.map(|address| (*address, Resolved::Node(index))));
        }

        let reachability = Reachability::new(inventory, rules);
        Self {
            rows: Rows::of_all(&reachability.classes),
            reachability,
            by_address,
        }
    }

    /// Every port that the policies allow from one endpoint to another, in a family.
    pub fn allowed(
        &mut self,
        from: EndpointRef<'_>,
        to: EndpointRef<'_>,
        family: Family,
    ) -> PortSet {
        let Some((from, to)) = self.classes_of(from, to) else {
            return PortSet::all();
        };
        self.allowed_between(from, to, family)
    }

    /// The ports of which the answer depends on addresses that are not known: those of pods and
    /// nodes that manifests do not give. For [`Predictor::allowed`] the addresses that the lab
    /// invented count.
    pub fn unknown(
        &mut self,
        from: EndpointRef<'_>,
        to: EndpointRef<'_>,
        family: Family,
    ) -> PortSet {
        let Some((from, to)) = self.classes_of(from, to) else {
            return PortSet::none();
        };
        let views = self.reachability.views();
        if views.len() < 2 {
            return PortSet::none();
        }
        let mut by_view = Vec::new();
        for view in views {
            let scope = (*view, family);
            by_view.push(self.reachability.allowed(&mut self.rows, scope, from, to));
        }
        let answer = self.reachability.answer(&by_view);
        self.reachability.sets.get(answer.unknown).clone()
    }

    /// Every port that the policies allow from endpoints of one class to other endpoints of a
    /// class, in a family.
    pub fn allowed_between(&mut self, from: usize, to: usize, family: Family) -> PortSet {
        let scope = (View::Placed, family);
        let set = self.reachability.allowed(&mut self.rows, scope, from, to);
        self.reachability.sets.get(set).clone()
    }

    /// The class of an endpoint: policies treat endpoints of one class in the same way.
    pub fn class_of(&self, endpoint: EndpointRef<'_>) -> Option<usize> {
        self.class(self.resolve(endpoint))
    }

    /// The classes of the ends of a flow; `None` where no policy applies to it.
    pub(super) fn classes_of(
        &self,
        from: EndpointRef<'_>,
        to: EndpointRef<'_>,
    ) -> Option<(ClassIndex, ClassIndex)> {
        let (from, to) = (self.resolve(from), self.resolve(to));
        if self.is_beyond_policies(from, to) {
            return None;
        }
        Some((self.class(from)?, self.class(to)?))
    }

    /// Whether policies do not apply to a flow: within a pod, or from a node to its own pod ("OR if
    /// the traffic source is the pod's local node", NetworkPolicySpec.ingress).
    fn is_beyond_policies(&self, from: Resolved, to: Resolved) -> bool {
        match (from, to) {
            (Resolved::Pod(source), Resolved::Pod(target)) => source == target,
            (Resolved::Node(node), Resolved::Pod(pod) | Resolved::ServicePod(pod)) => {
                let inventory = self.reachability.classes.inventory;
                let name = &inventory.pods[pod].node;
                inventory.nodes.iter().position(|node| node.name == *name) == Some(node)
            }
            _ => false,
        }
    }

    fn resolve(&self, endpoint: EndpointRef<'_>) -> Resolved {
        let pods = &self.reachability.classes.inventory.pods;
        match endpoint {
            EndpointRef::Pod(index) | EndpointRef::ServicePod(index)
                if pods[index].host_network =>
            {
                self.resolve_node(&pods[index].node)
            }
            EndpointRef::Pod(index) => Resolved::Pod(index),
            EndpointRef::ServicePod(index) => Resolved::ServicePod(index),
            EndpointRef::Node(name) => self.resolve_node(name),
            EndpointRef::Address(address) => self
                .by_address
                .get(&address)
                .copied()
                .unwrap_or(Resolved::Outside(address)),
        }
    }

    /// A node by its name. All unknown nodes have the index after the last known one.
    fn resolve_node(&self, name: &str) -> Resolved {
        let nodes = &self.reachability.classes.inventory.nodes;
        let index = nodes.iter().position(|node| node.name == name);
        Resolved::Node(index.unwrap_or(nodes.len()))
    }

    fn class(&self, endpoint: Resolved) -> Option<ClassIndex> {
        let classes = &self.reachability.classes;
        match endpoint {
            Resolved::Pod(index) | Resolved::ServicePod(index) => Some(classes.of_pod[index]),
            Resolved::Node(index) => Some(classes.of_node(index)),
            Resolved::Outside(address) => classes.of_outside(address),
        }
    }
}
