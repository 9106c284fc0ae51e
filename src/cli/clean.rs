//! `watertight clean`: removes what killed runs left in a cluster.

use super::cluster::ClusterArgs;
use super::outputs::describe;
use super::terminal::Terminal;
use crate::backend::kube::{Cleaned, Runs, clean as clean_cluster};
use crate::event::ExitCode;
use crate::model::{parse_duration, show_duration};
use clap::Args;
use std::io::Write;
use std::time::Duration;

/// Longer than a run takes, and than what it leaves lives.
const OLD: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
pub(super) struct CleanArgs {
    /// Remove what is of any run, also of those that may be going on
    #[arg(long)]
    all_runs: bool,
    /// Remove what is of runs that began longer ago [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "all_runs")]
    older_than: Option<Duration>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) fn clean(args: &CleanArgs, terminal: &Terminal) -> ExitCode {
    let runs = if args.all_runs {
        Runs::All
    } else {
        Runs::OlderThan(args.older_than.unwrap_or(OLD))
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal.error(&format!("failed to start the event loop: {error}"));
            return ExitCode::Impossible;
        }
    };
    let cleaned = runtime.block_on(clean_cluster(
        &args.cluster.access(),
        runs,
        jiff::Timestamp::now(),
    ));
    runtime.shutdown_background();
    match cleaned {
        Ok(cleaned) => tell(&cleaned, terminal),
        Err(error) => {
            terminal.error(&describe(&error));
            ExitCode::Impossible
        }
    }
}

fn tell(cleaned: &Cleaned, terminal: &Terminal) -> ExitCode {
    for left in &cleaned.removed {
        let _closed = writeln!(std::io::stdout(), "removed {left}");
    }
    for (run, age) in &cleaned.spared {
        let age = show_duration(Duration::from_secs(age.as_secs()));
        terminal.note(&format!(
            "run {run} began {age} ago and may be going on; --all-runs removes it too"
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
