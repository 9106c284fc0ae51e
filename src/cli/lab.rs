//! One run in the lab, from a plan to an exit code.

use super::RunOptions;
use super::interrupt::Interrupts;
use super::load::Loaded;
use super::outputs::{Sinks, describe};
use super::session::{self, own_digest, run_and_tear_down};
use super::terminal::Terminal;
use crate::backend::lab::{self, Deny, Lab, World};
use crate::engine::{self, RunnerClock};
use crate::event::ExitCode;
use crate::plan::Schedule;
use std::time::Duration;

/// What was asked of a run beside its suites, for its report.
type Settings = serde_json::Map<String, serde_json::Value>;

/// How often a lab's probe gives life signs; it has no log to fill.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Runs in the lab what `load` gives.
pub(super) fn run(
    load: impl FnOnce() -> Result<Loaded, ExitCode>,
    deny: Deny,
    options: &RunOptions,
    terminal: &Terminal,
) -> ExitCode {
    session::run(load, options, terminal, |loaded, sinks| {
        match enter(terminal) {
            Ok(()) => in_lab(loaded, deny, options.settings(Some(deny)), sinks, terminal),
            Err(code) => sinks.stopped("the lab is not possible here", code),
        }
    })
}

/// Enters the lab's namespaces; to be called once, before any thread is started.
pub(super) fn enter(terminal: &Terminal) -> Result<(), ExitCode> {
    match lab::enter() {
        Ok(_how) => Ok(()),
        Err(obstacle) => {
            terminal.error(&format!(
                "the lab is not possible here: {obstacle}\n  cure: {}",
                obstacle.cure()
            ));
            Err(ExitCode::Impossible)
        }
    }
}

/// Makes the world, runs, takes everything down.
pub(crate) fn in_lab(
    loaded: Loaded,
    deny: Deny,
    settings: Settings,
    sinks: &mut Sinks,
    terminal: &Terminal,
) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal.error(&format!("failed to start the event loop: {error}"));
            return sinks.stopped("the event loop did not start", ExitCode::Impossible);
        }
    };
    runtime.block_on(async {
        let Loaded {
            world,
            plan,
            replan,
        } = loaded;
        let digest = tokio::task::spawn_blocking(own_digest);
        let mut interrupts = Interrupts::listen();
        let lab = match up(world, deny, &mut interrupts).await {
            Ok(lab) => lab,
            Err(Failed::Interrupted(why)) => return sinks.stopped(&why, ExitCode::Impossible),
            Err(Failed::Lab(error)) => {
                let why = describe(&error);
                terminal.error(&why);
                return sinks.stopped(
                    &format!("the lab could not be made: {why}"),
                    ExitCode::Impossible,
                );
            }
        };
        let mut options = engine_options(&lab);
        // The lab's probes are this program again.
        let own = digest.await.ok().flatten();
        options.about = engine::About {
            digest: own.clone(),
            probe_digest: own,
            settings,
        };
        options.replan = replan;
        run_and_tear_down(&plan, lab, options, interrupts.next(), sinks, terminal).await
    })
}

enum Failed {
    Interrupted(String),
    Lab(lab::Error),
}

async fn up(world: World, deny: Deny, interrupts: &mut Interrupts) -> Result<Lab, Failed> {
    tokio::select! {
        lab = Lab::up(world, lab::Options { deny }) => lab.map_err(Failed::Lab),
        why = interrupts.next() => Err(Failed::Interrupted(why)),
    }
}

/// What the engine is given for a run in a lab that is up.
pub fn engine_options(lab: &Lab) -> engine::Options {
    let clock = RunnerClock::read(lab.started().elapsed());
    engine::Options {
        schedule: schedule(lab.authority()),
        backend: "lab",
        clock,
        about: engine::About::default(),
        replan: engine::Replan::default(),
    }
}

/// What the wire's plans carry in a lab whose certificates this authority signs.
pub(super) fn schedule(authority: &str) -> Schedule {
    let (run, seed) = new_run();
    Schedule {
        run,
        seed,
        trust: vec![authority.to_owned()],
        heartbeat: HEARTBEAT,
    }
}

/// A run's id and the seed of its nonces.
pub(super) fn new_run() -> (String, u64) {
    let seed = seed();
    (format!("{seed:016x}"), seed)
}

/// Different for every run: the wall clock, which never repeats, mixed with the process's id.
fn seed() -> u64 {
    let wall = RunnerClock::read(Duration::ZERO).wall_us;
    wall.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(std::process::id())
}
