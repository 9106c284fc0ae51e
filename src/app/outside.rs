//! The hosts outside of a lab's pods and nodes that suites and sweeps need.

use crate::backend::lab::Outside;
use crate::model::Port;
use crate::plan::{self, Selection};
use crate::suite::{EndpointId, Line, Locator, PortRef, Subject, Suite, TargetWhat};
use crate::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The key of an outside host: its name or its address.
type HostKey = (Option<String>, Option<IpAddr>);

/// Outside hosts with their ports.
type HostPorts = BTreeMap<HostKey, BTreeSet<(u16, wire::Transport)>>;

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
        address: Some(address),
        ports: vec![(plan::METADATA_PORT, wire::Transport::Tcp)],
    }
}

/// The hosts and addresses outside that suites name, with the ports that their endpoints and lines
/// name.
pub fn outside_hosts(suites: &[Suite]) -> Vec<Outside> {
    let mut hosts = HostPorts::new();
    for suite in suites {
        add_endpoints(suite, &mut hosts);
        for line in &suite.lines {
            add_ports_of_line(suite, line, &mut hosts);
        }
    }

    hosts
        .into_iter()
        .map(|((name, address), ports)| Outside {
            name,
            address,
            ports: ports.into_iter().collect(),
        })
        .collect()
}

fn add_endpoints(suite: &Suite, hosts: &mut HostPorts) {
    for endpoint in &suite.endpoints {
        let Some(key) = host_key(&endpoint.locator) else {
            continue;
        };
        let ports = hosts.entry(key).or_default();
        for item in endpoint.ports.iter().flatten() {
            if let PortRef::Number(number) = item.port {
                ports.extend(probed(Port::new(number, item.transport)));
            }
        }
    }
}

fn add_ports_of_line(suite: &Suite, line: &Line, hosts: &mut HostPorts) {
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
            if let Some(ports) = key.and_then(|key| hosts.get_mut(&key)) {
                ports.extend(probed(port));
            }
        }
    }
}

fn host_key(locator: &Locator) -> Option<HostKey> {
    match locator {
        Locator::Host(name) => Some((Some(name.as_str().to_owned()), None)),
        Locator::Address(address) => Some((None, Some(*address))),
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
