//! The runner's probe: a child process of this program, in the network that watertight runs in.

use super::peer_addresses::Digests;
use crate::backend::lines::{parse, without_end};
use crate::backend::probe_stdin::{self, ProbeStdin};
use crate::backend::{Arrival, ProbeFault};
use crate::model::Secrets;
use crate::plan::ProbeId;
use crate::wire::{self, MAX_LINE};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The executable of this process, even if its file was replaced.
const SELF_EXE: &str = "/proc/self/exe";

/// How long the probe may take to end after SIGTERM, before SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The running probe process of the runner.
pub(super) struct RunnerProbe {
    pid: Pid,
    _stdin: ProbeStdin,
    reader: JoinHandle<()>,
}

impl RunnerProbe {
    /// Starts the process, and a task that reads its lines.
    ///
    /// # Errors
    /// The reason why it did not start.
    pub(super) fn start(
        probe: ProbeId,
        plan: &wire::Plan,
        secrets: &Secrets,
        digests: Option<Digests>,
        run_start: Instant,
        lines: &mpsc::Sender<Arrival>,
    ) -> Result<Self, String> {
        let environment = watertight_probe::encode_plan(plan).map_err(|error| error.to_string())?;
        let secrets = secrets.select(plan.secret_names())?;
        let mut command = Command::new(SELF_EXE);
        command
            .arg("__probe")
            .env_clear()
            .envs(environment)
            .envs(probe_stdin::variables(&secrets))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);

        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let pid = Pid::from_raw(child.id().map_or(0, u32::cast_signed));
        let stdin = ProbeStdin::feed(child.stdin.take(), &secrets);
        let reader = tokio::spawn(read(probe, child, digests, run_start, lines.clone()));
        Ok(Self {
            pid,
            _stdin: stdin,
            reader,
        })
    }

    /// Ends the process: SIGTERM, one second for its last lines, SIGKILL.
    pub(super) async fn stop(mut self) {
        if self.reader.is_finished() {
            return;
        }
        // The pid stays reserved until the reader has waited for the process, so the signal cannot
        // reach another one.
        let _ = kill(self.pid, Signal::SIGTERM);
        if timeout(STOP_TIMEOUT, &mut self.reader).await.is_err() {
            let _ = kill(self.pid, Signal::SIGKILL);
            // If the reader panicked, the missing `Ended` shows it.
            let _ = self.reader.await;
        }
    }
}

async fn read(
    probe: ProbeId,
    mut child: Child,
    digests: Option<Digests>,
    run_start: Instant,
    lines: mpsc::Sender<Arrival>,
) {
    if let Some(stdout) = child.stdout.take() {
        let mut stdout = BufReader::with_capacity(2 * MAX_LINE, stdout);
        while let Some(mut line) = next_line(&mut stdout).await {
            if let (Some(digests), Ok(line)) = (&digests, &mut line) {
                digests.restore(line);
            }
            if lines
                .send(Arrival {
                    probe,
                    at: run_start.elapsed(),
                    line,
                })
                .await
                .is_err()
            {
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
            at: run_start.elapsed(),
            line: Err(ProbeFault::Ended(how)),
        })
        .await;
}

/// The next line; `None` at the end. This program never writes a line that is too long, so there is
/// no search for the line after one.
async fn next_line(
    stdout: &mut (impl AsyncBufRead + Unpin),
) -> Option<Result<wire::Line, ProbeFault>> {
    let mut line = Vec::new();
    match (&mut *stdout)
        .take(MAX_LINE as u64)
        .read_until(b'\n', &mut line)
        .await
    {
        Ok(0) => None,
        Ok(_) if line.ends_with(b"\n") => Some(parse(&line)),
        Ok(length) => Some(Err(without_end(length))),
        Err(error) => Some(Err(ProbeFault::Unreadable(error.to_string()))),
    }
}
