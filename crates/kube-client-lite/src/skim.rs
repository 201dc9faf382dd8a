//! What is done to a page before it is parsed, because it is cheaper done to the page as a whole:
//! checking that it is text, and taking `managedFields` out.
//!
//! Who owns which field is half of what a typical object weighs and of no use to a reader of
//! lists. A parser that skips it still looks at every byte of it, about twenty instructions for
//! each; finding the end of one array by its brackets and quotes takes a tenth of that.

use memchr::memmem;

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
/// Plain loops, because the strings in there are a dozen bytes long: a vectorised search has not
/// paid for its start by then.
fn array_length(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut rest = text.iter();
    loop {
        match rest.find(|byte| matches!(byte, b'"' | b'[' | b']'))? {
            b'"' => end_string(&mut rest)?,
            b'[' => depth += 1,
            _ if depth == 0 => return Some(text.len() - rest.len() - 1),
            _ => depth -= 1,
        }
    }
}

/// Goes past the end of the string that `rest` is in.
fn end_string(rest: &mut std::slice::Iter<'_, u8>) -> Option<()> {
    while rest.find(|byte| matches!(byte, b'"' | b'\\'))? == &b'\\' {
        rest.next();
    }
    Some(())
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
}
