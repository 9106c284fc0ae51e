//! Reach: which nodes, pods and addresses of the plan a verdict speaks of.

use super::evidence::Evidence;
use super::verdicts::FlowVerdict;
use crate::plan::{FlowId, Plan, Scope, TargetKind};
use crate::suite::Spread;
use std::collections::BTreeSet;

/// How far a verdict reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reach {
    /// Nodes that the source's attempts came from.
    pub source_nodes: usize,
    /// Nodes on which the source has pods.
    pub of_source_nodes: usize,
    /// Kinds of the source's pods that attempts came from: policies cannot tell pods of one kind
    /// apart.
    pub source_kinds: usize,
    /// Kinds of the source's pods.
    pub of_source_kinds: usize,
    /// Pods of the target that were attempted.
    pub target_pods: usize,
    /// Pods of the target that are ready.
    pub of_target_pods: usize,
    /// Addresses of the target, a host outside by name, that were attempted.
    pub target_addresses: usize,
    /// Addresses of the target, a host outside by name; 0 for other targets.
    pub of_target_addresses: usize,
}

impl Reach {
    /// The reach of a check's flows, without those that were left out.
    pub(super) fn of<'v>(
        plan: &Plan,
        evidence: &Evidence,
        scope: Scope,
        flows: impl Iterator<Item = (FlowId, &'v FlowVerdict)>,
    ) -> Self {
        let mut nodes = BTreeSet::new();
        let mut kinds: BTreeSet<u32> = BTreeSet::new();
        let mut pods = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        for (id, verdict) in flows {
            if matches!(verdict, FlowVerdict::LeftOut(_)) {
                continue;
            }
            let flow = plan.flow(id);
            let source = plan.source(flow.probe);
            // The probe of a flow by name dials what it resolves itself.
            match &flow.to.name {
                None => drop(addresses.insert(flow.to.address)),
                Some(_) => addresses.extend(evidence.flow(id).peers.keys()),
            }
            nodes.extend(source.node());
            kinds.extend(plan.source_kinds().get(source));
            if let TargetKind::Pod {
                namespace, name, ..
            } = &*flow.target_kind
            {
                pods.insert((namespace, name));
            }
        }
        let has_addresses = scope.target_addresses > 0;
        let target_addresses = if has_addresses { addresses.len() } else { 0 };
        Self {
            source_nodes: nodes.len(),
            of_source_nodes: scope.source_nodes.max(nodes.len()),
            source_kinds: kinds.len(),
            of_source_kinds: scope.source_kinds.max(kinds.len()),
            target_pods: pods.len(),
            of_target_pods: scope.target_pods.max(pods.len()),
            target_addresses,
            of_target_addresses: scope.target_addresses.max(target_addresses),
        }
    }
}

impl Reach {
    /// Whether every kind of the source's pods and every ready pod of the target is reached; of the
    /// sources one is enough where the line says so. Nodes are those that the plan chose.
    pub(super) fn is_whole(self, spread: Spread) -> bool {
        let has_all_kinds = match spread {
            Spread::One => true,
            Spread::Nodes | Spread::Replicas => self.source_kinds >= self.of_source_kinds,
        };
        has_all_kinds && self.target_pods >= self.of_target_pods
    }
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        if self.of_source_nodes > 0 {
            let kinds = if self.of_source_kinds > 1 {
                format!(
                    " and {} of {} kinds of pods",
                    self.source_kinds, self.of_source_kinds
                )
            } else {
                String::new()
            };
            parts.push(format!(
                "from {} of {} node{}{kinds}",
                self.source_nodes,
                self.of_source_nodes,
                plural(self.of_source_nodes)
            ));
        }
        if self.of_target_pods > 0 {
            parts.push(format!(
                "to {} of {} pod{}",
                self.target_pods,
                self.of_target_pods,
                plural(self.of_target_pods)
            ));
        }
        if self.of_target_addresses > 1 {
            parts.push(format!(
                "to {} of {} addresses",
                self.target_addresses, self.of_target_addresses
            ));
        }
        f.write_str(&parts.join(", "))
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reach_says_how_many_addresses_of_a_host_were_attempted() {
        let reach = |target_addresses, of_target_addresses| {
            let reach = Reach {
                source_nodes: 1,
                of_source_nodes: 2,
                target_addresses,
                of_target_addresses,
                ..Reach::default()
            };
            reach.to_string()
        };
        assert_eq!(reach(4, 20), "from 1 of 2 nodes, to 4 of 20 addresses");
        assert_eq!(reach(1, 1), "from 1 of 2 nodes");
    }
}
