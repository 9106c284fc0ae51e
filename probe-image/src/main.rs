//! `watertight-probe __probe [FD]` samples; `watertight-probe __responder` answers.

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
            use std::io::Write;
            // Nobody can be told if stdout is gone.
            drop(writeln!(std::io::stdout(), "{}", watertight_probe::BUILD));
            ExitCode::SUCCESS
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    use std::io::Write;
    // Nobody can be told if stderr is gone too.
    drop(writeln!(
        std::io::stderr(),
        "usage: watertight-probe __probe [NETNS-DESCRIPTOR] | watertight-probe __responder | watertight-probe --version"
    ));
    ExitCode::from(2)
}
