//! What users and programs ask of an agent that has an API key, through the built binary: insights, verdicts, analyses
//! and the quota, and how it ends when there is no key, no server, no quota or no such thing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::process::Output;
use std::time::Duration;

use kube_sim::Options;
use kube9_sim::{Call, FaultAction, misbehave};
use serde_json::{Value, json};
use support::{Agent, Home, Pro, wait_for};

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// How a query ended that must not succeed: its exit code, and the code and the message for programs.
fn failure(home: &Home, arguments: &[&str]) -> (i32, String, String) {
    let output = home.run(&[&["query"], arguments].concat());
    let line = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(
        (stdout(&output).as_str(), line.lines().count()),
        ("", 1),
        "{arguments:?}: {line}"
    );
    let error: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(error["ok"], false);
    let text = |name: &str| error[name].as_str().unwrap().to_owned();
    (code(&output), text("code"), text("message"))
}

fn assert_fails(home: &Home, arguments: &[&str], exit: i32, name: &str, part: &str) {
    let (code, error, message) = failure(home, arguments);
    assert_eq!(
        (code, error.as_str()),
        (exit, name),
        "{arguments:?}: {message}"
    );
    assert!(message.contains(part), "{arguments:?}: {message}");
}

/// The opaque id of a resource of the cluster.
fn id_of(home: &Home, kind: &str, namespace: &str, name: &str) -> String {
    let output = home.run(&["query", "privacy", "names", "--kind", kind]);
    let names: Value = serde_json::from_slice(&output.stdout).unwrap();
    let known = names["names"]
        .as_array()
        .unwrap()
        .iter()
        .find(|known| known["namespace"] == namespace && known["name"] == name);
    known.unwrap()["id"].as_str().unwrap().to_owned()
}

fn insight(id: &str, severity: &str, category: &str, affected: &[&str]) -> Value {
    json!({
        "id": id, "severity": severity, "category": category, "title": format!("{} is in trouble", affected[0]),
        "description": format!("Look at {}.", affected.join(" and ")), "recommendation": "Mend it.",
        "affectedResources": affected,
    })
}

/// The recorded cluster, and an agent that has brought four insights about it.
fn with_insights() -> (Pro, Agent) {
    let pro = Pro::new();
    pro.remove_key();
    let agent = pro.start_and_collect(&[]);
    let web = id_of(&pro, "deployment", "production", "web");
    let cache = id_of(&pro, "statefulset", "production", "cache");
    let staging = id_of(&pro, "namespace", "", "staging");
    for insight in [
        insight("ins_low", "low", "cost", &[&staging]),
        insight("ins_critical", "critical", "security", &[&web, &cache]),
        insight("ins_warning", "warning", "reliability", &[&cache]),
        insight("ins_unknown", "weird", "security", &["deployment_999"]),
    ] {
        pro.server.add_insight(insight);
    }
    pro.set_key(support::KEY);
    pro.wait_for_sync(None);
    (pro, agent)
}

fn ids(answer: &Value) -> Vec<&str> {
    let insights = answer["insights"].as_array().unwrap().iter();
    insights
        .map(|insight| insight["id"].as_str().unwrap())
        .collect()
}

#[test]
fn without_a_key_lists_are_empty_and_the_rest_needs_pro() {
    let pro = Pro::new();
    pro.remove_key();
    let _agent = pro.start_and_collect(&[]);
    let answer = pro.ask(&["insights", "list"]);
    let notice = answer["notice"].as_str().unwrap();
    assert!(
        notice.contains("Pro") && notice.contains("no API key in"),
        "{notice}"
    );
    assert_eq!(
        answer,
        json!({
            "insights": [], "pagination": {"total": 0, "limit": 50, "offset": 0, "returned": 0},
            "lastSync": null, "notice": notice,
        })
    );
    let table = stdout(&pro.run(&["query", "insights", "list", "--format", "table"]));
    assert_eq!(
        table,
        format!("SEVERITY   STATE   AGE   TITLE   AFFECTED   ID\n\n{notice}\n")
    );
    for arguments in [
        ["insights", "get", "x"].as_slice(),
        &["insights", "ack", "x"],
        &["insights", "dismiss", "x"],
        &["analyze", "deploy/web", "-n", "production"],
        &["analyses", "list"],
        &["quota"],
    ] {
        assert_fails(&pro, arguments, 4, "NEEDS_PRO", "no API key in");
    }
    pro.set_key("two words");
    assert_fails(&pro, &["quota"], 4, "NEEDS_PRO", "no spaces");
    assert!(pro.server.requests().is_empty());
}

#[test]
fn without_a_database_nothing_is_made() {
    let pro = Pro::new();
    for arguments in [
        ["insights", "list"].as_slice(),
        &["insights", "get", "x"],
        &["insights", "ack", "x"],
        &["analyze", "deploy/web", "-n", "production"],
        &["analyses", "list"],
        &["quota"],
    ] {
        assert_fails(&pro, arguments, 1, "FAILED", "there is no database");
    }
    assert!(!pro.db().exists() && pro.sim.connections() == 0 && pro.server.connections() == 0);
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    let pro = Pro::new();
    for arguments in [
        ["insights"].as_slice(),
        &["insights", "show"],
        &["insights", "get"],
        &["insights", "ack", "a", "b"],
        &["insights", "list", "--limit", "0"],
        &["insights", "list", "--limit", "1001"],
        &["insights", "list", "--offset", "-1"],
        &["insights", "list", "--offset=4294967296"],
        &["insights", "list", "--since", "yesterday"],
        &["insights", "list", "--since=-5m"],
        &["insights", "list", "--state", "closed"],
        &["insights", "list", "--severity", ""],
        &["insights", "list", "--format", "xml"],
        &["analyses"],
        &["analyses", "list", "--state", "running"],
        &["analyze"],
        &["analyze", "web", "-n", "production"],
        &["analyze", "deploy/web"],
        &["analyze", "secret/web", "-n", "production"],
        &[
            "analyze",
            "deploy/web",
            "--kind",
            "deploy",
            "-n",
            "production",
        ],
        &["analyze", "--kind", "deploy", "-n", "production"],
        &["analyze", "deploy/web", "-n"],
        &["quota", "now"],
    ] {
        assert_fails(&pro, arguments, 2, "USAGE", "");
    }
    assert!(!pro.db().exists());
}

#[test]
fn every_command_explains_itself() {
    let pro = Pro::new();
    for command in [
        ["insights"].as_slice(),
        &["insights", "list"],
        &["insights", "get"],
        &["insights", "ack"],
        &["insights", "dismiss"],
        &["analyze"],
        &["analyses"],
        &["analyses", "list"],
        &["quota"],
    ] {
        for help in ["--help", "-h"] {
            let output = pro.run(&[&["query"], command, &[help]].concat());
            let usage = format!("Usage: kube9-operator query {}", command.join(" "));
            assert_eq!(code(&output), 0);
            assert!(stdout(&output).starts_with(&usage), "{command:?}");
        }
        assert_eq!(
            code(&pro.run(&[&["query"], command, &["--version"]].concat())),
            0
        );
    }
}

#[test]
fn insights_are_listed_with_real_names_and_as_asked_for() {
    let (pro, agent) = with_insights();
    let all = pro.ask(&["insights", "list"]);
    assert_eq!(
        ids(&all),
        ["ins_critical", "ins_unknown", "ins_warning", "ins_low"],
        "{all}"
    );
    assert_eq!(
        all["pagination"],
        json!({"total": 4, "limit": 50, "offset": 0, "returned": 4})
    );
    assert_eq!(all["notice"], Value::Null);
    assert!(support::is_rfc3339_millis(
        all["lastSync"].as_str().unwrap()
    ));
    let critical = &all["insights"][0];
    assert_eq!(critical["title"], "web is in trouble");
    assert_eq!(critical["description"], "Look at web and cache.");
    assert_eq!(
        critical["affectedResources"],
        json!(["production/deployment/web", "production/statefulset/cache"])
    );
    assert_eq!(critical["state"], "open");
    assert_eq!(critical["resources"][1]["resolved"], true);
    assert_eq!(
        all["insights"][1]["affectedResources"],
        json!(["deployment_999"])
    );
    assert_eq!(pro.ask(&["insights", "get", "ins_critical"]), *critical);
    assert_fails(
        &pro,
        &["insights", "get", "ins_none"],
        3,
        "NOT_FOUND",
        "ins_none",
    );

    for (arguments, expected, total) in [
        (
            ["--severity", "critical,LOW"].as_slice(),
            ["ins_critical", "ins_low"].as_slice(),
            2,
        ),
        (
            &["--category", "Security"],
            &["ins_critical", "ins_unknown"],
            2,
        ),
        (
            &["--namespace", "production"],
            &["ins_critical", "ins_warning"],
            2,
        ),
        (&["--namespace=staging"], &["ins_low"], 1),
        (&["--namespace", "nowhere"], &[], 0),
        (
            &["--since", "1h"],
            &["ins_critical", "ins_unknown", "ins_warning", "ins_low"],
            4,
        ),
        (&["--since", "2999-01-01T00:00:00Z"], &[], 0),
        (&["--state", "dismissed"], &[], 0),
        (&["--limit", "1", "--offset", "1"], &["ins_unknown"], 4),
        (&["--offset", "9"], &[], 4),
        (
            &["--category=security", "--severity=weird", "--state=open"],
            &["ins_unknown"],
            1,
        ),
    ] {
        let answer = pro.ask(&[&["insights", "list"], arguments].concat());
        assert_eq!(ids(&answer), expected, "{arguments:?}");
        assert_eq!(answer["pagination"]["total"], total, "{arguments:?}");
        assert_eq!(answer["pagination"]["returned"], expected.len());
    }
    pro.assert_well_behaved(&agent);
}

#[test]
fn insights_for_people() {
    let (pro, _agent) = with_insights();
    let list = |arguments: &[&str]| stdout(&pro.run(&[&["query", "insights"], arguments].concat()));
    let table = list(&["list", "--format", "table", "--limit", "2"]);
    let lines: Vec<&str> = table.lines().collect();
    let columns = |line: &str| {
        line.split("   ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        columns(lines[0]),
        ["SEVERITY", "STATE", "AGE", "TITLE", "AFFECTED", "ID"]
    );
    let row = columns(lines[1]);
    assert_eq!(
        [&row[0], &row[1], &row[3], &row[4], &row[5]],
        [
            "critical",
            "open",
            "web is in trouble",
            "production/deployment/web, production/statefulset/cache",
            "ins_critical"
        ]
    );
    let digits = row[2].trim_end_matches(['s', 'm']);
    assert!(digits.parse::<u32>().is_ok(), "{row:?}");
    assert_eq!(lines[3..], ["", "2 more: see --limit and --offset"]);

    let page = list(&["get", "ins_critical", "--format", "table"]);
    for line in [
        "Title:       web is in trouble",
        "Severity:    critical",
        "  Look at web and cache.",
        "  production/statefulset/cache",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }
    let yaml = list(&["list", "--format", "yaml", "--severity", "low"]);
    let begin = "insights:\n  - affectedResources:\n      - staging\n    category: cost\n    createdAt: \"20";
    assert!(yaml.starts_with(begin), "{yaml}");
    let end = "\nnotice: null\npagination:\n  limit: 50\n  offset: 0\n  returned: 1\n  total: 1\n";
    assert!(yaml.ends_with(end), "{yaml}");
    let yaml = list(&["list", "--format", "yaml", "--severity", "none"]);
    assert!(yaml.starts_with("insights: []\nlastSync: "), "{yaml}");
    let error = pro.run(&[
        "query",
        "insights",
        "get",
        "a\u{1b}[2J",
        "--format",
        "table",
    ]);
    let text = String::from_utf8(error.stderr.clone()).unwrap();
    assert!(
        code(&error) == 3 && text.starts_with("error: ") && !text.contains('\u{1b}'),
        "{text}"
    );
}

#[test]
fn a_verdict_is_kept_and_told_once() {
    let (pro, agent) = with_insights();
    for (command, id, state) in [
        ("ack", "ins_critical", "acknowledged"),
        ("dismiss", "ins_low", "dismissed"),
    ] {
        for _ in 0..2 {
            assert_eq!(
                pro.ask(&["insights", command, id]),
                json!({"id": id, "state": state, "synced": true})
            );
        }
        assert_eq!(pro.ask(&["insights", "get", id])["state"], state);
        assert_eq!(ids(&pro.ask(&["insights", "list", "--state", state])), [id]);
    }
    let told: Vec<_> = pro.server.acknowledgements();
    let told: Vec<_> = told
        .iter()
        .map(|told| (told.insight_id.as_str(), told.state.as_str(), told.calls))
        .collect();
    assert_eq!(
        told,
        [
            ("ins_critical", "acknowledged", 1),
            ("ins_low", "dismissed", 1)
        ]
    );
    let open = pro.ask(&["insights", "list", "--state", "open"]);
    assert_eq!(ids(&open), ["ins_unknown", "ins_warning"]);
    // Another verdict is told, too.
    assert_eq!(
        pro.ask(&["insights", "dismiss", "ins_critical"])["synced"],
        true
    );
    assert_eq!(
        pro.ask(&["insights", "list", "--state", "dismissed"])["pagination"]["total"],
        2
    );
    assert_fails(
        &pro,
        &["insights", "ack", "ins_none"],
        3,
        "NOT_FOUND",
        "ins_none",
    );
    pro.assert_well_behaved(&agent);
}

#[test]
fn a_verdict_is_told_later_when_the_server_is_away() {
    let (mut pro, agent) = with_insights();
    pro.server.shutdown_listener();
    for _ in 0..2 {
        let answer = pro.ask(&["insights", "ack", "ins_low"]);
        assert_eq!(
            answer,
            json!({"id": "ins_low", "state": "acknowledged", "synced": false})
        );
    }
    pro.server.restart().unwrap();
    let told = wait_for("the acknowledgement", || {
        pro.server.acknowledgements().pop()
    });
    assert_eq!((told.insight_id.as_str(), told.calls), ("ins_low", 1));
    wait_for("the command to know", || {
        (pro.ask(&["insights", "ack", "ins_low"])["synced"] == true).then_some(())
    });
    assert_eq!(pro.server.acknowledgements().len(), 1);
    pro.assert_well_behaved(&agent);
}

#[test]
fn an_analysis_is_asked_for_at_once_and_completed_by_its_insight() {
    let pro = Pro::with(
        Options::default(),
        kube9_sim::Options {
            insight_when_analysed: true,
            ..kube9_sim::Options::default()
        },
    );
    let agent = pro.start_and_sync(&[]);
    let analysis = pro.ask(&["analyze", "deploy/web", "-n", "production"]);
    let id = analysis["requestId"].as_str().unwrap();
    assert_eq!(
        analysis,
        json!({
            "requestId": id, "resource": {"kind": "deployment", "namespace": "production", "name": "web"},
            "state": "submitted", "reason": null, "requestedAt": analysis["requestedAt"], "notBefore": null,
            "submittedAt": analysis["submittedAt"], "completedAt": null, "message": "Analysis in progress",
        })
    );
    let asked = pro.server.analyses();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].request_id.as_str(), asked[0].calls), (id, 1));
    assert_eq!(
        asked[0].resource_id,
        id_of(&pro, "deployment", "production", "web")
    );
    assert_eq!(
        asked[0].namespace_id,
        id_of(&pro, "namespace", "", "production")
    );
    assert_eq!(pro.ask(&["quota"])["used"], 1);
    wait_for("the analysis to be completed", || {
        let answer = pro.ask(&["analyses", "list", "--state", "completed"]);
        (answer["analyses"][0]["requestId"] == id).then_some(())
    });
    let table = stdout(&pro.run(&["query", "analyses", "list", "--format", "table"]));
    assert!(
        table.starts_with("STATE       AGE   RESOURCE                    MESSAGE"),
        "{table}"
    );
    assert!(
        table.contains("completed") && table.contains("production/deployment/web"),
        "{table}"
    );
    pro.assert_well_behaved(&agent);
}

#[test]
fn every_kind_in_every_form() {
    let pro = Pro::new();
    let agent = pro.start_and_sync(&[]);
    for (arguments, expected) in [
        (
            ["deployment", "web", "-n", "production"].as_slice(),
            ["deployment", "production", "web"],
        ),
        (
            &["deployments.apps/web", "-n=production"],
            ["deployment", "production", "web"],
        ),
        (
            &["sts/cache", "--namespace", "production"],
            ["statefulset", "production", "cache"],
        ),
        (
            &[
                "--kind",
                "DaemonSet",
                "--name",
                "kube-proxy",
                "--namespace=kube-system",
            ],
            ["daemonset", "kube-system", "kube-proxy"],
        ),
        (
            &["cj/heartbeat", "-n", "monitoring"],
            ["cronjob", "monitoring", "heartbeat"],
        ),
        (
            &["job/load-test", "-n", "staging"],
            ["job", "staging", "load-test"],
        ),
        (
            &["job/heartbeat-29922851", "-n", "monitoring"],
            ["cronjob", "monitoring", "heartbeat"],
        ),
        (
            &["po/web-64dd7d4859-gcmd2", "-n", "production"],
            ["deployment", "production", "web"],
        ),
        (
            &["pod/cache-0", "-n", "production"],
            ["statefulset", "production", "cache"],
        ),
        (&["ns/production"], ["namespace", "", "production"]),
    ] {
        let answer = pro.ask(&[&["analyze"], arguments].concat());
        let [kind, namespace, name] = expected;
        assert_eq!(
            answer["resource"],
            json!({"kind": kind, "namespace": namespace, "name": name}),
            "{arguments:?}"
        );
        assert_eq!(answer["state"], "submitted", "{arguments:?}");
    }
    assert_eq!(pro.server.analyses().len(), 10);
    // Newer than the last collection.
    let path = "/apis/apps/v1/namespaces/brand-new/deployments/fresh";
    let metadata = json!({"name": "fresh", "namespace": "brand-new"});
    pro.sim.insert(
        path,
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}),
    );
    let answer = pro.ask(&["analyze", "deploy/fresh", "-n", "brand-new"]);
    assert_eq!(answer["state"], "submitted");
    id_of(&pro, "deployment", "brand-new", "fresh");
    pro.assert_well_behaved(&agent);
}

#[test]
fn what_is_not_there_is_not_asked_about() {
    let pro = Pro::new();
    pro.set("KUBE9_EXCLUDE_NAMESPACES", "payments");
    let _agent = pro.start_and_sync(&[]);
    for (resource, namespace, part) in [
        (
            "deploy/none",
            "production",
            "deployment none in namespace production",
        ),
        ("deploy/cache", "production", "there is no"),
        ("deploy/web", "nowhere", "there is no"),
        ("deploy/Web", "production", "there is no"),
        ("deploy/web%2f", "production", "there is no"),
        ("po/debug-shell", "production", "belongs to no workload"),
        ("ns/nowhere", "", "namespace nowhere"),
    ] {
        assert_fails(
            &pro,
            &["analyze", resource, "-n", namespace],
            3,
            "NOT_FOUND",
            part,
        );
    }
    for resource in ["deploy/payments", "ns/payments", "po/tokenizer"] {
        let arguments = ["analyze", resource, "-n", "payments"];
        assert_fails(&pro, &arguments, 1, "FAILED", "KUBE9_EXCLUDE_NAMESPACES");
    }
    assert!(pro.server.analyses().is_empty());
    assert_eq!(pro.ask(&["analyses", "list"])["pagination"]["total"], 0);
    assert_eq!(pro.ask(&["quota"])["used"], 0);
}

#[test]
fn what_was_read_last_decides_while_the_cluster_api_is_away() {
    let pro = Pro::new();
    let _agent = pro.start_and_sync(&[]);
    let hang = FaultAction::HangBeforeHeader(Duration::from_secs(3600));
    let workloads = "/apis/apps/v1/namespaces/production/deployments/";
    pro.sim.script(kube_sim::Fault::new(hang).path(workloads));
    let forbidden = misbehave::status(403, "no");
    pro.sim
        .script(kube_sim::Fault::new(forbidden).path("/api/v1/namespaces/production"));
    let there = pro.ask(&["analyze", "deploy/web", "-n", "production"]);
    assert_eq!(there["state"], "submitted");
    assert_eq!(pro.ask(&["analyze", "ns/production"])["state"], "submitted");
    let gone = ["analyze", "deploy/none", "-n", "production"];
    assert_fails(&pro, &gone, 3, "NOT_FOUND", "timed out");
    let pod = ["analyze", "po/cache-0", "-n", "production"];
    assert_fails(&pro, &pod, 1, "FAILED", "name the workload itself");
}

#[test]
fn over_the_quota_a_request_waits_or_is_refused() {
    let pro = Pro::with(
        Options::default(),
        kube9_sim::Options {
            quota_limit: 5,
            quota_used: 4,
            ..kube9_sim::Options::default()
        },
    );
    let agent = pro.start_and_sync(&[]);
    let web = ["analyze", "deploy/web", "-n", "production"];
    assert_eq!(pro.ask(&web)["state"], "submitted");
    let refused = [&web[..], &["--no-queue"]].concat();
    assert_fails(&pro, &refused, 5, "QUOTA_EXCEEDED", "Daily quota exceeded");
    assert_eq!(pro.ask(&["analyses", "list"])["pagination"]["total"], 1);
    let waiting = pro.ask(&web);
    let quota = pro.ask(&["quota"]);
    assert_eq!(
        (&waiting["state"], &waiting["reason"], &waiting["notBefore"]),
        (
            &json!("queued"),
            &json!("quota_exceeded"),
            &quota["resetsAt"]
        )
    );
    let message = waiting["message"].as_str().unwrap();
    assert!(
        message.starts_with("Daily quota exceeded: will run after 2"),
        "{message}"
    );
    assert_eq!(
        (&quota["limit"], &quota["used"], &quota["remaining"]),
        (&json!(5), &json!(5), &json!(0))
    );
    assert_eq!(
        pro.ask(&["analyses", "list", "--state", "queued"])["pagination"]["total"],
        1
    );
    assert_eq!(pro.server.analyses().len(), 1);
    pro.assert_well_behaved(&agent);
}

#[test]
fn the_server_may_know_better_about_the_quota() {
    let pro = Pro::new();
    let _agent = pro.start_and_sync(&[]);
    pro.server
        .script(Call::Analyze.fault(misbehave::limited(None)));
    let web = ["analyze", "deploy/web", "-n", "production"];
    let refused = [&web[..], &["--no-queue"]].concat();
    assert_fails(&pro, &refused, 5, "QUOTA_EXCEEDED", "it is reset at");
    assert_eq!(pro.ask(&["analyses", "list"])["pagination"]["total"], 0);
    assert_eq!(pro.ask(&["quota"])["remaining"], 0);
    let waiting = pro.ask(&web);
    assert_eq!(
        (&waiting["state"], &waiting["reason"]),
        (&json!("queued"), &json!("quota_exceeded"))
    );
    assert_eq!(
        pro.requests(Call::Analyze).len(),
        1,
        "the quota is known by now"
    );
}

#[test]
fn two_at_once_share_the_last_of_the_quota() {
    let pro = Pro::with(
        Options::default(),
        kube9_sim::Options {
            quota_limit: 3,
            quota_used: 1,
            ..kube9_sim::Options::default()
        },
    );
    let agent = pro.start_and_sync(&[]);
    let states: Vec<Value> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    pro.ask(&["analyze", "deploy/web", "-n", "production"])["state"].clone()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let submitted = states.iter().filter(|state| **state == "submitted").count();
    assert_eq!(
        (submitted, pro.server.analyses().len()),
        (2, 2),
        "{states:?}"
    );
    assert_eq!(pro.requests(Call::Analyze).len(), 2);
    pro.assert_well_behaved(&agent);
}

#[test]
fn while_the_server_is_away_a_request_waits_or_fails() {
    let mut pro = Pro::new();
    let agent = pro.start_and_sync(&[]);
    pro.server.shutdown_listener();
    let web = ["analyze", "deploy/web", "-n", "production"];
    let never = [&web[..], &["--no-queue"]].concat();
    assert_fails(&pro, &never, 1, "FAILED", "kube9-server unreachable");
    let waiting = pro.ask(&web);
    assert_eq!(
        (&waiting["state"], &waiting["reason"]),
        (&json!("queued"), &json!("server_unreachable"))
    );
    let message = waiting["message"].as_str().unwrap();
    assert!(
        message.starts_with("kube9-server unreachable: "),
        "{message}"
    );
    let failed = pro.ask(&["analyses", "list", "--state", "failed"]);
    assert_eq!(failed["pagination"]["total"], 1);
    pro.server.restart().unwrap();
    let asked = wait_for("the analysis", || pro.server.analyses().pop());
    assert_eq!(waiting["requestId"], asked.request_id);
    wait_for("the agent to note it", || {
        let submitted = pro.ask(&["analyses", "list", "--state", "submitted"]);
        (submitted["pagination"]["total"] == 1).then_some(())
    });
    assert_eq!(pro.server.analyses().len(), 1);
    pro.assert_well_behaved(&agent);
}

#[test]
fn what_the_server_rejects_has_failed() {
    let pro = Pro::new();
    let _agent = pro.start_and_sync(&[]);
    pro.server
        .script(Call::Analyze.fault(misbehave::status(422, "no \u{1b}[31msuch\nthing")));
    let web = ["analyze", "deploy/web", "-n", "production"];
    assert_fails(&pro, &web, 1, "FAILED", "no [31msuch thing");
    let failed = &pro.ask(&["analyses", "list"])["analyses"][0];
    assert_eq!(
        (&failed["state"], &failed["reason"]),
        (&json!("failed"), &json!("rejected"))
    );
}

#[test]
fn a_key_that_the_server_rejects_is_free_tier() {
    let (pro, _agent) = with_insights();
    let rejected = misbehave::status(401, "expired");
    pro.server.script(Call::Acknowledge.fault(rejected).once());
    assert_eq!(pro.ask(&["insights", "ack", "ins_low"])["synced"], false);
    let asked = pro.server.requests().len();
    for arguments in [
        ["quota"].as_slice(),
        &["insights", "ack", "ins_low"],
        &["insights", "get", "ins_low"],
    ] {
        assert_fails(
            &pro,
            arguments,
            4,
            "NEEDS_PRO",
            "does not accept the API key",
        );
    }
    let list = pro.ask(&["insights", "list"]);
    assert_eq!(list["insights"], json!([]));
    assert!(
        list["notice"]
            .as_str()
            .unwrap()
            .contains("does not accept the API key")
    );
    assert_eq!(pro.server.requests().len(), asked);
}

#[test]
fn what_was_asked_for_survives_the_pod_and_its_volume_at_once() {
    let (mut pro, agent) = with_insights();
    let fresh = "/apis/apps/v1/namespaces/production/deployments/fresh";
    let metadata = json!({"name": "fresh", "namespace": "production"});
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata});
    pro.sim.insert(fresh, object);
    let submitted = pro.ask(&["analyze", "deploy/fresh", "-n", "production"]);
    assert_eq!(submitted["state"], "submitted");
    let told = pro.server.analyses().pop().unwrap().resource_id;
    pro.server.shutdown_listener();
    assert_eq!(
        pro.ask(&["insights", "ack", "ins_critical"])["synced"],
        false
    );
    let waiting = pro.ask(&["analyze", "ns/staging"]);
    assert_eq!(waiting["state"], "queued");
    support::signal(agent.id(), "KILL");
    drop(agent);
    for name in ["kube9.db", "kube9.db-wal", "kube9.db-shm"] {
        drop(std::fs::remove_file(pro.path(name)));
    }
    pro.sim.remove(fresh);
    pro.server.restart().unwrap();
    let agent = pro.start(&[]);
    let acknowledged = wait_for("the verdict", || pro.server.acknowledgements().pop());
    assert_eq!(acknowledged.insight_id, "ins_critical");
    let asked = wait_for("the analysis", || {
        let mut analyses = pro.server.analyses();
        analyses.retain(|analysis| waiting["requestId"] == analysis.request_id);
        analyses.pop()
    });
    assert_eq!(asked.calls, 1);
    assert_eq!(id_of(&pro, "deployment", "production", "fresh"), told);
    pro.assert_well_behaved(&agent);
}

#[test]
fn a_command_does_not_hang_with_the_server() {
    let (pro, _agent) = with_insights();
    let hang = FaultAction::HangBeforeHeader(Duration::from_secs(3600));
    pro.server.script(Call::Acknowledge.fault(hang));
    assert_eq!(pro.ask(&["insights", "ack", "ins_low"])["synced"], false);
}

#[test]
fn before_the_first_registration_requests_wait() {
    let mut pro = Pro::new();
    pro.server.shutdown_listener();
    let _agent = pro.start_and_collect(&[]);
    let waiting = pro.ask(&["analyze", "ns/production"]);
    assert_eq!(
        (&waiting["state"], &waiting["reason"]),
        (&json!("queued"), &json!("server_unreachable"))
    );
    let list = pro.ask(&["insights", "list"]);
    assert!(
        list["notice"].as_str().unwrap().starts_with("No sync"),
        "{list}"
    );
    assert_eq!(pro.ask(&["quota"])["limit"], Value::Null);
    pro.server.restart().unwrap();
    let asked = wait_for("the analysis", || pro.server.analyses().pop());
    assert_eq!(waiting["requestId"], asked.request_id);
}
