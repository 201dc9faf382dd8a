use std::path::PathBuf;
use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{ConfigError, Secret};

/// How the server is recognised, and with which certificate this client presents itself.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Who may have signed the server's certificate.
    pub ca: Ca,
    /// Accepts any server certificate. Whoever is on the network path can then read the token.
    pub insecure_skip_verify: bool,
    /// The name the server's certificate must have, when it is not the host of the URL.
    pub server_name: Option<String>,
    /// The client certificate, if the cluster authenticates by one.
    pub client_cert: Option<ClientCert>,
}

/// The certificate authorities that may have signed the server's certificate.
#[derive(Clone, Debug, Default)]
pub enum Ca {
    /// The system's bundle: `SSL_CERT_FILE`, or the usual file of a Linux distribution.
    #[default]
    System,
    /// PEM text.
    Pem(Vec<u8>),
    /// A PEM file, read again when it changes.
    File(PathBuf),
}

/// A client certificate chain and its private key.
#[derive(Clone, Debug)]
pub struct ClientCert {
    /// The chain, the client's own certificate first.
    pub cert: PemSource,
    /// The private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PemSource,
}

/// Where PEM text is.
#[derive(Clone, Debug)]
pub enum PemSource {
    /// A file, read again when it changes.
    File(PathBuf),
    /// The text itself.
    Inline(Secret),
}

/// Certificates and keys that were read, parsed and checked.
#[derive(Debug)]
pub(crate) struct LoadedTls {
    /// Never empty, unless verification is off.
    pub(crate) roots: Vec<CertificateDer<'static>>,
    pub(crate) client: Option<ClientIdentity>,
}

/// A client certificate chain with the key that belongs to it.
#[derive(Debug)]
pub(crate) struct ClientIdentity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// The state of the files of a [`Tls`]; it differs after one of them was replaced.
///
/// A file that is missing gives a stamp too, so that the loading may say what is wrong. A caller
/// whose loading fails goes on with what it has, and keeps the stamp that belongs to it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Stamp(Vec<Option<FileStamp>>);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FileStamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

impl Tls {
    /// Reads, parses and checks all certificates and keys.
    pub(crate) fn load(&self) -> Result<LoadedTls, ConfigError> {
        todo!()
    }

    /// Looks at the files, without reading them.
    pub(crate) fn stamp(&self) -> Stamp {
        todo!()
    }
}
