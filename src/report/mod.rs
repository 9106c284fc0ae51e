//! Reports: console, GitHub, and the formats of `--report` and `-o`.
//!
//! A report sees [`RunEvent`]s and nothing else. All reports say the same of the same run: what is
//! violated, what is unproven and what was not finished stay apart down to the XML, and no report
//! is green where the exit code is not 0.
//!
//! # Adding a format
//!
//! 1. Add a file beside `tap.rs` with a `pub(super) static FORMAT: FormatDefinition`: its name, the
//!    extension of its files, and how it is written. Most formats are a function of the run's state
//!    ([`FormatKind::Rendered`]); a format may also have its own state
//!    ([`FormatKind::Document`]) or write event by event ([`FormatKind::Stream`]).
//! 2. Add its `mod` line here and its line to the list in `format.rs`.
//!
//! `--report`, `-o`, the messages about both, and the tests of all formats in `agreement.rs` take
//! it from that list. Text that does not come from watertight goes through `text.rs`; the sentences
//! that formats share are in `wording.rs`.

mod console;
mod ctrf;
mod destination;
mod document_file;
mod format;
mod github;
mod json;
mod json_lines;
mod junit;
mod markdown;
mod openmetrics;
mod reports;
mod run_state;
mod spec;
mod tap;
mod text;
mod wording;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod fixtures;

pub use console::{Capabilities, Console, Detail, Progress, Screen};
pub use format::Format;
pub use github::{Annotations, StepSummary};
pub use json::json_schema;
pub use reports::{OpenError, Reports, WriteError};
pub use spec::{Output, ReportSpec, SpecError};
pub use text::wrapped;
pub use wording::explained;

#[cfg(doc)]
use format::FormatKind;

use crate::event::{CheckResult, ExitCode, RunEvent, RunInfo};
use std::io;

/// A document, a stream or a screen that describes a run.
pub trait Report {
    /// Handles an event. Events arrive in the order in which they happen.
    ///
    /// # Errors
    /// The report could not be written.
    fn event(&mut self, event: &RunEvent) -> io::Result<()>;

    /// Handles the end of a run that has no [`RunEvent::Finished`], or that never started: writes
    /// what is known, and why there is no more.
    ///
    /// # Errors
    /// The report could not be written.
    fn stopped(&mut self, why: &str, code: ExitCode) -> io::Result<()>;

    /// Writes what was held back for the end. No event follows.
    ///
    /// # Errors
    /// The report could not be written.
    fn close(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// How much of the final results the report needs at once.
    fn keeps(&self) -> Keeps {
        Keeps::Everything
    }

    /// Handles one final result, if the report keeps none: in the order of [`RunEvent::Finished`],
    /// and before it.
    ///
    /// # Errors
    /// The report could not be written.
    fn result(&mut self, _run: &RunInfo, _result: &CheckResult) -> io::Result<()> {
        Ok(())
    }
}

/// How much of the final results a report needs at once, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeps {
    /// Nothing: the report handles one result at a time, and [`RunEvent::Finished`] without any.
    Nothing,
    /// All results; those that are proven without their flows.
    Findings,
    /// All results in full.
    Everything,
}
