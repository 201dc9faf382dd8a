//! What is asked again, when, and what never is.

use std::io::Write;
use std::net::Shutdown;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use kube_client_lite::{ApplyParams, RetryPolicy};
use kube_sim::{Fault, FaultAction, Sim};
use serde_json::{Value, json};

use crate::common::*;

fn later(code: u16, retry_after: Option<&str>) -> Fault {
    let header = |value: &str| ("Retry-After".to_owned(), value.to_owned());
    Fault::new(FaultAction::Status {
        code,
        headers: retry_after.map(header).into_iter().collect(),
        body: "later\n".to_owned(),
        content_type: "text/plain".to_owned(),
    })
    .once()
}

/// How a `GET /version` ends, after how long, and how often it was asked.
fn version(fault: Fault) -> (Option<u16>, Duration, usize) {
    let sim = empty();
    sim.script(fault);
    let (result, time) = timed(|| client(&sim).version());
    let code = result.err().map(|error| error.status_code().unwrap());
    (code, time, sim.requests().len())
}

#[test]
fn retry_after_in_seconds() {
    for code in [429, 503, 500] {
        let (failed, time, requests) = version(later(code, Some("1")));
        assert_eq!((failed, requests), (None, 2));
        assert!(time >= Duration::from_secs(1), "{time:?}");
    }
}

#[test]
fn retry_after_as_a_date() {
    let sim = empty();
    let date = SystemTime::now() + Duration::from_secs(3);
    let date = jiff::Timestamp::try_from(date).unwrap();
    let date = jiff::Timestamp::from_second(date.as_second()).unwrap();
    let header = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    sim.script(later(429, Some(&header)));
    client(&sim).version().unwrap();
    let requests = sim.requests();
    assert_eq!(requests.len(), 2);
    let again = jiff::Timestamp::try_from(requests[1].at).unwrap();
    assert!(again >= date, "asked again at {again}, told {date}");
}

#[test]
fn without_retry_after_only_a_429_is_asked_again() {
    let (failed, _, requests) = version(later(429, None));
    assert_eq!((failed, requests), (None, 2));
    for code in [500, 503, 504, 404] {
        let (failed, _, requests) = version(later(code, None));
        assert_eq!((failed, requests), (Some(code), 1));
    }
}

#[test]
fn an_absurd_retry_after_is_the_callers() {
    for value in ["86400", "18446744073709551615"] {
        let sim = empty();
        sim.script(later(429, Some(value)));
        let error = client(&sim).version().unwrap_err();
        let wait = error.api().unwrap().retry_after.unwrap();
        assert_eq!(wait.as_secs().to_string(), value);
        assert_eq!(sim.requests().len(), 1);
        assert!(error.is_transient());
    }
}

#[test]
fn a_policy_of_never_asks_once() {
    let sim = empty();
    let client = client(&sim).with_retry(RetryPolicy::NEVER);
    for fault in [
        later(429, Some("0")),
        later(503, Some("0")),
        Fault::new(FaultAction::LoseAnswer).once(),
    ] {
        sim.clear_faults();
        sim.clear_requests();
        sim.script(fault);
        client.version().unwrap_err();
        assert_eq!(sim.requests().len(), 1);
    }
}

#[test]
fn attempts_are_counted() {
    let sim = empty();
    sim.script(Fault::new(FaultAction::TooManyRequests {
        retry_after: Some(0),
    }));
    let error = client(&sim).version().unwrap_err();
    assert_eq!(error.status_code(), Some(429));
    assert_eq!(sim.requests().len(), 5);
}

/// Loses the first answer, and gives what the call said and how often it was made.
fn losing<T>(
    call: impl FnOnce(&kube_client_lite::Api) -> Result<T, kube_client_lite::Error>,
) -> (Result<T, kube_client_lite::Error>, usize, Sim) {
    let sim = empty();
    sim.insert(MAPS_PATH, config_map("old", &json!({"k": "v"})));
    sim.script(Fault::new(FaultAction::LoseAnswer).once());
    let result = call(&client(&sim).api(CONFIG_MAPS).namespace("default"));
    let requests = sim.requests().len();
    (result, requests, sim)
}

#[test]
fn a_lost_answer_is_asked_for_again_where_that_does_no_harm() {
    let (result, requests, _) = losing(|maps| maps.get::<Value>("old"));
    assert_eq!((result.is_ok(), requests), (true, 2));
    let (result, requests, sim) = losing(|maps| {
        maps.apply::<Value>(
            "new",
            &ApplyParams::new("t"),
            &config_map("new", &json!({})),
        )
    });
    assert_eq!((result.is_ok(), requests), (true, 2));
    assert!(sim.get(&format!("{MAPS_PATH}/new")).is_some());
}

#[test]
fn what_is_not_idempotent_is_sent_once() {
    let (result, requests, sim) =
        losing(|maps| maps.create::<Value>("t", &config_map("new", &json!({}))));
    assert_eq!((result.is_err(), requests), (true, 1));
    assert!(sim.get(&format!("{MAPS_PATH}/new")).is_some());
    // A second deletion would answer 404, or hit an object that was made again.
    let (result, requests, sim) = losing(|maps| maps.delete("old"));
    assert_eq!(requests, 1);
    assert!(!result.unwrap_err().is_not_found());
    assert!(sim.get(&format!("{MAPS_PATH}/old")).is_none());

    let sim = empty();
    sim.script(later(503, Some("0")));
    let maps = client(&sim).api(CONFIG_MAPS).namespace("default");
    let error = maps
        .create::<Value>("t", &config_map("new", &json!({})))
        .unwrap_err();
    assert_eq!(error.status_code(), Some(503));
    // A 429 was not begun: that is safe to send again.
    sim.script(later(429, Some("0")));
    maps.create::<Value>("t", &config_map("new", &json!({})))
        .unwrap();
}

#[test]
fn a_connection_closed_between_two_calls_is_not_noticed() {
    let (closed, is_closed) = mpsc::channel();
    let raw = Raw::new(move |mut stream, _| {
        let answer = answer("200 OK", r#"{"gitVersion": "v1"}"#);
        stream.write_all(answer.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
        let _ = closed.send(());
    });
    let client = raw.client().with_retry(RetryPolicy::NEVER);
    client.version().unwrap();
    is_closed.recv().unwrap();
    client.version().unwrap();
    assert_eq!(raw.heads().len(), 2);
}
