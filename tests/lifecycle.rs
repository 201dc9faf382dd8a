//! How the agent starts, shares, survives bad disks, and leaves.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kube_sim::{Fault, FaultAction};
use rusqlite::{Connection, OpenFlags};
use support::{Agent, Home};

/// Longer than any test takes.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// The contract's: from SIGTERM to the end of the process.
const MAX_EXIT: Duration = Duration::from_secs(1);

/// SIGTERM ends it well and in time.
fn assert_leaves(agent: &mut Agent) {
    let (status, took) = agent.stop();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(took < MAX_EXIT, "{took:?}");
}

fn assert_said_farewell(home: &Home) {
    let status = home.status().unwrap();
    assert_eq!(status["health"], "unhealthy", "{status}");
    assert!(
        status["error"]
            .as_str()
            .unwrap()
            .starts_with("shutting down"),
        "{status}"
    );
}

fn hang(path: &str) -> Fault {
    Fault::new(FaultAction::HangBeforeHeader(FOR_EVER)).path(path)
}

#[test]
fn leaves_at_once_after_the_start() {
    let home = Home::new();
    let mut agent = home.start(&[]);
    agent.wait_for_log("starting");
    assert_leaves(&mut agent);
    assert_said_farewell(&home);
}

#[test]
fn leaves_when_idle() {
    let home = Home::new();
    let mut agent = home.start_and_collect(&[]);
    assert_leaves(&mut agent);
    assert_said_farewell(&home);
    assert_eq!(
        home.status().unwrap()["collectionStats"]["totalSuccessCount"],
        1
    );
    assert!(!agent.log().contains("was not written"), "{}", agent.log());
}

#[test]
fn leaves_on_sigint_too() {
    let home = Home::new();
    let mut agent = home.start(&[]);
    home.wait_for_health("healthy");
    support::signal(agent.id(), "INT");
    assert_eq!(agent.wait().code(), Some(0));
    assert_said_farewell(&home);
}

#[test]
fn leaves_during_a_hanging_collection() {
    // The request that hangs is not in the log before it is answered: then the one before it is waited for.
    let pods = Fault::new(FaultAction::HangInBody { after_bytes: 5000 }).path("/api/v1/pods");
    let later = FaultAction::TooManyRequests {
        retry_after: Some(25),
    };
    let namespaces = Fault::new(later).path("/api/v1/namespaces").method("GET");
    for (fault, under_way) in [
        (hang("/api/v1/nodes"), "/version"),
        (pods, "/api/v1/pods"),
        (namespaces, "/api/v1/namespaces"),
    ] {
        let home = Home::new();
        home.sim.script(fault);
        let mut agent = home.start(&[]);
        home.wait_for_health("healthy");
        support::wait_for("the collection to hang", || {
            let requests = home.sim.requests();
            requests
                .iter()
                .any(|request| request.path == under_way)
                .then_some(())
        });
        assert_leaves(&mut agent);
        assert_said_farewell(&home);
        assert!(!agent.log().contains("collected"), "{}", agent.log());
    }
}

#[test]
fn leaves_during_a_hanging_write_of_the_status() {
    // The API answers again by the time of the farewell, or it never does.
    for answers in [true, false] {
        let home = Home::new();
        let status = support::config_map_path(support::STATUS);
        let fault = hang(&status);
        home.sim.script(if answers { fault.once() } else { fault });
        let mut agent = home.start(&[]);
        home.wait_for_collections(1);
        assert_leaves(&mut agent);
        if answers {
            assert_said_farewell(&home);
        } else {
            assert!(
                agent.log().contains("the last status was not written"),
                "{}",
                agent.log()
            );
        }
    }
}

#[test]
fn leaves_while_the_api_server_is_gone() {
    let mut home = Home::new();
    let mut agent = home.start_and_collect(&[]);
    home.sim.shutdown_listener();
    assert_leaves(&mut agent);
    assert!(
        agent.log().contains("the last status was not written"),
        "{}",
        agent.log()
    );
}

#[test]
fn leaves_while_the_handshake_hangs() {
    let home = Home::new();
    home.sim.script(Fault::new(FaultAction::SlowTls(FOR_EVER)));
    let mut agent = home.start(&[]);
    support::wait_for("the connections", || {
        (home.sim.connections() >= 2).then_some(())
    });
    assert_leaves(&mut agent);
}

#[test]
fn a_second_agent_waits_for_the_first_to_leave() {
    let home = Home::new();
    let mut first = home.start_and_collect(&[]);
    let mut second = home.start(&[]);
    second.wait_for_log("another agent uses");
    assert!(
        second.log().contains("waiting for it to leave"),
        "{}",
        second.log()
    );
    // One that waits can be sent away, without a word to the cluster.
    let before = home.status().unwrap();
    assert_leaves(&mut second);
    assert_eq!(home.status().unwrap()["health"], before["health"]);

    let mut second = home.start(&[]);
    second.wait_for_log("another agent uses");
    assert_leaves(&mut first);
    home.wait_for_health("healthy");
    assert!(second.log().contains("cluster API: "));
    assert_leaves(&mut second);
}

#[test]
fn an_agent_that_was_killed_holds_nothing_up() {
    let home = Home::new();
    let mut first = home.start_and_collect(&[]);
    support::signal(first.id(), "KILL");
    first.wait();
    let mut second = home.start(&[]);
    let status = home.wait_for_beat();
    assert_eq!(
        status["collectionStats"]["totalSuccessCount"], 1,
        "what was kept is there"
    );
    assert!(!second.log().contains("another agent"), "{}", second.log());
    assert_leaves(&mut second);
}

#[test]
fn health_follows_the_heartbeat_and_not_the_cluster() {
    let mut home = Home::new();
    let health = |home: &Home, arguments: &[&str]| {
        let output = home.run(&[&["health"], arguments].concat());
        let text =
            String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text)
    };
    let (code, text) = health(&home, &[]);
    assert!(code == 1 && text.contains("no heartbeat"), "{text}");

    home.sim.shutdown_listener();
    let _agent = home.start(&[]);
    support::wait_for("the heartbeat", || {
        (health(&home, &[]).0 == 0).then_some(())
    });
    let (code, text) = health(&home, &["--ready"]);
    assert!(code == 1 && text.contains("not ready"), "{text}");

    home.sim.restart().unwrap();
    support::wait_for("the agent to be ready", || {
        (health(&home, &["--ready"]).0 == 0).then_some(())
    });
    home.sim.shutdown_listener();
    assert_eq!(health(&home, &["--ready"]), (0, "ok\n".to_owned()));
}

#[test]
fn a_stale_or_damaged_heartbeat_is_none() {
    let home = Home::new();
    let ago = |seconds: i64| {
        let at = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds);
        std::fs::write(
            home.path("kube9.db-heartbeat"),
            format!("{at:.3} ready   \n"),
        )
        .unwrap();
        home.run(&["health", "--ready"])
    };
    assert!(ago(170).status.success());
    let output = ago(185);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("heartbeat was 18")
    );
    std::fs::write(home.path("kube9.db-heartbeat"), "rubbish").unwrap();
    assert_eq!(home.run(&["health"]).status.code(), Some(1));
}

#[test]
fn without_a_directory_for_the_database_it_goes_on_and_says_so() {
    for db in ["file/kube9.db", "/proc/kube9.db"] {
        let home = Home::new();
        std::fs::write(home.path("file"), "").unwrap();
        let mut agent = home.start(&["--db", db]);
        let status = home.wait_for_health("unhealthy");
        assert!(
            status["error"]
                .as_str()
                .unwrap()
                .starts_with("database unusable"),
            "{status}"
        );
        // It still counts, and publishes what it can.
        agent.wait_for_log("collected the cluster");
        support::wait_for("the dashboard", || home.dashboard());
        assert_leaves(&mut agent);
        assert_said_farewell(&home);
        assert_eq!(
            home.status().unwrap()["collectionStats"]["totalSuccessCount"],
            1
        );
    }
}

#[test]
fn a_directory_where_the_database_should_be() {
    let home = Home::new();
    std::fs::create_dir(home.db()).unwrap();
    let _agent = home.start(&[]);
    let status = home.wait_for_health("unhealthy");
    assert!(
        status["error"]
            .as_str()
            .unwrap()
            .starts_with("database unusable"),
        "{status}"
    );
    assert!(home.db().is_dir());
}

/// A file system of 512 KiB, where one may be mounted.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: &Path) -> Option<Self> {
        std::fs::create_dir(path).unwrap();
        let mut command = Command::new("mount");
        let output = command
            .args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"])
            .arg(path)
            .output();
        match output {
            Ok(output) if output.status.success() => Some(Self(path.to_owned())),
            Ok(output) => {
                eprintln!(
                    "skipped: {}",
                    String::from_utf8_lossy(&output.stderr).trim()
                );
                None
            }
            Err(error) => {
                eprintln!("skipped: mount: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let home = Home::new();
    let Some(disk) = SmallDisk::mount(&home.path("disk")) else {
        return;
    };
    let db = disk.0.join("kube9.db");
    // The rest of the disk, but for room to make the database.
    let filler = disk.0.join("filler");
    let hang = Fault::new(FaultAction::HangBeforeHeader(Duration::from_secs(2)))
        .path("/api/v1/nodes")
        .once();
    home.sim.script(hang);
    let mut agent = home.start(&["--db", db.to_str().unwrap()]);
    home.wait_for_health("healthy");
    let mut left = 4096;
    while left > 0 {
        let full = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&filler);
        left = std::io::Write::write(&mut full.unwrap(), &[0; 4096]).unwrap_or(0);
    }
    let status = home.wait_for_health("degraded");
    assert!(
        status["error"]
            .as_str()
            .unwrap()
            .starts_with("database cannot be written"),
        "{status}"
    );
    // The heartbeat and the status go on.
    let status = home.wait_for_beat();
    assert_eq!(status["health"], "degraded");
    assert!(
        home.run(&["health", "--ready", "--db", db.to_str().unwrap()])
            .status
            .success()
    );
    assert!(home.dashboard().is_some(), "{}", agent.log());
    assert_leaves(&mut agent);

    std::fs::remove_file(&filler).unwrap();
    let mut agent = home.start(&["--db", db.to_str().unwrap()]);
    agent.wait_for_log("collected the cluster");
    home.wait_for_health("healthy");
    assert_leaves(&mut agent);
    assert_eq!(
        home.status().unwrap()["collectionStats"]["totalSuccessCount"],
        1
    );
    let database = Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sound: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
}

#[test]
fn an_agent_that_has_stopped_is_not_taken_for_a_healthy_one() {
    let home = Home::new();
    let mut agent = home.start_and_collect(&[]);
    assert_eq!(home.query("status")["health"], "healthy");
    agent.stop();
    let health = home.run(&["health"]);
    assert_eq!(health.status.code(), Some(1), "{health:?}");
    let status = home.query("status");
    assert_eq!(status["health"], "unhealthy");
    assert_eq!(status["agent"]["running"], false);
    let error = status["error"].as_str().unwrap();
    assert!(error.starts_with("agent not running"), "{error}");
}

#[test]
fn other_exclusions_are_followed_at_the_next_start() {
    let home = Home::new();
    home.start_and_collect(&[]).stop();
    let mut agent = home.start(&["--exclude-namespaces=payments"]);
    home.wait_for_collections(2);
    agent.stop();
    // The same again is no reason to collect.
    let mut agent = home.start(&["--exclude-namespaces=payments"]);
    home.wait_for_health("healthy");
    assert_eq!(
        home.status().unwrap()["collectionStats"]["totalSuccessCount"],
        2
    );
    agent.stop();
}
