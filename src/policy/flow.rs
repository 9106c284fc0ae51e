//! One flow, predicted.

use super::InvalidPolicy;
use super::classes::Entity;
use super::ports::{PortSet, SetId};
use super::reachability::Rows;
use super::rules::Rules;
use crate::inventory::Inventory;
use crate::model::Family;
use std::collections::HashMap;
use std::net::IpAddr;

/// An end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End<'a> {
    /// A pod, by its index into [`Inventory::pods`].
    Pod(usize),
    /// A pod that is reached through a Service: what it sends so to itself leaves it and comes
    /// back, and is judged.
    Served(usize),
    /// A node, by its name.
    Node(&'a str),
    /// An address: whoever has it inside the cluster, or else outside.
    Address(IpAddr),
}

/// The policies of an inventory, asked for pairs. What was calculated once is kept.
pub struct Predictor<'a> {
    pub(super) rows: Rows<'a>,
    by_address: HashMap<IpAddr, Resolved>,
}

/// Who is at an end, with what makes two of them one and the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resolved {
    Pod(usize),
    Served(usize),
    Node(usize),
    Outside(IpAddr),
}

impl<'a> Predictor<'a> {
    /// Reads all policies of an inventory.
    ///
    /// # Errors
    /// [`InvalidPolicy`]: the first policy that no API server would have taken.
    pub fn new(inventory: &'a Inventory) -> Result<Self, InvalidPolicy> {
        Ok(Self::with(inventory, &Rules::of(inventory)?))
    }

    /// The same of rules that were read already.
    pub(super) fn with(inventory: &'a Inventory, rules: &Rules) -> Self {
        let rows = Rows::new(inventory, rules);
        let mut by_address = HashMap::new();
        for (number, pod) in inventory
            .pods
            .iter()
            .enumerate()
            .filter(|(_, pod)| !pod.host_network)
        {
            by_address.extend(
                pod.addresses
                    .iter()
                    .map(|address| (*address, Resolved::Pod(number))),
            );
        }
        for (number, node) in inventory.nodes.iter().enumerate() {
            by_address.extend(
                node.addresses
                    .iter()
                    .map(|address| (*address, Resolved::Node(number))),
            );
        }
        Self { rows, by_address }
    }

    /// Every port that the policies allow from one end to the other, in a family.
    pub fn allowed(&mut self, from: End<'_>, to: End<'_>, family: Family) -> PortSet {
        let (from, to) = (self.resolve(from), self.resolve(to));
        let Some((from, to)) = self.decided(from, to) else {
            return PortSet::all();
        };
        let set = self.rows.allowed(family, from, to);
        self.rows.sets.get(set).clone()
    }

    /// The sets that both sides let through; nothing where no policy can stop the flow.
    pub(super) fn both(
        &mut self,
        from: End<'_>,
        to: End<'_>,
        family: Family,
    ) -> Option<(SetId, SetId)> {
        let (from, to) = self.ends(from, to)?;
        Some(self.rows.sides(family, from, to))
    }

    /// Who has to be asked about a flow; nobody where no policy can stop it.
    pub(super) fn ends(&self, from: End<'_>, to: End<'_>) -> Option<(Entity, Entity)> {
        self.decided(self.resolve(from), self.resolve(to))
    }

    /// Who has to be asked; nobody where no policy can stop the flow.
    fn decided(&self, from: Resolved, to: Resolved) -> Option<(Entity, Entity)> {
        let inventory = self.rows.universe.inventory;
        let node_of = |resolved| match resolved {
            Resolved::Pod(pod) | Resolved::Served(pod) => inventory
                .nodes
                .iter()
                .position(|node| node.name == inventory.pods[pod].node),
            Resolved::Node(node) => Some(node),
            Resolved::Outside(_) => None,
        };
        match (from, to) {
            // It never leaves the pod.
            (Resolved::Pod(a), Resolved::Pod(b)) if a == b => None,
            // "OR if the traffic source is the pod's local node" (NetworkPolicySpec.ingress).
            (Resolved::Node(node), Resolved::Pod(_) | Resolved::Served(_))
                if node_of(to) == Some(node) =>
            {
                None
            }
            _ => Some((self.entity(from)?, self.entity(to)?)),
        }
    }

    /// A number for who is at an end: whoever has the same is treated alike by all policies.
    pub fn alike(&self, end: End<'_>) -> Option<usize> {
        self.entity(self.resolve(end))
    }

    fn resolve(&self, end: End<'_>) -> Resolved {
        let inventory = self.rows.universe.inventory;
        let node = |name: &str| {
            let number = inventory.nodes.iter().position(|node| node.name == name);
            Resolved::Node(number.unwrap_or(inventory.nodes.len()))
        };
        match end {
            End::Pod(number) | End::Served(number) if inventory.pods[number].host_network => {
                node(&inventory.pods[number].node)
            }
            End::Pod(number) => Resolved::Pod(number),
            End::Served(number) => Resolved::Served(number),
            End::Node(name) => node(name),
            End::Address(address) => self
                .by_address
                .get(&address)
                .copied()
                .unwrap_or(Resolved::Outside(address)),
        }
    }

    fn entity(&self, end: Resolved) -> Option<Entity> {
        match end {
            Resolved::Pod(number) | Resolved::Served(number) => {
                Some(self.rows.universe.of_pod[number])
            }
            Resolved::Node(number) => Some(self.rows.universe.groups.len() + number),
            Resolved::Outside(address) => self.rows.universe.outside(address),
        }
    }
}
