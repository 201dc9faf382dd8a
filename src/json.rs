//! JSON in ASCII: what is written to ConfigMaps and to stdout is read by clients that split it
//! in frames, and a frame must not end in the middle of a character.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// Serialises in one line.
pub(crate) fn to_string(value: &impl Serialize) -> String {
    serialize(value, Ascii(CompactFormatter))
}

/// Serialises for people, indented by two spaces.
pub(crate) fn to_string_pretty(value: &impl Serialize) -> String {
    serialize(value, Ascii(PrettyFormatter::new()))
}

/// The types that come here cannot fail: no maps with other keys than strings, no I/O.
fn serialize<F: Formatter>(value: &impl Serialize, formatter: F) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, formatter);
    if let Err(error) = value.serialize(&mut serializer) {
        log::error!("cannot write JSON: {error}");
        return "null".to_owned();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Ascii<F>(F);

macro_rules! delegate {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {$(
        fn $name<W: ?Sized + Write>(&mut self, writer: &mut W $(, $argument: $type)*) -> io::Result<()> {
            self.0.$name(writer $(, $argument)*)
        }
    )*};
}

impl<F: Formatter> Formatter for Ascii<F> {
    delegate! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        end_object_key();
        begin_object_value();
        end_object_value();
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c: char| !c.is_ascii() || c == '\u{7f}') {
            let (ascii, from) = rest.split_at(at);
            writer.write_all(ascii.as_bytes())?;
            let mut characters = from.chars();
            if let Some(character) = characters.next() {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_ascii_is_escaped() {
        let text = "a\"\n\u{7f}é\u{20ac}😀z";
        let json = to_string(&text);
        assert!(json.is_ascii());
        assert_eq!(json, r#""a\"\n\u007f\u00e9\u20ac\ud83d\ude00z""#);
        assert_eq!(
            serde_json::from_str::<String>(&json).ok().as_deref(),
            Some(text)
        );
    }

    #[test]
    fn pretty_is_indented() {
        let value = serde_json::json!({"a": [1, "é"], "b": {}});
        assert_eq!(
            to_string_pretty(&value),
            "{\n  \"a\": [\n    1,\n    \"\\u00e9\"\n  ],\n  \"b\": {}\n}"
        );
    }
}
