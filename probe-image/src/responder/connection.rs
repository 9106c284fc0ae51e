//! A TCP listener and its connections.

use super::MAX_ANSWER;
use super::control::{Behaviour, Listen, Reply};
use super::first_bytes::{Protocol, wait};
use super::listeners::Zone;
use super::tls::acceptor;
use super::{dns, http};
use crate::probe::{MAGIC, answer};
use crate::text::{from_hex, printable};
use hyper::StatusCode;
use hyper::header::HeaderValue;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// How long a client may take for its first bytes, and for the whole of a question.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a client is read on after our FIN, so that no unread byte turns it into an RST.
const DRAIN: Duration = Duration::from_secs(1);

/// What a flood is made of.
static BLOCK: [u8; 16 * 1024] = [b'A'; 16 * 1024];

/// What a listener needs to know for each connection.
pub(crate) struct Listener {
    pub(crate) who: String,
    pub(crate) behaviour: Does,
    pub(crate) zone: Zone,
    pub(crate) port: u16,
    /// Told of each connection and each datagram.
    pub(crate) visited: Arc<Notify>,
    tls: Option<TlsAcceptor>,
}

/// A behaviour with its parameters read.
pub(crate) enum Does {
    /// As [`Behaviour::Answer`].
    Answer,
    /// As [`Behaviour::Dns`].
    Dns,
    /// As [`Behaviour::Mute`].
    Mute,
    /// As [`Behaviour::HangUp`].
    HangUp,
    /// As [`Behaviour::Flood`].
    Flood,
    /// As [`Behaviour::Drip`].
    Drip,
    /// As [`Behaviour::Redirect`].
    Redirect,
    /// As [`Behaviour::Raw`].
    Raw(Vec<u8>),
    /// As [`Behaviour::Status`].
    Status {
        /// The status.
        status: StatusCode,
        /// The body.
        body: String,
        /// The `server` header.
        server: HeaderValue,
    },
}

impl Listener {
    /// Reads what `listen` says.
    pub(crate) fn new(who: &str, listen: &Listen, zone: Zone) -> Result<Self, Reply> {
        let failed = |what: &str| Reply::Failed {
            what: format!("serving {}: {what}", listen.address),
            errno: 0,
        };
        let behaviour = match &listen.behaviour {
            Behaviour::Answer => Does::Answer,
            Behaviour::Dns => Does::Dns,
            Behaviour::Mute => Does::Mute,
            Behaviour::HangUp => Does::HangUp,
            Behaviour::Flood => Does::Flood,
            Behaviour::Drip => Does::Drip,
            Behaviour::Redirect => Does::Redirect,
            Behaviour::Raw(hex) => {
                Does::Raw(from_hex(hex).ok_or_else(|| failed("bytes that are not hexadecimal"))?)
            }
            Behaviour::Status(status, body, server) => Does::Status {
                status: StatusCode::from_u16(*status)
                    .map_err(|_| failed("a status that is none"))?,
                body: body.clone(),
                server: HeaderValue::try_from(server)
                    .map_err(|_| failed("a server header that is none"))?,
            },
        };
        Ok(Self {
            who: printable(who, 200),
            behaviour,
            zone,
            port: listen.address.port(),
            visited: Arc::default(),
            tls: listen.certificate.as_ref().map(acceptor).transpose()?,
        })
    }
}

/// Accepts until `closed`, then ends every connection. The number of connections is not capped.
pub(crate) async fn accept(
    socket: TcpListener,
    listener: Arc<Listener>,
    mut closed: oneshot::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut closed => break,
            Some(_) = connections.join_next() => {}
            accepted = socket.accept() => match accepted {
                Ok((stream, _)) => {
                    listener.visited.notify_one();
                    let listener = Arc::clone(&listener);
                    // How a client ends its connection is its own affair.
                    connections.spawn(async move { drop(serve(stream, &listener).await) });
                }
                // Out of descriptors, or a client that was gone already: the next may do better.
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }
    drop(socket);
    connections.shutdown().await;
}

async fn serve(mut stream: TcpStream, listener: &Arc<Listener>) -> io::Result<()> {
    match listener.behaviour {
        Does::Mute => {
            let mut buffer = [0_u8; 4096];
            while stream.read(&mut buffer).await? > 0 {}
            // Silent to the end: the client's FIN gets no answer of ours but the close.
            Ok(())
        }
        Does::HangUp => close(stream).await,
        Does::Dns => dns::serve(&mut stream, &listener.zone).await,
        _ => {
            let Ok(first) = timeout(PATIENCE, wait(stream)).await else {
                return Ok(());
            };
            let Some((protocol, stream)) = first? else {
                return Ok(());
            };
            match (protocol, &listener.tls, &listener.behaviour) {
                // These say what they say to any first bytes, a ClientHello too.
                (_, _, Does::Raw(_)) | (Protocol::Tls, None, Does::Flood | Does::Drip) => {
                    speak(protocol, stream, listener, false).await
                }
                (Protocol::Tls, None, _) => close(stream).await,
                (Protocol::Tls, Some(tls), _) => {
                    let Ok(secured) = timeout(PATIENCE, tls.accept(stream)).await else {
                        return Ok(());
                    };
                    let Ok(first) = timeout(PATIENCE, wait(secured?)).await else {
                        return Ok(());
                    };
                    let Some((protocol, stream)) = first? else {
                        return Ok(());
                    };
                    speak(protocol, stream, listener, true).await
                }
                (_, _, _) => speak(protocol, stream, listener, false).await,
            }
        }
    }
}

async fn speak<S>(
    protocol: Protocol,
    mut stream: S,
    listener: &Arc<Listener>,
    secure: bool,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let http = matches!(protocol, Protocol::Http1 | Protocol::Http2);
    match &listener.behaviour {
        Does::Raw(bytes) => stream.write_all(bytes).await?,
        Does::Flood => flood(&mut stream, protocol).await?,
        Does::Drip => drip(&mut stream).await?,
        Does::Answer | Does::Redirect | Does::Status { .. } if http => {
            return http::serve(stream, protocol, Arc::clone(listener), secure).await;
        }
        Does::Answer if listener.port == 53 => dns::serve(&mut stream, &listener.zone).await?,
        Does::Answer => {
            let question = question(&mut stream).await?;
            stream.write_all(&echo(&question, &listener.who)).await?;
        }
        // To other bytes these have nothing to say.
        Does::Redirect | Does::Status { .. } | Does::Dns | Does::Mute | Does::HangUp => {}
    }
    close(stream).await
}

/// A line, or as much as comes before the client's FIN, at most [`MAX_ANSWER`].
async fn question(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut question = Vec::new();
    let mut buffer = [0_u8; 1024];
    let read = async {
        while question.len() < MAX_ANSWER && !question.contains(&b'\n') {
            match stream.read(&mut buffer).await? {
                0 => break,
                n => question.extend_from_slice(&buffer[..n]),
            }
            if !MAGIC
                .as_bytes()
                .starts_with(&question[..question.len().min(MAGIC.len())])
            {
                // Not our words: no newline need ever come.
                break;
            }
        }
        io::Result::Ok(())
    };
    // What came is answered, complete or not.
    timeout(PATIENCE, read).await.unwrap_or(Ok(()))?;
    Ok(question)
}

/// The answer to a question: its nonce and who we are; to other bytes the same without a nonce,
/// then the bytes.
pub(crate) fn echo(question: &[u8], who: &str) -> Vec<u8> {
    let nonce = std::str::from_utf8(question)
        .ok()
        .and_then(|text| text.trim_end().strip_prefix(MAGIC)?.strip_prefix(' '))
        .filter(|nonce| {
            !nonce.is_empty() && nonce.len() <= 128 && nonce.bytes().all(|b| b.is_ascii_hexdigit())
        });
    let mut bytes = answer(nonce.unwrap_or("-"), who).into_bytes();
    if nonce.is_none() {
        bytes.extend_from_slice(question);
    }
    bytes.truncate(MAX_ANSWER);
    bytes
}

async fn flood(stream: &mut (impl AsyncWrite + Unpin), protocol: Protocol) -> io::Result<()> {
    if protocol == Protocol::Http1 {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
            .await?;
    }
    loop {
        stream.write_all(&BLOCK).await?;
    }
}

async fn drip(stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    for byte in b"HTTP/1.1 200 OK\r\n"
        .iter()
        .chain(b"x-drip: drip\r\n".iter().cycle())
    {
        stream.write_all(&[*byte]).await?;
        stream.flush().await?;
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Ends with FIN, never with RST: reads what the client still sends.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    stream.shutdown().await?;
    let mut buffer = [0_u8; 4096];
    let drain = async {
        while stream.read(&mut buffer).await? > 0 {}
        io::Result::Ok(())
    };
    timeout(DRAIN, drain).await.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_bounded_and_says_who() {
        assert_eq!(
            echo(b"watertight/1 ab12\n", "web"),
            b"watertight/1 ab12 web\n"
        );
        assert_eq!(echo(b"hello", "web"), b"watertight/1 - web\nhello");
        assert_eq!(echo(&[b'x'; 10_000], "web").len(), MAX_ANSWER);
    }
}
