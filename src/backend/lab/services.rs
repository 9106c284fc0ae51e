//! Services as nodes implement them: the pods behind each address and port. Pure.

use super::world::selects;
use crate::inventory::{Inventory, Pod, Service, ServiceKind, ServicePort};
use crate::model::Family;
use crate::plan::wire_transport;
use crate::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// One port of one Service in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VirtualPort {
    pub(super) transport: wire::Transport,
    /// Cluster addresses, with the Service's port.
    pub(super) cluster: Vec<SocketAddr>,
    /// Node addresses, with the node port; traffic to these is masqueraded.
    pub(super) node: Vec<SocketAddr>,
    /// The pods that get the traffic, each with the same probability; without any, connections are
    /// refused.
    pub(super) backends: Vec<SocketAddr>,
}

/// The pods behind a Service: the ready ones, or all if the Service publishes those too.
pub(super) fn endpoints<'a>(service: &Service, pods: &'a [Pod]) -> Vec<&'a Pod> {
    pods.iter()
        .filter(|pod| pod.namespace == service.namespace && selects(&service.selector, &pod.labels))
        .filter(|pod| pod.ready || service.publish_not_ready)
        .collect()
}

/// The ports of all Services that have a cluster address, in the transports that probes can send.
pub(super) fn virtual_ports(inventory: &Inventory) -> Vec<VirtualPort> {
    let mut ports = Vec::new();
    let with_address = inventory
        .services
        .iter()
        .filter(|service| service.kind == ServiceKind::ClusterIp);
    for service in with_address {
        let pods = endpoints(service, &inventory.pods);
        for port in &service.ports {
            let Some(transport) = wire_transport(port.port.transport()) else {
                continue;
            };
            for family in Family::ALL {
                let cluster = sockets(&service.addresses, family, port.port.number());
                if cluster.is_empty() {
                    continue;
                }
                let node = match port.node_port {
                    Some(number) => inventory
                        .nodes
                        .iter()
                        .flat_map(|node| sockets(&node.addresses, family, number))
                        .collect(),
                    None => Vec::new(),
                };
                ports.push(VirtualPort {
                    transport,
                    cluster,
                    node,
                    backends: pods
                        .iter()
                        .filter_map(|pod| backend(pod, port, family))
                        .collect(),
                });
            }
        }
    }
    without_duplicates(ports)
}

/// The addresses of one family, with a port.
fn sockets(addresses: &[IpAddr], family: Family, port: u16) -> Vec<SocketAddr> {
    addresses
        .iter()
        .filter(|address| Family::of(**address) == family)
        .map(|address| SocketAddr::new(*address, port))
        .collect()
}

/// Keeps each address and port at the first Service that has it. The API server refuses a second
/// one, and it would make the map of the rule set ambiguous.
fn without_duplicates(ports: Vec<VirtualPort>) -> Vec<VirtualPort> {
    let mut used: BTreeSet<(wire::Transport, SocketAddr)> = BTreeSet::new();
    ports
        .into_iter()
        .map(|mut port| {
            let transport = port.transport;
            port.cluster
                .retain(|address| used.insert((transport, *address)));
            port.node
                .retain(|address| used.insert((transport, *address)));
            port
        })
        .collect()
}

/// The pods behind one address and port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServiceBackends {
    pub(super) backends: Vec<SocketAddr>,
    /// Whether the address is a node's and the port a node port.
    pub(super) by_node: bool,
}

/// The pods behind Services, by address and port.
pub(super) type ByAddress = BTreeMap<(wire::Transport, SocketAddr), ServiceBackends>;

/// The pods behind every address and port of a Service.
pub(super) fn by_address(inventory: &Inventory) -> ByAddress {
    let mut by_address = BTreeMap::new();
    for port in virtual_ports(inventory) {
        for (addresses, by_node) in [(&port.cluster, false), (&port.node, true)] {
            for address in addresses {
                let service = ServiceBackends {
                    backends: port.backends.clone(),
                    by_node,
                };
                by_address.insert((port.transport, *address), service);
            }
        }
    }
    by_address
}

/// A pod's address and port behind a Service's port; `None` if it lacks the family or the named
/// port.
fn backend(pod: &Pod, port: &ServicePort, family: Family) -> Option<SocketAddr> {
    let number = port.target.number_on(pod, port.port.transport())?;
    Some(SocketAddr::new(pod.address(family)?, number))
}

#[cfg(test)]
mod tests {
    use super::super::world::{Layout, World};
    use super::*;
    use crate::inventory::read_manifests;
    use crate::source::Sources;

    fn ports(text: &str) -> Vec<VirtualPort> {
        let mut sources = Sources::new();
        let file = sources.add("test.yaml", text);
        let (manifests, diagnostics) = read_manifests(&[file], &sources);
        assert!(!diagnostics.has_errors(), "{diagnostics:?}");
        let world = World::place(&manifests, &[], Layout::dual_stack()).expect("placed");
        virtual_ports(world.inventory())
            .into_iter()
            .filter(|port| port.cluster.iter().all(|address| address.port() != 53))
            .collect()
    }

    fn pod(name: &str, port: u16, ready: bool) -> String {
        let status = if ready {
            ""
        } else {
            ", status: {phase: Running, conditions: [{type: Ready, status: 'False'}]}"
        };
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: 'n', labels: {{app: a}}}}, \
             spec: {{nodeName: node-1, containers: [{{name: c, image: c, ports: [{{name: http, containerPort: {port}}}]}}]}}{status}}}\n"
        )
    }

    fn service(spec: &str) -> String {
        format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: 'n'}}, spec: {{{spec}}}}}\n"
        )
    }

    fn backends(port: &VirtualPort) -> Vec<String> {
        port.backends.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_named_target_port_is_resolved_per_pod() {
        let text = pod("a", 8080, true)
            + &pod("b", 9090, true)
            + &service("selector: {app: a}, ports: [{port: 80, targetPort: http}]");
        let ports = ports(&text);
        assert_eq!(ports.len(), 2, "one for each family");
        assert_eq!(
            backends(&ports[0]),
            ["10.244.16.1:8080", "10.244.16.2:9090"]
        );
    }

    #[test]
    fn unready_pods_are_backends_only_if_published() {
        let pods = pod("a", 8080, true) + &pod("b", 8080, false);
        let spec = "selector: {app: a}, ports: [{port: 80, targetPort: 8080}]";
        let ready = ports(&(pods.clone() + &service(spec)));
        assert_eq!(backends(&ready[0]), ["10.244.16.1:8080"]);

        let published = format!("{spec}, publishNotReadyAddresses: true");
        assert_eq!(
            backends(&ports(&(pods + &service(&published)))[0]),
            ["10.244.16.1:8080", "10.244.16.2:8080"]
        );
    }

    #[test]
    fn a_node_port_is_open_on_every_node_and_a_headless_service_has_no_port() {
        let text = pod("a", 8080, true)
            + &service(
                "type: NodePort, selector: {app: a}, ports: [{port: 80, targetPort: http, nodePort: 30080}]",
            );
        let node: Vec<_> = ports(&text)[0]
            .node
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(node, ["172.30.0.11:30080", "172.30.0.12:30080"]);
        assert_eq!(
            ports(
                &(pod("a", 8080, true)
                    + &service("clusterIP: None, selector: {app: a}, ports: [{port: 80}]"))
            ),
            []
        );
    }
}
