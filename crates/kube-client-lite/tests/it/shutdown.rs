//! A shutdown frees whatever a call is blocked in, and ends all later calls.
//!
//! Two things it does not free: a name lookup, and a TCP connection that is not made yet (10 s at
//! most, see `Timeouts::connect`).

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use kube_client_lite::{Client, Error, ListParams, PartialObjectMetadata, WatchParams};
use kube_sim::{Fault, FaultAction, Sim};
use serde_json::Value;

use crate::common::*;

const LONG: Duration = Duration::from_secs(60);
/// How often a call may be late.
const TRIES: usize = 10;
const AT_ONCE: Duration = Duration::from_millis(100);

/// Blocks a call, shuts its client down, and looks how soon the call is back with
/// [`Error::Shutdown`]. A machine that is busy may need another try; one that is late each time is late.
fn frees(action: Option<&FaultAction>, call: fn(&Client) -> Result<(), Error>) {
    let mut times = Vec::new();
    for _ in 0..TRIES {
        let sim = recorded();
        if let Some(action) = action {
            sim.script(Fault::new(action.clone()));
        }
        let time = free(&sim, call);
        if time < AT_ONCE {
            return;
        }
        times.push(time);
    }
    panic!("freed after {times:?}");
}

fn free(sim: &Sim, call: fn(&Client) -> Result<(), Error>) -> Duration {
    let client = client(sim);
    let (done, result) = mpsc::channel();
    let clone = client.clone();
    let thread = thread::spawn(move || {
        let result = call(&clone);
        done.send((result, Instant::now())).unwrap();
    });
    assert!(
        result.recv_timeout(Duration::from_millis(300)).is_err(),
        "the call is not blocked"
    );
    let start = Instant::now();
    client.shutdown_handle().shutdown();
    let (result, end) = result.recv_timeout(LONG).unwrap();
    thread.join().unwrap();
    assert!(matches!(result, Err(Error::Shutdown)), "{result:?}");

    assert!(matches!(client.version(), Err(Error::Shutdown)));
    assert!(matches!(client.api(PODS).count(), Err(Error::Shutdown)));
    let params = WatchParams::default().from("later");
    let mut watch = client.api(PODS).watch(params).unwrap();
    assert!(matches!(watch.next::<Value>(), Err(Error::Shutdown)));
    // What was freed may come to the log only now, but these were not sent.
    let later = |query: &str| query == "limit=1" || query.contains("resourceVersion=later");
    let requests = sim.requests();
    assert!(
        !requests
            .iter()
            .any(|request| request.path == "/version" || later(&request.query))
    );
    end.duration_since(start)
}

fn list(client: &Client) -> Result<(), Error> {
    client.api(PODS).list_all::<Value>(&ListParams::default())?;
    Ok(())
}

fn watch(client: &Client) -> Result<(), Error> {
    let mut watch = client.api(PODS).watch(WatchParams::default())?;
    loop {
        if let Err(Error::Shutdown) = watch.next::<PartialObjectMetadata>() {
            return Err(Error::Shutdown);
        }
    }
}

#[test]
fn in_a_tls_handshake() {
    frees(Some(&FaultAction::SlowTls(LONG)), list);
}

#[test]
fn before_a_header() {
    frees(Some(&FaultAction::HangBeforeHeader(LONG)), list);
}

#[test]
fn in_a_body() {
    frees(Some(&FaultAction::HangInBody { after_bytes: 9000 }), list);
}

#[test]
fn in_a_streamed_list() {
    frees(
        Some(&FaultAction::HangInBody { after_bytes: 9000 }),
        |client| {
            let params = ListParams::default().streaming();
            client.api(PODS).list_all::<Value>(&params).map(drop)
        },
    );
}

#[test]
fn in_a_watch() {
    frees(None, watch);
}

#[test]
fn in_a_wait_for_a_retry() {
    let retry_after = Some(20);
    frees(Some(&FaultAction::TooManyRequests { retry_after }), list);
}

#[test]
fn in_the_backoff_of_a_watch() {
    frees(
        Some(&FaultAction::status(500, "InternalError", "no")),
        watch,
    );
}

#[test]
fn before_anything() {
    let sim = empty();
    let client = client(&sim);
    let handle = client.shutdown_handle();
    assert!(!handle.is_shut_down());
    handle.shutdown();
    handle.shutdown();
    assert!(handle.is_shut_down());
    assert!(matches!(client.version(), Err(Error::Shutdown)));
    let clone = client.with_retry(kube_client_lite::RetryPolicy::NEVER);
    assert!(matches!(clone.version(), Err(Error::Shutdown)));
    assert_eq!(sim.connections(), 0);
}

#[test]
fn a_disconnected_client_connects_anew_and_is_freed_as_before() {
    let sim = recorded();
    let client = client(&sim);
    let connections = || {
        client.version().unwrap();
        sim.connections()
    };
    let first = connections();
    assert_eq!(connections(), first, "the connection is kept");
    client.disconnect();
    client.disconnect();
    assert_eq!(connections(), first + 1);

    let long = FaultAction::HangBeforeHeader(LONG);
    frees(Some(&long), |client| {
        client.disconnect();
        list(client)
    });
}
