//! JSON that keeps the order of its fields.
//!
//! A real API server writes the fields of an object in the order of its Go type, and a client that reads a stream
//! may depend on it. `serde_json::Value` sorts them, so the simulator has its own small tree. It also writes strings
//! as Go does: `<`, `>`, `&` and the two line separators are escaped.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

/// A JSON value whose objects keep the order in which their fields were written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses one document.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// An empty object.
    pub(crate) fn object() -> Self {
        Json::Object(Vec::new())
    }

    /// The field of an object.
    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        self.fields()
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// The value at the end of a path of fields.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Json> {
        path.iter().try_fold(self, |value, name| value.get(name))
    }

    /// The string at the end of a path of fields.
    pub(crate) fn text(&self, path: &[&str]) -> Option<&str> {
        self.at(path).and_then(Json::as_str)
    }

    /// The field of an object, to be changed.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Json> {
        match self {
            Json::Object(fields) => fields
                .iter_mut()
                .rev()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// The fields of an object, and none for anything else.
    pub(crate) fn fields(&self) -> &[(String, Json)] {
        match self {
            Json::Object(fields) => fields,
            _ => &[],
        }
    }

    /// The items of an array, and none for anything else.
    pub(crate) fn items(&self) -> &[Json] {
        match self {
            Json::Array(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_object(&self) -> bool {
        matches!(self, Json::Object(_))
    }

    /// Sets a field where it is, or adds it at the end. Anything but an object becomes one.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<Json>) {
        if !self.is_object() {
            *self = Json::object();
        }
        if let Some(old) = self.get_mut(name) {
            *old = value.into();
        } else if let Json::Object(fields) = self {
            fields.push((name.to_owned(), value.into()));
        }
    }

    /// Takes a field out of an object.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Json> {
        match self {
            Json::Object(fields) => {
                let index = fields.iter().position(|(key, _)| key == name)?;
                Some(fields.remove(index).1)
            }
            _ => None,
        }
    }

    /// Whether two values are the same, whatever the order of their fields.
    pub(crate) fn same(&self, other: &Json) -> bool {
        match (self, other) {
            (Json::Object(a), Json::Object(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .all(|(key, value)| other.get(key).is_some_and(|o| value.same(o)))
            }
            (Json::Array(a), Json::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b))
            }
            _ => self == other,
        }
    }

    /// Writes the value without white space.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Json::Null => out.extend_from_slice(b"null"),
            Json::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Json::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Json::String(text) => write_string(text, out),
            Json::Array(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Json::Object(fields) => {
                out.push(b'{');
                for (index, (key, value)) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_string(key, out);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }

    /// Writes the value with two spaces of indentation for each level.
    pub(crate) fn write_pretty(&self, depth: usize, out: &mut Vec<u8>) {
        let indent = |out: &mut Vec<u8>, depth: usize| {
            out.push(b'\n');
            out.extend(std::iter::repeat_n(b' ', depth * 2));
        };
        match self {
            Json::Array(items) if !items.is_empty() => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    indent(out, depth + 1);
                    item.write_pretty(depth + 1, out);
                }
                indent(out, depth);
                out.push(b']');
            }
            Json::Object(fields) if !fields.is_empty() => {
                out.push(b'{');
                for (index, (key, value)) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    indent(out, depth + 1);
                    write_string(key, out);
                    out.extend_from_slice(b": ");
                    value.write_pretty(depth + 1, out);
                }
                indent(out, depth);
                out.push(b'}');
            }
            _ => self.write(out),
        }
    }

    /// The value without white space.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}

/// Writes a string as Go's `encoding/json` does.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0x08 => b"\\b",
            0x0c => b"\\f",
            b'<' => b"\\u003c",
            b'>' => b"\\u003e",
            b'&' => b"\\u0026",
            // U+2028 and U+2029 are E2 80 A8 and E2 80 A9.
            0xe2 if bytes[index..].starts_with(&[0xe2, 0x80, 0xa8]) => b"\\u2028",
            0xe2 if bytes[index..].starts_with(&[0xe2, 0x80, 0xa9]) => b"\\u2029",
            0..=0x1f => {
                out.extend_from_slice(&bytes[from..index]);
                out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                from = index + 1;
                continue;
            }
            _ => continue,
        };
        out.extend_from_slice(&bytes[from..index]);
        out.extend_from_slice(escape);
        from = index + if byte == 0xe2 { 3 } else { 1 };
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

/// Builds an object: `object! { "kind" => "Status", "code" => 404 }`.
macro_rules! object {
    ($($name:expr => $value:expr),* $(,)?) => {
        $crate::json::Json::Object(vec![$(($name.to_owned(), $crate::json::Json::from($value))),*])
    };
}
pub(crate) use object;

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Json::String(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Json::String(text)
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Json::Bool(value)
    }
}

impl From<i64> for Json {
    fn from(value: i64) -> Self {
        Json::Number(value.into())
    }
}

impl From<Vec<Json>> for Json {
    fn from(items: Vec<Json>) -> Self {
        Json::Array(items)
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(number) => Json::Number(number.clone()),
            Value::String(text) => Json::String(text.clone()),
            Value::Array(items) => Json::Array(items.iter().map(Json::from).collect()),
            Value::Object(fields) => Json::Object(
                fields
                    .iter()
                    .map(|(key, value)| (key.clone(), Json::from(value)))
                    .collect(),
            ),
        }
    }
}

impl From<&Json> for Value {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => Value::Number(number.clone()),
            Json::String(text) => Value::String(text.clone()),
            Json::Array(items) => Value::Array(items.iter().map(Value::from).collect()),
            Json::Object(fields) => Value::Object(
                fields
                    .iter()
                    .map(|(key, value)| (key.clone(), Value::from(value)))
                    .collect(),
            ),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Build;

        impl<'de> Visitor<'de> for Build {
            type Value = Json;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
                Ok(Json::Number(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
                Ok(Json::Number(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
                Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Json, E> {
                Ok(Json::String(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
                Ok(Json::Array(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = access.next_entry()? {
                    fields.push(field);
                }
                Ok(Json::Object(fields))
            }
        }

        deserializer.deserialize_any(Build)
    }
}

/// The end of the JSON value that begins at `from`, for text known to be well formed.
pub(crate) fn value_end(text: &[u8], from: usize) -> usize {
    let mut depth = 0_usize;
    let mut index = from;
    while let Some(&byte) = text.get(index) {
        match byte {
            b'"' => {
                index += 1;
                while let Some(&byte) = text.get(index) {
                    match byte {
                        b'\\' => index += 1,
                        b'"' => break,
                        _ => {}
                    }
                    index += 1;
                }
                if depth == 0 {
                    return index + 1;
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                if depth <= 1 {
                    return index + usize::from(depth == 1);
                }
                depth -= 1;
            }
            b',' if depth == 0 => return index,
            _ => {}
        }
        index += 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_and_escapes_as_go_does() {
        let text = br#"{"b":[1,-2,null,true,"x\u003c\u0026\u2028\u0007\n\"\\"],"a":{"z":"\u00e4","y":{}},"c":[]}"#;
        let json = Json::parse(text).unwrap();
        let expected = String::from_utf8_lossy(text).replace("\\u00e4", "ä");
        assert_eq!(String::from_utf8(json.to_bytes()).unwrap(), expected);
    }

    #[test]
    fn compares_without_regard_to_order() {
        let a = Json::parse(br#"{"a":1,"b":{"c":[1,{"x":1,"y":2}]}}"#).unwrap();
        let b = Json::parse(br#"{"b":{"c":[1,{"y":2,"x":1}]},"a":1}"#).unwrap();
        assert!(a.same(&b) && a != b);
        assert!(!a.same(&Json::parse(br#"{"a":1}"#).unwrap()));
    }

    #[test]
    fn finds_the_end_of_a_value() {
        let text = br#"{"a":{"b":"}\"]"},"c":[1,[2]],"d":12}"#;
        assert_eq!(value_end(text, 5), 17);
        assert_eq!(&text[22..value_end(text, 22)], b"[1,[2]]");
        assert_eq!(&text[34..value_end(text, 34)], b"12");
        assert_eq!(value_end(text, 0), text.len());
    }
}
