//! How stable a flow is: successes in a row, and attempts lost after it was up.

use super::tiers::AllowTier;
use crate::wire::Stage;

/// Number of successes in a row that prove an allow.
pub(super) const SUCCESSES_IN_A_ROW: u32 = 3;

/// Number of losses that are kept of a flow: the longest.
const MAX_LOSSES: usize = 8;

/// Attempts that were lost in a row after the flow was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Start of the first lost attempt that is known, the probe's own time.
    pub from: u64,
    /// Start of the last one.
    pub to: u64,
    /// Number of them.
    pub attempts: u32,
    /// The highest stage at which one of them stopped.
    pub stage: Stage,
    /// Whether the flow got through again after them.
    pub is_over: bool,
}

/// How stable a flow is since its last restart.
#[derive(Debug, Clone, Default)]
pub struct Stability {
    /// Successes in a row up to the last attempt.
    in_a_row: u32,
    /// When [`SUCCESSES_IN_A_ROW`] at the required tier were first complete.
    pub up_at: Option<u64>,
    /// Start of the first of these successes, as far as it is known.
    pub up_from: Option<u64>,
    /// The lowest tier among the successes that count.
    pub tier: Option<AllowTier>,
    /// Attempts since [`Self::up_at`].
    pub attempts_since: u32,
    /// Attempts lost since [`Self::up_at`].
    pub lost: u32,
    /// The longest losses since [`Self::up_at`], in the order of time.
    pub losses: Vec<Loss>,
    /// Start of the last success whose start is known.
    pub last_success: Option<u64>,
}

impl Stability {
    /// Counts successes; `needed` of them in a row make it up.
    pub(super) fn gain(&mut self, tier: AllowTier, attempts: u32, start: Option<u64>, needed: u32) {
        self.last_success = start.or(self.last_success);
        if let Some(loss) = self.losses.last_mut() {
            loss.is_over = true;
        }
        if self.up_at.is_some() {
            self.attempts_since += attempts;
        } else {
            if self.in_a_row == 0 {
                self.tier = None;
                self.up_from = start;
            }
            self.in_a_row += attempts;
            if self.in_a_row >= needed {
                self.up_at = start;
            }
        }
        self.tier = Some(self.tier.map_or(tier, |lowest| lowest.min(tier)));
    }

    /// Counts lost attempts that stopped at a stage; `start` is the last one's, where it is known.
    pub(super) fn lose(&mut self, attempts: u32, stage: Stage, start: Option<u64>) {
        self.in_a_row = 0;
        if self.up_at.is_none() {
            return;
        }
        self.attempts_since += attempts;
        self.lost += attempts;

        if let Some(loss) = self.losses.last_mut().filter(|loss| !loss.is_over) {
            loss.attempts += attempts;
            loss.stage = loss.stage.max(stage);
            loss.to = start.unwrap_or(loss.to);
            return;
        }
        let from = start.or(self.last_success).unwrap_or_default();
        self.make_room();
        self.losses.push(Loss {
            from,
            to: from,
            attempts,
            stage,
            is_over: false,
        });
    }

    /// Forgets the shortest loss where there is no room for another.
    fn make_room(&mut self) {
        if self.losses.len() < MAX_LOSSES {
            return;
        }
        let losses = self.losses.iter().enumerate();
        if let Some((shortest, _)) = losses.min_by_key(|(_, loss)| loss.attempts) {
            self.losses.remove(shortest);
        }
    }

    /// Ends the successes in a row without a loss.
    pub(super) fn interrupt(&mut self) {
        self.in_a_row = 0;
    }
}
