//! `watertight run SUITE...`, in a cluster or in the lab.

use super::cluster::{self, ClusterArgs};
use super::load::{self, Given};
use super::terminal::Screens;
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

pub(super) fn run(args: &RunArgs, screens: &Screens) -> ExitCode {
    let given = Given::Files(&args.suites);
    if args.lab.lab.is_empty() {
        return cluster::run(&given, &args.cluster, &args.options, screens);
    }
    let load = || load::lab(&given, &args.lab.lab, &args.options.select, screens);
    match &args.scripted {
        Some(script) => scripted::run(load, script, &args.options, screens),
        None => lab::run(load, args.lab.deny.how(), &args.options, screens),
    }
}
