//! An API server to test against: the HTTP interface of Kubernetes 1.36, without a cluster behind it.
//!
//! It speaks HTTP/1.1 over TLS with a CA of its own, checks bearer tokens and RBAC rules, pages lists with continue
//! tokens that can expire, keeps resourceVersions, does server-side apply with field managers and conflicts, and
//! streams watches. What it answers was compared with recordings of a real server. Any request can be made to fail in
//! any of the ways of [`FaultAction`], down to the byte.
//!
//! It is a tool for tests, the demo and benchmarks; it stores nothing and schedules nothing.
//!
//! ```
//! use kube_sim::{Cluster, Fault, FaultAction, Options, Sim};
//!
//! # fn main() -> std::io::Result<()> {
//! let sim = Sim::start(Options { cluster: Cluster::Recorded, ..Options::default() })?;
//! std::fs::write(std::env::temp_dir().join("kubeconfig"), sim.kubeconfig())?;
//! sim.insert(
//!     "/api/v1/namespaces/kube9-system/configmaps",
//!     serde_json::json!({"metadata": {"name": "settings"}, "data": {"a": "b"}}),
//! );
//! assert!(sim.get("/api/v1/namespaces/kube9-system/configmaps/settings").is_some());
//!
//! // The next list of Pods breaks after 10,000 bytes.
//! sim.script(Fault::new(FaultAction::Cut { after_bytes: 10_000 }).path("/api/v1/pods").once());
//! assert!(sim.requests().is_empty());
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![deny(missing_docs)]
// A tool for tests: where it is wrong about itself it should stop at once, and loudly. What clients send never reaches
// these: it goes through `get` and `Option`.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod accept;
mod apply;
mod command;
mod configmap;
mod discovery;
mod events;
mod faults;
mod fields;
mod generate;
mod handle;
mod http;
mod json;
mod kinds;
mod list;
mod listener;
mod log;
mod metadata;
mod metrics;
mod options;
mod out;
mod patch;
mod rbac;
mod recorded;
mod request;
mod reviews;
mod selector;
mod server;
mod sim;
mod status;
mod store;
mod tls;
mod watch;
mod write;

/// The layer below the API: connections, TLS, faults and the log, for a simulator of another server.
pub mod wire {
    pub use crate::command::{Arguments, Failure, announce, run};
    pub use crate::faults::Script;
    pub use crate::http::{Conn, Head, HeadError, Unread, percent_decode, target};
    pub use crate::listener::{After, Host, Service};
    pub use crate::log::{Entry, Log, seconds};
    pub use crate::out::{Frame, Out, Reply, after, is_length, reason_phrase};
    pub use crate::tls::{Authority, Leaf};
}

pub use faults::{Fault, FaultAction, Matches};
pub use log::Request;
pub use metrics::Metrics;
pub use options::{Cluster, Generate, Options};
pub use rbac::{PolicyRule, Rbac};
pub use sim::Sim;
