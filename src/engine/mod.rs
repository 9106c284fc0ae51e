//! Runs a plan: drives a backend, collects lines as evidence, emits events.
//!
//! A run has four steps:
//! 1. *launch* (`Run::launch`): every probe starts at once;
//! 2. *watch* (`Run::watch`): lines are collected as they arrive, and every check that is not
//!    settled is judged again and again, until all are settled or the time that the slowest may
//!    take is over; flows that a change concerns are restarted;
//! 3. *stop* (`Run::stop`): all probes stop, and their last lines are collected;
//! 4. *finish* (`Run::finish`): every check is judged once more, for good.

mod changes;
mod clock;
mod collector;
mod completion;
mod environment;
mod launch;
mod observer;
mod options;
mod replan;
mod run;
mod settle;
mod watch;

pub use clock::RunnerClock;
pub use collector::Collector;
pub use observer::Observer;
pub use options::{About, Options};
pub use replan::Replan;

use crate::backend::Backend;
use crate::event::{Summary, check_refs};
use crate::plan::Plan;
use run::Run;

/// Why a run could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum EngineError<E: std::error::Error + 'static> {
    /// The backend could not launch any probe.
    #[error(transparent)]
    Backend(E),
}

/// Runs a plan. `interrupted` completes with a reason when the run shall end early.
///
/// # Errors
/// When not one probe could be launched. Everything later is part of the results.
pub async fn run<B: Backend>(
    plan: &Plan,
    backend: &mut B,
    options: Options,
    interrupted: impl Future<Output = String>,
    observer: &mut impl Observer,
) -> Result<Summary, EngineError<B::Error>> {
    let checks = check_refs(plan);
    let info = run::start_info(&options);
    let environment = run::announce(plan, &checks, &info, backend, observer).await;
    let (mut run, sender) = Run::new(plan, &checks, info, options, backend.changes());

    run.launch(backend, sender, observer)
        .await
        .map_err(EngineError::Backend)?;
    let interrupted = run.watch(backend, interrupted, observer).await;
    let completion = run.stop(backend, interrupted, observer).await;
    Ok(run
        .finish(&completion, environment, backend, observer)
        .await)
}
