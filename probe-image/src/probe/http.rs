//! HTTP/1.1 and HTTP/2: one exchange over a connection of our own. Redirects are not followed.
//!
//! Every request carries `x-watertight-nonce`, also to strangers: it is a header like any other to
//! them, and only our responder, or a proxy before it, can return it in `x-watertight-answer: NONCE
//! WHO`.
//!
//! Time and memory are bounded whatever the other side sends: one deadline for the whole exchange,
//! 32 KiB of headers, 1 MB of body of which 256 bytes are kept, 2 MiB in all.

use super::instrumented_stream::{TURN, Watch, Watched};
use super::{Cancel, Open, Trace, answer, tls};
use crate::text::{hex, printable, printable_bytes};
use crate::wire::{self, How, HttpFacts, Icmp, Stage};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, SERVER, USER_AGENT};
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

/// The request header that carries the nonce.
pub(crate) const NONCE: HeaderName = HeaderName::from_static("x-watertight-nonce");

/// The response header by which our responder answers: `NONCE WHO`.
pub(crate) const ANSWER: HeaderName = HeaderName::from_static("x-watertight-answer");

/// Bytes of a body that are read.
const MAX_BODY: u64 = 1_000_000;

/// Bytes of a body that are kept; a little more is held, so that a nonce at the edge is found
/// whole.
const BODY_START: usize = 256;
const HELD: usize = BODY_START + 64;

/// Bytes and number of a response's headers.
const MAX_HEADER_BYTES: usize = 32 * 1024;
const MAX_HEADERS: usize = 256;

/// Headers, by name or by beginning, that enforcement layers set: Linkerd, Envoy (Istio, Cilium),
/// cloud firewalls.
const MARKS: [&str; 9] = [
    "l5d-",
    "x-envoy-",
    "x-istio-",
    "x-amzn-waf-",
    "x-azure-ref",
    "x-squid-error",
    "cf-mitigated",
    "proxy-authenticate",
    "proxy-status",
];

/// Marks that are told, and the length of each.
const MAX_MARKS: usize = 16;
const MAX_MARK: usize = 60;

/// A request, checked once.
#[derive(Debug)]
pub(crate) struct Prepared {
    method: Method,
    path: Uri,
    absolute: Uri,
    authority: HeaderValue,
    headers: HeaderMap,
    body: Bytes,
    h2: bool,
    /// TLS first, if any.
    pub(crate) tls: Option<tls::Parameters>,
}

impl Prepared {
    /// Checks a request. `run` goes into the `User-Agent`.
    pub(crate) fn new(http: &wire::Http, run: &str) -> Result<Self, String> {
        let scheme = if http.tls.is_some() { "https" } else { "http" };
        let uri = |text: &str| {
            text.parse::<Uri>()
                .map_err(|e| format!("{text:?} is no URI: {e}"))
        };
        if !http.path.starts_with('/') {
            return Err(format!(
                "the path {:?} does not begin with a slash",
                http.path
            ));
        }
        let agent = format!(
            "watertight/{} ({})",
            env!("CARGO_PKG_VERSION"),
            printable(run, 100)
        );
        let mut headers = HeaderMap::new();
        headers.insert(
            USER_AGENT,
            HeaderValue::try_from(agent).map_err(|e| format!("the run's id: {e}"))?,
        );
        for (name, value) in &http.headers {
            let header =
                HeaderName::try_from(name).map_err(|_| format!("{name:?} is no header name"))?;
            let value = HeaderValue::try_from(value)
                .map_err(|_| format!("no value for the header {name}"))?;
            if header == USER_AGENT {
                headers.insert(header, value);
            } else {
                headers.append(header, value);
            }
        }
        Ok(Self {
            method: Method::from_bytes(http.method.as_bytes())
                .map_err(|_| format!("{:?} is no method", http.method))?,
            path: uri(&http.path)?,
            absolute: uri(&format!("{scheme}://{}{}", http.authority, http.path))?,
            authority: HeaderValue::try_from(&http.authority)
                .map_err(|_| "the authority is no header value")?,
            headers,
            body: http.body.clone().unwrap_or_default().into(),
            h2: http.h2,
            tls: http.tls.as_ref().map(tls::Parameters::new).transpose()?,
        })
    }

    fn request(&self, version: Version, nonce: &str) -> Result<Request<Full<Bytes>>, Cancel> {
        let defect = |e: String| {
            Cancel::fault(
                wire::FaultReason::Defect,
                format!("building a request: {e}"),
            )
        };
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        let headers = request.headers_mut();
        if version == Version::HTTP_11 && !self.headers.contains_key(HOST) {
            headers.insert(HOST, self.authority.clone());
        }
        headers.extend(self.headers.clone());
        headers.insert(
            NONCE,
            HeaderValue::try_from(nonce).map_err(|e| defect(e.to_string()))?,
        );
        *request.uri_mut() = if version == Version::HTTP_2 {
            self.absolute.clone()
        } else {
            self.path.clone()
        };
        Ok(request)
    }

    /// HTTP/2 where TLS negotiated it, or where nothing was negotiated and the plan says so.
    fn version(&self, alpn: Option<&[u8]>) -> Version {
        match alpn {
            Some(b"h2") => Version::HTTP_2,
            None if self.h2 => Version::HTTP_2,
            _ => Version::HTTP_11,
        }
    }
}

/// One exchange over plain TCP: passes [`Stage::FirstBytes`] and, once a response's head arrived,
/// [`Stage::Request`].
pub(crate) async fn over_tcp(
    stream: TcpStream,
    prepared: &Prepared,
    nonce: &str,
    limit: Duration,
    trace: &mut Trace,
    open: &mut Option<Open>,
) -> Result<(), Cancel> {
    if let Some(errno) = trace.reset_after_handshake {
        return Err(Cancel::stop(
            Stage::FirstBytes,
            How::Error { errno, icmp: None },
        ));
    }
    let began = Instant::now();
    let (watched, watch) = Watched::new(stream);
    let exchanged = exchange(
        watched,
        prepared.version(None),
        prepared,
        nonce,
        began + limit,
        open,
    )
    .await;
    let early = watch
        .first
        .get()
        .map(|at| at.saturating_duration_since(began));
    if let Some(early) = early {
        trace.seen.passed.push((
            Stage::FirstBytes,
            u32::try_from(early.as_micros()).unwrap_or(u32::MAX),
        ));
    }
    let stage = if early.is_some() {
        Stage::Request
    } else {
        Stage::FirstBytes
    };
    finish(exchanged, stage, &watch, began, trace)
}

/// One exchange over TLS: passes [`Stage::Request`] once a response's head arrived.
pub(crate) async fn over_tls(
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    prepared: &Prepared,
    nonce: &str,
    limit: Duration,
    trace: &mut Trace,
    open: &mut Option<Open>,
) -> Result<(), Cancel> {
    let began = Instant::now();
    let version = prepared.version(stream.get_ref().1.alpn_protocol());
    let (watched, watch) = Watched::new(stream);
    let exchanged = exchange(watched, version, prepared, nonce, began + limit, open).await;
    finish(exchanged, Stage::Request, &watch, began, trace)
}

fn finish(
    exchanged: Result<Exchanged, Failed>,
    stage: Stage,
    watch: &Watch,
    began: Instant,
    trace: &mut Trace,
) -> Result<(), Cancel> {
    match exchanged {
        Ok(Exchanged { http, answer }) => {
            trace.pass(Stage::Request, began);
            trace.seen.http = Some(Box::new(http));
            trace.seen.answer = answer;
            Ok(())
        }
        Err(Failed::Silence) => Err(Cancel::stop(stage, How::Silence)),
        Err(Failed::Hyper(error)) => {
            Err(Cancel::stop(stage, how(&error, watch.icmp.get().copied())))
        }
        Err(Failed::Cancel(halt)) => Err(halt),
    }
}

struct Exchanged {
    http: HttpFacts,
    answer: Option<wire::Answer>,
}

enum Failed {
    Silence,
    Hyper(hyper::Error),
    Cancel(Cancel),
}

/// Drives the connection, and the request over it, to the body's end, its limit, or the deadline.
/// Once there is a head the request was answered, however the body ends.
async fn exchange<S: Connection>(
    stream: S,
    version: Version,
    prepared: &Prepared,
    nonce: &str,
    deadline: Instant,
    open: &mut Option<Open>,
) -> Result<Exchanged, Failed> {
    let request = prepared.request(version, nonce).map_err(Failed::Cancel)?;
    let io = TokioIo::new(stream);
    let (response, mut driver): (ResponseFuture, Driver) = if version == Version::HTTP_2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .max_header_list_size(MAX_HEADER_BYTES as u32)
            .max_concurrent_reset_streams(1);
        let shaken = timeout_at(deadline, builder.handshake(io))
            .await
            .map_err(|_| Failed::Silence)?;
        let (mut sender, connection) = shaken.map_err(Failed::Hyper)?;
        (
            Box::pin(async move { sender.send_request(request).await }),
            Driver::new(connection),
        )
    } else {
        let mut builder = http1::Builder::new();
        // Exact, since hyper handles all that one read brings before it lets anyone else have a
        // turn.
        builder
            .read_buf_exact_size(Some(TURN))
            .max_headers(MAX_HEADERS);
        let shaken = timeout_at(deadline, builder.handshake(io))
            .await
            .map_err(|_| Failed::Silence)?;
        let (mut sender, connection) = shaken.map_err(Failed::Hyper)?;
        (
            Box::pin(async move { sender.send_request(request).await }),
            Driver::new(connection),
        )
    };
    let Ok(answered) = timeout_at(deadline, driver.drive(response)).await else {
        return Err(Failed::Silence);
    };
    let response = match answered {
        Ok(response) => response,
        // The request was only told that its connection is gone; the connection knows why.
        Err(error) if error.is_canceled() || error.is_closed() => {
            return Err(Failed::Hyper(driver.failed.unwrap_or(error)));
        }
        Err(error) => return Err(Failed::Hyper(error)),
    };
    let (head, body) = response.into_parts();
    let mut read = Body::default();
    // However it ends: the head is the answer, and the body is what was read of it.
    let _ = timeout_at(deadline, driver.drive(read.all(body))).await;
    let answer = head
        .headers
        .get(ANSWER)
        .and_then(|value| answer::parse_words(value.to_str().ok()?, nonce));
    let http = facts(
        head.version,
        head.status.as_u16(),
        &head.headers,
        &read,
        nonce,
    );
    *open = driver.running.map(Open::Http);
    Ok(Exchanged { http, answer })
}

/// What hyper needs of a stream.
trait Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection for T {}

type ResponseFuture = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

/// A connection, polled along with what happens on it.
struct Driver {
    running: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    failed: Option<hyper::Error>,
}

impl Driver {
    fn new(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) -> Self {
        Self {
            running: Some(Box::pin(connection)),
            failed: None,
        }
    }

    async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        poll_fn(|cx| {
            if let Some(running) = &mut self.running
                && let Poll::Ready(ended) = running.as_mut().poll(cx)
            {
                self.running = None;
                self.failed = ended.err();
            }
            work.as_mut().poll(cx)
        })
        .await
    }
}

#[derive(Default)]
struct Body {
    start: Vec<u8>,
    bytes: u64,
    hash: Sha256,
}

impl Body {
    async fn all(&mut self, mut body: Incoming) {
        while let Some(Ok(frame)) = body.frame().await {
            let Some(data) = frame.data_ref() else {
                continue;
            };
            let left = usize::try_from(MAX_BODY - self.bytes).unwrap_or(0);
            let data = &data[..data.len().min(left)];
            self.bytes += data.len() as u64;
            self.hash.update(data);
            let room = HELD - self.start.len();
            self.start.extend_from_slice(&data[..data.len().min(room)]);
            if self.bytes >= MAX_BODY {
                return;
            }
        }
    }
}

fn facts(
    version: Version,
    status: u16,
    headers: &HeaderMap,
    body: &Body,
    nonce: &str,
) -> HttpFacts {
    let header = |name: HeaderName, most| {
        headers
            .get(name)
            .map(|value| printable_bytes(value.as_bytes(), most))
    };
    let mut marks: Vec<String> = headers
        .keys()
        .filter(|name| MARKS.iter().any(|mark| name.as_str().starts_with(mark)))
        .map(|name| printable(name.as_str(), MAX_MARK))
        .collect();
    marks.sort_unstable();
    marks.truncate(MAX_MARKS);
    // The nonce is another each time; where it was returned stands NONCE, so that like answers look
    // alike.
    let start = String::from_utf8_lossy(&body.start).replace(nonce, "NONCE");
    HttpFacts {
        version: if version == Version::HTTP_2 {
            "HTTP/2.0".into()
        } else {
            format!("{version:?}")
        },
        status,
        server: header(SERVER, 100),
        location: header(LOCATION, 200),
        marks,
        body_start: printable(&start, BODY_START),
        body_bytes: body.bytes,
        body_sha256: hex(&body.hash.clone().finalize()),
    }
}

/// What an error of hyper's says about the other side.
fn how(error: &hyper::Error, icmp: Option<Icmp>) -> How {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            if let Some(how) = tls::how(io) {
                return how;
            }
            if let Some(errno) = io.raw_os_error() {
                return How::Error { errno, icmp };
            }
        }
        cause = inner.source();
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return How::Closed;
    }
    let detail = error
        .source()
        .map_or_else(String::new, |source| format!(": {source}"));
    How::Garbled {
        what: printable(&format!("{error}{detail}"), 200),
    }
}
