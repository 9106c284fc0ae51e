//! TAP version 14: proven is `ok`; violated, unproven and not finished are `not ok`, never skipped
//! and never to do.
//!
//! A run that is not complete has a `not ok` of its own, last: so no file is all `ok` where the
//! exit code is not 0.

use super::run_state::RunState;
use super::text::{say, stripped_line};
use super::wording;
use crate::event::{CheckResult, Outcome};

/// The document.
pub(super) fn render(state: &RunState) -> String {
    let results = state.results();
    let more = usize::from(state.incomplete.is_some());
    let mut out = String::from("TAP version 14\n");
    say!(out, "1..{}", results.len() + more);
    for (number, result) in (1..).zip(&results) {
        let ok = match result.verdict {
            Outcome::Proven => "ok",
            Outcome::Violated | Outcome::Unproven => "not ok",
        };
        say!(out, "{ok} {number} - {}", described(&RunState::key(result)));
        out.push_str(&block(result));
    }
    if let Some(why) = &state.incomplete {
        say!(
            out,
            "not ok {} - {}",
            results.len() + 1,
            RunState::run_key()
        );
        say!(out, "  ---\n  message: {}\n  ...", quoted(why));
    }
    out
}

/// What is known of a result, as YAML.
fn block(result: &CheckResult) -> String {
    let mut out = String::from("  ---\n");
    say!(out, "  verdict: {}", result.verdict);
    if let Some(tier) = &result.tier {
        say!(out, "  tier: {}", quoted(tier));
    }
    if let Some(reason) = &result.reason {
        say!(out, "  reason: {}", reason.code);
    }
    say!(out, "  message: {}", quoted(&wording::sentence(result)));
    if let Some(next) = &result.next_step {
        say!(out, "  next: {}", quoted(next));
    }
    if !result.flows.is_empty() {
        say!(out, "  reach: {}", quoted(&wording::reach(&result.reach)));
    }
    let check = &result.check;
    say!(
        out,
        "  at: {}",
        quoted(&format!("{}:{}:{}", check.file, check.line, check.column))
    );
    out.push_str("  ...\n");
    out
}

/// A description, in which `#` would begin a directive (TAP 14, "Escaping").
fn described(text: &str) -> String {
    stripped_line(text)
        .replace('\\', "\\\\")
        .replace('#', "\\#")
}

/// A YAML double-quoted scalar: JSON's strings are a subset of it (YAML 1.2.2 section 1.3).
fn quoted(text: &str) -> String {
    serde_json::Value::from(stripped_line(text)).to_string()
}
