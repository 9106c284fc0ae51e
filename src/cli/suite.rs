//! `watertight suite --from MANIFESTS...|cluster`: drafts a suite from what policies say.

use super::cluster_args::ClusterArgs;
use crate::app::draft;
use crate::app::terminal::Terminal;
use crate::event::ExitCode;
use crate::model::EndpointName;
use clap::Args;

/// The value of `--from` that names the cluster of the kubeconfig instead of manifests.
const CLUSTER: &str = "cluster";

#[derive(Debug, Args)]
pub(super) struct SuiteArgs {
    /// Manifests (files, folders, or - for standard input), or the word cluster for that of the
    /// kubeconfig
    #[arg(long, value_name = "MANIFESTS|cluster", num_args = 1.., required = true)]
    from: Vec<String>,
    /// What the suite is called
    #[arg(long, value_name = "NAME", default_value = "drafted", value_parser = parse_name)]
    name: String,
    /// Warnings are errors
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Parses a suite's name that needs no quotes in YAML.
fn parse_name(text: &str) -> Result<String, String> {
    EndpointName::parse(text)
        .map(|name| name.as_str().to_owned())
        .map_err(|error| error.to_string())
}

pub(super) fn suite(args: &SuiteArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let text = match args.from.as_slice() {
        [only] if only == CLUSTER => {
            draft::from_cluster(&args.cluster.options(), &args.name, terminal)?
        }
        manifests => draft::from_manifests(manifests, &args.name, args.strict, terminal)?,
    };
    terminal.data(&text)
}
