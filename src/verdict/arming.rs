//! When a flow's samples begin to count: hello, arming, settle; and what a new source could reach before.

use super::relations::Case;
use crate::plan::{Check, FlowId, arms_towards};
use std::time::Duration;

/// From when on a flow's samples count, and over how long a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watch {
    /// Microseconds of the run: samples that surely started later count.
    pub(super) from: i64,
    /// From the first sample to the last.
    pub(super) hold: Duration,
    /// How many samples.
    pub(super) samples: u32,
}

impl Watch {
    /// Settle starts at the later of the hellos of all probes of the check and the arming. Where nothing armed the source
    /// it starts at the hellos, and the hold is longer.
    pub(super) fn of(case: Case<'_>, check: &Check, id: FlowId) -> Self {
        let hellos = check.flows.iter().filter_map(|flow| case.moment(*flow, 0)).map(|moment| moment.latest);
        let hellos = hellos.max().unwrap_or(i64::MIN);
        let settle = check.terms.settle.as_micros() as i64;
        let (began, hold) = match armed(case, id) {
            Armed::Always => (hellos, check.terms.hold),
            Armed::At(at) => (hellos.max(at), check.terms.hold),
            Armed::Never => (hellos, check.terms.unarmed_hold),
        };
        let (hold, samples) =
            if case.plan.flow(id).to.once { (Duration::ZERO, 1) } else { (hold, check.terms.samples) };
        Self { from: began.saturating_add(settle), hold, samples }
    }
}

/// Whether and when a source's labels were known where its packets are judged.
enum Armed {
    /// It was there before the run.
    Always,
    /// From a moment of the run on, at the latest.
    At(i64),
    /// Nothing shows it.
    Never,
}

fn armed(case: Case<'_>, id: FlowId) -> Armed {
    let of = case.plan.flow(id);
    if !case.plan.created.contains(&of.probe) {
        return Armed::Always;
    }
    let first_opening = |node: &String| {
        let flows = case.plan.arming.get(&(of.probe, node.clone()))?;
        let openings = flows.iter().filter_map(|flow| {
            let opened = case.evidence.flow(*flow).first_open.as_ref()?;
            Some(case.moment(*flow, opened.start)?.latest)
        });
        openings.min()
    };
    let nodes = arms_towards(&of.party).unwrap_or_default();
    let all: Option<Vec<i64>> = nodes.iter().map(first_opening).collect();
    all.and_then(|all| all.into_iter().max()).map_or(Armed::Never, Armed::At)
}

/// What a source that this run created could reach of what it must not.
pub(super) enum Startup {
    /// From its first attempt on, without a break, and never again: for so long at the most.
    Leaked(Duration),
    /// It still does, and may for a while.
    Leaking,
    /// No such thing: what opened, opened.
    Opened,
}

/// Reads the openings of a denied flow.
pub(super) fn startup(case: Case<'_>, check: &Check, id: FlowId) -> Startup {
    let seen = case.evidence.flow(id);
    let (Some(first), true) = (&seen.first_open, case.plan.created.contains(&case.plan.flow(id).probe)) else {
        return Startup::Opened;
    };
    let grace = case.evidence.canary.map_or(check.terms.grace, |canary| canary * 3);
    let since = |end: u64| Duration::from_micros(end.saturating_sub(first.start));
    // A probe's time begins with its pod's. What is tried late, or only once, is no part of a start that is over.
    let within_grace = |at: u64| Duration::from_micros(at) <= grace;
    let unbroken = seen.opened == seen.from_the_start.openings && !check.terms.startup_isolated;
    match seen.from_the_start.ended {
        Some(end) if unbroken && within_grace(end) => Startup::Leaked(since(end)),
        None if unbroken && seen.streaks.last().is_some_and(|last| within_grace(last.last())) => Startup::Leaking,
        Some(_) | None => Startup::Opened,
    }
}
