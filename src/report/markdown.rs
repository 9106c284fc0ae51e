//! The page for people as Markdown, for a merge request or the summary of a step: a title, and the
//! page in a fence.

use super::console::{Detail, Page, Pen};
use super::document_file::Document;
use crate::event::{ExitCode, RunEvent};
use std::io;
use std::time::Duration;

/// How the page is written where there is no terminal.
pub(super) const PEN: Pen = Pen {
    width: 110,
    colour: false,
    unicode: true,
};

/// The document as it stands.
pub(super) struct Markdown {
    page: Page,
    /// Title and page of a run that came to its end.
    finished: Option<(&'static str, String)>,
    stopped: String,
}

impl Markdown {
    pub(super) fn new() -> Self {
        Self {
            page: Page::new(Detail::Verbose),
            finished: None,
            stopped: "the run has not begun".into(),
        }
    }
}

impl Document for Markdown {
    fn fold(&mut self, event: &RunEvent, _: Duration) {
        self.page.learn(event);
        match event {
            RunEvent::Started { .. } => self.stopped = "the run has not finished".into(),
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
        why.clone_into(&mut self.stopped);
    }

    fn render(&mut self) -> io::Result<Vec<u8>> {
        let text = match &self.finished {
            Some((title, page)) => fenced(title, page, usize::MAX),
            None => fenced(
                title(ExitCode::Impossible),
                &self.page.stopped(&self.stopped, PEN),
                usize::MAX,
            ),
        };
        Ok(text.into_bytes())
    }
}

/// What a page is called.
pub(super) fn title(code: ExitCode) -> &'static str {
    match code {
        ExitCode::Proven => "watertight: as expected",
        ExitCode::Violated => "watertight: violated",
        ExitCode::Unproven => "watertight: something is unproven",
        ExitCode::Usage | ExitCode::Impossible | ExitCode::Defect => "watertight: incomplete",
    }
}

/// The page in a fence that nothing in it can close, cut at a line if it is longer than `most`
/// bytes.
pub(super) fn fenced(title: &str, page: &str, most: usize) -> String {
    let longest = page.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let room = most.saturating_sub(2 * fence.len());
    let (page, cut) = if page.len() <= room {
        (page, "")
    } else {
        let whole = (0..=room)
            .rev()
            .find(|at| page.is_char_boundary(*at))
            .unwrap_or(0);
        (
            &page[..page[..whole].rfind('\n').map_or(whole, |end| end + 1)],
            "\nThe page is longer than a summary may be; the log has all of it.\n",
        )
    };
    format!(
        "### {title}\n\n{fence}text\n{}\n{fence}\n{cut}",
        page.trim_matches('\n')
    )
}
