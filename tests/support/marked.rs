//! A cluster in which all that can be named, labelled or said carries a marker, and how to look for it.

use kube_sim::Sim;
use serde_json::{Value, json};

#[path = "../../src/privacy/property/search.rs"]
mod search;

pub(crate) use search::Marker;

/// In every text of the cluster that [`mark`] makes.
pub(crate) const MARKER: &str = "qzxjvkwy";

/// The namespace with most in it.
pub(crate) const SHOP: &str = "qzxjvkwy-shop";

/// The kinds that count as workloads, where they are, and how many of each there are in [`SHOP`].
pub(crate) const WORKLOADS: [(&str, &str); 5] = [
    ("/apis/apps/v1", "deployments"),
    ("/apis/apps/v1", "statefulsets"),
    ("/apis/apps/v1", "daemonsets"),
    ("/apis/batch/v1", "jobs"),
    ("/apis/batch/v1", "cronjobs"),
];

/// Names of each kind in [`SHOP`]; two are words that a server may see elsewhere.
pub(crate) const NAMES: [&str; 4] = ["qzxjvkwy-db", "shop-qzxjvkwy", "api", "running"];

fn text(what: &str) -> String {
    format!("{MARKER}-{what}")
}

fn metadata(name: &str, namespace: &str) -> Value {
    json!({
        "name": name, "namespace": namespace, "uid": text("uid"),
        "labels": {text("label"): text("value"), "pod-template-hash": text("hash")},
        "annotations": {text("annotation"): text("note")},
    })
}

fn spec() -> Value {
    let container = json!({
        "name": text("container"), "image": format!("registry.example.com/{MARKER}/image:{MARKER}"),
        "command": [text("command")], "args": [text("arg")], "workingDir": text("dir"),
        "env": [{"name": text("variable"), "value": text("secret")}],
        "volumeMounts": [{"name": text("volume"), "mountPath": text("path")}],
        "resources": {"requests": {"cpu": "100m", "memory": text("no quantity")}},
    });
    let template =
        json!({"spec": {"containers": [container]}, "metadata": {"labels": {"a": text("label")}}});
    json!({
        "nodeName": text("node"), "hostname": text("host"), "serviceAccountName": text("account"),
        "containers": [container], "volumes": [{"name": text("volume"), "hostPath": {"path": text("path")}}],
        "template": template, "jobTemplate": {"spec": {"template": template}}, "schedule": text("schedule"),
        "replicas": 2, "selector": {"matchLabels": {"a": text("label")}}, "clusterIP": text("address"),
    })
}

fn status() -> Value {
    json!({
        "phase": "Running", "message": text("message"), "reason": text("reason"), "podIP": text("address"),
        "containerStatuses": [{"name": text("container"), "restartCount": 3, "image": text("image"),
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": text("message")}}}],
        "conditions": [{"type": "Ready", "status": "False", "message": text("message"), "reason": text("reason")}],
    })
}

/// Fills a simulator. The pods of [`SHOP`] belong to its `StatefulSets`, one is bare; the namespace `api` has a
/// Deployment `api`.
pub(crate) fn mark(sim: &Sim) {
    let insert = |path: &str, mut object: Value| {
        object["spec"] = spec();
        object["status"] = status();
        sim.insert(path, object);
    };
    for namespace in [SHOP, "api", "kube-system"] {
        let namespace = json!({"metadata": {"name": namespace, "uid": text("uid"), "labels": {"a": text("label")}}});
        sim.insert("/api/v1/namespaces", namespace);
    }
    let node = json!({"metadata": {"name": text("node"), "labels": {text("label"): text("value")}}, "status": {
        "capacity": {"cpu": "4", "memory": "8Gi", text("device"): "1"},
        "allocatable": {"cpu": "4", "memory": "8Gi"},
        "addresses": [{"type": "Hostname", "address": text("node")}],
        "nodeInfo": {"kubeletVersion": format!("v1.36.2-{MARKER}"), "osImage": text("image")},
        "conditions": [{"type": "Ready", "status": "True", "message": text("message")}],
    }});
    sim.insert("/api/v1/nodes", node);
    let counted = [
        ("/api/v1", "services"),
        ("/api/v1", "persistentvolumeclaims"),
        ("/apis/apps/v1", "replicasets"),
    ];
    for (prefix, plural) in WORKLOADS.into_iter().chain(counted) {
        for name in NAMES {
            let path = format!("{prefix}/namespaces/{SHOP}/{plural}");
            insert(&path, json!({"metadata": metadata(name, SHOP)}));
        }
    }
    insert(
        "/apis/apps/v1/namespaces/api/deployments",
        json!({"metadata": metadata("api", "api")}),
    );
    for name in NAMES {
        let mut pod = json!({"metadata": metadata(&format!("{name}-0"), SHOP)});
        if name != "running" {
            pod["metadata"]["ownerReferences"] = json!([{
                "apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "uid": text("uid"), "controller": true,
            }]);
        }
        insert(&format!("/api/v1/namespaces/{SHOP}/pods"), pod);
    }
}
