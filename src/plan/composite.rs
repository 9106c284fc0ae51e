//! What vouches together for a Service that no single sender is sure to get through to.

use super::addresses::target_kind_of;
use super::endpoints::{selects, target_on};
use super::transport::model_transport;
use super::{FlowId, TargetKey, TargetKind};
use crate::inventory::{Inventory, Pod};
use crate::model::Family;
use std::collections::BTreeSet;
use std::time::Duration;

/// Controls of a Service whose pods are on several nodes, where no policy admits anybody.
///
/// A node may always reach its own pods (Kubernetes, "Network Policies"), and no other's. Dialling
/// the Service it is led to a pod of its own or to one of another node, by chance; so it opens now
/// and then, and where it does, the Service's address and port lead to a pod that answers. That the
/// others would have answered as well is shown by each pod's own node, which must reach it at the
/// port that the Service leads to, all the time and without a failure.
///
/// A Service with another port, or without pods, lets no node through; a pod that is dead fails its
/// own node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composite {
    /// From the node of each of its pods through the Service.
    pub through: Vec<FlowId>,
    /// From the node of each of its pods to that pod.
    pub backends: Vec<FlowId>,
}

/// Attempts a second of all nodes together on one Service. With each pod on a node of its own, as
/// many openings a second are to be expected as one node makes attempts.
const AT_ONCE: u32 = 16;

/// No node tries more often than this.
const SHORTEST: Duration = Duration::from_millis(200);

/// The time between two attempts of one of so many nodes through a Service.
pub(super) fn interval(nodes: usize) -> Duration {
    SHORTEST.max(Duration::from_secs(1) * u32::try_from(nodes).unwrap_or(u32::MAX) / AT_ONCE)
}

/// What must be dialled for a composite.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CompositeTargets {
    /// The nodes that dial the Service.
    pub(super) nodes: Vec<String>,
    /// Each pod's node, and how it dials that pod.
    pub(super) backends: Vec<(String, TargetKey, TargetKind)>,
}

/// What must be dialled so that a Service is vouched for; `None` where it is not a Service with
/// pods on several nodes, or where one of its pods cannot be dialled as the Service would: then
/// nothing would be known of that one.
pub(super) fn composite_targets(
    inventory: &Inventory,
    key: &TargetKey,
    target_kind: &TargetKind,
) -> Option<CompositeTargets> {
    let TargetKind::Service {
        service,
        pods,
        nodes,
    } = target_kind
    else {
        return None;
    };
    if nodes.len() < 2 {
        return None;
    }
    let transport = model_transport(key.transport);
    let is_it = |of: &&crate::inventory::Service| {
        (&of.namespace, &of.name) == (&service.namespace, &service.name)
    };
    let service = inventory.services.iter().find(is_it)?;
    let is_port = |of: &&crate::inventory::ServicePort| {
        (of.port.number(), of.port.transport()) == (key.port, transport)
    };
    let port = service.ports.iter().find(is_port)?;
    let known: BTreeSet<&String> = pods.iter().collect();
    let behind = inventory
        .pods
        .iter()
        .filter(|pod| selects(service, pod) && known.contains(&pod.full_name()));
    let backend = |pod: &Pod| {
        let address = pod.address(Family::of(key.address))?;
        let port = target_on(&port.target, transport, pod)?;
        Some((
            pod.node.clone(),
            TargetKey {
                address,
                port,
                ..key.clone()
            },
            target_kind_of(pod),
        ))
    };
    let backends: Vec<_> = behind.map(backend).collect::<Option<_>>()?;
    (backends.len() == pods.len()).then(|| CompositeTargets {
        nodes: nodes.clone(),
        backends,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_nodes_together_try_no_more_often_than_a_target_may_be_tried() {
        for nodes in 1..100 {
            let a_second = nodes as f64 / interval(nodes).as_secs_f64();
            assert!(
                a_second <= f64::from(AT_ONCE) + 1e-6,
                "{nodes} nodes: {a_second}"
            );
        }
    }
}
