//! How a simulator is set up.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::metrics::Metrics;
use crate::rbac::Rbac;

/// The settings of a simulator. `Options::default()` is a recorded cluster on a free port, with everything allowed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub addr: SocketAddr,
    /// What is in the cluster.
    pub cluster: Cluster,
    /// The bearer token of the user.
    pub token: String,
    /// The name of the user.
    pub user: String,
    /// What the user may do.
    pub rbac: Rbac,
    /// Whether there is a metrics server.
    pub metrics: Metrics,
    /// HTTPS with an own CA, or plain HTTP.
    pub tls: bool,
    /// How long continue tokens live; `None` is until they are expired by hand. A real server: 5 to 10 minutes.
    pub continue_ttl: Option<Duration>,
    /// `gitVersion` of `/version`.
    pub kubernetes_version: String,
    /// Bytes in a chunk of a long answer. A real server sends 2048; more makes a benchmark of a client cheaper.
    pub chunk_bytes: usize,
    /// How long an idle connection is kept after an answer.
    pub idle_timeout: Duration,
    /// How often a watch gets a bookmark.
    pub bookmark_interval: Duration,
    /// Keeps the CA here, so that the next start has the same.
    pub directory: Option<PathBuf>,
    /// Appends a JSON line for each request to this file.
    pub log: Option<PathBuf>,
}

/// What is in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// The namespaces of a new cluster and `kube9-system`.
    Empty,
    /// A small cluster as a real server answered it.
    Recorded,
    /// A cluster made up, of any size.
    Generated(Generate),
}

/// The measures of a generated cluster. The same measures give the same cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generate {
    /// Pods in all.
    pub pods: u32,
    /// Deployments, `StatefulSets`, `DaemonSets`, Jobs and `CronJobs` together.
    pub workloads: u32,
    /// Namespaces, `kube-system` and `kube9-system` not counted.
    pub namespaces: u32,
    /// About how long the JSON of a Pod is.
    pub pod_bytes: u32,
    /// Another seed gives other names and numbers.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            cluster: Cluster::Recorded,
            token: "kube-sim-token".to_owned(),
            user: "system:serviceaccount:kube9-system:kube9-operator".to_owned(),
            rbac: Rbac::AllowAll,
            metrics: Metrics::Absent,
            tls: true,
            continue_ttl: None,
            kubernetes_version: "v1.36.2".to_owned(),
            chunk_bytes: 2048,
            idle_timeout: Duration::from_secs(90),
            bookmark_interval: Duration::from_secs(60),
            directory: None,
            log: None,
        }
    }
}

impl Default for Generate {
    fn default() -> Self {
        Self {
            pods: 1000,
            workloads: 100,
            namespaces: 10,
            pod_bytes: 17 * 1024,
            seed: 1,
        }
    }
}
