//! The report for people: progress while the run goes on, and at its end a page with who may talk
//! to whom and every finding explained.
//!
//! The page goes to one screen, notes and progress to another, so that `watertight run ... >
//! report.txt` keeps the one and shows the other.

mod finding;
mod matrix;
mod page;
mod screen;

pub(super) use page::Page;
pub(super) use screen::Pen;
pub use screen::{Capabilities, Screen};

use super::text::counted;
use super::{Keeps, Report};
use crate::event::{ExitCode, RunEvent, RunInfo};
use crate::model::show_duration;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use screen::Ink;
use std::io;
use std::time::Duration;

/// How much the page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// Of proven checks only the matrix and the sums.
    #[default]
    Brief,
    /// Each proven check as well: tier, reach, power, control, delay.
    Verbose,
}

/// Whether progress is drawn on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// If standard error is a terminal.
    Drawn,
    /// Never: a log of a pipeline would hold every frame.
    Quiet,
}

impl Progress {
    /// Quiet where the variable `CI` is set, as pipelines set it.
    pub fn by_convention() -> Self {
        if std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false") {
            Self::Quiet
        } else {
            Self::Drawn
        }
    }
}

/// The report for people.
pub struct Console {
    results: Screen,
    live: Screen,
    progress: Progress,
    bar: Option<ProgressBar>,
    page: Page,
}

impl Console {
    /// A console that writes the page to `results`, and notes and progress to `live`, which is
    /// standard error.
    pub fn new(results: Screen, live: Screen, detail: Detail, progress: Progress) -> Self {
        Self {
            results,
            live,
            progress,
            bar: None,
            page: Page::new(detail),
        }
    }

    fn start(&mut self, run: &RunInfo) -> io::Result<()> {
        let pen = self.live.pen();
        let suites: Vec<String> = self
            .page
            .suites
            .iter()
            .map(|suite| format!("{} ({})", pen.text(&suite.name), pen.text(&suite.file)))
            .collect();
        let backend = match run.backend.as_str() {
            "lab" => "in the lab".to_owned(),
            "cluster" => "in the cluster".to_owned(),
            name => format!("on the backend {}", pen.text(name)),
        };
        let heading = pen.inked(
            Ink::Strong,
            &format!("watertight {}", pen.text(&run.version)),
        );
        let checks = counted(self.page.checks.len(), "check");

        self.live.write(&format!(
            "{heading}: {checks} of {} {backend}\n",
            suites.join(", ")
        ))?;

        match self.progress {
            Progress::Drawn if self.live.is_terminal() => {
                self.bar = Some(progress_bar(self.page.checks.len(), pen));
            }
            Progress::Drawn | Progress::Quiet => {}
        }
        Ok(())
    }

    fn note(&mut self, text: &str) -> io::Result<()> {
        let pen = self.live.pen();
        let line = format!("{} {}\n", pen.inked(Ink::Strong, "note:"), pen.text(text));
        match &self.bar {
            Some(bar) => bar.suspend(|| self.live.write(&line)),
            None => self.live.write(&line),
        }
    }

    fn move_bar(&self, settled: usize, total: usize, remaining: Duration) {
        let Some(bar) = &self.bar else { return };
        let remaining = if remaining.is_zero() {
            String::new()
        } else {
            format!(", at least {} more", show_duration(remaining))
        };
        let violated = match self.page.violated.len() {
            0 => String::new(),
            n => format!(", {n} violated"),
        };

        bar.set_length(total as u64);
        bar.set_position(settled as u64);
        bar.set_message(format!("{violated}{remaining}"));
    }

    fn clear_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Report for Console {
    fn keeps(&self) -> Keeps {
        match self.page.detail {
            Detail::Brief => Keeps::Findings,
            Detail::Verbose => Keeps::Everything,
        }
    }

    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        self.page.apply(event);
        match event {
            RunEvent::Started { run, .. } => self.start(run),
            RunEvent::Note { text } => self.note(text),
            RunEvent::Progress {
                settled,
                total,
                elapsed_ms,
                floor_ms,
            } => {
                let remaining = Duration::from_millis(floor_ms.saturating_sub(*elapsed_ms));
                self.move_bar(*settled, *total, remaining);
                Ok(())
            }
            // The session itself prints what could not be removed.
            RunEvent::Settled { .. } | RunEvent::CleanedUp { .. } => Ok(()),
            RunEvent::Finished {
                run,
                results,
                summary,
                policies_after: _,
            } => {
                self.clear_bar();
                let page = self
                    .page
                    .finished(run, results, *summary, self.results.pen());
                self.results.write(&page)
            }
        }
    }

    fn stopped(&mut self, why: &str, _: ExitCode) -> io::Result<()> {
        self.clear_bar();
        let page = self.page.stopped(why, self.results.pen());
        self.results.write(&page)
    }
}

fn progress_bar(checks: usize, pen: Pen) -> ProgressBar {
    let template = "{spinner} {pos} of {len} settled{msg}  {elapsed}";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::with_draw_target(Some(checks as u64), ProgressDrawTarget::stderr());
    bar.set_style(style.tick_chars(pen.sign("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ", "|/-\\ ")));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

#[cfg(test)]
mod tests;
