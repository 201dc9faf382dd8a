//! Cutting a list that comes as one long answer into its objects, with memory for one of them.
//!
//! Parsing from a reader costs a parser about sixty instructions a byte; finding where an object
//! ends takes a few, and then it can be parsed from a slice. An object that does not parse also
//! spoils no other this way.

use std::io::{self, Read};

use memchr::memmem;
use serde::Deserialize;

use crate::meta::ListMeta;

/// Read at a time.
const STEP: usize = 32 << 10;

/// What comes before or behind the items: kind, apiVersion and the list's metadata. Built-in kinds
/// have the metadata before; lists of custom resources are sorted by key, so they have it behind.
const MAX_HEAD: usize = 64 << 10;

/// The largest object: etcd refuses one over 1.5 MiB.
const MAX_ITEM: usize = 4 << 20;

/// The objects of a list, read from `reader` one by one.
pub(crate) struct Items<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Where in the buffer the next object, or what is before it, begins.
    at: usize,
    meta: Option<ListMeta>,
}

/// What is known of a list besides its items.
#[derive(Deserialize)]
struct Rest {
    #[serde(default)]
    metadata: Option<ListMeta>,
}

/// Why an object could not be had.
#[derive(Debug)]
pub(crate) enum SplitError {
    Io(io::Error),
    /// Not a list, or one that ends in the middle.
    Malformed(&'static str),
    TooLarge,
}

impl<R: Read> Items<R> {
    /// Reads up to the first object.
    pub(crate) fn new(reader: R) -> Result<Self, SplitError> {
        let mut items = Self {
            reader,
            buffer: Vec::new(),
            at: 0,
            meta: None,
        };
        let key = loop {
            if let Some(key) = memmem::find(&items.buffer, b"\"items\"") {
                break key;
            }
            if items.buffer.len() > MAX_HEAD || !items.fill()? {
                return Err(SplitError::Malformed("missing field `items`"));
            }
        };
        let head = items.buffer.get(..key).unwrap_or_default().trim_ascii_end();
        let mut head = head.strip_suffix(b",").unwrap_or(head).to_vec();
        head.push(b'}');
        let head: Rest = serde_json::from_slice(&head)
            .map_err(|_| SplitError::Malformed("what comes before `items` is not JSON"))?;
        items.meta = head.metadata;
        items.at = key + b"\"items\"".len();
        match (items.next_byte()?, items.next_byte()?) {
            (b':', b'[') => Ok(items),
            (b':', b'n') => match [items.next_byte()?, items.next_byte()?, items.next_byte()?] {
                // An empty list, too.
                [b'u', b'l', b'l'] => {
                    items.at -= 1;
                    if let Some(last) = items.buffer.get_mut(items.at) {
                        *last = b']';
                    }
                    Ok(items)
                }
                _ => Err(SplitError::Malformed("`items` is not an array")),
            },
            _ => Err(SplitError::Malformed("`items` is not an array")),
        }
    }

    /// The next object's JSON; at the end of the list `None`, after the answer was read to its end.
    pub(crate) fn next(&mut self) -> Result<Option<&mut [u8]>, SplitError> {
        loop {
            match self.next_byte()? {
                b',' => {}
                b']' => return self.rest().map(|()| None),
                b'{' => break,
                _ => return Err(SplitError::Malformed("an item is not an object")),
            }
        }
        let mut start = self.at - 1;
        let mut scan = Scan::default();
        loop {
            let object = self.buffer.get(start..).unwrap_or_default();
            if let Some(length) = scan.object_length(object) {
                self.at = start + length;
                return Ok(self.buffer.get_mut(start..self.at));
            }
            if object.len() > MAX_ITEM {
                return Err(SplitError::TooLarge);
            }
            self.buffer.drain(..start);
            start = 0;
            if !self.fill()? {
                return Err(SplitError::Malformed("the list ends in the middle"));
            }
        }
    }

    /// The next byte that is not white space.
    fn next_byte(&mut self) -> Result<u8, SplitError> {
        loop {
            let Some(byte) = self.buffer.get(self.at) else {
                self.buffer.clear();
                self.at = 0;
                if self.fill()? {
                    continue;
                }
                return Err(SplitError::Malformed("the list ends in the middle"));
            };
            self.at += 1;
            if !byte.is_ascii_whitespace() {
                return Ok(*byte);
            }
        }
    }

    /// Reads some more; false at the end.
    fn fill(&mut self) -> Result<bool, SplitError> {
        let mut step = (&mut self.reader).take(STEP as u64);
        Ok(step.read_to_end(&mut self.buffer)? > 0)
    }

    /// The list's metadata, once [`next`](Self::next) has given `None`.
    pub(crate) fn into_meta(self) -> ListMeta {
        self.meta.unwrap_or_default()
    }

    /// Reads what follows the items to its end, so that a list that was cut off is noticed, and a
    /// whole one leaves a connection that can be used again.
    fn rest(&mut self) -> Result<(), SplitError> {
        self.buffer.drain(..self.at);
        self.at = 0;
        while self.fill()? {
            if self.buffer.len() > MAX_HEAD {
                return Err(SplitError::TooLarge);
            }
        }
        let rest = self.buffer.trim_ascii_start();
        let rest = [b"{", rest.strip_prefix(b",").unwrap_or(rest)].concat();
        let rest: Rest = serde_json::from_slice(&rest)
            .map_err(|_| SplitError::Malformed("what comes behind `items` is not JSON"))?;
        if rest.metadata.is_some() {
            self.meta = rest.metadata;
        }
        Ok(())
    }
}

impl From<io::Error> for SplitError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// How far into an object one has looked, so that more bytes do not mean to look again.
#[derive(Default)]
struct Scan {
    at: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// How long the object at the start of `bytes` is, once it is all there.
    fn object_length(&mut self, bytes: &[u8]) -> Option<usize> {
        let Self {
            at,
            depth,
            in_string,
            escaped,
        } = self;
        for byte in bytes.get(*at..)? {
            *at += 1;
            if *in_string {
                match byte {
                    _ if *escaped => *escaped = false,
                    b'"' => *in_string = false,
                    b'\\' => *escaped = true,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => *in_string = true,
                b'{' => *depth += 1,
                b'}' => {
                    *depth = depth.saturating_sub(1);
                    if *depth == 0 {
                        return Some(*at);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A reader that gives one byte at a time, so that every boundary is met.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let (Some((first, rest)), Some(slot)) = (self.0.split_first(), buffer.first_mut())
            else {
                return Ok(0);
            };
            *slot = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    fn split(list: &str) -> Result<(Vec<String>, ListMeta), SplitError> {
        let mut items = Items::new(Drip(list.as_bytes()))?;
        let mut all = Vec::new();
        while let Some(item) = items.next()? {
            all.push(String::from_utf8_lossy(item).into_owned());
        }
        Ok((all, items.into_meta()))
    }

    #[test]
    fn objects_come_one_by_one() {
        let (items, meta) = split(
            r#" {"kind":"L","metadata":{"resourceVersion":"7"} , "items" : [ {"a":"}\"]"} ,{"b":{"c":[{}]}} ] ,"x":1}"#,
        )
        .unwrap();
        assert_eq!(items, [r#"{"a":"}\"]"}"#, r#"{"b":{"c":[{}]}}"#]);
        assert_eq!(meta.resource_version, "7");
        for empty in [r#"{"items":[]}"#, r#"{"items":null,"metadata":{}}"#] {
            assert!(split(empty).unwrap().0.is_empty(), "{empty}");
        }
    }

    /// As lists of custom resources are written.
    #[test]
    fn metadata_may_come_behind_the_items() {
        for list in [
            r#"{"items":[{"a":1}],"kind":"L","metadata":{"resourceVersion":"7"}}"#,
            r#"{"items": null , "metadata":{"resourceVersion":"7"}}"#,
        ] {
            assert_eq!(split(list).unwrap().1.resource_version, "7", "{list}");
        }
    }

    #[test]
    fn what_is_no_whole_list_is_an_error() {
        for broken in [
            "",
            "{}",
            "<html>\"items\":[",
            r#"{"items":{}}"#,
            r#"{"items":"#,
            r#"{"items":[1]}"#,
            r#"{"items":[{"a":1}"#,
            r#"{"items":[{"a":1}]"#,
            r#"{"items":[{"a":1}],"metadata":{"#,
            r#"{"items":[]} trailing"#,
            r#"{"items":nil}"#,
            r#"{"items":null"#,
            r#"{"items":[{"a":"#,
        ] {
            assert!(
                matches!(split(broken), Err(SplitError::Malformed(_))),
                "{broken}"
            );
        }
    }

    #[test]
    fn an_object_without_end_is_given_up() {
        let list = format!(r#"{{"items":[{{"a":"{}"#, "x".repeat(MAX_ITEM + STEP));
        let mut items = Items::new(list.as_bytes()).unwrap();
        assert!(matches!(items.next(), Err(SplitError::TooLarge)));
        let list = format!(r#"{{"items":[],"a":"{}"#, "x".repeat(MAX_HEAD + STEP));
        let mut items = Items::new(list.as_bytes()).unwrap();
        assert!(matches!(items.next(), Err(SplitError::TooLarge)));
    }
}
