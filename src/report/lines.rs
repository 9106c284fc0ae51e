//! JSON lines: every event as it happens.

use super::{Report, text};
use crate::event::{ExitCode, RunEvent};
use std::io::{self, Write};

/// Writes each [`RunEvent`] as one line, flushed, so that a reader sees it at once.
///
/// A line that is lost stays lost: after a failure nothing more is written.
pub(super) struct Lines<W> {
    writer: W,
    broken: bool,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(writer: W) -> Self {
        Self { writer, broken: false }
    }

    fn line(&mut self, line: String) -> io::Result<()> {
        if self.broken {
            return Ok(());
        }
        let mut line = text::escaped_json(line);
        line.push('\n');
        let result = self.writer.write_all(line.as_bytes()).and_then(|()| self.writer.flush());
        self.broken = result.is_err();
        result
    }
}

impl<W: Write> Report for Lines<W> {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        let line = serde_json::to_string(event)?;
        self.line(line)
    }

    /// A line of its own, `{"event":"stopped",...}`, so that a reader does not wait for `finished`.
    fn stopped(&mut self, why: &str, code: ExitCode) -> io::Result<()> {
        let line = serde_json::json!({ "event": "stopped", "because": why, "exitCode": code.number() });
        self.line(line.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn each_event_is_one_line() {
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out);
        let mut events = example::shop();
        events.push(RunEvent::Note { text: "two\nlines\u{2028}or three\u{1b}[2J\u{9b}".into() });
        for event in &events {
            lines.event(event).unwrap();
        }
        lines.stopped("interrupted", ExitCode::Impossible).unwrap();
        let out = String::from_utf8(out).unwrap();
        let read: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read.len(), events.len() + 1);
        assert_eq!(read[0]["event"], "started");
        assert_eq!(read[events.len() - 1]["text"], "two\nlines\u{2028}or three\u{1b}[2J\u{9b}");
        assert_eq!(
            read[events.len()],
            serde_json::json!({ "event": "stopped", "because": "interrupted", "exitCode": 5 })
        );
        assert!(!out.chars().any(|c| c != '\n' && text::acts(c)));
    }

    #[test]
    fn after_a_lost_line_nothing_more_is_written() {
        let mut lines = Lines::new(example::Full);
        let event = RunEvent::Note { text: String::new() };
        assert!(lines.event(&event).is_err());
        assert!(lines.event(&event).is_ok(), "the failure is reported once");
    }
}
