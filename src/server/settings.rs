//! Where the server is and how to get there.

use std::fmt;
use std::path::PathBuf;

use kube_client_lite::config::Secret;

/// What the user set about the server, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerSettings {
    pub(crate) url: ServerUrl,
    /// Certificate authorities to trust instead of the public ones.
    pub(crate) ca_file: Option<PathBuf>,
    /// Only where the server is not to be reached without.
    pub(crate) proxy: Option<ProxyUrl>,
}

/// `https://host[:port][/prefix]` without a slash at its end, or `http://` of this very machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerUrl(String);

/// The URL of an HTTP proxy, perhaps with a password in it.
#[derive(Clone)]
pub(crate) struct ProxyUrl(Secret);

impl Default for ServerUrl {
    fn default() -> Self {
        Self("https://api.kube9.io".to_owned())
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for ProxyUrl {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose() == other.0.expose()
    }
}

impl Eq for ProxyUrl {}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyUrl(..)")
    }
}
