//! `watertight predict [MANIFESTS...]`: what the policies of manifests or of a cluster say, without
//! packets.

mod render;

use super::args::ResolveArgs;
use super::cluster_args::ClusterArgs;
use crate::app::options::SuiteInput;
use crate::app::terminal::Terminal;
use crate::app::{cluster, load, prediction};
use crate::event::ExitCode;
use crate::inventory::Inventory;
use crate::plan::Plan;
use crate::policy::{ConnectionMap, InvalidPolicy, Link, LinkEnd, Predictor};
use crate::source::Sources;
use clap::{Args, ValueEnum};
use render::{Change, Kind, Row};
use std::collections::BTreeSet;

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
    /// Only what this workload could reach: NAMESPACE/KIND/NAME
    #[arg(long, value_name = "WORKLOAD", conflicts_with = "suite")]
    from: Option<String>,
    /// Only what could reach this workload: NAMESPACE/KIND/NAME
    #[arg(long, value_name = "WORKLOAD", conflicts_with = "suite")]
    to: Option<String>,
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
    /// A line for each connection
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

    if let [before, after] = args.diff.as_slice() {
        return compare_manifests(args, before, after, terminal);
    }
    if !args.suite.is_empty() {
        return predict_suites(args, terminal);
    }
    if !args.apply.is_empty() {
        return compare_applied(args, terminal);
    }
    predict_map(args, terminal)
}

/// Prints every connection that the policies allow.
fn predict_map(args: &PredictArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let inventory = inventory(args, &args.manifests, terminal)?;
    if inventory.pods.is_empty() {
        terminal.error("nothing to predict: there is no pod, and policies are about pods");
        return Err(ExitCode::Usage);
    }
    let mut map = connection_map(&inventory, terminal)?;
    filter_links(args, &mut [&mut map], terminal)?;

    let rows: Vec<Row<'_>> = map
        .links
        .iter()
        .map(|link| Row { change: None, link })
        .collect();
    terminal.data(&render::links(args.output, Kind::Map, &rows, &map))
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

fn connection_map(inventory: &Inventory, terminal: &Terminal) -> Result<ConnectionMap, ExitCode> {
    load::note_policy_caveats(inventory, terminal);
    let mut predictor =
        Predictor::new(inventory).map_err(|error| show_invalid_policy(&error, terminal))?;
    Ok(predictor.map())
}

/// Keeps the links of `--from` and `--to`.
///
/// # Errors
/// [`ExitCode::Usage`] where none of the maps has such a workload, which has been shown.
fn filter_links(
    args: &PredictArgs,
    maps: &mut [&mut ConnectionMap],
    terminal: &Terminal,
) -> Result<(), ExitCode> {
    let members = maps.iter().flat_map(|map| &map.workloads);
    let workloads: BTreeSet<String> = members.map(|member| member.workload.to_string()).collect();
    for name in args.from.iter().chain(&args.to) {
        if !workloads.contains(name) {
            terminal.error(&format!(
                "no workload is called {name}; {}",
                nearest_workload(name, &workloads)
            ));
            return Err(ExitCode::Usage);
        }
    }

    for map in maps {
        map.links.retain(|link| is_wanted(args, link));
    }
    Ok(())
}

fn nearest_workload(name: &str, workloads: &BTreeSet<String>) -> String {
    let nearest = workloads
        .iter()
        .min_by_key(|workload| strsim::damerau_levenshtein(workload, name));
    match nearest {
        Some(workload) => format!("did you mean {workload}?"),
        None => "there is no workload at all".to_owned(),
    }
}

fn is_wanted(args: &PredictArgs, link: &Link) -> bool {
    let from_matches = args
        .from
        .as_ref()
        .is_none_or(|from| is_workload(&link.from, from));
    let to_matches = args.to.as_ref().is_none_or(|to| is_workload(&link.to, to));
    from_matches && to_matches
}

fn is_workload(who: &LinkEnd, name: &str) -> bool {
    matches!(who, LinkEnd::Workload(member) if member.workload.to_string() == name)
}

/// Compares two sets of manifests.
fn compare_manifests(
    args: &PredictArgs,
    before: &str,
    after: &str,
    terminal: &Terminal,
) -> Result<ExitCode, ExitCode> {
    // Both are read before an error of either ends the command, so that all mistakes are shown at
    // once.
    let before = inventory(args, &[before.to_owned()], terminal);
    let after = inventory(args, &[after.to_owned()], terminal)?;
    compare(args, &before?, &after, terminal)
}

/// Compares the cluster as it is with the cluster as it would be after `kubectl apply`.
fn compare_applied(args: &PredictArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let manifests = load::manifests(&args.apply, args.strict, &mut Sources::new(), terminal)?;
    let current = cluster::inventory(&args.cluster.options(), &[], terminal)?;
    compare(args, &current, &current.with_applied(&manifests), terminal)
}

fn compare(
    args: &PredictArgs,
    before: &Inventory,
    after: &Inventory,
    terminal: &Terminal,
) -> Result<ExitCode, ExitCode> {
    let mut before = connection_map(before, terminal)?;
    let mut after = connection_map(after, terminal)?;
    filter_links(args, &mut [&mut before, &mut after], terminal)?;

    let (opened, closed) = before.changes(&after);
    let opened_rows = opened.iter().map(|link| Row {
        change: Some(Change::Opened),
        link,
    });
    let closed_rows = closed.iter().map(|link| Row {
        change: Some(Change::Closed),
        link,
    });
    let rows: Vec<Row<'_>> = opened_rows.chain(closed_rows).collect();

    terminal.data(&render::links(args.output, Kind::Changes, &rows, &after))?;
    terminal.note(&format!(
        "{} became reachable, {} became unreachable",
        opened.len(),
        closed.len()
    ));
    if args.exit_code && !rows.is_empty() {
        Ok(ExitCode::Violated)
    } else {
        Ok(ExitCode::Proven)
    }
}

/// Predicts each line of suites, in the world that the lab would make of the manifests or in the
/// cluster.
fn predict_suites(args: &PredictArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let input = SuiteInput::Files(&args.suite);
    let (plan, _inventory) = if args.manifests.is_empty() {
        let cluster = args.cluster.options();
        let world = args.resolve.world(&args.apply);
        prediction::plan_in_cluster(input, &cluster, &world, args.strict, terminal)?
    } else {
        let world = args.resolve.world(&args.manifests);
        prediction::plan_in_manifests(input, &world, args.strict, terminal)?
    };

    terminal.data(&render::checks(args.output, plan.checks()))?;
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
