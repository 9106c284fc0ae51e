//! `watertight run SUITE...`, in a cluster or in the lab.

use super::cluster::{self, ClusterArgs};
use super::load::{self, SuiteInput};
use super::terminal::Terminal;
use super::{LabArgs, RunOptions, lab, scripted};
use crate::event::ExitCode;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Suite files, - for standard input
    #[arg(required = true, value_name = "SUITE")]
    suites: Vec<String>,
    #[command(flatten)]
    lab: LabArgs,
    /// Instead of packets, what this file says: the test double
    #[arg(long, value_name = "FILE", hide = true, requires = "lab")]
    scripted: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    options: RunOptions,
}

pub(super) fn run(args: &RunArgs, terminal: &Terminal) -> ExitCode {
    let given = SuiteInput::Files(&args.suites);
    if args.lab.lab.is_empty() {
        return cluster::run(&given, &args.cluster, &args.options, terminal);
    }
    let load = || load::lab(&given, &args.lab.lab, &args.options.select, terminal);
    match &args.scripted {
        Some(script) => scripted::run(load, script, &args.options, terminal),
        None => lab::run(load, args.lab.deny.how(), &args.options, terminal),
    }
}
