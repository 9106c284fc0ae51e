//! Evidence → proofs → [`Verdict`].
//!
//! Pure: no clock, no IO, no async. The rules are numbered where they are carried out: `deny` holds
//! the five conditions of a proven deny, `allow` those of an allow, `judge` combines the flows of a
//! check.
//!
//! "It did not connect" is no proof of a deny: [`DenyProof`] cannot be built without a
//! [`ControlProof`], and that cannot be built without a target control that got through to the same
//! address and port, before and after.
//!
//! A file imports from its own row and from those above it, without a cycle:
//!
//! | files | hold |
//! |---|---|
//! | moment, window, tiers, reason, wording | types without a relation to evidence |
//! | reading, classify | one attempt |
//! | streak, success_times, leak, stability, restarts, timeline, evidence | all attempts |
//! | control_interval, open_interval, controls, target_control, composite | the controls of a flow |
//! | deny_proof, allow_proof, verdicts, condition | results |
//! | blocked, source_and_path, policy_delay, waits, unusable, deny_begins, denied_success, left_out | the parts of a judgement |
//! | deny, allow, established | one flow |
//! | reach, judge | one check |
//! | relevance | which changes concern a flow |

mod allow;
mod allow_proof;
mod blocked;
mod classify;
mod composite;
mod condition;
mod control_interval;
mod controls;
mod denied_success;
mod deny;
mod deny_begins;
mod deny_proof;
mod established;
mod evidence;
mod judge;
mod leak;
mod left_out;
mod moment;
mod open_interval;
mod policy_delay;
mod reach;
mod reading;
mod reason;
mod relevance;
mod restarts;
mod source_and_path;
mod stability;
mod streak;
mod success_times;
mod target_control;
#[cfg(test)]
mod tests;
mod tiers;
mod timeline;
mod unusable;
mod verdicts;
mod waits;
mod window;
mod wording;

pub use allow_proof::AllowProof;
pub use classify::read;
pub use deny_proof::{DenyProof, PathProof, SourceProof, WeakerProof};
pub use evidence::{Evidence, ProbeEvidence, ProbeFailure};
pub use judge::{FlowResult, Judge, Judgement, PendingFlow, judge};
pub use leak::Leak;
pub use moment::{Clock, MAX_WALL_ERROR_US, Moment};
pub use reach::Reach;
pub use reading::{Block, Reading, Refusal, Signature, Success};
pub use reason::Reason;
pub use relevance::concerns;
pub use restarts::{Cause, Restarts};
pub use streak::{Durations, Outcome, StageTimes, Streak};
pub use success_times::SuccessTimes;
pub use target_control::ControlProof;
pub use tiers::{AllowTier, DenyTier, tier_meaning};
pub use timeline::{FlowEvidence, OutOfOrder, SuccessfulAttempt};
pub use unusable::MAX_RESTARTS;
pub use verdicts::{FlowVerdict, Unproven, Verdict, Violation};
pub use waits::waits_needed;
pub use window::Window;
pub use wording::describe_how;
