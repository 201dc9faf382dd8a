//! What is stuck for good: it is told, and the agent goes all the same when it must.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use support::{Home, in_time};

/// The contract's: from SIGTERM to the end of the process.
const MAX_EXIT: Duration = Duration::from_secs(1);

#[test]
fn leaves_though_nobody_reads_its_log() {
    in_time(|| {
        let home = Home::new();
        let (mut log, _nobody) = UnixStream::pair().unwrap();
        let stderr = log.try_clone().unwrap();
        let mut child = home
            .command(&["run"])
            .stderr(Stdio::from(std::os::fd::OwnedFd::from(stderr)))
            .spawn()
            .unwrap();
        home.wait_for_collections(1);
        // What it holds is the same socket, so that filling it here fills it there.
        log.set_write_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        while log.write(&[b'x'; 4096]).is_ok() {}
        while log.write(b"x").is_ok() {}
        support::signal(child.id(), "TERM");
        let since = Instant::now();
        let left = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if since.elapsed() > Duration::from_secs(30) {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let took = since.elapsed();
        assert_eq!(left.and_then(|status| status.code()), Some(0), "{took:?}");
        within(MAX_EXIT, took)
    });
}

fn within(most: Duration, took: Duration) -> Result<(), String> {
    (took < most)
        .then_some(())
        .ok_or_else(|| format!("left after {took:?}"))
}

#[test]
fn leaves_while_the_start_waits_for_the_database() {
    in_time(|| {
        let home = Home::new();
        let other = Connection::open(home.db()).unwrap();
        other
            .execute_batch("CREATE TABLE other (a TEXT); BEGIN EXCLUSIVE")
            .unwrap();
        let mut agent = home.start(&[]);
        agent.wait_for_log("cluster API: ");
        let (status, took) = agent.stop();
        assert_eq!(status.code(), Some(0), "{status}");
        within(MAX_EXIT, took)
    });
}

#[test]
fn a_database_that_refuses_the_dashboard_is_told_before_the_next_collection() {
    let home = Home::new();
    let mut agent = home.start_and_collect(&[]);
    agent.stop();
    // A trigger refuses root, too, which no file mode does.
    Connection::open(home.db())
        .unwrap()
        .execute_batch(
            "CREATE TRIGGER refused BEFORE UPDATE ON document BEGIN SELECT raise(ABORT, 'refused'); END",
        )
        .unwrap();
    let _agent = home.start(&[]);
    let status = home.wait_for_health("degraded");
    assert_eq!(
        status["error"],
        "database cannot be written: the database failed: refused"
    );
    assert_eq!(status["collectionStats"]["totalSuccessCount"], 1);
}
