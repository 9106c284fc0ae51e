//! An observer that keeps what a run reported.

use std::collections::BTreeSet;
use tokio::sync::watch;
use watertight::backend::Arrival;
use watertight::engine::Observer;
use watertight::event::{CheckResult, RunEvent, Summary};
use watertight::plan::ProbeId;
use watertight::wire::{Body, FaultReason, Sample};

/// How far a run is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// Probes that said hello.
    pub(crate) hellos: BTreeSet<ProbeId>,
    /// Whether any probe has reported an attempt.
    pub(crate) sampled: bool,
}

/// Keeps the results and attempts of a run, and passes each event to `on_event`.
pub(crate) struct Recorder<F> {
    on_event: F,
    progress: watch::Sender<Progress>,
    /// The last event's results and summary; `None` until the run has finished.
    pub(crate) finished: Option<(Vec<CheckResult>, Summary)>,
    pub(crate) attempts: Vec<(ProbeId, Sample)>,
    /// Attempts that are no evidence, since the machine gave the probe too little CPU time.
    pub(crate) starved: usize,
}

impl<F: FnMut(&RunEvent)> Recorder<F> {
    /// A recorder, and the progress that it will see.
    pub(crate) fn new(on_event: F) -> (Self, watch::Receiver<Progress>) {
        let (progress, receiver) = watch::channel(Progress::default());
        let recorder = Self {
            on_event,
            progress,
            finished: None,
            attempts: Vec::new(),
            starved: 0,
        };
        (recorder, receiver)
    }
}

impl<F: FnMut(&RunEvent)> Observer for Recorder<F> {
    fn event(&mut self, event: RunEvent) {
        (self.on_event)(&event);

        if let RunEvent::Finished {
            results, summary, ..
        } = event
        {
            self.finished = Some((results, summary));
        }
    }

    fn arrival(&mut self, arrival: &Arrival) {
        let Ok(line) = &arrival.line else { return };

        match &line.body {
            Body::Hello(_) => self.progress.send_modify(|progress| {
                progress.hellos.insert(arrival.probe);
            }),
            Body::Sample(sample) => {
                self.progress
                    .send_if_modified(|progress| !std::mem::replace(&mut progress.sampled, true));
                self.attempts.push((arrival.probe, sample.clone()));
            }
            Body::Fault(fault) => {
                self.starved += usize::from(fault.reason == FaultReason::Starved);
            }
            Body::Heartbeat(_) | Body::Latencies { .. } | Body::Bye { .. } => {}
        }
    }
}
