//! Reads a whole cluster, one list at a time.

use std::collections::BTreeSet;
use std::fmt;

use kube_client_lite::{Client, Error, ListParams, Resource, RetryPolicy};

use super::fold::{Counted, Fold};
use super::inventory::{Inventory, KubernetesVersion, WorkloadKind};
use super::listing::{
    CronJobs, Jobs, Kind, Listing, Names, Namespaces, NodeUsage, Nodes, PodUsage, Pods, Workloads,
};

/// A request that counts a namespace costs about what listing this many objects' metadata does: 2.4 kB
/// of `ReplicaSet` metadata each, against one object, the request with its token, and both heads.
const OBJECTS_PER_COUNT: u64 = 2;

/// What to read.
#[derive(Clone, Debug, Default)]
pub(crate) struct CollectOptions {
    /// Namespaces that are left out entirely, of all sums as well.
    pub(crate) exclude: BTreeSet<String>,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) inventory: Inventory,
    /// Kinds that are missing from the figures.
    pub(crate) problems: Vec<Problem>,
}

/// A kind that may not be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) resource: Resource,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not allowed to list {}", self.resource)
    }
}

/// Reads the cluster.
///
/// A kind that is forbidden is left out and reported; its figures are 0, and where workloads are missing
/// their pods count as bare. Usage is left out where metrics.k8s.io does not answer.
///
/// # Errors
/// Any other failure of a list ends it: half a cluster would look like one that shrank.
pub(crate) fn collect(client: &Client, options: &CollectOptions) -> Result<Collected, Error> {
    let version = match client.version() {
        Ok(version) => KubernetesVersion::parse(&version.git_version),
        // Some clusters hide their version, which is no reason to count nothing.
        Err(error) if error.is_forbidden() => None,
        Err(error) => return Err(error),
    };
    let whole = ListParams::default();
    let metadata = whole.clone().metadata_only();
    let mut collector = Collector::new(client, options.exclude.clone());
    collector.list(Nodes, &whole)?;
    let complete = collector.list(Namespaces, &metadata)?;
    collector.list(Workloads(WorkloadKind::Deployment), &whole)?;
    collector.list(Workloads(WorkloadKind::StatefulSet), &whole)?;
    collector.list(Workloads(WorkloadKind::DaemonSet), &whole)?;
    collector.list(CronJobs, &whole)?;
    collector.list(Jobs, &whole)?;
    for kind in [
        Counted::ReplicaSets,
        Counted::Services,
        Counted::VolumeClaims,
    ] {
        collector.count_namespaced(kind, complete)?;
    }
    collector.list(Pods, &whole)?;
    collector.measure(NodeUsage)?;
    collector.measure(PodUsage)?;
    let Collector { fold, problems, .. } = collector;
    Ok(Collected {
        inventory: fold.finish(version),
        problems,
    })
}

/// A collection under way.
pub(crate) struct Collector<'a> {
    client: &'a Client,
    pub(crate) fold: Fold,
    pub(crate) problems: Vec<Problem>,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(client: &'a Client, exclude: BTreeSet<String>) -> Self {
        Self {
            client,
            fold: Fold::new(exclude),
            problems: Vec::new(),
        }
    }

    /// Lists one kind; false if that is forbidden.
    pub(crate) fn list<K: Kind>(&mut self, kind: K, params: &ListParams) -> Result<bool, Error> {
        let resource = kind.resource();
        let mut listing = Listing::new(kind, &mut self.fold);
        match self.client.api(resource).list(params, &mut listing) {
            Ok(_) => {
                listing.finish();
                Ok(true)
            }
            Err(error) if error.is_forbidden() => {
                listing.forget();
                self.forbidden(resource, &error);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Lists usage, of which there may be none. metrics.k8s.io has no pages: one answer holds the whole
    /// cluster, and is read as a stream.
    pub(crate) fn measure<K: Kind>(&mut self, kind: K) -> Result<(), Error> {
        let resource = kind.resource();
        let mut listing = Listing::new(kind, &mut self.fold);
        // Usage is not worth waiting for: an aggregated API that is down says 503 for hours.
        let client = self.client.with_retry(RetryPolicy::NEVER);
        let params = ListParams::default().streaming();
        let Err(error) = client.api(resource).list(&params, &mut listing) else {
            listing.finish();
            return Ok(());
        };
        listing.forget();
        match &error {
            Error::Shutdown => return Err(error),
            _ if error.is_forbidden() => self.forbidden(resource, &error),
            _ if error.is_not_found() => log::debug!("no usage: {resource} is not served"),
            _ => log::info!("no usage: {error}"),
        }
        Ok(())
    }

    /// Counts all objects of a kind, in all namespaces; `None` if that is forbidden.
    pub(crate) fn total(&mut self, resource: Resource) -> Result<Option<u64>, Error> {
        match self.client.api(resource).count() {
            Ok(total) => Ok(Some(total)),
            Err(error) if error.is_forbidden() => {
                self.forbidden(resource, &error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Counts a kind namespace by namespace: by a request each, or by one list of all names, whichever is
    /// the fewer bytes. Old `ReplicaSet`s are many (ten a Deployment), claims in most namespaces few.
    ///
    /// Asking each namespace misses those not in the list of namespaces, so `complete` says whether that
    /// list was allowed.
    fn count_namespaced(&mut self, kind: Counted, complete: bool) -> Result<(), Error> {
        let resource = kind.resource();
        let Some(total) = self.total(resource)? else {
            return Ok(());
        };
        let asking_each = OBJECTS_PER_COUNT.saturating_mul(self.fold.namespaces() as u64);
        if !complete || total <= asking_each {
            let metadata = ListParams::default().metadata_only();
            return self.list(Names(kind), &metadata).map(drop);
        }
        for name in self.fold.namespace_names() {
            let number = self.client.api(resource).namespace(&name).count()?;
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            if self.fold.add_counted(kind, &name, number).is_err() {
                log::debug!("{resource}: a namespace without a proper name was not counted");
            }
        }
        Ok(())
    }

    fn forbidden(&mut self, resource: Resource, error: &Error) {
        let problem = Problem { resource };
        // Every refresh meets it again; the worker tells of it when it is news.
        log::debug!("{problem}: {error}");
        self.problems.push(problem);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use kube_client_lite::{Config, KubeconfigOptions};

    use super::super::dashboard::dashboard;
    use super::super::nodes::Usage;
    use super::*;

    /// An API server that gives fixed answers, and empty lists for the rest.
    struct Server {
        client: Client,
        requests: Arc<Mutex<Vec<String>>>,
    }

    /// The start of a path and query, and its status and body.
    type Answer = (&'static str, u16, &'static str);

    impl Server {
        fn start(answers: &'static [Answer]) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let requests = Arc::new(Mutex::new(Vec::new()));
            let log = Arc::clone(&requests);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    serve(&stream.unwrap(), answers, &log);
                }
            });
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("config");
            let kubeconfig = format!(
                "{{current-context: c, contexts: [{{name: c, context: {{cluster: k}}}}], \
                 clusters: [{{name: k, cluster: {{server: 'http://{address}'}}}}]}}"
            );
            std::fs::write(&path, kubeconfig).unwrap();
            let options = KubeconfigOptions {
                path: Some(path),
                context: None,
            };
            let client = Client::new(Config::kubeconfig(&options).unwrap()).unwrap();
            Self {
                client: client.with_retry(RetryPolicy::NEVER),
                requests,
            }
        }

        fn collect(&self) -> Result<Collected, Error> {
            collect(&self.client, &CollectOptions::default())
        }

        fn asked_for(&self, path: &str) -> bool {
            self.requests
                .lock()
                .unwrap()
                .iter()
                .any(|request| request.starts_with(path))
        }
    }

    fn serve(stream: &TcpStream, answers: &[Answer], log: &Mutex<Vec<String>>) {
        let mut lines = BufReader::new(stream).lines();
        let request = lines.next().unwrap().unwrap();
        while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
        let path = request.split(' ').nth(1).unwrap().to_owned();
        let answer = answers.iter().find(|(start, ..)| path.starts_with(start));
        let &(_, status, body) = answer.unwrap_or(&("", 200, r#"{"metadata":{},"items":[]}"#));
        log.lock().unwrap().push(path);
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        let mut stream = stream;
        stream.write_all((head + body).as_bytes()).unwrap();
    }

    const VERSION: Answer = ("/version", 200, r#"{"gitVersion":"v1.36.2+vendor"}"#);
    const NODES: Answer = (
        "/api/v1/nodes",
        200,
        r#"{"items":[{"metadata":{"name":"n"},"status":{"capacity":{"cpu":"2","memory":"4Gi"},
            "allocatable":{"cpu":"2","memory":"4Gi"},"conditions":[{"type":"Ready","status":"True"}]}}]}"#,
    );
    const NAMESPACES: Answer = (
        "/api/v1/namespaces?",
        200,
        r#"{"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]}"#,
    );
    const NODE_METRICS: Answer = (
        "/apis/metrics.k8s.io/v1beta1/nodes",
        200,
        r#"{"items":[{"metadata":{"name":"n"},"usage":{"cpu":"500m","memory":"1Gi"}}]}"#,
    );

    #[test]
    fn a_forbidden_kind_is_left_out_and_reported() {
        let server = Server::start(&[
            ("/version", 403, "{}"),
            NODES,
            NAMESPACES,
            (
                "/api/v1/pods",
                403,
                r#"{"kind":"Status","code":403,"message":"pods is forbidden"}"#,
            ),
            ("/apis/apps/v1/replicasets", 403, "{}"),
            ("/apis/metrics.k8s.io/", 404, "404 page not found"),
        ]);
        let Collected {
            inventory,
            problems,
        } = server.collect().unwrap();
        let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            problems,
            [
                "not allowed to list replicasets.apps",
                "not allowed to list pods"
            ]
        );
        let cluster = &inventory.cluster;
        assert_eq!((cluster.nodes, cluster.nodes_ready), (1, 1));
        assert_eq!(cluster.usage, Usage::default());
        assert_eq!(cluster.kubernetes_version, None);
        assert_eq!(inventory.namespaces().len(), 2);
    }

    #[test]
    fn metrics_that_do_not_answer_are_no_problem() {
        const CUT: &str = r#"{"items":[{"metadata":{"name":"n"},"usage":{"cpu":"1"}},"#;
        for answers in [
            &[
                VERSION,
                NODES,
                ("/apis/metrics.k8s.io/", 503, "service unavailable"),
            ],
            &[VERSION, NODES, ("/apis/metrics.k8s.io/", 200, CUT)],
            &[VERSION, NODES, ("/apis/metrics.k8s.io/", 200, "<html>")],
        ] {
            let Collected {
                inventory,
                problems,
            } = Server::start(answers).collect().unwrap();
            assert_eq!(problems, []);
            assert_eq!(inventory.cluster.usage, Usage::default());
        }
    }

    #[test]
    fn forbidden_metrics_are_a_problem() {
        let server = Server::start(&[VERSION, NODE_METRICS, ("/apis/metrics.k8s.io/", 403, "{}")]);
        let problems = server.collect().unwrap().problems;
        let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert_eq!(problems, ["not allowed to list pods.metrics.k8s.io"]);
    }

    #[test]
    fn any_other_failure_ends_the_collection() {
        let server = Server::start(&[VERSION, ("/apis/batch/v1/jobs", 500, "{}")]);
        assert_eq!(server.collect().unwrap_err().status_code(), Some(500));
        assert!(!server.asked_for("/api/v1/pods"));
    }

    #[test]
    fn many_objects_are_counted_by_namespace_and_few_are_listed() {
        const ONE_OF_FIVE: &str =
            r#"{"metadata":{"remainingItemCount":4,"continue":"x"},"items":[{}]}"#;
        const ONE_OF_FOUR: &str =
            r#"{"metadata":{"remainingItemCount":3,"continue":"x"},"items":[{}]}"#;
        const TWO: &str = r#"{"metadata":{},"items":[{"metadata":{"name":"s","namespace":"a"}},
            {"metadata":{"name":"s","namespace":"c"}}]}"#;
        let server = Server::start(&[
            VERSION,
            NAMESPACES,
            ("/apis/apps/v1/replicasets", 200, ONE_OF_FIVE),
            ("/apis/apps/v1/namespaces/a/replicasets", 200, ONE_OF_FOUR),
            (
                "/apis/apps/v1/namespaces/b/replicasets",
                200,
                r#"{"items":[{}]}"#,
            ),
            ("/api/v1/services", 200, TWO),
        ]);
        let inventory = server.collect().unwrap().inventory;
        let version = inventory
            .cluster
            .kubernetes_version
            .map(|version| version.to_string());
        assert_eq!(version.as_deref(), Some("1.36.2"));
        let counts: Vec<_> = inventory
            .namespaces()
            .map(|(name, a)| (name, a.replica_sets, a.services))
            .collect();
        assert_eq!(counts, [("a", 4, 1), ("b", 1, 0), ("c", 0, 1)]);
        assert!(!server.asked_for("/api/v1/namespaces/a/services"));
    }

    #[test]
    fn the_dashboard_takes_few_and_small_requests() {
        const ONE_OF_FIVE: &str =
            r#"{"metadata":{"remainingItemCount":4,"continue":"x"},"items":[{}]}"#;
        let server = Server::start(&[
            NODES,
            NODE_METRICS,
            ("/api/v1/pods", 200, ONE_OF_FIVE),
            ("/apis/batch/v1/jobs", 403, "{}"),
        ]);
        let (figures, problems) = dashboard(&server.client).unwrap();
        let json = serde_json::to_value(&figures).unwrap();
        let expected = serde_json::json!({
            "namespaceCount": 0,
            "workloads": {"deployments": 0, "statefulsets": 0, "daemonsets": 0, "replicasets": 0,
                "jobs": 0, "cronjobs": 0, "pods": 5},
            "nodes": {"totalNodes": 1, "readyNodes": 1, "cpuCapacity": "2", "memoryCapacity": "4.0 Gi"},
            "usage": {"cpuPercent": 25.0, "memoryPercent": 25.0},
        });
        assert_eq!(json, expected);
        assert_eq!(problems.len(), 1);
        let requests = server.requests.lock().unwrap();
        assert_eq!(requests.len(), 10);
        assert_eq!(
            requests
                .iter()
                .filter(|request| request.contains("limit=1"))
                .count(),
            8
        );
    }
}
