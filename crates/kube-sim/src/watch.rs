//! Watches: changes as they happen, one JSON object a line.
//!
//! See <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>.

use std::io;
use std::time::{Duration, Instant};

use crate::accept::{self, Form};
use crate::json::{Json, object};
use crate::kinds::Kind;
use crate::list::{self, View};
use crate::out::Out;
use crate::request::{Incoming, Target};
use crate::selector::Selector;
use crate::server::Shared;
use crate::status::{Answer, Body, JSON, Status};
use crate::store::{Change, Entry, Object, Range};

/// How often a quiet client is looked after.
const PULSE: Duration = Duration::from_millis(50);
/// How long a watch lives that does not say; a real server draws it from 30 to 60 minutes.
const LIFE: Duration = Duration::from_secs(45 * 60);

/// A watch being streamed.
pub(crate) struct Watch {
    collection: String,
    prefix: String,
    selector: Selector,
    view: View,
    is_events: bool,
    bookmarks: bool,
    /// What exists is sent first.
    initial: bool,
    after: u64,
    life: Duration,
}

/// Answers a watch.
pub(crate) fn watch(
    shared: &Shared,
    request: &Incoming<'_>,
    kind: &Kind,
    target: &Target,
) -> Result<Answer, Status> {
    let form = accept::form(&request.head, true)?;
    if form == Form::MetadataList {
        return Err(Status::not_acceptable("application/json;stream=watch"));
    }
    let params = &request.params;
    let bookmarks = params.flag("allowWatchBookmarks");
    let send_initial = params.get("sendInitialEvents").is_some();
    if send_initial && params.text("resourceVersionMatch") != "NotOlderThan" {
        let why =
            "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        return Err(list::invalid_options(why));
    }
    let version = params.text("resourceVersion");
    let after = if version.is_empty() {
        0
    } else {
        list::parse_revision(version).map_err(Status::internal)?
    };
    let seconds: Option<u64> = params
        .get("timeoutSeconds")
        .and_then(|text| text.parse().ok())
        .filter(|&s| s > 0);
    let watch = Watch {
        collection: kind.collection(),
        prefix: if target.namespace.is_empty() {
            String::new()
        } else {
            format!("{}/", target.namespace)
        },
        selector: Selector::new(params, &kind.group, &kind.plural)?,
        view: View::new(kind, form),
        is_events: kind.is_events(),
        bookmarks,
        initial: if send_initial {
            params.flag("sendInitialEvents")
        } else {
            after == 0
        },
        after,
        life: seconds.map_or(LIFE, Duration::from_secs),
    };
    let _ = shared;
    Ok(Answer {
        status: 200,
        content_type: JSON,
        headers: Vec::new(),
        body: Body::Watch(watch),
    })
}

impl Watch {
    /// Streams until the time is over, the client goes, or the server stops.
    pub(crate) fn send(&self, shared: &Shared, out: &mut Out<'_>) -> io::Result<()> {
        let end = Instant::now() + self.life;
        let mut next_bookmark = self.next_bookmark(shared, end);
        out.flush()?;
        let mut after = self.after;
        if self.initial {
            after = self.send_initial(shared, out)?;
        } else if let Some(error) = self.too_old(shared, after) {
            return line(out, "ERROR", &error.json().to_bytes());
        }
        loop {
            let changes = shared.wait_for_changes(
                &self.collection,
                after,
                PULSE.min(end.saturating_duration_since(Instant::now())),
            );
            for change in changes {
                after = change.revision;
                self.send_change(out, &change)?;
            }
            if out.conn().is_over() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            if next_bookmark.is_some_and(|due| now >= due) {
                let revision = shared.store().revision();
                // A watch from the future waits for its time to come.
                if revision >= after {
                    after = revision;
                    self.send_bookmark(out, revision, false)?;
                }
                next_bookmark = self.next_bookmark(shared, end);
            }
        }
    }

    /// A bookmark comes every minute, and two seconds before the end; the latter not after an end mark of initial events.
    /// Events have none.
    fn next_bookmark(&self, shared: &Shared, end: Instant) -> Option<Instant> {
        if !self.bookmarks || self.is_events {
            return None;
        }
        let now = Instant::now();
        let regular = now + shared.options.bookmark_interval;
        let last = end.checked_sub(Duration::from_secs(2))?;
        Some(if last > now && regular > last && !self.initial {
            last
        } else {
            regular
        })
    }

    fn send_initial(&self, shared: &Shared, out: &mut Out<'_>) -> io::Result<u64> {
        let (entries, revision) = {
            let store = shared.store();
            let revision = store.revision();
            let range = Range {
                collection: &self.collection,
                prefix: &self.prefix,
                from: "",
                limit: usize::MAX,
                revision,
            };
            (store.range(&range, None).entries, revision)
        };
        for entry in &entries {
            let object = Entry::object(entry);
            if self.selects(&object) {
                self.send_object(out, "ADDED", &object.text)?;
            }
        }
        if self.bookmarks {
            self.send_bookmark(out, revision, true)?;
        }
        Ok(revision)
    }

    fn too_old(&self, shared: &Shared, after: u64) -> Option<Status> {
        let floor = shared.store().watch_floor();
        if after >= floor {
            return None;
        }
        let message = if self.is_events {
            "The resourceVersion for the provided watch is too old.".to_owned()
        } else {
            format!("too old resource version: {after} ({floor})")
        };
        Some(Status::expired(&message, None))
    }

    fn send_change(&self, out: &mut Out<'_>, change: &Change) -> io::Result<()> {
        if !change.key.starts_with(&self.prefix) {
            return Ok(());
        }
        let before = change
            .previous
            .as_deref()
            .filter(|object| self.selects(object));
        let after =
            Some(change.object.as_ref()).filter(|object| !change.deleted && self.selects(object));
        match (before, after) {
            (None, None) => Ok(()),
            (None, Some(object)) => self.send_object(out, "ADDED", &object.text),
            (Some(_), Some(object)) => self.send_object(out, "MODIFIED", &object.text),
            (Some(before), None) => {
                // The old content, with the revision at which it went.
                let mut json = before.json().clone();
                if let Some(metadata) = json.get_mut("metadata") {
                    metadata.set("resourceVersion", change.revision.to_string());
                }
                self.send_object(out, "DELETED", &json.to_bytes())
            }
        }
    }

    fn send_object(&self, out: &mut Out<'_>, event: &str, text: &[u8]) -> io::Result<()> {
        let mut object = Vec::with_capacity(text.len() + 64);
        self.view.write_object(text, &mut object);
        line(out, event, &object)
    }

    fn send_bookmark(
        &self,
        out: &mut Out<'_>,
        revision: u64,
        end_of_initial: bool,
    ) -> io::Result<()> {
        let mut metadata = object! { "resourceVersion" => revision.to_string() };
        if end_of_initial {
            metadata.set(
                "annotations",
                object! { "k8s.io/initial-events-end" => "true" },
            );
        }
        let mut json = object! { "metadata" => metadata };
        // What a Go server writes of an empty object of the kind.
        match self.view.kind.as_str() {
            "Pod" => {
                json.set("spec", object! { "containers" => Json::Null });
                json.set("status", Json::object());
            }
            "Event" => json = crate::events::normalise(&json),
            _ => {}
        }
        self.send_object(out, "BOOKMARK", &json.to_bytes())
    }

    fn selects(&self, object: &Object) -> bool {
        self.selector.is_empty()
            || self
                .selector
                .matches(object.json(), &object.namespace, &object.name)
    }
}

fn line(out: &mut Out<'_>, event: &str, object: &[u8]) -> io::Result<()> {
    out.write(format!("{{\"type\":\"{event}\",\"object\":").as_bytes())?;
    out.write(object)?;
    out.write(b"}\n")?;
    out.flush()
}
