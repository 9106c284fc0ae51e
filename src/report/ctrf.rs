//! CTRF, the Common Test Report Format: proven is `passed`; violated, unproven and not finished are
//! `failed`.
//!
//! The format has `other` for what is neither, which readers show as neutral; so what is unproven
//! is `failed`, and `rawStatus` keeps it apart: `unproven: no-control-answered`. A run that is not
//! complete has a test of its own.

use super::run_state::RunState;
use super::text::escaped_json;
use super::wording::{self, TOOL};
use crate::event::{CheckResult, Outcome};
use serde_json::{Value, json};

/// The document.
pub(super) fn render(state: &RunState) -> String {
    let results = state.results();
    let mut tests: Vec<Value> = results.iter().map(|result| test(result)).collect();
    if let Some(why) = &state.incomplete {
        tests.push(json!({
            "name": RunState::run_key(), "status": "failed", "rawStatus": "incomplete", "duration": 0, "message": why,
        }));
    }
    let passed = RunState::count(&results, Outcome::Proven);
    let at = |at: Option<jiff::Timestamp>| at.map_or(0, jiff::Timestamp::as_millisecond);
    let started = state.run.as_ref().map(|run| run.started_at);
    let ended = state.run.as_ref().and_then(|run| run.ended_at).or(started);
    let document = json!({
        "reportFormat": "CTRF",
        "specVersion": "0.0.0",
        "results": {
            "tool": { "name": TOOL, "version": env!("CARGO_PKG_VERSION") },
            "summary": {
                "tests": tests.len(),
                "passed": passed,
                "failed": tests.len() - passed,
                "pending": 0,
                "skipped": 0,
                "other": 0,
                "start": at(started),
                "stop": at(ended),
            },
            "tests": tests,
        },
    });
    format!("{}\n", escaped_json(format!("{document:#}")))
}

fn test(result: &CheckResult) -> Value {
    let (status, raw) = match result.verdict {
        Outcome::Proven => ("passed", "proven".to_owned()),
        Outcome::Violated => ("failed", "violated".to_owned()),
        Outcome::Unproven => {
            let code = result
                .reason
                .as_ref()
                .map_or("unproven", |reason| reason.code);
            ("failed", format!("unproven: {code}"))
        }
    };
    json!({
        "name": RunState::key(result),
        "status": status,
        "rawStatus": raw,
        // Checks run side by side: none has a duration of its own.
        "duration": 0,
        "message": wording::sentence(result),
        "trace": wording::explained(result),
        "filePath": result.check.file,
        "line": result.check.line,
        "tags": result.check.tags,
    })
}
