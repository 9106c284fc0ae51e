//! GitHub Actions: an annotation at the line of each finding, and the page in the summary of the
//! step.

use super::Report;
use super::console::{Detail, Page};
use super::markdown::{PEN, fenced, title};
use super::text::{escaped, stripped};
use super::wording;
use crate::event::{CheckResult, ExitCode, Outcome, RunEvent};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// GitHub accepts a summary of at most 1 MiB from a step, and drops a larger one.
const MAX_SUMMARY_BYTES: usize = 1_000_000;

/// `::error file=...,line=...::` on a stream that GitHub's runner reads: standard output or
/// standard error.
///
/// A violation is an error, an unproven check a warning.
pub struct Annotations<W> {
    writer: W,
}

impl<W: Write> Annotations<W> {
    /// Annotations on a writer.
    pub fn new(writer: W) -> Self {
        Self { writer }
    }

    fn annotate_incomplete(&mut self, why: &str) -> io::Result<()> {
        writeln!(
            self.writer,
            "::error title=watertight did not finish::{}",
            message(why)
        )
    }

    fn annotate(&mut self, result: &CheckResult) -> io::Result<()> {
        let command = match result.verdict {
            Outcome::Violated => "error",
            Outcome::Unproven => "warning",
            Outcome::Proven => return Ok(()),
        };
        let check = &result.check;
        let title = format!("{}: {}", result.verdict, check.name);
        let mut text = wording::sentence(result);
        if let Some(next) = &result.next_step {
            text.push('\n');
            text.push_str(next);
        }

        writeln!(
            self.writer,
            "::{command} file={},line={},title={}::{}",
            property(&check.file),
            check.line,
            property(&title),
            message(&text)
        )
    }
}

impl<W: Write> Report for Annotations<W> {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        match event {
            RunEvent::Finished {
                run,
                results,
                summary,
                ..
            } => {
                for result in results {
                    self.annotate(result)?;
                }
                if !(run.complete && summary.complete) {
                    self.annotate_incomplete(
                        run.incomplete_because
                            .as_deref()
                            .unwrap_or("the run is not complete"),
                    )?;
                }
                self.writer.flush()
            }
            RunEvent::Started { .. }
            | RunEvent::Note { .. }
            | RunEvent::Progress { .. }
            | RunEvent::Settled { .. }
            | RunEvent::CleanedUp { .. } => Ok(()),
        }
    }

    fn stopped(&mut self, why: &str, _: ExitCode) -> io::Result<()> {
        self.annotate_incomplete(why)?;
        self.writer.flush()
    }
}

/// A command's message, in the runner's escapes.
fn message(text: &str) -> String {
    stripped(text).replace('%', "%25").replace('\n', "%0A")
}

/// A command's property, in the runner's escapes.
fn property(text: &str) -> String {
    message(&escaped(text))
        .replace(':', "%3A")
        .replace(',', "%2C")
}

/// The page, appended to the file that `GITHUB_STEP_SUMMARY` names.
pub struct StepSummary {
    file: File,
    page: Page,
}

impl StepSummary {
    /// Opens the file, so that an unusable path is reported before the run.
    ///
    /// # Errors
    /// The file cannot be appended to.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self {
            file,
            page: Page::new(Detail::Brief),
        })
    }

    fn write(&mut self, title: &str, page: &str) -> io::Result<()> {
        self.file
            .write_all(fenced(title, page, MAX_SUMMARY_BYTES).as_bytes())
    }
}

impl Report for StepSummary {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        self.page.apply(event);
        match event {
            RunEvent::Finished {
                run,
                results,
                summary,
                ..
            } => {
                let page = self.page.finished(run, results, *summary, PEN);
                self.write(title(ExitCode::of(summary)), &page)
            }
            RunEvent::Started { .. }
            | RunEvent::Note { .. }
            | RunEvent::Progress { .. }
            | RunEvent::Settled { .. }
            | RunEvent::CleanedUp { .. } => Ok(()),
        }
    }

    fn stopped(&mut self, why: &str, _: ExitCode) -> io::Result<()> {
        let page = self.page.stopped(why, PEN);
        self.write(title(ExitCode::Impossible), &page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{fixtures, text};

    fn annotations(events: &[RunEvent]) -> String {
        let mut out = Vec::new();
        let mut annotations = Annotations::new(&mut out);
        for event in events {
            annotations.event(event).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn finding_is_annotated_at_its_line() {
        let expected = "\
::error file=shop.yaml,line=16,title=violated%3A web-tier -> postgres%3A5432 denied::shop/web-6d4f-x2 (node-1) reached data/postgres-0:5432 (node-2): 12 of 12 attempts opened, answered by postgres-0%0Afind the policy that should stop this flow: it does not select the target (or the source), or another one admits it
::warning file=shop.yaml,line=19,title=unproven%3A api -> metadata%3A80 denied::no control got an answer from 169.254.169.254:80%0Acheck that the target listens on that port: no control got an answer from it
";
        assert_eq!(annotations(&fixtures::shop()), expected);
    }

    #[test]
    fn incomplete_run_is_an_error() {
        assert!(
            annotations(&fixtures::interrupted())
                .ends_with("::error title=watertight did not finish::interrupted\n")
        );
    }

    #[test]
    fn hostile_text_makes_no_command() {
        let out = annotations(&fixtures::hostile());
        assert_eq!(out.lines().count(), 2, "{out}");
        assert!(
            !out.chars().any(|c| c != '\n' && text::is_active(c)),
            "{out}"
        );
    }

    #[test]
    fn summary_is_appended_in_a_fence_that_no_text_closes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "before\n").unwrap();
        let mut events = fixtures::shop();
        if let Some(RunEvent::Finished { results, .. }) = events.last_mut() {
            results[3].seen = "```` <b>".into();
        }
        let mut summary = StepSummary::open(file.path()).unwrap();
        for event in &events {
            summary.event(event).unwrap();
        }
        let written = std::fs::read_to_string(file.path()).unwrap();
        assert!(
            written.starts_with("before\n### watertight: violated\n\n`````text\nshop\n"),
            "{written}"
        );
        assert!(
            written.ends_with("5 proven, 1 violated, 1 unproven in 4.2s\n`````\n"),
            "{written}"
        );
    }

    #[test]
    fn summary_stays_below_the_limit() {
        let markdown = fenced("t", &"a line of it\n".repeat(100_000), MAX_SUMMARY_BYTES);
        assert!(markdown.len() < 1 << 20);
        assert!(
            markdown
                .ends_with("a line of it\n```\n\nThe page is longer than a summary may be; the log has all of it.\n")
        );
    }
}
