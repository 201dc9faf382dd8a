//! The command line: what is typed, what comes back, and how it ends.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::process::{Output, Stdio};

use kube_sim::{Cluster, Options};
use serde_json::{Value, json};
use support::{Agent, Home};

fn home() -> Home {
    Home::with(Options {
        cluster: Cluster::Empty,
        ..Options::default()
    })
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// Whether nothing was started: no request, no file.
fn assert_nothing_happened(home: &Home) {
    assert!(home.sim.requests().is_empty() && home.sim.connections() == 0);
    assert!(!home.db().exists() && !home.path("kube9.db-heartbeat").exists());
}

#[test]
fn what_is_no_command_prints_usage_and_starts_nothing() {
    let home = home();
    for (arguments, usage_of) in [
        ([].as_slice(), ""),
        (&["rnu"], ""),
        (&["--run"], ""),
        (&[""], ""),
        (&["run", "extra"], " run"),
        (&["run", "--nosuch", "x"], " run"),
        (&["run", "--nosuch=x"], " run"),
        (&["run", "--db"], " run"),
        (&["run", "run"], " run"),
        (&["query"], " query"),
        (&["query", "nothing"], " query"),
        (&["query", "status", "--format=xml"], " query status"),
        (&["query", "status", "--format"], " query status"),
        (
            &["query", "dashboard", "--namespace", "x"],
            " query dashboard",
        ),
        (&["health", "--ready=yes"], " health"),
        (&["check", "--db", "x"], " check"),
    ] {
        let output = home.run(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
        let text = stderr(&output);
        if arguments.first() == Some(&"query") {
            let error: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(error["code"], "USAGE", "{text}");
            let table = home.run(&[arguments, &["--format", "table"]].concat());
            assert_eq!(code(&table), 2);
            continue;
        }
        assert!(text.starts_with("error: "), "{arguments:?}: {text}");
        let usage = format!("\nUsage: kube9-operator{usage_of} ");
        assert!(text.contains(&usage), "{arguments:?}: {text}");
    }
    assert_nothing_happened(&home);
}

#[test]
fn arguments_that_are_not_utf8() {
    use std::os::unix::ffi::OsStrExt as _;

    let home = home();
    let output = home
        .command(&["run"])
        .arg(std::ffi::OsStr::from_bytes(b"--db=\xff"))
        .output()
        .unwrap();
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("not UTF-8"));
    assert_nothing_happened(&home);
}

#[test]
fn help_and_version_everywhere() {
    let home = home();
    for command in [
        [].as_slice(),
        &["check"],
        &["health"],
        &["query"],
        &["query", "dashboard"],
        &["query", "status"],
        &["run"],
    ] {
        for help in ["--help", "-h"] {
            let output = home.run(&[command, &[help]].concat());
            assert_eq!(
                (code(&output), stderr(&output).as_str()),
                (0, ""),
                "{command:?} {help}"
            );
            let name = [&["kube9-operator"], command].concat().join(" ");
            assert!(
                stdout(&output).starts_with(&format!("Usage: {name}")),
                "{command:?} {help}"
            );
        }
        let output = home.run(&[command, &["--version"]].concat());
        assert_eq!(
            (code(&output), stderr(&output).as_str()),
            (0, ""),
            "{command:?}"
        );
        assert_eq!(
            stdout(&output),
            format!("kube9-operator {}\n", env!("CARGO_PKG_VERSION"))
        );
    }
    assert_nothing_happened(&home);
}

#[test]
fn a_setting_that_cannot_be_used_is_named_in_one_line() {
    let home = home();
    for (flag, variable, value) in [
        ("--status-interval", "KUBE9_STATUS_INTERVAL", "60abc"),
        ("--status-interval", "KUBE9_STATUS_INTERVAL", "9s"),
        ("--status-interval", "KUBE9_STATUS_INTERVAL", "241s"),
        ("--status-interval", "KUBE9_STATUS_INTERVAL", "60"),
        ("--sync-interval", "KUBE9_SYNC_INTERVAL", "4m"),
        ("--sync-interval", "KUBE9_SYNC_INTERVAL", "-1h"),
        (
            "--sync-interval",
            "KUBE9_SYNC_INTERVAL",
            "99999999999999999999d",
        ),
        ("--log-level", "KUBE9_LOG", "loud"),
        ("--namespace", "POD_NAMESPACE", "Not A Namespace"),
        ("--namespace", "POD_NAMESPACE", "a\nb"),
        (
            "--exclude-namespaces",
            "KUBE9_EXCLUDE_NAMESPACES",
            "fine,Not Fine",
        ),
        ("", "KUBE9_LOG_FORMAT", "xml"),
    ] {
        let check = |output: &Output, setting: &str| {
            assert_eq!(code(output), 2, "{setting} {value}");
            assert_eq!(stdout(output), "");
            let text = stderr(output);
            assert_eq!(text.lines().count(), 1, "{text}");
            let quoted = format!("error: {setting} cannot be {value:?}: allowed is ");
            assert!(text.starts_with(&quoted), "{text}");
        };
        check(
            &home
                .command(&["run"])
                .env(variable, value)
                .output()
                .unwrap(),
            variable,
        );
        if !flag.is_empty() {
            check(&home.run(&["run", flag, value]), flag);
            check(&home.run(&["run", &format!("{flag}={value}")]), flag);
        }
    }
    assert_nothing_happened(&home);
}

#[test]
fn a_flag_wins_over_its_variable_and_empty_is_not_given() {
    let home = home();
    let mut command = home.command(&[
        "run",
        "--status-interval=10s",
        "--namespace",
        "default",
        "--db=",
    ]);
    command
        .env("KUBE9_STATUS_INTERVAL", "99h")
        .env("POD_NAMESPACE", "elsewhere")
        .env("KUBE9_SYNC_INTERVAL", "");
    let agent = Agent::start(command);
    let path = "/api/v1/namespaces/default/configmaps/kube9-operator-status";
    let config_map = support::wait_for("the status", || home.sim.get(path));
    assert_eq!(config_map["data"]["namespace"], "default");
    support::wait_for("the database of the variable", || {
        let output = home.run(&["query", "status"]);
        output.status.success().then_some(())
    });
    agent.wait_for_log("in namespace default");

    let output = home
        .command(&["query", "status", "--namespace=by-flag"])
        .env("POD_NAMESPACE", "x")
        .output()
        .unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["namespace"], "by-flag");
}

#[test]
fn without_a_usable_kubeconfig_it_says_what_is_missing() {
    let home = home();
    for (arguments, told) in [
        (["--kubeconfig", "nowhere"], "nowhere"),
        (["--context", "no-such-context"], "no-such-context"),
        (["--kubeconfig", "empty"], "empty"),
        (["--kubeconfig", "rubbish"], "rubbish"),
    ] {
        std::fs::write(home.path("empty"), "").unwrap();
        std::fs::write(home.path("rubbish"), "{[").unwrap();
        let output = home.run(&["run", arguments[0], arguments[1]]);
        assert_eq!(code(&output), 1, "{arguments:?}");
        let text = stderr(&output);
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("error: ") && last.contains(told), "{text}");
    }
    assert_eq!(home.sim.connections(), 0);
}

#[test]
fn a_query_without_a_database_fails_and_makes_none() {
    let home = home();
    for question in ["status", "dashboard"] {
        let output = home.run(&["query", question]);
        assert_eq!((code(&output), stdout(&output).as_str()), (1, ""));
        let text = stderr(&output);
        assert_eq!(text.lines().count(), 1, "{text}");
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&error["ok"], &error["code"]),
            (&json!(false), &json!("FAILED"))
        );
        assert!(
            error["message"].as_str().unwrap().contains("no database"),
            "{error}"
        );
        for format in ["table", "yaml"] {
            let output = home.run(&["query", question, "--format", format]);
            assert_eq!(code(&output), 1);
            assert!(
                stderr(&output).starts_with("error: there is no database"),
                "{}",
                stderr(&output)
            );
        }
    }
    assert_nothing_happened(&home);
}

#[test]
fn a_dashboard_that_is_not_there_yet_is_not_found() {
    let home = home();
    let hang = kube_sim::FaultAction::HangBeforeHeader(std::time::Duration::from_secs(3600));
    home.sim.script(kube_sim::Fault::new(hang).path("/version"));
    let _agent = home.start(&[]);
    support::wait_for("the database", || {
        home.run(&["query", "status"])
            .status
            .success()
            .then_some(())
    });
    let output = home.run(&["query", "dashboard"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (3, ""));
    let error: Value = serde_json::from_str(&stderr(&output)).unwrap();
    assert_eq!(error["code"], "NOT_FOUND");
}

#[test]
fn formats_of_a_query() {
    let home = home();
    let mut agent = home.start_and_collect(&[]);
    agent.stop();
    let json = home.query("dashboard");
    let lines = |format: &str| {
        let output = home.run(&["query", "dashboard", "--format", format]);
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
        stdout(&output)
    };
    let json_text = lines("json");
    assert_eq!(serde_json::from_str::<Value>(&json_text).unwrap(), json);
    assert!(json_text.is_ascii() && json_text.ends_with("}\n"));
    let namespaces = json["namespaceCount"].as_u64().unwrap();
    assert!(
        lines("yaml").starts_with("lastUpdated: \"20"),
        "{}",
        lines("yaml")
    );
    assert!(lines("yaml").contains(&format!(
        "\nnamespaceCount: {namespaces}\nnodes:\n  cpuCapacity: "
    )));
    assert!(lines("yaml").ends_with("\n  statefulsets: 0\n"));
    let table = lines("table");
    let row = |name: &str| {
        let row = table
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name));
        row.unwrap_or_else(|| panic!("{table}"))
            .split_whitespace()
            .last()
            .unwrap()
            .to_owned()
    };
    assert_eq!(row("namespaceCount"), namespaces.to_string());
    assert_eq!(
        (row("workloads.pods").as_str(), row("usage").as_str()),
        ("0", "-")
    );
}

#[test]
fn stdout_has_only_the_answer_at_every_log_level() {
    let home = home();
    let mut agent = home.start_and_collect(&["--log-level", "trace"]);
    for level in ["off", "error", "warn", "info", "debug", "trace"] {
        for format in ["text", "json"] {
            let mut command = home.command(&["query", "status"]);
            command
                .env("KUBE9_LOG", level)
                .env("KUBE9_LOG_FORMAT", format);
            let output = command.output().unwrap();
            assert!(output.stdout.is_ascii());
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(answer["health"], "healthy");
        }
    }
    let log = agent.log();
    assert!(log.contains(" DEBUG ") || log.contains(" TRACE "), "{log}");
    assert!(!log.contains(&home.sim.token()), "the log has the token");
    agent.stop();
    assert_eq!(agent.stdout(), "");
}

#[test]
fn log_lines_are_json_when_asked_for() {
    let home = home();
    let mut command = home.command(&["run", "--log-level=debug"]);
    command.env("KUBE9_LOG_FORMAT", "json");
    let mut agent = Agent::start(command);
    home.wait_for_health("healthy");
    agent.stop();
    let log = agent.log();
    assert!(log.lines().count() >= 3);
    for line in log.lines() {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for field in ["time", "level", "target", "message"] {
            assert!(line[field].is_string(), "{line}");
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let home = home();
    let _agent = home.start_and_collect(&[]);
    for arguments in [
        ["query", "status"].as_slice(),
        &["query", "dashboard"],
        &["health"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = home
            .command(arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(
            (code(&status), stderr(&status).as_str()),
            (0, ""),
            "{arguments:?}"
        );
    }
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let status = home
        .command(&["query", "status"])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(code(&status), 1);
    assert!(stderr(&status).contains("cannot write to stdout"));
}

#[test]
fn a_closed_stderr_changes_nothing() {
    let home = home();
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let status = home
        .command(&["query", "status"])
        .stderr(closed())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
    let status = home.command(&["rnu"]).stderr(closed()).status().unwrap();
    assert_eq!(status.code(), Some(2));
    let mut child = home
        .command(&["run", "--log-level=trace"])
        .stderr(closed())
        .spawn()
        .unwrap();
    home.wait_for_health("healthy");
    support::signal(child.id(), "TERM");
    assert!(child.wait().unwrap().success());
}
