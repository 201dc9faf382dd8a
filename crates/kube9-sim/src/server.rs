//! The server as a test sees it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use kube_sim::Fault;
use kube_sim::wire::Host;
use serde_json::Value;

use crate::options::{Options, Tls};
use crate::request::Request;
use crate::service::Shared;
use crate::state::{Acknowledgement, Analysis, Cluster, State};

/// A running server. It stops when it is dropped.
pub struct Server {
    shared: Arc<Shared>,
    host: Host,
}

impl Server {
    /// Starts a server; it answers as soon as this returns.
    ///
    /// # Errors
    /// When the address cannot be listened on, or the CA or the log cannot be written.
    pub fn start(options: Options) -> io::Result<Self> {
        let socket = TcpListener::bind(options.addr)?;
        let shared = Arc::new(Shared::new(State::new(options)?));
        let host = Host::start(socket, shared.clone())?;
        Ok(Self { shared, host })
    }

    /// The address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.host.address()
    }

    /// `https://127.0.0.1:PORT`, or `http://` with [`Tls::Off`].
    #[must_use]
    pub fn url(&self) -> String {
        self.host.url(self.shared.state().options.tls != Tls::Off)
    }

    /// The CA certificate.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.shared.state().authority.pem().to_owned()
    }

    /// The first of the accepted keys.
    #[must_use]
    pub fn key(&self) -> String {
        let state = self.shared.state();
        state.options.keys.first().cloned().unwrap_or_default()
    }

    /// Changes the settings for the requests and connections to come.
    pub fn change(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.shared.state().options);
    }

    /// The settings as they are, the used quota among them.
    #[must_use]
    pub fn options(&self) -> Options {
        self.shared.state().options.clone()
    }

    /// Adds a fault.
    pub fn script(&self, fault: Fault) {
        self.shared.state().script.add(fault);
    }

    /// Takes all faults away. What hangs goes on hanging.
    pub fn clear_faults(&self) {
        self.shared.state().script.clear();
    }

    /// Adds an insight, right or not; one that lacks them gets an `id` and a `createdAt`. Answers it as it is served.
    #[expect(clippy::must_use_candidate, reason = "tests know what they add")]
    pub fn add_insight(&self, insight: Value) -> Value {
        self.shared.state().add_insight(insight)
    }

    /// Takes all insights away.
    pub fn clear_insights(&self) {
        self.shared.state().insights.clear();
    }

    /// Forgets which clusters are registered, as a server does that lost its database.
    pub fn forget_clusters(&self) {
        self.shared.state().clusters.clear();
    }

    /// What came, the oldest first. A request is in it from the moment it was read.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().log.all()
    }

    /// Forgets the requests so far, not what they did.
    pub fn clear_requests(&self) {
        self.shared.state().log.clear();
    }

    /// Everything that did not fit the contract, whether it was answered or not.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.shared.state().violations.clone()
    }

    /// How many connections were accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.host.connections()
    }

    /// The registered clusters.
    #[must_use]
    pub fn clusters(&self) -> Vec<Cluster> {
        self.shared.state().clusters.clone()
    }

    /// How many pushes were accepted.
    #[must_use]
    pub fn pushes(&self) -> u64 {
        self.shared.state().pushes
    }

    /// The body of the last push that was accepted.
    #[must_use]
    pub fn last_push(&self) -> Option<Value> {
        self.shared.state().last_push.clone()
    }

    /// The analyses that took effect, each once.
    #[must_use]
    pub fn analyses(&self) -> Vec<Analysis> {
        self.shared.state().analyses.clone()
    }

    /// The acknowledgements that took effect, each once.
    #[must_use]
    pub fn acknowledgements(&self) -> Vec<Acknowledgement> {
        self.shared.state().acknowledgements.clone()
    }

    /// Stops listening and breaks all connections, as when the server dies: connections are refused.
    pub fn shutdown_listener(&mut self) {
        self.host.stop();
    }

    /// Listens again on the same port, with everything as it was.
    ///
    /// # Errors
    /// When somebody else has taken the port.
    pub fn restart(&mut self) -> io::Result<()> {
        self.host.restart()
    }
}
