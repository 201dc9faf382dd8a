//! What a client sees while the API server misbehaves in any way there is, and that the agent recovers once it stops.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fmt::Write as _;
use std::time::Duration;

use kube_sim::{Fault, FaultAction, Options, PolicyRule, Rbac, Sim};
use serde_json::{Value, json};
use support::{Home, recorded_counts, side_by_side, wait_for};

/// Longer than any test takes.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn dashboard_of_the_recorded_cluster(home: &Home) -> bool {
    let expected = recorded_counts(false)["dashboard"]["workloads"].clone();
    home.dashboard()
        .is_some_and(|dashboard| dashboard["workloads"] == expected)
}

/// That the running agent gets over it by itself: a good collection, the right figures, a healthy status.
fn assert_recovers(home: &Home) {
    home.wait_for_collections(1);
    home.wait_for_status("is healthy", |status| {
        status["health"] == "healthy" && status["error"].is_null()
    });
    assert!(dashboard_of_the_recorded_cluster(home));
}

#[test]
fn an_api_server_that_comes_late() {
    let mut home = Home::new();
    home.sim.shutdown_listener();
    let agent = home.start(&[]);
    agent.wait_for_log("the collection failed");
    agent.wait_for_log("the status was not written");
    // No client can see it, but a query can.
    let status = wait_for("the problem in a query", || {
        let status = home.query("status");
        (status["health"] == "unhealthy").then_some(status)
    });
    assert!(
        status["error"]
            .as_str()
            .unwrap()
            .starts_with("cluster API unusable: "),
        "{status}"
    );
    assert_eq!(status["agent"]["running"], true);
    home.sim.restart().unwrap();
    assert_recovers(&home);
    agent.wait_for_log("the status can be written again");
}

#[test]
fn an_api_server_that_restarts_in_the_middle_of_a_collection() {
    let mut home = Home::new();
    home.sim.script(
        Fault::new(FaultAction::HangInBody { after_bytes: 5000 })
            .path("/api/v1/pods")
            .once(),
    );
    let agent = home.start(&[]);
    home.wait_for_health("healthy");
    wait_for("the collection to hang", || {
        home.sim
            .requests()
            .iter()
            .any(|request| request.path == "/api/v1/pods")
            .then_some(())
    });
    home.sim.shutdown_listener();
    agent.wait_for_log("the collection failed");
    home.sim.restart().unwrap();
    home.nudge();
    assert_recovers(&home);
}

/// One request of a collection goes wrong; the status goes on and tells of it; the next collection is whole.
#[test]
fn any_failure_of_a_list_is_told_and_over_with_the_next_collection() {
    let pods = "/api/v1/pods";
    let internal = || FaultAction::status(500, "InternalError", "etcdserver: leader changed");
    let unavailable =
        || FaultAction::status(503, "ServiceUnavailable", "apiserver is shutting down");
    let html = || FaultAction::Status {
        code: 502,
        headers: Vec::new(),
        body: "<html><h1>502 Bad Gateway</h1></html>".to_owned(),
        content_type: "text/html".to_owned(),
    };
    // The client asks once more where an answer breaks off.
    let cases = [
        ("refused", (FaultAction::Refuse, pods, "broken answer")),
        (
            "cut in the header",
            (
                FaultAction::Cut { after_bytes: 0 },
                pods,
                "list /api/v1/pods: ",
            ),
        ),
        (
            "cut in the body",
            (
                FaultAction::Cut { after_bytes: 9000 },
                pods,
                "list /api/v1/pods: ",
            ),
        ),
        (
            "not HTTP",
            (
                FaultAction::Garbage,
                "/apis/apps/v1/deployments",
                "list /apis/apps/v1/deployments: ",
            ),
        ),
        (
            "not JSON",
            (FaultAction::GarbageBody, pods, "not the expected JSON"),
        ),
        (
            "without end",
            (FaultAction::EndlessBody, pods, "larger than"),
        ),
        (
            "500",
            (
                internal(),
                "/api/v1/nodes",
                "500 InternalError: etcdserver: leader changed",
            ),
        ),
        (
            "503",
            (
                unavailable(),
                "/api/v1/namespaces",
                "503 ServiceUnavailable",
            ),
        ),
        ("504", (FaultAction::storage_timeout(), pods, "504")),
        ("of a proxy", (html(), pods, "502")),
        (
            "401",
            (
                FaultAction::status(401, "Unauthorized", "Unauthorized"),
                pods,
                "401 Unauthorized",
            ),
        ),
    ];
    side_by_side(&cases, |(action, path, told)| {
        let home = Home::new();
        home.sim.script(
            Fault::new(action.clone())
                .path(path)
                .method("GET")
                .query("limit="),
        );
        let agent = home.start(&[]);
        let status = home.wait_for_status("tells of it", |status| status["health"] != "healthy");
        let error = status["error"].as_str().unwrap();
        assert!(
            error.starts_with("collection failed: ") || error.starts_with("cluster API unusable: "),
            "{error}"
        );
        assert!(error.contains(told), "{error}");
        agent.wait_for_log("the collection failed");
        home.sim.clear_faults();
        home.nudge();
        assert_recovers(&home);
    });
}

#[test]
fn what_the_client_gets_over_alone_is_no_failure() {
    let pods = || Fault::new(FaultAction::DropConnectionAfterResponse).path("/api/v1/pods");
    let with = |action: FaultAction| Fault { action, ..pods() };
    let cases = [
        (
            "429 with Retry-After",
            with(FaultAction::TooManyRequests {
                retry_after: Some(1),
            })
            .times(2),
        ),
        (
            "429 without",
            with(FaultAction::TooManyRequests { retry_after: None }).once(),
        ),
        (
            "one cut",
            with(FaultAction::Cut { after_bytes: 9000 }).once(),
        ),
        (
            "a connection that closes each time",
            Fault::new(FaultAction::DropConnectionAfterResponse),
        ),
        (
            "a slow header",
            with(FaultAction::HangBeforeHeader(Duration::from_secs(1))).once(),
        ),
        (
            "a slow body",
            with(FaultAction::Drip {
                bytes_per_second: 400_000,
            })
            .once(),
        ),
        (
            "a slow handshake",
            Fault::new(FaultAction::SlowTls(Duration::from_secs(1))).times(2),
        ),
        (
            "one 401",
            with(FaultAction::status(401, "Unauthorized", "Unauthorized")).once(),
        ),
        ("one too large page", with(FaultAction::EndlessBody).once()),
    ];
    side_by_side(&cases, |fault| {
        let home = Home::new();
        home.use_files_for_credentials();
        home.sim.script(fault.clone());
        let agent = home.start(&[]);
        home.wait_for_collections(1);
        let stats = home.query("status")["collectionStats"].clone();
        assert_eq!(stats["totalFailureCount"], 0, "{}", agent.log());
        assert!(dashboard_of_the_recorded_cluster(&home));
    });
}

#[test]
fn an_expired_continue_token_starts_the_list_over_and_nothing_counts_twice() {
    let gone = || {
        FaultAction::status(
            410,
            "Expired",
            "The provided continue parameter is too old to display a consistent list",
        )
    };
    let cluster = kube_sim::Cluster::Generated(kube_sim::Generate {
        pods: 300,
        workloads: 20,
        namespaces: 3,
        ..kube_sim::Generate::default()
    });
    let pods_of = |home: &Home| {
        let database = rusqlite::Connection::open(home.db()).unwrap();
        let mut select = database
            .prepare("SELECT figures FROM inventory_namespace")
            .unwrap();
        let rows = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(|figures| {
            serde_json::from_str::<Value>(&figures.unwrap()).unwrap()["pods"]
                .as_u64()
                .unwrap()
        })
        .sum::<u64>()
    };
    // Twice in the middle is got over; for ever is a failed collection.
    let home = Home::with(Options {
        cluster: cluster.clone(),
        ..Options::default()
    });
    home.sim.script(
        Fault::new(gone())
            .path("/api/v1/pods")
            .query("continue=")
            .skip(1)
            .times(2),
    );
    let mut agent = home.start_and_collect(&[]);
    agent.stop();
    assert_eq!(
        agent
            .log()
            .matches("the snapshot expired, starting over")
            .count(),
        2,
        "{}",
        agent.log()
    );
    let counted = home.dashboard().unwrap()["workloads"]["pods"]
        .as_u64()
        .unwrap();
    assert!(counted >= 300);
    assert_eq!(pods_of(&home), counted);

    let home = Home::with(Options {
        cluster,
        ..Options::default()
    });
    home.sim
        .script(Fault::new(gone()).path("/api/v1/pods").query("continue="));
    let _agent = home.start(&[]);
    let status = home.wait_for_health("degraded");
    assert!(
        status["error"].as_str().unwrap().contains("410 Expired"),
        "{status}"
    );
    home.sim.clear_faults();
    home.nudge();
    home.wait_for_collections(1);
    assert_eq!(pods_of(&home), counted);
}

#[test]
fn the_status_goes_on_while_the_collection_hangs_in_a_body() {
    let home = Home::new();
    home.sim.script(
        Fault::new(FaultAction::HangInBody { after_bytes: 9000 })
            .path("/api/v1/pods")
            .once(),
    );
    let _agent = home.start(&[]);
    home.wait_for_health("healthy");
    home.wait_for_beat();
}

/// A status that cannot be written is written as soon as it can be, whatever was wrong.
#[test]
fn any_failure_to_write_the_status_is_got_over() {
    let status = support::config_map_path(support::STATUS);
    let cases = [
        ("refused", FaultAction::Refuse),
        ("cut", FaultAction::Cut { after_bytes: 10 }),
        ("not HTTP", FaultAction::Garbage),
        ("an answer that got lost", FaultAction::LoseAnswer),
        ("500", FaultAction::status(500, "InternalError", "x")),
        (
            "429",
            FaultAction::TooManyRequests {
                retry_after: Some(1),
            },
        ),
        (
            "403",
            FaultAction::status(403, "Forbidden", "configmaps is forbidden"),
        ),
        (
            "404",
            FaultAction::status(404, "NotFound", "namespaces \"kube9-system\" not found"),
        ),
        (
            "409",
            FaultAction::status(409, "Conflict", "Apply failed with 1 conflict"),
        ),
        (
            "413",
            FaultAction::status(413, "RequestEntityTooLarge", "x"),
        ),
    ];
    side_by_side(&cases, |action| {
        let home = Home::new();
        home.sim
            .script(Fault::new(action.clone()).path(&status).times(3));
        let agent = home.start(&[]);
        agent.wait_for_log("the status was not written");
        assert_recovers(&home);
        agent.wait_for_log("the status can be written again");
        // Each failure of an outage is not told anew.
        assert_eq!(
            agent.log().matches("the status was not written").count(),
            1,
            "{}",
            agent.log()
        );
    });
}

#[test]
fn a_status_that_may_not_be_written_is_told_by_a_query() {
    let home = Home::new();
    let rules = vec![PolicyRule::new("*", &["*"], &["get", "list"])];
    home.sim.set_rbac(Rbac::Rules(rules));
    let agent = home.start(&[]);
    agent.wait_for_log("the status was not written");
    // The worker's own problem, the dashboard, may be told before it hears of the beat's.
    let status = wait_for("the problem in a query", || {
        let output = home.run(&["query", "status"]);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        let error = status["error"].as_str()?;
        error
            .starts_with("cannot write ConfigMap kube9-operator-status: ")
            .then_some(status)
    });
    assert_eq!(status["health"], "degraded");
    let error = status["error"].as_str().unwrap();
    assert!(error.contains("403 Forbidden"), "{error}");
    home.sim.set_rbac(Rbac::AllowAll);
    assert_recovers(&home);
    // What the beat found, the worker keeps a moment later.
    wait_for("a query that tells of no problem", || {
        let answer = home.query("status");
        (answer["health"] == "healthy" && answer["error"].is_null()).then_some(())
    });
}

#[test]
fn a_rotated_token_is_taken_from_its_file() {
    let mut home = Home::new();
    home.use_files_for_credentials();
    let agent = home.start_and_collect(&[]);
    // Its last request: one under way would still have the old token. So would a beat, of which the next is far.
    let last = support::config_map_path(support::RECOMMENDATIONS);
    wait_for("the worker rests", || {
        let requests = home.sim.requests();
        requests
            .iter()
            .any(|request| request.path == last)
            .then_some(())
    });
    home.wait_for_beat();
    std::fs::write(home.path("token"), "the-new-token").unwrap();
    home.sim.set_token("the-new-token");
    home.sim.clear_requests();
    home.wait_for_beat();
    assert!(!agent.log().contains("401"), "{}", agent.log());
    assert!(
        home.sim
            .requests()
            .iter()
            .all(|request| request.status != 401)
    );

    // The API server knows the new one first: the agent goes on as soon as its file has it.
    home.sim.set_token("one-more-token");
    agent.wait_for_log("401 Unauthorized");
    std::fs::write(home.path("token"), "one-more-token").unwrap();
    agent.wait_for_log("the status can be written again");
    assert!(!agent.log().contains("-token"), "{}", agent.log());
    home.sim.shutdown_listener();
}

#[test]
fn a_wrong_ca_is_said_in_a_line_that_helps() {
    let home = Home::new();
    let other = Sim::start(Options::default()).unwrap();
    home.use_files_for_credentials();
    std::fs::write(home.path("ca.crt"), other.ca_pem()).unwrap();
    let agent = home.start(&[]);
    agent.wait_for_log("the status was not written");
    agent.wait_for_log("the collection failed");
    let log = agent.log();
    let line = log
        .lines()
        .find(|line| line.contains("the status was not written"))
        .unwrap();
    assert!(
        line.contains("TLS") && line.contains("certificate") && line.contains("CA"),
        "{line}"
    );
    // Once the right one is there the agent takes it, without a restart.
    std::fs::write(home.path("ca.crt"), home.sim.ca_pem()).unwrap();
    assert_recovers(&home);
}

#[test]
fn a_rotated_ca_is_taken_from_its_file() {
    let mut home = Home::new();
    home.use_files_for_credentials();
    let agent = home.start_and_collect(&[]);
    home.sim.shutdown_listener();
    home.sim.rotate_ca().unwrap();
    home.sim.restart().unwrap();
    agent.wait_for_log("the status was not written");
    std::fs::write(home.path("ca.crt"), home.sim.ca_pem()).unwrap();
    agent.wait_for_log("the status can be written again");
    home.wait_for_health("healthy");
}

#[test]
fn a_namespace_that_vanishes_in_the_middle() {
    let home = Home::new();
    // So many that each namespace is asked for its own, the vanished one too.
    for number in 0..60 {
        home.sim.insert(
            "/apis/apps/v1/namespaces/default/replicasets",
            json!({"metadata": {"name": format!("old-{number}")}}),
        );
    }
    home.sim.insert(
        "/api/v1/namespaces",
        json!({"metadata": {"name": "vanishing"}}),
    );
    home.sim.insert(
        "/api/v1/namespaces/vanishing/pods",
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}, "status": {"phase": "Running"}}),
    );
    // The list after the one that is waited for.
    home.sim.script(
        Fault::new(FaultAction::HangBeforeHeader(Duration::from_secs(1)))
            .path("/apis/apps/v1/statefulsets"),
    );
    let agent = home.start(&[]);
    wait_for("the collection to be under way", || {
        home.sim
            .requests()
            .iter()
            .any(|request| request.path == "/apis/apps/v1/deployments")
            .then_some(())
    });
    assert!(home.sim.remove("/api/v1/namespaces/vanishing/pods/p"));
    assert!(home.sim.remove("/api/v1/namespaces/vanishing"));
    home.wait_for_collections(1);
    assert!(
        home.sim
            .requests()
            .iter()
            .any(|request| request.path.contains("/vanishing/replicasets"))
    );
    assert!(!agent.log().contains("failed"), "{}", agent.log());
    home.wait_for_health("healthy");
}

/// Objects that no real API server would let in, and some that it would.
#[test]
fn absurd_objects_cost_nothing_but_themselves() {
    let home = Home::new();
    let absurd = absurd_pods();
    for (name, mut pod) in absurd.clone() {
        pod["metadata"]["name"] = json!(name);
        home.sim.insert("/api/v1/namespaces/default/pods", pod);
    }
    for (path, object) in absurd_others() {
        home.sim.insert(path, object);
    }
    let agent = home.start(&[]);
    home.wait_for_collections(1);
    home.wait_for_health("healthy");
    assert!(!agent.log().contains("panicked"), "{}", agent.log());

    let dashboard = home.dashboard().unwrap();
    let recorded = recorded_counts(false);
    let before = |kind: &str| recorded["dashboard"]["workloads"][kind].as_u64().unwrap();
    assert_eq!(
        dashboard["workloads"]["pods"],
        before("pods") + absurd.len() as u64
    );
    assert_eq!(
        dashboard["workloads"]["deployments"],
        before("deployments") + 2
    );
    assert_eq!(
        dashboard["nodes"]["readyNodes"],
        recorded["dashboard"]["nodes"]["readyNodes"]
    );
    assert_eq!(
        dashboard["nodes"]["cpuCapacity"],
        recorded["dashboard"]["nodes"]["cpuCapacity"]
    );

    let database = rusqlite::Connection::open(home.db()).unwrap();
    let figures = |namespace: &str| {
        let select = "SELECT figures FROM inventory_namespace WHERE name = ?1";
        let text: String = database
            .query_row(select, [namespace], |row| row.get(0))
            .unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let recorded = &recorded["metrics"]["resources"];
    // The neighbours lost nothing.
    for namespace in ["payments", "production", "kube-system"] {
        let mut expected = recorded[namespace].clone();
        expected.as_object_mut().unwrap().remove("workloads");
        assert_eq!(figures(namespace), expected);
    }
    let figures = figures("default");
    let more =
        |name: &str| figures[name].as_u64().unwrap() - recorded["default"][name].as_u64().unwrap();
    // What has a field of a type that it cannot have is not counted, and that is said.
    assert_eq!(more("pods"), absurd.len() as u64 - 3, "{figures}");
    agent.wait_for_log("pods: 3 objects not counted, 2 quantities taken as absent");
    assert_eq!(more("containers"), 10_000 + 8, "{figures}");
    // For what is too large to be a number, the most there is.
    let sum = |legal: u64| legal + i64::MAX as u64;
    assert_eq!(more("cpuRequestsMillicores"), sum(100), "{figures}");
    assert_eq!(more("memoryRequestsBytes"), sum(1 << 30), "{figures}");
    assert_eq!(figures["containerRestarts"], u32::MAX);
}

fn absurd_pods() -> Vec<(&'static str, Value)> {
    let many: Vec<Value> = (0..10_000)
        .map(|number| json!({"name": format!("c{number}"), "image": "i:1"}))
        .collect();
    let quantity = |cpu: Value, memory: Value| json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]});
    let mut annotation = String::new();
    for number in 0..20_000 {
        write!(
            annotation,
            "{{\"\\\"managedFields\\\": [ {number} ]}}, \u{1f600}"
        )
        .unwrap();
    }
    assert!(annotation.len() > 1 << 19);
    vec![
        ("empty", json!({})),
        (
            "null-lists",
            json!({"spec": {"containers": null, "initContainers": null, "volumes": null}, "status": null}),
        ),
        (
            "no-status",
            json!({"spec": {"containers": [{"name": "c"}]}}),
        ),
        (
            "many-containers",
            json!({"spec": {"containers": many}, "status": {"phase": "Running"}}),
        ),
        (
            "large",
            json!({"metadata": {"annotations": {"a": annotation}}, "spec": {"containers": [{"name": "c"}]}}),
        ),
        (
            "numbers-as-strings",
            json!({
                "spec": {"containers": [{"name": "c"}]},
                "status": {"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": "7"}]},
            }),
        ),
        (
            "negative",
            json!({
                "spec": {"containers": [{"name": "c"}]},
                "status": {"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": -7}]},
            }),
        ),
        (
            "huge-numbers",
            json!({
                "spec": {"containers": [{"name": "c"}], "priority": 1e300},
                "status": {"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 99_999_999_999_u64}]},
            }),
        ),
        (
            "legal-quantity",
            json!({"spec": quantity(json!("100m"), json!("1Gi")), "status": {"phase": "Running"}}),
        ),
        (
            "quantity-as-number",
            json!({"spec": quantity(json!(2), json!(1024)), "status": {"phase": "Running"}}),
        ),
        (
            "illegal-quantity",
            json!({"spec": quantity(json!("much"), json!("1 GiB")), "status": {"phase": "Running"}}),
        ),
        (
            "endless-quantity",
            json!({"spec": quantity(json!("9".repeat(5000)), json!("1e999999999")),
            "status": {"phase": "Running"}}),
        ),
        (
            "odd-phase",
            json!({"spec": {"containers": [{"name": "c"}]}, "status": {"phase": "Dreaming"}}),
        ),
        ("wrong-shape", json!({"spec": "text", "status": [1, 2, 3]})),
        (
            "many-owners",
            json!({"metadata": {"ownerReferences": [
            {"kind": "ReplicaSet", "name": "x", "controller": true, "apiVersion": "apps/v1", "uid": "u"},
            {"kind": "Unheard", "name": "y", "controller": true, "apiVersion": "z/v1", "uid": "v"}]}}),
        ),
    ]
}

fn absurd_others() -> Vec<(&'static str, Value)> {
    vec![
        (
            "/apis/apps/v1/namespaces/default/deployments",
            json!({"metadata": {"name": "no-spec"}}),
        ),
        (
            "/apis/apps/v1/namespaces/default/deployments",
            json!({"metadata": {"name": "text"}, "spec": {"replicas": "three"}, "status": {"readyReplicas": -1}}),
        ),
        (
            "/apis/batch/v1/namespaces/default/jobs",
            json!({"metadata": {"name": "null"}, "spec": null, "status": null}),
        ),
        ("/api/v1/nodes", json!({"metadata": {"name": "bare"}})),
        (
            "/api/v1/nodes",
            json!({"metadata": {"name": "odd"}, "status": {"capacity": {"cpu": true, "memory": {}},
            "conditions": null}}),
        ),
    ]
}

#[test]
fn a_hanging_api_server_does_not_stop_the_heart() {
    let home = Home::new();
    home.sim
        .script(Fault::new(FaultAction::HangBeforeHeader(FOR_EVER)));
    let mut agent = home.start(&[]);
    wait_for("the heartbeat", || {
        home.run(&["health"]).status.success().then_some(())
    });
    assert_eq!(home.run(&["health", "--ready"]).status.code(), Some(1));
    assert_eq!(home.query("status")["agent"]["running"], true);
    assert!(agent.is_running());
}
