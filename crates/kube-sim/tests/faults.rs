//! Faults, at the byte where they belong.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Client, apply, get};
use kube_sim::{Cluster, Fault, FaultAction, Options, Sim};
use serde_json::json;

const PODS: &str = "/api/v1/pods";

fn sim() -> Sim {
    Sim::start(Options {
        cluster: Cluster::Recorded,
        ..Options::default()
    })
    .unwrap()
}

#[test]
fn statuses_are_answered_as_often_as_scripted() {
    let sim = sim();
    sim.script(
        Fault::new(FaultAction::TooManyRequests {
            retry_after: Some(1),
        })
        .path(PODS)
        .skip(1)
        .times(2),
    );
    sim.script(Fault::new(FaultAction::status(500, "InternalError", "no")).method("DELETE"));
    let mut client = Client::new(&sim).unwrap();
    let statuses: Vec<u16> = (0..4).map(|_| client.get(&sim, PODS).status).collect();
    assert_eq!(statuses, [200, 429, 429, 200]);
    let answer = client
        .request(&sim, "DELETE", "/api/v1/namespaces/default", "", "")
        .unwrap();
    assert_eq!(
        (answer.status, answer.json()["reason"].as_str()),
        (500, Some("InternalError"))
    );
    assert!(sim.get("/api/v1/namespaces/default").is_some());
    sim.clear_faults();
    assert_eq!(client.get(&sim, "/version").status, 200);
    assert_eq!(sim.connections(), 1);
    let log = sim.requests();
    assert_eq!(
        log.iter().map(|request| request.status).collect::<Vec<_>>(),
        [200, 429, 429, 200, 500, 200]
    );
    assert!(log[0].response_bytes > 260_000, "{}", log[0].response_bytes);
}

#[test]
fn too_many_requests_is_plain_text() {
    let sim = sim();
    sim.script(Fault::new(FaultAction::TooManyRequests {
        retry_after: Some(1),
    }));
    let answer = get(&sim, PODS);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(
        answer.text(),
        "Too many requests, please try again later.\n"
    );
    assert_eq!(answer.header("connection"), None);
}

#[test]
fn a_cut_body_ends_after_so_many_bytes() {
    let sim = sim();
    sim.script(
        Fault::new(FaultAction::Cut { after_bytes: 5000 })
            .path(PODS)
            .times(1),
    );
    sim.script(
        Fault::new(FaultAction::Cut { after_bytes: 5000 })
            .path("/version")
            .times(1),
    );
    let mut client = Client::new(&sim).unwrap();
    let request = format!(
        "GET {PODS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        sim.token()
    );
    client.send(request.as_bytes()).unwrap();
    assert_eq!(client.head().unwrap().status, 200);
    assert_eq!(client.chunk().unwrap().unwrap().len(), 2048);
    assert_eq!(client.chunk().unwrap().unwrap().len(), 2048);
    // 904 of 2048 bytes of the third chunk, and neither a last chunk nor close_notify.
    assert!(client.chunk().is_err());
    // A body shorter than that loses its end.
    assert!(
        Client::new(&sim)
            .unwrap()
            .request(&sim, "GET", "/version", "", "")
            .is_err()
    );
    assert_eq!(get(&sim, "/version").status, 200);
}

#[test]
fn hanging_is_silence_until_the_client_gives_up() {
    let sim = sim();
    sim.script(
        Fault::new(FaultAction::HangInBody { after_bytes: 100 })
            .path(PODS)
            .once(),
    );
    sim.script(
        Fault::new(FaultAction::HangBeforeHeader(Duration::from_millis(400)))
            .path("/version")
            .once(),
    );
    let mut client = Client::new(&sim).unwrap();
    client.patience(Duration::from_millis(300));
    let error = client.request(&sim, "GET", PODS, "", "").unwrap_err();
    assert!(
        matches!(
            error.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        ),
        "{error}"
    );
    let begin = Instant::now();
    assert_eq!(get(&sim, "/version").status, 200);
    assert!(begin.elapsed() >= Duration::from_millis(400));
}

#[test]
fn dripping_is_slow() {
    let sim = sim();
    sim.script(
        Fault::new(FaultAction::Drip {
            bytes_per_second: 2000,
        })
        .path("/version")
        .once(),
    );
    let begin = Instant::now();
    assert_eq!(get(&sim, "/version").json()["minor"], json!("36"));
    assert!(
        begin.elapsed() >= Duration::from_millis(250),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn refusals_leave_no_answer() {
    let sim = sim();
    sim.script(Fault::new(FaultAction::Refuse).method("PATCH").once());
    sim.script(
        Fault::new(FaultAction::LoseAnswer)
            .path("/api/v1/namespaces/kube9-system")
            .once(),
    );
    let url = "/api/v1/namespaces/kube9-system/configmaps/x?fieldManager=m";
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}}).to_string();
    let headers = "Content-Type: application/apply-patch+yaml\r\n";
    let mut client = Client::new(&sim).unwrap();
    assert!(client.request(&sim, "PATCH", url, headers, &body).is_err());
    assert!(
        sim.get("/api/v1/namespaces/kube9-system/configmaps/x")
            .is_none()
    );
    // This time it is stored, and the client does not know.
    assert!(
        Client::new(&sim)
            .unwrap()
            .request(&sim, "PATCH", url, headers, &body)
            .is_err()
    );
    assert!(
        sim.get("/api/v1/namespaces/kube9-system/configmaps/x")
            .is_some()
    );
    assert_eq!(apply(&sim, "x", "m", &json!({"a": "b"})).status, 200);
}

#[test]
fn connections_are_refused_before_and_slowed_in_the_handshake() {
    let sim = sim();
    sim.script(Fault::new(FaultAction::Refuse).once());
    assert!(Client::new(&sim).is_err());
    sim.script(Fault::new(FaultAction::SlowTls(Duration::from_millis(300))).once());
    let begin = Instant::now();
    assert!(Client::new(&sim).is_ok());
    assert!(begin.elapsed() >= Duration::from_millis(300));
}

#[test]
fn garbage_is_neither_http_nor_json() {
    let sim = sim();
    sim.script(Fault::new(FaultAction::Garbage).once());
    assert!(
        Client::new(&sim)
            .unwrap()
            .request(&sim, "GET", PODS, "", "")
            .is_err()
    );
    sim.script(Fault::new(FaultAction::GarbageBody).once());
    let answer = get(&sim, PODS);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(serde_json::from_slice::<serde_json::Value>(&answer.body).is_err());
    assert!(std::str::from_utf8(&answer.body).is_err());
}

#[test]
fn an_endless_body_has_no_end() {
    let sim = sim();
    sim.script(Fault::new(FaultAction::EndlessBody).once());
    let mut client = Client::new(&sim).unwrap();
    let request = format!(
        "GET {PODS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        sim.token()
    );
    client.send(request.as_bytes()).unwrap();
    client.head().unwrap();
    for _ in 0..1000 {
        assert!(client.chunk().unwrap().is_some());
    }
}

#[test]
fn a_connection_is_dropped_after_an_answer() {
    let sim = sim();
    sim.script(Fault::new(FaultAction::DropConnectionAfterResponse).once());
    let mut client = Client::new(&sim).unwrap();
    let answer = client.get(&sim, "/version");
    assert_eq!((answer.status, answer.header("connection")), (200, None));
    assert!(client.end().is_ok());
}

#[test]
fn nothing_a_client_sends_stops_the_server() {
    let sim = Sim::start(Options {
        tls: false,
        ..Options::default()
    })
    .unwrap();
    let token = sim.token();
    let long = "x".repeat(1_100_000);
    let chunked = "Transfer-Encoding: chunked\r\n";
    let head = |line: &str, more: &str| {
        format!("{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{more}\r\n")
    };
    for bytes in [
        "\0\0\0\0\0".to_owned(),
        "\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        format!("GET /{long} HTTP/1.1\r\n\r\n"),
        head("GET /api/v1/pods?limit=99999999999999999999", ""),
        head("GET /api/v1/pods?continue=%00%ff&limit=-5", ""),
        head("GET /api/v1/pods?labelSelector=((,&fieldSelector===", ""),
        head("GET /api/v1//pods/", ""),
        head("GET /api/v1/namespaces//pods//log/x/y/z", ""),
        head("GET /apis///", ""),
        head("GET /%", ""),
        head("POST /api/v1/namespaces/default/configmaps", chunked) + "ffffffffffffffff\r\nx",
        head("POST /api/v1/namespaces/default/configmaps", chunked) + "zz\r\n",
        head(
            "POST /api/v1/namespaces/default/configmaps",
            "Content-Length: 4\r\n",
        ) + "null",
        head(
            "POST /api/v1/namespaces/default/configmaps",
            "Content-Length: 14\r\n",
        ) + r#"{"metadata":1}"#,
        head(
            "PATCH /api/v1/namespaces/default/pods/web",
            "Content-Type: application/json-patch+json\r\nContent-Length: 46\r\n",
        ) + r#"[{"op":"remove","path":"/metadata"}]          "#,
        head(
            "PATCH /api/v1/namespaces/default/pods/web",
            "Content-Type: application/merge-patch+json\r\nContent-Length: 4\r\n",
        ) + "[{}]",
        head(
            "DELETE /api/v1/namespaces/default/pods/web",
            "Content-Length: 2\r\n",
        ) + "[]",
        "BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(10_000)),
    ] {
        let mut tcp = TcpStream::connect(sim.addr()).unwrap();
        tcp.set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let _ = tcp.write_all(bytes.as_bytes());
        let _ = tcp.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer);
        let shown: String = bytes.chars().take(120).collect();
        assert!(
            !answer.starts_with(b"HTTP/1.1 5"),
            "{shown}: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    // A panic of a connection's thread would have left the answer out: the server still knows everything.
    let mut tcp = TcpStream::connect(sim.addr()).unwrap();
    tcp.write_all(head("GET /api/v1/namespaces", "Connection: close\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}
