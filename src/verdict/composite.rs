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

use super::control::ControlInterval;
use super::controls::Evaluation;
use super::moment::Moment;
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
pub(super) fn control_intervals(
    evaluation: Evaluation<'_>,
    id: FlowId,
    stage: Stage,
) -> Vec<ControlInterval> {
    let Some(composite) = evaluation
        .plan
        .composites()
        .get(&evaluation.plan.flow(id).to)
    else {
        return Vec::new();
    };
    let chains = chains(evaluation, composite, id, stage);
    chains
        .into_iter()
        .filter_map(|chain| control_interval(evaluation, composite, id, stage, &chain))
        .collect()
}

/// Openings through the Service by anybody but the source, as long as they are at most two seconds
/// apart.
fn chains(
    evaluation: Evaluation<'_>,
    composite: &Composite,
    id: FlowId,
    stage: Stage,
) -> Vec<Vec<Through>> {
    let mut all: Vec<Through> = Vec::new();
    for flow in composite
        .through
        .iter()
        .copied()
        .filter(|flow| !is_same_source(evaluation, *flow, id))
    {
        let failed_at = evaluation
            .evidence
            .probe(evaluation.plan.flow(flow).probe)
            .failure
            .as_ref()
            .map(|(at, _)| *at);
        let openings = evaluation
            .evidence
            .flow(flow)
            .openings
            .iter()
            .flat_map(|openings| openings.passed(stage));
        let intact = openings.filter(|own| failed_at.is_none_or(|at| *own <= at));
        all.extend(intact.filter_map(|own| {
            Some(Through {
                flow,
                at: evaluation.moment(flow, own)?,
            })
        }));
    }
    all.sort_by_key(|through| (through.at.earliest, through.at.latest));
    let mut chains: Vec<Vec<Through>> = Vec::new();
    for next in all {
        match chains.last_mut() {
            Some(chain)
                if chain
                    .last()
                    .is_some_and(|last| is_soon(evaluation, *last, next)) =>
            {
                chain.push(next)
            }
            Some(_) | None => chains.push(vec![next]),
        }
    }
    chains
}

/// Whether an opening surely came within two seconds of another.
fn is_soon(evaluation: Evaluation<'_>, last: Through, next: Through) -> bool {
    let one_clock = evaluation.plan.flow(last.flow).probe == evaluation.plan.flow(next.flow).probe;
    let latest = if one_clock {
        next.at.earliest
    } else {
        next.at.latest
    };
    latest - last.at.earliest <= MAX_GAP_US as i64
}

/// The part of a chain in which everything else holds.
fn control_interval(
    evaluation: Evaluation<'_>,
    composite: &Composite,
    id: FlowId,
    stage: Stage,
    chain: &[Through],
) -> Option<ControlInterval> {
    let (start, end) = (chain.first()?, chain.last()?);
    let mut this = ControlInterval {
        flow: start.flow,
        with: Vec::new(),
        first: start.at,
        last: end.at,
        slowest: evaluation
            .evidence
            .flow(start.flow)
            .openings
            .as_ref()?
            .slowest(),
        openings: u32::try_from(chain.len()).unwrap_or(u32::MAX),
        only: None,
    };
    for backend in &composite.backends {
        // Of several times in which a pod was alive, the one that leaves most of the stretch.
        let times = evaluation.passings(*backend, stage);
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
        .filter(|flow| !is_same_source(evaluation, *flow, id))
    {
        if let Some(openings) = chain
            .iter()
            .filter(inside)
            .find(|through| through.flow == flow)
        {
            this.slowest = this.slowest.max(
                evaluation
                    .evidence
                    .flow(openings.flow)
                    .openings
                    .as_ref()?
                    .slowest(),
            );
            this.with.push(flow);
        } else if node_of(evaluation, flow)
            .is_some_and(|node| node_of(evaluation, id) == Some(node))
        {
            return None;
        }
    }
    this.with.retain(|flow| *flow != this.flow);
    Some(this)
}

fn is_same_source(evaluation: Evaluation<'_>, one: FlowId, other: FlowId) -> bool {
    let probe = |flow: FlowId| evaluation.plan.flow(flow).probe;
    probe(one) == probe(other)
        || evaluation.plan.source(probe(one)) == evaluation.plan.source(probe(other))
}

fn node_of(evaluation: Evaluation<'_>, flow: FlowId) -> Option<&str> {
    evaluation
        .plan
        .source(evaluation.plan.flow(flow).probe)
        .node()
}
