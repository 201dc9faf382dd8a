//! What leaves the machine of an agent with an API key, to the last byte: no name, and the key to nobody but the server.
//! Through the built binary; what a server is sent is judged by lists of this project's README, not by its code.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
#[path = "../src/privacy/property/allowed.rs"]
mod allowed;
#[path = "support/marked.rs"]
mod marked;
mod support;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use kube_sim::{Cluster, Metrics, Options};
use kube9_sim::{Call, FaultAction, misbehave};
use marked::{MARKER, Marker, SHOP};
use serde_json::{Value, json};
use support::{Agent, BINARY, KEY, Pro, wait_for};

/// In the key of these tests, and nowhere else.
const SECRET: &str = "zgqhkxjv";

/// A marked cluster, and a server that finds something wrong with it.
fn shop() -> Pro {
    let cluster = Options {
        cluster: Cluster::Empty,
        metrics: Metrics::Present,
        kubernetes_version: format!("v1.36.2+{MARKER}.1"),
        ..Options::default()
    };
    let server = kube9_sim::Options {
        insights_of_a_push: 6,
        insight_when_analysed: true,
        ..kube9_sim::Options::default()
    };
    let pro = Pro::with(cluster, server);
    marked::mark(&pro.sim);
    pro
}

/// Says what a query said on either stream.
fn said(pro: &Pro, arguments: &[&str]) -> String {
    let output = pro.run(&[&["query"], arguments].concat());
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

fn names(pro: &Pro) -> BTreeMap<String, String> {
    let names = pro.ask(&["privacy", "names"]);
    let names = names["names"].as_array().unwrap().iter();
    let text = |line: &Value, field: &str| line[field].as_str().unwrap().to_owned();
    let full = |line: &Value| {
        format!(
            "{}/{}/{}",
            text(line, "kind"),
            text(line, "namespace"),
            text(line, "name")
        )
    };
    names.map(|line| (text(line, "id"), full(line))).collect()
}

/// Every request is as it must be, and no name is in all of them together. How many there were.
fn assert_no_name_was_sent(pro: &Pro) -> usize {
    let requests = pro.server.requests();
    let mut everything = Vec::new();
    for request in &requests {
        let bytes = [request.head.as_slice(), &request.body].concat();
        if request.complete {
            let wrong = allowed::request(&bytes, KEY);
            assert_eq!(wrong, Ok(()), "{}", bytes.escape_ascii());
        }
        everything.extend(bytes);
    }
    assert_eq!(Marker::new(MARKER).find(&everything), None);
    assert_eq!(pro.server.violations(), [""; 0]);
    requests.len()
}

/// A user who works with it, by name.
fn work_with(pro: &Pro) {
    let list = pro.ask(&["insights", "list", "--namespace", SHOP]);
    let insights = list["insights"].as_array().unwrap();
    assert!(
        insights.len() >= 3 && list.to_string().contains(MARKER),
        "{list}"
    );
    for (number, insight) in insights.iter().enumerate() {
        let verdict = ["ack", "dismiss"][number % 2];
        pro.ask(&["insights", verdict, insight["id"].as_str().unwrap()]);
    }
    for resource in [
        "deploy/api",
        "sts/qzxjvkwy-db",
        "ds/running",
        "job/shop-qzxjvkwy",
        "cj/api",
        "pod/api-0",
    ] {
        pro.ask(&["analyze", resource, "-n", SHOP]);
    }
    pro.ask(&["analyze", &format!("ns/{SHOP}")]);
    // Newer than the last collection.
    let new = json!({"metadata": {"name": "qzxjvkwy-new", "labels": {"a": MARKER}}, "spec": {"replicas": 1}});
    pro.sim
        .insert(&format!("/apis/apps/v1/namespaces/{SHOP}/deployments"), new);
    pro.ask(&["analyze", "deploy/qzxjvkwy-new", "-n", SHOP]);
    // What there is not, or what is none, stays here.
    let sent = pro.requests(Call::Analyze).len();
    for wrong in [
        ["analyze", "deploy/qzxjvkwy-gone", "-n", SHOP].as_slice(),
        &["analyze", "deploy/api", "-n", "qzxjvkwy-gone"],
        &["analyze", "pod/running-0", "-n", SHOP],
        &["analyze", "qzxjvkwy/api", "-n", SHOP],
        &["insights", "ack", "qzxjvkwy"],
        &["insights", "get", "qzxjvkwy?since=1"],
        &[
            "insights",
            "list",
            "--category",
            MARKER,
            "--severity",
            MARKER,
        ],
        &["privacy", "preview", "--privacy-detail", MARKER],
    ] {
        said(pro, wrong);
    }
    assert_eq!(pro.requests(Call::Analyze).len(), sent);
    assert_eq!(pro.server.analyses().len(), 8);
    wait_for("all verdicts at the server", || {
        (pro.server.acknowledgements().len() == insights.len()).then_some(())
    });
}

fn wait_for_call(pro: &Pro, call: Call, number: usize) {
    wait_for(&format!("{number} {call:?}"), || {
        (pro.requests(call).len() >= number).then_some(())
    });
}

#[test]
fn no_name_is_sent_whatever_is_asked_and_whatever_goes_wrong() {
    let pro = shop();
    // Each call fails before it succeeds, each in another way.
    for (call, action) in [
        (Call::Register, misbehave::status(500, "no")),
        (
            Call::Register,
            misbehave::answer(200, &json!({"clusterId": 7})),
        ),
        (Call::Push, misbehave::status(503, "later")),
        (Call::Push, FaultAction::LoseAnswer),
        (Call::Insights, misbehave::oversized()),
        (Call::Insights, FaultAction::LoseAnswer),
        (Call::Quota, misbehave::limited(Some("1"))),
    ] {
        pro.server.script(call.fault(action).once());
    }
    let agent = pro.start_and_sync(&[]);
    let before = names(&pro);
    assert_eq!(
        before.values().filter(|name| name.contains(MARKER)).count(),
        21,
        "{before:?}"
    );

    // What anybody can look at beforehand is what is sent, byte for byte.
    let preview = pro.run(&["query", "privacy", "preview"]).stdout;
    let body = pro.requests(Call::Push).pop().unwrap().body;
    assert_eq!(
        preview.escape_ascii().to_string(),
        body.escape_ascii().to_string()
    );
    work_with(&pro);

    // The agent dies, and its database with it.
    wait_for("the state in the cluster", || {
        pro.config_map("kube9-operator-state")
    });
    drop(agent);
    for suffix in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(format!(
            "{}{suffix}",
            pro.db().display()
        )));
    }
    let pushes = pro.server.pushes();
    let agent = pro.start(&[]);
    wait_for("a push of the new agent", || {
        (pro.server.pushes() > pushes).then_some(())
    });
    let after = names(&pro);
    for (id, name) in &before {
        assert_eq!(after.get(id), Some(name), "{id}");
    }
    for call in Call::ALL {
        assert!(!pro.requests(call).is_empty(), "{call:?} was never made");
    }
    assert!(assert_no_name_was_sent(&pro) > 20);
    pro.assert_well_behaved(&agent);
}

/// Were the id of an insight shown with a name in it, then the name would be sent back with a verdict on it.
#[test]
fn the_id_of_an_insight_is_never_a_name() {
    let pro = shop();
    let like = |id: &str| {
        json!({
            "id": id, "severity": "critical", "category": id, "title": id, "description": id, "recommendation": id,
            "affectedResources": [id],
        })
    };
    pro.remove_key();
    let _agent = pro.start_and_collect(&[]);
    pro.server.add_insight(like("deployment_001"));
    pro.server.add_insight(like("namespace_001"));
    pro.set_key(KEY);
    wait_for_call(&pro, Call::Insights, 1);
    pro.wait_for_sync(None);
    for id in ["deployment_001", "namespace_001"] {
        let insight = pro.ask(&["insights", "get", id]);
        assert_eq!(insight["id"], id);
        assert_ne!(insight["title"], id, "it is about a name");
        pro.ask(&["insights", "ack", id]);
    }
    wait_for_call(&pro, Call::Acknowledge, 2);
    let bodies: Vec<Value> = pro
        .requests(Call::Acknowledge)
        .iter()
        .map(kube9_sim::Request::json)
        .collect();
    assert_eq!(bodies[0]["insightId"], "deployment_001");
    assert_eq!(bodies[1]["insightId"], "namespace_001");
    assert_eq!(pro.server.violations(), [""; 0]);
    let everything: Vec<u8> = pro
        .server
        .requests()
        .iter()
        .flat_map(|request| request.body.clone())
        .collect();
    assert_eq!(Marker::new(MARKER).find(&everything), None);
}

/// Whatever connects, and what it says before anybody answers.
fn listen() -> (u16, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let all = Arc::clone(&heard);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut greeting = Vec::new();
            let mut piece = [0; 4096];
            while !is_whole(&greeting) {
                match stream.read(&mut piece) {
                    Ok(length @ 1..) => greeting.extend_from_slice(&piece[..length]),
                    _ => break,
                }
            }
            all.lock().unwrap().push(greeting);
            drop(stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    (port, heard)
}

/// A record of TLS, or the head of a request.
fn is_whole(greeting: &[u8]) -> bool {
    match greeting {
        [22, _, _, high, low, rest @ ..] => {
            rest.len() >= usize::from(*high) << 8 | usize::from(*low)
        }
        _ => greeting.ends_with(b"\r\n\r\n"),
    }
}

fn first(heard: &Mutex<Vec<Vec<u8>>>) -> Vec<u8> {
    wait_for("somebody who connects", || {
        heard.lock().unwrap().first().cloned()
    })
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

fn with_secret(pro: &Pro) -> String {
    // Small letters are not the only ones.
    let key = format!("kdy_Live.{}{}-7", SECRET[..3].to_uppercase(), &SECRET[3..]);
    pro.server
        .change(|options| options.keys = vec![key.clone()]);
    pro.set_key(&key);
    key
}

/// What anybody on the way sees of a TLS connection: the host that the user set.
#[test]
fn who_listens_on_the_way_learns_the_host_of_the_server() {
    let pro = shop();
    with_secret(&pro);
    let (port, heard) = listen();
    pro.set("KUBE9_SERVER_URL", &format!("https://localhost:{port}"));
    let _agent = pro.start(&[]);
    let hello = first(&heard);
    // A handshake record with a ClientHello in it, which names the host.
    assert_eq!((hello[0], hello[5]), (22, 1), "{}", hello.escape_ascii());
    assert!(has(&hello, "localhost"), "{}", hello.escape_ascii());
    for marker in [MARKER, SECRET] {
        assert_eq!(Marker::new(marker).find(&hello), None);
    }
}

/// Who answers the agent's questions for addresses, and whoever is between, learns that same host.
#[test]
fn no_name_is_looked_up_but_that_of_the_server() {
    let found = ["/usr/bin/strace", "/usr/local/bin/strace", "/bin/strace"].map(Path::new);
    let Some(strace) = found.into_iter().find(|path| path.exists()) else {
        let allowed = std::env::var("KUBE9_ALLOW_NO_STRACE").is_ok_and(|value| value == "1");
        assert!(
            allowed,
            "strace is not installed; KUBE9_ALLOW_NO_STRACE=1 passes this test without it"
        );
        return;
    };
    let pro = shop();
    with_secret(&pro);
    pro.set("KUBE9_SERVER_URL", "https://kube9-server.example");
    let trace = pro.path("trace");
    let mut command = Command::new(strace);
    // Every byte that goes to the network, as hexadecimal digits.
    command
        .args([
            "-f",
            "-qq",
            "-xx",
            "-s",
            "70000",
            "-e",
            "trace=network",
            "-o",
        ])
        .arg(&trace);
    command
        .arg(BINARY)
        .args(["run", "--status-interval", "10s"])
        .env_clear();
    for (name, value) in pro.command(&[]).get_envs() {
        command.env(name, value.unwrap());
    }
    let mut agent = Agent::start(command);
    let question: Vec<String> = b"kube9-server"
        .iter()
        .map(|byte| format!("\\x{byte:02x}"))
        .collect();
    wait_for("a question for the address of the server", || {
        std::fs::read_to_string(&trace)
            .unwrap_or_default()
            .contains(&question.concat())
            .then_some(())
    });
    let children = format!("/proc/{0}/task/{0}/children", agent.id());
    let child = std::fs::read_to_string(children).unwrap();
    support::signal(child.trim().parse().unwrap(), "TERM");
    agent.wait();
    let trace = std::fs::read_to_string(trace).unwrap();
    for marker in [MARKER, SECRET] {
        assert_eq!(Marker::new(marker).find(trace.as_bytes()), None);
    }
    // The name servers, the API server, and nobody else.
    let server = pro.sim.addr().port().to_string();
    for (_, rest) in trace
        .match_indices("port=htons(")
        .map(|(at, part)| trace.split_at(at + part.len()))
    {
        let (port, _) = rest.split_once(')').unwrap();
        assert!(
            port == "53" || port == server || is_own(&trace, port),
            "port {port}"
        );
    }
}

/// Whether it is a port of the agent's own end of a connection.
fn is_own(trace: &str, port: &str) -> bool {
    let port = format!("port=htons({port})");
    let mut lines = trace.lines().filter(|line| line.contains(&port));
    lines.all(|line| line.contains("getsockname"))
}

/// A proxy sees where to, and neither the key nor a path.
#[test]
fn a_proxy_learns_the_host_of_the_server() {
    let pro = shop();
    let key = with_secret(&pro);
    let (port, heard) = listen();
    pro.set("KUBE9_SERVER_URL", "https://kube9-server.example");
    pro.set(
        "HTTPS_PROXY",
        &format!("http://user:wkgjhqzx@127.0.0.1:{port}"),
    );
    let agent = pro.start(&[]);
    let connect = String::from_utf8(first(&heard)).unwrap();
    let mut lines = connect.lines();
    assert_eq!(
        lines.next(),
        Some("CONNECT kube9-server.example:443 HTTP/1.1")
    );
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        let expected = match name.to_ascii_lowercase().as_str() {
            "host" => "kube9-server.example:443".to_owned(),
            "user-agent" => format!("kube9-operator/{}", env!("CARGO_PKG_VERSION")),
            "proxy-authorization" => "Basic dXNlcjp3a2dqaHF6eA==".to_owned(),
            "accept" => "*/*".to_owned(),
            "proxy-connection" => "Keep-Alive".to_owned(),
            _ => panic!("{line}"),
        };
        assert_eq!(value, expected, "{line}");
    }
    assert!(
        !connect.contains(&key) && !connect.contains("/api/"),
        "{connect}"
    );
    // Nor is the password of the proxy told to anybody.
    let status = pro.wait_for_status("tells of the server", |status| {
        status["error"]
            .as_str()
            .is_some_and(|error| error.starts_with("kube9-server"))
    });
    let told = [agent.log(), status.to_string(), said(&pro, &["status"])].concat();
    for marker in [SECRET, "wkgjhqzx"] {
        assert_eq!(Marker::new(marker).find(told.as_bytes()), None);
    }
}

/// All that anybody can read of an agent and its commands: the log, what queries say, ConfigMaps and every other
/// write to the cluster, and all files but that of the key.
fn readable(
    pro: &Pro,
    agents: &[&Agent],
    mut all: Vec<(String, Vec<u8>)>,
) -> Vec<(String, Vec<u8>)> {
    for agent in agents {
        all.push(("the log".to_owned(), agent.log().into_bytes()));
    }
    for question in [
        ["status"].as_slice(),
        &["status", "--format", "table"],
        &["dashboard"],
        &["insights", "list", "--state", "all"],
        &["insights", "list", "--format", "table"],
        &["analyses", "list"],
        &["quota"],
        &["privacy", "names"],
        &["privacy", "preview"],
    ] {
        all.push((
            format!("query {question:?}"),
            said(pro, question).into_bytes(),
        ));
    }
    for request in pro.sim.requests() {
        let what = format!("{} {}", request.method, request.url());
        all.push((what.clone(), what.into_bytes()));
        all.push((
            format!("the body of {}", request.url()),
            request.body.unwrap_or_default(),
        ));
    }
    let mut files = 0;
    for entry in std::fs::read_dir(pro.path("")).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("apiKey") || !path.is_file() {
            continue;
        }
        files += usize::from(path.to_string_lossy().contains(".db"));
        all.push((path.display().to_string(), std::fs::read(&path).unwrap()));
    }
    assert!(files > 0, "no database");
    for request in pro.server.requests() {
        let head = String::from_utf8_lossy(&request.head).into_owned();
        let lines = head
            .split("\r\n")
            .filter(|line| !line.to_ascii_lowercase().starts_with("authorization: "));
        let rest = lines.collect::<Vec<_>>().join("\r\n");
        all.push((
            format!("{} without its header", request.url()),
            [rest.into_bytes(), request.body].concat(),
        ));
    }
    all
}

#[test]
fn the_key_is_told_to_nobody_but_the_server() {
    let pro = shop();
    let key = with_secret(&pro);
    let everywhere = |id: &str| {
        json!({
            "id": id, "severity": key, "category": key, "title": format!("in {key}-{key}"),
            "description": format!("Bearer {key}"), "recommendation": key, "affectedResources": [key, "deployment_001"],
        })
    };
    // A server that tells it to everybody, in every place there is.
    pro.server
        .script(Call::Register.fault(misbehave::echo(500, &key)).once());
    pro.server.script(
        Call::Register
            .fault(misbehave::answer(200, &json!({"clusterId": key})))
            .once(),
    );
    pro.server
        .script(Call::Push.fault(misbehave::echo(400, &key)).once());
    pro.server
        .script(Call::Quota.fault(misbehave::echo(429, &key)).once());
    pro.server.script(
        Call::Insights
            .fault(misbehave::redirect(&format!("/{key}")))
            .once(),
    );
    pro.server.add_insight(everywhere("ins_1"));
    pro.server.add_insight(everywhere(&key));
    let agent = pro.start(&[]);
    wait_for_call(&pro, Call::Push, 1);
    wait_for_call(&pro, Call::Insights, 1);
    wait_for_call(&pro, Call::Quota, 2);
    drop(agent);
    // Everything is due again for an agent without a memory.
    for suffix in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(format!(
            "{}{suffix}",
            pro.db().display()
        )));
    }
    let agent = pro.start(&[]);
    let found = wait_for("the insight", || {
        let list: Value =
            serde_json::from_slice(&pro.run(&["query", "insights", "list"]).stdout).ok()?;
        (list["pagination"]["total"].as_u64()? > 0).then_some(list)
    });
    let mut all = vec![("the insights".to_owned(), found.to_string().into_bytes())];
    pro.server
        .script(Call::Acknowledge.fault(misbehave::echo(422, &key)).once());
    pro.server
        .script(Call::Analyze.fault(misbehave::echo(400, &key)).once());
    for command in [
        ["insights", "get", "ins_1"].as_slice(),
        &["insights", "ack", "ins_1"],
        &["insights", "ack", "ins_1", "--format", "table"],
        &["analyze", "deploy/api", "-n", SHOP],
        &["analyze", "sts/api", "-n", SHOP, "--format", "table"],
        &["analyze", "ds/api", "-n", SHOP, "--no-queue"],
    ] {
        all.push((format!("{command:?}"), said(&pro, command).into_bytes()));
    }
    wait_for_call(&pro, Call::Analyze, 3);
    wait_for("the state in the cluster", || {
        pro.config_map("kube9-operator-state")
    });
    // The last thing it does with this key is to be told that it is wrong.
    for call in [Call::Acknowledge, Call::Analyze] {
        pro.server.script(call.fault(misbehave::echo(401, &key)));
    }
    let refused = said(&pro, &["analyze", "cj/api", "-n", SHOP]);
    all.push(("a refused command".to_owned(), refused.into_bytes()));
    pro.wait_for_status("tells of the key", |status| {
        status["error"]
            .as_str()
            .is_some_and(|error| error.starts_with("API key invalid"))
    });
    let marker = Marker::new(SECRET);
    for (place, bytes) in readable(&pro, &[&agent], all) {
        assert_eq!(marker.find(&bytes), None, "the key is in {place}");
    }
    // It can be found where it may be.
    let sent: Vec<u8> = pro
        .server
        .requests()
        .into_iter()
        .flat_map(|request| request.head)
        .collect();
    assert!(marker.find(&sent).is_some());
    // Neither was it given to the process by any other way than its file.
    for what in ["cmdline", "environ"] {
        let bytes = std::fs::read(format!("/proc/{}/{what}", agent.id())).unwrap();
        assert_eq!(marker.find(&bytes), None, "the key is in {what}");
    }
}

/// Namespaces that are left out are not told of in any call, whoever asks and whenever.
#[test]
fn what_is_left_out_is_not_asked_about_either() {
    let pro = shop();
    drop(pro.start_and_sync(&[]));
    let known = names(&pro);
    let id = |name: &str| {
        known
            .iter()
            .find(|(_, known)| *known == name)
            .unwrap()
            .0
            .clone()
    };
    let (shop, api) = (id(&format!("namespace//{SHOP}")), id("namespace//api"));
    // Asked for before it was left out, and waiting.
    pro.server
        .script(Call::Analyze.fault(misbehave::status(503, "later")).once());
    let waiting = pro.ask(&["analyze", "deploy/api", "-n", SHOP]);
    assert_eq!(waiting["state"], "queued", "{waiting}");
    let asked = pro.requests(Call::Analyze);
    assert!(
        has(&asked[0].body, &shop),
        "{}",
        asked[0].body.escape_ascii()
    );
    pro.server.clear_requests();

    // A flag of the agent, which no command is given.
    let pushes = pro.server.pushes();
    let _agent = pro.start(&["--exclude-namespaces", SHOP]);
    wait_for("a push without it", || {
        (pro.server.pushes() > pushes).then_some(())
    });
    pro.ask(&["analyze", "sts/api", "-n", SHOP]);
    pro.ask(&["analyze", &format!("ns/{SHOP}")]);
    pro.ask(&["analyze", "deploy/api", "-n", "api"]);
    wait_for("all to be settled", || {
        let list = pro.ask(&["analyses", "list"]);
        let analyses = list["analyses"].as_array().unwrap().clone();
        let with = |state: &str| {
            analyses
                .iter()
                .filter(|analysis| analysis["state"] == state)
                .count()
        };
        ((with("failed"), with("queued")) == (3, 0)).then_some(())
    });
    let requests = pro.server.requests();
    assert!(
        requests.iter().any(|request| has(&request.body, &api)),
        "the other one is told of"
    );
    for request in requests {
        assert!(
            !has(&request.body, &shop),
            "{} {}",
            request.url(),
            request.body.escape_ascii()
        );
    }
    // The environment is for all, and then the command says so itself.
    pro.set("KUBE9_EXCLUDE_NAMESPACES", SHOP);
    let told = said(&pro, &["analyze", "sts/api", "-n", SHOP]);
    assert!(told.contains("left out"), "{told}");
}
