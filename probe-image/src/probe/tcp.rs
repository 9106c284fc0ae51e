//! TCP: the handshake, what follows it unasked, and one exchange of bytes.

use super::socket::{fresh, halt_of, not_registered};
use super::{Halt, Trace, answer};
use crate::text::printable_bytes;
use crate::wire::{FaultReason, How, Linger, Stage};
use nix::libc;
use socket2::Type;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

/// The longest answer that is read where our responder's is expected.
const MAX_ANSWER: usize = 4 * 1024;

/// How long a connection is read on after our FIN, so that no unread byte turns the close into an RST.
pub(crate) const DRAIN: Duration = Duration::from_millis(500);

/// Bytes read while closing, at most.
const MAX_DRAIN: usize = 64 * 1024;

/// Connects; passes [`Stage::Connect`].
pub(crate) async fn connect(peer: SocketAddr, limit: Duration, trace: &mut Trace) -> Result<TcpStream, Halt> {
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
        trace.local_port(stream.local_addr());
        // Asked whether readiness or the deadline came first: a connection that is up by now counts.
        match stream.take_error() {
            // An RST in answer to our SYN is ECONNREFUSED. These two arise only in an established connection
            // (tcp_reset() in the kernel's tcp_input.c): the handshake was done, and a later stage will fail.
            Ok(Some(error)) if matches!(error.raw_os_error(), Some(libc::ECONNRESET | libc::EPIPE)) => {
                trace.pass(STAGE, began);
                trace.reset_after_handshake = error.raw_os_error();
                return Ok(stream);
            }
            Ok(Some(error)) | Err(error) => return Err(halt_of(&stream, STAGE, &error)),
            Ok(None) => {}
        }
        // getpeername(2) fails in SYN_SENT and CLOSE, and in no state after the handshake.
        if let Ok(remote) = stream.peer_addr() {
            if stream.local_addr().ok() == Some(remote) {
                // A simultaneous open with itself (RFC 9293 §3.5): the ephemeral port was the one asked for.
                return Err(Halt::fault(FaultReason::Resources, "the socket connected to itself".into()));
            }
            trace.pass(STAGE, began);
            return Ok(stream);
        }
        if waited.is_err() {
            return Err(Halt::stop(STAGE, How::Silence));
        }
        // Woken without cause: clears the readiness, so that the next wait waits.
        drop(stream.try_io(Interest::WRITABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into())));
    }
}

/// Sends nothing and waits for what the other side does.
pub(crate) async fn linger(stream: &mut TcpStream, wait: Duration, trace: &mut Trace) -> Result<(), Halt> {
    if trace.reset_after_handshake.is_some() {
        trace.seen.linger = Some(Linger::Rst);
        return Ok(());
    }
    if wait.is_zero() {
        return Ok(());
    }
    let began = Instant::now();
    let mut byte = [0_u8; 1];
    trace.seen.linger = Some(match timeout(wait, stream.peek(&mut byte)).await {
        Err(_) => Linger::Quiet,
        Ok(Ok(0)) => Linger::Fin,
        Ok(Ok(_)) => {
            trace.pass(Stage::FirstBytes, began);
            Linger::Bytes
        }
        Ok(Err(error)) if matches!(error.raw_os_error(), Some(libc::ECONNRESET | libc::EPIPE)) => Linger::Rst,
        Ok(Err(error)) => return Err(halt_of(stream, Stage::FirstBytes, &error)),
    });
    Ok(())
}

/// Sends `question` and reads until `enough` says so; passes [`Stage::FirstBytes`] with the first of them.
///
/// A question that could not be sent is no end yet: a target that speaks first may have been read before it failed.
pub(crate) async fn exchange(
    stream: &mut TcpStream,
    question: &[u8],
    deadline: Instant,
    most: usize,
    enough: impl Fn(&[u8]) -> bool,
    trace: &mut Trace,
) -> Result<Vec<u8>, Halt> {
    let began = Instant::now();
    if let Some(errno) = trace.reset_after_handshake {
        return Err(Halt::stop(Stage::FirstBytes, How::Error { errno, icmp: None }));
    }
    let sent = timeout_at(deadline, stream.write_all(question)).await;
    let mut bytes = Vec::new();
    let mut buffer = [0_u8; 2048];
    loop {
        let stage = if bytes.is_empty() { Stage::FirstBytes } else { Stage::Request };
        match timeout_at(deadline, stream.read(&mut buffer)).await {
            Err(_) => return Err(Halt::stop(stage, How::Silence)),
            Ok(Err(error)) => return Err(halt_of(stream, stage, &error)),
            Ok(Ok(0)) => {
                return Err(match sent {
                    Ok(Err(error)) => halt_of(stream, stage, &error),
                    _ => Halt::stop(stage, How::Closed),
                });
            }
            Ok(Ok(n)) => {
                if bytes.is_empty() {
                    trace.pass(Stage::FirstBytes, began);
                }
                bytes.extend_from_slice(&buffer[..n]);
            }
        }
        if enough(&bytes) || bytes.len() >= most {
            return Ok(bytes);
        }
    }
}

/// Asks our responder to return a nonce; passes [`Stage::FirstBytes`] and, with an answer in its form,
/// [`Stage::Request`].
pub(crate) async fn nonce(stream: &mut TcpStream, nonce: &str, limit: Duration, trace: &mut Trace) -> Result<(), Halt> {
    let began = Instant::now();
    let ends = |bytes: &[u8]| bytes.contains(&b'\n');
    let question = answer::question(nonce);
    let bytes = exchange(stream, question.as_bytes(), began + limit, MAX_ANSWER, ends, trace).await?;
    match answer::parse(&bytes, nonce) {
        Some(answer) => {
            trace.seen.answer = Some(answer);
            trace.pass(Stage::Request, began);
            Ok(())
        }
        None => Err(Halt::stop(Stage::Request, How::Garbled { what: printable_bytes(&bytes, 200) })),
    }
}

/// Closes with FIN: half-closes, then reads on for a moment, since a close with unread bytes is an RST
/// (RFC 2525 §2.17).
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
