//! How long attempts are waited for, and how long they must be.

use super::blocked::BlockedAttempts;
use super::controls::Evaluation;
use super::evidence::Evidence;
use super::open_interval::OpenIntervals;
use crate::plan::{
    Check, CheckSettings, FlowId, MIN_DEADLINE, Plan, REQUEST_DEADLINE, RESOLVE_DEADLINE,
    TLS_DEADLINE, Waits,
};
use crate::wire::{Stage, Transport};
use std::time::Duration;

/// Silence may be slowness unless it lasts this many times as long as a control took.
pub(super) const SILENCE_FACTOR: u32 = 10;

/// The longest wait for any attempt.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The deadline of a stage of a flow.
pub(super) fn deadline(
    evaluation: Evaluation<'_>,
    settings: &CheckSettings,
    id: FlowId,
    stage: Stage,
) -> Duration {
    let flow = evaluation.plan.flow(id);
    let is_udp = flow.to.transport == Transport::Udp;
    match stage {
        Stage::Resolve => RESOLVE_DEADLINE,
        // Its controls are acknowledged within the same time, or they are none; how long their
        // handshakes took says nothing of that.
        Stage::Connect if flow.to.request.is_kept_open() => Duration::MAX,
        Stage::Connect => settings.attempt_timeout.max(flow.waits.connect),
        Stage::FirstBytes if is_udp => settings.attempt_timeout.max(flow.waits.connect),
        Stage::FirstBytes if let Some(linger) = flow.to.request.linger() => linger,
        Stage::Tls => TLS_DEADLINE
            .max(settings.attempt_timeout)
            .max(flow.waits.tls),
        Stage::FirstBytes | Stage::Request => REQUEST_DEADLINE.max(flow.waits.request),
    }
}

/// The wait that a denied flow needs so that its silence says something, where every control that
/// got further took longer than a tenth of its deadline. `None` where the deadline will do, or
/// where no deadline would.
pub fn waits_needed(plan: &Plan, evidence: &Evidence, check: &Check, id: FlowId) -> Option<Waits> {
    let open_intervals = OpenIntervals::default();
    let evaluation = Evaluation {
        plan,
        evidence,
        open_intervals: &open_intervals,
    };
    if plan.flow(id).to.request.is_kept_open() {
        // Another probe would have another connection, opened after the change.
        return None;
    }
    let blocked = BlockedAttempts::at_the_end(evaluation, id).ok()?;
    let fastest = evaluation
        .target_controls_past(id, blocked.stage)
        .flat_map(|control| evaluation.passes(control, blocked.stage))
        .map(|timed| timed.streak.durations.median(blocked.stage))
        .min()?;

    // Half as long again, since the next time a control may take a little longer.
    let needed = fastest * SILENCE_FACTOR * 3 / 2;
    let deadline = deadline(evaluation, &check.settings, id, blocked.stage);
    if needed <= deadline * 3 / 2 || needed > MAX_WAIT {
        return None;
    }
    waits_for(plan, id, blocked.stage, needed)
}

/// The waits of a flow whose stage needs this long.
fn waits_for(plan: &Plan, id: FlowId, stage: Stage, needed: Duration) -> Option<Waits> {
    let to = &plan.flow(id).to;
    let none = Waits::default();
    match stage {
        Stage::Resolve => None,
        // The silence after a bare handshake is waited for equally long from every source.
        Stage::FirstBytes if to.request.linger().is_some() => None,
        Stage::Connect => Some(Waits {
            connect: needed.max(MIN_DEADLINE),
            ..none
        }),
        Stage::FirstBytes if to.transport == Transport::Udp => Some(Waits {
            connect: needed.max(MIN_DEADLINE),
            ..none
        }),
        Stage::Tls => Some(Waits {
            tls: needed,
            ..none
        }),
        Stage::FirstBytes | Stage::Request => Some(Waits {
            request: needed,
            ..none
        }),
    }
}
