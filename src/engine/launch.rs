//! Step 1: launches probes, at the start and when some are added.

use super::Observer;
use super::run::{MARGIN, Run};
use crate::backend::{Arrival, Backend, Launch};
use crate::event::RunEvent;
use crate::plan::{FlowId, ProbeId, Waits, floor, probe_plans};
use tokio::sync::mpsc;

/// Number of flows whose probes are launched together: their plans are held in memory until the
/// probes have read them.
const FLOWS_AT_ONCE: usize = 10_000;

impl Run<'_> {
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
            self.plan
                .to_mut()
                .retry_with_longer_waits(flow, waits, launched);
        }
        self.collector.extend(&self.plan);
        self.launch_added(backend, observer).await;
        self.limit = self
            .limit
            .max(self.started.elapsed() + floor(&self.plan) + MARGIN);
    }

    /// Launches the probes that were added to the plan.
    pub(super) async fn launch_added<B: Backend>(
        &mut self,
        backend: &mut B,
        observer: &mut impl Observer,
    ) {
        if self.launched >= self.plan.probes().len() {
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
        while self.launched < self.plan.probes().len() {
            let launches = self.next_launches();
            self.collect_during(backend.launch(launches, sender.clone()), observer)
                .await?;
        }
        Ok(())
    }

    /// The next probes to launch: as many as have [`FLOWS_AT_ONCE`] together, at least one.
    fn next_launches(&mut self) -> Vec<Launch> {
        let mut flow_counts = vec![0_usize; self.plan.probes().len()];
        for flow in self.plan.flows() {
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
                    inside: self.plan.ephemeral_probes().contains(&probe),
                    plan,
                }
            })
            .collect()
    }
}
