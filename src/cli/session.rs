//! One run on a backend that is up, from a plan to an exit code. What differs between backends is
//! not here.

use super::RunOptions;
use super::outputs::{Sinks, describe};
use super::terminal::Terminal;
use crate::backend::Backend;
use crate::engine::{self, Observer};
use crate::event::{ExitCode, RunEvent};
use crate::plan::Plan;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};

/// Opens the reports, loads, and runs what was loaded by `carry`; the exit code of all.
pub(super) fn run<L>(
    load: impl FnOnce() -> Result<L, ExitCode>,
    options: &RunOptions,
    terminal: &Terminal,
    carry: impl FnOnce(L, &mut Sinks) -> ExitCode,
) -> ExitCode {
    // Reports come first: the file of an earlier run must not outlast a run that never begins.
    let mut sinks = match Sinks::open(options, terminal) {
        Ok(sinks) => sinks,
        Err(code) => return code,
    };
    let code = match load() {
        Ok(loaded) => {
            sinks.show(options, terminal);
            carry(loaded, &mut sinks)
        }
        Err(code) => {
            let why = match code {
                ExitCode::Usage => "a suite or a manifest must be changed",
                ExitCode::Proven
                | ExitCode::Violated
                | ExitCode::Unproven
                | ExitCode::Impossible
                | ExitCode::Defect => "there is nothing that can be proven",
            };
            sinks.stopped(why, code)
        }
    };
    sinks.finish(code, terminal)
}

/// Runs, takes the backend down, and says what could not be removed.
pub(crate) async fn run_and_tear_down<B: Backend>(
    plan: &Plan,
    mut backend: B,
    options: engine::Options,
    interrupted: impl Future<Output = String>,
    sinks: &mut Sinks,
    terminal: &Terminal,
) -> ExitCode {
    let result = engine::run(plan, &mut backend, options, interrupted, sinks).await;
    sinks.flush();
    let leftovers: Vec<String> = backend
        .teardown()
        .await
        .iter()
        .map(|error| describe(error))
        .collect();
    for left in &leftovers {
        terminal.note(&format!("not everything was removed: {left}"));
    }
    match result {
        Ok(summary) => {
            sinks.event(RunEvent::CleanedUp { leftovers });
            ExitCode::of(&summary)
        }
        Err(error) => {
            let why = describe(&error);
            terminal.error(&why);
            sinks.stopped(
                &format!("no probe could be started: {why}"),
                ExitCode::Impossible,
            )
        }
    }
}

/// SHA-256 of the executable that runs, hexadecimal; `None` if it cannot be read.
///
/// Takes about 50 ms, of one processor.
pub(crate) fn own_digest() -> Option<String> {
    let digest = || -> io::Result<String> {
        let mut file = File::open("/proc/self/exe")?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => hash.update(&buffer[..read]),
            }
        }
        Ok(hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    };
    digest().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_is_that_of_the_file() {
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let expected: String = Sha256::digest(&whole)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(own_digest(), Some(expected));
    }
}
