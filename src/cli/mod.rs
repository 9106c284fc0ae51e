//! What was typed → what to do; one file for each command.

mod check;
mod clean;
mod cluster;
mod demo;
mod evidence;
mod explain;
mod generated;
mod image;
mod interrupt;
pub(crate) mod lab;
pub(crate) mod load;
pub(crate) mod outputs;
mod overrides;
mod plan;
mod predict;
mod preflight;
mod run;
mod scripted;
pub(crate) mod session;
mod suite;
pub(crate) mod terminal;
mod traffic;
mod validate;

pub use lab::engine_options;
pub use load::{outside_hosts, plan_in, replan_in};

use crate::backend::lab::Deny;
use crate::event::ExitCode;
use crate::model::{ObjectRef, WorkloadKind};
use crate::report::{Output, ReportSpec};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

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
pub(crate) enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
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
}

/// The lab, as far as it can be chosen.
#[derive(Debug, Clone, Args)]
struct LabArgs {
    /// Test in the lab instead of a cluster, in the world of these manifests: files, folders, or -
    /// for standard input
    #[arg(long, value_name = "MANIFESTS", num_args = 1..)]
    lab: Vec<String>,
    #[command(flatten)]
    deny: DenyArgs,
}

/// How the lab denies.
#[derive(Debug, Clone, Copy, Args)]
struct DenyArgs {
    /// What happens to a denied packet in the lab
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "HOW",
        env = "WATERTIGHT_LAB_DENY"
    )]
    lab_deny: DenyWhen,
}

impl DenyArgs {
    fn how(self) -> Deny {
        match self.lab_deny {
            DenyWhen::Drop => Deny::Drop,
            DenyWhen::Reset => Deny::Reset,
            DenyWhen::Icmp => Deny::Icmp,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum DenyWhen {
    /// It disappears.
    #[default]
    Drop,
    /// TCP is reset, the rest is answered by ICMP.
    Reset,
    /// It is answered by ICMP.
    Icmp,
}

/// Which checks.
#[derive(Debug, Clone, Args)]
struct SelectArgs {
    /// Only checks whose SUITE / NAME matches
    #[arg(long, value_name = "REGEX")]
    only: Option<regex::Regex>,
    /// Only checks with this tag (repeatable)
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Not checks with this tag (repeatable)
    #[arg(long, value_name = "TAG")]
    skip_tag: Vec<String>,
    /// Also try everything that this workload could reach and no line speaks of: other pods,
    /// Services, nodes, kubelets, metadata addresses, what is named outside (NAMESPACE/KIND/NAME,
    /// repeatable)
    #[arg(long, value_name = "WORKLOAD", value_parser = parse_workload, conflicts_with_all = ["only", "tag", "skip_tag"])]
    sweep: Vec<ObjectRef>,
    /// Warnings are errors
    #[arg(long)]
    strict: bool,
    /// Also show what is proven with its evidence, or planned with its controls
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    settings: overrides::SettingArgs,
    #[command(flatten)]
    source_mode: overrides::SourceModeArgs,
}

impl SelectArgs {
    /// Puts what was given before what suites say, or behind it where it is a default.
    fn apply(&self, suites: &mut [crate::suite::Suite]) {
        self.settings.apply(suites);
        self.source_mode.apply(suites);
    }

    fn selection(&self) -> crate::plan::Selection {
        crate::plan::Selection {
            only: self.only.clone(),
            tags: self.tag.clone(),
            skip_tags: self.skip_tag.clone(),
            sweep: self.sweep.clone(),
        }
    }
}

/// A workload by its place.
fn parse_workload(text: &str) -> Result<ObjectRef, String> {
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [namespace, kind, name]
            if WorkloadKind::parse(kind).is_some() && !namespace.is_empty() && !name.is_empty() =>
        {
            Ok(ObjectRef {
                namespace: (*namespace).into(),
                kind: (*kind).into(),
                name: (*name).into(),
            })
        }
        [_, kind, _] => {
            let kinds = WorkloadKind::ALL.map(WorkloadKind::as_str).join(", ");
            Err(format!(
                "{kind:?} is not a kind that has pods; the kinds are {kinds}"
            ))
        }
        _ => Err("write NAMESPACE/KIND/NAME, for example shop/Deployment/web".to_owned()),
    }
}

/// Which checks, and what is said of them.
#[derive(Debug, Clone, Args)]
struct RunOptions {
    #[command(flatten)]
    select: SelectArgs,
    /// Also write a report (repeatable): junit=PATH, json, jsonl, markdown, tap, ctrf, openmetrics,
    /// evidence
    #[arg(long, value_name = "FORMAT=PATH")]
    report: Vec<String>,
    /// What goes to standard output
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "text", value_parser = clap::value_parser!(Output))]
    output: Output,
}

impl RunOptions {
    /// What was asked of a run beside its suites, for its report: `null` where it was not given.
    fn settings(&self, deny: Option<Deny>) -> serde_json::Map<String, serde_json::Value> {
        let SelectArgs {
            only,
            tag,
            skip_tag,
            sweep,
            strict,
            verbose: _,
            settings,
            source_mode,
        } = &self.select;
        let mut told = settings.told();
        told.extend([
            (
                "only".to_owned(),
                only.as_ref().map(regex::Regex::as_str).into(),
            ),
            ("tag".to_owned(), tag.clone().into()),
            ("skipTag".to_owned(), skip_tag.clone().into()),
            (
                "sweep".to_owned(),
                sweep
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .into(),
            ),
            ("strict".to_owned(), (*strict).into()),
            ("source".to_owned(), source_mode.told()),
            ("labDeny".to_owned(), deny.map(Deny::name).into()),
        ]);
        told
    }

    fn specs(&self) -> Result<(Vec<ReportSpec>, Option<String>), String> {
        let mut specs = Vec::new();
        let mut evidence = None;
        for text in &self.report {
            match text.strip_prefix("evidence=") {
                Some("") => return Err(format!("{text:?} names no file")),
                Some(path) => evidence = Some(path.to_owned()),
                None => specs.push(ReportSpec::parse(text).map_err(|error| error.to_string())?),
            }
        }
        Ok((specs, evidence))
    }
}

/// The command line, under the name by which it was called: kubectl starts `kubectl-watertight` for
/// `kubectl watertight`, and what people read must be what they type.
fn command() -> clap::Command {
    let called = std::env::args_os().next().map(std::path::PathBuf::from);
    let plugin = called
        .as_deref()
        .and_then(std::path::Path::file_stem)
        .is_some_and(|name| name == "kubectl-watertight");
    if plugin {
        Cli::command().bin_name("kubectl watertight")
    } else {
        Cli::command()
    }
}

/// Parses the command line, does what it says, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    let screen = terminal::Terminal::of(cli.color);
    match cli.command {
        Command::Demo(args) => demo::demo(&args, &screen),
        Command::Run(args) => run::run(&args, &screen),
        Command::Check(args) => check::check(&args, &screen),
        Command::Plan(args) => plan::plan(&args, &screen),
        Command::Predict(args) => predict::predict(&args, &screen),
        Command::Explain(args) => explain::explain(&args, &screen),
        Command::Suite(args) => suite::suite(&args, &screen),
        Command::Clean(args) => clean::clean(&args, &screen),
        Command::Validate(args) => validate::validate(&args, &screen),
        Command::Image(args) => image::image(&args, &screen),
        Command::Schema(args) => generated::schema(&args),
        Command::Completion(args) => generated::completion(&args, &mut Cli::command()),
        Command::Man => generated::man(Cli::command()),
    }
}
