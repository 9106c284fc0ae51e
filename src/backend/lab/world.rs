//! What the lab will consist of: manifests, placed. Pure; the same input gives the same world.

use super::addresses::{self, Addresses, MAX_NODES};
use super::{CONTROL_PORT, KUBELET_PORT};
use crate::inventory::{
    ContainerPort, DeclaredPod, Inventory, Labels, Manifests, Namespace, Node, Placement, Pod,
    Service, ServiceKind, ServicePort, TargetPort,
};
use crate::model::{Family, Port, Transport, WorkloadKind, WorkloadRef};
use crate::plan::{BackendProperties, ControlEndpoints, NodeEndpoint, ReferencePodAddress};
use crate::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A host outside the cluster that a suite names, by name, by address, or by both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outside {
    /// Its name, lower case, without trailing dot.
    pub name: Option<String>,
    /// Its address, where the suite gives one.
    pub address: Option<IpAddr>,
    /// What it listens on.
    pub ports: Vec<(u16, wire::Transport)>,
}

/// How a world is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// How many nodes at least; those that `spec.nodeName` names come on top where they have other
    /// names.
    pub nodes: usize,
}

impl Default for Layout {
    /// Two: enough for a path between nodes and a path within one.
    fn default() -> Self {
        Self { nodes: 2 }
    }
}

/// Why manifests cannot be placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// More nodes than there are ranges.
    #[error("place {0} nodes: the lab has room for {MAX_NODES}")]
    TooManyNodes(usize),
    /// A node's range is full.
    #[error("place more than 4,094 pods on one node")]
    TooManyPods,
    /// The Service range is full.
    #[error("place more than 65,000 Services")]
    TooManyServices,
    /// TEST-NET-3 is full.
    #[error("place more than 255 outside hosts by name; give further ones an address in the suite")]
    TooManyHosts,
    /// An address that cannot be an outside host's.
    #[error(
        "place {0} outside the cluster: it is in a range of the lab's own, or not a host's address"
    )]
    OutsideAddress(IpAddr),
    /// One outside name with several meanings.
    #[error("place {0}: it is the name of something in the cluster")]
    OutsideName(String),
}

/// A world, ready to be made.
#[derive(Debug, Clone)]
pub struct World {
    pub(super) inventory: Inventory,
    pub(super) hosts: Vec<Host>,
}

/// An outside host with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: Option<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ports: BTreeSet<(u16, wire::Transport)>,
}

impl Host {
    /// Its name, or its address.
    pub(super) fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            self.addresses
                .first()
                .map(ToString::to_string)
                .unwrap_or_default()
        })
    }
}

impl World {
    /// Gives every pod a node and addresses, every Service its cluster addresses, every outside
    /// host its own.
    ///
    /// Pods of one workload go to the nodes in turn, and each workload starts at another node than
    /// the one declared before it: so both paths, within a node and between nodes, occur. Cluster
    /// DNS is added unless the manifests bring it.
    ///
    /// # Errors
    /// [`PlaceError`]: what there is no room for.
    pub fn place(
        manifests: &Manifests,
        outside: &[Outside],
        layout: Layout,
    ) -> Result<Self, PlaceError> {
        let nodes = nodes(manifests, layout)?;
        let mut addresses = Addresses::new(nodes.len());
        // An address of the cluster is no outside host: its pod or node answers, if there is one.
        let outside: Vec<Outside> = outside
            .iter()
            .filter(|host| !host.address.is_some_and(addresses::in_cluster))
            .cloned()
            .collect();
        for address in outside.iter().filter_map(|host| host.address) {
            if !addresses::usable_outside(address) {
                return Err(PlaceError::OutsideAddress(address));
            }
            addresses.claim(address);
        }
        let mut declared = manifests.pods.clone();
        let mut services = manifests.services.clone();
        let mut namespaces = manifests.namespaces.clone();
        if !brings_dns(manifests) {
            add_dns(&mut declared, &mut services, &mut namespaces);
        }
        let pods = place_pods(&declared, &nodes, &mut addresses)?;
        for service in &mut services {
            address_service(service, &mut addresses)?;
        }
        let hosts = place_hosts(&outside, &mut addresses)?;
        let named = hosts
            .iter()
            .filter_map(|host| Some((host.name.clone()?, host.addresses.clone())))
            .collect();
        let inventory = Inventory {
            namespaces,
            nodes,
            pods,
            services,
            policies: manifests.policies.clone(),
            hosts: named,
            runner: addresses::RUNNER.to_vec(),
        };
        Ok(Self { inventory, hosts })
    }

    /// What exists in this world.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// What the lab itself offers to send from and to send to.
    pub fn control_endpoints(&self) -> ControlEndpoints {
        let reference_pod = |(n, node): (usize, &Node)| ReferencePodAddress {
            node: node.name.clone(),
            addresses: addresses::reference_pod(n).to_vec(),
            port: KUBELET_PORT,
        };
        ControlEndpoints {
            on_pods: Some(CONTROL_PORT),
            on_nodes: Some(NodeEndpoint::Responder(KUBELET_PORT)),
            from_nodes: true,
            reference_pods_pass: true,
            reference_pods: self
                .inventory
                .nodes
                .iter()
                .enumerate()
                .map(reference_pod)
                .collect(),
        }
    }

    /// What planning has to know of the lab.
    pub fn properties(&self) -> BackendProperties {
        BackendProperties::lab(self.control_endpoints(), |inventory, source| {
            Some(super::dns::resolver(inventory, source))
        })
    }

    /// The number of a node, counted from 0.
    pub(super) fn node_index(&self, name: &str) -> Option<usize> {
        self.inventory
            .nodes
            .iter()
            .position(|node| node.name == name)
    }
}

fn nodes(manifests: &Manifests, layout: Layout) -> Result<Vec<Node>, PlaceError> {
    let mut names: Vec<String> = Vec::new();
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
    let node = |(number, name): (usize, String)| Node {
        // Every kubelet sets it (k8s.io/kubernetes/pkg/kubelet, well-known labels).
        labels: Labels::from([("kubernetes.io/hostname".to_owned(), name.clone())]),
        name,
        addresses: addresses::node(number).to_vec(),
    };
    Ok(names.into_iter().enumerate().map(node).collect())
}

/// Labels that a Service selects by; an empty selector selects nothing (core/v1
/// `ServiceSpec.selector`).
pub(super) fn selects(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty()
        && selector
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether a Service is the cluster's DNS.
pub(super) fn is_dns(namespace: &str, name: &str) -> bool {
    (namespace, name) == ("kube-system", "kube-dns")
}

fn brings_dns(manifests: &Manifests) -> bool {
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

fn place_pods(
    declared: &[DeclaredPod],
    nodes: &[Node],
    addresses: &mut Addresses,
) -> Result<Vec<Pod>, PlaceError> {
    // Given addresses first: a pod without one must not take the one that a later pod states.
    let mut given: Vec<Vec<IpAddr>> = Vec::with_capacity(declared.len());
    for pod in declared {
        let wanted = if pod.host_network || pod.placement == Placement::EveryNode {
            &[][..]
        } else {
            &pod.addresses[..]
        };
        let mut free: Vec<IpAddr> = Vec::new();
        for address in wanted {
            let new_family = free
                .iter()
                .all(|other| Family::of(*other) != Family::of(*address));
            if new_family && addresses.claim(*address) {
                free.push(*address);
            }
        }
        given.push(free);
    }
    let mut turns: BTreeMap<(&str, Option<&WorkloadRef>), usize> = BTreeMap::new();
    let mut pods: Vec<Pod> = Vec::new();
    for (pod, given) in declared.iter().zip(given) {
        let on: Vec<usize> = match &pod.placement {
            Placement::EveryNode => (0..nodes.len()).collect(),
            Placement::Node(name) => nodes
                .iter()
                .position(|node| node.name == *name)
                .into_iter()
                .collect(),
            Placement::Anywhere => {
                let started = turns.len();
                let turn = turns
                    .entry((&pod.namespace, spreader(pod)))
                    .or_insert(started);
                let node = *turn % nodes.len();
                *turn += 1;
                vec![node]
            }
        };
        for node in on {
            let name = match pod.placement {
                Placement::EveryNode => daemon_name(pod, &nodes[node].name),
                Placement::Anywhere | Placement::Node(_) => pod.name.clone(),
            };
            let own = if pod.host_network {
                nodes[node].addresses.clone()
            } else if given.is_empty() {
                addresses.pod(node)?.to_vec()
            } else {
                given.clone()
            };
            pods.push(Pod {
                uid: format!("lab-{}-1", pods.len()),
                namespace: pod.namespace.clone(),
                labels: pod.labels.clone(),
                ports: pod.ports.clone(),
                workloads: renamed(&pod.workloads, &name),
                name,
                host_network: pod.host_network,
                has_proxy: pod.has_proxy,
                ready: pod.ready,
                node: nodes[node].name.clone(),
                addresses: own,
            });
        }
    }
    Ok(pods)
}

/// The workload that spreads the pod: the outermost owner, or the pod itself.
fn spreader(pod: &DeclaredPod) -> Option<&WorkloadRef> {
    pod.workloads
        .iter()
        .rev()
        .find(|workload| workload.kind != WorkloadKind::Pod)
        .or_else(|| pod.workloads.last())
}

/// Names of daemons end in their node's, so that people see which is which.
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

fn renamed(workloads: &[WorkloadRef], pod: &str) -> Vec<WorkloadRef> {
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

fn address_service(service: &mut Service, addresses: &mut Addresses) -> Result<(), PlaceError> {
    if service.kind != ServiceKind::ClusterIp {
        service.addresses.clear();
        return Ok(());
    }
    if is_dns(&service.namespace, &service.name) {
        service.addresses = addresses::CLUSTER_DNS.to_vec();
        return Ok(());
    }
    let mut kept: Vec<IpAddr> = Vec::new();
    for address in std::mem::take(&mut service.addresses) {
        if addresses.claim(address) {
            kept.push(address);
        }
    }
    let families = match (&service.families[..], &kept[..]) {
        ([], []) => Family::ALL.to_vec(),
        ([], given) => given.iter().map(|address| Family::of(*address)).collect(),
        (stated, _) => stated.to_vec(),
    };
    for family in families {
        if kept.iter().all(|address| Family::of(*address) != family) {
            kept.push(addresses.service(family)?);
        }
    }
    service.addresses = kept;
    Ok(())
}

fn place_hosts(outside: &[Outside], addresses: &mut Addresses) -> Result<Vec<Host>, PlaceError> {
    let mut hosts: Vec<Host> = Vec::new();
    for wanted in outside {
        if let Some(name) = wanted
            .name
            .as_deref()
            .filter(|name| name.ends_with(".cluster.local"))
        {
            return Err(PlaceError::OutsideName(name.to_owned()));
        }
        let known = hosts
            .iter_mut()
            .find(|host| match (&wanted.name, wanted.address) {
                (Some(name), _) => host.name.as_ref() == Some(name),
                (None, Some(address)) => host.addresses.contains(&address),
                (None, None) => false,
            });
        match known {
            Some(host) => {
                host.ports.extend(wanted.ports.iter().copied());
                host.addresses.extend(
                    wanted
                        .address
                        .filter(|address| !host.addresses.contains(address)),
                );
            }
            None => hosts.push(Host {
                name: wanted.name.clone(),
                addresses: match wanted.address {
                    Some(address) => vec![address],
                    None => addresses.host()?.to_vec(),
                },
                ports: wanted.ports.iter().copied().collect(),
            }),
        }
    }
    Ok(hosts)
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
        World::place(&manifests(text), outside, Layout::default())
    }

    fn deployment(name: &str, replicas: usize) -> String {
        format!(
            "---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: n}}, spec: {{replicas: {replicas}, \
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
    fn replicas_take_turns_and_workloads_start_on_different_nodes() {
        let text = deployment("a", 3) + &deployment("b", 3) + &deployment("c", 1);
        let world = place(&text, &[]).expect("placed");
        assert_eq!(nodes_of(&world, "a"), ["node-1", "node-2", "node-1"]);
        assert_eq!(nodes_of(&world, "b"), ["node-2", "node-1", "node-2"]);
        assert_eq!(nodes_of(&world, "coredns"), ["node-2", "node-1"]);
        assert_eq!(nodes_of(&world, "c-"), ["node-1"]);
    }

    #[test]
    fn addresses_follow_the_node() {
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
    fn given_addresses_are_honoured_when_free() {
        let pod = |name: &str, ip: &str| {
            format!(
                "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: n}}, \
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
    fn cluster_dns_is_added_unless_the_manifests_bring_it() {
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
        let brought = place(own, &[]).expect("placed");
        assert_eq!(brought.inventory.pods.len(), 1);
        assert_eq!(
            brought.inventory.services[0].addresses,
            addresses::CLUSTER_DNS
        );
    }

    #[test]
    fn outside_hosts_get_addresses_that_no_suite_names() {
        let named = |name: &str| Outside {
            name: Some(name.into()),
            ..Outside::default()
        };
        let at = |address: &str, port| Outside {
            address: Some(address.parse().expect("address")),
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
                "{inside} is the cluster's own"
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
    fn daemons_run_on_every_node_under_its_name() {
        let text = "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent, namespace: n}, spec: {selector: {matchLabels: {a: b}}, \
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
