//! `watertight run SUITE...`, in a cluster or in the lab.

use super::args::{LabArgs, TestArgs};
use super::cluster_args::ClusterArgs;
use crate::app;
use crate::app::options::{SuiteInput, Target};
use crate::app::terminal::Terminal;
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
    test: TestArgs,
}

pub(super) fn run(args: &RunArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let input = SuiteInput::Files(&args.suites);
    let options = args.test.options(terminal)?;
    Ok(app::run::run(input, &args.target(), &options, terminal))
}

impl RunArgs {
    fn target(&self) -> Target {
        match (self.lab.options(), &self.scripted) {
            (None, _) => Target::Cluster(Box::new(self.cluster.options())),
            (Some(lab), None) => Target::Lab(lab),
            (Some(lab), Some(script)) => Target::Scripted {
                world: lab.world,
                script: script.clone(),
            },
        }
    }
}
