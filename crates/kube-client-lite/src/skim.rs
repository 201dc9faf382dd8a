//! Taking `managedFields` out of a page before it is parsed.
//!
//! Who owns which field is half of what a typical object weighs and of no use to a reader of
//! lists. A parser that skips it still looks at every byte of it, about twenty instructions for
//! each; finding the end of one array by its brackets and quotes takes a tenth of that.

use memchr::{memchr2, memchr3, memmem};

/// A match cannot be inside of a string: the quotes would be escaped there. So it is a key with
/// an array for a value, in the form the API server writes it (compact, without spaces).
const KEY: &[u8] = br#""managedFields":["#;

/// Empties every `managedFields` array of a page, in place.
///
/// What is not JSON stays not JSON: an array without an end is left for the parser to find.
pub(crate) fn drop_managed_fields(page: &mut Vec<u8>) {
    let finder = memmem::Finder::new(KEY);
    let mut kept = 0;
    let mut read = 0;
    while let Some(at) = page.get(read..).and_then(|rest| finder.find(rest)) {
        let start = read + at + KEY.len();
        let Some(length) = page.get(start..).and_then(array_length) else {
            break;
        };
        page.copy_within(read..start, kept);
        kept += start - read;
        read = start + length;
    }
    if read > 0 {
        page.copy_within(read.., kept);
        page.truncate(kept + (page.len() - read));
    }
}

/// How many bytes of `text`, which begins behind a `[`, come before the `]` that belongs to it.
fn array_length(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        at += memchr3(b'"', b'[', b']', text.get(at..)?)?;
        match text.get(at)? {
            b'"' => at += string_length(text.get(at + 1..)?)? + 1,
            b'[' => depth += 1,
            _ if depth == 0 => return Some(at),
            _ => depth -= 1,
        }
        at += 1;
    }
}

/// How many bytes of `text`, which begins behind a quote, come before the quote that ends it.
fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at)? == &b'"' {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skimmed(page: &str) -> String {
        let mut bytes = page.as_bytes().to_vec();
        drop_managed_fields(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn arrays_are_emptied_and_nothing_else() {
        for (page, expected) in [
            ("", ""),
            (r#"{"a":1}"#, r#"{"a":1}"#),
            (r#"{"managedFields":[]}"#, r#"{"managedFields":[]}"#),
            (
                r#"[{"managedFields":[{"f:x":{"k:{\"]\":\"[\"}":[1,[2]]}}],"b":2},{"managedFields":["\\"],"c":3}]"#,
                r#"[{"managedFields":[],"b":2},{"managedFields":[],"c":3}]"#,
            ),
            // A text that looks like the key, as a string has it.
            (
                r#"{"a":"\"managedFields\":[\"x\"]","managedFields":null}"#,
                r#"{"a":"\"managedFields\":[\"x\"]","managedFields":null}"#,
            ),
            // Broken pages stay as broken as they were.
            (r#"{"managedFields":[{"a"#, r#"{"managedFields":[{"a"#),
            (r#"{"managedFields":["\"#, r#"{"managedFields":["\"#),
            (
                r#"{"managedFields":[1],"x":{"managedFields":[[]"#,
                r#"{"managedFields":[],"x":{"managedFields":[[]"#,
            ),
        ] {
            assert_eq!(skimmed(page), expected, "{page}");
        }
    }
}
