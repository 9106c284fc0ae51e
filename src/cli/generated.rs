//! `watertight schema`, `completion`, `man`: what is generated from the program itself.

use crate::event::ExitCode;
use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;
use std::io::{self, Write};

#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Of what
    #[arg(value_enum, default_value_t)]
    of: SchemaOf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum SchemaOf {
    /// Suite files.
    #[default]
    Suite,
    /// The JSON report.
    Report,
}

#[derive(Debug, Args)]
pub(super) struct CompletionArgs {
    /// For which shell
    shell: Shell,
}

pub(super) fn schema(args: &SchemaArgs) -> ExitCode {
    let schema = match args.of {
        SchemaOf::Suite => crate::suite::schema(),
        SchemaOf::Report => crate::report::json_schema(),
    };
    written(writeln!(io::stdout(), "{schema:#}"))
}

pub(super) fn completion(args: &CompletionArgs, command: &mut Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "watertight", &mut script);
    written(io::stdout().write_all(&script))
}

pub(super) fn man(command: Command) -> ExitCode {
    let mut page = Vec::new();
    written(
        clap_mangen::Man::new(command)
            .render(&mut page)
            .and_then(|()| io::stdout().write_all(&page)),
    )
}

/// Whoever closes the pipe has seen enough; anything else that keeps us from writing is a failure.
fn written(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::Proven,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::Proven,
        Err(_) => ExitCode::Defect,
    }
}
