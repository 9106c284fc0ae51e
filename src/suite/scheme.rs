//! The schemes of URLs in suites: what each stands for, in one place.

use crate::model::Transport;

/// A URL's scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// A TLS handshake.
    Tls,
    /// A DNS query.
    Dns,
}

impl Scheme {
    /// Parses what stands before `://`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            "tls" => Some(Self::Tls),
            "dns" => Some(Self::Dns),
            _ => None,
        }
    }

    /// The port where the URL has none, and the transport.
    pub fn default_port(self) -> (u16, Transport) {
        match self {
            Self::Http => (80, Transport::Tcp),
            Self::Https | Self::Tls => (443, Transport::Tcp),
            Self::Dns => (53, Transport::Udp),
        }
    }

    /// Whether a URL has a method, headers and a body, and its answer a status.
    pub fn is_http(self) -> bool {
        match self {
            Self::Http | Self::Https => true,
            Self::Tls | Self::Dns => false,
        }
    }

    /// Whether a URL asks for a DNS record.
    pub fn is_dns(self) -> bool {
        match self {
            Self::Dns => true,
            Self::Http | Self::Https | Self::Tls => false,
        }
    }
}
