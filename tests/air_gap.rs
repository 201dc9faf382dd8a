//! The free tier talks to the API server and to nobody else.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use support::{Agent, BINARY, Home};

/// Where strace is, if it is.
fn strace() -> Option<&'static Path> {
    let found = ["/usr/bin/strace", "/usr/local/bin/strace", "/bin/strace"].map(Path::new);
    found.into_iter().find(|path| path.exists())
}

#[test]
fn every_system_call_to_the_network_goes_to_the_api_server() {
    let Some(strace) = strace() else {
        let allowed = std::env::var("KUBE9_ALLOW_NO_STRACE").is_ok_and(|value| value == "1");
        assert!(
            allowed,
            "strace is not installed; KUBE9_ALLOW_NO_STRACE=1 passes this test without it"
        );
        eprintln!("skipped: strace is not installed");
        return;
    };
    let home = Home::new();
    let trace = home.path("trace");
    // The command of the helper, for its environment alone.
    let plain = home.command(&[]);
    let mut command = Command::new(strace);
    command
        .args(["-f", "-qq", "-e", "trace=network", "-o"])
        .arg(&trace);
    command
        .arg(BINARY)
        .args(["run", "--status-interval", "10s"])
        .env_clear();
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap());
    }
    let mut agent = Agent::start(command);
    home.wait_for_collections(1);
    home.wait_for_status("is there", |_| true);
    // strace passes the signal on to no one: it is sent to the agent itself.
    let children = format!("/proc/{0}/task/{0}/children", agent.id());
    let child = std::fs::read_to_string(children).unwrap();
    support::signal(child.trim().parse().unwrap(), "TERM");
    assert_eq!(agent.wait().code(), Some(0));

    let trace = std::fs::read_to_string(trace).unwrap();
    let port = format!("sin_port=htons({})", home.sim.addr().port());
    let mut connections = 0;
    for line in trace.lines() {
        // Whatever names an address: connect, sendto, sendmsg, bind.
        if line.contains("AF_INET") && line.contains("sin") && line.contains("addr") {
            let to_the_server = line.contains(&port) && line.contains("inet_addr(\"127.0.0.1\")");
            // Its own side of the connection; the line is in two where another thread's came between.
            let of_itself = line.contains("getsockname(") || line.contains("getsockname resumed");
            assert!(to_the_server || of_itself, "{line}");
            connections += u32::from(line.contains("connect("));
        }
        // Name services are asked over UDP or a local socket.
        assert!(
            !line.contains("SOCK_DGRAM") || line.contains("AF_UNIX"),
            "{line}"
        );
        assert!(
            !line.contains("nscd") && !line.contains("htons(53)"),
            "{line}"
        );
        assert!(!line.contains("listen("), "it listens: {line}");
    }
    assert!(connections >= 2, "{trace}");
    // The last may not be accepted yet.
    support::wait_for("the API server to have had all connections", || {
        (home.sim.connections() >= u64::from(connections)).then_some(())
    });
    assert_eq!(u64::from(connections), home.sim.connections());
}

#[test]
fn proxies_in_the_environment_are_not_for_the_api_server() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let connections = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&connections);
    std::thread::spawn(move || {
        for _ in proxy.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let home = Home::new();
    let mut command = home.command(&["run", "--status-interval", "10s"]);
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"] {
        command.env(name, format!("http://{address}"));
        command.env(name.to_lowercase(), format!("http://{address}"));
    }
    let mut agent = Agent::start(command);
    home.wait_for_collections(1);
    home.wait_for_status("is there", |_| true);
    assert_eq!(agent.stop().0.code(), Some(0));
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    // The listener would have noticed.
    drop(std::net::TcpStream::connect(address).unwrap());
    support::wait_for("the one connection of the test", || {
        (connections.load(Ordering::SeqCst) == 1).then_some(())
    });
}

#[test]
fn the_key_leaves_its_file_in_no_way() {
    let home = Home::new();
    let key = "kdy_a_very_secret_key";
    std::fs::write(home.path("apiKey"), format!("{key}\n")).unwrap();
    let mut agent = home.start_and_collect(&["--log-level", "trace"]);
    home.wait_for_status("knows the key", |status| status["apiKeyConfigured"] == true);
    agent.stop();
    let holds = |bytes: &[u8]| {
        bytes
            .windows(key.len())
            .any(|window| window == key.as_bytes())
    };
    assert!(!holds(agent.log().as_bytes()));
    for request in home.sim.requests() {
        assert!(!holds(request.url().as_bytes()) && !holds(&request.body.unwrap_or_default()));
    }
    for entry in std::fs::read_dir(home.path("")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap() != "apiKey" {
            assert!(!holds(&std::fs::read(&path).unwrap()), "{}", path.display());
        }
    }
}
