//! Lists of any length in the memory of one page.
//!
//! A page is read whole into a buffer that all pages of the list share and parsed from there:
//! parsing from a slice costs a quarter of the instructions of parsing from a reader. What keeps
//! memory small is that pages are small: their `limit` follows the size of the objects, so that
//! a page is about [`PAGE_BYTES`] whatever the cluster holds.

use std::io::Read;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess};
use serde_json::value::RawValue;

use crate::Error;
use crate::client::{Accept, Call, Client};
use crate::meta::ListMeta;
use crate::resource::Query;
use crate::skim;
use crate::split::{Items, SplitError};

/// The page size aimed at. Larger pages do not make a list faster: at 1 MiB the cost of a
/// request is already below a hundredth of the cost of its answer.
const PAGE_BYTES: u64 = 1 << 20;

/// The first page's limit, before anything is known about the objects.
const FIRST_LIMIT: u32 = 64;

/// No page asks for more than this, as kubectl and client-go do.
const MAX_LIMIT: u32 = 500;

/// A page over this is not read on but asked for again in halves.
const MAX_PAGE_BYTES: u64 = 4 << 20;

/// A streamed list may be this long; it is held in memory one object at a time.
const MAX_STREAM_BYTES: u64 = 1 << 30;

/// How often a list may start over because its snapshot expired.
const MAX_RESTARTS: u32 = 3;

/// Receives the objects of a list, one at a time, in the server's order.
///
/// `Item` may borrow from the page (`Cow<'de, str>` with `#[serde(borrow)]`), and should have
/// fields only for what is needed: the parser skips the rest without allocating.
///
/// ```
/// use std::borrow::Cow;
/// use kube_client_lite::Visitor;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Pod<'a> {
///     #[serde(borrow, default)]
///     status: PodStatus<'a>,
/// }
///
/// #[derive(Deserialize, Default)]
/// struct PodStatus<'a> {
///     #[serde(borrow, default)]
///     phase: Cow<'a, str>,
/// }
///
/// #[derive(Default)]
/// struct Running(u64);
///
/// impl Visitor for Running {
///     type Item<'de> = Pod<'de>;
///     fn item(&mut self, pod: Pod<'_>) {
///         self.0 += u64::from(pod.status.phase == "Running");
///     }
///     fn restart(&mut self) {
///         self.0 = 0;
///     }
///     fn malformed(&mut self, error: &serde_json::Error) {
///         eprintln!("skipped a pod: {error}");
///     }
/// }
/// ```
pub trait Visitor {
    /// The view of one object.
    type Item<'de>: Deserialize<'de>;

    /// Takes one object.
    fn item(&mut self, item: Self::Item<'_>);

    /// The list starts over from a newer snapshot: everything taken so far is to be forgotten.
    fn restart(&mut self);

    /// An object that does not fit the view was skipped; the list goes on.
    fn malformed(&mut self, error: &serde_json::Error);
}

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListParams {
    label_selector: Option<String>,
    field_selector: Option<String>,
    keep_managed_fields: bool,
    metadata_only: bool,
    streaming: bool,
}

impl ListParams {
    /// Only objects with these labels, such as `app=web,tier!=db`.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.label_selector = Some(selector.to_owned());
        self
    }

    /// Only objects with these fields, such as `status.phase=Running`. Kinds differ in what
    /// they can select by; anything else is a 400.
    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        self.field_selector = Some(selector.to_owned());
        self
    }

    /// Leaves `managedFields` in the objects of a paged list. Without this, arrays under that key
    /// come to the visitor empty: they are often half of an object, and parsing costs by the byte.
    #[must_use]
    pub const fn keep_managed_fields(mut self) -> Self {
        self.keep_managed_fields = true;
        self
    }

    /// Asks for the objects' metadata alone (`PartialObjectMetadataList`).
    #[must_use]
    pub const fn metadata_only(mut self) -> Self {
        self.metadata_only = true;
        self
    }

    /// Asks for everything at once and parses it as it comes, one object in memory at a time.
    ///
    /// For APIs that know no pages, such as `metrics.k8s.io`.
    #[must_use]
    pub const fn streaming(mut self) -> Self {
        self.streaming = true;
        self
    }
}

pub(crate) fn run<V: Visitor>(
    client: &Client,
    path: &str,
    params: &ListParams,
    visitor: &mut V,
) -> Result<ListMeta, Error> {
    if params.streaming {
        return stream(client, path, params, visitor);
    }
    let mut buffer = Vec::new();
    let mut pages = PageSize::default();
    let mut token: Option<String> = None;
    let mut restarts = 0;
    loop {
        let call = page_call(path, params, Some(pages.limit), token.as_deref());
        match client.fetch_into(&call, MAX_PAGE_BYTES, &mut buffer) {
            Ok(()) => {}
            Err(Error::BodyTooLarge { .. }) if pages.halve() => continue,
            Err(error) if error.is_gone() && token.is_some() && restarts < MAX_RESTARTS => {
                restarts += 1;
                log::info!("{}: the snapshot expired, starting over", call.request());
                token = None;
                visitor.restart();
                continue;
            }
            Err(error) => return Err(error),
        }
        let bytes = buffer.len() as u64;
        if !params.keep_managed_fields {
            skim::drop_managed_fields(&mut buffer);
        }
        let (meta, items) = parse_page(skim::as_text(&mut buffer), visitor)
            .map_err(|source| client.decode_error(&call, source))?;
        pages.learn(bytes, items);
        match &meta.continue_token {
            Some(next) if next.is_empty() => return Ok(meta),
            None => return Ok(meta),
            // A server that does not take its own token would send this page for ever.
            next if *next == token => {
                let source = serde_json::Error::custom("the continue token does not change");
                return Err(client.decode_error(&call, source));
            }
            Some(_) => token = meta.continue_token,
        }
    }
}

/// Collects a list whose objects must all parse.
pub(crate) fn collect<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    params: &ListParams,
) -> Result<Vec<T>, Error> {
    struct Collector<T> {
        items: Vec<T>,
        error: Option<serde_json::Error>,
    }
    impl<T: DeserializeOwned> Visitor for Collector<T> {
        type Item<'de> = T;
        fn item(&mut self, item: T) {
            self.items.push(item);
        }
        fn restart(&mut self) {
            self.items.clear();
        }
        fn malformed(&mut self, error: &serde_json::Error) {
            self.error
                .get_or_insert_with(|| serde_json::Error::custom(error));
        }
    }

    let mut collector = Collector {
        items: Vec::new(),
        error: None,
    };
    run(client, path, params, &mut collector)?;
    match collector.error {
        None => Ok(collector.items),
        Some(source) => Err(Error::Decode {
            request: page_call(path, params, None, None).request(),
            source,
        }),
    }
}

fn stream<V: Visitor>(
    client: &Client,
    path: &str,
    params: &ListParams,
    visitor: &mut V,
) -> Result<ListMeta, Error> {
    let call = page_call(path, params, None, None);
    let body = client.send(&call)?.into_body().into_reader();
    let broken = |error| {
        client.unless_shut_down(match error {
            SplitError::Io(error) => Error::body(&call.request(), error),
            SplitError::Malformed(what) => Error::Decode {
                request: call.request(),
                source: serde_json::Error::custom(what),
            },
            SplitError::TooLarge => Error::BodyTooLarge {
                request: call.request(),
                limit: MAX_PAGE_BYTES,
            },
        })
    };
    let mut items = Items::new(body.take(MAX_STREAM_BYTES)).map_err(broken)?;
    while let Some(item) = items.next().map_err(broken)? {
        visit(skim::as_text(item), visitor);
    }
    Ok(items.into_meta())
}

/// Parses one object on its own.
fn visit<V: Visitor>(item: &str, visitor: &mut V) {
    match serde_json::from_str::<V::Item<'_>>(item) {
        Ok(item) => visitor.item(item),
        Err(error) => visitor.malformed(&error),
    }
}

fn page_call(path: &str, params: &ListParams, limit: Option<u32>, token: Option<&str>) -> Call {
    let mut query = Query::new(path.to_owned());
    if let Some(limit) = limit {
        query.add("limit", &limit.to_string());
    }
    query
        .add_some("labelSelector", params.label_selector.as_deref())
        .add_some("fieldSelector", params.field_selector.as_deref())
        .add_some("continue", token);
    let mut call = Call::read("list", query.finish());
    if params.metadata_only {
        call.accept = Accept::MetadataList;
    }
    call
}

/// How many objects to ask for next.
struct PageSize {
    limit: u32,
}

impl Default for PageSize {
    fn default() -> Self {
        Self { limit: FIRST_LIMIT }
    }
}

impl PageSize {
    /// Aims the next page at [`PAGE_BYTES`], growing at most twofold: the next objects may be
    /// larger than these were.
    fn learn(&mut self, bytes: u64, items: usize) {
        let items = items as u64;
        if items == 0 {
            return;
        }
        let wanted = PAGE_BYTES.saturating_mul(items) / bytes.max(1);
        let wanted = u32::try_from(wanted).unwrap_or(MAX_LIMIT);
        self.limit = wanted.clamp(1, self.limit.saturating_mul(2).min(MAX_LIMIT));
    }

    /// Asks for less; false when it cannot be less.
    fn halve(&mut self) -> bool {
        let could = self.limit > 1;
        self.limit = (self.limit / 2).max(1);
        could
    }
}

/// Parses a page straight into the visitor; only when an object does not fit is the page gone
/// through again with every remaining object parsed on its own.
fn parse_page<V: Visitor>(
    page: &str,
    visitor: &mut V,
) -> Result<(ListMeta, usize), serde_json::Error> {
    let mut seen = 0;
    // Not only errors of data: an object nested too deeply is a syntax error to the parser.
    let error = match parse_text(page, PageSeed::new(visitor, &mut seen)) {
        Ok(meta) => return Ok((meta, seen)),
        Err(error) => error,
    };
    log::debug!("parsing the rest of the page object by object: {error}");
    let skip = seen;
    seen = 0;
    let again = PageSeed {
        skip,
        isolate: true,
        ..PageSeed::new(visitor, &mut seen)
    };
    let meta = parse_text(page, again)?;
    Ok((meta, seen))
}

fn parse_text<'de, S: DeserializeSeed<'de>>(
    page: &'de str,
    seed: S,
) -> Result<S::Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(page);
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Parses `{"metadata": .., "items": [..], ..}`, handing the items to the visitor.
struct PageSeed<'v, V> {
    visitor: &'v mut V,
    /// How many items were gone past.
    seen: &'v mut usize,
    /// How many items the visitor has had already.
    skip: usize,
    /// Parse each item on its own, so that one that does not fit spoils no other.
    isolate: bool,
}

impl<'v, V> PageSeed<'v, V> {
    fn new(visitor: &'v mut V, seen: &'v mut usize) -> Self {
        Self {
            visitor,
            seen,
            skip: 0,
            isolate: false,
        }
    }
}

impl<'de, V: Visitor> DeserializeSeed<'de> for PageSeed<'_, V> {
    type Value = ListMeta;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<ListMeta, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, V: Visitor> serde::de::Visitor<'de> for PageSeed<'_, V> {
    type Value = ListMeta;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a Kubernetes list")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<ListMeta, A::Error> {
        let mut meta = None;
        let mut items = false;
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Metadata => meta = map.next_value::<Option<ListMeta>>()?,
                Key::Items => {
                    items = true;
                    map.next_value_seed(ItemsSeed(&mut self))?;
                }
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        // A proxy's login page or another kind's object must not pass for an empty list.
        if !items {
            return Err(A::Error::missing_field("items"));
        }
        Ok(meta.unwrap_or_default())
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Key {
    Metadata,
    Items,
    #[serde(other)]
    Other,
}

struct ItemsSeed<'s, 'v, V>(&'s mut PageSeed<'v, V>);

impl<'de, V: Visitor> DeserializeSeed<'de> for ItemsSeed<'_, '_, V> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, V: Visitor> serde::de::Visitor<'de> for ItemsSeed<'_, '_, V> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of objects")
    }

    /// Some aggregated APIs write an empty list as `null`.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let page = self.0;
        while *page.seen < page.skip {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
            *page.seen += 1;
        }
        if page.isolate {
            while let Some(raw) = seq.next_element::<&RawValue>()? {
                *page.seen += 1;
                visit::<V>(raw.get(), page.visitor);
            }
        } else {
            while let Some(item) = seq.next_element_seed(PhantomData::<V::Item<'de>>)? {
                *page.seen += 1;
                page.visitor.item(item);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    #[derive(Deserialize)]
    struct Item<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
    }

    #[derive(Default)]
    struct Names {
        taken: Vec<String>,
        borrowed: usize,
        malformed: usize,
    }

    impl Visitor for Names {
        type Item<'de> = Item<'de>;
        fn item(&mut self, item: Item<'_>) {
            self.borrowed += usize::from(matches!(item.name, Cow::Borrowed(_)));
            self.taken.push(item.name.into_owned());
        }
        fn restart(&mut self) {
            *self = Self::default();
        }
        fn malformed(&mut self, _: &serde_json::Error) {
            self.malformed += 1;
        }
    }

    fn parse(page: &str) -> (Result<(ListMeta, usize), serde_json::Error>, Names) {
        let mut names = Names::default();
        let result = parse_page(page, &mut names);
        (result, names)
    }

    #[test]
    fn items_are_borrowed_from_the_page() {
        let (result, names) = parse(
            r#"{"kind":"PodList","metadata":{"resourceVersion":"7","continue":"t","remainingItemCount":3},
                "items":[{"name":"a","x":[1,{}]},{"name":"b\n"}]}"#,
        );
        let (meta, items) = result.unwrap();
        assert_eq!((items, names.borrowed), (2, 1));
        assert_eq!(names.taken, ["a", "b\n"]);
        assert_eq!(meta.continue_token.as_deref(), Some("t"));
        assert_eq!(meta.remaining_item_count, Some(3));
    }

    #[test]
    fn an_object_that_does_not_fit_spoils_no_other() {
        let (result, names) = parse(
            r#"{"items":[{"name":"a"},{"name":5},{"name":"c"},[],{"name":"e"}],"metadata":{}}"#,
        );
        assert_eq!(result.unwrap().1, 5);
        assert_eq!(names.taken, ["a", "c", "e"]);
        assert_eq!(names.malformed, 2);
    }

    #[test]
    fn what_is_not_a_list_is_an_error() {
        for page in [
            "",
            "[]",
            "<html>",
            r#"{"kind":"Status"}"#,
            r#"{"items":{"a":1}}"#,
            r#"{"items":[{"name":"a"}"#,
            r#"{"items":[]} trailing"#,
        ] {
            assert!(parse(page).0.is_err(), "{page}");
        }
        assert!(parse(r#"{"items":null}"#).0.is_ok());
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        let page = format!(r#"{{"items":[{{"x":{}"#, "[".repeat(1_000_000));
        assert!(parse(&page).0.is_err());
    }

    #[test]
    fn page_sizes_follow_the_objects() {
        let mut pages = PageSize::default();
        pages.learn(64 * 17_000, 64);
        assert_eq!(pages.limit, 61);
        pages.learn(61 * 500, 61);
        assert_eq!(pages.limit, 122, "growth is at most twofold");
        for _ in 0..5 {
            pages.learn(1000, 10);
        }
        assert_eq!(pages.limit, MAX_LIMIT);
        pages.learn(3 << 20, 2);
        assert_eq!(pages.limit, 1);
        assert!(!pages.halve());
        pages.learn(0, 0);
        assert_eq!(pages.limit, 1);
    }
}
