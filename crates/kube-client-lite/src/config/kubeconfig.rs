use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use super::tls::{ClientIdentity, parse_roots};
use super::yaml::Node;
use super::{
    Auth, Ca, ClientCert, Config, ConfigError, ExecPlugin, Interactive, PemSource, Secret,
    Timeouts, Tls, file, url,
};

/// The extension of a cluster that is meant for its credential plugin.
const EXEC_EXTENSION: &str = "client.authentication.k8s.io/exec";

/// Which kubeconfig, and which context in it.
#[derive(Clone, Debug, Default)]
pub struct KubeconfigOptions {
    /// The file. `None`: the files of `$KUBECONFIG`, else `~/.kube/config`.
    pub path: Option<PathBuf>,
    /// The context. `None`: the `current-context`.
    pub context: Option<String>,
}

pub(super) fn load(
    options: &KubeconfigOptions,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Config, ConfigError> {
    let kubeconfig = Kubeconfig::read(options, env)?;
    let context = kubeconfig.context(options.context.as_deref())?;
    let Some(cluster) = kubeconfig.refer(&context, "cluster")? else {
        return Err(context
            .entry
            .invalid("cluster", "is missing; name one of the clusters"));
    };
    let user = kubeconfig.refer(&context, "user")?;

    let server = cluster.required("server")?;
    let server = url::server(server).map_err(|reason| cluster.invalid("server", reason))?;
    let proxy = cluster.text("proxy-url")?;
    if let Some(proxy) = proxy {
        url::check_proxy(proxy).map_err(|reason| cluster.invalid("proxy-url", reason))?;
    }
    let mut config = Config {
        server,
        tls: cluster.tls()?,
        auth: Auth::None,
        proxy: proxy.map(str::to_owned),
        namespace: context.entry.text("namespace")?.map(str::to_owned),
        user_agent: Config::default_user_agent(),
        timeouts: Timeouts::default(),
        source: format!("{}, context {}", context.entry.file.display(), context.name),
    };
    if let Some(user) = user {
        user.reject_unsupported()?;
        config.tls.client_cert = user.client_cert()?;
        config.auth = user.auth(&cluster, &config)?;
    }
    Ok(config)
}

/// The files, first to last; what they say together is what the first that says it says.
struct Kubeconfig {
    files: Vec<(PathBuf, Node)>,
}

struct Context<'a> {
    name: &'a str,
    entry: Entry<'a>,
}

impl Kubeconfig {
    fn read(
        options: &KubeconfigOptions,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let set = |name| env(name).filter(|value| !value.is_empty());
        let paths = if let Some(path) = &options.path {
            vec![path.clone()]
        } else if let Some(list) = set("KUBECONFIG") {
            env::split_paths(&list)
                .filter(|path| !path.as_os_str().is_empty())
                .collect()
        } else {
            set("HOME")
                .map(|home| Path::new(&home).join(".kube/config"))
                .into_iter()
                .collect()
        };
        let mut files = Vec::new();
        for path in &paths {
            if options.path.is_none() && !path.exists() {
                continue;
            }
            let root = parse(path)?;
            files.push((path.clone(), root));
        }
        if files.is_empty() {
            return Err(ConfigError::KubeconfigMissing { tried: paths });
        }
        Ok(Kubeconfig { files })
    }

    fn context<'a>(&'a self, asked: Option<&'a str>) -> Result<Context<'a>, ConfigError> {
        let current = || {
            self.files
                .iter()
                .find_map(|(_, root)| text(root.get("current-context")?))
        };
        let Some(name) = asked.or_else(current).filter(|name| !name.is_empty()) else {
            return Err(ConfigError::ContextUnset {
                files: self.paths(),
                known: self.contexts(),
            });
        };
        let Some(entry) = self.find("context", name) else {
            return Err(ConfigError::ContextMissing {
                files: self.paths(),
                context: name.to_owned(),
                known: self.contexts(),
            });
        };
        Ok(Context { name, entry })
    }

    /// The cluster or user that a context names.
    fn refer<'a>(
        &'a self,
        context: &Context<'_>,
        kind: &'static str,
    ) -> Result<Option<Entry<'a>>, ConfigError> {
        let Some(name) = context.entry.text(kind)? else {
            return Ok(None);
        };
        match self.find(kind, name) {
            Some(entry) => Ok(Some(entry)),
            None => Err(ConfigError::EntryMissing {
                file: context.entry.file.to_owned(),
                context: context.name.to_owned(),
                kind,
                name: name.to_owned(),
            }),
        }
    }

    /// The first entry of that name; the others have no say at all, not even in other fields.
    fn find(&self, kind: &'static str, name: &str) -> Option<Entry<'_>> {
        self.files.iter().find_map(|(file, root)| {
            let named = |entry: &&Node| entry.get("name").and_then(text) == Some(name);
            let entry = list(root.get(plural(kind))).iter().find(named)?;
            let node = entry.get(kind).unwrap_or(&Node::Null);
            Some(Entry {
                file,
                name: format!("{kind} {name:?}"),
                node,
            })
        })
    }

    fn contexts(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (_, root) in &self.files {
            for name in list(root.get("contexts"))
                .iter()
                .filter_map(|entry| text(entry.get("name")?))
            {
                if !names.iter().any(|known| known == name) {
                    names.push(name.to_owned());
                }
            }
        }
        names
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|(path, _)| path.clone()).collect()
    }
}

fn plural(kind: &str) -> &'static str {
    match kind {
        "cluster" => "clusters",
        "context" => "contexts",
        _ => "users",
    }
}

fn parse(path: &Path) -> Result<Node, ConfigError> {
    let malformed = |reason: &str| ConfigError::KubeconfigMalformed {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let content = file::read(path, "kubeconfig")?;
    if content.starts_with(&[0xff, 0xfe]) || content.starts_with(&[0xfe, 0xff]) {
        return Err(malformed("it is UTF-16; save it as UTF-8"));
    }
    if content.contains(&0) {
        return Err(malformed("it has a NUL byte in it; save it as UTF-8 text"));
    }
    let Ok(content) = str::from_utf8(&content) else {
        return Err(malformed("it is not UTF-8"));
    };
    let root =
        Node::parse(content.trim_start_matches('\u{feff}')).map_err(|error| malformed(&error))?;
    match &root {
        // An empty file is what `touch` and `kubectl config unset` leave behind.
        Node::Null => {}
        Node::Map(_) => match root.get("kind").and_then(text) {
            None | Some("Config") => {}
            Some(kind) => return Err(malformed(&format!("its kind is {kind:?}, not \"Config\""))),
        },
        Node::List(_) | Node::Scalar { .. } => return Err(malformed("it is not a map")),
    }
    for section in ["clusters", "contexts", "users"] {
        if !matches!(root.get(section), None | Some(Node::List(_))) {
            return Err(malformed(&format!("{section} is not a list")));
        }
    }
    Ok(root)
}

fn list(node: Option<&Node>) -> &[Node] {
    match node {
        Some(Node::List(items)) => items,
        _ => &[],
    }
}

fn text(node: &Node) -> Option<&str> {
    match node {
        Node::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

/// The body of a context, a cluster or a user, or a part of it.
struct Entry<'a> {
    file: &'a Path,
    name: String,
    node: &'a Node,
}

impl<'a> Entry<'a> {
    /// A text field, `None` when it is absent or empty.
    fn text(&self, field: &'static str) -> Result<Option<&'a str>, ConfigError> {
        match self.node.get(field) {
            None => Ok(None),
            Some(Node::Scalar { text, .. }) => {
                Ok(Some(text.as_str()).filter(|text| !text.is_empty()))
            }
            Some(_) => Err(self.invalid(field, "is not text")),
        }
    }

    fn required(&self, field: &'static str) -> Result<&'a str, ConfigError> {
        self.text(field)?
            .ok_or_else(|| self.invalid(field, "is missing"))
    }

    fn flag(&self, field: &'static str) -> Result<bool, ConfigError> {
        match self.text(field)? {
            None | Some("false" | "False" | "FALSE") => Ok(false),
            Some("true" | "True" | "TRUE") => Ok(true),
            Some(_) => Err(self.invalid(field, "is neither true nor false")),
        }
    }

    fn list(&self, field: &'static str) -> Result<&'a [Node], ConfigError> {
        match self.node.get(field) {
            None => Ok(&[]),
            Some(Node::List(items)) => Ok(items),
            Some(_) => Err(self.invalid(field, "is not a list")),
        }
    }

    /// A file, relative to the directory of the kubeconfig.
    fn path(&self, field: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        Ok(self.text(field)?.map(|path| self.resolve(path)))
    }

    fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Text in base64, by lines or not.
    fn data(&self, field: &'static str) -> Result<Option<String>, ConfigError> {
        let Some(text) = self.text(field)? else {
            return Ok(None);
        };
        let text: String = text.split_ascii_whitespace().collect();
        let data = BASE64_STANDARD
            .decode(text)
            .map_err(|_| self.invalid(field, "is not base64"))?;
        String::from_utf8(data)
            .map(Some)
            .map_err(|_| self.invalid(field, "is not PEM in base64"))
    }

    fn pem(
        &self,
        data: &'static str,
        file: &'static str,
    ) -> Result<Option<PemSource>, ConfigError> {
        match self.data(data)? {
            Some(text) => Ok(Some(PemSource::Inline(Secret::new(text)))),
            None => Ok(self.path(file)?.map(PemSource::File)),
        }
    }

    /// The `tls` part of a cluster.
    fn tls(&self) -> Result<Tls, ConfigError> {
        let insecure_skip_verify = self.flag("insecure-skip-tls-verify")?;
        let ca = match self.pem("certificate-authority-data", "certificate-authority")? {
            Some(_) if insecure_skip_verify => {
                return Err(self.invalid(
                    "insecure-skip-tls-verify",
                    "is true beside a certificate authority; remove one of them",
                ));
            }
            Some(PemSource::File(path)) => Ca::File(path),
            Some(PemSource::Inline(text)) => {
                // Here, where the entry is known; text does not change later.
                parse_roots(
                    text.expose().as_bytes(),
                    &self.origin_of("certificate-authority-data"),
                )?;
                Ca::Pem(text.expose().as_bytes().to_vec())
            }
            None => Ca::System,
        };
        let server_name = self.text("tls-server-name")?.map(str::to_owned);
        Ok(Tls {
            ca,
            insecure_skip_verify,
            server_name,
            client_cert: None,
        })
    }

    fn client_cert(&self) -> Result<Option<ClientCert>, ConfigError> {
        let cert = self.pem("client-certificate-data", "client-certificate")?;
        let key = self.pem("client-key-data", "client-key")?;
        let (cert, key) = match (cert, key) {
            (Some(cert), Some(key)) => (cert, key),
            (None, None) => return Ok(None),
            (Some(_), None) => {
                return Err(self.invalid("client-key", "is missing beside client-certificate"));
            }
            (None, Some(_)) => {
                return Err(self.invalid("client-certificate", "is missing beside client-key"));
            }
        };
        if let (Some(cert), Some(key)) = (cert.inline(), key.inline()) {
            let origins = (
                self.origin_of("client-certificate-data"),
                self.origin_of("client-key-data"),
            );
            ClientIdentity::parse((cert, &origins.0), (key, &origins.1))?;
        }
        Ok(Some(ClientCert { cert, key }))
    }

    /// A token file goes before a token, and a token before a plugin, as in client-go.
    fn auth(&self, cluster: &Entry<'_>, config: &Config) -> Result<Auth, ConfigError> {
        if let Some(path) = self.path("tokenFile")? {
            return Ok(Auth::TokenFile(path));
        }
        if let Some(token) = self.text("token")? {
            return Ok(Auth::Token(Secret::new(token)));
        }
        let Some(node) = self.node.get("exec") else {
            return Ok(Auth::None);
        };
        Entry {
            file: self.file,
            name: format!("{}, exec", self.name),
            node,
        }
        .exec(cluster, config)
    }

    fn exec(&self, cluster: &Entry<'_>, config: &Config) -> Result<Auth, ConfigError> {
        let api_version = self.required("apiVersion")?;
        if !matches!(
            api_version,
            "client.authentication.k8s.io/v1" | "client.authentication.k8s.io/v1beta1"
        ) {
            return Err(self.invalid(
                "apiVersion",
                "is neither client.authentication.k8s.io/v1 nor v1beta1; use a newer plugin",
            ));
        }
        let command = self.required("command")?;
        let command = if command.contains(['/', std::path::MAIN_SEPARATOR]) {
            self.resolve(command)
        } else {
            command.into()
        };
        let args = self
            .list("args")?
            .iter()
            .map(|item| text(item).map(str::to_owned));
        let args = args
            .collect::<Option<_>>()
            .ok_or_else(|| self.invalid("args", "is not a list of text"))?;
        let env = self.list("env")?.iter().map(|item| {
            let value = item.get("value").map_or(Some(""), text)?;
            Some((text(item.get("name")?)?.to_owned(), Secret::new(value)))
        });
        let env = env
            .collect::<Option<_>>()
            .ok_or_else(|| self.invalid("env", "is not a list of names and values"))?;
        let interactive = match self.text("interactiveMode")? {
            None | Some("IfAvailable") => Interactive::IfAvailable,
            Some("Always") => Interactive::Always,
            Some("Never") => Interactive::Never,
            Some(_) => {
                return Err(self.invalid(
                    "interactiveMode",
                    "is none of Never, IfAvailable and Always",
                ));
            }
        };
        let cluster_info = if self.flag("provideClusterInfo")? {
            Some(cluster.info(config)?)
        } else {
            None
        };
        Ok(Auth::Exec(ExecPlugin {
            api_version: api_version.to_owned(),
            command,
            args,
            env,
            cluster_info,
            interactive,
            install_hint: self.text("installHint")?.map(str::to_owned),
        }))
    }

    /// A cluster as a credential plugin gets to see it.
    fn info(&self, config: &Config) -> Result<Value, ConfigError> {
        let mut info = json!({ "server": config.server });
        let Some(fields) = info.as_object_mut() else {
            return Ok(info);
        };
        let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        match &config.tls.ca {
            Ca::File(path) => set(
                "certificate-authority-data",
                BASE64_STANDARD
                    .encode(file::read(path, "certificate authority")?)
                    .into(),
            ),
            Ca::Pem(pem) => set(
                "certificate-authority-data",
                BASE64_STANDARD.encode(pem).into(),
            ),
            Ca::System => None,
        };
        if config.tls.insecure_skip_verify {
            set("insecure-skip-tls-verify", true.into());
        }
        if let Some(name) = &config.tls.server_name {
            set("tls-server-name", name.as_str().into());
        }
        if let Some(proxy) = &config.proxy {
            set("proxy-url", proxy.as_str().into());
        }
        let meant = |item: &&Node| item.get("name").and_then(text) == Some(EXEC_EXTENSION);
        if let Some(extension) = self
            .list("extensions")?
            .iter()
            .find(meant)
            .and_then(|item| item.get("extension"))
        {
            set("config", extension.to_json());
        }
        Ok(info)
    }

    /// To pass over one of these would be to act as somebody else than the user meant, or nobody.
    fn reject_unsupported(&self) -> Result<(), ConfigError> {
        const AS_ADVICE: &str =
            "impersonation is left to kubectl; use a user that has the rights itself";
        const BASIC_ADVICE: &str = "Kubernetes removed basic authentication in 1.19; use a token, a client certificate or exec";
        for (field, advice) in [
            ("as", AS_ADVICE),
            ("as-groups", AS_ADVICE),
            ("as-uid", AS_ADVICE),
            ("as-user-extra", AS_ADVICE),
            (
                "auth-provider",
                "Kubernetes removed it in 1.26; use the exec credential plugin of the provider",
            ),
            ("password", BASIC_ADVICE),
            ("username", BASIC_ADVICE),
        ] {
            let empty = match self.node.get(field) {
                None | Some(Node::Null) => true,
                Some(Node::List(items)) => items.is_empty(),
                Some(Node::Map(entries)) => entries.is_empty(),
                Some(Node::Scalar { text, .. }) => text.is_empty(),
            };
            if !empty {
                return Err(ConfigError::FieldUnsupported {
                    origin: self.origin(),
                    field,
                    advice,
                });
            }
        }
        Ok(())
    }

    fn origin(&self) -> String {
        format!("{}, {}", self.file.display(), self.name)
    }

    fn origin_of(&self, field: &str) -> String {
        format!("{}: {field}", self.origin())
    }

    fn invalid(&self, field: &'static str, reason: impl Into<String>) -> ConfigError {
        ConfigError::FieldInvalid {
            origin: self.origin(),
            field,
            reason: reason.into(),
        }
    }
}
