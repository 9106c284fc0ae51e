//! Changes during a run: flows are restarted, the plan is made again, probes are added.
//!
//! 1. A change of policies or of a namespace's labels: the flows that it concerns are restarted at
//!    once.
//! 2. A change of pods or Services: once no more of them follow, the inventory is read again and
//!    the plan made again. Flows of a pod that was replaced are restarted, those of pods that are
//!    gone are retired, new ones are launched.
//! 3. A control that takes long: the denied flow is tried again by a probe that waits ten times as
//!    long (`launch`).
//!
//! Whatever is restarted stays within the timeout of the run; what is still unproven then stays so.

use super::Observer;
use super::replan::TimedChange;
use super::run::{MARGIN, Run};
use crate::backend::{Backend, Change};
use crate::event::RunEvent;
use crate::model::ClusterChange;
use crate::plan::{FlowId, Plan, RUNS, longest};
use crate::verdict::{Cause, concerns};
use std::collections::BTreeSet;

/// The longest time by which a pod's replacement may be noticed late, microseconds.
const MAX_NOTICE_DELAY_US: i64 = 2_000_000;

impl Run<'_> {
    /// Acts on a change, or keeps it until the plan is made again.
    pub(super) fn handle_change(&mut self, change: Change, observer: &mut impl Observer) {
        observer.change(&change);
        match change.what {
            ClusterChange::Pod(..) | ClusterChange::Service(..) => {
                let at = change.at.as_micros() as i64;
                self.pending_changes.push(at, change.what);
            }
            ClusterChange::Namespace(_) | ClusterChange::Policy(..) => {
                // Until it was noticed attempts may be those of the state before.
                let noticed = change.noticed.as_micros() as i64;
                self.restart_concerned(&[(noticed, change.what)], &BTreeSet::new());
            }
        }
    }

    /// Acts on pending changes when no more attempts will be made.
    pub(super) fn apply_changes_at_the_end(&mut self) {
        let changes = self.pending_changes.take();
        for (at, change) in pods_of(&changes) {
            for flow in self.concerned(change) {
                // Which pod answered from then on is not known, and will not be.
                self.collector.replaced(
                    &self.plan,
                    flow,
                    at - MAX_NOTICE_DELAY_US,
                    self.collector.now(),
                    Cause::Changed(change.clone()),
                );
            }
        }
        self.restart_concerned(&changes, &BTreeSet::new());
    }

    /// Acts on changes where the plan cannot be made again: the replacement of a changed pod is not
    /// known, so its flows are retired; those of a Service are restarted.
    fn apply_without_replan(&mut self, changes: &[TimedChange]) {
        let now = self.collector.now();
        let mut retired = BTreeSet::new();
        for (at, change) in pods_of(changes) {
            for flow in self.concerned(change) {
                self.collector
                    .retire(&self.plan, flow, at - MAX_NOTICE_DELAY_US, now);
                retired.insert(flow);
            }
        }
        self.restart_concerned(changes, &retired);
        self.reopen_checks();
    }

    /// The flows that a change concerns.
    fn concerned(&self, change: &ClusterChange) -> Vec<FlowId> {
        (0..self.plan.flows().len())
            .map(|index| FlowId(index as u32))
            .filter(|flow| concerns(&self.plan, *flow, change))
            .collect()
    }

    fn restart_concerned(&mut self, changes: &[TimedChange], except: &BTreeSet<FlowId>) {
        let mut any = false;
        for (at, change) in changes {
            for flow in self.concerned(change) {
                if except.contains(&flow) {
                    continue;
                }
                self.collector
                    .restart(&self.plan, flow, *at, Cause::Changed(change.clone()));
                any = true;
            }
        }
        if any {
            self.reopen_checks();
        }
    }

    /// Reopens all checks after a restart: what was settled may not be so any more, and there is
    /// time for another try.
    pub(super) fn reopen_checks(&mut self) {
        self.settled.fill(false);
        let elapsed = self.started.elapsed();
        let usual = longest(&self.plan);
        if elapsed <= usual {
            self.limit = self
                .limit
                .max(elapsed + usual + MARGIN)
                .min((usual + MARGIN) * RUNS);
        }
    }

    /// Makes the plan again if something changed and nothing more follows.
    pub(super) async fn replan_if_due<B: Backend>(
        &mut self,
        backend: &mut B,
        observer: &mut impl Observer,
    ) {
        if !self.pending_changes.is_due() {
            return;
        }
        let changes = self.pending_changes.take();
        let Some(first_at) = changes.iter().map(|(at, _)| *at).min() else {
            return;
        };
        let Some(planner) = self.replan.planner() else {
            self.apply_without_replan(&changes);
            return;
        };

        let inventory = self.collect_during(backend.inventory(), observer).await;
        let fresh = match inventory {
            Ok(inventory) => planner(&inventory).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        // Attempts from here on are made on what exists now.
        let now = self.collector.now();
        match fresh {
            Ok(fresh) => {
                self.join(
                    &fresh,
                    &changes,
                    first_at - MAX_NOTICE_DELAY_US,
                    now,
                    observer,
                );
                self.launch_added(backend, observer).await;
                self.reopen_checks();
            }
            Err(error) => {
                let text = format!(
                    "pods or Services changed, and the plan could not be made again: {error}"
                );
                observer.event(RunEvent::Note { text });
                self.apply_without_replan(&changes);
            }
        }
    }

    /// Joins a fresh plan to the run's, and retires or restarts the flows that it alters. A pod may
    /// have been replaced at any time from `since` to `now`.
    fn join(
        &mut self,
        fresh: &Plan,
        changes: &[TimedChange],
        since: i64,
        now: i64,
        observer: &mut impl Observer,
    ) {
        let renewal = self.plan.to_mut().merge_replanned(fresh);
        self.collector.extend(&self.plan);
        for text in renewal.notes {
            observer.event(RunEvent::Note { text });
        }

        for flow in &renewal.retired {
            self.collector.retire(&self.plan, *flow, since, now);
        }
        for flow in &renewal.replaced {
            let cause = self.cause_for(*flow, changes);
            self.collector
                .replaced(&self.plan, *flow, since, now, cause);
        }
        for flow in &renewal.altered {
            let cause = self.cause_for(*flow, changes);
            self.collector.restart(&self.plan, *flow, now, cause);
        }

        let done: BTreeSet<FlowId> = renewal
            .retired
            .iter()
            .chain(&renewal.replaced)
            .chain(&renewal.altered)
            .copied()
            .collect();
        let changes: Vec<_> = changes
            .iter()
            .map(|(_, change)| (now, change.clone()))
            .collect();
        self.restart_concerned(&changes, &done);
    }

    /// The first change that concerns a flow, else the first of all.
    fn cause_for(&self, flow: FlowId, changes: &[TimedChange]) -> Cause {
        let change = changes
            .iter()
            .find(|(_, change)| concerns(&self.plan, flow, change))
            .or(changes.first())
            .map(|(_, change)| change.clone());
        Cause::Changed(change.unwrap_or_else(|| ClusterChange::Namespace(String::new())))
    }
}

/// The changes of pods among others.
fn pods_of(changes: &[TimedChange]) -> impl Iterator<Item = &TimedChange> {
    changes
        .iter()
        .filter(|(_, change)| matches!(change, ClusterChange::Pod(..)))
}
