//! Probe processes, each in the network namespace of its source.

use super::netns::Netns;
use super::spawn::{SELF, prepare};
use crate::backend::lines::{parse, without_end};
use crate::backend::probe_stdin::{self, ProbeStdin};
use crate::backend::{Arrival, Launch, ProbeFault};
use crate::model::Secrets;
use crate::plan::ProbeId;
use crate::wire::{self, MAX_LINE};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Time that a probe has between SIGTERM and its last line.
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
    _stdin: ProbeStdin,
    reader: JoinHandle<()>,
}

impl Probes {
    /// Starts one probe and a task that reads its lines.
    ///
    /// # Errors
    /// The reason why the probe did not start.
    pub(super) fn launch(
        &mut self,
        launch: &Launch,
        netns: Netns,
        secrets: &Secrets,
        started: Instant,
        lines: &mpsc::Sender<Arrival>,
    ) -> Result<(), String> {
        let secrets = secrets.select(launch.plan.secret_names())?;
        let mut child = start(launch, netns, &secrets)?;
        let pid = Pid::from_raw(child.id().map_or(0, u32::cast_signed));
        let stdin = ProbeStdin::feed(child.stdin.take(), &secrets);
        let reader = tokio::spawn(read(launch.probe, child, started, lines.clone()));
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

    /// Sends a signal to one probe; `false` if it does not exist or has ended.
    pub(super) fn signal(&self, id: ProbeId, signal: Signal) -> bool {
        self.running
            .get(&id)
            .is_some_and(|probe| probe.signal(signal))
    }

    /// Removes all probes, for [`stop`].
    pub(super) fn take(&mut self) -> Vec<Probe> {
        std::mem::take(&mut self.running).into_values().collect()
    }
}

impl Probe {
    /// Sends a signal; `false` if the probe has ended. Its process id cannot belong to another
    /// process before the reader has reaped it.
    fn signal(&self, signal: Signal) -> bool {
        !self.reader.is_finished() && kill(self.pid, signal).is_ok()
    }
}

/// Stops probes: SIGTERM, SIGKILL after [`GRACE`]. The channel must be read until this returns.
pub(super) async fn stop(probes: Vec<Probe>) {
    for probe in &probes {
        probe.signal(Signal::SIGTERM);
        // A stopped process handles SIGTERM only after SIGCONT.
        probe.signal(Signal::SIGCONT);
    }

    let deadline = tokio::time::Instant::now() + GRACE;
    for mut probe in probes {
        let ended = tokio::time::timeout_at(deadline, &mut probe.reader).await;
        if ended.is_err() {
            probe.signal(Signal::SIGKILL);
            // A panic of the reader shows by the missing lines.
            let _ = probe.reader.await;
        }
    }
}

/// Reports a probe that did not start.
pub(super) async fn not_started(
    probe: ProbeId,
    why: String,
    started: Instant,
    lines: &mpsc::Sender<Arrival>,
) {
    // Without a receiver the run has ended, and the line is not needed.
    let _ = lines
        .send(Arrival {
            probe,
            at: started.elapsed(),
            line: Err(ProbeFault::NotStarted(why)),
        })
        .await;
}

/// Executes this program as a probe.
fn start(launch: &Launch, netns: Netns, secrets: &Secrets) -> Result<Child, String> {
    use std::os::fd::{AsFd, AsRawFd};
    let environment =
        watertight_probe::encode_plan(&launch.plan).map_err(|error| error.to_string())?;

    let mut command = std::process::Command::new(SELF);
    command
        .arg("__probe")
        .arg(netns.as_fd().as_raw_fd().to_string())
        .env_clear()
        .envs(environment)
        .envs(probe_stdin::variables(secrets))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    prepare(&mut command, Some(netns));

    Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())
}

/// Sends all lines of a probe, then a fault that says how its process ended.
async fn read(probe: ProbeId, mut child: Child, started: Instant, lines: mpsc::Sender<Arrival>) {
    if let Some(stdout) = child.stdout.take() {
        let mut stdout = BufReader::with_capacity(2 * MAX_LINE, stdout);
        while let Some(line) = next_line(&mut stdout).await {
            let arrival = Arrival {
                probe,
                at: started.elapsed(),
                line,
            };
            if lines.send(arrival).await.is_err() {
                break;
            }
        }
    }

    let status = match child.wait().await {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    let _ = lines
        .send(Arrival {
            probe,
            at: started.elapsed(),
            line: Err(ProbeFault::Ended(status)),
        })
        .await;
}

/// The next line; `None` at the end of the output. A line that is too long or does not follow the
/// protocol is a fault; reading continues after its newline.
async fn next_line(stdout: &mut BufReader<ChildStdout>) -> Option<Result<wire::Line, ProbeFault>> {
    let mut line = Vec::new();
    match read_piece(stdout, &mut line).await {
        Ok(0) => None,
        Ok(_) if line.ends_with(b"\n") => Some(parse(&line)),
        Ok(length) => {
            skip_to_newline(stdout).await;
            Some(Err(without_end(length)))
        }
        Err(error) => Some(Err(ProbeFault::Unreadable(error.to_string()))),
    }
}

/// Reads to the next newline, at most [`MAX_LINE`] bytes.
async fn read_piece(
    stdout: &mut BufReader<ChildStdout>,
    piece: &mut Vec<u8>,
) -> std::io::Result<usize> {
    stdout.take(MAX_LINE as u64).read_until(b'\n', piece).await
}

/// Discards the rest of a line.
async fn skip_to_newline(stdout: &mut BufReader<ChildStdout>) {
    let mut rest = Vec::new();
    loop {
        rest.clear();
        match read_piece(stdout, &mut rest).await {
            Ok(0) | Err(_) => return,
            Ok(_) if rest.ends_with(b"\n") => return,
            Ok(_) => {}
        }
    }
}
