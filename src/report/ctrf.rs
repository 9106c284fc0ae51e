//! CTRF, the Common Test Report Format: proven is `passed`; violated, unproven and not finished are
//! `failed`.
//!
//! The format has `other` for what is neither, which readers show as neutral; so what is unproven
//! is `failed`, and `rawStatus` keeps it apart: `unproven: no-control-answered`. A run that is not
//! complete has one more test, which is `failed`.

use super::format::{FormatDefinition, FormatKind};
use super::run_state::RunState;
use super::text::escaped_json;
use super::wording::{self, TOOL};
use crate::event::{CheckResult, Outcome};
use serde_json::{Value, json};

/// The format `ctrf`.
pub(super) static FORMAT: FormatDefinition = FormatDefinition {
    name: "ctrf",
    extension: "json",
    aliases: &[],
    kind: FormatKind::Rendered(render),
};

fn render(state: &RunState) -> String {
    let results = state.results();
    let mut tests: Vec<Value> = results.iter().map(|result| test(result)).collect();
    if let Some(why) = &state.incomplete {
        tests.push(json!({
            "name": RunState::run_name(), "status": "failed", "rawStatus": "incomplete", "duration": 0, "message": why,
        }));
    }

    let passed = RunState::count(&results, Outcome::Proven);
    let started = state.run.as_ref().map(|run| run.started_at);
    let ended = state.run.as_ref().and_then(|run| run.ended_at).or(started);

    let limits = state.run.as_ref().map_or(&[][..], |run| &run.limits);

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
                "start": milliseconds(started),
                "stop": milliseconds(ended),
            },
            "tests": tests,
            "extra": { "limits": limits },
        },
    });
    format!("{}\n", escaped_json(format!("{document:#}")))
}

/// A moment as CTRF has it: milliseconds since 1970, 0 where it is not known.
fn milliseconds(at: Option<jiff::Timestamp>) -> i64 {
    at.map_or(0, jiff::Timestamp::as_millisecond)
}

fn test(result: &CheckResult) -> Value {
    let (status, raw_status) = match result.verdict {
        Outcome::Proven => ("passed", "proven".to_owned()),
        Outcome::Violated => ("failed", "violated".to_owned()),
        Outcome::Unproven => {
            let code = result
                .reason
                .as_ref()
                .map_or("unproven", |reason| reason.code.code());
            ("failed", format!("unproven: {code}"))
        }
    };
    json!({
        "name": RunState::check_name(result),
        "status": status,
        "rawStatus": raw_status,
        // Checks run at the same time, so the duration of one is not defined.
        "duration": 0,
        "message": wording::sentence(result),
        "trace": wording::explained(result),
        "filePath": result.check.file,
        "line": result.check.line,
        "tags": result.check.tags,
    })
}
