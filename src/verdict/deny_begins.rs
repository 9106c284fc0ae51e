//! When the deny of a line with `established: true` begins to apply: with the last relevant change of
//! the run.

use super::controls::Evaluation;
use super::policy_delay::grace;
use super::reason::Reason;
use super::verdicts::Unproven;
use crate::model::ClusterChange;
use crate::plan::{Check, FlowId};

/// The last relevant change of a flow's run.
pub(super) struct Change<'a> {
    pub(super) what: &'a ClusterChange,
    /// When it was noticed, microseconds of the run.
    pub(super) at: i64,
    /// When the deny applies at the latest, microseconds of the run.
    pub(super) applies_at: i64,
}

impl<'a> Change<'a> {
    /// The last change that concerns a flow; `None` where nothing changed.
    pub(super) fn of(evaluation: Evaluation<'a>, check: &Check, id: FlowId) -> Option<Self> {
        let restarts = evaluation.evidence.flow(id).restarts.as_ref()?;
        let (at, what) = restarts.last_change.as_ref()?;
        let grace = grace(evaluation, &check.settings).as_micros() as i64;
        Some(Self {
            what,
            at: *at,
            applies_at: at.saturating_add(grace),
        })
    }
}

/// Unproven for now: nothing changed that concerns a flow.
pub(super) fn nothing_changed(id: FlowId) -> Unproven {
    let detail = "the connection was opened, and nothing that concerns it changed during the run: apply the policy while the run is under way";
    Unproven::for_now(id, Reason::NothingChanged, detail)
}
