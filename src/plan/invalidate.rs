//! What is withdrawn from a plan before it is run.

use super::{Plan, PlanParts, ProbeId, Provability, Source};

impl Plan {
    /// Withdraws every check whose source is a probe pod with the labels of another pod: for
    /// clusters that do not enforce policies on probe pods. What such a probe sees is evidence
    /// neither of a deny nor of an allow. Checks that are sent from within the pods themselves
    /// (ephemeral containers) stand.
    pub fn withdraw_checks_from_clones(&mut self, why: &str) {
        let parts = &mut self.parts;
        let from_clone: Vec<bool> = parts
            .flows
            .iter()
            .map(|flow| parts.is_clone(flow.probe))
            .collect();

        for check in parts.checks.iter_mut().chain(&mut parts.swept) {
            if check.flows.iter().any(|flow| from_clone[flow.0 as usize]) {
                check.flows.clear();
                check.provability = Provability::Unprovable(why.to_owned());
            }
        }
    }
}

impl PlanParts {
    /// Whether a probe is a pod of ours with the labels of a workload's pod.
    fn is_clone(&self, probe: ProbeId) -> bool {
        let is_pod = match &self.probes[probe.0 as usize] {
            Source::Pod { .. } => true,
            Source::Node { .. } | Source::ReferencePod { .. } | Source::Runner => false,
        };
        is_pod && !self.ephemeral_probes.contains(&probe)
    }
}
