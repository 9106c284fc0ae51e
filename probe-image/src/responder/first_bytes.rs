//! What a connection is, by its first bytes; and a stream that gives them back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Methods by which HTTP/1 is known.
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

/// HTTP/2's preface (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// A handshake record of TLS (RFC 8446 §5.1).
    Tls,
    /// A request line.
    Http1,
    /// HTTP/2 with prior knowledge, or negotiated.
    Http2,
    /// Anything else.
    Other,
}

/// What these bytes begin; `None` when more must be read.
fn protocol(bytes: &[u8]) -> Option<Protocol> {
    if bytes.is_empty() {
        return None;
    }
    if b"\x16\x03".starts_with(&bytes[..bytes.len().min(2)]) {
        return (bytes.len() >= 2).then_some(Protocol::Tls);
    }
    let begins = |whole: &[u8]| bytes.starts_with(whole);
    let may_become = |whole: &[u8]| whole.starts_with(bytes);
    if METHODS.iter().any(|method| begins(method)) {
        Some(Protocol::Http1)
    } else if begins(PREFACE) {
        Some(Protocol::Http2)
    } else if may_become(PREFACE) || METHODS.iter().any(|method| may_become(method)) {
        None
    } else {
        Some(Protocol::Other)
    }
}

/// Reads until it is clear what the client speaks; `None` when it closed without a byte.
pub(crate) async fn wait<S: AsyncRead + Unpin>(
    mut inner: S,
) -> io::Result<Option<(Protocol, Rewound<S>)>> {
    let mut head = Vec::new();
    let mut buffer = [0_u8; 2048];
    loop {
        let read = inner.read(&mut buffer).await?;
        head.extend_from_slice(&buffer[..read]);
        let protocol = match protocol(&head) {
            None if read == 0 && head.is_empty() => return Ok(None),
            None if read == 0 => Protocol::Other,
            None => continue,
            Some(protocol) => protocol,
        };
        return Ok(Some((
            protocol,
            Rewound {
                head,
                given: 0,
                inner,
            },
        )));
    }
}

/// A stream that gives what was read of it once more.
pub(crate) struct Rewound<S> {
    head: Vec<u8>,
    given: usize,
    inner: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.head[self.given..];
        if rest.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let n = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..n]);
        self.given += n;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }
    // Passed on, since a TLS server gets one write for its last words: with the default, which
    // writes the first buffer alone, the alert behind a ServerHello is lost.
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
    fn first_bytes_tell_the_protocol() {
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
