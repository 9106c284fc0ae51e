//! HTTP/1.1 and HTTP/2 responses: our name and the nonce of the request, or the status or redirect
//! that the listener's behaviour asks for.

use super::connection::{Listener, ParsedBehaviour};
use super::first_bytes::Protocol;
use crate::probe::{ANSWER, NONCE, answer};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, LOCATION, SERVER};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum bytes of a request's body that are read before the response.
const MAX_BODY: usize = 1024 * 1024;

/// Serves one connection to its end.
pub(crate) async fn serve<S>(
    stream: S,
    protocol: Protocol,
    listener: Arc<Listener>,
    secure: bool,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let listener = Arc::clone(&listener);
        async move { Ok::<_, Infallible>(respond(request, &listener, secure).await) }
    });
    let io = TokioIo::new(stream);
    let served = if protocol == Protocol::Http2 {
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .serve_connection(io, service)
            .await
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT);
        builder.serve_connection(io, service).await
    };
    served.map_err(io::Error::other)
}

/// Reads a request and makes its response.
async fn respond(
    request: Request<Incoming>,
    listener: &Listener,
    secure: bool,
) -> Response<Full<Bytes>> {
    let (head, mut body) = request.into_parts();
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MAX_BODY {
            break;
        }
    }

    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    match &listener.behaviour {
        ParsedBehaviour::Redirect => {
            let location = HeaderValue::try_from(own_url(&head, secure)).ok();
            headers.extend(location.map(|location| (LOCATION, location)));
            *response.status_mut() = StatusCode::FOUND;
        }
        ParsedBehaviour::Status {
            status,
            body,
            server,
        } => {
            headers.insert(SERVER, server.clone());
            *response.status_mut() = *status;
            *response.body_mut() = Full::from(body.clone());
        }
        _ => {
            let nonce = head
                .headers
                .get(NONCE)
                .and_then(|nonce| nonce.to_str().ok())
                .filter(|nonce| nonce.len() <= 128)
                .unwrap_or("-");
            let value = format!("{nonce} {}", listener.name);
            // The name is printable, but need not be ASCII; a header may hold such bytes (RFC 9110
            // §5.5).
            let value = HeaderValue::from_bytes(value.as_bytes()).ok();
            headers.extend(value.map(|value| (ANSWER, value)));
            *response.body_mut() = Full::from(answer(nonce, &listener.name));
        }
    }
    response
}

/// The URL of a request, without its query.
fn own_url(head: &Parts, secure: bool) -> String {
    let scheme = if secure { "https" } else { "http" };
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host
        .or_else(|| head.uri.authority().map(Authority::as_str))
        .unwrap_or("localhost");
    format!("{scheme}://{host}{}", head.uri.path())
}
