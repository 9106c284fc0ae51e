//! A plain TCP attempt as a machine of states: handshake → silence, nonce or payload → close.
//!
//! A run of ten thousand denied flows is little but handshakes that nobody answers. Such an attempt
//! is a socket and a deadline, and needs no task, no timers and no buffers of its own: whoever
//! holds it tells it when its socket is ready or its deadline is over. What is seen is decided by
//! the same functions as in [`super::tcp`].

use super::prepare::{Plain, Say, Seen, finished};
use super::socket::{fresh, halt_of};
use super::tcp::{
    DRAIN, MAX_ANSWER, MAX_DRAIN, Reply, answered, is_a_line, is_established, reset_before, unasked,
};
use super::{Cancel, Trace, answer};
use crate::wire::{How, Linger, Stage};
use nix::libc;
use nix::sys::socket::{MsgFlags, recv};
use socket2::{Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use tokio::time::Instant;

/// An attempt under way, or its connection being closed.
pub(crate) struct Attempt {
    socket: Socket,
    began: Instant,
    deadline: Instant,
    trace: Trace,
    /// Whether there was a handshake.
    connected: bool,
    step: Step,
}

enum Step {
    /// Waits for the handshake.
    Connect,
    /// Waits for what the other side does unasked.
    Linger,
    /// Asks and reads.
    Exchange(Box<Exchange>),
    /// The attempt was told of; reads to the other side's FIN.
    Drain { read: usize },
    /// Nothing is left to do.
    Closed,
}

struct Exchange {
    question: Vec<u8>,
    sent: usize,
    unsent: Option<io::Error>,
    reply: Reply<fn(&[u8]) -> bool>,
    /// Where our responder's answer is expected.
    nonce: Option<String>,
}

impl Attempt {
    /// Begins an attempt.
    ///
    /// # Errors
    ///
    /// What was seen where it ended at once.
    #[expect(
        clippy::result_large_err,
        reason = "handed on at once, and as rare as an attempt"
    )]
    pub(crate) fn begin(flow: &Plain<'_>) -> Result<Self, Seen> {
        let began = Instant::now();
        let trace = Trace::new();
        let connecting = fresh(&flow.peer, Type::STREAM, Stage::Connect).and_then(|socket| {
            match socket.connect(&flow.peer.into()) {
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
                    Err(halt_of(&socket, Stage::Connect, &error))
                }
                _ => Ok(socket),
            }
        });
        match connecting {
            Ok(socket) => {
                let deadline = began + flow.connect;
                Ok(Self {
                    socket,
                    began,
                    deadline,
                    trace,
                    connected: false,
                    step: Step::Connect,
                })
            }
            Err(halt) => Err(finished(trace, Err(halt))),
        }
    }

    /// When to look again at the latest.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether nothing is left to do: the socket may go.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.step, Step::Closed)
    }

    /// Goes on as far as it can without waiting; returns what was seen when the attempt is over,
    /// once.
    ///
    /// `nonce` gives the nonce of this attempt.
    pub(crate) fn advance(&mut self, flow: &Plain<'_>, nonce: impl Fn() -> String) -> Option<Seen> {
        loop {
            let expired = Instant::now() >= self.deadline;
            let ended = match &mut self.step {
                Step::Connect => match is_established(&self.socket, self.began, &mut self.trace) {
                    Ok(false) if !expired => return None,
                    Ok(false) => Err(Cancel::stop(Stage::Connect, How::Silence)),
                    Ok(true) => {
                        self.connected = true;
                        match self.follow(flow, &nonce) {
                            Some(ended) => ended,
                            None => continue,
                        }
                    }
                    Err(halt) => Err(halt),
                },
                Step::Linger => match peek(&self.socket) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock && !expired => return None,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.trace.seen.linger = Some(Linger::Quiet);
                        Ok(())
                    }
                    peeked => unasked(&self.socket, peeked, self.began, &mut self.trace),
                },
                Step::Exchange(exchange) => {
                    match exchange.advance(&self.socket, expired, &mut self.trace) {
                        None => return None,
                        Some(Ok(())) => exchange.nonce.as_ref().map_or(Ok(()), |nonce| {
                            answered(&exchange.reply.bytes, nonce, self.began, &mut self.trace)
                        }),
                        Some(Err(halt)) => Err(halt),
                    }
                }
                Step::Drain { read } => {
                    if !drained(&self.socket, read) && !expired {
                        return None;
                    }
                    self.step = Step::Closed;
                    return None;
                }
                Step::Closed => return None,
            };
            let seen = finished(std::mem::replace(&mut self.trace, Trace::new()), ended);
            self.close();
            return Some(seen);
        }
    }

    /// Ends an attempt that is under way as [`How::Unfinished`] where it is, unless it can be
    /// brought to its own end.
    pub(crate) fn end(&mut self, flow: &Plain<'_>, nonce: impl Fn() -> String) -> Option<Seen> {
        if let Some(seen) = self.advance(flow, nonce) {
            return Some(seen);
        }
        let stage = match &self.step {
            Step::Connect => Stage::Connect,
            Step::Linger => Stage::FirstBytes,
            Step::Exchange(exchange) => exchange.reply.stage(),
            Step::Drain { .. } | Step::Closed => return None,
        };
        self.step = Step::Closed;
        let trace = std::mem::replace(&mut self.trace, Trace::new());
        Some(finished(trace, Err(Cancel::stop(stage, How::Unfinished))))
    }

    /// The step after the handshake; how the attempt ended where there is none.
    fn follow(
        &mut self,
        flow: &Plain<'_>,
        nonce: impl Fn() -> String,
    ) -> Option<Result<(), Cancel>> {
        self.began = Instant::now();
        let (question, nonce, most, enough): (_, _, _, fn(&[u8]) -> bool) = match flow.say {
            Say::Nothing { linger } => {
                if self.trace.reset_after_handshake.is_some() {
                    self.trace.seen.linger = Some(Linger::Rst);
                    return Some(Ok(()));
                }
                if linger.is_zero() {
                    return Some(Ok(()));
                }
                self.deadline = self.began + linger;
                self.step = Step::Linger;
                return None;
            }
            Say::Nonce => {
                let nonce = nonce();
                (
                    answer::question(&nonce).into_bytes(),
                    Some(nonce),
                    MAX_ANSWER,
                    is_a_line,
                )
            }
            Say::Payload(payload) => (payload.to_vec(), None, 1, |_| true),
        };
        if let Some(halt) = reset_before(&self.trace) {
            return Some(Err(halt));
        }
        let reply = Reply::new(most, enough);
        self.deadline = self.began + flow.request;
        self.step = Step::Exchange(Box::new(Exchange {
            question,
            sent: 0,
            unsent: None,
            reply,
            nonce,
        }));
        None
    }

    /// Closes with FIN where there is a connection: half-closes, and reads on, since a close with
    /// unread bytes is an RST (RFC 2525 §2.17).
    fn close(&mut self) {
        self.step = Step::Closed;
        let mut read = 0;
        if self.connected
            && self.socket.shutdown(Shutdown::Write).is_ok()
            && !drained(&self.socket, &mut read)
        {
            self.deadline = Instant::now() + DRAIN;
            self.step = Step::Drain { read };
        }
    }
}

impl AsFd for Attempt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Exchange {
    /// Sends what is left of the question, then reads; `None` while it must wait.
    fn advance(
        &mut self,
        mut socket: &Socket,
        expired: bool,
        trace: &mut Trace,
    ) -> Option<Result<(), Cancel>> {
        while self.sent < self.question.len() && self.unsent.is_none() {
            match socket.write(&self.question[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock && !expired => return None,
                // Too late to be sent; what was read by now still counts.
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => self.unsent = Some(error),
            }
        }
        let mut buffer = [0_u8; 2048];
        loop {
            let read = match socket.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock && !expired => return None,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Some(Err(self.reply.silence()));
                }
                read => read.map(|n| &buffer[..n]),
            };
            match self.reply.take(read, self.unsent.as_ref(), socket, trace) {
                Ok(false) => {}
                Ok(true) => return Some(Ok(())),
                Err(halt) => return Some(Err(halt)),
            }
        }
    }
}

fn peek(socket: &Socket) -> io::Result<usize> {
    let mut byte = [0_u8; 1];
    Ok(recv(socket.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK)?)
}

/// Reads what is there; `true` when nothing more is worth waiting for.
fn drained(mut socket: &Socket, read: &mut usize) -> bool {
    let mut buffer = [0_u8; 4096];
    while *read < MAX_DRAIN {
        match socket.read(&mut buffer) {
            Ok(0) => return true,
            Ok(n) => *read += n,
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
    true
}
