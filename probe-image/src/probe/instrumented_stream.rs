//! A stream under hyper: when its first byte came, which ICMP message ended it, and how much it may
//! bring.

use super::errqueue;
use crate::wire::Icmp;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Bytes that are read for one answer, whatever they are: interim responses (RFC 9110 §15.2) may
/// come without end.
const MAX_READ: usize = 2 * 1024 * 1024;

/// Bytes after which a connection lets the other flows of this thread have their turn.
pub(crate) const TURN: usize = 32 * 1024;

/// What is noticed on a stream that hyper owns.
#[derive(Default)]
pub(crate) struct Watch {
    /// When the first byte came.
    pub(crate) first: OnceLock<Instant>,
    /// The ICMP message behind an error.
    pub(crate) icmp: OnceLock<Icmp>,
}

/// A stream that notes what happens on it, and reads no more than is good for anyone.
pub(crate) struct Watched<S> {
    inner: S,
    watch: Arc<Watch>,
    read: usize,
    turn: usize,
}

impl<S> Watched<S> {
    /// Watches `inner`; what is noticed is shared.
    pub(crate) fn new(inner: S) -> (Self, Arc<Watch>) {
        let watch = Arc::new(Watch::default());
        let watched = Self {
            inner,
            watch: Arc::clone(&watch),
            read: 0,
            turn: 0,
        };
        (watched, watch)
    }
}

/// A stream whose error queue can be read.
pub(crate) trait Queue {
    fn queue(&self) -> Option<Icmp>;
}

impl Queue for TcpStream {
    fn queue(&self) -> Option<Icmp> {
        errqueue::icmp(self)
    }
}

impl Queue for tokio_rustls::client::TlsStream<TcpStream> {
    fn queue(&self) -> Option<Icmp> {
        errqueue::icmp(self.get_ref().0)
    }
}

impl<S: Queue> Watched<S> {
    fn note<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(_)) = &polled
            && let Some(icmp) = self.inner.queue()
        {
            self.watch.icmp.get_or_init(|| icmp);
        }
        polled
    }
}

impl<S: AsyncRead + Queue + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.turn >= TURN {
            self.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.read >= MAX_READ {
            return Poll::Ready(Err(io::Error::other("more than 2 MiB for one answer")));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if read > 0 {
            self.watch.first.get_or_init(Instant::now);
            self.read += read;
            self.turn += read;
        }
        self.note(polled)
    }
}

impl<S: AsyncWrite + Queue + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.note(polled)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
