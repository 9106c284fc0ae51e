//! The queue of lines to stdout: numbered before they are queued, written by a separate thread.
//!
//! Sampling never waits for stdout. A line that does not fit the queue is dropped; its number is
//! not used again, so the reader sees the gap.

use super::clock::Clock;
use crate::wire::{Body, Fault, FaultReason, Line, MAX_LINE, MAX_OUTPUT, VERSION};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Number of lines that may wait for the writer: four for each flow.
const QUEUE: usize = 4 * crate::wire::MAX_FLOWS;

/// Bytes below [`MAX_OUTPUT`] that are reserved for the `bye`.
const RESERVE: u64 = 256;

/// What happened to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Queued,
    /// The queue was full: `seq` has a gap.
    Dropped,
    /// The line would exceed [`MAX_OUTPUT`].
    Exhausted,
}

/// The sampler's end of the queue.
pub(crate) struct Output {
    clock: Clock,
    seq: u64,
    bytes: u64,
    queue: SyncSender<Vec<u8>>,
    finished: Receiver<()>,
    broken: Arc<AtomicBool>,
}

impl Output {
    /// Starts the writer's thread.
    pub(crate) fn start(clock: Clock, sink: impl Write + Send + 'static) -> std::io::Result<Self> {
        Self::with_queue(clock, sink, QUEUE)
    }

    fn with_queue(
        clock: Clock,
        mut sink: impl Write + Send + 'static,
        lines: usize,
    ) -> std::io::Result<Self> {
        let (queue, queued_lines) = sync_channel::<Vec<u8>>(lines);
        let (finished_sender, finished) = mpsc::sync_channel(1);
        let broken = Arc::new(AtomicBool::new(false));
        let broken_flag = Arc::clone(&broken);
        std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || {
                for line in queued_lines {
                    if sink.write_all(&line).and_then(|()| sink.flush()).is_err() {
                        broken_flag.store(true, Ordering::Relaxed);
                        break;
                    }
                }
                // The receiver is gone if the probe did not wait for the writer.
                let _ = finished_sender.send(());
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

    /// Numbers a line and queues it without waiting.
    pub(crate) fn send(&mut self, body: Body) -> Sent {
        let reserve = match body {
            Body::Bye { .. } => 0,
            _ => RESERVE,
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

    /// Whether writing has failed: the reader is gone.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, at most for `timeout`.
    pub(crate) fn finish(self, timeout: Duration) {
        let Self {
            queue, finished, ..
        } = self;
        drop(queue);
        // The probe ends even if the reader does not read.
        let _ = finished.recv_timeout(timeout);
    }

    #[expect(
        clippy::expect_used,
        reason = "no type of the protocol has a failing Serialize or keys that are no strings"
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
    use crate::wire::ByeReason;
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
    fn blocked_reader_causes_a_gap_and_does_not_block_the_sampler() {
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
            "no gap in {seqs:?}"
        );
        assert!(seqs.windows(2).all(|w| w[1] > w[0]));
    }

    #[test]
    fn output_stops_at_its_limit_with_room_for_bye() {
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
                reason: ByeReason::OutputLimit
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
    fn line_beyond_the_limit_becomes_a_fault() {
        let sink = Sink::default();
        let mut output = Output::start(Clock::since(0), sink.clone()).unwrap();
        output.send(fault(MAX_LINE));
        output.finish(Duration::from_secs(5));
        assert!(
            matches!(&sink.lines()[0].body, Body::Fault(f) if f.detail.starts_with("a line of"))
        );
    }
}
