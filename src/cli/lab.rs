//! One run in the lab, from a plan to an exit code.

use super::RunOptions;
use super::interrupt::Interrupts;
use super::load::Loaded;
use super::terminal::Screens;
use crate::backend::lab::{self, Deny, Lab, World};
use crate::backend::{Arrival, Backend};
use crate::engine::{self, Observer, RunnerClock};
use crate::event::{ExitCode, RunEvent};
use crate::plan::Schedule;
use crate::report::{Annotations, Console, Detail, Output, Progress, Reports, StepSummary};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

/// How often a lab's probe gives life signs; it has no log to fill.
const BEAT: Duration = Duration::from_millis(500);

/// Runs in the lab what `load` gives.
pub(super) fn run(
    load: impl FnOnce() -> Result<Loaded, ExitCode>,
    deny: Deny,
    options: &RunOptions,
    screens: &Screens,
) -> ExitCode {
    // Reports come first: the file of an earlier run must not outlast a run that never begins.
    let mut sinks = match open_sinks(options, screens) {
        Ok(sinks) => sinks,
        Err(code) => return code,
    };
    let code = match load() {
        Ok(loaded) => {
            sinks.show(options, screens);
            match enter(screens) {
                Ok(()) => in_lab(loaded, deny, &mut sinks, screens),
                Err(code) => stopped(&mut sinks, "the lab is not possible here", code),
            }
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
            stopped(&mut sinks, why, code)
        }
    };
    finish(&sinks, code, screens)
}

/// All files, opened before hours of work and not after; what people see is added by [`Sinks::show`].
pub(super) fn open_sinks(options: &RunOptions, screens: &Screens) -> Result<Sinks, ExitCode> {
    let (specs, evidence) = options.specs().map_err(|error| {
        screens.error(&error);
        ExitCode::Usage
    })?;
    let mut reports = Reports::open(&specs).map_err(|errors| {
        for error in errors {
            screens.error(&describe(&error));
        }
        ExitCode::Usage
    })?;
    match options.output {
        Output::Text => {}
        Output::Data(format) => reports.add_output(format, std::io::stdout()),
    }
    let evidence = match evidence {
        None => None,
        Some(path) => Some(BufWriter::new(File::create(&path).map_err(|error| {
            screens.error(&format!("failed to open evidence={path}: {error}"));
            ExitCode::Usage
        })?)),
    };
    Ok(Sinks { reports, evidence, evidence_error: None, complete: false })
}

/// Where events and raw lines go.
pub(crate) struct Sinks {
    pub(super) reports: Reports,
    evidence: Option<BufWriter<File>>,
    evidence_error: Option<std::io::Error>,
    /// Whether a run came to its own end.
    pub(super) complete: bool,
}

impl Sinks {
    /// Reports alone.
    pub(crate) fn of(reports: Reports) -> Self {
        Self { reports, evidence: None, evidence_error: None, complete: false }
    }

    /// Adds the console.
    pub(super) fn show(&mut self, options: &RunOptions, screens: &Screens) {
        let results = match options.output {
            Output::Text => screens.stdout(),
            Output::Data(_) => screens.stderr(),
        };
        let detail = if options.select.verbose { Detail::Verbose } else { Detail::Brief };
        self.reports.add("console", Console::new(results, screens.stderr(), detail, Progress::by_convention()));
        if std::env::var("GITHUB_ACTIONS").is_ok_and(|value| value == "true") {
            self.show_on_github(screens);
        }
    }

    /// Findings beside the lines of the suite, and a summary of the step, as GitHub's runners take them.
    fn show_on_github(&mut self, screens: &Screens) {
        self.reports.add("GitHub annotations", Annotations::new(std::io::stderr()));
        let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY") else { return };
        match StepSummary::open(Path::new(&path)) {
            Ok(summary) => self.reports.add("GitHub step summary", summary),
            Err(error) => screens.note(&format!("there is no step summary: {error}")),
        }
    }
}

impl Observer for Sinks {
    fn event(&mut self, event: RunEvent) {
        if let RunEvent::Finished { run, .. } = &event {
            self.complete = run.complete;
        }
        self.reports.event(&event);
    }

    fn arrival(&mut self, arrival: &Arrival) {
        let (Some(file), Ok(line)) = (&mut self.evidence, &arrival.line) else { return };
        let record =
            serde_json::json!({ "probe": arrival.probe.0, "arrivedUs": arrival.at.as_micros() as u64, "line": line });
        if let Err(error) = writeln!(file, "{record}") {
            self.evidence_error.get_or_insert(error);
        }
    }
}

/// The exit code, in view of what could not be written.
pub(super) fn finish(sinks: &Sinks, code: ExitCode, screens: &Screens) -> ExitCode {
    for error in sinks.reports.errors() {
        screens.error(&describe(error));
    }
    if let Some(error) = &sinks.evidence_error {
        screens.error(&format!("failed to write the evidence: {error}"));
        return ExitCode::Defect;
    }
    sinks.reports.exit_code(code)
}

/// Enters the lab's namespaces; to be called once, before any thread is started.
pub(super) fn enter(screens: &Screens) -> Result<(), ExitCode> {
    match lab::enter() {
        Ok(_how) => Ok(()),
        Err(obstacle) => {
            screens.error(&format!("the lab is not possible here: {obstacle}\n  cure: {}", obstacle.cure()));
            Err(ExitCode::Impossible)
        }
    }
}

/// Makes the world, runs, takes everything down.
pub(crate) fn in_lab(loaded: Loaded, deny: Deny, sinks: &mut Sinks, screens: &Screens) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            screens.error(&format!("failed to start the event loop: {error}"));
            return stopped(sinks, "the event loop did not start", ExitCode::Impossible);
        }
    };
    runtime.block_on(async {
        let Loaded { world, plan } = loaded;
        let mut interrupts = Interrupts::listen();
        let mut lab = match up(world, deny, &mut interrupts).await {
            Ok(lab) => lab,
            Err(Failed::Interrupted(why)) => return stopped(sinks, &why, ExitCode::Impossible),
            Err(Failed::Lab(error)) => {
                let why = describe(&error);
                screens.error(&why);
                return stopped(sinks, &format!("the lab could not be made: {why}"), ExitCode::Impossible);
            }
        };
        let options = engine_options(&lab);
        let result = engine::run(&plan, &mut lab, options, interrupts.next(), sinks).await;
        if let Some(file) = &mut sinks.evidence
            && let Err(error) = file.flush()
        {
            sinks.evidence_error.get_or_insert(error);
        }
        for error in lab.teardown().await {
            screens.note(&format!("the lab was not taken down cleanly: {}", describe(&error)));
        }
        match result {
            Ok(summary) => ExitCode::of(&summary),
            Err(error) => {
                let why = describe(&error);
                screens.error(&why);
                stopped(sinks, &format!("no probe could be started: {why}"), ExitCode::Impossible)
            }
        }
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

fn stopped(sinks: &mut Sinks, why: &str, code: ExitCode) -> ExitCode {
    sinks.reports.stopped(why, code);
    code
}

/// What the engine is given for a run in a lab that is up.
pub fn engine_options(lab: &Lab) -> engine::Options {
    let clock = RunnerClock::read(lab.started().elapsed());
    engine::Options { schedule: schedule(lab.authority()), backend: "lab", clock }
}

fn schedule(authority: &str) -> Schedule {
    let seed = seed();
    Schedule { run: format!("{seed:016x}"), seed, trust: vec![authority.to_owned()], beat: BEAT }
}

/// Different for every run: the wall clock, which never repeats, mixed with the process's id.
fn seed() -> u64 {
    let wall = RunnerClock::read(Duration::ZERO).wall_us;
    wall.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(std::process::id())
}

/// An error with all its causes, in one line.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = format!("failed to {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
