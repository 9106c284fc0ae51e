//! Condition 2 for a Service that no single source is sure to get through to.
//!
//! What must not be mistaken for a deny, and what excludes it:
//!
//! - *the Service's port is wrong, or nothing is behind it*: then no node gets through;
//! - *a pod behind it is dead*: then that pod's node fails to reach it;
//! - *the Service came and went*: successes are never more than two seconds apart, over all nodes
//!   together;
//! - *the source's node does not know the Service*: where that node has a pod of it, it must have
//!   got through itself; elsewhere condition 4 requires another Service's address from there.
//!
//! Failures through the Service are excused, and only there: a node may always reach its own pods,
//! and no other's.

use super::control_interval::ControlInterval;
use super::controls::Evaluation;
use super::moment::Moment;
use super::streak::{Durations, MAX_GAP_US};
use crate::plan::{Composite, FlowId};
use crate::wire::Stage;

/// A success through the Service.
#[derive(Debug, Clone, Copy)]
struct ServiceSuccess {
    flow: FlowId,
    at: Moment,
}

/// The intervals in which the target of a flow answered by its composite control; none where it has
/// none.
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
    chains(evaluation, composite, id, stage)
        .iter()
        .filter_map(|chain| control_interval(evaluation, composite, id, stage, chain))
        .collect()
}

/// Successes through the Service from any other source, in chains of at most two seconds between
/// two of them.
fn chains(
    evaluation: Evaluation<'_>,
    composite: &Composite,
    id: FlowId,
    stage: Stage,
) -> Vec<Vec<ServiceSuccess>> {
    let mut all: Vec<ServiceSuccess> = Vec::new();
    for flow in flows_through(evaluation, composite, id) {
        let probe = evaluation.evidence.probe(evaluation.probe(flow));
        let starts = evaluation
            .evidence
            .flow(flow)
            .success_times
            .iter()
            .flat_map(|times| times.passed(stage))
            .filter(|start| probe.is_intact_at(*start));
        all.extend(starts.filter_map(|start| {
            Some(ServiceSuccess {
                flow,
                at: evaluation.moment(flow, start)?,
            })
        }));
    }
    all.sort_by_key(|success| (success.at.earliest, success.at.latest));

    let mut chains: Vec<Vec<ServiceSuccess>> = Vec::new();
    for next in all {
        match chains.last_mut() {
            Some(chain)
                if chain
                    .last()
                    .is_some_and(|last| is_soon_after(evaluation, *last, next)) =>
            {
                chain.push(next);
            }
            Some(_) | None => chains.push(vec![next]),
        }
    }
    chains
}

/// Whether a success surely came within two seconds of another.
fn is_soon_after(evaluation: Evaluation<'_>, last: ServiceSuccess, next: ServiceSuccess) -> bool {
    let is_one_clock = evaluation.probe(last.flow) == evaluation.probe(next.flow);
    let latest = if is_one_clock {
        next.at.earliest
    } else {
        next.at.latest
    };
    latest - last.at.earliest <= MAX_GAP_US as i64
}

/// The part of a chain in which each pod answered its node and the source's node, where it has a
/// pod, got through as well.
fn control_interval(
    evaluation: Evaluation<'_>,
    composite: &Composite,
    id: FlowId,
    stage: Stage,
    chain: &[ServiceSuccess],
) -> Option<ControlInterval> {
    let (start, end) = (chain.first()?, chain.last()?);
    let mut interval = ControlInterval {
        flow: start.flow,
        with: Vec::new(),
        first: start.at,
        last: end.at,
        durations: durations(evaluation, start.flow)?.clone(),
        successes: u32::try_from(chain.len()).unwrap_or(u32::MAX),
        lost: 0,
        stopped_after: None,
    };

    for backend in &composite.backends {
        // Of several times in which a pod answered, the one that leaves most of the interval.
        let timed = evaluation.passes(*backend, stage).max_by_key(|timed| {
            timed.last.earliest.min(interval.last.earliest)
                - timed.first.latest.max(interval.first.latest)
        })?;
        if timed.first.latest > interval.first.latest {
            interval.first = timed.first;
        }
        if timed.last.earliest < interval.last.earliest {
            interval.last = timed.last;
        }
        interval.durations.append(&timed.streak.durations);
        interval.with.push(*backend);
    }

    for flow in flows_through(evaluation, composite, id) {
        let got_through = chain
            .iter()
            .any(|success| success.flow == flow && interval.spans(success.at));
        if got_through {
            interval.durations.append(durations(evaluation, flow)?);
            interval.with.push(flow);
        } else if is_on_node_of(evaluation, flow, id) {
            return None;
        }
    }
    interval.with.retain(|flow| *flow != interval.flow);
    Some(interval)
}

/// The composite's flows through the Service that do not have the source of `id`.
fn flows_through<'a>(
    evaluation: Evaluation<'a>,
    composite: &'a Composite,
    id: FlowId,
) -> impl Iterator<Item = FlowId> + use<'a> {
    composite
        .through
        .iter()
        .copied()
        .filter(move |flow| !is_same_source(evaluation, *flow, id))
}

fn durations(evaluation: Evaluation<'_>, flow: FlowId) -> Option<&Durations> {
    let times = evaluation.evidence.flow(flow).success_times.as_ref()?;
    Some(times.durations())
}

fn is_same_source(evaluation: Evaluation<'_>, one: FlowId, other: FlowId) -> bool {
    evaluation.probe(one) == evaluation.probe(other)
        || evaluation.source(one) == evaluation.source(other)
}

fn is_on_node_of(evaluation: Evaluation<'_>, one: FlowId, other: FlowId) -> bool {
    let node = evaluation.source(one).node();
    node.is_some() && node == evaluation.source(other).node()
}
