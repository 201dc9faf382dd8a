//! Where the API server is and how to authenticate.
//!
//! [`Config::in_cluster`] takes the service account of a pod ([Accessing the API from within a
//! Pod]), [`Config::kubeconfig`] the files that kubectl uses ([Organizing Cluster Access Using
//! kubeconfig Files]), credential plugins included ([client-go credential plugins]). What a
//! kubeconfig asks for and this client does not do is an error and never passed over.
//!
//! kubeconfigs are read with `granit-parser`: it is kept well, has no `unsafe`, and brings three
//! small crates, where `serde_yaml_ng` is C turned into unsafe Rust and brings six; saphyr-parser
//! is smaller still, but needs 80 to 170 times the size of a long line in memory and refuses a
//! closing bracket at the start of a line, which kubectl takes.
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
pub use file::FileStamp;
pub use kubeconfig::KubeconfigOptions;
pub use secret::Secret;
pub use tls::{Ca, ClientCert, PemSource, Tls};
pub use url::{check_proxy, server as check_server};

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

/// How long a client waits. A watch may be silent, and last, as long as it asks the server for.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the connection, TLS included: 10 s unless set.
    pub connect: Duration,
    /// For each single read, that is the silence allowed: 30 s unless set.
    pub read: Duration,
    /// For the whole header of an answer, and then for its whole body: 120 s unless set. A server
    /// that drips a byte a second is never silent.
    pub answer: Duration,
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
            answer: Duration::from_secs(120),
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn service_account() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("token"), "t").unwrap();
        fs::write(dir.path().join("namespace"), "prod\n").unwrap();
        dir
    }

    fn env(host: &'static str, port: &'static str) -> impl Fn(&str) -> Option<String> {
        move |name| match name {
            "KUBERNETES_SERVICE_HOST" => Some(host.to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some(port.to_owned()),
            _ => None,
        }
    }

    #[test]
    fn in_cluster() {
        let dir = service_account();
        for (host, server) in [
            ("10.96.0.1", "https://10.96.0.1:443"),
            ("fd00:10:96::1", "https://[fd00:10:96::1]:443"),
            (
                "kubernetes.default.svc",
                "https://kubernetes.default.svc:443",
            ),
        ] {
            assert_eq!(
                Config::in_cluster_from(dir.path(), env(host, "443"))
                    .unwrap()
                    .server,
                server
            );
        }
        let config = Config::in_cluster_from(dir.path(), env("h", "443")).unwrap();
        assert_eq!(config.namespace.as_deref(), Some("prod"));
        assert!(matches!(&config.auth, Auth::TokenFile(path) if *path == dir.path().join("token")));
        assert!(matches!(&config.tls.ca, Ca::File(path) if *path == dir.path().join("ca.crt")));
        let error = config.tls.load().unwrap_err().to_string();
        assert!(
            error.contains("ca.crt: cannot read the certificate authority: "),
            "{error}"
        );
    }

    #[test]
    fn not_in_cluster() {
        let (with, without) = (service_account(), tempfile::tempdir().unwrap());
        fs::write(with.path().join("namespace"), "").unwrap();
        assert_eq!(
            Config::in_cluster_from(with.path(), env("h", "443"))
                .unwrap()
                .namespace,
            None
        );
        let advice = "run in a pod whose service account token is mounted, or use a kubeconfig";
        for (dir, host, port, missing) in [
            (
                &with,
                "",
                "443",
                "KUBERNETES_SERVICE_HOST is not set".to_owned(),
            ),
            (
                &with,
                "h",
                "",
                "KUBERNETES_SERVICE_PORT is not set".to_owned(),
            ),
            (
                &without,
                "h",
                "443",
                format!("there is no {}", without.path().join("token").display()),
            ),
            (
                &with,
                "h",
                "x y",
                "the URL of KUBERNETES_SERVICE_HOST and _PORT is not a URL; expected \
                 https://HOST[:PORT][/PREFIX]"
                    .to_owned(),
            ),
        ] {
            let error = Config::in_cluster_from(dir.path(), env(host, port))
                .unwrap_err()
                .to_string();
            assert_eq!(error, format!("not in a cluster: {missing}; {advice}"));
        }
    }

    #[test]
    fn infer() {
        let (with, without) = (service_account(), tempfile::tempdir().unwrap());
        let kubeconfig = without.path().join("config");
        fs::write(
            &kubeconfig,
            "{current-context: c, contexts: [{name: c, context: {cluster: k}}],
             clusters: [{name: k, cluster: {server: 'https://k'}}]}",
        )
        .unwrap();
        let server = |options: &KubeconfigOptions, dir: &TempDir, variable: &str| {
            let config = Config::infer_from(options, dir.path(), |name| match name {
                "KUBECONFIG" if variable == "KUBECONFIG" => {
                    Some(kubeconfig.clone().into_os_string())
                }
                "KUBECONFIG" | "HOME" => None,
                name => env("pod", "443")(name)
                    .filter(|_| variable != "none")
                    .map(OsString::from),
            });
            config.map_or_else(|error| error.to_string(), |config| config.server)
        };
        let none = KubeconfigOptions::default();
        let path = KubeconfigOptions {
            path: Some(kubeconfig.clone()),
            context: None,
        };
        assert_eq!(server(&none, &with, ""), "https://pod:443");
        assert_eq!(server(&path, &with, ""), "https://k");
        assert_eq!(server(&none, &with, "KUBECONFIG"), "https://k");
        assert!(server(&none, &without, "").starts_with("not in a cluster: there is no "));
        assert_eq!(
            server(&none, &with, "none"),
            "no kubeconfig; set KUBECONFIG or HOME"
        );
    }
}
