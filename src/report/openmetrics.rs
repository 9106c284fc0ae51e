//! Gauges in the text format of Prometheus and `OpenMetrics`, as the textfile collector of
//! `node_exporter` reads them.
//!
//! An alert needs three: a verdict that is not proven, `watertight_run_complete` that is 0, and a
//! `watertight_run_ended_timestamp_seconds` that is old. Samples have no timestamps: the collector
//! refuses those.

use super::format::{FormatDefinition, FormatKind};
use super::run_state::RunState;
use super::text::{add_line, stripped_line};
use crate::event::{CheckResult, Outcome};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The format `openmetrics`.
pub(super) static FORMAT: FormatDefinition = FormatDefinition {
    name: "openmetrics",
    extension: "prom",
    aliases: &["prometheus", "prom", "metrics"],
    kind: FormatKind::Rendered(render),
};

const OUTCOMES: [Outcome; 3] = [Outcome::Proven, Outcome::Violated, Outcome::Unproven];

fn render(state: &RunState) -> String {
    let results = state.results();
    let mut out = String::new();
    add_checks_by_verdict(&mut out, &results);
    add_each_check(&mut out, &results);
    add_run(&mut out, state);
    out.push_str("# EOF\n");
    out
}

fn add_checks_by_verdict(out: &mut String, results: &[Cow<'_, CheckResult>]) {
    add_gauge(out, "watertight_checks", "Checks of a suite by verdict.");
    for (suite, results) in by_suite(results) {
        let suite = label(suite);
        for outcome in OUTCOMES {
            let count = results
                .iter()
                .filter(|result| result.verdict == outcome)
                .count();
            add_line!(
                out,
                "watertight_checks{{suite=\"{suite}\",verdict=\"{outcome}\"}} {count}"
            );
        }
    }
}

fn add_each_check(out: &mut String, results: &[Cow<'_, CheckResult>]) {
    add_gauge(
        out,
        "watertight_check_proven",
        "1 if a check is proven, else 0.",
    );
    for result in results {
        let proven = match result.verdict {
            Outcome::Proven => 1,
            Outcome::Violated | Outcome::Unproven => 0,
        };
        let (suite, name) = (label(&result.check.suite), label(&result.check.name));
        let verdict = result.verdict;
        add_line!(
            out,
            "watertight_check_proven{{suite=\"{suite}\",name=\"{name}\",verdict=\"{verdict}\"}} {proven}"
        );
    }
}

fn add_run(out: &mut String, state: &RunState) {
    add_gauge(
        out,
        "watertight_run_complete",
        "1 if every check was judged with all its evidence, else 0.",
    );
    let complete = u8::from(state.incomplete.is_none());
    add_line!(out, "watertight_run_complete {complete}");

    if let Some(code) = state.exit_code {
        add_gauge(out, "watertight_run_exit_code", "The exit code of the run.");
        add_line!(out, "watertight_run_exit_code {code}");
    }

    let Some(run) = &state.run else { return };
    add_moment(
        out,
        "watertight_run_started_timestamp_seconds",
        "When the run started.",
        run.started_at,
    );
    if let Some(ended_at) = run.ended_at {
        add_moment(
            out,
            "watertight_run_ended_timestamp_seconds",
            "When the run ended.",
            ended_at,
        );
    }
}

fn add_moment(out: &mut String, name: &str, help: &str, at: jiff::Timestamp) {
    add_gauge(out, name, help);
    let seconds = at.as_millisecond() as f64 / 1_000.0;
    add_line!(out, "{name} {seconds}");
}

fn add_gauge(out: &mut String, name: &str, help: &str) {
    add_line!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
}

fn by_suite<'a>(results: &'a [Cow<'a, CheckResult>]) -> BTreeMap<&'a str, Vec<&'a CheckResult>> {
    let mut suites: BTreeMap<&str, Vec<&CheckResult>> = BTreeMap::new();
    for result in results {
        suites.entry(&result.check.suite).or_default().push(result);
    }
    suites
}

/// The escaped value of a label: backslash, quote and newline have escapes (Prometheus, "Text-based
/// format").
fn label(text: &str) -> String {
    stripped_line(text)
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
}
