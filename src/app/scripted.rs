//! A run on the test double. It tests watertight and no network, so its flag is hidden.

use super::lab::{self, HEARTBEAT, PlannedLab};
use super::options::{RunOptions, SuiteInput, WorldOptions};
use super::outputs::Outputs;
use super::run::{Stopped, new_schedule, own_digest, run_and_tear_down};
use super::runtime::EventLoop;
use super::terminal::{Terminal, describe};
use crate::backend::scripted::{Script, Scripted};
use crate::engine::{self, RunnerClock};
use crate::event::ExitCode;
use std::path::Path;
use std::time::Duration;

/// Tests suites against a script, in virtual time.
pub(super) fn run(
    input: SuiteInput<'_>,
    world: &WorldOptions,
    script: &Path,
    options: &RunOptions,
    outputs: &mut Outputs,
    terminal: &Terminal,
) -> Result<ExitCode, Stopped> {
    let script = read(script, terminal).map_err(Stopped::while_loading)?;
    let planned =
        lab::load(input, world, &options.select, terminal).map_err(Stopped::while_loading)?;
    outputs.show_console(options, terminal);

    EventLoop::Scripted.block_on(
        terminal,
        run_planned(script, planned, options, outputs, terminal),
    )?
}

fn read(script: &Path, terminal: &Terminal) -> Result<Script, ExitCode> {
    Script::read(script).map_err(|error| {
        terminal.error(&describe(&error));
        ExitCode::Usage
    })
}

async fn run_planned(
    script: Script,
    planned: PlannedLab,
    options: &RunOptions,
    outputs: &mut Outputs,
    terminal: &Terminal,
) -> Result<ExitCode, Stopped> {
    let PlannedLab {
        world,
        plan,
        replan,
        // Nothing is sent.
        secrets: _,
    } = planned;
    let clock = RunnerClock::read(Duration::ZERO);
    let scripted = Scripted::new(
        script,
        world.inventory().clone(),
        &clock.boot,
        clock.boottime_us,
        clock.wall_us,
    );
    let interrupted = scripted.interruption();

    let engine_options = engine::Options {
        schedule: new_schedule(vec![String::new()], HEARTBEAT),
        backend: "scripted",
        clock,
        about: engine::About {
            digest: own_digest(),
            probe_digest: None,
            settings: options.report_settings(None),
            limits: Vec::new(),
        },
        replan,
    };
    run_and_tear_down(
        &plan,
        scripted,
        engine_options,
        interrupted,
        outputs,
        terminal,
    )
    .await
}
