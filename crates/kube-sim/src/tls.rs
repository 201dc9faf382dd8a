//! A simulator's own certificate authority.
//!
//! Made anew at each start, or kept in a directory so that a restarted process is trusted by clients that read its CA
//! before.

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
use rustls::version::TLS12;

/// A CA.
pub struct Authority {
    name: String,
    pem: String,
    key: KeyPair,
}

/// What a server certificate says.
#[derive(Clone, Debug, Default)]
pub struct Leaf {
    /// The common name; clients do not look at it.
    pub common_name: String,
    /// Host names and addresses.
    pub names: Vec<String>,
    /// Whether it ended years ago.
    pub expired: bool,
    /// Whether the server speaks TLS 1.2 and nothing newer.
    pub only_tls12: bool,
}

impl Authority {
    /// Makes a new CA, or takes the one kept in `directory` (`ca.crt`, `ca.key`), making it there when it is absent.
    ///
    /// # Errors
    /// When no key can be made, or the directory cannot be written.
    pub fn new(name: &str, directory: Option<&Path>) -> io::Result<Self> {
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
            let pem = ca_params(name)
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
        let name = name.to_owned();
        Ok(Self { name, pem, key })
    }

    /// The CA certificate as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Makes a server certificate with a key of its own, ready to be served.
    ///
    /// # Errors
    /// When no key can be made, or a name is none.
    pub fn issue(&self, leaf: &Leaf) -> io::Result<Arc<ServerConfig>> {
        self.server_config(leaf).map_err(io::Error::other)
    }

    fn server_config(
        &self,
        leaf: &Leaf,
    ) -> Result<Arc<ServerConfig>, Box<dyn std::error::Error + Send + Sync>> {
        let mut params = CertificateParams::new(leaf.names.clone())?;
        params
            .distinguished_name
            .push(DnType::CommonName, leaf.common_name.as_str());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if leaf.expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate()?;
        let issuer = Issuer::new(ca_params(&self.name), &self.key);
        let certificate = params.signed_by(&key, &issuer)?;
        let versions = if leaf.only_tls12 {
            &[&TLS12]
        } else {
            rustls::DEFAULT_VERSIONS
        };
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_protocol_versions(versions)?
                .with_no_client_auth()
                .with_single_cert(
                    vec![certificate.der().clone()],
                    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
                )?;
        Ok(Arc::new(config))
    }
}

impl Leaf {
    /// A good certificate for this address, the loopback ones, and more names.
    #[must_use]
    pub fn new(common_name: &str, address: IpAddr, more: &[&str]) -> Self {
        let mut names = vec![
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
        ];
        names.extend(more.iter().map(|name| (*name).to_owned()));
        if !address.is_unspecified() && !names.contains(&address.to_string()) {
            names.push(address.to_string());
        }
        Self {
            common_name: common_name.to_owned(),
            names,
            ..Self::default()
        }
    }
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
}
