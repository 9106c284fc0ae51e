//! A TCP attempt as a state machine: handshake → silence, nonce or payload → close.
//!
//! A run of ten thousand denied flows consists mostly of handshakes without an answer. Such an
//! attempt is a socket and a deadline, without a task, timers or buffers: its owner calls
//! [`TcpAttempt::advance`] when the socket is ready or the deadline is over. Outcomes are decided
//! by the functions of [`super::tcp`].

use super::prepare::{Outcome, TcpFlow, TcpQuestion, outcome_of};
use super::socket::{Segments, cancel_on_socket_error, new_tcp_socket};
use super::tcp::{
    DRAIN_TIMEOUT, MAX_ANSWER, MAX_DRAIN, Reply, is_complete_answer, is_established, record_answer,
    record_linger,
};
use super::{Cancel, Trace, answer};
use crate::wire::{Linger, Stage, StopCause};
use nix::libc;
use nix::sys::socket::{MsgFlags, recv};
use socket2::Socket;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use tokio::time::Instant;

/// An attempt in flight, or its connection while it is being closed.
pub(crate) struct TcpAttempt {
    socket: Socket,
    /// Start of the current step.
    started: Instant,
    deadline: Instant,
    trace: Trace,
    /// Whether the handshake was done.
    connected: bool,
    step: Step,
}

enum Step {
    /// Waits for the handshake.
    Connect,
    /// Sends nothing and waits for what the peer does.
    Linger,
    /// Sends the question and reads the reply.
    Exchange(Box<Exchange>),
    /// Reads to the peer's FIN after the outcome was returned.
    Drain { read: usize },
    /// The socket can be closed.
    Closed,
}

/// A question and its reply.
struct Exchange {
    question: Vec<u8>,
    /// Bytes of the question that were sent.
    sent: usize,
    send_error: Option<io::Error>,
    reply: Reply<fn(&[u8]) -> bool>,
    /// The nonce, where our responder's answer is expected.
    nonce: Option<String>,
}

impl TcpAttempt {
    /// Starts an attempt.
    ///
    /// # Errors
    ///
    /// The outcome, if the attempt ended at once.
    #[expect(
        clippy::result_large_err,
        reason = "used at once, and not in a hot path"
    )]
    pub(crate) fn begin(flow: &TcpFlow<'_>) -> Result<Self, Outcome> {
        let started = Instant::now();
        let trace = Trace::new();
        match connecting_socket(flow.peer, flow.segments) {
            Ok(socket) => Ok(Self {
                socket,
                started,
                deadline: started + flow.connect,
                trace,
                connected: false,
                step: Step::Connect,
            }),
            Err(cancel) => Err(outcome_of(trace, Err(cancel))),
        }
    }

    /// Latest time of the next call of [`Self::advance`].
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the attempt and its connection have ended.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.step, Step::Closed)
    }

    /// Continues as far as possible without waiting; returns the outcome once, when the attempt
    /// ends.
    ///
    /// `nonce` returns the nonce of this attempt.
    pub(crate) fn advance(
        &mut self,
        flow: &TcpFlow<'_>,
        nonce: impl Fn() -> String,
    ) -> Option<Outcome> {
        let expired = Instant::now() >= self.deadline;
        let result = match &mut self.step {
            Step::Connect => self.advance_connect(flow, nonce, expired)?,
            Step::Linger => self.advance_linger(expired)?,
            Step::Exchange(exchange) => {
                exchange.advance(&self.socket, expired, self.started, &mut self.trace)?
            }
            Step::Drain { read } => {
                if drain(&self.socket, read) || expired {
                    self.step = Step::Closed;
                }
                return None;
            }
            Step::Closed => return None,
        };

        let outcome = outcome_of(std::mem::replace(&mut self.trace, Trace::new()), result);
        self.close();
        Some(outcome)
    }

    /// Ends an attempt in flight as [`StopCause::Unfinished`] where it is, unless it can end by
    /// itself now.
    pub(crate) fn end(
        &mut self,
        flow: &TcpFlow<'_>,
        nonce: impl Fn() -> String,
    ) -> Option<Outcome> {
        if let Some(outcome) = self.advance(flow, nonce) {
            return Some(outcome);
        }

        let stage = match &self.step {
            Step::Connect => Stage::Connect,
            Step::Linger => Stage::FirstBytes,
            Step::Exchange(exchange) => exchange.reply.stage(),
            Step::Drain { .. } | Step::Closed => return None,
        };
        self.step = Step::Closed;
        let trace = std::mem::replace(&mut self.trace, Trace::new());
        let cancel = Cancel::stop(stage, StopCause::Unfinished);
        Some(outcome_of(trace, Err(cancel)))
    }

    /// Waits for the handshake, then starts the next step; `None` while it must wait.
    fn advance_connect(
        &mut self,
        flow: &TcpFlow<'_>,
        nonce: impl Fn() -> String,
        expired: bool,
    ) -> Option<Result<(), Cancel>> {
        match is_established(&self.socket, self.started, &mut self.trace) {
            Ok(false) if !expired => return None,
            Ok(false) => return Some(Err(Cancel::stop(Stage::Connect, StopCause::Silence))),
            Ok(true) => self.connected = true,
            Err(cancel) => return Some(Err(cancel)),
        }

        self.started = Instant::now();
        match flow.question {
            TcpQuestion::Nothing { linger } => {
                if self.trace.reset_after_handshake.is_some() {
                    self.trace.observation.linger = Some(Linger::Rst);
                    return Some(Ok(()));
                }
                if linger.is_zero() {
                    return Some(Ok(()));
                }
                self.deadline = self.started + linger;
                self.step = Step::Linger;
                let expired = Instant::now() >= self.deadline;
                self.advance_linger(expired)
            }
            TcpQuestion::Nonce => self.start_exchange(flow, Exchange::with_nonce(nonce())),
            TcpQuestion::Payload(payload) => {
                self.start_exchange(flow, Exchange::with_payload(payload))
            }
        }
    }

    /// Starts the exchange and continues it as far as possible.
    fn start_exchange(
        &mut self,
        flow: &TcpFlow<'_>,
        mut exchange: Exchange,
    ) -> Option<Result<(), Cancel>> {
        if let Err(cancel) = self.trace.check_not_reset(Stage::FirstBytes) {
            return Some(Err(cancel));
        }

        self.deadline = self.started + flow.request;
        let expired = Instant::now() >= self.deadline;
        let result = exchange.advance(&self.socket, expired, self.started, &mut self.trace);
        self.step = Step::Exchange(Box::new(exchange));
        result
    }

    /// Records what the peer does unasked; `None` while it must wait.
    fn advance_linger(&mut self, expired: bool) -> Option<Result<(), Cancel>> {
        match peek(&self.socket) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && !expired => None,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.trace.observation.linger = Some(Linger::Quiet);
                Some(Ok(()))
            }
            peeked => Some(record_linger(
                &self.socket,
                peeked,
                self.started,
                &mut self.trace,
            )),
        }
    }

    /// Closes with FIN where there is a connection: half-closes, then reads, since a close with
    /// unread bytes is an RST (RFC 2525 §2.17).
    fn close(&mut self) {
        self.step = Step::Closed;
        let mut read = 0;
        if self.connected
            && self.socket.shutdown(Shutdown::Write).is_ok()
            && !drain(&self.socket, &mut read)
        {
            self.deadline = Instant::now() + DRAIN_TIMEOUT;
            self.step = Step::Drain { read };
        }
    }
}

impl AsFd for TcpAttempt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Exchange {
    fn with_nonce(nonce: String) -> Self {
        Self {
            question: answer::question(&nonce).into_bytes(),
            sent: 0,
            send_error: None,
            reply: Reply::new(MAX_ANSWER, is_complete_answer),
            nonce: Some(nonce),
        }
    }

    fn with_payload(payload: &[u8]) -> Self {
        Self {
            question: payload.to_vec(),
            sent: 0,
            send_error: None,
            reply: Reply::new(1, |_| true),
            nonce: None,
        }
    }

    /// Sends the rest of the question, then reads the reply; `None` while it must wait.
    fn advance(
        &mut self,
        socket: &Socket,
        expired: bool,
        started: Instant,
        trace: &mut Trace,
    ) -> Option<Result<(), Cancel>> {
        if !self.send(socket, expired) {
            return None;
        }
        if let Err(cancel) = self.read(socket, expired, trace)? {
            return Some(Err(cancel));
        }

        Some(match &self.nonce {
            Some(nonce) => record_answer(&self.reply.bytes, nonce, started, trace),
            None => Ok(()),
        })
    }

    /// Sends the rest of the question; `false` while it must wait.
    fn send(&mut self, mut socket: &Socket, expired: bool) -> bool {
        while self.sent < self.question.len() && self.send_error.is_none() {
            match socket.write(&self.question[self.sent..]) {
                Ok(n) => self.sent += n,
                // At the deadline it is too late to send; bytes that can be read still count.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return expired,
                Err(error) => self.send_error = Some(error),
            }
        }
        true
    }

    /// Reads the reply to its end; `None` while it must wait.
    fn read(
        &mut self,
        mut socket: &Socket,
        expired: bool,
        trace: &mut Trace,
    ) -> Option<Result<(), Cancel>> {
        let mut buffer = [0_u8; 2048];
        loop {
            let read = match socket.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock && !expired => return None,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Some(Err(self.reply.silence()));
                }
                read => read.map(|n| &buffer[..n]),
            };
            match self
                .reply
                .add(read, self.send_error.as_ref(), socket, trace)
            {
                Ok(false) => {}
                Ok(true) => return Some(Ok(())),
                Err(cancel) => return Some(Err(cancel)),
            }
        }
    }
}

/// A non-blocking socket that is connecting to `peer`.
fn connecting_socket(peer: SocketAddr, segments: Segments) -> Result<Socket, Cancel> {
    let socket = new_tcp_socket(&peer, segments)?;
    match socket.connect(&peer.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
            Err(cancel_on_socket_error(&socket, Stage::Connect, &error))
        }
        _ => Ok(socket),
    }
}

fn peek(socket: &Socket) -> io::Result<usize> {
    let mut byte = [0_u8; 1];
    Ok(recv(socket.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK)?)
}

/// Reads and discards what has arrived; `true` when nothing more needs to be read.
fn drain(mut socket: &Socket, read: &mut usize) -> bool {
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
