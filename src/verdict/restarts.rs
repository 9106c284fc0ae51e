//! Restarts: sampling of a flow starts again, and earlier attempts count for no proof.

use crate::model::ClusterChange;

/// Changes that are noticed within this time of each other are one, microseconds: a rollout touches
/// several objects.
const ONE_CHANGE_US: i64 = 1_000_000;

/// Number of times of changes kept of a flow: one that restarted more often is judged by that.
const MAX_CHANGES: usize = 8;

/// Why the earlier attempts of a flow count for no proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Something relevant changed.
    Changed(ClusterChange),
    /// The probe was stalled for this many milliseconds and made no attempts in that time.
    Stalled(u64),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Changed(change) => write!(f, "{change} changed"),
            Self::Stalled(ms) => write!(f, "the probe was stalled for {ms} ms"),
        }
    }
}

/// The restarts of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restarts {
    pub count: u32,
    /// The last cause.
    pub cause: Cause,
    /// When something relevant changed, as it was noticed, microseconds of the run: the first times
    /// only.
    pub changes: Vec<i64>,
    /// The last of these times, and what changed.
    pub last_change: Option<(i64, ClusterChange)>,
    /// When the last restart that counts began, microseconds of the run.
    last_at: i64,
}

impl Restarts {
    /// No restart yet, and one about to be added.
    pub(super) fn before(cause: &Cause) -> Self {
        Self {
            count: 0,
            cause: cause.clone(),
            changes: Vec::new(),
            last_change: None,
            last_at: i64::MIN,
        }
    }

    /// Adds a restart that was noticed at `at`, microseconds of the run.
    pub(super) fn add(&mut self, at: i64, cause: Cause) {
        match &cause {
            Cause::Changed(change) => {
                if self.changes.len() < MAX_CHANGES {
                    self.changes.push(at);
                }
                let is_latest = self
                    .last_change
                    .as_ref()
                    .is_none_or(|(last, _)| *last <= at);
                if is_latest {
                    self.last_change = Some((at, change.clone()));
                }
            }
            Cause::Stalled(_) => {}
        }
        if self.count == 0 || at - self.last_at > ONE_CHANGE_US {
            self.count += 1;
            self.last_at = at;
        }
        self.cause = cause;
    }
}
