//! The same agent against a real cluster, when `KUBE9_E2E_KUBECONFIG` names a kubeconfig; Kubernetes 1.25 and later.
//!
//! Needs the right to create and delete a namespace, to write ConfigMaps in it, and to list what the agent lists. It
//! works in a namespace of its own, with a name that occurs once, and deletes it at the end, whatever happened. That
//! this file works at all is proved without a cluster, against the simulator.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use kube_client_lite::{
    ApplyMeta, ApplyParams, Client, Error, ListParams, PartialObjectMetadata, Resource, RetryPolicy,
};
use kube_sim::{Cluster, Generate, Metrics, Options, Sim};
use serde_json::{Value, json};
use support::{Agent, BINARY, DASHBOARD, STATUS, labels, parsed, side_by_side, wait_for};
use tempfile::TempDir;

const NAMESPACES: Resource = Resource::new("", "v1", "namespaces");
const NODES: Resource = Resource::new("", "v1", "nodes");
const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps");

/// The kinds of the dashboard.
const COUNTED: [(&str, Resource); 7] = [
    ("deployments", Resource::new("apps", "v1", "deployments")),
    ("statefulsets", Resource::new("apps", "v1", "statefulsets")),
    ("daemonsets", Resource::new("apps", "v1", "daemonsets")),
    ("replicasets", Resource::new("apps", "v1", "replicasets")),
    ("jobs", Resource::new("batch", "v1", "jobs")),
    ("cronjobs", Resource::new("batch", "v1", "cronjobs")),
    ("pods", Resource::new("", "v1", "pods")),
];

#[test]
fn on_the_cluster_of_the_environment() {
    let Some(kubeconfig) = std::env::var_os("KUBE9_E2E_KUBECONFIG").filter(|path| !path.is_empty())
    else {
        eprintln!("skipped: KUBE9_E2E_KUBECONFIG is not set");
        return;
    };
    run_all(Path::new(&kubeconfig), false);
}

#[test]
fn the_same_on_the_simulator() {
    let generated = Generate {
        pods: 500,
        ..Generate::default()
    };
    let cases = [
        ("recorded", (Cluster::Recorded, Metrics::Absent)),
        (
            "generated",
            (Cluster::Generated(generated), Metrics::Present),
        ),
    ];
    side_by_side(&cases, |(cluster, metrics)| {
        let sim = Sim::start(Options {
            cluster: cluster.clone(),
            metrics: *metrics,
            ..Options::default()
        });
        let sim = sim.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        std::fs::write(&kubeconfig, sim.kubeconfig()).unwrap();
        run_all(&kubeconfig, true);
        let left = support::client(&kubeconfig)
            .api(NAMESPACES)
            .list_all::<Value>(&ListParams::default())
            .unwrap();
        let left = left.iter().filter(|namespace| {
            let name = namespace["metadata"]["name"].as_str().unwrap();
            name.starts_with("kube9-e2e-") && namespace["metadata"]["deletionTimestamp"].is_null()
        });
        assert_eq!(left.count(), 0, "the namespace is still there");
    });
}

/// A namespace of the test's own. Dropped, it goes.
struct Place {
    client: Client,
    namespace: String,
    directory: TempDir,
    kubeconfig: PathBuf,
}

impl Place {
    fn new(kubeconfig: &Path) -> Self {
        // A cluster that is shared may well say "later".
        let client = support::client(kubeconfig).with_retry(RetryPolicy::default());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let namespace = format!("kube9-e2e-{:x}-{}", now.as_nanos(), std::process::id());
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace, "labels": {"app.kubernetes.io/name": "kube9-e2e"}},
        });
        let place = Self {
            client,
            namespace,
            directory: tempfile::tempdir().unwrap(),
            kubeconfig: kubeconfig.to_owned(),
        };
        place
            .client
            .api(NAMESPACES)
            .create::<Value>("kube9-e2e", &object)
            .unwrap();
        place
    }

    /// The binary, with the environment as it is: a kubeconfig may need a plugin, and that its own settings.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("POD_NAMESPACE", &self.namespace);
        command.env("KUBE9_DB", self.directory.path().join("kube9.db"));
        command.env("KUBE9_API_KEY_FILE", self.directory.path().join("apiKey"));
        for name in [
            "KUBERNETES_SERVICE_HOST",
            "KUBE9_LOG",
            "KUBE9_LOG_FORMAT",
            "KUBE9_STATUS_INTERVAL",
            "KUBE9_SYNC_INTERVAL",
            "KUBE9_EXCLUDE_NAMESPACES",
        ] {
            command.env_remove(name);
        }
        command
    }

    fn start(&self) -> Agent {
        let namespaces = self.client.api(NAMESPACES);
        let cluster: PartialObjectMetadata = namespaces.get("kube-system").unwrap();
        let mut command = self.command(&["run", "--status-interval", "10s", "--sync-interval"]);
        command.arg(support::quiet_interval(&cluster.metadata.uid));
        Agent::start(command)
    }

    fn query(&self, arguments: &[&str]) -> Output {
        self.command(&[&["query"], arguments].concat())
            .output()
            .unwrap()
    }

    fn config_map(&self, name: &str) -> Option<Value> {
        match self
            .client
            .api(CONFIG_MAPS)
            .namespace(&self.namespace)
            .get(name)
        {
            Ok(object) => Some(object),
            Err(error) if error.is_not_found() => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn status(&self) -> Option<Value> {
        parsed(&self.config_map(STATUS)?, "status")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match self.client.api(NAMESPACES).delete(&self.namespace) {
            Ok(()) => {}
            Err(Error::Api(error)) if error.code == 404 => {}
            Err(error) => eprintln!("namespace {} is left over: {error}", self.namespace),
        }
    }
}

/// Nothing else changes a cluster that is `still`.
fn run_all(kubeconfig: &Path, still: bool) {
    let place = Place::new(kubeconfig);
    let mut agent = place.start();
    let answer = wait_for("the first collection", || {
        let answer: Value = serde_json::from_slice(&place.query(&["status"]).stdout).ok()?;
        (answer["collectionStats"]["totalSuccessCount"] == 1).then_some(answer)
    });
    assert_eq!(
        (&answer["health"], &answer["error"]),
        (&json!("healthy"), &Value::Null)
    );
    check_status(&place);
    check_dashboard(&place, still);
    check_inventory(&place, still);
    check_ownership(&place);
    check_queries(&place);

    assert_eq!(agent.stop().0.code(), Some(0));
    let status = place.status().unwrap();
    let error = status["error"].as_str().unwrap_or_default();
    // It has less than a second for its farewell, which a busy cluster may not grant.
    assert!(
        error.starts_with("shutting down")
            || agent.log().contains("the last status was not written"),
        "{status}\n{}",
        agent.log()
    );
    assert!(!agent.log().contains(" ERROR "), "{}", agent.log());

    // Deleted, it is made anew by the next start; the collection is not repeated.
    place
        .client
        .api(CONFIG_MAPS)
        .namespace(&place.namespace)
        .delete(STATUS)
        .unwrap();
    assert!(place.config_map(STATUS).is_none());
    let _agent = place.start();
    let status = wait_for("the status of the second agent", || place.status());
    assert_eq!(status["collectionStats"]["totalSuccessCount"], 1);
    assert_eq!(status["health"], "healthy");
}

fn check_status(place: &Place) {
    let status = wait_for("the status", || place.status());
    assert_eq!(
        (&status["mode"], &status["tier"]),
        (&json!("operated"), &json!("free"))
    );
    assert_eq!(status["namespace"], place.namespace);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(support::is_rfc3339_millis(
        status["lastUpdate"].as_str().unwrap()
    ));
    let config_map = place.config_map(STATUS).unwrap();
    assert_eq!(config_map["data"]["namespace"], place.namespace);
    assert!(config_map["data"]["status"].as_str().unwrap().len() <= 4096);
    assert_eq!(labels(&config_map)["app.kubernetes.io/component"], "status");
    let managers = config_map["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(
        (&managers[0]["manager"], &managers[0]["operation"]),
        (&json!("kube9-operator"), &json!("Apply"))
    );
}

/// A cluster at work changes between two counts.
fn slack(count: u64, still: bool) -> u64 {
    if still { 0 } else { 5 + count / 20 }
}

/// The dashboard, against counts of the test's own.
fn check_dashboard(place: &Place, still: bool) {
    let count = || {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, resource) in COUNTED {
            counts.insert(name, place.client.api(resource).count().unwrap());
        }
        counts
    };
    let dashboard = wait_for("the dashboard", || {
        parsed(&place.config_map(DASHBOARD)?, "dashboard")
    });
    let counts = count();
    for (name, count) in counts {
        let told = dashboard["workloads"][name].as_u64().unwrap();
        // The agent counted a moment ago.
        let slack = slack(count, still);
        assert!(
            told.abs_diff(count) <= slack,
            "{name}: the agent says {told}, the API server {count}"
        );
    }
    assert!(
        dashboard["namespaceCount"].as_u64().unwrap() >= 4,
        "{dashboard}"
    );
    let nodes = place.client.api(NODES).count().unwrap();
    assert_eq!(dashboard["nodes"]["totalNodes"].as_u64().unwrap(), nodes);
    assert!(dashboard["nodes"]["readyNodes"].as_u64().unwrap() <= nodes);
    assert!(
        dashboard["nodes"]["cpuCapacity"]
            .as_str()
            .unwrap()
            .parse::<f64>()
            .unwrap()
            > 0.0
    );
    assert!(
        dashboard["nodes"]["memoryCapacity"]
            .as_str()
            .unwrap()
            .ends_with(" Gi")
    );
    if let Some(usage) = dashboard["usage"].as_object() {
        assert!(usage["cpuPercent"].as_f64().unwrap() >= 0.0);
    }
}

/// The inventory adds up to what the dashboard says.
fn check_inventory(place: &Place, still: bool) {
    let database = rusqlite::Connection::open(place.directory.path().join("kube9.db")).unwrap();
    let mut select = database
        .prepare("SELECT name, figures FROM inventory_namespace")
        .unwrap();
    let rows = select
        .query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })
        .unwrap();
    let namespaces: BTreeMap<String, String> = rows.map(Result::unwrap).collect();
    assert!(namespaces.contains_key("kube-system") && namespaces.contains_key(&place.namespace));
    let pods: u64 = namespaces
        .values()
        .map(|figures| {
            serde_json::from_str::<Value>(figures).unwrap()["pods"]
                .as_u64()
                .unwrap()
        })
        .sum();
    let counted = place.client.api(COUNTED[6].1).count().unwrap();
    assert!(
        pods.abs_diff(counted) <= slack(counted, still),
        "{pods} in the inventory, {counted} in the cluster"
    );
}

/// What somebody else puts into the agent's ConfigMap stays; the agent's own fields come back with the next beat.
fn check_ownership(place: &Place) {
    let meta = ApplyMeta {
        name: STATUS,
        namespace: Some(&place.namespace),
        labels: BTreeMap::from([("theirs", "stays")]),
    };
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta,
        "data": {"status": "not a status", "theirs": "stays"},
    });
    let api = place.client.api(CONFIG_MAPS).namespace(&place.namespace);
    let refused = api
        .apply::<Value>(STATUS, &ApplyParams::new("someone"), &object)
        .unwrap_err();
    assert!(refused.is_conflict(), "{refused}");
    let applied: Value = api
        .apply(STATUS, &ApplyParams::new("someone").force(), &object)
        .unwrap();
    assert_eq!(applied["data"]["status"], "not a status");
    wait_for("the status to come back", || place.status());
    let config_map = place.config_map(STATUS).unwrap();
    assert_eq!(config_map["data"]["theirs"], "stays");
    assert_eq!(labels(&config_map)["theirs"], "stays");
}

fn check_queries(place: &Place) {
    for format in ["json", "yaml", "table"] {
        for question in ["status", "dashboard"] {
            let output = place.query(&[question, "--format", format]);
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(!output.stdout.is_empty() && output.stderr.is_empty());
        }
    }
    for health in [["health"].as_slice(), &["health", "--ready"], &["check"]] {
        let output = place.command(health).output().unwrap();
        assert!(
            output.status.success(),
            "{health:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
