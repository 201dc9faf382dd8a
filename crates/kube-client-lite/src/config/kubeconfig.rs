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
            if options.path.is_none() && matches!(path.try_exists(), Ok(false)) {
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
                .filter_map(|(_, root)| text(root.get("current-context")?))
                .find(|name| !name.is_empty())
        };
        let Some(name) = asked.or_else(current) else {
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

#[cfg(test)]
#[allow(clippy::panic, clippy::unwrap_used)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::tls::tests::pair;
    use super::*;

    fn write(dir: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn by_path(path: &Path) -> Result<Config, ConfigError> {
        load(
            &KubeconfigOptions {
                path: Some(path.to_owned()),
                context: None,
            },
            |_| None,
        )
    }

    /// A kubeconfig of one cluster, whose fields and those of the user are given as YAML.
    fn config(cluster: &str, user: &str) -> String {
        format!(
            "{{current-context: c, contexts: [{{name: c, context: {{cluster: k, user: u}}}}],
             clusters: [{{name: k, cluster: {{{cluster}}}}}], users: [{{name: u, user: {{{user}}}}}]}}"
        )
    }

    fn error(content: impl AsRef<[u8]>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = write(&dir, "config", content);
        let error = by_path(&path)
            .map(|config| format!("{config:?}"))
            .unwrap_err()
            .to_string();
        error.replace(path.to_str().unwrap(), "FILE")
    }

    #[test]
    fn everything() {
        let (cert, key) = pair();
        let data = |text: &str| BASE64_STANDARD.encode(text);
        let dir = tempfile::tempdir().unwrap();
        let path = write(
            &dir,
            "config",
            format!(
                "\u{feff}# a comment\napiVersion: v1\nkind: Config\npreferences: {{}}\ncurrent-context: prod\n\
                 contexts:\n- name: prod\n  context:\n    cluster: prod\n    user: admin\n    namespace: 007\n\
                 clusters:\n- name: prod\n  cluster:\n    server: https://k:6443/prefix/\n    tls-server-name: k8s\n    \
                 proxy-url: http://u:s3cret@proxy:3128\n    disable-compression: true\n    \
                 certificate-authority: missing.crt\n    certificate-authority-data: |\n      {}\n      {}\n\
                 users:\n- name: admin\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n    \
                 client-key: missing\n    token: s3cret\n",
                &data(&cert)[..100],
                &data(&cert)[100..],
                data(&cert),
                data(&key),
            ),
        );
        let config = by_path(&path).unwrap();
        assert_eq!(config.server, "https://k:6443/prefix");
        assert_eq!(config.namespace.as_deref(), Some("007"));
        assert_eq!(config.source, format!("{}, context prod", path.display()));
        assert_eq!(config.tls.server_name.as_deref(), Some("k8s"));
        assert!(matches!(&config.auth, Auth::Token(token) if token.expose() == "s3cret"));
        let loaded = config.tls.load().unwrap();
        assert_eq!(
            (loaded.roots.len(), loaded.client.unwrap().chain.len()),
            (1, 1)
        );
        let debug = format!("{config:?}");
        assert!(
            debug.contains("proxy:3128") && !debug.contains("s3cret"),
            "{debug}"
        );
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./bin/login}";
        let cluster = "server: 'http://h', certificate-authority: pki/ca.crt";
        let certificate = "client-certificate: a.crt, client-key: /etc/a.key";
        let path = write(
            &dir,
            "config",
            config(cluster, &format!("{certificate}, {exec}")),
        );
        let config_of_exec = by_path(&path).unwrap();
        assert!(
            matches!(&config_of_exec.tls.ca, Ca::File(ca) if *ca == dir.path().join("pki/ca.crt"))
        );
        let ClientCert { cert, key } = config_of_exec.tls.client_cert.unwrap();
        assert!(matches!(cert, PemSource::File(file) if file == dir.path().join("a.crt")));
        assert!(matches!(key, PemSource::File(file) if file == Path::new("/etc/a.key")));
        assert!(
            matches!(config_of_exec.auth, Auth::Exec(plugin) if plugin.command == dir.path().join("./bin/login"))
        );

        let path = write(
            &dir,
            "config",
            config(cluster, &format!("tokenFile: t, token: x, {exec}")),
        );
        assert!(
            matches!(by_path(&path).unwrap().auth, Auth::TokenFile(file) if file == dir.path().join("t"))
        );
    }

    #[test]
    fn exec_plugin() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir, "ca.crt", "CA");
        let path = write(
            &dir,
            "config",
            config(
                "server: 'https://h', certificate-authority: ca.crt, tls-server-name: n, extensions: [{name: x},
                 {name: client.authentication.k8s.io/exec, extension: {audience: 7, mode: '7'}}]",
                "exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: login, args: [-x, 5],
                 env: [{name: A, value: s3cret}], provideClusterInfo: true, interactiveMode: Never, installHint: get it}",
            ),
        );
        let Auth::Exec(plugin) = by_path(&path).unwrap().auth else {
            panic!("not exec")
        };
        assert_eq!(plugin.api_version, "client.authentication.k8s.io/v1beta1");
        assert_eq!(plugin.command, Path::new("login"));
        assert_eq!(plugin.args, ["-x", "5"]);
        assert_eq!(format!("{:?}", plugin.env), "[(\"A\", Secret(..))]");
        assert_eq!(plugin.interactive, Interactive::Never);
        assert_eq!(plugin.install_hint.as_deref(), Some("get it"));
        assert_eq!(
            plugin.cluster_info,
            Some(
                json!({"server": "https://h", "certificate-authority-data": "Q0E=", "tls-server-name": "n",
                        "config": {"audience": 7, "mode": "7"}})
            )
        );
    }

    #[test]
    fn merging() {
        let dir = tempfile::tempdir().unwrap();
        let one = write(
            &dir,
            "one",
            "contexts: [{name: a, context: {cluster: k, user: u}}]\nusers: [{name: u, user: {token: first}}]\n",
        );
        let two = write(
            &dir,
            "two",
            "current-context: a\nclusters: [{name: k, cluster: {server: 'https://two'}}]\n\
             users: [{name: u, user: {tokenFile: second}}]\ncontexts: [{name: b, context: {cluster: k}}]\n",
        );
        let three = write(
            &dir,
            "three",
            "current-context: b\nclusters: [{name: k, cluster: {server: 'https://three', tls-server-name: n}}]\n",
        );
        let empty = write(&dir, "empty", "current-context: ''\nusers: null\n");
        let missing = dir.path().join("missing");
        let merged = |files: &[&Path], context: Option<&str>| {
            let list = env::join_paths(files).unwrap();
            let options = KubeconfigOptions {
                path: None,
                context: context.map(str::to_owned),
            };
            load(&options, |name| {
                (name == "KUBECONFIG").then(|| list.clone())
            })
        };
        let all: [&Path; 6] = [&missing, Path::new(""), &empty, &one, &two, &three];
        let config = merged(&all, None).unwrap();
        assert_eq!(config.server, "https://two");
        assert_eq!(config.tls.server_name, None);
        assert!(matches!(config.auth, Auth::Token(token) if token.expose() == "first"));
        assert_eq!(config.source, format!("{}, context a", one.display()));
        assert!(matches!(merged(&all, Some("b")).unwrap().auth, Auth::None));

        let names = |error: ConfigError| {
            error
                .to_string()
                .replace(&format!("{}/", dir.path().display()), "")
        };
        assert_eq!(
            names(merged(&all, Some("c")).unwrap_err()),
            "empty, one, two, three: no context \"c\"; contexts: a, b"
        );
        assert_eq!(
            names(merged(&[&one], None).unwrap_err()),
            "one: no current-context; set it with `kubectl config use-context NAME` or name a context; contexts: a"
        );
        assert_eq!(
            names(merged(&[&one], Some("a")).unwrap_err()),
            "one, context \"a\": no cluster \"k\"; add it to clusters or correct the context"
        );
        assert_eq!(
            names(merged(&[&missing], None).unwrap_err()),
            "no kubeconfig; looked for missing; set KUBECONFIG or name a file"
        );
        let error = names(by_path(&missing).unwrap_err());
        assert!(
            error.starts_with("missing: cannot read the kubeconfig: No such file"),
            "{error}"
        );
    }

    #[test]
    fn home() {
        let dir = tempfile::tempdir().unwrap();
        let from_home = || {
            load(&KubeconfigOptions::default(), |name| {
                (name == "HOME").then(|| dir.path().as_os_str().to_owned())
            })
        };
        assert!(
            matches!(from_home(), Err(ConfigError::KubeconfigMissing { tried }) if tried == [dir.path().join(".kube/config")])
        );
        fs::create_dir(dir.path().join(".kube")).unwrap();
        write(&dir, ".kube/config", config("server: 'https://home'", ""));
        assert_eq!(from_home().unwrap().server, "https://home");
        let error = load(&KubeconfigOptions::default(), |_| None)
            .unwrap_err()
            .to_string();
        assert_eq!(error, "no kubeconfig; set KUBECONFIG or HOME");
    }

    #[test]
    fn not_a_kubeconfig() {
        let utf16: Vec<u8> = "\u{feff}kind: Config"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for (content, expected) in [
            (
                &b"kind: Deployment"[..],
                "its kind is \"Deployment\", not \"Config\"",
            ),
            (b"- a", "it is not a map"),
            (b"users: {}", "users is not a list"),
            (&utf16, "it is UTF-16; save it as UTF-8"),
            (
                b"kind: Config\0",
                "it has a NUL byte in it; save it as UTF-8 text",
            ),
            (b"kind: \xff", "it is not UTF-8"),
            (
                b"a: &a [*a]",
                "an alias inside of what it stands for at line 1",
            ),
        ] {
            assert_eq!(
                error(content),
                format!("FILE: not a kubeconfig: {expected}")
            );
        }
        assert!(error("a: [").starts_with("FILE: not a kubeconfig: "));
        let nothing = "FILE: no current-context; set it with `kubectl config use-context NAME` or name a context; there are no contexts";
        assert_eq!(error(""), nothing);
    }

    #[test]
    fn wrong_fields() {
        let (cert, key) = pair();
        let data = |text: &str| BASE64_STANDARD.encode(text);
        let exec = |fields: &str| {
            format!("exec: {{apiVersion: client.authentication.k8s.io/v1, command: x, {fields}}}")
        };
        let server = "server: 'https://h'".to_owned();
        for (cluster, user, expected) in [
            (String::new(), String::new(), "cluster \"k\": server is missing".to_owned()),
            ("server: [a]".to_owned(), String::new(), "cluster \"k\": server is not text".to_owned()),
            ("server: 'https://u:s3cret@h'".to_owned(), String::new(), "cluster \"k\": server has a user in it; put credentials in the user entry".to_owned()),
            (format!("{server}, proxy-url: 'socks5://u:s3cret@p'"), String::new(), "cluster \"k\": proxy-url begins with neither http:// nor https://; other proxies are not supported".to_owned()),
            (format!("{server}, insecure-skip-tls-verify: yes"), String::new(), "cluster \"k\": insecure-skip-tls-verify is neither true nor false".to_owned()),
            (format!("{server}, insecure-skip-tls-verify: true, certificate-authority: x"), String::new(), "cluster \"k\": insecure-skip-tls-verify is true beside a certificate authority; remove one of them".to_owned()),
            (format!("{server}, certificate-authority-data: '*'"), String::new(), "cluster \"k\": certificate-authority-data is not base64".to_owned()),
            (format!("{server}, certificate-authority-data: /w=="), String::new(), "cluster \"k\": certificate-authority-data is not PEM in base64".to_owned()),
            (format!("{server}, certificate-authority-data: QQ=="), String::new(), "cluster \"k\": certificate-authority-data: no PEM certificate in it; expected -----BEGIN CERTIFICATE-----".to_owned()),
            (server.clone(), "client-certificate: x".to_owned(), "user \"u\": client-key is missing beside client-certificate".to_owned()),
            (server.clone(), "client-key: x".to_owned(), "user \"u\": client-certificate is missing beside client-key".to_owned()),
            (server.clone(), format!("client-certificate-data: {}, client-key-data: {}", data(&cert), data(&pair().1)), "user \"u\": client-key-data: this private key does not belong to the certificate in FILE, user \"u\": client-certificate-data; use the pair that was issued together".to_owned()),
            (server.clone(), format!("client-certificate-data: {}, client-key-data: {}", data(&key), data(&key)), "user \"u\": client-certificate-data: no PEM certificate in it; expected -----BEGIN CERTIFICATE-----".to_owned()),
            (server.clone(), "auth-provider: {name: gcp}".to_owned(), "user \"u\": auth-provider is not supported; Kubernetes removed it in 1.26; use the exec credential plugin of the provider".to_owned()),
            (server.clone(), "as: admin".to_owned(), "user \"u\": as is not supported; impersonation is left to kubectl; use a user that has the rights itself".to_owned()),
            (server.clone(), "as-user-extra: {a: [b]}".to_owned(), "user \"u\": as-user-extra is not supported; impersonation is left to kubectl; use a user that has the rights itself".to_owned()),
            (server.clone(), "username: u, password: s3cret".to_owned(), "user \"u\": password is not supported; Kubernetes removed basic authentication in 1.19; use a token, a client certificate or exec".to_owned()),
            (server.clone(), "exec: {}".to_owned(), "user \"u\", exec: apiVersion is missing".to_owned()),
            (server.clone(), "exec: {apiVersion: client.authentication.k8s.io/v1alpha1}".to_owned(), "user \"u\", exec: apiVersion is neither client.authentication.k8s.io/v1 nor v1beta1; use a newer plugin".to_owned()),
            (server.clone(), exec("args: x"), "user \"u\", exec: args is not a list".to_owned()),
            (server.clone(), exec("args: [[]]"), "user \"u\", exec: args is not a list of text".to_owned()),
            (server.clone(), exec("env: [x]"), "user \"u\", exec: env is not a list of names and values".to_owned()),
            (server.clone(), exec("interactiveMode: x"), "user \"u\", exec: interactiveMode is none of Never, IfAvailable and Always".to_owned()),
        ] {
            assert_eq!(error(config(&cluster, &user)), format!("FILE, {expected}"));
        }
        let empty = "as: '', as-groups: [], as-user-extra: {}, username: null";
        let dir = tempfile::tempdir().unwrap();
        assert!(by_path(&write(&dir, "config", config(&server, empty))).is_ok());
        assert_eq!(
            error("{current-context: c, contexts: [{name: c, context: {}}]}"),
            "FILE, context \"c\": cluster is missing; name one of the clusters"
        );
        assert_eq!(
            error(
                "{current-context: c, contexts: [{name: c, context: {cluster: k, user: u}}], clusters: [{name: k, cluster: {}}]}"
            ),
            "FILE, context \"c\": no user \"u\"; add it to users or correct the context"
        );
    }
}
