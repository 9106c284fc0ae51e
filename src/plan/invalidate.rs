//! What is taken back of a plan before it is run.

use super::{Flow, Plan, Provability, Source};

/// Takes back every check whose source is a pod of ours with another's identity: the network does
/// not treat probes as it treats the pods that they stand for, so that nothing they see is
/// evidence, neither of a deny nor of an allow. What is sent from within the pods themselves
/// stands.
pub fn invalidate_identities(plan: &mut Plan, why: &str) {
    let stands_in = |flow: &Flow| {
        matches!(plan.probes[flow.probe.0 as usize], Source::Pod { .. })
            && !plan.inside.contains(&flow.probe)
    };
    let is_identity: Vec<bool> = plan.flows.iter().map(stands_in).collect();
    for check in plan.checks.iter_mut().chain(&mut plan.swept) {
        if check.flows.iter().any(|flow| is_identity[flow.0 as usize]) {
            check.flows.clear();
            check.provability = Provability::Unprovable(why.to_owned());
        }
    }
}
