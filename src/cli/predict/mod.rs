//! `watertight predict [MANIFESTS...]`: what the policies of manifests or of a cluster say, without
//! packets.

mod compare;
mod map;
mod render;

use super::args::{FilterArgs, ResolveArgs};
use super::cluster_args::ClusterArgs;
use crate::app::options::SuiteInput;
use crate::app::terminal::Terminal;
use crate::app::{cluster, load, prediction};
use crate::event::ExitCode;
use crate::inventory::Inventory;
use crate::plan::{Plan, Provability};
use crate::policy::{Explainer, InvalidPolicy, OutsideRule, Predictor};
use crate::source::Sources;
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(super) struct PredictArgs {
    /// Manifests: files, folders, or - for standard input; without any, what the cluster has
    #[arg(value_name = "MANIFESTS")]
    manifests: Vec<String>,
    /// Predict each line of a suite instead of the whole map (repeatable)
    #[arg(long, value_name = "SUITE", conflicts_with = "diff")]
    suite: Vec<String>,
    /// Compare two sets of manifests: what became reachable, then what became unreachable
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"], conflicts_with = "manifests")]
    diff: Vec<String>,
    /// What would change in the cluster if these manifests were applied; with --suite, each line as
    /// it would be then
    #[arg(long, value_name = "MANIFESTS", num_args = 1.., conflicts_with_all = ["manifests", "diff"])]
    apply: Vec<String>,
    /// With --diff or --apply: exit with 3 if anything differs
    #[arg(long)]
    exit_code: bool,
    /// Only what this workload or pod could reach: NAMESPACE/KIND/NAME
    #[arg(long, value_name = "WORKLOAD", conflicts_with = "suite")]
    from: Option<String>,
    /// Only what could reach this workload or pod: NAMESPACE/KIND/NAME
    #[arg(long, value_name = "WORKLOAD", conflicts_with = "suite")]
    to: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    resolve: ResolveArgs,
    /// The output format
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    output: Format,
    /// Warnings are errors
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// A line for each connection; ten or more equal pods or workloads are one
    #[default]
    Text,
    /// For programs
    Json,
    /// For spreadsheets
    Csv,
    /// A table
    Markdown,
    /// A graph, for Graphviz
    Dot,
}

pub(super) fn predict(args: &PredictArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    if args.exit_code && args.diff.is_empty() && args.apply.is_empty() {
        terminal.error("--exit-code goes with --diff or --apply");
        return Err(ExitCode::Usage);
    }
    if !args.resolve.is_empty() && args.suite.is_empty() {
        terminal.error("--resolve goes with --suite: only lines of suites name hosts outside");
        return Err(ExitCode::Usage);
    }

    if !args.filter.is_empty() && args.suite.is_empty() {
        terminal.error("--only, --tag and --skip-tag go with --suite: they select its checks");
        return Err(ExitCode::Usage);
    }

    if let [before, after] = args.diff.as_slice() {
        return compare::manifests(args, before, after, terminal);
    }
    if !args.suite.is_empty() {
        return predict_suites(args, terminal);
    }
    if !args.apply.is_empty() {
        return compare::applied(args, terminal);
    }
    map::predict(args, terminal)
}

/// The inventory of manifests; without any, of the cluster.
fn inventory(
    args: &PredictArgs,
    paths: &[String],
    terminal: &Terminal,
) -> Result<Inventory, ExitCode> {
    if paths.is_empty() {
        return cluster::inventory(&args.cluster.options(), &[], terminal);
    }
    let manifests = load::manifests(paths, args.strict, &mut Sources::new(), terminal)?;
    load::note_what_is_missing(&manifests, terminal);
    Ok(Inventory::from(&manifests))
}

fn predictor<'i>(inventory: &'i Inventory, terminal: &Terminal) -> Result<Predictor<'i>, ExitCode> {
    load::note_policy_caveats(inventory, terminal);
    Predictor::new(inventory).map_err(|error| show_invalid_policy(&error, terminal))
}

/// Says of what a prediction depends on: addresses that are not known.
fn note_unknown(inventories: &[&Inventory], terminal: &Terminal) {
    const NAMED: usize = 3;
    let mut rules: Vec<OutsideRule> = Vec::new();
    for inventory in inventories {
        // An invalid policy has been an error already.
        let of_inventory = Explainer::new(inventory).map(|one| one.rules_by_unknown_address());
        for rule in of_inventory.unwrap_or_default() {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    let named: Vec<String> = rules.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match rules.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    terminal.note(&format!(
        "unknown: the answer depends on addresses of pods or nodes, which are not given: {}{more}",
        named.join("; ")
    ));
}

/// Predicts each line of suites, in the world that the lab would make of the manifests or in the
/// cluster.
fn predict_suites(args: &PredictArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let input = SuiteInput::Files(&args.suite);
    let selection = args.filter.selection();
    let options = (&selection, args.strict);
    let (plan, _inventory) = if args.manifests.is_empty() {
        let cluster = args.cluster.options();
        let world = args.resolve.world(&args.apply);
        prediction::plan_in_cluster(input, &cluster, &world, options, terminal)?
    } else {
        let world = args.resolve.world(&args.manifests);
        prediction::plan_in_manifests(input, &world, options, terminal)?
    };

    terminal.data(&render::checks(args.output, plan.checks()))?;
    let mut checks = plan.checks().iter();
    if checks.all(|check| matches!(check.provability, Provability::MatchesNothing(_))) {
        terminal
            .error("there is nothing to predict: no check has a source and a target that exist");
        return Err(ExitCode::Usage);
    }
    if is_contradicted(&plan) {
        Ok(ExitCode::Violated)
    } else {
        Ok(ExitCode::Proven)
    }
}

fn is_contradicted(plan: &Plan) -> bool {
    plan.checks()
        .iter()
        .any(|check| check.contradiction().is_some())
}

/// Shows which policy no API server would accept, and gives the exit code.
pub(super) fn show_invalid_policy(error: &InvalidPolicy, terminal: &Terminal) -> ExitCode {
    terminal.error(&format!("failed to {error}"));
    ExitCode::Usage
}
