use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::file::{self, FileStamp};
use super::tls::ClientIdentity;
use super::{ConfigError, ExecPlugin, Secret};

/// How old a copy of a token file may be. The kubelet rotates a token at 80 % of its life, which
/// is ten minutes at the least.
const TOKEN_FILE_AGE: Duration = Duration::from_secs(60);

/// How requests are authenticated, besides a client certificate in [`Tls`](super::Tls).
///
/// Basic authentication is left out: Kubernetes removed it in 1.19.
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
    last: Option<Obtained>,
    generation: u64,
    /// The server said no to the last ones.
    rejected: bool,
    /// The log already says that the token file cannot be read.
    warned: bool,
}

/// The credentials for one request.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    /// The value of the `Authorization` header.
    pub(crate) authorization: Option<Secret>,
    /// A plugin's client certificate; it goes before the one in `Tls`.
    pub(crate) client: Option<Arc<ClientIdentity>>,
    /// Differs from the last one when `client` does.
    pub(crate) generation: u64,
}

#[derive(Debug)]
struct Obtained {
    current: Current,
    at: Instant,
    stamp: Option<FileStamp>,
    expires: Option<Timestamp>,
}

impl Credentials {
    pub(crate) fn new(auth: &Auth) -> Self {
        Credentials {
            auth: auth.clone(),
            last: None,
            generation: 0,
            rejected: false,
            warned: false,
        }
    }

    /// Gives what to authenticate the next request with; may read a file or run a plugin, which
    /// may take a minute.
    pub(crate) fn current(&mut self, now: Instant) -> Result<Current, ConfigError> {
        if let Some(last) = self.last.as_ref().filter(|last| self.usable(last, now)) {
            return Ok(last.current.clone());
        }
        match self.obtain(now) {
            Ok(obtained) => {
                self.rejected = false;
                self.warned = false;
                let current = obtained.current.clone();
                self.last = Some(obtained);
                Ok(current)
            }
            // A mounted file may be away for a moment, and its token is good for longer.
            Err(error) => match (&self.auth, &self.last) {
                (Auth::TokenFile(_), Some(last)) => {
                    if !self.warned {
                        log::warn!("{error}; going on with the last token");
                        self.warned = true;
                    }
                    Ok(last.current.clone())
                }
                _ => Err(error),
            },
        }
    }

    /// The server said 401 to the last ones: the next call reads or runs again.
    pub(crate) fn rejected(&mut self) {
        self.rejected = true;
    }

    fn usable(&self, last: &Obtained, now: Instant) -> bool {
        match &self.auth {
            Auth::None | Auth::Token(_) => true,
            _ if self.rejected => false,
            Auth::TokenFile(path) => {
                now.saturating_duration_since(last.at) < TOKEN_FILE_AGE
                    && FileStamp::of(path) == last.stamp
            }
            Auth::Exec(_) => last
                .expires
                .is_none_or(|expires| Timestamp::now() < expires),
        }
    }

    fn obtain(&mut self, now: Instant) -> Result<Obtained, ConfigError> {
        let mut obtained = Obtained {
            current: Current {
                authorization: None,
                client: None,
                generation: self.generation,
            },
            at: now,
            stamp: None,
            expires: None,
        };
        match &self.auth {
            Auth::None => {}
            Auth::Token(token) => {
                obtained.current.authorization = Some(bearer(token.expose(), "configuration")?)
            }
            Auth::TokenFile(path) => {
                // Before the reading: a change in between is seen the next time.
                obtained.stamp = FileStamp::of(path);
                obtained.current.authorization = Some(read_token(path)?);
            }
            Auth::Exec(plugin) => {
                let credential = plugin.run()?;
                obtained.expires = credential.expires;
                if let Some(token) = credential.token {
                    let origin = format!("credential plugin {}", plugin.command.display());
                    obtained.current.authorization = Some(bearer(token.expose(), &origin)?);
                }
                let before = self
                    .last
                    .as_ref()
                    .and_then(|last| last.current.client.clone());
                let same = before.as_ref().map(|client| &client.chain)
                    == credential.client.as_ref().map(|client| &client.chain);
                obtained.current.client = if same {
                    before
                } else {
                    credential.client.map(Arc::new)
                };
                if !same {
                    self.generation += 1;
                    obtained.current.generation = self.generation;
                }
            }
        }
        Ok(obtained)
    }
}

fn read_token(path: &Path) -> Result<Secret, ConfigError> {
    let token = file::read(path, "token")?;
    // What is not UTF-8 becomes a character that no token has.
    bearer(
        &String::from_utf8_lossy(&token),
        &path.display().to_string(),
    )
}

/// The header's value. RFC 6750 allows fewer characters still; these are the ones that could
/// break the header, or make two of one.
fn bearer(token: &str, origin: &str) -> Result<Secret, ConfigError> {
    let token = token.trim();
    let reason = if token.is_empty() {
        "is empty"
    } else if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Secret::new(format!("Bearer {token}")));
    } else {
        "has a space, a control character or a character outside of ASCII in it"
    };
    Err(ConfigError::TokenInvalid {
        origin: origin.to_owned(),
        reason,
    })
}
