//! The hosts outside of a lab's pods and nodes that suites and sweeps need.

use crate::backend::lab::Outside;
use crate::model::Port;
use crate::plan::{self, Selection};
use crate::suite::{EndpointId, Line, Locator, PortRef, Subject, Suite, TargetWhat};
use crate::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The key of an outside host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum HostKey {
    Name(String),
    Address(IpAddr),
}

/// The addresses of an outside host, where they are given, and its ports.
#[derive(Debug, Default)]
struct HostParts {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<(u16, wire::Transport)>,
}

/// Outside hosts.
type Hosts = BTreeMap<HostKey, HostParts>;

/// The hosts that a lab places outside: those that suites name, and for a sweep the metadata
/// addresses of clouds.
pub(super) fn hosts_to_place(suites: &[Suite], selection: &Selection) -> Vec<Outside> {
    let mut hosts = outside_hosts(suites);
    if !selection.sweep.is_empty() {
        hosts.extend(plan::METADATA.map(metadata_host));
    }
    hosts
}

fn metadata_host(address: IpAddr) -> Outside {
    Outside {
        name: None,
        addresses: vec![address],
        ports: vec![(plan::METADATA_PORT, wire::Transport::Tcp)],
    }
}

/// The hosts and addresses outside that suites name, with the ports that their endpoints and lines
/// name.
pub fn outside_hosts(suites: &[Suite]) -> Vec<Outside> {
    let mut hosts = Hosts::new();
    for suite in suites {
        add_endpoints(suite, &mut hosts);
        for line in &suite.lines {
            add_ports_of_line(suite, line, &mut hosts);
        }
    }

    hosts
        .into_iter()
        .map(|(key, parts)| Outside {
            name: match key {
                HostKey::Name(name) => Some(name),
                HostKey::Address(_) => None,
            },
            addresses: parts.addresses.into_iter().collect(),
            ports: parts.ports.into_iter().collect(),
        })
        .collect()
}

fn add_endpoints(suite: &Suite, hosts: &mut Hosts) {
    for endpoint in &suite.endpoints {
        let Some(key) = host_key(&endpoint.locator) else {
            continue;
        };
        let given = match &key {
            HostKey::Name(_) => endpoint.addresses.clone(),
            HostKey::Address(address) => vec![*address],
        };
        let parts = hosts.entry(key).or_default();
        parts.addresses.extend(given);
        for item in endpoint.ports.iter().flatten() {
            if let PortRef::Number(number) = item.port {
                parts
                    .ports
                    .extend(probed(Port::new(number, item.transport)));
            }
        }
    }
}

fn add_ports_of_line(suite: &Suite, line: &Line, hosts: &mut Hosts) {
    for item in &line.targets {
        let port = match &item.what {
            TargetWhat::Port(port) => match port.port {
                PortRef::Number(number) => Port::new(number, port.transport),
                PortRef::Name(_) => None,
            },
            TargetWhat::Url(url) => {
                let (number, transport) = plan::url_port(url);
                number.and_then(|number| Port::new(number, transport))
            }
            TargetWhat::KnownPorts(_) | TargetWhat::Range { .. } => None,
        };
        let ids = match &item.subject {
            Subject::Endpoint(id) => vec![*id],
            Subject::Group(ids) => ids.clone(),
            Subject::All => (0..suite.endpoints.len()).map(EndpointId).collect(),
        };

        for id in ids {
            let key = host_key(&suite.endpoints[id.0].locator);
            if let Some(parts) = key.and_then(|key| hosts.get_mut(&key)) {
                parts.ports.extend(probed(port));
            }
        }
    }
}

fn host_key(locator: &Locator) -> Option<HostKey> {
    match locator {
        Locator::Host(name) => Some(HostKey::Name(name.as_str().to_owned())),
        Locator::Address(address) => Some(HostKey::Address(*address)),
        Locator::Workload { .. }
        | Locator::Pods { .. }
        | Locator::Service { .. }
        | Locator::Runner
        | Locator::Nodes => None,
    }
}

/// The port as a probe uses it; `None` for a transport that no probe speaks.
fn probed(port: Option<Port>) -> Option<(u16, wire::Transport)> {
    let port = port?;
    Some((port.number(), plan::wire_transport(port.transport())?))
}
