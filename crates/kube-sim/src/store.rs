//! The store: objects by collection and key, a counter of revisions, and a bounded history for watches and for the
//! later pages of a list.
//!
//! Keys are ordered as in etcd (`namespace/name`, bytewise), so lists come in the order of a real server.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::generate::Pods;
use crate::json::{Json, value_end};

/// How many changes are remembered. Older ones are compacted.
const HISTORY: usize = 20_000;

/// A stored object. It does not change; a write stores another.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// As an item of a list: without kind and apiVersion, metadata first.
    pub(crate) text: Vec<u8>,
    json: OnceLock<Json>,
}

/// An object of a list: stored, or a generated Pod that is written when it is needed.
#[derive(Clone)]
pub(crate) enum Entry {
    Object(Arc<Object>),
    Pod(Arc<Pods>, usize),
}

/// What happened to an object.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) collection: String,
    pub(crate) key: String,
    /// The new state; of a deletion the last one, with the revision of the deletion.
    pub(crate) object: Arc<Object>,
    pub(crate) previous: Option<Arc<Object>>,
    pub(crate) deleted: bool,
}

/// A part of a collection.
#[derive(Default)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    /// How many follow, when that was counted.
    pub(crate) remaining: usize,
}

/// What to read of a collection.
pub(crate) struct Range<'a> {
    pub(crate) collection: &'a str,
    /// `namespace/`, or nothing.
    pub(crate) prefix: &'a str,
    /// The first key.
    pub(crate) from: &'a str,
    pub(crate) limit: usize,
    /// The revision to read at.
    pub(crate) revision: u64,
}

type Overlay = BTreeMap<String, Option<Arc<Object>>>;

#[derive(Default)]
struct Collection {
    pods: Option<Arc<Pods>>,
    /// Over the generated Pods where there are any; `None` is one of those, deleted.
    objects: Overlay,
}

/// All objects.
#[derive(Default)]
pub(crate) struct Store {
    revision: u64,
    /// Lists at an older revision are gone.
    list_floor: u64,
    /// Watches from an older revision are gone.
    watch_floor: u64,
    collections: HashMap<String, Collection>,
    history: VecDeque<Change>,
    issued: HashMap<u64, Instant>,
}

impl Object {
    /// An object to be stored. `kind` and `apiVersion` are dropped.
    pub(crate) fn new(json: Json) -> Self {
        let mut json = json;
        json.remove("kind");
        json.remove("apiVersion");
        let text = json.to_bytes();
        let object = Self::from_text(text);
        let _ = object.json.set(json);
        object
    }

    /// An object from its text as an item of a list.
    pub(crate) fn from_text(text: Vec<u8>) -> Self {
        let metadata = Json::parse(metadata(&text)).unwrap_or(Json::Null);
        let part = |name: &str| metadata.text(&[name]).unwrap_or_default().to_owned();
        Self {
            namespace: part("namespace"),
            name: part("name"),
            text,
            json: OnceLock::new(),
        }
    }

    pub(crate) fn json(&self) -> &Json {
        self.json
            .get_or_init(|| Json::parse(&self.text).unwrap_or(Json::Null))
    }

    pub(crate) fn revision(&self) -> u64 {
        self.json()
            .text(&["metadata", "resourceVersion"])
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }

    pub(crate) fn uid(&self) -> &str {
        self.json().text(&["metadata", "uid"]).unwrap_or_default()
    }

    pub(crate) fn key(&self) -> String {
        key(&self.namespace, &self.name)
    }
}

/// The metadata in the text of an object.
pub(crate) fn metadata(text: &[u8]) -> &[u8] {
    const FIELD: &[u8] = b"{\"metadata\":";
    if text.starts_with(FIELD) {
        &text[FIELD.len()..value_end(text, FIELD.len())]
    } else {
        b"{}"
    }
}

/// `namespace/name`, or the name alone.
pub(crate) fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

impl Entry {
    pub(crate) fn key(&self) -> String {
        match self {
            Entry::Object(object) => object.key(),
            Entry::Pod(pods, index) => pods.key(*index),
        }
    }

    /// The object itself, made when it is generated.
    pub(crate) fn object(&self) -> Arc<Object> {
        match self {
            Entry::Object(object) => object.clone(),
            Entry::Pod(pods, index) => {
                let mut text = Vec::new();
                pods.write(*index, &mut text);
                Arc::new(Object::from_text(text))
            }
        }
    }
}

impl Store {
    /// An empty store at a revision.
    pub(crate) fn new(revision: u64) -> Self {
        Self {
            revision,
            list_floor: revision,
            watch_floor: revision,
            ..Self::default()
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The next revision.
    pub(crate) fn next_revision(&self) -> u64 {
        self.revision + 1
    }

    /// Puts an object in without a change of revision: for filling the store at the start.
    pub(crate) fn load(&mut self, collection: &str, object: Object) {
        let collection = self.collections.entry(collection.to_owned()).or_default();
        collection
            .objects
            .insert(object.key(), Some(Arc::new(object)));
    }

    /// Puts the generated Pods in.
    pub(crate) fn load_pods(&mut self, pods: Arc<Pods>) {
        self.collections.entry("pods".to_owned()).or_default().pods = Some(pods);
    }

    /// An object of now.
    pub(crate) fn get(&self, collection: &str, key: &str) -> Option<Arc<Object>> {
        let collection = self.collections.get(collection)?;
        if let Some(object) = collection.objects.get(key) {
            object.clone()
        } else {
            let pods = collection.pods.as_ref()?;
            let index = pods.position(key).ok()?;
            Some(Entry::Pod(pods.clone(), index).object())
        }
    }

    /// Stores an object, whose resourceVersion is the next revision, or deletes it.
    pub(crate) fn put(&mut self, collection: &str, object: Object, deleted: bool) -> Arc<Object> {
        let key = object.key();
        let object = Arc::new(object);
        let previous = self.get(collection, &key);
        self.revision += 1;
        let entry = self.collections.entry(collection.to_owned()).or_default();
        if deleted {
            let generated = entry
                .pods
                .as_ref()
                .is_some_and(|pods| pods.position(&key).is_ok());
            if generated {
                entry.objects.insert(key.clone(), None);
            } else {
                entry.objects.remove(&key);
            }
        } else {
            entry.objects.insert(key.clone(), Some(object.clone()));
        }
        self.history.push_back(Change {
            revision: self.revision,
            collection: collection.to_owned(),
            key,
            object: object.clone(),
            previous,
            deleted,
        });
        if self.history.len() > HISTORY
            && let Some(change) = self.history.pop_front()
        {
            self.list_floor = self.list_floor.max(change.revision);
            self.watch_floor = self.watch_floor.max(change.revision);
        }
        object
    }

    /// Makes continue tokens expire: something was written elsewhere, and then compacted.
    pub(crate) fn compact_lists(&mut self) {
        self.revision += 1;
        self.list_floor = self.revision;
    }

    /// Forgets the history: continue tokens and watches from before are gone.
    pub(crate) fn compact(&mut self) {
        self.compact_lists();
        self.watch_floor = self.revision;
        self.history.clear();
    }

    /// Whether a list at this revision can still be read.
    pub(crate) fn is_compacted(&mut self, revision: u64, ttl: Option<Duration>) -> bool {
        let expired = ttl.is_some_and(|ttl| {
            self.issued
                .get(&revision)
                .is_some_and(|issued| issued.elapsed() > ttl)
        });
        if expired && revision == self.revision {
            self.compact_lists();
        }
        expired || revision < self.list_floor
    }

    /// Notes that a continue token for this revision was given out.
    pub(crate) fn issue(&mut self, revision: u64) {
        self.issued.entry(revision).or_insert_with(Instant::now);
    }

    /// A revision at which tokens live for their full time.
    pub(crate) fn fresh_revision(&mut self, ttl: Option<Duration>) -> u64 {
        let revision = self.revision;
        self.is_compacted(revision, ttl);
        self.revision
    }

    /// The oldest revision a watch may start from.
    pub(crate) fn watch_floor(&self) -> u64 {
        self.watch_floor
    }

    /// The changes of a collection after a revision.
    pub(crate) fn changes(&self, collection: &str, after: u64) -> Vec<Change> {
        let from = self
            .history
            .partition_point(|change| change.revision <= after);
        self.history
            .range(from..)
            .filter(|change| change.collection == collection)
            .cloned()
            .collect()
    }

    /// Reads a part of a collection as it was at a revision. `wanted` selects; with it nothing is counted.
    pub(crate) fn range(&self, range: &Range<'_>, wanted: Option<&dyn Fn(&Entry) -> bool>) -> Page {
        let Some(collection) = self.collections.get(range.collection) else {
            return Page::default();
        };
        let past = self.at_revision(range.collection, range.revision);
        let objects = past.as_ref().unwrap_or(&collection.objects);
        let end = prefix_end(range.prefix);
        let from = if range.from > range.prefix {
            range.from
        } else {
            range.prefix
        };
        let upper = if end.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(end.as_str())
        };
        if !end.is_empty() && from >= end.as_str() {
            return Page::default();
        }
        let mut stored = objects
            .range::<str, _>((Bound::Included(from), upper))
            .peekable();
        let (mut index, last) = match &collection.pods {
            Some(pods) => {
                let first = pods.position(from).unwrap_or_else(|at| at);
                (
                    first,
                    if end.is_empty() {
                        pods.len()
                    } else {
                        pods.position(&end).unwrap_or_else(|at| at)
                    },
                )
            }
            None => (0, 0),
        };
        let mut page = Page::default();
        let mut next_pod_key = None;
        while page.entries.len() < range.limit {
            let pod_key = match &collection.pods {
                Some(pods) if index < last => {
                    Some(next_pod_key.take().unwrap_or_else(|| pods.key(index)))
                }
                _ => None,
            };
            let entry = match (stored.peek(), pod_key) {
                (Some((key, object)), pod_key)
                    if pod_key.as_ref().is_none_or(|pod| **key <= *pod) =>
                {
                    if pod_key.as_ref() == Some(key) {
                        index += 1;
                    } else {
                        next_pod_key = pod_key;
                    }
                    let entry = (*object).clone().map(Entry::Object);
                    stored.next();
                    entry
                }
                (_, Some(_)) => {
                    index += 1;
                    collection
                        .pods
                        .as_ref()
                        .map(|pods| Entry::Pod(pods.clone(), index - 1))
                }
                (_, None) => break,
            };
            if let Some(entry) = entry
                && wanted.is_none_or(|wanted| wanted(&entry))
            {
                page.entries.push(entry);
            }
        }
        page.remaining = last - index.min(last);
        for (key, object) in stored {
            let generated = collection
                .pods
                .as_ref()
                .is_some_and(|pods| pods.position(key).is_ok());
            match object {
                Some(object) if !generated => {
                    page.remaining += usize::from(
                        wanted.is_none_or(|wanted| wanted(&Entry::Object(object.clone()))),
                    );
                }
                None if generated => page.remaining -= 1,
                _ => {}
            }
        }
        page
    }

    /// The objects of a collection with the changes since a revision undone, when there were any.
    fn at_revision(&self, collection: &str, revision: u64) -> Option<Overlay> {
        let changes = self.changes(collection, revision);
        if changes.is_empty() {
            return None;
        }
        let mut objects = self.collections.get(collection)?.objects.clone();
        let generated = self.collections.get(collection)?.pods.is_some();
        for change in changes.into_iter().rev() {
            if change.previous.is_none() && !generated {
                objects.remove(&change.key);
            } else {
                objects.insert(change.key, change.previous);
            }
        }
        Some(objects)
    }
}

/// The first key after all that begin with the prefix.
fn prefix_end(prefix: &str) -> String {
    // A prefix ends in a slash; the byte after it is a zero.
    prefix
        .strip_suffix('/')
        .map(|start| format!("{start}0"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(namespace: &str, name: &str, revision: u64) -> Object {
        let text = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"{namespace}","resourceVersion":"{revision}"}},"x":1}}"#
        );
        Object::new(Json::parse(text.as_bytes()).unwrap())
    }

    fn names(
        store: &Store,
        prefix: &str,
        from: &str,
        limit: usize,
        revision: u64,
    ) -> (Vec<String>, usize) {
        let range = Range {
            collection: "configmaps",
            prefix,
            from,
            limit,
            revision,
        };
        let page = store.range(&range, None);
        (
            page.entries.iter().map(Entry::key).collect(),
            page.remaining,
        )
    }

    #[test]
    fn pages_show_the_revision_of_their_first() {
        let mut store = Store::new(10);
        for name in ["a", "b", "c"] {
            store.put("configmaps", object("x", name, 11), false);
        }
        let revision = store.revision();
        store.put("configmaps", object("x", "b", 14), true);
        store.put("configmaps", object("x", "d", 15), false);
        store.put("configmaps", object("y", "a", 16), false);
        assert_eq!(
            names(&store, "", "", 2, revision),
            (vec!["x/a".to_owned(), "x/b".to_owned()], 1)
        );
        assert_eq!(
            names(&store, "", "x/b\0", 2, revision),
            (vec!["x/c".to_owned()], 0)
        );
        assert_eq!(
            names(&store, "x/", "", 9, store.revision()).0,
            ["x/a", "x/c", "x/d"]
        );
        assert_eq!(names(&store, "y/", "", 9, store.revision()).0, ["y/a"]);
        assert!(names(&store, "w/", "", 9, store.revision()).0.is_empty());
    }

    #[test]
    fn compaction_makes_old_revisions_go() {
        let mut store = Store::new(10);
        assert!(!store.is_compacted(10, None));
        store.compact_lists();
        assert!(store.is_compacted(10, None) && !store.is_compacted(11, None));
        assert_eq!(store.watch_floor(), 10);
        store.compact();
        assert_eq!(store.watch_floor(), 12);
    }
}
