//! What does not fit the contract is found, and only that.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::io::Write as _;
use std::net::TcpStream;

use common::{
    CLUSTER, REQUEST, acknowledge, analyze, exchange, get, headers, metrics, post, register,
    registered, request, send, try_send,
};
use kube9_sim::{Call, Options, Server};
use serde_json::{Value, json};

/// The violations so far, and none from before.
fn violations(before: &mut usize, server: &Server) -> Vec<String> {
    let all = server.violations();
    let new = all[*before..].to_vec();
    *before = all.len();
    new
}

fn one(before: &mut usize, server: &Server, expected: &str) {
    let found = violations(before, server);
    assert!(
        found.len() == 1 && found[0].contains(expected),
        "{expected:?}, not {found:?}"
    );
}

#[test]
fn every_field_is_needed_has_its_type_and_no_other_is_there() {
    let server = registered(Options::default());
    server.add_insight(json!({"id": "ins_1"}));
    let mut seen = 0;
    for (call, body) in [
        (Call::Register, register()),
        (Call::Push, metrics()),
        (Call::Analyze, analyze()),
        (Call::Acknowledge, acknowledge("ins_1")),
    ] {
        let mut places = Vec::new();
        objects("", &body, &mut places);
        for place in places {
            // A name where there is none must never pass.
            let mut more = body.clone();
            more.pointer_mut(&place).unwrap()["hostName"] = json!("db-1");
            assert_eq!(post(&server, call, &more).status, 400, "{call:?} {place}");
            assert!(
                !violations(&mut seen, &server).is_empty(),
                "{call:?} {place}"
            );
            let names: Vec<String> = body
                .pointer(&place)
                .unwrap()
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect();
            for name in names {
                let of = |body: &mut Value, value: Option<Value>| {
                    let fields = body.pointer_mut(&place).unwrap().as_object_mut().unwrap();
                    match value {
                        Some(value) => fields.insert(name.clone(), value),
                        None => fields.remove(&name),
                    };
                };
                let mut wrong = body.clone();
                of(&mut wrong, Some(json!("payments-db")));
                // The key is not of the form that it must have, or what it says is unknown.
                assert!(
                    post(&server, call, &wrong).status >= 400,
                    "{call:?} {place}/{name}"
                );
                if (call, name.as_str()) != (Call::Acknowledge, "insightId") {
                    assert!(
                        !violations(&mut seen, &server).is_empty(),
                        "{call:?} {place}/{name}"
                    );
                }
                // Maps may have fewer, and `workloads` is left out on purpose.
                let may_go = place.ends_with("/signals")
                    || place.ends_with("/workloads")
                    || place == "/resources"
                    || name == "workloads";
                if may_go {
                    continue;
                }
                let mut less = body.clone();
                of(&mut less, None);
                assert_eq!(
                    post(&server, call, &less).status,
                    400,
                    "{call:?} {place}/{name}"
                );
                let found = violations(&mut seen, &server);
                assert!(
                    found.iter().any(|violation| violation.contains(&name)),
                    "{call:?} {place}/{name}: {found:?}"
                );
            }
        }
    }
    // None of it had an effect.
    assert_eq!(
        (
            server.pushes(),
            server.analyses(),
            server.acknowledgements()
        ),
        (0, vec![], vec![])
    );
    assert_eq!(server.clusters().len(), 1);
}

/// The pointers to all objects.
fn objects(at: &str, value: &Value, places: &mut Vec<String>) {
    if let Some(fields) = value.as_object() {
        places.push(at.to_owned());
        for (name, value) in fields {
            objects(&format!("{at}/{name}"), value, places);
        }
    }
}

/// Posts a body in which one value is another, and looks for the violation.
fn replaced(
    server: &Server,
    call: Call,
    mut body: Value,
    place: &str,
    value: Value,
    expected: &str,
) {
    let before = server.violations().len();
    *body.pointer_mut(place).unwrap() = value;
    post(server, call, &body);
    let found = server.violations().split_off(before);
    assert!(
        found.iter().any(|violation| violation.contains(expected)),
        "{place}: {expected:?}, not {found:?}"
    );
}

#[test]
fn values_of_a_push_have_the_form_they_must_have() {
    let server = registered(Options::default());
    let namespace = "/resources/namespace_001";
    let pods = format!("{namespace}/pods");
    let signals = format!("{namespace}/signals");
    let of_workload = format!("{namespace}/workloads/deployment_002/signals");
    let real_name = json!({"production": metrics()["resources"]["namespace_001"]});
    for (place, value, expected) in [
        ("/payloadVersion", json!(2), "is not 1"),
        ("/mapEpoch", json!("0123"), "32 hex"),
        ("/timestamp", json!("2026-11-23T17:43:48+01:00"), "UTC"),
        ("/cluster/nodesReady", json!(6), "more than nodes"),
        ("/cluster/avgCpuUsage", json!(-0.1), "not negative"),
        ("/cluster/nodes", json!(5.0), "whole number"),
        (&pods, json!(44), "podsByPhase"),
        (&signals, json!({"our-team": 1}), "a signal"),
        (
            &of_workload,
            json!(["not-ready", "not-ready"]),
            "none twice",
        ),
        (&of_workload, json!(["api"]), "a list of signals"),
        ("/resources", real_name, "\"production\""),
        ("/clusterId", json!("cls_other"), "never given"),
    ] {
        replaced(&server, Call::Push, metrics(), place, value, expected);
    }
}

#[test]
fn values_of_the_other_calls_have_the_form_they_must_have() {
    let server = registered(Options::default());
    for (place, value, expected) in [
        ("/kubernetesVersion", "v1.36.2-gke.100", "MAJOR.MINOR.PATCH"),
        ("/clusterIdentifier", "sha256:7d4a", "64 hex"),
        ("/operatorVersion", "0.2.0", "user-agent"),
    ] {
        let value = json!(value);
        replaced(&server, Call::Register, register(), place, value, expected);
    }
    for (place, value, expected) in [
        ("/resourceType", "pod", "pod"),
        ("/resourceType", "job", "is not a job"),
        ("/namespaceId", "deployment_002", "a namespace"),
        ("/clusterId", "cls_other", "never given"),
    ] {
        let value = json!(value);
        replaced(&server, Call::Analyze, analyze(), place, value, expected);
    }
    for (place, value, expected) in [
        ("/state", "open", "acknowledged or dismissed"),
        ("/at", "15m", "RFC 3339"),
        ("/clusterId", "cls_other", "never given"),
    ] {
        let body = acknowledge("ins_1");
        replaced(
            &server,
            Call::Acknowledge,
            body,
            place,
            json!(value),
            expected,
        );
    }
}

#[test]
fn a_workload_is_in_one_namespace_and_a_key_is_there_once() {
    let server = registered(Options::default());
    let mut seen = 0;
    let mut body = metrics();
    body["resources"]["namespace_002"] = body["resources"]["namespace_001"].clone();
    post(&server, Call::Push, &body);
    one(&mut seen, &server, "deployment_002: in two namespaces");
    let body = metrics().to_string();
    let twice = body.replacen("\"nodes\":5", "\"nodes\":4,\"nodes\":5", 1);
    let length = twice.len().to_string();
    send(
        &server,
        "POST /api/v1/metrics",
        &headers(&length, None),
        &twice,
    );
    one(&mut seen, &server, "\"nodes\" is there twice");
    let accent = body.replacen("0123456789abcdef", "caf\u{e9}", 1);
    let length = accent.len().to_string();
    send(
        &server,
        "POST /api/v1/metrics",
        &headers(&length, None),
        &accent,
    );
    assert!(
        violations(&mut seen, &server)
            .iter()
            .any(|violation| violation.ends_with("the body: not ASCII"))
    );
}

#[test]
fn headers_are_those_of_the_contract() {
    let server = registered(Options::default());
    let mut seen = 0;
    let body = analyze().to_string();
    let length = body.len().to_string();
    let good = headers(&length, Some(REQUEST));
    let line = "POST /api/v1/analyze";
    assert_eq!(send(&server, line, &good, &body).status, 202);
    assert_eq!(violations(&mut seen, &server), Vec::<String>::new());
    for (name, value, expected) in [
        ("Authorization", Some("Basic a2V5"), "not `Bearer <key>`"),
        ("Authorization", Some("Bearer "), "not `Bearer <key>`"),
        ("Authorization", None, "authorization: is missing"),
        ("User-Agent", Some("ureq/3.5"), "kube9-operator/"),
        ("User-Agent", Some("kube9-operator/0.1"), "kube9-operator/"),
        ("User-Agent", None, "kube9-operator/"),
        ("Accept", Some("*/*"), "accept: \"*/*\""),
        ("Content-Type", Some("text/json"), "content-type"),
        ("Content-Type", None, "content-type"),
        ("Idempotency-Key", Some("1"), "idempotency-key"),
        ("Idempotency-Key", None, "idempotency-key"),
    ] {
        let mut changed = good.clone();
        changed.retain(|(key, _)| *key != name);
        changed.extend(value.map(|value| (name, value)));
        assert!(
            send(&server, line, &changed, &body).status >= 400,
            "{name} {value:?}"
        );
        one(&mut seen, &server, expected);
    }
    for (name, value) in [
        ("X-Node-Name", "node-1"),
        ("Cookie", "a=b"),
        ("Accept-Encoding", "gzip"),
    ] {
        let mut more = good.clone();
        more.push((name, value));
        send(&server, line, &more, &body);
        one(&mut seen, &server, &name.to_ascii_lowercase());
    }
    let mut twice = good.clone();
    twice.push(("Accept", "application/json"));
    send(&server, line, &twice, &body);
    one(&mut seen, &server, "header accept: there twice");
    let register = register().to_string();
    let length = register.len().to_string();
    send(
        &server,
        "POST /api/v1/register",
        &headers(&length, Some(REQUEST)),
        &register,
    );
    one(
        &mut seen,
        &server,
        "idempotency-key: there is none in this call",
    );
}

#[test]
fn a_body_says_its_length() {
    let server = registered(Options::default());
    let mut seen = 0;
    let body = register().to_string();
    let mut chunked = headers("", None);
    chunked.extend([
        ("Content-Type", "application/json"),
        ("Transfer-Encoding", "chunked"),
    ]);
    let framed = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    send(&server, "POST /api/v1/register", &chunked, &framed);
    let found = violations(&mut seen, &server).join("\n");
    assert!(
        found.contains("transfer-encoding") && found.contains("content-length: None"),
        "{found}"
    );
    assert_eq!(server.requests().last().unwrap().json(), register());
    // Longer than it says: the rest stands where the next request should.
    let short = (body.len() - 5).to_string();
    let mut keep = headers(&short, None);
    keep.retain(|(name, _)| *name != "Connection");
    exchange(
        &server,
        &request("POST /api/v1/register", &keep, &format!("{body}\r\n\r\n")),
    )
    .unwrap();
    let found = violations(&mut seen, &server);
    assert!(
        found
            .iter()
            .any(|violation| violation.contains("no request: 400")),
        "{found:?}"
    );
    let rest = server.requests().last().unwrap().clone();
    assert_eq!(
        rest.head,
        [&body.as_bytes()[body.len() - 5..], b"\r\n\r\n"].concat()
    );
}

#[test]
fn paths_methods_and_queries_are_those_of_the_contract() {
    let server = registered(Options::default());
    let mut seen = 0;
    for (line, status, expected) in [
        ("GET /", 404, "no such call"),
        (
            "GET /api/v1/clusters/production",
            404,
            "/api/v1/clusters/production: no such call",
        ),
        ("GET /api/v1/quota/", 404, "no such call"),
        ("DELETE /api/v1/quota", 400, "method DELETE, not GET"),
        (
            "GET /api/v1/quota?cluster=production",
            400,
            "query \"cluster=production\"",
        ),
        ("GET /api/v1/insights", 400, "since=TIME"),
        ("GET /api/v1/insights?since=1h", 400, "since=TIME"),
        (
            "GET /api/v1/insights?since=2026-01-01T00:00:00Z&limit=5",
            400,
            "since=TIME",
        ),
        (
            "GET /api/v1/insights?since=2026-01-01T00:00:00+00:00",
            400,
            "since=TIME",
        ),
    ] {
        assert_eq!(
            send(&server, line, &headers("", None), "").status,
            status,
            "{line}"
        );
        one(&mut seen, &server, expected);
    }
    let with_body = send(&server, "GET /api/v1/quota", &headers("2", None), "{}");
    assert_eq!(with_body.status, 400);
    one(&mut seen, &server, "there is none in this call");
}

#[test]
fn every_byte_that_came_is_kept() {
    let server = registered(Options::default());
    server.clear_requests();
    assert_eq!(
        get(&server, "/api/v1/insights?since=1970-01-01T00%3A00%3A00Z").status,
        200
    );
    let body = format!(" {} ", metrics());
    let length = body.len().to_string();
    send(
        &server,
        "POST /api/v1/metrics",
        &headers(&length, None),
        &body,
    );
    let found = server.requests();
    let (first, second) = (&found[0], &found[1]);
    assert_eq!(
        first.url(),
        "/api/v1/insights?since=1970-01-01T00%3A00%3A00Z"
    );
    assert_eq!(
        String::from_utf8_lossy(&first.head),
        "GET /api/v1/insights?since=1970-01-01T00%3A00%3A00Z HTTP/1.1\r\nHost: kube9\r\nConnection: close\r\n\
         Authorization: Bearer kube9-sim-key\r\nUser-Agent: kube9-operator/0.1.0\r\nAccept: application/json\r\n\r\n"
    );
    assert_eq!((first.call, first.status), (Some(Call::Insights), 200));
    assert_eq!((&second.body, second.complete), (&body.into_bytes(), true));
    assert_eq!(
        second.header("content-length").as_deref(),
        Some(length.as_str())
    );
    assert!(second.response_bytes > 0 && first.at <= second.at);
    // A client that goes in the middle has sent something too, and is not to blame.
    let mut tcp = TcpStream::connect(server.addr()).unwrap();
    tcp.write_all(&request(
        "POST /api/v1/metrics",
        &headers("1000", None),
        "{\"half\":",
    ))
    .unwrap();
    drop(tcp);
    let half = wait_for(&server, 3);
    assert_eq!(
        (half.body.as_slice(), half.complete),
        (&b"{\"half\":"[..], false)
    );
    let mut tcp = TcpStream::connect(server.addr()).unwrap();
    tcp.write_all(b"GET /api/v1/quota HTTP/1.1\r\nHo").unwrap();
    drop(tcp);
    let half = wait_for(&server, 4);
    assert_eq!(half.head, b"GET /api/v1/quota HTTP/1.1\r\nHo");
    assert_eq!(server.violations(), Vec::<String>::new());
}

/// The request of this number, once it is there.
fn wait_for(server: &Server, number: usize) -> kube9_sim::Request {
    let since = std::time::Instant::now();
    loop {
        if let Some(request) = server.requests().get(number - 1) {
            return request.clone();
        }
        assert!(
            since.elapsed().as_secs() < 30,
            "waited for request {number}"
        );
        std::thread::yield_now();
    }
}

#[test]
fn what_is_no_request_is_a_violation_and_stops_nothing() {
    let server = registered(Options::default());
    let mut seen = 0;
    for bytes in [
        &b"\0\0\0\0\0"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/3\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let answer = exchange(&server, bytes).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{bytes:?}");
        one(&mut seen, &server, "no request: 400");
    }
    for body in ["", "null", "[]", "{\"a\":", "\u{1}", &"[".repeat(100_000)] {
        let length = body.len().to_string();
        let answer = try_send(
            &server,
            "POST /api/v1/metrics",
            &headers(&length, None),
            body,
        );
        assert_eq!(answer.unwrap().status, 400);
        assert!(!violations(&mut seen, &server).is_empty());
    }
    assert_eq!(post(&server, Call::Push, &metrics()).status, 200);
    assert_eq!(server.clusters()[0].id, CLUSTER);
}
