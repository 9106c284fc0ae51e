//! The sabotage test: every suite is broken in every way, and must say so.
//!
//! It takes the folders of `suites/`, and worlds made here that use every point of the policies'
//! semantics in both directions and both families. Each is run as it is, where everything must be
//! proven; then again and again with one thing broken, through the same kernel objects that the
//! packets meet, where each check must come back with the verdict that follows. Further scenes
//! bring about what no folder shows. At the end everything that was never exercised is a failure: a
//! feature, a direction, a family, a tier, a stage, a reason.
//!
//! `cargo test --test sabotage -- WORD...` runs only what is named so; then nothing is said of what
//! is missing.

#![expect(clippy::expect_used, reason = "a test that cannot set its scene ends")]

#[path = "sabotage/answers.rs"]
mod answers;
#[path = "sabotage/breaks.rs"]
mod breaks;
#[path = "sabotage/cluster.rs"]
mod cluster;
#[path = "sabotage/coverage.rs"]
mod coverage;
#[path = "sabotage/ends.rs"]
mod ends;
#[path = "sabotage/established.rs"]
mod established;
#[path = "sabotage/features.rs"]
mod features;
#[path = "sabotage/flipped.rs"]
mod flipped;
#[path = "sabotage/hosts.rs"]
mod hosts;
#[path = "sabotage/lines.rs"]
mod lines;
#[path = "sabotage/losses.rs"]
mod losses;
#[path = "sabotage/network.rs"]
mod network;
#[path = "common/recorder.rs"]
mod recorder;
#[path = "sabotage/runner.rs"]
mod runner;
#[path = "sabotage/scene.rs"]
mod scene;
#[path = "sabotage/scenes.rs"]
mod scenes;
#[path = "sabotage/worlds.rs"]
mod worlds;

use breaks::Base;
use coverage::Exercised;
use runner::{Evaluation, Hand, How, Ran, Turns, Wanted, run, run_whole};
use std::collections::VecDeque;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use watertight::backend::lab::{self, Deny};

/// Labs at a time: they mostly wait.
const AT_ONCE: usize = 4;

/// Failures of one job that are printed.
const SHOWN: usize = 6;

/// What one job found.
pub(crate) struct Done {
    failures: Vec<String>,
    exercised: Exercised,
}

impl Done {
    /// What a run shows, if it could be made.
    fn of(ran: Result<Ran, String>, failures: impl FnOnce(&Ran) -> Vec<String>) -> Self {
        match ran {
            Ok(ran) => Self {
                failures: failures(&ran),
                exercised: Exercised::by(&ran),
            },
            Err(why) => Self::failed(why),
        }
    }

    /// A job that could not be carried out.
    fn failed(why: String) -> Self {
        Self {
            failures: vec![why],
            exercised: Exercised::default(),
        }
    }
}

type Work = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = Done>>> + Send>;

/// One run, with what it must show.
pub(crate) struct Job {
    name: String,
    work: Work,
}

impl Job {
    fn new<F: Future<Output = Done> + 'static>(
        name: String,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Self {
        Self {
            name,
            work: Box::new(|| Box::pin(work())),
        }
    }

    /// A run of what `case` writes down, broken by `act`: its first checks must come back as wanted,
    /// in order; of further ones nothing is said.
    fn of_checks(
        name: String,
        how: How,
        wanted: Vec<Wanted>,
        case: impl FnOnce() -> Evaluation + Send + 'static,
        act: impl AsyncFn(Hand) -> Result<(), lab::Error> + Send + 'static,
    ) -> Self {
        Self::new(name, async move || {
            Done::of(run(&case(), how, act).await, |ran| {
                ran.differing(|index| wanted.get(index).cloned())
            })
        })
    }
}

/// The one place that prints.
pub(crate) fn say(text: &str) {
    use std::io::Write;
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// How far the test is.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
    exercised: Exercised,
}

fn main() -> ExitCode {
    // Probes and the responder are this program again.
    if let Some(code) = watertight::early_main() {
        return code;
    }
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    if let Err(obstacle) = lab::enter() {
        say(&format!(
            "the lab is not possible here: {obstacle}; fix: {}",
            obstacle.fix()
        ));
        return ExitCode::FAILURE;
    }
    let started = Instant::now();
    let wanted =
        |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let tally = Mutex::new(Tally::default());
    let bases = Arc::new(Mutex::new(Vec::new()));
    let mut jobs = Vec::new();

    for case in folders().into_iter().chain(worlds::all()) {
        for (how, deny) in [("reset", Deny::Reset), ("answered by ICMP", Deny::Icmp)] {
            jobs.push(as_it_is(
                case.denying(deny),
                &format!("as it is, denials {how}"),
                None,
            ));
        }
        jobs.insert(0, as_it_is(case, "as it is", Some(Arc::clone(&bases))));
    }
    work_through(
        jobs.into_iter().filter(|job| wanted(&job.name)).collect(),
        &tally,
    );
    let bases = std::mem::take(&mut *bases.lock().unwrap_or_else(PoisonError::into_inner));
    let jobs = scenes::all()
        .into_iter()
        .chain(losses::all())
        .chain(network::all())
        .chain(hosts::all())
        .chain(lines::all())
        .chain(answers::all())
        .chain(established::all())
        .chain(bases.iter().flat_map(breaks::all));
    work_through(jobs.filter(|job| wanted(&job.name)).collect(), &tally);
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (mut passed, mut failed) = (tally.passed, tally.failed);
    if words.is_empty() {
        let gaps = tally.exercised.gaps();
        for gap in &gaps {
            say(&format!("never exercised: {gap}"));
        }
        if gaps.is_empty() {
            passed += 1;
        } else {
            failed.push("everything is exercised".to_owned());
        }
    }

    for name in &failed {
        say(&format!("failed: {name}"));
    }
    say(&format!("took {:.0} s", started.elapsed().as_secs_f32()));
    say(&format!("{passed} passed, {} failed", failed.len()));
    if failed.is_empty() && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The example suites: each folder of `suites/` with a `suite.yaml` and `manifests/`.
fn folders() -> Vec<Evaluation> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("suites");
    let mut folders: Vec<_> = std::fs::read_dir(&root)
        .expect("suites/")
        .map(|entry| entry.expect("a folder").path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();

    assert!(
        !folders.is_empty(),
        "there is no folder in {}",
        root.display()
    );
    let name = |folder: &Path| {
        folder
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name in UTF-8")
            .to_owned()
    };
    let load =
        |folder: &PathBuf| Evaluation::load(&name(folder), folder, Turns::Each).in_turns_by_size();
    folders.iter().map(load).collect()
}

/// Runs a case without sabotage: everything must be proven.
fn as_it_is(case: Evaluation, how: &str, bases: Option<Arc<Mutex<Vec<Arc<Base>>>>>) -> Job {
    Job::new(format!("{} / {how}", case.name), async move || {
        let ran = match run_whole(&case).await {
            Ok(ran) => ran,
            Err(error) => return Done::failed(error),
        };
        let mut failures = ran.differing(|_| Some(Wanted::Proven));
        if failures.is_empty() && ran.code.number() != 0 {
            failures.push(format!(
                "all is proven and the exit code is {}",
                ran.code.number()
            ));
        }
        let exercised = Exercised::by(&ran);
        if let Some(bases) = bases {
            bases
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Arc::new(Base { case, ran }));
        }
        Done {
            failures,
            exercised,
        }
    })
}

/// Works through jobs, several at a time, each in a lab of its own.
fn work_through(jobs: VecDeque<Job>, tally: &Mutex<Tally>) {
    let jobs = Mutex::new(jobs);
    let next = || {
        jobs.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(Job { name, work }) = next() {
                    let started = Instant::now();
                    // A lab's processes end with the thread that started them, so each job has its
                    // runtime here.
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .expect("a runtime");
                    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        runtime.block_on(work())
                    }));
                    let done = done.unwrap_or_else(|_| Done::failed("it panicked".to_owned()));
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    let verdict = if done.failures.is_empty() {
                        "ok"
                    } else {
                        "FAILED"
                    };
                    say(&format!(
                        "{verdict:6} {:5.1} s  {name}",
                        started.elapsed().as_secs_f32()
                    ));
                    for failure in done.failures.iter().take(SHOWN) {
                        say(&format!("         {failure}"));
                    }
                    if done.failures.len() > SHOWN {
                        say(&format!(
                            "         and {} more",
                            done.failures.len() - SHOWN
                        ));
                    }
                    if done.failures.is_empty() {
                        tally.passed += 1;
                    } else {
                        tally.failed.push(name);
                    }
                    tally.exercised.add(done.exercised);
                }
            });
        }
    });
}
