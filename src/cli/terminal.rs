//! The two streams that people see. Data goes to standard output, everything else to standard
//! error.

use super::ColorWhen;
use crate::report::{Capabilities, Screen};
use crate::source::{Diagnostics, Sources};
use std::io::Write;

/// What standard output and standard error can show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    pub(super) out: Capabilities,
    pub(super) err: Capabilities,
}

impl Terminal {
    pub(crate) fn of(color: ColorWhen) -> Self {
        let choice = match color {
            ColorWhen::Auto => anstream::ColorChoice::Auto,
            ColorWhen::Always => anstream::ColorChoice::Always,
            ColorWhen::Never => anstream::ColorChoice::Never,
        };
        Self {
            out: Capabilities::of_stdout(choice),
            err: Capabilities::of_stderr(choice),
        }
    }

    /// Standard output for people.
    pub(super) fn stdout(&self) -> Screen {
        Screen::new(std::io::stdout(), self.out)
    }

    /// Standard error for people.
    pub(super) fn stderr(&self) -> Screen {
        Screen::new(std::io::stderr(), self.err)
    }

    /// Says something that is no verdict. A closed standard error is no reason to stop.
    pub(crate) fn note(&self, text: &str) {
        let word = if self.err.colour {
            "\u{1b}[1mnote\u{1b}[0m"
        } else {
            "note"
        };
        let _closed = writeln!(std::io::stderr(), "{word}: {text}");
    }

    /// Says why the command ends.
    pub(crate) fn error(&self, text: &str) {
        let word = if self.err.colour {
            "\u{1b}[1;31merror\u{1b}[0m"
        } else {
            "error"
        };
        let _closed = writeln!(std::io::stderr(), "{word}: {text}");
    }

    /// Shows what is wrong with the user's files.
    pub(super) fn diagnostics(&self, diagnostics: &Diagnostics, sources: &Sources) {
        if !diagnostics.is_empty() {
            let _closed = write!(
                std::io::stderr(),
                "{}",
                diagnostics.render(sources, self.err.colour)
            );
        }
    }
}
