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
//! Every check is a test. What is proven passes; what is violated or unproven fails, with what was
//! seen, who did get through, and what to do next. Where the lab is not possible every test fails
//! with the obstacle: none is skipped.
//!
//! # Limitations
//!
//! libtest's output knows two outcomes: *violated* and *unproven* stay apart in the text only. The
//! command's reports keep them apart everywhere. Under `cargo nextest` every test is a process, and
//! so a run, of its own.

mod trials;

use crate::backend::lab::{self, Deny};
use crate::cli::ColorWhen;
use crate::cli::lab::in_lab;
use crate::cli::load::{self, Loaded, SuiteInput};
use crate::cli::outputs::Sinks;
use crate::cli::terminal::Terminal;
use crate::event::ExitCode;
use crate::inventory::Manifests;
use crate::plan::Selection;
use crate::report::Reports;
use crate::source::Sources;
use crate::suite::Suite;
use libtest_mimic::{Arguments, Trial};
use std::collections::HashSet;
use std::process;
use trials::{Fanout, Judged, LabTrials, Waiting, name};

/// What is tested, and in which labs.
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

    /// Further suites with a lab of their own. Labs come one after the other.
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
struct Planned {
    sources: Sources,
    suites: Vec<Suite>,
    manifests: Manifests,
    loaded: Loaded,
    names: Vec<String>,
}

/// The whole `main` of a test target with `harness = false`. To be called before any thread exists.
///
/// The exit code is libtest's, 0 or 101, or the command's where testing could not begin: 2 if a
/// suite or a manifest must be changed, 5 if there is nothing to check.
pub fn main(options: &Options) -> process::ExitCode {
    // Probes and the responder are this program again.
    if let Some(code) = crate::early_main() {
        return code;
    }
    let arguments = Arguments::from_args();
    let terminal = Terminal::of(ColorWhen::Auto);
    match planned(options, &terminal) {
        Ok(labs) => run(labs, options.deny, &arguments, terminal),
        Err(code) => code.into(),
    }
}

/// Reads and plans everything; starts nothing.
fn planned(options: &Options, terminal: &Terminal) -> Result<Vec<Planned>, ExitCode> {
    let read: Vec<_> = options.labs.iter().map(|lab| plan(lab, terminal)).collect();
    // All are read before one is given up, so that all mistakes are shown at once.
    let labs = read.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut names = HashSet::new();
    for name in labs.iter().flat_map(|lab| &lab.names) {
        if !names.insert(name) {
            terminal.error(&format!("two labs test {name:?}: rename one of the suites"));
            return Err(ExitCode::Usage);
        }
    }
    Ok(labs)
}

fn plan(lab: &LabOptions, terminal: &Terminal) -> Result<Planned, ExitCode> {
    let mut sources = Sources::new();
    let (suites, manifests) = load::read(
        &SuiteInput::Files(&lab.suites),
        &lab.manifests,
        false,
        &mut sources,
        terminal,
    )?;
    let loaded = load::world_and_plan(
        &suites,
        &manifests,
        &Selection::default(),
        &sources,
        terminal,
    )?;
    let names = crate::event::check_refs(&loaded.plan)
        .iter()
        .map(name)
        .collect();
    Ok(Planned {
        sources,
        suites,
        manifests,
        loaded,
        names,
    })
}

fn run(
    labs: Vec<Planned>,
    deny: Deny,
    arguments: &Arguments,
    terminal: Terminal,
) -> process::ExitCode {
    if std::env::var_os("NEXTEST").is_some() && !arguments.ignored {
        terminal.note("nextest starts every test as a process of its own, which makes a lab for each: use cargo test");
    }
    let mut waiting = Waiting::default();
    let names = labs.iter().flat_map(|lab| &lab.names);
    let trials: Vec<Trial> = names.map(|name| waiting.trial(name)).collect();
    let is_wanted =
        |trial: &&Trial| !arguments.is_filtered_out(trial) && !arguments.is_ignored(trial);
    let wanted: HashSet<String> = trials
        .iter()
        .filter(is_wanted)
        .map(|trial| trial.name().to_owned())
        .collect();
    if arguments.list || wanted.is_empty() {
        return libtest_mimic::run(arguments, trials).exit_code();
    }
    // The kernel gives a user namespace to processes of one thread only, and libtest starts
    // several.
    let runs = match lab::enter() {
        Ok(_how) => {
            let fanout = waiting.fanout();
            Some(std::thread::spawn(move || {
                for lab in labs {
                    one_lab(lab, deny, &wanted, &fanout, &terminal);
                }
            }))
        }
        Err(obstacle) => {
            let why = format!(
                "unproven: the lab is not possible here: {obstacle}\nnext: {}",
                obstacle.cure()
            );
            waiting.fanout().all(&Judged::Failed(why));
            None
        }
    };
    let conclusion = libtest_mimic::run(arguments, trials);
    // The last lab is taken down. A panic in there has failed every trial that was still open.
    let _panicked = runs.map(std::thread::JoinHandle::join);
    conclusion.exit_code()
}

/// Runs what is wanted of one lab.
fn one_lab(
    lab: Planned,
    deny: Deny,
    wanted: &HashSet<String>,
    fanout: &Fanout,
    terminal: &Terminal,
) {
    let selected: Vec<&String> = lab
        .names
        .iter()
        .filter(|name| wanted.contains(*name))
        .collect();
    if selected.is_empty() {
        return;
    }
    let trials = LabTrials {
        fanout: fanout.clone(),
        names: selected.iter().map(|name| (*name).clone()).collect(),
    };
    if let Some(why) = fanout.interruption() {
        return trials.fail(why);
    }
    let loaded = if selected.len() == lab.names.len() {
        Ok(lab.loaded)
    } else {
        exactly(&selected)
            .ok_or("so many tests cannot be selected by name; run all of them")
            .and_then(|only| {
                let selection = Selection {
                    only: Some(only),
                    ..Selection::default()
                };
                load::world_and_plan(
                    &lab.suites,
                    &lab.manifests,
                    &selection,
                    &lab.sources,
                    terminal,
                )
                .map_err(|_code| "nothing of this can be proven; standard error says why")
            })
    };
    match loaded {
        Ok(loaded) => {
            let mut reports = Reports::default();
            reports.add("trials", trials);
            // What it would say is what the trials say.
            let _code = in_lab(
                loaded,
                deny,
                serde_json::Map::new(),
                &mut Sinks::of(reports),
                terminal,
            );
        }
        Err(why) => trials.fail(why),
    }
}

/// Matches these names and no other.
fn exactly(names: &[&String]) -> Option<regex::Regex> {
    let names: Vec<String> = names.iter().map(|name| regex::escape(name)).collect();
    let pattern = format!("^(?:{})$", names.join("|"));
    regex::RegexBuilder::new(&pattern)
        .size_limit(256 << 20)
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_as_a_whole_and_to_the_letter() {
        let names = [
            "shop / a -> b:80 denied".to_owned(),
            "shop / * -> c.d:1 allowed [x|y]".to_owned(),
        ];
        let only = exactly(&names.iter().collect::<Vec<_>>()).unwrap();
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
        assert!(exactly(&names.iter().collect::<Vec<_>>()).is_some());
    }
}
