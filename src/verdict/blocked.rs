//! Condition 1: the blocked attempts at the end of a flow's evidence.

use super::condition::{Condition, ConditionFailure};
use super::controls::Evaluation;
use super::moment::Moment;
use super::reading::{Block, Mechanisms, Reading};
use super::reason::Reason;
use super::streak::{Outcome, Streak};
use super::window::Window;
use super::wording::describe_how;
use crate::plan::FlowId;
use crate::wire::Stage;

/// The blocked attempts at the end of a flow's evidence.
pub(super) struct BlockedAttempts<'a> {
    /// Starts that are known, with the number of the attempt, counted from the first of these
    /// attempts.
    starts: Vec<(Moment, u32)>,
    /// The highest stage at which one of them was blocked: a control must have passed it.
    pub(super) stage: Stage,
    /// The mechanisms that blocked them.
    pub(super) mechanisms: Mechanisms,
    /// How the last of them was blocked.
    pub(super) block: &'a Block,
}

impl<'a> BlockedAttempts<'a> {
    /// Collects the attempts that were blocked since the last one that was not.
    ///
    /// # Errors
    /// When the last attempt was not blocked.
    pub(super) fn at_the_end(
        evaluation: Evaluation<'a>,
        id: FlowId,
    ) -> Result<Self, ConditionFailure> {
        let streaks = &evaluation.evidence.flow(id).streaks;
        let from = streaks
            .iter()
            .rposition(|streak| !streak.is_blocked())
            .map_or(0, |last| last + 1);
        let blocked = &streaks[from..];
        let Some(Outcome::Read(Reading::Blocked(block))) =
            blocked.last().map(|streak| &streak.outcome)
        else {
            return Err(not_blocked(id, streaks.last()));
        };

        let mut attempts = Self {
            starts: Vec::new(),
            stage: block.stage,
            mechanisms: Mechanisms::default(),
            block,
        };
        let mut counted = 0;
        for streak in blocked {
            attempts.mechanisms = attempts.mechanisms.with(streak.mechanisms());
            if let Outcome::Read(Reading::Blocked(block)) = &streak.outcome {
                attempts.stage = attempts.stage.max(block.stage);
            }
            for (start, nth) in streak.points() {
                if let Some(moment) = evaluation.moment(id, *start) {
                    attempts.starts.push((moment, counted + nth));
                }
            }
            counted += streak.count;
        }
        Ok(attempts)
    }

    /// The window of the attempts whose start satisfies `is_inside`.
    pub(super) fn window(&self, is_inside: impl Fn(Moment) -> bool) -> Option<Window> {
        let mut inside = self.starts.iter().filter(|(start, _)| is_inside(*start));
        let &(from, first) = inside.next()?;
        let (to, last) = inside.next_back().copied().unwrap_or((from, first));
        Some(Window {
            from,
            to,
            attempts: last - first + 1,
        })
    }
}

fn not_blocked(id: FlowId, last: Option<&Streak>) -> ConditionFailure {
    let (reason, detail) = match last.map(|streak| &streak.outcome) {
        Some(Outcome::Read(Reading::NotSent(stop))) => (
            Reason::SendFailed,
            format!(
                "the attempts did not leave the source: {}",
                describe_how(&stop.how)
            ),
        ),
        Some(Outcome::Fault(_)) => (
            Reason::ProbeFault,
            "the probe could not carry out the attempts".to_owned(),
        ),
        Some(Outcome::Read(Reading::Open(_) | Reading::Blocked(_))) | None => {
            (Reason::NotAttempted, "no attempt was reported".to_owned())
        }
    };
    Condition::BlockedThroughout.fails(id, reason, detail)
}
