//! UDP: one datagram from a connected socket, and the answer to it.

use super::socket::{cancel_on_socket_error, new_socket, registration_failed};
use super::tcp::record_answer;
use super::{Cancel, Trace, answer};
use crate::wire::{FaultReason, Stage, StopCause};
use nix::libc;
use socket2::Type;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

/// Maximum bytes of a datagram read.
const MAX_DATAGRAM: usize = 64 * 1024;

/// Sends `question` once and returns the first datagram that arrives; passes [`Stage::FirstBytes`].
///
/// Nothing is sent twice: a second datagram from the same port would match the connection-tracking
/// entry of the first, and the next attempt uses a new port anyway.
pub(crate) async fn exchange(
    peer: SocketAddr,
    question: &[u8],
    limit: Duration,
    trace: &mut Trace,
) -> Result<Vec<u8>, Cancel> {
    const STAGE: Stage = Stage::FirstBytes;
    let started = Instant::now();
    let deadline = started + limit;
    let socket = new_socket(&peer, Type::DGRAM, STAGE)?;
    socket
        .connect(&peer.into())
        .map_err(|e| cancel_on_socket_error(&socket, STAGE, &e))?;
    let socket = UdpSocket::from_std(socket.into()).map_err(|e| registration_failed(&e))?;
    trace.set_local_port(socket.local_addr().ok());
    if socket.local_addr().ok() == Some(peer) {
        // The ephemeral port equals the destination port: the question would come back as its own
        // answer.
        let detail = "the socket is connected to itself".into();
        return Err(Cancel::fault(FaultReason::Resources, detail));
    }

    match timeout_at(deadline, socket.send(question)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(cancel_on_socket_error(&socket, STAGE, &error)),
        Err(_) => {
            let errno = libc::EAGAIN;
            return Err(Cancel::stop(STAGE, StopCause::Error { errno, icmp: None }));
        }
    }

    let mut buffer = vec![0_u8; MAX_DATAGRAM];
    let received = match timeout_at(deadline, socket.recv(&mut buffer)).await {
        Ok(received) => received,
        // A datagram that is in the socket's buffer at the deadline counts.
        Err(_) => socket.try_recv(&mut buffer),
    };
    match received {
        Ok(length) => {
            trace.pass(STAGE, started);
            buffer.truncate(length);
            Ok(buffer)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(Cancel::stop(STAGE, StopCause::Silence))
        }
        Err(error) => Err(cancel_on_socket_error(&socket, STAGE, &error)),
    }
}

/// Asks our responder to return a nonce; passes [`Stage::FirstBytes`] and, with an answer in its
/// form, [`Stage::Request`].
pub(crate) async fn nonce(
    peer: SocketAddr,
    nonce: &str,
    limit: Duration,
    trace: &mut Trace,
) -> Result<(), Cancel> {
    let started = Instant::now();
    let question = answer::question(nonce);
    let bytes = exchange(peer, question.as_bytes(), limit, trace).await?;
    record_answer(&bytes, nonce, started, trace)
}
