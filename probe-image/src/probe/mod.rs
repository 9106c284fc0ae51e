//! One attempt of one flow: resolve → connect → first bytes or TLS → request.
//!
//! Stages passed by request: `connect`: connect (and first bytes, if some came unasked); `nonce`:
//! connect, first bytes, request once the answer has our responder's form; `payload`: connect,
//! first bytes; `tls`: connect, tls; `http`: connect, then first bytes or (with TLS) tls, request
//! once a response's head arrived; `dns`: connect (TCP only), first bytes, request once it was
//! answered with what was asked for. UDP has no connect.

mod answer;
mod dns;
mod errqueue;
mod http;
mod instrumented_stream;
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
pub(crate) use prepare::{Common, Prepared, Seen};
pub use same_outcome::same_outcome;
pub(crate) use socket::not_registered;
pub(crate) use tcp_attempt::Attempt;

use crate::wire::{FaultReason, How, Observation, Stage, Stop};
use std::net::SocketAddr;
use std::pin::Pin;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;

/// Why an attempt went no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// By what the network did.
    Stop(Stop),
    /// By our own machinery.
    Fault(FaultReason, String),
}

impl Cancel {
    fn stop(stage: Stage, how: How) -> Self {
        Self::Stop(Stop { stage, how })
    }

    fn fault(reason: FaultReason, detail: String) -> Self {
        Self::Fault(reason, detail)
    }

    /// What an attempt showed that went no further than this.
    pub(crate) fn into_seen(self) -> Seen {
        prepare::finished(Trace::new(), Err(self))
    }
}

/// A connection that is still open when its attempt is over.
pub(crate) enum Open {
    /// TCP alone.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// What is left to do for an HTTP connection.
    Http(Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>),
}

impl Open {
    /// Closes with FIN, within 2 s.
    pub(crate) async fn close(self) {
        match self {
            Self::Plain(stream) => tcp::close(stream).await,
            Self::Tls(stream) => tcp::close(*stream).await,
            // How a connection ends after its request was answered is no part of the attempt.
            Self::Http(ending) => drop(timeout(tcp::DRAIN, ending).await),
        }
    }
}

/// An observation in the making.
#[derive(Debug)]
pub(crate) struct Trace {
    seen: Observation,
    /// The errno of a connection that was reset between its handshake and our first look at it.
    reset_after_handshake: Option<i32>,
}

impl Trace {
    fn new() -> Self {
        Self {
            seen: Observation::default(),
            reset_after_handshake: None,
        }
    }

    fn pass(&mut self, stage: Stage, began: Instant) {
        let took = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
        self.seen.passed.push((stage, took));
    }

    fn local_port(&mut self, local: Option<SocketAddr>) {
        self.seen.local_port = local.map(|local| local.port());
    }
}
