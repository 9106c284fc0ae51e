//! Probes' lines, read from their pods' logs.
//!
//! The log is followed. When the stream breaks, it is opened again from the start, and the lines
//! that were read before are skipped: a written line never changes, and a rotated log shows as a
//! gap in the lines' sequence numbers.

use super::error::describe;
use super::objects::SharedStore;
use super::peer_addresses::Digests;
use super::state::{
    ImageError, ProbeState, SCHEDULE_TIMEOUT, START_TIMEOUT, container_statuses, probe_state,
};
use crate::backend::lines::{parse, without_end};
use crate::backend::{Arrival, ProbeFault};
use crate::plan::ProbeId;
use crate::wire::{Body, Line, MAX_LINE};
use futures::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, Client};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// The first and the longest pause before a log is opened again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long the pod's status may take to show that the probe has ended, after the end of its log.
const STATUS_DELAY: Duration = Duration::from_secs(1);

/// The log of one probe.
pub(super) struct Log {
    pub(super) client: Client,
    pub(super) shared: Arc<SharedStore>,
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) container: String,
    pub(super) probe: ProbeId,
    /// The digests of the probe's plan, where it was sent one with other addresses than planned.
    pub(super) digests: Option<Digests>,
    pub(super) lines: mpsc::Sender<Arrival>,
    /// Becomes true when reading has to stop.
    pub(super) stop_reading: watch::Receiver<bool>,
}

/// Why a probe never ran.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum StartError {
    /// Its node cannot get its image.
    #[error("{0}")]
    Image(ImageError),
    /// Any other reason.
    #[error("{0}")]
    Other(String),
}

/// How reading a stream ended.
enum StreamEnd {
    /// The probe said `bye`.
    Bye,
    /// The stream ended or broke.
    Interrupted,
    /// The receiver of the lines is gone.
    ReceiverClosed,
}

impl Log {
    /// Waits for the probe to run, sends its lines to the channel, and at last how it ended.
    ///
    /// # Errors
    /// The reason why the probe never ran.
    pub(super) async fn follow(&self) -> Result<(), StartError> {
        self.wait_until_started().await?;

        let last_error = Mutex::new(None);
        let mut stop_reading = self.stop_reading.clone();
        let how = tokio::select! {
            how = self.read(&last_error) => how,
            Ok(_) = stop_reading.wait_for(|stop| *stop) => {
                let error = last_error.lock().unwrap_or_else(PoisonError::into_inner).take();
                error.unwrap_or_else(|| "its log did not come to an end".to_owned())
            }
        };
        self.send(Err(ProbeFault::Ended(how))).await;
        Ok(())
    }

    /// Sends a line or fault of this probe; false when the receiver is gone.
    pub(super) async fn send(&self, line: Result<Line, ProbeFault>) -> bool {
        self.lines
            .send(Arrival {
                probe: self.probe,
                at: self.shared.now(),
                line,
            })
            .await
            .is_ok()
    }

    fn stored_pod(&self) -> Option<Arc<Pod>> {
        self.shared.store().pod(&self.namespace, &self.pod)
    }

    fn state(&self) -> ProbeState {
        probe_state(self.stored_pod().as_deref(), Some(&self.container))
    }

    /// Returns once the probe runs, or has run.
    async fn wait_until_started(&self) -> Result<(), StartError> {
        let mut updates = self.shared.subscribe();
        let created = Instant::now();
        // The watch may lag behind the response to the pod's creation.
        let mut is_watched = false;
        loop {
            let state = self.state();
            is_watched |= self.stored_pod().is_some();
            let (limit, why) = match state {
                ProbeState::Running => return Ok(()),
                ProbeState::NoImage(error) => return Err(StartError::Image(error)),
                ProbeState::Ended(why) if is_watched => {
                    return if has_run(self.stored_pod().as_deref(), &self.container) {
                        Ok(())
                    } else {
                        Err(StartError::Other(why))
                    };
                }
                ProbeState::Ended(_) => (
                    SCHEDULE_TIMEOUT,
                    "the watch does not show its pod".to_owned(),
                ),
                ProbeState::Unscheduled(why) => (SCHEDULE_TIMEOUT, why),
                ProbeState::NotStarted(why) => (START_TIMEOUT, why),
            };

            if timeout_at(created + limit, updates.changed())
                .await
                .is_err()
            {
                return Err(StartError::Other(format!(
                    "it does not run after {} s: {why}",
                    limit.as_secs()
                )));
            }
        }
    }

    /// Reads until the probe has ended, and returns how it ended. `last_error` holds the error that
    /// keeps the log from being read, while there is one.
    async fn read(&self, last_error: &Mutex<Option<String>>) -> String {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut lines_sent = 0;
        let mut pause = FIRST_PAUSE;
        // When the probe has ended, its log is read once more: the stream may have broken before
        // the end of the log.
        let mut ended: Option<String> = None;
        loop {
            let parameters = LogParams {
                container: Some(self.container.clone()),
                follow: ended.is_none(),
                ..LogParams::default()
            };
            let sent_before = lines_sent;
            let error = match api.log_stream(&self.pod, &parameters).await {
                Ok(stream) => {
                    set(last_error, None);
                    futures::pin_mut!(stream);
                    match self.forward(&mut stream, &mut lines_sent).await {
                        StreamEnd::Bye => return "it said bye".into(),
                        StreamEnd::ReceiverClosed => return "the run stopped reading".into(),
                        StreamEnd::Interrupted => None,
                    }
                }
                Err(error) => Some(describe(&error)),
            };
            if error.is_some() {
                set(last_error, error.clone());
            }
            if let Some(how) = ended {
                return how;
            }

            if lines_sent > sent_before {
                pause = FIRST_PAUSE;
            }
            match self.wait_for_end(STATUS_DELAY).await {
                Some(how) if error.is_none() => ended = Some(how),
                Some(how) => return how,
                None => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// How the probe ended, if the watch shows it within this time.
    async fn wait_for_end(&self, limit: Duration) -> Option<String> {
        let mut updates = self.shared.subscribe();
        let ended = async {
            loop {
                if let ProbeState::Ended(how) = self.state() {
                    return how;
                }
                if updates.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(limit, ended).await.ok()
    }

    /// Sends the new lines of a stream to the channel. `lines_sent` counts those of all streams.
    async fn forward(
        &self,
        stream: &mut (impl AsyncBufRead + Unpin),
        lines_sent: &mut usize,
    ) -> StreamEnd {
        let mut skip = *lines_sent;
        while let Some(mut line) = next_line(stream).await {
            if skip > 0 {
                skip -= 1;
                continue;
            }

            if let (Some(digests), Ok(line)) = (&self.digests, &mut line) {
                digests.restore(line);
            }
            let is_bye = matches!(&line, Ok(line) if matches!(line.body, Body::Bye { .. }));
            *lines_sent += 1;
            if !self.send(line).await {
                return StreamEnd::ReceiverClosed;
            }
            if is_bye {
                return StreamEnd::Bye;
            }
        }
        StreamEnd::Interrupted
    }
}

fn set(last_error: &Mutex<Option<String>>, error: Option<String>) {
    *last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
}

/// Whether a terminated container was started before: then its log has lines.
fn has_run(pod: Option<&Pod>, container: &str) -> bool {
    pod.into_iter()
        .flat_map(container_statuses)
        .filter(|status| status.name == container)
        .any(|status| {
            let terminated = status
                .state
                .as_ref()
                .and_then(|state| state.terminated.as_ref());
            terminated.is_some_and(|terminated| terminated.started_at.is_some())
        })
}

/// The next complete line; `None` at the end of the stream, even if it breaks off within a line.
async fn next_line(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<Result<Line, ProbeFault>> {
    let mut line = Vec::new();
    let length = read_up_to_newline(stream, &mut line).await?;
    if line.ends_with(b"\n") {
        return Some(parse(&line));
    }
    if length < MAX_LINE {
        return None;
    }

    // The line is too long: skip the rest of it.
    loop {
        line.clear();
        let more = read_up_to_newline(stream, &mut line).await?;
        if line.ends_with(b"\n") {
            return Some(Err(without_end(length)));
        }
        if more == 0 {
            return None;
        }
    }
}

/// Reads to the end of the line, and at most [`MAX_LINE`] bytes; `None` when the stream broke.
async fn read_up_to_newline(
    stream: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> Option<usize> {
    (&mut *stream)
        .take(MAX_LINE as u64)
        .read_until(b'\n', line)
        .await
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_incomplete_line_is_skipped_and_a_too_long_line_is_a_fault() {
        let long = "x".repeat(2 * MAX_LINE + 10);
        let text = format!(
            "{{\"v\":1,\"seq\":0,\"t\":0,\"k\":\"bye\",\"reason\":\"signal\"}}\n{long}\nnonsense\n{{\"v\":1"
        );
        let mut stream = futures::io::Cursor::new(text.into_bytes());
        assert!(matches!(next_line(&mut stream).await, Some(Ok(_))));
        assert_eq!(
            next_line(&mut stream).await,
            Some(Err(without_end(MAX_LINE)))
        );
        assert!(
            matches!(next_line(&mut stream).await, Some(Err(ProbeFault::Unreadable(what))) if what.contains("nonsense"))
        );
        assert_eq!(next_line(&mut stream).await, None);
    }
}
