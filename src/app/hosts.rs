//! What suites name of a cluster: its namespaces, and hosts outside of it.

use super::terminal::Terminal;
use crate::backend::kube::Kube;
use crate::inventory::Inventory;
use crate::suite::{Locator, Suite};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Who resolves the names of outside hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolver {
    /// A probe in the cluster; names that it does not resolve are resolved by the runner.
    Probe,
    /// This process, since nothing may be created.
    Runner,
}

/// The namespaces that suites name.
pub(super) fn namespaces_of(suites: &[Suite]) -> BTreeSet<String> {
    let endpoints = suites.iter().flat_map(|suite| &suite.endpoints);
    endpoints
        .filter_map(|endpoint| match &endpoint.locator {
            Locator::Workload { namespace, .. } | Locator::Pods { namespace, .. } => {
                Some(namespace.clone())
            }
            Locator::Service { service } => Some(service.namespace.clone()),
            Locator::Host(_) | Locator::Address(_) | Locator::Runner | Locator::Nodes => None,
        })
        .collect()
}

/// Adds the addresses of the hosts that suites name to the inventory.
pub(super) async fn resolve_hosts(
    kube: &mut Kube,
    suites: &[Suite],
    inventory: &mut Inventory,
    resolver: Resolver,
    terminal: &Terminal,
) {
    let mut missing = host_names(suites);
    if missing.is_empty() {
        return;
    }

    if resolver == Resolver::Probe {
        match kube.resolve(inventory, &missing).await {
            Ok(hosts) => {
                missing.retain(|name| !hosts.contains_key(name));
                inventory.hosts.extend(hosts);
            }
            Err(why) => terminal.note(&format!(
                "outside names are resolved where watertight runs, since {why}"
            )),
        }
    }

    for name in missing {
        if let Some(addresses) = resolve_here(&name).await {
            inventory.hosts.insert(name, addresses);
        }
    }

    for (name, given) in given_addresses(suites) {
        if let Some(note) = other_addresses_note(&name, &given, inventory) {
            terminal.note(&note);
        }
    }
}

/// The addresses that suites and `--resolve` give to hosts, by name.
pub(super) fn given_addresses(suites: &[Suite]) -> BTreeMap<String, Vec<IpAddr>> {
    let endpoints = suites.iter().flat_map(|suite| &suite.endpoints);
    endpoints
        .filter(|endpoint| !endpoint.addresses.is_empty())
        .filter_map(|endpoint| {
            let name = endpoint.locator.host()?;
            Some((name.to_owned(), endpoint.addresses.clone()))
        })
        .collect()
}

/// A note on a host that resolves to other addresses than those that are given: what the lab and
/// predictions say of it may not hold here.
fn other_addresses_note(name: &str, given: &[IpAddr], inventory: &Inventory) -> Option<String> {
    let others: Vec<String> = inventory
        .hosts
        .get(name)?
        .iter()
        .filter(|address| !given.contains(address))
        .map(ToString::to_string)
        .collect();
    if others.is_empty() {
        return None;
    }
    Some(format!(
        "{name} resolves to {}, which its `ip:` does not list: what the lab and predictions say of \
         {name} is about other addresses",
        others.join(", ")
    ))
}

/// The names of the outside hosts of suites, in order and each once.
fn host_names(suites: &[Suite]) -> Vec<String> {
    let endpoints = suites.iter().flat_map(|suite| &suite.endpoints);
    let names: BTreeSet<&str> = endpoints
        .filter_map(|endpoint| endpoint.locator.host())
        .collect();
    names.into_iter().map(str::to_owned).collect()
}

/// The addresses of a name as this machine resolves it; `None` where it does not.
async fn resolve_here(name: &str) -> Option<Vec<IpAddr>> {
    let sockets = tokio::net::lookup_host((name, 0)).await.ok()?;
    let addresses: BTreeSet<IpAddr> = sockets.map(|socket| socket.ip()).collect();
    Some(addresses.into_iter().collect())
}
