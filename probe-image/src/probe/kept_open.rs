//! One connection that is kept open, and whether the peer still acknowledges it.
//!
//! The probe sends no byte over it: the kernel sends a TCP keep-alive every second (RFC 9293
//! section 3.8.4), and a peer that has the connection acknowledges it. What counts is an
//! acknowledgement that arrived after the start of an attempt. Segments of the peer alone do not
//! count: where our own packets are stopped it sends only what it has sent before, which the kernel
//! discards without reading its acknowledgement.

use super::socket::cancel_on_socket_error;
use super::{Cancel, Trace};
use crate::wire::{FaultReason, Stage, StopCause};
use nix::libc;
use socket2::{Socket, TcpKeepalive};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// Time between two keep-alives, and from the last segment to the first of them: the least that the
/// kernel takes.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Number of keep-alives without an acknowledgement after which the kernel gives a connection up:
/// the most that it takes (`MAX_TCP_KEEPCNT`). Until then a connection may come back to life.
const KEEP_ALIVES: u32 = 127;

/// How often an attempt asks the kernel.
const ASKED_EVERY: Duration = Duration::from_millis(50);

/// How coarse the kernel's times of acknowledgements are: a tick of 100 Hz.
const TICK: Duration = Duration::from_millis(10);

/// The kept connection of a flow.
#[derive(Default)]
pub(super) struct KeptOpen {
    connection: Mutex<Connection>,
}

#[derive(Default)]
enum Connection {
    #[default]
    NotOpened,
    Open(Socket),
    /// It ended; it is not opened again.
    Ended(Cancel),
}

impl KeptOpen {
    /// Whether there is a connection, or was one.
    pub(super) fn was_opened(&self) -> bool {
        match &*self.lock() {
            Connection::NotOpened => false,
            Connection::Open(_) | Connection::Ended(_) => true,
        }
    }

    /// Keeps a connection. Of several that were opened at the same time the first is kept.
    pub(super) fn keep(&self, stream: TcpStream) -> Result<(), Cancel> {
        let socket = stream
            .into_std()
            .map(Socket::from)
            .and_then(|socket| send_keep_alives(&socket).map(|()| socket))
            .map_err(|error| Cancel::fault(FaultReason::Resources, error.to_string()))?;

        let mut connection = self.lock();
        match &*connection {
            Connection::NotOpened => *connection = Connection::Open(socket),
            Connection::Open(_) | Connection::Ended(_) => {}
        }
        Ok(())
    }

    /// Waits until the peer acknowledges the connection; passes [`Stage::Connect`] with the round
    /// trip that the kernel measures.
    pub(super) async fn wait_for_acknowledgement(
        &self,
        limit: Duration,
        trace: &mut Trace,
    ) -> Result<(), Cancel> {
        let started = Instant::now();
        loop {
            let expired = started.elapsed() >= limit;
            if let Some(round_trip_us) = self.acknowledged_since(started, trace)? {
                trace
                    .observation
                    .passed
                    .push((Stage::Connect, round_trip_us));
                return Ok(());
            }
            if expired {
                return Err(Cancel::stop(Stage::Connect, StopCause::Silence));
            }
            sleep(ASKED_EVERY).await;
        }
    }

    /// The round trip, if an acknowledgement arrived after a moment; why the connection ended, if it
    /// did.
    fn acknowledged_since(
        &self,
        moment: Instant,
        trace: &mut Trace,
    ) -> Result<Option<u32>, Cancel> {
        let mut connection = self.lock();
        let socket = match &*connection {
            Connection::Open(socket) => socket,
            Connection::Ended(cancel) => return Err(cancel.clone()),
            Connection::NotOpened => {
                let detail = "there is no connection to ask about".to_owned();
                return Err(Cancel::fault(FaultReason::Defect, detail));
            }
        };

        trace.set_local_port(socket.local_addr().ok().and_then(|local| local.as_socket()));
        if let Some(cancel) = end_of(socket) {
            *connection = Connection::Ended(cancel.clone());
            return Err(cancel);
        }
        let info = TcpInfo::of(socket)
            .map_err(|error| Cancel::fault(FaultReason::Resources, error.to_string()))?;
        Ok((info.last_acknowledgement + TICK < moment.elapsed()).then_some(info.round_trip_us))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn send_keep_alives(socket: &Socket) -> io::Result<()> {
    let keep_alive = TcpKeepalive::new()
        .with_time(KEEP_ALIVE)
        .with_interval(KEEP_ALIVE)
        .with_retries(KEEP_ALIVES);
    socket.set_tcp_keepalive(&keep_alive)
}

/// How the connection ended, if it did: FIN, RST, or an error of the kernel. Bytes of the peer are
/// read and discarded.
fn end_of(mut socket: &Socket) -> Option<Cancel> {
    let mut buffer = [0_u8; 4096];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return Some(Cancel::stop(Stage::Connect, StopCause::Closed)),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                return Some(cancel_on_socket_error(
                    &socket.as_fd(),
                    Stage::Connect,
                    &error,
                ));
            }
        }
    }
}

/// A part of the kernel's `struct tcp_info` (`linux/tcp.h`).
struct TcpInfo {
    /// Time since the last acknowledgement arrived.
    last_acknowledgement: Duration,
    round_trip_us: u32,
}

impl TcpInfo {
    /// Bytes of the structure that are read: up to `tcpi_rtt`.
    const LENGTH: usize = 72;

    /// Offset of `tcpi_last_ack_recv`, milliseconds.
    const LAST_ACK_RECV: usize = 56;

    /// Offset of `tcpi_rtt`, microseconds.
    const RTT: usize = 68;

    #[expect(
        unsafe_code,
        reason = "nix has no TCP_INFO; the kernel writes at most as many bytes as `length` says"
    )]
    fn of(socket: &Socket) -> io::Result<Self> {
        let mut bytes = [0_u8; Self::LENGTH];
        let mut length = Self::LENGTH as libc::socklen_t;
        // SAFETY: the descriptor is open, and `length` is the size of the buffer.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                bytes.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        if (length as usize) < Self::LENGTH {
            return Err(ErrorKind::UnexpectedEof.into());
        }

        Ok(Self {
            last_acknowledgement: Duration::from_millis(number(&bytes, Self::LAST_ACK_RECV).into()),
            round_trip_us: number(&bytes, Self::RTT),
        })
    }
}

/// The number of 32 bits at an offset.
fn number(bytes: &[u8; TcpInfo::LENGTH], offset: usize) -> u32 {
    let mut number = [0_u8; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_ne_bytes(number)
}
