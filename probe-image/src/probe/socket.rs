//! New sockets, and the classification of socket errors.

use super::Cancel;
use super::errqueue;
use crate::wire::{FaultReason, SMALL_SEGMENT, Stage, StopCause};
use nix::libc;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

/// A new non-blocking socket for connections to `peer`, with its error queue enabled.
pub(crate) fn new_socket(peer: &SocketAddr, ty: Type, stage: Stage) -> Result<Socket, Cancel> {
    let socket = Socket::new(Domain::for_address(*peer), ty.nonblocking().cloexec(), None)
        .map_err(|error| cancel_on_error(stage, &error))?;
    errqueue::enable(&socket, peer).map_err(|errno| cancel_on_error(stage, &errno.into()))?;
    Ok(socket)
}

/// How large the segments of a connection may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segments {
    /// As large as the path's MTU allows.
    Usual,
    /// [`SMALL_SEGMENT`] octets at most: ours, and by the option in our SYN the peer's.
    Small,
}

/// A new non-blocking TCP socket for a connection to `peer`, with its error queue enabled.
pub(crate) fn new_tcp_socket(peer: &SocketAddr, segments: Segments) -> Result<Socket, Cancel> {
    let socket = new_socket(peer, Type::STREAM, Stage::Connect)?;
    if segments == Segments::Small {
        socket
            .set_tcp_mss(SMALL_SEGMENT)
            .map_err(|error| cancel_on_error(Stage::Connect, &error))?;
    }
    Ok(socket)
}

/// Classifies an error without an error queue: a lack of descriptors is our fault, other errnos are
/// the network's.
pub(crate) fn cancel_on_error(stage: Stage, error: &io::Error) -> Cancel {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => {
            Cancel::fault(FaultReason::Resources, error.to_string())
        }
        Some(errno) => Cancel::stop(stage, StopCause::Error { errno, icmp: None }),
        None => Cancel::fault(FaultReason::Defect, format!("{stage:?}: {error}")),
    }
}

/// Classifies an error of a socket, with the ICMP message behind it.
pub(crate) fn cancel_on_socket_error(
    socket: &impl AsFd,
    stage: Stage,
    error: &io::Error,
) -> Cancel {
    match error.raw_os_error() {
        Some(errno) => Cancel::stop(
            stage,
            StopCause::Error {
                errno,
                icmp: errqueue::icmp(socket),
            },
        ),
        None => cancel_on_error(stage, error),
    }
}

/// The fault when a socket cannot be registered with epoll: a limit of this host
/// (`max_user_watches`, memory).
pub(crate) fn registration_failed(error: &io::Error) -> Cancel {
    Cancel::fault(
        FaultReason::Resources,
        format!("registering a socket: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn small_segments_are_small_in_both_directions() {
        for (segments, is_small) in [(Segments::Usual, false), (Segments::Small, true)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let peer = listener.local_addr().unwrap();
            let socket = new_tcp_socket(&peer, segments).unwrap();
            socket.set_nonblocking(false).unwrap();
            socket.connect(&peer.into()).unwrap();
            let accepted = Socket::from(listener.accept().unwrap().0);

            for end in [&socket, &accepted] {
                let size = end.tcp_mss().unwrap();
                assert_eq!(size <= SMALL_SEGMENT, is_small, "{segments:?}: {size}");
            }
        }
    }
}
