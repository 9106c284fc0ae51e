//! TLS certificates of a world: an authority created for each run, and the certificates that it
//! signs.

use super::error::Error;
use super::world::{Host, World};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::net::IpAddr;
use watertight_probe::responder::control::Certificate;

/// The certificates of a world.
#[derive(Debug)]
pub(super) struct Certificates {
    authority: Authority,
    cluster: Certificate,
    hosts: Vec<Certificate>,
}

impl Certificates {
    /// Creates one certificate for all pods, with the Service names of every namespace, and one for
    /// each outside host, with its name and addresses.
    ///
    /// # Errors
    /// A key that cannot be created, or a name that a certificate cannot contain.
    pub(super) fn of(world: &World) -> Result<Self, Error> {
        let authority = Authority::new().map_err(Error::Certificate)?;
        let names: Vec<String> = world
            .inventory
            .namespaces
            .keys()
            .flat_map(|namespace| {
                [
                    format!("*.{namespace}.svc"),
                    format!("*.{namespace}.svc.cluster.local"),
                ]
            })
            .collect();
        let cluster = authority
            .certificate(&names, &[])
            .map_err(Error::Certificate)?;
        let hosts = world
            .hosts
            .iter()
            .map(|host| authority.host_certificate(host))
            .collect::<Result<_, _>>()
            .map_err(Error::Certificate)?;

        Ok(Self {
            authority,
            cluster,
            hosts,
        })
    }

    /// The authority's certificate, PEM.
    pub(super) fn authority(&self) -> &str {
        &self.authority.pem
    }

    /// The certificate of all pods.
    pub(super) fn cluster(&self) -> &Certificate {
        &self.cluster
    }

    /// The certificate of outside host number `h`.
    pub(super) fn host(&self, h: usize) -> &Certificate {
        &self.hosts[h]
    }
}

/// A certificate authority that only this run trusts.
#[derive(Debug)]
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// Creates an authority with a new key.
    ///
    /// # Errors
    /// A key that cannot be created.
    fn new() -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "watertight lab authority");

        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// The certificate of an outside host, for its name and addresses.
    fn host_certificate(&self, host: &Host) -> Result<Certificate, rcgen::Error> {
        self.certificate(&host.names, &host.addresses)
    }

    /// A server certificate for names and addresses.
    ///
    /// # Errors
    /// A name that a certificate cannot contain.
    fn certificate(
        &self,
        names: &[String],
        addresses: &[IpAddr],
    ) -> Result<Certificate, rcgen::Error> {
        let mut params = CertificateParams::new(names.to_vec())?;
        params
            .subject_alt_names
            .extend(addresses.iter().copied().map(SanType::IpAddress));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];

        let common_name = names
            .first()
            .cloned()
            .or_else(|| addresses.first().map(ToString::to_string))
            .unwrap_or_default();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);

        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok(Certificate {
            chain: leaf.pem(),
            key: key.serialize_pem(),
        })
    }
}
