//! How the agent starts, shares, survives bad disks, and leaves.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kube_sim::{Fault, FaultAction};
use rusqlite::{Connection, OpenFlags};
use support::{Agent, Home, in_time};

/// Longer than any test takes.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// The contract's: from SIGTERM to the end of the process.
const MAX_EXIT: Duration = Duration::from_secs(1);

/// SIGTERM ends it well; whether in time.
fn leave(agent: &mut Agent) -> Result<(), String> {
    let (status, took) = agent.stop();
    assert_eq!(status.code(), Some(0), "{status}");
    let late = || format!("left after {took:?}:\n{}", agent.log());
    (took < MAX_EXIT).then_some(()).ok_or_else(late)
}

/// Whether there was time for it.
fn said_farewell(home: &Home) -> Result<(), String> {
    let status = home.status().ok_or("no status at all")?;
    let error = status["error"].as_str().unwrap_or_default();
    let said = status["health"] == "unhealthy" && error.starts_with("shutting down");
    said.then_some(())
        .ok_or_else(|| format!("no farewell: {status}"))
}

fn hang(path: &str) -> Fault {
    Fault::new(FaultAction::HangBeforeHeader(FOR_EVER)).path(path)
}

#[test]
fn leaves_at_once_after_the_start() {
    in_time(|| {
        let home = Home::new();
        let mut agent = home.start(&[]);
        agent.wait_for_log("starting");
        leave(&mut agent)?;
        // One that was not up has nothing to take leave of.
        home.status().map_or(Ok(()), |_| said_farewell(&home))
    });
}

#[test]
fn leaves_when_idle() {
    in_time(|| {
        let home = Home::new();
        let mut agent = home.start_and_collect(&[]);
        leave(&mut agent)?;
        said_farewell(&home)?;
        assert_eq!(
            home.status().unwrap()["collectionStats"]["totalSuccessCount"],
            1
        );
        let doubted = agent.log().contains("was not written");
        (!doubted).then_some(()).ok_or_else(|| agent.log())
    });
}

#[test]
fn leaves_on_sigint_too() {
    in_time(|| {
        let home = Home::new();
        let mut agent = home.start(&[]);
        home.wait_for_health("healthy");
        support::signal(agent.id(), "INT");
        assert_eq!(agent.wait().code(), Some(0));
        said_farewell(&home)
    });
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
        (namespaces, "/api/v1/namespaces/kube-system"),
    ] {
        in_time(|| {
            let home = Home::new();
            home.sim.script(fault.clone());
            let mut agent = home.start(&[]);
            home.wait_for_health("healthy");
            support::wait_for("the collection to hang", || {
                let requests = home.sim.requests();
                requests
                    .iter()
                    .any(|request| request.path == under_way)
                    .then_some(())
            });
            leave(&mut agent)?;
            assert!(!agent.log().contains("collected"), "{}", agent.log());
            said_farewell(&home)
        });
    }
}

#[test]
fn leaves_during_a_hanging_write_of_the_status() {
    // The API answers again by the time of the farewell, or it never does.
    for answers in [true, false] {
        in_time(|| {
            let home = Home::new();
            let status = support::config_map_path(support::STATUS);
            let fault = hang(&status);
            home.sim.script(if answers { fault.once() } else { fault });
            let mut agent = home.start(&[]);
            home.wait_for_collections(1);
            leave(&mut agent)?;
            if answers {
                return said_farewell(&home);
            }
            said_that_nobody_heard_it(&agent)
        });
    }
}

/// Whether there was time for that.
fn said_that_nobody_heard_it(agent: &Agent) -> Result<(), String> {
    let said = agent.log().contains("the last status was not written");
    said.then_some(()).ok_or_else(|| agent.log())
}

#[test]
fn leaves_while_the_api_server_is_gone() {
    in_time(|| {
        let mut home = Home::new();
        let mut agent = home.start_and_collect(&[]);
        home.sim.shutdown_listener();
        leave(&mut agent)?;
        said_that_nobody_heard_it(&agent)
    });
}

#[test]
fn leaves_while_the_handshake_hangs() {
    in_time(|| {
        let home = Home::new();
        home.sim.script(Fault::new(FaultAction::SlowTls(FOR_EVER)));
        let mut agent = home.start(&[]);
        support::wait_for("the connections", || {
            (home.sim.connections() >= 2).then_some(())
        });
        leave(&mut agent)
    });
}

#[test]
fn a_second_agent_waits_for_the_first_to_leave() {
    in_time(|| {
        let home = Home::new();
        let mut first = home.start_and_collect(&[]);
        let mut second = home.start(&[]);
        second.wait_for_log("another agent uses");
        second.wait_for_log("waiting for it to leave");
        // One that waits can be sent away, without a word to the cluster.
        let before = home.status().unwrap();
        leave(&mut second)?;
        assert_eq!(home.status().unwrap()["health"], before["health"]);

        let mut second = home.start(&[]);
        second.wait_for_log("another agent uses");
        assert!(!second.log().contains("cluster API: "), "{}", second.log());
        leave(&mut first)?;
        let last = home.status().unwrap();
        second.wait_for_log("cluster API: ");
        home.wait_for_status("is healthy, and the second's", |status| {
            status["health"] == "healthy" && status["lastUpdate"] != last["lastUpdate"]
        });
        leave(&mut second)
    });
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
    assert_eq!(second.stop().0.code(), Some(0));
    assert!(!second.log().contains("another agent"), "{}", second.log());
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
    // The machine's time until it is read comes on top.
    assert!(ago(120).status.success());
    let output = ago(185);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    let age = told.split("heartbeat was ").nth(1);
    let age = age.and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    assert!((185..245).contains(&age.unwrap()), "{told}");
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
        home.wait_for_status("tells of the collection", |status| {
            status["collectionStats"]["totalSuccessCount"] == 1
        });
        assert_eq!(agent.stop().0.code(), Some(0));
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
    // There is nothing to keep before it is full.
    let no_nodes = FaultAction::status(500, "InternalError", "not yet");
    home.sim.script(Fault::new(no_nodes).path("/api/v1/nodes"));
    let mut agent = home.start(&["--db", db.to_str().unwrap()]);
    agent.wait_for_log("the collection failed");
    agent.wait_for_log("the dashboard was not refreshed");
    let mut left = 4096;
    while left > 0 {
        let full = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&filler);
        left = std::io::Write::write(&mut full.unwrap(), &[0; 4096]).unwrap_or(0);
    }
    home.sim.clear_faults();
    home.nudge();
    let tells = |status: &serde_json::Value| {
        let error = status["error"].as_str().unwrap_or_default();
        status["health"] == "degraded" && error.starts_with("database cannot be written")
    };
    home.wait_for_status("tells of the disk", tells);
    // The heartbeat and the status go on.
    let status = home.wait_for_beat();
    assert!(tells(&status), "{status}");
    assert!(
        home.run(&["health", "--ready", "--db", db.to_str().unwrap()])
            .status
            .success()
    );
    support::wait_for("the dashboard", || home.dashboard());
    assert_eq!(agent.stop().0.code(), Some(0));

    std::fs::remove_file(&filler).unwrap();
    let mut agent = home.start(&["--db", db.to_str().unwrap()]);
    agent.wait_for_log("collected the cluster");
    home.wait_for_status("is healthy and tells of the collection", |status| {
        status["health"] == "healthy" && status["collectionStats"]["totalSuccessCount"] == 1
    });
    assert_eq!(agent.stop().0.code(), Some(0));
    let database = Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sound: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
}

#[test]
fn an_agent_that_has_stopped_is_not_taken_for_a_healthy_one() {
    in_time(|| {
        let home = Home::new();
        let mut agent = home.start_and_collect(&[]);
        assert_eq!(home.query("status")["health"], "healthy");
        agent.stop();
        let health = home.run(&["health"]);
        if health.status.success() {
            return Err("no time to say so in the heartbeat".to_owned());
        }
        assert_eq!(health.status.code(), Some(1), "{health:?}");
        let status = home.query("status");
        assert_eq!(status["health"], "unhealthy");
        assert_eq!(status["agent"]["running"], false);
        let error = status["error"].as_str().unwrap();
        assert!(error.starts_with("agent not running"), "{error}");
        Ok(())
    });
}

#[test]
fn other_exclusions_are_followed_at_the_next_start() {
    let home = Home::new();
    home.start_and_collect(&[]).stop();
    let mut agent = home.start(&["--exclude-namespaces=payments"]);
    home.wait_for_collections(2);
    agent.stop();
    // The same again is no reason to collect: what comes first is the dashboard alone.
    home.sim.clear_requests();
    let _agent = home.start(&["--exclude-namespaces=payments"]);
    let dashboard = support::config_map_path(support::DASHBOARD);
    support::wait_for("the dashboard", || {
        let requests = home.sim.requests();
        requests
            .iter()
            .any(|request| request.path == dashboard)
            .then_some(())
    });
    let requests = home.sim.requests();
    assert!(
        !requests
            .iter()
            .any(|request| request.path == "/api/v1/pods" && request.query == "limit=64")
    );
    let stats = home.query("status")["collectionStats"].clone();
    assert_eq!(stats["totalSuccessCount"], 2);
}
