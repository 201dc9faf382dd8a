//! Proxies: those of a kubeconfig are used, those of the environment are not.

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use kube_client_lite::{Client, RetryPolicy, TransportKind};

use crate::common::*;

/// A proxy that connects every CONNECT to one place, whatever it asks for.
fn proxy(target: std::net::SocketAddr, refuse: bool) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heads);
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            log.lock().unwrap().push(read_request(&mut client));
            if refuse {
                let _ = client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
                continue;
            }
            let server = TcpStream::connect(target).unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), server.try_clone().unwrap()),
                (server, client),
            ] {
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
    (address.to_string(), heads)
}

#[test]
fn the_proxy_of_a_kubeconfig_is_used() {
    let sim = empty();
    let (address, heads) = proxy(sim.addr(), false);
    let dir = tempfile::tempdir().unwrap();
    // The name does not resolve here: the proxy does that.
    let kubeconfig = sim
        .kubeconfig()
        .replace("127.0.0.1", "kubernetes.default.svc.cluster.local")
        .replace(
            "    server:",
            &format!("    proxy-url: http://user:pass%20word@{address}\n    server:"),
        );
    let client = Client::new(load_kubeconfig(dir.path(), &kubeconfig)).unwrap();
    client.version().unwrap();
    client.version().unwrap();
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), 1);
    let head = &heads[0];
    let port = sim.addr().port();
    let target = format!("kubernetes.default.svc.cluster.local:{port}");
    assert!(
        head.starts_with(&format!("CONNECT {target} HTTP/1.1\r\n")),
        "{head}"
    );
    assert!(head.contains("Proxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=\r\n"));
    assert!(!head.to_lowercase().contains("bearer"));
    assert!(
        head.contains("kube-client-lite/") && !head.contains("ureq"),
        "{head}"
    );
}

#[test]
fn tls_server_name_goes_through_a_proxy() {
    let sim = empty();
    let (address, heads) = proxy(sim.addr(), false);
    let mut config = config(&sim);
    config.server = "https://api.cluster.example:6443".to_owned();
    config.tls.server_name = Some("kubernetes.default.svc".to_owned());
    config.proxy = Some(format!("http://{address}"));
    Client::new(config).unwrap().version().unwrap();
    let head = heads.lock().unwrap()[0].clone();
    assert!(
        head.starts_with("CONNECT api.cluster.example:6443 HTTP/1.1\r\n"),
        "{head}"
    );
}

#[test]
fn a_proxy_that_refuses_is_said() {
    let sim = empty();
    let (address, _) = proxy(sim.addr(), true);
    let mut config = config(&sim);
    config.proxy = Some(format!("http://{address}"));
    let client = Client::new(config).unwrap().with_retry(RetryPolicy::NEVER);
    let error = client.version().unwrap_err();
    assert!(
        matches!(
            &error,
            kube_client_lite::Error::Transport {
                kind: TransportKind::Connect,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("407"), "{error}");
}

#[test]
fn a_proxy_that_cannot_be_used_is_refused_at_the_start() {
    let sim = empty();
    let mut config = config(&sim);
    config.proxy = Some("://s3cret".to_owned());
    let error = Client::new(config).unwrap_err().to_string();
    assert_eq!(error, "test: proxy-url is not the URL of an HTTP proxy");
}

/// The environment of a process cannot be changed safely, so this test runs itself with another.
#[test]
fn proxies_of_the_environment_are_ignored() {
    const MARK: &str = "KUBE_CLIENT_LITE_TEST_PROXIED";
    if std::env::var_os(MARK).is_some() {
        let sim = empty();
        client(&sim).version().unwrap();
        assert_eq!(sim.connections(), 1);
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "proxy::proxies_of_the_environment_are_ignored"]);
    child.env(MARK, "1");
    for name in [
        "ALL_PROXY",
        "all_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
    ] {
        child.env(name, "http://127.0.0.1:1");
    }
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}
