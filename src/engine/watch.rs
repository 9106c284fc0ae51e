//! Step 2: watches a run until its checks are settled or its time is over.

use super::Observer;
use super::run::Run;
use crate::backend::Backend;
use crate::event::RunEvent;
use crate::plan::{REQUEST_DEADLINE, floor};
use crate::verdict::{Reading, Refusal};
use crate::wire::{Stage, StopCause};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often checks are judged while probes run.
const JUDGE_EVERY: Duration = Duration::from_millis(200);

/// How often the enforcer's own counts are read while a check waits for them.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// After a round of judging, at least so many times as long passes before the next round as that
/// one took: where there is much to judge, most of the time is left to what lines bring.
const PAUSE_FACTOR: u32 = 4;

/// How much longer a run goes on whose time is over while changes cannot be watched: an API server
/// that restarts is back by then.
const WATCH_GAP_EXTENSION: Duration = Duration::from_secs(30);

/// The extensions that a run had beyond its limit, each at most once.
#[derive(Default)]
struct Extensions {
    for_watch_gap: bool,
    for_answers: bool,
}

impl Run<'_> {
    /// Step 2. Returns why the run ends early, if it does.
    pub(super) async fn watch<B: Backend>(
        &mut self,
        backend: &mut B,
        interrupted: impl Future<Output = String>,
        observer: &mut impl Observer,
    ) -> Option<String> {
        let mut extensions = Extensions::default();
        let mut counted_at = Instant::now();
        let mut next_round = self.started;
        let mut is_watching_changes = true;
        tokio::pin!(interrupted);
        loop {
            tokio::select! {
                why = &mut interrupted => return Some(why),
                line = self.lines.recv() => match line {
                    Some(arrival) => self.collect(arrival, observer),
                    // Every probe has ended: nothing more can be learned.
                    None => return None,
                },
                change = self.changes.recv(), if is_watching_changes => match change {
                    Some(change) => self.handle_change(change, observer),
                    None => is_watching_changes = false,
                },
                () = sleep_until(next_round) => {
                    next_round = self.round(backend, &mut counted_at, observer).await;
                    if self.is_done() {
                        return None;
                    }
                }
                () = sleep_until(self.started + self.limit) => {
                    if !self.extend_limit(backend, &mut extensions) {
                        return None;
                    }
                }
            }
        }
    }

    /// Acts on what changed, judges what is not settled and reports progress; returns when the next
    /// round is due.
    async fn round<B: Backend>(
        &mut self,
        backend: &mut B,
        counted_at: &mut Instant,
        observer: &mut impl Observer,
    ) -> Instant {
        let began = Instant::now();
        self.collector.evidence.canary = backend.canary();
        if self.collector.has_restarted() {
            self.reopen_checks();
        }
        self.replan_if_due(backend, observer).await;
        if self.awaits_counters() && counted_at.elapsed() >= COUNT_EVERY {
            self.read_counters(backend, observer).await;
            *counted_at = Instant::now();
        }

        // While changes cannot be watched nothing is known to have stayed as it was.
        let slow = if backend.unseen().is_none() {
            self.settle(observer)
        } else {
            Vec::new()
        };
        let next_round = Instant::now() + JUDGE_EVERY.max(began.elapsed() * PAUSE_FACTOR);
        self.retry_with_longer_waits(slow, backend, observer).await;

        observer.event(RunEvent::Progress {
            settled: self.settled_count(),
            total: self.settled.len(),
            elapsed_ms: self.started.elapsed().as_millis() as u64,
            floor_ms: floor(&self.plan).as_millis() as u64,
        });
        next_round
    }

    fn settled_count(&self) -> usize {
        self.settled.iter().filter(|settled| **settled).count()
    }

    /// Whether nothing is left to wait for.
    fn is_done(&self) -> bool {
        self.settled_count() == self.settled.len()
            && self.is_swept()
            && !self.pending_changes.is_pending()
    }

    /// Whether the run goes on though its time is over.
    fn extend_limit<B: Backend>(&mut self, backend: &B, extensions: &mut Extensions) -> bool {
        if !extensions.for_watch_gap && backend.unseen().is_some() {
            extensions.for_watch_gap = true;
            self.limit += WATCH_GAP_EXTENSION;
            return true;
        }
        if !extensions.for_answers && self.awaits_answers() {
            extensions.for_answers = true;
            self.limit += REQUEST_DEADLINE;
            return true;
        }
        false
    }

    /// Whether a check that is not settled requires the enforcer's own count.
    fn awaits_counters(&self) -> bool {
        self.unsettled_checks()
            .any(|check| check.settings.demands_record())
    }

    /// Reads the enforcer's own counts while the run is on. An error is ignored, since it is
    /// reported when they are read at the end.
    async fn read_counters<B: Backend>(&mut self, backend: &mut B, observer: &mut impl Observer) {
        if let Ok(counters) = self.collect_during(backend.counters(), observer).await {
            self.collector.evidence.counters = counters;
        }
    }

    /// Whether attempts of a check that is not settled may be waiting for an answer after their
    /// handshake: they are reported only once that long deadline is over.
    fn awaits_answers(&self) -> bool {
        self.unsettled_checks()
            .flat_map(|check| &check.flows)
            .any(|flow| may_await_answer(self.collector.evidence.flow(*flow).latest()))
    }
}

/// Whether the next attempt of a flow may be waiting for an answer after its handshake, by the last
/// one.
fn may_await_answer(latest: Option<&Reading>) -> bool {
    match latest {
        None => true,
        Some(Reading::Blocked(block)) => {
            block.stage > Stage::Connect && block.how == Refusal::Wire(StopCause::Silence)
        }
        Some(Reading::Open(success)) => success
            .then
            .as_ref()
            .is_some_and(|stop| stop.how == StopCause::Silence),
        Some(Reading::NotSent(_)) => false,
    }
}
