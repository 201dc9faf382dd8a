//! The life of an agent that has an API key, through the built binary: keys that come, go and change, servers that are
//! away, forget or have enough, users who ask for something meanwhile, and processes that are killed in between.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use kube_sim::{Fault, Options};
use kube9_sim::{Call, FaultAction, misbehave};
use rusqlite::Connection;
use serde_json::{Value, json};
use support::{
    Agent, KEY, NAMESPACE, Pro, RECOMMENDATIONS, base64, config_map_path, in_time, side_by_side,
    signal, wait_for,
};

/// Longer than any interval between two syncs that a test sets.
const LONG: i64 = 25 * 60 * 60 * 1000;

/// Another key than [`KEY`].
const OTHER: &str = "kdy_live.Zt7qX2wLmR5vB9nK4hJ8.next";

fn insight(id: &str) -> Value {
    json!({
        "id": id, "severity": "warning", "category": "security", "title": "deployment_001 runs as root",
        "description": "Look at deployment_001.", "recommendation": "Do not.", "affectedResources": ["deployment_001"],
    })
}

fn ack(pro: &Pro, id: &str) -> Value {
    pro.ask(&["insights", "ack", id])
}

fn analyze(pro: &Pro, resource: &str) -> Value {
    let place: &[&str] = if resource.starts_with("ns/") {
        &[]
    } else {
        &["-n", "production"]
    };
    pro.ask(&[&["analyze", resource], place].concat())
}

fn database(pro: &Pro) -> Connection {
    let database = Connection::open(pro.db()).unwrap();
    database.busy_timeout(Duration::from_secs(30)).unwrap();
    database
}

/// A JSON document of the database.
fn document(pro: &Pro, name: &str) -> Value {
    let body: String = database(pro)
        .query_row("SELECT body FROM document WHERE name = ?1", [name], |row| {
            row.get(0)
        })
        .unwrap();
    serde_json::from_str(&body).unwrap()
}

/// Moves a time of a document into the past.
fn age(pro: &Pro, name: &str, field: &str) {
    let mut body = document(pro, name);
    let time: Timestamp = body[field].as_str().unwrap().parse().unwrap();
    let earlier = Timestamp::from_millisecond(time.as_millisecond() - LONG).unwrap();
    body[field] = format!("{earlier:.3}").into();
    let changed = database(pro).execute(
        "UPDATE document SET body = ?2 WHERE name = ?1",
        (name, body.to_string()),
    );
    assert_eq!(changed, Ok(1));
}

/// What somebody took to send it, and did not, is anybody's again.
fn end_leases(pro: &Pro) {
    for table in ["acknowledgement", "analysis"] {
        let end = format!("UPDATE {table} SET not_before = not_before - {LONG}");
        database(pro).execute(&end, []).unwrap();
    }
}

fn kill(agent: &mut Agent) {
    signal(agent.id(), "KILL");
    agent.wait();
}

/// A kind of object in an opaque id's clothes, by its real name.
fn id_of(pro: &Pro, kind: &str, name: &str) -> String {
    let names = pro.ask(&["privacy", "names", "--kind", kind]);
    let mut names = names["names"].as_array().unwrap().iter();
    let known = names.find(|known| known["name"] == name).unwrap();
    known["id"].as_str().unwrap().to_owned()
}

fn effects<T>(what: &str, list: impl Fn() -> Vec<T>, number: usize) -> Vec<T> {
    wait_for(what, || Some(list()).filter(|them| them.len() >= number))
}

#[test]
fn a_key_that_appears_makes_the_agent_pro_without_a_restart() {
    let pro = Pro::new();
    pro.remove_key();
    let agent = pro.start_and_collect(&[]);
    let status = pro.wait_for_health("healthy");
    assert_eq!(
        (&status["tier"], &status["registered"]),
        (&"free".into(), &false.into())
    );
    assert!(
        pro.server.requests().is_empty(),
        "free agents keep to themselves"
    );
    // As a person writes it.
    pro.set_key(&format!("{KEY}\n"));
    let status = pro.wait_for_status("is pro", |status| status["registered"] == true);
    assert_eq!(status["mode"], "enabled");
    pro.wait_for_sync(None);
    assert_eq!(pro.server.pushes(), 1);
    assert_eq!(pro.requests(Call::Quota).len(), 1);
    let identity = pro.server.clusters();
    assert_eq!(status["clusterId"], identity[0].id.as_str());
    pro.assert_well_behaved(&agent);
}

#[test]
fn without_its_key_an_agent_is_free_again_and_with_it_where_it_was() {
    let pro = Pro::new();
    pro.server.add_insight(insight("ins_1"));
    let agent = pro.start_and_sync(&[]);
    wait_for("the recommendations", || pro.config_map(RECOMMENDATIONS));
    pro.remove_key();
    let status = pro.wait_for_status("is free", |status| status["tier"] == "free");
    assert_eq!(
        (&status["mode"], &status["health"], &status["registered"]),
        (&"operated".into(), &"healthy".into(), &false.into())
    );
    for field in ["sync", "quota", "insights", "analyses", "clusterId"] {
        assert!(status.get(field).is_none(), "{field} is of Pro: {status}");
    }
    wait_for("no recommendations", || {
        pro.config_map(RECOMMENDATIONS).is_none().then_some(())
    });
    assert_eq!(
        pro.run(&["query", "insights", "ack", "ins_1"])
            .status
            .code(),
        Some(4)
    );
    let asked = pro.server.requests().len();
    pro.set_key(KEY);
    pro.wait_for_status("is pro again", |status| status["registered"] == true);
    pro.wait_for_beat();
    assert_eq!(pro.server.requests().len(), asked, "nothing was due");
    assert_eq!(ack(&pro, "ins_1")["synced"], true);
    pro.assert_well_behaved(&agent);
}

/// As the kubelet does it: the file is a link into a directory that is a link, and that one is swapped.
#[test]
fn a_secret_that_is_rotated_is_taken_without_a_restart() {
    let pro = Pro::new();
    let volume = pro.path("secret");
    let version = |name: &str, key: &str| {
        std::fs::create_dir_all(volume.join(name)).unwrap();
        std::fs::write(volume.join(name).join("apiKey"), key).unwrap();
        std::os::unix::fs::symlink(name, volume.join("..data_tmp")).unwrap();
        std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    };
    version("..2026_01", KEY);
    std::os::unix::fs::symlink("..data/apiKey", volume.join("apiKey")).unwrap();
    pro.set(
        "KUBE9_API_KEY_FILE",
        volume.join("apiKey").to_str().unwrap(),
    );
    let agent = pro.start_and_sync(&[]);
    pro.server
        .change(|options| options.keys = vec![OTHER.to_owned()]);
    version("..2026_02", OTHER);
    let calls = wait_for("a registration with the new key", || {
        let calls = pro.requests(Call::Register);
        (calls.len() == 2).then_some(calls)
    });
    assert_eq!(
        calls[1].header("authorization"),
        Some(format!("Bearer {OTHER}"))
    );
    pro.wait_for_status("is registered", |status| status["registered"] == true);
    assert_eq!(pro.server.clusters().len(), 1, "it is the same cluster");
    for status in pro.statuses() {
        assert_ne!(status.1["error"], "API key invalid");
    }
    pro.assert_well_behaved(&agent);
}

#[test]
fn a_key_that_is_revoked_makes_the_agent_free_until_there_is_another() {
    let pro = Pro::new();
    pro.server.add_insight(insight("ins_1"));
    let agent = pro.start_and_sync(&[]);
    pro.server
        .change(|options| options.keys = vec![OTHER.to_owned()]);
    // Somebody asks for something, and learns first.
    assert_eq!(ack(&pro, "ins_1")["synced"], false);
    let status = pro.wait_for_status("is free", |status| status["tier"] == "free");
    assert_eq!(
        (&status["health"], &status["mode"]),
        (&"degraded".into(), &"operated".into())
    );
    assert_eq!(status["apiKeyConfigured"], true);
    let error = status["error"].as_str().unwrap();
    assert!(error.starts_with("API key invalid"), "{error}");
    let asked = pro.server.requests().len();
    pro.wait_for_beat();
    assert_eq!(pro.server.requests().len(), asked, "it stops calling");
    pro.set_key(OTHER);
    pro.wait_for_status("is pro", |status| status["registered"] == true);
    pro.wait_for_health("healthy");
    let told = effects("the verdict", || pro.server.acknowledgements(), 1);
    assert_eq!(told.len(), 1);
    pro.assert_well_behaved(&agent);
}

#[test]
fn a_server_without_registration_knows_the_cluster_by_the_agents_own_name() {
    let pro = Pro::with(
        Options::default(),
        kube9_sim::Options {
            registration: false,
            ..kube9_sim::Options::default()
        },
    );
    let mut agent = pro.start_and_sync(&[]);
    let status = pro.wait_for_health("healthy");
    let id = status["clusterId"].as_str().unwrap();
    assert_eq!((id.len(), id.matches('-').count()), (36, 4), "{id}");
    assert_eq!(pro.server.last_push().unwrap()["clusterId"], id);
    assert_eq!(pro.requests(Call::Quota).len(), 1, "once is enough");
    agent.stop();
    let agent = pro.start(&[]);
    let after = pro.wait_for_status("is of the new agent", |now| {
        now["health"] == "healthy" && now["lastUpdate"] != status["lastUpdate"]
    });
    assert_eq!(after["clusterId"], id);
    pro.assert_well_behaved(&agent);
}

#[test]
fn a_server_that_forgot_the_cluster_gets_it_again_with_the_next_cycle() {
    let pro = Pro::new();
    let mut agent = pro.start_and_sync(&[]);
    agent.stop();
    pro.server.forget_clusters();
    age(&pro, "sync", "lastSuccess");
    let mut agent = pro.start(&[]);
    let status = pro.wait_for_health("degraded");
    let error = status["error"].as_str().unwrap();
    assert!(
        error.contains("push: answered 404: this cluster is not registered"),
        "{error}"
    );
    assert_eq!(pro.server.pushes(), 1);
    agent.stop();
    let agent = pro.start(&[]);
    pro.wait_for_health("healthy");
    wait_for("a push", || (pro.server.pushes() == 2).then_some(()));
    assert_eq!(pro.server.clusters().len(), 1);
    pro.assert_well_behaved(&agent);
}

#[test]
fn an_outage_costs_one_probe_a_wait_and_loses_nothing() {
    let mut pro = Pro::new();
    pro.server.add_insight(insight("ins_1"));
    pro.server.add_insight(insight("ins_2"));
    let mut agent = pro.start_and_sync(&[]);
    agent.stop();
    // Everything is due at once: a sync, a verdict, an analysis.
    age(&pro, "sync", "lastSuccess");
    pro.server.script(Fault::new(FaultAction::Refuse));
    let (before, begun) = (pro.server.connections(), SystemTime::now());
    let agent = pro.start(&[]);
    let failures = || document(&pro, "gate")["failures"].as_u64().unwrap();
    wait_for("the first failure", || (failures() >= 1).then_some(()));
    let kept = ack(&pro, "ins_1");
    assert_eq!(kept["synced"], false);
    assert_eq!(analyze(&pro, "deploy/api")["reason"], "server_unreachable");
    let status = pro.wait_for_health("degraded");
    assert_eq!(
        (&status["registered"], &status["tier"]),
        (&true.into(), &"pro".into())
    );
    let error = status["error"].as_str().unwrap();
    assert!(error.starts_with("kube9-server unreachable"), "{error}");
    assert!(failures() >= 3);
    // What was there is there.
    assert_eq!(
        pro.ask(&["insights", "list", "--state=all"])["pagination"]["total"],
        2
    );
    // Registered and for one or two attempts out of reach is not yet worth a word.
    for (at, status) in pro.statuses() {
        if at > begun && status["health"] != "healthy" {
            let error = status["error"].as_str().unwrap();
            assert!(error.starts_with("kube9-server unreachable"), "{error}");
        }
    }
    wait_for("some more", || (failures() >= 5).then_some(()));
    // Between a connection and its failure in the database there may be a moment.
    wait_for("one connection a failure", || {
        let (failed, connected) = (failures(), pro.server.connections() - before);
        (failed == connected && failures() == failed).then_some(())
    });
    pro.server.clear_faults();
    pro.wait_for_health("healthy");
    let told = effects("the verdict", || pro.server.acknowledgements(), 1);
    let asked = effects("the analysis", || pro.server.analyses(), 1);
    assert_eq!((told.len(), told[0].calls), (1, 1));
    assert_eq!((asked.len(), asked[0].calls), (1, 1));
    wait_for("the sync", || (pro.server.pushes() == 2).then_some(()));
    pro.assert_well_behaved(&agent);
    // And the other way to be away: nobody listens.
    pro.server.shutdown_listener();
    assert_eq!(ack(&pro, "ins_2")["synced"], false);
    pro.wait_for_health("degraded");
    pro.server.restart().unwrap();
    pro.wait_for_health("healthy");
    effects("the other verdict", || pro.server.acknowledgements(), 2);
    pro.assert_well_behaved(&agent);
}

#[test]
fn a_restart_pushes_again_only_when_the_last_sync_is_old() {
    let pro = Pro::new();
    let mut agent = pro.start_and_sync(&[]);
    for how in ["TERM", "KILL"] {
        signal(agent.id(), how);
        agent.wait();
        let asked = pro.server.requests().len();
        agent = pro.start(&[]);
        let status = pro.wait_for_beat();
        assert_eq!(status["registered"], true, "{status}");
        pro.wait_for_beat();
        assert_eq!(
            pro.server.requests().len(),
            asked,
            "after SIG{how} nothing was due"
        );
    }
    agent.stop();
    age(&pro, "sync", "lastSuccess");
    let agent = pro.start(&[]);
    wait_for("a push", || (pro.server.pushes() == 2).then_some(()));
    assert_eq!(pro.requests(Call::Register).len(), 1, "that was not due");
    pro.assert_well_behaved(&agent);
}

#[test]
fn a_registration_that_has_run_out_is_renewed_with_the_next_cycle() {
    let pro = Pro::new();
    let mut agent = pro.start_and_sync(&[]);
    agent.stop();
    age(&pro, "registration", "nextAt");
    age(&pro, "sync", "lastSuccess");
    let agent = pro.start(&[]);
    wait_for("a push", || (pro.server.pushes() == 2).then_some(()));
    assert_eq!(pro.server.clusters()[0].registrations, 2);
    pro.assert_well_behaved(&agent);
}

#[test]
fn a_body_that_is_too_large_is_narrowed_until_the_next_start() {
    let pro = Pro::new();
    pro.server
        .change(|options| options.keys.push(OTHER.to_owned()));
    pro.server
        .script(Call::Push.fault(misbehave::status(413, "too large")).once());
    let preview = || {
        let output = pro.run(&["query", "privacy", "preview"]);
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let is_wide = |body: &[u8]| String::from_utf8_lossy(body).contains("\"workloads\":{");
    let mut agent = pro.start_and_sync(&[]);
    let pushes = pro.requests(Call::Push);
    assert_eq!(pushes.len(), 2);
    assert!(is_wide(&pushes[0].body) && !is_wide(&pushes[1].body));
    assert_eq!(preview(), pushes[1].body, "what is sent, byte for byte");
    pro.wait_for_health("healthy");
    // The next cycle begins with less.
    pro.set_key(OTHER);
    wait_for("another cycle", || (pro.server.pushes() == 2).then_some(()));
    let pushes = pro.requests(Call::Push);
    assert_eq!(pushes.len(), 3);
    assert!(!is_wide(&pushes[2].body));
    agent.stop();
    age(&pro, "sync", "lastSuccess");
    let agent = pro.start(&[]);
    wait_for("a cycle of the new agent", || {
        (pro.server.pushes() == 3).then_some(())
    });
    let pushes = pro.requests(Call::Push);
    assert!(is_wide(&pushes[3].body), "another start is another try");
    assert_eq!(preview(), pushes[3].body);
    pro.assert_well_behaved(&agent);
}

#[test]
fn namespaces_that_are_left_out_are_in_no_push_from_the_start_on() {
    let pro = Pro::new();
    let mut agent = pro.start_and_sync(&[]);
    let production = id_of(&pro, "namespace", "production");
    let kept_out = |push: &Value| push["resources"].get(&production).is_none();
    assert!(!kept_out(&pro.server.last_push().unwrap()));
    agent.stop();
    // A push is due at once, and the collection without the namespace takes its time.
    age(&pro, "sync", "lastSuccess");
    pro.sim.script(
        Fault::new(FaultAction::HangBeforeHeader(Duration::from_secs(600)))
            .path("/api/v1/pods")
            .once(),
    );
    let mut agent = pro.start(&["--exclude-namespaces=production"]);
    wait_for("the collection", || {
        let requests = pro.sim.requests();
        let mut pods = requests
            .iter()
            .filter(|request| request.path == "/api/v1/pods");
        pods.nth(1).map(|_| ())
    });
    agent.stop();
    assert_eq!(
        pro.server.pushes(),
        1,
        "nothing is known of the cluster as it is to be told"
    );
    let agent = pro.start(&["--exclude-namespaces=production"]);
    wait_for("a push", || (pro.server.pushes() == 2).then_some(()));
    assert!(kept_out(&pro.server.last_push().unwrap()));
    for push in &pro.requests(Call::Push)[1..] {
        assert!(kept_out(&push.json()), "{}", push.json());
    }
    pro.assert_well_behaved(&agent);
}

#[test]
fn two_requests_at_once_share_what_is_left_of_the_quota() {
    let resets_at = Timestamp::now() + Duration::from_secs(40);
    let pro = Pro::with(
        Options::default(),
        kube9_sim::Options {
            quota_used: 23,
            quota_resets_at: Some(format!("{resets_at:.3}")),
            ..kube9_sim::Options::default()
        },
    );
    let agent = pro.start_and_sync(&[]);
    let answers = thread::scope(|scope| {
        let pro = &pro;
        let ask = |resource| scope.spawn(move || analyze(pro, resource));
        ["deploy/api", "deploy/queue", "ns/production"]
            .map(ask)
            .map(|thread| thread.join().unwrap())
    });
    let count = |state: &str| {
        answers
            .iter()
            .filter(|answer| answer["state"] == state)
            .count()
    };
    assert_eq!((count("submitted"), count("queued")), (1, 2), "{answers:?}");
    for answer in answers.iter().filter(|answer| answer["state"] == "queued") {
        assert_eq!(answer["reason"], "quota_exceeded");
        assert_eq!(answer["notBefore"], format!("{resets_at:.3}"), "{answer}");
    }
    let refused = pro.run(&["query", "analyze", "ns/production", "--no-queue"]);
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");
    let status = pro.wait_for_status("tells of the quota", |status| {
        status["analyses"]["queued"] == 2
    });
    assert_eq!(status["health"], "healthy");
    assert_eq!(status["quota"]["remaining"], 0);
    assert!(
        Timestamp::now() < resets_at,
        "the machine is too slow for this test"
    );
    assert_eq!(pro.server.analyses().len(), 1);
    let analyses = effects("the rest of them", || pro.server.analyses(), 3);
    assert!(Timestamp::now() >= resets_at, "too soon");
    assert!(
        analyses.iter().all(|analysis| analysis.calls == 1),
        "{analyses:?}"
    );
    assert_eq!(
        pro.requests(Call::Analyze).len(),
        3,
        "none was sent in vain"
    );
    wait_for("what users see", || {
        let list = pro.ask(&["analyses", "list", "--state=submitted"]);
        (list["pagination"]["total"] == 3).then_some(())
    });
    pro.assert_well_behaved(&agent);
}

/// What a user asked for is there once and for all, wherever the agent is killed.
#[test]
fn what_was_asked_for_survives_the_agent() {
    side_by_side(
        &[
            ("before the call", FaultAction::Refuse),
            (
                "in the middle of it",
                FaultAction::HangBeforeHeader(Duration::from_secs(600)),
            ),
            (
                "once the server has it",
                FaultAction::Drip {
                    bytes_per_second: 1,
                },
            ),
        ],
        |fault| {
            let pro = Pro::new();
            pro.server.add_insight(insight("ins_1"));
            let mut agent = pro.start_and_sync(&[]);
            agent.stop();
            for call in [Call::Acknowledge, Call::Analyze] {
                pro.server.script(call.fault(fault.clone()));
            }
            // The commands find the server so, and then the agent.
            assert_eq!(ack(&pro, "ins_1")["synced"], false);
            assert_eq!(analyze(&pro, "deploy/api")["state"], "queued");
            let asked = pro.requests(Call::Acknowledge).len();
            let mut agent = pro.start(&[]);
            wait_for("the agent's call", || {
                (pro.requests(Call::Acknowledge).len() > asked).then_some(())
            });
            kill(&mut agent);
            let mut agent = pro.start(&[]);
            pro.wait_for_beat();
            kill(&mut agent);
            pro.server.clear_faults();
            end_leases(&pro);
            let agent = pro.start(&[]);
            effects("the verdict", || pro.server.acknowledgements(), 1);
            effects("the analysis", || pro.server.analyses(), 1);
            wait_for("the end of the outbox", || {
                let list = pro.ask(&["analyses", "list"]);
                let unsent: u32 = database(&pro)
                    .query_row(
                        "SELECT count(*) FROM acknowledgement WHERE sent = 0",
                        [],
                        |row| row.get(0),
                    )
                    .unwrap();
                (list["analyses"][0]["state"] == "submitted" && unsent == 0).then_some(())
            });
            assert_eq!(pro.server.acknowledgements().len(), 1);
            assert_eq!(pro.server.analyses().len(), 1);
            assert_eq!(pro.server.options().quota_used, 1);
            pro.assert_well_behaved(&agent);
        },
    );
}

/// The last word counts, and each is told once.
#[test]
fn a_user_who_changes_their_mind_while_the_server_is_away() {
    let mut pro = Pro::new();
    pro.server.add_insight(insight("ins_1"));
    let agent = pro.start_and_sync(&[]);
    pro.server.shutdown_listener();
    for _ in 0..3 {
        ack(&pro, "ins_1");
    }
    let dismissed = pro.ask(&["insights", "dismiss", "ins_1"]);
    assert_eq!(
        (&dismissed["state"], &dismissed["synced"]),
        (&"dismissed".into(), &false.into())
    );
    pro.server.restart().unwrap();
    let told = effects("the verdict", || pro.server.acknowledgements(), 1);
    assert_eq!((told.len(), told[0].state.as_str()), (1, "dismissed"));
    pro.wait_for_beat();
    assert_eq!(pro.server.acknowledgements().len(), 1);
    pro.assert_well_behaved(&agent);
}

#[test]
fn sigterm_in_the_middle_of_a_call_ends_the_agent_within_a_second() {
    let hang = || FaultAction::HangBeforeHeader(Duration::from_secs(600));
    let drip = || FaultAction::Drip {
        bytes_per_second: 1,
    };
    let in_body = || FaultAction::HangInBody { after_bytes: 5 };
    let in_tls = || Fault::new(FaultAction::SlowTls(Duration::from_secs(600)));
    side_by_side(
        &[
            ("registering", Call::Register.fault(hang())),
            ("registering, dripped at", Call::Register.fault(drip())),
            ("connecting", in_tls()),
            ("pushing", Call::Push.fault(hang())),
            ("pulling", Call::Insights.fault(in_body())),
            ("asking for the quota", Call::Quota.fault(in_body())),
        ],
        |fault| {
            in_time(|| {
                let pro = Pro::new();
                // Long enough to be in the middle.
                pro.set("KUBE9_TEST_PACE", "1");
                pro.server.script(fault.clone());
                let mut agent = pro.start(&[]);
                wait_for("the call", || {
                    let requests = pro.server.requests();
                    let hangs = requests.iter().any(|request| {
                        request
                            .call
                            .is_some_and(|call| fault.matches.path.as_deref() == Some(call.path()))
                    });
                    let connects = fault.matches.path.is_none() && pro.server.connections() > 0;
                    (hangs || connects).then_some(())
                });
                pro.wait_for_status("is there", |_| true);
                let (status, time) = agent.stop();
                assert!(status.success(), "{status}");
                pro.assert_well_behaved(&agent);
                // The last status is written where the API answers in time.
                let last = pro.status().unwrap();
                let error = last["error"].as_str().unwrap_or_default();
                let told = last["health"] == "unhealthy" && error.starts_with("shutting down");
                if time > Duration::from_secs(1) || !told || last["tier"] != "pro" {
                    return Err(format!("{time:?}, {last}"));
                }
                Ok(())
            });
        },
    );
}

/// The limits of a call as they are, and what goes on meanwhile.
#[test]
fn a_server_that_hangs_holds_nothing_up_but_its_own_call() {
    let pro = Pro::new();
    pro.set("KUBE9_TEST_PACE", "1");
    let hang = FaultAction::HangBeforeHeader(Duration::from_secs(600));
    pro.server.script(Call::Register.fault(hang));
    let agent = pro.start(&[]);
    let call = wait_for("the call", || pro.requests(Call::Register).pop());
    let asked = Instant::now();
    let answer = pro.ask(&["status"]);
    assert_eq!(
        (&answer["tier"], &answer["registered"]),
        (&"pro".into(), &false.into())
    );
    let queued = pro.ask(&["analyze", "deploy/api", "-n", "production"]);
    assert_eq!(queued["state"], "queued");
    assert!(
        asked.elapsed() < Duration::from_secs(20),
        "commands do not wait for the agent"
    );
    let status = pro.wait_for_status("tells of it", |status| {
        status["error"]
            .as_str()
            .is_some_and(|error| error.starts_with("kube9-server unreachable"))
    });
    assert_eq!(
        status["error"],
        "kube9-server unreachable: no answer within 30s"
    );
    let gave_up = SystemTime::now().duration_since(call.at).unwrap();
    assert!(
        gave_up >= Duration::from_secs(29),
        "{gave_up:?} is no patience"
    );
    let statuses = pro.statuses();
    let meanwhile = statuses.iter().filter(|(at, _)| *at > call.at);
    assert!(
        meanwhile.count() >= 3,
        "the status is written all the while"
    );
    pro.assert_well_behaved(&agent);
}

#[test]
fn a_file_of_authorities_that_cannot_be_used_is_told_and_taken_once_it_can() {
    let pro = Pro::new();
    let path = pro.path("server-ca.crt");
    let replace = |text: &str| {
        let new = pro.path("new.crt");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
    };
    replace("-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n");
    let agent = pro.start(&[]);
    let status = pro.wait_for_status("tells of it", |status| {
        status["error"]
            .as_str()
            .is_some_and(|error| error.starts_with("kube9-server unreachable: TLS:"))
    });
    let error = status["error"].as_str().unwrap();
    assert!(error.contains("server-ca.crt"), "{error}");
    assert!(pro.server.requests().is_empty());
    replace(&pro.server.ca_pem());
    pro.wait_for_health("healthy");
    pro.assert_well_behaved(&agent);
}

#[test]
fn a_file_that_holds_no_key_is_told() {
    let pro = Pro::new();
    for text in [
        format!("{KEY} {KEY}"),
        format!("{KEY}\u{e9}"),
        "x".repeat(5000),
    ] {
        pro.set_key(&text);
        let agent = pro.start(&[]);
        let status = pro.wait_for_status("tells of it", |status| {
            status["health"] == "degraded"
                && status["error"]
                    .as_str()
                    .unwrap()
                    .starts_with("API key file")
        });
        assert_eq!(
            (&status["tier"], &status["registered"]),
            (&"free".into(), &false.into())
        );
        pro.assert_well_behaved(&agent);
    }
    for text in ["", " \n\t\n"] {
        pro.set_key(text);
        let agent = pro.start_and_collect(&[]);
        let status = pro.wait_for_health("healthy");
        assert_eq!(status["apiKeyConfigured"], false);
        pro.assert_well_behaved(&agent);
    }
    assert!(pro.server.requests().is_empty());
}

/// A proxy that knows where a name is, which nobody else does: what comes of a name comes through it.
struct Proxy {
    address: SocketAddr,
    /// The heads of the requests, as they came.
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Leads everything to one address, or answers with this.
    fn new(to: SocketAddr, answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = heads.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let heads = kept.clone();
                thread::spawn(move || Self::serve(client, to, answer, &heads));
            }
        });
        Self { address, heads }
    }

    fn serve(mut client: TcpStream, to: SocketAddr, answer: &str, heads: &Mutex<Vec<String>>) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|read| read == 1) {
            head.extend(byte);
        }
        heads
            .lock()
            .unwrap()
            .push(String::from_utf8_lossy(&head).into_owned());
        if client.write_all(answer.as_bytes()).is_err() || !answer.contains(" 200 ") {
            return;
        }
        let server = TcpStream::connect(to).unwrap();
        let (mut from, mut back) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let answers = thread::spawn(move || {
            drop(std::io::copy(&mut back, &mut client));
            drop(client.shutdown(Shutdown::Both));
        });
        drop(std::io::copy(&mut from, &mut &server));
        drop(server.shutdown(Shutdown::Both));
        answers.join().unwrap();
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// In the certificates of both simulators, and in no DNS.
const ELSEWHERE: &str = "host.docker.internal";

const GRANTED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

#[test]
fn the_server_is_called_through_a_proxy_and_nothing_else_is() {
    let pro = Pro::new();
    let proxy = Proxy::new(pro.server.addr(), GRANTED);
    let url = format!("https://{ELSEWHERE}:8443");
    pro.set("KUBE9_SERVER_URL", &url);
    pro.set(
        "HTTPS_PROXY",
        &format!("http://user:hunter2@{}", proxy.address),
    );
    pro.set(
        "NO_PROXY",
        "10.0.0.0/8, .svc, example.com:8443, docker.internal:443",
    );
    // Nor for the cluster API, though that be elsewhere, too.
    let kubeconfig = pro.sim.kubeconfig().replace("127.0.0.1", ELSEWHERE);
    assert!(kubeconfig.contains(ELSEWHERE));
    let by_address = std::fs::read(pro.path("kubeconfig")).unwrap();
    std::fs::write(pro.path("kubeconfig"), kubeconfig).unwrap();
    let mut agent = pro.start(&[]);
    agent.wait_for_log("the collection failed");
    assert_eq!(proxy.heads(), [""; 0]);
    agent.stop();
    std::fs::write(pro.path("kubeconfig"), by_address).unwrap();
    pro.server.add_insight(insight("ins_1"));
    let mut agent = pro.start_and_sync(&[]);
    assert_eq!(
        ack(&pro, "ins_1")["synced"],
        true,
        "commands go the same way"
    );
    let heads = proxy.heads();
    assert!(heads.len() >= 2, "{heads:?}");
    for head in &heads {
        assert!(
            head.starts_with(&format!("CONNECT {ELSEWHERE}:8443 HTTP/1.1\r\n")),
            "{head}"
        );
        assert!(
            head.to_ascii_lowercase()
                .contains("proxy-authorization: basic dxnlcjpodw50zxiy"),
            "{head}"
        );
        assert!(!head.contains(KEY), "{head}");
    }
    let log = agent.log();
    assert!(
        !log.contains("hunter2") && !log.contains("dXNlcjpodW50ZXIy"),
        "{log}"
    );
    pro.assert_well_behaved(&agent);
    agent.stop();

    // What is listed goes straight, which leads nowhere here.
    for list in ["docker.internal", "*", "x, .docker.internal:8443 "] {
        age(&pro, "sync", "lastSuccess");
        pro.set("NO_PROXY", list);
        let mut agent = pro.start(&[]);
        let status = pro.wait_for_health("degraded");
        let error = format!("kube9-server unreachable: DNS: cannot find host {ELSEWHERE}");
        assert_eq!(status["error"], error, "NO_PROXY={list}");
        agent.stop();
        assert_eq!(proxy.heads().len(), heads.len(), "NO_PROXY={list}");
    }
}

#[test]
fn a_proxy_that_does_not_want_to_is_a_server_out_of_reach() {
    side_by_side(
        &[
            (
                "407",
                "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
            ),
            (
                "403",
                "HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n",
            ),
            ("502", "HTTP/1.1 502 Bad Gateway\r\n\r\n<html>"),
            ("nothing", ""),
            ("garbage", "SSH-2.0-OpenSSH_9.9\r\n\r\n"),
        ],
        |answer| {
            let pro = Pro::new();
            let proxy = Proxy::new(pro.server.addr(), answer);
            pro.set("KUBE9_SERVER_URL", &format!("https://{ELSEWHERE}"));
            pro.set(
                "HTTPS_PROXY",
                &format!("http://user:hunter2@{}", proxy.address),
            );
            let agent = pro.start(&[]);
            let status = pro.wait_for_status("tells of it", |status| {
                let error = status["error"].as_str().unwrap_or_default();
                error.starts_with("kube9-server unreachable: ")
            });
            assert_eq!(
                (&status["tier"], &status["registered"]),
                (&"pro".into(), &false.into())
            );
            assert!(!agent.log().contains("hunter2"), "{}", agent.log());
            pro.assert_well_behaved(&agent);
        },
    );
}

const STATE: &str = "kube9-operator-state";

fn lose_volume(pro: &Pro) {
    for name in [
        "kube9.db",
        "kube9.db-wal",
        "kube9.db-shm",
        "kube9.db-heartbeat",
    ] {
        drop(std::fs::remove_file(pro.path(name)));
    }
}

/// As when the node goes, and an `emptyDir` with it: right after a command has answered.
#[test]
fn an_agent_on_an_empty_volume_goes_on_where_the_last_one_was() {
    let mut pro = Pro::new();
    for id in ["ins_1", "ins_2", "ins_3"] {
        pro.server.add_insight(insight(id));
    }
    let mut agent = pro.start_and_sync(&[]);
    assert_eq!(ack(&pro, "ins_1")["synced"], true);
    let names = pro.ask(&["privacy", "names"]);
    let epoch = pro.server.last_push().unwrap()["mapEpoch"].clone();
    let clusters = pro.server.clusters();
    pro.server.shutdown_listener();
    let asked = analyze(&pro, "deploy/api");
    assert_eq!(asked["state"], "queued");
    let dismissed = pro.ask(&["insights", "dismiss", "ins_2"]);
    assert_eq!(dismissed["synced"], false);
    kill(&mut agent);
    lose_volume(&pro);
    pro.server.restart().unwrap();
    let agent = pro.start_and_sync(&[]);
    let told = effects("both verdicts", || pro.server.acknowledgements(), 2);
    let analyses = effects("the analysis", || pro.server.analyses(), 1);
    assert_eq!(analyses[0].request_id, asked["requestId"].as_str().unwrap());
    assert_eq!((analyses.len(), analyses[0].calls), (1, 1));
    assert_eq!((told.len(), told[1].state.as_str()), (2, "dismissed"));
    assert_eq!(
        pro.ask(&["privacy", "names"]),
        names,
        "names keep their ids"
    );
    assert_eq!(pro.server.last_push().unwrap()["mapEpoch"], epoch);
    assert_eq!(pro.server.clusters()[0].id, clusters[0].id);
    for (id, state) in [
        ("ins_1", "acknowledged"),
        ("ins_2", "dismissed"),
        ("ins_3", "open"),
    ] {
        assert_eq!(pro.ask(&["insights", "get", id])["state"], state, "{id}");
    }
    let list = pro.ask(&["analyses", "list"]);
    assert_eq!(list["pagination"]["total"], 1);
    pro.assert_well_behaved(&agent);
}

/// What cannot be used is a warning, and a new map: old insights stay as they came.
#[test]
fn a_state_that_cannot_be_used_is_no_reason_to_stop() {
    let bomb = [
        b"k9s\x01".as_slice(),
        &[0xff, 0xff, 0xff, 0x7f],
        &[0xff; 4096],
    ]
    .concat();
    let cases = [
        ("nothing in it", json!({})),
        ("text in place of bytes", json!({"data": {"state": "{}"}})),
        (
            "noise",
            json!({"binaryData": {"state": base64(&[0x5a; 999])}}),
        ),
        (
            "more than there is memory",
            json!({"binaryData": {"state": base64(&bomb)}}),
        ),
    ];
    let cases: Vec<_> = cases
        .into_iter()
        .chain([("cut", json!("half")), ("bent", json!("bit"))])
        .collect();
    side_by_side(&cases, |case| {
        let pro = Pro::new();
        pro.server.add_insight(insight("ins_1"));
        let mut agent = pro.start_and_sync(&[]);
        let epoch = pro.server.last_push().unwrap()["mapEpoch"].clone();
        let map = wait_for("the state", || pro.config_map(STATE));
        agent.stop();
        lose_volume(&pro);
        let mut left = case.clone();
        if let Some(how) = case.as_str() {
            let text = map["binaryData"]["state"].as_str().unwrap();
            let (begin, end) = text.split_at(text.len() / 8 * 4);
            let text = if how == "half" {
                begin.to_owned()
            } else {
                format!("{begin}AAAA{}", &end[4..])
            };
            left = json!({"binaryData": {"state": text}});
        }
        left["metadata"] = json!({"name": STATE});
        pro.sim.remove(&config_map_path(STATE));
        pro.sim
            .insert(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps"), left);
        let agent = pro.start_and_sync(&[]);
        wait_for("a push", || (pro.server.pushes() == 2).then_some(()));
        let now = pro.server.last_push().unwrap()["mapEpoch"].clone();
        assert_ne!(now, epoch, "a new map");
        let insight = pro.ask(&["insights", "get", "ins_1"]);
        assert_eq!(
            (&insight["title"], &insight["resources"][0]["resolved"]),
            (&"deployment_001 runs as root".into(), &false.into())
        );
        wait_for("a state that can be used", || {
            let map = pro.config_map(STATE)?;
            let text = map["binaryData"]["state"].as_str()?.to_owned();
            (map["binaryData"] != case["binaryData"] && text.len() > 100).then_some(())
        });
        pro.assert_well_behaved(&agent);
    });
}
