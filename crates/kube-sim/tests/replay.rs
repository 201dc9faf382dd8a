//! Replays what was asked of a real Kubernetes 1.36 server, and compares the answers.
//!
//! Status, content type, framing, `Retry-After`, `Warning` and the body are compared, the body after times, uids,
//! resourceVersions and other things that are never the same have been made so. What is left out is listed with its
//! reason.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::collections::HashMap;
use std::fs;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{Answer, Client};
use kube_sim::{Cluster, Metrics, Options, PolicyRule, Rbac, Sim};
use serde_json::{Value, json};

/// Exchanges that are not compared, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "005 006 624",
        "the checks that are listed differ between builds",
    ),
    ("007", "holds the address of the server"),
    ("011", "aggregated discovery has no Etag here"),
    ("027", "YAML is not spoken"),
    ("028", "protobuf is not spoken"),
    ("135 136 228", "tables are not made"),
    ("138", "nothing is compressed"),
    ("180 192", "the real server's memory was behind its storage"),
    ("230", "component statuses are not stored"),
    ("375", "quotas are not enforced"),
    ("376 377", "there are no admission policies"),
    ("378", "there are no webhooks"),
    ("395", "Pods are deleted at once, not gracefully"),
    (
        "374",
        "the conditions of a terminating namespace are not made",
    ),
    (
        "400 401 402 403 404 405 406 409 410 420 421 422 429",
        "watches of changes have tests of their own",
    ),
    ("425", "the history begins with the recording"),
    ("525", "the real user has further rules"),
    ("527", "the real token has further attributes"),
    ("520 522", "the reason names the real binding"),
    ("530 531 532", "tokens are not issued"),
    (
        "600 601 602 603 604 605 606",
        "throttling is a fault, and has a test of its own",
    ),
    ("608", "there is no eviction"),
    ("620 621 622 623 625", "a storage that hangs is a fault"),
    ("706 717", "APIServices are not stored"),
    (
        "714",
        "the metrics server is absent, present or broken, not dying",
    ),
];

/// One recorded exchange.
struct Exchange {
    id: String,
    name: String,
    identity: String,
    request: String,
    head: String,
    body: String,
}

#[test]
fn answers_are_those_of_a_real_server() {
    let sim = Sim::start(Options {
        cluster: Cluster::Recorded,
        rbac: Rbac::Rules(rules()),
        ..Options::default()
    })
    .unwrap();
    sim.add_user("system:admin", "recorder", Rbac::AllowAll);
    let patch_only =
        PolicyRule::new("", &["configmaps"], &["get", "patch"]).in_namespace("kube9-system");
    sim.add_user(
        "system:serviceaccount:kube9-system:patch-only",
        "patch-only",
        Rbac::Rules(vec![patch_only]),
    );
    let (mut compared, mut left_out, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    let mut known: HashMap<String, String> = HashMap::new();
    let mut compacted = false;
    for exchange in exchanges() {
        let Exchange { id, name, .. } = &exchange;
        if let Some((_, why)) = LEFT_OUT
            .iter()
            .find(|(ids, _)| ids.split(' ').any(|left| left == id))
        {
            left_out.push(format!("{id}-{name}: {why}"));
            continue;
        }
        sim.set_metrics(match id.as_str() {
            "700" | "701" | "702" | "703" | "704" | "705" | "716" | "707" | "715" => {
                Metrics::Broken
            }
            "710" | "711" | "712" | "713" => Metrics::Present,
            _ => Metrics::Absent,
        });
        if matches!(id.as_str(), "151" | "153" | "154" | "155" | "613") && !compacted {
            sim.compact();
            compacted = true;
        }
        if id == "372" {
            let metadata = json!({"name": "leaving", "deletionTimestamp": "2026-11-22T18:13:13Z"});
            sim.insert(
                "/api/v1/namespaces",
                json!({"metadata": metadata, "status": {"phase": "Terminating"}}),
            );
        }
        let answer = replay(&sim, &exchange, &known);
        if id == "373" {
            sim.remove("/api/v1/namespaces/leaving");
        }
        let learnt = learn(&exchange, &answer, &mut known);
        match learnt.and_then(|()| compare(&exchange, &answer)) {
            Ok(()) => compared.push(id.clone()),
            Err(why) => wrong.push(format!("{id}-{name}: {why}")),
        }
    }
    println!(
        "{} exchanges compared, {} left out:",
        compared.len(),
        left_out.len()
    );
    for line in &left_out {
        println!("  {line}");
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        wrong.len() + compared.len(),
        wrong.join("\n")
    );
    assert!(
        compared.len() > 200,
        "only {} were compared",
        compared.len()
    );
}

fn rules() -> Vec<PolicyRule> {
    let read = ["get", "list", "watch"];
    let core = [
        "nodes",
        "namespaces",
        "pods",
        "services",
        "endpoints",
        "configmaps",
        "persistentvolumeclaims",
        "persistentvolumes",
        "events",
        "resourcequotas",
        "limitranges",
        "serviceaccounts",
        "replicationcontrollers",
    ];
    vec![
        PolicyRule::new("", &core, &read),
        PolicyRule::new(
            "apps",
            &["deployments", "statefulsets", "daemonsets", "replicasets"],
            &read,
        ),
        PolicyRule::new("batch", &["jobs", "cronjobs"], &read),
        PolicyRule::new(
            "networking.k8s.io",
            &["ingresses", "networkpolicies"],
            &read,
        ),
        PolicyRule::new("autoscaling", &["horizontalpodautoscalers"], &read),
        PolicyRule::new("policy", &["poddisruptionbudgets"], &read),
        PolicyRule::new("events.k8s.io", &["events"], &read),
        PolicyRule::new("storage.k8s.io", &["storageclasses"], &read),
        PolicyRule::new(
            "rbac.authorization.k8s.io",
            &[
                "roles",
                "rolebindings",
                "clusterroles",
                "clusterrolebindings",
            ],
            &read,
        ),
        PolicyRule::new("metrics.k8s.io", &["nodes", "pods"], &["get", "list"]),
        PolicyRule::new(
            "",
            &["configmaps"],
            &[
                "get", "list", "watch", "create", "update", "patch", "delete",
            ],
        )
        .in_namespace("kube9-system"),
        PolicyRule::new(
            "coordination.k8s.io",
            &["leases"],
            &["get", "list", "watch", "create", "update", "patch"],
        )
        .in_namespace("kube9-system"),
    ]
}

fn exchanges() -> Vec<Exchange> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let read = |name: &str| fs::read_to_string(format!("{root}recorded/{name}.json")).unwrap();
    let text = fs::read_to_string(format!("{root}tests/recorded/exchanges.jsonl")).unwrap();
    let mut exchanges = Vec::new();
    for line in text.lines() {
        let json: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        // Bodies of lists that are in the recorded cluster are kept as references to its items.
        let body = if let Some(of) = json["of"].as_str() {
            let all: Value = serde_json::from_str(&read(of)).unwrap();
            let mut list = json["list"].clone();
            let items = json["indexes"].as_array().unwrap().iter().map(|index| {
                let item = all["items"][usize::try_from(index.as_u64().unwrap()).unwrap()].clone();
                if json["partial"] == json!(true) {
                    let metadata = &item["metadata"];
                    return json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
                }
                item
            });
            list["items"] = items.collect();
            list.to_string()
        } else if let Some(file) = json["file"].as_str() {
            read(file)
        } else {
            text("body")
        };
        exchanges.push(Exchange {
            id: text("id"),
            name: text("name"),
            identity: text("identity"),
            request: text("request"),
            head: text("head"),
            body,
        });
    }
    exchanges
}

/// Sends the recorded request, with uids and resourceVersions as the simulator gave them.
fn replay(sim: &Sim, exchange: &Exchange, known: &HashMap<String, String>) -> Answer {
    let (head, body) = exchange
        .request
        .split_once("\n\n")
        .unwrap_or((&exchange.request, ""));
    let mut body = whole(body, &exchange.request);
    if exchange.id == "344" {
        // YAML is not spoken; the same in JSON.
        body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"kube9-yaml"},"data":{"a":"b"}}"#.into();
    }
    let mut request_line = head.lines().next().unwrap().to_owned();
    if body.len() < 100_000 {
        for (recorded, own) in known {
            let quoted = |text: &str| {
                if text.contains('-') {
                    text.to_owned()
                } else {
                    format!("\"resourceVersion\":\"{text}\"")
                }
            };
            body = body.replace(&quoted(recorded), &quoted(own));
        }
    }
    // The revision of the cluster moved on between the recordings.
    for recorded in ["resourceVersion=3572", "resourceVersion=3951"] {
        request_line = request_line.replace(
            recorded,
            &format!("resourceVersion={}", sim.resource_version()),
        );
    }
    // Nothing happens in these watches, so that their end need not be waited for.
    for seconds in ["2", "3", "5"] {
        request_line =
            request_line.replace(&format!("timeoutSeconds={seconds}"), "timeoutSeconds=1");
    }
    let token = match exchange.identity.as_str() {
        "kube9-operator" => Some(sim.token()),
        "recorder (cluster-admin)" => Some("recorder".to_owned()),
        "patch-only" => Some("patch-only".to_owned()),
        "(no Authorization header)" => None,
        _ => Some("expired".to_owned()),
    };
    let mut request = format!("{request_line}\r\n");
    for line in head.lines().skip(1) {
        let name = line.split(':').next().unwrap_or_default();
        if !matches!(name, "Authorization" | "Content-Length") {
            request += &format!("{line}\r\n");
        }
    }
    if let Some(token) = token {
        request += &format!("Authorization: Bearer {token}\r\n");
    }
    if exchange.request.contains("\nContent-Length:") {
        request += &format!("Content-Length: {}\r\n", body.len());
    }
    let mut client = Client::new(sim).unwrap();
    client.send(format!("{request}\r\n").as_bytes()).unwrap();
    // A server that refuses a long body may close before it has read it.
    let _ = client.send(body.as_bytes());
    client
        .answer(request_line.starts_with("HEAD"))
        .unwrap_or_else(|error| panic!("{}-{}: {error}", exchange.id, exchange.name))
}

/// Bodies of over 64 kB were cut in the recording; what is missing is the letter x.
fn whole(body: &str, request: &str) -> String {
    let Some((before, rest)) = body.split_once("\n... [") else {
        return body.to_owned();
    };
    let after = rest.split_once("] ...\n").unwrap().1;
    let length: usize = request
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .unwrap()
        .parse()
        .unwrap();
    format!(
        "{before}{}{after}",
        "x".repeat(length - before.len() - after.len())
    )
}

/// Notes which uid and resourceVersion the simulator gave where the real server gave which. An object that had the same
/// resourceVersion before must have the same now: a write that changes nothing does not move it.
fn learn(
    exchange: &Exchange,
    answer: &Answer,
    known: &mut HashMap<String, String>,
) -> Result<(), String> {
    let Ok(recorded) = serde_json::from_str::<Value>(&exchange.body) else {
        return Ok(());
    };
    let Ok(own) = serde_json::from_slice::<Value>(&answer.body) else {
        return Ok(());
    };
    if !recorded["metadata"]["uid"].is_string() {
        return Ok(());
    }
    for name in ["uid", "resourceVersion"] {
        let (Some(recorded), Some(own)) = (
            recorded["metadata"][name].as_str(),
            own["metadata"][name].as_str(),
        ) else {
            continue;
        };
        let before = known.insert(recorded.to_owned(), own.to_owned());
        if before.as_ref().is_some_and(|before| before != own) {
            return Err(format!("{name} {recorded} was {before:?} and is {own}"));
        }
    }
    Ok(())
}

fn compare(exchange: &Exchange, answer: &Answer) -> Result<(), String> {
    let header = |name: &str| {
        let lines = exchange
            .head
            .lines()
            .filter_map(|line| line.split_once(": "));
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
            .collect::<Vec<_>>()
    };
    let own = |name: &str| {
        let headers = answer
            .headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        headers.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    let status = exchange.head.split(' ').nth(1).unwrap_or_default();
    if status != answer.status.to_string() {
        return Err(format!(
            "{} instead of {status}: {}",
            answer.status,
            answer.text()
        ));
    }
    let names = [
        "Content-Type",
        "Retry-After",
        "Warning",
        "Connection",
        "X-Content-Type-Options",
        "Cache-Control",
        "Transfer-Encoding",
    ];
    for name in names {
        if header(name) != own(name) {
            return Err(format!(
                "{name} {:?} instead of {:?}",
                own(name),
                header(name)
            ));
        }
    }
    let (recorded, own) = (normal(&exchange.body), normal(&answer.text()));
    if recorded == own {
        Ok(())
    } else {
        Err(format!(
            "\n  real {}\n  sim  {}",
            shorten(&recorded, &own),
            shorten(&own, &recorded)
        ))
    }
}

/// A body with everything that is never the same made the same.
fn normal(body: &str) -> String {
    let mut json: Value = match serde_json::from_str(body) {
        Ok(json) => json,
        // A stream, or text.
        Err(_) => return digits(body),
    };
    // Whether it was indented is part of the answer.
    let pretty = body.starts_with("{\n");
    normalise(&mut json);
    format!("{pretty} {json}")
}

fn normalise(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(normalise),
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), &*value) {
                    ("uid", Value::String(text)) if text.len() == 36 => *value = "UID".into(),
                    ("resourceVersion", Value::String(_)) => *value = "RV".into(),
                    ("continue", Value::String(token)) => *value = token_start(token).into(),
                    ("message", Value::String(text)) => *value = digits(text).into(),
                    ("name", Value::String(text)) if text.starts_with("kube9-run-") => {
                        *value = "kube9-run-x".into();
                    }
                    (_, Value::String(text)) if is_time(text) => *value = "TIME".into(),
                    _ => normalise(value),
                }
            }
        }
        _ => {}
    }
}

fn is_time(text: &str) -> bool {
    text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T' && text.starts_with("20")
}

/// What a continue token says, without its revision.
fn token_start(token: &str) -> String {
    let json: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
    let past = json["rv"].as_i64().unwrap() > 0;
    format!("{} {past}", json["start"])
}

/// Text with its uids and long numbers taken out.
fn digits(text: &str) -> String {
    text.split_inclusive(|char: char| !(char.is_ascii_hexdigit() || char == '-'))
        .map(|word| {
            let core = word.trim_end_matches(|char: char| !char.is_ascii_hexdigit());
            let number = core.len() >= 4 && core.bytes().all(|byte| byte.is_ascii_digit());
            let keep = ["1048576", "3145728", "1123", "99999999"].contains(&core);
            if (number && !keep) || core.len() == 36 {
                word.replace(core, "#")
            } else {
                word.to_owned()
            }
        })
        .collect()
}

fn shorten(text: &str, other: &str) -> String {
    let same = text
        .bytes()
        .zip(other.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let from = same.saturating_sub(80);
    text.chars().skip(from).take(400).collect()
}
