//! JSON lines: every event as it happens.

use super::{Keeps, Report, text};
use crate::event::{CheckResult, ExitCode, RunEvent, RunInfo};
use std::io::{self, Write};

/// Writes each [`RunEvent`] as one line, flushed, so that a reader sees it at once.
///
/// A line that is lost stays lost: after a failure nothing more is written.
pub(super) struct Lines<W> {
    writer: W,
    broken: bool,
    /// How much of the line of [`RunEvent::Finished`] without results is written: its results come
    /// one at a time.
    written: usize,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(writer: W) -> Self {
        Self {
            writer,
            broken: false,
            written: 0,
        }
    }

    fn line(&mut self, line: String) -> io::Result<()> {
        self.write(line, "\n")?;
        if self.broken {
            Ok(())
        } else {
            self.writer.flush()
        }
    }

    fn write(&mut self, json: String, end: &str) -> io::Result<()> {
        if self.broken {
            return Ok(());
        }
        let mut json = text::escaped_json(json);
        json.push_str(end);
        let result = self.writer.write_all(json.as_bytes());
        self.broken = result.is_err();
        result
    }
}

impl<W: Write> Report for Lines<W> {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        let mut line = serde_json::to_string(event)?;
        if matches!(event, RunEvent::Finished { .. }) {
            line.drain(..std::mem::take(&mut self.written));
        }
        self.line(line)
    }

    fn keeps(&self) -> Keeps {
        Keeps::Nothing
    }

    fn result(&mut self, run: &RunInfo, result: &CheckResult) -> io::Result<()> {
        let result = serde_json::to_string(result)?;
        if self.written > 0 {
            return self.write(format!(",{result}"), "");
        }
        let before = format!(
            r#"{{"event":"finished","run":{},"results":["#,
            serde_json::to_string(run)?
        );
        self.written = before.len();
        self.write(before + &result, "")
    }

    /// A line of its own, `{"event":"stopped",...}`, so that a reader does not wait for `finished`.
    fn stopped(&mut self, why: &str, code: ExitCode) -> io::Result<()> {
        let line =
            serde_json::json!({ "event": "stopped", "because": why, "exitCode": code.number() });
        self.line(line.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    #[test]
    fn each_event_is_one_line() {
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out);
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
        assert!(!out.chars().any(|c| c != '\n' && text::acts(c)));
    }

    #[test]
    fn results_given_one_by_one_make_the_same_line() {
        let written = |one_by_one: bool| {
            let mut out = Vec::new();
            let mut lines = Lines::new(&mut out);
            let finished = fixtures::shop()
                .into_iter()
                .find(|event| matches!(event, RunEvent::Finished { .. }));
            let Some(RunEvent::Finished {
                run,
                results,
                summary,
                policies,
            }) = finished
            else {
                unreachable!()
            };
            let mut at_once = results.clone();
            if one_by_one {
                for result in &results {
                    lines.result(&run, result).unwrap();
                }
                at_once.clear();
            }
            lines
                .event(&RunEvent::Finished {
                    run,
                    results: at_once,
                    summary,
                    policies,
                })
                .unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(true), written(false));
    }

    #[test]
    fn after_a_lost_line_nothing_more_is_written() {
        let mut lines = Lines::new(fixtures::Full);
        let event = RunEvent::Note {
            text: String::new(),
        };
        assert!(lines.event(&event).is_err());
        assert!(lines.event(&event).is_ok(), "the failure is reported once");
    }
}
