//! Patterns by which an entry of a script matches flows.

use crate::inventory::Inventory;
use crate::wire::{self, Target, Transport};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A name, or a prefix of names followed by `*`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Pattern(String);

impl Default for Pattern {
    fn default() -> Self {
        Self("*".into())
    }
}

impl Pattern {
    /// Whether the pattern matches a name.
    pub(super) fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == self.0,
        }
    }
}

/// The names of addresses, as scripts use them.
#[derive(Debug)]
pub(super) struct Names(BTreeMap<IpAddr, String>);

impl Names {
    /// The names of all addresses in an inventory.
    pub(super) fn of(inventory: &Inventory) -> Self {
        let pods = inventory
            .pods
            .iter()
            .filter(|pod| !pod.host_network)
            .flat_map(|pod| named(&pod.addresses, pod.full_name()));
        let services = inventory.services.iter().flat_map(|service| {
            let name = format!("Service {}/{}", service.namespace, service.name);
            named(&service.addresses, name)
        });
        let nodes = inventory
            .nodes
            .iter()
            .flat_map(|node| named(&node.addresses, format!("node {}", node.name)));
        let hosts = inventory
            .hosts
            .iter()
            .flat_map(|(name, addresses)| named(addresses, name.clone()));
        Self(pods.chain(services).chain(nodes).chain(hosts).collect())
    }

    /// `NAME:PORT` of a flow's target, with `/udp` for UDP: `data/postgres-0:5432`, `Service
    /// shop/api:80`, `node node-1:10250`, `payments.example:443`. An address without a name is its
    /// own name.
    pub(super) fn target(&self, flow: &wire::Flow) -> String {
        let name = match &flow.target {
            Target::Address(address) => self
                .0
                .get(address)
                .cloned()
                .unwrap_or_else(|| address.to_string()),
            Target::Name { name, .. } => name.trim_end_matches('.').to_owned(),
        };
        let transport = match flow.transport {
            Transport::Tcp => "",
            Transport::Udp => "/udp",
        };
        format!("{name}:{}{transport}", flow.port)
    }
}

/// These addresses with one name.
fn named(addresses: &[IpAddr], name: String) -> impl Iterator<Item = (IpAddr, String)> {
    addresses
        .iter()
        .map(move |address| (*address, name.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern(pattern.into()).matches(name)
    }

    #[test]
    fn star_matches_any_rest_of_a_name() {
        assert!(matches("*", "anything") && matches("shop/web-*", "shop/web-0 on node-1"));
        assert!(matches("shop/web", "shop/web") && !matches("shop/web", "shop/web-0"));
        assert!(!matches("shop/web-*", "shop/api-0"));
    }
}
