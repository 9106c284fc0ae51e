//! A stream for hyper that records when its first byte came and which ICMP message ended it, and
//! that limits how much is read.

use super::errqueue;
use crate::wire::Icmp;
use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Maximum bytes read for one answer: interim responses (RFC 9110 §15.2) may come without end.
const MAX_READ: usize = 2 * 1024 * 1024;

/// Bytes after which a stream yields to the other attempts of this thread.
pub(crate) const YIELD_AFTER: usize = 32 * 1024;

/// The peer sent more than [`MAX_READ`] for one answer.
#[derive(Debug)]
pub(crate) struct TooMuchRead;

impl fmt::Display for TooMuchRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more than 2 MiB for one answer")
    }
}

impl Error for TooMuchRead {}

/// What was recorded of a stream that hyper owns.
#[derive(Default)]
pub(crate) struct StreamRecord {
    /// When the first byte came.
    pub(crate) first_byte: OnceLock<Instant>,
    /// The ICMP message behind an error.
    pub(crate) icmp: OnceLock<Icmp>,
}

/// A stream with a record and limits.
pub(crate) struct InstrumentedStream<S> {
    inner: S,
    record: Arc<StreamRecord>,
    /// Bytes read.
    read: usize,
    /// Bytes read since the stream last yielded.
    read_since_yield: usize,
}

impl<S> InstrumentedStream<S> {
    /// Wraps `inner` and returns the record with it.
    pub(crate) fn new(inner: S) -> (Self, Arc<StreamRecord>) {
        let record = Arc::new(StreamRecord::default());
        let stream = Self {
            inner,
            record: Arc::clone(&record),
            read: 0,
            read_since_yield: 0,
        };
        (stream, record)
    }
}

/// A stream whose socket has an error queue.
pub(crate) trait ErrorQueue {
    /// Takes the first ICMP message out of the queue.
    fn take_icmp(&self) -> Option<Icmp>;
}

impl ErrorQueue for TcpStream {
    fn take_icmp(&self) -> Option<Icmp> {
        errqueue::icmp(self)
    }
}

impl ErrorQueue for tokio_rustls::client::TlsStream<TcpStream> {
    fn take_icmp(&self) -> Option<Icmp> {
        errqueue::icmp(self.get_ref().0)
    }
}

impl<S: ErrorQueue> InstrumentedStream<S> {
    /// Records the ICMP message behind an error.
    fn record_error<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(_)) = &polled
            && let Some(icmp) = self.inner.take_icmp()
        {
            self.record.icmp.get_or_init(|| icmp);
        }
        polled
    }
}

impl<S: AsyncRead + ErrorQueue + Unpin> AsyncRead for InstrumentedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read_since_yield >= YIELD_AFTER {
            self.read_since_yield = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.read >= MAX_READ {
            return Poll::Ready(Err(io::Error::other(TooMuchRead)));
        }

        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if read > 0 {
            self.record.first_byte.get_or_init(Instant::now);
            self.read += read;
            self.read_since_yield += read;
        }
        self.record_error(polled)
    }
}

impl<S: AsyncWrite + ErrorQueue + Unpin> AsyncWrite for InstrumentedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.record_error(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
