//! Changes during a run: flows are restarted, the plan is made again, probes are added.
//!
//! 1. A change of policies or of a namespace's labels: the flows that it concerns are restarted at
//!    once.
//! 2. A change of pods or Services: once no more of them follow, the inventory is read again and
//!    the plan made again. Flows of a pod that was replaced are restarted, those of pods that are
//!    gone are retired, new ones are launched.
//! 3. A control that takes long: the denied flow is tried again by a probe that waits ten times as
//!    long.
//!
//! Whatever is restarted stays within the timeout of the run; what is still unproven then stays so.

use super::Observer;
use super::run::{MARGIN, Run};
use crate::backend::{Arrival, Backend, Change, Launch};
use crate::event::RunEvent;
use crate::inventory::Inventory;
use crate::model::ClusterChange;
use crate::plan::{FlowId, Plan, PlanError, ProbeId, RUNS, Waits, floor, longest, probe_plans};
use crate::verdict::{Cause, concerns};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The time without a further change of pods or Services after which the plan is made again.
const QUIET_PERIOD: Duration = Duration::from_millis(300);

/// The longest wait for a [`QUIET_PERIOD`].
const MAX_QUIET_WAIT: Duration = Duration::from_secs(2);

/// Number of flows whose probes are launched together: their plans are held in memory until the
/// probes have read them.
const FLOWS_AT_ONCE: usize = 10_000;

/// The longest time by which a pod's replacement may be noticed late, microseconds.
const MAX_NOTICE_DELAY_US: i64 = 2_000_000;

/// Makes the plan again from what exists by now.
#[derive(Clone, Default)]
pub struct Replan(Option<Arc<Replanner>>);

type Replanner = dyn Fn(&Inventory) -> Result<Plan, PlanError> + Send + Sync;

impl Replan {
    /// By the function that made the plan at first.
    pub fn by(
        planner: impl Fn(&Inventory) -> Result<Plan, PlanError> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(planner)))
    }
}

impl std::fmt::Debug for Replan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() {
            "Replan::by"
        } else {
            "Replan::default"
        })
    }
}

/// A change with its time, microseconds of the run.
type TimedChange = (i64, ClusterChange);

/// Changes of pods and Services that were not acted on yet.
#[derive(Debug, Default)]
pub(super) struct PendingChanges {
    changes: Vec<TimedChange>,
    first_and_last: Option<(Instant, Instant)>,
}

impl PendingChanges {
    fn push(&mut self, at: i64, change: ClusterChange) {
        let now = Instant::now();
        let first = self.first_and_last.map_or(now, |(first, _)| first);
        self.first_and_last = Some((first, now));
        self.changes.push((at, change));
    }

    /// Whether a change is still to be acted on.
    pub(super) fn is_pending(&self) -> bool {
        !self.changes.is_empty()
    }

    fn is_due(&self) -> bool {
        self.first_and_last.is_some_and(|(first, last)| {
            last.elapsed() >= QUIET_PERIOD || first.elapsed() >= MAX_QUIET_WAIT
        })
    }

    fn take(&mut self) -> Vec<TimedChange> {
        self.first_and_last = None;
        std::mem::take(&mut self.changes)
    }
}

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
        (0..self.plan.flows.len())
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
        let Some(planner) = self.replan.0.clone() else {
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
        let renewal = self.plan.to_mut().renew(fresh);
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

    /// Tries flows again whose deadlines turned out too short.
    pub(super) async fn retry_with_longer_waits<B: Backend>(
        &mut self,
        slow: Vec<(FlowId, Waits)>,
        backend: &mut B,
        observer: &mut impl Observer,
    ) {
        if slow.is_empty() {
            return;
        }
        let launched = self.launched;
        for (flow, waits) in slow {
            self.plan.to_mut().lengthen(flow, waits, launched);
        }
        self.collector.extend(&self.plan);
        self.launch_added(backend, observer).await;
        self.limit = self
            .limit
            .max(self.started.elapsed() + floor(&self.plan) + MARGIN);
    }

    /// Launches the probes that were added to the plan.
    async fn launch_added<B: Backend>(&mut self, backend: &mut B, observer: &mut impl Observer) {
        if self.launched >= self.plan.probes.len() {
            return;
        }
        // Where every probe has ended no reader is left.
        let Some(sender) = self.sender.upgrade() else {
            return;
        };
        observer.planned(&self.plan, &self.info);
        if let Err(error) = self.launch(backend, sender, observer).await {
            observer.event(RunEvent::Note {
                text: format!("further probes could not be launched: {error}"),
            });
        }
    }

    /// Step 1, and again for probes that are added: launches the probes that were not launched yet.
    ///
    /// # Errors
    /// Those of the backend.
    pub(super) async fn launch<B: Backend>(
        &mut self,
        backend: &mut B,
        sender: mpsc::Sender<Arrival>,
        observer: &mut impl Observer,
    ) -> Result<(), B::Error> {
        while self.launched < self.plan.probes.len() {
            let launches = self.next_launches();
            self.collect_during(backend.launch(launches, sender.clone()), observer)
                .await?;
        }
        Ok(())
    }

    /// The next probes to launch: as many as have [`FLOWS_AT_ONCE`] together, at least one.
    fn next_launches(&mut self) -> Vec<Launch> {
        let mut flow_counts = vec![0_usize; self.plan.probes.len()];
        for flow in &self.plan.flows {
            flow_counts[flow.probe.0 as usize] += 1;
        }
        let from = self.launched;
        let (mut to, mut flows) = (from, 0);
        while to < flow_counts.len() && (to == from || flows + flow_counts[to] <= FLOWS_AT_ONCE) {
            flows += flow_counts[to];
            to += 1;
        }
        self.launched = to;

        let plans = probe_plans(&self.plan, &self.schedule, from..to);
        plans
            .into_iter()
            .enumerate()
            .map(|(index, plan)| {
                let probe = ProbeId((from + index) as u32);
                self.collector.expect(probe, &plan);
                Launch {
                    probe,
                    source: self.plan.source(probe).clone(),
                    inside: self.plan.inside.contains(&probe),
                    plan,
                }
            })
            .collect()
    }
}

/// The changes of pods among others.
fn pods_of(changes: &[TimedChange]) -> impl Iterator<Item = &TimedChange> {
    changes
        .iter()
        .filter(|(_, change)| matches!(change, ClusterChange::Pod(..)))
}
