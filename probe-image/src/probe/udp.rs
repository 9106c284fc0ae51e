//! UDP: one datagram out of a connected socket, and the answer to it.

use super::socket::{fresh, halt_of, not_registered};
use super::{Cancel, Trace, answer};
use crate::text::printable_bytes;
use crate::wire::{FaultReason, How, Stage};
use nix::libc;
use socket2::Type;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

/// The longest datagram read.
const MAX_DATAGRAM: usize = 64 * 1024;

/// Sends `question` once and returns the first datagram that `accepts`; passes
/// [`Stage::FirstBytes`].
///
/// Nothing is sent twice: a second datagram from the same port would meet the state that the first
/// one left on the way, and the schedule brings a fresh port soon enough.
pub(crate) async fn exchange(
    peer: SocketAddr,
    question: &[u8],
    limit: Duration,
    accepts: impl Fn(&[u8]) -> bool,
    trace: &mut Trace,
) -> Result<Vec<u8>, Cancel> {
    const STAGE: Stage = Stage::FirstBytes;
    let began = Instant::now();
    let deadline = began + limit;
    let socket = fresh(&peer, Type::DGRAM, STAGE)?;
    socket
        .connect(&peer.into())
        .map_err(|e| halt_of(&socket, STAGE, &e))?;
    let socket = UdpSocket::from_std(socket.into()).map_err(|e| not_registered(&e))?;
    trace.local_port(socket.local_addr().ok());
    if socket.local_addr().ok() == Some(peer) {
        // The ephemeral port was the one asked for: the question would come back as its own answer.
        let detail = "the socket is connected to itself".into();
        return Err(Cancel::fault(FaultReason::Resources, detail));
    }
    match timeout_at(deadline, socket.send(question)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(halt_of(&socket, STAGE, &error)),
        Err(_) => {
            return Err(Cancel::stop(
                STAGE,
                How::Error {
                    errno: libc::EAGAIN,
                    icmp: None,
                },
            ));
        }
    }
    let mut buffer = vec![0_u8; MAX_DATAGRAM];
    loop {
        let received = match timeout_at(deadline, socket.recv(&mut buffer)).await {
            Ok(received) => received,
            // The kernel once more: what is there by now counts.
            Err(_) => match socket.try_recv(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err(Cancel::stop(STAGE, How::Silence));
                }
                received => received,
            },
        };
        match received {
            Err(error) => return Err(halt_of(&socket, STAGE, &error)),
            Ok(n) if accepts(&buffer[..n]) => {
                trace.pass(STAGE, began);
                buffer.truncate(n);
                return Ok(buffer);
            }
            Ok(_) => {}
        }
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
    let began = Instant::now();
    let bytes = exchange(
        peer,
        answer::question(nonce).as_bytes(),
        limit,
        |_| true,
        trace,
    )
    .await?;
    match answer::parse(&bytes, nonce) {
        Some(answer) => {
            trace.seen.answer = Some(answer);
            trace.pass(Stage::Request, began);
            Ok(())
        }
        None => Err(Cancel::stop(
            Stage::Request,
            How::Garbled {
                what: printable_bytes(&bytes, 200),
            },
        )),
    }
}
