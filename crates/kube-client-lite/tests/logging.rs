//! No secret in the log, however much is logged. Alone in its process, which has one logger.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;

use kube_client_lite::config::{Auth, Ca, Secret, Timeouts, Tls};
use kube_client_lite::{Client, Config, ListParams, Resource, RetryPolicy};
use kube_sim::{Options, Sim};

struct Lines(Mutex<String>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {} {}\n", record.level(), record.target(), record.args());
        self.0.lock().unwrap().push_str(&line);
    }
    fn flush(&self) {}
}

static LINES: Lines = Lines(Mutex::new(String::new()));

#[test]
fn no_secret_is_logged() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let sim = Sim::start(Options {
        token: "s3cret-token".to_owned(),
        ..Options::default()
    })
    .unwrap();
    let mut config = Config {
        server: sim.url(),
        tls: Tls {
            ca: Ca::Pem(sim.ca_pem().into_bytes()),
            ..Tls::default()
        },
        auth: Auth::Token(Secret::new(sim.token())),
        proxy: None,
        namespace: None,
        user_agent: "test".to_owned(),
        timeouts: Timeouts::default(),
        source: "test".to_owned(),
    };
    let pods = Resource::new("", "v1", "pods");
    let client = Client::new(config.clone()).unwrap();
    let all: Vec<serde_json::Value> = client.api(pods).list_all(&ListParams::default()).unwrap();
    assert!(!all.is_empty());

    // A proxy that wants other credentials.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    config.proxy = Some(format!(
        "http://s3cret-user:s3cret-word@{}",
        listener.local_addr().unwrap()
    ));
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 407 No\r\n\r\n");
    });
    let client = Client::new(config).unwrap().with_retry(RetryPolicy::NEVER);
    client.version().unwrap_err();

    sim.expire_token();
    let lines = LINES.0.lock().unwrap();
    assert!(
        lines.contains("TRACE") && lines.contains("/api/v1/pods"),
        "{lines}"
    );
    let secret: Vec<_> = lines
        .lines()
        .filter(|line| line.contains("s3cret"))
        .collect();
    assert!(secret.is_empty(), "{secret:#?}");
}
