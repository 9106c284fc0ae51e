//! `watertight validate SUITE...`: offline.

use super::load::{self, SuiteInput};
use super::terminal::Terminal;
use crate::event::ExitCode;
use crate::plan::Selection;
use crate::source::Sources;
use crate::suite::Suite;
use clap::Args;
use std::io::Write;

#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// Suite files, - for standard input
    #[arg(required = true, value_name = "SUITE")]
    suites: Vec<String>,
    /// Also hold them against the policies of these manifests: files, folders, or - for standard
    /// input
    #[arg(long, value_name = "MANIFESTS", num_args = 1..)]
    with: Vec<String>,
    /// Warnings are errors
    #[arg(long)]
    strict: bool,
}

pub(super) fn validate(args: &ValidateArgs, terminal: &Terminal) -> ExitCode {
    if !args.with.is_empty() {
        return against(args, terminal);
    }
    let mut sources = Sources::new();
    match load::suites(
        &SuiteInput::Files(&args.suites),
        args.strict,
        &mut sources,
        terminal,
    ) {
        Ok(suites) => {
            suites.iter().for_each(valid);
            ExitCode::Proven
        }
        Err(code) => code,
    }
}

fn valid(suite: &Suite) {
    let (endpoints, lines) = (suite.endpoints.len(), suite.lines.len());
    let (file, name) = (&suite.file, &suite.name);
    let _closed = writeln!(
        std::io::stdout(),
        "{file}: suite {name} is valid: {endpoints} endpoints, {lines} lines"
    );
}

/// What the policies cannot do of what the suites expect is a warning: a policy may be on its way.
fn against(args: &ValidateArgs, terminal: &Terminal) -> ExitCode {
    let mut sources = Sources::new();
    let given = SuiteInput::Files(&args.suites);
    let loaded = load::read(&given, &args.with, args.strict, &mut sources, terminal).and_then(
        |(suites, manifests)| {
            let loaded = load::world_and_plan(
                &suites,
                &manifests,
                &Selection::default(),
                &sources,
                terminal,
            )?;
            Ok((suites, loaded))
        },
    );
    let (suites, loaded) = match loaded {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    suites.iter().for_each(valid);
    let mut contradicted = 0;
    for check in loaded.plan.checks() {
        if let Some(why) = check.contradiction() {
            contradicted += 1;
            terminal.note(&format!("{}:{}: {why}", check.line.file, check.line.line));
        }
    }
    let (all, known) = (
        loaded.plan.checks().len(),
        loaded
            .plan
            .checks()
            .iter()
            .filter(|check| check.prediction.is_some())
            .count(),
    );
    let _closed = writeln!(
        std::io::stdout(),
        "the policies say what is expected of {} of {all} checks, and something else of {contradicted}",
        known - contradicted,
    );
    if args.strict && contradicted > 0 {
        ExitCode::Usage
    } else {
        ExitCode::Proven
    }
}
