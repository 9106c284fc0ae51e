//! The socket's error queue: which ICMP message is behind an errno, and who sent it.
//!
//! It needs no capability (tested with uid 65534 and an empty effective set), so it works under Pod
//! Security `restricted`.

use crate::wire::Icmp;
use nix::libc;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

/// Maximum number of entries read: a socket of ours sends little, so few errors can come back.
const MAX_ENTRIES: usize = 16;

/// Makes the kernel queue ICMP errors (`IP_RECVERR`, `IPV6_RECVERR`; ip(7)).
pub(crate) fn enable(socket: &impl AsFd, peer: &SocketAddr) -> nix::Result<()> {
    match peer {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4RecvErr, &true),
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvErr, &true),
    }
}

/// The first ICMP message in the queue. Local errors are skipped: their errno is known already.
pub(crate) fn icmp(socket: &impl AsFd) -> Option<Icmp> {
    for _ in 0..MAX_ENTRIES {
        match read_entry(socket) {
            Entry::Icmp(icmp) => return Some(icmp),
            Entry::Other => {}
            Entry::None => return None,
        }
    }
    None
}

/// An entry of the queue.
enum Entry {
    Icmp(Icmp),
    Other,
    None,
}

fn read_entry(socket: &impl AsFd) -> Entry {
    let mut data = [0_u8; 256];
    let mut parts = [IoSliceMut::new(&mut data)];
    let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    let Ok(message) = recvmsg::<SockaddrStorage>(
        socket.as_fd().as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT,
    ) else {
        return Entry::None;
    };

    let Ok(mut control_messages) = message.cmsgs() else {
        return Entry::Other;
    };
    control_messages
        .find_map(|message| icmp_of(&message))
        .map_or(Entry::Other, Entry::Icmp)
}

/// The ICMP message that a control message describes.
fn icmp_of(message: &ControlMessageOwned) -> Option<Icmp> {
    let (error, offender) = match message {
        ControlMessageOwned::Ipv4RecvErr(error, from) => (
            error,
            from.map(|a| IpAddr::from(u32::from_be(a.sin_addr.s_addr).to_be_bytes())),
        ),
        ControlMessageOwned::Ipv6RecvErr(error, from) => {
            (error, from.map(|a| IpAddr::from(a.sin6_addr.s6_addr)))
        }
        _ => return None,
    };
    let v6 = match error.ee_origin {
        libc::SO_EE_ORIGIN_ICMP => false,
        libc::SO_EE_ORIGIN_ICMP6 => true,
        _ => return None,
    };

    Some(Icmp {
        v6,
        ty: error.ee_type,
        code: error.ee_code,
        offender,
    })
}
