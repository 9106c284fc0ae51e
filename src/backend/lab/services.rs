//! Services as the nodes see them: which address and port leads to which pods. Pure.

use super::world::selects;
use crate::inventory::{Inventory, Pod, Service, ServiceKind, ServicePort, TargetPort};
use crate::model::Family;
use crate::plan::wire_transport;
use crate::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// One port of one Service in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VirtualPort {
    /// Over what.
    pub(super) transport: wire::Transport,
    /// Cluster addresses with the Service's port.
    pub(super) cluster: Vec<SocketAddr>,
    /// Node addresses with the node port: traffic to these is masqueraded.
    pub(super) node: Vec<SocketAddr>,
    /// Where the traffic goes, each with the same likelihood; connections are refused where there
    /// are none.
    pub(super) backends: Vec<SocketAddr>,
}

/// Pods behind a Service: the ready ones, or all.
pub(super) fn endpoints<'a>(service: &Service, pods: &'a [Pod]) -> Vec<&'a Pod> {
    pods.iter()
        .filter(|pod| pod.namespace == service.namespace && selects(&service.selector, &pod.labels))
        .filter(|pod| pod.ready || service.publish_not_ready)
        .collect()
}

/// All Services' ports that can be probed.
pub(super) fn virtual_ports(inventory: &Inventory) -> Vec<VirtualPort> {
    let mut ports = Vec::new();
    for service in inventory
        .services
        .iter()
        .filter(|service| service.kind == ServiceKind::ClusterIp)
    {
        let pods = endpoints(service, &inventory.pods);
        for port in &service.ports {
            let Some(transport) = wire_transport(port.port.transport()) else {
                continue;
            };
            for family in Family::ALL {
                let at = |address: &IpAddr, number| {
                    (Family::of(*address) == family).then(|| SocketAddr::new(*address, number))
                };
                let cluster: Vec<_> = service
                    .addresses
                    .iter()
                    .filter_map(|address| at(address, port.port.number()))
                    .collect();
                if cluster.is_empty() {
                    continue;
                }
                let nodes = inventory.nodes.iter().flat_map(|node| &node.addresses);
                ports.push(VirtualPort {
                    transport,
                    cluster,
                    node: port.node_port.map_or_else(Vec::new, |number| {
                        nodes.filter_map(|a| at(a, number)).collect()
                    }),
                    backends: pods
                        .iter()
                        .filter_map(|pod| backend(pod, port, family))
                        .collect(),
                });
            }
        }
    }
    first_of_each_address(ports)
}

/// Two Services with one address and port would make the rule set's map ambiguous; the API server
/// refuses that, and here the first one has it.
fn first_of_each_address(ports: Vec<VirtualPort>) -> Vec<VirtualPort> {
    let mut seen: BTreeSet<(wire::Transport, SocketAddr)> = BTreeSet::new();
    ports
        .into_iter()
        .map(|mut port| {
            let transport = port.transport;
            port.cluster
                .retain(|address| seen.insert((transport, *address)));
            port.node
                .retain(|address| seen.insert((transport, *address)));
            port
        })
        .collect()
}

/// Where an address and port of a Service leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Served {
    /// To these.
    pub(super) backends: Vec<SocketAddr>,
    /// Whether it is a node's port.
    pub(super) by_node: bool,
}

/// Where addresses and ports of Services lead.
pub(super) type ByAddress = BTreeMap<(wire::Transport, SocketAddr), Served>;

/// All Services' addresses and ports.
pub(super) fn by_address(inventory: &Inventory) -> ByAddress {
    let mut known = BTreeMap::new();
    for port in virtual_ports(inventory) {
        for (addresses, by_node) in [(&port.cluster, false), (&port.node, true)] {
            let served = Served {
                backends: port.backends.clone(),
                by_node,
            };
            known.extend(
                addresses
                    .iter()
                    .map(|at| ((port.transport, *at), served.clone())),
            );
        }
    }
    known
}

fn backend(pod: &Pod, port: &ServicePort, family: Family) -> Option<SocketAddr> {
    let number = match &port.target {
        TargetPort::Number(number) => *number,
        TargetPort::Name(name) => pod.named_port(name, port.port.transport())?.number(),
    };
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
        let world = World::place(&manifests, &[], Layout::default()).expect("placed");
        let dns = |port: &VirtualPort| port.cluster.iter().any(|at| at.port() == 53);
        virtual_ports(world.inventory())
            .into_iter()
            .filter(|port| !dns(port))
            .collect()
    }

    fn pod(name: &str, port: u16, ready: bool) -> String {
        let status = if ready {
            ""
        } else {
            ", status: {phase: Running, conditions: [{type: Ready, status: 'False'}]}"
        };
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: n, labels: {{app: a}}}}, \
             spec: {{nodeName: node-1, containers: [{{name: c, image: c, ports: [{{name: http, containerPort: {port}}}]}}]}}{status}}}\n"
        )
    }

    fn service(spec: &str) -> String {
        format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: n}}, spec: {{{spec}}}}}\n"
        )
    }

    fn backends(port: &VirtualPort) -> Vec<String> {
        port.backends.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_named_target_port_is_each_pods_own() {
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
    fn pods_that_are_not_ready_are_left_out_unless_published() {
        let pods = pod("a", 8080, true) + &pod("b", 8080, false);
        let of = |more: &str| {
            ports(
                &(pods.clone()
                    + &service(&format!(
                        "selector: {{app: a}}, ports: [{{port: 80, targetPort: 8080}}]{more}"
                    ))),
            )
        };
        assert_eq!(backends(&of("")[0]), ["10.244.16.1:8080"]);
        assert_eq!(
            backends(&of(", publishNotReadyAddresses: true")[0]),
            ["10.244.16.1:8080", "10.244.16.2:8080"]
        );
    }

    #[test]
    fn a_node_port_is_on_every_node_and_headless_has_none() {
        let text = pod("a", 8080, true)
            + &service(
                "type: NodePort, selector: {app: a}, ports: [{port: 80, targetPort: http, nodePort: 30080}]",
            );
        let shown: Vec<_> = ports(&text)[0]
            .node
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown, ["172.30.0.11:30080", "172.30.0.12:30080"]);
        assert_eq!(
            ports(
                &(pod("a", 8080, true)
                    + &service("clusterIP: None, selector: {app: a}, ports: [{port: 80}]"))
            ),
            []
        );
    }
}
