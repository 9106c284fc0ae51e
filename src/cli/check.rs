//! `watertight check 'LINE'`, in a cluster or in the lab.

use super::args::{LabArgs, TestArgs};
use super::cluster_args::ClusterArgs;
use crate::app;
use crate::app::options::{SuiteInput, Target};
use crate::app::terminal::Terminal;
use crate::event::ExitCode;
use clap::Args;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// A line of a suite, endpoints written in place: 'shop/Deployment/web ->
    /// data/StatefulSet/postgres:5432 denied'
    #[arg(value_name = "LINE")]
    line: String,
    #[command(flatten)]
    lab: LabArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    test: TestArgs,
}

pub(super) fn check(args: &CheckArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let input = SuiteInput::Line(&args.line);
    let target = match args.lab.options() {
        Some(lab) => Target::Lab(lab),
        None => Target::Cluster(Box::new(args.cluster.options())),
    };
    let options = args.test.options(terminal)?;
    Ok(app::run::run(input, &target, &options, terminal))
}
