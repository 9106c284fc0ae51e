//! The controls of a check: the flows that show what its own flows cannot.

use super::flow_text::{describe_source, dialled};
use super::{ControlReport, ControlRole};
use crate::plan::{FlowId, Plan};
use crate::verdict::{DenyProof, Evidence, FlowVerdict, Judgement, Violation};
use std::collections::BTreeSet;

/// At most so many target controls that did not suffice are listed for one check.
const MAX_INSUFFICIENT: usize = 16;

/// The controls of a judgement, in the order of its flows; each once for each role.
pub(super) fn reports(
    plan: &Plan,
    judgement: &Judgement,
    evidence: &Evidence,
) -> Vec<ControlReport> {
    let mut controls = Controls {
        plan,
        evidence,
        listed: BTreeSet::new(),
        insufficient: 0,
        reports: Vec::new(),
    };
    for result in &judgement.flows {
        match &result.verdict {
            FlowVerdict::Denied(proof) => controls.add_proof(proof),
            FlowVerdict::Violated(Violation::AllowedFlowBlocked {
                contrast: Some(contrast),
                ..
            }) => controls.add(ControlRole::Target, *contrast, true),
            FlowVerdict::Unproven(_) => controls.add_insufficient(result.flow),
            // A success needs no control.
            FlowVerdict::Violated(_) | FlowVerdict::Allowed(_) | FlowVerdict::LeftOut(_) => {}
        }
    }
    controls.reports
}

struct Controls<'a> {
    plan: &'a Plan,
    evidence: &'a Evidence,
    listed: BTreeSet<(ControlRole, FlowId)>,
    /// Target controls so far that did not suffice.
    insufficient: usize,
    reports: Vec<ControlReport>,
}

impl Controls<'_> {
    /// Lists the controls that the proof of a deny rests on.
    fn add_proof(&mut self, proof: &DenyProof) {
        self.add(ControlRole::Target, proof.control().flow(), true);
        for flow in proof.control().with() {
            self.add(ControlRole::Target, *flow, true);
        }

        if let Some(source) = proof.source() {
            self.add(ControlRole::Source, source.flow(), true);
        }
        for path in proof.paths().into_iter().flatten() {
            self.add(ControlRole::Path, path.flow(), true);
        }
        if let Some(flow) = proof.same_node_control() {
            self.add(ControlRole::SameNode, flow, true);
        }
    }

    /// Lists the target controls that were planned for an unproven flow and did not suffice.
    fn add_insufficient(&mut self, unproven: FlowId) {
        let plan = self.plan;
        let flow = plan.flow(unproven);
        let of_composite = plan
            .composites()
            .get(&flow.to)
            .into_iter()
            .flat_map(|composite| composite.through.iter().chain(&composite.backends));
        let target_controls = plan
            .target_controls()
            .get(&flow.to)
            .into_iter()
            .flatten()
            .chain(of_composite);

        for control in target_controls {
            if plan.flow(*control).probe == flow.probe {
                continue;
            }
            self.insufficient += 1;
            if self.insufficient <= MAX_INSUFFICIENT {
                self.add(ControlRole::Target, *control, false);
            }
        }
    }

    fn add(&mut self, role: ControlRole, id: FlowId, used: bool) {
        if !self.listed.insert((role, id)) {
            return;
        }
        let flow = self.plan.flow(id);
        let evidence = self.evidence.flow(id);

        self.reports.push(ControlReport {
            role,
            used,
            flow: id.0,
            probe: flow.probe.0,
            source: describe_source(self.plan.source(flow.probe)),
            target: flow.target_kind.to_string(),
            address: dialled(flow),
            transport: flow.to.transport.into(),
            attempts: evidence.attempts,
            opened: evidence.opened,
        });
    }
}
