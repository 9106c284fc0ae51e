//! Suites as tests of `cargo test`: libtest's command line and output, and one run behind all of
//! it.
//!
//! ```no_run
//! // tests/segments.rs, with `harness = false` for it in Cargo.toml
//! use std::process::ExitCode;
//! use watertight::harness::{self, Options};
//!
//! fn main() -> ExitCode {
//!     harness::main(&Options::lab(&["tests/suite.yaml"], &["deploy/"]))
//! }
//! ```
//!
//! Every check is a test. A proven check passes; a violated or unproven check fails, with the
//! evidence, the controls that got through, and the next step. Where the lab is not possible every
//! test fails with the obstacle: none is skipped.
//!
//! # Limitations
//!
//! libtest's output has two outcomes: *violated* and *unproven* stay apart in the text only. The
//! command's reports keep them apart everywhere. Under `cargo nextest` every test is a separate
//! process, and so a separate run.

mod trials;

use crate::app::lab::{PlannedLab, families, place_and_plan, run_planned};
use crate::app::load;
use crate::app::options::SuiteInput;
use crate::app::outputs::Outputs;
use crate::app::terminal::Terminal;
use crate::backend::lab::{self, Deny};
use crate::event::{ExitCode, check_refs};
use crate::inventory::Manifests;
use crate::plan::Selection;
use crate::report::Reports;
use crate::source::Sources;
use crate::suite::Suite;
use anstream::ColorChoice;
use libtest_mimic::{Arguments, Trial};
use std::collections::HashSet;
use std::process;
use trials::{LabTrials, TrialVerdict, VerdictSenders, Verdicts, trial_name};

/// The suites to test, and the labs in which to test them.
#[derive(Debug, Clone)]
pub struct Options {
    labs: Vec<LabOptions>,
    deny: Deny,
}

#[derive(Debug, Clone)]
struct LabOptions {
    suites: Vec<String>,
    manifests: Vec<String>,
}

impl Options {
    /// Suites, and the manifests of the lab in which they are tested: files or folders, as
    /// `watertight run` takes them.
    pub fn lab(suites: &[impl AsRef<str>], manifests: &[impl AsRef<str>]) -> Self {
        Self {
            labs: Vec::new(),
            deny: Deny::default(),
        }
        .and_lab(suites, manifests)
    }

    /// Adds suites with another lab. Labs run one after the other.
    #[must_use]
    pub fn and_lab(mut self, suites: &[impl AsRef<str>], manifests: &[impl AsRef<str>]) -> Self {
        fn owned(list: &[impl AsRef<str>]) -> Vec<String> {
            list.iter().map(|item| item.as_ref().to_owned()).collect()
        }
        self.labs.push(LabOptions {
            suites: owned(suites),
            manifests: owned(manifests),
        });
        self
    }

    /// How the labs deny a packet.
    #[must_use]
    pub fn deny(mut self, deny: Deny) -> Self {
        self.deny = deny;
        self
    }
}

/// One lab's suites, read and planned.
struct LabTests {
    sources: Sources,
    suites: Vec<Suite>,
    manifests: Manifests,
    planned: PlannedLab,
    /// The names of all checks, in the order of the plan.
    names: Vec<String>,
}

/// The whole `main` of a test target with `harness = false`. To be called before any thread exists.
///
/// The exit code is libtest's, 0 or 101, or the command's where testing could not begin: 2 if a
/// suite or a manifest must be changed, 5 if there is nothing to check.
pub fn main(options: &Options) -> process::ExitCode {
    // Probes and the responder are started from the same executable.
    if let Some(code) = crate::early_main() {
        return code;
    }

    let arguments = Arguments::from_args();
    let terminal = Terminal::new(ColorChoice::Auto);
    match load_all(options, &terminal) {
        Ok(labs) => run(labs, options.deny, &arguments, terminal),
        Err(code) => code.into(),
    }
}

/// Reads and plans the suites of all labs; starts nothing.
fn load_all(options: &Options, terminal: &Terminal) -> Result<Vec<LabTests>, ExitCode> {
    let results: Vec<_> = options
        .labs
        .iter()
        .map(|lab| load_lab(lab, terminal))
        .collect();
    // All are read before an error of one ends the program, so that all mistakes are shown at once.
    let labs = results.into_iter().collect::<Result<Vec<_>, _>>()?;

    let mut names = HashSet::new();
    for name in labs.iter().flat_map(|lab| &lab.names) {
        if !names.insert(name) {
            terminal.error(&format!("two labs test {name:?}: rename one of the suites"));
            return Err(ExitCode::Usage);
        }
    }
    Ok(labs)
}

fn load_lab(lab: &LabOptions, terminal: &Terminal) -> Result<LabTests, ExitCode> {
    let mut sources = Sources::new();
    let input = SuiteInput::Files(&lab.suites);
    let (suites, manifests) =
        load::suites_and_manifests(input, &lab.manifests, false, &mut sources, terminal)?;

    let selection = Selection::default();
    let families = families(&suites, None, terminal)?;
    let planned = place_and_plan(
        &suites, &manifests, families, &selection, &sources, terminal,
    )?;
    let names = check_refs(&planned.plan).iter().map(trial_name).collect();
    Ok(LabTests {
        sources,
        suites,
        manifests,
        planned,
        names,
    })
}

/// Runs the trials that the arguments select, and behind them one run for each lab.
fn run(
    labs: Vec<LabTests>,
    deny: Deny,
    arguments: &Arguments,
    terminal: Terminal,
) -> process::ExitCode {
    if std::env::var_os("NEXTEST").is_some() && !arguments.ignored {
        terminal.note("nextest starts every test as a separate process, which makes a lab for each: use cargo test");
    }

    let mut verdicts = Verdicts::default();
    let names = labs.iter().flat_map(|lab| &lab.names);
    let trials: Vec<Trial> = names.map(|name| verdicts.trial(name)).collect();
    let wanted = wanted_names(&trials, arguments);
    if arguments.list || wanted.is_empty() {
        return libtest_mimic::run(arguments, trials).exit_code();
    }

    // The kernel gives a user namespace to processes of one thread only, and libtest starts
    // several.
    let senders = verdicts.into_senders();
    let labs_thread = match lab::enter() {
        Ok(_how) => Some(std::thread::spawn(move || {
            for lab in labs {
                run_lab(lab, deny, &wanted, &senders, &terminal);
            }
        })),
        Err(obstacle) => {
            let why = format!(
                "unproven: the lab is not possible here: {obstacle}\nnext: {}",
                obstacle.fix()
            );
            senders.send_to_all(&TrialVerdict::Failed(why));
            None
        }
    };
    let conclusion = libtest_mimic::run(arguments, trials);

    // The last lab is taken down. A panic of the thread has failed every trial without a verdict.
    let _panicked = labs_thread.map(std::thread::JoinHandle::join);
    conclusion.exit_code()
}

fn wanted_names(trials: &[Trial], arguments: &Arguments) -> HashSet<String> {
    trials
        .iter()
        .filter(|trial| !arguments.is_filtered_out(trial) && !arguments.is_ignored(trial))
        .map(|trial| trial.name().to_owned())
        .collect()
}

/// Runs what is wanted of one lab.
fn run_lab(
    lab: LabTests,
    deny: Deny,
    wanted: &HashSet<String>,
    senders: &VerdictSenders,
    terminal: &Terminal,
) {
    let names: Vec<String> = lab
        .names
        .iter()
        .filter(|name| wanted.contains(*name))
        .cloned()
        .collect();
    if names.is_empty() {
        return;
    }

    let trials = LabTrials {
        senders: senders.clone(),
        names,
    };
    if let Some(why) = senders.interruption() {
        return trials.fail(why);
    }
    let planned = match select(lab, &trials.names, terminal) {
        Ok(planned) => planned,
        Err(why) => return trials.fail(why),
    };

    let mut reports = Reports::default();
    reports.add("trials", trials);
    let mut outputs = Outputs::reports_only(reports);
    let result = run_planned(
        planned,
        deny,
        serde_json::Map::new(),
        &mut outputs,
        terminal,
    );
    // The trials have the verdicts that the exit code sums up.
    let _code = outputs.conclude(result);
}

/// The lab's plan, or where only some of its checks are wanted, the plan of these.
fn select(
    lab: LabTests,
    names: &[String],
    terminal: &Terminal,
) -> Result<PlannedLab, &'static str> {
    if names.len() == lab.names.len() {
        return Ok(lab.planned);
    }

    let families = families(&lab.suites, None, terminal)
        .map_err(|_code| "the suites give different address families")?;
    let only =
        match_exactly(names).ok_or("so many tests cannot be selected by name; run all of them")?;
    let selection = Selection {
        only: Some(only),
        ..Selection::default()
    };
    place_and_plan(
        &lab.suites,
        &lab.manifests,
        families,
        &selection,
        &lab.sources,
        terminal,
    )
    .map_err(|_code| "none of these tests can be proven; standard error says why")
}

/// A pattern that matches these names and no other; `None` where it would be too large.
fn match_exactly(names: &[String]) -> Option<regex::Regex> {
    const MOST_BYTES: usize = 256 << 20;

    let names: Vec<String> = names.iter().map(|name| regex::escape(name)).collect();
    let pattern = format!("^(?:{})$", names.join("|"));
    regex::RegexBuilder::new(&pattern)
        .size_limit(MOST_BYTES)
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_in_full_and_literally() {
        let names = [
            "shop / a -> b:80 denied".to_owned(),
            "shop / * -> c.d:1 allowed [x|y]".to_owned(),
        ];
        let only = match_exactly(&names).unwrap();
        assert!(names.iter().all(|name| only.is_match(name)));
        for other in [
            "shop / a -> b:8080 denied",
            "my shop / a -> b:80 denied",
            "shop / * -> cxd:1 allowed [x|y]",
            "y]",
        ] {
            assert!(!only.is_match(other), "{other}");
        }
    }

    #[test]
    fn ten_thousand_names_can_be_selected() {
        let names: Vec<String> = (0..10_000)
            .map(|n| format!("shop / source-{n} -> target-{n}:8080 denied"))
            .collect();
        assert!(match_exactly(&names).is_some());
    }
}
