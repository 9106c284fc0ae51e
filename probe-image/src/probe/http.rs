//! HTTP/1.1 and HTTP/2: one exchange over a new connection. Redirects are not followed.
//!
//! Every request carries the header `x-watertight-nonce`. Other servers ignore it; our responder
//! returns it in `x-watertight-answer: NONCE NAME`.
//!
//! Time and memory are limited whatever the peer sends: one deadline for the whole exchange, 32 KiB
//! of headers, 1 MB of body of which at most 64 KiB are kept, 2 MiB in all.
//!
//! What the target says is searched here and goes no further: the report has the status, whether
//! the answer is a known denial or matches the plan's pattern, and the length and digest of its
//! body.

use super::denial::known_denial;
use super::instrumented_stream::{InstrumentedStream, StreamRecord, TooMuchRead, YIELD_AFTER};
use super::pattern::Pattern;
use super::{Cancel, OpenConnection, Trace, answer, tls};
use crate::secrets::Secrets;
use crate::text::{printable, short_digest};
use crate::wire::{self, FaultReason, HttpFacts, Icmp, RequestText, Stage, StopCause};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::http::response;
use hyper::{Method, Request, Response, Uri, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha2::{Digest, Sha256};
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// Request header with the nonce.
pub(crate) const NONCE: HeaderName = HeaderName::from_static("x-watertight-nonce");

/// Response header of our responder: `NONCE NAME`.
pub(crate) const ANSWER: HeaderName = HeaderName::from_static("x-watertight-answer");

/// Maximum bytes of a body that are read.
const MAX_BODY: u64 = 1_000_000;

/// Bytes of a body that are kept to recognise a known denial.
const MAX_KEPT: usize = 1024;

/// Maximum bytes of a response's headers (HTTP/2).
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// Maximum number of a response's headers (HTTP/1).
const MAX_HEADERS: usize = 256;

/// A request whose parameters are checked. Without `Debug`, since it may hold secrets.
pub(crate) struct Prepared {
    method: Method,
    path: Uri,
    absolute: Uri,
    authority: HeaderValue,
    headers: HeaderMap,
    body: Bytes,
    h2: bool,
    pattern: Option<Pattern>,
    pub(crate) tls: Option<tls::Parameters>,
}

impl Prepared {
    /// Checks a request. `run` becomes part of the `User-Agent`.
    pub(crate) fn new(http: &wire::Http, run: &str, secrets: &Secrets) -> Result<Self, String> {
        if !http.path.starts_with('/') {
            return Err(format!(
                "the path {:?} does not begin with a slash",
                http.path
            ));
        }

        let scheme = if http.tls.is_some() { "https" } else { "http" };
        let absolute = format!("{scheme}://{}{}", http.authority, http.path);
        Ok(Self {
            method: Method::from_bytes(http.method.as_bytes())
                .map_err(|_| format!("{:?} is no method", http.method))?,
            path: parse_uri(&http.path)?,
            absolute: parse_uri(&absolute)?,
            authority: HeaderValue::try_from(&http.authority)
                .map_err(|_| "the authority is no header value")?,
            headers: header_map(&http.headers, run, secrets)?,
            body: match &http.body {
                Some(body) => Bytes::copy_from_slice(secrets.text(body)?.as_bytes()),
                None => Bytes::new(),
            },
            h2: http.h2,
            pattern: http.pattern.as_deref().map(Pattern::new).transpose()?,
            tls: http.tls.as_ref().map(tls::Parameters::new).transpose()?,
        })
    }

    /// Bytes of an answer's body to keep.
    fn kept(&self) -> usize {
        let searched = self.pattern.as_ref().map_or(0, Pattern::searched);
        searched.max(MAX_KEPT)
    }

    fn request(&self, version: Version, nonce: &str) -> Result<Request<Full<Bytes>>, Cancel> {
        let nonce = HeaderValue::try_from(nonce)
            .map_err(|e| Cancel::fault(FaultReason::Defect, format!("building a request: {e}")))?;

        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        let headers = request.headers_mut();
        if version == Version::HTTP_11 && !self.headers.contains_key(HOST) {
            headers.insert(HOST, self.authority.clone());
        }
        headers.extend(self.headers.clone());
        headers.insert(NONCE, nonce);
        *request.uri_mut() = if version == Version::HTTP_2 {
            self.absolute.clone()
        } else {
            self.path.clone()
        };
        Ok(request)
    }

    /// HTTP/2 if TLS negotiated it, or if nothing was negotiated and the plan sets `h2`.
    fn version(&self, alpn: Option<&[u8]>) -> Version {
        match alpn {
            Some(b"h2") => Version::HTTP_2,
            None if self.h2 => Version::HTTP_2,
            _ => Version::HTTP_11,
        }
    }
}

fn parse_uri(text: &str) -> Result<Uri, String> {
    text.parse::<Uri>()
        .map_err(|e| format!("{text:?} is no URI: {e}"))
}

/// The plan's headers and the `User-Agent`, which a header of the plan replaces.
fn header_map(
    plan_headers: &[(String, RequestText)],
    run: &str,
    secrets: &Secrets,
) -> Result<HeaderMap, String> {
    let agent = format!(
        "watertight/{} ({})",
        env!("CARGO_PKG_VERSION"),
        printable(run, 100)
    );
    let agent = HeaderValue::try_from(agent).map_err(|e| format!("the run's id: {e}"))?;

    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, agent);
    for (name, value) in plan_headers {
        let header =
            HeaderName::try_from(name).map_err(|_| format!("{name:?} is no header name"))?;
        let mut value = HeaderValue::try_from(secrets.text(value)?)
            .map_err(|_| format!("no value for the header {name}"))?;
        // Kept out of the tables of HTTP/2's compression.
        value.set_sensitive(true);
        if header == USER_AGENT {
            headers.insert(header, value);
        } else {
            headers.append(header, value);
        }
    }
    Ok(headers)
}

/// Makes one exchange over cleartext TCP; passes [`Stage::FirstBytes`] and, once the head of a
/// response arrived, [`Stage::Request`].
pub(crate) async fn over_tcp(
    stream: TcpStream,
    prepared: &Prepared,
    nonce: &str,
    limit: Duration,
    trace: &mut Trace,
    open: &mut Option<OpenConnection>,
) -> Result<(), Cancel> {
    trace.check_not_reset(Stage::FirstBytes)?;

    let started = Instant::now();
    let version = prepared.version(None);
    let (stream, record) = InstrumentedStream::new(stream);
    let result = exchange(stream, version, prepared, nonce, started + limit, open).await;

    let stage = match record.first_byte.get() {
        None => Stage::FirstBytes,
        Some(at) => {
            let us = at.saturating_duration_since(started).as_micros();
            let us = u32::try_from(us).unwrap_or(u32::MAX);
            trace.observation.passed.push((Stage::FirstBytes, us));
            Stage::Request
        }
    };
    record_result(result, stage, &record, started, trace)
}

/// Makes one exchange over TLS; passes [`Stage::Request`] once the head of a response arrived.
pub(crate) async fn over_tls(
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    prepared: &Prepared,
    nonce: &str,
    limit: Duration,
    trace: &mut Trace,
    open: &mut Option<OpenConnection>,
) -> Result<(), Cancel> {
    let started = Instant::now();
    let version = prepared.version(stream.get_ref().1.alpn_protocol());
    let (stream, record) = InstrumentedStream::new(stream);
    let result = exchange(stream, version, prepared, nonce, started + limit, open).await;
    record_result(result, Stage::Request, &record, started, trace)
}

/// Records the result of an exchange that would have passed `stage` next.
fn record_result(
    result: Result<Exchange, ExchangeError>,
    stage: Stage,
    record: &StreamRecord,
    started: Instant,
    trace: &mut Trace,
) -> Result<(), Cancel> {
    match result {
        Ok(Exchange { http, answer }) => {
            trace.pass(Stage::Request, started);
            trace.observation.http = Some(Box::new(http));
            trace.observation.answer = answer;
            Ok(())
        }
        Err(ExchangeError::Timeout) => Err(Cancel::stop(stage, StopCause::Silence)),
        Err(ExchangeError::Hyper(error)) => {
            let how = stop_cause(&error, record.icmp.get().copied());
            Err(Cancel::stop(stage, how))
        }
        Err(ExchangeError::Cancel(cancel)) => Err(cancel),
    }
}

/// A completed exchange.
struct Exchange {
    http: HttpFacts,
    answer: Option<wire::Answer>,
}

/// Why there was no response.
enum ExchangeError {
    Timeout,
    Hyper(hyper::Error),
    Cancel(Cancel),
}

/// Sends the request and reads the response to the end of its body, the limit, or the deadline.
/// Once there is a head the request is answered, however the body ends.
async fn exchange<S: Connection>(
    stream: S,
    version: Version,
    prepared: &Prepared,
    nonce: &str,
    deadline: Instant,
    open: &mut Option<OpenConnection>,
) -> Result<Exchange, ExchangeError> {
    let request = prepared
        .request(version, nonce)
        .map_err(ExchangeError::Cancel)?;
    let handshake = timeout_at(deadline, send(stream, version, request));
    let (response, mut driver) = handshake
        .await
        .map_err(|_| ExchangeError::Timeout)?
        .map_err(ExchangeError::Hyper)?;

    let result = timeout_at(deadline, driver.drive(response)).await;
    let response = match result.map_err(|_| ExchangeError::Timeout)? {
        Ok(response) => response,
        // The request's error says only that the connection is gone; the connection's says why.
        Err(error) if error.is_canceled() || error.is_closed() => {
            return Err(ExchangeError::Hyper(driver.error.unwrap_or(error)));
        }
        Err(error) => return Err(ExchangeError::Hyper(error)),
    };

    let (head, incoming) = response.into_parts();
    let mut body = Body::keeping(prepared.kept());
    // An error or timeout here only shortens the body.
    let _ = timeout_at(deadline, driver.drive(body.read(incoming))).await;

    let answer = head
        .headers
        .get(ANSWER)
        .and_then(|value| answer::parse_words(value.to_str().ok()?, nonce));
    let http = facts(&head, &body, prepared.pattern.as_ref());
    *open = driver.running.map(OpenConnection::Http);
    Ok(Exchange { http, answer })
}

/// Does hyper's handshake on a stream and sends the request. Returns the response to come, and the
/// driver of the connection.
async fn send<S: Connection>(
    stream: S,
    version: Version,
    request: Request<Full<Bytes>>,
) -> hyper::Result<(ResponseFuture, Driver)> {
    let io = TokioIo::new(stream);
    if version == Version::HTTP_2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .max_header_list_size(MAX_HEADER_BYTES as u32)
            .max_concurrent_reset_streams(1);
        let (mut sender, connection) = builder.handshake(io).await?;
        let response = Box::pin(async move { sender.send_request(request).await });
        return Ok((response, Driver::new(connection)));
    }

    let mut builder = http1::Builder::new();
    // An exact size, since hyper handles all that one read returns before it yields.
    builder
        .read_buf_exact_size(Some(YIELD_AFTER))
        .max_headers(MAX_HEADERS);
    let (mut sender, connection) = builder.handshake(io).await?;
    let response = Box::pin(async move { sender.send_request(request).await });
    Ok((response, Driver::new(connection)))
}

/// The traits that hyper requires of a stream.
trait Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection for T {}

type ResponseFuture = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

/// The future of a connection, which must be polled together with each exchange on it.
struct Driver {
    /// `None` once the connection has ended.
    running: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    error: Option<hyper::Error>,
}

impl Driver {
    fn new(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) -> Self {
        Self {
            running: Some(Box::pin(connection)),
            error: None,
        }
    }

    /// Polls the connection until `exchange` is done.
    async fn drive<T>(&mut self, exchange: impl Future<Output = T>) -> T {
        tokio::pin!(exchange);
        poll_fn(|cx| {
            if let Some(running) = &mut self.running
                && let Poll::Ready(result) = running.as_mut().poll(cx)
            {
                self.running = None;
                self.error = result.err();
            }
            exchange.as_mut().poll(cx)
        })
        .await
    }
}

/// A body as far as it was read.
struct Body {
    start: Vec<u8>,
    /// Bytes of the start that are kept.
    kept: usize,
    bytes: u64,
    hash: Sha256,
}

impl Body {
    fn keeping(kept: usize) -> Self {
        Self {
            start: Vec::new(),
            kept,
            bytes: 0,
            hash: Sha256::new(),
        }
    }

    async fn read(&mut self, mut incoming: Incoming) {
        while let Some(Ok(frame)) = incoming.frame().await {
            let Some(data) = frame.data_ref() else {
                continue;
            };
            let remaining = usize::try_from(MAX_BODY - self.bytes).unwrap_or(0);
            let data = &data[..data.len().min(remaining)];
            self.bytes += data.len() as u64;
            self.hash.update(data);
            let room = self.kept - self.start.len();
            self.start.extend_from_slice(&data[..data.len().min(room)]);

            if self.bytes >= MAX_BODY {
                return;
            }
        }
    }
}

fn facts(head: &response::Parts, body: &Body, pattern: Option<&Pattern>) -> HttpFacts {
    let status = head.status.as_u16();
    HttpFacts {
        version: if head.version == Version::HTTP_2 {
            "HTTP/2.0".into()
        } else {
            format!("{:?}", head.version)
        },
        status,
        denial: known_denial(status, &head.headers, &body.start, body.bytes),
        matched: pattern.map(|pattern| pattern.matches(status, &head.headers, &body.start)),
        body_bytes: body.bytes,
        body_digest: short_digest(&body.hash.clone().finalize()),
    }
}

/// Classifies an error of hyper's.
fn stop_cause(error: &hyper::Error, icmp: Option<Icmp>) -> StopCause {
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            if let Some(cause) = tls::stop_cause(io) {
                return cause;
            }
            if let Some(errno) = io.raw_os_error() {
                return StopCause::Error { errno, icmp };
            }
        }
        source = inner.source();
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return StopCause::Closed;
    }

    StopCause::Garbled {
        what: printable(&garbled_text(error), 200),
    }
}

/// What is wrong with an answer, in the words of the HTTP library or of the stream's limits: never
/// in those of the peer, which an HTTP/2 error may quote.
fn garbled_text(error: &hyper::Error) -> String {
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = source {
        let of_the_stream = inner
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        if let Some(limit) = of_the_stream.filter(|inner| inner.is::<TooMuchRead>()) {
            return format!("{error}: {limit}");
        }
        source = inner.source();
    }
    error.to_string()
}
