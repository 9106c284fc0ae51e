//! What is read when a run has ended: who may talk to whom, every finding explained, the sum.

use super::Detail;
use super::finding;
use super::matrix::{self, Mark, Matrix};
use super::screen::{Ink, Pen};
use crate::event::{
    CheckRef, CheckResult, Coverage, Outcome, Reason, RunEvent, RunInfo, SuiteRef, Summary,
};
use crate::model::show_duration;
use crate::report::text::{counted, say};
use crate::report::wording;
use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

/// So many findings are shown in full; every further one gets a line.
pub(super) const FULL: usize = 50;

/// The page, as far as it is known.
pub(in crate::report) struct Page {
    pub(super) detail: Detail,
    pub(super) suites: Vec<SuiteRef>,
    pub(super) checks: Vec<CheckRef>,
    /// How much of what exists the checks touch.
    pub(super) coverage: Option<Box<Coverage>>,
    /// What is violated so far: all that remains to be told if the run never finishes.
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

    /// Takes in what it must remember; `Finished` brings all else.
    pub(in crate::report) fn learn(&mut self, event: &RunEvent) {
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
                Outcome::Violated => drop(
                    self.violated
                        .insert(result.check.id.clone(), (**result).clone()),
                ),
                Outcome::Proven | Outcome::Unproven => drop(self.violated.remove(&result.check.id)),
            },
            RunEvent::Note { .. }
            | RunEvent::Progress { .. }
            | RunEvent::Finished { .. }
            | RunEvent::CleanedUp { .. } => {}
        }
    }

    /// The page of a run that came to its end.
    pub(in crate::report) fn finished(
        &self,
        run: &RunInfo,
        results: &[CheckResult],
        summary: Summary,
        pen: Pen,
    ) -> String {
        let results = wording::in_order(&self.checks, results);
        let mut out = String::new();
        if let Some(why) = incomplete(run, &results, summary) {
            out.push_str(&banner(&pen.text(&why), pen));
        }
        if !results.is_empty() {
            self.matrices(&results, pen, &mut out);
        }
        match self.detail {
            Detail::Verbose => proven(&results, pen, &mut out),
            Detail::Brief => {}
        }
        let of = |outcome| {
            results
                .iter()
                .map(AsRef::as_ref)
                .filter(move |result: &&CheckResult| result.verdict == outcome)
        };
        findings(
            of(Outcome::Violated).chain(of(Outcome::Unproven)),
            pen,
            &mut out,
        );
        unpredicted(&results, pen, &mut out);
        out.push_str(&reaches(&results, pen));
        if let Some(coverage) = &self.coverage {
            out.push_str(&covers(coverage, self.detail, pen));
        }
        let took = run
            .ended_at
            .and_then(|end| Duration::try_from(end.duration_since(run.started_at)).ok());
        out.push_str(&sums(summary, took, pen));
        out
    }

    /// The page of a run that ended without `Finished`.
    pub(in crate::report) fn stopped(&self, why: &str, pen: Pen) -> String {
        let mut out = banner(&pen.text(why), pen);
        if !self.checks.is_empty() {
            let violated = self
                .checks
                .iter()
                .filter_map(|check| self.violated.get(&check.id));
            findings(violated, pen, &mut out);
            let open = self.checks.len() - self.violated.len();
            say!(
                out,
                "{}, {} not finished",
                word(Outcome::Violated, self.violated.len(), pen),
                counted(open, "check")
            );
        }
        out
    }

    fn matrices(&self, results: &[Cow<'_, CheckResult>], pen: Pen, out: &mut String) {
        let mut by_suite: Vec<(&str, Vec<&CheckResult>)> = Vec::new();
        for result in results {
            match by_suite
                .iter_mut()
                .find(|(suite, _)| *suite == result.check.suite)
            {
                Some((_, of)) => of.push(result),
                None => by_suite.push((&result.check.suite, vec![result])),
            }
        }
        for (suite, results) in by_suite {
            say!(out, "\n{}\n", pen.inked(Ink::Strong, &pen.text(suite)));
            out.push_str(
                &Matrix::of(results.into_iter(), pen, self.detail == Detail::Verbose).draw(pen),
            );
        }
        say!(out, "\n{}", matrix::legend(pen));
    }
}

/// Why the run is no basis for a judgement of the whole, if it is none.
fn incomplete(run: &RunInfo, results: &[Cow<'_, CheckResult>], summary: Summary) -> Option<String> {
    if results.is_empty() {
        return Some("nothing was selected: there was nothing to check".into());
    }
    if run.complete && summary.complete {
        return None;
    }
    let unfinished = Reason::NotFinished.code();
    let open = results
        .iter()
        .filter(|result| {
            result
                .reason
                .as_ref()
                .is_some_and(|reason| reason.code == unfinished)
        })
        .count();
    let why = run
        .incomplete_because
        .as_deref()
        .unwrap_or("not every check was judged with all its evidence");
    Some(format!(
        "{why}; {open} of {} not finished",
        counted(results.len(), "check")
    ))
}

fn banner(why: &str, pen: Pen) -> String {
    let bar = pen.sign("█", "!!!");
    format!(
        "\n{}\n",
        pen.inked(Ink::Violated, &format!("{bar} INCOMPLETE: {why}"))
    )
}

/// Each with its picture; in a line where there are too many, or where there is nothing to explain.
fn findings<'a>(results: impl Iterator<Item = &'a CheckResult>, pen: Pen, out: &mut String) {
    let unfinished = Reason::NotFinished.code();
    let nothing_known = |result: &CheckResult| {
        result.flows.is_empty()
            && result
                .reason
                .as_ref()
                .is_some_and(|reason| reason.code == unfinished)
    };
    let (mut pictures, mut lines) = (0, String::new());
    for result in results {
        if pictures < FULL && !nothing_known(result) {
            pictures += 1;
            say!(out, "{}", finding::picture(result, pen));
        } else {
            lines.push_str(&finding::line(result, pen));
        }
    }
    if !lines.is_empty() {
        say!(out, "{lines}");
    }
}

/// Each proven check in a line, its reach always with it.
fn proven(results: &[Cow<'_, CheckResult>], pen: Pen, out: &mut String) {
    for result in results {
        match result.verdict {
            Outcome::Proven => {}
            Outcome::Violated | Outcome::Unproven => continue,
        }
        let tier = result
            .tier
            .as_deref()
            .map_or(String::new(), |tier| format!(" {tier}"));
        let sign = Mark::of(result).inked(pen);
        let mut more = vec![result.seen.clone()];
        more.extend(
            result
                .check
                .predicted
                .map(|predicted| format!("predicted {predicted}")),
        );
        more.extend(wording::power(result));
        more.extend(
            result
                .mechanism
                .as_ref()
                .map(|mechanism| format!("by {mechanism}")),
        );
        more.extend(result.contrast.clone());
        more.extend(
            result
                .delay_ms
                .map(|delay| format!("up after {}", show_duration(Duration::from_millis(delay)))),
        );
        more.extend(result.startup_leak_ms.map(|leak| {
            format!(
                "leaked for {} at start-up",
                show_duration(Duration::from_millis(leak))
            )
        }));
        say!(out, "{sign} {}", pen.text(&result.check.name));
        say!(
            out,
            "    proven{}, {}; {}",
            pen.text(&tier),
            wording::reach(&result.reach),
            pen.text(&more.join("; "))
        );
    }
    if results
        .iter()
        .any(|result| result.verdict == Outcome::Proven)
    {
        out.push('\n');
    }
}

/// What is proven and was not predicted: the expectation holds, but not for the reason that the
/// policies give. Of findings it is told in their pictures.
fn unpredicted(results: &[Cow<'_, CheckResult>], pen: Pen, out: &mut String) {
    for result in results
        .iter()
        .filter(|result| result.verdict == Outcome::Proven)
    {
        let Some(text) = &result.unpredicted else {
            continue;
        };
        say!(
            out,
            "{} {}\n    {}",
            pen.inked(Ink::Unproven, "not as predicted:"),
            pen.text(&result.check.name),
            pen.text(text)
        );
    }
}

/// How much of what exists the checks touch, in a line; with every detail, what they leave.
fn covers(coverage: &Coverage, detail: Detail, pen: Pen) -> String {
    let parts = coverage
        .parts()
        .map(|(what, of)| format!("{} of {} {what}", of.touched, of.all));
    let mut out = format!("coverage: the checks touch {}\n", parts.join(", "));
    match detail {
        Detail::Brief => {}
        Detail::Verbose => {
            for (what, name) in coverage
                .parts()
                .iter()
                .flat_map(|(what, of)| of.left.iter().map(move |name| (what, name)))
            {
                say!(out, "          not of the {what}: {}", pen.text(name));
            }
        }
    }
    out
}

/// How far all that is proven reaches.
fn reaches(results: &[Cow<'_, CheckResult>], pen: Pen) -> String {
    let proven: Vec<&CheckResult> = results
        .iter()
        .map(AsRef::as_ref)
        .filter(|result| result.verdict == Outcome::Proven)
        .collect();
    let partial: Vec<&CheckResult> = proven
        .iter()
        .copied()
        .filter(|result| !wording::reaches_all(&result.reach))
        .collect();
    let share = |result: &CheckResult| {
        let of = |n: usize, of: usize| if of == 0 { 1.0 } else { n as f64 / of as f64 };
        of(result.reach.source_nodes, result.reach.of_source_nodes)
            * of(result.reach.target_pods, result.reach.of_target_pods)
    };
    let least = partial.iter().min_by(|a, b| share(a).total_cmp(&share(b)));
    match (proven.len(), least) {
        (0, _) => String::new(),
        (_, None) => {
            "reach: every proven check covers all nodes of its source and all pods of its target\n"
                .into()
        }
        (all, Some(least)) => format!(
            "reach: {} of {all} proven checks cover every source node and target pod, {} only some\n       least: {} ({})\n",
            all - partial.len(),
            partial.len(),
            pen.text(&least.check.name),
            wording::reach(&least.reach),
        ),
    }
}

/// The last line.
fn sums(summary: Summary, took: Option<Duration>, pen: Pen) -> String {
    let counts = [
        (Outcome::Proven, summary.proven),
        (Outcome::Violated, summary.violated),
        (Outcome::Unproven, summary.unproven),
    ];
    let counts = counts.map(|(outcome, n)| word(outcome, n, pen));
    let took = took.map_or(String::new(), |took| format!(" in {}", show_duration(took)));
    let incomplete = if summary.complete {
        String::new()
    } else {
        pen.inked(Ink::Violated, " (INCOMPLETE)")
    };
    format!("{}{took}{incomplete}\n", counts.join(", "))
}

fn word(outcome: Outcome, n: usize, pen: Pen) -> String {
    let ink = match (outcome, n) {
        (_, 0) => Ink::Faint,
        (Outcome::Proven, _) => Ink::Proven,
        (Outcome::Violated, _) => Ink::Violated,
        (Outcome::Unproven, _) => Ink::Unproven,
    };
    pen.inked(ink, &format!("{n} {outcome}"))
}
