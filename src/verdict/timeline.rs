//! One flow's timeline: a fold of constant size.
//!
//! Times are the probe's own until a judgement maps them to the run's clock.
use super::classify::{AllowTier, Reading};
use super::leak::Leak;
use super::streak::{MAX_GAP_US, Outcome, StageTimes, Streak};
use super::success_times::SuccessTimes;
use crate::model::ClusterChange;
use crate::wire::FaultReason;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Streaks kept of a flow; older ones are only counted.
const MAX_STREAKS: usize = 8;

/// Addresses of a name that are kept for a flow; more than that are as good as one that nobody
/// reached.
const MAX_PEERS: usize = 16;

/// Different responders kept by name for a flow.
const MAX_ANSWERERS: usize = 8;

/// Changes that are noticed within this time of each other are one, microseconds: a rollout touches
/// several objects.
const ONE_CHANGE_US: i64 = 1_000_000;

/// Moments of changes kept of a flow: one that began anew more often is judged by that.
const MAX_CHANGES: usize = 8;

/// Why what was seen of a flow before a moment counts no longer for any proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Something relevant changed.
    Changed(ClusterChange),
    /// The probe stood still for so many milliseconds: its attempts in that time did not happen.
    Stalled(u64),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Changed(what) => write!(f, "{what} changed"),
            Self::Stalled(ms) => write!(f, "the probe stood still for {ms} ms"),
        }
    }
}

/// How often a flow had to begin anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restarts {
    /// How often.
    pub count: u32,
    /// Why, the last time.
    pub cause: Cause,
    /// When something relevant changed, as it was noticed, microseconds of the run: the first times
    /// only.
    pub changes: Vec<i64>,
    /// When the last of them began, microseconds of the run.
    at: i64,
}

/// What was seen of one flow.
#[derive(Debug, Clone, Default)]
pub struct FlowEvidence {
    /// Attempts known, faulty ones included.
    pub attempts: u32,
    /// Attempts that opened.
    pub opened: u32,
    /// Attempts that were blocked.
    pub blocked: u32,
    /// Attempts since it last began for which the probe had no processor time: no samples.
    pub starved: u32,
    /// The first opening. Kept whatever follows: once is enough against a deny.
    pub first_open: Option<Box<FirstSuccess>>,
    /// An opening around the time at which the pod at either end was replaced: nobody knows who
    /// answered whom.
    pub doubtful: Option<Box<FirstSuccess>>,
    /// Its openings as one leak. Those that are somebody else's are no part of it.
    pub leak: Leak,
    /// How often it began anew; mostly never.
    pub restarts: Option<Box<Restarts>>,
    /// The most recent streaks since it last began, oldest first.
    pub streaks: Vec<Streak>,
    /// Streaks that were forgotten.
    pub forgotten: u32,
    /// Addresses dialled where the probe resolved them itself, with whether a handshake was done
    /// there, or bytes came.
    pub peers: BTreeMap<IpAddr, bool>,
    /// Who answered, by its own word, with how often it was seen first or anew.
    pub answerers: BTreeMap<String, u32>,
    /// How long its last openings took, microseconds; told when its probe ends.
    pub took: Box<[u32]>,
    /// Whether it is tried only once: then one opening is all that can be asked for.
    pub once: bool,
    /// The tier that an opening must reach to count towards [`Self::steady`].
    pub required_tier: Option<AllowTier>,
    /// Start of the first attempt since it last began.
    pub first_start: Option<u64>,
    /// How steadily it opens since it last began; `None` before the first opening that counts. Most
    /// flows never have one.
    pub steady: Option<Box<Stability>>,
    /// When it opened since it last began, for a flow whose failures say nothing; `None` for all
    /// others.
    pub openings: Option<Box<SuccessTimes>>,
    /// Attempts that started earlier count for no proof.
    from: u64,
    /// Openings between this moment and [`Self::from`] are doubtful.
    doubtful_from: Option<u64>,
    /// Whether more addresses were dialled than are kept.
    pub too_many_peers: bool,
    /// Whether its pods are gone: what answers after [`Self::from`] is somebody else.
    retired: bool,
    /// The outcome before it began anew, which beats may still speak of.
    before: Option<Box<Outcome>>,
}

/// How steadily a flow opens.
#[derive(Debug, Clone, Default)]
pub struct Stability {
    /// Openings in a row, now.
    run_of_openings: u32,
    /// When three openings in a row, at the demanded tier, were first complete.
    pub at: Option<u64>,
    /// Start of the first opening of these three, as far as it is known.
    pub from: Option<u64>,
    /// The lowest tier among the openings that count.
    pub tier: Option<AllowTier>,
    /// Attempts since [`Self::at`].
    pub since: u32,
    /// Attempts lost since [`Self::at`].
    pub lost: u32,
    /// The longest run of lost attempts since [`Self::at`].
    pub longest_loss: u32,
    loss: u32,
}

/// An opening, by attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstSuccess {
    /// The attempt's number.
    pub attempt: u32,
    /// Its start, the probe's own time.
    pub start: u64,
    /// Who answered, by its own word.
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
    /// Folds in a sample. All attempts between the last known one and this one had the outcome
    /// before.
    ///
    /// # Errors
    /// [`OutOfOrder`]: nothing was folded in.
    pub fn sample(
        &mut self,
        attempt: u32,
        start: u64,
        reading: Reading,
        times: StageTimes,
        who: Option<&str>,
    ) -> Result<(), OutOfOrder> {
        self.catch_up_to(attempt)?;
        if let Some(who) = who
            && (self.answerers.len() < MAX_ANSWERERS || self.answerers.contains_key(who))
        {
            *self.answerers.entry(who.to_owned()).or_default() += 1;
        }
        if matches!(reading, Reading::Open(_)) {
            self.note_opening(FirstSuccess {
                attempt,
                start,
                who: who.map(str::to_owned),
            });
        }
        self.attempt(Outcome::Read(reading), start, times);
        Ok(())
    }

    /// Folds in a beat: `attempts` so far, all since the last known one with its outcome, the last
    /// at `last`.
    ///
    /// # Errors
    /// [`OutOfOrder`], also for a flow without a sample: nothing was folded in.
    pub fn heartbeat(&mut self, attempts: u32, last: u64) -> Result<(), OutOfOrder> {
        if attempts == self.attempts {
            return Ok(());
        }
        let Some(outcome) = self.current().cloned() else {
            return Err(OutOfOrder {
                known: 0,
                got: attempts,
            });
        };
        self.catch_up_to(attempts)?;
        if matches!(outcome, Outcome::Read(Reading::Open(_))) {
            self.note_opening(FirstSuccess {
                attempt: attempts,
                start: last,
                who: None,
            });
        }
        self.attempt(outcome, last, StageTimes::default());
        Ok(())
    }

    /// Folds in a fault of our machinery in one attempt.
    ///
    /// An attempt that was starved did not get through, or it would have been told as an opening;
    /// no more is known of it, and it neither counts nor interrupts. Any other fault does
    /// interrupt.
    ///
    /// # Errors
    /// [`OutOfOrder`]: nothing was folded in.
    pub fn fault(
        &mut self,
        attempt: u32,
        start: u64,
        reason: FaultReason,
    ) -> Result<(), OutOfOrder> {
        self.unfinished(attempt)?;
        if reason == FaultReason::Starved {
            self.starved += u32::from(start >= self.from);
        } else {
            self.attempt(Outcome::Fault(reason), start, StageTimes::default());
        }
        Ok(())
    }

    /// Folds in an attempt of which nothing is known at the stage that matters.
    ///
    /// # Errors
    /// [`OutOfOrder`]: nothing was folded in.
    pub fn unfinished(&mut self, attempt: u32) -> Result<(), OutOfOrder> {
        self.catch_up_to(attempt)?;
        self.break_run();
        Ok(())
    }

    /// Notes which address was dialled, and whether anything came back from it.
    pub fn dialled(&mut self, peer: IpAddr, answered: bool) {
        if self.peers.len() < MAX_PEERS || self.peers.contains_key(&peer) {
            let known = self.peers.entry(peer).or_default();
            *known |= answered;
        } else {
            self.too_many_peers = true;
        }
    }

    /// Begins anew: attempts that started before `from`, the probe's own time, count for no proof
    /// any more. `at` is when that was noticed, by the run's clock.
    pub fn restart(&mut self, from: u64, at: i64, cause: Cause) {
        self.forget_until(from);
        let known = self.restarts.get_or_insert_with(|| {
            Box::new(Restarts {
                count: 0,
                cause: cause.clone(),
                changes: Vec::new(),
                at: i64::MIN,
            })
        });
        if matches!(cause, Cause::Changed(_)) && known.changes.len() < MAX_CHANGES {
            known.changes.push(at);
        }
        let is_another = known.count == 0 || at - known.at > ONE_CHANGE_US;
        if is_another {
            (known.count, known.at) = (known.count + 1, at);
        }
        known.cause = cause;
    }

    /// As [`Self::restart`], for a pod at either end that was replaced, at the earliest at `since`:
    /// what opened between the two moments may have been the old pod or the new one.
    pub fn replaced(&mut self, since: u64, from: u64, at: i64, cause: Cause) {
        self.restart(from, at, cause);
        self.doubt(since);
    }

    /// Ends: the pod at either end is gone, and whoever answers from `from` on is somebody else.
    pub fn retire(&mut self, since: u64, from: u64) {
        self.forget_until(from);
        self.doubt(since);
        self.retired = true;
    }

    /// Whether its pods are gone.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    fn doubt(&mut self, since: u64) {
        self.doubtful_from = Some(since);
        if self
            .first_open
            .as_ref()
            .is_some_and(|opened| opened.start >= since)
        {
            self.doubtful = self.first_open.take();
        }
    }

    fn forget_until(&mut self, from: u64) {
        if let Some(streak) = self.streaks.pop() {
            self.before = Some(Box::new(streak.outcome));
        }
        self.streaks.clear();
        if let Some(openings) = &mut self.openings {
            openings.clear();
        }
        self.from = self.from.max(from);
        self.first_start = None;
        self.steady = None;
        self.starved = 0;
    }

    fn note_opening(&mut self, opened: FirstSuccess) {
        if opened.start < self.from
            && self
                .doubtful_from
                .is_some_and(|since| opened.start >= since)
        {
            self.doubtful.get_or_insert_with(|| Box::new(opened));
        } else if !(self.retired && opened.start >= self.from) {
            self.first_open.get_or_insert_with(|| Box::new(opened));
        }
    }

    /// The outcome of the last attempt that is known.
    fn current(&self) -> Option<&Outcome> {
        self.streaks
            .last()
            .map(|streak| &streak.outcome)
            .or(self.before.as_deref())
    }

    /// Counts the attempts before `attempt` that no line named: they had the outcome before, at
    /// times unknown.
    fn catch_up_to(&mut self, attempt: u32) -> Result<(), OutOfOrder> {
        let error = OutOfOrder {
            known: self.attempts,
            got: attempt,
        };
        let unnamed = attempt
            .checked_sub(self.attempts + 1)
            .ok_or_else(|| error.clone())?;
        if unnamed > 0 {
            let outcome = self.current().cloned().ok_or(error)?;
            self.tally(&outcome, unnamed, None);
            // Whether they started before it began anew is not known where no attempt is known that
            // started after.
            if let Some(streak) = self.streaks.last_mut() {
                streak.count += unnamed;
                self.count(&outcome, unnamed, None);
            }
        }
        self.attempts = attempt;
        Ok(())
    }

    /// One attempt whose start is known.
    fn attempt(&mut self, outcome: Outcome, start: u64, times: StageTimes) {
        self.tally(&outcome, 1, Some(start));
        if start < self.from {
            self.before = Some(Box::new(outcome));
            return;
        }
        self.count(&outcome, 1, Some(start));
        self.append(outcome, start, times);
    }

    fn append(&mut self, outcome: Outcome, start: u64, times: StageTimes) {
        self.first_start.get_or_insert(start);
        if let (Some(openings), Outcome::Read(Reading::Open(opening))) =
            (&mut self.openings, &outcome)
        {
            openings.note(start, opening.passed, times);
        }
        if let Some(streak) = self.streaks.last_mut()
            && streak.outcome.is_like(&outcome)
        {
            let pause = start.saturating_sub(streak.last());
            if !(streak.vouches() && pause > MAX_GAP_US) {
                streak.count += 1;
                streak.slowest = streak.slowest.max(times);
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

    /// Blocked in one way or in another is blocked: behind one address may be pods that are kept
    /// apart by different means, and what such a flow shows is not forgotten for that.
    fn make_room(&mut self) {
        let blocked = self
            .streaks
            .windows(2)
            .position(|pair| pair.iter().all(Streak::is_silent));
        if let Some(first) = blocked {
            let later = self.streaks.remove(first + 1);
            self.streaks[first].join(later);
        } else {
            self.streaks.remove(0);
            self.forgotten += 1;
        }
    }

    /// Counts attempts for good, whatever begins anew.
    fn tally(&mut self, outcome: &Outcome, times: u32, start: Option<u64>) {
        match outcome {
            Outcome::Read(Reading::Open(_)) => {
                self.opened += times;
                if !self.retired {
                    self.leak.opened(times, start);
                }
            }
            Outcome::Read(Reading::Blocked(_)) => {
                self.blocked += times;
                self.leak.blocked(times, start);
            }
            Outcome::Read(Reading::NotSent(_)) => self.leak.stopped(start),
            // What our own machinery did not see neither opened nor was stopped.
            Outcome::Fault(_) => {}
        }
    }

    /// Counts attempts since it last began, of one outcome; `start` is the last one's, where it is
    /// known.
    fn count(&mut self, outcome: &Outcome, times: u32, start: Option<u64>) {
        let Outcome::Read(reading) = outcome else {
            return;
        };
        match reading {
            Reading::Open(opening)
                if self
                    .required_tier
                    .is_none_or(|required_tier| opening.tier >= required_tier) =>
            {
                let enough = if self.once { 1 } else { OPENINGS_IN_A_ROW };
                self.steady
                    .get_or_insert_default()
                    .gain(opening.tier, times, start, enough);
            }
            Reading::Open(_) | Reading::Blocked(_) => self.lose(times),
            Reading::NotSent(_) => self.break_run(),
        }
    }

    fn break_run(&mut self) {
        if let Some(steady) = &mut self.steady {
            steady.run_of_openings = 0;
        }
    }

    fn lose(&mut self, times: u32) {
        if let Some(steady) = &mut self.steady {
            steady.lose(times);
        }
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
}

impl Stability {
    /// `enough`: so many openings in a row make it steady.
    fn gain(&mut self, tier: AllowTier, times: u32, start: Option<u64>, enough: u32) {
        self.loss = 0;
        if self.at.is_some() {
            self.since += times;
        } else {
            if self.run_of_openings == 0 {
                self.tier = None;
                self.from = start;
            }
            self.run_of_openings += times;
            if self.run_of_openings >= enough {
                self.at = start;
            }
        }
        self.tier = Some(self.tier.map_or(tier, |lowest| lowest.min(tier)));
    }

    fn lose(&mut self, times: u32) {
        self.run_of_openings = 0;
        if self.at.is_some() {
            self.since += times;
            self.lost += times;
            self.loss += times;
            self.longest_loss = self.longest_loss.max(self.loss);
        }
    }
}

/// How many openings in a row prove an allow.
pub(super) const OPENINGS_IN_A_ROW: u32 = 3;

#[cfg(test)]
mod tests {
    use super::super::classify::{Block, Refusal, Success};
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
    fn blocked_now_in_one_way_and_now_in_another_is_blocked_from_the_first_on() {
        let mut seen = FlowEvidence::default();
        for attempt in 1..=60 {
            let how = if attempt % 2 == 0 {
                StopCause::Silence
            } else {
                StopCause::Closed
            };
            let start = u64::from(attempt) * 1_000_000;
            seen.sample(attempt, start, blocked(how), StageTimes::default(), None)
                .unwrap();
        }
        assert_eq!((seen.streaks.len(), seen.forgotten), (MAX_STREAKS, 0));
        assert_eq!(seen.streaks[0].first(), 1_000_000);
        assert_eq!(
            seen.streaks.iter().map(|streak| streak.count).sum::<u32>(),
            60
        );
        let nths = seen.streaks[0]
            .points()
            .iter()
            .map(|(start, nth)| (start / 1_000_000, u64::from(*nth)));
        assert!(
            nths.into_iter().all(|(second, nth)| second == nth),
            "{:?}",
            seen.streaks[0].points()
        );
        // What opened between is kept apart as ever.
        let open = Reading::Open(Success {
            tier: AllowTier::A0,
            passed: Stage::Connect,
            then: None,
        });
        seen.sample(61, 61_000_000, open, StageTimes::default(), None)
            .unwrap();
        seen.sample(
            62,
            62_000_000,
            blocked(StopCause::Silence),
            StageTimes::default(),
            None,
        )
        .unwrap();
        let kinds: Vec<bool> = seen.streaks.iter().map(Streak::is_blocked).collect();
        assert_eq!(kinds[kinds.len() - 3..], [true, false, true]);
    }
}
