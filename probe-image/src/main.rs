//! The agent's binary: `watertight-probe __probe [FD]` makes attempts, `watertight-probe
//! __responder` answers them.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("__probe"), None) => watertight_probe::probe_main(None),
        (Some("__probe"), Some(fd)) => fd
            .parse()
            .map_or_else(|_| usage(), |fd| watertight_probe::probe_main(Some(fd))),
        (Some("__responder"), None) => watertight_probe::responder_main(),
        (Some("--version"), None) => {
            // A failure cannot be reported: stdout is gone.
            drop(writeln!(std::io::stdout(), "{}", watertight_probe::BUILD));
            ExitCode::SUCCESS
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    // A failure cannot be reported: stderr is gone.
    drop(writeln!(
        std::io::stderr(),
        "usage: watertight-probe __probe [NETNS-DESCRIPTOR] | watertight-probe __responder | watertight-probe --version"
    ));
    ExitCode::from(2)
}
