//! What each kind of request is, in one place: its stages, the stage at which an attempt counts as
//! open, what its answer can show, whether it may be repeated, its words.
//!
//! Every match over [`Request`] here names all kinds, so that the compiler lists what a new kind
//! must answer.

use crate::wire::{
    AnswerPattern, Http, Plan, Request, RequestText, Stage, StopCause, Tls, Transport,
};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Octets of a nonce: 16 bytes in hexadecimal, and the line's end.
const NONCE_SIZE: usize = 33;

/// Octets that a secret is taken to have, whose length the plan does not know: more than most
/// tokens.
const SECRET_SIZE: usize = 2_048;

/// The most characters of a payload that [`Request`]'s words show.
const SHOWN: usize = 32;

impl Plan {
    /// The names of the secrets that its requests need.
    pub fn secret_names(&self) -> BTreeSet<&str> {
        let requests = self.flows.iter().map(|flow| &flow.request);
        requests.flat_map(Request::secret_names).collect()
    }
}

impl Request {
    /// The stages of an attempt after name resolution, in the order in which they are passed.
    pub fn stages(&self, transport: Transport) -> Vec<Stage> {
        let mut stages = match transport {
            Transport::Tcp => vec![Stage::Connect],
            Transport::Udp => Vec::new(),
        };

        match self {
            Self::Connect { .. } | Self::KeptOpen => {}
            Self::Nonce | Self::Payload { .. } | Self::Dns { .. } => stages.push(Stage::FirstBytes),
            Self::Tls(_) => stages.push(Stage::Tls),
            Self::Http(Http { tls: Some(_), .. }) => stages.extend([Stage::Tls, Stage::Request]),
            Self::Http(Http { tls: None, .. }) => {
                stages.extend([Stage::FirstBytes, Stage::Request]);
            }
        }

        stages
    }

    /// The stage at which an attempt counts as open: what shows that packets got through, where
    /// nothing on the path answers in the target's place.
    pub fn opens_at(&self, transport: Transport) -> Stage {
        match (self, transport) {
            (Self::Connect { .. } | Self::Nonce | Self::KeptOpen, Transport::Tcp) => Stage::Connect,
            (
                Self::Connect { .. }
                | Self::Nonce
                | Self::KeptOpen
                | Self::Payload { .. }
                | Self::Dns { .. },
                Transport::Udp,
            )
            | (Self::Payload { .. } | Self::Dns { .. }, Transport::Tcp) => Stage::FirstBytes,
            (Self::Tls(_), Transport::Tcp | Transport::Udp) => Stage::Tls,
            (Self::Http(_), Transport::Tcp | Transport::Udp) => Stage::Request,
        }
    }

    /// The stage at which an attempt stops that is stopped by `how`, where nothing else is known:
    /// an answer that is not what was asked for has the bytes of an answer before it.
    ///
    /// Both the probe and the test double take it from here.
    pub fn stage_stopped_by(&self, transport: Transport, how: &StopCause) -> Stage {
        let stages = self.stages(transport);
        let first = stages.first().copied().unwrap_or(Stage::Connect);
        match how {
            StopCause::Silence | StopCause::Unfinished | StopCause::Error { .. } => first,
            StopCause::Alert { .. } => Stage::Tls,
            StopCause::Closed => stages
                .into_iter()
                .find(|stage| *stage > Stage::Connect)
                .unwrap_or(Stage::FirstBytes),
            StopCause::Rcode { .. } => match self {
                Self::Dns { .. } => Stage::Request,
                // No other request asks a name server for more than the address to dial.
                Self::Connect { .. }
                | Self::Nonce
                | Self::Payload { .. }
                | Self::Tls(_)
                | Self::Http(_)
                | Self::KeptOpen => Stage::Resolve,
            },
            StopCause::Garbled { .. } => match self {
                Self::Connect { .. }
                | Self::Nonce
                | Self::Payload { .. }
                | Self::Dns { .. }
                | Self::KeptOpen => Stage::Request,
                Self::Tls(_) | Self::Http(Http { tls: Some(_), .. }) => Stage::Tls,
                Self::Http(Http { tls: None, .. }) => Stage::Request,
            },
        }
    }

    /// How long a bare handshake waits for bytes; `None` where a request follows the handshake.
    pub fn linger(&self) -> Option<Duration> {
        match self {
            Self::Connect { linger_ms } => Some(Duration::from_millis(u64::from(*linger_ms))),
            Self::Nonce
            | Self::Payload { .. }
            | Self::Tls(_)
            | Self::Http(_)
            | Self::Dns { .. }
            | Self::KeptOpen => None,
        }
    }

    /// Whether one connection is kept open for all attempts.
    pub fn is_kept_open(&self) -> bool {
        match self {
            Self::KeptOpen => true,
            Self::Connect { .. }
            | Self::Nonce
            | Self::Payload { .. }
            | Self::Tls(_)
            | Self::Http(_)
            | Self::Dns { .. } => false,
        }
    }

    /// The TLS handshake's parameters, where there is one.
    pub fn tls(&self) -> Option<&Tls> {
        match self {
            Self::Tls(tls) => Some(tls),
            Self::Http(http) => http.tls.as_ref(),
            Self::Connect { .. }
            | Self::Nonce
            | Self::Payload { .. }
            | Self::Dns { .. }
            | Self::KeptOpen => None,
        }
    }

    /// The HTTP exchange, where there is one.
    pub fn http(&self) -> Option<&Http> {
        match self {
            Self::Http(http) => Some(http),
            Self::Connect { .. }
            | Self::Nonce
            | Self::Payload { .. }
            | Self::Tls(_)
            | Self::Dns { .. }
            | Self::KeptOpen => None,
        }
    }

    /// The same request with another server name; `None` where it has no TLS.
    #[must_use]
    pub fn with_server_name(&self, server_name: Option<String>) -> Option<Self> {
        let tls = Tls {
            server_name,
            ..self.tls()?.clone()
        };
        match self {
            Self::Tls(_) => Some(Self::Tls(tls)),
            Self::Http(http) => Some(Self::Http(Http {
                tls: Some(tls),
                ..http.clone()
            })),
            Self::Connect { .. }
            | Self::Nonce
            | Self::Payload { .. }
            | Self::Dns { .. }
            | Self::KeptOpen => None,
        }
    }

    /// The names of the secrets in it.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        let headers = self.http().map_or(&[][..], |http| http.headers.as_slice());
        let body = self.http().and_then(|http| http.body.as_ref());
        let texts = headers.iter().map(|(_, value)| value).chain(body);
        texts.filter_map(|text| match text {
            RequestText::Plain(_) => None,
            RequestText::Secret { secret } => Some(secret.as_str()),
        })
    }

    /// The same request with another pattern to look for in an HTTP answer.
    #[must_use]
    pub fn with_pattern(&self, pattern: Option<AnswerPattern>) -> Self {
        match self {
            Self::Http(http) => Self::Http(Http {
                pattern: pattern.map(Box::new),
                ..http.clone()
            }),
            Self::Connect { .. }
            | Self::Nonce
            | Self::Payload { .. }
            | Self::Tls(_)
            | Self::Dns { .. }
            | Self::KeptOpen => self.clone(),
        }
    }

    /// About how many octets an attempt sends once it is connected, those of TLS apart.
    pub fn size(&self) -> usize {
        match self {
            Self::Connect { .. } | Self::KeptOpen | Self::Tls(_) => 0,
            Self::Nonce => NONCE_SIZE,
            Self::Payload { hex } => hex.len() / 2,
            Self::Http(http) => {
                let headers = http
                    .headers
                    .iter()
                    .map(|(name, value)| name.len() + value.size());
                let body = http.body.as_ref().map_or(0, RequestText::size);
                let line = http.method.len() + http.path.len() + http.authority.len();
                line + headers.sum::<usize>() + body
            }
            Self::Dns { name, .. } => name.len(),
        }
    }

    /// Whether it may be sent again and again: an HTTP method other than GET, HEAD and OPTIONS may
    /// change something (RFC 9110 section 9.2.1).
    pub fn may_be_repeated(&self) -> bool {
        match self {
            Self::Http(http) => matches!(http.method.as_str(), "GET" | "HEAD" | "OPTIONS"),
            Self::Connect { .. }
            | Self::Nonce
            | Self::Payload { .. }
            | Self::Tls(_)
            | Self::Dns { .. }
            | Self::KeptOpen => true,
        }
    }

    /// What a control sends in the place of a request that may be sent only once: GET without a
    /// body. `None` for kinds that may always be repeated.
    pub fn repeatable_form(&self) -> Option<Self> {
        self.http().map(|http| {
            Self::Http(Http {
                method: "GET".into(),
                body: None,
                ..http.clone()
            })
        })
    }

    /// Whether our responder says in its answer which pod it is, so that an answer proves who
    /// answered.
    pub fn asks_for_identity(&self) -> bool {
        match self {
            Self::Nonce | Self::Http(_) => true,
            Self::Connect { .. }
            | Self::Payload { .. }
            | Self::Tls(_)
            | Self::Dns { .. }
            | Self::KeptOpen => false,
        }
    }

    /// Whether an attempt costs cryptography or a parser: fewer of them run at a time.
    pub fn is_heavy(&self) -> bool {
        match self {
            Self::Tls(_) | Self::Http(_) => true,
            Self::Connect { .. }
            | Self::Nonce
            | Self::Payload { .. }
            | Self::Dns { .. }
            | Self::KeptOpen => false,
        }
    }

    /// Whether it goes without saying where our own responders answer.
    pub fn is_usual_in_lab(&self) -> bool {
        match self {
            Self::Nonce => true,
            Self::Connect { .. }
            | Self::Payload { .. }
            | Self::Tls(_)
            | Self::Http(_)
            | Self::Dns { .. }
            | Self::KeptOpen => false,
        }
    }
}

impl RequestText {
    /// Its octets; of a secret more than most have.
    fn size(&self) -> usize {
        match self {
            Self::Plain(text) => text.len(),
            Self::Secret { .. } => SECRET_SIZE,
        }
    }
}

impl fmt::Display for Request {
    /// A request in words, short: `GET /health over TLS as payment.example`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { .. } => f.write_str("a handshake, nothing sent"),
            Self::KeptOpen => f.write_str("a connection that is kept open"),
            Self::Nonce => f.write_str("a nonce"),
            Self::Payload { hex } => {
                let bytes = hex.len() / 2;
                let cut = if hex.len() > SHOWN { "..." } else { "" };
                let shown: String = hex.chars().take(SHOWN).collect();
                write!(f, "{bytes} bytes: {shown}{cut}")
            }
            Self::Tls(tls) => write!(f, "a TLS handshake{}", tls_words(tls)),
            Self::Http(http) => {
                write!(f, "{} {}", http.method, http.path)?;
                if http.h2 {
                    f.write_str(" by HTTP/2")?;
                }
                if let Some(tls) = &http.tls {
                    write!(f, " over TLS{}", tls_words(tls))?;
                }
                fmt_secrets(http, f)
            }
            Self::Dns { name, record } => write!(f, "the {record} records of {name}"),
        }
    }
}

/// The headers and the body that are secrets, by their names.
fn fmt_secrets(http: &Http, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (name, value) in &http.headers {
        if let RequestText::Secret { secret } = value {
            write!(f, ", {name} fromEnv {secret}")?;
        }
    }
    match &http.body {
        Some(RequestText::Secret { secret }) => write!(f, ", body fromEnv {secret}"),
        Some(RequestText::Plain(_)) | None => Ok(()),
    }
}

/// Server name and offered protocols, to stand behind "TLS".
fn tls_words(tls: &Tls) -> String {
    let name = match &tls.server_name {
        Some(name) => format!(" as {name}"),
        None => " without a server name".to_owned(),
    };
    match tls.alpn.as_slice() {
        [] => name,
        protocols => format!("{name}, offering {}", protocols.join(" and ")),
    }
}
