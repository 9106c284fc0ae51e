//! TCP: the handshake, what the peer does unasked after it, and one exchange of bytes.

use super::socket::{Segments, cancel_on_socket_error, new_tcp_socket, registration_failed};
use super::{Cancel, Trace, answer};
use crate::text::extent;
use crate::wire::{FaultReason, Linger, Stage, StopCause};
use nix::libc;
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

/// Maximum bytes read where our responder's answer is expected.
pub(crate) const MAX_ANSWER: usize = 4 * 1024;

/// How long a connection is read after our FIN, so that no unread byte turns the close into an RST.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// Maximum bytes read after our FIN.
pub(crate) const MAX_DRAIN: usize = 64 * 1024;

/// Connects; passes [`Stage::Connect`].
pub(crate) async fn connect(
    peer: SocketAddr,
    limit: Duration,
    segments: Segments,
    trace: &mut Trace,
) -> Result<TcpStream, Cancel> {
    const STAGE: Stage = Stage::Connect;
    let started = Instant::now();
    let deadline = started + limit;
    let socket = new_tcp_socket(&peer, segments)?;
    if let Err(error) = socket.connect(&peer.into())
        && error.raw_os_error() != Some(libc::EINPROGRESS)
    {
        return Err(cancel_on_socket_error(&socket, STAGE, &error));
    }

    let stream = TcpStream::from_std(socket.into()).map_err(|e| registration_failed(&e))?;
    loop {
        let waited = timeout_at(deadline, stream.writable()).await;
        if is_established(&stream, started, trace)? {
            return Ok(stream);
        }
        if waited.is_err() {
            return Err(Cancel::stop(STAGE, StopCause::Silence));
        }
        // A spurious wake-up: clears the readiness, so that the next wait waits.
        drop(stream.try_io(Interest::WRITABLE, || {
            Err::<(), _>(io::ErrorKind::WouldBlock.into())
        }));
    }
}

/// Asks the kernel whether the handshake is done, and passes [`Stage::Connect`] if it is.
///
/// To be called both on readiness and at the deadline: a connection that is established by then
/// counts.
pub(crate) fn is_established(
    socket: &impl AsFd,
    started: Instant,
    trace: &mut Trace,
) -> Result<bool, Cancel> {
    const STAGE: Stage = Stage::Connect;
    let sock_ref = SockRef::from(socket);
    let local = sock_ref
        .local_addr()
        .ok()
        .and_then(|local| local.as_socket());
    trace.set_local_port(local);

    match sock_ref.take_error() {
        // An RST in answer to our SYN is ECONNREFUSED. These two errnos arise only in an
        // established connection (tcp_reset() in the kernel's tcp_input.c): the handshake was done,
        // and a later stage will fail.
        Ok(Some(error)) if is_reset(&error) => {
            trace.pass(STAGE, started);
            trace.reset_after_handshake = error.raw_os_error();
            return Ok(true);
        }
        Ok(Some(error)) | Err(error) => return Err(cancel_on_socket_error(socket, STAGE, &error)),
        Ok(None) => {}
    }

    // getpeername(2) fails in SYN_SENT and CLOSE, and in no state after the handshake.
    let Ok(remote) = sock_ref.peer_addr() else {
        return Ok(false);
    };
    if local.is_some() && local == remote.as_socket() {
        // A simultaneous open with itself (RFC 9293 §3.5): the ephemeral port equals the
        // destination port.
        return Err(Cancel::fault(
            FaultReason::Resources,
            "the socket connected to itself".into(),
        ));
    }
    trace.pass(STAGE, started);
    Ok(true)
}

/// Whether the error means that the peer reset an established connection.
fn is_reset(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ECONNRESET | libc::EPIPE))
}

/// Sends nothing and records what the peer does within `wait`.
pub(crate) async fn linger(
    stream: &mut TcpStream,
    wait: Duration,
    trace: &mut Trace,
) -> Result<(), Cancel> {
    if trace.reset_after_handshake.is_some() {
        trace.observation.linger = Some(Linger::Rst);
        return Ok(());
    }
    if wait.is_zero() {
        return Ok(());
    }

    let started = Instant::now();
    let mut byte = [0_u8; 1];
    match timeout(wait, stream.peek(&mut byte)).await {
        Err(_) => trace.observation.linger = Some(Linger::Quiet),
        Ok(peeked) => record_linger(stream, peeked, started, trace)?,
    }
    Ok(())
}

/// Records what the peer did while the probe sent nothing: bytes, FIN or RST.
pub(crate) fn record_linger(
    socket: &impl AsFd,
    peeked: io::Result<usize>,
    started: Instant,
    trace: &mut Trace,
) -> Result<(), Cancel> {
    trace.observation.linger = Some(match peeked {
        Ok(0) => Linger::Fin,
        Ok(_) => {
            trace.pass(Stage::FirstBytes, started);
            Linger::Bytes
        }
        Err(error) if is_reset(&error) => Linger::Rst,
        Err(error) => return Err(cancel_on_socket_error(socket, Stage::FirstBytes, &error)),
    });
    Ok(())
}

/// Sends `question` and reads until `is_complete`, at most `max` bytes; passes
/// [`Stage::FirstBytes`] with the first of them.
pub(crate) async fn exchange(
    stream: &mut TcpStream,
    question: &[u8],
    deadline: Instant,
    max: usize,
    is_complete: impl Fn(&[u8]) -> bool,
    trace: &mut Trace,
) -> Result<Vec<u8>, Cancel> {
    let mut reply = Reply::new(max, is_complete);
    trace.check_not_reset(Stage::FirstBytes)?;

    let sent = timeout_at(deadline, stream.write_all(question)).await;
    let send_error = sent.ok().and_then(Result::err);

    let mut buffer = [0_u8; 2048];
    loop {
        let Ok(read) = timeout_at(deadline, stream.read(&mut buffer)).await else {
            return Err(reply.silence());
        };
        let read = read.map(|n| &buffer[..n]);
        if reply.add(read, send_error.as_ref(), stream, trace)? {
            return Ok(reply.bytes);
        }
    }
}

/// The part of a reply that was read.
pub(crate) struct Reply<F> {
    started: Instant,
    max: usize,
    is_complete: F,
    pub(crate) bytes: Vec<u8>,
}

impl<F: Fn(&[u8]) -> bool> Reply<F> {
    /// An empty reply to a question that is sent now. It ends with `max` bytes, or when
    /// `is_complete` returns `true`.
    pub(crate) fn new(max: usize, is_complete: F) -> Self {
        Self {
            started: Instant::now(),
            max,
            is_complete,
            bytes: Vec::new(),
        }
    }

    /// The stage to be passed next.
    pub(crate) fn stage(&self) -> Stage {
        if self.bytes.is_empty() {
            Stage::FirstBytes
        } else {
            Stage::Request
        }
    }

    /// The stop when nothing more came before the deadline.
    pub(crate) fn silence(&self) -> Cancel {
        Cancel::stop(self.stage(), StopCause::Silence)
    }

    /// Adds what a read returned; passes [`Stage::FirstBytes`] with the first bytes. `true` means
    /// that the reply is complete.
    ///
    /// `send_error` is the error by which the question could not be sent. It does not end the
    /// attempt by itself, since the bytes of a target that speaks first may still be unread.
    pub(crate) fn add(
        &mut self,
        read: io::Result<&[u8]>,
        send_error: Option<&io::Error>,
        socket: &impl AsFd,
        trace: &mut Trace,
    ) -> Result<bool, Cancel> {
        match (read, send_error) {
            (Err(error), _) => Err(cancel_on_socket_error(socket, self.stage(), &error)),
            (Ok([]), Some(error)) => Err(cancel_on_socket_error(socket, self.stage(), error)),
            (Ok([]), None) => Err(Cancel::stop(self.stage(), StopCause::Closed)),
            (Ok(bytes), _) => {
                if self.bytes.is_empty() {
                    trace.pass(Stage::FirstBytes, self.started);
                }
                self.bytes.extend_from_slice(bytes);
                Ok((self.is_complete)(&self.bytes) || self.bytes.len() >= self.max)
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
    let started = Instant::now();
    let question = answer::question(nonce);
    let bytes = exchange(
        stream,
        question.as_bytes(),
        started + limit,
        MAX_ANSWER,
        is_complete_answer,
        trace,
    )
    .await?;
    record_answer(&bytes, nonce, started, trace)
}

/// Whether an answer of our responder is complete.
pub(crate) fn is_complete_answer(bytes: &[u8]) -> bool {
    bytes.contains(&b'\n')
}

/// Records the answer to a nonce; passes [`Stage::Request`] if it has our responder's form.
pub(crate) fn record_answer(
    bytes: &[u8],
    nonce: &str,
    started: Instant,
    trace: &mut Trace,
) -> Result<(), Cancel> {
    let Some(answer) = answer::parse(bytes, nonce) else {
        let what = format!("not our responder: {}", extent(bytes));
        return Err(Cancel::stop(Stage::Request, StopCause::Garbled { what }));
    };
    trace.observation.answer = Some(answer);
    trace.pass(Stage::Request, started);
    Ok(())
}

/// Closes with FIN: half-closes, then reads for at most [`DRAIN_TIMEOUT`], since a close with
/// unread bytes is an RST (RFC 2525 §2.17).
pub(crate) async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let close = async {
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
    // The attempt has ended; how its connection ends is no part of it.
    drop(timeout(DRAIN_TIMEOUT, close).await);
}
