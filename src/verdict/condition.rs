//! The five conditions of a proven deny, as types.

use super::reason::Reason;
use super::verdicts::Unproven;
use crate::plan::FlowId;

/// A condition of a proven deny. Their order is that in which they are checked: of several
/// failures, that of the highest condition got furthest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Condition {
    /// Condition 5: nothing relevant changed.
    NothingChanged,
    /// Condition 2: the target answers.
    TargetAnswers,
    /// Condition 3: the source was able to send.
    SourceAble,
    /// Condition 1: the flow was blocked throughout the hold.
    BlockedThroughout,
    /// Condition 4: the path was open.
    PathOpen,
}

/// A condition that does not hold, and why.
#[derive(Debug)]
pub(super) struct ConditionFailure {
    pub(super) condition: Condition,
    pub(super) unproven: Unproven,
}

impl Condition {
    /// The failure of this condition on a flow; more attempts might mend it.
    pub(super) fn fails(
        self,
        flow: FlowId,
        reason: Reason,
        detail: impl Into<String>,
    ) -> ConditionFailure {
        ConditionFailure {
            condition: self,
            unproven: Unproven::for_now(flow, reason, detail),
        }
    }
}
