//! The world of a lab: manifests with nodes and addresses assigned. Pure; the same input gives the
//! same world.

use super::addresses::{self, Addresses, MAX_NODES};
use super::nodes::apply_declared;
use super::{CONTROL_PORT, KUBELET_PORT};
use crate::inventory::{
    ContainerPort, DeclaredPod, Inventory, Labels, Manifests, Namespace, Node, Placement, Pod,
    Policy, Service, ServiceKind, ServicePort, TargetPort,
};
use crate::model::{Families, Family, Port, Transport, WorkloadKind, WorkloadRef};
use crate::plan::{BackendProperties, ControlEndpoints, NodeEndpoint, ReferencePodAddress};
use crate::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A host outside the cluster that a suite names, by name, by addresses, or by both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outside {
    /// The name in lower case, without trailing dot.
    pub name: Option<String>,
    /// The addresses that are given; without any, the lab invents them.
    pub addresses: Vec<IpAddr>,
    /// The ports on which it listens.
    pub ports: Vec<(u16, wire::Transport)>,
}

/// Size of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Minimum number of nodes, at least 2. Nodes that are declared or that a `spec.nodeName` names
    /// count towards it.
    pub nodes: usize,
    /// The families of all addresses of the cluster; `None` for those that the manifests show.
    pub families: Option<Families>,
}

impl Layout {
    /// The default with both families, whatever the manifests show.
    pub fn dual_stack() -> Self {
        Self {
            families: Some(Families::Both),
            ..Self::default()
        }
    }
}

impl Default for Layout {
    /// Two nodes: one path between nodes, and one within a node. The families are the manifests'.
    fn default() -> Self {
        Self {
            nodes: 2,
            families: None,
        }
    }
}

/// The families that manifests show: by the addresses of nodes, pods and Services and by the
/// `ipFamilies` of Services. Most show none, and most clusters have IPv4 alone.
pub fn shown_families(manifests: &Manifests) -> Families {
    let of_nodes = manifests.nodes.values().flat_map(|node| &node.addresses);
    let of_pods = manifests.pods.iter().flat_map(|pod| &pod.addresses);
    let services = manifests.services.iter();
    let of_services = services.clone().flat_map(|service| &service.addresses);
    let stated = services.flat_map(|service| &service.families);
    Families::shown_by(of_nodes.chain(of_pods).chain(of_services), stated)
}

/// The reason why a world cannot be built. Messages fit after "failed to".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// More nodes than pod ranges.
    #[error("place {0} nodes: the lab has room for {MAX_NODES}")]
    TooManyNodes(usize),
    /// The pod range of a node is full.
    #[error("place more than 4,094 pods on one node")]
    TooManyPods,
    /// The Service range is full.
    #[error("place more than 65,000 Services")]
    TooManyServices,
    /// An address that an outside host cannot have.
    #[error("place {0} outside the cluster: it is in a range of the lab, or not a host address")]
    OutsideAddress(IpAddr),
    /// The name of an outside host is a name of the cluster.
    #[error("place {0} outside the cluster: names below cluster.local are names of the cluster")]
    OutsideName(String),
}

/// A world that [`Lab::up`](super::Lab::up) can bring up.
#[derive(Debug, Clone)]
pub struct World {
    pub(super) inventory: Inventory,
    pub(super) hosts: Vec<Host>,
    /// Ports that probes of the kubelet ask, of each pod of the inventory.
    pub(super) probe_ports: Vec<Vec<Port>>,
    families: Families,
}

/// An outside host with its addresses. Names that share an address are names of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) names: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ports: BTreeSet<(u16, wire::Transport)>,
}

impl Host {
    /// The first name, or the address of a host without a name.
    pub(super) fn label(&self) -> String {
        self.names.first().cloned().unwrap_or_else(|| {
            self.addresses
                .first()
                .map(ToString::to_string)
                .unwrap_or_default()
        })
    }
}

impl World {
    /// Assigns a node and addresses to every pod, cluster addresses to every Service and addresses
    /// to every outside host.
    ///
    /// They have the families of the layout, or those that the manifests show, or IPv4 alone; an
    /// outside host keeps every address that is given. Pods of one workload are spread over the
    /// nodes in turn, and each workload starts at another node than the one declared before it, so
    /// that paths within a node and between nodes occur. Cluster DNS is added unless the manifests
    /// contain it.
    ///
    /// # Errors
    /// [`PlaceError`] for an object that gets no node or address.
    pub fn place(
        manifests: &Manifests,
        outside: &[Outside],
        layout: Layout,
    ) -> Result<Self, PlaceError> {
        let families = layout.families.unwrap_or_else(|| shown_families(manifests));
        let mut nodes = nodes(manifests, layout, families)?;
        let mut addresses = Addresses::new(nodes.len(), families);

        apply_declared(&mut nodes, &manifests.nodes, &mut addresses);
        claim_given(outside, &nodes, &mut addresses)?;
        addresses.avoid(manifests.policies.iter().flat_map(Policy::blocks));

        let mut declared = manifests.pods.clone();
        let mut services = manifests.services.clone();
        let mut namespaces = manifests.namespaces.clone();
        if !contains_dns(manifests) {
            add_dns(&mut declared, &mut services, &mut namespaces);
        }
        let added_pods = declared[manifests.pods.len()..]
            .iter()
            .map(|pod| format!("{}/{}", pod.namespace, pod.name))
            .collect();

        let placed = place_pods(&declared, &nodes, &mut addresses)?;
        let (pods, probe_ports): (Vec<Pod>, Vec<_>) = placed.into_iter().unzip();
        for service in &mut services {
            address_service(service, &mut addresses)?;
        }
        let outside = place_hosts(outside, &nodes, &mut addresses)?;
        let invented = invented_addresses(manifests, &nodes, &pods);
        let inventory = Inventory {
            namespaces,
            nodes,
            pods,
            services,
            policies: manifests.policies.clone(),
            unread_policies: manifests.unread_policies.clone(),
            hosts: outside.by_name,
            invented_hosts: outside.invented,
            added_pods,
            invented_addresses: invented,
            runner: families.keep(addresses::RUNNER),
        };
        Ok(Self {
            inventory,
            hosts: outside.hosts,
            probe_ports,
            families,
        })
    }

    /// The address families of the cluster.
    pub fn families(&self) -> Families {
        self.families
    }

    /// The objects of this world.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// The endpoints of the lab that serve as controls.
    pub fn control_endpoints(&self) -> ControlEndpoints {
        let reference_pods = self.inventory.nodes.iter().enumerate();
        let reference_pods = reference_pods.map(|(n, node)| ReferencePodAddress {
            node: node.name.clone(),
            addresses: self.families.keep(addresses::reference_pod(n)),
            port: KUBELET_PORT,
        });

        ControlEndpoints {
            on_pods: Some(CONTROL_PORT),
            on_nodes: Some(NodeEndpoint::Responder(KUBELET_PORT)),
            from_nodes: true,
            reference_pods_pass: true,
            reference_pods: reference_pods.collect(),
        }
    }

    /// What planning has to know of the lab.
    pub fn properties(&self) -> BackendProperties {
        BackendProperties::lab(self.control_endpoints(), |inventory, source| {
            Some(super::dns::resolver(inventory, source))
        })
    }

    /// The index of a node.
    pub(super) fn node_index(&self, name: &str) -> Option<usize> {
        self.inventory
            .nodes
            .iter()
            .position(|node| node.name == name)
    }
}

/// The nodes: those that are declared or that pods name, and numbered ones up to the minimum of the
/// layout.
fn nodes(
    manifests: &Manifests,
    layout: Layout,
    families: Families,
) -> Result<Vec<Node>, PlaceError> {
    let mut names: Vec<String> = manifests.nodes.keys().cloned().collect();
    for pod in &manifests.pods {
        if let Placement::Node(name) = &pod.placement
            && !names.contains(name)
        {
            names.push(name.clone());
        }
    }

    let mut number = 0;
    while names.len() < layout.nodes.max(2) {
        number += 1;
        let name = format!("node-{number}");
        if !names.contains(&name) {
            names.push(name);
        }
    }

    names.sort();
    if names.len() > MAX_NODES {
        return Err(PlaceError::TooManyNodes(names.len()));
    }
    let nodes = names.into_iter().enumerate().map(|(number, name)| Node {
        // Every kubelet sets this label (k8s.io/kubernetes/pkg/kubelet, well-known labels).
        labels: Labels::from([("kubernetes.io/hostname".to_owned(), name.clone())]),
        name,
        addresses: families.keep(addresses::node(number)),
    });
    Ok(nodes.collect())
}

/// Whether the selector of a Service selects a pod's labels; an empty selector selects nothing
/// (core/v1 `ServiceSpec.selector`).
pub(super) fn selects(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty()
        && selector
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether a Service is the DNS Service of the cluster.
pub(super) fn is_dns(namespace: &str, name: &str) -> bool {
    (namespace, name) == ("kube-system", "kube-dns")
}

/// Whether manifests contain the DNS Service and a pod behind it.
fn contains_dns(manifests: &Manifests) -> bool {
    manifests
        .services
        .iter()
        .filter(|service| is_dns(&service.namespace, &service.name))
        .any(|service| {
            manifests.pods.iter().any(|pod| {
                pod.namespace == service.namespace && selects(&service.selector, &pod.labels)
            })
        })
}

/// Adds two DNS pods, their namespace, and their Service unless it is declared.
fn add_dns(
    pods: &mut Vec<DeclaredPod>,
    services: &mut Vec<Service>,
    namespaces: &mut BTreeMap<String, Namespace>,
) {
    let namespace = "kube-system".to_owned();
    let labels = Labels::from([("k8s-app".to_owned(), "kube-dns".to_owned())]);
    namespaces
        .entry(namespace.clone())
        .or_insert_with(|| Namespace {
            name: namespace.clone(),
            labels: Labels::from([("kubernetes.io/metadata.name".to_owned(), namespace.clone())]),
        });

    let ports: Vec<(&str, Port)> = [("dns", Transport::Udp), ("dns-tcp", Transport::Tcp)]
        .into_iter()
        .filter_map(|(name, transport)| Some((name, Port::new(53, transport)?)))
        .collect();
    for number in 0..2 {
        let name = format!("coredns-{number}");
        pods.push(DeclaredPod {
            namespace: namespace.clone(),
            labels: labels.clone(),
            ports: ports
                .iter()
                .map(|(name, port)| ContainerPort {
                    name: Some((*name).to_owned()),
                    port: *port,
                })
                .collect(),
            workloads: vec![
                WorkloadRef {
                    kind: WorkloadKind::Deployment,
                    name: "coredns".to_owned(),
                },
                WorkloadRef {
                    kind: WorkloadKind::Pod,
                    name: name.clone(),
                },
            ],
            name,
            host_network: false,
            has_proxy: false,
            ready: true,
            placement: Placement::Anywhere,
            addresses: Vec::new(),
            probe_ports: Vec::new(),
        });
    }

    if !services
        .iter()
        .any(|service| is_dns(&service.namespace, &service.name))
    {
        services.push(Service {
            namespace,
            name: "kube-dns".to_owned(),
            kind: ServiceKind::ClusterIp,
            selector: labels,
            ports: ports
                .into_iter()
                .map(|(name, port)| ServicePort {
                    name: Some(name.to_owned()),
                    port,
                    target: TargetPort::Name(name.to_owned()),
                    node_port: None,
                })
                .collect(),
            families: Vec::new(),
            addresses: Vec::new(),
            publish_not_ready: false,
            local_only: false,
        });
    }
}

/// The addresses of nodes and pods that no manifest states.
fn invented_addresses(manifests: &Manifests, nodes: &[Node], pods: &[Pod]) -> BTreeSet<IpAddr> {
    let of_declared_nodes = manifests.nodes.values().flat_map(|node| &node.addresses);
    let stated: BTreeSet<&IpAddr> = manifests
        .pods
        .iter()
        .flat_map(|pod| &pod.addresses)
        .chain(of_declared_nodes)
        .collect();

    let of_nodes = nodes.iter().flat_map(|node| &node.addresses);
    let of_pods = pods.iter().flat_map(|pod| &pod.addresses);
    of_nodes
        .chain(of_pods)
        .filter(|address| !stated.contains(address))
        .copied()
        .collect()
}

/// Assigns a node and addresses to every declared pod; each comes with its probe ports.
fn place_pods(
    declared: &[DeclaredPod],
    nodes: &[Node],
    addresses: &mut Addresses,
) -> Result<Vec<(Pod, Vec<Port>)>, PlaceError> {
    // Stated addresses are claimed first, so that no other pod gets one of them.
    let stated: Vec<Vec<IpAddr>> = declared
        .iter()
        .map(|pod| claim_stated(pod, addresses))
        .collect();

    let mut placed_of: BTreeMap<(&str, Option<&WorkloadRef>), usize> = BTreeMap::new();
    let mut pods: Vec<(Pod, Vec<Port>)> = Vec::new();
    for (pod, stated) in declared.iter().zip(stated) {
        let on_nodes: Vec<usize> = match &pod.placement {
            Placement::EveryNode => (0..nodes.len()).collect(),
            Placement::Node(name) => nodes
                .iter()
                .position(|node| node.name == *name)
                .into_iter()
                .collect(),
            Placement::Anywhere => {
                let first = placed_of.len();
                let next = placed_of
                    .entry((&pod.namespace, spreading_workload(pod)))
                    .or_insert(first);
                let node = *next % nodes.len();
                *next += 1;
                vec![node]
            }
        };

        for node in on_nodes {
            let name = match pod.placement {
                Placement::EveryNode => daemon_name(pod, &nodes[node].name),
                Placement::Anywhere | Placement::Node(_) => pod.name.clone(),
            };
            let pod_addresses = if pod.host_network {
                nodes[node].addresses.clone()
            } else if stated.is_empty() {
                addresses.pod(node)?
            } else {
                stated.clone()
            };
            let placed = Pod {
                uid: format!("lab-{}-1", pods.len()),
                namespace: pod.namespace.clone(),
                labels: pod.labels.clone(),
                ports: pod.ports.clone(),
                workloads: with_pod_name(&pod.workloads, &name),
                name,
                host_network: pod.host_network,
                has_proxy: pod.has_proxy,
                ready: pod.ready,
                node: nodes[node].name.clone(),
                addresses: pod_addresses,
            };
            pods.push((placed, pod.probe_ports.clone()));
        }
    }
    Ok(pods)
}

/// Claims the addresses that a declared pod states and that are free, one of each family of the
/// cluster. Pods in their node's network and daemons keep none.
fn claim_stated(pod: &DeclaredPod, addresses: &mut Addresses) -> Vec<IpAddr> {
    let mut claimed: Vec<IpAddr> = Vec::new();
    if pod.host_network || pod.placement == Placement::EveryNode {
        return claimed;
    }
    for address in &addresses.families.keep(pod.addresses.iter().copied()) {
        let new_family = claimed
            .iter()
            .all(|other| Family::of(*other) != Family::of(*address));
        if new_family && addresses.claim(*address) {
            claimed.push(*address);
        }
    }
    claimed
}

/// The workload whose pods are spread over the nodes: the outermost owner, or the pod itself.
fn spreading_workload(pod: &DeclaredPod) -> Option<&WorkloadRef> {
    pod.workloads
        .iter()
        .rev()
        .find(|workload| workload.kind != WorkloadKind::Pod)
        .or_else(|| pod.workloads.last())
}

/// The name of a DaemonSet's pod, which ends with the name of its node.
fn daemon_name(pod: &DeclaredPod, node: &str) -> String {
    let owner = pod
        .workloads
        .iter()
        .find(|workload| workload.kind == WorkloadKind::DaemonSet);
    format!(
        "{}-{node}",
        owner.map_or(pod.name.as_str(), |workload| workload.name.as_str())
    )
}

/// The workloads of a pod, with the pod itself under another name.
fn with_pod_name(workloads: &[WorkloadRef], pod: &str) -> Vec<WorkloadRef> {
    workloads
        .iter()
        .map(|workload| match workload.kind {
            WorkloadKind::Pod => WorkloadRef {
                kind: WorkloadKind::Pod,
                name: pod.to_owned(),
            },
            _ => workload.clone(),
        })
        .collect()
}

/// Assigns cluster addresses to a Service of type `ClusterIP`, in its families.
fn address_service(service: &mut Service, addresses: &mut Addresses) -> Result<(), PlaceError> {
    if service.kind != ServiceKind::ClusterIp {
        service.addresses.clear();
        return Ok(());
    }
    if is_dns(&service.namespace, &service.name) {
        service.addresses = addresses.families.keep(addresses::CLUSTER_DNS);
        return Ok(());
    }

    let mut kept: Vec<IpAddr> = Vec::new();
    let stated = std::mem::take(&mut service.addresses);
    for address in addresses.families.keep(stated) {
        if addresses.claim(address) {
            kept.push(address);
        }
    }

    let families = match (&service.families[..], &kept[..]) {
        ([], []) => addresses.families.list(),
        ([], kept) => kept.iter().map(|address| Family::of(*address)).collect(),
        (stated, _) => stated.to_vec(),
    };
    let possible = addresses.families;
    for family in families
        .into_iter()
        .filter(|family| possible.contains(*family))
    {
        if kept.iter().all(|address| Family::of(*address) != family) {
            kept.push(addresses.service(family)?);
        }
    }
    service.addresses = kept;
    Ok(())
}

/// Claims the given addresses of outside hosts, so that none of them is invented for another.
fn claim_given(
    outside: &[Outside],
    nodes: &[Node],
    addresses: &mut Addresses,
) -> Result<(), PlaceError> {
    for address in outside.iter().flat_map(|host| &host.addresses).copied() {
        if is_outside(address, nodes)? {
            addresses.claim(address);
        }
    }
    Ok(())
}

/// Whether an address is outside: one of a node is not, and one in a range of the cluster belongs to
/// a pod or node, or to none.
fn is_outside(address: IpAddr, nodes: &[Node]) -> Result<bool, PlaceError> {
    let is_of_node = nodes.iter().any(|node| node.addresses.contains(&address));
    if is_of_node || addresses::in_cluster(address) {
        return Ok(false);
    }
    if addresses::usable_outside(address) {
        Ok(true)
    } else {
        Err(PlaceError::OutsideAddress(address))
    }
}

/// The outside hosts of a world.
#[derive(Debug, Default)]
struct PlacedHosts {
    hosts: Vec<Host>,
    /// The addresses of each name.
    by_name: BTreeMap<String, Vec<IpAddr>>,
    /// The names whose addresses are invented.
    invented: BTreeSet<String>,
}

/// Invents addresses for the names that have none, and merges hosts that share a name or an
/// address: they are one machine, with one server on each port.
fn place_hosts(
    outside: &[Outside],
    nodes: &[Node],
    addresses: &mut Addresses,
) -> Result<PlacedHosts, PlaceError> {
    let mut placed = PlacedHosts::default();
    for declared in outside {
        if let Some(name) = &declared.name {
            if name.ends_with(".cluster.local") {
                return Err(PlaceError::OutsideName(name.clone()));
            }
            let known = placed.by_name.entry(name.clone()).or_default();
            for address in &declared.addresses {
                if !known.contains(address) {
                    known.push(*address);
                }
            }
        }
    }

    for (name, known) in &mut placed.by_name {
        if known.is_empty() {
            known.extend(addresses.host());
            placed.invented.insert(name.clone());
        }
    }

    for declared in outside {
        let declared_addresses = match &declared.name {
            Some(name) => placed.by_name.get(name).cloned().unwrap_or_default(),
            None => declared.addresses.clone(),
        };
        let mut host = Host {
            names: declared.name.iter().cloned().collect(),
            addresses: Vec::new(),
            ports: declared.ports.iter().copied().collect(),
        };
        for address in declared_addresses {
            if is_outside(address, nodes)? {
                host.addresses.push(address);
            }
        }
        if !host.addresses.is_empty() {
            merge_host(&mut placed.hosts, host);
        }
    }
    Ok(placed)
}

/// Adds a host, as one with those that share an address with it.
fn merge_host(hosts: &mut Vec<Host>, mut host: Host) {
    let mut place = hosts.len();
    while let Some(index) = hosts.iter().position(|other| {
        other
            .addresses
            .iter()
            .any(|address| host.addresses.contains(address))
    }) {
        let mut merged = hosts.remove(index);
        place = place.min(index);
        for name in host.names {
            if !merged.names.contains(&name) {
                merged.names.push(name);
            }
        }
        for address in host.addresses {
            if !merged.addresses.contains(&address) {
                merged.addresses.push(address);
            }
        }
        merged.ports.extend(host.ports);
        host = merged;
    }
    hosts.insert(place, host);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::read_manifests;
    use crate::source::Sources;

    fn manifests(text: &str) -> Manifests {
        let mut sources = Sources::new();
        let file = sources.add("test.yaml", text);
        let (manifests, diagnostics) = read_manifests(&[file], &sources);
        assert!(!diagnostics.has_errors(), "{diagnostics:?}");
        manifests
    }

    fn place(text: &str, outside: &[Outside]) -> Result<World, PlaceError> {
        World::place(&manifests(text), outside, Layout::dual_stack())
    }

    fn deployment(name: &str, replicas: usize) -> String {
        format!(
            "---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: 'n'}}, spec: {{replicas: {replicas}, \
             selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}}}}}, \
             spec: {{containers: [{{name: c, image: c}}]}}}}}}}}\n"
        )
    }

    fn nodes_of<'a>(world: &'a World, start: &str) -> Vec<&'a str> {
        let pods = world
            .inventory
            .pods
            .iter()
            .filter(|pod| pod.name.starts_with(start));
        pods.map(|pod| pod.node.as_str()).collect()
    }

    #[test]
    fn replicas_alternate_between_nodes_and_workloads_start_on_different_nodes() {
        let text = deployment("a", 3) + &deployment("b", 3) + &deployment("c", 1);
        let world = place(&text, &[]).expect("placed");
        assert_eq!(nodes_of(&world, "a"), ["node-1", "node-2", "node-1"]);
        assert_eq!(nodes_of(&world, "b"), ["node-2", "node-1", "node-2"]);
        assert_eq!(nodes_of(&world, "coredns"), ["node-2", "node-1"]);
        assert_eq!(nodes_of(&world, "c-"), ["node-1"]);
    }

    #[test]
    fn pods_get_addresses_of_their_nodes_range() {
        let world = place(&deployment("a", 2), &[]).expect("placed");
        let pods = &world.inventory.pods;
        let addresses = |n: usize| {
            pods[n]
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(addresses(0), ["10.244.16.1", "fd00:10:244:1::1"]);
        assert_eq!(addresses(1), ["10.244.32.1", "fd00:10:244:2::1"]);
        let node: Vec<_> = world.inventory.nodes[1]
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(node, ["172.30.0.12", "fd00:30::12"]);
    }

    #[test]
    fn families_are_those_that_the_manifests_show_and_otherwise_ipv4() {
        let pod = |ip: &str| {
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: 'n'}}, \
                 spec: {{containers: [{{name: c, image: c}}]}}, status: {{phase: Running, podIP: '{ip}'}}}}\n---\n"
            )
        };
        let service = |spec: &str| {
            format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: 'n'}}, \
                 spec: {{selector: {{app: a}}, ports: [{{port: 80}}]{spec}}}}}\n---\n"
            )
        };
        let cases = [
            (service(""), Families::V4),
            (pod("10.1.2.3"), Families::V4),
            (pod("fd00::7"), Families::V6),
            (service(", ipFamilies: [IPv6]"), Families::V6),
            (service(", ipFamilies: [IPv4, IPv6]"), Families::Both),
            (
                service(", clusterIP: 10.96.0.77") + &pod("fd00::7"),
                Families::Both,
            ),
        ];
        for (text, families) in cases {
            let declared = manifests(&(text.clone() + &deployment("a", 1)));
            let named = Outside {
                name: Some("a.example".into()),
                ..Outside::default()
            };
            let world = World::place(&declared, &[named], Layout::default()).expect("placed");
            assert_eq!(world.families(), families, "{text}");

            let inventory = &world.inventory;
            let fresh = inventory.pods.iter().filter(|pod| pod.name != "p");
            let pods = fresh.map(|pod| &pod.addresses);
            let nodes = inventory.nodes.iter().map(|node| &node.addresses);
            let others = [&inventory.runner, &inventory.hosts["a.example"]];
            let dns = inventory.cluster_dns().map(|dns| &dns.addresses);
            for addresses in pods.chain(nodes).chain(others).chain(dns) {
                let of = addresses.iter().map(|address| Family::of(*address));
                assert_eq!(Families::of(of), Some(families), "{text}");
            }
        }
    }

    #[test]
    fn family_of_the_layout_goes_before_those_of_the_manifests() {
        let layout = Layout {
            families: Some(Families::V4),
            ..Layout::default()
        };
        let text = "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: 'n'}, \
                    spec: {selector: {app: a}, ipFamilies: [IPv4, IPv6], ports: [{port: 80}]}}\n---\n\
                    {apiVersion: v1, kind: Pod, metadata: {name: p, namespace: 'n'}, \
                    spec: {containers: [{name: c, image: c}]}, status: {phase: Running, podIP: 'fd00::7'}}\n";
        let world = World::place(&manifests(text), &[], layout).expect("placed");
        let services = world.inventory.services.iter();
        let of_services = services.flat_map(|service| &service.addresses);
        let pods = world.inventory.pods.iter();
        let of_pods = pods.flat_map(|pod| &pod.addresses);
        assert!(of_services.chain(of_pods).all(IpAddr::is_ipv4));
    }

    #[test]
    fn a_stated_address_is_kept_if_it_is_free() {
        let pod = |name: &str, ip: &str| {
            format!(
                "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: 'n'}}, \
                 spec: {{nodeName: worker, containers: [{{name: c, image: c}}]}}, \
                 status: {{phase: Running, podIP: {ip}, podIPs: [{{ip: {ip}}}], conditions: [{{type: Ready, status: 'True'}}]}}}}\n"
            )
        };
        let world = place(&(pod("a", "10.1.2.3") + &pod("b", "10.1.2.3")), &[]).expect("placed");
        let of = |name: &str| {
            world
                .inventory
                .pods
                .iter()
                .find(|pod| pod.name == name)
                .expect("pod")
        };
        assert_eq!(
            of("a").addresses,
            ["10.1.2.3".parse::<IpAddr>().expect("address")]
        );
        assert_ne!(of("a").addresses, of("b").addresses);
        assert_eq!(of("a").node, "worker");
        assert_eq!(world.inventory.nodes.len(), 2, "one named, one added");
    }

    #[test]
    fn cluster_dns_is_added_unless_the_manifests_contain_it() {
        let added = place("", &[]).expect("placed");
        assert_eq!(added.inventory.pods.len(), 2);
        assert_eq!(
            added.inventory.services[0].addresses,
            addresses::CLUSTER_DNS
        );
        let own = "{apiVersion: v1, kind: Pod, metadata: {name: dns, namespace: kube-system, labels: {k8s-app: d}}, \
                   spec: {containers: [{name: c, image: c}]}}\n---\n\
                   {apiVersion: v1, kind: Service, metadata: {name: kube-dns, namespace: kube-system}, \
                   spec: {selector: {k8s-app: d}, ports: [{port: 53, protocol: UDP}]}}\n";
        let declared = place(own, &[]).expect("placed");
        assert_eq!(declared.inventory.pods.len(), 1);
        assert_eq!(
            declared.inventory.services[0].addresses,
            addresses::CLUSTER_DNS
        );
    }

    #[test]
    fn outside_hosts_get_addresses_that_no_other_host_states() {
        let named = |name: &str| Outside {
            name: Some(name.into()),
            ..Outside::default()
        };
        let at = |address: &str, port| Outside {
            addresses: vec![address.parse().expect("address")],
            ports: vec![(port, wire::Transport::Tcp)],
            ..Outside::default()
        };
        let world = place(
            "",
            &[
                named("a.example"),
                at("203.0.113.1", 1),
                at("203.0.113.1", 2),
                named("a.example"),
            ],
        )
        .expect("placed");
        assert_eq!(
            world.inventory.hosts["a.example"][0].to_string(),
            "203.0.113.2"
        );
        assert_eq!(world.hosts.len(), 2);
        assert_eq!(world.hosts[1].ports.len(), 2);
        for inside in [
            "10.244.16.1",
            "10.96.0.10",
            "172.30.0.11",
            "fd00:10:244:1::1",
        ] {
            assert_eq!(
                place("", &[at(inside, 1)]).expect("placed").hosts,
                [],
                "{inside} is an address of the cluster"
            );
        }
        for refused in [
            "127.0.0.1",
            "192.0.2.2",
            "169.254.1.1",
            "fe80::1",
            "::1",
            "224.0.0.1",
        ] {
            let address = refused.parse().expect("address");
            assert_eq!(
                place("", &[at(refused, 1)]).err(),
                Some(PlaceError::OutsideAddress(address)),
                "{refused}"
            );
        }
        place(
            "",
            &[
                at("10.0.0.1", 1),
                at("169.254.169.254", 80),
                at("2001:4860:4860::8888", 53),
            ],
        )
        .expect("placed");
    }

    #[test]
    fn invented_addresses_are_in_no_block_that_policies_name() {
        let policy = |blocks: &str| {
            format!(
                "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, namespace: 'n'}}, \
                 spec: {{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{blocks}]}}]}}}}"
            )
        };
        let host = Outside {
            name: Some("a.example".into()),
            ..Outside::default()
        };
        let invented = |blocks: &str| {
            let world = place(&policy(blocks), std::slice::from_ref(&host)).expect("placed");
            assert!(world.inventory.invented_hosts.contains("a.example"));
            let addresses = &world.inventory.hosts["a.example"];
            addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };

        assert_eq!(
            invented("{ipBlock: {cidr: 203.0.113.0/30}}, {ipBlock: {cidr: '2001:db8:113::/126'}}"),
            ["203.0.113.4", "2001:db8:113::4"]
        );
        assert_eq!(
            invented("{ipBlock: {cidr: 0.0.0.0/0, except: [203.0.113.0/24]}}"),
            ["198.51.100.1", "2001:db8:113::1"]
        );
        assert_eq!(
            invented("{ipBlock: {cidr: 128.0.0.0/1}}, {ipBlock: {cidr: '2000::/3'}}"),
            [""; 0]
        );
    }

    #[test]
    fn hosts_with_an_address_in_common_are_one_host() {
        let host = |name: Option<&str>, addresses: &[&str], port| Outside {
            name: name.map(str::to_owned),
            addresses: addresses
                .iter()
                .map(|address| address.parse().expect("address"))
                .collect(),
            ports: vec![(port, wire::Transport::Tcp)],
        };
        let outside = [
            host(Some("a.example"), &["198.51.100.7", "198.51.100.8"], 443),
            host(Some("b.example"), &["198.51.100.9"], 80),
            host(None, &["198.51.100.8"], 22),
            host(Some("c.example"), &["198.51.100.7"], 444),
        ];
        let world = place("", &outside).expect("placed");

        let names: Vec<_> = world
            .hosts
            .iter()
            .map(|host| host.names.join(" "))
            .collect();
        assert_eq!(names, ["a.example c.example", "b.example"]);
        assert_eq!(world.hosts[0].ports.len(), 3);
        assert_eq!(world.inventory.hosts["c.example"].len(), 1);
        assert!(world.inventory.invented_hosts.is_empty());
    }

    #[test]
    fn daemons_run_on_every_node_and_are_named_after_it() {
        let text = "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent, namespace: 'n'}, spec: {selector: {matchLabels: {a: b}}, \
                    template: {metadata: {labels: {a: b}}, spec: {hostNetwork: true, containers: [{name: c, image: c}]}}}}";
        let world = place(text, &[]).expect("placed");
        let daemons: Vec<_> = world
            .inventory
            .pods
            .iter()
            .filter(|pod| pod.namespace == "n")
            .collect();
        assert_eq!(
            daemons
                .iter()
                .map(|pod| pod.name.as_str())
                .collect::<Vec<_>>(),
            ["agent-node-1", "agent-node-2"]
        );
        assert_eq!(daemons[1].addresses, world.inventory.nodes[1].addresses);
    }
}
