//! Documents that are written whole: at the start, now and then, and at the end.

use super::Report;
use super::sink::Sink;
use crate::event::{ExitCode, RunEvent};
use std::io;
use std::time::{Duration, Instant};

/// At most this often is a document written while the run goes on.
const PACE: Duration = Duration::from_secs(10);

/// A report as it stands: events are folded into it, and it can be written at any moment.
pub(super) trait Document {
    /// Takes an event in. `since_start`: time passed since `Started`.
    fn fold(&mut self, event: &RunEvent, since_start: Duration);
    /// The run ended without `Finished`.
    fn stop(&mut self, why: &str, code: ExitCode);
    /// The document, true at this moment.
    fn render(&mut self) -> io::Result<Vec<u8>>;
}

/// A [`Document`] and its place.
///
/// Written when it is opened ("the run has not begun": the file of an earlier run must not stand
/// for this one), at `Started` with every check not finished, then at most every [`PACE`], and at
/// the end, so that a report is true whenever the process is killed. An early write that fails is
/// tried again; the last one decides.
pub(super) struct Whole<D> {
    document: D,
    sink: Sink,
    started: Option<Instant>,
    written: Option<Instant>,
    /// Whether something was folded in that its place does not hold yet.
    behind: bool,
}

impl<D: Document> Whole<D> {
    /// Puts a document in its place.
    ///
    /// # Errors
    /// It cannot be written there.
    pub(super) fn open(mut document: D, mut sink: Sink) -> io::Result<Self> {
        if sink.takes_drafts() {
            sink.put(&document.render()?)?;
        }
        Ok(Self {
            document,
            sink,
            started: None,
            written: None,
            behind: false,
        })
    }

    /// A document for a writer that takes it once, at the end.
    pub(super) fn once(document: D, writer: impl io::Write + Send + 'static) -> Self {
        Self {
            document,
            sink: Sink::Once(Box::new(writer)),
            started: None,
            written: None,
            behind: false,
        }
    }

    fn event_at(&mut self, event: &RunEvent, now: Instant) -> io::Result<()> {
        let started = *self.started.get_or_insert(now);
        self.document.fold(event, now.duration_since(started));
        self.behind = true;
        match event {
            RunEvent::Started { .. } => self.draft(now),
            RunEvent::Settled { .. } | RunEvent::Progress { .. } => {
                if self
                    .written
                    .is_none_or(|written| now.duration_since(written) >= PACE)
                {
                    self.draft(now);
                }
            }
            // What may still follow the results is written with the rest, when nothing more comes.
            RunEvent::Note { .. } | RunEvent::CleanedUp { .. } => {}
            RunEvent::Finished { .. } if self.sink.takes_drafts() => return self.put(),
            RunEvent::Finished { .. } => {}
        }
        Ok(())
    }

    fn draft(&mut self, now: Instant) {
        if self.sink.takes_drafts() && self.put().is_ok() {
            self.written = Some(now);
        }
    }

    fn put(&mut self) -> io::Result<()> {
        self.behind = false;
        let document = self.document.render()?;
        self.sink.put(&document)
    }
}

impl<D: Document> Report for Whole<D> {
    fn event(&mut self, event: &RunEvent) -> io::Result<()> {
        self.event_at(event, Instant::now())
    }

    fn stopped(&mut self, why: &str, code: ExitCode) -> io::Result<()> {
        self.document.stop(why, code);
        self.behind = true;
        if self.sink.takes_drafts() {
            self.put()
        } else {
            Ok(())
        }
    }

    fn close(&mut self) -> io::Result<()> {
        if self.behind { self.put() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    /// Counts how often it is written.
    struct Counting(usize);

    impl Document for Counting {
        fn fold(&mut self, _: &RunEvent, _: Duration) {}
        fn stop(&mut self, _: &str, _: ExitCode) {}
        fn render(&mut self) -> io::Result<Vec<u8>> {
            self.0 += 1;
            Ok(self.0.to_string().into_bytes())
        }
    }

    #[test]
    fn a_document_is_written_at_the_start_every_ten_seconds_and_at_the_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let written = || std::fs::read_to_string(file.path()).unwrap();
        let mut whole = Whole::open(Counting(0), Sink::open(file.path()).unwrap()).unwrap();
        assert_eq!(written(), "1", "before the run");

        let events = fixtures::shop();
        let zero = Instant::now();
        let progress = RunEvent::Progress {
            settled: 1,
            of: 7,
            elapsed_ms: 1,
            floor_ms: 1,
        };
        whole.event_at(&events[0], zero).unwrap();
        assert_eq!(written(), "2", "at the start");
        for (second, expected) in [
            (1, "2"),
            (9, "2"),
            (10, "3"),
            (11, "3"),
            (19, "3"),
            (20, "4"),
        ] {
            whole
                .event_at(&progress, zero + Duration::from_secs(second))
                .unwrap();
            assert_eq!(written(), expected, "after {second} s");
        }
        whole
            .event_at(events.last().unwrap(), zero + Duration::from_secs(21))
            .unwrap();
        assert_eq!(written(), "5", "at the end");
        whole.close().unwrap();
        assert_eq!(written(), "5", "nothing came after it");
        whole
            .event_at(
                &RunEvent::CleanedUp {
                    leftovers: vec!["a pod".into()],
                },
                zero,
            )
            .unwrap();
        whole.close().unwrap();
        assert_eq!(written(), "6", "what could not be removed is in it");
    }

    #[test]
    fn a_pipe_gets_the_document_once() {
        let (writer, written) = fixtures::pipe();
        let mut whole = Whole::once(Counting(0), writer);
        for event in fixtures::shop() {
            whole.event(&event).unwrap();
        }
        assert_eq!(written.text(), "", "leftovers may still follow");
        whole.close().unwrap();
        whole.close().unwrap();
        assert_eq!(written.text(), "1");
    }

    #[test]
    fn a_pipe_gets_what_is_known_when_the_run_stops() {
        let (writer, written) = fixtures::pipe();
        let mut whole = Whole::once(Counting(0), writer);
        whole.event(&fixtures::shop()[0]).unwrap();
        whole.stopped("interrupted", ExitCode::Impossible).unwrap();
        whole.close().unwrap();
        assert_eq!(written.text(), "1");
    }
}
