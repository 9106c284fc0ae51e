//! How stable a flow is: successes in a row, and attempts lost after it was up.

use super::tiers::AllowTier;

/// Number of successes in a row that prove an allow.
pub(super) const SUCCESSES_IN_A_ROW: u32 = 3;

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
    /// The longest series of lost attempts since [`Self::up_at`].
    pub longest_loss: u32,
    /// Attempts lost in a row up to the last one.
    current_loss: u32,
}

impl Stability {
    /// Counts successes; `needed` of them in a row make it up.
    pub(super) fn gain(&mut self, tier: AllowTier, attempts: u32, start: Option<u64>, needed: u32) {
        self.current_loss = 0;
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

    /// Counts lost attempts.
    pub(super) fn lose(&mut self, attempts: u32) {
        self.in_a_row = 0;
        if self.up_at.is_some() {
            self.attempts_since += attempts;
            self.lost += attempts;
            self.current_loss += attempts;
            self.longest_loss = self.longest_loss.max(self.current_loss);
        }
    }

    /// Ends the successes in a row without a loss.
    pub(super) fn interrupt(&mut self) {
        self.in_a_row = 0;
    }
}
