//! One run, from its options to an exit code, and the steps that all backends share.

use super::options::{RunOptions, SuiteInput, Target};
use super::outputs::Outputs;
use super::terminal::{Terminal, describe};
use super::{cluster, lab, scripted};
use crate::backend::Backend;
use crate::engine::{self, Observer, RunnerClock};
use crate::event::{ExitCode, RunEvent};
use crate::plan::{Plan, Schedule};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

/// The end of a run that came to no verdicts: the reason for its reports, and the exit code. The
/// cause has been shown on standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stopped {
    pub(super) why: String,
    pub(super) code: ExitCode,
}

impl Stopped {
    pub(super) fn new(why: impl Into<String>, code: ExitCode) -> Self {
        Self {
            why: why.into(),
            code,
        }
    }

    /// The end of a run whose suites or manifests could not be loaded or planned.
    pub(super) fn while_loading(code: ExitCode) -> Self {
        let why = match code {
            ExitCode::Usage => "a suite or a manifest must be changed",
            ExitCode::Proven
            | ExitCode::Violated
            | ExitCode::Unproven
            | ExitCode::Impossible
            | ExitCode::Defect => "there is nothing that can be proven",
        };
        Self::new(why, code)
    }
}

impl From<Stopped> for ExitCode {
    fn from(stopped: Stopped) -> Self {
        stopped.code
    }
}

/// Opens the reports, tests the suites, and closes the reports.
pub(crate) fn run(
    input: SuiteInput<'_>,
    target: &Target,
    options: &RunOptions,
    terminal: &Terminal,
) -> ExitCode {
    // Reports come first: the file of an earlier run must not survive a run that never begins.
    let mut outputs = match Outputs::open(options, terminal) {
        Ok(outputs) => outputs,
        Err(code) => return code,
    };

    let result = match target {
        Target::Cluster(cluster) => cluster::run(input, cluster, options, &mut outputs, terminal),
        Target::Lab(lab) => lab::run(input, lab, options, &mut outputs, terminal),
        Target::Scripted { world, script } => {
            scripted::run(input, world, script, options, &mut outputs, terminal)
        }
    };

    let code = outputs.conclude(result);
    outputs.finish(code, terminal)
}

/// Runs a plan on a backend that is up, takes the backend down, and shows what could not be
/// removed.
///
/// # Errors
/// No probe could be started.
pub(super) async fn run_and_tear_down<B: Backend>(
    plan: &Plan,
    mut backend: B,
    options: engine::Options,
    interrupted: impl Future<Output = String>,
    outputs: &mut Outputs,
    terminal: &Terminal,
) -> Result<ExitCode, Stopped> {
    let result = engine::run(plan, &mut backend, options, interrupted, outputs).await;
    outputs.flush();

    let errors = backend.teardown().await;
    let leftovers: Vec<String> = errors.iter().map(|error| describe(error)).collect();
    for leftover in &leftovers {
        terminal.note(&format!("not everything was removed: {leftover}"));
    }

    match result {
        Ok(summary) => {
            outputs.event(RunEvent::CleanedUp { leftovers });
            Ok(ExitCode::of(&summary))
        }
        Err(error) => {
            let why = describe(&error);
            terminal.error(&why);
            Err(Stopped::new(
                format!("no probe could be started: {why}"),
                ExitCode::Impossible,
            ))
        }
    }
}

/// The schedule of a new run, with an id that no other run has and a seed that cannot be guessed.
/// `trust` are the certificate authorities of the targets, in PEM.
pub(super) fn new_schedule(trust: Vec<String>, heartbeat: Duration) -> Schedule {
    Schedule {
        run: new_run_id(),
        seed: new_seed(),
        trust,
        heartbeat,
    }
}

/// An id for a run: the wall clock, which never repeats, mixed with the process's id. It is in
/// reports and in the names of objects.
pub(super) fn new_run_id() -> String {
    let wall_us = RunnerClock::read(Duration::ZERO).wall_us;
    let id = wall_us.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(std::process::id());
    format!("{id:016x}")
}

/// A random seed. With it the nonces of a run can be computed, so that it does not follow from the
/// run's id, and no report contains it.
fn new_seed() -> u64 {
    #[expect(clippy::expect_used, reason = "Linux has getrandom(2) since 3.17")]
    getrandom::u64().expect("the kernel's random numbers")
}

/// SHA-256 of the executable that runs, hexadecimal; `None` if it cannot be read.
///
/// Takes about 50 ms of one processor.
pub(super) fn own_digest() -> Option<String> {
    sha256_of("/proc/self/exe").ok()
}

fn sha256_of(path: &str) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }

    let digest = hash.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_of_a_run_is_neither_its_id_nor_that_of_another_run() {
        let [first, second] = [(); 2].map(|()| new_schedule(Vec::new(), Duration::from_secs(1)));
        assert_ne!(first.run, format!("{:016x}", first.seed));
        assert_ne!(first.seed, second.seed);
    }

    #[test]
    fn own_digest_is_the_digest_of_the_executable() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let digest = Sha256::digest(&bytes);
        let expected: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(own_digest(), Some(expected));
    }
}
