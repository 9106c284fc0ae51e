//! `watertight validate SUITE...`: offline.

use super::args::ResolveArgs;
use crate::app::options::SuiteInput;
use crate::app::terminal::{Progress, Terminal};
use crate::app::{lab, load};
use crate::event::ExitCode;
use crate::plan::Check;
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
    let families = lab::families(&suites, world.families, terminal)?;
    let mut predictions = Predictions::default();
    let mut progress = Progress::start(terminal);
    let mut each = |check: &Check| {
        predictions.add(check, terminal);
        progress.show(|| format!("{} checks compared so far", predictions.all));
    };
    lab::survey(&suites, &manifests, families, &mut each, &sources, terminal)?;
    suites.iter().for_each(show_valid);
    predictions.show();

    // By default a contradiction is a warning: the policy may be on its way.
    if args.strict && predictions.contradicted > 0 {
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

/// How many checks the policies agree with, and how many they contradict.
#[derive(Default)]
struct Predictions {
    all: usize,
    predicted: usize,
    contradicted: usize,
}

impl Predictions {
    /// Counts a check, and shows why it will not be proven or what contradicts it.
    fn add(&mut self, check: &Check, terminal: &Terminal) {
        self.all += 1;
        self.predicted += usize::from(check.prediction.is_some());
        let (file, line) = (&check.line.file, check.line.line);
        if let Some(why) = check.provability.obstacle() {
            let name = &check.name;
            terminal.note(&format!("{file}:{line}: {name} will not be proven: {why}"));
        }
        if let Some(why) = check.contradiction() {
            self.contradicted += 1;
            terminal.note(&format!("{file}:{line}: {why}"));
        }
    }

    /// Shows the counts.
    fn show(&self) {
        let agreeing = self.predicted - self.contradicted;
        let _closed = writeln!(
            std::io::stdout(),
            "the policies say what is expected of {agreeing} of {} checks, and something else of {}",
            self.all,
            self.contradicted
        );
    }
}
