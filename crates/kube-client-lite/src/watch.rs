//! Watches that survive what watches suffer: servers that close them, networks that drop them,
//! resourceVersions that expire.
//!
//! Kubernetes: [Efficient detection of changes](https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes),
//! bookmarks in [KEP-956](https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/956-watch-bookmark).

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::value::RawValue;

use crate::client::{Call, Client};
use crate::error::ApiError;
use crate::meta::Status;
use crate::resource::Query;
use crate::retry::full_jitter;
use crate::{Error, Shutdown, TransportKind};

/// An object is at most 1.5 MiB in etcd; a line holds one and a few bytes more.
const MAX_LINE: u64 = 4 << 20;

/// A longer line is passed over up to this length; beyond it, it is no event.
const MAX_SKIPPED: u64 = 64 << 20;

/// A connection that ends without an event, and sooner than this, is a failure: connecting again
/// at once would be a loop.
const SHORT: Duration = Duration::from_secs(1);

/// The server ends a watch at its timeout; one that goes on in silence this much longer is a
/// connection whose other end is gone.
const GRACE: Duration = Duration::from_secs(15);

/// Reconnecting after failures waits up to this.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// What to watch, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchParams {
    resource_version: Option<String>,
    label_selector: Option<String>,
    field_selector: Option<String>,
    timeout: Duration,
}

/// One change.
#[derive(Debug)]
#[non_exhaustive]
pub enum WatchEvent<T> {
    /// An object was made, or starts to match the selector.
    Added(T),
    /// Nothing changed up to this resourceVersion. Kinds without a watch cache (events) have none.
    Bookmark {
        /// Where a later watch may begin.
        resource_version: String,
    },
    /// An object is gone, or stops to match the selector: its last state.
    Deleted(T),
    /// Changes may be lost: the resourceVersion is too old to go on from, or the watch had none
    /// and broke before it got one. List again and call [`Watch::resume_from`] with the list's
    /// resourceVersion; otherwise the watch begins anew with [`Added`](Self::Added) for
    /// everything there is.
    Expired,
    /// A change whose object does not fit the view, or is larger than 4 MiB, was skipped.
    Malformed(serde_json::Error),
    /// An object changed: its new state.
    Modified(T),
}

/// A watch. It remembers how far it got and takes up from there after every interruption.
///
/// ```no_run
/// use kube_client_lite::{Client, Config, ListParams, PartialObjectMetadata, Resource, WatchEvent, WatchParams};
///
/// const PODS: Resource = Resource::new("", "v1", "pods");
///
/// let client = Client::new(Config::in_cluster()?)?;
/// let mut watch = client.api(PODS).watch(WatchParams::default())?;
/// loop {
///     match watch.next::<PartialObjectMetadata>() {
///         Ok(WatchEvent::Added(pod)) => println!("+ {}", pod.metadata.name),
///         Ok(WatchEvent::Deleted(pod)) => println!("- {}", pod.metadata.name),
///         Ok(_) => {}
///         Err(kube_client_lite::Error::Shutdown) => break,
///         // The next call waits a while and connects again.
///         Err(error) => eprintln!("{error}"),
///     }
/// }
/// # Ok::<(), kube_client_lite::Error>(())
/// ```
pub struct Watch {
    client: Client,
    shutdown: Shutdown,
    path: String,
    params: WatchParams,
    lines: Option<Lines>,
    failures: u32,
    started: Started,
}

/// How far a watch without a resourceVersion got. What exists comes first, in the order of names:
/// those objects' resourceVersions say nothing about how far the watch got, and nothing marks
/// the last of them but something that is not [`WatchEvent::Added`], or the end.
enum Started {
    /// Everything there is comes again after an interruption.
    No,
    /// Objects have come; the highest of their resourceVersions is this.
    Partly(u64),
    /// [`WatchParams::resource_version`] is the place to go on from.
    Yes,
}

/// The lines of one connection.
struct Lines {
    call: Call,
    since: Instant,
    any: bool,
    reader: BufReader<ureq::BodyReader<'static>>,
    line: Vec<u8>,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Kind {
    Added,
    Bookmark,
    Deleted,
    Error,
    Modified,
}

/// Of an object only this is needed to know how far the watch got.
#[derive(Deserialize)]
struct Versioned<'a> {
    #[serde(borrow)]
    metadata: VersionedMeta<'a>,
}

#[derive(Deserialize)]
struct VersionedMeta<'a> {
    #[serde(borrow, rename = "resourceVersion")]
    resource_version: Cow<'a, str>,
}

/// What was read from a connection.
enum Line {
    End,
    Event(Vec<u8>),
    TooLong,
}

impl Default for WatchParams {
    fn default() -> Self {
        Self {
            resource_version: None,
            label_selector: None,
            field_selector: None,
            timeout: Duration::from_secs(290),
        }
    }
}

impl WatchParams {
    /// Begins after this resourceVersion, that of a list; without it, everything there is comes
    /// first as [`WatchEvent::Added`].
    #[must_use]
    pub fn from(mut self, resource_version: &str) -> Self {
        self.resource_version = Some(resource_version.to_owned());
        self
    }

    /// Only objects with these labels.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.label_selector = Some(selector.to_owned());
        self
    }

    /// Only objects with these fields.
    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        self.field_selector = Some(selector.to_owned());
        self
    }

    /// How long the server is asked to keep one connection (290 s). It is also how long a dead
    /// connection goes unnoticed on kinds without bookmarks.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl Watch {
    pub(crate) fn new(client: Client, path: String, params: WatchParams) -> Self {
        Self {
            started: Started::of(params.resource_version.as_deref()),
            shutdown: client.shutdown_handle(),
            client,
            path,
            params,
            lines: None,
            failures: 0,
        }
    }

    /// Waits for the next change, connecting and reconnecting as needed.
    ///
    /// # Errors
    /// One error per failed connection. The next call connects again, after a wait that grows
    /// to a minute with every failure in a row; whether to go on is the caller's choice (a 403
    /// will not mend itself). [`Error::Shutdown`] once the client is shut down.
    // Not an iterator: the type of the objects is chosen per call, and an error is not the end.
    #[allow(clippy::should_implement_trait)]
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<WatchEvent<T>, Error> {
        loop {
            // The connection broke among the objects that exist: nobody knows which are missing.
            if let (None, Started::Partly(_)) = (&self.lines, &self.started)
                && !self.shutdown.is_shut_down()
            {
                return Ok(self.expired());
            }
            match self.next_line() {
                Ok(Line::Event(line)) => {
                    let event = self.interpret(&line);
                    self.recycle(line);
                    if event.is_err() {
                        self.disconnect();
                    }
                    return event;
                }
                // It is sent again after an interruption, and passed over again; the next event
                // leaves it behind.
                Ok(Line::TooLong) => {
                    let error = format!("the object is larger than {MAX_LINE} bytes");
                    return Ok(WatchEvent::Malformed(serde_json::Error::custom(error)));
                }
                // The server ended the stream as it does every few minutes.
                Ok(Line::End) => self.ended(),
                // The resourceVersion may have expired while nobody listened.
                Err(error) if error.is_gone() => {
                    self.disconnect();
                    return Ok(self.expired());
                }
                Err(error) => {
                    self.disconnect();
                    return Err(self.client.unless_shut_down(error));
                }
            }
        }
    }

    /// Goes on from the resourceVersion of a list made after [`WatchEvent::Expired`].
    pub fn resume_from(&mut self, resource_version: &str) {
        self.started = Started::of(Some(resource_version));
        self.params.resource_version = Some(resource_version.to_owned());
        self.lines = None;
    }

    /// The resourceVersion reached; none while the objects that exist are still coming.
    #[must_use]
    pub fn resource_version(&self) -> Option<&str> {
        self.params.resource_version.as_deref()
    }

    fn disconnect(&mut self) {
        self.lines = None;
        self.failures = self.failures.saturating_add(1);
    }

    /// The server ended the stream of itself, so what existed at its beginning has come.
    fn ended(&mut self) {
        if let Some(lines) = self.lines.take() {
            self.failures = if lines.any || lines.since.elapsed() >= SHORT {
                0
            } else {
                self.failures.saturating_add(1)
            };
        }
        if let Started::Partly(highest @ 1..) = self.started {
            self.reached(highest.to_string());
        }
    }

    /// Forgets how far the watch got.
    fn expired<T>(&mut self) -> WatchEvent<T> {
        self.params.resource_version = None;
        self.started = Started::No;
        WatchEvent::Expired
    }

    fn reached(&mut self, resource_version: String) {
        self.params.resource_version = Some(resource_version);
        self.started = Started::Yes;
    }

    /// Gives the line's memory back to the connection it came from.
    fn recycle(&mut self, line: Vec<u8>) {
        if let Some(lines) = &mut self.lines {
            lines.line = line;
        }
    }

    fn next_line(&mut self) -> Result<Line, Error> {
        let mut lines = match self.lines.take() {
            Some(lines) => lines,
            None => self.connect()?,
        };
        let line = lines.read();
        self.lines = Some(lines);
        line
    }

    fn connect(&mut self) -> Result<Lines, Error> {
        if self.failures > 0 {
            let wait = full_jitter(Duration::from_secs(1), self.failures, MAX_BACKOFF);
            if !self.shutdown.sleep(wait) {
                return Err(Error::Shutdown);
            }
        }
        let mut query = Query::new(self.path.clone());
        query
            .add("watch", "1")
            .add("allowWatchBookmarks", "true")
            .add(
                "timeoutSeconds",
                &self.params.timeout.as_secs().max(1).to_string(),
            )
            .add_some("labelSelector", self.params.label_selector.as_deref())
            .add_some("fieldSelector", self.params.field_selector.as_deref())
            .add_some("resourceVersion", self.params.resource_version.as_deref());
        let mut call = Call::read("watch", query.finish());
        call.patience = Some(self.params.timeout.saturating_add(GRACE));
        let body = self.client.send(&call)?.into_body();
        Ok(Lines {
            call,
            since: Instant::now(),
            any: false,
            reader: BufReader::with_capacity(8 << 10, body.into_reader()),
            line: Vec::new(),
        })
    }

    fn interpret<T: DeserializeOwned>(&mut self, line: &[u8]) -> Result<WatchEvent<T>, Error> {
        let request = || Call::read("watch", self.path.clone()).request();
        let frame: Frame<'_> = serde_json::from_slice(line).map_err(|source| Error::Decode {
            request: request(),
            source,
        })?;
        let object = frame.object.get();
        let version = serde_json::from_str(object)
            .map_or(Cow::default(), |object: Versioned<'_>| {
                object.metadata.resource_version
            });
        if let Kind::Error = frame.kind {
            let status: Status = serde_json::from_str(object).unwrap_or_default();
            if status.code == 410 {
                self.disconnect();
                return Ok(self.expired());
            }
            return Err(Error::Api(Box::new(ApiError {
                request: request(),
                code: status.code,
                status,
                retry_after: None,
                continue_token: None,
            })));
        }
        if !version.is_empty() {
            // The connection has proved itself.
            self.failures = 0;
            match (&self.started, &frame.kind) {
                (Started::No | Started::Partly(_), Kind::Added) => {
                    self.started.add(version.parse().unwrap_or(0));
                }
                _ => self.reached(version.into_owned()),
            }
        }
        if let Kind::Bookmark = frame.kind {
            let resource_version = self.params.resource_version.clone().unwrap_or_default();
            return Ok(WatchEvent::Bookmark { resource_version });
        }
        Ok(match (serde_json::from_str(object), frame.kind) {
            (Err(error), _) => WatchEvent::Malformed(error),
            (Ok(object), Kind::Added) => WatchEvent::Added(object),
            (Ok(object), Kind::Deleted) => WatchEvent::Deleted(object),
            (Ok(object), _) => WatchEvent::Modified(object),
        })
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("path", &self.path)
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}

impl Started {
    /// `0` means: any state the server likes, the objects of which come first.
    fn of(resource_version: Option<&str>) -> Self {
        match resource_version {
            None | Some("" | "0") => Self::No,
            Some(_) => Self::Yes,
        }
    }

    fn add(&mut self, version: u64) {
        *self = match *self {
            Self::Partly(highest) => Self::Partly(highest.max(version)),
            _ => Self::Partly(version),
        };
    }
}

impl Lines {
    fn read(&mut self) -> Result<Line, Error> {
        let mut line = std::mem::take(&mut self.line);
        loop {
            line.clear();
            (&mut self.reader)
                .take(MAX_LINE)
                .read_until(b'\n', &mut line)
                .map_err(|error| Error::body(&self.call.request(), error))?;
            if line.is_empty() {
                return Ok(Line::End);
            }
            if line.ends_with(b"\n") {
                if line.trim_ascii().is_empty() {
                    continue;
                }
                self.any = true;
                return Ok(Line::Event(line));
            }
            if (line.len() as u64) < MAX_LINE {
                return Err(Error::Transport {
                    request: self.call.request(),
                    kind: TransportKind::Protocol,
                    message: "the stream ended inside of an event".to_owned(),
                });
            }
            drop(line);
            return self.skip();
        }
    }

    /// Passes over the rest of a line.
    fn skip(&mut self) -> Result<Line, Error> {
        let skipped = (&mut self.reader)
            .take(MAX_SKIPPED)
            .skip_until(b'\n')
            .map_err(|error| Error::body(&self.call.request(), error))?;
        if skipped as u64 == MAX_SKIPPED {
            return Err(Error::BodyTooLarge {
                request: self.call.request(),
                limit: MAX_SKIPPED,
            });
        }
        self.any = true;
        Ok(Line::TooLong)
    }
}
