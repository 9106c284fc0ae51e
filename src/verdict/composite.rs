//! Condition 2 for a Service that no single sender is sure to get through to.
//!
//! What must not be mistaken for a deny, and what excludes it:
//!
//! - *the Service's port is wrong, or nothing is behind it*: then no node gets through;
//! - *a pod behind it is dead*: then that pod's own node fails;
//! - *the Service came and went*: openings are never more than two seconds apart, over all nodes
//!   together;
//! - *the source's node does not know the Service*: where that node has a pod of it, it must have
//!   got through itself; elsewhere condition 4 asks for another Service's address from there.
//!
//! Failures through the Service are excused, and only there: a node reaches its own pods by right,
//! and no other's.

use super::control::Stretch;
use super::moment::Moment;
use super::relations::Case;
use super::streak::MAX_GAP_US;
use crate::plan::{Composite, FlowId};
use crate::wire::Stage;

/// An opening through the Service.
#[derive(Debug, Clone, Copy)]
struct Through {
    flow: FlowId,
    at: Moment,
}

/// Every stretch in which the target of a flow was alive by what its composite shows; none where it
/// has none.
pub(super) fn stretches(case: Case<'_>, id: FlowId, stage: Stage) -> Vec<Stretch> {
    let Some(composite) = case.plan.composites.get(&case.plan.flow(id).to) else {
        return Vec::new();
    };
    let chains = chains(case, composite, id, stage);
    chains
        .into_iter()
        .filter_map(|chain| stretch(case, composite, id, stage, &chain))
        .collect()
}

/// Openings through the Service by anybody but the source, as long as they are at most two seconds
/// apart.
fn chains(case: Case<'_>, composite: &Composite, id: FlowId, stage: Stage) -> Vec<Vec<Through>> {
    let mut all: Vec<Through> = Vec::new();
    for flow in composite
        .through
        .iter()
        .copied()
        .filter(|flow| !is_same_source(case, *flow, id))
    {
        let failed_at = case
            .evidence
            .probe(case.plan.flow(flow).probe)
            .failure
            .as_ref()
            .map(|(at, _)| *at);
        let openings = case
            .evidence
            .flow(flow)
            .openings
            .iter()
            .flat_map(|openings| openings.passed(stage));
        let intact = openings.filter(|own| failed_at.is_none_or(|at| *own <= at));
        all.extend(intact.filter_map(|own| {
            Some(Through {
                flow,
                at: case.moment(flow, own)?,
            })
        }));
    }
    all.sort_by_key(|through| (through.at.earliest, through.at.latest));
    let mut chains: Vec<Vec<Through>> = Vec::new();
    for next in all {
        match chains.last_mut() {
            Some(chain) if chain.last().is_some_and(|last| is_soon(case, *last, next)) => {
                chain.push(next)
            }
            Some(_) | None => chains.push(vec![next]),
        }
    }
    chains
}

/// Whether an opening surely came within two seconds of another.
fn is_soon(case: Case<'_>, last: Through, next: Through) -> bool {
    let one_clock = case.plan.flow(last.flow).probe == case.plan.flow(next.flow).probe;
    let latest = if one_clock {
        next.at.earliest
    } else {
        next.at.latest
    };
    latest - last.at.earliest <= MAX_GAP_US as i64
}

/// The part of a chain in which everything else holds.
fn stretch(
    case: Case<'_>,
    composite: &Composite,
    id: FlowId,
    stage: Stage,
    chain: &[Through],
) -> Option<Stretch> {
    let (start, end) = (chain.first()?, chain.last()?);
    let mut this = Stretch {
        flow: start.flow,
        with: Vec::new(),
        first: start.at,
        last: end.at,
        slowest: case.evidence.flow(start.flow).openings.as_ref()?.slowest(),
        openings: u32::try_from(chain.len()).unwrap_or(u32::MAX),
        only: None,
    };
    for backend in &composite.backends {
        // Of several times in which a pod was alive, the one that leaves most of the stretch.
        let times = case.passings(*backend, stage);
        let (first, last, streak) = times.max_by_key(|(first, last, _)| {
            last.earliest.min(this.last.earliest) - first.latest.max(this.first.latest)
        })?;
        this.first = if first.latest > this.first.latest {
            first
        } else {
            this.first
        };
        this.last = if last.earliest < this.last.earliest {
            last
        } else {
            this.last
        };
        this.slowest = this.slowest.max(streak.slowest);
        this.with.push(*backend);
    }
    let inside =
        |through: &&Through| this.first.surely_by(through.at) && through.at.surely_by(this.last);
    for flow in composite
        .through
        .iter()
        .copied()
        .filter(|flow| !is_same_source(case, *flow, id))
    {
        if let Some(openings) = chain
            .iter()
            .filter(inside)
            .find(|through| through.flow == flow)
        {
            this.slowest = this.slowest.max(
                case.evidence
                    .flow(openings.flow)
                    .openings
                    .as_ref()?
                    .slowest(),
            );
            this.with.push(flow);
        } else if node_of(case, flow).is_some_and(|node| node_of(case, id) == Some(node)) {
            return None;
        }
    }
    this.with.retain(|flow| *flow != this.flow);
    Some(this)
}

fn is_same_source(case: Case<'_>, one: FlowId, other: FlowId) -> bool {
    let probe = |flow: FlowId| case.plan.flow(flow).probe;
    probe(one) == probe(other) || case.plan.vantage(probe(one)) == case.plan.vantage(probe(other))
}

fn node_of(case: Case<'_>, flow: FlowId) -> Option<&str> {
    case.plan.vantage(case.plan.flow(flow).probe).node()
}
