//! Evidence: what probes saw, folded in time, and what is known of the probes themselves.

use super::classify::AllowTier;
use super::moment::Clock;
use super::timeline::FlowEvidence;
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
    /// Evidence of a run of which nothing was seen yet.
    pub fn of(plan: &Plan) -> Self {
        let mut this = Self::default();
        this.extend(plan);
        this
    }

    /// Makes room for what was added to the plan.
    pub fn extend(&mut self, plan: &Plan) {
        self.flows
            .resize_with(plan.flows().len(), FlowEvidence::default);
        self.probes
            .resize_with(plan.probes().len(), ProbeEvidence::default);
        for (seen, flow) in self.flows.iter_mut().zip(plan.flows()) {
            seen.once = flow.to.once;
        }
        for flow in plan
            .composites()
            .values()
            .flat_map(|composite| &composite.through)
        {
            self.flows[flow.0 as usize].openings.get_or_insert_default();
        }
        for check in plan
            .checks()
            .iter()
            .filter(|check| check.expected == Expected::Allowed)
        {
            let required_tier = AllowTier::demanded(check.settings.required_tier);
            for flow in &check.flows {
                let known = &mut self.flows[flow.0 as usize].required_tier;
                *known = (*known).max(required_tier);
            }
        }
    }

    /// What was seen of a flow.
    pub fn flow(&self, id: FlowId) -> &FlowEvidence {
        &self.flows[id.0 as usize]
    }

    /// What is known of a probe.
    pub fn probe(&self, id: ProbeId) -> &ProbeEvidence {
        &self.probes[id.0 as usize]
    }
}

/// What is known of a probe.
#[derive(Debug, Clone, Default)]
pub struct ProbeEvidence {
    /// Its clock; `None` before hello.
    pub clock: Option<Clock>,
    /// Why nothing after a moment of its own time is evidence, with that moment.
    pub failure: Option<(u64, ProbeFailure)>,
    /// Whether it has stopped: no more lines can come.
    pub stopped: bool,
}

/// Why a probe's lines stopped being evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    /// It never ran, or ended before it was told to.
    #[error("{0}")]
    Ended(String),
    /// Its lines break the protocol.
    #[error("{0}")]
    Protocol(String),
    /// It reported a fault of its own.
    #[error("the probe reported {reason:?}: {detail}")]
    Reported {
        /// Its reason.
        reason: FaultReason,
        /// Its words.
        detail: String,
    },
    /// Its clock and the runner's disagree.
    #[error("{0}")]
    Clocks(String),
}
