//! The flows that vouch for those of a check.

use super::ControlReport;
use super::check_text::{dialled, sender, transport};
use crate::plan::{FlowId, Plan};
use crate::verdict::{Evidence, FlowVerdict, Judgement, Violation};
use std::collections::BTreeSet;

/// At most so many vouchers that did not count are told for one check.
const MOST_FAILED: usize = 16;

/// The controls of a judgement, in the order of its flows; each once for each thing that it vouches
/// for.
pub(super) fn of(plan: &Plan, judgement: &Judgement, evidence: &Evidence) -> Vec<ControlReport> {
    let mut this = Controls {
        plan,
        evidence,
        known: BTreeSet::new(),
        reports: Vec::new(),
    };
    let mut failed = 0;
    for result in &judgement.flows {
        match &result.verdict {
            FlowVerdict::Denied(proof) => {
                this.add("target", proof.control().flow(), true);
                for flow in proof.control().with() {
                    this.add("target", *flow, true);
                }
                if let Some(source) = proof.source() {
                    let (before, after) = source.flows();
                    this.add("source", before, true);
                    this.add("source", after, true);
                }
                for path in proof.paths().into_iter().flatten() {
                    this.add("path", path.flow(), true);
                }
                if let Some(same_node_control) = proof.same_node_control() {
                    this.add("twin", same_node_control, true);
                }
            }
            FlowVerdict::Violated(Violation::Shut {
                contrast: Some(contrast),
                ..
            }) => this.add("target", *contrast, true),
            FlowVerdict::Unproven(_) => {
                let of = plan.flow(result.flow);
                let composite = plan.composites().get(&of.to).into_iter();
                let composite = composite
                    .flat_map(|composite| composite.through.iter().chain(&composite.backends));
                let target_controls = plan
                    .target_controls()
                    .get(&of.to)
                    .into_iter()
                    .flatten()
                    .chain(composite);
                for control in
                    target_controls.filter(|control| plan.flow(**control).probe != of.probe)
                {
                    failed += 1;
                    if failed <= MOST_FAILED {
                        this.add("target", *control, false);
                    }
                }
            }
            // An opening needs nobody to vouch for it.
            FlowVerdict::Violated(_) | FlowVerdict::Allowed(_) | FlowVerdict::LeftOut(_) => {}
        }
    }
    this.reports
}

struct Controls<'a> {
    plan: &'a Plan,
    evidence: &'a Evidence,
    known: BTreeSet<(&'static str, FlowId)>,
    reports: Vec<ControlReport>,
}

impl Controls<'_> {
    fn add(&mut self, vouches: &'static str, id: FlowId, counts: bool) {
        if !self.known.insert((vouches, id)) {
            return;
        }
        let flow = self.plan.flow(id);
        let seen = self.evidence.flow(id);
        self.reports.push(ControlReport {
            vouches,
            counts,
            flow: id.0,
            probe: flow.probe.0,
            source: sender(self.plan.source(flow.probe)),
            target: flow.target_kind.to_string(),
            address: dialled(flow),
            transport: transport(flow),
            attempts: seen.attempts,
            opened: seen.opened,
        });
    }
}
