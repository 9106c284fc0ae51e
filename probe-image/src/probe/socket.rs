//! Fresh sockets, and how their errors are told apart.

use super::Cancel;
use super::errqueue;
use crate::wire::{FaultReason, How, Stage};
use nix::libc;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

/// A new non-blocking socket towards `peer`, with its error queue on.
pub(crate) fn fresh(peer: &SocketAddr, ty: Type, stage: Stage) -> Result<Socket, Cancel> {
    let socket = Socket::new(Domain::for_address(*peer), ty.nonblocking().cloexec(), None)
        .map_err(|error| halt_by(stage, &error))?;
    errqueue::enable(&socket, peer).map_err(|errno| halt_by(stage, &errno.into()))?;
    Ok(socket)
}

/// What an error without a socket's queue means: of our own descriptors, or of the network.
pub(crate) fn halt_by(stage: Stage, error: &io::Error) -> Cancel {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => {
            Cancel::fault(FaultReason::Resources, error.to_string())
        }
        Some(errno) => Cancel::stop(stage, How::Error { errno, icmp: None }),
        None => Cancel::fault(FaultReason::Defect, format!("{stage:?}: {error}")),
    }
}

/// What an error of this socket means, with the ICMP message behind it.
pub(crate) fn halt_of(socket: &impl AsFd, stage: Stage, error: &io::Error) -> Cancel {
    match error.raw_os_error() {
        Some(errno) => Cancel::stop(
            stage,
            How::Error {
                errno,
                icmp: errqueue::icmp(socket),
            },
        ),
        None => halt_by(stage, error),
    }
}

/// The runtime could not take the socket on: a limit of ours (`max_user_watches`, memory).
pub(crate) fn not_registered(error: &io::Error) -> Cancel {
    Cancel::fault(
        FaultReason::Resources,
        format!("registering a socket: {error}"),
    )
}
