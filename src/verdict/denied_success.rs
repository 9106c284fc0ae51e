//! What the successes of a denied flow amount to: a violation, a start-up leak, or neither yet.

use super::controls::Evaluation;
use super::deny_begins::{Change, nothing_changed};
use super::policy_delay::grace;
use super::reason::Reason;
use super::streak::Streak;
use super::timeline::{FlowEvidence, SuccessfulAttempt};
use super::verdicts::{FlowVerdict, Unproven, Violation};
use crate::plan::{Check, FlowId};
use std::time::Duration;

/// The longest time by which a change may be noticed later than it takes effect, microseconds.
const MAX_NOTICE_DELAY_US: i64 = 2_000_000;

/// What the successes of a denied flow amount to.
pub(super) enum DeniedSuccess {
    /// There are none.
    None,
    /// A start-up leak of at most this length.
    StartupLeak(Duration),
    Verdict(FlowVerdict),
}

/// Judges the successes of a denied flow.
pub(super) fn judge_successes(
    evaluation: Evaluation<'_>,
    check: &Check,
    id: FlowId,
) -> DeniedSuccess {
    let evidence = evaluation.evidence.flow(id);
    if check.settings.established && evidence.ambiguous_success.is_none() {
        return judge_new_connections(evaluation, check, id);
    }
    if let Some(first) = &evidence.first_success {
        return judge_first_success(evaluation, check, id, first);
    }
    if evidence.ambiguous_success.is_some() {
        let detail = "it opened while a pod at either end was being replaced: another pod may have sent or answered";
        return DeniedSuccess::Verdict(FlowVerdict::Unproven(Unproven::for_good(
            id,
            Reason::ChangedDuringRun,
            detail,
        )));
    }
    DeniedSuccess::None
}

fn judge_first_success(
    evaluation: Evaluation<'_>,
    check: &Check,
    id: FlowId,
    first: &SuccessfulAttempt,
) -> DeniedSuccess {
    let evidence = evaluation.evidence.flow(id);
    match startup(evaluation, check, id, first) {
        Startup::Leaked(length) => DeniedSuccess::StartupLeak(length),
        Startup::Leaking => DeniedSuccess::Verdict(FlowVerdict::Unproven(Unproven::for_now(
            id,
            Reason::TooFewAttempts,
            describe_leaking(evidence),
        ))),
        Startup::Changed => {
            let cause = evidence
                .restarts
                .as_ref()
                .map_or_else(String::new, |restarts| restarts.cause.to_string());
            let detail = format!(
                "it opened while the source was new, and {cause} at that time: which of the two ended it is not known"
            );
            DeniedSuccess::Verdict(FlowVerdict::Unproven(Unproven::for_good(
                id,
                Reason::ChangedDuringRun,
                detail,
            )))
        }
        Startup::NotALeak => {
            DeniedSuccess::Verdict(FlowVerdict::Violated(Violation::DeniedFlowOpened {
                flow: id,
                first: first.clone(),
                opened: evidence.opened,
                attempts: evidence.attempts,
            }))
        }
    }
}

fn describe_leaking(evidence: &FlowEvidence) -> String {
    let leak = &evidence.leak;
    if leak.blocked_before == 0 {
        return "it opens, as it may while the source is new".into();
    }
    format!(
        "it opened {} times of {} while the source was new; {} attempts blocked after that rule out a lasting leak, and {} were",
        leak.successes,
        leak.successes + leak.blocked_before,
        leak.blocked_needed(),
        leak.blocked_since,
    )
}

/// Judges the successes of a denied flow whose deny begins to apply during the run.
fn judge_new_connections(evaluation: Evaluation<'_>, check: &Check, id: FlowId) -> DeniedSuccess {
    let evidence = evaluation.evidence.flow(id);
    let last_success = evidence
        .leak
        .last_success
        .filter(|_| !evaluation.plan.flow(id).to.request.is_kept_open());
    let Some(last_success) = last_success else {
        return DeniedSuccess::None;
    };
    let Some(change) = Change::of(evaluation, check, id) else {
        return DeniedSuccess::Verdict(FlowVerdict::Unproven(nothing_changed(id)));
    };

    let is_after = evaluation
        .moment(id, last_success)
        .is_some_and(|moment| moment.earliest > change.applies_at);
    if !is_after {
        return DeniedSuccess::None;
    }
    let of_streaks = |counts: fn(&Streak) -> bool| -> u32 {
        let streaks = evidence.streaks.iter().filter(|streak| counts(streak));
        streaks.map(|streak| streak.count).sum()
    };
    DeniedSuccess::Verdict(FlowVerdict::Violated(Violation::DeniedFlowOpened {
        flow: id,
        first: SuccessfulAttempt {
            attempt: evidence.attempts,
            start: last_success,
            who: None,
        },
        opened: of_streaks(Streak::is_open).max(1),
        attempts: of_streaks(|_| true).max(1),
    }))
}

/// How the successes of a denied flow relate to the start of its source.
enum Startup {
    /// They are a start-up leak of at most this length, which is over.
    Leaked(Duration),
    /// They may be one: it may still end, or be shown not to come back.
    Leaking,
    /// They may be one, or a change at that time ended them.
    Changed,
    /// They are none.
    NotALeak,
}

/// Reads the successes of a denied flow as a start-up leak.
///
/// A pod's identity becomes known some time after its start, and at another time at each place
/// where its packets are judged: so its node may at first let a new source out and the target's
/// node not let it in, then it gets through, then it is stopped. All of that is over within the
/// grace. Successes with gaps between them may also be a lasting leak that shows in some attempts
/// only: then so many attempts must be blocked afterwards as rule that out.
fn startup(
    evaluation: Evaluation<'_>,
    check: &Check,
    id: FlowId,
    first: &SuccessfulAttempt,
) -> Startup {
    let evidence = evaluation.evidence.flow(id);
    let leak = &evidence.leak;
    let is_new = evaluation
        .plan
        .created_probes()
        .contains(&evaluation.probe(id));
    // Where another pod may have answered it is no longer this source's start.
    if !is_new || check.settings.startup_isolated || evidence.ambiguous_success.is_some() {
        return Startup::NotALeak;
    }
    let Some(last_success) = leak.last_success else {
        return Startup::NotALeak;
    };

    let grace = grace(evaluation, &check.settings);
    let Some(ended) = leak.ended else {
        let latest = evidence
            .streaks
            .last()
            .map_or(last_success, |streak| streak.last().max(last_success));
        return if is_within(grace, latest) {
            Startup::Leaking
        } else {
            Startup::NotALeak
        };
    };
    if !is_within(grace, last_success) {
        return Startup::NotALeak;
    }

    let (Some(from), Some(to)) = (
        evaluation.moment(id, first.start),
        evaluation.moment(id, ended),
    ) else {
        return Startup::NotALeak;
    };
    let leak_time = from.earliest..=to.latest.saturating_add(MAX_NOTICE_DELAY_US);
    if evidence
        .restarts
        .iter()
        .flat_map(|restarts| &restarts.changes)
        .any(|change| leak_time.contains(change))
    {
        return Startup::Changed;
    }
    if leak.blocked_since < leak.blocked_needed() {
        return Startup::Leaking;
    }
    Startup::Leaked(Duration::from_micros(ended.saturating_sub(first.start)))
}

/// Whether a time of the probe lies within the grace: a probe's time begins with its pod's, so what
/// is tried late, or only once, is no part of a start that is over.
fn is_within(grace: Duration, probe_us: u64) -> bool {
    Duration::from_micros(probe_us) <= grace
}
