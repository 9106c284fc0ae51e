//! One attempt of one flow: resolve → connect → first bytes or TLS → request.
//!
//! | request | stages |
//! |---|---|
//! | `connect` | connect; first bytes, if the peer sends some |
//! | `nonce` | connect, first bytes; request once the answer has our responder's form |
//! | `payload` | connect, first bytes |
//! | `tls` | connect, tls |
//! | `http` | connect, first bytes (with TLS: tls); request once the head of a response arrived |
//! | `kept_open` | connect: at first the handshake, then each time an acknowledged keep-alive |
//! | `dns` | connect (TCP only), first bytes; request once there is a record of the type asked for |
//!
//! UDP has no connect.

mod answer;
mod denial;
mod dns;
mod errqueue;
mod http;
mod instrumented_stream;
mod kept_open;
mod pattern;
mod prepare;
mod resolve;
mod same_outcome;
mod socket;
mod tcp;
mod tcp_attempt;
mod tls;
mod truncate;
mod udp;

pub(crate) use answer::{MAGIC, answer};
pub(crate) use http::{ANSWER, NONCE};
pub use pattern::expression_error;
pub(crate) use prepare::{Common, Outcome, Prepared};
pub use same_outcome::same_outcome;
pub(crate) use socket::registration_failed;
pub(crate) use tcp_attempt::TcpAttempt;

use crate::wire::{FaultReason, Observation, Stage, Stop, StopCause};
use std::net::SocketAddr;
use std::pin::Pin;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;

/// Why an attempt goes no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// The network did not let it pass a stage.
    Stop(Stop),
    /// Our own machinery failed.
    Fault(FaultReason, String),
}

impl Cancel {
    fn stop(stage: Stage, how: StopCause) -> Self {
        Self::Stop(Stop { stage, how })
    }

    fn fault(reason: FaultReason, detail: String) -> Self {
        Self::Fault(reason, detail)
    }

    /// Outcome of an attempt that was cancelled before its first stage.
    pub(crate) fn into_outcome(self) -> Outcome {
        prepare::outcome_of(Trace::new(), Err(self))
    }
}

/// A connection that is still open at the end of its attempt.
pub(crate) enum OpenConnection {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// The future that drives an HTTP connection.
    Http(Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>),
}

impl OpenConnection {
    /// Closes with FIN, within [`tcp::DRAIN_TIMEOUT`].
    pub(crate) async fn close(self) {
        match self {
            Self::Tcp(stream) => tcp::close(stream).await,
            Self::Tls(stream) => tcp::close(*stream).await,
            // How a connection ends after its request was answered is no part of the attempt.
            Self::Http(driver) => drop(timeout(tcp::DRAIN_TIMEOUT, driver).await),
        }
    }
}

/// The observation of an attempt in progress.
#[derive(Debug)]
pub(crate) struct Trace {
    observation: Observation,
    /// Errno of a connection that was reset after its handshake, before the probe noticed the
    /// handshake.
    reset_after_handshake: Option<i32>,
}

impl Trace {
    fn new() -> Self {
        Self {
            observation: Observation::default(),
            reset_after_handshake: None,
        }
    }

    /// Records a stage as passed now.
    fn pass(&mut self, stage: Stage, started: Instant) {
        let us = u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX);
        self.observation.passed.push((stage, us));
    }

    fn set_local_port(&mut self, local: Option<SocketAddr>) {
        self.observation.local_port = local.map(|local| local.port());
    }

    /// Cancels an attempt whose connection was reset before it could send anything.
    fn check_not_reset(&self, stage: Stage) -> Result<(), Cancel> {
        match self.reset_after_handshake {
            None => Ok(()),
            Some(errno) => Err(Cancel::stop(stage, StopCause::Error { errno, icmp: None })),
        }
    }
}
