//! A cluster to talk to, and servers that say whatever a test wants them to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use kube_client_lite::config::{Auth, Ca, Secret, Timeouts, Tls};
use kube_client_lite::{Client, Config, KubeconfigOptions, Resource, RetryPolicy};
use kube_sim::{Cluster, Options, Request, Sim};
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps");
pub(crate) const PODS: Resource = Resource::new("", "v1", "pods");
pub(crate) const MAPS_PATH: &str = "/api/v1/namespaces/default/configmaps";

/// A cluster with nothing in it but its namespaces.
pub(crate) fn empty() -> Sim {
    start(Options {
        cluster: Cluster::Empty,
        ..Options::default()
    })
}

/// A small cluster as a real server answered it.
pub(crate) fn recorded() -> Sim {
    start(Options::default())
}

pub(crate) fn start(options: Options) -> Sim {
    Sim::start(options).unwrap()
}

/// The configuration for a simulator, as its kubeconfig would give it.
pub(crate) fn config(sim: &Sim) -> Config {
    Config {
        tls: Tls {
            ca: Ca::Pem(sim.ca_pem().into_bytes()),
            ..Tls::default()
        },
        auth: Auth::Token(Secret::new(sim.token())),
        ..plain(&sim.url())
    }
}

/// A configuration without credentials.
pub(crate) fn plain(server: &str) -> Config {
    Config {
        server: server.to_owned(),
        tls: Tls::default(),
        auth: Auth::None,
        proxy: None,
        namespace: None,
        user_agent: "kube-client-lite-test".to_owned(),
        timeouts: Timeouts::default(),
        source: "test".to_owned(),
    }
}

pub(crate) fn client(sim: &Sim) -> Client {
    Client::new(config(sim)).unwrap()
}

/// A client that makes every call once and waits for nothing longer than `read`.
pub(crate) fn impatient(sim: &Sim, read: Duration) -> Client {
    let mut config = config(sim);
    config.timeouts.read = read;
    Client::new(config).unwrap().with_retry(RetryPolicy::NEVER)
}

/// Writes a kubeconfig and loads it.
pub(crate) fn load_kubeconfig(dir: &Path, text: &str) -> Config {
    let path = dir.join("kubeconfig");
    std::fs::write(&path, text).unwrap();
    let options = KubeconfigOptions {
        path: Some(path),
        context: None,
    };
    Config::kubeconfig(&options).unwrap()
}

pub(crate) fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// The part of a ConfigMap that tests look at.
#[derive(Debug, Deserialize)]
pub(crate) struct ConfigMap {
    pub(crate) metadata: kube_client_lite::ObjectMeta,
    #[serde(default)]
    pub(crate) data: std::collections::BTreeMap<String, String>,
}

/// The requests for a path.
pub(crate) fn requests(sim: &Sim, path: &str) -> Vec<Request> {
    let mut requests = sim.requests();
    requests.retain(|request| request.path == path);
    requests
}

/// Runs it and says how long it took.
pub(crate) fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = run();
    (result, start.elapsed())
}

/// A server in plain HTTP that answers each connection with bytes of a test's choosing.
pub(crate) struct Raw {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Raw {
    /// Answers the first connection with the first of `answers` and so on, the last one for ever.
    pub(crate) fn answers<A: AsRef<[u8]> + Send + 'static>(answers: Vec<A>) -> Self {
        Self::new(move |mut stream, number| {
            let answer = &answers[number.min(answers.len() - 1)];
            let _ = stream.write_all(answer.as_ref());
        })
    }

    /// Gives each connection, its request read, to `serve`, with its number from 0.
    pub(crate) fn new(serve: impl Fn(TcpStream, usize) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heads);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let head = read_request(&mut stream);
                log.lock().unwrap().push(head);
                serve(stream, number);
            }
        });
        Self { address, heads }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(plain(&self.url())).unwrap()
    }

    /// The heads of the requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// Reads a request with its body; gives the head.
pub(crate) fn read_request(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head
        .lines()
        .find_map(|line| {
            line.to_lowercase()
                .strip_prefix("content-length: ")?
                .parse()
                .ok()
        })
        .unwrap_or(0_u64);
    let _ = std::io::copy(&mut stream.take(length), &mut std::io::sink());
    head
}

/// A complete answer with a body of JSON.
pub(crate) fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
