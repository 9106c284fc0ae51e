//! The request of a flow in words.

use crate::wire::Request;

/// A request in a few words: `GET /health over TLS as payment.example`.
pub fn describe_request(request: &Request) -> String {
    request.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Http, RequestText, Tls};

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
            pattern: None,
        })
    }

    fn secret() -> Request {
        let Request::Http(http) = http(None, false) else {
            unreachable!()
        };
        let from = |name: &str| RequestText::Secret {
            secret: name.into(),
        };
        Request::Http(Http {
            headers: vec![
                ("Accept".into(), "text/plain".into()),
                ("Authorization".into(), from("API_TOKEN")),
            ],
            body: Some(from("BODY")),
            ..http
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
                secret(),
                "GET /health, Authorization fromEnv API_TOKEN, body fromEnv BODY",
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
