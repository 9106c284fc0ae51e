//! `watertight validate SUITE...`: offline.

use super::args::ResolveArgs;
use crate::app::options::SuiteInput;
use crate::app::terminal::Terminal;
use crate::app::{lab, load};
use crate::event::ExitCode;
use crate::plan::{Plan, Selection};
use crate::source::Sources;
use crate::suite::Suite;
use clap::Args;
use std::io::Write;

#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// Suite files, - for standard input
    #[arg(required = true, value_name = "SUITE")]
    suites: Vec<String>,
    /// Also compare them with the policies of these manifests: files, folders, or - for standard
    /// input
    #[arg(long, value_name = "MANIFESTS", num_args = 1..)]
    with: Vec<String>,
    #[command(flatten)]
    resolve: ResolveArgs,
    /// Warnings are errors
    #[arg(long)]
    strict: bool,
}

pub(super) fn validate(args: &ValidateArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let input = SuiteInput::Files(&args.suites);
    let mut sources = Sources::new();
    if args.with.is_empty() && !args.resolve.is_empty() {
        terminal.error("--resolve goes with --with: without manifests nothing is placed");
        return Err(ExitCode::Usage);
    }
    if args.with.is_empty() {
        let suites = load::suites(input, args.strict, &mut sources, terminal)?;
        suites.iter().for_each(show_valid);
        return Ok(ExitCode::Proven);
    }

    let world = args.resolve.world(&args.with);
    let (suites, manifests) =
        load::suites_and_world(input, &world, args.strict, &mut sources, terminal)?;
    let selection = Selection::default();
    let planned = lab::place_and_plan(&suites, &manifests, &selection, &sources, terminal)?;
    suites.iter().for_each(show_valid);
    load::note_policy_caveats(planned.world.inventory(), terminal);
    let contradicted = show_predictions(&planned.plan, terminal);

    // By default a contradiction is a warning: the policy may be on its way.
    if args.strict && contradicted > 0 {
        Ok(ExitCode::Usage)
    } else {
        Ok(ExitCode::Proven)
    }
}

fn show_valid(suite: &Suite) {
    let (endpoints, lines) = (suite.endpoints.len(), suite.lines.len());
    let (file, name) = (&suite.file, &suite.name);
    let _closed = writeln!(
        std::io::stdout(),
        "{file}: suite {name} is valid: {endpoints} endpoints, {lines} lines"
    );
}

/// Shows the checks that the policies contradict, and the counts. Returns how many there are.
fn show_predictions(plan: &Plan, terminal: &Terminal) -> usize {
    let mut contradicted = 0;
    for check in plan.checks() {
        if let Some(why) = check.provability.obstacle() {
            let (line, name) = (&check.line, &check.name);
            terminal.note(&format!(
                "{}:{}: {name} will not be proven: {why}",
                line.file, line.line
            ));
        }
        if let Some(why) = check.contradiction() {
            contradicted += 1;
            terminal.note(&format!("{}:{}: {why}", check.line.file, check.line.line));
        }
    }

    let checks = plan.checks();
    let predicted = checks.iter().filter(|check| check.prediction.is_some());
    let agreeing = predicted.count() - contradicted;
    let all = checks.len();
    let _closed = writeln!(
        std::io::stdout(),
        "the policies say what is expected of {agreeing} of {all} checks, and something else of {contradicted}",
    );
    contradicted
}
