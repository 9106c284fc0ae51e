//! `watertight predict [MANIFESTS...]`: what the policies of manifests or of a cluster say, without
//! packets.

mod render;

use super::cluster::{self, ClusterArgs};
use super::load::{self, SuiteInput};
use super::terminal::Terminal;
use crate::event::ExitCode;
use crate::inventory::Inventory;
use crate::plan::{Check, Plan, Selection};
use crate::policy::{ConnectionMap, InvalidPolicy, Predictor, Who};
use crate::source::Sources;
use clap::{Args, ValueEnum};
use render::{Change, Kind, Row};
use std::collections::BTreeSet;
use std::io::{self, Write};

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
    /// How it is written
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

pub(super) fn predict(args: &PredictArgs, terminal: &Terminal) -> ExitCode {
    if args.exit_code && args.diff.is_empty() && args.apply.is_empty() {
        terminal.error("--exit-code goes with --diff or --apply");
        return ExitCode::Usage;
    }
    let done = match (args.diff.as_slice(), args.suite.as_slice()) {
        ([before, after], _) => compare(args, before, after, terminal),
        (_, []) if !args.apply.is_empty() => applied(args, terminal),
        (_, []) => inventory(args, &args.manifests, terminal).and_then(|inventory| {
            let mut map = map(&inventory, terminal)?;
            narrow(args, &mut [&mut map], terminal)?;
            let rows = map
                .links
                .iter()
                .map(|link| Row { change: None, link })
                .collect::<Vec<_>>();
            written(
                &render::links(args.output, Kind::Map, &rows, &map),
                terminal,
            )
        }),
        (_, suites) => lines(args, suites, terminal),
    };
    done.unwrap_or_else(|code| code)
}

/// What manifests declare, or what the cluster has.
fn inventory(
    args: &PredictArgs,
    paths: &[String],
    terminal: &Terminal,
) -> Result<Inventory, ExitCode> {
    if paths.is_empty() {
        return cluster::inventory(&args.cluster, &[], terminal);
    }
    let manifests = load::manifests(paths, args.strict, &mut Sources::new(), terminal)?;
    Ok(Inventory::from(&manifests))
}

fn map(inventory: &Inventory, terminal: &Terminal) -> Result<ConnectionMap, ExitCode> {
    load::note_oddities(inventory, terminal);
    Ok(Predictor::new(inventory)
        .map_err(|error| invalid(&error, terminal))?
        .map())
}

/// Keeps what is asked for. A workload counts as known if any of the maps has it.
fn narrow(
    args: &PredictArgs,
    maps: &mut [&mut ConnectionMap],
    terminal: &Terminal,
) -> Result<(), ExitCode> {
    let is = |who: &Who, wanted: &str| matches!(who, Who::Member(member) if member.workload.to_string() == wanted);
    for wanted in args.from.iter().chain(&args.to) {
        let members = maps.iter().flat_map(|map| &map.members);
        let known: BTreeSet<String> = members.map(|member| member.workload.to_string()).collect();
        if !known.contains(wanted) {
            let near = known
                .iter()
                .min_by_key(|name| strsim::damerau_levenshtein(name, wanted));
            let help = near.map_or("there is no workload at all".to_owned(), |near| {
                format!("did you mean {near}?")
            });
            terminal.error(&format!("no workload is called {wanted}; {help}"));
            return Err(ExitCode::Usage);
        }
    }
    for map in maps {
        map.links.retain(|link| {
            args.from.as_ref().is_none_or(|from| is(&link.from, from))
                && args.to.as_ref().is_none_or(|to| is(&link.to, to))
        });
    }
    Ok(())
}

fn compare(
    args: &PredictArgs,
    before: &str,
    after: &str,
    terminal: &Terminal,
) -> Result<ExitCode, ExitCode> {
    // Both are read before either is given up, so that all mistakes are shown at once.
    let earlier = inventory(args, &[before.to_owned()], terminal);
    let later = inventory(args, &[after.to_owned()], terminal)?;
    differences(args, &earlier?, &later, terminal)
}

/// The cluster as it is, and as it would be.
fn applied(args: &PredictArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let manifests = load::manifests(&args.apply, args.strict, &mut Sources::new(), terminal)?;
    let before = cluster::inventory(&args.cluster, &[], terminal)?;
    differences(args, &before, &before.with_applied(&manifests), terminal)
}

fn differences(
    args: &PredictArgs,
    before: &Inventory,
    after: &Inventory,
    terminal: &Terminal,
) -> Result<ExitCode, ExitCode> {
    let (mut earlier, mut later) = (map(before, terminal)?, map(after, terminal)?);
    narrow(args, &mut [&mut earlier, &mut later], terminal)?;
    let (opened, closed) = earlier.changes(&later);
    let opened_rows = opened.iter().map(|link| Row {
        change: Some(Change::Opened),
        link,
    });
    let closed_rows = closed.iter().map(|link| Row {
        change: Some(Change::Closed),
        link,
    });
    let rows: Vec<Row<'_>> = opened_rows.chain(closed_rows).collect();
    written(
        &render::links(args.output, Kind::Changes, &rows, &later),
        terminal,
    )?;
    terminal.note(&format!(
        "{} became reachable, {} became unreachable",
        opened.len(),
        closed.len()
    ));
    let differs = args.exit_code && !rows.is_empty();
    Ok(if differs {
        ExitCode::Violated
    } else {
        ExitCode::Proven
    })
}

/// Each line of suites: in the world that the lab would make of the manifests, or in the cluster.
fn lines(args: &PredictArgs, suites: &[String], terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let mut sources = Sources::new();
    let given = SuiteInput::Files(suites);
    let plan = if args.manifests.is_empty() {
        let (suites, manifests) =
            load::read(&given, &args.apply, args.strict, &mut sources, terminal)?;
        let inventory =
            cluster::inventory(&args.cluster, &suites, terminal)?.with_applied(&manifests);
        load::note_oddities(&inventory, terminal);
        load::plan_unsent(&inventory, &suites, &sources, terminal)?
    } else {
        let (suites, manifests) =
            load::read(&given, &args.manifests, args.strict, &mut sources, terminal)?;
        let loaded = load::world_and_plan(
            &suites,
            &manifests,
            &Selection::default(),
            &sources,
            terminal,
        )?;
        load::note_oddities(loaded.world.inventory(), terminal);
        loaded.plan
    };
    let text = match args.output {
        Format::Text => plan.checks().iter().map(line).collect(),
        format => render::checks(format, plan.checks()),
    };
    written(&text, terminal)?;
    Ok(if contradicted(&plan) {
        ExitCode::Violated
    } else {
        ExitCode::Proven
    })
}

fn contradicted(plan: &Plan) -> bool {
    plan.checks()
        .iter()
        .any(|check| check.contradiction().is_some())
}

fn line(check: &Check) -> String {
    let place = format!("{}:{}", check.line.file, check.line.line);
    match (&check.prediction, check.contradiction()) {
        (None, _) => format!("unknown      {}  ({place})\n", check.name),
        (Some(prediction), None) => {
            format!("{:<12} {}  ({place})\n", prediction.word(), check.name)
        }
        (Some(prediction), Some(why)) => {
            format!(
                "{:<12} {}  ({place})\n    {why}\n",
                format!("{}!", prediction.word()),
                check.name
            )
        }
    }
}

pub(super) fn invalid(error: &InvalidPolicy, terminal: &Terminal) -> ExitCode {
    terminal.error(&format!("failed to {error}"));
    ExitCode::Usage
}

/// Writes to standard output. Whoever closes the pipe has seen enough.
pub(super) fn written(text: &str, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Ok(ExitCode::Proven),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::Proven),
        Err(error) => {
            terminal.error(&format!("failed to write to standard output: {error}"));
            Err(ExitCode::Defect)
        }
    }
}
