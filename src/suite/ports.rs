//! Known ports of hosts and addresses: those that any line names, where no `ports:` are given.

use super::lines::PlacedLine;
use super::names::Names;
use super::{EndpointId, Locator, PortItem, PortRef, TargetWhat, Url};
use crate::source::Diagnostic;
use std::collections::{BTreeMap, BTreeSet};

/// The ports that lines name, of each host and address.
pub(super) type NamedPorts = BTreeMap<EndpointId, BTreeSet<PortItem>>;

/// Collects the ports that lines name on hosts and addresses; a range and `*` name none.
pub(super) fn named(lines: &[PlacedLine], names: &Names) -> NamedPorts {
    let mut ports = NamedPorts::new();
    for target in lines.iter().flat_map(|placed| &placed.line.targets) {
        let item = match &target.what {
            TargetWhat::Port(item) => item.clone(),
            TargetWhat::Url(url) => of_url(url),
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

/// Errors of lines that mean every known port of a host or address that has none.
pub(super) fn none_known(
    lines: &[PlacedLine],
    names: &Names,
    ports: &NamedPorts,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for PlacedLine { line, span } in lines {
        for target in line
            .targets
            .iter()
            .filter(|target| matches!(target.what, TargetWhat::KnownPorts(_)))
        {
            let portless = |id: &&EndpointId| {
                is_outside(names, **id)
                    && names.endpoint(**id).ports.is_none()
                    && !ports.contains_key(*id)
            };
            for id in target.subject.members().iter().filter(portless) {
                let label = &names.endpoint(*id).label;
                let message = format!("no port of {label} is known: no line names one");
                found.push(Diagnostic::error(*span, message).with_help(format!(
                    "write {label}:PORT, or give it ports: under endpoints"
                )));
            }
        }
    }
    found
}

fn is_outside(names: &Names, id: EndpointId) -> bool {
    matches!(
        names.endpoint(id).locator,
        Locator::Host(_) | Locator::Address(_)
    )
}

fn of_url(url: &Url) -> PortItem {
    let (number, transport) = url.scheme.default_port();
    PortItem {
        port: url.port.clone().unwrap_or(PortRef::Number(number)),
        transport,
    }
}
