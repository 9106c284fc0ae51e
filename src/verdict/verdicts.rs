//! The verdict types: of a check, of a flow, and why one is violated or unproven.

use super::allow_proof::AllowProof;
use super::deny_proof::DenyProof;
use super::reading::Block;
use super::reason::Reason;
use super::timeline::SuccessfulAttempt;
use crate::model::ClusterChange;
use crate::plan::FlowId;
use std::time::Duration;

/// What a run says of one check.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The expectation holds, and nothing else explains the evidence.
    Proven,
    /// The expectation does not hold.
    Violated(Violation),
    /// Neither could be shown.
    Unproven(Unproven),
}

/// What the evidence of one flow shows.
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
    DeniedFlowOpened {
        flow: FlowId,
        first: SuccessfulAttempt,
        /// Number of its attempts that opened.
        opened: u32,
        /// Number of its attempts.
        attempts: u32,
    },
    /// A connection that was open before the deny applied was not cut.
    StayedOpen {
        flow: FlowId,
        /// What changed, so that the deny applied.
        change: ClusterChange,
        /// How long the connection surely went on after that.
        lasted: Duration,
    },
    /// An allowed flow stayed blocked.
    AllowedFlowBlocked {
        flow: FlowId,
        /// How it was blocked, the last time.
        block: Option<Block>,
        /// The flow that got through to the same address and port in the same window; `None` where
        /// the refusal names its enforcer.
        contrast: Option<FlowId>,
    },
    /// An allowed flow came up and did not stay up.
    Unstable {
        flow: FlowId,
        /// Attempts lost after it was up.
        lost: u32,
        /// Attempts after it was up.
        of: u32,
        /// The longest series of lost attempts.
        in_a_row: u32,
    },
}

impl Violation {
    /// The flow that shows it.
    pub fn flow(&self) -> FlowId {
        match self {
            Self::DeniedFlowOpened { flow, .. }
            | Self::StayedOpen { flow, .. }
            | Self::AllowedFlowBlocked { flow, .. }
            | Self::Unstable { flow, .. } => *flow,
        }
    }
}

/// Why neither could be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unproven {
    pub reason: Reason,
    /// What it was in this case.
    pub detail: String,
    /// The flow that shows it, if one does.
    pub flow: Option<FlowId>,
    /// Whether more attempts might still settle it.
    pub open: bool,
}

impl Unproven {
    /// Unproven by a flow, for now: more attempts might settle it.
    pub(super) fn for_now(flow: FlowId, reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            flow: Some(flow),
            open: true,
        }
    }

    /// Unproven by a flow, whatever follows.
    pub(super) fn for_good(flow: FlowId, reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            open: false,
            ..Self::for_now(flow, reason, detail)
        }
    }
}
