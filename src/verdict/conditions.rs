//! Conditions 3 and 4: the source was able, the path was open.

use super::deny::{BlockedSuffix, Shortfall};
use super::moment::Moment;
use super::proof::{PathProof, SourceProof, Window};
use super::reason::Reason;
use super::relations::Case;
use super::streak::Streak;
use super::timeline::OPENINGS_IN_A_ROW;
use crate::plan::{FlowId, Path, PathEnd};
use crate::wire::Stage;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Condition 3: when the source is known to have been able, first and last.
pub(super) struct Ability {
    first: Option<(Moment, FlowId)>,
    last: Option<(Moment, FlowId)>,
    reached: bool,
}

impl Ability {
    pub(super) fn of(case: Case<'_>, id: FlowId) -> Self {
        let none = Self {
            first: None,
            last: None,
            reached: false,
        };
        let Some(able) = case.able(id) else {
            return none;
        };
        let own = able
            .allowed
            .iter()
            .chain(&able.tried)
            .filter(|flow| **flow != id);
        // What the suite expects to be allowed and is not would be an excuse for looking less
        // closely.
        if able.allowed.iter().any(|flow| *flow != id) {
            return Self::among(case, own);
        }
        // A new pod may have got out before it was known; from then on only its node tells.
        let this = Self::among(case, own.chain(&able.reached));
        let is_reach = |end: Option<(Moment, FlowId)>| {
            end.is_some_and(|(_, flow)| able.reached.contains(&flow))
        };
        Self {
            reached: is_reach(this.first) || is_reach(this.last),
            ..this
        }
    }

    fn among<'f>(case: Case<'_>, flows: impl Iterator<Item = &'f FlowId>) -> Self {
        let mut this = Self {
            first: None,
            last: None,
            reached: false,
        };
        for flow in flows {
            for (first, last, _) in case.openings(*flow, Stage::Resolve) {
                if this
                    .first
                    .is_none_or(|(moment, _)| first.latest < moment.latest)
                {
                    this.first = Some((first, *flow));
                }
                if this
                    .last
                    .is_none_or(|(moment, _)| last.earliest > moment.earliest)
                {
                    this.last = Some((last, *flow));
                }
            }
        }
        this
    }

    /// The part of the samples before and after which the source opened something.
    pub(super) fn narrow(
        &self,
        blocked: &BlockedSuffix<'_>,
        inside: impl Fn(Moment) -> bool,
    ) -> Option<(Window, SourceProof)> {
        let (first, before) = self.first?;
        let (last, after) = self.last?;
        let window = blocked
            .window(|moment| inside(moment) && first.surely_by(moment) && moment.surely_by(last))?;
        Some((
            window,
            SourceProof {
                before,
                after,
                reached: self.reached,
            },
        ))
    }

    pub(super) fn shortfall(&self, case: Case<'_>, id: FlowId) -> Shortfall {
        let source = case.plan.vantage(case.plan.flow(id).probe);
        let detail = match self.first {
            None => format!("{source} opened nothing else in the same way"),
            Some(_) => {
                format!("{source} did not open anything both before and after these samples")
            }
        };
        (Reason::SourceNotAble, detail)
    }
}

/// Condition 4: from when to when something crossed, without a failure and without a long pause.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crossing {
    flow: FlowId,
    first: Moment,
    last: Moment,
}

impl Crossing {
    pub(super) fn spans(&self, moment: Moment) -> bool {
        self.first.surely_by(moment) && moment.surely_by(self.last)
    }

    pub(super) fn proof(&self) -> PathProof {
        PathProof { flow: self.flow }
    }
}

/// For each end of the flow's paths, the longest time in which a flow crossed: one crossing at the
/// start of the window would say nothing of a path that was cut after it.
///
/// # Errors
/// An end that nothing reached.
pub(super) fn crossings(case: Case<'_>, id: FlowId) -> Result<Vec<Crossing>, PathEnd> {
    case.paths(id)
        .into_iter()
        .map(|path| case.crossed.longest(case, &path, id).ok_or(path.to))
        .collect()
}

/// The longest crossings of each path that was asked for, while the evidence stands still: a run
/// has few paths, and each is asked for by thousands of flows.
#[derive(Debug, Default)]
pub(super) struct Crossed(RefCell<BTreeMap<Path, [Option<Crossing>; 2]>>);

impl Crossed {
    /// The longest crossing of a path by a flow other than `id`.
    fn longest(&self, case: Case<'_>, path: &Path, id: FlowId) -> Option<Crossing> {
        let mut known = self.0.borrow_mut();
        let two = match known.get(path) {
            Some(two) => *two,
            None => *known.entry(path.clone()).or_insert(longest_two(case, path)),
        };
        two.into_iter()
            .flatten()
            .find(|crossing| crossing.flow != id)
    }
}

/// The longest crossing of a path, and the longest by another flow than that.
fn longest_two(case: Case<'_>, path: &Path) -> [Option<Crossing>; 2] {
    let takers = case.plan.paths.get(path).map_or(&[][..], Vec::as_slice);
    let length = |crossing: &Crossing| crossing.last.earliest - crossing.first.latest;
    let longest = takers.iter().filter_map(|flow| {
        let own = case
            .openings(*flow, Stage::Resolve)
            .map(|(first, last, _)| Crossing {
                flow: *flow,
                first,
                last,
            });
        own.max_by_key(length)
    });
    longest.fold([None, None], |[best, second], next| {
        let beats =
            |other: Option<Crossing>| other.is_none_or(|other| length(&next) >= length(&other));
        match (beats(best), beats(second)) {
            (true, _) => [Some(next), best],
            (false, true) => [best, Some(next)],
            (false, false) => [best, second],
        }
    })
}

/// `to` is the end that nothing reached at all, if it is that.
pub(super) fn nothing_crossed(case: Case<'_>, id: FlowId, to: Option<&PathEnd>) -> Shortfall {
    let flow = case.plan.flow(id);
    let source = case.plan.vantage(flow.probe);
    let from = source
        .node()
        .map_or_else(|| source.to_string(), |node| format!("node {node}"));
    let to = to.map_or_else(|| flow.party.to_string(), ToString::to_string);
    (
        Reason::NothingCrossed,
        format!("nothing got from {from} to {to} meanwhile"),
    )
}

/// Whether a flow opened, at least up to `stage`, surely within a window.
pub(super) fn opened_within(case: Case<'_>, id: FlowId, stage: Stage, window: Window) -> bool {
    case.openings(id, stage)
        .any(|streak| is_within(case, id, streak, window))
}

/// Whether a flow passed `stage`, whatever became of it after, surely within a window.
pub(super) fn passed_within(case: Case<'_>, id: FlowId, stage: Stage, window: Window) -> bool {
    case.passings(id, stage)
        .any(|streak| is_within(case, id, streak, window))
}

fn is_within(
    case: Case<'_>,
    id: FlowId,
    (first, last, streak): (Moment, Moment, &Streak),
    window: Window,
) -> bool {
    let throughout = first.surely_by(window.from)
        && window.to.surely_by(last)
        && streak.count >= OPENINGS_IN_A_ROW;
    let mut moments = streak
        .points()
        .iter()
        .filter_map(|(own, _)| case.moment(id, *own));
    throughout || moments.any(|moment| window.from.surely_by(moment) && moment.surely_by(window.to))
}
