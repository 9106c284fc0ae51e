//! The endpoints of a drafted suite: workloads as policies tell them apart, cluster DNS, addresses
//! that represent blocks, the runner.

use super::super::endpoints::{PodsByNamespace, cluster_addresses, resolve_endpoint, selects};
use super::names::Names;
use super::{DraftError, DraftSelection};
use crate::inventory::{Inventory, Pod, Service, ServiceKind};
use crate::model::{Families, Family, Port, Transport, WorkloadKind, WorkloadRef};
use crate::policy::{
    Direction, Explainer, IdleRule, NamedBlock, PolicyName, Predictor, WorkloadPods,
};
use crate::suite::{Endpoint, INSTANCE_METADATA, Locator, PortItem, PortRef};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

/// An address that no host has: TEST-NET-3 (RFC 5737).
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 66));

/// How many addresses of a block are tried to find one that can be outside.
const MAX_TRIED: usize = 256;

/// At most so many ports of a block are tested.
const PORTS_OF_BLOCK: usize = 4;

/// An endpoint of the drafted suite.
#[derive(Debug)]
pub(super) struct DraftEndpoint {
    pub(super) endpoint: Endpoint,
    /// As `spec.endpoints` has it, in YAML's flow style; `None` for what is built in.
    pub(super) definition: Option<String>,
    /// What of it neither a policy nor an object determines.
    pub(super) guessed: Option<String>,
    /// Its namespace, where it has pods.
    pub(super) namespace: Option<String>,
    /// Whether it and its lines are written as comments: no policy has to speak of it, and whether
    /// it is worth testing is a person's choice.
    pub(super) optional: bool,
}

/// All endpoints, and what is left out.
#[derive(Debug)]
pub(super) struct DraftEndpoints {
    pub(super) endpoints: Vec<DraftEndpoint>,
    /// The index of cluster DNS.
    pub(super) dns: Option<usize>,
    /// Workloads with their nodes' identity.
    pub(super) host_network: Vec<String>,
    /// Workloads without an address.
    pub(super) unplaced: Vec<String>,
    /// Blocks without an address that can represent them, with the rule that names each.
    pub(super) blocks: Vec<String>,
    /// Blocks of a family in which no pod can send, with the rule that names each.
    pub(super) unreachable_blocks: Vec<String>,
    /// Rules that select no existing pod.
    pub(super) idle: Vec<IdleRule>,
}

/// The endpoints for the workloads that are selected and what their policies name.
pub(super) fn draft_endpoints(
    inventory: &Inventory,
    selection: &DraftSelection,
    can_be_outside: &dyn Fn(IpAddr) -> bool,
) -> Result<DraftEndpoints, DraftError> {
    let explainer = Explainer::new(inventory)?;
    let policies = Policies::of(inventory, selection, &explainer);
    let idle = explainer.idle_rules();
    let mut draft_endpoints = DraftEndpoints {
        endpoints: Vec::new(),
        dns: None,
        host_network: Vec::new(),
        unplaced: Vec::new(),
        blocks: Vec::new(),
        unreachable_blocks: Vec::new(),
        idle: idle
            .into_iter()
            .filter(|rule| policies.contains(&rule.policy))
            .collect(),
    };
    draft_endpoints.pods(inventory, selection)?;
    if draft_endpoints.endpoints.is_empty() {
        return Err(DraftError::NoWorkload);
    }
    let mut names = Names::default();
    draft_endpoints.name(&mut names);
    draft_endpoints.outside(inventory, &explainer, &policies, can_be_outside, &mut names);
    if !inventory.runner.is_empty() {
        draft_endpoints.endpoints.push(DraftEndpoint {
            endpoint: Endpoint::of("runner", Locator::Runner),
            definition: None,
            guessed: None,
            namespace: None,
            optional: false,
        });
    }
    Ok(draft_endpoints)
}

/// The policies that select a pod of the draft.
struct Policies {
    /// `None` for all, where every pod is selected.
    of_selected: Option<BTreeSet<PolicyName>>,
    /// Whether any selects a pod of the draft for egress.
    restrict_egress: bool,
}

impl Policies {
    fn of(inventory: &Inventory, selection: &DraftSelection, explainer: &Explainer<'_>) -> Self {
        let pods = inventory.pods.iter().enumerate();
        let mut selected = pods.filter(|(_, pod)| selection.contains(pod));
        if selection.is_everything() {
            let is_restricted = |(number, _): (usize, &Pod)| {
                !explainer.selecting(number, Direction::Egress).is_empty()
            };
            return Self {
                of_selected: None,
                restrict_egress: selected.any(is_restricted),
            };
        }

        let mut of_selected = BTreeSet::new();
        let mut restrict_egress = false;
        for (number, _) in selected {
            let egress = explainer.selecting(number, Direction::Egress);
            restrict_egress |= !egress.is_empty();
            let ingress = explainer.selecting(number, Direction::Ingress);
            of_selected.extend(egress.into_iter().chain(ingress).cloned());
        }
        Self {
            of_selected: Some(of_selected),
            restrict_egress,
        }
    }

    fn contains(&self, policy: &PolicyName) -> bool {
        let of_selected = self.of_selected.as_ref();
        of_selected.is_none_or(|policies| policies.contains(policy))
    }
}

impl DraftEndpoints {
    /// Workloads in order of namespace and name; cluster DNS is known by its Service, whatever
    /// answers there.
    fn pods(
        &mut self,
        inventory: &Inventory,
        selection: &DraftSelection,
    ) -> Result<(), DraftError> {
        let is_selected = |pod: &Pod| selection.contains(pod);
        if !selection.is_everything() && !inventory.pods.iter().any(is_selected) {
            return Err(DraftError::NothingSelected(selection.to_string()));
        }
        let services = ServicePods::of(inventory);
        let dns = inventory.cluster_dns();
        let is_dns = |pod: &Pod| dns.is_some_and(|dns| selects(dns, pod)) && !pod.host_network;
        for pod in &inventory.pods {
            if pod.host_network && is_selected(pod) {
                self.host_network
                    .push(format!("{}/{}", pod.namespace, pod.outermost_workload()));
            }
        }
        self.host_network.sort();
        self.host_network.dedup();
        if let Some(dns) = dns.filter(|_| inventory.pods.iter().any(is_dns)) {
            self.dns = Some(self.endpoints.len());
            self.endpoints.push(cluster_dns(dns));
        }
        for WorkloadPods { workload, pods, .. } in Predictor::new(inventory)?.map_ends().workloads()
        {
            let Some(kind) = WorkloadKind::parse(&workload.kind) else {
                continue;
            };
            let namespace = workload.namespace.clone();
            let whole = Locator::Workload {
                namespace: namespace.clone(),
                workload: WorkloadRef {
                    kind,
                    name: workload.name.clone(),
                },
            };
            let single = |name: &String| Locator::Workload {
                namespace: namespace.clone(),
                workload: WorkloadRef {
                    kind: WorkloadKind::Pod,
                    name: name.clone(),
                },
            };
            let split = !pods.is_empty();
            let locators: Vec<Locator> = if split {
                pods.iter().map(single).collect()
            } else {
                vec![whole]
            };
            for locator in locators {
                let mut endpoint = Endpoint::of("", locator);
                let found = resolve_endpoint(&endpoint, inventory).pods;
                if !found.iter().any(|pod| is_selected(pod)) {
                    continue;
                }
                if !found.is_empty() && found.iter().all(|pod| is_dns(pod)) {
                    continue;
                }
                if found
                    .iter()
                    .all(|pod| pod.addresses.is_empty() || pod.node.is_empty())
                {
                    self.unplaced.push(workload.to_string());
                    continue;
                }
                endpoint.service = services.leading_to(&endpoint, &found);
                let guessed =
                    split.then(|| format!("policies treat the pods of {workload} differently"));
                self.endpoints.push(DraftEndpoint {
                    endpoint,
                    definition: None,
                    guessed,
                    namespace: Some(namespace.clone()),
                    optional: false,
                });
            }
        }
        Ok(())
    }

    /// Names by workload; where two have the same, both get their namespace in front.
    fn name(&mut self, names: &mut Names) {
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        let short = |draft_endpoint: &DraftEndpoint| match &draft_endpoint.endpoint.locator {
            Locator::Workload { workload, .. } => super::names::spelt(&workload.name),
            _ => CLUSTER_DNS.to_owned(),
        };
        for draft_endpoint in &self.endpoints {
            *count.entry(short(draft_endpoint)).or_default() += 1;
        }
        for draft_endpoint in &mut self.endpoints {
            let (short, namespace) = (
                short(draft_endpoint),
                draft_endpoint.namespace.clone().unwrap_or_default(),
            );
            let kind = match &draft_endpoint.endpoint.locator {
                Locator::Workload { workload, .. } => workload.kind.as_str(),
                _ => "",
            };
            let long = [
                format!("{namespace}-{short}"),
                format!("{namespace}-{kind}-{short}"),
            ];
            let wishes = if count.get(&short).is_some_and(|count| *count > 1) {
                Vec::new()
            } else {
                vec![short]
            };
            let wishes: Vec<String> = wishes.into_iter().chain(long).collect();
            draft_endpoint.endpoint.label = names.give(&wishes);
            draft_endpoint.definition = Some(definition(&draft_endpoint.endpoint));
        }
    }

    /// Addresses for the blocks of egress rules and for what they except; and two that nothing
    /// should reach, as comments.
    fn outside(
        &mut self,
        inventory: &Inventory,
        explainer: &Explainer<'_>,
        policies: &Policies,
        can_be_outside: &dyn Fn(IpAddr) -> bool,
        names: &mut Names,
    ) {
        let mut chosen: BTreeMap<IpAddr, (BTreeSet<Port>, BTreeSet<String>)> = BTreeMap::new();
        let mut order: Vec<IpAddr> = Vec::new();
        let inside = addresses_inside(inventory);
        let of_pods = inventory.pods.iter().flat_map(|pod| &pod.addresses);
        let families = Families::of(of_pods.map(|address| Family::of(*address)));
        let mut note = |address: IpAddr, ports: &[Port], why: Option<String>| {
            // It has a line of its own below, at the port on which clouds answer there.
            if address == INSTANCE_METADATA {
                return;
            }
            if !chosen.contains_key(&address) {
                order.push(address);
            }
            let (known, reasons) = chosen.entry(address).or_default();
            known.extend(ports);
            reasons.extend(why);
        };
        let named_blocks = explainer.named_blocks().into_iter();
        for named in named_blocks.filter(|named| policies.contains(&named.policy)) {
            let rule = format!("rule {} of {}", named.rule, short_name(&named.policy));
            let family = Family::of(named.block.first());
            if !families.is_some_and(|families| families.contains(family)) {
                self.unreachable_blocks
                    .push(format!("{} ({rule})", named.block));
                continue;
            }
            let (ports, port_guess) = ports_of(&named);
            if ports.is_empty() {
                continue;
            }
            let is_single = named.block.first() == named.block.last();
            let free = |address: &IpAddr| can_be_outside(*address) && !inside.contains(address);
            let allowed = addresses(named.block.first(), named.block.last())
                .filter(|address| !named.except.iter().any(|hole| hole.contains(*address)))
                .find(free);
            match allowed {
                Some(address) => {
                    let stands = (!is_single).then(|| {
                        format!("{address} stands for {}, which {rule} names", named.block)
                    });
                    let why = match (stands, port_guess) {
                        (Some(one), Some(other)) => Some(format!("{one}; {other}")),
                        (one, other) => one.or(other.map(str::to_owned)),
                    };
                    note(address, &ports, why);
                }
                None => self.blocks.push(format!("{} ({rule})", named.block)),
            }
            for hole in &named.except {
                if let Some(address) = addresses(hole.first(), hole.last()).find(free) {
                    note(
                        address,
                        &ports,
                        Some(format!("{address} stands for {hole}, which {rule} excepts")),
                    );
                }
            }
        }
        let mut fixed = BTreeMap::new();
        if policies.restrict_egress {
            let usual = [
                (
                    INSTANCE_METADATA,
                    80,
                    "metadata",
                    "where most clouds answer about a machine, its credentials among them",
                ),
                (
                    ELSEWHERE,
                    443,
                    "elsewhere",
                    "an address that no pod should reach",
                ),
            ];
            for (address, port, name, why) in usual {
                if can_be_outside(address)
                    && !inside.contains(&address)
                    && !chosen.contains_key(&address)
                {
                    fixed.insert(address, name);
                    let port = Port::new(port, Transport::Tcp);
                    order.push(address);
                    chosen.insert(
                        address,
                        (port.into_iter().collect(), BTreeSet::from([why.to_owned()])),
                    );
                }
            }
        }
        for address in order {
            let Some((ports, reasons)) = chosen.remove(&address) else {
                continue;
            };
            let wish = fixed
                .get(&address)
                .map_or_else(|| format!("outside-{address}"), |name| (*name).to_owned());
            let mut endpoint = Endpoint::of(&names.give(&[wish]), Locator::Address(address));
            endpoint.ports = Some(ports.iter().copied().map(PortItem::from).collect());
            let guessed =
                (!reasons.is_empty()).then(|| reasons.into_iter().collect::<Vec<_>>().join("; "));
            let definition = Some(definition(&endpoint));
            self.endpoints.push(DraftEndpoint {
                endpoint,
                definition,
                guessed,
                namespace: None,
                optional: fixed.contains_key(&address),
            });
        }
    }
}

/// What cluster DNS is called.
const CLUSTER_DNS: &str = "cluster-dns";

/// Its ports by the protocol alone: what else its pods declare differs from cluster to cluster.
fn cluster_dns(service: &Service) -> DraftEndpoint {
    let dns = service
        .ports
        .iter()
        .filter(|port| port.port.number() == 53 && port.port.transport() != Transport::Sctp);
    let ports: BTreeSet<Port> = dns.map(|port| port.port).collect();
    let mut endpoint = Endpoint::of(
        CLUSTER_DNS,
        Locator::Service {
            service: service.object(),
        },
    );
    endpoint.ports = Some(ports.into_iter().map(PortItem::from).collect());
    DraftEndpoint {
        endpoint,
        definition: None,
        guessed: None,
        namespace: Some(service.namespace.clone()),
        optional: false,
    }
}

/// Services with a cluster address, and the pods behind each.
struct ServicePods<'a> {
    inventory: &'a Inventory,
    by_namespace: HashMap<&'a str, Vec<(&'a Service, Vec<&'a Pod>)>>,
}

impl<'a> ServicePods<'a> {
    fn of(inventory: &'a Inventory) -> Self {
        let pods = PodsByNamespace::of(inventory);
        let mut by_namespace: HashMap<&str, Vec<(&Service, Vec<&Pod>)>> = HashMap::new();
        let with_address = inventory.services.iter().filter(|service| {
            service.kind == ServiceKind::ClusterIp && !cluster_addresses(service).is_empty()
        });
        for service in with_address {
            let behind = pods.behind(service).into_iter();
            let behind = behind.map(|number| &inventory.pods[number]);
            let known = by_namespace.entry(&service.namespace).or_default();
            known.push((service, behind.collect()));
        }
        Self {
            inventory,
            by_namespace,
        }
    }

    /// A Service that leads to these pods and no others, and that makes no port mean two things.
    fn leading_to(&self, endpoint: &Endpoint, pods: &[&Pod]) -> Option<String> {
        let namespace = pods.first()?.namespace.as_str();
        let own: HashSet<*const Pod> = pods.iter().map(|pod| std::ptr::from_ref(*pod)).collect();
        let leads_here = |(service, behind): &&(&Service, Vec<&Pod>)| {
            behind.len() == pods.len()
                && behind
                    .iter()
                    .all(|pod| own.contains(&std::ptr::from_ref(*pod)))
                && (service.publish_not_ready || pods.iter().any(|pod| pod.ready))
        };
        let fits = |(service, _): &&(&Service, Vec<&Pod>)| {
            let tried = Endpoint {
                service: Some(service.name.clone()),
                ..endpoint.clone()
            };
            resolve_endpoint(&tried, self.inventory)
                .known_ports(None)
                .is_ok()
        };
        let mut services = self.by_namespace.get(namespace)?.iter().filter(leads_here);
        services.find(fits).map(|(service, _)| service.name.clone())
    }
}

/// A policy without the place where it stands.
pub(super) fn short_name(policy: &crate::policy::PolicyName) -> String {
    policy.reference.to_string()
}

/// A few ports for a block, and what of them is a guess. SCTP cannot be probed.
fn ports_of(named: &NamedBlock) -> (Vec<Port>, Option<&'static str>) {
    if named.ports.is_empty() {
        return (
            Port::new(443, Transport::Tcp).into_iter().collect(),
            Some("the rule names no port"),
        );
    }
    let probed = named
        .ports
        .iter()
        .filter(|(port, _)| port.transport() != Transport::Sctp)
        .take(PORTS_OF_BLOCK);
    let (ports, single): (Vec<Port>, Vec<bool>) = probed.copied().unzip();
    let whole = single.into_iter().all(|single| single);
    (ports, (!whole).then_some("a port stands for its range"))
}

/// The addresses of pods, nodes, Services and the runner.
fn addresses_inside(inventory: &Inventory) -> HashSet<IpAddr> {
    let pods = inventory.pods.iter().flat_map(|pod| &pod.addresses);
    let nodes = inventory.nodes.iter().flat_map(|node| &node.addresses);
    let services = inventory.services.iter().flat_map(cluster_addresses);
    pods.chain(nodes)
        .chain(services)
        .chain(&inventory.runner)
        .copied()
        .collect()
}

/// Some addresses of a range: one alone, or those behind the first, which may be a network's own
/// name.
fn addresses(first: IpAddr, last: IpAddr) -> impl Iterator<Item = IpAddr> {
    let nth = move |step: usize| match first {
        IpAddr::V4(v4) => u32::from(v4)
            .checked_add(u32::try_from(step).ok()?)
            .map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(v6) => u128::from(v6)
            .checked_add(step as u128)
            .map(|bits| IpAddr::V6(bits.into())),
    };
    // A block as large as the whole address space begins where no host can be: it also contains the
    // addresses for documentation.
    let examples = [DOCUMENTATION_V4, DOCUMENTATION_V6]
        .into_iter()
        .filter_map(|text| text.parse::<IpAddr>().ok());
    let begin = usize::from(first != last);
    let near = (begin..MAX_TRIED).filter_map(nth);
    examples.chain(near).filter(move |address| {
        (first..=last).contains(address) && address.is_ipv4() == first.is_ipv4()
    })
}

/// Documentation's own addresses (RFC 5737, RFC 3849), for blocks that hold them.
const DOCUMENTATION_V4: &str = "198.51.100.1";
const DOCUMENTATION_V6: &str = "2001:db8:51::1";

/// An endpoint in YAML's flow style.
fn definition(endpoint: &Endpoint) -> String {
    let mut fields = Vec::new();
    match &endpoint.locator {
        Locator::Workload {
            namespace,
            workload,
        } => {
            fields.push(format!("namespace: {}", plain(namespace)));
            fields.push(format!("workload: {}", plain(&workload.to_string())));
        }
        Locator::Service { service } => {
            fields.push(format!("namespace: {}", plain(&service.namespace)));
            fields.push(format!("service: {}", plain(&service.name)));
        }
        Locator::Address(address) => fields.push(format!("ip: {}", plain(&address.to_string()))),
        Locator::Pods { .. } | Locator::Host(_) | Locator::Runner | Locator::Nodes => {}
    }
    if let Some(service) = &endpoint.service {
        fields.push(format!("service: {}", plain(service)));
    }
    if let Some(ports) = &endpoint.ports {
        let ports: Vec<String> = ports.iter().map(port_text).collect();
        fields.push(format!("ports: [{}]", ports.join(", ")));
    }
    format!("{{ {} }}", fields.join(", "))
}

/// A port as a suite writes it.
fn port_text(item: &PortItem) -> String {
    let port = match &item.port {
        PortRef::Number(number) => number.to_string(),
        PortRef::Name(name) => name.clone(),
    };
    match item.transport {
        Transport::Tcp => port,
        other => format!("{port}/{other}"),
    }
}

/// A scalar, quoted where YAML's flow style would read it otherwise.
fn plain(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '/' | '_');
    if text.chars().all(harmless) && text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        text.to_owned()
    } else {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    }
}
