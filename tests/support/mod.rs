//! What the end-to-end tests share: the built binary as a process, against an API server of its own.
//!
//! Every test has its own simulator, directory and agent, so that all run side by side. Nothing waits for a fixed
//! time: [`wait_for`] asks until it is so, and its deadline is for a machine that is very busy, not a measure of speed.
//! What goes wrong prints the agent's log.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use kube_client_lite::{Client, Config, KubeconfigOptions, RetryPolicy};
use kube_sim::{Options, Sim};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_kube9-operator");
pub(crate) const NAMESPACE: &str = "kube9-system";
pub(crate) const STATUS: &str = "kube9-operator-status";
pub(crate) const DASHBOARD: &str = "kube9-dashboard-data";

/// How long to wait for what must come; more than the longest the agent itself waits before it tries again.
const DEADLINE: Duration = Duration::from_secs(60);

/// A simulator, as the agent finds it: a directory with kubeconfig, database and API key.
pub(crate) struct Home {
    pub(crate) sim: Sim,
    directory: TempDir,
}

/// A running agent. It is killed when it is dropped.
pub(crate) struct Agent {
    child: Child,
    log: Log,
}

/// What a process says on a stream, as it says it.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

/// Asks until there is an answer. `what` completes the sentence "waited for".
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(since.elapsed() < DEADLINE, "waited for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs cases side by side that mostly wait, and names all that fail.
pub(crate) fn side_by_side<T: Sync>(cases: &[(&str, T)], run: impl Fn(&T) + Sync) {
    let run = &run;
    let failed: Vec<&str> = thread::scope(|scope| {
        let threads: Vec<_> = cases
            .iter()
            .map(|(name, case)| (*name, scope.spawn(move || run(case))))
            .collect();
        threads
            .into_iter()
            .filter_map(|(name, thread)| thread.join().err().map(|_| name))
            .collect()
    });
    assert!(failed.is_empty(), "failed: {failed:?}");
}

impl Home {
    /// The recorded cluster, everything allowed.
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let home = Self {
            sim: Sim::start(options).unwrap(),
            directory: tempfile::tempdir().unwrap(),
        };
        std::fs::write(home.path("kubeconfig"), home.sim.kubeconfig()).unwrap();
        home
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.path("kube9.db")
    }

    /// A kubeconfig that names files for CA and token, as a pod has them, in place of the one with both in it.
    pub(crate) fn use_files_for_credentials(&self) {
        std::fs::write(self.path("ca.crt"), self.sim.ca_pem()).unwrap();
        std::fs::write(self.path("token"), self.sim.token()).unwrap();
        let kubeconfig = format!(
            "{{current-context: c, contexts: [{{name: c, context: {{cluster: k, user: u}}}}], \
             clusters: [{{name: k, cluster: {{server: '{}', certificate-authority: ca.crt}}}}], \
             users: [{{name: u, user: {{tokenFile: token}}}}]}}",
            self.sim.url()
        );
        std::fs::write(self.path("kubeconfig"), kubeconfig).unwrap();
    }

    /// The binary with an environment that holds nothing of this machine's.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.directory.path())
            .env("KUBECONFIG", self.path("kubeconfig"))
            .env("KUBE9_API_KEY_FILE", self.path("apiKey"))
            .env("KUBE9_DB", self.db())
            .env("POD_NAMESPACE", NAMESPACE)
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The answer of a query, which must succeed.
    pub(crate) fn query(&self, question: &str) -> Value {
        let output = self.run(&["query", question]);
        let problem = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "query {question}: {problem}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Starts an agent that writes its status as often as it can be told to.
    pub(crate) fn start(&self, arguments: &[&str]) -> Agent {
        let mut command = self.command(&["run", "--status-interval", "10s"]);
        command.args(arguments);
        Agent::start(command)
    }

    /// Starts an agent and waits for its first collection.
    pub(crate) fn start_and_collect(&self, arguments: &[&str]) -> Agent {
        let agent = self.start(arguments);
        self.wait_for_collections(1);
        agent
    }

    /// Waits until the agent tells of so many good collections, and has published the dashboard of the last.
    pub(crate) fn wait_for_collections(&self, number: u64) {
        wait_for("the collection", || {
            let status = self.query_status()?;
            (status["collectionStats"]["totalSuccessCount"].as_u64()? >= number).then_some(())
        });
        let since = self.query_status().unwrap()["collectionStats"]["lastSuccessTime"].clone();
        wait_for("the dashboard of the collection", || {
            let dashboard = self.dashboard()?;
            (dashboard["lastUpdated"].as_str()? >= since.as_str()?).then_some(())
        });
    }

    fn query_status(&self) -> Option<Value> {
        serde_json::from_slice(&self.run(&["query", "status"]).stdout).ok()
    }

    /// A ConfigMap in the agent's namespace as it is stored.
    pub(crate) fn config_map(&self, name: &str) -> Option<Value> {
        self.sim.get(&config_map_path(name))
    }

    /// What clients see.
    pub(crate) fn status(&self) -> Option<Value> {
        parsed(&self.config_map(STATUS)?, "status")
    }

    pub(crate) fn dashboard(&self) -> Option<Value> {
        parsed(&self.config_map(DASHBOARD)?, "dashboard")
    }

    /// Waits for a status that clients see.
    pub(crate) fn wait_for_status(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let since = Instant::now();
        loop {
            let status = self.status();
            if let Some(status) = status.filter(|status| last.as_ref() != Some(status)) {
                if is_so(&status) {
                    return status;
                }
                last = Some(status);
            }
            let last = last.as_ref().map_or("none".to_owned(), Value::to_string);
            assert!(
                since.elapsed() < DEADLINE,
                "waited for a status that {what}; the last is {last}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn wait_for_health(&self, health: &str) -> Value {
        self.wait_for_status(&format!("is {health}"), |status| status["health"] == health)
    }

    /// When the status was written, by the requests the API server got, in order.
    pub(crate) fn status_writes(&self) -> Vec<std::time::SystemTime> {
        let path = config_map_path(STATUS);
        let requests = self.sim.requests();
        let writes = requests
            .iter()
            .filter(|request| request.method == "PATCH" && request.path == path);
        writes.map(|request| request.at).collect()
    }

    /// Waits for one more write of the status than there are, and for it to be stored.
    pub(crate) fn wait_for_beat(&self) -> Value {
        let before = self.status().map(|status| status["lastUpdate"].clone());
        self.wait_for_status("is new", |status| {
            Some(&status["lastUpdate"]) != before.as_ref()
        })
    }

    /// A client with all rights, to do what other programs do.
    pub(crate) fn client(&self) -> Client {
        client(&self.path("kubeconfig"))
    }
}

pub(crate) fn client(kubeconfig: &Path) -> Client {
    let options = KubeconfigOptions {
        path: Some(kubeconfig.to_owned()),
        context: None,
    };
    Client::new(Config::kubeconfig(&options).unwrap())
        .unwrap()
        .with_retry(RetryPolicy::NEVER)
}

pub(crate) fn config_map_path(name: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{name}")
}

/// The JSON document in a ConfigMap.
pub(crate) fn parsed(config_map: &Value, key: &str) -> Option<Value> {
    serde_json::from_str(config_map["data"][key].as_str()?).ok()
}

impl Agent {
    /// Starts a process and collects its stderr.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Log::default();
        log.follow(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// What it said so far.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    pub(crate) fn wait_for_log(&self, part: &str) {
        wait_for(&format!("{part:?} in the log"), || {
            self.log().contains(part).then_some(())
        });
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        signal(self.child.id(), "TERM");
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("the process to end", || self.child.try_wait().unwrap())
    }

    /// SIGTERM, and how it ended and after how long.
    pub(crate) fn stop(&mut self) -> (ExitStatus, Duration) {
        let since = Instant::now();
        self.terminate();
        let status = self.wait();
        (status, since.elapsed())
    }

    /// What it wrote to stdout, once it has ended.
    pub(crate) fn stdout(&mut self) -> String {
        let mut text = String::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            eprintln!("--- the agent's log\n{}---", self.log.text());
        }
    }
}

impl Log {
    pub(crate) fn follow(&self, mut stream: impl std::io::Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                log.0.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

pub(crate) fn signal(process: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .status();
    assert!(
        status.unwrap().success(),
        "no process {process} to send SIG{name} to"
    );
}

pub(crate) fn is_rfc3339_millis(text: &str) -> bool {
    text.len() == 24 && text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok()
}

pub(crate) fn labels(object: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(object["metadata"]["labels"].clone()).unwrap_or_default()
}

/// What was counted in the recorded cluster by `tests/data/count_recorded.py`, which shares nothing with the agent.
pub(crate) fn recorded_counts(metrics: bool) -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/recorded-counts.json"
    );
    let counts: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    counts[if metrics {
        "withMetrics"
    } else {
        "withoutMetrics"
    }]
    .clone()
}
