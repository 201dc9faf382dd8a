use std::env;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring::sign;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};

use super::file::{self, FileStamp};
use super::{ConfigError, Secret};

/// The bundle of Debian and its like, Fedora and its like, openSUSE, newer Fedora, Alpine and the BSDs.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

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
    /// A PEM file, read again when it changes.
    File(PathBuf),
    /// PEM text.
    Pem(Vec<u8>),
    /// The system's bundle: `SSL_CERT_FILE`, or the usual file of a Linux distribution.
    #[default]
    System,
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

impl Tls {
    /// Reads, parses and checks all certificates and keys. Not for a server of scheme `http`,
    /// which needs none, so that a missing system bundle would be a needless error.
    pub(crate) fn load(&self) -> Result<LoadedTls, ConfigError> {
        let roots = if self.insecure_skip_verify {
            Vec::new()
        } else {
            self.ca.load()?
        };
        let client = self
            .client_cert
            .as_ref()
            .map(ClientCert::load)
            .transpose()?;
        Ok(LoadedTls { roots, client })
    }

    /// Looks at the files, without reading them.
    pub(crate) fn stamp(&self) -> Stamp {
        let mut files = Vec::new();
        if let Ca::File(path) = &self.ca {
            files.push(path);
        }
        if let Some(ClientCert { cert, key }) = &self.client_cert {
            for source in [cert, key] {
                if let PemSource::File(path) = source {
                    files.push(path);
                }
            }
        }
        Stamp(files.into_iter().map(|path| FileStamp::of(path)).collect())
    }
}

impl Ca {
    /// Reads, parses and checks all certificates.
    ///
    /// # Errors
    /// Which certificate of which file cannot be used, and why; a bundle without any is an error.
    pub fn load(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        match self {
            Ca::File(path) => parse_roots(
                &file::read(path, "certificate authority")?,
                &path.display().to_string(),
            ),
            Ca::Pem(pem) => parse_roots(pem, "certificate authority given as text"),
            Ca::System => {
                let set = env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty());
                system_roots(match set {
                    Some(path) => vec![path.into()],
                    None => SYSTEM_BUNDLES.iter().map(PathBuf::from).collect(),
                })
            }
        }
    }
}

/// The certificates of a bundle, each of which must be fit for a trust anchor: the TLS library
/// would pass over the others in silence, and the handshake fail for no visible reason.
pub(super) fn parse_roots(
    pem: &[u8],
    origin: &str,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    parse_certificates(pem, origin, |certificate| {
        RootCertStore::empty().add(certificate.clone())
    })
}

/// System bundles have certificates of all ages, so here one that does not parse is left out.
fn system_roots(tried: Vec<PathBuf>) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let Some(path) = tried.iter().find(|path| path.exists()) else {
        return Err(ConfigError::SystemRootsMissing { tried });
    };
    let pem = file::read(path, "system's certificate authorities")?;
    let roots: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .flatten()
        .filter(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok())
        .collect();
    if roots.is_empty() {
        return Err(ConfigError::CertificateMissing {
            origin: path.display().to_string(),
        });
    }
    Ok(roots)
}

fn parse_certificates(
    pem: &[u8],
    origin: &str,
    check: impl Fn(&CertificateDer<'static>) -> Result<(), rustls::Error>,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let invalid = |reason| ConfigError::CertificateInvalid {
            origin: origin.to_owned(),
            index: certificates.len() + 1,
            reason,
        };
        let certificate = certificate.map_err(|error| invalid(pem_reason(&error)))?;
        check(&certificate).map_err(|error| invalid(error.to_string()))?;
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        return Err(ConfigError::CertificateMissing {
            origin: origin.to_owned(),
        });
    }
    Ok(certificates)
}

/// What is wrong with PEM, in words: the library's own text quotes bytes of the input.
fn pem_reason(error: &pem::Error) -> String {
    match error {
        pem::Error::Base64Decode(_) => "not base64",
        pem::Error::IllegalSectionStart { .. } => "a broken BEGIN line",
        pem::Error::MissingSectionEnd { .. } => "no END line",
        _ => "not PEM",
    }
    .to_owned()
}

impl ClientCert {
    fn load(&self) -> Result<ClientIdentity, ConfigError> {
        let (cert, cert_origin) = self
            .cert
            .read("client certificate", "client certificate given as text")?;
        let (key, key_origin) = self.key.read("client key", "client key given as text")?;
        ClientIdentity::parse((&cert, &cert_origin), (&key, &key_origin))
    }
}

impl PemSource {
    fn read(&self, purpose: &'static str, inline: &str) -> Result<(Vec<u8>, String), ConfigError> {
        match self {
            PemSource::File(path) => Ok((file::read(path, purpose)?, path.display().to_string())),
            PemSource::Inline(text) => Ok((text.expose().as_bytes().to_vec(), inline.to_owned())),
        }
    }

    pub(super) fn inline(&self) -> Option<&[u8]> {
        match self {
            PemSource::File(_) => None,
            PemSource::Inline(text) => Some(text.expose().as_bytes()),
        }
    }
}

impl ClientIdentity {
    /// Parses a chain and its key, each given with the place it is from, and checks that they
    /// belong together: the HTTP library would panic.
    pub(super) fn parse(cert: (&[u8], &str), key: (&[u8], &str)) -> Result<Self, ConfigError> {
        let (pem, cert_origin) = cert;
        let chain = parse_certificates(pem, cert_origin, |certificate| {
            ParsedCertificate::try_from(certificate).map(drop)
        })?;
        let (pem, key_origin) = key;
        let invalid = |reason: &str| ConfigError::KeyInvalid {
            origin: key_origin.to_owned(),
            reason: reason.to_owned(),
        };
        if pem.windows(9).any(|word| word == b"ENCRYPTED") {
            return Err(invalid("the private key is encrypted"));
        }
        let key = match PrivateKeyDer::from_pem_slice(pem) {
            Ok(key) => key,
            Err(pem::Error::NoItemsFound) => return Err(invalid("no private key in it")),
            Err(error) => return Err(invalid(&pem_reason(&error))),
        };
        let signing = sign::any_supported_type(&key).map_err(|_| {
            invalid("a private key of an unknown kind (RSA, P-256, P-384 and Ed25519 are known)")
        })?;
        match CertifiedKey::new(chain.clone(), Arc::clone(&signing)).keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                Ok(ClientIdentity { chain, key })
            }
            Err(_) => Err(ConfigError::KeyMismatch {
                certificate: cert_origin.to_owned(),
                key: key_origin.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::fs;

    use base64::prelude::{BASE64_STANDARD, Engine};
    use rcgen::generate_simple_self_signed;

    use super::*;

    /// A self-signed certificate and its key, as PEM.
    pub(in super::super) fn pair() -> (String, String) {
        let pair = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (pair.cert.pem(), pair.signing_key.serialize_pem())
    }

    fn client(cert: &str, key: &str) -> Tls {
        let source = |text: &str| PemSource::Inline(Secret::new(text));
        Tls {
            insecure_skip_verify: true,
            client_cert: Some(ClientCert {
                cert: source(cert),
                key: source(key),
            }),
            ..Tls::default()
        }
    }

    #[test]
    fn bundle() {
        let (one, _) = pair();
        let (two, _) = pair();
        for (bundle, expected) in [
            (one.clone(), Ok(1)),
            (format!("# comment\n{one}\r\n{two}"), Ok(2)),
            (
                String::new(),
                Err("ca: no PEM certificate in it; expected -----BEGIN CERTIFICATE-----"),
            ),
            (
                "garbage".to_owned(),
                Err("ca: no PEM certificate in it; expected -----BEGIN CERTIFICATE-----"),
            ),
            (
                format!("{one}-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"),
                Err("ca: certificate 2 cannot be read (not base64); replace it or take it out"),
            ),
            (
                format!("{one}{two}-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"),
                Err(
                    "ca: certificate 3 cannot be read (invalid peer certificate: BadEncoding); replace it or take it out",
                ),
            ),
            (
                one.replace("-----END CERTIFICATE-----", ""),
                Err("ca: certificate 1 cannot be read (no END line); replace it or take it out"),
            ),
        ] {
            let roots = parse_roots(bundle.as_bytes(), "ca").map(|roots| roots.len());
            assert_eq!(
                roots.map_err(|error| error.to_string()),
                expected.map_err(str::to_owned),
                "{bundle}"
            );
        }
    }

    #[test]
    fn system_bundle() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let error = system_roots(vec![missing.clone()]).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "no certificate authority: none is configured and the system has no bundle ({}); \
                 configure one or set SSL_CERT_FILE",
                missing.display()
            )
        );
        let bundle = dir.path().join("bundle");
        fs::write(
            &bundle,
            pair().0 + "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        assert_eq!(system_roots(vec![missing, bundle]).unwrap().len(), 1);
    }

    #[test]
    fn client_certificate() {
        let (cert, key) = pair();
        let loaded = client(&cert, &key).load().unwrap();
        assert!(loaded.roots.is_empty());
        assert_eq!(loaded.client.unwrap().chain.len(), 1);

        let inline = "client key given as text";
        let formats = "expected an unencrypted PEM private key (PKCS#8, PKCS#1 or SEC1)";
        for (key, expected) in [
            (
                pair().1,
                format!(
                    "{inline}: this private key does not belong to the certificate in client \
                     certificate given as text; use the pair that was issued together"
                ),
            ),
            (
                String::new(),
                format!("{inline}: no private key in it; {formats}"),
            ),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nQUJD\n-----END ENCRYPTED PRIVATE KEY-----"
                    .to_owned(),
                format!("{inline}: the private key is encrypted; {formats}"),
            ),
            (
                "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----".to_owned(),
                format!(
                    "{inline}: a private key of an unknown kind (RSA, P-256, P-384 and Ed25519 are known); {formats}"
                ),
            ),
        ] {
            assert_eq!(
                client(&cert, &key).load().unwrap_err().to_string(),
                expected
            );
        }
    }

    #[test]
    fn sec1_key() {
        // The SEC1 key is the last part of the PKCS#8 one, two bytes before its version number.
        let (cert, key) = pair();
        let pkcs8 = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let version = pkcs8
            .secret_der()
            .windows(5)
            .position(|w| w == [2, 1, 1, 4, 32])
            .unwrap();
        let sec1 = BASE64_STANDARD.encode(&pkcs8.secret_der()[version - 2..]);
        let key = format!("-----BEGIN EC PRIVATE KEY-----\n{sec1}\n-----END EC PRIVATE KEY-----\n");
        let parameters =
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let loaded = client(&cert, &format!("{parameters}{key}")).load().unwrap();
        assert!(matches!(loaded.client.unwrap().key, PrivateKeyDer::Sec1(_)));
    }

    #[test]
    fn stamp_follows_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.crt");
        let tls = Tls {
            ca: Ca::File(path.clone()),
            ..Tls::default()
        };
        let absent = tls.stamp();
        fs::write(&path, "one").unwrap();
        let one = tls.stamp();
        assert_eq!(one, tls.stamp());
        assert_ne!(absent, one);
        fs::write(dir.path().join("new"), "two").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_ne!(one, tls.stamp());
        fs::remove_file(&path).unwrap();
        assert_eq!(absent, tls.stamp());
    }

    #[test]
    fn debug_shows_no_key() {
        let (cert, key) = pair();
        let tls = client(&cert, &key);
        let body = key.lines().nth(1).unwrap();
        assert!(!format!("{tls:?}{:?}", tls.load()).contains(body));
    }
}
