//! Targets that misbehave, from a suite to its reports, with real sockets in the lab.
//!
//! Whatever a target does, a run ends in time, uses little memory, and never counts a misbehaving
//! target as a proof: a deny is not proven by a target that is silent to every source, and an allow
//! is not proven by a target that does not answer. Control characters that a target sends never
//! reach a report.
//!
//! A program of its own instead of a test harness: the process enters a user namespace before it
//! has a second thread, and the lab starts this program again as probes and as the responder.
//! `cargo test --test hostile -- WORD...` runs the cases whose name contains one of the words.

#[path = "hostile/cases.rs"]
mod cases;
#[path = "hostile/memory.rs"]
mod memory;
#[path = "common/recorder.rs"]
mod recorder;
#[path = "hostile/reports.rs"]
mod reports;
#[path = "hostile/scene.rs"]
mod scene;
#[path = "hostile/servers.rs"]
mod servers;
#[path = "common/worlds.rs"]
mod worlds;

use scene::Evaluation;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use watertight::backend::lab;

/// Runs at a time: they mostly wait.
const AT_ONCE: usize = 2;

/// Every probe's resident memory, at its highest.
const MOST_MEMORY: u64 = 64 * 1024 * 1024;

fn main() -> ExitCode {
    // Probes and the responder are this program again.
    if let Some(code) = watertight::early_main() {
        return code;
    }
    if let Err(obstacle) = lab::enter() {
        say(&format!(
            "the lab is not possible here: {obstacle}; fix: {}\n0 passed, 1 failed",
            obstacle.fix()
        ));
        return ExitCode::FAILURE;
    }
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let wanted = |case: &Evaluation| {
        words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str()))
    };
    let cases: Vec<Evaluation> = cases::all().into_iter().filter(wanted).collect();
    std::panic::set_hook(Box::new(|panic| say(&panic.to_string())));
    let gauge = memory::Gauge::start();
    let (next, passed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let ends = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if run(case) {
                        passed.fetch_add(1, Ordering::Relaxed);
                    } else {
                        ends.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(case.name);
                    }
                }
            });
        }
    });
    let mut passed = passed.into_inner();
    let mut failed = ends.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (highest, probes) = gauge.stop();
    let small = probes > 0 && highest < MOST_MEMORY;
    say(&format!(
        "{} the highest of {probes} probes took {:.1} MiB",
        if small { "ok    " } else { "FAILED" },
        highest as f64 / (1024.0 * 1024.0)
    ));
    if small {
        passed += 1;
    } else {
        failed.push("memory of probes");
    }
    say(&format!("{passed} passed, {} failed", failed.len()));
    if failed.is_empty() && passed > 1 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run(case: &Evaluation) -> bool {
    let started = Instant::now();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("an event loop");
        runtime.block_on(scene::run(case));
    }));
    let word = if ended.is_ok() { "ok    " } else { "FAILED" };
    say(&format!(
        "{word} {} ({:.1} s)",
        case.name,
        started.elapsed().as_secs_f32()
    ));
    ended.is_ok()
}

/// The one place that prints.
fn say(text: &str) {
    use std::io::Write;
    drop(writeln!(std::io::stdout(), "{text}"));
}
