//! `kube9-sim serve`, as a process.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use common::{headers, request};
use serde_json::Value;

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kube9-sim"))
}

fn start(arguments: &[&str]) -> (Process, String) {
    let mut child = command();
    child.arg("serve").args(arguments).stdout(Stdio::piped());
    let mut process = Process(child.spawn().unwrap());
    let mut url = String::new();
    let stdout = process.0.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut url).unwrap();
    (process, url.trim().to_owned())
}

fn status(url: &str, line: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut tcp = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    tcp.write_all(&request(line, headers, body)).unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

fn read(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).unwrap()
}

#[test]
fn it_serves_logs_and_leaves_its_address() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (dir, log) = (path.to_str().unwrap(), path.join("log"));
    let log_option = format!("--log={}", log.display());
    let options = [
        "--http",
        "--key",
        "kube9-sim-key",
        "--dir",
        dir,
        &log_option,
        "--fault=quota=503x1",
    ];
    let (_process, url) = start(&options);
    assert_eq!(read(path, "url"), format!("{url}\n"));
    assert_eq!(read(path, "key"), "kube9-sim-key");
    assert!(read(path, "ca.crt").starts_with("-----BEGIN CERTIFICATE-----"));
    for expected in ["503", "200"] {
        assert_eq!(
            status(&url, "GET /api/v1/quota", &headers("", None), ""),
            expected
        );
    }
    let body = common::register().to_string();
    let length = body.len().to_string();
    let mut wrong = headers(&length, None);
    wrong.push(("X-Node", "node-1"));
    assert_eq!(status(&url, "POST /api/v1/register", &wrong, &body), "400");
    let text = std::fs::read_to_string(log).unwrap();
    assert!(!text.contains("kube9-sim-key"), "{text}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let statuses: Vec<_> = lines.iter().map(|line| &line["status"]).collect();
    assert_eq!(statuses, [503, 200, 400]);
    assert_eq!(lines[2]["body"], common::register());
    assert_eq!(
        lines[2]["violations"][0],
        "header x-node: not in the contract"
    );
    assert_eq!(lines[1]["violations"], serde_json::json!([]));
}

#[test]
fn a_restarted_one_is_trusted_by_who_knew_it_before() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().to_str().unwrap();
    let (process, url) = start(&["--dir", dir]);
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let ca = read(directory.path(), "ca.crt");
    drop(process);
    let _again = start(&["--dir", dir]);
    assert_eq!(read(directory.path(), "ca.crt"), ca);
}

#[test]
fn mistakes_are_named() {
    let run = |arguments: &[&str]| -> Output { command().args(arguments).output().unwrap() };
    assert!(run(&["--help"]).status.success());
    assert_eq!(run(&[]).status.code(), Some(2));
    for (arguments, expected) in [
        (&["serve", "--quota", "many"][..], "--quota many"),
        (&["serve", "--quota"], "--quota needs a value"),
        (&["serve", "--colour"], "--colour"),
        (&["serve", "--fault", "metrics=503"], "--fault metrics=503"),
        (&["serve", "--fault", "push=503xx"], "--fault push=503xx"),
    ] {
        let output = run(arguments);
        let problem = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{problem}");
        assert!(problem.contains(expected), "{problem}");
    }
}
