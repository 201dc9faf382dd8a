//! What is done to a page before it is parsed, because it is cheaper done to the page as a whole:
//! checking that it is text, and taking `managedFields` out.
//!
//! Who owns which field is half of what a typical object weighs and of no use to a reader of
//! lists. A parser that skips it still looks at every byte of it, about twenty instructions for
//! each; finding the end of one array by its brackets and quotes takes a tenth of that.

use memchr::{memchr, memchr_iter, memmem};

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

/// The page as text. One look at the whole costs a fraction of a look at each string in it.
///
/// JSON is UTF-8, and Kubernetes writes nothing else; bytes that are not become `?`, so that they
/// spoil one name and not the page.
pub(crate) fn as_text(page: &mut [u8]) -> &str {
    let mut checked = 0;
    while let Some(rest) = page.get_mut(checked..) {
        let Err(error) = std::str::from_utf8(rest) else {
            break;
        };
        if let Some(byte) = rest.get_mut(error.valid_up_to()) {
            *byte = b'?';
        }
        checked += error.valid_up_to() + 1;
    }
    std::str::from_utf8(page).unwrap_or_default()
}

/// How many bytes of `text`, which begins behind a `[`, come before the `]` that belongs to it.
///
/// The first bracket that closes is nearly always the one: ownership is told in objects and keys. So
/// each is looked for, and then what lies before it is counted, both with the processor's vectors:
/// a bracket counts where the quotes before it are even in number.
fn array_length(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut start = 0;
    for end in memchr_iter(b']', text) {
        let part = text.get(start..end)?;
        if memchr(b'[', part).is_some() {
            depth += opening_brackets(part, in_string);
        }
        in_string ^= unescaped_quotes(part) % 2 == 1;
        if !in_string {
            if depth == 0 {
                return Some(end);
            }
            depth -= 1;
        }
        start = end + 1;
    }
    None
}

/// How many `[` are outside of the strings of `part`.
fn opening_brackets(part: &[u8], mut in_string: bool) -> usize {
    let mut count = 0;
    let mut start = 0;
    for bracket in memchr_iter(b'[', part) {
        in_string ^= unescaped_quotes(part.get(start..bracket).unwrap_or_default()) % 2 == 1;
        count += usize::from(!in_string);
        start = bracket + 1;
    }
    count
}

/// How many strings begin or end in `part`, which does not begin behind a backslash.
fn unescaped_quotes(part: &[u8]) -> usize {
    let mut escaped = 0;
    let mut next = 0;
    for backslash in memchr_iter(b'\\', part) {
        // A backslash may be what the one before it stands for.
        if backslash >= next {
            next = backslash + 2;
            escaped += usize::from(part.get(backslash + 1) == Some(&b'"'));
        }
    }
    memchr_iter(b'"', part).count() - escaped
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
    fn what_is_not_utf_8_is_replaced() {
        let mut page = b"a\xffb\xc3(\xe2\x82\xac\xf0".to_vec();
        assert_eq!(as_text(&mut page), "a?b?(\u{20ac}?");
        assert_eq!(as_text(&mut []), "");
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
    /// Brackets and quotes in every order, against a plain walk.
    #[test]
    fn the_end_of_an_array_is_found_whatever_its_strings_hold() {
        let mut text = Vec::new();
        for number in 0..5_usize.pow(7) {
            text.clear();
            let mut rest = number;
            while rest > 0 {
                text.extend(br#""\[]a"#.get(rest % 5));
                rest /= 5;
            }
            assert_eq!(
                array_length(&text),
                walk(&text),
                "{:?}",
                text.escape_ascii()
            );
        }
    }

    fn walk(text: &[u8]) -> Option<usize> {
        let (mut depth, mut in_string, mut escaped) = (0, false, false);
        for (at, byte) in text.iter().enumerate() {
            match byte {
                b'\\' if !escaped => {
                    escaped = true;
                    continue;
                }
                b'"' if !escaped => in_string = !in_string,
                b'[' if !in_string => depth += 1,
                b']' if !in_string && depth == 0 => return Some(at),
                b']' if !in_string => depth -= 1,
                _ => {}
            }
            escaped = false;
        }
        None
    }
}
