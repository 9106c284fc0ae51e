//! Lines on their way out: numbered before they queue, written by a thread of its own.
//!
//! Sampling never waits for stdout. A line that does not fit the queue is dropped; its number is
//! not used again, so the reader sees the hole.

use super::clock::Clock;
use crate::wire::{Body, Fault, FaultReason, Line, MAX_LINE, MAX_OUTPUT, VERSION};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Lines that may wait for the writer: four first samples of each flow.
const QUEUE: usize = 4 * crate::wire::MAX_FLOWS;

/// Kept free of the output's limit for the `bye`.
const RESERVE: u64 = 256;

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// On its way.
    Queued,
    /// The queue was full: a hole in `seq`.
    Dropped,
    /// The probe has written what it may.
    Exhausted,
}

/// The end of the queue that the sampler holds.
pub(crate) struct Output {
    clock: Clock,
    seq: u64,
    bytes: u64,
    queue: SyncSender<Vec<u8>>,
    finished: Receiver<()>,
    broken: Arc<AtomicBool>,
}

impl Output {
    /// Starts the writer.
    pub(crate) fn start(clock: Clock, sink: impl Write + Send + 'static) -> std::io::Result<Self> {
        Self::with_queue(clock, sink, QUEUE)
    }

    fn with_queue(
        clock: Clock,
        mut sink: impl Write + Send + 'static,
        lines: usize,
    ) -> std::io::Result<Self> {
        let (queue, waiting) = sync_channel::<Vec<u8>>(lines);
        let (finish, finished) = mpsc::sync_channel(1);
        let broken = Arc::new(AtomicBool::new(false));
        let tell = Arc::clone(&broken);
        std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || {
                for line in waiting {
                    if sink.write_all(&line).and_then(|()| sink.flush()).is_err() {
                        tell.store(true, Ordering::Relaxed);
                        break;
                    }
                }
                // Nobody waits for it if the probe has gone already.
                let _ = finish.send(());
            })?;
        Ok(Self {
            clock,
            seq: 0,
            bytes: 0,
            queue,
            finished,
            broken,
        })
    }

    /// Numbers a line and queues it. Never waits.
    pub(crate) fn send(&mut self, body: Body) -> Sent {
        let reserve = if matches!(body, Body::Bye { .. }) {
            0
        } else {
            RESERVE
        };
        let mut line = self.render(body);
        if line.len() > MAX_LINE {
            line = self.render(Body::Fault(Fault {
                flow: None,
                attempt: None,
                start: self.clock.now(),
                reason: FaultReason::Defect,
                detail: format!("a line of {} bytes", line.len()),
            }));
        }
        if self.bytes + line.len() as u64 + reserve > MAX_OUTPUT {
            return Sent::Exhausted;
        }
        self.seq += 1;
        let length = line.len() as u64;
        match self.queue.try_send(line) {
            Ok(()) => {
                self.bytes += length;
                Sent::Queued
            }
            Err(_) => Sent::Dropped,
        }
    }

    /// Whether nobody can read any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, at most so long.
    pub(crate) fn finish(self, most: Duration) {
        let Self {
            queue, finished, ..
        } = self;
        drop(queue);
        // A reader that does not read is no reason to stay.
        let _ = finished.recv_timeout(most);
    }

    #[expect(
        clippy::expect_used,
        reason = "no type of the wire has a failing Serialize or keys that are no strings"
    )]
    fn render(&self, body: Body) -> Vec<u8> {
        let line = Line {
            v: VERSION,
            seq: self.seq,
            t: self.clock.now(),
            body,
        };
        let mut text = serde_json::to_vec(&line).expect("a line is representable as JSON");
        text.push(b'\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Sink {
        fn lines(&self) -> Vec<Line> {
            let bytes = self.0.lock().unwrap().clone();
            bytes
                .split_inclusive(|&b| b == b'\n')
                .map(|l| serde_json::from_slice(l).unwrap())
                .collect()
        }
    }

    fn fault(length: usize) -> Body {
        Body::Fault(Fault {
            flow: None,
            attempt: None,
            start: 0,
            reason: FaultReason::Defect,
            detail: "x".repeat(length),
        })
    }

    #[test]
    fn a_blocked_reader_leaves_a_hole_and_blocks_nobody() {
        let sink = Sink::default();
        let block = sink.0.clone();
        let guard = block.lock().unwrap();
        let mut output = Output::with_queue(Clock::since(0), sink.clone(), 4).unwrap();
        let sent: Vec<Sent> = (0..20).map(|_| output.send(fault(10))).collect();
        assert!(sent.contains(&Sent::Dropped));
        drop(guard);
        while output.send(fault(10)) == Sent::Dropped {
            std::thread::yield_now();
        }
        output.finish(Duration::from_secs(5));
        let seqs: Vec<u64> = sink.lines().iter().map(|l| l.seq).collect();
        assert!(
            seqs.windows(2).any(|w| w[1] > w[0] + 1),
            "no hole in {seqs:?}"
        );
        assert!(seqs.windows(2).all(|w| w[1] > w[0]));
    }

    #[test]
    fn output_ends_at_its_limit_with_room_for_bye() {
        let sink = Sink::default();
        let mut output = Output::start(Clock::since(0), sink.clone()).unwrap();
        loop {
            match output.send(fault(7_000)) {
                Sent::Queued => {}
                Sent::Dropped => std::thread::yield_now(),
                Sent::Exhausted => break,
            }
        }
        assert_eq!(
            output.send(Body::Bye {
                reason: "output".into()
            }),
            Sent::Queued
        );
        output.finish(Duration::from_secs(5));
        assert!(sink.0.lock().unwrap().len() as u64 <= MAX_OUTPUT);
        assert!(matches!(
            sink.lines().last().unwrap().body,
            Body::Bye { .. }
        ));
    }

    #[test]
    fn a_line_beyond_the_limit_becomes_a_fault() {
        let sink = Sink::default();
        let mut output = Output::start(Clock::since(0), sink.clone()).unwrap();
        output.send(fault(MAX_LINE));
        output.finish(Duration::from_secs(5));
        assert!(
            matches!(&sink.lines()[0].body, Body::Fault(f) if f.detail.starts_with("a line of"))
        );
    }
}
