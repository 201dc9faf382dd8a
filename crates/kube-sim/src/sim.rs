//! The simulator as a test sees it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use serde_json::Value;

use crate::faults::{Fault, Script};
use crate::generate;
use crate::json::Json;
use crate::kinds::Kind;
use crate::listener::Host;
use crate::log::{Log, Request};
use crate::metadata;
use crate::metrics::Metrics;
use crate::options::{Cluster, Options};
use crate::rbac::Rbac;
use crate::recorded;
use crate::request::{Info, Params, Target};
use crate::server::{Controls, Identity, Shared, User};
use crate::store::{self, Object};

/// A running simulator. It stops when it is dropped.
pub struct Sim {
    shared: Arc<Shared>,
    host: Host,
}

impl Sim {
    /// Starts a simulator; it answers as soon as this returns.
    ///
    /// # Errors
    /// When the address cannot be listened on, or the CA or the log cannot be written.
    pub fn start(options: Options) -> io::Result<Self> {
        let store = match &options.cluster {
            Cluster::Empty => recorded::empty(0),
            Cluster::Recorded => recorded::store(),
            Cluster::Generated(measures) => generate::store(measures),
        };
        let log = Log::new(options.log.as_deref())?;
        let identity = if options.tls {
            Some(Identity::new(
                options.addr.ip(),
                options.directory.as_deref(),
            )?)
        } else {
            None
        };
        let user = User {
            token: options.token.clone(),
            name: options.user.clone(),
            rbac: options.rbac.clone(),
            expired: false,
        };
        let controls = Controls {
            users: vec![user],
            metrics: options.metrics,
            script: Script::default(),
            identity,
        };
        let socket = TcpListener::bind(options.addr)?;
        let address = socket.local_addr()?;
        let shared = Arc::new(Shared::new(options, address, store, controls, log));
        let host = Host::start(socket, shared.clone())?;
        Ok(Self { shared, host })
    }

    /// The address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.host.address()
    }

    /// `https://127.0.0.1:PORT`, or `http://` without TLS.
    #[must_use]
    pub fn url(&self) -> String {
        self.host.url(self.shared.options.tls)
    }

    /// The CA certificate; empty without TLS.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.shared
            .controls()
            .identity
            .as_ref()
            .map(|identity| identity.pem.clone())
            .unwrap_or_default()
    }

    /// The present token of the user.
    #[must_use]
    pub fn token(&self) -> String {
        self.shared
            .controls()
            .users
            .first()
            .map(|user| user.token.clone())
            .unwrap_or_default()
    }

    /// A kubeconfig with CA and token in it.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        use base64::Engine;
        let ca = base64::engine::general_purpose::STANDARD.encode(self.ca_pem());
        let ca = if ca.is_empty() {
            String::new()
        } else {
            format!("\n    certificate-authority-data: {ca}")
        };
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: kube-sim\n  cluster:\n    server: {}{ca}\nusers:\n- name: kube-sim\n  \
             user:\n    token: {}\ncontexts:\n- name: kube-sim\n  context:\n    cluster: kube-sim\n    user: kube-sim\n    \
             namespace: kube9-system\ncurrent-context: kube-sim\n",
            self.url(),
            self.token()
        )
    }

    /// The requests so far, the oldest first. A request is in it from the moment its status is known.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.log().all()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.log().clear();
    }

    /// How many connections were accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.host.connections()
    }

    /// Adds a fault.
    pub fn script(&self, fault: Fault) {
        self.shared.controls().script.add(fault);
    }

    /// Takes all faults away. What hangs goes on hanging.
    pub fn clear_faults(&self) {
        self.shared.controls().script.clear();
    }

    /// Gives the user another token; the old one is refused from now on.
    pub fn set_token(&self, token: &str) {
        if let Some(user) = self.shared.controls().users.first_mut() {
            token.clone_into(&mut user.token);
            user.expired = false;
        }
    }

    /// Refuses the user's token from now on, until another is set.
    pub fn expire_token(&self) {
        if let Some(user) = self.shared.controls().users.first_mut() {
            user.expired = true;
        }
    }

    /// Adds another user with a token.
    pub fn add_user(&self, name: &str, token: &str, rbac: Rbac) {
        self.shared.controls().users.push(User {
            token: token.to_owned(),
            name: name.to_owned(),
            rbac,
            expired: false,
        });
    }

    /// Makes a new CA and a new server certificate for the connections to come.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn rotate_ca(&self) -> io::Result<()> {
        let identity = Identity::new(self.host.address().ip(), None)?;
        self.shared.controls().identity = Some(identity);
        Ok(())
    }

    /// Changes what the user may do.
    pub fn set_rbac(&self, rbac: Rbac) {
        if let Some(user) = self.shared.controls().users.first_mut() {
            user.rbac = rbac;
        }
    }

    /// Changes whether there is a metrics server.
    pub fn set_metrics(&self, metrics: Metrics) {
        self.shared.controls().metrics = metrics;
    }

    /// Puts an object into the store, new or in place of an old one, with no checks. The path is that of its collection
    /// or its own: `/api/v1/namespaces/default/pods`. Watches see it. Answers the object as it is stored.
    ///
    /// # Panics
    /// When the path is not that of a resource, or the object has no name.
    #[expect(clippy::needless_pass_by_value, reason = "tests pass json!(...)")]
    pub fn insert(&self, path: &str, object: Value) -> Value {
        let (kind, target) = self.resolve(path);
        let mut json = Json::from(&object);
        if !json.get("metadata").is_some_and(Json::is_object) {
            json.set("metadata", Json::object());
        }
        let namespaced = kind.namespaced && !target.namespace.is_empty();
        let meta = json.get_mut("metadata").expect("just set");
        if target.named {
            meta.set("name", target.name.as_str());
        }
        if namespaced {
            meta.set("namespace", target.namespace.as_str());
        }
        assert!(
            meta.text(&["name"]).is_some(),
            "an object without a name for {path}"
        );
        let mut store = self.shared.store();
        if meta.get("uid").is_none() {
            meta.set("uid", metadata::uuid());
        }
        if meta.get("creationTimestamp").is_none() {
            meta.set("creationTimestamp", metadata::now());
        }
        meta.set("resourceVersion", store.next_revision().to_string());
        let stored = store.put(
            &kind.collection(),
            Object::new(metadata::ordered(&json, kind)),
            false,
        );
        drop(store);
        self.shared.notify();
        shown(kind, &stored)
    }

    /// Takes an object out of the store, whatever its finalizers. Watches see it. Answers whether it was there.
    ///
    /// # Panics
    /// When the path is not that of a resource.
    #[expect(clippy::must_use_candidate, reason = "mostly it is known to be there")]
    pub fn remove(&self, path: &str) -> bool {
        let (kind, target) = self.resolve(path);
        let mut store = self.shared.store();
        let Some(live) = store.get(&kind.collection(), &key(kind, &target)) else {
            return false;
        };
        let mut json = live.json().clone();
        json.get_mut("metadata")
            .expect("every object has metadata")
            .set("resourceVersion", store.next_revision().to_string());
        store.put(&kind.collection(), Object::new(json), true);
        drop(store);
        self.shared.notify();
        true
    }

    /// An object as it is stored, with kind and apiVersion.
    ///
    /// # Panics
    /// When the path is not that of a resource.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Value> {
        let (kind, target) = self.resolve(path);
        let object = self
            .shared
            .store()
            .get(&kind.collection(), &key(kind, &target))?;
        Some(shown(kind, &object))
    }

    /// The resourceVersion of the last write.
    #[must_use]
    pub fn resource_version(&self) -> u64 {
        self.shared.store().revision()
    }

    /// Makes the continue tokens given out so far expire: 410 on their next use.
    pub fn expire_continue_tokens(&self) {
        self.shared.store().compact_lists();
    }

    /// Compacts the store: continue tokens and resourceVersions of watches from before are too old.
    pub fn compact(&self) {
        self.shared.store().compact();
    }

    /// Stops listening and breaks all connections, as when the API server dies.
    pub fn shutdown_listener(&mut self) {
        self.host.stop();
    }

    /// Listens again on the same port, with everything as it was stored.
    ///
    /// # Errors
    /// When somebody else has taken the port.
    pub fn restart(&mut self) -> io::Result<()> {
        self.host.restart()
    }

    fn resolve(&self, path: &str) -> (&Kind, Target) {
        let target = Info::new("GET", path, &Params::default()).target;
        let target = target.unwrap_or_else(|| panic!("{path} is not the path of a resource"));
        let kind = self
            .shared
            .kinds
            .find(&target.group, &target.version, &target.resource);
        (
            kind.unwrap_or_else(|| panic!("{path}: no such resource")),
            target,
        )
    }
}

fn key(kind: &Kind, target: &Target) -> String {
    store::key(
        if kind.namespaced {
            &target.namespace
        } else {
            ""
        },
        &target.name,
    )
}

fn shown(kind: &Kind, object: &Object) -> Value {
    let mut value = Value::from(object.json());
    if let Some(fields) = value.as_object_mut() {
        fields.insert("kind".to_owned(), kind.name.clone().into());
        fields.insert("apiVersion".to_owned(), kind.api_version.clone().into());
    }
    value
}
