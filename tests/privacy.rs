//! What would leave the cluster: no name, and nothing else that a person wrote.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use kube_sim::{Cluster, Metrics, Options};
use serde_json::{Value, json};
use support::{Home, base64, disguises};

/// In every text of the cluster that this makes.
const MARKER: &str = "zqxmarker";

/// A cluster in which all that can be named, labelled or said carries the marker.
fn marked() -> Home {
    let home = Home::with(Options {
        cluster: Cluster::Empty,
        metrics: Metrics::Present,
        ..Options::default()
    });
    let sim = &home.sim;
    let text = |what: &str| format!("{MARKER}-{what}");
    let metadata = |what: &str| {
        json!({
            "name": text(what), "namespace": text("ns"),
            "labels": {text("label"): text("value"), "pod-template-hash": text("hash")},
            "annotations": {text("annotation"): text("note")},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": text("db"), "uid": text("uid"), "controller": true}],
        })
    };
    let container = json!({
        "name": text("container"), "image": format!("registry.example.com/{MARKER}/image:{MARKER}"),
        "command": [text("command")], "args": [text("arg")], "workingDir": text("dir"),
        "env": [{"name": text("variable"), "value": text("secret")}],
        "volumeMounts": [{"name": text("volume"), "mountPath": text("path")}],
    });
    let spec = json!({
        "nodeName": text("node"), "hostname": text("host"), "serviceAccountName": text("account"),
        "containers": [container], "volumes": [{"name": text("volume"), "hostPath": {"path": text("path")}}],
        "template": {"metadata": {"labels": {"a": text("label")}}, "spec": {"containers": [container]}},
        "replicas": 2, "selector": {"matchLabels": {"a": text("label")}},
    });
    let status = json!({
        "phase": "Running", "message": text("message"), "reason": text("reason"), "podIP": text("address"),
        "containerStatuses": [{"name": text("container"), "restartCount": 3, "image": text("image"),
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": text("message")}}}],
        "conditions": [{"type": "Ready", "status": "False", "message": text("message"), "reason": text("reason")}],
    });
    let object = |what: &str| json!({"metadata": metadata(what), "spec": spec, "status": status});
    sim.insert(
        "/api/v1/namespaces",
        json!({"metadata": {"name": text("ns"), "labels": {"a": text("label")}}}),
    );
    let node = json!({"metadata": {"name": text("node")}, "status": {
        "capacity": {"cpu": "4", "memory": "8Gi"}, "addresses": [{"type": "Hostname", "address": text("node")}],
        "nodeInfo": {"kubeletVersion": format!("v1.36.2-{MARKER}")}, "conditions": [{"type": "Ready", "status": "True"}],
    }});
    sim.insert("/api/v1/nodes", node);
    for (prefix, plurals) in [
        (
            "/api/v1",
            ["pods", "services", "persistentvolumeclaims"].as_slice(),
        ),
        (
            "/apis/apps/v1",
            &["deployments", "statefulsets", "daemonsets", "replicasets"],
        ),
        ("/apis/batch/v1", &["jobs", "cronjobs"]),
    ] {
        for plural in plurals {
            let path = format!("{prefix}/namespaces/{}/{plural}", text("ns"));
            for what in ["db", "api", "deployment_002"] {
                sim.insert(&path, object(what));
            }
        }
    }
    home
}

fn preview(home: &Home, arguments: &[&str]) -> String {
    let output = home.run(&[&["query", "privacy", "preview"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn no_text_of_the_cluster_is_in_the_body() {
    let home = marked();
    let _agent = home.start_and_collect(&[]);
    let body = preview(&home, &[]);
    let parsed: Value = serde_json::from_str(&body).unwrap();
    let workloads = parsed["resources"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(|namespace| namespace.get("workloads"))
        .map(|workloads| workloads.as_object().unwrap().len())
        .sum::<usize>();
    // Three of each kind; the Jobs, whose owner is no CronJob, count for themselves.
    assert_eq!(workloads, 15, "{body}");
    assert!(body.is_ascii());
    for form in disguises(MARKER) {
        assert!(!body.contains(&form), "{form} is in {body}");
    }
    // The search can find: the map has what the body must not have.
    let names = home.run(&["query", "privacy", "names"]);
    assert!(String::from_utf8(names.stdout).unwrap().contains(MARKER));
    let forms = disguises(MARKER);
    let encoded = base64(format!("a name with {MARKER} in it").as_bytes());
    assert!(
        forms.iter().any(|form| encoded.contains(form)),
        "{encoded} {forms:?}"
    );
}

#[test]
fn the_body_is_the_inventory_under_other_names() {
    let home = Home::new();
    let _agent = home.start_and_collect(&[]);
    let body: Value = serde_json::from_str(&preview(&home, &[])).unwrap();
    let expected = support::recorded_counts(false)["metrics"].clone();
    let names = home.run(&["query", "privacy", "names"]).stdout;
    let names: Value = serde_json::from_slice(&names).unwrap();
    let names = names["names"].as_array().unwrap();
    assert_eq!(body["cluster"], expected["cluster"]);
    for namespace in names.iter().filter(|name| name["kind"] == "namespace") {
        let ours = &body["resources"][namespace["id"].as_str().unwrap()];
        let theirs = &expected["resources"][namespace["name"].as_str().unwrap()];
        for field in [
            "pods",
            "deployments",
            "containers",
            "podsByPhase",
            "signals",
            "cpuRequestsMillicores",
        ] {
            assert_eq!(ours[field], theirs[field], "{field} of {namespace}");
        }
    }
    for workload in names.iter().filter(|name| name["kind"] == "deployment") {
        let namespace = names
            .iter()
            .find(|name| name["kind"] == "namespace" && name["name"] == workload["namespace"])
            .unwrap();
        let workloads = &body["resources"][namespace["id"].as_str().unwrap()]["workloads"];
        let ours = &workloads[workload["id"].as_str().unwrap()];
        let key = format!("deployment/{}", workload["name"].as_str().unwrap());
        let theirs =
            &expected["resources"][workload["namespace"].as_str().unwrap()]["workloads"][key];
        assert_eq!(ours["restarts"], theirs["restarts"], "{workload}");
        assert_eq!(ours["readyReplicas"], theirs["readyReplicas"], "{workload}");
    }
}

#[test]
fn it_can_be_narrowed() {
    let home = Home::new();
    let _agent = home.start_and_collect(&["--exclude-namespaces=payments"]);
    let whole = preview(&home, &[]);
    assert!(whole.contains("\"workloads\":{"));
    assert_eq!(whole, preview(&home, &[]), "asking changes nothing");
    let narrow = preview(&home, &["--privacy-detail=namespaces"]);
    assert!(!narrow.contains("workloads") && !narrow.contains("deployment_"));
    let body: Value = serde_json::from_str(&narrow).unwrap();
    assert_eq!(body["resources"].as_object().unwrap().len(), 10);
    let names = home.run(&[
        "query",
        "privacy",
        "names",
        "--kind",
        "namespace",
        "--format=table",
    ]);
    let names = String::from_utf8(names.stdout).unwrap();
    assert!(names.starts_with("ID") && names.contains("production") && !names.contains("payments"));
    let wrong = home.run(&["query", "privacy", "preview", "--privacy-detail=everything"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn before_the_first_collection_there_is_nothing_to_send() {
    let home = Home::new();
    home.sim.set_rbac(kube_sim::Rbac::Rules(Vec::new()));
    home.sim.expire_token();
    let agent = home.start(&[]);
    agent.wait_for_log("the collection failed");
    let output = home.run(&["query", "privacy", "preview"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.is_empty());
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("NOT_FOUND")
    );
}
