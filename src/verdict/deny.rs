//! When a deny is proven: five conditions, on every flow.
//!
//! 1. *Blocked throughout*: enough samples over the hold, all blocked, none open until the probe
//!    stopped.
//! 2. *The target was alive*: somebody else passed the stage at which these samples were blocked,
//!    just before the first and just after the last of them, and never more than two seconds apart
//!    between.
//! 3. *The source was able*: the same probe opened something in the same way before and after.
//! 4. *The path was open*: some flow crossed from the source's node to the target's, all through
//!    the same window.
//! 5. *Nothing relevant changed* while the flow was watched.

use super::classify::{Block, Mechanisms, Reading};
use super::composite;
use super::control::ControlProof;
use super::controls::Evaluation;
use super::evidence::Evidence;
use super::leak::Leak;
use super::moment::{MAX_WALL_ERROR_US, Moment};
use super::policy_delay::{Startup, Watch, startup};
use super::proof::{DenyProof, Window};
use super::reason::Reason;
use super::source_and_path::{
    PathControl, PathControls, SourceWindow, nothing_crossed, opened_within, path_controls,
};
use super::streak::Outcome;
use super::timeline::{Cause, FlowEvidence};
use super::wording::{describe_demand, describe_how};
use super::{FlowVerdict, Unproven, Violation};
use crate::plan::{
    Check, CheckSettings, FlowId, MIN_DEADLINE, Plan, REQUEST_DEADLINE, RESOLVE_DEADLINE, Source,
    TLS_DEADLINE, Waits,
};
use crate::suite::RequiredTier;
use crate::wire::{Stage, Transport};
use std::net::IpAddr;
use std::time::Duration;

/// How often a flow may begin anew because something relevant changed.
pub const MAX_RESTARTS: u32 = 3;

/// Judges a denied flow.
pub(super) fn judge_denied(evaluation: Evaluation<'_>, check: &Check, id: FlowId) -> FlowVerdict {
    let (seen, settings) = (evaluation.evidence.flow(id), &check.settings);
    let startup_leak = match judge_openings(evaluation, check, id) {
        Shown::Nothing => None,
        Shown::StartupLeak(length) => Some(length),
        Shown::Verdict(verdict) => return verdict,
    };
    if let Some(unproven) = unusable(evaluation, id) {
        return FlowVerdict::Unproven(unproven);
    }
    let unproven = |reason, detail: String| {
        FlowVerdict::Unproven(Unproven {
            reason,
            detail,
            flow: Some(id),
            open: true,
        })
    };
    let blocked = match BlockedSuffix::of(evaluation, id, seen) {
        Ok(blocked) => blocked,
        Err((reason, detail)) => return unproven(reason, detail),
    };
    match blocked.prove(evaluation, check, id).map(|proof| DenyProof {
        startup_leak,
        ..proof
    }) {
        Ok(proof) if !proof.tier().meets(settings.required_tier) => unproven(
            Reason::TierNotMet,
            format!(
                "proven at {}, the line demands {}",
                proof.tier(),
                describe_demand(settings.required_tier)
            ),
        ),
        Ok(_)
            if settings
                .mechanism
                .is_some_and(|kind| !blocked.mechanisms.is_only(kind)) =>
        {
            unproven(
                Reason::TierNotMet,
                format!(
                    "it is blocked by {}, not as the line demands",
                    blocked.mechanisms
                ),
            )
        }
        Ok(proof) => FlowVerdict::Denied(proof),
        Err((reason, detail)) => unproven(reason, detail),
    }
}

/// What a flow that was given up still shows, as its pod is gone: an opening before that.
pub(super) fn judge_retired(
    evaluation: Evaluation<'_>,
    check: &Check,
    id: FlowId,
) -> Option<FlowVerdict> {
    match judge_openings(evaluation, check, id) {
        // Whoever stands in for that pod has a flow of its own, and a start of its own.
        Shown::Nothing | Shown::StartupLeak(_) => None,
        // Whether it would have ended will never be known.
        Shown::Verdict(FlowVerdict::Unproven(unproven)) => Some(FlowVerdict::Unproven(Unproven {
            open: false,
            reason: Reason::ChangedDuringRun,
            ..unproven
        })),
        Shown::Verdict(verdict) => Some(verdict),
    }
}

/// What the openings of a denied flow come to.
enum Shown {
    /// Nothing: there are none.
    Nothing,
    /// It opened only while its source was new, for so long at the most.
    StartupLeak(Duration),
    /// This.
    Verdict(FlowVerdict),
}

fn judge_openings(evaluation: Evaluation<'_>, check: &Check, id: FlowId) -> Shown {
    let seen = evaluation.evidence.flow(id);
    let unproven = |reason, detail: String, open| {
        Shown::Verdict(FlowVerdict::Unproven(Unproven {
            reason,
            detail,
            flow: Some(id),
            open,
        }))
    };
    let first = match (&seen.first_open, &seen.doubtful) {
        (None, None) => return Shown::Nothing,
        (None, Some(_)) => return Shown::Verdict(doubtful(id)),
        (Some(first), _) => first,
    };
    // Where somebody else may have answered it is no longer this source's start.
    let startup = if seen.doubtful.is_none() {
        startup(evaluation, check, id)
    } else {
        Startup::FirstSuccess
    };
    match startup {
        Startup::Leaked(length) => Shown::StartupLeak(length),
        Startup::Leaking => {
            let Leak {
                openings,
                blocked_before,
                blocked_since,
                ..
            } = seen.leak;
            let detail = match blocked_before {
                0 => "it opens, as it may while the source is new".into(),
                _ => format!(
                    "it opened {openings} times of {} while the source was new; {} attempts blocked after that rule out a leak that lasts, and {blocked_since} were",
                    openings + blocked_before,
                    seen.leak.refutation(),
                ),
            };
            unproven(Reason::TooFewAttempts, detail, true)
        }
        Startup::Changed => {
            let what = seen
                .restarts
                .as_ref()
                .map_or_else(String::new, |restarts| restarts.cause.to_string());
            let detail = format!(
                "it opened while the source was new, and {what} at that time: which of the two ended it is not known"
            );
            unproven(Reason::ChangedDuringRun, detail, false)
        }
        Startup::FirstSuccess => Shown::Verdict(opened(id, seen, first)),
    }
}

/// An opening of a denied flow: once is enough.
fn opened(id: FlowId, seen: &FlowEvidence, first: &super::FirstSuccess) -> FlowVerdict {
    FlowVerdict::Violated(Violation::FirstSuccess {
        flow: id,
        first: first.clone(),
        opened: seen.opened,
        attempts: seen.attempts,
    })
}

/// An opening while the pod at either end was being replaced.
fn doubtful(id: FlowId) -> FlowVerdict {
    FlowVerdict::Unproven(Unproven {
        reason: Reason::ChangedDuringRun,
        detail: "it opened while a pod at either end was being replaced: somebody else may have answered".into(),
        flow: Some(id),
        open: false,
    })
}

/// What makes a flow's evidence unusable whatever it shows: no samples, a failed probe, too many
/// relevant changes (condition 5).
pub(super) fn unusable(evaluation: Evaluation<'_>, id: FlowId) -> Option<Unproven> {
    let probe = evaluation.evidence.probe(evaluation.plan.flow(id).probe);
    let seen = evaluation.evidence.flow(id);
    let unproven = |reason, detail: String, open| {
        Some(Unproven {
            reason,
            detail,
            flow: Some(id),
            open,
        })
    };
    if let Some((_, failure)) = &probe.failure {
        let reason = match failure {
            super::ProbeFailure::Clocks(_) => Reason::ClockSkew,
            super::ProbeFailure::Ended(_)
            | super::ProbeFailure::Protocol(_)
            | super::ProbeFailure::Reported { .. } => Reason::ProbeFault,
        };
        return unproven(reason, failure.to_string(), false);
    }
    if let Some(clock) = probe
        .clock
        .filter(|clock| clock.disagreement() > MAX_WALL_ERROR_US)
    {
        let ms = clock.disagreement() / 1_000;
        let detail =
            format!("the probe's wall clock and the arrival of its lines are {ms} ms apart");
        // What arrives faster may still show that it was the way that was slow.
        return unproven(Reason::ClockSkew, detail, !probe.stopped);
    }
    if let Some(restarts) = seen
        .restarts
        .as_ref()
        .filter(|restarts| restarts.count > MAX_RESTARTS)
    {
        let detail = format!(
            "it began anew {} times, the last time because {}",
            restarts.count, restarts.cause
        );
        return unproven(reason_of(&restarts.cause), detail, false);
    }
    if seen.is_retired() {
        let detail = "a pod at either end was replaced, and who is there now is not known";
        return unproven(Reason::ChangedDuringRun, detail.into(), false);
    }
    if seen.attempts == 0 {
        return unproven(
            Reason::NotAttempted,
            "no sample arrived".into(),
            !probe.stopped,
        );
    }
    None
}

/// Too little evidence is the doing of what made the flow begin anew, or of a machine that gave the
/// probe no processor time.
pub(super) fn blame(evaluation: Evaluation<'_>, unproven: Unproven) -> Unproven {
    let seen = unproven.flow.map(|flow| evaluation.evidence.flow(flow));
    let (Some(seen), Reason::TooFewAttempts | Reason::NotAttempted) = (seen, unproven.reason)
    else {
        return unproven;
    };
    if let Some(restarts) = &seen.restarts {
        let detail = format!("{}, and since then: {}", restarts.cause, unproven.detail);
        return Unproven {
            reason: reason_of(&restarts.cause),
            detail,
            ..unproven
        };
    }
    if seen.starved > 0 {
        let detail = format!(
            "the probe's timer lagged by more than 100 ms in {} of {} attempts: {}",
            seen.starved, seen.attempts, unproven.detail
        );
        return Unproven {
            reason: Reason::ProbeCpuStarved,
            detail,
            ..unproven
        };
    }
    unproven
}

/// How often a flow began anew.
pub(super) fn restarts(evaluation: Evaluation<'_>, id: FlowId) -> u32 {
    evaluation
        .evidence
        .flow(id)
        .restarts
        .as_ref()
        .map_or(0, |restarts| restarts.count)
}

fn reason_of(cause: &Cause) -> Reason {
    match cause {
        Cause::Changed(_) => Reason::ChangedDuringRun,
        Cause::Stalled(_) => Reason::ProbeCpuStarved,
    }
}

pub(super) type UnprovenCause = (Reason, String);

/// The blocked samples at the end of a flow's evidence.
pub(super) struct BlockedSuffix<'a> {
    /// Known starts, with the number of the sample, counted from the first of the suffix.
    points: Vec<(Moment, u32)>,
    /// The highest stage at which one of them was blocked: a control must have passed it.
    stage: Stage,
    /// By what they were blocked.
    mechanisms: Mechanisms,
    block: &'a Block,
}

impl<'a> BlockedSuffix<'a> {
    /// Condition 1, first half: everything from some sample on is blocked.
    fn of(
        evaluation: Evaluation<'_>,
        id: FlowId,
        seen: &'a FlowEvidence,
    ) -> Result<Self, UnprovenCause> {
        let from = seen
            .streaks
            .iter()
            .rposition(|streak| !streak.is_blocked())
            .map_or(0, |last| last + 1);
        let suffix = &seen.streaks[from..];
        let Some(Outcome::Read(Reading::Blocked(block))) =
            suffix.last().map(|streak| &streak.outcome)
        else {
            return Err(match seen.streaks.last().map(|streak| &streak.outcome) {
                Some(Outcome::Read(Reading::NotSent(stop))) => (
                    Reason::SendFailed,
                    format!(
                        "the attempts did not leave the source: {}",
                        describe_how(&stop.how)
                    ),
                ),
                Some(Outcome::Fault(_)) => (
                    Reason::ProbeFault,
                    "the probe could not carry out the attempts".into(),
                ),
                _ => (Reason::NotAttempted, "no sample arrived".into()),
            });
        };
        let mut points = Vec::new();
        let mut before = 0;
        let mut stage = block.stage;
        let mut mechanisms = Mechanisms::default();
        for streak in suffix {
            mechanisms = mechanisms.with(streak.mechanisms());
            if let Outcome::Read(Reading::Blocked(block)) = &streak.outcome {
                stage = stage.max(block.stage);
            }
            points.extend(
                streak
                    .points()
                    .iter()
                    .filter_map(|(own, nth)| Some((evaluation.moment(id, *own)?, before + nth))),
            );
            before += streak.count;
        }
        Ok(Self {
            points,
            stage,
            mechanisms,
            block,
        })
    }

    /// Conditions 1 to 4: the window with the most samples for which all hold, or the condition
    /// that failed last.
    fn prove(
        &self,
        evaluation: Evaluation<'_>,
        check: &Check,
        id: FlowId,
    ) -> Result<DenyProof, UnprovenCause> {
        let (settings, watch) = (&check.settings, Watch::of(evaluation, check, id));
        if self.stage != Stage::Resolve {
            same_addresses(evaluation, id)?;
        }
        let strict = settings.required_tier != RequiredTier::D1;
        let source_window = SourceWindow::of(evaluation, id);
        let path_controls = match self.stage {
            _ if !strict => None,
            // A name that did not resolve sent nothing to the target; the addresses that others got
            // stand for the path.
            Stage::Resolve => Some(Ok(Vec::new())),
            Stage::Connect | Stage::FirstBytes | Stage::Tls | Stage::Request => {
                Some(path_controls(evaluation, id))
            }
        };
        let mut best: Option<DenyProof> = None;
        let mut unproven_cause: Option<UnprovenCause> = None;
        let mut note = |rank: usize, found: UnprovenCause, at: &mut usize| {
            if rank >= *at {
                *at = rank;
                unproven_cause = Some(found);
            }
        };
        let mut rank = 0;
        note(0, self.nobody(evaluation, id), &mut rank);
        let mut too_slow: Option<UnprovenCause> = None;
        let mut in_time = false;
        let single = evaluation
            .target_controls_past(id, self.stage)
            .flat_map(|control| evaluation.control_intervals(control, self.stage));
        for control_interval in
            single.chain(composite::control_intervals(evaluation, id, self.stage))
        {
            let (first, last) = (control_interval.first, control_interval.last);
            let (took, deadline) = (
                control_interval.slowest.at(self.stage),
                deadline(evaluation, settings, id, self.stage),
            );
            if took * SLOWER > deadline {
                let slow = format!(
                    "the control took {took:?}, so a deadline of {deadline:?} is too short"
                );
                too_slow = Some((Reason::AttemptTimeoutTooShort, slow));
                continue;
            }
            in_time = true;
            let inside = |moment: Moment| {
                moment.earliest >= watch.from && first.surely_by(moment) && moment.surely_by(last)
            };
            let Some(widest) = self.window(inside) else {
                note(1, too_few(0, Duration::ZERO, watch), &mut rank);
                continue;
            };
            let (window, source) = if strict {
                let Some((window, source)) = source_window.narrow(self, inside) else {
                    note(2, source_window.unproven_cause(evaluation, id), &mut rank);
                    continue;
                };
                (window, Some(source))
            } else {
                (widest, None)
            };
            if window.attempts < watch.attempts || window.length() < watch.hold {
                note(
                    3,
                    too_few(window.attempts, window.length(), watch),
                    &mut rank,
                );
                continue;
            }
            let Some(control) = ControlProof::new(window, &control_interval) else {
                continue;
            };
            let (window, paths) = match &path_controls {
                None => (window, None),
                Some(Err(end)) => {
                    note(4, nothing_crossed(evaluation, id, Some(end)), &mut rank);
                    continue;
                }
                Some(Ok(path_controls)) => {
                    let open = |moment| {
                        inside(moment)
                            && path_controls
                                .iter()
                                .all(|path_control| path_control.spans(moment))
                    };
                    let narrowed = source_window.narrow(self, open).map(|(window, _)| window);
                    let long = |window: &Window| {
                        window.attempts >= watch.attempts && window.length() >= watch.hold
                    };
                    let Some(window) = narrowed.filter(long) else {
                        note(4, nothing_crossed(evaluation, id, None), &mut rank);
                        continue;
                    };
                    (
                        window,
                        Some(path_controls.iter().map(PathControl::proof).collect()),
                    )
                }
            };
            if best
                .as_ref()
                .is_none_or(|proof| proof.window.attempts < window.attempts)
            {
                let same_node_control = self.same_node_control(evaluation, id, window);
                let counter = evaluation.evidence.counters.get(&id).cloned();
                let (block, restarts) = (self.block.clone(), restarts(evaluation, id));
                best = Some(DenyProof {
                    window,
                    control,
                    source,
                    paths,
                    same_node_control,
                    counter,
                    block,
                    restarts,
                    startup_leak: None,
                });
            }
        }
        best.ok_or_else(|| {
            let slow = too_slow.filter(|_| !in_time);
            slow.or(unproven_cause)
                .unwrap_or_else(|| self.nobody(evaluation, id))
        })
    }

    /// The samples whose start satisfies `inside`.
    pub(super) fn window(&self, inside: impl Fn(Moment) -> bool) -> Option<Window> {
        let mut points = self.points.iter().filter(|(moment, _)| inside(*moment));
        let &(from, first) = points.next()?;
        let (to, last) = points.last().copied().unwrap_or((from, first));
        Some(Window {
            from,
            to,
            attempts: last - first + 1,
        })
    }

    /// A pod on the source's node, not the source, that got through in the window.
    fn same_node_control(
        &self,
        evaluation: Evaluation<'_>,
        id: FlowId,
        window: Window,
    ) -> Option<FlowId> {
        let node = evaluation
            .plan
            .source(evaluation.plan.flow(id).probe)
            .node()?;
        evaluation.target_controls(id).find(|control| {
            let source = evaluation.plan.source(evaluation.plan.flow(*control).probe);
            matches!(source, Source::Pod { node: at, .. } if at == node)
                && opened_within(evaluation, *control, self.stage, window)
        })
    }

    /// Why there is no control at all: nobody answered, or everybody was refused by a layer that
    /// names itself.
    fn nobody(&self, evaluation: Evaluation<'_>, id: FlowId) -> UnprovenCause {
        let refused_by = |control: FlowId| match evaluation.evidence.flow(control).latest() {
            Some(Reading::Blocked(Block { signature, .. })) => *signature,
            Some(Reading::Open(_) | Reading::NotSent(_)) | None => None,
        };
        let target_controls: Vec<_> = evaluation.target_controls(id).collect();
        if self.stage > Stage::Connect
            && !target_controls.is_empty()
            && target_controls
                .iter()
                .all(|control| refused_by(*control).is_some())
        {
            return (
                Reason::AllControlsRefused,
                "everybody who tried this target was refused alike".into(),
            );
        }
        if self.stage == Stage::Resolve {
            return (
                Reason::NameDidNotResolve,
                "the name did not resolve, for anybody".into(),
            );
        }
        let tried = match target_controls.len() {
            0 => "nobody else could be sent to this target".to_owned(),
            1 => "the one control got no answer from this target".to_owned(),
            n => format!("none of {n} controls got an answer from this target"),
        };
        (Reason::NoControlAnswered, tried)
    }
}

/// A probe that resolves a name itself may be told other addresses than its controls: silence of
/// these proves nothing.
fn same_addresses(evaluation: Evaluation<'_>, id: FlowId) -> Result<(), UnprovenCause> {
    let seen = evaluation.evidence.flow(id);
    let reached = |peer: &IpAddr| {
        evaluation.target_controls(id).any(|control| {
            evaluation
                .evidence
                .flow(control)
                .peers
                .get(peer)
                .is_some_and(|answered| *answered)
        })
    };
    match seen.peers.keys().find(|peer| !reached(peer)) {
        Some(peer) => Err((
            Reason::NoControlAnswered,
            format!("its name led to {peer}, where no control got an answer"),
        )),
        None if seen.too_many_peers => Err((
            Reason::NoControlAnswered,
            "its name led to more addresses than are watched".into(),
        )),
        None => Ok(()),
    }
}

fn too_few(attempts: u32, length: Duration, watch: Watch) -> UnprovenCause {
    let detail = format!(
        "{attempts} blocked samples over {:.1} s between two answers of a control; {} over {:.1} s are needed",
        length.as_secs_f32(),
        watch.attempts,
        watch.hold.as_secs_f32(),
    );
    (Reason::TooFewAttempts, detail)
}

/// Silence is only slowness unless it lasts so many times as long as a control took.
const SLOWER: u32 = 10;

/// How long a stage was waited for.
fn deadline(
    evaluation: Evaluation<'_>,
    settings: &CheckSettings,
    id: FlowId,
    stage: Stage,
) -> Duration {
    let of = evaluation.plan.flow(id);
    let udp = of.to.transport == Transport::Udp;
    match stage {
        Stage::Resolve => RESOLVE_DEADLINE,
        Stage::Connect => settings.attempt_timeout.max(of.waits.connect),
        Stage::FirstBytes if udp => settings.attempt_timeout.max(of.waits.connect),
        Stage::FirstBytes if let Some(linger) = of.to.request.linger() => linger,
        Stage::Tls => TLS_DEADLINE.max(settings.attempt_timeout).max(of.waits.tls),
        Stage::FirstBytes | Stage::Request => REQUEST_DEADLINE.max(of.waits.request),
    }
}

/// How long a denied flow must be waited for so that its silence says something, where every
/// control that got further took longer than a tenth of its deadline. `None` where the deadline
/// will do, or where no deadline would.
pub fn waits_needed(plan: &Plan, evidence: &Evidence, check: &Check, id: FlowId) -> Option<Waits> {
    let path_controls = PathControls::default();
    let evaluation = Evaluation {
        plan,
        evidence,
        path_controls: &path_controls,
    };
    let blocked = BlockedSuffix::of(evaluation, id, evidence.flow(id)).ok()?;
    let passings = evaluation
        .target_controls_past(id, blocked.stage)
        .flat_map(|control| evaluation.passings(control, blocked.stage));
    // Over a margin, since the next time it may take a little longer.
    let fastest = passings
        .map(|(_, _, streak)| streak.slowest.at(blocked.stage))
        .min()?
        * SLOWER
        * 3
        / 2;
    let within = deadline(evaluation, &check.settings, id, blocked.stage);
    if fastest <= within * 3 / 2 || fastest > MAX_WAIT {
        return None;
    }
    let udp = plan.flow(id).to.transport == Transport::Udp;
    let none = Waits::default();
    match blocked.stage {
        Stage::Resolve => None,
        // How long the silence after a bare handshake is listened to is the same for everybody.
        Stage::FirstBytes if plan.flow(id).to.request.linger().is_some() => None,
        Stage::Connect => Some(Waits {
            connect: fastest.max(MIN_DEADLINE),
            ..none
        }),
        Stage::FirstBytes if udp => Some(Waits {
            connect: fastest.max(MIN_DEADLINE),
            ..none
        }),
        Stage::Tls => Some(Waits {
            tls: fastest,
            ..none
        }),
        Stage::FirstBytes | Stage::Request => Some(Waits {
            request: fastest,
            ..none
        }),
    }
}

/// The longest that any attempt is waited for.
const MAX_WAIT: Duration = Duration::from_secs(60);
