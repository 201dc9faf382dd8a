//! What the end-to-end tests share: the built binary as a process, against an API server of its own.
//!
//! Every test has its own simulator, directory and agent, so that all run side by side. Nothing waits for a fixed
//! time: [`wait_for`] asks until it is so, and its deadline is for a machine that is very busy, not a measure of speed.
//! What must be fast is tried more than once ([`in_time`]). What goes wrong prints the agent's log.
//!
//! A status that clients see now says nothing about what comes next: the agent tells of a problem when it meets it, and
//! may meet another first. So tests wait for the very thing they are about, and read what passes quickly from the
//! requests ([`Home::statuses`]).

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use kube_client_lite::{Client, Config, KubeconfigOptions, RetryPolicy};
use kube_sim::{Fault, FaultAction, Options, Sim};
use kube9_sim::Server;
use ring::digest;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_kube9-operator");
pub(crate) const NAMESPACE: &str = "kube9-system";
pub(crate) const STATUS: &str = "kube9-operator-status";
pub(crate) const DASHBOARD: &str = "kube9-dashboard-data";
pub(crate) const RECOMMENDATIONS: &str = "kube9-ai-recommendations";

/// The API key of [`Pro`]; in no form may it be seen anywhere.
pub(crate) const KEY: &str = "kdy_live.Zt7qX2wLmR5vB9nK4hJ8";

/// How long to wait for what must come; more than the longest the agent itself waits before it tries again, twice over.
const DEADLINE: Duration = Duration::from_secs(180);

/// How often something may be too late.
const TRIES: usize = 10;

/// A simulator, as the agent finds it: a directory with kubeconfig, database and API key.
pub(crate) struct Home {
    pub(crate) sim: Sim,
    directory: TempDir,
    environment: Mutex<BTreeMap<String, String>>,
}

/// A home with a kube9-server, which the agent and the commands find by their environment, and with the key to it.
pub(crate) struct Pro {
    pub(crate) server: Server,
    home: Home,
}

/// A running agent. It is killed when it is dropped.
pub(crate) struct Agent {
    child: Child,
    log: Log,
}

/// What a process says on a stream, as it says it.
#[derive(Clone, Default)]
pub(crate) struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    /// The streams that have not ended.
    open: Arc<AtomicUsize>,
}

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

/// For what must be over within a second or less: a machine that is busy may need another try. What is late each time
/// is late.
pub(crate) fn in_time(attempt: impl Fn() -> Result<(), String>) {
    let mut late = Vec::new();
    while let Err(how) = attempt() {
        late.push(how);
        assert!(late.len() < TRIES, "late each time:\n{}", late.join("\n"));
    }
}

/// An interval of which the next turn is more than half an hour away.
///
/// A cluster has its place in every interval (see `agent::schedule`), and that of the simulator's cluster is always the
/// same: without this, whatever runs when the clock comes to that minute meets a collection that it did not expect.
pub(crate) fn quiet_interval(cluster: &str) -> &'static str {
    let hash = digest::digest(&digest::SHA256, cluster.as_bytes());
    let number = hash.as_ref().iter().take(7);
    let number = number.fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap().as_millis();
    let left = |hours: u128| {
        let interval = hours * 3_600_000;
        interval - (now + interval - number % interval) % interval
    };
    let quiet = [("24h", 24), ("23h", 23), ("22h", 22)];
    let quiet = quiet
        .into_iter()
        .find(|(_, hours)| left(*hours) > 1_800_000);
    quiet.map_or("21h", |(name, _)| name)
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
            environment: Mutex::default(),
        };
        std::fs::write(home.path("kubeconfig"), home.sim.kubeconfig()).unwrap();
        home
    }

    /// By which the agent knows the cluster.
    fn cluster(&self) -> String {
        let namespace = self.sim.get("/api/v1/namespaces/kube-system");
        let uid = namespace.map(|namespace| namespace["metadata"]["uid"].clone());
        uid.and_then(|uid| uid.as_str().map(str::to_owned))
            .unwrap_or_default()
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
            .env("KUBE9_SYNC_INTERVAL", quiet_interval(&self.cluster()))
            .env("POD_NAMESPACE", NAMESPACE)
            // Nobody is there: with a key the agent must not look for a server out in the world.
            .env("KUBE9_SERVER_URL", "https://127.0.0.1:9")
            .envs(&*self.environment.lock().unwrap())
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// Gives all commands from now on a variable, the agent among them.
    pub(crate) fn set(&self, variable: &str, value: &str) {
        let mut environment = self.environment.lock().unwrap();
        environment.insert(variable.to_owned(), value.to_owned());
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
        let since = wait_for("the time of the collection", || {
            Some(self.query_status()?["collectionStats"]["lastSuccessTime"].clone())
        });
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

    /// The statuses that the API server was sent and when, in order, also those that nobody had the time to see.
    pub(crate) fn statuses(&self) -> Vec<(SystemTime, Value)> {
        let path = config_map_path(STATUS);
        let mut requests = self.sim.requests();
        requests.retain(|request| request.method == "PATCH" && request.path == path);
        let status = |body: &[u8]| parsed(&serde_json::from_slice(body).ok()?, "status");
        let statuses = requests
            .iter()
            .filter_map(|request| Some((request.at, status(request.body.as_deref()?)?)));
        statuses.collect()
    }

    /// A status that cannot be written once, and then can: the agent takes that for the end of an outage and tries all
    /// that failed again within seconds, where its backoff would take up to half a minute.
    pub(crate) fn nudge(&self) {
        self.sim.script(
            Fault::new(FaultAction::status(503, "ServiceUnavailable", "x"))
                .path(&config_map_path(STATUS))
                .once(),
        );
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

impl Pro {
    /// The recorded cluster, a server that knows the key, and an agent that waits fifty times shorter than it would.
    pub(crate) fn new() -> Self {
        Self::with(Options::default(), kube9_sim::Options::default())
    }

    /// The same with other settings; but the one key that is accepted is [`KEY`].
    pub(crate) fn with(cluster: Options, server: kube9_sim::Options) -> Self {
        let home = Home::with(cluster);
        let keys = vec![KEY.to_owned()];
        let server = Server::start(kube9_sim::Options { keys, ..server }).unwrap();
        let authority = home.path("server-ca.crt");
        std::fs::write(&authority, server.ca_pem()).unwrap();
        home.set("KUBE9_SERVER_URL", &server.url());
        home.set("KUBE9_SERVER_CA_FILE", authority.to_str().unwrap());
        home.set("KUBE9_LOG", "debug");
        home.set("KUBE9_TEST_PACE", "50");
        let pro = Self { server, home };
        pro.set_key(KEY);
        pro
    }

    /// Puts another text in place of the key, at once.
    pub(crate) fn set_key(&self, key: &str) {
        std::fs::write(self.path("apiKey.new"), key).unwrap();
        std::fs::rename(self.path("apiKey.new"), self.path("apiKey")).unwrap();
    }

    pub(crate) fn remove_key(&self) {
        std::fs::remove_file(self.path("apiKey")).unwrap();
    }

    /// Starts an agent and waits for its first sync.
    pub(crate) fn start_and_sync(&self, arguments: &[&str]) -> Agent {
        let agent = self.start(arguments);
        self.wait_for_health("healthy");
        self.wait_for_sync(None);
        agent
    }

    /// Waits for a good sync that is not the one of then. When it was.
    pub(crate) fn wait_for_sync(&self, then: Option<&str>) -> String {
        wait_for("a sync", || {
            let status = self.query_status()?;
            let last = status["sync"]["lastSuccess"].as_str()?;
            (Some(last) != then).then(|| last.to_owned())
        })
    }

    /// The requests of one call so far.
    pub(crate) fn requests(&self, call: kube9_sim::Call) -> Vec<kube9_sim::Request> {
        let mut requests = self.server.requests();
        requests.retain(|request| request.call == Some(call));
        requests
    }

    /// Runs a query to its end; what it says must be JSON.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[&["query"], arguments].concat());
        let problem = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "query {arguments:?}: {problem}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Everything that could show the key does not: what the agent said and wrote, and what it sent, but for the
    /// header that is for it. And nothing that was sent breaks the contract.
    pub(crate) fn assert_well_behaved(&self, agent: &Agent) {
        let mut places = vec![("the log".to_owned(), agent.log().into_bytes())];
        for name in ["kube9.db", "kube9.db-wal", "kube9.db-shm"] {
            places.push((
                name.to_owned(),
                std::fs::read(self.path(name)).unwrap_or_default(),
            ));
        }
        for request in self.sim.requests() {
            places.push((
                format!("{} {}", request.method, request.path),
                request.body.unwrap_or_default(),
            ));
        }
        for request in self.server.requests() {
            let head = String::from_utf8_lossy(&request.head);
            let lines = head.split("\r\n");
            let rest: Vec<&str> = lines
                .filter(|line| !line.to_ascii_lowercase().starts_with("authorization:"))
                .collect();
            let bytes = [rest.join("\r\n").into_bytes(), request.body.clone()].concat();
            places.push((format!("{} {}", request.method, request.url()), bytes));
        }
        let forms = disguises(KEY);
        for (place, bytes) in places {
            let text = String::from_utf8_lossy(&bytes);
            for form in &forms {
                assert!(!text.contains(form), "the key is in {place}, as {form}");
            }
        }
        assert_eq!(self.server.violations(), [""; 0]);
    }
}

impl Deref for Pro {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
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

    /// Waits for the end, and for its last word.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = self.wait_for_exit();
        wait_for("the end of the log", || self.log.has_ended().then_some(()));
        status
    }

    fn wait_for_exit(&mut self) -> ExitStatus {
        wait_for("the process to end", || self.child.try_wait().unwrap())
    }

    /// SIGTERM, and how it ended and after how long.
    pub(crate) fn stop(&mut self) -> (ExitStatus, Duration) {
        self.terminate();
        // Sending it takes a process, which is not the agent's time.
        let since = Instant::now();
        self.wait_for_exit();
        let took = since.elapsed();
        (self.wait(), took)
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
        log.open.fetch_add(1, Ordering::SeqCst);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                let mut text = log.text.lock().unwrap();
                text.extend_from_slice(&buffer[..length]);
            }
            log.open.fetch_sub(1, Ordering::SeqCst);
        });
    }

    /// Whether there is nothing more to come.
    pub(crate) fn has_ended(&self) -> bool {
        self.open.load(Ordering::SeqCst) == 0
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
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

/// The forms in which a text can hide in bytes.
pub(crate) fn disguises(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let (hex, percent) = (hex.concat(), format!("%{}", hex.join("%")));
    let reversed: String = text.chars().rev().collect();
    let mut forms = vec![text.to_owned(), text.to_uppercase(), hex, percent, reversed];
    // Base64 of a text depends on where in a group of three it begins; its ends on its neighbours.
    for offset in 0..3 {
        let padded = [vec![b'.'; offset], bytes.to_vec()].concat();
        let encoded = base64(&padded);
        let whole = encoded.len() - 4;
        forms.push(encoded[4..whole].to_owned());
    }
    forms
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = (0..3).fold(0_usize, |number, at| {
            number << 8 | usize::from(*group.get(at).unwrap_or(&0))
        });
        for shift in [18, 12, 6, 0] {
            text.push(char::from(DIGITS[number >> shift & 63]));
        }
    }
    text
}
