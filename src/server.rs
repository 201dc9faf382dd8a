//! kube9-server: six calls, and what each answer means.
//!
//! Nothing the server says is trusted: every answer is bounded in size and time, every text is
//! cleaned and cut, and what is not as agreed is an error of its call. Nothing that a server or a
//! proxy could make of the API key is shown.

mod answer;
mod connection;
mod error;
mod gate;
mod no_proxy;
mod settings;
#[cfg(test)]
mod tests;
pub(crate) mod text;
mod types;

use std::fmt;
use std::io::{self, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use kube_client_lite::{Shutdown, TransportKind};
use serde::Serialize;
use ureq::SendBody;
use ureq::http::{self, HeaderValue, Request, Response, header};

pub(crate) use error::{Call, CallError, Meaning};
pub(crate) use gate::Gate;
pub(crate) use settings::{ProxyUrl, ServerSettings, ServerUrl};
pub(crate) use types::{
    Acknowledge, Analyze, InsightAnswer, InsightPage, InsightState, QuotaAnswer, Registered,
    Registration,
};

use crate::api_key::ApiKey;
use crate::backoff::paced;
use crate::time::Time;
use connection::{Connection, Deadline};

const JSON: &str = "application/json";

/// How long a connection may take, TLS included, and a call as a whole. Tests that shorten all
/// waits shorten these less: their machines are busy.
const CONNECT: Duration = Duration::from_secs(10);
const WHOLE: Duration = Duration::from_secs(30);

/// A larger answer is an error.
const MAX_ANSWER: u64 = 4 << 20;

/// Of a body that decides nothing this much is read.
const MAX_REST: u64 = 64 << 10;

/// For reading what decides nothing: the words of an error, and bodies nobody needs. Those are
/// read for the connection to be used again.
const GRACE: Duration = Duration::from_secs(2);

/// From this size on the server is asked first whether it will have a body. One that refuses it
/// unread may close the connection before its answer has been read.
const LARGE: u64 = 256 << 10;

/// The server, as one API key sees it. Connects with the first call, and makes one at a time.
pub(crate) struct Server {
    settings: ServerSettings,
    key: ApiKey,
    connect: Duration,
    whole: Duration,
    shutdown: Shutdown,
    deadline: Deadline,
    /// Held for the length of a call.
    connection: Mutex<Option<Connection>>,
}

/// What is to be sent: a reader that must give exactly so many bytes.
struct Source<'a> {
    from: &'a mut dyn Read,
    left: u64,
    failed: Option<io::Error>,
}

impl Server {
    pub(crate) fn new(settings: &ServerSettings, key: ApiKey) -> Self {
        Self {
            settings: settings.clone(),
            key,
            connect: paced(CONNECT).max(CONNECT / 5),
            whole: paced(WHOLE).max(WHOLE / 5),
            shutdown: Shutdown::default(),
            deadline: Deadline::new(),
            connection: Mutex::new(None),
        }
    }

    /// How long a connection may take, TLS included, and a call as a whole: 10 s and 30 s unless
    /// set.
    #[must_use]
    pub(crate) fn with_limits(mut self, connect: Duration, whole: Duration) -> Self {
        self.connect = connect;
        self.whole = whole;
        self
    }

    /// Lets `shutdown` end this server's calls: one handle for the servers of one key after the
    /// other.
    #[must_use]
    pub(crate) fn with_shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// The handle that frees a blocked call from another thread, and ends all calls for good.
    #[cfg(test)]
    pub(crate) fn shutdown_handle(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Closes the connection and gives back its memory; the next call connects anew. Waits for a
    /// call that is under way.
    pub(crate) fn disconnect(&self) {
        if let Some(connection) = self.connection().take() {
            connection.end(&self.shutdown);
        }
    }

    pub(crate) fn register(&self, registration: &Registration) -> Result<Registered, CallError> {
        let body = self.post(Call::Register, "/api/v1/register", None, registration)?;
        answer::registered(&body, &self.key).map_err(|error| self.broken(Call::Register, &error))
    }

    /// Sends a metrics body of exactly `length` bytes.
    pub(crate) fn push(&self, body: &mut dyn Read, length: u64) -> Result<(), CallError> {
        let body = Some(Source::new(body, length));
        self.send(Call::Push, "/api/v1/metrics", None, body)?;
        Ok(())
    }

    pub(crate) fn insights(&self, since: Time) -> Result<InsightPage, CallError> {
        let path = format!("/api/v1/insights?since={since}");
        let body = self.send(Call::Insights, &path, None, None)?;
        answer::insights(&body, &self.key).map_err(|error| self.broken(Call::Insights, &error))
    }

    pub(crate) fn analyze(&self, analyze: &Analyze) -> Result<(), CallError> {
        let key = analyze.request_id.to_string();
        self.post(Call::Analyze, "/api/v1/analyze", Some(&key), analyze)?;
        Ok(())
    }

    pub(crate) fn acknowledge(&self, acknowledge: &Acknowledge) -> Result<(), CallError> {
        self.post(Call::Acknowledge, "/api/v1/acknowledge", None, acknowledge)?;
        Ok(())
    }

    pub(crate) fn quota(&self) -> Result<QuotaAnswer, CallError> {
        let body = self.send(Call::Quota, "/api/v1/quota", None, None)?;
        answer::quota(&body).map_err(|error| self.broken(Call::Quota, &error))
    }

    fn post(
        &self,
        call: Call,
        path: &str,
        idempotency_key: Option<&str>,
        body: &impl Serialize,
    ) -> Result<Vec<u8>, CallError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| self.error(call, Meaning::Unsendable, &error.to_string()))?;
        let length = body.len() as u64;
        let mut body = body.as_slice();
        self.send(
            call,
            path,
            idempotency_key,
            Some(Source::new(&mut body, length)),
        )
    }

    /// Makes a call: the answer, if that is of any use. Without a body it is a GET.
    fn send(
        &self,
        call: Call,
        path: &str,
        idempotency_key: Option<&str>,
        mut body: Option<Source<'_>>,
    ) -> Result<Vec<u8>, CallError> {
        if self.shutdown.is_shut_down() {
            return Err(self.error(call, Meaning::Shutdown, ""));
        }
        let mut connection = self.connection();
        self.deadline.set(self.whole);
        let agent = Connection::current(
            &mut connection,
            &self.settings,
            self.connect,
            &self.deadline,
            &self.shutdown,
        )
        .map_err(|error| self.broken(call, &format!("TLS: {error}")))?;
        let response = self.exchange(&agent, path, idempotency_key, body.as_mut());
        match (response, body.and_then(|body| body.failed)) {
            (Ok(response), _) => self.read(call, response),
            (Err(_), Some(error)) => Err(self.error(call, Meaning::Unsendable, &error.to_string())),
            (Err(error), None) => {
                Err(self.broken(call, &self.explain(TransportKind::explain(error))))
            }
        }
    }

    fn exchange(
        &self,
        agent: &ureq::Agent,
        path: &str,
        idempotency_key: Option<&str>,
        body: Option<&mut Source<'_>>,
    ) -> Result<Response<ureq::Body>, ureq::Error> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", self.key.expose()))
            .map_err(http::Error::from)?;
        authorization.set_sensitive(true);
        let mut request = Request::builder()
            .uri(format!("{}{path}", self.settings.url))
            .header(header::ACCEPT, JSON)
            .header(header::AUTHORIZATION, authorization);
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let Some(body) = body else {
            return agent.run(request.body(SendBody::none())?);
        };
        if body.left > LARGE {
            request = request.header(header::EXPECT, "100-continue");
        }
        let request = request
            .method(http::Method::POST)
            .header(header::CONTENT_TYPE, JSON)
            .header(header::CONTENT_LENGTH, body.left);
        agent.run(request.body(SendBody::from_reader(body))?)
    }

    /// Takes an answer for what it means.
    fn read(&self, call: Call, response: Response<ureq::Body>) -> Result<Vec<u8>, CallError> {
        let code = response.status().as_u16();
        if response.status().is_success() {
            if call.has_answer() {
                return self.read_answer(call, response);
            }
            self.read_rest(response);
            return Ok(Vec::new());
        }
        let retry_after = response.headers().get(header::RETRY_AFTER).cloned();
        let retry_after = retry_after.as_ref().and_then(|value| value.to_str().ok());
        let meaning = answer::meaning(code, retry_after, SystemTime::now());
        let message = answer::message(&self.read_rest(response));
        let colon = if message.is_empty() { "" } else { ": " };
        Err(self.error(call, meaning, &format!("answered {code}{colon}{message}")))
    }

    fn read_answer(
        &self,
        call: Call,
        response: Response<ureq::Body>,
    ) -> Result<Vec<u8>, CallError> {
        let expected = response.body().content_length().unwrap_or(0);
        let mut body = Vec::new();
        if expected <= MAX_ANSWER {
            body.reserve_exact(usize::try_from(expected).unwrap_or(0));
            response
                .into_body()
                .into_reader()
                .take(MAX_ANSWER + 1)
                .read_to_end(&mut body)
                .map_err(|error| {
                    self.broken(call, &self.explain(TransportKind::explain_read(error)))
                })?;
        }
        if expected.max(body.len() as u64) > MAX_ANSWER {
            let detail = format!("the answer is larger than {MAX_ANSWER} bytes");
            return Err(self.broken(call, &detail));
        }
        Ok(body)
    }

    /// Reads what may be missing.
    fn read_rest(&self, response: Response<ureq::Body>) -> Vec<u8> {
        self.deadline.advance(GRACE);
        let mut body = Vec::new();
        let mut rest = response.into_body().into_reader().take(MAX_REST);
        if let Err(error) = rest.read_to_end(&mut body) {
            log::debug!("a body of kube9-server broke off: {error}");
        }
        body
    }

    fn explain(&self, (kind, message): (TransportKind, String)) -> String {
        let host = match &self.settings.proxy {
            Some(proxy) => proxy.host(),
            None => self.settings.url.host(),
        };
        match kind {
            TransportKind::Connect => format!("cannot connect to {host}: {message}"),
            TransportKind::Dns => format!("DNS: cannot find host {host}"),
            TransportKind::Protocol => format!("broken answer: {message}"),
            TransportKind::Timeout if message == ureq::Timeout::Connect.to_string() => {
                format!("no connection to {host} within {:?}", self.connect)
            }
            TransportKind::Timeout => format!("no answer within {:?}", self.whole),
            TransportKind::Tls => format!("TLS: {message}"),
            _ => message,
        }
    }

    /// An answer that did not come or cannot be used. What broke because of the shutdown says so.
    fn broken(&self, call: Call, detail: &str) -> CallError {
        let meaning = if self.shutdown.is_shut_down() {
            Meaning::Shutdown
        } else {
            Meaning::Unreachable
        };
        self.error(call, meaning, detail)
    }

    /// An error in whose words the key does not occur, however cut up it came.
    fn error(&self, call: Call, meaning: Meaning, detail: &str) -> CallError {
        CallError::new(call, meaning, &self.key.hide(text::line(detail)))
    }

    fn connection(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.disconnect();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl<'a> Source<'a> {
    fn new(from: &'a mut dyn Read, length: u64) -> Self {
        Self {
            from,
            left: length,
            failed: None,
        }
    }
}

/// Ends after the length that was told, and fails when there is less.
impl Read for Source<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(into.len(), |left| left.min(into.len()));
        let into = into.get_mut(..most).unwrap_or_default();
        if into.is_empty() {
            return Ok(0);
        }
        let error = loop {
            match self.from.read(into) {
                Ok(0) => break io::ErrorKind::UnexpectedEof.into(),
                Ok(read) => {
                    self.left = self.left.saturating_sub(read as u64);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
        };
        let kind = io::Error::kind(&error);
        self.failed = Some(error);
        Err(kind.into())
    }
}
