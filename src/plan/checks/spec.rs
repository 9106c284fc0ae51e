//! One source, one target, one port: what a check is made of, before it is known which pods are used.

use super::super::endpoints::{PodPort, ResolvedEndpoint, ResolvedPort, suffix};
use super::super::request::{RequestSpec, url_port};
use super::super::{LineRef, Provability};
use crate::model::{Port, Transport};
use crate::source::Place;
use crate::suite::{
    EndpointId, Expected, Line, PortItem, PortRef, Settings, Subject, TargetItem, TargetWhat,
};
use std::collections::BTreeSet;

/// One source, one target, one port, before it is known which pods are used.
#[derive(Debug, Clone)]
pub(super) struct CheckSpec<'s> {
    pub(super) source: EndpointId,
    pub(super) target: EndpointId,
    pub(super) port: ResolvedPort,
    pub(super) request_spec: RequestSpec,
    pub(super) expected: Expected,
    /// `None` for a pair that only `everythingElse` covers.
    pub(super) line: Option<&'s Line>,
    /// The line's settings over the suite's.
    pub(super) settings: Settings,
    pub(super) place: Place,
    /// Why the check will not be proven and is not sampled, where that is so.
    pub(super) unsampled: Option<Provability>,
}

impl CheckSpec<'_> {
    /// Whether a connection that was open before the deny applied must be cut.
    pub(super) fn is_established(&self) -> bool {
        self.expected == Expected::Denied && self.settings.established == Some(true)
    }
}

/// A port of a target item, and why it is not sampled, where that is so.
#[derive(Debug)]
pub(super) struct SpecPort {
    pub(super) port: ResolvedPort,
    pub(super) unsampled: Option<Provability>,
}

impl From<ResolvedPort> for SpecPort {
    fn from(port: ResolvedPort) -> Self {
        Self {
            unsampled: unprobed(&port),
            port,
        }
    }
}

impl SpecPort {
    fn unsampled(port: ResolvedPort, why: String) -> Self {
        Self {
            port,
            unsampled: Some(Provability::Unprovable(why)),
        }
    }

    /// The ports of an endpoint of which none is known.
    pub(super) fn none_known(label: &str) -> Self {
        Self::unsampled(
            any_port(),
            format!("no port of {label} is known that can be probed: give the endpoint `ports:`"),
        )
    }
}

/// Why a port cannot be probed at all.
fn unprobed(port: &ResolvedPort) -> Option<Provability> {
    match port.transport {
        Transport::Tcp | Transport::Udp => None,
        Transport::Sctp => Some(Provability::Unprovable(
            "SCTP cannot be probed: nothing is known of this port".into(),
        )),
    }
}

/// The ports of an endpoint that a target item means.
///
/// An endpoint that does not exist has the ports that the item names, so that a check says that it
/// does not. `*` means only endpoints of which a port is known.
///
/// # Errors
/// A sentence that names what to write instead.
pub(super) fn item_ports(
    endpoint: &ResolvedEndpoint<'_>,
    item: &TargetItem,
    expected: Expected,
) -> Result<Vec<SpecPort>, String> {
    match &item.what {
        TargetWhat::KnownPorts(transport) => known_ports(endpoint, item, *transport),
        TargetWhat::Port(item) => Ok(vec![port_or_unresolved(endpoint, item)?.into()]),
        TargetWhat::Range {
            from,
            to,
            transport,
        } => range_ports(endpoint, (*from, *to, *transport), expected),
        TargetWhat::Url(url) => {
            let (number, transport) = url_port(url);
            let port = match &url.port {
                Some(PortRef::Name(name)) => PortRef::Name(name.clone()),
                Some(PortRef::Number(_)) | None => PortRef::Number(number.unwrap_or(0)),
            };
            let item = PortItem { port, transport };
            Ok(vec![port_or_unresolved(endpoint, &item)?.into()])
        }
    }
}

fn known_ports(
    endpoint: &ResolvedEndpoint<'_>,
    item: &TargetItem,
    transport: Option<Transport>,
) -> Result<Vec<SpecPort>, String> {
    if !endpoint.exists() {
        return Ok(ports_of_nothing(endpoint, transport));
    }

    let mut ports = endpoint.known_ports(transport)?;
    if transport.is_none() {
        ports.extend(endpoint.sctp_ports()?);
    }
    if ports.is_empty() && !matches!(item.subject, Subject::All) {
        let label = &endpoint.endpoint.label;
        return Err(format!(
            "{label} has no known port; write one: {label}:PORT, or give the endpoint `ports:`"
        ));
    }
    Ok(ports.into_iter().map(SpecPort::from).collect())
}

/// The ports that a suite gives an endpoint that does not exist; `*` where it gives none.
pub(super) fn ports_of_nothing(
    endpoint: &ResolvedEndpoint<'_>,
    transport: Option<Transport>,
) -> Vec<SpecPort> {
    let given = endpoint.endpoint.ports.iter().flatten();
    let mentioned: Vec<PortItem> = endpoint
        .mentioned
        .iter()
        .copied()
        .map(PortItem::from)
        .collect();
    let ports: Vec<SpecPort> = given
        .chain(&mentioned)
        .filter(|item| transport.is_none_or(|transport| transport == item.transport))
        .map(|item| unresolved_port(&item.port, item.transport).into())
        .collect();

    if ports.is_empty() {
        vec![any_port().into()]
    } else {
        ports
    }
}

/// The known ports in a range. Where none is known of a denied one, the range stands for itself:
/// its ports are swept, which proves nothing.
fn range_ports(
    endpoint: &ResolvedEndpoint<'_>,
    (from, to, transport): (u16, u16, Transport),
    expected: Expected,
) -> Result<Vec<SpecPort>, String> {
    let label = &endpoint.endpoint.label;
    let mut ports = if endpoint.exists() {
        endpoint.known_ports(Some(transport))?
    } else {
        Vec::new()
    };
    ports.retain(|port| (from..=to).contains(&port.number));
    if !ports.is_empty() {
        return Ok(ports.into_iter().map(SpecPort::from).collect());
    }

    let range = ResolvedPort {
        label: format!("{from}-{to}{}", suffix(transport)),
        ..unresolved_port(&PortRef::Number(from), transport)
    };
    match expected {
        Expected::Denied => Ok(vec![SpecPort::unsampled(
            range,
            format!(
                "nothing is known to listen on {label} from {from} to {to}: each port is tried once, and silence says closed or denied"
            ),
        )]),
        Expected::Allowed if endpoint.exists() => Err(format!(
            "{label} has no known port from {from} to {to}; name the ports, or give the endpoint `ports:`"
        )),
        Expected::Allowed => Ok(vec![range.into()]),
    }
}

fn port_or_unresolved(
    endpoint: &ResolvedEndpoint<'_>,
    item: &PortItem,
) -> Result<ResolvedPort, String> {
    if endpoint.exists() {
        endpoint.port(item)
    } else {
        Ok(unresolved_port(&item.port, item.transport))
    }
}

/// A port as it is written, without an endpoint that has it.
pub(super) fn unresolved_port(port: &PortRef, transport: Transport) -> ResolvedPort {
    let (label, number) = match port {
        PortRef::Number(number) => (number.to_string(), *number),
        PortRef::Name(name) => (name.clone(), 0),
    };
    ResolvedPort {
        label: format!("{label}{}", suffix(transport)),
        transport,
        number,
        on_pods: PodPort::Number(number),
        on_service: Vec::new(),
    }
}

fn any_port() -> ResolvedPort {
    unresolved_port(&PortRef::Name("*".into()), Transport::Tcp)
}

/// The ports of one transport in a range that are not known.
pub(super) fn unknown_in_range(
    endpoint: &ResolvedEndpoint<'_>,
    (from, to, transport): (u16, u16, Transport),
) -> Option<Vec<u16>> {
    let known: BTreeSet<u16> = endpoint
        .known_ports(Some(transport))
        .ok()?
        .into_iter()
        .map(|port| port.number)
        .collect();
    let unknown = (from..=to).filter(|number| !known.contains(number));
    Some(unknown.collect())
}

/// The port that a target item names by number.
pub(super) fn mentioned_port(what: &TargetWhat) -> Option<Port> {
    match what {
        TargetWhat::Port(item) => match item.port {
            PortRef::Number(number) => Port::new(number, item.transport),
            PortRef::Name(_) => None,
        },
        TargetWhat::Url(url) => {
            let (number, transport) = url_port(url);
            Port::new(number?, transport)
        }
        TargetWhat::KnownPorts(_) | TargetWhat::Range { .. } => None,
    }
}

pub(super) fn line_ref(line: Option<&Line>, place: &Place) -> LineRef {
    let text = match line {
        Some(line) => line.text.clone(),
        None => "everythingElse: denied".to_owned(),
    };
    LineRef {
        file: place.file.clone(),
        line: place.line,
        column: place.column,
        text,
        because: line.and_then(|line| line.because.clone()),
        tags: line.map_or(Vec::new(), |line| line.tags.clone()),
        id: line.and_then(|line| line.id.clone()),
    }
}
