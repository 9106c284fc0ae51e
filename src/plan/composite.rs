//! Composite controls: flows that together show that a Service answers, where no single sender is
//! certain to get through.

use super::addresses::target_kind_of;
use super::endpoints::selects;
use super::transport::model_transport;
use super::{FlowId, TargetKey, TargetKind};
use crate::inventory::Inventory;
use crate::model::Family;
use std::collections::BTreeSet;
use std::time::Duration;

/// Controls of a Service whose pods are on several nodes, where policies admit no source.
///
/// A node may always reach its own pods (Kubernetes, "Network Policies"), and no other's. When it
/// dials the Service, it reaches one of its own pods or one of another node, by chance; so an
/// attempt gets through now and then, and each success shows that the Service's address and port
/// lead to a pod that answers. That the other pods answer as well is shown by each pod's own node,
/// which must reach it at the port that the Service leads to, all the time and without a failure.
///
/// With a wrong port of the Service, or without pods behind it, no node gets through; with a pod
/// that does not answer, that pod's own node does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composite {
    /// Flows from the node of each pod to the Service.
    pub through: Vec<FlowId>,
    /// Flows from the node of each pod to that pod.
    pub backends: Vec<FlowId>,
}

/// Attempts a second of all nodes together on one Service. With each pod on a separate node, as
/// many attempts get through in a second as one node makes.
const ATTEMPTS_PER_SECOND: u32 = 16;

/// The shortest time between two attempts of one node.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);

/// The time between two attempts of one node on a Service, where so many nodes try it.
pub(super) fn interval(nodes: usize) -> Duration {
    SHORTEST_INTERVAL.max(
        Duration::from_secs(1) * u32::try_from(nodes).unwrap_or(u32::MAX) / ATTEMPTS_PER_SECOND,
    )
}

/// The targets of a composite control.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CompositeTargets {
    /// The nodes that dial the Service.
    pub(super) nodes: Vec<String>,
    /// Each pod's node, and how it dials that pod.
    pub(super) backends: Vec<(String, TargetKey, TargetKind)>,
}

/// The targets of the composite control of a Service; `None` where the target is not a Service with
/// pods on several nodes, or where one of its pods cannot be dialled as the Service would, so that
/// nothing would be known of that pod.
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
    let service = inventory
        .services
        .iter()
        .find(|known| (&known.namespace, &known.name) == (&service.namespace, &service.name))?;
    let port = service
        .ports
        .iter()
        .find(|known| (known.port.number(), known.port.transport()) == (key.port, transport))?;

    let known: BTreeSet<&String> = pods.iter().collect();
    let mut backends = Vec::new();
    for pod in inventory
        .pods
        .iter()
        .filter(|pod| selects(service, pod) && known.contains(&pod.full_name()))
    {
        let to = TargetKey {
            address: pod.address(Family::of(key.address))?,
            port: port.target.number_on(pod, transport)?,
            ..key.clone()
        };
        backends.push((pod.node.clone(), to, target_kind_of(pod)));
    }

    (backends.len() == pods.len()).then(|| CompositeTargets {
        nodes: nodes.clone(),
        backends,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_of_all_nodes_keep_to_the_limit_of_a_service() {
        for nodes in 1..100 {
            let a_second = nodes as f64 / interval(nodes).as_secs_f64();
            assert!(
                a_second <= f64::from(ATTEMPTS_PER_SECOND) + 1e-6,
                "{nodes} nodes: {a_second}"
            );
        }
    }
}
