//! Evidence → proofs → [`Verdict`].
//!
//! Pure: no clock, no IO, no async. The rules are numbered where they are carried out: [`deny`]
//! holds the five conditions of a proven deny, [`allow`] those of an allow, [`judge()`] puts the
//! flows of a check together.
//!
//! "It did not connect" is no proof of a deny: [`DenyProof`] cannot be built without a
//! [`ControlProof`], and that cannot be built without somebody who got through to the same address
//! and port, before and after.

mod allow;
mod classify;
mod composite;
mod control;
mod controls;
mod deny;
mod evidence;
mod judge;
mod leak;
mod moment;
mod policy_delay;
mod proof;
mod reason;
mod source_and_path;
mod streak;
mod success_times;
#[cfg(test)]
mod tests;
mod timeline;
mod wording;

pub use allow::AllowProof;
pub use classify::{AllowTier, Block, Reading, Refusal, Signature, Success, read};
pub use control::ControlProof;
pub use controls::concerns;
pub use deny::{MAX_RESTARTS, waits_needed};
pub use evidence::{Evidence, ProbeEvidence, ProbeFailure};
pub use judge::{Awaited, FlowResult, Judge, Judgement, Reach, judge};
pub use leak::Leak;
pub use moment::{Clock, MAX_WALL_ERROR_US, Moment};
pub use proof::{DenyProof, DenyTier, PathProof, SourceProof, Window};
pub use reason::Reason;
pub use streak::{Outcome, StageTimes, Streak};
pub use success_times::SuccessTimes;
pub use timeline::{Cause, FirstSuccess, FlowEvidence, OutOfOrder, Restarts};
pub use wording::describe_how;

use crate::plan::FlowId;

/// What a run says of one check.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The expectation holds, and here is why nothing else explains what was seen.
    Proven,
    /// The expectation does not hold.
    Violated(Violation),
    /// Neither could be shown.
    Unproven(Unproven),
}

/// What one flow shows.
#[derive(Debug, Clone, PartialEq)]
pub enum FlowVerdict {
    /// A deny, proven.
    Denied(DenyProof),
    /// An allow, proven.
    Allowed(AllowProof),
    /// The expectation does not hold on this flow.
    Violated(Violation),
    /// Neither could be shown.
    Unproven(Unproven),
    /// It does not count, and why: a pod that is not ready, a family that is not served.
    LeftOut(String),
}

/// How an expectation does not hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Violation {
    /// A denied flow opened.
    FirstSuccess {
        /// The flow.
        flow: FlowId,
        /// Its first opening.
        first: FirstSuccess,
        /// How many of its attempts opened.
        opened: u32,
        /// Of how many.
        attempts: u32,
    },
    /// An allowed flow stayed shut.
    Shut {
        /// The flow.
        flow: FlowId,
        /// How it was stopped, the last time.
        block: Option<Block>,
        /// Who got through to the same address and port meanwhile; `None` where the refusal names
        /// its enforcer.
        contrast: Option<FlowId>,
    },
    /// An allowed flow came up and did not stay up.
    Unstable {
        /// The flow.
        flow: FlowId,
        /// Attempts lost after it was up.
        lost: u32,
        /// Of how many.
        of: u32,
        /// The longest run of lost attempts.
        in_a_row: u32,
    },
}

impl Violation {
    /// The flow that shows it.
    pub fn flow(&self) -> FlowId {
        match self {
            Self::FirstSuccess { flow, .. }
            | Self::Shut { flow, .. }
            | Self::Unstable { flow, .. } => *flow,
        }
    }
}

/// Why neither could be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unproven {
    /// The documented reason.
    pub reason: Reason,
    /// What it was in this case.
    pub detail: String,
    /// The flow that shows it, if one does.
    pub flow: Option<FlowId>,
    /// Whether more samples might still settle it.
    pub open: bool,
}
