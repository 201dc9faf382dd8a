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
                obtained.current.authorization = Some(bearer(token.expose(), "configuration")?);
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::super::Interactive;
    use super::*;

    fn header(credentials: &mut Credentials, now: Instant) -> String {
        let current = credentials.current(now).unwrap();
        current
            .authorization
            .map_or_else(String::new, |header| header.expose().to_owned())
    }

    #[test]
    fn tokens() {
        let invalid = "token: the token has a space, a control character or a character outside of ASCII in it";
        for (token, expected) in [
            ("abc\n", "Bearer abc"),
            ("\r\n abc.def-_~+/= \n", "Bearer abc.def-_~+/="),
            ("", "token: the token is empty"),
            (" \n", "token: the token is empty"),
            ("s3cret\r\nHost: evil", invalid),
            ("s3cret\0", invalid),
            ("s3crét", invalid),
            ("s3cret\u{fffd}", invalid),
        ] {
            let text = match bearer(token, "token") {
                Ok(header) => header.expose().to_owned(),
                Err(error) => error.to_string(),
            };
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn token_file_rotates() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let start = Instant::now();
        let mut credentials = Credentials::new(&Auth::TokenFile(path.clone()));
        let error = credentials.current(start).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{}: cannot read the token: ", path.display())),
            "{error}"
        );

        fs::write(&path, "one\n").unwrap();
        assert_eq!(header(&mut credentials, start), "Bearer one");
        fs::write(dir.path().join("new"), "two").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(header(&mut credentials, start), "Bearer two");

        // Away, then empty: the last one is good enough, even when the server does not like it.
        fs::remove_file(&path).unwrap();
        assert_eq!(header(&mut credentials, start), "Bearer two");
        assert!(credentials.warned);
        credentials.rejected();
        fs::write(&path, "").unwrap();
        assert_eq!(
            header(&mut credentials, start + TOKEN_FILE_AGE * 2),
            "Bearer two"
        );
        fs::write(&path, "three").unwrap();
        assert_eq!(header(&mut credentials, start), "Bearer three");
        assert!(!credentials.warned && !credentials.rejected);
    }

    #[test]
    fn token_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "one").unwrap();
        let start = Instant::now();
        let mut credentials = Credentials::new(&Auth::TokenFile(path.clone()));
        credentials.current(start).unwrap();
        // The same length, inode and time: only age and rejection tell.
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let overwrite = |text: &str| {
            fs::write(&path, text).unwrap();
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(modified)
                .unwrap();
        };
        overwrite("two");
        assert_eq!(
            header(&mut credentials, start + TOKEN_FILE_AGE / 2),
            "Bearer one"
        );
        assert_eq!(
            header(&mut credentials, start + TOKEN_FILE_AGE),
            "Bearer two"
        );
        overwrite("six");
        credentials.rejected();
        assert_eq!(
            header(&mut credentials, start + TOKEN_FILE_AGE),
            "Bearer six"
        );
    }

    #[test]
    fn no_token() {
        assert_eq!(
            header(&mut Credentials::new(&Auth::None), Instant::now()),
            ""
        );
    }

    #[test]
    fn plugin_runs_when_it_must() {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("count");
        // Prints the number of times it ran as the token, and the expiry it finds in a file.
        let script = r#"echo x >> "$COUNT"; n=$(wc -l < "$COUNT"); printf '{"apiVersion":"client.authentication.k8s.io/v1",
            "kind":"ExecCredential","status":{"token":"run-%s","expirationTimestamp":"%s"}}' $n "$(cat "$COUNT.expiry")""#;
        let expiry = dir.path().join("count.expiry");
        let mut credentials = Credentials::new(&Auth::Exec(ExecPlugin {
            api_version: "client.authentication.k8s.io/v1".to_owned(),
            command: "/bin/sh".into(),
            args: vec!["-c".to_owned(), script.to_owned()],
            env: vec![("COUNT".to_owned(), Secret::new(count.to_str().unwrap()))],
            cluster_info: None,
            interactive: Interactive::Never,
            install_hint: None,
        }));
        let now = Instant::now();
        fs::write(&expiry, "2020-01-01T00:00:00Z").unwrap();
        assert_eq!(header(&mut credentials, now), "Bearer run-1");
        fs::write(&expiry, "2999-01-01T00:00:00Z").unwrap();
        assert_eq!(header(&mut credentials, now), "Bearer run-2");
        assert_eq!(header(&mut credentials, now), "Bearer run-2");
        credentials.rejected();
        assert_eq!(header(&mut credentials, now), "Bearer run-3");
        assert_eq!(header(&mut credentials, now), "Bearer run-3");
        fs::write(&expiry, "tomorrow").unwrap();
        credentials.rejected();
        assert_eq!(
            credentials.current(now).unwrap_err().to_string(),
            "credential plugin /bin/sh printed an expirationTimestamp that is not RFC 3339"
        );
    }

    #[test]
    fn plugin_changes_its_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let answer = dir.path().join("answer");
        let write = |token: &str, (cert, key): &(String, String)| {
            let status = serde_json::json!({
                "token": token, "clientCertificateData": cert, "clientKeyData": key,
                "expirationTimestamp": "2020-01-01T00:00:00Z",
            });
            let credential = serde_json::json!({
                "apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential", "status": status,
            });
            fs::write(&answer, credential.to_string()).unwrap();
        };
        let mut credentials = Credentials::new(&Auth::Exec(ExecPlugin {
            api_version: "client.authentication.k8s.io/v1beta1".to_owned(),
            command: "cat".into(),
            args: vec![answer.to_str().unwrap().to_owned()],
            env: Vec::new(),
            cluster_info: None,
            interactive: Interactive::Never,
            install_hint: None,
        }));
        let (one, two) = (
            super::super::tls::tests::pair(),
            super::super::tls::tests::pair(),
        );
        let mut generations = Vec::new();
        for (token, pair) in [("a", &one), ("b", &one), ("c", &two)] {
            write(token, pair);
            let current = credentials.current(Instant::now()).unwrap();
            assert_eq!(
                current.authorization.unwrap().expose(),
                format!("Bearer {token}")
            );
            assert_eq!(current.client.unwrap().chain.len(), 1);
            generations.push(current.generation);
        }
        assert_eq!(generations, [1, 1, 2]);
        write("a", &(one.0.clone(), two.1.clone()));
        let error = credentials.current(Instant::now()).unwrap_err().to_string();
        assert!(
            error.starts_with("credential plugin cat: clientKeyData: this private key"),
            "{error}"
        );
    }
}
