//! Evidence: what probes saw, folded in time.
//!
//! The fold has a constant size for each flow. Times are each probe's own until a judgement maps them to the
//! run's clock, as intervals: two probes' times are never compared raw.

use super::reading::{AllowTier, Reading, Refusal};
use crate::plan::{FlowId, Plan, ProbeId};
use crate::suite::Expected;
use crate::wire::{FaultReason, How, Stage, Stop};
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest pause between two openings over which a target counts as alive throughout, microseconds.
pub(super) const MAX_GAP_US: u64 = 2_000_000;

/// Streaks kept of a flow; older ones are only counted.
const MAX_STREAKS: usize = 8;

/// Points in time kept of a streak; beyond that every other one is forgotten.
const MAX_POINTS: usize = 16;

/// Different responders kept by name for a flow.
const MAX_ANSWERERS: usize = 8;

/// All evidence of a run.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// By [`FlowId`].
    pub flows: Vec<FlowEvidence>,
    /// By [`ProbeId`].
    pub probes: Vec<ProbeEvidence>,
    /// Changes to what the plan was made for.
    pub disturbances: Vec<Disturbance>,
    /// The enforcer's own counts.
    pub records: BTreeMap<FlowId, EnforcerRecord>,
}

impl Evidence {
    /// Evidence of a run of which nothing was seen yet.
    pub fn of(plan: &Plan) -> Self {
        let mut flows = vec![FlowEvidence::default(); plan.flows.len()];
        for check in plan.checks.iter().filter(|check| check.expected == Expected::Allowed) {
            let demand = AllowTier::demanded(check.terms.demand);
            for flow in &check.flows {
                let known = &mut flows[flow.0 as usize].demand;
                *known = (*known).max(demand);
            }
        }
        Self { flows, probes: vec![ProbeEvidence::default(); plan.probes.len()], ..Self::default() }
    }

    /// What was seen of a flow.
    pub fn flow(&self, id: FlowId) -> &FlowEvidence {
        &self.flows[id.0 as usize]
    }

    /// What is known of a probe.
    pub fn probe(&self, id: ProbeId) -> &ProbeEvidence {
        &self.probes[id.0 as usize]
    }
}

/// A change to an object that the plan was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disturbance {
    /// When it was noticed, microseconds of the run.
    pub at: i64,
    /// What.
    pub what: Disturbed,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disturbed {
    /// A pod, by namespace and name.
    Pod(String, String),
    /// A namespace's labels.
    Namespace(String),
    /// A policy, by namespace and name.
    Policy(String, String),
    /// A Service, by namespace and name.
    Service(String, String),
}

impl std::fmt::Display for Disturbed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pod(namespace, name) => write!(f, "pod {namespace}/{name}"),
            Self::Namespace(name) => write!(f, "namespace {name}"),
            Self::Policy(namespace, name) => write!(f, "NetworkPolicy {namespace}/{name}"),
            Self::Service(namespace, name) => write!(f, "Service {namespace}/{name}"),
        }
    }
}

/// The enforcer's own count of a flow's denied packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnforcerRecord {
    /// Packets.
    pub packets: u64,
    /// The rule, by its policy's name.
    pub rule: String,
}

/// What is known of a probe.
#[derive(Debug, Clone, Default)]
pub struct ProbeEvidence {
    /// Its clock; `None` before hello.
    pub clock: Option<Clock>,
    /// Why nothing after a moment of its own time is evidence, with that moment.
    pub failure: Option<(u64, ProbeFailure)>,
    /// Whether it has stopped: no more lines can come.
    pub stopped: bool,
}

/// Why a probe's lines stopped being evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    /// It never ran, or ended before it was told to.
    #[error("{0}")]
    Ended(String),
    /// It stood still for a second or more.
    #[error("the probe stood still for {0} ms")]
    Stalled(u64),
    /// Its lines break the protocol.
    #[error("{0}")]
    Protocol(String),
    /// It reported a fault of its own.
    #[error("the probe reported {reason:?}: {detail}")]
    Reported {
        /// Its reason.
        reason: FaultReason,
        /// Its words.
        detail: String,
    },
    /// Its clock and the runner's disagree.
    #[error("{0}")]
    Clocks(String),
}

/// How a probe's own time maps to the run's: an offset known within an interval, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The least that must be added to the probe's time.
    pub least: i64,
    /// The most.
    pub most: i64,
}

impl Clock {
    /// A clock shared with the runner (same boot id): the offset is exact.
    pub fn shared(offset: i64) -> Self {
        Self { least: offset, most: offset }
    }

    /// When something happened, by the run's clock.
    pub fn moment(self, own: u64) -> Moment {
        let own = i64::try_from(own).unwrap_or(i64::MAX / 2);
        Moment { earliest: own + self.least, latest: own + self.most }
    }
}

/// A moment of the run, known within an interval, microseconds since the run's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Not before.
    pub earliest: i64,
    /// Not after.
    pub latest: i64,
}

impl Moment {
    /// Whether this was before the other, or at the same time, whatever both clocks were.
    pub fn surely_by(self, other: Self) -> bool {
        self.latest <= other.earliest
    }
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
    /// The first opening. Kept whatever follows: once is enough against a deny.
    pub first_open: Option<Opened>,
    /// The most recent streaks, oldest first.
    pub streaks: Vec<Streak>,
    /// Streaks that were forgotten.
    pub forgotten: u32,
    /// Who answered, by its own word, with how often it was seen first or anew.
    pub answerers: BTreeMap<String, u32>,
    /// Openings in a row, now.
    run_of_openings: u32,
    /// The tier that an opening must reach to count towards [`Self::steady_at`].
    pub demand: Option<AllowTier>,
    /// Start of the first attempt.
    pub first_start: Option<u64>,
    /// When three openings in a row, at the demanded tier, were first complete.
    pub steady_at: Option<u64>,
    /// Start of the first opening of these three, as far as it is known.
    pub steady_from: Option<u64>,
    /// The lowest tier among the openings that count.
    pub tier: Option<AllowTier>,
    /// Attempts since `steady_at`.
    pub since_steady: u32,
    /// Attempts lost since `steady_at`.
    pub lost_since_steady: u32,
    /// The longest run of lost attempts since `steady_at`.
    pub longest_loss: u32,
    loss: u32,
}

/// An opening, by attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The attempt's number.
    pub attempt: u32,
    /// Its start, the probe's own time.
    pub start: u64,
    /// Who answered, by its own word.
    pub who: Option<String>,
}

/// How long each stage took, microseconds; 0 for a stage that was not passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StageTimes([u32; 5]);

impl StageTimes {
    /// The times of the stages that an observation passed.
    pub fn of(passed: &[(Stage, u32)]) -> Self {
        let mut this = Self::default();
        for (stage, us) in passed {
            this.0[*stage as usize] = *us;
        }
        this
    }

    /// The time of one stage.
    pub fn at(self, stage: Stage) -> Duration {
        Duration::from_micros(u64::from(self.0[stage as usize]))
    }

    fn max(mut self, other: Self) -> Self {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = (*mine).max(theirs);
        }
        self
    }
}

/// What a streak's samples have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All read alike.
    Read(Reading),
    /// None is evidence.
    Fault(FaultReason),
}

impl Outcome {
    /// Whether two samples were the same but for the words of a stranger: a greeting may be another each time.
    fn is_like(&self, other: &Self) -> bool {
        let garbled = |stop: &Stop| matches!(stop.how, How::Garbled { .. });
        match (self, other) {
            (Self::Read(Reading::Open(a)), Self::Read(Reading::Open(b))) => match (&a.then, &b.then) {
                (Some(one), Some(two)) if garbled(one) && garbled(two) => {
                    (a.tier, a.passed, one.stage) == (b.tier, b.passed, two.stage)
                }
                _ => a == b,
            },
            (Self::Read(Reading::Blocked(a)), Self::Read(Reading::Blocked(b))) => match (&a.how, &b.how) {
                (Refusal::Wire(How::Garbled { .. }), Refusal::Wire(How::Garbled { .. })) => {
                    (a.stage, a.signature, a.by_target) == (b.stage, b.signature, b.by_target)
                }
                _ => a == b,
            },
            _ => self == other,
        }
    }
}

/// A run of samples that read alike, without a pause of more than [`MAX_GAP_US`] among those that passed any stage.
#[derive(Debug, Clone)]
pub struct Streak {
    /// What they were.
    pub outcome: Outcome,
    /// How many.
    pub count: u32,
    /// The longest time to pass each stage among the samples that were reported one by one.
    pub slowest: StageTimes,
    /// Some of the samples: start in the probe's own time, and the how-manieth of the streak it was, from 1.
    /// The first sample is always there, and the last whose start is known.
    points: Vec<(u64, u32)>,
}

impl Streak {
    fn new(outcome: Outcome, start: u64, slowest: StageTimes) -> Self {
        Self { outcome, count: 1, slowest, points: vec![(start, 1)] }
    }

    /// Start of the first sample, the probe's own time.
    pub fn first(&self) -> u64 {
        self.points[0].0
    }

    /// Start of the last sample whose start is known.
    pub fn last(&self) -> u64 {
        self.points[self.points.len() - 1].0
    }

    /// The known samples: start, and the how-manieth of the streak.
    pub fn points(&self) -> &[(u64, u32)] {
        &self.points
    }

    fn extend(&mut self, start: u64) {
        self.points.push((start, self.count));
        if self.points.len() > MAX_POINTS {
            let last = self.points.len() - 1;
            let mut index = 0;
            self.points.retain(|_| {
                let keep = index == 0 || index == last || index % 2 == 0;
                index += 1;
                keep
            });
        }
    }
}

/// Lines of one flow that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("attempt {got} of a flow was reported after attempt {known}")]
pub struct OutOfOrder {
    known: u32,
    got: u32,
}

impl FlowEvidence {
    /// Folds in a sample. All attempts between the last known one and this one had the outcome before.
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
        if matches!(reading, Reading::Open(_)) && self.first_open.is_none() {
            self.first_open = Some(Opened { attempt, start, who: who.map(str::to_owned) });
        }
        self.count(&Outcome::Read(reading.clone()), 1, Some(start));
        self.append(Outcome::Read(reading), start, times);
        Ok(())
    }

    /// Folds in a beat: `attempts` so far, all since the last known one with its outcome, the last at `last`.
    ///
    /// # Errors
    /// [`OutOfOrder`], also for a flow without a sample: nothing was folded in.
    pub fn beat(&mut self, attempts: u32, last: u64) -> Result<(), OutOfOrder> {
        if attempts == self.attempts {
            return Ok(());
        }
        self.catch_up_to(attempts)?;
        let Some(streak) = self.streaks.last() else {
            self.attempts -= 1;
            return Err(OutOfOrder { known: 0, got: attempts });
        };
        let outcome = streak.outcome.clone();
        self.count(&outcome, 1, Some(last));
        self.append(outcome, last, StageTimes::default());
        Ok(())
    }

    /// Folds in a fault of our machinery in one attempt.
    ///
    /// # Errors
    /// [`OutOfOrder`]: nothing was folded in.
    pub fn fault(&mut self, attempt: u32, start: u64, reason: FaultReason) -> Result<(), OutOfOrder> {
        self.catch_up_to(attempt)?;
        self.run_of_openings = 0;
        self.append(Outcome::Fault(reason), start, StageTimes::default());
        Ok(())
    }

    /// Counts the attempts before `attempt` that no line named: they had the outcome before, at times unknown.
    fn catch_up_to(&mut self, attempt: u32) -> Result<(), OutOfOrder> {
        let error = OutOfOrder { known: self.attempts, got: attempt };
        let unnamed = attempt.checked_sub(self.attempts + 1).ok_or_else(|| error.clone())?;
        if unnamed > 0 {
            let streak = self.streaks.last_mut().ok_or(error)?;
            streak.count += unnamed;
            let outcome = streak.outcome.clone();
            self.count(&outcome, unnamed, None);
        }
        self.attempts = attempt;
        Ok(())
    }

    fn append(&mut self, outcome: Outcome, start: u64, times: StageTimes) {
        self.first_start.get_or_insert(start);
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
        self.streaks.push(Streak::new(outcome, start, times));
        if self.streaks.len() > MAX_STREAKS {
            self.streaks.remove(0);
            self.forgotten += 1;
        }
    }

    /// Counts attempts of one outcome; `start` is the last one's, where it is known.
    fn count(&mut self, outcome: &Outcome, times: u32, start: Option<u64>) {
        let Outcome::Read(reading) = outcome else { return };
        match reading {
            Reading::Open(opening) => {
                self.opened += times;
                if self.demand.is_none_or(|demand| opening.tier >= demand) {
                    self.gain(opening.tier, times, start);
                } else {
                    self.lose(times);
                }
            }
            Reading::Blocked(_) => {
                self.blocked += times;
                self.lose(times);
            }
            Reading::NotSent(_) => self.run_of_openings = 0,
        }
    }

    fn gain(&mut self, tier: AllowTier, times: u32, start: Option<u64>) {
        self.loss = 0;
        if self.steady_at.is_some() {
            self.since_steady += times;
        } else {
            if self.run_of_openings == 0 {
                self.tier = None;
                self.steady_from = start;
            }
            self.run_of_openings += times;
            if self.run_of_openings >= OPENINGS_IN_A_ROW {
                self.steady_at = start;
            }
        }
        self.tier = Some(self.tier.map_or(tier, |lowest| lowest.min(tier)));
    }

    fn lose(&mut self, times: u32) {
        self.run_of_openings = 0;
        if self.steady_at.is_some() {
            self.since_steady += times;
            self.lost_since_steady += times;
            self.loss += times;
            self.longest_loss = self.longest_loss.max(self.loss);
        }
    }

    /// The last reading, if there is any.
    pub fn latest(&self) -> Option<&Reading> {
        self.streaks.iter().rev().find_map(|streak| match &streak.outcome {
            Outcome::Read(reading) => Some(reading),
            Outcome::Fault(_) => None,
        })
    }

    /// The last fault among the kept streaks.
    pub fn latest_fault(&self) -> Option<FaultReason> {
        self.streaks.iter().rev().find_map(|streak| match streak.outcome {
            Outcome::Fault(reason) => Some(reason),
            Outcome::Read(_) => None,
        })
    }
}

impl Streak {
    /// Whether its samples are openings that passed `stage`.
    pub fn passed(&self, stage: Stage) -> bool {
        matches!(&self.outcome, Outcome::Read(Reading::Open(opening)) if opening.passed >= stage)
    }

    /// Whether its samples can vouch for anything, and so may not pause for long.
    fn vouches(&self) -> bool {
        self.got_past(Stage::Resolve)
    }

    /// Whether its samples passed `stage`, whatever became of them after it.
    pub fn got_past(&self, stage: Stage) -> bool {
        let Outcome::Read(reading) = &self.outcome else { return false };
        match reading {
            Reading::Open(opening) => opening.passed >= stage,
            Reading::Blocked(block) => block.passed.is_some_and(|passed| passed >= stage),
            Reading::NotSent(_) => false,
        }
    }

    /// Where its samples were blocked: the last stage that they passed before.
    pub fn stopped_after(&self) -> Option<Stage> {
        match &self.outcome {
            Outcome::Read(Reading::Blocked(block)) => block.passed,
            Outcome::Read(Reading::Open(_) | Reading::NotSent(_)) | Outcome::Fault(_) => None,
        }
    }

    /// Whether its samples were blocked.
    pub fn is_blocked(&self) -> bool {
        matches!(self.outcome, Outcome::Read(Reading::Blocked(_)))
    }
}

/// How many openings in a row prove an allow.
pub(super) const OPENINGS_IN_A_ROW: u32 = 3;
