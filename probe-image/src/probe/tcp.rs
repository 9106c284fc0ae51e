//! TCP: the handshake, what follows it unasked, and one exchange of bytes.

use super::socket::{fresh, halt_of, not_registered};
use super::{Cancel, Trace, answer};
use crate::text::printable_bytes;
use crate::wire::{FaultReason, How, Linger, Stage};
use nix::libc;
use socket2::{SockRef, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

/// The longest answer that is read where our responder's is expected.
pub(crate) const MAX_ANSWER: usize = 4 * 1024;

/// How long a connection is read on after our FIN, so that no unread byte turns the close into an
/// RST.
pub(crate) const DRAIN: Duration = Duration::from_millis(500);

/// Bytes read while closing, at most.
pub(crate) const MAX_DRAIN: usize = 64 * 1024;

/// Connects; passes [`Stage::Connect`].
pub(crate) async fn connect(
    peer: SocketAddr,
    limit: Duration,
    trace: &mut Trace,
) -> Result<TcpStream, Cancel> {
    const STAGE: Stage = Stage::Connect;
    let began = Instant::now();
    let deadline = began + limit;
    let socket = fresh(&peer, Type::STREAM, STAGE)?;
    if let Err(error) = socket.connect(&peer.into())
        && error.raw_os_error() != Some(libc::EINPROGRESS)
    {
        return Err(halt_of(&socket, STAGE, &error));
    }
    let stream = TcpStream::from_std(socket.into()).map_err(|e| not_registered(&e))?;
    loop {
        let waited = timeout_at(deadline, stream.writable()).await;
        if is_established(&stream, began, trace)? {
            return Ok(stream);
        }
        if waited.is_err() {
            return Err(Cancel::stop(STAGE, How::Silence));
        }
        // Woken without cause: clears the readiness, so that the next wait waits.
        drop(stream.try_io(Interest::WRITABLE, || {
            Err::<(), _>(io::ErrorKind::WouldBlock.into())
        }));
    }
}

/// Asks the kernel whether the handshake is done, and passes [`Stage::Connect`] if it is.
///
/// To be asked whether readiness or the deadline came first: a connection that is up by now counts.
pub(crate) fn is_established(
    socket: &impl AsFd,
    began: Instant,
    trace: &mut Trace,
) -> Result<bool, Cancel> {
    const STAGE: Stage = Stage::Connect;
    let asked = SockRef::from(socket);
    let local = asked.local_addr().ok().and_then(|local| local.as_socket());
    trace.local_port(local);
    match asked.take_error() {
        // An RST in answer to our SYN is ECONNREFUSED. These two arise only in an established
        // connection (tcp_reset() in the kernel's tcp_input.c): the handshake was done, and a later
        // stage will fail.
        Ok(Some(error)) if matches!(error.raw_os_error(), Some(libc::ECONNRESET | libc::EPIPE)) => {
            trace.pass(STAGE, began);
            trace.reset_after_handshake = error.raw_os_error();
            return Ok(true);
        }
        Ok(Some(error)) | Err(error) => return Err(halt_of(socket, STAGE, &error)),
        Ok(None) => {}
    }
    // getpeername(2) fails in SYN_SENT and CLOSE, and in no state after the handshake.
    let Ok(remote) = asked.peer_addr() else {
        return Ok(false);
    };
    if local.is_some() && local == remote.as_socket() {
        // A simultaneous open with itself (RFC 9293 §3.5): the ephemeral port was the one asked
        // for.
        return Err(Cancel::fault(
            FaultReason::Resources,
            "the socket connected to itself".into(),
        ));
    }
    trace.pass(STAGE, began);
    Ok(true)
}

/// Sends nothing and waits for what the other side does.
pub(crate) async fn linger(
    stream: &mut TcpStream,
    wait: Duration,
    trace: &mut Trace,
) -> Result<(), Cancel> {
    if trace.reset_after_handshake.is_some() {
        trace.seen.linger = Some(Linger::Rst);
        return Ok(());
    }
    if wait.is_zero() {
        return Ok(());
    }
    let began = Instant::now();
    let mut byte = [0_u8; 1];
    match timeout(wait, stream.peek(&mut byte)).await {
        Err(_) => trace.seen.linger = Some(Linger::Quiet),
        Ok(peeked) => unasked(stream, peeked, began, trace)?,
    }
    Ok(())
}

/// Takes in what came while nothing was sent: bytes, FIN or RST.
pub(crate) fn unasked(
    socket: &impl AsFd,
    peeked: io::Result<usize>,
    began: Instant,
    trace: &mut Trace,
) -> Result<(), Cancel> {
    trace.seen.linger = Some(match peeked {
        Ok(0) => Linger::Fin,
        Ok(_) => {
            trace.pass(Stage::FirstBytes, began);
            Linger::Bytes
        }
        Err(error) if matches!(error.raw_os_error(), Some(libc::ECONNRESET | libc::EPIPE)) => {
            Linger::Rst
        }
        Err(error) => return Err(halt_of(socket, Stage::FirstBytes, &error)),
    });
    Ok(())
}

/// Sends `question` and reads until `enough` says so; passes [`Stage::FirstBytes`] with the first
/// of them.
pub(crate) async fn exchange(
    stream: &mut TcpStream,
    question: &[u8],
    deadline: Instant,
    most: usize,
    enough: impl Fn(&[u8]) -> bool,
    trace: &mut Trace,
) -> Result<Vec<u8>, Cancel> {
    let mut answer = Reply::new(most, enough);
    if let Some(halt) = reset_before(trace) {
        return Err(halt);
    }
    let sent = timeout_at(deadline, stream.write_all(question)).await;
    let unsent = sent.ok().and_then(Result::err);
    let mut buffer = [0_u8; 2048];
    loop {
        let Ok(read) = timeout_at(deadline, stream.read(&mut buffer)).await else {
            return Err(answer.silence());
        };
        if answer.take(read.map(|n| &buffer[..n]), unsent.as_ref(), stream, trace)? {
            return Ok(answer.bytes);
        }
    }
}

/// Why nothing can be asked of a connection that was reset before our first look at it.
pub(crate) fn reset_before(trace: &Trace) -> Option<Cancel> {
    let errno = trace.reset_after_handshake?;
    Some(Cancel::stop(
        Stage::FirstBytes,
        How::Error { errno, icmp: None },
    ))
}

/// An answer as far as it was read.
pub(crate) struct Reply<F> {
    began: Instant,
    most: usize,
    enough: F,
    pub(crate) bytes: Vec<u8>,
}

impl<F: Fn(&[u8]) -> bool> Reply<F> {
    /// Nothing read yet; the question goes out now. At most `most` bytes are read, or until
    /// `enough` says so.
    pub(crate) fn new(most: usize, enough: F) -> Self {
        Self {
            began: Instant::now(),
            most,
            enough,
            bytes: Vec::new(),
        }
    }

    /// The stage that is waited for.
    pub(crate) fn stage(&self) -> Stage {
        if self.bytes.is_empty() {
            Stage::FirstBytes
        } else {
            Stage::Request
        }
    }

    /// Nothing more came to the deadline.
    pub(crate) fn silence(&self) -> Cancel {
        Cancel::stop(self.stage(), How::Silence)
    }

    /// Takes in what a read brought; passes [`Stage::FirstBytes`] with the first of it. `true`: it
    /// is enough.
    ///
    /// `unsent` is the error by which the question could not be sent: no end yet, since a target
    /// that speaks first may have been read before it failed.
    pub(crate) fn take(
        &mut self,
        read: io::Result<&[u8]>,
        unsent: Option<&io::Error>,
        socket: &impl AsFd,
        trace: &mut Trace,
    ) -> Result<bool, Cancel> {
        match (read, unsent) {
            (Err(error), _) => Err(halt_of(socket, self.stage(), &error)),
            (Ok([]), Some(error)) => Err(halt_of(socket, self.stage(), error)),
            (Ok([]), None) => Err(Cancel::stop(self.stage(), How::Closed)),
            (Ok(bytes), _) => {
                if self.bytes.is_empty() {
                    trace.pass(Stage::FirstBytes, self.began);
                }
                self.bytes.extend_from_slice(bytes);
                Ok((self.enough)(&self.bytes) || self.bytes.len() >= self.most)
            }
        }
    }
}

/// Asks our responder to return a nonce; passes [`Stage::FirstBytes`] and, with an answer in its
/// form, [`Stage::Request`].
pub(crate) async fn nonce(
    stream: &mut TcpStream,
    nonce: &str,
    limit: Duration,
    trace: &mut Trace,
) -> Result<(), Cancel> {
    let began = Instant::now();
    let question = answer::question(nonce);
    let bytes = exchange(
        stream,
        question.as_bytes(),
        began + limit,
        MAX_ANSWER,
        is_a_line,
        trace,
    )
    .await?;
    answered(&bytes, nonce, began, trace)
}

/// Whether an answer of our responder is complete.
pub(crate) fn is_a_line(bytes: &[u8]) -> bool {
    bytes.contains(&b'\n')
}

/// Takes in the answer to a nonce; passes [`Stage::Request`] if it has our responder's form.
pub(crate) fn answered(
    bytes: &[u8],
    nonce: &str,
    began: Instant,
    trace: &mut Trace,
) -> Result<(), Cancel> {
    match answer::parse(bytes, nonce) {
        Some(answer) => {
            trace.seen.answer = Some(answer);
            trace.pass(Stage::Request, began);
            Ok(())
        }
        None => Err(Cancel::stop(
            Stage::Request,
            How::Garbled {
                what: printable_bytes(bytes, 200),
            },
        )),
    }
}

/// Closes with FIN: half-closes, then reads on for a moment, since a close with unread bytes is an
/// RST (RFC 2525 §2.17).
pub(crate) async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let ended = async {
        stream.shutdown().await?;
        let mut buffer = [0_u8; 4096];
        let mut read = 0;
        while read < MAX_DRAIN {
            match stream.read(&mut buffer).await? {
                0 => break,
                n => read += n,
            }
        }
        io::Result::Ok(())
    };
    // The attempt is over; how its connection ends is not part of it.
    drop(timeout(DRAIN, ended).await);
}
