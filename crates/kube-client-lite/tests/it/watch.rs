//! Watches through everything that watches suffer.

use std::io::Write;
use std::time::Duration;

use kube_client_lite::{
    Client, Error, PartialObjectMetadata, RetryPolicy, TransportKind, Watch, WatchEvent,
    WatchParams,
};
use kube_sim::{Fault, FaultAction, Options, PolicyRule, Rbac, Sim};
use serde_json::{Value, json};

use crate::common::*;

type Event = WatchEvent<PartialObjectMetadata>;

fn maps(sim: &Sim, params: WatchParams) -> Watch {
    let api = client(sim).api(CONFIG_MAPS).namespace("default");
    api.watch(params).unwrap()
}

fn from_now(sim: &Sim) -> WatchParams {
    WatchParams::default().from(&sim.resource_version().to_string())
}

fn insert(sim: &Sim, name: &str) {
    sim.insert(MAPS_PATH, config_map(name, &json!({"k": "v"})));
}

/// An event in a word.
fn word(event: Result<Event, Error>) -> String {
    match event {
        Ok(WatchEvent::Added(map)) => format!("+{}", map.metadata.name),
        Ok(WatchEvent::Modified(map)) => format!("~{}", map.metadata.name),
        Ok(WatchEvent::Deleted(map)) => format!("-{}", map.metadata.name),
        Ok(WatchEvent::Bookmark { .. }) => "bookmark".to_owned(),
        Ok(WatchEvent::Expired) => "expired".to_owned(),
        Ok(WatchEvent::Malformed(_)) => "malformed".to_owned(),
        Ok(other) => format!("{other:?}"),
        Err(Error::Transport { kind, .. }) => format!("{kind:?}"),
        Err(error) => error
            .status_code()
            .map_or_else(|| error.to_string(), |code| code.to_string()),
    }
}

fn next(watch: &mut Watch) -> String {
    word(watch.next())
}

/// A line of a watch.
fn line(kind: &str, name: &str, version: u64) -> String {
    let object = json!({"metadata": {"name": name, "resourceVersion": version.to_string()}});
    format!("{}\n", json!({"type": kind, "object": object}))
}

/// A complete answer to a watch, ended as a server ends it.
fn stream(lines: &[String]) -> String {
    use std::fmt::Write;
    let mut answer =
        "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    for line in lines {
        write!(answer, "{:x}\r\n{line}\r\n", line.len()).unwrap();
    }
    answer + "0\r\n\r\n"
}

fn raw_watch(raw: &Raw, params: WatchParams) -> Watch {
    raw.client().api(CONFIG_MAPS).watch(params).unwrap()
}

/// Where each connection began.
fn versions(raw: &Raw) -> Vec<Option<String>> {
    let version = |head: &String| {
        let (_, rest) = head.split_once("resourceVersion=")?;
        Some(rest.split([' ', '&']).next()?.to_owned())
    };
    raw.heads().iter().map(version).collect()
}

#[test]
fn changes_come_as_they_happen() {
    let sim = empty();
    insert(&sim, "before");
    let mut watch = maps(&sim, from_now(&sim));
    insert(&sim, "a");
    assert_eq!(next(&mut watch), "+a");
    insert(&sim, "a");
    assert_eq!(next(&mut watch), "~a");
    sim.remove(&format!("{MAPS_PATH}/a"));
    assert_eq!(next(&mut watch), "-a");
    assert_eq!(
        watch.resource_version(),
        Some(sim.resource_version().to_string().as_str())
    );
}

#[test]
fn selectors() {
    let sim = empty();
    let params = from_now(&sim).labels("a=b").fields("metadata.name=wanted");
    let mut watch = maps(&sim, params);
    for name in ["other", "wanted"] {
        let labels = json!({"name": name, "labels": {"a": "b"}});
        sim.insert(MAPS_PATH, json!({"metadata": labels}));
    }
    assert_eq!(next(&mut watch), "+wanted");
}

#[test]
fn bookmarks_move_the_place_to_go_on_from() {
    let sim = start(Options {
        bookmark_interval: Duration::from_millis(50),
        ..Options::default()
    });
    let mut watch = maps(&sim, from_now(&sim));
    sim.insert(
        "/api/v1/namespaces",
        json!({"metadata": {"name": "elsewhere"}}),
    );
    assert_eq!(next(&mut watch), "bookmark");
    assert_eq!(
        watch.resource_version().unwrap(),
        sim.resource_version().to_string()
    );
}

#[test]
fn a_watch_goes_on_when_the_server_ends_it() {
    let sim = empty();
    let params = from_now(&sim).timeout(Duration::from_secs(1));
    let mut watch = maps(&sim, params);
    insert(&sim, "a");
    assert_eq!(next(&mut watch), "+a");
    // A request has its length in the log once its answer is complete.
    while requests(&sim, MAPS_PATH)[0].response_bytes == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    insert(&sim, "b");
    assert_eq!(next(&mut watch), "+b");
    assert!(requests(&sim, MAPS_PATH).len() >= 2);
}

#[test]
fn an_expired_place_is_told_and_the_watch_goes_on_from_another() {
    let sim = empty();
    insert(&sim, "a");
    let mut watch = maps(&sim, WatchParams::default().from("1"));
    sim.compact();
    assert_eq!(next(&mut watch), "expired");
    assert_eq!(watch.resource_version(), None);
    let now = sim.resource_version().to_string();
    watch.resume_from(&now);
    insert(&sim, "b");
    assert_eq!(next(&mut watch), "+b");

    let mut watch = maps(&sim, WatchParams::default().from("1"));
    assert_eq!(next(&mut watch), "expired");
    let mut all = [next(&mut watch), next(&mut watch), next(&mut watch)];
    all.sort();
    assert!(
        all.contains(&"+a".to_owned()) && all.contains(&"+b".to_owned()),
        "{all:?}"
    );
}

#[test]
fn a_410_before_the_stream_is_expired_too() {
    let sim = empty();
    sim.script(Fault::new(FaultAction::status(410, "Expired", "too old")).once());
    let mut watch = maps(&sim, from_now(&sim));
    assert_eq!(next(&mut watch), "expired");
    assert_eq!(watch.resource_version(), None);
}

#[test]
fn a_403_before_the_stream() {
    let sim = start(Options {
        rbac: Rbac::Rules(vec![PolicyRule::new("", &["configmaps"], &["list"])]),
        ..Options::default()
    });
    let mut watch = maps(&sim, from_now(&sim));
    assert_eq!(next(&mut watch), "403");
    assert_eq!(
        next(&mut watch),
        "403",
        "whether to go on is the caller's choice"
    );
}

#[test]
fn errors_in_the_stream() {
    let status =
        json!({"type": "ERROR", "object": {"kind": "Status", "code": 504, "reason": "Timeout"}});
    let raw = Raw::answers(vec![
        stream(&[line("ADDED", "a", 5), format!("{status}\n")]),
        stream(&[line("ADDED", "b", 6)]),
    ]);
    let mut watch = raw_watch(&raw, WatchParams::default().from("1"));
    assert_eq!(
        [next(&mut watch), next(&mut watch), next(&mut watch)],
        ["+a", "504", "+b"]
    );
    assert_eq!(versions(&raw), [Some("1".to_owned()), Some("5".to_owned())]);
}

#[test]
fn an_object_that_does_not_fit_is_passed_over() {
    let raw = Raw::answers(vec![stream(&[
        line("ADDED", "a", 5),
        "{\"type\": \"ADDED\", \"object\": {\"metadata\": {\"name\": 7, \"resourceVersion\": \"6\"}}}\n".to_owned(),
        "\n".to_owned(),
        line("DELETED", "c", 7),
    ])]);
    let mut watch = raw_watch(&raw, WatchParams::default().from("1"));
    assert_eq!(
        [next(&mut watch), next(&mut watch), next(&mut watch)],
        ["+a", "malformed", "-c"]
    );
}

#[test]
fn labels_that_do_not_fit_do_not_hide_the_resource_version() {
    let labels =
        r#"{"type": "ADDED", "object": {"metadata": {"labels": 5, "resourceVersion": "6"}}}"#;
    let raw = Raw::answers(vec![stream(&[format!("{labels}\n")])]);
    let mut watch = raw_watch(&raw, WatchParams::default().from("1"));
    assert_eq!(next(&mut watch), "malformed");
    assert_eq!(watch.resource_version(), Some("6"));
}

#[test]
fn an_object_over_the_limit_does_not_stop_the_watch() {
    let sim = empty();
    let mut watch = maps(&sim, from_now(&sim));
    sim.insert(
        MAPS_PATH,
        config_map("huge", &json!({"k": "x".repeat(9 << 20)})),
    );
    insert(&sim, "after");
    assert_eq!(
        [next(&mut watch), next(&mut watch)],
        ["malformed", "+after"]
    );
    assert_eq!(requests(&sim, MAPS_PATH).len(), 1);
}

#[test]
fn a_line_without_end_is_given_up() {
    let raw = Raw::new(|mut stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 1 << 12]).is_ok() {}
    });
    let mut watch = raw_watch(&raw, WatchParams::default().from("1"));
    let error = watch.next::<Value>().unwrap_err();
    assert!(matches!(error, Error::BodyTooLarge { .. }), "{error}");
}

#[test]
fn a_stream_that_ends_inside_of_an_event_is_broken() {
    let raw = Raw::answers(vec![
        format!(
            "HTTP/1.0 200 OK\r\n\r\n{}{{\"type\": \"ADD",
            line("ADDED", "a", 5)
        ),
        stream(&[line("ADDED", "b", 6)]),
    ]);
    let mut watch = raw_watch(&raw, WatchParams::default().from("1"));
    assert_eq!(
        [next(&mut watch), next(&mut watch), next(&mut watch)],
        ["+a", "Protocol", "+b"]
    );
    assert_eq!(versions(&raw), [Some("1".to_owned()), Some("5".to_owned())]);
}

#[test]
fn a_server_that_ends_watches_at_once_is_not_asked_without_pause() {
    let raw = Raw::answers(vec![stream(&[])]);
    let client = raw.client();
    let handle = client.shutdown_handle();
    let mut watch = client
        .api(CONFIG_MAPS)
        .watch(WatchParams::default().from("1"))
        .unwrap();
    let thread = std::thread::spawn(move || watch.next::<Value>());
    std::thread::sleep(Duration::from_secs(2));
    handle.shutdown();
    assert!(matches!(thread.join().unwrap(), Err(Error::Shutdown)));
    let connections = raw.heads().len();
    assert!(connections < 30, "{connections} connections in two seconds");
}

#[test]
fn silence_beyond_the_timeout_is_a_dead_connection() {
    let sim = empty();
    sim.script(Fault::new(FaultAction::HangInBody { after_bytes: 0 }).once());
    let mut watch = maps(&sim, from_now(&sim).timeout(Duration::from_secs(1)));
    insert(&sim, "a");
    let (event, time) = timed(|| next(&mut watch));
    assert_eq!(event, "Timeout");
    assert!((15..60).contains(&time.as_secs()), "{time:?}");
    assert_eq!(next(&mut watch), "+a", "nothing is lost by it");
}

#[test]
fn the_header_of_a_watch_is_not_waited_for_that_long() {
    let sim = empty();
    sim.script(Fault::new(FaultAction::HangBeforeHeader(Duration::from_secs(3600))).once());
    let client = impatient(&sim, Duration::from_millis(300));
    let api = client.api(CONFIG_MAPS).namespace("default");
    let mut watch = api.watch(from_now(&sim)).unwrap();
    let (event, time) = timed(|| next(&mut watch));
    assert_eq!(event, "Timeout");
    // Silence on a watch is waited for up to 305 s.
    assert!(time < Duration::from_secs(60), "{time:?}");
}

/// What exists comes in the order of names; the resourceVersion of the last says nothing.
#[test]
fn a_watch_without_a_place_loses_nothing_when_it_breaks_at_the_start() {
    let first = [line("ADDED", "a", 100), line("ADDED", "b", 5)];
    let broken = format!("HTTP/1.0 200 OK\r\n\r\n{}{{", first.concat());
    let rest = [
        line("ADDED", "a", 100),
        line("ADDED", "b", 5),
        line("ADDED", "c", 50),
    ];
    let raw = Raw::answers(vec![
        broken,
        stream(&rest),
        stream(&[line("MODIFIED", "c", 101)]),
    ]);
    let mut watch = raw_watch(&raw, WatchParams::default());
    let events: Vec<_> = (0..8).map(|_| next(&mut watch)).collect();
    assert_eq!(
        events,
        ["+a", "+b", "Protocol", "expired", "+a", "+b", "+c", "~c"]
    );
    assert_eq!(versions(&raw), [None, None, Some("100".to_owned())]);
}

#[test]
fn a_watch_from_any_place_is_one_without_a_place() {
    let raw = Raw::answers(vec![
        stream(&[line("ADDED", "a", 9), line("ADDED", "b", 5)]),
        stream(&[line("DELETED", "b", 10)]),
    ]);
    let mut watch = raw_watch(&raw, WatchParams::default().from("0"));
    assert_eq!(
        [next(&mut watch), next(&mut watch), next(&mut watch)],
        ["+a", "+b", "-b"]
    );
    assert_eq!(versions(&raw), [Some("0".to_owned()), Some("9".to_owned())]);
}

/// Follows a cluster that changes while connections are cut at every place there is.
fn follow(number: u64) -> usize {
    let sim = empty();
    let mut expected = Vec::new();
    let from = sim.resource_version().to_string();
    for change in 0..60 {
        let map = sim.insert(
            MAPS_PATH,
            config_map(&format!("m{}", change % 7), &json!({"c": change})),
        );
        expected.push(
            map["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    // Each cut falls a little later than one event, so that every connection gets on.
    for cut in 0..20 {
        let after_bytes = 700 + (number * 37 + cut * 101) % 400;
        sim.script(
            Fault::new(FaultAction::Cut { after_bytes })
                .query("watch=")
                .once(),
        );
    }
    let mut watch = maps(&sim, WatchParams::default().from(&from));
    let (mut seen, mut cuts) = (Vec::new(), 0);
    while seen.len() < expected.len() {
        match watch.next::<PartialObjectMetadata>() {
            Ok(WatchEvent::Added(map) | WatchEvent::Modified(map)) => {
                seen.push(map.metadata.resource_version);
            }
            Ok(WatchEvent::Bookmark { .. }) => {}
            Ok(other) => panic!("{other:?}"),
            Err(Error::Transport {
                kind: TransportKind::Protocol,
                ..
            }) => cuts += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(seen, expected);
    cuts
}

#[test]
fn no_event_is_lost_or_doubled_in_a_hundred_interruptions() {
    let threads: Vec<_> = (0..8)
        .map(|number| std::thread::spawn(move || follow(number)))
        .collect();
    let cuts: usize = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .sum();
    assert!(cuts >= 100, "{cuts}");
}

#[test]
fn a_hundred_clean_ends_lose_nothing_either() {
    let answers: Vec<_> = (2..=102)
        .map(|version| stream(&[line("MODIFIED", "m", version)]))
        .collect();
    let raw = Raw::answers(answers);
    let mut watch = raw_watch(&raw, WatchParams::default().from("1"));
    for version in 2..=102_u64 {
        assert_eq!(next(&mut watch), "~m");
        assert_eq!(watch.resource_version(), Some(version.to_string().as_str()));
    }
    let expected: Vec<_> = (1..=101)
        .map(|version: u64| Some(version.to_string()))
        .collect();
    assert_eq!(versions(&raw), expected);
}

#[test]
fn a_server_that_goes_away_and_comes_back() {
    let mut sim = empty();
    let mut watch = Client::new(config(&sim))
        .unwrap()
        .with_retry(RetryPolicy::NEVER)
        .api(CONFIG_MAPS)
        .namespace("default")
        .watch(from_now(&sim))
        .unwrap();
    insert(&sim, "a");
    assert_eq!(next(&mut watch), "+a");
    sim.shutdown_listener();
    insert(&sim, "b");
    watch.next::<Value>().unwrap_err();
    watch.next::<Value>().unwrap_err();
    sim.restart().unwrap();
    let event = loop {
        let event = next(&mut watch);
        if event != "Connect" && event != "Protocol" {
            break event;
        }
    };
    assert_eq!(event, "+b");
}
