//! The request that a check sends: chosen by its line, its port and the backend.

use super::endpoints::{EndpointKind, ResolvedEndpoint, ResolvedPort};
use super::transport::wire_transport;
use super::{AnswerRule, BackendKind, TargetKey};
use crate::model::Transport;
use crate::suite::{Expected, PortRef, RequestText, RequiredTier, Scheme, Settings, Url};
use crate::wire::{self, AnswerPattern, Http, Request, Stage, Tls};
use std::net::{IpAddr, SocketAddr};

/// A request, before the address is known.
#[derive(Debug, Clone)]
pub(super) struct RequestSpec {
    request: Request,
    /// The port behind the address, where the authority of an HTTP request is the address itself.
    authority_port: Option<u16>,
    /// The stage at which an attempt counts as open.
    pub(super) opens_at: Stage,
    /// The tier that an allow must reach unless the suite says otherwise.
    pub(super) required_tier: RequiredTier,
    /// How the check's name shows the target, where that is not NAME:PORT.
    pub(super) label: Option<String>,
    /// What an answer counts as.
    pub(super) answer_rule: AnswerRule,
    /// Whether it may be sent only once.
    pub(super) once: bool,
    /// Why no answer could prove anything.
    pub(super) unprovable: Option<String>,
}

impl RequestSpec {
    fn new(request: Request, transport: Transport, required_tier: RequiredTier) -> Self {
        let transport = wire_transport(transport).unwrap_or(wire::Transport::Tcp);
        Self {
            opens_at: request.opens_at(transport),
            request,
            authority_port: None,
            required_tier,
            label: None,
            answer_rule: AnswerRule::Any,
            once: false,
            unprovable: None,
        }
    }

    /// The same with what the settings of a line say of the answer: what opens an allowed line, and
    /// what refuses a denied one.
    #[must_use]
    pub(super) fn judged_by(self, settings: &Settings, expected: Expected) -> Self {
        // Only the request of a URL has settings about its answer.
        if self.label.is_none() || self.request.http().is_none() {
            return self;
        }

        let (pattern, answer_rule) = match (expected, &settings.refusal) {
            (Expected::Allowed, _) if !settings.status.is_empty() => (
                AnswerPattern {
                    status: settings.status.clone(),
                    ..AnswerPattern::default()
                },
                AnswerRule::MatchOpens,
            ),
            (Expected::Denied, Some(refusal)) => (
                AnswerPattern {
                    status: refusal.status.clone(),
                    headers: refusal.headers.clone(),
                    body: refusal.body.clone(),
                },
                AnswerRule::MatchRefuses,
            ),
            (Expected::Allowed, _) | (Expected::Denied, None) => return self,
        };
        Self {
            request: self.request.with_pattern(Some(pattern)),
            answer_rule,
            ..self
        }
    }

    /// The request to one address.
    pub(super) fn request(&self, address: IpAddr) -> Request {
        match (self.request.http(), self.authority_port) {
            (Some(http), Some(port)) => Request::Http(Http {
                authority: SocketAddr::new(address, port).to_string(),
                ..http.clone()
            }),
            (Some(_) | None, _) => self.request.clone(),
        }
    }
}

/// Milliseconds after a bare handshake in which a proxy that answered for the target would hang up.
const LINGER_MS: u32 = 250;

/// A handshake with the address and port of a request that may be sent only once, and the stage at
/// which it opens. Handshakes may be repeated, and so prove a deny.
pub(super) fn handshake_instead(key: &TargetKey) -> (TargetKey, Stage) {
    let request = Request::Connect {
        linger_ms: LINGER_MS,
    };
    let stage = request.opens_at(key.transport);
    let handshake = TargetKey {
        request,
        once: false,
        answer_rule: AnswerRule::Any,
        ..key.clone()
    };
    (handshake, stage)
}

/// A connection to the same address and port that is kept open.
pub(super) fn kept_open_instead(key: &TargetKey) -> TargetKey {
    TargetKey {
        request: Request::KeptOpen,
        once: false,
        ..key.clone()
    }
}

/// The name asked of a DNS server when the suite gives none: every Kubernetes cluster has it.
pub(super) const DNS_CONTROL_NAME: &str = "kubernetes.default.svc.cluster.local";

/// The request to a port of a target.
pub(super) fn request_spec(
    target: &ResolvedEndpoint<'_>,
    port: &ResolvedPort,
    url: Option<&Url>,
    settings: &Settings,
    backend: BackendKind,
) -> RequestSpec {
    if let Some(url) = url {
        return by_url(target, url, port, settings, backend);
    }
    if let Some(payload) = &settings.send {
        let hex = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        return RequestSpec::new(Request::Payload { hex }, port.transport, RequiredTier::A1);
    }
    by_port(target, port, settings, backend)
}

/// The request where the line names only a port.
fn by_port(
    target: &ResolvedEndpoint<'_>,
    port: &ResolvedPort,
    settings: &Settings,
    backend: BackendKind,
) -> RequestSpec {
    let (number, transport) = (port.number, port.transport);
    let udp = transport == Transport::Udp;
    let outside = matches!(target.kind, EndpointKind::Outside(_));

    if number == 53 {
        return RequestSpec::new(dns(None, settings), transport, RequiredTier::A1);
    }

    // Firewalls answer TCP handshakes themselves, so an outside 443 opens with TLS.
    if outside && number == 443 && !udp {
        let tls = tls(target, settings);
        let required_tier = certificate_tier(tls.server_name.as_deref(), backend);
        return RequestSpec::new(Request::Tls(tls), transport, required_tier);
    }

    match backend {
        // On 80 a firewall that waits for a host's name looks like a quiet server.
        BackendKind::Lab if outside && number == 80 => RequestSpec {
            opens_at: Stage::FirstBytes,
            ..RequestSpec::new(Request::Nonce, transport, RequiredTier::A2)
        },
        BackendKind::Lab => RequestSpec::new(Request::Nonce, transport, RequiredTier::A2),
        BackendKind::Cluster if outside && number == 80 && !udp => {
            let host = host_of(target);
            let request = Request::Http(Http {
                tls: None,
                method: "GET".into(),
                path: "/".into(),
                authority: host.clone().unwrap_or_default(),
                headers: headers(settings),
                body: None,
                h2: false,
                pattern: None,
            });
            RequestSpec {
                authority_port: host.is_none().then_some(80),
                ..RequestSpec::new(request, transport, RequiredTier::A1)
            }
        }
        BackendKind::Cluster if udp => RequestSpec {
            unprovable: Some(format!(
                "nothing is known to answer on {number}/udp, and silence proves nothing; give the line `send:` with a payload that is answered"
            )),
            ..RequestSpec::new(Request::Nonce, transport, RequiredTier::A2)
        },
        BackendKind::Cluster => {
            let request = Request::Connect {
                linger_ms: LINGER_MS,
            };
            RequestSpec::new(request, transport, RequiredTier::A0)
        }
    }
}

/// The request that a URL names.
fn by_url(
    target: &ResolvedEndpoint<'_>,
    url: &Url,
    port: &ResolvedPort,
    settings: &Settings,
    backend: BackendKind,
) -> RequestSpec {
    let answer = match backend {
        BackendKind::Lab => RequiredTier::A2,
        BackendKind::Cluster => RequiredTier::A1,
    };
    let (request, required_tier) = match url.scheme {
        Scheme::Http => (http(target, url, port.number, None, settings), answer),
        Scheme::Https => {
            let tls = tls(target, settings);
            (http(target, url, port.number, Some(tls), settings), answer)
        }
        Scheme::Tls => {
            let tls = tls(target, settings);
            let required_tier = certificate_tier(tls.server_name.as_deref(), backend);
            (Request::Tls(tls), required_tier)
        }
        Scheme::Dns => (dns(Some(url), settings), RequiredTier::A1),
    };

    let addressed = request.http().is_some() && host_of(target).is_none();
    let repeats = request.may_be_repeated() || settings.repeat == Some(true);
    RequestSpec {
        authority_port: addressed.then_some(port.number),
        label: Some(url_label(url)),
        once: !repeats,
        ..RequestSpec::new(request, port.transport, required_tier)
    }
}

/// The target of a URL in a check's name: with the method, unless it is GET.
fn url_label(url: &Url) -> String {
    // The settings' method was written into the URL when the suite was read.
    if url.method == "GET" {
        return url.text.clone();
    }
    let without_method = url
        .text
        .split_once(' ')
        .map_or(url.text.as_str(), |(_, rest)| rest);
    format!("{} {without_method}", url.method)
}

fn http(
    target: &ResolvedEndpoint<'_>,
    url: &Url,
    port: u16,
    tls: Option<Tls>,
    settings: &Settings,
) -> Request {
    let (default_port, _) = url.scheme.default_port();
    let authority = match host_of(target) {
        Some(host) if port == default_port => host,
        Some(host) => format!("{host}:{port}"),
        None => String::new(),
    };
    let path = match url.path.as_str() {
        "" => "/".to_owned(),
        path => path.to_owned(),
    };
    Request::Http(Http {
        tls,
        method: url.method.clone(),
        path,
        authority,
        headers: headers(settings),
        body: settings.body.as_ref().map(request_text),
        h2: false,
        pattern: None,
    })
}

fn headers(settings: &Settings) -> Vec<(String, wire::RequestText)> {
    let headers = settings.headers.iter();
    headers
        .map(|(name, value)| (name.clone(), request_text(value)))
        .collect()
}

/// A text as the plan has it: what comes from the environment only by its name.
fn request_text(text: &RequestText) -> wire::RequestText {
    match text {
        RequestText::Literal(text) => wire::RequestText::Plain(text.clone()),
        RequestText::FromEnv { variable, value: _ } => wire::RequestText::Secret {
            secret: variable.clone(),
        },
    }
}

fn tls(target: &ResolvedEndpoint<'_>, settings: &Settings) -> Tls {
    Tls {
        server_name: settings.server_name.clone().or_else(|| host_of(target)),
        alpn: settings.alpn.clone(),
    }
}

/// A DNS query: for the name in the URL's path and the record of the settings, or for what every
/// cluster has.
fn dns(url: Option<&Url>, settings: &Settings) -> Request {
    let Some(url) = url else {
        return Request::Dns {
            name: DNS_CONTROL_NAME.into(),
            record: "A".into(),
        };
    };
    let name = match url.path.trim_start_matches('/') {
        "" => DNS_CONTROL_NAME,
        name => name,
    };
    Request::Dns {
        name: name.to_owned(),
        record: settings.record.clone().unwrap_or_else(|| "A".into()),
    }
}

/// The tier of an answer with a certificate: in the lab the certificate of a name is expected to be
/// the run's; elsewhere only that there is one.
fn certificate_tier(server_name: Option<&str>, backend: BackendKind) -> RequiredTier {
    match (backend, server_name) {
        (BackendKind::Lab, Some(_)) => RequiredTier::A2,
        (BackendKind::Lab, None) | (BackendKind::Cluster, _) => RequiredTier::A1,
    }
}

/// The host name of an outside target.
fn host_of(target: &ResolvedEndpoint<'_>) -> Option<String> {
    target.endpoint.locator.host().map(str::to_owned)
}

/// A URL's port number, where it is one, and its transport.
pub fn url_port(url: &Url) -> (Option<u16>, Transport) {
    let (default, transport) = url.scheme.default_port();
    match &url.port {
        None => (Some(default), transport),
        Some(PortRef::Number(number)) => (Some(*number), transport),
        Some(PortRef::Name(_)) => (None, transport),
    }
}
