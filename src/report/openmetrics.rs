//! Gauges in the text format of Prometheus and `OpenMetrics`, as the textfile collector of
//! `node_exporter` reads them.
//!
//! An alert needs three: a verdict that is not proven, `watertight_run_complete` that is 0, and a
//! `watertight_run_ended_timestamp_seconds` that is old. Samples have no timestamps: the collector
//! refuses those.

use super::run_state::RunState;
use super::text::{say, stripped_line};
use crate::event::{CheckResult, Outcome};
use std::borrow::Cow;
use std::collections::BTreeMap;

const OUTCOMES: [Outcome; 3] = [Outcome::Proven, Outcome::Violated, Outcome::Unproven];

/// The document.
pub(super) fn render(state: &RunState) -> String {
    let results = state.results();
    let mut out = String::new();
    gauge(
        &mut out,
        "watertight_checks",
        "Checks of a suite by verdict.",
    );
    for (suite, of_suite) in by_suite(&results) {
        for outcome in OUTCOMES {
            let count = of_suite
                .iter()
                .filter(|result| result.verdict == outcome)
                .count();
            say!(
                out,
                "watertight_checks{{suite=\"{}\",verdict=\"{outcome}\"}} {count}",
                label(suite)
            );
        }
    }
    gauge(
        &mut out,
        "watertight_check_proven",
        "1 if a check is proven, else 0.",
    );
    for result in &results {
        let proven = match result.verdict {
            Outcome::Proven => 1,
            Outcome::Violated | Outcome::Unproven => 0,
        };
        let (suite, name) = (label(&result.check.suite), label(&result.check.name));
        let verdict = result.verdict;
        say!(
            out,
            "watertight_check_proven{{suite=\"{suite}\",name=\"{name}\",verdict=\"{verdict}\"}} {proven}"
        );
    }
    gauge(
        &mut out,
        "watertight_run_complete",
        "1 if every check was judged with all its evidence, else 0.",
    );
    say!(
        out,
        "watertight_run_complete {}",
        u8::from(state.incomplete.is_none())
    );
    if let Some(code) = state.code {
        gauge(
            &mut out,
            "watertight_run_exit_code",
            "The exit code of the run.",
        );
        say!(out, "watertight_run_exit_code {code}");
    }
    if let Some(run) = &state.run {
        let seconds = |at: jiff::Timestamp| at.as_millisecond() as f64 / 1_000.0;
        gauge(
            &mut out,
            "watertight_run_started_timestamp_seconds",
            "When the run started.",
        );
        say!(
            out,
            "watertight_run_started_timestamp_seconds {}",
            seconds(run.started_at)
        );
        if let Some(ended) = run.ended_at {
            gauge(
                &mut out,
                "watertight_run_ended_timestamp_seconds",
                "When the run ended.",
            );
            say!(
                out,
                "watertight_run_ended_timestamp_seconds {}",
                seconds(ended)
            );
        }
    }
    out.push_str("# EOF\n");
    out
}

fn gauge(out: &mut String, name: &str, help: &str) {
    say!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
}

fn by_suite<'a>(results: &'a [Cow<'a, CheckResult>]) -> BTreeMap<&'a str, Vec<&'a CheckResult>> {
    let mut suites: BTreeMap<&str, Vec<&CheckResult>> = BTreeMap::new();
    for result in results {
        suites.entry(&result.check.suite).or_default().push(result);
    }
    suites
}

/// The value of a label (Prometheus, "Text-based format": backslash, quote and newline are
/// escaped).
fn label(text: &str) -> String {
    stripped_line(text)
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
}
