//! The two streams that people see. Data goes to standard output, everything else to standard
//! error.

use crate::event::ExitCode;
use crate::report::{Capabilities, Screen};
use crate::source::{Diagnostics, Sources};
use anstream::ColorChoice;
use std::error::Error;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// What standard output and standard error can show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    out: Capabilities,
    err: Capabilities,
}

impl Terminal {
    pub(crate) fn new(color: ColorChoice) -> Self {
        Self {
            out: Capabilities::of_stdout(color),
            err: Capabilities::of_stderr(color),
        }
    }

    /// Standard output for people.
    pub(super) fn stdout(&self) -> Screen {
        Screen::new(io::stdout(), self.out)
    }

    /// Standard error for people.
    pub(super) fn stderr(&self) -> Screen {
        Screen::new(io::stderr(), self.err)
    }

    /// Writes data to standard output. A closed pipe counts as written: its reader has read
    /// enough.
    ///
    /// # Errors
    /// [`ExitCode::Defect`] where it cannot be written, which has been shown.
    pub(crate) fn data(&self, text: &str) -> Result<ExitCode, ExitCode> {
        self.stream(|out| out.write_all(text.as_bytes()))
    }

    /// Writes data to standard output as it is made. A closed pipe counts as written.
    ///
    /// # Errors
    /// [`ExitCode::Defect`] where it cannot be written, which has been shown.
    pub(crate) fn stream(
        &self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<ExitCode, ExitCode> {
        let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
        match write(&mut out).and_then(|()| out.flush()) {
            Ok(()) => Ok(ExitCode::Proven),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::Proven),
            Err(error) => {
                self.error(&format!("failed to write to standard output: {error}"));
                Err(ExitCode::Defect)
            }
        }
    }

    /// Shows a note on standard error. A closed standard error is no reason to stop.
    pub(crate) fn note(&self, text: &str) {
        self.say("1", "note", text);
    }

    /// Shows a warning on standard error: what may make an answer wrong.
    pub(crate) fn warning(&self, text: &str) {
        self.say("1;33", "warning", text);
    }

    /// Shows why the command ends.
    pub(crate) fn error(&self, text: &str) {
        self.say("1;31", "error", text);
    }

    /// Writes a line to standard error that begins with a word, in a style of ECMA-48 (Select
    /// Graphic Rendition) where colours can be shown.
    fn say(&self, style: &str, word: &str, text: &str) {
        let _closed = if self.err.colour {
            writeln!(io::stderr(), "\u{1b}[{style}m{word}\u{1b}[0m: {text}")
        } else {
            writeln!(io::stderr(), "{word}: {text}")
        };
    }

    /// Shows diagnostics of the user's files.
    pub(crate) fn diagnostics(&self, diagnostics: &Diagnostics, sources: &Sources) {
        if !diagnostics.is_empty() {
            let text = diagnostics.render(sources, self.err.colour);
            let _closed = write!(io::stderr(), "{text}");
        }
    }
}

/// Tells how far a command has come, once it has run for [`QUIET`] and as often after that.
pub(crate) struct Progress<'a> {
    terminal: &'a Terminal,
    shown: Instant,
}

/// A command that takes less time needs no word.
const QUIET: Duration = Duration::from_secs(2);

impl<'a> Progress<'a> {
    pub(crate) fn start(terminal: &'a Terminal) -> Self {
        Self {
            terminal,
            shown: Instant::now(),
        }
    }

    /// Shows what `text` says, if the last word was long enough ago.
    pub(crate) fn show(&mut self, text: impl FnOnce() -> String) {
        if self.shown.elapsed() >= QUIET {
            self.shown = Instant::now();
            self.terminal.note(&text());
        }
    }
}

/// An error with all its causes, in one line.
pub(crate) fn describe(error: &dyn Error) -> String {
    let mut text = format!("failed to {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
