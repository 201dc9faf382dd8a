//! What can go wrong, on what, and what to do about it.

use std::fmt;
use std::time::Duration;

use crate::config::ConfigError;
use crate::meta::Status;

/// Every failure of this crate.
///
/// A variant says *when* it happened; [`Error::status_code`] and the `is_*` methods answer the
/// questions callers ask most. No variant ever carries a token or another credential.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The server answered with an error status.
    Api(Box<ApiError>),
    /// The answer is larger than the limit for it; the rest was not read.
    BodyTooLarge {
        /// What was asked for.
        request: Request,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The configuration or a credential is unusable.
    Config(ConfigError),
    /// The answer is not the JSON that was expected.
    Decode {
        /// What was asked for.
        request: Request,
        /// What the parser found.
        source: serde_json::Error,
    },
    /// The object to send could not be written as JSON.
    Encode {
        /// What was to be sent.
        request: Request,
        /// What the serialiser said.
        source: serde_json::Error,
    },
    /// A name, namespace, group or version that cannot stand in a path.
    InvalidName {
        /// `name`, `namespace`, `group` or `version`.
        what: &'static str,
        /// The first characters of it.
        name: String,
    },
    /// The client was shut down by its [`Shutdown`](crate::Shutdown) handle.
    Shutdown,
    /// No usable answer came: name resolution, connection, TLS, a timeout, a broken stream.
    Transport {
        /// What was asked for.
        request: Request,
        /// Where in the exchange it broke.
        kind: TransportKind,
        /// What the layer below said.
        message: String,
    },
}

/// The request an error belongs to. Query parameters are left out: they hold page tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The Kubernetes verb: `get`, `list`, `watch`, `create`, `apply`, `patch`, `delete`.
    pub verb: &'static str,
    /// The path, without the query.
    pub path: String,
}

/// An error status, with the server's own explanation where it gave one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiError {
    /// What was asked for.
    pub request: Request,
    /// The HTTP status.
    pub code: u16,
    /// The `Status` object of the body; a plain-text body is in its `message` (at most 1 KiB).
    pub status: Status,
    /// The `Retry-After` header (RFC 9110, 10.2.3), when there was one.
    pub retry_after: Option<Duration>,
    /// A 410's token for going on with an inconsistent rest of the list.
    pub continue_token: Option<String>,
}

/// Where an exchange broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportKind {
    /// The connection was refused or could not be made.
    Connect,
    /// The host name did not resolve.
    Dns,
    /// The answer was cut off, or was not HTTP.
    Protocol,
    /// Nothing came for too long, or the whole took too long.
    Timeout,
    /// The TLS handshake failed: an unknown CA, an expired or wrong certificate.
    Tls,
}

impl Error {
    /// The HTTP status, when the server answered with one.
    #[must_use]
    pub fn status_code(&self) -> Option<u16> {
        match self {
            Self::Api(error) => Some(error.code),
            _ => None,
        }
    }

    /// The server's answer, when there was one.
    #[must_use]
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Api(error) => Some(error),
            _ => None,
        }
    }

    /// 401: the credential is not accepted.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        self.status_code() == Some(401)
    }

    /// 403: not allowed, by RBAC, admission, quota, or a terminating namespace (see the reason).
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.status_code() == Some(403)
    }

    /// 404: no such object, kind or API group.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.status_code() == Some(404)
    }

    /// 409: exists already, was changed meanwhile, or is owned by another field manager.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status_code() == Some(409)
    }

    /// 410: the resourceVersion or continue token has expired.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.status_code() == Some(410)
    }

    /// Whether the same call may well succeed later without anyone changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Api(error) => matches!(error.code, 408 | 410 | 429 | 500..=599),
            Self::Transport { .. } | Self::BodyTooLarge { .. } | Self::Decode { .. } => true,
            Self::Config(_) | Self::Encode { .. } | Self::InvalidName { .. } | Self::Shutdown => {
                false
            }
        }
    }

    pub(crate) fn transport(request: &Request, error: ureq::Error) -> Self {
        let (kind, message) = TransportKind::explain(error);
        Self::Transport {
            request: request.clone(),
            kind,
            message,
        }
    }

    /// An error while reading an answer's body.
    pub(crate) fn body(request: &Request, error: std::io::Error) -> Self {
        let (kind, message) = TransportKind::explain_read(error);
        Self::Transport {
            request: request.clone(),
            kind,
            message,
        }
    }
}

impl TransportKind {
    /// Says where an exchange of ureq's broke, and how in words. For other HTTPS clients in the
    /// same program.
    #[must_use]
    pub fn explain(error: ureq::Error) -> (Self, String) {
        classify(error)
    }

    /// The same of an error while reading an answer's body; ureq hides its own errors inside
    /// `io::Error`.
    #[must_use]
    pub fn explain_read(error: std::io::Error) -> (Self, String) {
        classify(match error.downcast::<ureq::Error>() {
            Ok(inner) => inner,
            Err(error) => ureq::Error::Io(error),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(error) => error.fmt(f),
            Self::BodyTooLarge { request, limit } => {
                write!(f, "{request}: the answer is larger than {limit} bytes")
            }
            Self::Config(error) => error.fmt(f),
            Self::Decode { request, source } => {
                write!(
                    f,
                    "{request}: the answer is not the expected JSON: {source}"
                )
            }
            Self::Encode { request, source } => {
                write!(
                    f,
                    "{request}: the object cannot be written as JSON: {source}"
                )
            }
            Self::InvalidName { what, name } => write!(
                f,
                "{name:?} is not a usable {what}: it must be 1 to 253 characters without '/' and '%'"
            ),
            Self::Shutdown => f.write_str("the client was shut down"),
            Self::Transport {
                request,
                kind,
                message,
            } => write!(f, "{request}: {kind}: {message}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Decode { source, .. } | Self::Encode { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.path)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.request, self.code)?;
        if !self.status.reason.is_empty() {
            write!(f, " {}", printable(&self.status.reason))?;
        }
        if !self.status.message.is_empty() {
            write!(f, ": {}", printable(&self.status.message))?;
        }
        Ok(())
    }
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "cannot connect",
            Self::Dns => "cannot resolve the host name",
            Self::Protocol => "broken answer",
            Self::Timeout => "timed out",
            Self::Tls => "TLS failed",
        })
    }
}

/// What a server says stays on its line of a log, and does not steer a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn classify(error: ureq::Error) -> (TransportKind, String) {
    match error {
        ureq::Error::HostNotFound => (TransportKind::Dns, "no address found".to_owned()),
        ureq::Error::Timeout(timeout) => (TransportKind::Timeout, timeout.to_string()),
        ureq::Error::Tls(message) => (TransportKind::Tls, message.to_owned()),
        ureq::Error::Rustls(error) => (TransportKind::Tls, explain_tls(&error)),
        ureq::Error::Pem(error) => (TransportKind::Tls, error.to_string()),
        ureq::Error::ConnectionFailed | ureq::Error::ConnectProxyFailed(_) => {
            (TransportKind::Connect, error.to_string())
        }
        ureq::Error::Io(error) => classify_io(&error),
        other => (TransportKind::Protocol, other.to_string()),
    }
}

fn classify_io(error: &std::io::Error) -> (TransportKind, String) {
    use std::io::ErrorKind;

    if let Some(tls) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        return (TransportKind::Tls, explain_tls(tls));
    }
    let kind = match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => TransportKind::Timeout,
        ErrorKind::ConnectionRefused
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::AddrNotAvailable
        | ErrorKind::PermissionDenied => TransportKind::Connect,
        _ if error.to_string().contains("failed to lookup address") => TransportKind::Dns,
        _ => TransportKind::Protocol,
    };
    (kind, error.to_string())
}

/// Puts the commonest certificate troubles into words that say what to change.
fn explain_tls(error: &rustls::Error) -> String {
    use rustls::{CertificateError, Error};

    let hint = match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the server's certificate is not signed by the configured CA"
        }
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the server's certificate has expired, or this machine's clock is wrong",
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the server's certificate is not valid yet, or this machine's clock is wrong",
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for another name",
        Error::InvalidMessage(_) => "the other side does not speak TLS",
        _ => return error.to_string(),
    };
    format!("{hint} ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            verb: "list",
            path: "/api/v1/pods".to_owned(),
        }
    }

    #[test]
    fn an_api_error_reads_like_a_sentence() {
        let error = Error::Api(Box::new(ApiError {
            request: request(),
            code: 403,
            status: Status {
                code: 403,
                reason: "Forbidden".to_owned(),
                message: "pods is forbidden".to_owned(),
                ..Status::default()
            },
            retry_after: None,
            continue_token: None,
        }));
        assert_eq!(
            error.to_string(),
            "list /api/v1/pods: 403 Forbidden: pods is forbidden"
        );
        assert!(error.is_forbidden() && !error.is_transient());
    }

    #[test]
    fn an_api_error_stays_on_its_line() {
        let error = ApiError {
            request: request(),
            code: 500,
            status: Status {
                message: "a\nINFO b\x1b[2J".to_owned(),
                ..Status::default()
            },
            retry_after: None,
            continue_token: None,
        };
        assert_eq!(error.to_string(), "list /api/v1/pods: 500: a INFO b [2J");
    }

    #[test]
    fn tls_troubles_are_explained() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let io = std::io::Error::new(std::io::ErrorKind::InvalidData, tls);
        let error = Error::body(&request(), io);
        assert!(
            error
                .to_string()
                .contains("not signed by the configured CA"),
            "{error}"
        );
        assert!(error.is_transient());
    }

    #[test]
    fn io_errors_find_their_kind() {
        use std::io::ErrorKind;
        for (kind, expected) in [
            (ErrorKind::ConnectionRefused, TransportKind::Connect),
            (ErrorKind::TimedOut, TransportKind::Timeout),
            (ErrorKind::UnexpectedEof, TransportKind::Protocol),
        ] {
            let Error::Transport { kind, .. } = Error::body(&request(), kind.into()) else {
                unreachable!("an io error is a transport error");
            };
            assert_eq!(kind, expected);
        }
    }
}
