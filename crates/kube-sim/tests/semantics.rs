//! What the replay cannot show: things that happen over several requests.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Client, apply, get};
use kube_sim::{Cluster, Generate, Metrics, Options, PolicyRule, Rbac, Sim};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/kube9-system/configmaps";

fn recorded() -> Sim {
    Sim::start(Options {
        cluster: Cluster::Recorded,
        ..Options::default()
    })
    .unwrap()
}

/// Reads the lines of a watch until it ends.
fn watch(sim: &Sim, url: &str) -> Vec<Value> {
    let answer = get(sim, url);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A watch that is read while it goes on.
struct Stream(Client);

impl Stream {
    fn open(sim: &Sim, url: &str) -> Self {
        let mut client = Client::new(sim).unwrap();
        let request = format!(
            "GET {url} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
            sim.token()
        );
        client.send(request.as_bytes()).unwrap();
        assert_eq!(client.head().unwrap().status, 200);
        Self(client)
    }

    /// Waits for the next events. Each is a chunk of its own.
    fn next(&mut self, count: usize) -> Vec<Value> {
        (0..count)
            .map(|_| serde_json::from_slice(&self.0.chunk().unwrap().unwrap()).unwrap())
            .collect()
    }
}

/// Waits until the first request's answer is complete, or broken off.
fn wait_for_end(sim: &Sim) {
    let begin = Instant::now();
    while sim.requests()[0].response_bytes == 0 {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "the watch did not end"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}

fn items(answer: &Value) -> Vec<String> {
    let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
    answer["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(name)
        .collect()
}

#[test]
fn pages_are_one_snapshot_and_tokens_expire() {
    let sim = recorded();
    let first = get(&sim, "/api/v1/pods?limit=15").json();
    let token = first["metadata"]["continue"].as_str().unwrap();
    assert!(sim.remove("/api/v1/namespaces/production/pods/cache-1"));
    sim.insert(
        "/api/v1/namespaces/production/pods",
        json!({"metadata": {"name": "new"}}),
    );
    let url = format!("/api/v1/pods?limit=100&continue={token}");
    let rest = get(&sim, &url).json();
    assert_eq!(items(&first).len() + items(&rest).len(), 41);
    assert!(
        items(&rest).contains(&"cache-1".to_owned()) && !items(&rest).contains(&"new".to_owned())
    );
    assert_eq!(
        first["metadata"]["resourceVersion"],
        rest["metadata"]["resourceVersion"]
    );

    sim.expire_continue_tokens();
    let gone = get(&sim, &url);
    assert_eq!(
        (gone.status, gone.json()["reason"].as_str()),
        (410, Some("Expired"))
    );
    let token = gone.json()["metadata"]["continue"]
        .as_str()
        .unwrap()
        .to_owned();
    let rest = get(&sim, &format!("/api/v1/pods?limit=100&continue={token}")).json();
    assert!(
        !items(&rest).contains(&"cache-1".to_owned()) && items(&rest).contains(&"new".to_owned())
    );
    assert_ne!(
        first["metadata"]["resourceVersion"],
        rest["metadata"]["resourceVersion"]
    );
}

#[test]
fn tokens_can_have_a_time_to_live() {
    // What must come before the end is tried with longer lives where the machine is busy.
    let lives = [300, 1000, 5000, 20_000].map(Duration::from_millis);
    assert!(lives.into_iter().any(tokens_live_so_long));
}

/// False when it took longer than that to find out.
fn tokens_live_so_long(life: Duration) -> bool {
    let sim = Sim::start(Options {
        continue_ttl: Some(life),
        ..Options::default()
    })
    .unwrap();
    let page = |token: &str| get(&sim, &format!("/api/v1/pods?limit=5&continue={token}"));
    let token = |answer: &Value| answer["metadata"]["continue"].as_str().unwrap().to_owned();
    let begin = Instant::now();
    let first = token(&page("").json());
    let second = page(&first);
    if begin.elapsed() >= life {
        return false;
    }
    assert_eq!(second.status, 200);
    thread::sleep(life);
    assert_eq!(page(&token(&second.json())).status, 410);
    // A new list has a full life before it.
    let begin = Instant::now();
    let fresh = token(&page("").json());
    let status = page(&fresh).status;
    if begin.elapsed() >= life {
        return false;
    }
    assert_eq!(status, 200);
    true
}

#[test]
fn a_watch_sees_changes_in_order_and_frees_its_thread() {
    let sim = recorded();
    let version = sim.resource_version();
    let mut open = Stream::open(
        &sim,
        &format!("{MAPS}?watch=1&resourceVersion={version}&timeoutSeconds=600"),
    );
    apply(&sim, "w", "m", &json!({"a": "1"}));
    apply(&sim, "w", "m", &json!({"a": "1"}));
    sim.insert(
        "/api/v1/namespaces/default/configmaps",
        json!({"metadata": {"name": "elsewhere"}}),
    );
    apply(&sim, "w", "m", &json!({"a": "2"}));
    sim.remove(&format!("{MAPS}/w"));
    let stream = open.next(3);
    assert_eq!(kinds(&stream), ["ADDED", "MODIFIED", "DELETED"]);
    drop(open);
    wait_for_end(&sim);
    let versions: Vec<u64> = stream
        .iter()
        .map(|event| {
            event["object"]["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    assert_eq!(stream[2]["object"]["data"]["a"], json!("2"));
    // The same from history, and a part of it.
    let url = |version: u64| format!("{MAPS}?watch=1&resourceVersion={version}&timeoutSeconds=1");
    assert_eq!(watch(&sim, &url(version)).len(), 3);
    assert_eq!(
        kinds(&watch(&sim, &url(versions[0]))),
        ["MODIFIED", "DELETED"]
    );
    sim.compact();
    let error = watch(&sim, &url(version));
    assert_eq!(
        (
            error[0]["type"].as_str(),
            error[0]["object"]["code"].as_i64()
        ),
        (Some("ERROR"), Some(410))
    );
}

#[test]
fn a_selector_makes_objects_enter_and_leave_a_watch() {
    let sim = recorded();
    let version = sim.resource_version();
    for (label, data) in [
        ("yes", "1"),
        ("yes", "2"),
        ("no", "3"),
        ("no", "4"),
        ("yes", "5"),
    ] {
        sim.insert(
            MAPS,
            json!({"metadata": {"name": "s", "labels": {"sel": label}}, "data": {"d": data}}),
        );
    }
    let url = format!(
        "{MAPS}?watch=1&resourceVersion={version}&timeoutSeconds=1&labelSelector=sel%3Dyes"
    );
    let stream = watch(&sim, &url);
    assert_eq!(kinds(&stream), ["ADDED", "MODIFIED", "DELETED", "ADDED"]);
    assert_eq!(stream[2]["object"]["data"]["d"], json!("2"));
}

#[test]
fn bookmarks_come_before_the_end_but_not_for_events() {
    let sim = Sim::start(Options {
        bookmark_interval: Duration::from_millis(400),
        ..Options::default()
    })
    .unwrap();
    let version = sim.resource_version();
    let url = |resource: &str| {
        format!(
            "/api/v1/{resource}?watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds="
        )
    };
    let bookmarks = Stream::open(&sim, &(url("configmaps") + "600")).next(2);
    assert_eq!(kinds(&bookmarks), ["BOOKMARK", "BOOKMARK"]);
    assert!(watch(&sim, &(url("events") + "1")).is_empty());
    let initial = watch(
        &sim,
        "/api/v1/events?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1",
    );
    assert_eq!(initial.len(), 126);
    assert_eq!(
        initial[125]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        json!("true")
    );
}

#[test]
fn a_watch_of_a_dead_client_ends() {
    let sim = recorded();
    let stream = Stream::open(&sim, &format!("{MAPS}?watch=1"));
    assert_eq!(sim.requests()[0].response_bytes, 0);
    drop(stream);
    wait_for_end(&sim);
}

#[test]
fn apply_keeps_its_promises() {
    let sim = recorded();
    let version = |answer: &common::Answer| {
        answer.json()["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let created = apply(&sim, "a", "one", &json!({"x": "1", "y": "1"}));
    assert_eq!(created.status, 201);
    let again = apply(&sim, "a", "one", &json!({"x": "1", "y": "1"}));
    assert_eq!((again.status, version(&again)), (200, version(&created)));
    let conflict = apply(&sim, "a", "two", &json!({"x": "2"}));
    assert_eq!(
        (
            conflict.status,
            conflict.json()["details"]["causes"][0]["field"].as_str()
        ),
        (409, Some(".data.x"))
    );
    assert_eq!(
        apply(&sim, "a", "two&force=true", &json!({"x": "2"})).status,
        200
    );
    // What one leaves out it loses, when it was its own; what is now the other's stays.
    let left = apply(&sim, "a", "one", &json!({})).json();
    assert_eq!(left["data"], json!({"x": "2"}));
    // An empty map is a field too: both managers are still there.
    assert_eq!(
        left["metadata"]["managedFields"].as_array().unwrap().len(),
        2
    );
    assert_eq!(sim.requests().last().unwrap().method, "PATCH");
    assert!(
        sim.requests()
            .last()
            .unwrap()
            .body
            .as_ref()
            .unwrap()
            .starts_with(b"{")
    );
}

#[test]
fn rights_can_be_taken_away() {
    let sim = recorded();
    assert_eq!(get(&sim, "/apis/apps/v1/deployments").status, 200);
    sim.set_rbac(Rbac::Rules(vec![PolicyRule::new("", &["pods"], &["list"])]));
    assert_eq!(get(&sim, "/apis/apps/v1/deployments").status, 403);
    assert_eq!(get(&sim, "/api/v1/pods?limit=1").status, 200);
    assert_eq!(get(&sim, "/version").status, 200);
    sim.expire_token();
    assert_eq!(get(&sim, "/version").status, 401);
    sim.set_token("new");
    assert_eq!(
        (get(&sim, "/version").status, sim.token().as_str()),
        (200, "new")
    );
}

#[test]
fn a_restarted_server_is_the_same_on_the_same_port() {
    let mut sim = recorded();
    let (url, address) = (sim.url(), sim.addr());
    let mut client = Client::new(&sim).unwrap();
    assert_eq!(client.get(&sim, "/version").status, 200);
    apply(&sim, "a", "m", &json!({"x": "1"}));
    sim.shutdown_listener();
    assert!(client.request(&sim, "GET", "/version", "", "").is_err());
    assert!(std::net::TcpStream::connect(address).is_err());
    sim.restart().unwrap();
    assert_eq!(
        (sim.url(), get(&sim, &format!("{MAPS}/a")).status),
        (url, 200)
    );
    let old = sim.ca_pem();
    sim.rotate_ca().unwrap();
    assert_ne!(old, sim.ca_pem());
    assert_eq!(get(&sim, "/version").status, 200);
}

/// A process that is being started holds copies of all sockets until its program runs.
#[test]
fn a_server_restarts_while_processes_are_started() {
    let mut sim = recorded();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::process::Command::new("true").status().unwrap();
                }
            });
        }
        let restarts: Result<Vec<()>, _> = (0..200).map(|_| sim.restart()).collect();
        over.store(true, Ordering::Relaxed);
        restarts.unwrap();
    });
    assert_eq!(get(&sim, "/version").status, 200);
}

#[test]
fn a_generated_cluster_is_listed_whole() {
    let measures = Generate {
        pods: 700,
        workloads: 50,
        namespaces: 5,
        ..Generate::default()
    };
    let options = Options {
        cluster: Cluster::Generated(measures),
        metrics: Metrics::Present,
        ..Options::default()
    };
    let sim = Sim::start(options).unwrap();
    let mut client = Client::new(&sim).unwrap();
    let (mut all, mut token, mut expected) = (Vec::new(), String::new(), 700);
    loop {
        let page = client
            .get(&sim, &format!("/api/v1/pods?limit=128&continue={token}"))
            .json();
        all.extend(page["items"].as_array().unwrap().iter().map(|pod| {
            format!(
                "{}/{}",
                pod["metadata"]["namespace"].as_str().unwrap(),
                pod["metadata"]["name"].as_str().unwrap()
            )
        }));
        expected -= page["items"].as_array().unwrap().len();
        assert_eq!(
            page["metadata"]["remainingItemCount"].as_u64().unwrap_or(0),
            expected as u64
        );
        match page["metadata"]["continue"].as_str() {
            Some(next) => next.clone_into(&mut token),
            None => break,
        }
    }
    assert_eq!(all.len(), 700);
    assert!(all.is_sorted_by(|a, b| a < b));
    // Some of it by namespace, by name and by selector; then with changes on top.
    let namespace = all[300].split_once('/').unwrap().0;
    let there = all
        .iter()
        .filter(|key| key.starts_with(&format!("{namespace}/")))
        .count();
    let list = client
        .get(&sim, &format!("/api/v1/namespaces/{namespace}/pods"))
        .json();
    assert_eq!(items(&list).len(), there);
    let (_, name) = all[300].split_once('/').unwrap();
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    assert_eq!(
        client.get(&sim, &path).json()["metadata"]["name"],
        json!(name)
    );
    assert!(sim.remove(&path));
    sim.insert(
        &format!("/api/v1/namespaces/{namespace}/pods"),
        json!({"metadata": {"name": "0-new"}}),
    );
    let first = client.get(&sim, "/api/v1/pods?limit=1").json();
    assert_eq!(first["metadata"]["remainingItemCount"], json!(699));
    assert_eq!(client.get(&sim, &path).status, 404);
    let running = client
        .get(&sim, "/api/v1/pods?fieldSelector=status.phase%3DRunning")
        .json();
    let pods = client.get(&sim, "/apis/metrics.k8s.io/v1beta1/pods").json();
    assert_eq!(items(&running).len(), items(&pods).len());
    let nodes = client
        .get(&sim, "/apis/metrics.k8s.io/v1beta1/nodes")
        .json();
    assert!(
        nodes["items"][0]["usage"]["cpu"]
            .as_str()
            .unwrap()
            .ends_with('n')
    );
}

#[test]
fn waiting_bodies_and_large_bodies_are_read_as_a_server_does() {
    let sim = recorded();
    let body = r#"{"metadata":{"name":"c"},"data":{"a":"b"}}"#;
    let mut client = Client::new(&sim).unwrap();
    let head = |more: &str| {
        format!(
            "POST {MAPS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{more}\r\n",
            sim.token()
        )
    };
    client
        .send(
            head(&format!(
                "Expect: 100-continue\r\nContent-Length: {}\r\n",
                body.len()
            ))
            .as_bytes(),
        )
        .unwrap();
    assert_eq!(client.head().unwrap().status, 100);
    client.send(body.as_bytes()).unwrap();
    assert_eq!(client.answer(false).unwrap().status, 201);
    // In chunks, on the same connection.
    client
        .send(head("Transfer-Encoding: chunked\r\n").as_bytes())
        .unwrap();
    let (a, b) = body.split_at(9);
    client
        .send(
            format!(
                "{:x}\r\n{a}\r\n{:x};ext=1\r\n{b}\r\n0\r\n\r\n",
                a.len(),
                b.len()
            )
            .as_bytes(),
        )
        .unwrap();
    assert_eq!(client.answer(false).unwrap().status, 409);
    // Two requests at once.
    let get = format!(
        "GET /healthz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        sim.token()
    );
    client.send(format!("{get}{get}").as_bytes()).unwrap();
    assert_eq!(
        (
            client.answer(false).unwrap().text().as_str(),
            client.answer(false).unwrap().text().as_str()
        ),
        ("ok", "ok")
    );
    // A token that is bad leaves the body where it is.
    client.send(format!("POST {MAPS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer bad\r\nContent-Length: 1000000\r\n\r\n").as_bytes()).unwrap();
    let answer = client.answer(false).unwrap();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (401, Some("close"))
    );
}

#[test]
fn long_answers_are_chunked_as_recorded() {
    let sim = recorded();
    let answer = get(&sim, "/api/v1/namespaces");
    let (last, whole) = answer.chunks.split_last().unwrap();
    assert!(whole.iter().all(|&size| size == 2048) && *last <= 2048);
    assert_eq!(get(&sim, "/api/v1/limitranges").chunks, Vec::<usize>::new());
}
