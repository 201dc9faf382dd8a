//! The simulator's own certificate authority.
//!
//! Made anew at each start, or kept in a directory so that a restarted process is trusted by clients that read its CA
//! before. The server certificate names `localhost`, the loopback addresses and the names of the in-cluster service.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A CA and the TLS configuration of a server certificate it signed.
#[derive(Clone)]
pub(crate) struct Authority {
    /// The CA certificate as PEM.
    pub(crate) pem: String,
    /// What the server presents.
    pub(crate) config: Arc<ServerConfig>,
}

impl Authority {
    /// Makes a new CA, or takes the one kept in `directory` (`ca.crt`, `ca.key`), making it there when it is absent.
    pub(crate) fn new(address: IpAddr, directory: Option<&Path>) -> io::Result<Self> {
        let kept = directory.and_then(|directory| {
            let pem = fs::read_to_string(directory.join("ca.crt")).ok()?;
            let key = fs::read_to_string(directory.join("ca.key")).ok()?;
            KeyPair::from_pem(&key).ok().map(|key| (pem, key))
        });
        let fresh = kept.is_none();
        let (pem, key) = if let Some(kept) = kept {
            kept
        } else {
            let key = KeyPair::generate().map_err(io::Error::other)?;
            let pem = ca_params()
                .self_signed(&key)
                .map_err(io::Error::other)?
                .pem();
            (pem, key)
        };
        if let (true, Some(directory)) = (fresh, directory) {
            fs::create_dir_all(directory)?;
            fs::write(directory.join("ca.crt"), &pem)?;
            fs::write(directory.join("ca.key"), key.serialize_pem())?;
        }
        let config = server_config(address, key).map_err(io::Error::other)?;
        Ok(Self { pem, config })
    }
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "kube-sim-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
}

fn server_config(
    address: IpAddr,
    ca_key: KeyPair,
) -> Result<Arc<ServerConfig>, Box<dyn std::error::Error + Send + Sync>> {
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
        "kubernetes".to_owned(),
        "kubernetes.default".to_owned(),
        "kubernetes.default.svc".to_owned(),
        "kubernetes.default.svc.cluster.local".to_owned(),
        "host.docker.internal".to_owned(),
    ];
    if !address.is_unspecified() && !names.contains(&address.to_string()) {
        names.push(address.to_string());
    }
    let mut params = CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "kube-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &Issuer::new(ca_params(), ca_key))?;
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )?;
    Ok(Arc::new(config))
}
