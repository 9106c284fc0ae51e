//! Certificates for a world: an authority made for each run, and leaves that it signs.

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
    /// One for all pods, with every namespace's Service names, and one for each outside host, with
    /// its name and addresses.
    ///
    /// # Errors
    /// When a key cannot be made, or a name cannot stand in a certificate.
    pub(super) fn of(world: &World) -> Result<Self, Error> {
        let authority = Authority::new().map_err(Error::Certificate)?;
        let services = world.inventory.namespaces.keys();
        let names: Vec<String> = services
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
        let of_host = |host: &Host| {
            let names: Vec<String> = host.name.iter().cloned().collect();
            authority
                .certificate(&names, &host.addresses)
                .map_err(Error::Certificate)
        };
        let hosts = world.hosts.iter().map(of_host).collect::<Result<_, _>>()?;
        Ok(Self {
            authority,
            cluster,
            hosts,
        })
    }

    /// The authority's own certificate, PEM.
    pub(super) fn authority(&self) -> &str {
        &self.authority.pem
    }

    /// That of all pods.
    pub(super) fn cluster(&self) -> &Certificate {
        &self.cluster
    }

    /// That of outside host number `h`.
    pub(super) fn host(&self, h: usize) -> &Certificate {
        &self.hosts[h]
    }
}

/// An authority that is trusted in this run only.
#[derive(Debug)]
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// Makes one, with a key of its own.
    ///
    /// # Errors
    /// When no key can be made.
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

    /// A server's certificate for names and addresses.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
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
        let common = names
            .first()
            .cloned()
            .or_else(|| addresses.first().map(ToString::to_string))
            .unwrap_or_default();
        params.distinguished_name.push(DnType::CommonName, common);
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok(Certificate {
            chain: leaf.pem(),
            key: key.serialize_pem(),
        })
    }
}
