//! What shows that a source that this run creates is known where its packets are judged.
//!
//! An enforcer learns of a new pod with some delay (FACTS: seconds, by plugin and node). Until then
//! its packets are those of a stranger: they are denied whatever its labels are, and that denial
//! proves nothing. A source is *armed* towards a node once a packet of it was admitted to a pod
//! there by a rule that asks for labels.

use super::{Check, FlowId, Plan, ProbeId, TargetKind};
use crate::inventory::{Inventory, Pod};
use crate::policy::admits_by_labels_only;
use crate::suite::Expected;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Flows that arm their probe towards a node.
pub(super) type PolicyDelayFlows = BTreeMap<(ProbeId, String), Vec<FlowId>>;

/// Finds what can arm the sources that the run creates, and lets the others' denials be watched for
/// longer.
pub(super) fn add(plan: &mut Plan, inventory: &Inventory) {
    if plan.created_probes().is_empty() {
        return;
    }
    let pods: HashMap<String, &Pod> = inventory
        .pods
        .iter()
        .map(|pod| (pod.full_name(), pod))
        .collect();
    let denied = flows_of(plan.checks(), Expected::Denied);
    let allowed = flows_of(plan.checks(), Expected::Allowed);
    let mut policy_delay_flows = PolicyDelayFlows::new();
    let mut by_labels: HashMap<String, bool> = HashMap::new();
    for (index, flow) in plan.flows().iter().enumerate() {
        let id = FlowId(index as u32);
        let TargetKind::Pod {
            namespace,
            name,
            node,
            host_network: false,
            ..
        } = &*flow.target_kind
        else {
            continue;
        };
        if !plan.created_probes().contains(&flow.probe)
            || (denied.contains(&id) && !allowed.contains(&id))
        {
            continue;
        }
        let target = format!("{namespace}/{name}");
        let asks = *by_labels.entry(target.clone()).or_insert_with(|| {
            pods.get(&target)
                .is_some_and(|pod| admits_by_labels_only(inventory, pod))
        });
        if asks {
            policy_delay_flows
                .entry((flow.probe, node.clone()))
                .or_default()
                .push(id);
        }
    }
    plan.parts.policy_delay_flows = policy_delay_flows;
    let mut checks = std::mem::take(&mut plan.parts.checks);
    for check in checks
        .iter_mut()
        .filter(|check| check.expected == Expected::Denied)
    {
        if check
            .flows
            .iter()
            .any(|flow| !plan.identity_can_be_shown(*flow))
        {
            check.settings.hold = check.settings.unknown_identity_hold;
        }
    }
    plan.parts.checks = checks;
}

impl Plan {
    /// Whether a flow's source needs no arming, or something can arm it towards every node that the
    /// flow may reach.
    pub fn identity_can_be_shown(&self, flow: FlowId) -> bool {
        let of = self.flow(flow);
        !self.created_probes().contains(&of.probe)
            || shows_identity_towards(&of.target_kind).is_some_and(|nodes| {
                nodes.iter().all(|node| {
                    self.policy_delay_flows()
                        .contains_key(&(of.probe, node.clone()))
                })
            })
    }
}

/// The nodes where a packet's source must be known; `None` where that cannot be seen, since no
/// ingress policy decides.
pub fn shows_identity_towards(target_kind: &TargetKind) -> Option<Vec<String>> {
    match target_kind {
        TargetKind::Pod {
            node,
            host_network: false,
            ..
        } => Some(vec![node.clone()]),
        TargetKind::Service { nodes, .. } if !nodes.is_empty() => Some(nodes.clone()),
        TargetKind::Pod { .. }
        | TargetKind::Service { .. }
        | TargetKind::Node { .. }
        | TargetKind::ReferencePod { .. }
        | TargetKind::Outside { .. } => None,
    }
}

fn flows_of(checks: &[Check], expected: Expected) -> BTreeSet<FlowId> {
    checks
        .iter()
        .filter(|check| check.expected == expected)
        .flat_map(|check| check.flows.iter().copied())
        .collect()
}
