//! `watertight validate SUITE...`: offline.

use super::load::{self, Given};
use super::terminal::Screens;
use crate::event::ExitCode;
use crate::source::Sources;
use clap::Args;
use std::io::Write;

#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// Suite files, - for standard input
    #[arg(required = true, value_name = "SUITE")]
    suites: Vec<String>,
    /// Warnings are errors
    #[arg(long)]
    strict: bool,
}

pub(super) fn validate(args: &ValidateArgs, screens: &Screens) -> ExitCode {
    let mut sources = Sources::new();
    match load::suites(&Given::Files(&args.suites), args.strict, &mut sources, screens) {
        Ok(suites) => {
            for suite in &suites {
                let (endpoints, lines) = (suite.endpoints.len(), suite.lines.len());
                let _closed = writeln!(
                    std::io::stdout(),
                    "{}: suite {} is valid: {endpoints} endpoints, {lines} lines",
                    suite.file,
                    suite.name
                );
            }
            ExitCode::Proven
        }
        Err(code) => code,
    }
}
