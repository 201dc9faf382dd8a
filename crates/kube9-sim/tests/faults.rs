//! Misbehaviour, down to the byte, and certificates that no client may accept.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{
    Answer, acknowledge, analyze, exchange, get, headers, metrics, post, register, registered,
    request, server, try_send,
};
use kube9_sim::{Call, Fault, FaultAction, Options, Server, Tls, misbehave};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

const QUOTA: &str = "/api/v1/quota";

/// A client that trusts the server's CA alone.
fn agent(server: &Server) -> Agent {
    let ca = Certificate::from_pem(server.ca_pem().as_bytes()).unwrap();
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&[ca]))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(30)))
        .build();
    config.into()
}

fn ask(agent: &Agent, server: &Server) -> Result<(u16, String), ureq::Error> {
    let mut answer = agent
        .get(format!("{}{QUOTA}", server.url()))
        .header("Authorization", format!("Bearer {}", server.key()))
        .header("User-Agent", "kube9-operator/0.1.0")
        .header("Accept", "application/json")
        .call()?;
    Ok((
        answer.status().as_u16(),
        answer.body_mut().read_to_string()?,
    ))
}

fn try_get(server: &Server, url: &str) -> io::Result<Answer> {
    try_send(server, &format!("GET {url}"), &headers("", None), "")
}

#[test]
fn a_good_certificate_is_accepted_and_others_are_not() {
    let server = Server::start(Options::default()).unwrap();
    assert!(server.url().starts_with("https://127.0.0.1:"));
    let (status, body) = ask(&agent(&server), &server).unwrap();
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["limit"], 24);
    for (tls, expected) in [
        (Tls::WrongName, "NotValidForName"),
        (Tls::Expired, "Expired"),
        (Tls::UnknownCa, "UnknownIssuer"),
        (Tls::PlainHttp, "InvalidContentType"),
    ] {
        server.change(|options| options.tls = tls);
        let before = server.requests().len();
        let error = ask(&agent(&server), &server).unwrap_err();
        let shown = format!("{error:?}");
        assert!(shown.contains(expected), "{tls:?}: {shown}");
        // Nothing that a client may say in the clear was said.
        let mut came = server.requests();
        for request in came.drain(..).skip(before) {
            assert!(tls == Tls::PlainHttp && request.head.starts_with(b"\x16\x03"));
        }
    }
    for tls in [Tls::Only12, Tls::On] {
        server.change(|options| options.tls = tls);
        assert_eq!(ask(&agent(&server), &server).unwrap().0, 200);
    }
    assert_eq!(server.violations(), Vec::<String>::new());
}

#[test]
fn plain_http_on_the_port_of_https_is_answered_and_is_a_violation() {
    let server = Server::start(Options::default()).unwrap();
    let answer = try_get(&server, QUOTA).unwrap();
    assert_eq!(answer.status, 400);
    assert_eq!(
        server.violations(),
        ["no request: plain HTTP where TLS is expected"]
    );
    let head = String::from_utf8(server.requests()[0].head.clone()).unwrap();
    assert!(head.contains("Bearer kube9-sim-key"), "{head}");
}

#[test]
fn every_call_fails_as_it_is_told_and_only_so_often() {
    let server = registered(Options::default());
    server.add_insight(json!({"id": "ins_1"}));
    for call in Call::ALL {
        let ask = || match call {
            Call::Register => post(&server, call, &register()),
            Call::Push => post(&server, call, &metrics()),
            Call::Analyze => post(&server, call, &analyze()),
            Call::Acknowledge => post(&server, call, &acknowledge("ins_1")),
            Call::Insights => get(&server, "/api/v1/insights?since=1970-01-01T00:00:00Z"),
            Call::Quota => get(&server, QUOTA),
        };
        let fault = call.fault(misbehave::status(503, "down for repair"));
        server.script(fault.skip(1).times(2));
        let statuses: Vec<u16> = (0..4).map(|_| ask().status).collect();
        let good = if call == Call::Analyze { 202 } else { 200 };
        assert_eq!(statuses, [good, 503, 503, good], "{call:?}");
    }
    // What was refused had no effect.
    assert_eq!(
        (server.pushes(), server.clusters()[0].registrations),
        (2, 3)
    );
    assert_eq!(
        (
            server.analyses()[0].calls,
            server.acknowledgements()[0].calls
        ),
        (2, 2)
    );
    assert_eq!(server.violations(), Vec::<String>::new());
}

#[test]
fn answers_are_whatever_a_test_wants() {
    let server = server();
    let answer = |action: FaultAction| {
        server.script(Call::Quota.fault(action).once());
        try_get(&server, QUOTA).unwrap()
    };
    let limited = answer(misbehave::limited(Some("Tue, 24 Nov 2026 00:00:00 GMT")));
    assert!(
        limited.status == 429
            && limited
                .head
                .contains("\r\nRetry-After: Tue, 24 Nov 2026 00:00:00 GMT\r\n")
    );
    assert!(
        !answer(misbehave::limited(None))
            .head
            .contains("Retry-After")
    );
    let moved = answer(misbehave::redirect("https://elsewhere.example/"));
    assert!(
        moved.status == 301
            && moved
                .head
                .contains("\r\nLocation: https://elsewhere.example/\r\n")
    );
    let echo = answer(misbehave::echo(422, "kube9-sim-key"));
    assert_eq!(echo.status, 422);
    assert!(
        echo.json()["message"]
            .as_str()
            .unwrap()
            .contains("Bearer kube9-sim-key")
    );
    assert_eq!(
        answer(misbehave::answer(200, &json!([1]))).json(),
        json!([1])
    );
    let page = answer(misbehave::proxy_page(502));
    assert!(page.status == 502 && page.head.contains("Content-Type: text/html"));
    let noise = answer(FaultAction::GarbageBody);
    assert!(noise.status == 200 && serde_json::from_slice::<Value>(&noise.body).is_err());
    assert_eq!(answer(misbehave::status(418, "")).status, 418);
    assert_eq!(answer(misbehave::status(418, "")).json()["message"], "");
}

#[test]
fn an_answer_can_be_too_long_with_and_without_a_length() {
    let server = Server::start(Options::default()).unwrap();
    for (action, framing) in [
        (misbehave::oversized(), "chunked"),
        (misbehave::oversized_with_length(), "4194"),
    ] {
        server.script(Call::Quota.fault(action).once());
        let answer = agent(&server)
            .get(format!("{}{QUOTA}", server.url()))
            .call();
        let mut answer = answer.unwrap();
        let headers = format!("{:?}", answer.headers());
        assert!(headers.contains(framing), "{headers}");
        let reader = answer.body_mut().with_config().limit(8 << 20);
        let text = reader.read_to_string().unwrap();
        assert!(text.len() > 4 << 20);
        assert!(serde_json::from_str::<Value>(&text).is_ok());
    }
}

#[test]
fn bodies_are_cut_and_hang_and_drip() {
    let server = Server::start(Options::default()).unwrap();
    server.script(
        Call::Quota
            .fault(FaultAction::Cut { after_bytes: 10 })
            .once(),
    );
    assert!(ask(&agent(&server), &server).is_err());
    server.script(Call::Quota.fault(misbehave::with_length(100, "{}")).once());
    assert!(ask(&agent(&server), &server).is_err());
    server.script(
        Call::Quota
            .fault(FaultAction::Drip {
                bytes_per_second: 400,
            })
            .once(),
    );
    let begin = Instant::now();
    assert_eq!(ask(&agent(&server), &server).unwrap().0, 200);
    assert!(
        begin.elapsed() >= Duration::from_millis(250),
        "{:?}",
        begin.elapsed()
    );
    for action in [
        FaultAction::HangInBody { after_bytes: 10 },
        FaultAction::HangBeforeHeader(Duration::from_secs(3600)),
    ] {
        server.script(Call::Quota.fault(action.clone()).once());
        let request = agent(&server).get(format!("{}{QUOTA}", server.url()));
        let config = request.config();
        let request = config.timeout_global(Some(Duration::from_millis(300)));
        let answer = request.build().call();
        let waits = answer.and_then(|mut answer| answer.body_mut().read_to_string());
        assert!(
            matches!(waits, Err(ureq::Error::Timeout(_))),
            "{action:?}: {waits:?}"
        );
    }
    // A request that hangs is known of at once, and the server can go nevertheless.
    assert_eq!(server.requests().last().unwrap().status, 0);
    let begin = Instant::now();
    drop(server);
    assert!(begin.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_body_without_end_has_none() {
    let server = server();
    server.script(Call::Insights.fault(FaultAction::EndlessBody).once());
    let mut tcp = TcpStream::connect(server.addr()).unwrap();
    let line = "GET /api/v1/insights?since=1970-01-01T00:00:00Z";
    tcp.write_all(&request(line, &headers("", None), ""))
        .unwrap();
    let mut some = vec![0; 5 << 20];
    tcp.read_exact(&mut some).unwrap();
    assert!(some.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

#[test]
fn garbage_is_no_http() {
    let server = server();
    server.script(Call::Quota.fault(FaultAction::Garbage).once());
    let bytes = exchange(
        &server,
        &request(&format!("GET {QUOTA}"), &headers("", None), ""),
    )
    .unwrap();
    assert!(bytes.starts_with(b"\x16\x03\xff"), "{bytes:?}");
}

#[test]
fn an_answer_that_is_lost_has_had_its_effect() {
    let server = registered(Options::default());
    for (action, effects) in [(FaultAction::Refuse, 0), (FaultAction::LoseAnswer, 1)] {
        server.script(Call::Analyze.fault(action).once());
        let body = analyze().to_string();
        let length = body.len().to_string();
        let headers = headers(&length, Some(common::REQUEST));
        let answer = try_send(&server, "POST /api/v1/analyze", &headers, &body);
        assert!(answer.is_err(), "{answer:?}");
        assert_eq!(server.analyses().len(), effects);
        let request = server.requests().pop().unwrap();
        assert_eq!((request.json(), request.status), (analyze(), 0));
    }
    assert_eq!(post(&server, Call::Analyze, &analyze()).status, 202);
    assert_eq!(
        (server.analyses()[0].calls, server.options().quota_used),
        (2, 1)
    );
}

#[test]
fn connections_are_slow_to_greet_break_or_are_refused() {
    let mut server = Server::start(Options::default()).unwrap();
    server.script(Fault::new(FaultAction::SlowTls(Duration::from_millis(300))).once());
    let begin = Instant::now();
    assert_eq!(ask(&agent(&server), &server).unwrap().0, 200);
    assert!(begin.elapsed() >= Duration::from_millis(300));
    server.script(Fault::new(FaultAction::Refuse));
    assert!(ask(&agent(&server), &server).is_err());
    server.clear_faults();
    assert_eq!((server.requests().len(), server.connections()), (1, 2));
    server.shutdown_listener();
    let error = TcpStream::connect(server.addr()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    server.restart().unwrap();
    assert_eq!(ask(&agent(&server), &server).unwrap().0, 200);
    let address = server.addr();
    drop(server);
    assert!(TcpStream::connect(address).is_err());
}
