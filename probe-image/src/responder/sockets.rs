//! Listening sockets, opened in another network namespace.

use super::control::{Listen, Reply};
use crate::descriptors::enter_netns;
use crate::wire::Transport;
use socket2::{Domain, Socket, Type};
use std::io;
use std::os::fd::OwnedFd;

/// Connections that wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A socket, bound and listening, not yet the runtime's.
pub(crate) enum Opened {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// UDP.
    Udp(std::net::UdpSocket),
}

impl Opened {
    /// Opens what `listen` says, in the namespace of the calling thread.
    pub(crate) fn new(listen: &Listen) -> Result<Self, Reply> {
        Self::with(listen, false)
    }

    /// As [`Self::new`], beside whoever of the same user listens there already in the same way.
    pub(crate) fn beside_others(listen: &Listen) -> Result<Self, Reply> {
        Self::with(listen, true)
    }

    fn with(listen: &Listen, shared: bool) -> Result<Self, Reply> {
        open(listen, shared).map_err(|error| {
            let transport = match listen.transport {
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
            };
            failed(
                format!("listening on {}/{transport}: {error}", listen.address),
                &error,
            )
        })
    }
}

fn open(listen: &Listen, shared: bool) -> io::Result<Opened> {
    let ty = match listen.transport {
        Transport::Tcp => Type::STREAM,
        Transport::Udp => Type::DGRAM,
    };
    let socket = Socket::new(
        Domain::for_address(listen.address),
        ty.nonblocking().cloexec(),
        None,
    )?;
    if listen.address.is_ipv6() {
        // Each family has its own socket, so that "the other family answers" is never an accident.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(shared)?;
    match listen.transport {
        Transport::Tcp => {
            // A port that was closed a moment ago has connections in TIME_WAIT. Not for UDP, where
            // the option would let two sockets have one port (socket(7)).
            socket.set_reuse_address(true)?;
            socket.bind(&listen.address.into())?;
            socket.listen(BACKLOG)?;
            Ok(Opened::Tcp(socket.into()))
        }
        Transport::Udp => {
            socket.bind(&listen.address.into())?;
            Ok(Opened::Udp(socket.into()))
        }
    }
}

/// The namespace that a thread started in.
pub(crate) struct Home(io::Result<OwnedFd>);

impl Home {
    /// Of the calling thread.
    pub(crate) fn of_this_thread() -> Self {
        Self(std::fs::File::open("/proc/thread-self/ns/net").map(Into::into))
    }

    /// Does `work` in `netns`, or at home, on the calling thread, and returns home.
    pub(crate) fn visit<T>(
        &self,
        netns: Option<&OwnedFd>,
        work: impl FnOnce() -> Result<T, Reply>,
    ) -> Result<T, Reply> {
        let Some(netns) = netns else { return work() };
        let home = self
            .0
            .as_ref()
            .map_err(|e| failed("opening the own network namespace".into(), e))?;
        enter_netns(netns)
            .map_err(|e| failed("entering the network namespace".into(), &e.into()))?;
        let done = work();
        enter_netns(home)
            .map_err(|e| failed("returning to the own network namespace".into(), &e.into()))?;
        done
    }
}

pub(crate) fn failed(what: String, error: &io::Error) -> Reply {
    Reply::Failed {
        what,
        errno: error.raw_os_error().unwrap_or(0),
    }
}
