//! The request of a flow in words.

use crate::wire::{Http, Request, Tls};

/// At most so many hexadecimal digits of a payload are shown.
const MAX_PAYLOAD_DIGITS: usize = 32;

/// A request in a few words: `GET /health over TLS as payment.example`.
pub fn describe_request(request: &Request) -> String {
    match request {
        Request::Connect { .. } => "a handshake, nothing sent".into(),
        Request::Nonce => "a nonce".into(),
        Request::Payload { hex } => {
            let bytes = hex.len() / 2;
            let digits: String = hex.chars().take(MAX_PAYLOAD_DIGITS).collect();
            let ellipsis = if hex.len() > MAX_PAYLOAD_DIGITS {
                "..."
            } else {
                ""
            };
            format!("{bytes} bytes: {digits}{ellipsis}")
        }
        Request::Tls(tls) => format!("a TLS handshake{}", describe_tls(tls)),
        Request::Http(Http {
            tls,
            method,
            path,
            h2,
            ..
        }) => {
            let version = if *h2 { " by HTTP/2" } else { "" };
            let over = tls.as_ref().map_or(String::new(), |tls| {
                format!(" over TLS{}", describe_tls(tls))
            });
            format!("{method} {path}{version}{over}")
        }
        Request::Dns { name, record } => format!("the {record} records of {name}"),
    }
}

/// Server name and protocols that a TLS handshake offers.
fn describe_tls(tls: &Tls) -> String {
    let name = tls
        .server_name
        .as_ref()
        .map_or(" without a server name".to_owned(), |name| {
            format!(" as {name}")
        });
    match tls.alpn.as_slice() {
        [] => name,
        protocols => format!("{name}, offering {}", protocols.join(" and ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(name: Option<&str>, alpn: &[&str]) -> Tls {
        Tls {
            server_name: name.map(str::to_owned),
            alpn: alpn.iter().map(|protocol| (*protocol).to_owned()).collect(),
        }
    }

    fn http(tls: Option<Tls>, h2: bool) -> Request {
        Request::Http(Http {
            tls,
            method: "GET".into(),
            path: "/health".into(),
            authority: "api".into(),
            headers: Vec::new(),
            body: None,
            h2,
        })
    }

    #[test]
    fn every_kind_of_request_is_described() {
        let cases = [
            (
                Request::Connect { linger_ms: 0 },
                "a handshake, nothing sent",
            ),
            (Request::Nonce, "a nonce"),
            (Request::Payload { hex: "00ff".into() }, "2 bytes: 00ff"),
            (
                Request::Payload {
                    hex: "ab".repeat(40),
                },
                "40 bytes: abababababababababababababababab...",
            ),
            (
                Request::Tls(tls(None, &[])),
                "a TLS handshake without a server name",
            ),
            (
                Request::Tls(tls(Some("a.example"), &["h2", "http/1.1"])),
                "a TLS handshake as a.example, offering h2 and http/1.1",
            ),
            (http(None, true), "GET /health by HTTP/2"),
            (
                http(Some(tls(Some("api"), &["h2"])), false),
                "GET /health over TLS as api, offering h2",
            ),
            (
                Request::Dns {
                    name: "a.example".into(),
                    record: "AAAA".into(),
                },
                "the AAAA records of a.example",
            ),
        ];
        for (request, words) in cases {
            assert_eq!(describe_request(&request), words);
        }
    }
}
