//! The command line: clap's types, what they become, and texts; one file for each command.

mod args;
mod check;
mod clean;
mod cluster_args;
mod demo;
mod explain;
mod generated;
mod image;
mod plan;
mod predict;
mod run;
mod settings;
mod suite;
mod validate;
mod verdicts;

use crate::app::terminal::Terminal;
use crate::event::ExitCode;
use anstream::ColorChoice;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

/// Prove that a cluster's segments hold, with real packets.
///
/// A suite states who may talk to whom. Every line comes back proven, violated or unproven; "it did
/// not connect" is never taken for "the policy denied it".
#[derive(Debug, Parser)]
#[command(name = "watertight", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// When to use colour
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "WATERTIGHT_COLOR",
        value_name = "WHEN"
    )]
    color: ColorWhen,
}

const EXIT_CODES: &str = "\
Exit codes, the first that applies:
  70  a defect in watertight, or a report that could not be written
   2  the command line, a suite or a manifest must be changed
   3  something is violated
   5  testing could not begin or finish
   4  something is unproven
   0  all proven";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl From<ColorWhen> for ColorChoice {
    fn from(when: ColorWhen) -> Self {
        match when {
            ColorWhen::Auto => Self::Auto,
            ColorWhen::Always => Self::Always,
            ColorWhen::Never => Self::Never,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find a real leak, see why, and prove the fix: a shop in the lab, no cluster needed
    Demo(demo::DemoArgs),
    /// Test suites with real packets
    Run(run::RunArgs),
    /// Test one line, without a file
    Check(check::CheckArgs),
    /// Show what a run would do, and what can never be proven and why; changes nothing
    Plan(plan::PlanArgs),
    /// Say what the policies allow, without packets: every pair, or each line of a suite
    Predict(predict::PredictArgs),
    /// Say why policies allow or deny a flow, rule by rule, and what would change that
    Explain(explain::ExplainArgs),
    /// Draft a suite from what the policies of manifests or of a cluster say, for a person to
    /// correct
    Suite(suite::SuiteArgs),
    /// Remove from a cluster what killed runs left; the cluster does so by itself some minutes
    /// later
    Clean(clean::CleanArgs),
    /// Read suites and say everything that is wrong with them; offline
    Validate(validate::ValidateArgs),
    /// Write the probe's image as an archive that containerd, kind, docker and registries take
    Image(image::ImageArgs),
    /// Print the JSON Schema of suites, or of reports
    Schema(generated::SchemaArgs),
    /// Print a shell's completion script
    Completion(generated::CompletionArgs),
    /// Print the manual page
    Man,
    /// List reason codes, tiers and preflight codes: what each means, and what settles it
    #[command(after_long_help = verdicts::text())]
    Verdicts,
}

/// The command line, under the name by which it was called: kubectl starts `kubectl-watertight` for
/// `kubectl watertight`, and the help must show what people type.
fn command() -> clap::Command {
    let program = std::env::args_os().next().map(std::path::PathBuf::from);
    let is_plugin = program
        .as_deref()
        .and_then(std::path::Path::file_stem)
        .is_some_and(|name| name == "kubectl-watertight");

    if is_plugin {
        Cli::command().bin_name("kubectl watertight")
    } else {
        Cli::command()
    }
}

/// Parses the command line, runs the command, and gives its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    let terminal = Terminal::new(cli.color.into());
    dispatch(&cli.command, &terminal).unwrap_or_else(|code| code)
}

/// Runs a command. `Err` is an exit code too: that of a command that ended early, with the cause
/// shown.
fn dispatch(command: &Command, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    match command {
        Command::Demo(args) => demo::demo(args, terminal),
        Command::Run(args) => run::run(args, terminal),
        Command::Check(args) => check::check(args, terminal),
        Command::Plan(args) => plan::plan(args, terminal),
        Command::Predict(args) => predict::predict(args, terminal),
        Command::Explain(args) => explain::explain(args, terminal),
        Command::Suite(args) => suite::suite(args, terminal),
        Command::Clean(args) => clean::clean(args, terminal),
        Command::Validate(args) => validate::validate(args, terminal),
        Command::Image(args) => image::image(args, terminal),
        Command::Schema(args) => generated::schema(args, terminal),
        Command::Completion(args) => generated::completion(args, &mut Cli::command(), terminal),
        Command::Man => generated::man(Cli::command(), terminal),
        Command::Verdicts => verdicts::verdicts(terminal),
    }
}
