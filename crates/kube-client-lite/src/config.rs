//! Where the API server is and how to authenticate.
//!
//! [`Config::in_cluster`] takes the service account of a pod ([Accessing the API from within a
//! Pod]), [`Config::kubeconfig`] the files that kubectl uses ([Organizing Cluster Access Using
//! kubeconfig Files]), credential plugins included ([client-go credential plugins]). What a
//! kubeconfig asks for and this client does not do is an error and never passed over.
//!
//! kubeconfigs are read with `saphyr-parser`: it is maintained, has no `unsafe`, and adds half of
//! what `serde_yaml_ng` (C turned into unsafe Rust) adds to a static binary.
//!
//! [Accessing the API from within a Pod]: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
//! [Organizing Cluster Access Using kubeconfig Files]: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
//! [client-go credential plugins]: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins

mod auth;
mod error;
mod exec;
mod file;
mod kubeconfig;
mod secret;
mod tls;
mod url;
mod yaml;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;
use std::{env, fmt};

pub use auth::Auth;
pub use error::ConfigError;
pub use exec::{ExecPlugin, Interactive};
pub use kubeconfig::KubeconfigOptions;
pub use secret::Secret;
pub use tls::{Ca, ClientCert, PemSource, Tls};

pub(crate) use auth::{Credentials, Current};
pub(crate) use tls::{ClientIdentity, LoadedTls, Stamp};

/// Where Kubernetes mounts the service account of a pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Everything a client must know to talk to one cluster.
#[derive(Clone)]
pub struct Config {
    /// `scheme://host[:port][/prefix]` without a slash at the end. With `http`, as for `kubectl
    /// proxy`, [`Config::tls`] has no effect.
    pub server: String,
    /// How the server is recognised.
    pub tls: Tls,
    /// How requests are authenticated.
    pub auth: Auth,
    /// `http://` or `https://[user:password@]host[:port]` of a proxy. The environment is not asked.
    pub proxy: Option<String>,
    /// The namespace of the pod or of the context.
    pub namespace: Option<String>,
    /// The `User-Agent` header; `kube-client-lite/VERSION` unless set.
    pub user_agent: String,
    /// How long to wait for the server.
    pub timeouts: Timeouts,
    /// Where this is from, for messages: `in-cluster service account` or `FILE, context NAME`.
    pub source: String,
}

/// How long a client waits. There is no limit on a whole call: a watch is as long as the server lets it be.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the connection, TLS included: 10 s unless set.
    pub connect: Duration,
    /// For each single read, that is the silence allowed: 30 s unless set.
    pub read: Duration,
}

impl Config {
    /// Takes the service account of the pod this process runs in.
    ///
    /// # Errors
    /// [`ConfigError::NotInCluster`] outside of a pod, or where no token is mounted.
    pub fn in_cluster() -> Result<Self, ConfigError> {
        Self::in_cluster_from(Path::new(SERVICE_ACCOUNT), |name| env::var(name).ok())
    }

    /// Does what [`Config::in_cluster`] does, with another directory and environment.
    ///
    /// # Errors
    /// As [`Config::in_cluster`].
    pub fn in_cluster_from(
        dir: &Path,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let missing = |missing| ConfigError::NotInCluster { missing };
        let variable = |name| {
            env(name)
                .filter(|value| !value.is_empty())
                .ok_or_else(|| missing(format!("{name} is not set")))
        };
        let host = url::host(&variable("KUBERNETES_SERVICE_HOST")?);
        let port = variable("KUBERNETES_SERVICE_PORT")?;
        let server = url::server(&format!("https://{host}:{port}")).map_err(|reason| {
            missing(format!(
                "the URL of KUBERNETES_SERVICE_HOST and _PORT {reason}"
            ))
        })?;
        let token = dir.join("token");
        if !token.exists() {
            return Err(missing(format!("there is no {}", token.display())));
        }
        let namespace = file::read(&dir.join("namespace"), "namespace").ok();
        let namespace = namespace
            .and_then(|text| String::from_utf8(text).ok())
            .map(|text| text.trim().to_owned());
        Ok(Config {
            server,
            tls: Tls {
                ca: Ca::File(dir.join("ca.crt")),
                ..Tls::default()
            },
            auth: Auth::TokenFile(token),
            proxy: None,
            namespace: namespace.filter(|text| !text.is_empty()),
            user_agent: Self::default_user_agent(),
            timeouts: Timeouts::default(),
            source: "in-cluster service account".to_owned(),
        })
    }

    /// Reads a kubeconfig: `options.path`, else the files of `$KUBECONFIG`, else `~/.kube/config`.
    ///
    /// Several files are merged as kubectl does: the first to have a cluster, user or context of a
    /// name, or a current context, wins; a file that is missing is passed over. Paths in a file
    /// are relative to its directory.
    ///
    /// # Errors
    /// What is missing, malformed or unsupported, by file, entry and field.
    pub fn kubeconfig(options: &KubeconfigOptions) -> Result<Self, ConfigError> {
        kubeconfig::load(options, |name| env::var_os(name))
    }

    /// Takes the pod's service account if there is one and nobody asks for a kubeconfig, by
    /// `options` or `$KUBECONFIG`; else the kubeconfig.
    ///
    /// # Errors
    /// As [`Config::kubeconfig`].
    pub fn infer(options: &KubeconfigOptions) -> Result<Self, ConfigError> {
        Self::infer_from(options, Path::new(SERVICE_ACCOUNT), |name| {
            env::var_os(name)
        })
    }

    fn infer_from(
        options: &KubeconfigOptions,
        dir: &Path,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let set = |name| env(name).is_some_and(|value| !value.is_empty());
        if options.path.is_some() || options.context.is_some() || set("KUBECONFIG") {
            return kubeconfig::load(options, env);
        }
        let in_cluster = Self::in_cluster_from(dir, |name| env(name)?.into_string().ok());
        in_cluster.or_else(|error| match kubeconfig::load(options, &env) {
            // In a pod, what the pod lacks is the better answer.
            Err(ConfigError::KubeconfigMissing { .. }) if set("KUBERNETES_SERVICE_HOST") => {
                Err(error)
            }
            other => other,
        })
    }

    fn default_user_agent() -> String {
        concat!("kube-client-lite/", env!("CARGO_PKG_VERSION")).to_owned()
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

/// All fields but the proxy's user and password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy = self
            .proxy
            .as_deref()
            .map(|proxy| proxy.rsplit('@').next().unwrap_or_default());
        f.debug_struct("Config")
            .field("server", &self.server)
            .field("tls", &self.tls)
            .field("auth", &self.auth)
            .field("proxy", &proxy)
            .field("namespace", &self.namespace)
            .field("user_agent", &self.user_agent)
            .field("timeouts", &self.timeouts)
            .field("source", &self.source)
            .finish()
    }
}
