//! How to make the plan again, and the changes that wait for it.

use crate::inventory::Inventory;
use crate::model::ClusterChange;
use crate::plan::{Plan, PlanError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The time without a further change of pods or Services after which the plan is made again.
const QUIET_PERIOD: Duration = Duration::from_millis(300);

/// The longest wait for a [`QUIET_PERIOD`].
const MAX_QUIET_WAIT: Duration = Duration::from_secs(2);

/// Makes the plan again from what exists by now.
#[derive(Clone, Default)]
pub struct Replan(Option<Arc<Replanner>>);

pub(super) type Replanner = dyn Fn(&Inventory) -> Result<Plan, PlanError> + Send + Sync;

impl Replan {
    /// By the function that made the plan at first.
    pub fn by(
        planner: impl Fn(&Inventory) -> Result<Plan, PlanError> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(planner)))
    }

    pub(super) fn planner(&self) -> Option<Arc<Replanner>> {
        self.0.clone()
    }
}

impl std::fmt::Debug for Replan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() {
            "Replan::by"
        } else {
            "Replan::default"
        })
    }
}

/// A change with its time, microseconds of the run.
pub(super) type TimedChange = (i64, ClusterChange);

/// Changes of pods and Services that were not acted on yet.
#[derive(Debug, Default)]
pub(super) struct PendingChanges {
    changes: Vec<TimedChange>,
    first_and_last: Option<(Instant, Instant)>,
}

impl PendingChanges {
    /// Adds a change that was noticed now.
    pub(super) fn push(&mut self, at: i64, change: ClusterChange) {
        let now = Instant::now();
        let first = self.first_and_last.map_or(now, |(first, _)| first);
        self.first_and_last = Some((first, now));
        self.changes.push((at, change));
    }

    /// Whether a change is still to be acted on.
    pub(super) fn is_pending(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Whether no more changes follow, or have followed for too long.
    pub(super) fn is_due(&self) -> bool {
        self.first_and_last.is_some_and(|(first, last)| {
            last.elapsed() >= QUIET_PERIOD || first.elapsed() >= MAX_QUIET_WAIT
        })
    }

    /// Takes all of them.
    pub(super) fn take(&mut self) -> Vec<TimedChange> {
        self.first_and_last = None;
        std::mem::take(&mut self.changes)
    }
}
