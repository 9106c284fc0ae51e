//! Which flows a line of a script speaks of.

use crate::inventory::Inventory;
use crate::wire::{self, Target, Transport};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A name, or its beginning and `*`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Pattern(String);

impl Default for Pattern {
    fn default() -> Self {
        Self("*".into())
    }
}

impl Pattern {
    /// Whether it means this name.
    pub(super) fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == self.0,
        }
    }
}

/// What stands at each address, by the names that scripts use.
#[derive(Debug)]
pub(super) struct Names(BTreeMap<IpAddr, String>);

impl Names {
    /// The names of everything that exists.
    pub(super) fn of(inventory: &Inventory) -> Self {
        let pods = inventory.pods.iter().filter(|pod| !pod.host_network);
        let pods = pods.flat_map(|pod| pod.addresses.iter().map(move |at| (*at, pod.full_name())));
        let services = inventory.services.iter().flat_map(|service| {
            let name = format!("Service {}/{}", service.namespace, service.name);
            service.addresses.iter().map(move |at| (*at, name.clone()))
        });
        let nodes = inventory.nodes.iter().flat_map(|node| {
            node.addresses
                .iter()
                .map(move |at| (*at, format!("node {}", node.name)))
        });
        let hosts = inventory
            .hosts
            .iter()
            .flat_map(|(name, at)| at.iter().map(move |at| (*at, name.clone())));
        Self(pods.chain(services).chain(nodes).chain(hosts).collect())
    }

    /// `WHO:PORT` of a flow, with `/udp` where it is that: `data/postgres-0:5432`, `Service
    /// shop/api:80`, `node node-1:10250`, `payments.example:443`; an address that has no name
    /// stands for itself.
    pub(super) fn target(&self, flow: &wire::Flow) -> String {
        let who = match &flow.target {
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
        format!("{who}:{}{transport}", flow.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_ends_a_beginning() {
        let matches = |pattern: &str, name: &str| Pattern(pattern.into()).matches(name);
        assert!(matches("*", "anything") && matches("shop/web-*", "shop/web-0 on node-1"));
        assert!(matches("shop/web", "shop/web") && !matches("shop/web", "shop/web-0"));
        assert!(!matches("shop/web-*", "shop/api-0"));
    }
}
