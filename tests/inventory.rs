//! The inventory in the database, against what was counted independently.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;

use kube_client_lite::{ListParams, Resource};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Map, Value, json};
use support::{Home, recorded_counts};

/// What a namespace takes with it.
const NAMESPACED: [Resource; 9] = [
    Resource::new("", "v1", "pods"),
    Resource::new("", "v1", "services"),
    Resource::new("", "v1", "persistentvolumeclaims"),
    Resource::new("apps", "v1", "deployments"),
    Resource::new("apps", "v1", "statefulsets"),
    Resource::new("apps", "v1", "daemonsets"),
    Resource::new("apps", "v1", "replicasets"),
    Resource::new("batch", "v1", "jobs"),
    Resource::new("batch", "v1", "cronjobs"),
];

/// The inventory in the form of `recorded-counts.json`.
fn inventory(home: &Home) -> Value {
    let database =
        Connection::open_with_flags(home.db(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let cluster: String = database
        .query_row(
            "SELECT body FROM document WHERE name = 'inventory-cluster'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let mut workloads: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut select = database
        .prepare(
            "SELECT there.*, name.name
             FROM inventory_workload AS there JOIN name USING (kind, number)",
        )
        .unwrap();
    let mut rows = select.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let text = |name: &str| row.get::<_, String>(name).unwrap();
        let number = |name: &str| row.get::<_, u32>(name).unwrap();
        let mut signals: Vec<String> = text("signals").split(',').map(str::to_owned).collect();
        signals.retain(|signal| !signal.is_empty());
        signals.sort();
        let figures = json!({
            "replicas": number("replicas"), "readyReplicas": number("ready_replicas"),
            "containers": number("containers"), "restarts": number("restarts"), "signals": signals,
        });
        let of_namespace = workloads.entry(text("namespace")).or_default();
        of_namespace.insert(format!("{}/{}", text("kind"), text("name")), figures);
    }
    let mut resources = Map::new();
    let mut select = database
        .prepare("SELECT name, figures FROM inventory_namespace")
        .unwrap();
    let mut rows = select.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let name: String = row.get(0).unwrap();
        let mut figures: Value = serde_json::from_str(&row.get::<_, String>(1).unwrap()).unwrap();
        figures["workloads"] = Value::Object(workloads.remove(&name).unwrap_or_default());
        resources.insert(name, figures);
    }
    assert!(
        workloads.is_empty(),
        "workloads of no namespace: {workloads:?}"
    );
    json!({"cluster": serde_json::from_str::<Value>(&cluster).unwrap(), "resources": resources})
}

/// Takes out of both what cannot be compared, of workloads alone:
/// - `containers`: here of one pod, there of all pods together (the contract leaves it open);
/// - `replicas` and `readyReplicas` of a Job and a `CronJob`: here the pods that run, there a Job's `parallelism`, and
///   nothing for a `CronJob`.
fn comparable(mut inventory: Value) -> Value {
    for namespace in inventory["resources"].as_object_mut().unwrap().values_mut() {
        for (key, workload) in namespace["workloads"].as_object_mut().unwrap() {
            let workload = workload.as_object_mut().unwrap();
            assert!(workload.remove("containers").unwrap().as_u64().is_some());
            if key.starts_with("job/") || key.starts_with("cronjob/") {
                workload.remove("replicas");
                workload.remove("readyReplicas");
            }
        }
    }
    inventory
}

fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    let (Value::Object(a), Value::Object(b)) = (ours, theirs) else {
        if ours != theirs {
            found.push(format!("{path}: ours {ours}, theirs {theirs}"));
        }
        return;
    };
    let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let absent = json!("absent");
        let side = |map: &Map<String, Value>| map.get(key).unwrap_or(&absent).clone();
        differences(&format!("{path}/{key}"), &side(a), &side(b), found);
    }
}

fn assert_same(ours: Value, theirs: Value) {
    let mut found = Vec::new();
    differences("", &comparable(ours), &comparable(theirs), &mut found);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_figure_of_the_recorded_cluster() {
    let home = Home::new();
    let _agent = home.start_and_collect(&[]);
    let expected = recorded_counts(false)["metrics"].clone();
    assert!(expected["resources"].as_object().unwrap().len() > 10);
    assert_same(inventory(&home), expected);
}

#[test]
fn containers_are_those_of_one_pod() {
    let home = Home::new();
    let _agent = home.start_and_collect(&[]);
    let inventory = inventory(&home);
    let containers = |namespace: &str, workload: &str| {
        inventory["resources"][namespace]["workloads"][workload]["containers"].clone()
    };
    assert_eq!(containers("payments", "deployment/payments-api"), 3);
    assert_eq!(containers("production", "deployment/queue"), 2);
    assert_eq!(containers("api", "deployment/api"), 1);
}

#[test]
fn excluded_namespaces_are_left_out_entirely() {
    let home = Home::new();
    let _agent = home.start_and_collect(&["--exclude-namespaces", "production, payments"]);
    let mut expected = recorded_counts(false)["metrics"].clone();
    for name in ["production", "payments"] {
        expected["resources"]
            .as_object_mut()
            .unwrap()
            .remove(name)
            .unwrap();
    }
    assert_same(inventory(&home), expected);
    // Not even the file has their names.
    let database = std::fs::read(home.db()).unwrap();
    let log = std::fs::read(home.path("kube9.db-wal")).unwrap_or_default();
    for name in ["payments-api", "production"] {
        let found = |bytes: &[u8]| {
            bytes
                .windows(name.len())
                .any(|window| window == name.as_bytes())
        };
        assert!(!found(&database) && !found(&log), "{name}");
    }
}

#[test]
fn the_next_collection_follows_the_cluster() {
    let home = Home::new();
    let mut agent = home.start_and_collect(&[]);
    let before = inventory(&home);
    agent.stop();
    drop(agent);

    let sim = &home.sim;
    // Gone: a whole namespace, and one Deployment of another.
    let gone = "production";
    for resource in NAMESPACED {
        let api = home.client().api(resource).namespace(gone);
        for object in api.list_all::<Value>(&ListParams::default()).unwrap() {
            let (group, plural) = (resource.group(), resource.plural());
            let prefix = if group.is_empty() {
                "/api/v1".to_owned()
            } else {
                format!("/apis/{group}/v1")
            };
            let name = object["metadata"]["name"].as_str().unwrap();
            assert!(sim.remove(&format!("{prefix}/namespaces/{gone}/{plural}/{name}")));
        }
    }
    assert!(sim.remove(&format!("/api/v1/namespaces/{gone}")));
    assert!(sim.remove("/apis/apps/v1/namespaces/api/deployments/api"));
    // Changed and new.
    let mut web = sim
        .get("/apis/apps/v1/namespaces/default/deployments/default")
        .unwrap();
    web["spec"]["replicas"] = json!(7);
    sim.insert("/apis/apps/v1/namespaces/default/deployments", web);
    sim.insert(
        "/api/v1/namespaces",
        json!({"metadata": {"name": "brand-new"}}),
    );
    sim.insert("/apis/apps/v1/namespaces/brand-new/deployments", json!({
        "metadata": {"name": "web"}, "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "a"}]}}},
    }));

    // The next turn, without the hour until then.
    make_overdue(&home);
    let _agent = home.start(&[]);
    home.wait_for_collections(2);
    let after = inventory(&home);
    let resources = after["resources"].as_object().unwrap();
    assert!(resources.get(gone).is_none() && before["resources"].get(gone).is_some());
    assert!(
        resources["api"]["workloads"]
            .get("deployment/api")
            .is_none()
    );
    assert_eq!(resources["api"]["deployments"], 0);
    // Its pods are still there, and bare.
    assert_eq!(resources["api"]["pods"], 2);
    assert_eq!(
        resources["default"]["workloads"]["deployment/default"]["replicas"],
        7
    );
    assert_eq!(
        resources["brand-new"]["workloads"]["deployment/web"]["replicas"],
        2
    );
    for untouched in ["payments", "kube-system"] {
        assert_eq!(resources[untouched], before["resources"][untouched]);
    }
}

/// Sets the last good collection back by a day.
fn make_overdue(home: &Home) {
    let database = Connection::open(home.db()).unwrap();
    let changed = database
        .execute(
            "UPDATE stats SET last_success = last_success - 86400000",
            [],
        )
        .unwrap();
    assert_eq!(changed, 1);
}
