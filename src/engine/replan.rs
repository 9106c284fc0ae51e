//! What changes while a run is on: flows begin anew, the plan is made again, probes are added.
//!
//! 1. A change of policies or of a namespace's labels: the flows that it concerns begin anew at
//!    once.
//! 2. A change of pods or Services: once no more of them follow, what exists is read again and the
//!    plan made again. Flows to or from a pod that is another one begin anew, those of pods that
//!    are gone are retired, new ones are launched.
//! 3. A control that takes long: the denied flow is tried again by a probe that waits ten times as
//!    long.
//!
//! Whatever begins anew does so within the patience of the run; what is still unproven then stays
//! so.

use super::{Observer, Run, SPARE};
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

/// How long no further change of pods or Services may follow before the plan is made again.
const CALM: Duration = Duration::from_millis(300);

/// How long is waited for [`CALM`] at the most.
const RESTLESS: Duration = Duration::from_secs(2);

/// Probes with so many flows together are launched at once: what they are told is held until they
/// have read it.
const FLOWS_AT_ONCE: usize = 10_000;

/// How soon after a pod was replaced that may be noticed, microseconds.
const NOTICE_US: i64 = 2_000_000;

/// Makes the plan again from what exists by now.
#[derive(Clone, Default)]
pub struct Replan(Option<Arc<Again>>);

type Again = dyn Fn(&Inventory) -> Result<Plan, PlanError> + Send + Sync;

impl Replan {
    /// By the way in which the plan was made at first.
    pub fn by(
        again: impl Fn(&Inventory) -> Result<Plan, PlanError> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(again)))
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

/// Changes of pods and Services that were not acted on yet.
#[derive(Debug, Default)]
pub(super) struct PendingChanges {
    changes: Vec<(i64, ClusterChange)>,
    first_and_last: Option<(Instant, Instant)>,
}

impl PendingChanges {
    fn push(&mut self, at: i64, what: ClusterChange) {
        let now = Instant::now();
        let first = self.first_and_last.map_or(now, |(first, _)| first);
        self.first_and_last = Some((first, now));
        self.changes.push((at, what));
    }

    /// Whether something is still to be acted on.
    pub(super) fn is_pending(&self) -> bool {
        !self.changes.is_empty()
    }

    fn is_due(&self) -> bool {
        self.first_and_last
            .is_some_and(|(first, last)| last.elapsed() >= CALM || first.elapsed() >= RESTLESS)
    }

    fn take(&mut self) -> Vec<(i64, ClusterChange)> {
        self.first_and_last = None;
        std::mem::take(&mut self.changes)
    }
}

impl Run<'_> {
    /// Takes notice of a change.
    pub(super) fn disturb(&mut self, change: Change, observer: &mut impl Observer) {
        observer.change(&change);
        let at = change.at.as_micros() as i64;
        // Until it was noticed samples may be those of the state before.
        let noticed = change.noticed.as_micros() as i64;
        match change.what {
            ClusterChange::Pod(namespace, name) => {
                self.noticed.push(at, ClusterChange::Pod(namespace, name))
            }
            ClusterChange::Service(namespace, name) => self
                .noticed
                .push(at, ClusterChange::Service(namespace, name)),
            ClusterChange::Namespace(name) => {
                self.restart_concerned(
                    &[(noticed, ClusterChange::Namespace(name))],
                    &BTreeSet::new(),
                );
            }
            ClusterChange::Policy(namespace, name) => {
                self.restart_concerned(
                    &[(noticed, ClusterChange::Policy(namespace, name))],
                    &BTreeSet::new(),
                );
            }
        }
    }

    /// Acts on everything that was noticed and not acted on: nothing more will be sampled.
    pub(super) fn give_up_on_changes(&mut self) {
        let changes = self.noticed.take();
        for (at, what) in &changes {
            if let ClusterChange::Pod(..) = what {
                let concerned: Vec<FlowId> = self.concerned(what).collect();
                for flow in concerned {
                    // Who answered from then on is not known, and will not be.
                    self.fold.replaced(
                        &self.plan,
                        flow,
                        at - NOTICE_US,
                        self.fold.now(),
                        Cause::Changed(what.clone()),
                    );
                }
            }
        }
        self.restart_concerned(&changes, &BTreeSet::new());
    }

    /// Acts on changes where the plan cannot be made again: who is in a changed pod's place is not
    /// known, so its flows are given up; those of a Service begin anew.
    fn do_without_a_plan(&mut self, changes: &[(i64, ClusterChange)]) {
        let now = self.fold.now();
        let mut given_up = BTreeSet::new();
        for (at, what) in changes {
            if let ClusterChange::Pod(..) = what {
                let concerned: Vec<FlowId> = self.concerned(what).collect();
                for flow in concerned {
                    self.fold.retire(&self.plan, flow, at - NOTICE_US, now);
                    given_up.insert(flow);
                }
            }
        }
        self.restart_concerned(changes, &given_up);
        self.reopen();
    }

    fn concerned(&self, what: &ClusterChange) -> impl Iterator<Item = FlowId> {
        let flows = (0..self.plan.flows().len()).map(|index| FlowId(index as u32));
        flows.filter(move |flow| concerns(&self.plan, *flow, what))
    }

    fn restart_concerned(&mut self, changes: &[(i64, ClusterChange)], except: &BTreeSet<FlowId>) {
        let mut any = false;
        for (at, what) in changes {
            let concerned: Vec<FlowId> = self
                .concerned(what)
                .filter(|flow| !except.contains(flow))
                .collect();
            for flow in concerned {
                self.fold
                    .restart(&self.plan, flow, *at, Cause::Changed(what.clone()));
                any = true;
            }
        }
        if any {
            self.reopen();
        }
    }

    /// Something began anew: what was settled may not be so any more, and there is time for another
    /// try.
    pub(super) fn reopen(&mut self) {
        self.settled.fill(false);
        let elapsed = self.started.elapsed();
        let usual = longest(&self.plan);
        if elapsed <= usual {
            self.limit = self
                .limit
                .max(elapsed + usual + SPARE)
                .min((usual + SPARE) * RUNS);
        }
    }

    /// Makes the plan again if something changed and nothing more follows.
    pub(super) async fn renew<B: Backend>(
        &mut self,
        backend: &mut B,
        lines: &mut mpsc::Receiver<Arrival>,
        observer: &mut impl Observer,
    ) {
        if !self.noticed.is_due() {
            return;
        }
        let changes = self.noticed.take();
        let Some(since) = changes.iter().map(|(at, _)| at - NOTICE_US).min() else {
            return;
        };
        let Some(again) = self.replan.0.clone() else {
            self.do_without_a_plan(&changes);
            return;
        };
        let fresh = match self.meanwhile(backend.inventory(), lines, observer).await {
            Ok(inventory) => again(&inventory).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        // What is sampled from here on is sampled of what exists now.
        let now = self.fold.now();
        let fresh = match fresh {
            Ok(fresh) => fresh,
            Err(error) => {
                let text = format!(
                    "pods or Services changed, and the plan could not be made again: {error}"
                );
                observer.event(RunEvent::Note { text });
                self.do_without_a_plan(&changes);
                return;
            }
        };
        let renewal = self.plan.to_mut().merge_replanned(&fresh);
        self.fold.extend(&self.plan);
        for text in renewal.notes {
            observer.event(RunEvent::Note { text });
        }
        let cause = |run: &Self, flow| {
            let mut named = changes
                .iter()
                .filter(|(_, what)| concerns(&run.plan, flow, what));
            let what = named
                .next()
                .or(changes.first())
                .map(|(_, what)| what.clone());
            Cause::Changed(what.unwrap_or_else(|| ClusterChange::Namespace(String::new())))
        };
        for flow in &renewal.retired {
            self.fold.retire(&self.plan, *flow, since, now);
        }
        for flow in &renewal.replaced {
            let cause = cause(self, *flow);
            self.fold.replaced(&self.plan, *flow, since, now, cause);
        }
        for flow in &renewal.altered {
            let cause = cause(self, *flow);
            self.fold.restart(&self.plan, *flow, now, cause);
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
            .map(|(_, what)| (now, what.clone()))
            .collect();
        self.restart_concerned(&changes, &done);
        self.launch_new(backend, lines, observer).await;
        self.reopen();
    }

    /// Tries flows again whose deadlines turned out too short.
    pub(super) async fn lengthen<B: Backend>(
        &mut self,
        slow: Vec<(FlowId, Waits)>,
        backend: &mut B,
        lines: &mut mpsc::Receiver<Arrival>,
        observer: &mut impl Observer,
    ) {
        if slow.is_empty() {
            return;
        }
        let launched = self.launched;
        for (flow, waits) in slow {
            self.plan
                .to_mut()
                .retry_with_longer_waits(flow, waits, launched);
        }
        self.fold.extend(&self.plan);
        self.launch_new(backend, lines, observer).await;
        self.limit = self
            .limit
            .max(self.started.elapsed() + floor(&self.plan) + SPARE);
    }

    /// Launches the probes that were added to the plan.
    pub(super) async fn launch_new<B: Backend>(
        &mut self,
        backend: &mut B,
        lines: &mut mpsc::Receiver<Arrival>,
        observer: &mut impl Observer,
    ) {
        // Where every probe has ended nobody listens any more.
        let Some(sender) = self
            .sender
            .upgrade()
            .filter(|_| self.launched < self.plan.probes().len())
        else {
            return;
        };
        observer.planned(&self.plan, &self.info);
        if let Err(error) = self.launch(backend, sender, lines, observer).await {
            observer.event(RunEvent::Note {
                text: format!("further probes could not be launched: {error}"),
            });
        }
    }

    /// Launches the probes that were not launched yet.
    ///
    /// # Errors
    /// Those of the backend.
    pub(super) async fn launch<B: Backend>(
        &mut self,
        backend: &mut B,
        sender: mpsc::Sender<Arrival>,
        lines: &mut mpsc::Receiver<Arrival>,
        observer: &mut impl Observer,
    ) -> Result<(), B::Error> {
        while self.launched < self.plan.probes().len() {
            let launches = self.launches();
            self.meanwhile(backend.launch(launches, sender.clone()), lines, observer)
                .await?;
        }
        Ok(())
    }

    /// What the next probes are told: of as many as have [`FLOWS_AT_ONCE`] together.
    fn launches(&mut self) -> Vec<Launch> {
        let mut flows = vec![0_usize; self.plan.probes().len()];
        for flow in self.plan.flows() {
            flows[flow.probe.0 as usize] += 1;
        }
        let (from, mut to, mut together) = (self.launched, self.launched, 0);
        while to < flows.len() && (to == from || together + flows[to] <= FLOWS_AT_ONCE) {
            together += flows[to];
            to += 1;
        }
        self.launched = to;
        let plans = probe_plans(&self.plan, &self.schedule, from..to)
            .into_iter()
            .enumerate();
        plans
            .map(|(index, plan)| {
                let probe = ProbeId((from + index) as u32);
                self.fold.expect(probe, &plan);
                let inside = self.plan.ephemeral_probes().contains(&probe);
                Launch {
                    probe,
                    source: self.plan.source(probe).clone(),
                    inside,
                    plan,
                }
            })
            .collect()
    }

    /// Waits for something of the backend's, and takes lines meanwhile: readers may not wait for
    /// it.
    pub(super) async fn meanwhile<T>(
        &mut self,
        work: impl Future<Output = T>,
        lines: &mut mpsc::Receiver<Arrival>,
        observer: &mut impl Observer,
    ) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some(arrival) = lines.recv() => self.take(arrival, observer),
            }
        }
    }
}
