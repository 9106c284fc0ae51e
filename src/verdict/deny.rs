//! When a deny is proven: five conditions, on every flow.
//!
//! 1. *Blocked throughout*: enough samples over the hold, all blocked, none open until the probe stopped.
//! 2. *The target was alive*: somebody else passed the stage at which these samples were blocked, just before the
//!    first and just after the last of them, and never more than two seconds apart between.
//! 3. *The source was able*: the same probe opened something in the same way before and after.
//! 4. *The path was open*: some flow crossed from the source's node to the target's, all through the same window.
//! 5. *Nothing relevant changed* while the flow was watched.

use super::evidence::{EnforcerRecord, FlowEvidence, Moment, OPENINGS_IN_A_ROW, Outcome, StageTimes, Streak};
use super::reading::{Block, Reading, Refusal, Signature};
use super::reason::Reason;
use super::relations::Case;
use super::{FlowVerdict, Unproven, Violation};
use crate::plan::{FlowId, REQUEST_DEADLINE, RESOLVE_DEADLINE, TLS_DEADLINE, Terms, Vantage};
use crate::suite::{Demand, Mechanism};
use crate::wire::{FaultReason, How, Stage, Transport};
use std::time::Duration;

/// How soon after an opening a replacement of either pod may be noticed for the opening to count as the new pod's.
const NOTICE_US: i64 = 2_000_000;

/// The stretch of blocked samples that a proof rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Start of the first sample, run's clock.
    pub from: Moment,
    /// Start of the last sample.
    pub to: Moment,
    /// How many samples, all blocked.
    pub samples: u32,
}

impl Window {
    /// From the first start to the last, at the least.
    pub fn length(self) -> Duration {
        Duration::from_micros(u64::try_from(self.to.earliest - self.from.latest).unwrap_or(0))
    }

    /// The least share of attempts, in percent, at which a leak would have shown with 95 % probability.
    pub fn power_percent(self) -> u32 {
        let missed = 0.05_f64.powf(1.0 / f64::from(self.samples.max(1)));
        ((1.0 - missed) * 100.0).ceil() as u32
    }
}

/// Somebody else got through to the same address and port around and throughout a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlProof {
    flow: FlowId,
    openings: u32,
    slowest: StageTimes,
}

impl ControlProof {
    /// Condition 2. `streak` has no pause above two seconds, by construction.
    fn new(window: Window, flow: FlowId, first: Moment, last: Moment, streak: &Streak) -> Option<Self> {
        let around = first.surely_by(window.from) && window.to.surely_by(last);
        around.then_some(Self { flow, openings: streak.count, slowest: streak.slowest })
    }

    /// The flow that got through.
    pub fn flow(&self) -> FlowId {
        self.flow
    }

    /// How many of its attempts opened in a row.
    pub fn openings(&self) -> u32 {
        self.openings
    }
}

/// The source opened something else before and after a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceProof {
    before: FlowId,
    after: FlowId,
    reached: bool,
}

impl SourceProof {
    /// What opened before the window, and what after.
    pub fn flows(&self) -> (FlowId, FlowId) {
        (self.before, self.after)
    }

    /// Whether it is the node that reached the source, since nothing is allowed to it.
    pub fn by_being_reached(&self) -> bool {
        self.reached
    }
}

/// A flow crossed between the two nodes within a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathProof {
    flow: FlowId,
}

impl PathProof {
    /// The flow that crossed.
    pub fn flow(&self) -> FlowId {
        self.flow
    }
}

/// How much stands behind a proven deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DenyTier {
    /// Whether all five conditions hold (D2), or only 1, 2 and 5 (D1).
    pub all_five: bool,
    /// Whether a pod on the same node with other labels got through.
    pub twin: bool,
    /// Whether the enforcer's own count shows these packets.
    pub record: bool,
}

impl DenyTier {
    /// Whether it is at least what is demanded.
    pub fn meets(self, demand: Demand) -> bool {
        match demand {
            Demand::D1 => true,
            Demand::D2 => self.all_five,
            Demand::D2Twin => self.all_five && self.twin,
            Demand::D2Record => self.all_five && self.record,
            // An allow's tier says nothing about a deny; the suite's reader refuses it.
            Demand::A0 | Demand::A1 | Demand::A2 | Demand::A3 => false,
        }
    }

    /// What two flows of one check have in common.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            all_five: self.all_five && other.all_five,
            twin: self.twin && other.twin,
            record: self.record && other.record,
        }
    }
}

impl std::fmt::Display for DenyTier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.all_five { "D2" } else { "D1" })?;
        f.write_str(if self.twin { "+twin" } else { "" })?;
        f.write_str(if self.record { "+record" } else { "" })
    }
}

/// Why one flow's deny is proven. It cannot exist without a control.
#[derive(Debug, Clone, PartialEq)]
pub struct DenyProof {
    window: Window,
    control: ControlProof,
    source: Option<SourceProof>,
    paths: Option<Vec<PathProof>>,
    twin: Option<FlowId>,
    record: Option<EnforcerRecord>,
    block: Block,
}

impl DenyProof {
    /// The samples.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Who got through.
    pub fn control(&self) -> &ControlProof {
        &self.control
    }

    /// What the source opened.
    pub fn source(&self) -> Option<&SourceProof> {
        self.source.as_ref()
    }

    /// What crossed.
    pub fn paths(&self) -> Option<&[PathProof]> {
        self.paths.as_deref()
    }

    /// Who got through from the same node.
    pub fn twin(&self) -> Option<FlowId> {
        self.twin
    }

    /// The enforcer's own count.
    pub fn record(&self) -> Option<&EnforcerRecord> {
        self.record.as_ref()
    }

    /// How the samples were blocked, the last time.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Its tier.
    pub fn tier(&self) -> DenyTier {
        DenyTier {
            all_five: self.source.is_some() && self.paths.is_some(),
            twin: self.twin.is_some(),
            record: self.record.as_ref().is_some_and(|record| record.packets >= u64::from(self.window.samples)),
        }
    }
}

/// Judges a denied flow.
pub(super) fn judge_denied(case: Case<'_>, terms: &Terms, id: FlowId) -> FlowVerdict {
    let seen = case.evidence.flow(id);
    if let Some(first) = &seen.first_open {
        return opened(case, id, seen, first);
    }
    if let Some(unproven) = unusable(case, id) {
        return FlowVerdict::Unproven(unproven);
    }
    let unproven =
        |reason, detail: String| FlowVerdict::Unproven(Unproven { reason, detail, flow: Some(id), open: true });
    let blocked = match BlockedSuffix::of(case, id, seen) {
        Ok(blocked) => blocked,
        Err((reason, detail)) => return unproven(reason, detail),
    };
    match blocked.prove(case, terms, id) {
        Ok(proof) if !proof.tier().meets(terms.demand) => unproven(
            Reason::DemandNotMet,
            format!("proven at {}, the line demands {}", proof.tier(), describe_demand(terms.demand)),
        ),
        Ok(proof) if terms.mechanism.is_some_and(|kind| !is_kind(kind, &proof.block)) => {
            unproven(Reason::DemandNotMet, "it is blocked by another mechanism than the line demands".into())
        }
        Ok(proof) => FlowVerdict::Denied(proof),
        Err((reason, detail)) => unproven(reason, detail),
    }
}

/// An opening of a denied flow: once is enough, provided that the two pods were still the planned ones.
fn opened(case: Case<'_>, id: FlowId, seen: &FlowEvidence, first: &super::Opened) -> FlowVerdict {
    let replaced = case.moment(id, first.start).and_then(|at| {
        case.replacements(id).find(|change| change.at <= at.latest + NOTICE_US).map(|change| change.what.to_string())
    });
    match replaced {
        None => FlowVerdict::Violated(Violation::Opened {
            flow: id,
            first: first.clone(),
            opened: seen.opened,
            attempts: seen.attempts,
        }),
        Some(what) => FlowVerdict::Unproven(Unproven {
            reason: Reason::ChangedUnderUs,
            detail: format!("it opened, but {what} changed around that time: somebody else may have answered"),
            flow: Some(id),
            open: false,
        }),
    }
}

/// What makes a flow's evidence unusable whatever it shows: no samples, a failed probe, a relevant change (condition 5).
pub(super) fn unusable(case: Case<'_>, id: FlowId) -> Option<Unproven> {
    let probe = case.evidence.probe(case.plan.flow(id).probe);
    let seen = case.evidence.flow(id);
    let unproven = |reason, detail: String, open| Some(Unproven { reason, detail, flow: Some(id), open });
    if let Some((_, failure)) = &probe.failure {
        let reason = match failure {
            super::ProbeFailure::Stalled(_) => Reason::Starved,
            super::ProbeFailure::Clocks(_) => Reason::Clocks,
            super::ProbeFailure::Ended(_) | super::ProbeFailure::Protocol(_) | super::ProbeFailure::Reported { .. } => {
                Reason::ProbeFault
            }
        };
        return unproven(reason, failure.to_string(), false);
    }
    if let Some(change) = case.disturbances(id).next() {
        return unproven(Reason::ChangedUnderUs, format!("{} changed during the run", change.what), false);
    }
    if seen.attempts == 0 {
        return unproven(Reason::NotSampled, "no sample arrived".into(), !probe.stopped);
    }
    None
}

type Shortfall = (Reason, String);

/// The blocked samples at the end of a flow's evidence.
struct BlockedSuffix<'a> {
    /// Known starts, with the number of the sample, counted from the first of the suffix.
    points: Vec<(Moment, u32)>,
    /// The highest stage at which one of them was blocked: a control must have passed it.
    stage: Stage,
    block: &'a Block,
}

impl<'a> BlockedSuffix<'a> {
    /// Condition 1, first half: everything from some sample on is blocked.
    fn of(case: Case<'_>, id: FlowId, seen: &'a FlowEvidence) -> Result<Self, Shortfall> {
        let from = seen.streaks.iter().rposition(|streak| !streak.is_blocked()).map_or(0, |last| last + 1);
        let suffix = &seen.streaks[from..];
        let Some(Outcome::Read(Reading::Blocked(block))) = suffix.last().map(|streak| &streak.outcome) else {
            return Err(match seen.streaks.last().map(|streak| &streak.outcome) {
                Some(Outcome::Read(Reading::NotSent(stop))) => (
                    Reason::CouldNotSend,
                    format!("the attempts did not leave the source: {}", describe_how(&stop.how)),
                ),
                Some(Outcome::Fault(FaultReason::Starved)) => {
                    (Reason::Starved, "the probe's timer lagged by more than 100 ms".into())
                }
                Some(Outcome::Fault(_)) => (Reason::ProbeFault, "the probe could not carry out the attempts".into()),
                _ => (Reason::NotSampled, "no sample arrived".into()),
            });
        };
        let mut points = Vec::new();
        let mut before = 0;
        let mut stage = block.stage;
        for streak in suffix {
            if let Outcome::Read(Reading::Blocked(block)) = &streak.outcome {
                stage = stage.max(block.stage);
            }
            points.extend(streak.points().iter().filter_map(|(own, nth)| Some((case.moment(id, *own)?, before + nth))));
            before += streak.count;
        }
        Ok(Self { points, stage, block })
    }

    /// Conditions 1 to 4: the window with the most samples for which all hold, or the condition that failed last.
    fn prove(&self, case: Case<'_>, terms: &Terms, id: FlowId) -> Result<DenyProof, Shortfall> {
        let strict = terms.demand != Demand::D1;
        let able = Ability::of(case, id);
        let crossings = if strict { crossings(case, id) } else { None };
        let mut best: Option<DenyProof> = None;
        let mut shortfall: Option<Shortfall> = None;
        let mut note = |rank: usize, found: Shortfall, at: &mut usize| {
            if rank >= *at {
                *at = rank;
                shortfall = Some(found);
            }
        };
        let mut rank = 0;
        note(0, self.nobody(case, id), &mut rank);
        for voucher in case.vouchers_for(id, self.stage) {
            for (first, last, streak) in case.openings(voucher, self.stage) {
                let inside = |moment: Moment| first.surely_by(moment) && moment.surely_by(last);
                let Some(widest) = self.window(inside) else {
                    note(1, too_few(0, Duration::ZERO, terms), &mut rank);
                    continue;
                };
                let (window, source) = if strict {
                    match able.narrow(self, inside) {
                        Some((window, source)) => (window, Some(source)),
                        None => {
                            note(2, able.shortfall(case, id), &mut rank);
                            continue;
                        }
                    }
                } else {
                    (widest, None)
                };
                if window.samples < terms.samples || window.length() < terms.hold {
                    note(3, too_few(window.samples, window.length(), terms), &mut rank);
                    continue;
                }
                let Some(control) = ControlProof::new(window, voucher, first, last, streak) else { continue };
                let (took, deadline) = (control.slowest.at(self.stage), deadline(case, terms, id, self.stage));
                if took * 10 > deadline {
                    let slow = format!("the control took {took:?}, so a deadline of {deadline:?} is too short");
                    note(3, (Reason::DeadlineTooShort, slow), &mut rank);
                    continue;
                }
                let (window, paths) = if strict {
                    let crossed = crossings.as_ref().and_then(|crossings| {
                        let open = |moment| inside(moment) && crossings.iter().all(|crossing| crossing.spans(moment));
                        let (window, _) = able.narrow(self, open)?;
                        (window.samples >= terms.samples && window.length() >= terms.hold).then_some(window)
                    });
                    let Some(window) = crossed else {
                        note(4, nothing_crossed(case, id), &mut rank);
                        continue;
                    };
                    (window, crossings.as_deref().map(|crossings| crossings.iter().map(Crossing::proof).collect()))
                } else {
                    (window, None)
                };
                if best.as_ref().is_none_or(|proof| proof.window.samples < window.samples) {
                    let twin = self.twin(case, id, window);
                    let record = case.evidence.records.get(&id).cloned();
                    best = Some(DenyProof { window, control, source, paths, twin, record, block: self.block.clone() });
                }
            }
        }
        best.ok_or_else(|| shortfall.unwrap_or_else(|| self.nobody(case, id)))
    }

    /// The samples whose start satisfies `inside`.
    fn window(&self, inside: impl Fn(Moment) -> bool) -> Option<Window> {
        let mut points = self.points.iter().filter(|(moment, _)| inside(*moment));
        let &(from, first) = points.next()?;
        let (to, last) = points.last().copied().unwrap_or((from, first));
        Some(Window { from, to, samples: last - first + 1 })
    }

    /// A pod on the source's node, not the source, that got through in the window.
    fn twin(&self, case: Case<'_>, id: FlowId, window: Window) -> Option<FlowId> {
        let node = case.plan.vantage(case.plan.flow(id).probe).node()?;
        case.vouchers(id).find(|voucher| {
            let vantage = case.plan.vantage(case.plan.flow(*voucher).probe);
            matches!(vantage, Vantage::Pod { node: at, .. } if at == node)
                && opened_within(case, *voucher, self.stage, window)
        })
    }

    /// Why there is no control at all: nobody answered, or everybody was refused by a layer that names itself.
    fn nobody(&self, case: Case<'_>, id: FlowId) -> Shortfall {
        let refused_by = |voucher: FlowId| match case.evidence.flow(voucher).latest() {
            Some(Reading::Blocked(Block { signature, .. })) => *signature,
            Some(Reading::Open(_) | Reading::NotSent(_)) | None => None,
        };
        let vouchers: Vec<_> = case.vouchers(id).collect();
        if self.stage > Stage::Connect
            && !vouchers.is_empty()
            && vouchers.iter().all(|voucher| refused_by(*voucher).is_some())
        {
            return (Reason::EveryoneRefused, "everybody who tried this target was refused alike".into());
        }
        if self.stage == Stage::Resolve {
            return (Reason::NameDidNotResolve, "the name did not resolve, for anybody".into());
        }
        let tried = match vouchers.len() {
            0 => "nobody else could be sent to this target".to_owned(),
            1 => "the one control got no answer from this target".to_owned(),
            n => format!("none of {n} controls got an answer from this target"),
        };
        (Reason::NoControlAnswered, tried)
    }
}

fn too_few(samples: u32, length: Duration, terms: &Terms) -> Shortfall {
    let detail = format!(
        "{samples} blocked samples over {:.1} s between two answers of a control; {} over {:.1} s are needed",
        length.as_secs_f32(),
        terms.samples,
        terms.hold.as_secs_f32(),
    );
    (Reason::TooFewSamples, detail)
}

/// How long a stage was waited for: a control must be ten times faster, or silence may only be slowness.
fn deadline(case: Case<'_>, terms: &Terms, id: FlowId, stage: Stage) -> Duration {
    let udp = case.plan.flow(id).to.transport == Transport::Udp;
    match stage {
        Stage::Resolve => RESOLVE_DEADLINE,
        Stage::Connect => terms.deadline,
        Stage::FirstBytes if udp => terms.deadline,
        Stage::Tls => TLS_DEADLINE.max(terms.deadline),
        Stage::FirstBytes | Stage::Request => REQUEST_DEADLINE,
    }
}

/// Condition 3: when the source is known to have been able, first and last.
struct Ability {
    first: Option<(Moment, FlowId)>,
    last: Option<(Moment, FlowId)>,
    reached: bool,
}

impl Ability {
    fn of(case: Case<'_>, id: FlowId) -> Self {
        let none = Self { first: None, last: None, reached: false };
        let Some(able) = case.able(id) else { return none };
        let own = Self::among(case, able.allowed.iter().chain(&able.tried).filter(|flow| **flow != id));
        // What the suite expects to be allowed and is not would be an excuse for looking less closely.
        let nothing_allowed = able.allowed.iter().all(|flow| *flow == id);
        if own.first.is_none() && nothing_allowed {
            return Self { reached: true, ..Self::among(case, able.reached.iter()) };
        }
        own
    }

    fn among<'f>(case: Case<'_>, flows: impl Iterator<Item = &'f FlowId>) -> Self {
        let mut this = Self { first: None, last: None, reached: false };
        for flow in flows {
            for (first, last, _) in case.openings(*flow, Stage::Resolve) {
                if this.first.is_none_or(|(moment, _)| first.latest < moment.latest) {
                    this.first = Some((first, *flow));
                }
                if this.last.is_none_or(|(moment, _)| last.earliest > moment.earliest) {
                    this.last = Some((last, *flow));
                }
            }
        }
        this
    }

    /// The part of the samples before and after which the source opened something.
    fn narrow(&self, blocked: &BlockedSuffix<'_>, inside: impl Fn(Moment) -> bool) -> Option<(Window, SourceProof)> {
        let (first, before) = self.first?;
        let (last, after) = self.last?;
        let window = blocked.window(|moment| inside(moment) && first.surely_by(moment) && moment.surely_by(last))?;
        Some((window, SourceProof { before, after, reached: self.reached }))
    }

    fn shortfall(&self, case: Case<'_>, id: FlowId) -> Shortfall {
        let source = case.plan.vantage(case.plan.flow(id).probe);
        let detail = match self.first {
            None => format!("{source} opened nothing else in the same way"),
            Some(_) => format!("{source} did not open anything both before and after these samples"),
        };
        (Reason::SourceNotAble, detail)
    }
}

/// Condition 4: from when to when something crossed, without a failure and without a long pause.
struct Crossing {
    flow: FlowId,
    first: Moment,
    last: Moment,
}

impl Crossing {
    fn spans(&self, moment: Moment) -> bool {
        self.first.surely_by(moment) && moment.surely_by(self.last)
    }

    fn proof(&self) -> PathProof {
        PathProof { flow: self.flow }
    }
}

/// For each node that the flow may reach, the longest time in which a flow crossed: one crossing at the start of the
/// window would say nothing of a path that was cut after it.
fn crossings(case: Case<'_>, id: FlowId) -> Option<Vec<Crossing>> {
    let paths = case.paths(id);
    if paths.is_empty() {
        return None;
    }
    let longest = |path| {
        let takers = case.plan.paths.get(path)?.iter().copied().filter(|taker| *taker != id);
        let crossings = takers.flat_map(|flow| {
            case.openings(flow, Stage::Resolve).map(move |(first, last, _)| Crossing { flow, first, last })
        });
        crossings.max_by_key(|crossing| crossing.last.earliest - crossing.first.latest)
    };
    paths.iter().map(longest).collect()
}

fn nothing_crossed(case: Case<'_>, id: FlowId) -> Shortfall {
    let flow = case.plan.flow(id);
    let detail = format!("nothing got from {} to {} meanwhile", case.plan.vantage(flow.probe), flow.party);
    (Reason::NothingCrossed, detail)
}

/// Whether a flow opened, at least up to `stage`, surely within a window.
pub(super) fn opened_within(case: Case<'_>, id: FlowId, stage: Stage, window: Window) -> bool {
    case.openings(id, stage).any(|(first, last, streak)| {
        let throughout = first.surely_by(window.from) && window.to.surely_by(last) && streak.count >= OPENINGS_IN_A_ROW;
        throughout
            || streak
                .points()
                .iter()
                .filter_map(|(own, _)| case.moment(id, *own))
                .any(|moment| window.from.surely_by(moment) && moment.surely_by(window.to))
    })
}

fn is_kind(kind: Mechanism, block: &Block) -> bool {
    match (&block.how, kind) {
        (Refusal::Wire(How::Silence), Mechanism::Drop)
        | (Refusal::Wire(How::Error { icmp: Some(_), .. }), Mechanism::Icmp) => true,
        (Refusal::Wire(How::Error { icmp: None, .. }), Mechanism::Reset) => true,
        (_, Mechanism::Signature) => block.signature.is_some_and(|signature| signature != Signature::IcmpProhibited),
        _ => false,
    }
}

pub(super) fn describe_demand(demand: Demand) -> &'static str {
    match demand {
        Demand::D1 => "D1",
        Demand::D2 => "D2",
        Demand::D2Twin => "D2+twin",
        Demand::D2Record => "D2+record",
        Demand::A0 => "A0",
        Demand::A1 => "A1",
        Demand::A2 => "A2",
        Demand::A3 => "A3",
    }
}

/// What was seen, in words.
pub fn describe_how(how: &How) -> String {
    match how {
        How::Silence => "no answer".into(),
        How::Error { icmp: Some(icmp), .. } => {
            let protocol = if icmp.v6 { "ICMPv6" } else { "ICMP" };
            let from = icmp.offender.map_or(String::new(), |offender| format!(" from {offender}"));
            format!("{protocol} {}/{}{from}", icmp.ty, icmp.code)
        }
        How::Error { errno: 111, icmp: None } => "refused (RST)".into(),
        How::Error { errno: 104, icmp: None } => "reset (RST)".into(),
        How::Error { errno, icmp: None } => format!("error {errno}"),
        How::Closed => "closed by the other side".into(),
        How::Alert { code } => format!("TLS alert {code}"),
        How::Rcode { code } => format!("DNS response code {code}"),
        How::Garbled { what } => format!("not the protocol asked for: {what}"),
    }
}
