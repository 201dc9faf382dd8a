//! What servers and networks do to a call, and how the call fails.

use std::time::Duration;

use kube_client_lite::{Client, Error, ListParams, RetryPolicy, TransportKind};
use kube_sim::{Fault, FaultAction};
use serde_json::Value;

use crate::common::*;

const READ: Duration = Duration::from_millis(300);

/// Long after what waits for nothing longer than [`READ`] is back, on a machine that is busy, too.
const LATE: Duration = Duration::from_secs(30);

/// Longer than any test takes.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn kind(error: &Error) -> TransportKind {
    match error {
        Error::Transport { kind, .. } => *kind,
        other => panic!("not a transport error: {other}"),
    }
}

/// How a list of Pods fails under a fault, for a client that waits so long for a byte.
fn list(action: FaultAction, read: Duration) -> (Error, Duration) {
    let sim = recorded();
    sim.script(Fault::new(action).path("/api/v1/pods"));
    let api = impatient(&sim, read).api(PODS);
    let (result, time) = timed(|| api.list_all::<Value>(&ListParams::default()));
    (result.unwrap_err(), time)
}

#[test]
fn nobody_listens() {
    let mut sim = empty();
    sim.shutdown_listener();
    let error = client(&sim).version().unwrap_err();
    assert_eq!(kind(&error), TransportKind::Connect);
    assert!(
        error
            .to_string()
            .starts_with("get /version: cannot connect: "),
        "{error}"
    );
    sim.restart().unwrap();
    client(&sim).version().unwrap();
}

#[test]
fn a_name_that_does_not_resolve() {
    let client = Client::new(plain("http://no-such-host.invalid")).unwrap();
    assert_eq!(kind(&client.version().unwrap_err()), TransportKind::Dns);
}

#[test]
fn closed_before_or_within_the_answer() {
    for action in [
        FaultAction::Refuse,
        FaultAction::LoseAnswer,
        FaultAction::Cut { after_bytes: 0 },
        FaultAction::Cut {
            after_bytes: 50_000,
        },
        FaultAction::Cut {
            after_bytes: u64::MAX,
        },
        FaultAction::Garbage,
    ] {
        let (error, _) = list(action.clone(), LATE);
        assert_eq!(kind(&error), TransportKind::Protocol, "{action:?}: {error}");
        assert!(error.is_transient());
    }
}

#[test]
fn silence() {
    for action in [
        FaultAction::HangBeforeHeader(FOR_EVER),
        FaultAction::HangInBody { after_bytes: 0 },
        FaultAction::HangInBody {
            after_bytes: 50_000,
        },
    ] {
        let (error, time) = list(action.clone(), READ);
        assert_eq!(kind(&error), TransportKind::Timeout, "{action:?}: {error}");
        assert!(time >= READ && time < LATE, "{action:?}: {time:?}");
    }
}

#[test]
fn an_answer_that_drips_is_given_up() {
    let sim = recorded();
    sim.script(Fault::new(FaultAction::Drip {
        bytes_per_second: 50,
    }));
    let mut config = config(&sim);
    config.timeouts.answer = Duration::from_secs(1);
    let api = Client::new(config).unwrap().api(PODS);
    let (result, time) = timed(|| api.list_all::<Value>(&ListParams::default()));
    assert_eq!(kind(&result.unwrap_err()), TransportKind::Timeout);
    assert!(time < LATE, "{time:?}");
}

#[test]
fn a_handshake_that_hangs() {
    let sim = empty();
    sim.script(Fault::new(FaultAction::SlowTls(FOR_EVER)));
    let mut config = config(&sim);
    config.timeouts.connect = READ;
    let client = Client::new(config).unwrap();
    let (result, time) = timed(|| client.version());
    assert_eq!(kind(&result.unwrap_err()), TransportKind::Timeout);
    assert!(time < LATE, "{time:?}");
}

#[test]
fn a_body_that_is_not_json() {
    let sim = empty();
    sim.script(Fault::new(FaultAction::GarbageBody));
    let error = client(&sim).version().unwrap_err();
    assert!(matches!(error, Error::Decode { .. }), "{error}");
    sim.clear_faults();
    sim.script(Fault::new(FaultAction::EndlessBody));
    let error = client(&sim).version().unwrap_err();
    assert!(
        matches!(error, Error::BodyTooLarge { limit: 65536, .. }),
        "{error}"
    );
}

#[test]
fn bodies_of_errors() {
    let fail = |body: &str| {
        let sim = empty();
        sim.script(Fault::new(FaultAction::Status {
            code: 500,
            headers: Vec::new(),
            body: body.to_owned(),
            content_type: "text/html".to_owned(),
        }));
        let error = client(&sim).version().unwrap_err();
        error.api().unwrap().clone()
    };
    assert_eq!(fail("").to_string(), "get /version: 500");
    assert_eq!(fail(" oops \n").to_string(), "get /version: 500: oops");
    let huge = fail(&"ä".repeat(5 << 20));
    assert_eq!(huge.status.message.chars().count(), 1024);
    assert_eq!(fail("\u{0}\u{1}").status.message, "\u{0}\u{1}");
    assert_eq!(
        fail(r#"{"error": "from a proxy"}"#).status.message,
        r#"{"error": "from a proxy"}"#
    );
    for odd in [
        "[]",
        "5",
        "null",
        "{",
        r#"{"code": "500"}"#,
        r#"{"details": []}"#,
    ] {
        assert_eq!(fail(odd).status.message, odd);
    }
    let real =
        fail(r#"{"kind": "Status", "reason": "InternalError", "message": "m", "code": 500}"#);
    assert_eq!(real.to_string(), "get /version: 500 InternalError: m");
}

#[test]
fn a_binary_error_body_is_text_in_the_end() {
    let sim = empty();
    let mut head = b"HTTP/1.1 502 Bad Gateway\r\n\r\n".to_vec();
    head.extend([0xff, 0xfe, 0x00, b'x']);
    let raw = Raw::answers(vec![head]);
    let error = raw.client().version().unwrap_err();
    assert_eq!(error.status_code(), Some(502));
    assert!(error.to_string().ends_with('x'), "{error}");
    drop(sim);
}

#[test]
fn the_error_of_a_broken_error_body_is_the_status() {
    let sim = empty();
    sim.script(Fault::new(FaultAction::Cut { after_bytes: 5 }).path("/api/v1/namespaces/default/"));
    let maps = impatient(&sim, LATE).api(CONFIG_MAPS).namespace("default");
    let error = maps.get::<Value>("none").unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[test]
fn the_503_of_a_dying_server_says_so() {
    let sim = empty();
    sim.script(Fault::new(FaultAction::storage_timeout()));
    let client = client(&sim).with_retry(RetryPolicy::NEVER);
    let error = client.version().unwrap_err();
    assert_eq!(error.status_code(), Some(504));
    assert_eq!(error.api().unwrap().status.reason, "Timeout");
}
