//! The proof of an allow.

use super::stability::SUCCESSES_IN_A_ROW;
use super::tiers::AllowTier;
use super::timeline::FlowEvidence;
use crate::plan::CheckSettings;
use std::time::Duration;

/// Why one flow's allow is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowProof {
    tier: AllowTier,
    delay: Duration,
    opened: u32,
    attempts: u32,
    restarts: u32,
}

impl AllowProof {
    /// The only constructor: three successes in a row within the timeout, at the required tier;
    /// [`FlowEvidence`] counts only these.
    pub(super) fn new(settings: &CheckSettings, evidence: &FlowEvidence) -> Option<Self> {
        let stability = evidence.stability.as_deref()?;
        stability.up_at?;
        let delay_us = stability.up_from?.saturating_sub(evidence.first_start?);
        let delay = Duration::from_micros(delay_us);
        if delay > settings.timeout {
            return None;
        }
        Some(Self {
            tier: stability.tier?,
            delay,
            opened: evidence.opened,
            attempts: evidence.attempts,
            restarts: evidence
                .restarts
                .as_ref()
                .map_or(0, |restarts| restarts.count),
        })
    }

    /// Number of restarts before these successes, because something relevant had changed.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// The lowest tier among the successes that count.
    pub fn tier(&self) -> AllowTier {
        self.tier
    }

    /// The time from the first attempt to the first of the successes that count.
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// Number of attempts that opened, and of all attempts.
    pub fn counts(&self) -> (u32, u32) {
        (self.opened, self.attempts)
    }
}

const _: () = assert!(SUCCESSES_IN_A_ROW == 3, "the rule for allows says three");
