//! Endpoints and ports of a suite, found in an inventory.

use crate::inventory::{Inventory, Pod, Service, ServiceKind, TargetPort};
use crate::model::{Port, Transport};
use crate::suite::{Endpoint, Locator, PortItem, PortRef};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// An endpoint with everything in the inventory that it stands for.
#[derive(Debug)]
pub(super) struct ResolvedEndpoint<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// Its pods, by name.
    pub(super) pods: Vec<&'a Pod>,
    /// Its Service.
    pub(super) service: Option<&'a Service>,
    /// What it is when it is neither pods nor a Service.
    pub(super) kind: EndpointKind,
    /// Ports that lines name of a host or an address.
    pub(super) mentioned: BTreeSet<Port>,
}

/// What an endpoint is by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EndpointKind {
    /// Pods, with or without a Service.
    Pods,
    /// Outside, by these addresses.
    Outside(Vec<IpAddr>),
    /// From where watertight runs.
    Runner,
    /// Every node.
    Nodes,
}

/// A target's port: where the pods listen, and the Service's ports that lead there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvedPort {
    /// As the check's name shows it, without a colon.
    pub(super) label: String,
    /// The transport.
    pub(super) transport: Transport,
    /// For order and for comparing lines.
    pub(super) number: u16,
    /// How each pod is dialled.
    pub(super) on_pods: PodPort,
    /// The Service's ports.
    pub(super) on_service: Vec<u16>,
}

/// How pods are dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PodPort {
    /// All at one number.
    Number(u16),
    /// Each at the number of its own port of this name.
    Name(String),
}

impl PodPort {
    pub(super) fn number_on(&self, pod: &Pod, transport: Transport) -> Option<u16> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Name(name) => pod.named_port(name, transport).map(Port::number),
        }
    }
}

/// Finds an endpoint.
pub(super) fn resolve_endpoint<'a>(
    endpoint: &'a Endpoint,
    inventory: &'a Inventory,
) -> ResolvedEndpoint<'a> {
    let service_named = |namespace: &str, name: &str| {
        inventory
            .services
            .iter()
            .find(|service| service.namespace == namespace && service.name == name)
    };
    let mut pods: Vec<&Pod> = Vec::new();
    let mut service = None;
    let mut kind = EndpointKind::Pods;
    match &endpoint.locator {
        Locator::Workload {
            namespace,
            workload,
        } => {
            pods.extend(
                inventory
                    .pods
                    .iter()
                    .filter(|pod| pod.namespace == *namespace && pod.workloads.contains(workload)),
            );
            service = endpoint
                .service
                .as_deref()
                .and_then(|name| service_named(namespace, name));
        }
        Locator::Pods { namespace, labels } => {
            let matches = |pod: &Pod| {
                labels
                    .iter()
                    .all(|(key, value)| pod.labels.get(key) == Some(value))
            };
            pods.extend(
                inventory
                    .pods
                    .iter()
                    .filter(|pod| pod.namespace == *namespace && matches(pod)),
            );
            service = endpoint
                .service
                .as_deref()
                .and_then(|name| service_named(namespace, name));
        }
        Locator::Service { service: named } => {
            service = service_named(&named.namespace, &named.name);
            if let Some(service) = service {
                pods.extend(inventory.pods.iter().filter(|pod| selects(service, pod)));
            }
        }
        Locator::Host(name) => {
            kind = EndpointKind::Outside(
                inventory
                    .hosts
                    .get(name.as_str())
                    .cloned()
                    .unwrap_or_default(),
            );
        }
        Locator::Address(address) => kind = EndpointKind::Outside(vec![*address]),
        Locator::Runner => kind = EndpointKind::Runner,
        Locator::Nodes => kind = EndpointKind::Nodes,
    }
    pods.sort_by(|a, b| a.name.cmp(&b.name));
    ResolvedEndpoint {
        endpoint,
        pods,
        service,
        kind,
        mentioned: BTreeSet::new(),
    }
}

/// Whether a Service's selector matches a pod; an empty selector matches none (Kubernetes API,
/// ServiceSpec.selector).
pub(super) fn selects(service: &Service, pod: &Pod) -> bool {
    service.namespace == pod.namespace
        && !service.selector.is_empty()
        && service
            .selector
            .iter()
            .all(|(key, value)| pod.labels.get(key) == Some(value))
}

impl ResolvedEndpoint<'_> {
    /// Whether anything of it exists.
    pub(super) fn exists(&self) -> bool {
        match &self.kind {
            EndpointKind::Pods => {
                !self.pods.is_empty()
                    || self
                        .service
                        .is_some_and(|service| !service.addresses.is_empty())
            }
            EndpointKind::Outside(addresses) => !addresses.is_empty(),
            EndpointKind::Runner | EndpointKind::Nodes => true,
        }
    }

    /// Whether `*` means it as a source: pods with an identity of their own.
    pub(super) fn is_source_by_wildcard(&self) -> bool {
        self.kind == EndpointKind::Pods && self.pods.iter().any(|pod| !pod.host_network)
    }

    /// Whether `*` may mean it as a target: known ports decide the rest.
    pub(super) fn is_target_by_wildcard(&self) -> bool {
        match self.kind {
            EndpointKind::Pods => {
                self.pods.is_empty() || self.pods.iter().any(|pod| !pod.host_network)
            }
            EndpointKind::Outside(_) => true,
            EndpointKind::Runner | EndpointKind::Nodes => false,
        }
    }

    /// Every known port, ascending. SCTP cannot be probed and is left out.
    ///
    /// # Errors
    /// As [`Self::port`], for a port of `ports:`.
    pub(super) fn known_ports(
        &self,
        transport: Option<Transport>,
    ) -> Result<Vec<ResolvedPort>, String> {
        let wanted =
            |of: Transport| of != Transport::Sctp && transport.is_none_or(|only| only == of);
        let mut items: Vec<PortItem> = Vec::new();
        if let Some(given) = &self.endpoint.ports {
            items.extend(given.iter().cloned());
        } else if matches!(self.kind, EndpointKind::Outside(_) | EndpointKind::Nodes) {
            items.extend(self.mentioned.iter().copied().map(PortItem::from));
        } else {
            let declared: BTreeSet<Port> = self
                .pods
                .iter()
                .flat_map(|pod| pod.ports.iter().map(|declared| declared.port))
                .collect();
            items.extend(declared.iter().copied().map(PortItem::from));
            let leads_to_declared = |port: &crate::inventory::ServicePort| {
                self.pods.iter().any(|pod| {
                    target_on(&port.target, port.port.transport(), pod)
                        .and_then(|number| Port::new(number, port.port.transport()))
                        .is_some_and(|target| declared.contains(&target))
                })
            };
            let extra = self
                .service
                .iter()
                .flat_map(|service| &service.ports)
                .filter(|port| !leads_to_declared(port));
            items.extend(extra.map(|port| PortItem::from(port.port)));
        }
        let mut ports = Vec::new();
        for item in items.iter().filter(|item| wanted(item.transport)) {
            ports.push(self.port(item)?);
        }
        ports.sort_by(|a, b| {
            (a.number, a.transport, &a.label).cmp(&(b.number, b.transport, &b.label))
        });
        ports.dedup();
        Ok(ports)
    }

    /// A port by number or name: the pod's; where only the Service knows it, the Service's.
    ///
    /// # Errors
    /// A sentence: known to both and different, or a name that nobody knows.
    pub(super) fn port(&self, item: &PortItem) -> Result<ResolvedPort, String> {
        let transport = item.transport;
        let suffix = if transport == Transport::Tcp {
            String::new()
        } else {
            format!("/{transport}")
        };
        let service_ports = || {
            self.service
                .iter()
                .flat_map(|service| &service.ports)
                .filter(|port| port.port.transport() == transport)
        };
        match &item.port {
            PortRef::Number(number) => {
                let label = format!("{number}{suffix}");
                let leads = |port: &&crate::inventory::ServicePort| {
                    self.pods
                        .iter()
                        .any(|pod| target_on(&port.target, transport, pod) == Some(*number))
                        || (self.pods.is_empty() && port.target == TargetPort::Number(*number))
                };
                let on_service: Vec<u16> = service_ports()
                    .filter(leads)
                    .map(|port| port.port.number())
                    .collect();
                let on_pod = self.pods.iter().any(|pod| {
                    pod.ports.iter().any(|declared| {
                        declared.port.number() == *number && declared.port.transport() == transport
                    })
                });
                let own =
                    service_ports().find(|port| port.port.number() == *number && !leads(port));
                match own {
                    Some(own) if on_pod => Err(format!(
                        "{number} is a port of the pods and another port of Service {}, which leads to {}; make two endpoints, one with `pods:` or `workload:`, one with `service:` alone",
                        self.service.map_or("", |service| &service.name),
                        show_target(&own.target),
                    )),
                    Some(own) => Ok(ResolvedPort {
                        label,
                        transport,
                        number: *number,
                        on_pods: on_target(&own.target),
                        on_service: vec![*number],
                    }),
                    None => Ok(ResolvedPort {
                        label,
                        transport,
                        number: *number,
                        on_pods: PodPort::Number(*number),
                        on_service,
                    }),
                }
            }
            PortRef::Name(name) => {
                let label = format!("{name}{suffix}");
                let numbers: BTreeSet<u16> = self
                    .pods
                    .iter()
                    .filter_map(|pod| pod.named_port(name, transport))
                    .map(Port::number)
                    .collect();
                let leads = |port: &&crate::inventory::ServicePort| match &port.target {
                    TargetPort::Name(target) => target == name,
                    TargetPort::Number(number) => numbers.contains(number),
                };
                if let Some(first) = numbers.first() {
                    let on_service = service_ports()
                        .filter(leads)
                        .map(|port| port.port.number())
                        .collect();
                    return Ok(ResolvedPort {
                        label,
                        transport,
                        number: *first,
                        on_pods: PodPort::Name(name.clone()),
                        on_service,
                    });
                }
                let own = service_ports()
                    .find(|port| port.name.as_deref() == Some(name))
                    .ok_or_else(|| self.no_such_name(name, transport))?;
                Ok(ResolvedPort {
                    label,
                    transport,
                    number: own.port.number(),
                    on_pods: on_target(&own.target),
                    on_service: vec![own.port.number()],
                })
            }
        }
    }

    fn no_such_name(&self, name: &str, transport: Transport) -> String {
        let mut known: BTreeSet<&str> = BTreeSet::new();
        for pod in &self.pods {
            known.extend(
                pod.ports
                    .iter()
                    .filter(|port| port.port.transport() == transport)
                    .filter_map(|port| port.name.as_deref()),
            );
        }
        known.extend(
            self.service
                .iter()
                .flat_map(|service| &service.ports)
                .filter_map(|port| port.name.as_deref()),
        );
        if known.is_empty() {
            format!(
                "{} has no {transport} port named {name:?}, nor any named port",
                self.endpoint.label
            )
        } else {
            let known: Vec<&str> = known.into_iter().collect();
            format!(
                "{} has no {transport} port named {name:?}; its named ports are {}",
                self.endpoint.label,
                known.join(", ")
            )
        }
    }

    /// Why there is nothing to test, in words.
    pub(super) fn absence(&self, inventory: &Inventory) -> String {
        let label = &self.endpoint.label;
        match &self.endpoint.locator {
            Locator::Workload {
                namespace,
                workload,
            } => {
                let there: BTreeSet<String> = inventory
                    .pods
                    .iter()
                    .filter(|pod| pod.namespace == *namespace)
                    // The outermost owner, which is what suites name; the pod itself where it has
                    // none.
                    .filter_map(|pod| {
                        pod.workloads
                            .iter()
                            .rev()
                            .nth(1)
                            .or(pod.workloads.last())
                            .map(ToString::to_string)
                    })
                    .collect();
                format!(
                    "{label} matches nothing: there are no pods of {workload} in namespace {namespace}{}",
                    list(" (there are pods of ", &there, ")")
                )
            }
            Locator::Pods { namespace, labels } => {
                let wanted: Vec<String> = labels
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                let there: BTreeSet<String> = inventory
                    .pods
                    .iter()
                    .filter(|pod| pod.namespace == *namespace)
                    .flat_map(|pod| {
                        pod.labels
                            .iter()
                            .filter(|(key, _)| labels.contains_key(*key))
                            .map(|(key, value)| format!("{key}={value}"))
                    })
                    .collect();
                format!(
                    "{label} matches nothing: no pod has {} in namespace {namespace}{}",
                    wanted.join(","),
                    list(" (pods there carry ", &there, ")")
                )
            }
            Locator::Service { service } => {
                format!(
                    "{label} matches nothing: there is no Service {}/{}",
                    service.namespace, service.name
                )
            }
            Locator::Host(name) => format!("{name} has no known address"),
            Locator::Address(_) | Locator::Runner | Locator::Nodes => {
                format!("{label} has no address")
            }
        }
    }
}

fn list(before: &str, items: &BTreeSet<String>, after: &str) -> String {
    if items.is_empty() {
        return String::new();
    }
    let shown: Vec<&str> = items.iter().take(6).map(String::as_str).collect();
    let more = if items.len() > shown.len() {
        ", ..."
    } else {
        ""
    };
    format!("{before}{}{more}{after}", shown.join(", "))
}

fn on_target(target: &TargetPort) -> PodPort {
    match target {
        TargetPort::Number(number) => PodPort::Number(*number),
        TargetPort::Name(name) => PodPort::Name(name.clone()),
    }
}

fn show_target(target: &TargetPort) -> String {
    match target {
        TargetPort::Number(number) => number.to_string(),
        TargetPort::Name(name) => format!("the port named {name}"),
    }
}

pub(super) fn target_on(target: &TargetPort, transport: Transport, pod: &Pod) -> Option<u16> {
    match target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => pod.named_port(name, transport).map(Port::number),
    }
}

/// Whether a Service has a cluster address to be dialled.
pub(super) fn cluster_addresses(service: &Service) -> &[IpAddr] {
    match service.kind {
        ServiceKind::ClusterIp => &service.addresses,
        ServiceKind::Headless | ServiceKind::ExternalName(_) => &[],
    }
}
