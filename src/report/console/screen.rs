//! A stream for people, and what it can show.

use crate::report::text;
use anstyle::{AnsiColor, Style};
use std::io::{self, IsTerminal, Write};

/// What a stream can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether it is a terminal: lines may be overwritten.
    pub terminal: bool,
    /// Its width in columns.
    pub width: usize,
    /// Whether it takes ANSI colours.
    pub colour: bool,
    /// Whether it takes characters beyond ASCII.
    pub unicode: bool,
}

impl Capabilities {
    /// The width of a log, in columns.
    const LOG_WIDTH: usize = 100;

    /// The capabilities of a plain log: no colour, ASCII.
    pub fn plain() -> Self {
        Self {
            terminal: false,
            width: Self::LOG_WIDTH,
            colour: false,
            unicode: false,
        }
    }

    /// The capabilities of standard output, by the conventions (`NO_COLOR`, `CLICOLOR_FORCE`,
    /// `TERM`, the locale).
    pub fn of_stdout(choice: anstream::ColorChoice) -> Self {
        let out = io::stdout();
        Self::of(
            out.is_terminal(),
            terminal_size::terminal_size_of(&out),
            takes_colour(choice, &out),
        )
    }

    /// The capabilities of standard error.
    pub fn of_stderr(choice: anstream::ColorChoice) -> Self {
        let err = io::stderr();
        Self::of(
            err.is_terminal(),
            terminal_size::terminal_size_of(&err),
            takes_colour(choice, &err),
        )
    }

    fn of(
        terminal: bool,
        size: Option<(terminal_size::Width, terminal_size::Height)>,
        colour: bool,
    ) -> Self {
        let width = size.map_or(Self::LOG_WIDTH, |(terminal_size::Width(columns), _)| {
            usize::from(columns)
        });
        Self {
            terminal,
            width,
            colour,
            unicode: takes_unicode(|name| std::env::var(name).ok()),
        }
    }
}

/// Whether a choice of colours means colours on this stream.
fn takes_colour<S: anstream::stream::RawStream>(choice: anstream::ColorChoice, stream: &S) -> bool {
    let choice = match choice {
        anstream::ColorChoice::Auto => anstream::AutoStream::choice(stream),
        explicit @ (anstream::ColorChoice::AlwaysAnsi
        | anstream::ColorChoice::Always
        | anstream::ColorChoice::Never) => explicit,
    };
    match choice {
        anstream::ColorChoice::Auto
        | anstream::ColorChoice::AlwaysAnsi
        | anstream::ColorChoice::Always => true,
        anstream::ColorChoice::Never => false,
    }
}

/// Whether locale and terminal take UTF-8: the first of the locale's variables that is set decides
/// (POSIX.1 §8.2).
fn takes_unicode(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is_limited =
        variable("TERM").is_some_and(|terminal| terminal == "linux" || terminal == "dumb");
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(variable)
        .find(|value| !value.is_empty());
    let is_utf8 = locale.is_some_and(|locale| {
        let locale = locale.to_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    });
    is_utf8 && !is_limited
}

/// A stream for people.
pub struct Screen {
    writer: Box<dyn Write + Send>,
    capabilities: Capabilities,
}

impl Screen {
    /// A screen on a writer with these capabilities.
    pub fn new(writer: impl Write + Send + 'static, capabilities: Capabilities) -> Self {
        Self {
            writer: Box::new(writer),
            capabilities,
        }
    }

    /// The pen that writes for this screen.
    pub(super) fn pen(&self) -> Pen {
        let Capabilities {
            width,
            colour,
            unicode,
            ..
        } = self.capabilities;
        Pen {
            width,
            colour,
            unicode,
        }
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.capabilities.terminal
    }

    /// Writes text of a [`Pen`]. A closed pipe (`| head`) is no failure.
    pub(super) fn write(&mut self, text: &str) -> io::Result<()> {
        match self
            .writer
            .write_all(text.as_bytes())
            .and_then(|()| self.writer.flush())
        {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

/// The meaning of a piece of text; colour only repeats what words and signs say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    Proven,
    Violated,
    Unproven,
    Strong,
    Faint,
}

/// Formats text for one screen. Every text that does not come from watertight goes through
/// [`Pen::text`].
#[derive(Debug, Clone, Copy)]
pub(in crate::report) struct Pen {
    pub(in crate::report) width: usize,
    pub(in crate::report) colour: bool,
    pub(in crate::report) unicode: bool,
}

impl Pen {
    /// Text from a network or a file, escaped.
    pub(super) fn text(self, text: &str) -> String {
        text::escaped_for(text, self.unicode).into_owned()
    }

    /// Text that is escaped already, in colour.
    pub(super) fn inked(self, ink: Ink, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let style = match ink {
            Ink::Proven => AnsiColor::Green.on_default(),
            Ink::Violated => AnsiColor::BrightRed.on_default().bold(),
            Ink::Unproven => AnsiColor::Yellow.on_default(),
            Ink::Strong => Style::new().bold(),
            Ink::Faint => Style::new().dimmed(),
        };
        format!("{style}{text}{style:#}")
    }

    /// The sign that the screen can show.
    pub(super) fn sign(self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { unicode } else { ascii }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_locale_variable_that_is_set_decides() {
        let cases: [(&[(&str, &str)], bool); 7] = [
            (&[], false),
            (&[("LANG", "C.UTF-8")], true),
            (&[("LANG", "de_DE.utf8")], true),
            (&[("LC_ALL", "C"), ("LANG", "C.UTF-8")], false),
            (&[("LC_ALL", ""), ("LANG", "C.UTF-8")], true),
            (&[("LANG", "C.UTF-8"), ("TERM", "linux")], false),
            (
                &[
                    ("LC_CTYPE", "en_US.UTF-8"),
                    ("LANG", "C"),
                    ("TERM", "xterm-256color"),
                ],
                true,
            ),
        ];
        for (variables, expected) in cases {
            let variable = |name: &str| {
                variables
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(takes_unicode(variable), expected, "{variables:?}");
        }
    }

    #[test]
    fn closed_pipe_is_no_failure_and_full_disk_is() {
        struct ClosedPipe;
        impl Write for ClosedPipe {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(
            Screen::new(ClosedPipe, Capabilities::plain())
                .write("x")
                .is_ok()
        );
        assert!(
            Screen::new(crate::report::fixtures::Full, Capabilities::plain())
                .write("x")
                .is_err()
        );
    }
}
