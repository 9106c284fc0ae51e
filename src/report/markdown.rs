//! Markdown for a merge request or the summary of a step: a title, and the console's page in a
//! fence.

use super::console::{Detail, Page, Pen};
use super::document_file::DocumentFormat;
use super::format::{FormatDefinition, FormatKind};
use crate::event::{ExitCode, RunEvent};
use std::io;
use std::time::Duration;

/// The format `markdown`.
pub(super) static FORMAT: FormatDefinition = FormatDefinition {
    name: "markdown",
    extension: "md",
    aliases: &["md"],
    kind: FormatKind::Document(|| Box::new(Markdown::new())),
};

/// The pen for a page that no terminal shows.
pub(super) const PEN: Pen = Pen {
    width: 110,
    colour: false,
    unicode: true,
};

/// The page, as far as it is known.
struct Markdown {
    page: Page,
    /// Title and page of a run that finished.
    finished: Option<(&'static str, String)>,
    /// Why the run has not finished.
    unfinished: String,
}

impl Markdown {
    fn new() -> Self {
        Self {
            page: Page::new(Detail::Verbose),
            finished: None,
            unfinished: "the run has not begun".into(),
        }
    }
}

impl DocumentFormat for Markdown {
    fn apply(&mut self, event: &RunEvent, _: Duration) {
        self.page.apply(event);
        match event {
            RunEvent::Started { .. } => self.unfinished = "the run has not finished".into(),
            RunEvent::Finished {
                run,
                results,
                summary,
                ..
            } => {
                let page = self.page.finished(run, results, *summary, PEN);
                self.finished = Some((title(ExitCode::of(summary)), page));
            }
            RunEvent::Note { .. }
            | RunEvent::Progress { .. }
            | RunEvent::Settled { .. }
            | RunEvent::CleanedUp { .. } => {}
        }
    }

    fn stop(&mut self, why: &str, _: ExitCode) {
        self.finished = None;
        why.clone_into(&mut self.unfinished);
    }

    fn render(&mut self) -> io::Result<Vec<u8>> {
        let text = match &self.finished {
            Some((title, page)) => fenced(title, page, usize::MAX),
            None => fenced(
                title(ExitCode::Impossible),
                &self.page.stopped(&self.unfinished, PEN),
                usize::MAX,
            ),
        };
        Ok(text.into_bytes())
    }
}

/// The title of a page by the run's exit code.
pub(super) fn title(code: ExitCode) -> &'static str {
    match code {
        ExitCode::Proven => "watertight: as expected",
        ExitCode::Violated => "watertight: violated",
        ExitCode::Unproven => "watertight: something is unproven",
        ExitCode::Usage | ExitCode::Impossible | ExitCode::Defect => "watertight: incomplete",
    }
}

/// The page in a fence that no text in it can close, truncated at a line where it is longer than
/// `max_bytes`.
pub(super) fn fenced(title: &str, page: &str, max_bytes: usize) -> String {
    let longest_run = page.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest_run.max(2) + 1);

    let room = max_bytes.saturating_sub(2 * fence.len());
    let (page, notice) = if page.len() <= room {
        (page, "")
    } else {
        let lines = whole_lines(page, room);
        (
            lines,
            "\nThe page is longer than a summary may be; the log has all of it.\n",
        )
    };

    let page = page.trim_matches('\n');
    format!("### {title}\n\n{fence}text\n{page}\n{fence}\n{notice}")
}

/// The first lines of a text, in at most `max_bytes`; part of a line where the first is longer.
fn whole_lines(text: &str, max_bytes: usize) -> &str {
    let end = (0..=max_bytes)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    let text = &text[..end];
    match text.rfind('\n') {
        Some(newline) => &text[..=newline],
        None => text,
    }
}
