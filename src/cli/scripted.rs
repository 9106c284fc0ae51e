//! `run --scripted FILE`: the test double in place of a network. Hidden, since it tests watertight
//! and no network.

use super::load::Loaded;
use super::outputs::describe;
use super::session::{self, own_digest, run_and_tear_down};
use super::terminal::Terminal;
use super::{RunOptions, lab};
use crate::backend::scripted::{Script, Scripted};
use crate::engine::{self, RunnerClock};
use crate::event::ExitCode;
use std::path::Path;
use std::time::Duration;

/// Runs what `load` gives against a script, in compressed time.
pub(super) fn run(
    load: impl FnOnce() -> Result<Loaded, ExitCode>,
    script: &Path,
    options: &RunOptions,
    terminal: &Terminal,
) -> ExitCode {
    let load = || {
        let script = Script::read(script).map_err(|error| {
            terminal.error(&describe(&error));
            ExitCode::Usage
        })?;
        Ok((script, load()?))
    };
    session::run(
        load,
        options,
        terminal,
        |(
            script,
            Loaded {
                world,
                plan,
                replan,
            },
        ),
         sinks| {
            // Time stands still while there is something to do, and jumps to the next thing when
            // there is not.
            let runtime = match tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
            {
                Ok(runtime) => runtime,
                Err(error) => {
                    terminal.error(&format!("failed to start the event loop: {error}"));
                    return sinks.stopped("the event loop did not start", ExitCode::Impossible);
                }
            };
            runtime.block_on(async {
                let clock = RunnerClock::read(Duration::ZERO);
                let inventory = world.inventory().clone();
                let scripted = Scripted::new(
                    script,
                    inventory,
                    &clock.boot,
                    clock.boottime_us,
                    clock.wall_us,
                );
                let interrupted = scripted.interruption();
                let about = engine::About {
                    digest: own_digest(),
                    probe_digest: None,
                    settings: options.settings(None),
                };
                let schedule = lab::schedule("");
                let options = engine::Options {
                    schedule,
                    backend: "scripted",
                    clock,
                    about,
                    replan,
                };
                run_and_tear_down(&plan, scripted, options, interrupted, sinks, terminal).await
            })
        },
    )
}
