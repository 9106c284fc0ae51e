//! JSON lines: every event as it happens.

use super::format::{FormatDefinition, FormatKind};
use super::{Keeps, Report, text};
use crate::event::{CheckResult, ExitCode, RunEvent, RunInfo};
use std::io::{self, Write};

/// The format `jsonl`.
pub(super) static FORMAT: FormatDefinition = FormatDefinition {
    name: "jsonl",
    extension: "jsonl",
    aliases: &["ndjson", "json-lines"],
    kind: FormatKind::Stream(|writer| Box::new(JsonLines::new(writer))),
};

/// Writes each [`RunEvent`] as one line, flushed, so that a reader sees it at once.
///
/// After a failure nothing more is written: a later line would hide that one is missing.
struct JsonLines<W> {
    writer: W,
    has_failed: bool,
    /// Bytes that are written of the line of [`RunEvent::Finished`] without results: its results
    /// come one at a time.
    written_head: usize,
}

impl<W: Write> JsonLines<W> {
    fn new(writer: W) -> Self {
        Self {
            writer,
            has_failed: false,
            written_head: 0,
        }
    }

    fn write_line(&mut self, line: String) -> io::Result<()> {
        self.write(line, "\n")?;
        if self.has_failed {
            Ok(())
        } else {
            self.writer.flush()
        }
    }

    fn write(&mut self, json: String, end: &str) -> io::Result<()> {
        if self.has_failed {
            return Ok(());
        }
        let mut json = text::escaped_json(json);
        json.push_str(end);
        let result = self.writer.write_all(json.as_bytes());
        self.has_failed = result.is_err();
        result
    }
}

impl<W: Write> Report for JsonLines<W> {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        let mut line = serde_json::to_string(event)?;
        if matches!(event, RunEvent::Finished { .. }) {
            line.drain(..std::mem::take(&mut self.written_head));
        }
        self.write_line(line)
    }

    fn keeps(&self) -> Keeps {
        Keeps::Nothing
    }

    fn result(&mut self, run: &RunInfo, result: &CheckResult) -> io::Result<()> {
        let result = serde_json::to_string(result)?;
        if self.written_head > 0 {
            return self.write(format!(",{result}"), "");
        }
        let head = format!(
            r#"{{"event":"finished","run":{},"results":["#,
            serde_json::to_string(run)?
        );
        self.written_head = head.len();
        self.write(head + &result, "")
    }

    /// Writes a line `{"event":"stopped",...}`, so that a reader does not wait for `finished`.
    fn stopped(&mut self, why: &str, code: ExitCode) -> io::Result<()> {
        let line =
            serde_json::json!({ "event": "stopped", "because": why, "exitCode": code.number() });
        self.write_line(line.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    #[test]
    fn each_event_is_one_line() {
        let mut out = Vec::new();
        let mut lines = JsonLines::new(&mut out);
        let mut events = fixtures::shop();
        events.push(RunEvent::Note {
            text: "two\nlines\u{2028}or three\u{1b}[2J\u{9b}".into(),
        });
        for event in &events {
            lines.event(event).unwrap();
        }
        lines.stopped("interrupted", ExitCode::Impossible).unwrap();
        let out = String::from_utf8(out).unwrap();
        let read: Vec<serde_json::Value> = out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(read.len(), events.len() + 1);
        assert_eq!(read[0]["event"], "started");
        assert_eq!(
            read[events.len() - 1]["text"],
            "two\nlines\u{2028}or three\u{1b}[2J\u{9b}"
        );
        assert_eq!(
            read[events.len()],
            serde_json::json!({ "event": "stopped", "because": "interrupted", "exitCode": 5 })
        );
        assert!(!out.chars().any(|c| c != '\n' && text::is_active(c)));
    }

    #[test]
    fn results_written_one_by_one_make_the_same_line() {
        let finished = fixtures::shop().pop().unwrap();
        let mut at_once = Vec::new();
        JsonLines::new(&mut at_once).event(&finished).unwrap();

        let RunEvent::Finished {
            run,
            results,
            summary,
            policies_after,
        } = finished
        else {
            panic!("{finished:?}")
        };
        let mut one_by_one = Vec::new();
        let mut lines = JsonLines::new(&mut one_by_one);
        for result in &results {
            lines.result(&run, result).unwrap();
        }
        lines
            .event(&RunEvent::Finished {
                run,
                results: Vec::new(),
                summary,
                policies_after,
            })
            .unwrap();
        assert_eq!(
            String::from_utf8(one_by_one).unwrap(),
            String::from_utf8(at_once).unwrap()
        );
    }

    #[test]
    fn nothing_is_written_after_a_failure() {
        let mut lines = JsonLines::new(fixtures::Full);
        let event = RunEvent::Note {
            text: String::new(),
        };
        assert!(lines.event(&event).is_err());
        assert!(lines.event(&event).is_ok(), "the failure is reported once");
    }
}
