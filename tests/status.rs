//! The status ConfigMap: what clients see of the agent, in every state it can be in on the free tier.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use kube_client_lite::{ApplyMeta, ApplyParams, Resource};
use kube_sim::{Fault, FaultAction, PolicyRule, Rbac};
use serde_json::{Value, json};
use support::{Home, NAMESPACE, STATUS, is_rfc3339_millis, labels};

const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps");

/// Longer than any test takes.
const FOR_EVER: Duration = Duration::from_secs(3600);

#[test]
fn shape() {
    let home = Home::new();
    let _agent = home.start_and_collect(&[]);
    let status = home.wait_for_status("tells of the collection", |status| {
        status["collectionStats"]["totalSuccessCount"] == 1
    });
    let last_update = status["lastUpdate"].as_str().unwrap();
    let last_success = status["collectionStats"]["lastSuccessTime"]
        .as_str()
        .unwrap();
    assert!(
        is_rfc3339_millis(last_update) && is_rfc3339_millis(last_success),
        "{status}"
    );
    let expected = json!({
        "mode": "operated", "tier": "free", "version": env!("CARGO_PKG_VERSION"), "health": "healthy",
        "lastUpdate": last_update, "registered": false, "apiKeyConfigured": false, "error": null,
        "namespace": NAMESPACE,
        "collectionStats": {
            "totalSuccessCount": 1, "totalFailureCount": 0, "collectionsStoredCount": 1,
            "lastSuccessTime": last_success,
        },
    });
    assert_eq!(status, expected);

    let config_map = home.config_map(STATUS).unwrap();
    let data = config_map["data"].as_object().unwrap();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["namespace", "status"]);
    assert_eq!(data["namespace"], NAMESPACE);
    let text = data["status"].as_str().unwrap();
    assert!(text.is_ascii() && text.len() <= 4096, "{text}");
    let expected = [
        ("app.kubernetes.io/component", "status"),
        ("app.kubernetes.io/managed-by", "kube9-operator"),
        ("app.kubernetes.io/name", "kube9-operator"),
    ];
    assert_eq!(
        labels(&config_map),
        expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into()
    );
    assert_eq!(managers(&config_map), ["kube9-operator Apply"]);

    // What a query says is what clients see, with two things more.
    let mut answer = home.query("status");
    let database = answer.as_object_mut().unwrap().remove("database").unwrap();
    let agent = answer.as_object_mut().unwrap().remove("agent").unwrap();
    answer["lastUpdate"] = status["lastUpdate"].clone();
    assert_eq!(answer, status);
    assert_eq!(database["path"], home.db().to_str().unwrap());
    assert!(
        database["sizeBytes"].as_u64().unwrap() > 4096
            && database["schemaVersion"].as_u64().unwrap() > 0
    );
    assert_eq!(agent["running"], true);
    assert!(is_rfc3339_millis(agent["lastHeartbeat"].as_str().unwrap()));
}

fn managers(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    entries
        .iter()
        .map(|entry| text(entry, "manager") + " " + &text(entry, "operation"))
        .collect()
}

#[test]
fn is_written_before_the_first_collection_and_while_it_hangs() {
    let home = Home::new();
    home.sim
        .script(Fault::new(FaultAction::HangBeforeHeader(FOR_EVER)).path("/api/v1/nodes"));
    let agent = home.start(&[]);
    let first = home.wait_for_health("healthy");
    assert_eq!(first["collectionStats"]["lastSuccessTime"], json!(null));
    let second = home.wait_for_beat();
    assert_eq!(
        second["collectionStats"]["totalSuccessCount"],
        0,
        "{}",
        agent.log()
    );
    assert_eq!(second["health"], "healthy");
}

#[test]
fn a_change_does_not_put_off_the_next_beat() {
    // With ten seconds between two it is ten, or twice as many.
    let most = Duration::from_secs(15);
    support::in_time(|| {
        let home = Home::new();
        // The collection fails a moment after the first status, which tells of it at once.
        let hang = FaultAction::HangBeforeHeader(Duration::from_secs(1));
        home.sim.script(Fault::new(hang).path("/version"));
        home.sim.script(
            Fault::new(FaultAction::status(500, "InternalError", "x")).path("/api/v1/nodes"),
        );
        let _agent = home.start(&[]);
        let (change, at, next) = support::wait_for("the change and the beat after it", || {
            let statuses = home.statuses();
            let change = statuses
                .iter()
                .position(|(_, status)| status["health"] == "degraded")?;
            Some((change, statuses[change].0, statuses.get(change + 1)?.0))
        });
        if change == 0 {
            return Err("the first status was no earlier than the failure".to_owned());
        }
        let gap = next.duration_since(at).unwrap();
        (gap < most)
            .then_some(())
            .ok_or(format!("{gap:?} after a write out of turn"))
    });
}

#[test]
fn what_may_not_be_listed_is_told_and_survives_a_restart() {
    let home = Home::new();
    let all = [
        "nodes",
        "namespaces",
        "services",
        "persistentvolumeclaims",
        "deployments",
        "statefulsets",
        "daemonsets",
        "jobs",
        "cronjobs",
    ];
    let rules = vec![
        PolicyRule::new("*", &all, &["get", "list"]),
        PolicyRule::new("", &["configmaps"], &["create", "delete", "get", "patch"]),
    ];
    home.sim.set_rbac(Rbac::Rules(rules));
    let mut agent = home.start(&[]);
    let status = home.wait_for_health("degraded");
    assert_eq!(
        status["error"],
        "not allowed to list replicasets.apps, pods, pods.metrics.k8s.io"
    );
    assert_eq!(
        (&status["mode"], &status["tier"]),
        (&json!("operated"), &json!("free"))
    );
    // The rest was collected.
    home.wait_for_collections(1);
    assert_eq!(home.dashboard().unwrap()["workloads"]["deployments"], 18);

    // The next agent finds a collection of a moment ago, and must not call the cluster healthy until the next turn.
    agent.stop();
    drop(agent);
    let mut agent = home.start(&[]);
    home.wait_for_status("is of the second agent", |status| {
        status["health"] == "degraded" && status["collectionStats"]["totalSuccessCount"] == 2
    });

    agent.stop();
    drop(agent);
    home.sim.set_rbac(Rbac::AllowAll);
    let _agent = home.start(&[]);
    home.wait_for_status("is healthy again", |status| {
        status["health"] == "healthy" && status["collectionStats"]["totalSuccessCount"] == 3
    });
}

#[test]
fn a_damaged_database_is_rebuilt_and_told_until_the_next_good_collection() {
    let home = Home::new();
    std::fs::write(home.db(), "this is not a database ".repeat(1000)).unwrap();
    let _agent = home.start(&[]);
    home.wait_for_health("healthy");
    assert_told_of_the_rebuilt_database(&home);
    let aside = std::fs::read_dir(home.path("")).unwrap();
    let aside = aside.filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_str()
            .unwrap()
            .starts_with("kube9.db.corrupt-")
    });
    assert_eq!(aside.count(), 1);
}

/// Whether or not a client was quick enough to see it.
fn assert_told_of_the_rebuilt_database(home: &Home) {
    let (_, status) = &home.statuses()[0];
    let error = status["error"].as_str().unwrap_or_default();
    assert!(
        status["health"] == "degraded" && error.starts_with("database rebuilt"),
        "{status}"
    );
}

#[test]
fn a_database_without_its_tables_is_rebuilt() {
    let home = Home::new();
    let foreign = rusqlite::Connection::open(home.db()).unwrap();
    foreign
        .execute_batch("PRAGMA user_version = 1; CREATE TABLE something (else_ TEXT);")
        .unwrap();
    drop(foreign);
    let _agent = home.start(&[]);
    home.wait_for_health("healthy");
    assert_told_of_the_rebuilt_database(&home);
}

#[test]
fn an_api_key_that_appears_is_seen_and_a_server_that_is_not_there_is_told() {
    let home = Home::new();
    let _agent = home.start_and_collect(&[]);
    std::fs::write(home.path("apiKey"), "kdy_prod_abcdefgh\n").unwrap();
    let status = home.wait_for_status("tells of the server", |status| {
        let error = status["error"].as_str();
        error.is_some_and(|error| error.starts_with("kube9-server unreachable: "))
    });
    assert_eq!(
        (&status["health"], &status["apiKeyConfigured"]),
        (&json!("degraded"), &json!(true))
    );
    assert_eq!(
        (&status["mode"], &status["tier"]),
        (&json!("enabled"), &json!("pro"))
    );
    assert_eq!(
        (&status["registered"], &status["sync"]["lastSuccess"]),
        (&json!(false), &json!(null))
    );
    let answer = home.query("status");
    assert_eq!(
        (&answer["apiKeyConfigured"], &answer["health"]),
        (&json!(true), &json!("degraded"))
    );
}

#[test]
fn an_api_key_that_vanishes_is_forgotten_by_the_next_beat() {
    let home = Home::new();
    std::fs::write(home.path("apiKey"), "kdy_prod_abcdefgh\n").unwrap();
    let _agent = home.start(&[]);
    let status = home.wait_for_health("degraded");
    assert_eq!(status["apiKeyConfigured"], true);
    std::fs::remove_file(home.path("apiKey")).unwrap();
    let status = home.wait_for_status("knows no key", |status| status["apiKeyConfigured"] == false);
    assert_eq!(
        (&status["health"], &status["error"]),
        (&json!("healthy"), &json!(null))
    );
}

#[test]
fn a_config_map_that_is_someone_elses_is_taken_over_and_what_else_is_in_it_stays() {
    let home = Home::new();
    apply_as_someone(&home, "not a status");
    let _agent = home.start(&[]);
    home.wait_for_health("healthy");
    let config_map = home.config_map(STATUS).unwrap();
    assert_eq!(config_map["data"]["theirs"], "stays");
    assert_eq!(config_map["data"]["namespace"], NAMESPACE);
    assert_eq!(labels(&config_map)["theirs"], "stays");
    assert_eq!(
        labels(&config_map)["app.kubernetes.io/name"],
        "kube9-operator"
    );

    // Again while it runs.
    apply_as_someone(&home, "not a status");
    home.wait_for_health("healthy");
    let config_map = home.config_map(STATUS).unwrap();
    assert_eq!(config_map["data"]["theirs"], "stays");
    let mut managers = managers(&config_map);
    managers.sort();
    assert_eq!(managers, ["kube9-operator Apply", "someone Apply"]);
}

fn apply_as_someone(home: &Home, status: &str) {
    let meta = ApplyMeta {
        name: STATUS,
        namespace: Some(NAMESPACE),
        labels: BTreeMap::from([("theirs", "stays"), ("app.kubernetes.io/name", "theirs")]),
    };
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta,
        "data": {"status": status, "namespace": "elsewhere", "theirs": "stays"},
    });
    let params = ApplyParams::new("someone").force();
    let api = home.client().api(CONFIG_MAPS).namespace(NAMESPACE);
    let applied: Value = api.apply(STATUS, &params, &object).unwrap();
    assert_eq!(applied["data"]["status"], status);
}

#[test]
fn a_deleted_config_map_comes_back() {
    let home = Home::new();
    let _agent = home.start(&[]);
    home.wait_for_health("healthy");
    assert!(home.sim.remove(&support::config_map_path(STATUS)));
    home.wait_for_health("healthy");
    assert_eq!(
        home.config_map(STATUS).unwrap()["data"]["namespace"],
        NAMESPACE
    );
}

#[test]
fn the_figures_of_collections_survive_a_restart() {
    let home = Home::new();
    home.sim.script(
        Fault::new(FaultAction::status(400, "BadRequest", "no"))
            .path("/api/v1/nodes")
            .once(),
    );
    let mut agent = home.start(&[]);
    agent.wait_for_log("the collection failed");
    support::wait_for("the failure to be counted", || {
        let stats = home.query("status")["collectionStats"].clone();
        (stats["totalFailureCount"] == 1).then_some(())
    });
    agent.stop();
    drop(agent);
    let mut agent = home.start(&[]);
    let before = home.wait_for_status("tells of both", |status| {
        let stats = &status["collectionStats"];
        stats["totalFailureCount"] == 1 && stats["totalSuccessCount"] == 1
    });
    agent.stop();
    drop(agent);
    home.sim.clear_requests();
    let _agent = home.start(&[]);
    home.wait_for_health("healthy");
    let (_, after) = support::wait_for("the third agent's status", || home.statuses().pop());
    assert_eq!(after["collectionStats"], before["collectionStats"]);
}

#[test]
fn the_error_is_bounded_whatever_the_api_server_says() {
    let home = Home::new();
    let message = "\u{1}\u{1b}[31m\u{202e}\"\\\n\u{1f600}é".repeat(2000);
    home.sim
        .script(Fault::new(FaultAction::status(400, "BadRequest", &message)).path("/api/v1/nodes"));
    let agent = home.start(&[]);
    let status = home.wait_for_health("degraded");
    let error = status["error"].as_str().unwrap();
    assert!(
        error.starts_with("collection failed: ") && error.ends_with("..."),
        "{error}"
    );
    assert!(error.chars().count() <= 500);
    let config_map = home.config_map(STATUS).unwrap();
    let text = config_map["data"]["status"].as_str().unwrap();
    assert!(
        text.len() <= 4096 && text.is_ascii(),
        "{} bytes",
        text.len()
    );
    assert!(
        !agent.log().contains('\u{1b}'),
        "the log sends control characters to the terminal"
    );

    let table = home.run(&["query", "status", "--format", "table"]);
    assert!(table.status.success());
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(!table.contains(['\u{1}', '\u{1b}', '\u{202e}']), "{table}");
}

#[test]
fn a_collection_that_fails_is_not_forgotten_because_the_dashboard_is_fine() {
    let home = Home::new();
    home.sim.script(
        Fault::new(FaultAction::Cut { after_bytes: 1000 })
            .path("/api/v1/pods")
            .query("limit=64"),
    );
    let agent = home.start(&[]);
    agent.wait_for_log("the collection failed");
    support::wait_for("the dashboard", || home.dashboard());
    home.wait_for_health("degraded");
    let status = home.wait_for_beat();
    let error = status["error"].as_str().unwrap_or_default();
    assert!(
        status["health"] == "degraded" && error.starts_with("collection failed: list /api/v1/pods"),
        "{status}"
    );
}
