//! Endpoints and ports of a suite, resolved in an inventory.

use crate::inventory::{Inventory, Pod, Service, ServiceKind, ServicePort, TargetPort};
use crate::model::{Port, Transport};
use crate::suite::{Endpoint, Locator, PortItem, PortRef};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// An endpoint with everything in the inventory that it names.
#[derive(Debug)]
pub(super) struct ResolvedEndpoint<'a> {
    pub(super) endpoint: &'a Endpoint,
    /// Its pods, by name.
    pub(super) pods: Vec<&'a Pod>,
    pub(super) service: Option<&'a Service>,
    /// The Service that the endpoint names with `service:` and that does not fit, as a sentence.
    pub(super) service_fault: Option<String>,
    pub(super) kind: EndpointKind,
    /// Ports that lines name of a host or an address.
    pub(super) mentioned: BTreeSet<Port>,
}

/// What kind of thing an endpoint names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EndpointKind {
    /// Pods, with or without a Service.
    Pods,
    /// A host or an address outside, by its addresses.
    Outside(Vec<IpAddr>),
    /// The machine that watertight runs on.
    Runner,
    /// Every node.
    Nodes,
}

/// A target's port: where the pods listen, and the Service's ports that lead there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvedPort {
    /// As the check's name shows it, without a colon.
    pub(super) label: String,
    pub(super) transport: Transport,
    /// The number by which ports are ordered.
    pub(super) number: u16,
    pub(super) on_pods: PodPort,
    /// The Service's ports that lead there.
    pub(super) on_service: Vec<u16>,
}

/// The port at which each pod is dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PodPort {
    /// The same number on all pods.
    Number(u16),
    /// On each pod the number of its port of this name.
    Name {
        name: String,
        /// The numbers that any pod of the endpoint gives this name: a pod that lacks the name is
        /// dialled at these.
        numbers: BTreeSet<u16>,
    },
}

impl PodPort {
    /// The number on a pod; `None` where the pod lacks a port of that name.
    pub(super) fn number_on(&self, pod: &Pod, transport: Transport) -> Option<u16> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Name { name, .. } => pod.named_port(name, transport).map(Port::number),
        }
    }

    /// The numbers at which a pod is dialled: those of its siblings where it lacks the name.
    pub(super) fn dialled_on(&self, pod: &Pod, transport: Transport) -> Vec<u16> {
        match (self.number_on(pod, transport), self) {
            (Some(number), _) => vec![number],
            (None, Self::Number(number)) => vec![*number],
            (None, Self::Name { numbers, .. }) => numbers.iter().copied().collect(),
        }
    }
}

/// Finds what an endpoint names in an inventory.
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
        service_fault: service_fault(endpoint, service, &pods),
        endpoint,
        pods,
        service,
        kind,
        mentioned: BTreeSet::new(),
    }
}

/// What is wrong with the Service that an endpoint with pods names: it does not exist, or it selects
/// none of them.
fn service_fault(endpoint: &Endpoint, service: Option<&Service>, pods: &[&Pod]) -> Option<String> {
    let name = endpoint.service.as_deref()?;
    let label = &endpoint.label;
    let namespace = match &endpoint.locator {
        Locator::Workload { namespace, .. } | Locator::Pods { namespace, .. } => namespace,
        Locator::Service { .. }
        | Locator::Host(_)
        | Locator::Address(_)
        | Locator::Runner
        | Locator::Nodes => return None,
    };
    let Some(service) = service else {
        return Some(format!(
            "{label} names a Service that does not exist: {namespace}/{name}"
        ));
    };

    let selects_others = !service.selector.is_empty()
        && !pods.is_empty()
        && !pods.iter().any(|pod| selects(service, pod));
    selects_others.then(|| {
        format!("{label} names Service {namespace}/{name}, which selects none of its pods")
    })
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

/// The pods of each namespace, by their indexes in the inventory.
pub(super) struct PodsByNamespace<'a> {
    inventory: &'a Inventory,
    pods: HashMap<&'a str, Vec<usize>>,
}

impl<'a> PodsByNamespace<'a> {
    pub(super) fn of(inventory: &'a Inventory) -> Self {
        let mut pods: HashMap<&str, Vec<usize>> = HashMap::new();
        for (number, pod) in inventory.pods.iter().enumerate() {
            pods.entry(&pod.namespace).or_default().push(number);
        }
        Self { inventory, pods }
    }

    /// The pods that a Service selects, ready or not.
    pub(super) fn behind(&self, service: &Service) -> Vec<usize> {
        let of_namespace = self.pods.get(service.namespace.as_str());
        of_namespace
            .into_iter()
            .flatten()
            .copied()
            .filter(|number| selects(service, &self.inventory.pods[*number]))
            .collect()
    }
}

impl<'a> ResolvedEndpoint<'a> {
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

    /// Whether `*` includes it as a source: pods that do not share their node's network, and what
    /// should have pods and has none, so that its checks say so.
    pub(super) fn is_source_by_wildcard(&self) -> bool {
        self.kind == EndpointKind::Pods
            && (self.lacks_pods() || self.pods.iter().any(|pod| !pod.host_network))
    }

    /// Whether it names pods and matches none. A Service without a selector has no pods to match.
    pub(super) fn lacks_pods(&self) -> bool {
        let has_no_selector = self
            .service
            .is_some_and(|service| service.selector.is_empty());
        self.kind == EndpointKind::Pods && self.pods.is_empty() && !has_no_selector
    }

    /// Its pods that do not share their node's network.
    pub(super) fn pods_on_pod_network(&self) -> impl Iterator<Item = &'a Pod> {
        self.pods.iter().copied().filter(|pod| !pod.host_network)
    }

    /// Whether two of its pods make a pair: packets between them leave a pod.
    pub(super) fn is_pair_with_itself(&self) -> bool {
        self.kind == EndpointKind::Pods && self.pods_on_pod_network().count() > 1
    }

    /// Whether all of its pods share their node's network: they have the node's identity, and
    /// neither `*` nor `everythingElse` includes them.
    pub(super) fn has_node_identity(&self) -> bool {
        !self.pods.is_empty() && self.pods.iter().all(|pod| pod.host_network)
    }

    /// Whether `*` includes it as a target, at its known ports.
    pub(super) fn is_target_by_wildcard(&self) -> bool {
        match self.kind {
            EndpointKind::Pods => {
                self.pods.is_empty() || self.pods.iter().any(|pod| !pod.host_network)
            }
            EndpointKind::Outside(_) => true,
            EndpointKind::Runner | EndpointKind::Nodes => false,
        }
    }

    /// Every known port that can be probed, ascending. SCTP cannot, see [`Self::sctp_ports`].
    ///
    /// # Errors
    /// As [`Self::port`], for a port of `ports:`.
    pub(super) fn known_ports(
        &self,
        transport: Option<Transport>,
    ) -> Result<Vec<ResolvedPort>, String> {
        let mut items = self.known_items();
        items.retain(|item| {
            item.transport != Transport::Sctp
                && transport.is_none_or(|transport| transport == item.transport)
        });
        self.resolve_ports(&items)
    }

    /// Every known port of SCTP, ascending.
    ///
    /// # Errors
    /// As [`Self::port`], for a port of `ports:`.
    pub(super) fn sctp_ports(&self) -> Result<Vec<ResolvedPort>, String> {
        let mut items = self.known_items();
        items.retain(|item| item.transport == Transport::Sctp);
        self.resolve_ports(&items)
    }

    fn known_items(&self) -> Vec<PortItem> {
        match (&self.endpoint.ports, &self.kind) {
            (Some(given), _) => given.clone(),
            (None, EndpointKind::Outside(_) | EndpointKind::Nodes) => {
                self.mentioned.iter().copied().map(PortItem::from).collect()
            }
            (None, EndpointKind::Pods | EndpointKind::Runner) => self.declared_ports(),
        }
    }

    fn resolve_ports(&self, items: &[PortItem]) -> Result<Vec<ResolvedPort>, String> {
        let mut ports = Vec::new();
        for item in items {
            ports.push(self.port(item)?);
        }
        ports.sort_by(|a, b| {
            (a.number, a.transport, &a.label).cmp(&(b.number, b.transport, &b.label))
        });
        ports.dedup();
        Ok(ports)
    }

    /// The ports that the pods declare, and those of the Service that lead to none of them.
    fn declared_ports(&self) -> Vec<PortItem> {
        let declared: BTreeSet<Port> = self
            .pods
            .iter()
            .flat_map(|pod| pod.ports.iter().map(|declared| declared.port))
            .collect();
        let other_service_ports = self
            .service
            .iter()
            .flat_map(|service| &service.ports)
            .filter(|port| !self.leads_to_any(port, &declared))
            .map(|port| port.port);

        declared
            .iter()
            .copied()
            .chain(other_service_ports)
            .map(PortItem::from)
            .collect()
    }

    /// Whether a Service's port leads to one of some ports on any pod.
    fn leads_to_any(&self, port: &ServicePort, ports: &BTreeSet<Port>) -> bool {
        let transport = port.port.transport();
        self.pods
            .iter()
            .filter_map(|pod| port.target.number_on(pod, transport))
            .filter_map(|number| Port::new(number, transport))
            .any(|target| ports.contains(&target))
    }

    /// A port by number or name: the pods' port, or the Service's where only the Service has it.
    ///
    /// # Errors
    /// A sentence: both have the port and they differ, or neither has a port of that name.
    pub(super) fn port(&self, item: &PortItem) -> Result<ResolvedPort, String> {
        match &item.port {
            PortRef::Number(number) => self.port_by_number(*number, item.transport),
            PortRef::Name(name) => self.port_by_name(name, item.transport),
        }
    }

    fn port_by_number(&self, number: u16, transport: Transport) -> Result<ResolvedPort, String> {
        let label = format!("{number}{}", suffix(transport));
        let (leading_here, others): (Vec<&ServicePort>, Vec<&ServicePort>) = self
            .service_ports(transport)
            .partition(|port| self.leads_to_number(port, number));

        let Some(same_number) = others.into_iter().find(|port| port.port.number() == number) else {
            return Ok(ResolvedPort {
                label,
                transport,
                number,
                on_pods: PodPort::Number(number),
                on_service: leading_here.iter().map(|port| port.port.number()).collect(),
            });
        };
        if self.is_declared(number, transport) {
            return Err(format!(
                "{number} is a port of the pods and another port of Service {}, which leads to {}; make two endpoints, one with `pods:` or `workload:`, one with `service:` alone",
                self.service.map_or("", |service| &service.name),
                target_words(&same_number.target),
            ));
        }
        Ok(ResolvedPort {
            label,
            transport,
            number,
            on_pods: self.pod_port(&same_number.target, transport),
            on_service: vec![number],
        })
    }

    fn port_by_name(&self, name: &str, transport: Transport) -> Result<ResolvedPort, String> {
        let label = format!("{name}{}", suffix(transport));
        let numbers = self.numbers_named(name, transport);
        if let Some(first) = numbers.first() {
            let leads_here = |port: &&ServicePort| match &port.target {
                TargetPort::Name(target) => target == name,
                TargetPort::Number(number) => numbers.contains(number),
            };
            return Ok(ResolvedPort {
                label,
                transport,
                number: *first,
                on_service: self
                    .service_ports(transport)
                    .filter(leads_here)
                    .map(|port| port.port.number())
                    .collect(),
                on_pods: PodPort::Name {
                    name: name.to_owned(),
                    numbers,
                },
            });
        }

        let service_port = self
            .service_ports(transport)
            .find(|port| port.name.as_deref() == Some(name))
            .ok_or_else(|| self.no_such_name(name, transport))?;
        Ok(ResolvedPort {
            label,
            transport,
            number: service_port.port.number(),
            on_pods: self.pod_port(&service_port.target, transport),
            on_service: vec![service_port.port.number()],
        })
    }

    /// The numbers of the pods' ports of a name.
    fn numbers_named(&self, name: &str, transport: Transport) -> BTreeSet<u16> {
        self.pods
            .iter()
            .filter_map(|pod| pod.named_port(name, transport))
            .map(Port::number)
            .collect()
    }

    /// The pods' port that a Service's port leads to.
    fn pod_port(&self, target: &TargetPort, transport: Transport) -> PodPort {
        match target {
            TargetPort::Number(number) => PodPort::Number(*number),
            TargetPort::Name(name) => PodPort::Name {
                name: name.clone(),
                numbers: self.numbers_named(name, transport),
            },
        }
    }

    /// The Service's ports of a transport.
    fn service_ports(&self, transport: Transport) -> impl Iterator<Item = &'a ServicePort> {
        self.service
            .into_iter()
            .flat_map(|service| &service.ports)
            .filter(move |port| port.port.transport() == transport)
    }

    /// Whether a Service's port leads to a port of the pods by its number.
    fn leads_to_number(&self, port: &ServicePort, number: u16) -> bool {
        let transport = port.port.transport();
        if self.pods.is_empty() {
            return port.target == TargetPort::Number(number);
        }
        self.pods
            .iter()
            .any(|pod| port.target.number_on(pod, transport) == Some(number))
    }

    /// Whether any pod declares a port.
    fn is_declared(&self, number: u16, transport: Transport) -> bool {
        self.pods.iter().flat_map(|pod| &pod.ports).any(|declared| {
            declared.port.number() == number && declared.port.transport() == transport
        })
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

    /// Why there is nothing to test, as a sentence.
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
                let name = format!("Service {}/{}", service.namespace, service.name);
                match self.service {
                    Some(_) => format!("{label} matches nothing: {name} selects no pod"),
                    None => format!("{label} matches nothing: there is no {name}"),
                }
            }
            Locator::Host(name) => format!("{name} has no known address"),
            Locator::Address(_) | Locator::Runner | Locator::Nodes => {
                format!("{label} has no address")
            }
        }
    }
}

/// How a transport other than TCP stands behind a port.
pub(super) fn suffix(transport: Transport) -> String {
    match transport {
        Transport::Tcp => String::new(),
        Transport::Udp | Transport::Sctp => format!("/{transport}"),
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

fn target_words(target: &TargetPort) -> String {
    match target {
        TargetPort::Number(number) => number.to_string(),
        TargetPort::Name(name) => format!("the port named {name}"),
    }
}

/// The cluster addresses of a Service that can be dialled.
pub(super) fn cluster_addresses(service: &Service) -> &[IpAddr] {
    match service.kind {
        ServiceKind::ClusterIp => &service.addresses,
        ServiceKind::Headless | ServiceKind::ExternalName(_) => &[],
    }
}
