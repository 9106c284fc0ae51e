//! TLS of a listener: one certificate and no session resumption, so that every handshake is a full
//! one.

use super::control::{Certificate, Reply};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// An acceptor with this certificate.
pub(crate) fn acceptor(certificate: &Certificate) -> Result<TlsAcceptor, Reply> {
    config(certificate)
        .map(|config| TlsAcceptor::from(Arc::new(config)))
        .map_err(|what| Reply::Failed {
            what: format!("reading a certificate: {what}"),
            errno: 0,
        })
}

fn config(certificate: &Certificate) -> Result<ServerConfig, String> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(certificate.chain.as_bytes()).collect();
    let chain = chain.map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes())
        .map_err(|e| format!("its key: {e}"))?;

    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|e| e.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
