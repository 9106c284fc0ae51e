//! What is said to a target, and what of the answer makes it open.

use super::BackendKind;
use super::endpoints::{FoundPort, Place, ResolvedEndpoint};
use crate::model::Transport;
use crate::suite::{PortRef, RequiredTier, Scheme, Settings, Url};
use crate::wire::{Http, Request, Stage, Tls};
use std::net::IpAddr;

/// A request, before the address is known.
#[derive(Debug, Clone)]
pub(super) struct RequestSpec {
    request: Request,
    /// Whether the authority of an HTTP request is the address itself.
    authority_is_address: Option<u16>,
    /// What of a sample makes it open.
    pub(super) opens_at: Stage,
    /// The tier that an allow must reach unless the suite says otherwise.
    pub(super) required_tier: RequiredTier,
    /// How the check's name shows the target, where that is not NAME:PORT.
    pub(super) label: Option<String>,
    /// Whether it may be sent only once.
    pub(super) once: bool,
    /// Why no answer could prove anything.
    pub(super) unprovable: Option<String>,
}

impl RequestSpec {
    /// The request to one address.
    pub(super) fn request(&self, address: IpAddr) -> Request {
        match (&self.request, self.authority_is_address) {
            (Request::Http(http), Some(port)) => Request::Http(Http {
                authority: std::net::SocketAddr::new(address, port).to_string(),
                ..http.clone()
            }),
            (request, _) => request.clone(),
        }
    }
}

/// Milliseconds after a bare handshake in which a proxy that answered for the target would hang up.
const LINGER_MS: u32 = 250;

/// The name asked of a DNS server when the suite gives none: every Kubernetes cluster has it.
const DNS_CONTROL_NAME: &str = "kubernetes.default.svc.cluster.local";

/// What is said to a target at a port.
pub(super) fn request_spec(
    target: &ResolvedEndpoint<'_>,
    port: &FoundPort,
    url: Option<&Url>,
    settings: &Settings,
    environment: BackendKind,
) -> RequestSpec {
    if let Some(url) = url {
        return by_url(target, url, port.number, settings, environment);
    }
    let plain = |request, opens_at, required_tier| RequestSpec {
        request,
        authority_is_address: None,
        opens_at,
        required_tier,
        label: None,
        once: false,
        unprovable: None,
    };
    if let Some(payload) = &settings.send {
        let hex = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        return plain(
            Request::Payload { hex },
            Stage::FirstBytes,
            RequiredTier::A1,
        );
    }
    let outside = matches!(target.place, Place::Outside(_));
    let udp = port.transport == Transport::Udp;
    match (port.number, udp) {
        (53, _) => plain(
            Request::Dns {
                name: DNS_CONTROL_NAME.into(),
                record: "A".into(),
            },
            Stage::FirstBytes,
            RequiredTier::A1,
        ),
        // Firewalls answer TCP handshakes themselves, so an outside 443 opens with TLS.
        (443, false) if outside => {
            let tls = Tls {
                server_name: settings.server_name.clone().or_else(|| host_of(target)),
                alpn: settings.alpn.clone(),
            };
            let required_tier = certificate_demand(tls.server_name.as_deref(), environment);
            plain(Request::Tls(tls), Stage::Tls, required_tier)
        }
        // On 80 too; there it is asked for a page, since a firewall that waits for a host's name
        // looks like a quiet server.
        (80, false) if outside && environment == BackendKind::Cluster => {
            let host = host_of(target);
            let request = Request::Http(Http {
                tls: None,
                method: "GET".into(),
                path: "/".into(),
                authority: host.clone().unwrap_or_default(),
                headers: settings.headers.clone(),
                body: None,
                h2: false,
            });
            RequestSpec {
                authority_is_address: host.is_none().then_some(80),
                ..plain(request, Stage::Request, RequiredTier::A1)
            }
        }
        _ => match environment {
            BackendKind::Lab if udp || (outside && port.number == 80) => {
                plain(Request::Nonce, Stage::FirstBytes, RequiredTier::A2)
            }
            BackendKind::Lab => plain(Request::Nonce, Stage::Connect, RequiredTier::A2),
            BackendKind::Cluster if udp => RequestSpec {
                unprovable: Some(format!(
                    "nothing is known to answer on {}/udp, and silence proves nothing; give the line `send:` with a payload that is answered",
                    port.number
                )),
                ..plain(Request::Nonce, Stage::FirstBytes, RequiredTier::A2)
            },
            BackendKind::Cluster => plain(
                Request::Connect {
                    linger_ms: LINGER_MS,
                },
                Stage::Connect,
                RequiredTier::A0,
            ),
        },
    }
}

fn by_url(
    target: &ResolvedEndpoint<'_>,
    url: &Url,
    port: u16,
    settings: &Settings,
    environment: BackendKind,
) -> RequestSpec {
    let server_name = settings.server_name.clone().or_else(|| host_of(target));
    // The settings' method was written into the URL when the suite was read.
    let method = url.method.clone();
    let label = if method == "GET" {
        url.text.clone()
    } else {
        format!("{method} {}", without_method(&url.text))
    };
    let tls = Tls {
        server_name: server_name.clone(),
        alpn: settings.alpn.clone(),
    };
    let http = |tls: Option<Tls>, default_port: u16| {
        let host = host_of(target);
        let authority = host.clone().map(|host| {
            if port == default_port {
                host
            } else {
                format!("{host}:{port}")
            }
        });
        let request = Request::Http(Http {
            tls,
            method: method.clone(),
            path: if url.path.is_empty() {
                "/".into()
            } else {
                url.path.clone()
            },
            authority: authority.unwrap_or_default(),
            headers: settings.headers.clone(),
            body: settings.body.clone(),
            h2: false,
        });
        (request, host.is_none().then_some(port))
    };
    let answer = match environment {
        BackendKind::Lab => RequiredTier::A2,
        BackendKind::Cluster => RequiredTier::A1,
    };
    let (request, authority_is_address, opens_at, required_tier) = match url.scheme {
        Scheme::Http => {
            let (request, address) = http(None, 80);
            (request, address, Stage::Request, answer)
        }
        Scheme::Https => {
            let (request, address) = http(Some(tls), 443);
            (request, address, Stage::Request, answer)
        }
        Scheme::Tls => {
            let required_tier = certificate_demand(server_name.as_deref(), environment);
            (Request::Tls(tls), None, Stage::Tls, required_tier)
        }
        Scheme::Dns => {
            let name = url.path.trim_start_matches('/');
            let name = if name.is_empty() {
                DNS_CONTROL_NAME
            } else {
                name
            };
            let record = settings.record.clone().unwrap_or_else(|| "A".into());
            (
                Request::Dns {
                    name: name.to_owned(),
                    record,
                },
                None,
                Stage::FirstBytes,
                RequiredTier::A1,
            )
        }
    };
    let repeats =
        matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS") || settings.repeat == Some(true);
    let once = !repeats && matches!(url.scheme, Scheme::Http | Scheme::Https);
    RequestSpec {
        request,
        authority_is_address,
        opens_at,
        required_tier,
        label: Some(label),
        once,
        unprovable: None,
    }
}

/// In the lab the certificate of a name is expected to be the run's own; elsewhere only that there
/// is one.
fn certificate_demand(server_name: Option<&str>, environment: BackendKind) -> RequiredTier {
    match (environment, server_name) {
        (BackendKind::Lab, Some(_)) => RequiredTier::A2,
        (BackendKind::Lab, None) | (BackendKind::Cluster, _) => RequiredTier::A1,
    }
}

/// The host name of an outside target.
fn host_of(target: &ResolvedEndpoint<'_>) -> Option<String> {
    target.endpoint.locator.host().map(str::to_owned)
}

fn without_method(text: &str) -> &str {
    text.split_once(' ').map_or(text, |(_, rest)| rest)
}

/// A URL's port number, where it is one, and its transport.
pub fn url_port(url: &Url) -> (Option<u16>, Transport) {
    let (default, transport) = match url.scheme {
        Scheme::Http => (80, Transport::Tcp),
        Scheme::Https | Scheme::Tls => (443, Transport::Tcp),
        Scheme::Dns => (53, Transport::Udp),
    };
    match &url.port {
        None => (Some(default), transport),
        Some(PortRef::Number(number)) => (Some(*number), transport),
        Some(PortRef::Name(_)) => (None, transport),
    }
}
