//! The page at the end of a run: who may talk to whom, every finding explained, the sums.

use super::Detail;
use super::finding;
use super::matrix::{self, Mark, Matrix};
use super::screen::{Ink, Pen};
use crate::event::{
    CheckRef, CheckResult, Coverage, Outcome, Reach, RunEvent, RunInfo, SuiteRef, Summary,
};
use crate::model::show_duration;
use crate::report::text::{add_line, counted, wrapped};
use crate::report::wording;
use std::collections::HashMap;
use std::time::Duration;

/// At most so many findings are shown in full; every further one gets a line.
pub(super) const MAX_PICTURES: usize = 50;

/// The page, as far as it is known.
pub(in crate::report) struct Page {
    pub(super) detail: Detail,
    pub(super) suites: Vec<SuiteRef>,
    pub(super) checks: Vec<CheckRef>,
    /// How much of what exists the checks touch.
    pub(super) coverage: Option<Box<Coverage>>,
    /// What is violated so far, by the check's id: shown if the run never finishes.
    pub(super) violated: HashMap<String, CheckResult>,
}

impl Page {
    pub(in crate::report) fn new(detail: Detail) -> Self {
        Self {
            detail,
            suites: Vec::new(),
            checks: Vec::new(),
            coverage: None,
            violated: HashMap::new(),
        }
    }

    /// Keeps what the page needs of an event; `Finished` brings all results.
    pub(in crate::report) fn apply(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Started {
                suites,
                checks,
                coverage,
                ..
            } => {
                self.coverage.clone_from(coverage);
                self.suites.clone_from(suites);
                self.checks.clone_from(checks);
            }
            RunEvent::Settled { result } => match result.verdict {
                Outcome::Violated => {
                    let id = result.check.id.clone();
                    self.violated.insert(id, (**result).clone());
                }
                Outcome::Proven | Outcome::Unproven => {
                    self.violated.remove(&result.check.id);
                }
            },
            RunEvent::Note { .. }
            | RunEvent::Progress { .. }
            | RunEvent::Finished { .. }
            | RunEvent::CleanedUp { .. } => {}
        }
    }

    /// The page of a run that finished.
    pub(in crate::report) fn finished(
        &self,
        run: &RunInfo,
        results: &[CheckResult],
        summary: Summary,
        pen: Pen,
    ) -> String {
        let ordered = wording::in_order(&self.checks, results);
        let results: Vec<&CheckResult> = ordered.iter().map(AsRef::as_ref).collect();
        let mut out = String::new();

        if let Some(why) = incomplete(run, &results, summary) {
            out.push_str(&banner(&pen.text(&why), pen));
        }
        match self.detail {
            Detail::Verbose => add_limits(run, pen, &mut out),
            Detail::Brief => {}
        }
        if !results.is_empty() {
            self.add_matrices(&results, pen, &mut out);
        }
        match self.detail {
            Detail::Verbose => add_proven(&results, pen, &mut out),
            Detail::Brief => {}
        }

        let violated = with_outcome(&results, Outcome::Violated);
        let unproven = with_outcome(&results, Outcome::Unproven);
        add_findings(violated.chain(unproven), pen, &mut out);
        add_unpredicted(&results, pen, &mut out);

        out.push_str(&reach_of_proven(&results, pen));
        if let Some(coverage) = &self.coverage {
            out.push_str(&coverage_text(coverage, self.detail, pen));
        }
        let duration = run
            .ended_at
            .and_then(|end| Duration::try_from(end.duration_since(run.started_at)).ok());
        out.push_str(&sums(summary, duration, pen));
        out
    }

    /// The page of a run that ended without `Finished`.
    pub(in crate::report) fn stopped(&self, why: &str, pen: Pen) -> String {
        let mut out = banner(&pen.text(why), pen);
        if self.checks.is_empty() {
            return out;
        }

        let violated = self
            .checks
            .iter()
            .filter_map(|check| self.violated.get(&check.id));
        add_findings(violated, pen, &mut out);
        let unfinished = self.checks.len() - self.violated.len();
        add_line!(
            out,
            "{}, {} not finished",
            count_of(Outcome::Violated, self.violated.len(), pen),
            counted(unfinished, "check")
        );
        out
    }

    fn add_matrices(&self, results: &[&CheckResult], pen: Pen, out: &mut String) {
        for (suite, results) in by_suite(results) {
            add_line!(out, "\n{}\n", pen.inked(Ink::Strong, &pen.text(suite)));
            let is_verbose = self.detail == Detail::Verbose;
            let matrix = Matrix::of(results.into_iter(), pen, is_verbose);
            out.push_str(&matrix.draw(pen));
        }
        add_line!(out, "\n{}", matrix::legend(pen));
    }
}

/// The results of each suite, in the order of the suites' first results.
fn by_suite<'a>(results: &[&'a CheckResult]) -> Vec<(&'a str, Vec<&'a CheckResult>)> {
    let mut suites: Vec<(&str, Vec<&CheckResult>)> = Vec::new();
    for result in results {
        let suite = result.check.suite.as_str();
        match suites.iter_mut().find(|(name, _)| *name == suite) {
            Some((_, results)) => results.push(result),
            None => suites.push((suite, vec![result])),
        }
    }
    suites
}

fn with_outcome<'a>(
    results: &[&'a CheckResult],
    outcome: Outcome,
) -> impl Iterator<Item = &'a CheckResult> {
    results
        .iter()
        .copied()
        .filter(move |result| result.verdict == outcome)
}

/// Adds what the run's proofs do not say.
fn add_limits(run: &RunInfo, pen: Pen, out: &mut String) {
    for line in run
        .limits
        .iter()
        .flat_map(|limit| wrapped(&pen.text(limit), pen.width))
    {
        add_line!(out, "{line}");
    }
}

/// Why the results are no basis for an overall verdict; `None` of a complete run with checks.
fn incomplete(run: &RunInfo, results: &[&CheckResult], summary: Summary) -> Option<String> {
    if results.is_empty() {
        return Some("nothing was selected: there was nothing to check".into());
    }
    if run.complete && summary.complete {
        return None;
    }

    let unfinished = results
        .iter()
        .filter(|result| wording::is_unfinished(result))
        .count();
    let why = run
        .incomplete_because
        .as_deref()
        .unwrap_or("not every check was judged with all its evidence");
    let checks = counted(results.len(), "check");
    Some(format!("{why}; {unfinished} of {checks} not finished"))
}

fn banner(why: &str, pen: Pen) -> String {
    let bar = pen.sign("█", "!!!");
    format!(
        "\n{}\n",
        pen.inked(Ink::Violated, &format!("{bar} INCOMPLETE: {why}"))
    )
}

/// Adds a picture of each finding, or a line where there are too many or nothing to explain.
fn add_findings<'a>(results: impl Iterator<Item = &'a CheckResult>, pen: Pen, out: &mut String) {
    let (mut pictures, mut lines) = (0, String::new());
    for result in results {
        let is_unexplained = result.flows.is_empty() && wording::is_unfinished(result);
        if pictures < MAX_PICTURES && !is_unexplained {
            pictures += 1;
            add_line!(out, "{}", finding::picture(result, pen));
        } else {
            lines.push_str(&finding::line(result, pen));
        }
    }
    if !lines.is_empty() {
        add_line!(out, "{lines}");
    }
}

/// Adds each proven check, always with its reach.
fn add_proven(results: &[&CheckResult], pen: Pen, out: &mut String) {
    let mut is_empty = true;
    for result in with_outcome(results, Outcome::Proven) {
        is_empty = false;
        let sign = Mark::of(result).inked(pen);
        add_line!(out, "{sign} {}", pen.text(&result.check.name));

        let tier = result
            .tier
            .as_deref()
            .map_or(String::new(), |tier| format!(" {tier}"));
        let reach = result.reach.as_ref().map_or(String::new(), |reach| {
            format!(", {}", wording::reach(reach))
        });
        let details = proof_details(result).join("; ");
        add_line!(
            out,
            "    proven{}{reach}; {}",
            pen.text(&tier),
            pen.text(&details)
        );
    }
    if !is_empty {
        out.push('\n');
    }
}

/// What a proven check's line says after tier and reach.
fn proof_details(result: &CheckResult) -> Vec<String> {
    let mut details = vec![result.seen.clone()];
    if let Some(predicted) = result.check.predicted {
        details.push(format!("predicted {predicted}"));
    }
    details.extend(wording::power(result));
    if let Some(mechanism) = &result.mechanism {
        details.push(format!("by {mechanism}"));
    }
    details.extend(result.contrast.clone());
    if let Some(delay) = result.delay_ms {
        details.push(format!("up after {}", milliseconds(delay)));
    }
    if let Some(leak) = result.startup_leak_ms {
        details.push(format!("leaked for {} at start-up", milliseconds(leak)));
    }
    details
}

fn milliseconds(ms: u64) -> String {
    show_duration(Duration::from_millis(ms))
}

/// Adds each check that is proven and was not predicted: the expectation holds, but not for the
/// reason that the policies give. The pictures of findings say it themselves.
fn add_unpredicted(results: &[&CheckResult], pen: Pen, out: &mut String) {
    for result in with_outcome(results, Outcome::Proven) {
        let Some(text) = &result.unpredicted else {
            continue;
        };
        add_line!(
            out,
            "{} {}\n    {}",
            pen.inked(Ink::Unproven, "not as predicted:"),
            pen.text(&result.check.name),
            pen.text(text)
        );
    }
}

/// How much of what exists the checks touch, in a line; in a verbose page, also what they do not
/// touch.
fn coverage_text(coverage: &Coverage, detail: Detail, pen: Pen) -> String {
    let parts = coverage
        .parts()
        .map(|(what, part)| format!("{} of {} {what}", part.touched, part.all));
    let mut out = format!("coverage: the checks touch {}\n", parts.join(", "));

    match detail {
        Detail::Brief => {}
        Detail::Verbose => {
            for (what, part) in coverage.parts() {
                for name in &part.left {
                    add_line!(out, "          not of the {what}: {}", pen.text(name));
                }
            }
        }
    }
    out
}

/// The reach of all proven checks, in a sentence, with the check whose reach is least.
fn reach_of_proven(results: &[&CheckResult], pen: Pen) -> String {
    let all = with_outcome(results, Outcome::Proven).count();
    let partial: Vec<(&CheckResult, &Reach)> = with_outcome(results, Outcome::Proven)
        .filter_map(|result| Some((result, result.reach.as_ref()?)))
        .filter(|(_, reach)| !wording::covers_all(reach))
        .collect();
    let least = partial
        .iter()
        .min_by(|(_, a), (_, b)| share_reached(a).total_cmp(&share_reached(b)));

    match (all, least) {
        (0, _) => String::new(),
        (_, None) => {
            "reach: every proven check covers all nodes of its source and all pods of its target\n"
                .into()
        }
        (all, Some((result, reach))) => format!(
            "reach: {} of {all} proven checks cover every source node and target pod, {} only some\n       least: {} ({})\n",
            all - partial.len(),
            partial.len(),
            pen.text(&result.check.name),
            wording::reach(reach),
        ),
    }
}

/// The shares of source nodes, target pods and target addresses, multiplied.
fn share_reached(reach: &Reach) -> f64 {
    share(reach.source_nodes, reach.of_source_nodes)
        * share(reach.source_kinds, reach.of_source_kinds)
        * share(reach.target_pods, reach.of_target_pods)
        * share(reach.target_addresses, reach.of_target_addresses)
}

fn share(part: usize, all: usize) -> f64 {
    if all == 0 {
        1.0
    } else {
        part as f64 / all as f64
    }
}

/// The last line: how many checks have which outcome.
fn sums(summary: Summary, duration: Option<Duration>, pen: Pen) -> String {
    let counts = [
        count_of(Outcome::Proven, summary.proven, pen),
        count_of(Outcome::Violated, summary.violated, pen),
        count_of(Outcome::Unproven, summary.unproven, pen),
    ];
    let duration = duration.map_or(String::new(), |duration| {
        format!(" in {}", show_duration(duration))
    });
    let incomplete = if summary.complete {
        String::new()
    } else {
        pen.inked(Ink::Violated, " (INCOMPLETE)")
    };
    format!("{}{duration}{incomplete}\n", counts.join(", "))
}

fn count_of(outcome: Outcome, n: usize, pen: Pen) -> String {
    let ink = match (outcome, n) {
        (_, 0) => Ink::Faint,
        (Outcome::Proven, _) => Ink::Proven,
        (Outcome::Violated, _) => Ink::Violated,
        (Outcome::Unproven, _) => Ink::Unproven,
    };
    pen.inked(ink, &format!("{n} {outcome}"))
}
