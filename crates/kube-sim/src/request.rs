//! What a request is about: verb, resource, namespace and name, as the API server reads them from method and path.

use std::io;

use crate::http::{Conn, Head, Unread, percent_decode};
use crate::status::Status;

/// The largest request body.
const BODY_LIMIT: usize = 3 << 20;

/// A request under way: its head, and its body as long as it is not read.
pub(crate) struct Incoming<'c> {
    pub(crate) conn: &'c mut Conn,
    pub(crate) head: Head,
    pub(crate) params: Params,
    pub(crate) info: Info,
    pub(crate) unread: Unread,
    /// Whether the client was told to go on.
    pub(crate) continued: bool,
    /// The body, once it was read.
    pub(crate) body: Option<Vec<u8>>,
    /// Who asks.
    pub(crate) user: String,
    /// The reading of the body broke: there is nobody to answer.
    pub(crate) broken: bool,
}

/// The query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

/// The verb and its target.
#[derive(Clone, Debug, Default)]
pub(crate) struct Info {
    pub(crate) verb: String,
    pub(crate) path: String,
    pub(crate) target: Option<Target>,
}

/// A resource, a collection of them, or one by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    /// For a namespace itself this is its name, as in a real server.
    pub(crate) namespace: String,
    /// The name in the path, or the one a field selector asks for.
    pub(crate) name: String,
    /// Whether the name stands in the path.
    pub(crate) named: bool,
}

impl Incoming<'_> {
    /// Reads the body, at most 3 MiB of it.
    pub(crate) fn read_body(&mut self) -> Result<Vec<u8>, Status> {
        if self.head.expects_continue() && !self.continued {
            self.continued = true;
            if self.conn.send(b"HTTP/1.1 100 Continue\r\n\r\n").is_err() {
                self.broken = true;
            }
        }
        let mut body = Vec::new();
        match self
            .conn
            .read_body(&mut self.unread, BODY_LIMIT + 1, &mut body)
        {
            Ok(()) if body.len() > BODY_LIMIT => Err(Status::too_large()),
            Ok(()) => {
                self.body = Some(body.clone());
                Ok(body)
            }
            Err(error) => {
                self.broken = error.kind() != io::ErrorKind::InvalidData;
                Err(Status::bad_request("unexpected EOF"))
            }
        }
    }

    /// The program of the user agent: the manager of fields when none is named.
    pub(crate) fn manager(&self) -> String {
        let agent = self.head.header("user-agent").unwrap_or("unknown");
        let given = self
            .params
            .get("fieldManager")
            .filter(|manager| !manager.is_empty());
        given
            .unwrap_or_else(|| agent.split('/').next().unwrap_or_default())
            .to_owned()
    }
}

impl Params {
    pub(crate) fn parse(query: &str) -> Self {
        let pairs = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (percent_decode(name, true), percent_decode(value, true))
            });
        Self(pairs.collect())
    }

    /// The first value of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A value, the empty string when it is absent.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// Whether a boolean is set: present, and neither `false` nor `0`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value != "false" && value != "0")
    }

    /// All values of this name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

impl Info {
    /// Reads method, path and query.
    pub(crate) fn new(method: &str, path: &str, params: &Params) -> Self {
        let verb = method.to_lowercase();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let (group, version, mut rest) = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => {
                return Self {
                    verb,
                    path: path.to_owned(),
                    target: None,
                };
            }
        };
        let old_watch = rest.first() == Some(&"watch") && rest.len() > 1;
        if old_watch {
            rest = &rest[1..];
        }
        let mut namespace = "";
        if let ["namespaces", name, more @ ..] = rest {
            namespace = name;
            if !more.is_empty() && more[0] != "status" && more[0] != "finalize" {
                rest = more;
            }
        }
        let part = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
        let mut target = Target {
            group: group.to_owned(),
            version: version.to_owned(),
            resource: part(0),
            namespace: namespace.to_owned(),
            name: part(1),
            named: rest.len() > 1,
            subresource: part(2),
        };
        let watch = old_watch || params.flag("watch");
        let verb = match (verb.as_str(), target.named) {
            ("get" | "head", true) => "get",
            ("get" | "head", false) if watch => "watch",
            ("get" | "head", false) => "list",
            ("post", _) => "create",
            ("put", _) => "update",
            ("delete", false) => "deletecollection",
            (other, _) => other,
        };
        if !target.named && matches!(verb, "list" | "watch" | "deletecollection") {
            let by_name = params
                .text("fieldSelector")
                .split(',')
                .find_map(|part| part.strip_prefix("metadata.name="));
            let name = by_name.unwrap_or_default().trim_start_matches('=');
            name.clone_into(&mut target.name);
        }
        Self {
            verb: verb.to_owned(),
            path: path.to_owned(),
            target: Some(target),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: &str, url: &str) -> Info {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        Info::new(method, path, &Params::parse(query))
    }

    #[test]
    fn reads_paths() {
        let target = |url: &str| {
            let target = info("GET", url).target.unwrap();
            [
                target.group,
                target.version,
                target.resource,
                target.subresource,
                target.namespace,
                target.name,
            ]
            .join("|")
        };
        assert_eq!(target("/api/v1/pods"), "|v1|pods|||");
        assert_eq!(
            target("/api/v1/namespaces/a/pods/b/log"),
            "|v1|pods|log|a|b"
        );
        assert_eq!(target("/api/v1/namespaces/a"), "|v1|namespaces||a|a");
        assert_eq!(
            target("/api/v1/namespaces/a/status"),
            "|v1|namespaces|status|a|a"
        );
        assert_eq!(
            target("/apis/apps/v1/deployments"),
            "apps|v1|deployments|||"
        );
        assert_eq!(
            target("/api/v1/watch/namespaces/a/configmaps"),
            "|v1|configmaps||a|"
        );
        for url in ["/api/v1", "/apis/apps/v1", "/version", "/", "/apis"] {
            assert!(info("GET", url).target.is_none(), "{url}");
        }
    }

    #[test]
    fn reads_verbs() {
        for (method, url, verb) in [
            ("GET", "/api/v1/pods", "list"),
            ("GET", "/api/v1/pods?watch=1", "watch"),
            ("GET", "/api/v1/pods?watch=false", "list"),
            ("GET", "/api/v1/namespaces/a/pods/b?watch=1", "get"),
            ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection"),
            ("DELETE", "/api/v1/namespaces/a/pods/b", "delete"),
            ("PUT", "/api/v1/namespaces/a/pods/b", "update"),
            ("POST", "/api/v1/namespaces/a/pods", "create"),
            ("HEAD", "/version", "head"),
        ] {
            assert_eq!(info(method, url).verb, verb, "{method} {url}");
        }
    }
}
