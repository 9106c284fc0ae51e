//! `watertight check 'LINE'`, in a cluster or in the lab.

use super::cluster::{self, ClusterArgs};
use super::load::{self, SuiteInput};
use super::terminal::Terminal;
use super::{LabArgs, RunOptions, lab};
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
    options: RunOptions,
}

pub(super) fn check(args: &CheckArgs, terminal: &Terminal) -> ExitCode {
    let given = SuiteInput::Line(&args.line);
    if args.lab.lab.is_empty() {
        return cluster::run(&given, &args.cluster, &args.options, terminal);
    }
    let load = || load::lab(&given, &args.lab.lab, &args.options.select, terminal);
    lab::run(load, args.lab.deny.how(), &args.options, terminal)
}
