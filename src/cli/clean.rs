//! `watertight clean`: removes what killed runs left in a cluster.

use super::cluster_args::ClusterArgs;
use crate::app::cluster;
use crate::app::terminal::{Terminal, describe};
use crate::backend::kube::{Cleaned, Runs};
use crate::event::ExitCode;
use crate::model::{parse_duration, show_duration};
use clap::Args;
use std::io::Write;
use std::time::Duration;

/// Longer than a run takes, and than the objects that it leaves live.
const OLD: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
pub(super) struct CleanArgs {
    /// Remove the objects of every run, also of those that may be going on
    #[arg(long)]
    all_runs: bool,
    /// Remove the objects of runs that began longer ago [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "all_runs")]
    older_than: Option<Duration>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) fn clean(args: &CleanArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let runs = if args.all_runs {
        Runs::All
    } else {
        Runs::OlderThan(args.older_than.unwrap_or(OLD))
    };
    let cleaned = cluster::clean(&args.cluster.access(), runs, terminal)?;
    Ok(show(&cleaned, terminal))
}

fn show(cleaned: &Cleaned, terminal: &Terminal) -> ExitCode {
    for object in &cleaned.removed {
        let _closed = writeln!(std::io::stdout(), "removed {object}");
    }
    for (run, age) in &cleaned.spared {
        let age = show_duration(Duration::from_secs(age.as_secs()));
        terminal.note(&format!(
            "run {run} began {age} ago and may be going on; --all-runs removes it too"
        ));
    }
    if !cleaned.left_alone.is_empty() {
        terminal.note(&format!(
            "no run has made these, whatever their annotation says, so they are left alone: {}",
            cleaned.left_alone.join(", ")
        ));
    }
    for error in &cleaned.errors {
        terminal.error(&describe(error));
    }

    if cleaned.errors.is_empty() {
        ExitCode::Proven
    } else {
        ExitCode::Impossible
    }
}
