//! Documents that are written as a whole: at the start, every few seconds, and at the end.

use super::Report;
use super::destination::Destination;
use crate::event::{ExitCode, RunEvent};
use std::io;
use std::time::{Duration, Instant};

/// At most this often is a document written while the run goes on.
const DRAFT_INTERVAL: Duration = Duration::from_secs(10);

/// A document that follows a run event by event, and can be rendered at any moment.
pub(super) trait DocumentFormat {
    /// Updates the document by an event. `since_start`: time since `Started`.
    fn apply(&mut self, event: &RunEvent, since_start: Duration);
    /// Updates the document of a run that ended without `Finished`.
    fn stop(&mut self, why: &str, code: ExitCode);
    /// The text of the document, true at this moment.
    fn render(&mut self) -> io::Result<Vec<u8>>;
}

/// A document and its file.
///
/// The file is written when it is opened ("the run has not begun": the file of an earlier run must
/// not be taken for this one's), at `Started` with every check not finished, then at most every
/// [`DRAFT_INTERVAL`], and at the end: so a report is true whenever the process is killed. A draft
/// that fails is written again later; the last write decides.
pub(super) struct DocumentFile {
    document: Box<dyn DocumentFormat + Send>,
    destination: Destination,
    started: Option<Instant>,
    last_draft: Option<Instant>,
    /// Whether the document was updated since it was written last.
    is_stale: bool,
}

impl DocumentFile {
    /// A document in a file that says from now on that the run has not begun.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn open(
        mut document: Box<dyn DocumentFormat + Send>,
        mut destination: Destination,
    ) -> io::Result<Self> {
        if destination.takes_drafts() {
            destination.write(&document.render()?)?;
        }
        Ok(Self::new(document, destination))
    }

    /// A document for a writer, written once, at the end.
    pub(super) fn once(
        document: Box<dyn DocumentFormat + Send>,
        writer: Box<dyn io::Write + Send>,
    ) -> Self {
        Self::new(document, Destination::Once(writer))
    }

    fn new(document: Box<dyn DocumentFormat + Send>, destination: Destination) -> Self {
        Self {
            document,
            destination,
            started: None,
            last_draft: None,
            is_stale: false,
        }
    }

    fn event_at(&mut self, event: &RunEvent, now: Instant) -> io::Result<()> {
        let started = *self.started.get_or_insert(now);
        self.document.apply(event, now.duration_since(started));
        self.is_stale = true;

        match event {
            RunEvent::Started { .. } => self.write_draft(now),
            RunEvent::Settled { .. } | RunEvent::Progress { .. } => {
                let is_due = self
                    .last_draft
                    .is_none_or(|last| now.duration_since(last) >= DRAFT_INTERVAL);
                if is_due {
                    self.write_draft(now);
                }
            }
            // Leftovers may still follow the results: `close` writes them.
            RunEvent::Note { .. } | RunEvent::CleanedUp { .. } => {}
            RunEvent::Finished { .. } if self.destination.takes_drafts() => return self.write(),
            RunEvent::Finished { .. } => {}
        }
        Ok(())
    }

    fn write_draft(&mut self, now: Instant) {
        if self.destination.takes_drafts() && self.write().is_ok() {
            self.last_draft = Some(now);
        }
    }

    fn write(&mut self) -> io::Result<()> {
        self.is_stale = false;
        let text = self.document.render()?;
        self.destination.write(&text)
    }
}

impl Report for DocumentFile {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        self.event_at(event, Instant::now())
    }

    fn stopped(&mut self, why: &str, code: ExitCode) -> io::Result<()> {
        self.document.stop(why, code);
        self.is_stale = true;
        if self.destination.takes_drafts() {
            self.write()
        } else {
            Ok(())
        }
    }

    fn close(&mut self) -> io::Result<()> {
        if self.is_stale { self.write() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    /// Its text is how often it was rendered.
    struct RenderCounter(usize);

    impl DocumentFormat for RenderCounter {
        fn apply(&mut self, _: &RunEvent, _: Duration) {}
        fn stop(&mut self, _: &str, _: ExitCode) {}
        fn render(&mut self) -> io::Result<Vec<u8>> {
            self.0 += 1;
            Ok(self.0.to_string().into_bytes())
        }
    }

    #[test]
    fn document_is_written_at_the_start_every_ten_seconds_and_at_the_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let written = || std::fs::read_to_string(file.path()).unwrap();
        let mut report = DocumentFile::open(
            Box::new(RenderCounter(0)),
            Destination::open(file.path()).unwrap(),
        )
        .unwrap();
        assert_eq!(written(), "1", "before the run");

        let events = fixtures::shop();
        let zero = Instant::now();
        let progress = RunEvent::Progress {
            settled: 1,
            total: 7,
            elapsed_ms: 1,
            floor_ms: 1,
        };
        report.event_at(&events[0], zero).unwrap();
        assert_eq!(written(), "2", "at the start");
        for (second, expected) in [
            (1, "2"),
            (9, "2"),
            (10, "3"),
            (11, "3"),
            (19, "3"),
            (20, "4"),
        ] {
            report
                .event_at(&progress, zero + Duration::from_secs(second))
                .unwrap();
            assert_eq!(written(), expected, "after {second} s");
        }
        report
            .event_at(events.last().unwrap(), zero + Duration::from_secs(21))
            .unwrap();
        assert_eq!(written(), "5", "at the end");
        report.close().unwrap();
        assert_eq!(written(), "5", "nothing came after it");
        report
            .event_at(
                &RunEvent::CleanedUp {
                    leftovers: vec!["a pod".into()],
                },
                zero,
            )
            .unwrap();
        report.close().unwrap();
        assert_eq!(written(), "6", "what could not be removed is in it");
    }

    #[test]
    fn document_on_a_pipe_is_written_once() {
        let (writer, written) = fixtures::pipe();
        let mut report = DocumentFile::once(Box::new(RenderCounter(0)), Box::new(writer));
        for event in fixtures::shop() {
            report.event(&event).unwrap();
        }
        assert_eq!(written.text(), "", "leftovers may still follow");
        report.close().unwrap();
        report.close().unwrap();
        assert_eq!(written.text(), "1");
    }

    #[test]
    fn document_on_a_pipe_is_written_when_the_run_stops() {
        let (writer, written) = fixtures::pipe();
        let mut report = DocumentFile::once(Box::new(RenderCounter(0)), Box::new(writer));
        report.event(&fixtures::shop()[0]).unwrap();
        report.stopped("interrupted", ExitCode::Impossible).unwrap();
        report.close().unwrap();
        assert_eq!(written.text(), "1");
    }
}
