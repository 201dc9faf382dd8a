//! A client that sends exactly what a test says, and requests as the contract has them.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use kube9_sim::{Call, Options, Server, Tls};
use serde_json::{Value, json};

pub(crate) const IDENTIFIER: &str =
    "sha256:7d4a0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab";
pub(crate) const CLUSTER: &str = "cls_7d4a0123456789ab";
pub(crate) const REQUEST: &str = "11111111-1111-4111-8111-111111111111";

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// A server that speaks plain HTTP, so that tests see its bytes.
pub(crate) fn server() -> Server {
    with(Options::default())
}

pub(crate) fn with(options: Options) -> Server {
    Server::start(Options {
        tls: Tls::Off,
        ..options
    })
    .unwrap()
}

/// One that knows the cluster already.
pub(crate) fn registered(options: Options) -> Server {
    let server = with(options);
    assert_eq!(post(&server, Call::Register, &register()).status, 200);
    server
}

/// Sends bytes on a connection of their own, and reads to its end.
pub(crate) fn exchange(server: &Server, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut tcp = TcpStream::connect(server.addr())?;
    tcp.set_read_timeout(Some(Duration::from_secs(30)))?;
    tcp.write_all(bytes)?;
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer)?;
    Ok(answer)
}

/// A request with these headers, and the answer to it.
pub(crate) fn send(server: &Server, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    try_send(server, line, headers, body).unwrap()
}

pub(crate) fn try_send(
    server: &Server,
    line: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Answer> {
    Answer::parse(&exchange(server, &request(line, headers, body))?)
}

pub(crate) fn request(line: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    format!("{text}\r\n{body}").into_bytes()
}

/// The headers of the contract.
pub(crate) fn headers<'h>(length: &'h str, request: Option<&'h str>) -> Vec<(&'h str, &'h str)> {
    let mut headers = vec![
        ("Host", "kube9"),
        ("Connection", "close"),
        ("Authorization", "Bearer kube9-sim-key"),
        ("User-Agent", "kube9-operator/0.1.0"),
        ("Accept", "application/json"),
    ];
    if !length.is_empty() {
        headers.extend([
            ("Content-Type", "application/json"),
            ("Content-Length", length),
        ]);
    }
    headers.extend(request.map(|id| ("Idempotency-Key", id)));
    headers
}

/// Posts a body as the contract has it.
pub(crate) fn post(server: &Server, call: Call, body: &Value) -> Answer {
    let body = body.to_string();
    let length = body.len().to_string();
    let request = (call == Call::Analyze).then_some(REQUEST);
    let line = format!("POST {}", call.path());
    send(server, &line, &headers(&length, request), &body)
}

pub(crate) fn get(server: &Server, url: &str) -> Answer {
    send(server, &format!("GET {url}"), &headers("", None), "")
}

/// All insights.
pub(crate) fn insights(server: &Server, since: &str) -> Value {
    get(server, &format!("/api/v1/insights?since={since}")).json()
}

pub(crate) fn register() -> Value {
    json!({
        "operatorVersion": "0.1.0", "clusterIdentifier": IDENTIFIER, "kubernetesVersion": "1.36.2",
        "approximateNodeCount": 5,
    })
}

pub(crate) fn metrics() -> Value {
    json!({
        "payloadVersion": 1, "clusterId": CLUSTER, "timestamp": "2026-11-23T17:43:48.123Z",
        "operatorVersion": "0.1.0", "mapEpoch": "0123456789abcdef0123456789abcdef",
        "cluster": {
            "kubernetesVersion": "1.36.2", "nodes": 5, "nodesReady": 5, "cpuCapacityMillicores": 20000,
            "memoryCapacityBytes": 0, "avgCpuUsage": 67.5, "avgMemoryUsage": null,
        },
        "resources": {"namespace_001": {
            "deployments": 12, "pods": 45, "avgCpuUsage": 67.5, "avgMemoryUsage": null, "statefulSets": 0,
            "daemonSets": 0, "replicaSets": 0, "jobs": 0, "cronJobs": 0, "services": 0,
            "persistentVolumeClaims": 0,
            "podsByPhase": {"pending": 0, "running": 45, "succeeded": 0, "failed": 0, "unknown": 0},
            "containers": 90, "containerRestarts": 3, "cpuRequestsMillicores": 0, "cpuLimitsMillicores": 0,
            "memoryRequestsBytes": 0, "memoryLimitsBytes": 0,
            "signals": {"run-as-root": 4, "no-memory-limit": 9},
            "workloads": {"deployment_002": {
                "replicas": 3, "readyReplicas": 3, "containers": 2, "restarts": 0,
                "signals": ["run-as-root"],
            }},
        }},
    })
}

pub(crate) fn analyze() -> Value {
    json!({
        "requestId": REQUEST, "clusterId": CLUSTER, "resourceType": "deployment",
        "resourceId": "deployment_002", "namespaceId": "namespace_001",
    })
}

pub(crate) fn acknowledge(insight: &str) -> Value {
    json!({
        "insightId": insight, "clusterId": CLUSTER, "state": "acknowledged", "at": "2026-11-23T17:43:48Z",
    })
}

impl Answer {
    fn parse(bytes: &[u8]) -> io::Result<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        Ok(Self {
            status: status.ok_or(io::ErrorKind::InvalidData)?,
            head,
            body: bytes[end + 4..].to_vec(),
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!(
                "{error}: {}\n{}",
                self.head,
                String::from_utf8_lossy(&self.body)
            )
        })
    }
}
