//! Evidence: what probes reported, kept as timelines, and the state of the probes themselves.

use super::moment::Clock;
use super::tiers::AllowTier;
use super::timeline::{FlowEvidence, OutOfOrder};
use crate::model::EnforcerCount;
use crate::plan::{FlowId, Plan, ProbeId};
use crate::suite::Expected;
use crate::wire::FaultReason;
use std::collections::BTreeMap;
use std::time::Duration;

/// All evidence of a run.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// By [`FlowId`].
    pub flows: Vec<FlowEvidence>,
    /// By [`ProbeId`].
    pub probes: Vec<ProbeEvidence>,
    /// How long the enforcer took to act on a new pod, where a canary measured it.
    pub canary: Option<Duration>,
    /// The enforcer's own counts.
    pub counters: BTreeMap<FlowId, EnforcerCount>,
}

impl Evidence {
    /// Empty evidence for the flows and probes of a plan.
    pub fn of(plan: &Plan) -> Self {
        let mut evidence = Self::default();
        evidence.extend(plan);
        evidence
    }

    /// Makes room for what was added to the plan.
    pub fn extend(&mut self, plan: &Plan) {
        self.flows
            .resize_with(plan.flows().len(), FlowEvidence::default);
        self.probes
            .resize_with(plan.probes().len(), ProbeEvidence::default);
        for (evidence, flow) in self.flows.iter_mut().zip(plan.flows()) {
            evidence.once = flow.to.once;
        }

        for flow in plan
            .composites()
            .values()
            .flat_map(|composite| &composite.through)
        {
            self.flows[flow.0 as usize]
                .success_times
                .get_or_insert_default();
        }

        let allowed = plan
            .checks()
            .iter()
            .filter(|check| check.expected == Expected::Allowed);
        for check in allowed {
            let check_tier = AllowTier::meeting(check.settings.required_tier);
            for flow in &check.flows {
                let required_tier = &mut self.flows[flow.0 as usize].required_tier;
                *required_tier = (*required_tier).max(check_tier);
            }
        }
    }

    /// The evidence of a flow.
    pub fn flow(&self, id: FlowId) -> &FlowEvidence {
        &self.flows[id.0 as usize]
    }

    /// The state of a probe.
    pub fn probe(&self, id: ProbeId) -> &ProbeEvidence {
        &self.probes[id.0 as usize]
    }
}

/// The state of a probe.
#[derive(Debug, Clone, Default)]
pub struct ProbeEvidence {
    /// `None` before hello.
    pub clock: Option<Clock>,
    /// Why nothing after a moment of its own time is evidence, with that moment.
    pub failure: Option<(u64, ProbeFailure)>,
    /// Whether it has stopped: no more lines can come.
    pub stopped: bool,
}

impl ProbeEvidence {
    /// Whether an attempt that started at a moment of the probe's own time is evidence.
    pub(super) fn is_intact_at(&self, start: u64) -> bool {
        self.failure
            .as_ref()
            .is_none_or(|(failed_at, _)| start <= *failed_at)
    }
}

/// Why a probe's lines stopped being evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    /// It never ran, or ended before the run stopped it.
    #[error("{0}")]
    Ended(String),
    /// Its lines break the protocol.
    #[error("{0}")]
    Protocol(String),
    /// It reported a fault of the probe as a whole.
    #[error("the probe reported {reason:?}: {detail}")]
    Reported { reason: FaultReason, detail: String },
    /// Its clock and the runner's disagree.
    #[error("{0}")]
    Clocks(String),
}

impl From<OutOfOrder> for ProbeFailure {
    fn from(error: OutOfOrder) -> Self {
        Self::Protocol(error.to_string())
    }
}
