//! The six calls, and what the server keeps of them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{
    CLUSTER, IDENTIFIER, REQUEST, acknowledge, analyze, get, headers, insights, metrics, post,
    register, registered, send, server, with,
};
use kube9_sim::{Acknowledgement, Analysis, Call, Cluster, Options};
use serde_json::json;

#[test]
fn a_cluster_keeps_its_id_when_it_registers_again() {
    let server = server();
    let first = post(&server, Call::Register, &register()).json();
    assert_eq!(
        (&first["status"], &first["clusterId"], &first["tier"]),
        (&json!("registered"), &json!(CLUSTER), &json!("pro"))
    );
    assert_eq!(
        first["configuration"],
        json!({"statusUpdateIntervalSeconds": 60, "reregistrationIntervalHours": 24})
    );
    let second = post(&server, Call::Register, &register()).json();
    assert_eq!(
        (&second["status"], &second["clusterId"]),
        (&json!("reregistered"), &json!(CLUSTER))
    );
    let mut other = register();
    other["clusterIdentifier"] = json!(IDENTIFIER.replace("7d4a", "7d4b"));
    let third = post(&server, Call::Register, &other).json();
    assert_eq!(third["clusterId"], json!("cls_7d4b0123456789ab"));
    let known = Cluster {
        identifier: IDENTIFIER.to_owned(),
        id: CLUSTER.to_owned(),
        registrations: 2,
    };
    assert_eq!(server.clusters()[0], known);
    assert_eq!(server.violations(), Vec::<String>::new());
}

#[test]
fn keys_are_accepted_and_refused() {
    let server = registered(Options::default());
    server.change(|options| options.keys = vec!["another".to_owned()]);
    let answer = get(&server, "/api/v1/quota");
    assert_eq!(answer.status, 401);
    assert!(!answer.body.is_empty() && !answer.head.contains("kube9-sim-key"));
    server.change(|options| options.keys.push("kube9-sim-key".to_owned()));
    assert_eq!(get(&server, "/api/v1/quota").status, 200);
    assert_eq!(server.violations(), Vec::<String>::new());
}

#[test]
fn a_server_without_registration_knows_a_cluster_by_its_uuid() {
    let server = with(Options {
        registration: false,
        ..Options::default()
    });
    assert_eq!(post(&server, Call::Register, &register()).status, 404);
    assert_eq!(get(&server, "/api/v1/quota").status, 200);
    let mut body = metrics();
    body["clusterId"] = json!(REQUEST);
    assert_eq!(post(&server, Call::Push, &body).status, 200);
    assert_eq!(server.violations(), Vec::<String>::new());
    body["clusterId"] = json!("default");
    post(&server, Call::Push, &body);
    assert_eq!(server.violations().len(), 1, "{:?}", server.violations());
}

#[test]
fn a_cluster_that_was_never_registered_is_none() {
    let server = server();
    assert_eq!(post(&server, Call::Push, &metrics()).status, 404);
    assert_eq!(
        server.violations(),
        [format!(
            "POST /api/v1/metrics: clusterId: \"{CLUSTER}\" was never given to anybody"
        )]
    );
    assert_eq!((server.pushes(), server.last_push()), (0, None));
}

#[test]
fn a_cluster_that_the_server_forgot_has_done_nothing_wrong() {
    let server = registered(Options::default());
    server.forget_clusters();
    assert_eq!(post(&server, Call::Push, &metrics()).status, 404);
    let again = post(&server, Call::Register, &register()).json();
    assert_eq!(again["status"], "registered");
    assert_eq!(post(&server, Call::Push, &metrics()).status, 200);
    assert_eq!(server.violations(), Vec::<String>::new());
}

#[test]
fn pushes_are_counted_and_the_last_is_kept() {
    let server = registered(Options::default());
    assert_eq!(post(&server, Call::Push, &metrics()).status, 200);
    let mut narrow = metrics();
    let namespace = narrow["resources"]["namespace_001"]
        .as_object_mut()
        .unwrap();
    namespace.remove("workloads");
    assert_eq!(post(&server, Call::Push, &narrow).status, 200);
    assert_eq!((server.pushes(), server.last_push()), (2, Some(narrow)));
    assert_eq!(server.violations(), Vec::<String>::new());
}

#[test]
fn a_body_over_the_limit_is_too_large_however_it_comes() {
    let server = registered(Options {
        body_limit: 500,
        ..Options::default()
    });
    assert_eq!(post(&server, Call::Push, &metrics()).status, 413);
    assert_eq!(server.pushes(), 0);
    assert_eq!(post(&server, Call::Register, &register()).status, 200);
    // So long that the server does not wait for it.
    let length = (64 << 20).to_string();
    let answer = send(
        &server,
        "POST /api/v1/metrics",
        &headers(&length, None),
        &"x".repeat(2000),
    );
    assert_eq!(answer.status, 413);
    assert_eq!(server.violations(), Vec::<String>::new());
}

#[test]
fn insights_are_those_since() {
    let server = registered(Options::default());
    for (id, created) in [
        ("old", "2026-01-01T00:00:00Z"),
        ("edge", "2026-06-01T00:00:00.000Z"),
        ("new", "2026-07-01T02:00:00+02:00"),
        ("odd", "yesterday"),
    ] {
        server.add_insight(json!({"id": id, "createdAt": created}));
    }
    let ids = |since: &str| {
        let page = insights(&server, since);
        assert_eq!(
            (&page["quotaRemaining"], &page["quotaLimit"]),
            (&json!(24), &json!(24))
        );
        let list = page["insights"].as_array().unwrap().clone();
        let ids: Vec<_> = list.iter().map(|insight| insight["id"].clone()).collect();
        json!(ids)
    };
    assert_eq!(
        ids("1970-01-01T00:00:00Z"),
        json!(["old", "edge", "new", "odd"])
    );
    assert_eq!(ids("2026-06-01T00:00:00Z"), json!(["edge", "new", "odd"]));
    assert_eq!(ids("2026-06-01T00%3A00%3A00.001Z"), json!(["new", "odd"]));
    let made = server.add_insight(json!({"title": "t"}));
    assert_eq!(made["id"], "ins_005");
    assert_eq!(ids("2026-08-01T00:00:00Z"), json!(["odd", "ins_005"]));
    server.clear_insights();
    assert_eq!(ids("1970-01-01T00:00:00Z"), json!([]));
    assert_eq!(server.violations(), Vec::<String>::new());
}

#[test]
fn an_analysis_counts_once_however_often_it_is_posted() {
    let server = registered(Options {
        insight_when_analysed: true,
        ..Options::default()
    });
    post(&server, Call::Push, &metrics());
    for _ in 0..3 {
        assert_eq!(post(&server, Call::Analyze, &analyze()).status, 202);
    }
    let effect = Analysis {
        request_id: REQUEST.to_owned(),
        cluster_id: CLUSTER.to_owned(),
        resource_type: "deployment".to_owned(),
        resource_id: "deployment_002".to_owned(),
        namespace_id: "namespace_001".to_owned(),
        calls: 3,
    };
    assert_eq!(server.analyses(), [effect]);
    let quota = get(&server, "/api/v1/quota").json();
    assert_eq!(
        (&quota["limit"], &quota["used"], &quota["remaining"]),
        (&json!(24), &json!(1), &json!(23))
    );
    let page = insights(&server, "1970-01-01T00:00:00Z");
    assert_eq!(page["insights"].as_array().map(Vec::len), Some(1));
    let insight = &page["insights"][0];
    assert_eq!(insight["title"], "deployment_002 runs as root");
    assert_eq!(insight["affectedResources"], json!(["deployment_002"]));
    assert!(
        insight["description"]
            .as_str()
            .unwrap()
            .contains("deployment_002 in namespace_001")
    );
    assert_eq!(server.violations(), Vec::<String>::new());
    let mut other = analyze();
    other["resourceId"] = json!("deployment_003");
    assert_eq!(post(&server, Call::Analyze, &other).status, 409);
    assert_eq!(server.violations().len(), 1, "{:?}", server.violations());
}

#[test]
fn a_quota_is_used_up_and_starts_again() {
    let server = registered(Options {
        quota_limit: 1,
        quota_used: 1,
        retry_after: Some("3600".to_owned()),
        ..Options::default()
    });
    let refused = post(&server, Call::Analyze, &analyze());
    assert_eq!(refused.status, 429);
    assert!(
        refused.head.contains("\r\nRetry-After: 3600\r\n"),
        "{}",
        refused.head
    );
    assert_eq!(server.analyses(), []);
    let quota = get(&server, "/api/v1/quota").json();
    let midnight = quota["resetsAt"].as_str().unwrap();
    assert!(midnight.ends_with("T00:00:00.000Z"), "{midnight}");
    server.change(|options| options.quota_resets_at = Some("9999-12-31T00:00:00Z".to_owned()));
    assert_eq!(
        get(&server, "/api/v1/quota").json()["resetsAt"],
        "9999-12-31T00:00:00Z"
    );
    server.change(|options| options.quota_resets_at = Some("2026-01-01T00:00:00Z".to_owned()));
    assert_eq!(post(&server, Call::Analyze, &analyze()).status, 202);
    // One that was accepted is accepted again, though the quota is used up by it.
    assert_eq!(post(&server, Call::Analyze, &analyze()).status, 202);
    assert_eq!(server.options().quota_used, 1);
    assert_eq!(server.violations(), Vec::<String>::new());
}

#[test]
fn an_acknowledgement_counts_once_however_often_it_is_posted() {
    let server = registered(Options::default());
    assert_eq!(
        post(&server, Call::Acknowledge, &acknowledge("ins_1")).status,
        404
    );
    server.add_insight(json!({"id": "ins_1"}));
    for _ in 0..2 {
        let answer = post(&server, Call::Acknowledge, &acknowledge("ins_1"));
        assert_eq!(answer.status, 200);
    }
    let mut dismissal = acknowledge("ins_1");
    dismissal["state"] = json!("dismissed");
    post(&server, Call::Acknowledge, &dismissal);
    let effect = |state: &str, calls| Acknowledgement {
        insight_id: "ins_1".to_owned(),
        cluster_id: CLUSTER.to_owned(),
        state: state.to_owned(),
        at: "2026-11-23T17:43:48Z".to_owned(),
        calls,
    };
    assert_eq!(
        server.acknowledgements(),
        [effect("acknowledged", 2), effect("dismissed", 1)]
    );
    assert_eq!(server.violations(), Vec::<String>::new());
}

#[test]
fn a_push_makes_insights_of_its_worst_signals_once() {
    let server = registered(Options {
        insights_of_a_push: 2,
        ..Options::default()
    });
    let mut body = metrics();
    let workloads = &mut body["resources"]["namespace_001"]["workloads"];
    let workload = workloads["deployment_002"].clone();
    for (id, signal) in [
        ("deployment_003", "single-replica"),
        ("job_001", "privileged"),
    ] {
        workloads[id] = workload.clone();
        workloads[id]["signals"] = json!([signal]);
    }
    for _ in 0..2 {
        assert_eq!(post(&server, Call::Push, &body).status, 200);
        let page = insights(&server, "1970-01-01T00:00:00Z");
        let list = page["insights"].as_array().unwrap();
        let titles: Vec<_> = list.iter().map(|insight| &insight["title"]).collect();
        assert_eq!(
            titles,
            ["job_001 runs privileged", "deployment_002 runs as root"]
        );
    }
    assert_eq!(server.violations(), Vec::<String>::new());
}
