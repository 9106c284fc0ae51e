//! Known denials by HTTP: the answers of enforcers, by what the sources and documentation of each
//! say of them. Version 1 of the list.

use crate::wire::HttpDenial;
use hyper::header::{HeaderMap, SERVER};

/// Header in which Linkerd's proxy says what went wrong.
const LINKERD_ERROR: &str = "l5d-proxy-error";

/// The enforcer whose known denial an answer is. `start` is the beginning of a body of `length`
/// bytes.
pub(super) fn known_denial(
    status: u16,
    headers: &HeaderMap,
    start: &[u8],
    length: u64,
) -> Option<HttpDenial> {
    match status {
        403 if start.starts_with(b"Access denied") && length <= 16 => Some(HttpDenial::CiliumHttp),
        403 if start.starts_with(b"RBAC: access denied") => Some(HttpDenial::IstioAuthorization),
        403 | 404 if headers.contains_key(LINKERD_ERROR) => Some(HttpDenial::Linkerd),
        502 if length == 0 && is_envoy(headers) => Some(HttpDenial::IstioRegistryOnly),
        470 if start.starts_with(b"Action: Deny") => Some(HttpDenial::AzureFirewall),
        403 if contains(start, b"The request is blocked.") => {
            Some(HttpDenial::ApplicationGatewayWaf)
        }
        _ => None,
    }
}

fn is_envoy(headers: &HeaderMap) -> bool {
    headers
        .get(SERVER)
        .is_some_and(|server| contains(server.as_bytes(), b"envoy"))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            name.parse().expect("a header's name"),
            HeaderValue::from_static(value),
        )])
    }

    #[test]
    fn denials_are_known_by_status_headers_and_body() {
        let none = HeaderMap::new();
        let of = |status, headers: &HeaderMap, body: &[u8]| {
            known_denial(status, headers, body, body.len() as u64)
        };

        let cases = [
            (
                403,
                &none,
                &b"Access denied\r\n"[..],
                HttpDenial::CiliumHttp,
            ),
            (
                403,
                &none,
                b"RBAC: access denied",
                HttpDenial::IstioAuthorization,
            ),
            (
                404,
                &headers("l5d-proxy-error", "x"),
                b"",
                HttpDenial::Linkerd,
            ),
            (
                502,
                &headers("server", "envoy"),
                b"",
                HttpDenial::IstioRegistryOnly,
            ),
            (
                470,
                &none,
                b"Action: Deny. Reason",
                HttpDenial::AzureFirewall,
            ),
            (
                403,
                &none,
                b"<p>The request is blocked.</p>",
                HttpDenial::ApplicationGatewayWaf,
            ),
        ];
        for (status, headers, body, denial) in cases {
            assert_eq!(of(status, headers, body), Some(denial));
            assert_eq!(of(200, headers, body), None, "{denial:?} needs its status");
        }

        assert_eq!(of(403, &none, b"Access denied to your account"), None);
        assert_eq!(of(403, &none, b"forbidden by the application"), None);
        assert_eq!(of(502, &headers("server", "envoy"), b"x"), None);
    }
}
