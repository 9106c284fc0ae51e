//! A probe's lines, by its log.
//!
//! The log is followed. Where the stream is cut, it is opened again from the start and what was
//! read already is skipped: lines are never changed once written, and a rotated log shows as a hole
//! in their numbers.

use super::error::describe;
use super::objects::Shared;
use super::peer_addresses::Digests;
use super::state::{Stage, UNSCHEDULED, UNSTARTED, stage, statuses};
use crate::backend::lines::{parse, without_end};
use crate::backend::{Arrival, ProbeFault};
use crate::plan::ProbeId;
use crate::wire::{Body, MAX_LINE};
use futures::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, Client};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Pauses between attempts to open a log again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// After the end of a log, the pod's state may take so long to say that the probe has ended.
const STATE_LAG: Duration = Duration::from_secs(1);

/// One probe's log.
pub(super) struct Log {
    pub(super) client: Client,
    pub(super) shared: Arc<Shared>,
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) container: String,
    pub(super) probe: ProbeId,
    /// What its plan's digest is told as.
    pub(super) digests: Option<Digests>,
    pub(super) lines: mpsc::Sender<Arrival>,
    /// Says when nothing more is waited for.
    pub(super) enough: watch::Receiver<bool>,
}

/// How reading a stream ended.
enum Read {
    /// The probe said `bye`.
    Bye,
    /// The stream ended or broke.
    Cut,
    /// Nobody listens.
    Unheard,
}

impl Log {
    /// Waits for the probe to run, reads to the end, and says how it ended.
    ///
    /// # Errors
    /// Why it never ran.
    pub(super) async fn follow(&self) -> Result<(), String> {
        self.started().await?;
        let failed = Mutex::new(None);
        let mut enough = self.enough.clone();
        let ended = tokio::select! {
            ended = self.read(&failed) => ended,
            Ok(_) = enough.wait_for(|enough| *enough) => {
                let failed = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
                failed.unwrap_or_else(|| "its log did not come to an end".to_owned())
            }
        };
        self.tell(Err(ProbeFault::Ended(ended))).await;
        Ok(())
    }

    /// Tells something of this probe.
    pub(super) async fn tell(&self, line: Result<crate::wire::Line, ProbeFault>) -> bool {
        self.lines
            .send(Arrival {
                probe: self.probe,
                at: self.shared.now(),
                line,
            })
            .await
            .is_ok()
    }

    fn stage(&self) -> Stage {
        let pod = self.shared.store().pod(&self.namespace, &self.pod);
        stage(pod.as_deref(), Some(&self.container))
    }

    /// Returns once the probe runs, or has run.
    async fn started(&self) -> Result<(), String> {
        let mut news = self.shared.news();
        let begun = Instant::now();
        // The watch may be a moment behind the answer to our own create.
        let mut seen = false;
        loop {
            let stage = self.stage();
            seen |= self
                .shared
                .store()
                .pod(&self.namespace, &self.pod)
                .is_some();
            let (limit, why) = match stage {
                Stage::Running => return Ok(()),
                Stage::Over(why) if seen => {
                    let pod = self.shared.store().pod(&self.namespace, &self.pod);
                    return if has_run(pod.as_deref(), &self.container) {
                        Ok(())
                    } else {
                        Err(why)
                    };
                }
                Stage::Over(_) => (UNSCHEDULED, "its pod is not seen".to_owned()),
                Stage::Unscheduled(why) => (UNSCHEDULED, why),
                Stage::Unstarted(why) => (UNSTARTED, why),
            };
            if timeout_at(begun + limit, news.changed()).await.is_err() {
                return Err(format!(
                    "it does not run after {} s: {why}",
                    limit.as_secs()
                ));
            }
        }
    }

    /// Reads to the end of the probe; says how that came. What kept it from reading last is in
    /// `failed` meanwhile.
    async fn read(&self, failed: &Mutex<Option<String>>) -> String {
        let keeps =
            |why: Option<String>| *failed.lock().unwrap_or_else(PoisonError::into_inner) = why;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut done = 0;
        let mut pause = FIRST_PAUSE;
        // Once it is over its log is read a last time: the stream may have been cut before the end.
        let mut over: Option<String> = None;
        loop {
            let parameters = LogParams {
                container: Some(self.container.clone()),
                follow: over.is_none(),
                ..LogParams::default()
            };
            let before = done;
            let failed = match api.log_stream(&self.pod, &parameters).await {
                Ok(stream) => {
                    keeps(None);
                    futures::pin_mut!(stream);
                    match self.copy(&mut stream, &mut done).await {
                        Read::Bye => return "it said bye".into(),
                        Read::Unheard => return "nobody listens".into(),
                        Read::Cut => None,
                    }
                }
                Err(error) => {
                    let why = describe(&error);
                    keeps(Some(why.clone()));
                    Some(why)
                }
            };
            if let Some(how) = over {
                return how;
            }
            if done > before {
                pause = FIRST_PAUSE;
            }
            match self.ended_within(STATE_LAG).await {
                Some(how) if failed.is_none() => over = Some(how),
                Some(how) => return how,
                None => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// How the probe ended, if it is known to have ended, or comes to be known soon.
    async fn ended_within(&self, most: Duration) -> Option<String> {
        let mut news = self.shared.news();
        let ended = async {
            loop {
                if let Stage::Over(how) = self.stage() {
                    return how;
                }
                if news.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(most, ended).await.ok()
    }

    /// Passes on what is new of a stream. `done` counts the lines that were passed on, in this
    /// stream and before.
    async fn copy(&self, stream: &mut (impl AsyncBufRead + Unpin), done: &mut usize) -> Read {
        let mut skip = *done;
        loop {
            let line = match next(stream).await {
                None => return Read::Cut,
                Some(_) if skip > 0 => {
                    skip -= 1;
                    continue;
                }
                Some(mut line) => {
                    if let (Some(digests), Ok(line)) = (&self.digests, &mut line) {
                        digests.tell(line);
                    }
                    line
                }
            };
            *done += 1;
            let bye = matches!(&line, Ok(line) if matches!(line.body, Body::Bye { .. }));
            if !self.tell(line).await {
                return Read::Unheard;
            }
            if bye {
                return Read::Bye;
            }
        }
    }
}

/// Whether a container that has ended ran before: then its log has something to say.
fn has_run(pod: Option<&Pod>, container: &str) -> bool {
    pod.into_iter()
        .flat_map(statuses)
        .filter(|status| status.name == container)
        .any(|status| {
            let terminated = status
                .state
                .as_ref()
                .and_then(|state| state.terminated.as_ref());
            terminated.is_some_and(|terminated| terminated.started_at.is_some())
        })
}

/// The next whole line; `None` at the end, also of a stream that breaks off within a line.
async fn next(
    stream: &mut (impl AsyncBufRead + Unpin),
) -> Option<Result<crate::wire::Line, ProbeFault>> {
    let mut line = Vec::new();
    let length = (&mut *stream)
        .take(MAX_LINE as u64)
        .read_until(b'\n', &mut line)
        .await
        .ok()?;
    if line.ends_with(b"\n") {
        return Some(parse(&line));
    }
    if length < MAX_LINE {
        return None;
    }
    loop {
        line.clear();
        let more = (&mut *stream)
            .take(MAX_LINE as u64)
            .read_until(b'\n', &mut line)
            .await
            .ok()?;
        if line.ends_with(b"\n") {
            return Some(Err(without_end(length)));
        }
        if more == 0 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_breaks_off_is_none_and_one_without_end_is_a_fault() {
        let long = "x".repeat(2 * MAX_LINE + 10);
        let text = format!(
            "{{\"v\":1,\"seq\":0,\"t\":0,\"k\":\"bye\",\"reason\":\"signal\"}}\n{long}\nnonsense\n{{\"v\":1"
        );
        let mut stream = futures::io::Cursor::new(text.into_bytes());
        assert!(matches!(next(&mut stream).await, Some(Ok(_))));
        assert_eq!(next(&mut stream).await, Some(Err(without_end(MAX_LINE))));
        assert!(
            matches!(next(&mut stream).await, Some(Err(ProbeFault::Unreadable(what))) if what.contains("nonsense"))
        );
        assert_eq!(next(&mut stream).await, None);
    }
}
