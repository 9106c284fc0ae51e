//! Probes: one process each, in the network namespace of its source.

use super::netns::Netns;
use super::spawn::{SELF, prepare};
use crate::backend::lines::{parse, without_end};
use crate::backend::{Arrival, Launch, ProbeFault};
use crate::plan::ProbeId;
use crate::wire::{self, MAX_LINE};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How long a probe may take to say `bye`.
const GRACE: Duration = Duration::from_secs(1);

/// The probes of a run.
#[derive(Debug, Default)]
pub(super) struct Probes {
    running: BTreeMap<ProbeId, Probe>,
}

/// One running probe.
#[derive(Debug)]
pub(super) struct Probe {
    pid: Pid,
    /// Closing it ends the probe, also when this process is killed.
    _stdin: Option<ChildStdin>,
    reader: JoinHandle<()>,
}

impl Probes {
    /// Starts one probe and a task that reads its lines.
    ///
    /// # Errors
    /// Why it did not start.
    pub(super) fn launch(
        &mut self,
        launch: &Launch,
        netns: Netns,
        since: Instant,
        lines: &mpsc::Sender<Arrival>,
    ) -> Result<(), String> {
        let mut child = start(launch, netns)?;
        let pid = Pid::from_raw(child.id().map_or(0, u32::cast_signed));
        let stdin = child.stdin.take();
        let reader = tokio::spawn(read(launch.probe, child, since, lines.clone()));
        self.running.insert(
            launch.probe,
            Probe {
                pid,
                _stdin: stdin,
                reader,
            },
        );
        Ok(())
    }

    /// Sends a signal to one probe; `false` when there is no such probe.
    pub(super) fn signal(&self, id: ProbeId, signal: Signal) -> bool {
        self.running
            .get(&id)
            .is_some_and(|probe| probe.signal(signal))
    }

    /// Hands all probes over, to be stopped.
    pub(super) fn take(&mut self) -> Vec<Probe> {
        std::mem::take(&mut self.running).into_values().collect()
    }
}

impl Probe {
    /// The process id is the probe's until its reader has reaped it; for a moment after that the id
    /// is unused.
    fn signal(&self, signal: Signal) -> bool {
        !self.reader.is_finished() && kill(self.pid, signal).is_ok()
    }
}

/// Stops probes: SIGTERM, a second for the last lines, SIGKILL. The channel must be read until this
/// returns.
pub(super) async fn stop(probes: Vec<Probe>) {
    for probe in &probes {
        probe.signal(Signal::SIGTERM);
        // A stopped process takes no SIGTERM before it continues.
        probe.signal(Signal::SIGCONT);
    }
    let deadline = tokio::time::Instant::now() + GRACE;
    for mut probe in probes {
        if tokio::time::timeout_at(deadline, &mut probe.reader)
            .await
            .is_err()
        {
            probe.signal(Signal::SIGKILL);
            // A panic of the reader is a defect that the missing lines show already.
            let _ = probe.reader.await;
        }
    }
}

/// Reports a probe that did not start.
pub(super) async fn not_started(
    probe: ProbeId,
    why: String,
    since: Instant,
    lines: &mpsc::Sender<Arrival>,
) {
    // The receiver is gone when the run has ended: the line is not needed then.
    let _ = lines
        .send(Arrival {
            probe,
            at: since.elapsed(),
            line: Err(ProbeFault::NotStarted(why)),
        })
        .await;
}

fn start(launch: &Launch, netns: Netns) -> Result<Child, String> {
    use std::os::fd::{AsFd, AsRawFd};
    let environment =
        watertight_probe::encode_plan(&launch.plan).map_err(|error| error.to_string())?;
    let mut command = std::process::Command::new(SELF);
    command
        .arg("__probe")
        .arg(netns.as_fd().as_raw_fd().to_string())
        .env_clear()
        .envs(environment)
        .env("WATERTIGHT_STDIN", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    prepare(&mut command, Some(netns));
    Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())
}

/// Reads lines to the end, then says how the probe ended.
async fn read(probe: ProbeId, mut child: Child, since: Instant, lines: mpsc::Sender<Arrival>) {
    if let Some(stdout) = child.stdout.take() {
        let mut stdout = BufReader::with_capacity(2 * MAX_LINE, stdout);
        while let Some(line) = next(&mut stdout).await {
            let arrival = Arrival {
                probe,
                at: since.elapsed(),
                line,
            };
            if lines.send(arrival).await.is_err() {
                break;
            }
        }
    }
    let how = match child.wait().await {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    let _ = lines
        .send(Arrival {
            probe,
            at: since.elapsed(),
            line: Err(ProbeFault::Ended(how)),
        })
        .await;
}

/// The next line; `None` at the end. What is longer than a line may be, or is no line of the wire,
/// is a fault, and the next one begins after the next newline.
async fn next(stdout: &mut BufReader<ChildStdout>) -> Option<Result<wire::Line, ProbeFault>> {
    let mut line = Vec::new();
    match (&mut *stdout)
        .take(MAX_LINE as u64)
        .read_until(b'\n', &mut line)
        .await
    {
        Ok(0) => None,
        Ok(_) if line.ends_with(b"\n") => Some(parse(&line)),
        Ok(length) => {
            let mut rest = Vec::new();
            loop {
                rest.clear();
                match (&mut *stdout)
                    .take(MAX_LINE as u64)
                    .read_until(b'\n', &mut rest)
                    .await
                {
                    Ok(0) | Err(_) => break,
                    Ok(_) if rest.ends_with(b"\n") => break,
                    Ok(_) => {}
                }
            }
            Some(Err(without_end(length)))
        }
        Err(error) => Some(Err(ProbeFault::Unreadable(error.to_string()))),
    }
}
