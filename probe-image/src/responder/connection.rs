//! A TCP listener and its connections.

use super::MAX_ANSWER;
use super::control::{Behaviour, Listen, Reply};
use super::first_bytes::{PrefixedStream, Protocol, detect};
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

/// How long a client may take for its first bytes, and for a whole question.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a client is read after our FIN, so that no unread byte turns the close into an RST.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Block of bytes that a flooding listener repeats.
static BLOCK: [u8; 16 * 1024] = [b'A'; 16 * 1024];

/// The settings of a listener, shared by its connections.
pub(crate) struct Listener {
    /// Name of the responder in its answers.
    pub(crate) name: String,
    pub(crate) behaviour: ParsedBehaviour,
    pub(crate) zone: Zone,
    pub(crate) port: u16,
    /// Notified of each connection and each datagram.
    pub(crate) activity: Arc<Notify>,
    tls: Option<TlsAcceptor>,
}

/// A [`Behaviour`] with its parameters parsed.
pub(crate) enum ParsedBehaviour {
    Answer,
    Dns,
    Mute,
    HangUp,
    Flood,
    Drip,
    Redirect,
    Raw(Vec<u8>),
    Status {
        status: StatusCode,
        body: String,
        /// Value of the `server` header.
        server: HeaderValue,
    },
}

impl ParsedBehaviour {
    /// Parses a behaviour; the error says what is wrong with it.
    fn new(behaviour: &Behaviour) -> Result<Self, &'static str> {
        Ok(match behaviour {
            Behaviour::Answer => Self::Answer,
            Behaviour::Dns => Self::Dns,
            Behaviour::Mute => Self::Mute,
            Behaviour::HangUp => Self::HangUp,
            Behaviour::Flood => Self::Flood,
            Behaviour::Drip => Self::Drip,
            Behaviour::Redirect => Self::Redirect,
            Behaviour::Raw(hex) => Self::Raw(from_hex(hex).ok_or("the bytes are not hexadecimal")?),
            Behaviour::Status(status, body, server) => Self::Status {
                status: StatusCode::from_u16(*status).map_err(|_| "the status is invalid")?,
                body: body.clone(),
                server: HeaderValue::try_from(server)
                    .map_err(|_| "the server header is invalid")?,
            },
        })
    }
}

impl Listener {
    /// Parses the settings of a listener.
    pub(crate) fn new(name: &str, listen: &Listen, zone: Zone) -> Result<Self, Reply> {
        let behaviour = ParsedBehaviour::new(&listen.behaviour).map_err(|error| Reply::Failed {
            what: format!("serving {}: {error}", listen.address),
            errno: 0,
        })?;
        Ok(Self {
            name: printable(name, 200),
            behaviour,
            zone,
            port: listen.address.port(),
            activity: Arc::default(),
            tls: listen.certificate.as_ref().map(acceptor).transpose()?,
        })
    }
}

/// Accepts connections until `closed`, then ends them all. Their number is not limited.
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
                    listener.activity.notify_one();
                    let listener = Arc::clone(&listener);
                    // An error here is the client's.
                    connections.spawn(async move { drop(serve(stream, &listener).await) });
                }
                // Out of descriptors, or the client is gone already: the next accept may succeed.
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }
    drop(socket);
    connections.shutdown().await;
}

/// Serves one connection to its end.
async fn serve(mut stream: TcpStream, listener: &Arc<Listener>) -> io::Result<()> {
    match listener.behaviour {
        ParsedBehaviour::Mute => {
            let mut buffer = [0_u8; 4096];
            while stream.read(&mut buffer).await? > 0 {}
            // The stream is dropped here: the client's FIN is answered by a close and no byte.
            return Ok(());
        }
        ParsedBehaviour::HangUp => return close(stream).await,
        ParsedBehaviour::Dns => return dns::serve(&mut stream, &listener.zone).await,
        _ => {}
    }

    let Some((protocol, stream)) = detect_in_time(stream).await? else {
        return Ok(());
    };
    match (protocol, &listener.tls, &listener.behaviour) {
        // These send their bytes after any first bytes, a ClientHello included.
        (_, _, ParsedBehaviour::Raw(_))
        | (Protocol::Tls, None, ParsedBehaviour::Flood | ParsedBehaviour::Drip) => {
            respond(protocol, stream, listener, false).await
        }
        (Protocol::Tls, None, _) => close(stream).await,
        (Protocol::Tls, Some(tls), _) => {
            let Ok(secured) = timeout(CLIENT_TIMEOUT, tls.accept(stream)).await else {
                return Ok(());
            };
            let Some((protocol, stream)) = detect_in_time(secured?).await? else {
                return Ok(());
            };
            respond(protocol, stream, listener, true).await
        }
        (_, _, _) => respond(protocol, stream, listener, false).await,
    }
}

/// Detects the client's protocol; `None` if it closes or times out without a byte.
async fn detect_in_time<S: AsyncRead + Unpin>(
    stream: S,
) -> io::Result<Option<(Protocol, PrefixedStream<S>)>> {
    timeout(CLIENT_TIMEOUT, detect(stream))
        .await
        .unwrap_or(Ok(None))
}

/// Responds to a client whose protocol is known.
async fn respond<S>(
    protocol: Protocol,
    mut stream: S,
    listener: &Arc<Listener>,
    secure: bool,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let is_http = matches!(protocol, Protocol::Http1 | Protocol::Http2);
    match &listener.behaviour {
        ParsedBehaviour::Raw(bytes) => stream.write_all(bytes).await?,
        ParsedBehaviour::Flood => flood(&mut stream, protocol).await?,
        ParsedBehaviour::Drip => drip(&mut stream).await?,
        ParsedBehaviour::Answer | ParsedBehaviour::Redirect | ParsedBehaviour::Status { .. }
            if is_http =>
        {
            return http::serve(stream, protocol, Arc::clone(listener), secure).await;
        }
        ParsedBehaviour::Answer if listener.port == 53 => {
            dns::serve(&mut stream, &listener.zone).await?;
        }
        ParsedBehaviour::Answer => {
            let question = read_question(&mut stream).await?;
            let answer = answer_to(&question, &listener.name);
            stream.write_all(&answer).await?;
        }
        // These send nothing over other protocols than HTTP, or are served before.
        ParsedBehaviour::Redirect
        | ParsedBehaviour::Status { .. }
        | ParsedBehaviour::Dns
        | ParsedBehaviour::Mute
        | ParsedBehaviour::HangUp => {}
    }
    close(stream).await
}

/// Reads a line, or the bytes before the client's FIN, at most [`MAX_ANSWER`].
async fn read_question(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
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
                // Not a question of a probe: a newline may never come.
                break;
            }
        }
        io::Result::Ok(())
    };
    // The question is answered even if it is incomplete.
    timeout(CLIENT_TIMEOUT, read).await.unwrap_or(Ok(()))?;
    Ok(question)
}

/// The answer to a question: its nonce and our name. The answer to other bytes has no nonce and
/// ends with these bytes.
pub(crate) fn answer_to(question: &[u8], name: &str) -> Vec<u8> {
    let nonce = std::str::from_utf8(question)
        .ok()
        .and_then(|text| text.trim_end().strip_prefix(MAGIC)?.strip_prefix(' '))
        .filter(|nonce| {
            !nonce.is_empty() && nonce.len() <= 128 && nonce.bytes().all(|b| b.is_ascii_hexdigit())
        });

    let mut bytes = answer(nonce.unwrap_or("-"), name).into_bytes();
    if nonce.is_none() {
        bytes.extend_from_slice(question);
    }
    bytes.truncate(MAX_ANSWER);
    bytes
}

/// Sends bytes without end, after the head of a response where HTTP/1 was asked.
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

/// Sends an endless response, one byte a second.
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

/// Closes with FIN: half-closes, then reads what the client still sends, since a close with unread
/// bytes is an RST (RFC 2525 §2.17).
async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    stream.shutdown().await?;
    let mut buffer = [0_u8; 4096];
    let drain = async {
        while stream.read(&mut buffer).await? > 0 {}
        io::Result::Ok(())
    };
    timeout(DRAIN_TIMEOUT, drain).await.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_limited_and_has_the_name() {
        assert_eq!(
            answer_to(b"watertight/1 ab12\n", "web"),
            b"watertight/1 ab12 web\n"
        );
        assert_eq!(answer_to(b"hello", "web"), b"watertight/1 - web\nhello");
        assert_eq!(answer_to(&[b'x'; 10_000], "web").len(), MAX_ANSWER);
    }
}
