//! TLS client certificates that rustls cannot parse.
//!
//! rustls parses the client's certificate and supports X.509 version 3 only. Certificates made by
//! hand are often version 1, and API servers and kubectl accept them. The API server decides
//! whether a certificate is valid, so it is presented without being parsed here.

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

/// Makes a client from a configuration.
///
/// # Errors
/// [`Error::Configuration`].
pub(super) fn client(config: Config) -> Result<Client, Error> {
    let error = match Client::try_from(config.clone()) {
        Ok(client) => return Ok(client),
        Err(error) => error,
    };
    // Any other defect of the configuration makes this fail too.
    client_with_unparsed_certificate(config).ok_or_else(|| Error::Configuration(Box::new(error)))
}

/// A client that presents its certificate without parsing it; `None` where the configuration has no
/// certificate, or needs a proxy or a TLS server name.
fn client_with_unparsed_certificate(mut config: Config) -> Option<Client> {
    let auth_info = serde_json::to_value(&config.auth_info).ok()?;
    let chain = pem(&auth_info, "client-certificate-data", "client-certificate")?;
    let key = pem(&auth_info, "client-key-data", "client-key")?;
    let auth_info = &mut config.auth_info;
    (
        auth_info.client_certificate,
        auth_info.client_certificate_data,
    ) = (None, None);
    (auth_info.client_key, auth_info.client_key_data) = (None, None);
    if config.proxy_url.is_some() || config.tls_server_name.is_some() {
        return None;
    }

    let chain = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<Vec<_>, _>>()
        .ok()?;
    let key = any_supported_type(&PrivateKeyDer::from_pem_slice(&key).ok()?).ok()?;
    let mut tls = config.rustls_client_config().ok()?;
    tls.client_auth_cert_resolver =
        Arc::new(FixedCertificate(Arc::new(CertifiedKey::new(chain, key))));

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

/// The PEM text of a kubeconfig's user, from the base64 field `data` or the file that the field
/// `file` names.
fn pem(auth_info: &Value, data: &str, file: &str) -> Option<Vec<u8>> {
    match (
        auth_info.get(data),
        auth_info.get(file).and_then(Value::as_str),
    ) {
        (Some(data @ Value::String(_)), _) => serde_json::from_value(data.clone())
            .ok()
            .map(|ByteString(text)| text),
        (_, Some(file)) => std::fs::read(file).ok(),
        (_, None) => None,
    }
}

/// A resolver that presents the same certificate to every server.
#[derive(Debug)]
struct FixedCertificate(Arc<CertifiedKey>);

impl ResolvesClientCert for FixedCertificate {
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
