//! `watertight schema`, `completion`, `man`: what is generated from the program itself.

use crate::app::terminal::Terminal;
use crate::event::ExitCode;
use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;

#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Which schema
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
    /// Which shell
    shell: Shell,
}

pub(super) fn schema(args: &SchemaArgs, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let schema = match args.of {
        SchemaOf::Suite => crate::suite::schema(),
        SchemaOf::Report => crate::report::json_schema(),
    };
    terminal.data(&format!("{schema:#}\n"))
}

pub(super) fn completion(
    args: &CompletionArgs,
    command: &mut Command,
    terminal: &Terminal,
) -> Result<ExitCode, ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "watertight", &mut script);
    terminal.data(&String::from_utf8_lossy(&script))
}

pub(super) fn man(command: Command, terminal: &Terminal) -> Result<ExitCode, ExitCode> {
    let mut page = Vec::new();
    // Writing to a Vec cannot fail.
    let _ = clap_mangen::Man::new(command).render(&mut page);
    terminal.data(&String::from_utf8_lossy(&page))
}
