//! Who is at the two ends of a check, by the objects that can be broken.

use std::collections::BTreeSet;
use std::net::IpAddr;
use watertight::backend::lab::Listener;
use watertight::inventory::{Inventory, Pod, TargetPort};
use watertight::model::Transport;
use watertight::plan::{Check, Flow, PathEnd, Plan, ProbeId, Source, TargetKind};
use watertight::wire;

/// A listener on a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Socket {
    who: Who,
    pub(crate) transport: wire::Transport,
    pub(crate) port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Pod(String, String),
    Node(String),
    Host(String),
}

impl Socket {
    /// As the lab names it.
    pub(crate) fn listener(&self) -> Listener {
        match &self.who {
            Who::Pod(namespace, name) => Listener::Pod {
                namespace: namespace.clone(),
                name: name.clone(),
            },
            Who::Node(name) => Listener::Node(name.clone()),
            Who::Host(name) => Listener::Host(name.clone()),
        }
    }
}

/// A plan in its inventory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) inventory: &'a Inventory,
}

impl<'a> Ends<'a> {
    pub(crate) fn flows(self, check: &'a Check) -> impl Iterator<Item = &'a Flow> {
        check.flows.iter().map(move |flow| self.plan.flow(*flow))
    }

    /// Every listener that answers a check's flows.
    pub(crate) fn sockets(self, check: &'a Check) -> BTreeSet<Socket> {
        self.flows(check)
            .flat_map(|flow| self.sockets_of(flow))
            .collect()
    }

    fn sockets_of(self, flow: &Flow) -> Vec<Socket> {
        let at = |who, port| Socket {
            who,
            transport: flow.to.transport,
            port,
        };

        match &*flow.target_kind {
            TargetKind::Pod {
                namespace, name, ..
            } => {
                vec![at(Who::Pod(namespace.clone(), name.clone()), flow.to.port)]
            }
            TargetKind::Node { name } => vec![at(Who::Node(name.clone()), flow.to.port)],
            TargetKind::ReferencePod { .. } => Vec::new(),
            TargetKind::Outside { .. } => {
                let mut named = self.inventory.hosts.iter();
                let host = named.find(|(_, addresses)| addresses.contains(&flow.to.address));
                let name =
                    host.map_or_else(|| flow.to.address.to_string(), |(name, _)| name.clone());
                vec![at(Who::Host(name), flow.to.port)]
            }
            TargetKind::Service { pods, .. } => pods
                .iter()
                .filter_map(|full| {
                    let pod = self
                        .inventory
                        .pods
                        .iter()
                        .find(|pod| pod.full_name() == *full)?;
                    let port = self.behind(flow, pod)?;
                    Some(at(Who::Pod(pod.namespace.clone(), pod.name.clone()), port))
                })
                .collect(),
        }
    }

    /// The port of a pod that a Service's flow leads to.
    pub(crate) fn behind(self, flow: &Flow, pod: &Pod) -> Option<u16> {
        let TargetKind::Service { service, .. } = &*flow.target_kind else {
            return None;
        };
        let mut services = self.inventory.services.iter();
        let service = services
            .find(|known| known.namespace == service.namespace && known.name == service.name)?;
        let transport = match flow.to.transport {
            wire::Transport::Tcp => Transport::Tcp,
            wire::Transport::Udp => Transport::Udp,
        };
        let mut ports = service.ports.iter();
        let port = ports.find(|port| {
            port.port.number() == flow.to.port && port.port.transport() == transport
        })?;

        match &port.target {
            TargetPort::Number(number) => Some(*number),
            TargetPort::Name(name) => pod
                .named_port(name, transport)
                .map(watertight::model::Port::number),
        }
    }

    /// Namespaces of the pods at either end.
    pub(crate) fn namespaces(self, check: &'a Check) -> BTreeSet<String> {
        let mut namespaces = BTreeSet::new();
        for flow in self.flows(check) {
            if let Source::Pod { namespace, .. } = self.plan.source(flow.probe) {
                namespaces.insert(namespace.clone());
            }
            namespaces.extend(match &*flow.target_kind {
                TargetKind::Pod { namespace, .. } => Some(namespace.clone()),
                TargetKind::Service { service, .. } => Some(service.namespace.clone()),
                TargetKind::Node { .. }
                | TargetKind::ReferencePod { .. }
                | TargetKind::Outside { .. } => None,
            });
        }
        namespaces
    }

    /// Whether a flow of the check goes from one node to another.
    pub(crate) fn crosses(self, check: &'a Check) -> bool {
        self.flows(check).any(|flow| {
            let from = self.plan.source(flow.probe).node();
            let ends = flow.target_kind.path_ends(flow);
            let away = |from: &str, end: &PathEnd| matches!(end, PathEnd::Node(to) | PathEnd::Pods(to) if to != from);
            from.is_some_and(|from| ends.iter().any(|end| away(from, end)))
        })
    }

    /// Whether all flows of a check go from a node to pods on it, which no policy stops.
    pub(crate) fn is_from_own_node(self, check: &'a Check) -> bool {
        self.flows(check).all(
            |flow| match (self.plan.source(flow.probe), &*flow.target_kind) {
                (Source::Node { name }, TargetKind::Pod { node, .. }) => name == node,
                _ => false,
            },
        )
    }

    /// Whether all flows of a check are sent from pods.
    pub(crate) fn sends_from_pods(self, check: &'a Check) -> bool {
        self.flows(check)
            .all(|flow| matches!(self.plan.source(flow.probe), Source::Pod { .. }))
    }

    /// The probes that send for a check.
    pub(crate) fn probes(self, check: &'a Check) -> BTreeSet<ProbeId> {
        self.flows(check).map(|flow| flow.probe).collect()
    }

    /// Whether some flow of a check has no control but by these probes.
    pub(crate) fn controlled_only_by(self, check: &'a Check, probes: &BTreeSet<ProbeId>) -> bool {
        self.flows(check).any(|flow| {
            let target_controls = self
                .plan
                .target_controls()
                .get(&flow.to)
                .map_or(&[][..], Vec::as_slice);
            target_controls
                .iter()
                .map(|control| self.plan.flow(*control).probe)
                .all(|probe| probes.contains(&probe))
        })
    }

    /// The address that a flow's packets come from.
    pub(crate) fn source_address(self, flow: &Flow) -> Option<IpAddr> {
        let of = |addresses: &[IpAddr]| {
            addresses
                .iter()
                .copied()
                .find(|a| a.is_ipv4() == flow.to.address.is_ipv4())
        };

        match self.plan.source(flow.probe) {
            Source::Pod {
                namespace, name, ..
            } => {
                let mut pods = self.inventory.pods.iter();
                pods.find(|pod| pod.namespace == *namespace && pod.name == *name)
                    .and_then(|pod| of(&pod.addresses))
            }
            Source::Node { name } => self
                .inventory
                .nodes
                .iter()
                .find(|node| node.name == *name)
                .and_then(|node| of(&node.addresses)),
            // No line of a suite sends from a reference pod.
            Source::ReferencePod { .. } => None,
            // Where the lab puts the runner (RFC 5737, RFC 3849).
            Source::Runner => of(&[
                [192, 0, 2, 2].into(),
                [0x2001, 0xdb8, 2, 0, 0, 0, 0, 2].into(),
            ]),
        }
    }

    /// The pods that a check's flows dial by their own address.
    pub(crate) fn replicas(self, check: &'a Check) -> BTreeSet<String> {
        let pods = self
            .flows(check)
            .filter_map(|flow| match &*flow.target_kind {
                TargetKind::Pod {
                    namespace, name, ..
                } => Some(format!("{namespace}/{name}")),
                TargetKind::Service { .. }
                | TargetKind::Node { .. }
                | TargetKind::ReferencePod { .. }
                | TargetKind::Outside { .. } => None,
            });
        pods.collect()
    }
}
