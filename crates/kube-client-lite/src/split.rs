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

/// What comes before the items: kind, apiVersion and the list's metadata.
const MAX_HEAD: usize = 64 << 10;

/// The largest object: etcd refuses one over 1.5 MiB.
const MAX_ITEM: usize = 4 << 20;

/// The objects of a list, read from `reader` one by one.
pub(crate) struct Items<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Where in the buffer the next object, or what is before it, begins.
    at: usize,
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
    /// Reads up to the first object. The list's metadata is known if it came before the items.
    pub(crate) fn new(reader: R) -> Result<(Self, ListMeta), SplitError> {
        #[derive(Deserialize, Default)]
        struct Head {
            #[serde(default)]
            metadata: Option<ListMeta>,
        }

        let mut items = Self {
            reader,
            buffer: Vec::new(),
            at: 0,
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
        let head: Head = serde_json::from_slice(&head)
            .map_err(|_| SplitError::Malformed("what comes before `items` is not JSON"))?;
        items.at = key + b"\"items\"".len();
        match (items.next_byte()?, items.next_byte()?) {
            (b':', b'[') => Ok((items, head.metadata.unwrap_or_default())),
            // `null` is an empty list, too; the rest of the word is of no interest.
            (b':', b'n') => {
                items.buffer.clear();
                items.buffer.push(b']');
                items.at = 0;
                Ok((items, head.metadata.unwrap_or_default()))
            }
            _ => Err(SplitError::Malformed("`items` is not an array")),
        }
    }

    /// The next object's JSON; at the end of the list `None`, after the answer was read to its end.
    pub(crate) fn next(&mut self) -> Result<Option<&mut [u8]>, SplitError> {
        loop {
            match self.next_byte()? {
                b',' => {}
                b']' => return self.drain().map(|()| None),
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
            match self.buffer.get(self.at) {
                Some(byte) => {
                    self.at += 1;
                    if !byte.is_ascii_whitespace() {
                        return Ok(*byte);
                    }
                }
                None => {
                    self.buffer.clear();
                    self.at = 0;
                    if !self.fill()? {
                        return Err(SplitError::Malformed("the list ends in the middle"));
                    }
                }
            }
        }
    }

    /// Reads some more; false at the end.
    fn fill(&mut self) -> Result<bool, SplitError> {
        let mut step = (&mut self.reader).take(STEP as u64);
        Ok(step.read_to_end(&mut self.buffer)? > 0)
    }

    /// Reads what follows the items, so that a broken answer is noticed and a whole one leaves a
    /// connection that can be used again.
    fn drain(&mut self) -> Result<(), SplitError> {
        io::copy(&mut self.reader, &mut io::sink())?;
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
        let (mut items, meta) = Items::new(Drip(list.as_bytes()))?;
        let mut all = Vec::new();
        while let Some(item) = items.next()? {
            all.push(String::from_utf8_lossy(item).into_owned());
        }
        Ok((all, meta))
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
        let (mut items, _) = Items::new(list.as_bytes()).unwrap();
        assert!(matches!(items.next(), Err(SplitError::TooLarge)));
    }
}
