//! The timeline of one flow, kept in constant space.
//!
//! Times are the probe's own until a judgement maps them to the run's clock.

use super::leak::Leak;
use super::reading::Reading;
use super::restarts::{Cause, Restarts};
use super::stability::{SUCCESSES_IN_A_ROW, Stability};
use super::streak::{MAX_GAP_US, Outcome, StageTimes, Streak};
use super::success_times::SuccessTimes;
use super::tiers::AllowTier;
use crate::wire::FaultReason;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Number of streaks kept of a flow; older ones are only counted.
const MAX_STREAKS: usize = 8;

/// Number of addresses of a name that are kept for a flow, as many as are dialled by address; one
/// with more counts as if no control reached one of them.
pub(super) const MAX_PEERS: usize = 64;

/// Number of different responders kept by name for a flow.
const MAX_RESPONDERS: usize = 8;

/// The evidence of one flow.
#[derive(Debug, Clone, Default)]
pub struct FlowEvidence {
    /// Attempts known, faulty ones included.
    pub attempts: u32,
    /// Attempts that opened.
    pub opened: u32,
    /// Attempts that were blocked.
    pub blocked: u32,
    /// Attempts since the last restart for which the probe had no processor time; they are no
    /// evidence.
    pub cpu_starved: u32,
    /// The first success. Kept whatever follows: once is enough against a deny.
    pub first_success: Option<Box<SuccessfulAttempt>>,
    /// A success around the time at which the pod at either end was replaced: which pod answered
    /// which is not known.
    pub ambiguous_success: Option<Box<SuccessfulAttempt>>,
    /// Its successes as one leak, without those after its pod was gone.
    pub leak: Leak,
    /// `None` for most flows.
    pub restarts: Option<Box<Restarts>>,
    /// The most recent streaks since the last restart, oldest first.
    pub streaks: Vec<Streak>,
    /// Number of streaks that were forgotten.
    pub forgotten: u32,
    /// Addresses dialled where the probe resolved them itself, with whether a handshake was done
    /// there, or bytes came.
    pub peers: BTreeMap<IpAddr, bool>,
    /// The names that responders gave, each with how often it was first reported or changed.
    pub responders: BTreeMap<String, u32>,
    /// Durations of its last successes, microseconds; known when its probe ends.
    pub latencies_us: Box<[u32]>,
    /// Whether it is tried only once: then one success proves an allow.
    pub once: bool,
    /// The tier that a success must reach to count towards [`Self::stability`].
    pub required_tier: Option<AllowTier>,
    /// Start of the first attempt since the last restart.
    pub first_start: Option<u64>,
    /// How stable it is since the last restart; `None` before the first success that counts. Most
    /// flows never have one.
    pub stability: Option<Box<Stability>>,
    /// When it opened since the last restart, for a flow whose failures say nothing; `None` for all
    /// others.
    pub success_times: Option<Box<SuccessTimes>>,
    /// Attempts that started earlier count for no proof.
    counts_from: u64,
    /// Successes between this moment and [`Self::counts_from`] are ambiguous.
    ambiguous_from: Option<u64>,
    /// Whether more addresses were dialled than are kept.
    pub too_many_peers: bool,
    /// Whether its pods are gone: what answers after [`Self::counts_from`] is another one.
    retired: bool,
    /// The outcome before the last restart, which heartbeats may still speak of.
    outcome_before_restart: Option<Box<Outcome>>,
}

/// An attempt of a flow that opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuccessfulAttempt {
    /// The attempt's number.
    pub attempt: u32,
    /// Its start, the probe's own time.
    pub start: u64,
    /// The name that the responder gave.
    pub who: Option<String>,
}

/// Lines of one flow that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("attempt {got} of a flow was reported after attempt {known}")]
pub struct OutOfOrder {
    known: u32,
    got: u32,
}

impl FlowEvidence {
    /// Adds an attempt. All attempts between the last known one and this one had the outcome
    /// before.
    ///
    /// # Errors
    /// [`OutOfOrder`]: nothing was added.
    pub fn attempt(
        &mut self,
        attempt: u32,
        start: u64,
        reading: Reading,
        times: StageTimes,
        who: Option<&str>,
    ) -> Result<(), OutOfOrder> {
        self.catch_up_to(attempt)?;
        if let Some(who) = who
            && (self.responders.len() < MAX_RESPONDERS || self.responders.contains_key(who))
        {
            *self.responders.entry(who.to_owned()).or_default() += 1;
        }

        if matches!(reading, Reading::Open(_)) {
            self.note_success(SuccessfulAttempt {
                attempt,
                start,
                who: who.map(str::to_owned),
            });
        }
        self.add_attempt(Outcome::Read(reading), start, times);
        Ok(())
    }

    /// Adds a heartbeat: `attempts` so far, all since the last known one with its outcome, the last
    /// at `last`.
    ///
    /// # Errors
    /// [`OutOfOrder`], also for a flow without a reported attempt: nothing was added.
    pub fn heartbeat(&mut self, attempts: u32, last: u64) -> Result<(), OutOfOrder> {
        if attempts == self.attempts {
            return Ok(());
        }
        let Some(outcome) = self.current_outcome().cloned() else {
            return Err(OutOfOrder {
                known: 0,
                got: attempts,
            });
        };

        self.catch_up_to(attempts)?;
        if matches!(outcome, Outcome::Read(Reading::Open(_))) {
            self.note_success(SuccessfulAttempt {
                attempt: attempts,
                start: last,
                who: None,
            });
        }
        self.add_attempt(outcome, last, StageTimes::default());
        Ok(())
    }

    /// Adds a fault of our machinery in one attempt.
    ///
    /// An attempt without processor time did not get through, or it would have been reported as a
    /// success; no more is known of it, and it neither counts nor interrupts. Any other fault does
    /// interrupt.
    ///
    /// # Errors
    /// [`OutOfOrder`]: nothing was added.
    pub fn fault(
        &mut self,
        attempt: u32,
        start: u64,
        reason: FaultReason,
    ) -> Result<(), OutOfOrder> {
        self.unfinished(attempt)?;
        if reason == FaultReason::Starved {
            self.cpu_starved += u32::from(start >= self.counts_from);
        } else {
            self.add_attempt(Outcome::Fault(reason), start, StageTimes::default());
        }
        Ok(())
    }

    /// Adds an attempt of which nothing is known at the stage that decides.
    ///
    /// # Errors
    /// [`OutOfOrder`]: nothing was added.
    pub fn unfinished(&mut self, attempt: u32) -> Result<(), OutOfOrder> {
        self.catch_up_to(attempt)?;
        self.interrupt_successes();
        Ok(())
    }

    /// Notes which address was dialled, and whether anything came back from it.
    pub fn dialled(&mut self, peer: IpAddr, answered: bool) {
        if self.peers.len() < MAX_PEERS || self.peers.contains_key(&peer) {
            *self.peers.entry(peer).or_default() |= answered;
        } else {
            self.too_many_peers = true;
        }
    }

    /// Restarts sampling: attempts that started before `from`, the probe's own time, count for no
    /// proof any more. `at` is when the cause was noticed, by the run's clock.
    pub fn restart(&mut self, from: u64, at: i64, cause: Cause) {
        self.forget_until(from);
        self.note_change(at, cause);
    }

    /// Notes a change and keeps all attempts, as a connection needs that is kept open: what was
    /// before the change is part of its evidence. `at` is when the change was noticed, by the run's
    /// clock.
    pub fn note_change(&mut self, at: i64, cause: Cause) {
        self.restarts
            .get_or_insert_with(|| Box::new(Restarts::before(&cause)))
            .add(at, cause);
    }

    /// As [`Self::restart`], for a pod at either end that was replaced, at the earliest at `since`:
    /// what opened between the two moments may have been the old pod or the new one.
    pub fn replaced(&mut self, since: u64, from: u64, at: i64, cause: Cause) {
        self.restart(from, at, cause);
        self.mark_ambiguous_from(since);
    }

    /// Ends the flow: the pod at either end is gone, and what answers from `from` on is another
    /// one.
    pub fn retire(&mut self, since: u64, from: u64) {
        self.forget_until(from);
        self.mark_ambiguous_from(since);
        self.retired = true;
    }

    /// Whether a pod at either end was replaced, or is gone.
    pub fn was_replaced(&self) -> bool {
        self.ambiguous_from.is_some()
    }

    /// Whether its pods are gone.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// The last reading, if there is any.
    pub fn latest(&self) -> Option<&Reading> {
        self.streaks
            .iter()
            .rev()
            .find_map(|streak| match &streak.outcome {
                Outcome::Read(reading) => Some(reading),
                Outcome::Fault(_) => None,
            })
    }

    /// Whether our machinery failed in one of the kept streaks.
    pub fn has_fault(&self) -> bool {
        self.streaks
            .iter()
            .any(|streak| matches!(streak.outcome, Outcome::Fault(_)))
    }

    fn mark_ambiguous_from(&mut self, since: u64) {
        self.ambiguous_from = Some(since);
        if self
            .first_success
            .as_ref()
            .is_some_and(|first| first.start >= since)
        {
            self.ambiguous_success = self.first_success.take();
        }
    }

    fn forget_until(&mut self, from: u64) {
        if let Some(streak) = self.streaks.pop() {
            self.outcome_before_restart = Some(Box::new(streak.outcome));
        }
        self.streaks.clear();
        if let Some(success_times) = &mut self.success_times {
            success_times.clear();
        }

        self.counts_from = self.counts_from.max(from);
        self.first_start = None;
        self.stability = None;
        self.cpu_starved = 0;
    }

    fn note_success(&mut self, success: SuccessfulAttempt) {
        let is_ambiguous = success.start < self.counts_from
            && self
                .ambiguous_from
                .is_some_and(|since| success.start >= since);
        let is_after_retirement = self.retired && success.start >= self.counts_from;

        if is_ambiguous {
            self.ambiguous_success
                .get_or_insert_with(|| Box::new(success));
        } else if !is_after_retirement {
            self.first_success.get_or_insert_with(|| Box::new(success));
        }
    }

    /// The outcome of the last attempt that is known.
    fn current_outcome(&self) -> Option<&Outcome> {
        self.streaks
            .last()
            .map(|streak| &streak.outcome)
            .or(self.outcome_before_restart.as_deref())
    }

    /// Counts the attempts before `attempt` that no line reported: they had the outcome before, at
    /// times unknown.
    fn catch_up_to(&mut self, attempt: u32) -> Result<(), OutOfOrder> {
        let error = OutOfOrder {
            known: self.attempts,
            got: attempt,
        };
        let Some(unreported) = attempt.checked_sub(self.attempts + 1) else {
            return Err(error);
        };

        if unreported > 0 {
            let outcome = self.current_outcome().cloned().ok_or(error)?;
            self.count_for_good(&outcome, unreported, None);
            // Whether they started before the restart is not known where no attempt is known that
            // started after it.
            if let Some(streak) = self.streaks.last_mut() {
                streak.count += unreported;
                streak.durations.add_unreported(unreported);
                self.count_since_restart(&outcome, unreported, None);
            }
        }
        self.attempts = attempt;
        Ok(())
    }

    /// Adds one attempt whose start is known.
    fn add_attempt(&mut self, outcome: Outcome, start: u64, times: StageTimes) {
        self.count_for_good(&outcome, 1, Some(start));
        if start < self.counts_from {
            self.outcome_before_restart = Some(Box::new(outcome));
            return;
        }
        self.count_since_restart(&outcome, 1, Some(start));
        self.append(outcome, start, times);
    }

    fn append(&mut self, outcome: Outcome, start: u64, times: StageTimes) {
        self.first_start.get_or_insert(start);
        if let (Some(success_times), Outcome::Read(Reading::Open(success))) =
            (&mut self.success_times, &outcome)
        {
            success_times.record(start, success.passed, times);
        }

        if let Some(streak) = self.streaks.last_mut()
            && streak.outcome.is_same_kind(&outcome)
        {
            let pause = start.saturating_sub(streak.last());
            if !(streak.got_past_any_stage() && pause > MAX_GAP_US) {
                streak.count += 1;
                if times == StageTimes::default() {
                    streak.durations.add_unreported(1);
                } else {
                    streak.durations.add(times);
                }
                streak.extend(start);
                return;
            }
        }

        if self.streaks.len() == MAX_STREAKS {
            self.make_room();
        }
        // Most flows have one streak, ever: room for more is made when there are more.
        self.streaks.reserve_exact(1);
        self.streaks.push(Streak::new(outcome, start, times));
    }

    /// Makes room for one more streak: merges two that were blocked before any stage, else forgets
    /// the oldest.
    ///
    /// Blocked in one way or in another is blocked: behind one address may be pods that are kept
    /// apart by different means, and the evidence of such a flow is not forgotten for that.
    fn make_room(&mut self) {
        let mergeable = self
            .streaks
            .windows(2)
            .position(|pair| pair.iter().all(Streak::is_blocked_before_any_stage));
        if let Some(first) = mergeable {
            let later = self.streaks.remove(first + 1);
            self.streaks[first].merge(later);
        } else {
            self.streaks.remove(0);
            self.forgotten += 1;
        }
    }

    /// Counts attempts over the flow's whole life, restarts included; `start` is the last one's,
    /// where it is known.
    fn count_for_good(&mut self, outcome: &Outcome, attempts: u32, start: Option<u64>) {
        match outcome {
            Outcome::Read(Reading::Open(_)) => {
                self.opened += attempts;
                if !self.retired {
                    self.leak.opened(attempts, start);
                }
            }
            Outcome::Read(Reading::Blocked(_)) => {
                self.blocked += attempts;
                self.leak.blocked(attempts, start);
            }
            Outcome::Read(Reading::NotSent(_)) => self.leak.did_not_open(start),
            // What our own machinery did not see neither opened nor was stopped.
            Outcome::Fault(_) => {}
        }
    }

    /// Counts attempts since the last restart; `start` is the last one's, where it is known.
    fn count_since_restart(&mut self, outcome: &Outcome, attempts: u32, start: Option<u64>) {
        let Outcome::Read(reading) = outcome else {
            return;
        };
        match reading {
            Reading::Open(success)
                if self
                    .required_tier
                    .is_none_or(|required_tier| success.tier >= required_tier) =>
            {
                let needed = if self.once { 1 } else { SUCCESSES_IN_A_ROW };
                self.stability
                    .get_or_insert_default()
                    .gain(success.tier, attempts, start, needed);
            }
            // What was up and can no longer be sent is lost as well.
            Reading::Open(_) | Reading::Blocked(_) | Reading::NotSent(_) => {
                if let Some(stability) = &mut self.stability {
                    stability.lose(attempts, reading.stopped_at(), start);
                }
            }
        }
    }

    fn interrupt_successes(&mut self) {
        if let Some(stability) = &mut self.stability {
            stability.interrupt();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reading::{Block, Refusal, Success};
    use super::*;
    use crate::wire::{Stage, StopCause};

    fn blocked(how: StopCause) -> Reading {
        let block = Block {
            passed: None,
            stage: Stage::Connect,
            how: Refusal::Wire(how),
            signature: None,
            by_target: false,
        };
        Reading::Blocked(block)
    }

    #[test]
    fn streaks_blocked_in_alternating_ways_are_merged_and_not_forgotten() {
        let mut evidence = FlowEvidence::default();
        for attempt in 1..=60 {
            let how = if attempt % 2 == 0 {
                StopCause::Silence
            } else {
                StopCause::Closed
            };
            let start = u64::from(attempt) * 1_000_000;
            evidence
                .attempt(attempt, start, blocked(how), StageTimes::default(), None)
                .unwrap();
        }
        assert_eq!(
            (evidence.streaks.len(), evidence.forgotten),
            (MAX_STREAKS, 0)
        );
        assert_eq!(evidence.streaks[0].first(), 1_000_000);
        assert_eq!(
            evidence
                .streaks
                .iter()
                .map(|streak| streak.count)
                .sum::<u32>(),
            60
        );
        let nths = evidence.streaks[0]
            .points()
            .iter()
            .map(|(start, nth)| (start / 1_000_000, u64::from(*nth)));
        assert!(
            nths.into_iter().all(|(second, nth)| second == nth),
            "{:?}",
            evidence.streaks[0].points()
        );

        // A success between is kept apart as ever.
        let open = Reading::Open(Success {
            tier: AllowTier::A0,
            passed: Stage::Connect,
            then: None,
        });
        evidence
            .attempt(61, 61_000_000, open, StageTimes::default(), None)
            .unwrap();
        evidence
            .attempt(
                62,
                62_000_000,
                blocked(StopCause::Silence),
                StageTimes::default(),
                None,
            )
            .unwrap();
        let kinds: Vec<bool> = evidence.streaks.iter().map(Streak::is_blocked).collect();
        assert_eq!(kinds[kinds.len() - 3..], [true, false, true]);
    }
}
