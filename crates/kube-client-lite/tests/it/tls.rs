//! Certificates: the server's, the client's, and what is said when they do not fit.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use kube_client_lite::config::{Ca, ClientCert, PemSource, Secret, Tls};
use kube_client_lite::{Client, Config, RetryPolicy};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::common::*;

/// A CA with a certificate for a server and one for a client.
struct Pki {
    ca: String,
    server: (rcgen::Certificate, KeyPair),
    client: (String, String),
}

fn pki(name: &str) -> Pki {
    pki_of(name, 2020..2100)
}

/// With certificates that are good for some years only.
fn pki_of(name: &str, years: std::ops::Range<i32>) -> Pki {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let certificate = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        (params.signed_by(&key, &issuer).unwrap(), key)
    };
    let (client, key) = certificate("client");
    Pki {
        ca,
        server: certificate(name),
        client: (client.pem(), key.serialize_pem()),
    }
}

/// Serves one request after another; gives the configuration that fits.
fn serve(pki: &Pki, ask_client: bool) -> Config {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if ask_client {
        let mut roots = RootCertStore::empty();
        let ca = pem(&pki.ca);
        roots.add(ca.into()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let (certificate, key) = &pki.server;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = builder
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, tcp.unwrap());
            let head = read_request(&mut stream);
            let host = head.lines().find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("host: ")
                    .map(str::to_owned)
            });
            let _ = stream.write_all(
                answer(
                    "200 OK",
                    &format!(r#"{{"gitVersion": {host:?}}}"#)
                        .replace("Some(", "")
                        .replace(')', ""),
                )
                .as_bytes(),
            );
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    Config {
        tls: Tls {
            ca: Ca::Pem(pki.ca.clone().into_bytes()),
            ..Tls::default()
        },
        ..plain(&format!("https://127.0.0.1:{port}"))
    }
}

fn pem(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD
        .decode(body)
        .unwrap()
}

fn version(config: Config) -> Result<String, String> {
    let client = Client::new(config)
        .map_err(|error| error.to_string())?
        .with_retry(RetryPolicy::NEVER);
    match client.version() {
        Ok(version) => Ok(version.git_version),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn a_client_certificate() {
    let pki = pki("127.0.0.1");
    let mut config = serve(&pki, true);
    let error = version(config.clone()).unwrap_err();
    assert!(
        error.contains("TLS failed") || error.contains("broken answer"),
        "{error}"
    );
    let (cert, key) = &pki.client;
    config.tls.client_cert = Some(ClientCert {
        cert: PemSource::Inline(Secret::new(cert.clone())),
        key: PemSource::Inline(Secret::new(key.clone())),
    });
    version(config).unwrap();
}

#[test]
fn a_client_certificate_in_files_that_rotates() {
    let (old, new) = (pki("127.0.0.1"), pki("127.0.0.1"));
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let write = |pki: &Pki| {
        std::fs::write(&cert, &pki.client.0).unwrap();
        std::fs::write(&key, &pki.client.1).unwrap();
    };
    write(&old);
    let mut config = serve(&new, true);
    config.tls.client_cert = Some(ClientCert {
        cert: PemSource::File(cert.clone()),
        key: PemSource::File(key.clone()),
    });
    let client = Client::new(config).unwrap().with_retry(RetryPolicy::NEVER);
    client.version().unwrap_err();
    write(&new);
    client.version().unwrap();
    // A certificate without its key: the last pair goes on.
    std::fs::write(&cert, &old.client.0).unwrap();
    client.version().unwrap();
}

#[test]
fn another_name_for_the_certificate_keeps_the_host_of_the_url() {
    let pki = pki("kubernetes.internal");
    let mut config = serve(&pki, false);
    let host = config.server.strip_prefix("https://").unwrap().to_owned();
    let error = version(config.clone()).unwrap_err();
    assert!(
        error.contains("TLS failed: the server's certificate is for another name"),
        "{error}"
    );
    config.tls.server_name = Some("kubernetes.internal".to_owned());
    assert_eq!(version(config.clone()).unwrap(), host);
    config.tls.server_name = Some("kubernetes.external".to_owned());
    assert!(version(config).unwrap_err().contains("for another name"));
}

#[test]
fn a_server_name_that_is_none_is_refused() {
    let sim = empty();
    for name in ["a/b", "user@host", "a:1", "a b", ""] {
        let mut config = config(&sim);
        config.tls.server_name = Some(name.to_owned());
        let error = version(config).unwrap_err();
        assert_eq!(
            error, "test: tls-server-name is not a host name",
            "{name:?}"
        );
    }
    for name in ["::1", "127.0.0.1", "localhost"] {
        let mut config = config(&sim);
        config.tls.server_name = Some(name.to_owned());
        version(config).unwrap();
    }
}

#[test]
fn certificates_that_do_not_fit() {
    for (pki, expected) in [
        (
            pki_of("127.0.0.1", 2000..2010),
            "has expired, or this machine's clock is wrong",
        ),
        (
            pki_of("127.0.0.1", 2130..2140),
            "is not valid yet, or this machine's clock is wrong",
        ),
        (pki("example.com"), "is for another name"),
    ] {
        let config = serve(&pki, false);
        let error = version(config.clone()).unwrap_err();
        let expected = format!("get /version: TLS failed: the server's certificate {expected}");
        assert!(error.starts_with(&expected), "{error}");
        let mut config = config;
        config.tls.insecure_skip_verify = true;
        version(config).unwrap();
    }
}

#[test]
fn another_ca() {
    let pki = pki("127.0.0.1");
    let mut config = serve(&pki, false);
    config.tls.ca = Ca::Pem(empty().ca_pem().into_bytes());
    let error = version(config).unwrap_err();
    let expected =
        "get /version: TLS failed: the server's certificate is not signed by the configured CA";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn plain_http_where_tls_is_expected_and_the_reverse() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let sim = empty();
    let mut config = config(&sim);
    config.server = url;
    let error = version(config).unwrap_err();
    assert!(
        error.starts_with("get /version: TLS failed: the other side does not speak TLS"),
        "{error}"
    );

    let error = version(plain(&sim.url().replace("https:", "http:"))).unwrap_err();
    assert_eq!(
        error,
        "get /version: 400: Client sent an HTTP request to an HTTPS server."
    );
}
