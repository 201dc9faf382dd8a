//! Where the API server is and how to authenticate: from a pod's service account or a kubeconfig.

mod auth;
mod error;
mod exec;
mod kubeconfig;
mod secret;
mod tls;

use std::fmt;
use std::path::Path;
use std::time::Duration;

pub use auth::Auth;
pub use error::ConfigError;
pub use exec::{ExecPlugin, Interactive};
pub use kubeconfig::KubeconfigOptions;
pub use secret::Secret;
pub use tls::{Ca, ClientCert, PemSource, Tls};

pub(crate) use auth::{Credentials, Current};
pub(crate) use tls::{ClientIdentity, LoadedTls, Stamp};

/// Everything a client must know to talk to one cluster.
#[derive(Clone)]
pub struct Config {
    /// `scheme://host[:port][/prefix]` without a slash at the end.
    pub server: String,
    /// How the server is recognised.
    pub tls: Tls,
    /// How requests are authenticated.
    pub auth: Auth,
    /// `http://` or `https://[user:password@]host[:port]` of a proxy. The environment is not asked.
    pub proxy: Option<String>,
    /// The namespace of the pod or of the context.
    pub namespace: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// How long to wait for the server.
    pub timeouts: Timeouts,
    /// Where this is from, for messages: `in-cluster service account` or `FILE, context NAME`.
    pub source: String,
}

/// How long a client waits. There is no limit on a whole call: a watch is as long as the server lets it be.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the connection, TLS included: 10 s.
    pub connect: Duration,
    /// For each single read, that is the silence allowed: 30 s.
    pub read: Duration,
}

impl Config {
    /// Takes the service account of the pod this process runs in.
    ///
    /// # Errors
    /// [`ConfigError::NotInCluster`] outside of a pod.
    pub fn in_cluster() -> Result<Self, ConfigError> {
        todo!()
    }

    /// Does what [`Config::in_cluster`] does, with another directory and environment.
    ///
    /// # Errors
    /// As [`Config::in_cluster`].
    pub fn in_cluster_from(dir: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let _ = (dir, env("KUBERNETES_SERVICE_HOST"));
        todo!()
    }

    /// Reads a kubeconfig.
    ///
    /// # Errors
    /// What is missing, malformed or unsupported, by file, entry and field.
    pub fn kubeconfig(options: &KubeconfigOptions) -> Result<Self, ConfigError> {
        let _ = options;
        todo!()
    }

    /// Takes the pod's service account if there is one and `options` ask for nothing, else the kubeconfig.
    ///
    /// # Errors
    /// As [`Config::in_cluster`] and [`Config::kubeconfig`].
    pub fn infer(options: &KubeconfigOptions) -> Result<Self, ConfigError> {
        Self::kubeconfig(options)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(10),
            read: Duration::from_secs(30),
        }
    }
}

/// A proxy's URL may have a password in it, which is left out.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("server", &self.server).finish_non_exhaustive()
    }
}
