//! The dashboard ConfigMap.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use kube_sim::{Fault, FaultAction, Metrics, Options};
use serde_json::{Value, json};
use support::{DASHBOARD, Home, is_rfc3339_millis, labels, recorded_counts};

/// What was counted independently, and what only the agent can say.
fn expected(metrics: bool, published: &Value) -> Value {
    let mut expected = recorded_counts(metrics)["dashboard"].clone();
    let workloads = expected["workloads"].as_object().unwrap();
    let objects: u64 = workloads
        .values()
        .map(|count| count.as_u64().unwrap())
        .sum();
    let objects = objects + expected["namespaceCount"].as_u64().unwrap();
    let objects = objects + expected["nodes"]["totalNodes"].as_u64().unwrap();
    let at = published["lastUpdated"].as_str().unwrap();
    assert!(is_rfc3339_millis(at), "{at}");
    expected["lastUpdated"] = json!(at);
    expected["operatorMetrics"] =
        json!({"collectorsRunning": 1, "dataPointsCollected": objects, "lastCollectionTime": at});
    expected
}

#[test]
fn shape_and_figures_without_metrics() {
    let home = Home::new();
    let _agent = home.start_and_collect(&[]);
    let dashboard = home.dashboard().unwrap();
    assert_eq!(dashboard["usage"], Value::Null);
    assert_eq!(dashboard, expected(false, &dashboard));

    let config_map = home.config_map(DASHBOARD).unwrap();
    assert_eq!(config_map["data"].as_object().unwrap().len(), 1);
    assert!(config_map["data"]["dashboard"].as_str().unwrap().is_ascii());
    let expected = [
        ("app.kubernetes.io/component", "dashboard"),
        ("app.kubernetes.io/managed-by", "kube9-operator"),
        ("app.kubernetes.io/name", "kube9-operator"),
    ];
    assert_eq!(
        labels(&config_map),
        expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into()
    );
    let managers = config_map["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(managers.len(), 1);
    assert_eq!(
        (&managers[0]["manager"], &managers[0]["operation"]),
        (&json!("kube9-operator"), &json!("Apply"))
    );

    assert_eq!(home.query("dashboard"), dashboard);
}

#[test]
fn usage_comes_from_the_metrics_server() {
    let home = Home::with(Options {
        metrics: Metrics::Present,
        ..Options::default()
    });
    let _agent = home.start_and_collect(&[]);
    let dashboard = home.dashboard().unwrap();
    // The simulator makes its own usage up; that its figures are added up right is proved by tests of the sums.
    let percent = |name: &str| dashboard["usage"][name].as_f64().unwrap();
    for name in ["cpuPercent", "memoryPercent"] {
        assert!(percent(name) > 0.0 && percent(name) < 200.0, "{dashboard}");
    }
    let mut without = dashboard.clone();
    without["usage"] = Value::Null;
    assert_eq!(without, expected(false, &dashboard));
}

#[test]
fn a_broken_metrics_server_costs_usage_and_nothing_else() {
    let home = Home::with(Options {
        metrics: Metrics::Broken,
        ..Options::default()
    });
    let _agent = home.start_and_collect(&[]);
    let dashboard = home.dashboard().unwrap();
    assert_eq!(dashboard, expected(false, &dashboard));
    home.wait_for_status("is healthy", |status| {
        status["health"] == "healthy" && status["error"].is_null()
    });
}

#[test]
fn is_published_anew_by_a_restart_though_no_collection_is_due() {
    let home = Home::new();
    let mut agent = home.start_and_collect(&[]);
    agent.stop();
    drop(agent);
    assert!(
        home.sim
            .remove("/apis/apps/v1/namespaces/api/deployments/api")
    );
    let before = home.query("dashboard");
    home.sim.insert(
        "/api/v1/namespaces",
        json!({"metadata": {"name": "one-more"}}),
    );
    home.sim.clear_requests();
    let _agent = home.start(&[]);
    support::wait_for("the new dashboard", || {
        (home.dashboard()? != before).then_some(())
    });
    let dashboard = home.dashboard().unwrap();
    assert_eq!(dashboard["workloads"]["deployments"], 17);
    assert_eq!(dashboard["namespaceCount"], 12);
    let requests = home.sim.requests();
    assert!(
        !requests
            .iter()
            .any(|request| request.query == "limit=64" && request.path == "/api/v1/pods")
    );
}

#[test]
fn counts_the_whole_cluster_though_namespaces_are_excluded() {
    let home = Home::new();
    let _agent = home.start_and_collect(&["--exclude-namespaces", "production,api"]);
    let dashboard = home.dashboard().unwrap();
    assert_eq!(dashboard, expected(false, &dashboard));
}

#[test]
fn the_old_one_stays_while_a_count_fails() {
    let home = Home::new();
    let mut agent = home.start_and_collect(&[]);
    agent.stop();
    drop(agent);
    let before = home.dashboard().unwrap();
    home.sim.script(
        Fault::new(FaultAction::status(500, "InternalError", "x")).path("/apis/batch/v1/cronjobs"),
    );
    let agent = home.start(&[]);
    agent.wait_for_log("the dashboard was not refreshed");
    assert_eq!(home.dashboard().unwrap(), before);
    assert_eq!(home.query("dashboard"), before);
}
