//! Watches that survive what watches suffer: servers that close them, networks that drop them,
//! resourceVersions that expire.
//!
//! Kubernetes: [Efficient detection of changes](https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes),
//! bookmarks in [KEP-956](https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/956-watch-bookmark).

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::client::{Call, Client};
use crate::error::ApiError;
use crate::meta::{ObjectMeta, Status};
use crate::resource::Query;
use crate::retry::full_jitter;
use crate::{Error, Shutdown};

/// An object is at most 1.5 MiB in etcd; a line holds one and a few bytes more.
const MAX_LINE: u64 = 4 << 20;

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
    /// The resourceVersion is too old to go on from: changes were lost. List again and call
    /// [`Watch::resume_from`] with the list's resourceVersion; otherwise the watch begins anew
    /// with [`Added`](Self::Added) for everything there is.
    Expired,
    /// A change whose object does not fit the view was skipped.
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
}

/// The lines of one connection.
struct Lines {
    call: Call,
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
struct Versioned {
    metadata: ObjectMeta,
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
            match self.next_line() {
                Ok(Some(line)) => {
                    let event = self.interpret(&line);
                    self.recycle(line);
                    if event.is_err() {
                        self.disconnect();
                    }
                    return event;
                }
                // The server ended the stream as it does every few minutes.
                Ok(None) => self.lines = None,
                Err(error) => {
                    self.disconnect();
                    return Err(self.client.unless_shut_down(error));
                }
            }
        }
    }

    /// Goes on from the resourceVersion of a list made after [`WatchEvent::Expired`].
    pub fn resume_from(&mut self, resource_version: &str) {
        self.params.resource_version = Some(resource_version.to_owned());
        self.lines = None;
    }

    /// The resourceVersion reached.
    #[must_use]
    pub fn resource_version(&self) -> Option<&str> {
        self.params.resource_version.as_deref()
    }

    fn disconnect(&mut self) {
        self.lines = None;
        self.failures = self.failures.saturating_add(1);
    }

    /// Gives the line's memory back to the connection it came from.
    fn recycle(&mut self, line: Vec<u8>) {
        if let Some(lines) = &mut self.lines {
            lines.line = line;
        }
    }

    fn next_line(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if self.lines.is_none() {
            self.lines = Some(self.connect()?);
        }
        match &mut self.lines {
            Some(lines) => lines.read(),
            None => Ok(None),
        }
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
        if let Kind::Error = frame.kind {
            let status: Status = serde_json::from_str(object).unwrap_or_default();
            if status.code == 410 {
                self.params.resource_version = None;
                self.lines = None;
                return Ok(WatchEvent::Expired);
            }
            return Err(Error::Api(Box::new(ApiError {
                request: request(),
                code: status.code,
                status,
                retry_after: None,
                continue_token: None,
            })));
        }
        if let Ok(Versioned { metadata }) = serde_json::from_str(object)
            && !metadata.resource_version.is_empty()
        {
            self.params.resource_version = Some(metadata.resource_version);
            // The connection has proved itself.
            self.failures = 0;
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

impl Lines {
    /// The next line, or `None` at the clean end of the stream.
    fn read(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut line = std::mem::take(&mut self.line);
        loop {
            line.clear();
            let read = (&mut self.reader)
                .take(MAX_LINE)
                .read_until(b'\n', &mut line);
            match read {
                Ok(0) => return Ok(None),
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) if line.ends_with(b"\n") => return Ok(Some(line)),
                Ok(_) => {
                    return Err(Error::BodyTooLarge {
                        request: self.call.request(),
                        limit: MAX_LINE,
                    });
                }
                Err(error) => return Err(Error::body(&self.call.request(), error)),
            }
        }
    }
}
