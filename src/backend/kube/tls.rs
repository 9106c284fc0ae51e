//! The connection's cryptography, where kube's own will not do.
//!
//! rustls parses its own client certificate and knows version 3 of X.509 only. Certificates that
//! were made by hand are often of version 1; API servers and kubectl take them. What the server
//! checks is not ours to refuse, so such a certificate is presented unread.

use super::error::Error;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::ByteString;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde_json::Value;
use std::sync::Arc;
use tower::ServiceBuilder;

/// Makes a client of a configuration.
///
/// # Errors
/// A faulty configuration.
pub(super) fn client(config: Config) -> Result<Client, Error> {
    let refused = match Client::try_from(config.clone()) {
        Ok(client) => return Ok(client),
        Err(refused) => refused,
    };
    // What else is wrong with the configuration fails here as it failed there.
    match unread(config) {
        Some(client) => Ok(client),
        None => Err(Error::Configuration(Box::new(refused))),
    }
}

/// A client that presents its certificate unread; `None` where there is none, or where a proxy is
/// in between.
fn unread(mut config: Config) -> Option<Client> {
    let login = serde_json::to_value(&config.auth_info).ok()?;
    let chain = pem(&login, "client-certificate-data", "client-certificate")?;
    let key = pem(&login, "client-key-data", "client-key")?;
    let known = &mut config.auth_info;
    (known.client_certificate, known.client_certificate_data) = (None, None);
    (known.client_key, known.client_key_data) = (None, None);
    if config.proxy_url.is_some() || config.tls_server_name.is_some() {
        return None;
    }
    let chain = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<Vec<_>, _>>()
        .ok()?;
    let key = any_supported_type(&PrivateKeyDer::from_pem_slice(&key).ok()?).ok()?;
    let mut tls = config.rustls_client_config().ok()?;
    tls.client_auth_cert_resolver = Arc::new(Only(Arc::new(CertifiedKey::new(chain, key))));
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(config.connect_timeout);
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    let http: Http<_, Body> = Http::builder(TokioExecutor::new()).build(https);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(config.extra_headers_layer().ok()?)
        .service(http);
    Some(ClientBuilder::new(service, config.default_namespace).build())
}

/// A PEM text of a kubeconfig's user: in base64, or in a file.
fn pem(login: &Value, data: &str, file: &str) -> Option<Vec<u8>> {
    match (login.get(data), login.get(file).and_then(Value::as_str)) {
        (Some(data @ Value::String(_)), _) => serde_json::from_value(data.clone())
            .ok()
            .map(|ByteString(text)| text),
        (_, Some(file)) => std::fs::read(file).ok(),
        (_, None) => None,
    }
}

/// One certificate, whatever is asked for.
#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesClientCert for Only {
    fn resolve(
        &self,
        _issuers: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.0.key.choose_scheme(schemes)?;
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
