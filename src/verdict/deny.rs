//! When a deny is proven: five conditions, on every flow.
//!
//! 1. *The flow was blocked throughout the hold*: enough attempts over the hold, all blocked, none
//!    open until the probe stopped ([`Conditions::blocked_throughout`]).
//! 2. *The target answers*: a target control passed the stage at which these attempts were blocked,
//!    just before the first and just after the last of them, and never more than two seconds apart
//!    between ([`Conditions::target_answers`]).
//! 3. *The source was able to send*: a source control opened before and after
//!    ([`Conditions::source_able`]).
//! 4. *The path was open*: a path control got through from the source's node to the target's, all
//!    through the same window ([`Conditions::path_open`]); for silence to a large request, one that
//!    carried as much ([`Load`]).
//! 5. *Nothing relevant changed* while the flow was watched ([`nothing_changed`]).
//!
//! D1 requires 1, 2 and 5, each higher tier all five. Where several intervals of the target
//! controls fail, the failure of the highest [`Condition`] is reported.

use super::blocked::BlockedAttempts;
use super::composite;
use super::condition::{Condition, ConditionFailure};
use super::control_interval::{ControlInterval, target_intervals};
use super::controls::Evaluation;
use super::denied_success::{DeniedSuccess, judge_successes};
use super::deny_proof::{DenyProof, PathProof, SourceProof, WeakerProof};
use super::moment::Moment;
use super::open_interval::{Load, OpenInterval};
use super::policy_delay::Watch;
use super::reading::{Block, Reading};
use super::reason::Reason;
use super::source_and_path::{SourceIntervals, path_intervals};
use super::target_control::ControlProof;
use super::timeline::MAX_PEERS;
use super::unusable::unusable;
use super::verdicts::{FlowVerdict, Unproven};
use super::waits::{SILENCE_FACTOR, deadline};
use super::window::Window;
use crate::plan::{Check, ControlStrength, FlowId, PathEnd, Source};
use crate::suite::{Mechanism, RequiredTier};
use crate::wire::Stage;
use std::net::IpAddr;
use std::time::Duration;

/// Judges a denied flow.
pub(super) fn judge_denied(evaluation: Evaluation<'_>, check: &Check, id: FlowId) -> FlowVerdict {
    let startup_leak = match judge_successes(evaluation, check, id) {
        DeniedSuccess::None => None,
        DeniedSuccess::StartupLeak(length) => Some(length),
        DeniedSuccess::Verdict(FlowVerdict::Violated(_))
            if is_handshake_of_request_sent_once(evaluation, check, id) =>
        {
            return handshake_opened(id);
        }
        DeniedSuccess::Verdict(verdict) => return verdict,
    };
    if evaluation.plan.flow(id).to.once {
        return judge_sent_once(evaluation, id);
    }
    match prove(evaluation, check, id, startup_leak, Basis::of(id)) {
        Ok(proof) => FlowVerdict::Denied(proof),
        Err(unproven) => FlowVerdict::Unproven(unproven),
    }
}

/// Judges a request that is sent only once and did not open: it could only have violated the deny,
/// which the handshakes of the same check prove.
fn judge_sent_once(evaluation: Evaluation<'_>, id: FlowId) -> FlowVerdict {
    if let Some(unproven) = unusable(evaluation, id) {
        return FlowVerdict::Unproven(unproven);
    }
    match evaluation.evidence.flow(id).latest() {
        Some(Reading::Blocked(_)) => {
            FlowVerdict::LeftOut("sent once and blocked, which proves nothing by itself".into())
        }
        Some(Reading::Open(_) | Reading::NotSent(_)) | None => {
            let detail = "the request that is sent only once was not carried out";
            FlowVerdict::Unproven(Unproven::for_now(id, Reason::NotAttempted, detail))
        }
    }
}

/// Whether a flow is a handshake of a check whose request is sent only once: an opening is no
/// violation, since the request may be refused later.
fn is_handshake_of_request_sent_once(
    evaluation: Evaluation<'_>,
    check: &Check,
    id: FlowId,
) -> bool {
    let plan = evaluation.plan;
    !plan.flow(id).to.once && check.flows.iter().any(|flow| plan.flow(*flow).to.once)
}

fn handshake_opened(id: FlowId) -> FlowVerdict {
    let detail =
        "the handshake opens, so only the request itself can be denied, and that is sent only once";
    FlowVerdict::Unproven(Unproven::for_good(id, Reason::SentOnce, detail))
}

/// Judges a denied flow that was given up, as its pod is gone: only a success before that counts.
pub(super) fn judge_retired(
    evaluation: Evaluation<'_>,
    check: &Check,
    id: FlowId,
) -> Option<FlowVerdict> {
    match judge_successes(evaluation, check, id) {
        // The pod's replacement has another flow, and another start.
        DeniedSuccess::None | DeniedSuccess::StartupLeak(_) => None,
        // Whether a leak would have ended will never be known.
        DeniedSuccess::Verdict(FlowVerdict::Unproven(unproven)) => {
            Some(FlowVerdict::Unproven(Unproven {
                open: false,
                reason: Reason::ChangedDuringRun,
                ..unproven
            }))
        }
        DeniedSuccess::Verdict(verdict) => Some(verdict),
    }
}

/// Which evidence a proof may rest on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Basis {
    /// Attempts that surely started later count, microseconds of the run.
    pub(super) from: i64,
    /// The flow whose target controls count: its own, as a rule.
    pub(super) controls_of: FlowId,
}

impl Basis {
    /// All attempts of a flow, and its own controls.
    pub(super) fn of(flow: FlowId) -> Self {
        Self {
            from: i64::MIN,
            controls_of: flow,
        }
    }
}

/// Proves a deny by the five conditions, at the tier and by the mechanism that the line requires.
pub(super) fn prove(
    evaluation: Evaluation<'_>,
    check: &Check,
    id: FlowId,
    startup_leak: Option<Duration>,
    basis: Basis,
) -> Result<DenyProof, Unproven> {
    nothing_changed(evaluation, id).map_err(|failure| failure.unproven)?;
    let blocked =
        BlockedAttempts::at_the_end(evaluation, id).map_err(|failure| failure.unproven)?;
    let conditions = Conditions::new(evaluation, check, id, blocked, basis);
    let proof = conditions.prove().map_err(|failure| failure.unproven)?;
    let required_tier = check.settings.required_tier;
    if !proof.tier().meets(required_tier) {
        let detail = format!(
            "proven at {}, the line requires {}",
            proof.tier(),
            required_tier.name()
        );
        return Err(Unproven::for_now(id, Reason::TierNotMet, detail));
    }

    let mechanisms = conditions.blocked.mechanisms;
    if let Some(required) = check.settings.mechanism
        && !mechanisms.is_only(required)
    {
        let detail = format!("it is blocked by {mechanisms}, not as the line requires");
        return Err(Unproven::for_now(id, Reason::TierNotMet, detail));
    }
    Ok(DenyProof {
        startup_leak,
        ..proof
    })
}

/// Condition 5: nothing relevant changed, and nothing else makes the flow's evidence unusable.
fn nothing_changed(evaluation: Evaluation<'_>, id: FlowId) -> Result<(), ConditionFailure> {
    match unusable(evaluation, id) {
        None => Ok(()),
        Some(unproven) => Err(ConditionFailure {
            condition: Condition::NothingChanged,
            unproven,
        }),
    }
}

/// The conditions that are checked in each interval of a target control.
struct Conditions<'a> {
    evaluation: Evaluation<'a>,
    check: &'a Check,
    id: FlowId,
    /// The flow whose target controls count.
    controls_of: FlowId,
    blocked: BlockedAttempts<'a>,
    watch: Watch,
    /// The evidence for conditions 3 and 4; `None` at D1.
    source_and_path: Option<SourceAndPath>,
}

/// The evidence for conditions 3 and 4.
struct SourceAndPath {
    source: SourceIntervals,
    /// What a path control must have carried, where the silence may be that of a path which loses
    /// large packets.
    load: Option<Load>,
    /// The path controls, or an end that no control reached.
    paths: Result<Vec<Vec<OpenInterval>>, PathEnd>,
}

impl SourceAndPath {
    fn of(evaluation: Evaluation<'_>, id: FlowId, blocked: &BlockedAttempts<'_>) -> Self {
        let load = Load::of(&evaluation.plan.flow(id).to, blocked.stage)
            .filter(|_| blocked.mechanisms.contains(Mechanism::Drop));
        Self {
            source: SourceIntervals::of(evaluation, id),
            load,
            paths: match blocked.stage {
                // A name that did not resolve sent nothing to the target; the addresses that the
                // controls got are checked in its place.
                Stage::Resolve => Ok(Vec::new()),
                Stage::Connect | Stage::FirstBytes | Stage::Tls | Stage::Request => {
                    path_intervals(evaluation, id, load)
                }
            },
        }
    }
}

/// What the conditions found to hold in one interval of a target control.
struct ProvenInterval {
    window: Window,
    control: ControlProof,
    source_and_paths: Option<(SourceProof, Vec<PathProof>)>,
}

impl<'a> Conditions<'a> {
    fn new(
        evaluation: Evaluation<'a>,
        check: &'a Check,
        id: FlowId,
        blocked: BlockedAttempts<'a>,
        basis: Basis,
    ) -> Self {
        let watch = Watch::of(evaluation, check, id);
        let is_d1 = check.settings.required_tier == RequiredTier::D1;
        let source_and_path = (!is_d1).then(|| SourceAndPath::of(evaluation, id, &blocked));
        Self {
            evaluation,
            check,
            id,
            controls_of: basis.controls_of,
            watch: Watch {
                from: watch.from.max(basis.from),
                ..watch
            },
            blocked,
            source_and_path,
        }
    }

    /// Conditions 1 to 4: the interval with the most attempts in which all hold, or the failure
    /// that got furthest, the last of several.
    fn prove(&self) -> Result<DenyProof, ConditionFailure> {
        let mut best: Option<ProvenInterval> = None;
        let mut furthest: Option<ConditionFailure> = None;
        for interval in self.target_answers()? {
            match self.hold_in(&interval) {
                Ok(proven) => {
                    if best
                        .as_ref()
                        .is_none_or(|best| best.window.attempts < proven.window.attempts)
                    {
                        best = Some(proven);
                    }
                }
                Err(failure) => {
                    if furthest
                        .as_ref()
                        .is_none_or(|furthest| furthest.condition <= failure.condition)
                    {
                        furthest = Some(failure);
                    }
                }
            }
        }
        match best {
            Some(proven) => Ok(self.deny_proof(proven)),
            None => Err(furthest.unwrap_or_else(|| self.no_control_answered())),
        }
    }

    /// Whether conditions 1, 3 and 4 hold in an interval in which the target answers.
    fn hold_in(&self, interval: &ControlInterval) -> Result<ProvenInterval, ConditionFailure> {
        let (window, source_and_paths) = match &self.source_and_path {
            None => {
                let window = self.answered_window(interval)?;
                self.blocked_throughout(window)?;
                (window, None)
            }
            Some(controls) => {
                let (window, source) = self.source_able(interval, &controls.source)?;
                self.blocked_throughout(window)?;
                let (window, paths) = self.path_open(interval, controls)?;
                (window, Some((source, paths)))
            }
        };
        let control =
            ControlProof::new(window, interval).ok_or_else(|| self.no_attempt_between_answers())?;
        Ok(ProvenInterval {
            window,
            control,
            source_and_paths,
        })
    }

    /// Condition 1: enough attempts over the hold. That all of them were blocked, and none opened
    /// after, is how [`BlockedAttempts`] are collected.
    fn blocked_throughout(&self, window: Window) -> Result<(), ConditionFailure> {
        if self.is_long_enough(window) {
            return Ok(());
        }
        let detail = self.describe_too_few(window.attempts, window.length());
        Err(Condition::BlockedThroughout.fails(self.id, Reason::TooFewAttempts, detail))
    }

    /// Condition 2: the intervals in which a target control got through before, between and after
    /// some of the attempts.
    fn target_answers(&self) -> Result<Vec<ControlInterval>, ConditionFailure> {
        self.resolved_to_answering_addresses()?;
        let (evaluation, stage) = (self.evaluation, self.blocked.stage);
        let deadline = deadline(evaluation, &self.check.settings, self.id, stage);
        let single = evaluation
            .target_controls_past(self.controls_of, stage)
            .flat_map(|control| target_intervals(evaluation, control, stage));
        let composite = composite::control_intervals(evaluation, self.controls_of, stage);
        let (strong, weak): (Vec<_>, Vec<_>) = single
            .chain(composite)
            .partition(|interval| self.is_strong_enough(interval));
        let (in_time, slow): (Vec<_>, Vec<_>) = strong
            .into_iter()
            .partition(|interval| interval.durations.median(stage) * SILENCE_FACTOR <= deadline);
        if in_time.is_empty() {
            return Err(match (slow.last(), weak.first()) {
                (Some(interval), _) => {
                    self.deadline_too_short(interval.durations.median(stage), deadline)
                }
                (None, Some(interval)) => self.only_weak_controls(interval),
                (None, None) => self.no_control_answered(),
            });
        }

        let answered: Vec<_> = in_time
            .into_iter()
            .filter(|interval| self.answered_window(interval).is_ok())
            .collect();
        if answered.is_empty() {
            return Err(self.no_attempt_between_answers());
        }
        Ok(answered)
    }

    /// Whether a control says enough about a pod's packets, where the source is a pod.
    fn is_strong_enough(&self, interval: &ControlInterval) -> bool {
        self.strength_of(interval.flow) >= self.evaluation.plan.required_strength(self.id)
    }

    fn strength_of(&self, control: FlowId) -> ControlStrength {
        let evaluation = self.evaluation;
        let target_kind = &evaluation.plan.flow(self.id).target_kind;
        ControlStrength::of(
            evaluation.source(control),
            evaluation.source(self.id),
            target_kind,
        )
    }

    /// Condition 3: a source control opened all through the attempts.
    fn source_able(
        &self,
        interval: &ControlInterval,
        source: &SourceIntervals,
    ) -> Result<(Window, SourceProof), ConditionFailure> {
        let is_inside = |moment| self.counts_in(interval, moment);
        source.narrow(&self.blocked, is_inside).ok_or_else(|| {
            let name = self.evaluation.source(self.id);
            let detail = if source.is_empty() {
                format!("{name} opened nothing else in the same way")
            } else {
                format!("{name} opened nothing else all through these attempts")
            };
            Condition::SourceAble.fails(self.id, Reason::SourceNotVerified, detail)
        })
    }

    /// Condition 4: on each path a path control got through before and after enough of the attempts
    /// for condition 1.
    fn path_open(
        &self,
        interval: &ControlInterval,
        controls: &SourceAndPath,
    ) -> Result<(Window, Vec<PathProof>), ConditionFailure> {
        let paths = controls
            .paths
            .as_ref()
            .map_err(|end| self.no_path_control(Some(end)))?;
        let is_inside = |moment| {
            self.counts_in(interval, moment)
                && paths
                    .iter()
                    .all(|controls| controls.iter().any(|control| control.spans(moment)))
        };
        let (window, _) = controls
            .source
            .narrow(&self.blocked, is_inside)
            .filter(|(window, _)| self.is_long_enough(*window))
            .ok_or_else(|| self.no_path_control(None))?;
        let proofs = paths
            .iter()
            .filter_map(|controls| controls.iter().find(|control| control.spans(window.from)))
            .map(|control| PathProof { flow: control.flow });
        Ok((window, proofs.collect()))
    }

    /// The window of all attempts that count in an interval of a target control.
    fn answered_window(&self, interval: &ControlInterval) -> Result<Window, ConditionFailure> {
        self.blocked
            .window(|moment| self.counts_in(interval, moment))
            .ok_or_else(|| self.no_attempt_between_answers())
    }

    /// Whether an attempt that started at this moment counts: after settle, and between two answers
    /// of the target.
    fn counts_in(&self, interval: &ControlInterval, moment: Moment) -> bool {
        moment.earliest >= self.watch.from && interval.spans(moment)
    }

    fn is_long_enough(&self, window: Window) -> bool {
        window.attempts >= self.watch.attempts && window.length() >= self.watch.hold
    }

    fn deny_proof(&self, proven: ProvenInterval) -> DenyProof {
        let weaker = self.weaker_proof(&proven);
        let (source, paths) = proven.source_and_paths.unzip();
        let evidence = self.evaluation.evidence;
        DenyProof {
            window: proven.window,
            control: proven.control,
            source,
            paths,
            same_node_control: self.same_node_control(proven.window),
            counter: evidence.counters.get(&self.id).cloned(),
            block: Box::new(self.blocked.block.clone()),
            restarts: evidence
                .flow(self.id)
                .restarts
                .as_ref()
                .map_or(0, |restarts| restarts.count),
            startup_leak: None,
            weaker: Box::new(weaker),
        }
    }

    /// Which conditions rest on weaker controls than a pod's, and why.
    fn weaker_proof(&self, proven: &ProvenInterval) -> WeakerProof {
        let evaluation = self.evaluation;
        let Some(weaker) = evaluation.plan.weaker_controls(self.id) else {
            return WeakerProof::default();
        };
        let strength = self.strength_of(proven.control.flow());
        let target = weaker
            .target
            .as_ref()
            .filter(|_| strength < ControlStrength::Pod)
            .map(|(_, because)| because.clone());
        let Some((source, paths)) = &proven.source_and_paths else {
            return WeakerProof {
                target,
                ..WeakerProof::default()
            };
        };

        let is_by_pods = paths
            .iter()
            .all(|path| evaluation.source(path.flow).is_on_pod_network());
        WeakerProof {
            target,
            source: weaker.source.clone().filter(|_| source.reached),
            path: weaker
                .paths
                .values()
                .next()
                .cloned()
                .filter(|_| !is_by_pods),
        }
    }

    /// The flow of another pod on the source's node that got through in the window.
    fn same_node_control(&self, window: Window) -> Option<FlowId> {
        let evaluation = self.evaluation;
        let source_node = evaluation.source(self.id).node()?;
        evaluation.target_controls(self.id).find(|control| {
            matches!(evaluation.source(*control), Source::Pod { node, .. } if node == source_node)
                && evaluation.opened_within(*control, self.blocked.stage, window)
        })
    }

    /// Whether each address that the source's probe dialled answered a control. A probe that
    /// resolves a name itself may get other addresses than its controls: silence of these proves
    /// nothing.
    fn resolved_to_answering_addresses(&self) -> Result<(), ConditionFailure> {
        if self.blocked.stage == Stage::Resolve {
            return Ok(());
        }
        let evidence = self.evaluation.evidence.flow(self.id);
        let unanswered = evidence
            .peers
            .keys()
            .find(|peer| !self.answered_a_control(peer));
        let detail = match unanswered {
            Some(peer) => format!("its name led to {peer}, where no control got an answer"),
            None if evidence.too_many_peers => {
                format!(
                    "its name led to more than {MAX_PEERS} addresses, which is as many as are watched"
                )
            }
            None => return Ok(()),
        };
        Err(self.target_does_not_answer(Reason::NoControlAnswered, detail))
    }

    fn answered_a_control(&self, peer: &IpAddr) -> bool {
        self.evaluation.target_controls(self.id).any(|control| {
            let peers = &self.evaluation.evidence.flow(control).peers;
            peers.get(peer).is_some_and(|answered| *answered)
        })
    }

    /// The failure without any control that got through: none answered, or each was refused by an
    /// enforcer that names itself.
    fn no_control_answered(&self) -> ConditionFailure {
        let controls: Vec<_> = self.evaluation.target_controls(self.id).collect();
        let all_refused = !controls.is_empty()
            && controls
                .iter()
                .all(|control| self.was_refused_by_an_enforcer(*control));
        if self.blocked.stage > Stage::Connect && all_refused {
            let detail = "every source, controls included, was refused in the same way".to_owned();
            return self.target_does_not_answer(Reason::AllControlsRefused, detail);
        }
        if self.blocked.stage == Stage::Resolve {
            let detail = "neither the source nor a control could resolve the name".to_owned();
            return self.target_does_not_answer(Reason::NameDidNotResolve, detail);
        }
        let detail = match controls.len() {
            0 => "no control could be sent to this target".to_owned(),
            1 => "the one control got no answer from this target".to_owned(),
            n => format!("none of {n} controls got an answer from this target"),
        };
        self.target_does_not_answer(Reason::NoControlAnswered, detail)
    }

    fn was_refused_by_an_enforcer(&self, control: FlowId) -> bool {
        match self.evaluation.evidence.flow(control).latest() {
            Some(Reading::Blocked(Block { signature, .. })) => signature.is_some(),
            Some(Reading::Open(_) | Reading::NotSent(_)) | None => false,
        }
    }

    /// The failure where only nodes got through, or pods on the target's own node, and the policies
    /// admit stronger controls.
    fn only_weak_controls(&self, interval: &ControlInterval) -> ConditionFailure {
        let by = self.evaluation.source(interval.flow);
        let detail = match self.strength_of(interval.flow) {
            ControlStrength::Node => format!(
                "{by} got through and no pod did, though the policies admit one: what a node can do says little about a pod"
            ),
            ControlStrength::NearbyPod | ControlStrength::Pod => format!(
                "{by} got through on the target's own node and no pod from another node did, though the policies admit one"
            ),
        };
        self.target_does_not_answer(Reason::NoPodGotThrough, detail)
    }

    fn deadline_too_short(&self, control_took: Duration, deadline: Duration) -> ConditionFailure {
        let detail =
            format!("the control took {control_took:?}, so a timeout of {deadline:?} is too short");
        self.target_does_not_answer(Reason::AttemptTimeoutTooShort, detail)
    }

    fn no_attempt_between_answers(&self) -> ConditionFailure {
        let detail = self.describe_too_few(0, Duration::ZERO);
        self.target_does_not_answer(Reason::TooFewAttempts, detail)
    }

    fn target_does_not_answer(&self, reason: Reason, detail: String) -> ConditionFailure {
        Condition::TargetAnswers.fails(self.id, reason, detail)
    }

    /// `end` is the end that no control reached at all, if it is that.
    fn no_path_control(&self, end: Option<&PathEnd>) -> ConditionFailure {
        let source = self.evaluation.source(self.id);
        let from = source
            .node()
            .map_or_else(|| source.to_string(), |node| format!("node {node}"));
        let to = end.map_or_else(
            || self.evaluation.plan.flow(self.id).target_kind.to_string(),
            ToString::to_string,
        );
        let load = self
            .source_and_path
            .as_ref()
            .and_then(|controls| controls.load);
        let control = match load {
            Some(load) => format!("no control with a request of {} octets", load.size),
            None => "no control".to_owned(),
        };
        let detail = format!("{control} got from {from} to {to} in the same window");
        Condition::PathOpen.fails(self.id, Reason::PathNotVerified, detail)
    }

    fn describe_too_few(&self, attempts: u32, length: Duration) -> String {
        format!(
            "{attempts} blocked attempts over {:.1} s between two answers of a control; {} over {:.1} s are needed",
            length.as_secs_f32(),
            self.watch.attempts,
            self.watch.hold.as_secs_f32(),
        )
    }
}
