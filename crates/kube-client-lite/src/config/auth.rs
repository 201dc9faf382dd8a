use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::tls::ClientIdentity;
use super::{ConfigError, ExecPlugin, Secret};

/// How requests are authenticated, besides a client certificate in [`Tls`](super::Tls).
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// A credential plugin that gives a token, a client certificate or both.
    Exec(ExecPlugin),
    /// No token.
    #[default]
    None,
    /// A bearer token.
    Token(Secret),
    /// A file with a bearer token, read again when it changes or the copy is a minute old.
    TokenFile(PathBuf),
}

/// The credentials of a client over time: tokens rotate, plugins' answers expire.
#[derive(Debug)]
pub(crate) struct Credentials {
    auth: Auth,
}

/// The credentials for one request.
#[derive(Clone)]
pub(crate) struct Current {
    /// The value of the `Authorization` header.
    pub(crate) authorization: Option<Secret>,
    /// A plugin's client certificate; it goes before the one in `Tls`.
    pub(crate) client: Option<Arc<ClientIdentity>>,
    /// Differs from the last one when `client` does.
    pub(crate) generation: u64,
}

impl Credentials {
    pub(crate) fn new(auth: &Auth) -> Self {
        Credentials { auth: auth.clone() }
    }

    /// Gives what to authenticate the next request with; may read a file or run a plugin.
    pub(crate) fn current(&mut self, now: Instant) -> Result<Current, ConfigError> {
        let _ = (now, &self.auth);
        todo!()
    }

    /// The server said 401 to the last ones: the next call reads or runs again.
    pub(crate) fn rejected(&mut self) {
        todo!()
    }
}
