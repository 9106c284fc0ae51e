//! Detection of a client's protocol by its first bytes, and a stream that returns them again.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Beginnings of an HTTP/1 request.
const METHODS: [&[u8]; 9] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"TRACE ",
    b"CONNECT ",
];

/// Preface of HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Protocol of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// TLS, by a handshake record (RFC 8446 §5.1).
    Tls,
    /// HTTP/1, by a request line.
    Http1,
    /// HTTP/2, with prior knowledge or negotiated.
    Http2,
    Other,
}

/// The protocol that begins with these bytes; `None` if more must be read.
fn protocol(bytes: &[u8]) -> Option<Protocol> {
    if bytes.is_empty() {
        return None;
    }
    if b"\x16\x03".starts_with(&bytes[..bytes.len().min(2)]) {
        return (bytes.len() >= 2).then_some(Protocol::Tls);
    }

    if METHODS.iter().any(|method| bytes.starts_with(method)) {
        Some(Protocol::Http1)
    } else if bytes.starts_with(PREFACE) {
        Some(Protocol::Http2)
    } else if PREFACE.starts_with(bytes) || METHODS.iter().any(|method| method.starts_with(bytes)) {
        None
    } else {
        Some(Protocol::Other)
    }
}

/// Reads until the client's protocol is known; `None` if it closes without a byte.
pub(crate) async fn detect<S: AsyncRead + Unpin>(
    mut inner: S,
) -> io::Result<Option<(Protocol, PrefixedStream<S>)>> {
    let mut prefix = Vec::new();
    let mut buffer = [0_u8; 2048];
    loop {
        let read = inner.read(&mut buffer).await?;
        prefix.extend_from_slice(&buffer[..read]);
        let protocol = match protocol(&prefix) {
            Some(protocol) => protocol,
            None if read > 0 => continue,
            None if prefix.is_empty() => return Ok(None),
            None => Protocol::Other,
        };

        let stream = PrefixedStream {
            prefix,
            returned: 0,
            inner,
        };
        return Ok(Some((protocol, stream)));
    }
}

/// A stream that first returns the bytes that were read of it before.
pub(crate) struct PrefixedStream<S> {
    prefix: Vec<u8>,
    /// Bytes of the prefix that were returned.
    returned: usize,
    inner: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for PrefixedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.prefix[self.returned..];
        if rest.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }

        let n = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..n]);
        self.returned += n;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PrefixedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    // Delegated, since a TLS server that fails writes once: the default implementation, which
    // writes only the first buffer, would lose the alert behind a ServerHello.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_is_detected_by_the_first_bytes() {
        for (bytes, expected) in [
            (&b""[..], None),
            (b"\x16", None),
            (b"\x16\x03\x01", Some(Protocol::Tls)),
            (b"\x16\x04", Some(Protocol::Other)),
            (b"GE", None),
            (b"GET /", Some(Protocol::Http1)),
            (b"P", None),
            (b"PRI * HTTP/2.0\r\n", None),
            (PREFACE, Some(Protocol::Http2)),
            (b"watertight/1 a\n", Some(Protocol::Other)),
            (b"\n", Some(Protocol::Other)),
        ] {
            assert_eq!(protocol(bytes), expected, "{bytes:?}");
        }
    }
}
