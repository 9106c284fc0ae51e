//! Observers: what a run reports while it goes on and when it is over.

use crate::backend::{Arrival, Change, EnforcerCounts};
use crate::event::{CheckResult, RunEvent, RunInfo, Summary};
use crate::inventory::PolicyState;
use crate::plan::Plan;

/// A receiver of everything that happens in a run.
pub trait Observer {
    /// Something happened.
    fn event(&mut self, event: RunEvent);

    /// A probe's line arrived; called before it becomes evidence.
    fn arrival(&mut self, arrival: &Arrival);

    /// The probes and flows that later lines name by number: called before the first line arrives,
    /// and again when there are more.
    fn planned(&mut self, _plan: &Plan, _run: &RunInfo) {}

    /// Something changed that a verdict may depend on.
    fn change(&mut self, _change: &Change) {}

    /// The enforcer's own counts were read at the end.
    fn counters(&mut self, _counters: &EnforcerCounts) {}

    /// The run is over: its final results, in the order of [`RunEvent::Finished`].
    ///
    /// They become that event unless the observer takes one at a time: those of a large run are
    /// larger than all its evidence.
    fn finished(
        &mut self,
        run: RunInfo,
        policies: Option<Vec<PolicyState>>,
        results: &mut dyn Iterator<Item = CheckResult>,
    ) -> Summary {
        let results: Vec<_> = results.collect();
        let summary = Summary::of(&results, run.complete);
        self.event(RunEvent::Finished {
            run,
            results,
            summary,
            policies_after: policies,
        });
        summary
    }
}
