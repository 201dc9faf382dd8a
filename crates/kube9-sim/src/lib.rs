//! A kube9-server to test against: its six calls over real HTTPS, without anything behind them.
//!
//! It keeps what a server keeps (which clusters are registered, what was pushed, insights, analyses, acknowledgements,
//! the quota), takes a repeated request for the one it repeats, and checks every byte it is sent against the contract:
//! what does not fit is in [`Server::violations`], which a test expects to be empty. [`Server::requests`] has every
//! request as it came, so that a test can look for what must not be in it. Any call can be made to fail in any of the
//! ways of [`FaultAction`], down to the byte; [`misbehave`] has those of a server like this one, and [`Tls`] those of its
//! certificate.
//!
//! The allow-list of a metrics body stands in `shape.rs`, written down from the contract and not from the agent's
//! code: a field the agent gains is a violation here until somebody lists it.
//!
//! It is a tool for tests, the demo and benchmarks. It listens on a free port, runs on threads of its own and stops
//! when it is dropped. `kube9-sim serve` is the same as a process.
//!
//! ```
//! use kube9_sim::{Call, Options, Server, misbehave};
//!
//! # fn main() -> std::io::Result<()> {
//! let server = Server::start(Options::default())?;
//! std::fs::write(std::env::temp_dir().join("kube9-ca.crt"), server.ca_pem())?;
//! server.add_insight(serde_json::json!({
//!     "id": "ins_1", "severity": "warning", "category": "security", "title": "deployment_002 runs as root",
//!     "description": "", "recommendation": "", "affectedResources": ["deployment_002"],
//! }));
//!
//! // The next push is refused, for two minutes.
//! server.script(Call::Push.fault(misbehave::limited(Some("120"))).once());
//! // Nothing spoke to it yet.
//! assert!(server.requests().is_empty() && server.violations().is_empty());
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![deny(missing_docs)]
// A tool for tests: where it is wrong about itself it should stop at once, and loudly. What clients send never reaches
// these.
#![allow(clippy::expect_used)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)
)]

mod call;
mod check;
mod ids;
mod insight;
mod json;
pub mod misbehave;
mod options;
mod request;
mod server;
mod service;
mod shape;
mod state;

pub use call::Call;
pub use kube_sim::{Fault, FaultAction, Matches};
pub use options::{Options, Tls};
pub use request::Request;
pub use server::Server;
pub use state::{Acknowledgement, Analysis, Cluster};
