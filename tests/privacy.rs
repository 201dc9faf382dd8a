//! What would leave the cluster: no name, and nothing else that a person wrote.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
#[path = "../src/privacy/property/allowed.rs"]
mod allowed;
#[path = "support/marked.rs"]
mod marked;
mod support;

use kube_sim::{Cluster, Metrics, Options};
use marked::{MARKER, Marker};
use serde_json::Value;
use support::Home;

fn preview(home: &Home, arguments: &[&str]) -> String {
    let output = home.run(&[&["query", "privacy", "preview"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn no_text_of_the_cluster_is_in_the_body() {
    let home = Home::with(Options {
        cluster: Cluster::Empty,
        metrics: Metrics::Present,
        kubernetes_version: format!("v1.36.2-{MARKER}"),
        ..Options::default()
    });
    marked::mark(&home.sim);
    let _agent = home.start_and_collect(&[]);
    let body = preview(&home, &[]);
    allowed::metrics(&body).unwrap();
    let marker = Marker::new(MARKER);
    assert_eq!(marker.find(body.as_bytes()), None);
    let parsed: Value = serde_json::from_str(&body).unwrap();
    let workloads = parsed["resources"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(|namespace| namespace.get("workloads"))
        .map(|workloads| workloads.as_object().unwrap().len())
        .sum::<usize>();
    assert_eq!(workloads, 21, "{body}");
    // The map has what the body must not have.
    let names = home.run(&["query", "privacy", "names"]);
    assert!(marker.find(&names.stdout).is_some());
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
