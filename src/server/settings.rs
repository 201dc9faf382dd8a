//! Where the server is and how to get there.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use kube_client_lite::config::{check_proxy, check_server};
use ureq::http::Uri;

use super::no_proxy;

/// What the user set about the server, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerSettings {
    pub(crate) url: ServerUrl,
    /// Certificate authorities to trust instead of the public ones.
    pub(crate) ca_file: Option<PathBuf>,
    /// Only where the server is to be reached through one.
    pub(crate) proxy: Option<ProxyUrl>,
}

/// `https://HOST[:PORT][/PREFIX]`, or `http://` on this very machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    /// Without a slash at its end.
    text: String,
    host: String,
    port: u16,
    tls: bool,
}

/// The URL of an HTTP proxy. It may hold a password, so nothing of it is ever shown but the host.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ProxyUrl(ureq::Proxy);

impl ServerUrl {
    /// Takes what can be called without showing the API key to a network.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = check_server(text).ok()?;
        let uri: Uri = text.parse().ok()?;
        let tls = uri.scheme_str() == Some("https");
        let host = uri.host()?.trim_matches(['[', ']']).to_ascii_lowercase();
        let port = port(&uri)?.unwrap_or(if tls { 443 } else { 80 });
        let url = Self {
            text,
            host,
            port,
            tls,
        };
        (tls || url.is_loopback()).then_some(url)
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) const fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether this is a host that no packet leaves the machine for.
    pub(super) fn is_loopback(&self) -> bool {
        let address: Option<IpAddr> = self.host.parse().ok();
        address.map_or(self.host == "localhost", |address| address.is_loopback())
    }

    /// Whether `list`, which is what `NO_PROXY` holds, has this server.
    fn is_excluded(&self, list: &str) -> bool {
        no_proxy::covers(list, &self.host, self.port)
    }
}

impl Default for ServerUrl {
    fn default() -> Self {
        Self {
            text: "https://api.kube9.io".to_owned(),
            host: "api.kube9.io".to_owned(),
            port: 443,
            tls: true,
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl ProxyUrl {
    /// The proxy for a server, if there is to be one; `Err` when it is to be one that cannot be
    /// used.
    pub(crate) fn choose(
        proxy: &str,
        no_proxy: Option<&str>,
        server: &ServerUrl,
    ) -> Result<Option<Self>, ()> {
        if server.is_loopback() || no_proxy.is_some_and(|list| server.is_excluded(list)) {
            return Ok(None);
        }
        Self::parse(proxy).map(Some).ok_or(())
    }

    /// As elsewhere, `HOST:PORT` is enough.
    fn parse(text: &str) -> Option<Self> {
        let mut text = text.trim().to_owned();
        if !text.contains("://") {
            text.insert_str(0, "http://");
        }
        check_proxy(&text).ok()?;
        let proxy = ureq::Proxy::new(&text).ok()?;
        port(proxy.uri())?;
        Some(Self(proxy))
    }

    pub(super) fn host(&self) -> &str {
        self.0.host()
    }

    pub(super) const fn ureq(&self) -> &ureq::Proxy {
        &self.0
    }
}

/// The port of a URL, if it has one; `None` when it is no number, which the parser passes over.
#[allow(clippy::option_option)]
fn port(uri: &Uri) -> Option<Option<u16>> {
    let authority = uri.authority()?.as_str();
    let behind_user = authority.rsplit('@').next()?;
    let behind_host = behind_user.strip_prefix(uri.host()?)?;
    match behind_host.strip_prefix(':') {
        Some(port) => port.parse().ok().map(Some),
        None => Some(None),
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProxyUrl").field(&self.host()).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_called_without_tls() {
        for (text, expected) in [
            ("https://api.kube9.io", Some(("api.kube9.io", 443))),
            (
                "https://API.kube9.io:8443/eu/",
                Some(("api.kube9.io", 8443)),
            ),
            ("https://[2001:db8::1]", Some(("2001:db8::1", 443))),
            ("http://localhost:8080", Some(("localhost", 8080))),
            ("http://127.1.2.3", Some(("127.1.2.3", 80))),
            ("http://[::1]:8080", Some(("::1", 8080))),
            ("http://api.kube9.io", None),
            ("http://localhost.kube9.io", None),
            ("http://127.0.0.1.kube9.io", None),
            ("http://0.0.0.0", None),
            ("http://10.0.0.1", None),
            ("http://[::]", None),
            ("ftp://localhost", None),
            ("api.kube9.io", None),
            ("https://", None),
            ("https://u:p@api.kube9.io", None),
            ("https://api.kube9.io?x", None),
            ("https://api.kube9.io#x", None),
            ("https://a b", None),
            ("https://a:", None),
            ("https://a:https", None),
            ("https://a:65536", None),
            ("https://[::1]:x", None),
        ] {
            let url = ServerUrl::parse(text);
            assert_eq!(
                url.as_ref().map(|url| (url.host(), url.port)),
                expected,
                "{text}"
            );
        }
        assert_eq!(
            ServerUrl::parse("https://api.kube9.io/"),
            Some(ServerUrl::default())
        );
    }

    #[test]
    fn a_proxy_is_chosen_for_servers_elsewhere() {
        let choose = |proxy, no_proxy, server| {
            let url = ServerUrl::parse(server).unwrap();
            let chosen = ProxyUrl::choose(proxy, no_proxy, &url);
            chosen.map(|proxy| proxy.map(|proxy| proxy.ureq().uri().to_string()))
        };
        let server = "https://api.kube9.io";
        for (text, expected) in [
            ("http://proxy:3128", "http://proxy:3128/"),
            (" proxy:3128 ", "http://proxy:3128/"),
            ("https://user:pass@proxy", "https://user:pass@proxy/"),
        ] {
            let chosen = choose(text, Some("10.0.0.0/8"), server).unwrap();
            assert_eq!(chosen.as_deref(), Some(expected));
            assert_eq!(choose(text, Some("x, .kube9.io"), server), Ok(None));
            assert_eq!(choose(text, None, "https://localhost"), Ok(None));
            assert_eq!(choose(text, None, "http://127.0.0.1:1"), Ok(None));
        }
        for text in [
            "socks5://proxy:1080",
            "http://",
            "http://a b",
            "http://user:pass",
            "a:b:c",
        ] {
            assert_eq!(choose(text, None, server), Err(()), "{text}");
            assert_eq!(choose(text, Some("*"), server), Ok(None));
        }
    }
}
