//! TLS: the handshake, and the facts of the certificates.
//!
//! The handshake accepts any certificate, so that one without trust is reported instead of failing
//! the attempt. It does check that the peer holds the certificate's key: otherwise a copied
//! certificate could pass for the target's. Chain, name and expiry are recorded separately.

use super::socket::cancel_on_socket_error;
use super::{Cancel, Trace};
use crate::text::{hex, printable, printable_bytes};
use crate::wire::{self, FaultReason, Stage, StopCause, TlsFacts};
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

/// Maximum number of a certificate's names reported.
const MAX_NAMES: usize = 20;

/// Maximum characters of a name, so that twenty fit a line.
const MAX_NAME: usize = 150;

/// Certificates to trust, and the provider of the cryptography.
#[derive(Debug)]
pub(crate) struct Trust {
    provider: Arc<CryptoProvider>,
    roots: RootCertStore,
    pinned: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Reads certificates in PEM; each text may hold several.
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

/// Parameters of a handshake, checked.
#[derive(Debug)]
pub(crate) struct Parameters {
    server_name: Option<ServerName<'static>>,
    alpn: Vec<Vec<u8>>,
}

impl Parameters {
    /// Checks the plan's parameters.
    pub(crate) fn new(tls: &wire::Tls) -> Result<Self, String> {
        let server_name = tls
            .server_name
            .as_deref()
            .map(parse_server_name)
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

fn parse_server_name(name: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is no server name"))
}

/// Does the handshake; passes [`Stage::Tls`]. Facts of certificates are recorded even if it fails.
pub(crate) async fn handshake(
    stream: TcpStream,
    parameters: &Parameters,
    trust: &Trust,
    limit: Duration,
    trace: &mut Trace,
) -> Result<TlsStream<TcpStream>, Cancel> {
    let started = Instant::now();
    trace.check_not_reset(Stage::Tls)?;

    let verifier = Arc::new(RecordingVerifier {
        provider: Arc::clone(&trust.provider),
        chain: Mutex::new(Vec::new()),
    });
    let connector = TlsConnector::from(Arc::new(config(parameters, &verifier)?));
    let name = parameters.server_name.clone().unwrap_or_else(|| {
        // rustls requires a name. It never sends an address (RFC 6066 §3).
        let peer = stream.peer_addr();
        let ip = peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.ip());
        ServerName::IpAddress(ip.into())
    });
    let result = timeout(limit, connector.connect(name, stream).into_fallible()).await;

    let session = match &result {
        Ok(Ok(stream)) => {
            let (_, session) = stream.get_ref();
            (session.protocol_version(), session.alpn_protocol())
        }
        _ => (None, None),
    };
    if let Some((leaf, others)) = verifier.take_chain().split_first() {
        let name = parameters.server_name.as_ref();
        trace.observation.tls = Some(Box::new(facts(leaf, others, session, name, trust)));
    }

    match result {
        Ok(Ok(stream)) => {
            trace.pass(Stage::Tls, started);
            Ok(stream)
        }
        Ok(Err((error, stream))) => Err(match stop_cause(&error) {
            Some(cause) => Cancel::stop(Stage::Tls, cause),
            None => cancel_on_socket_error(&stream, Stage::Tls, &error),
        }),
        Err(_) => Err(Cancel::stop(Stage::Tls, StopCause::Silence)),
    }
}

/// Classifies an error of a TLS stream; `None` for an error of its socket.
pub(crate) fn stop_cause(error: &io::Error) -> Option<StopCause> {
    let tls_error = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls_error {
        Some(rustls::Error::AlertReceived(alert)) => Some(StopCause::Alert {
            code: (*alert).into(),
        }),
        Some(other) => Some(StopCause::Garbled {
            what: printable(&other.to_string(), 200),
        }),
        None if error.kind() == io::ErrorKind::UnexpectedEof => Some(StopCause::Closed),
        None => None,
    }
}

fn config(
    parameters: &Parameters,
    verifier: &Arc<RecordingVerifier>,
) -> Result<ClientConfig, Cancel> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&verifier.provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| Cancel::fault(FaultReason::Defect, format!("configuring TLS: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<RecordingVerifier>::clone(verifier))
        .with_no_client_auth();
    config.enable_sni = parameters.server_name.is_some();
    config.alpn_protocols.clone_from(&parameters.alpn);
    Ok(config)
}

/// A verifier that records the chain, accepts it, and checks only that the peer holds the leaf's
/// key.
#[derive(Debug)]
struct RecordingVerifier {
    provider: Arc<CryptoProvider>,
    /// Leaf first.
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl RecordingVerifier {
    fn take_chain(&self) -> Vec<CertificateDer<'static>> {
        std::mem::take(&mut *self.chain.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ServerCertVerifier for RecordingVerifier {
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

/// Facts of a handshake: the session's version and protocol, and the certificates.
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
        name_error: name.and_then(|name| name_error(leaf, name)),
        expired: validity
            .is_some_and(|(not_before, not_after)| now < not_before || now > not_after),
    }
}

/// Why the leaf does not match the server name.
fn name_error(leaf: &CertificateDer<'_>, name: &ServerName<'_>) -> Option<String> {
    ParsedCertificate::try_from(leaf)
        .and_then(|certificate| verify_server_name(&certificate, name))
        .err()
        .map(|e| error_text(&e))
}

/// Why the chain is not trusted. It is verified at a time at which the leaf is valid: expiry is
/// recorded separately.
fn chain_error(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    validity: Option<(i64, i64)>,
    now: i64,
    trust: &Trust,
) -> Option<String> {
    // A leaf that the plan trusts itself needs no chain.
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
        .map(|e| error_text(&e))
}

fn error_text(error: &rustls::Error) -> String {
    let text = match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "signed by no trusted certificate".into()
        }
        rustls::Error::InvalidCertificate(certificate) => certificate.to_string(),
        other => other.to_string(),
    };
    printable(&text, 200)
}

/// DNS names, addresses and URIs of a certificate; a mesh's identities are URIs.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = &extension.value.general_names;
    names.iter().filter_map(name_text).take(MAX_NAMES).collect()
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) => Some(printable(text, MAX_NAME)),
        GeneralName::IPAddress(bytes) => address_of(bytes).map(|address| address.to_string()),
        _ => None,
    }
}

/// The address with these 4 or 16 bytes.
fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}
