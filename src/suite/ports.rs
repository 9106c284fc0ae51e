//! Known ports of hosts and addresses without `ports:`, which are the ports that any line names.

use super::lines::PlacedLine;
use super::names::Names;
use super::{EndpointId, Locator, PortItem, PortRef, TargetWhat, Url};
use crate::source::Diagnostic;
use std::collections::{BTreeMap, BTreeSet};

/// The ports of each host and address that lines name.
pub(super) type NamedPorts = BTreeMap<EndpointId, BTreeSet<PortItem>>;

/// Collects the ports that lines name on hosts and addresses; a range and `*` name no port.
pub(super) fn named(lines: &[PlacedLine], names: &Names) -> NamedPorts {
    let mut ports = NamedPorts::new();
    for target in lines.iter().flat_map(|placed| &placed.line.targets) {
        let item = match &target.what {
            TargetWhat::Port(item) => item.clone(),
            TargetWhat::Url(url) => url_port(url),
            TargetWhat::KnownPorts(_) | TargetWhat::Range { .. } => continue,
        };
        for id in target
            .subject
            .members()
            .iter()
            .filter(|id| is_outside(names, **id))
        {
            ports.entry(*id).or_default().insert(item.clone());
        }
    }
    ports
}

/// Errors for lines about all known ports of a host or address that has no known port.
pub(super) fn without_known_ports(
    lines: &[PlacedLine],
    names: &Names,
    ports: &NamedPorts,
) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for PlacedLine { line, span } in lines {
        for target in line
            .targets
            .iter()
            .filter(|target| matches!(target.what, TargetWhat::KnownPorts(_)))
        {
            for id in target.subject.members() {
                let has_ports = names.endpoint(*id).ports.is_some() || ports.contains_key(id);
                if has_ports || !is_outside(names, *id) {
                    continue;
                }

                let label = &names.endpoint(*id).label;
                let message = format!("no port of {label} is known: no line names one");
                diagnostics.push(Diagnostic::error(*span, message).with_help(format!(
                    "write {label}:PORT, or give it ports: under endpoints"
                )));
            }
        }
    }
    diagnostics
}

/// Whether an endpoint is a host or an address.
fn is_outside(names: &Names, id: EndpointId) -> bool {
    matches!(
        names.endpoint(id).locator,
        Locator::Host(_) | Locator::Address(_)
    )
}

fn url_port(url: &Url) -> PortItem {
    let (number, transport) = url.scheme.default_port();
    PortItem {
        port: url.port.clone().unwrap_or(PortRef::Number(number)),
        transport,
    }
}
