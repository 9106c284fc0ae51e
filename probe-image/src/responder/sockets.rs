//! Listening sockets, bound in another network namespace.

use super::control::{Listen, Reply};
use crate::descriptors::enter_netns;
use crate::wire::Transport;
use socket2::{Domain, Socket, Type};
use std::io;
use std::os::fd::OwnedFd;

/// Maximum number of connections that wait to be accepted; the kernel lowers it to
/// `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A socket that is bound and listening, not yet registered with the runtime.
pub(crate) enum BoundSocket {
    Tcp(std::net::TcpListener),
    Udp(std::net::UdpSocket),
}

impl BoundSocket {
    /// Binds a socket in the namespace of the calling thread.
    pub(crate) fn new(listen: &Listen) -> Result<Self, Reply> {
        Self::bind(listen, false)
    }

    /// As [`Self::new`], with `SO_REUSEPORT`: other processes of the same user may share the port
    /// in the same way.
    pub(crate) fn shared(listen: &Listen) -> Result<Self, Reply> {
        Self::bind(listen, true)
    }

    fn bind(listen: &Listen, shared: bool) -> Result<Self, Reply> {
        bind(listen, shared).map_err(|error| {
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

fn bind(listen: &Listen, shared: bool) -> io::Result<BoundSocket> {
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
        // Each family has its own socket: no IPv6 socket may answer over IPv4.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(shared)?;

    match listen.transport {
        Transport::Tcp => {
            // A port that was closed a moment ago has connections in TIME_WAIT. Not set for UDP,
            // where the option would let two sockets share one port (socket(7)).
            socket.set_reuse_address(true)?;
            socket.bind(&listen.address.into())?;
            socket.listen(BACKLOG)?;
            Ok(BoundSocket::Tcp(socket.into()))
        }
        Transport::Udp => {
            socket.bind(&listen.address.into())?;
            Ok(BoundSocket::Udp(socket.into()))
        }
    }
}

/// The network namespace in which a thread started.
pub(crate) struct HomeNamespace(io::Result<OwnedFd>);

impl HomeNamespace {
    /// The namespace of the calling thread.
    pub(crate) fn of_this_thread() -> Self {
        Self(std::fs::File::open("/proc/thread-self/ns/net").map(Into::into))
    }

    /// Runs `work` on the calling thread in `netns`, or at home if that is `None`, and returns
    /// home.
    pub(crate) fn run_in<T>(
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
        let result = work();
        enter_netns(home)
            .map_err(|e| failed("returning to the own network namespace".into(), &e.into()))?;
        result
    }
}

/// The reply to a command that failed with this error.
pub(crate) fn failed(what: String, error: &io::Error) -> Reply {
    Reply::Failed {
        what,
        errno: error.raw_os_error().unwrap_or(0),
    }
}
