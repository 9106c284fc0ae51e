//! TLS: the handshake, and what the certificates say.
//!
//! Any certificate is accepted, so that one that is not trusted is a finding and no failed
//! measurement; that its owner holds the key is checked all the same, else a replayed certificate
//! could stand in for the target. Chain, name and expiry are judged apart.

use super::socket::halt_of;
use super::{Cancel, Trace};
use crate::text::{hex, printable, printable_bytes};
use crate::wire::{self, How, Stage, TlsFacts};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, ProtocolVersion, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest, Sha256};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Names of a certificate that are told.
const MAX_NAMES: usize = 20;

/// Characters of a name that are told, so that twenty fit a line.
const MAX_NAME: usize = 150;

/// The certificates to trust, and the cryptography.
#[derive(Debug)]
pub(crate) struct Trust {
    provider: Arc<CryptoProvider>,
    roots: RootCertStore,
    pinned: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Reads PEM; each text may hold several certificates.
    pub(crate) fn new(pem: &[String]) -> Result<Self, String> {
        let mut pinned = Vec::new();
        for text in pem {
            for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
                pinned.push(certificate.map_err(|e| format!("a certificate to trust: {e}"))?);
            }
        }
        let mut roots = RootCertStore::empty();
        for certificate in &pinned {
            roots
                .add(certificate.clone())
                .map_err(|e| format!("a certificate to trust: {e}"))?;
        }
        Ok(Self {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            roots,
            pinned,
        })
    }
}

/// A handshake's parameters, checked once.
#[derive(Debug)]
pub(crate) struct Parameters {
    server_name: Option<ServerName<'static>>,
    alpn: Vec<Vec<u8>>,
}

impl Parameters {
    /// Checks them.
    pub(crate) fn new(tls: &wire::Tls) -> Result<Self, String> {
        let server_name = tls
            .server_name
            .clone()
            .map(|name| {
                ServerName::try_from(name.clone())
                    .map_err(|_| format!("{name:?} is no server name"))
            })
            .transpose()?;
        if tls.alpn.iter().any(|p| p.is_empty() || p.len() > 255) {
            return Err("a protocol for ALPN has 1 to 255 bytes".into());
        }
        Ok(Self {
            server_name,
            alpn: tls.alpn.iter().map(|p| p.clone().into_bytes()).collect(),
        })
    }
}

/// Does the handshake; passes [`Stage::Tls`]. What is known of certificates is told even if it
/// fails.
pub(crate) async fn handshake(
    stream: TcpStream,
    parameters: &Parameters,
    trust: &Trust,
    limit: Duration,
    trace: &mut Trace,
) -> Result<TlsStream<TcpStream>, Cancel> {
    let began = Instant::now();
    if let Some(errno) = trace.reset_after_handshake {
        return Err(Cancel::stop(Stage::Tls, How::Error { errno, icmp: None }));
    }
    let recorder = Arc::new(Recorder {
        provider: Arc::clone(&trust.provider),
        chain: Mutex::new(Vec::new()),
    });
    let connector = TlsConnector::from(Arc::new(config(parameters, &recorder)?));
    // Without a name to send, rustls still wants one; an address is never sent (RFC 6066 §3).
    let name = match (&parameters.server_name, stream.peer_addr()) {
        (Some(name), _) => name.clone(),
        (None, peer) => {
            let ip = peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip());
            ServerName::IpAddress(ip.into())
        }
    };
    let shaken = timeout(limit, connector.connect(name, stream).into_fallible()).await;
    let session = match &shaken {
        Ok(Ok(stream)) => {
            let (_, session) = stream.get_ref();
            (session.protocol_version(), session.alpn_protocol())
        }
        _ => (None, None),
    };
    let chain = std::mem::take(
        &mut *recorder
            .chain
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    );
    if let Some((leaf, others)) = chain.split_first() {
        trace.seen.tls = Some(Box::new(facts(
            leaf,
            others,
            session,
            parameters.server_name.as_ref(),
            trust,
        )));
    }
    match shaken {
        Ok(Ok(stream)) => {
            trace.pass(Stage::Tls, began);
            Ok(stream)
        }
        Ok(Err((error, stream))) => Err(match how(&error) {
            Some(how) => Cancel::stop(Stage::Tls, how),
            None => halt_of(&stream, Stage::Tls, &error),
        }),
        Err(_) => Err(Cancel::stop(Stage::Tls, How::Silence)),
    }
}

/// What an error of a TLS stream says about the other side; `None` where it is the socket's.
pub(crate) fn how(error: &io::Error) -> Option<How> {
    if let Some(tls) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        return Some(match tls {
            rustls::Error::AlertReceived(alert) => How::Alert {
                code: (*alert).into(),
            },
            other => How::Garbled {
                what: printable(&other.to_string(), 200),
            },
        });
    }
    (error.kind() == io::ErrorKind::UnexpectedEof).then_some(How::Closed)
}

fn config(parameters: &Parameters, recorder: &Arc<Recorder>) -> Result<ClientConfig, Cancel> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&recorder.provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| Cancel::fault(wire::FaultReason::Defect, format!("configuring TLS: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Recorder>::clone(recorder))
        .with_no_client_auth();
    config.enable_sni = parameters.server_name.is_some();
    config.alpn_protocols.clone_from(&parameters.alpn);
    Ok(config)
}

/// A verifier that records the chain, accepts it, and checks only that the other side holds the
/// leaf's key.
#[derive(Debug)]
struct Recorder {
    provider: Arc<CryptoProvider>,
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(leaf)
            .chain(others)
            .map(|c| c.clone().into_owned())
            .collect();
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            leaf,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            leaf,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn facts(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    (version, alpn): (Option<ProtocolVersion>, Option<&[u8]>),
    name: Option<&ServerName<'_>>,
    trust: &Trust,
) -> TlsFacts {
    let parsed = X509Certificate::from_der(leaf)
        .ok()
        .map(|(_, certificate)| certificate);
    let validity = parsed.as_ref().map(|c| {
        (
            c.validity().not_before.timestamp(),
            c.validity().not_after.timestamp(),
        )
    });
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    TlsFacts {
        version: match version {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3".into(),
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2".into(),
            Some(other) => printable(&format!("{other:?}"), 20),
            None => String::new(),
        },
        alpn: alpn.map(|alpn| printable_bytes(alpn, 50)),
        leaf: hex(&Sha256::digest(leaf)),
        subject: parsed
            .as_ref()
            .map(|c| printable(&c.subject().to_string(), 200))
            .unwrap_or_default(),
        issuer: parsed
            .as_ref()
            .map(|c| printable(&c.issuer().to_string(), 200))
            .unwrap_or_default(),
        names: parsed.as_ref().map(names).unwrap_or_default(),
        not_after: validity.map_or(0, |(_, not_after)| not_after),
        chain_error: chain_error(leaf, others, validity, now, trust),
        name_error: name.and_then(|name| {
            let certificate = ParsedCertificate::try_from(leaf);
            certificate
                .and_then(|c| verify_server_name(&c, name))
                .err()
                .map(|e| reason(&e))
        }),
        expired: validity
            .is_some_and(|(not_before, not_after)| now < not_before || now > not_after),
    }
}

/// Why the chain is not trusted, whether or not the leaf is valid today: expiry is a fact of its
/// own.
fn chain_error(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    validity: Option<(i64, i64)>,
    now: i64,
    trust: &Trust,
) -> Option<String> {
    // A leaf that is itself to be trusted needs no chain.
    if trust.pinned.iter().any(|pinned| pinned == leaf) {
        return None;
    }
    let at = validity.map_or(now, |(not_before, not_after)| {
        now.min(not_after).max(not_before)
    });
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).unwrap_or(0)));
    let algorithms = trust.provider.signature_verification_algorithms.all;
    ParsedCertificate::try_from(leaf)
        .and_then(|leaf| {
            verify_server_cert_signed_by_trust_anchor(&leaf, &trust.roots, others, at, algorithms)
        })
        .err()
        .map(|e| reason(&e))
}

fn reason(error: &rustls::Error) -> String {
    let text = match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "signed by no certificate of those to trust".into()
        }
        rustls::Error::InvalidCertificate(certificate) => certificate.to_string(),
        other => other.to_string(),
    };
    printable(&text, 200)
}

/// DNS names, addresses, and URIs: a mesh's identities are URIs.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(text) | GeneralName::URI(text) => Some(printable(text, MAX_NAME)),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes)
                    .ok()
                    .map(|b| IpAddr::from(b).to_string()),
                16 => <[u8; 16]>::try_from(*bytes)
                    .ok()
                    .map(|b| IpAddr::from(b).to_string()),
                _ => None,
            },
            _ => None,
        })
        .take(MAX_NAMES)
        .collect()
}
