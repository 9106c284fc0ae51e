//! TAP version 14: proven is `ok`; violated, unproven and not finished are `not ok`, never `SKIP`
//! or `TODO`.
//!
//! A run that is not complete has one more `not ok`, last: so no file is all `ok` where the exit
//! code is not 0.

use super::format::{FormatDefinition, FormatKind};
use super::run_state::RunState;
use super::text::{add_line, stripped_line};
use super::wording;
use crate::event::{CheckResult, Outcome};

/// The format `tap`.
pub(super) static FORMAT: FormatDefinition = FormatDefinition {
    name: "tap",
    extension: "tap",
    aliases: &[],
    kind: FormatKind::Rendered(render),
};

fn render(state: &RunState) -> String {
    let results = state.results();
    let run_tests = usize::from(state.incomplete.is_some());

    let mut out = String::from("TAP version 14\n");
    add_line!(out, "1..{}", results.len() + run_tests);
    for limit in state.run.iter().flat_map(|run| &run.limits) {
        add_line!(out, "# {}", stripped_line(limit));
    }
    for (number, result) in (1..).zip(&results) {
        let ok = match result.verdict {
            Outcome::Proven => "ok",
            Outcome::Violated | Outcome::Unproven => "not ok",
        };
        add_line!(
            out,
            "{ok} {number} - {}",
            description(&RunState::check_name(result))
        );
        out.push_str(&diagnostics(result));
    }

    if let Some(why) = &state.incomplete {
        add_line!(
            out,
            "not ok {} - {}",
            results.len() + 1,
            RunState::run_name()
        );
        add_line!(out, "  ---\n  message: {}\n  ...", quoted(why));
    }
    out
}

/// The diagnostics of a result, as a YAML block.
fn diagnostics(result: &CheckResult) -> String {
    let mut out = String::from("  ---\n");
    add_line!(out, "  verdict: {}", result.verdict);
    if let Some(tier) = &result.tier {
        add_line!(out, "  tier: {}", quoted(tier));
    }
    if let Some(reason) = &result.reason {
        add_line!(out, "  reason: {}", reason.code);
    }
    add_line!(out, "  message: {}", quoted(&wording::sentence(result)));
    if let Some(next) = &result.next_step {
        add_line!(out, "  next: {}", quoted(next));
    }
    if let Some(reach) = &result.reach {
        add_line!(out, "  reach: {}", quoted(&wording::reach(reach)));
    }

    let check = &result.check;
    let location = format!("{}:{}:{}", check.file, check.line, check.column);
    add_line!(out, "  at: {}", quoted(&location));
    out.push_str("  ...\n");
    out
}

/// A test's description; an unescaped `#` would begin a directive (TAP 14, "Escaping").
fn description(text: &str) -> String {
    stripped_line(text)
        .replace('\\', "\\\\")
        .replace('#', "\\#")
}

/// A YAML double-quoted scalar, of which JSON's strings are a subset (YAML 1.2.2 section 1.3).
fn quoted(text: &str) -> String {
    serde_json::Value::from(stripped_line(text)).to_string()
}
