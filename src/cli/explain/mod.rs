//! `watertight explain 'SOURCE -> TARGET:PORT'`: why policies allow or deny a flow, rule by rule,
//! in a cluster or with `--lab MANIFESTS...` in the world of manifests.

mod render;

use super::args::ResolveArgs;
use super::cluster_args::ClusterArgs;
use super::predict::show_invalid_policy;
use crate::app::options::SuiteInput;
use crate::app::prediction;
use crate::app::terminal::Terminal;
use crate::event::ExitCode;
use crate::inventory::Inventory;
use crate::plan::{FlowExplanation, Plan, Provability, Selection, explain_flows};
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Who sends what to whom, as in a suite: 'shop/Deployment/web ->
    /// data/StatefulSet/postgres:5432'
    #[arg(value_name = "FLOW")]
    flow: String,
    /// In the world of these manifests instead of a cluster: files, folders, or - for standard
    /// input
    #[arg(long, value_name = "MANIFESTS", num_args = 1..)]
    lab: Vec<String>,
    /// In the cluster as it would be if these manifests were applied
    #[arg(long, value_name = "MANIFESTS", num_args = 1.., conflicts_with = "lab")]
    apply: Vec<String>,
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
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

pub(super) fn explain(args: &ExplainArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let line = suite_line(&args.flow);
    let (plan, inventory) = plan(args, &line, terminal)?;
    let explanations =
        explain_flows(&plan, &inventory).map_err(|error| show_invalid_policy(&error, terminal))?;
    if explanations.is_empty() {
        terminal.error(&format!(
            "there is no flow to explain: {}",
            why_no_flow(&plan)
        ));
        return Err(ExitCode::Usage);
    }

    let text = match args.output {
        Format::Json => json(&explanations),
        Format::Text => render::text(&explanations),
    };
    terminal.data(&text)
}

/// The flow as a line of a suite: what is expected does not matter, and may be left out.
fn suite_line(flow: &str) -> String {
    let flow = flow.trim();
    if flow.ends_with("allowed") || flow.ends_with("denied") {
        flow.to_owned()
    } else {
        format!("{flow} allowed")
    }
}

/// The plan of the one line, and the inventory in which it is explained.
fn plan(
    args: &ExplainArgs,
    line: &str,
    terminal: &Terminal,
) -> Result<(Plan, Inventory), ExitCode> {
    let input = SuiteInput::Line(line);
    let all = Selection::default();
    if args.lab.is_empty() {
        let cluster = args.cluster.options();
        let world = args.resolve.world(&args.apply);
        prediction::plan_in_cluster(input, &cluster, &world, (&all, false), terminal)
    } else {
        let world = args.resolve.world(&args.lab);
        prediction::plan_in_manifests(input, &world, (&all, false), terminal)
    }
}

fn why_no_flow(plan: &Plan) -> &str {
    let missing = plan
        .checks()
        .iter()
        .find_map(|check| match &check.provability {
            Provability::MatchesNothing(what)
            | Provability::AddressUnknown(what)
            | Provability::Incomplete(what) => Some(what.as_str()),
            Provability::Provable
            | Provability::Unprovable(_)
            | Provability::NothingReady(_)
            | Provability::PoliciesAdmitMore(_) => None,
        });
    missing.unwrap_or("no packet can be sent between the two ends")
}

fn json(explanations: &[FlowExplanation]) -> String {
    // Keys are text and numbers finite, so nothing can be refused.
    let json = serde_json::to_string_pretty(explanations).unwrap_or_default();
    format!("{json}\n")
}
