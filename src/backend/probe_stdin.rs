//! The stdin of a probe that is a child process: it brings the secrets, and its end ends the probe.

use crate::model::Secrets;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::task::JoinHandle;
use watertight_probe::{SECRETS_ON_STDIN, secrets_line};

/// The open stdin of a child process. Dropping it ends the probe, also when this process is killed.
#[derive(Debug)]
pub(super) struct ProbeStdin {
    _open: Option<ChildStdin>,
    /// The task that wrote the secrets and keeps the end of the pipe.
    _written: Option<JoinHandle<ChildStdin>>,
}

/// The variables that tell a probe what comes on its stdin.
pub(super) fn variables(secrets: &Secrets) -> impl Iterator<Item = (&'static str, &'static str)> {
    let on_stdin = (!secrets.is_empty()).then_some((SECRETS_ON_STDIN, "1"));
    [("WATERTIGHT_STDIN", "1")].into_iter().chain(on_stdin)
}

impl ProbeStdin {
    /// Writes the secrets, if there are any, and keeps the pipe open.
    pub(super) fn feed(stdin: Option<ChildStdin>, secrets: &Secrets) -> Self {
        match stdin {
            Some(mut stdin) if !secrets.is_empty() => {
                let line = secrets_line(secrets.expose());
                let written = tokio::spawn(async move {
                    // A probe that has ended reads nothing; how it ended is reported elsewhere.
                    let _ = stdin.write_all(line.as_bytes()).await;
                    stdin
                });
                Self {
                    _open: None,
                    _written: Some(written),
                }
            }
            stdin => Self {
                _open: stdin,
                _written: None,
            },
        }
    }
}
