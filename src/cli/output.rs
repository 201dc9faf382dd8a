//! stdout carries the answer and nothing else.

use std::io::{self, BufWriter, StdoutLock, Write as _};
use std::process::ExitCode;
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;

use super::exit::Failure;
use crate::json;

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Json,
    Table,
    Yaml,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "table" => Ok(Self::Table),
            "yaml" => Ok(Self::Yaml),
            _ => Err(format!("{text:?} is not one of json, yaml, table")),
        }
    }
}

/// Writes an answer in the format asked for.
pub(crate) fn print(format: Format, answer: &impl Serialize) -> Result<ExitCode, Failure> {
    if format == Format::Json {
        return Ok(self::answer(&json::to_string_pretty(answer)));
    }
    let value = serde_json::to_value(answer).map_err(Failure::failed)?;
    let mut text = String::new();
    match format {
        Format::Yaml => yaml(&value, 0, &mut text),
        _ => table(&value, &mut text),
    }
    Ok(self::answer(&text))
}

/// A document with one long list in it, written row by row: of a thousand insights one is in
/// memory. A table of them is a [`Table`](super::layout::Table).
pub(super) struct Rows {
    out: BufWriter<StdoutLock<'static>>,
    format: Format,
    name: &'static str,
    empty: bool,
    written: io::Result<()>,
}

impl Rows {
    /// Nothing is written before the first row, so that an error until then is all there is.
    pub(super) fn new(format: Format, name: &'static str) -> Self {
        Self {
            out: BufWriter::new(io::stdout().lock()),
            format,
            name,
            empty: true,
            written: Ok(()),
        }
    }

    pub(super) fn push(&mut self, row: &impl Serialize) {
        let mut text = String::new();
        if self.format == Format::Json {
            let begin = format!("{{\n  \"{}\": [", self.name);
            text += if self.empty { &begin } else { "," };
            text += "\n    ";
            // Line breaks in strings are escaped, so each of these is one between fields.
            text += &json::to_string_pretty(row).replace('\n', "\n    ");
        } else {
            if self.empty {
                text = format!("{}:\n", self.name);
            }
            match serde_json::to_value(row) {
                Ok(row) => yaml(&Value::Array(vec![row]), 2, &mut text),
                Err(error) => self.written = Err(error.into()),
            }
        }
        self.empty = false;
        self.write(&text);
    }

    /// Ends the list and writes the fields behind it.
    pub(super) fn finish(mut self, rest: &impl Serialize) -> Result<ExitCode, Failure> {
        let mut text = String::new();
        if self.format == Format::Json {
            if self.empty {
                text = format!("{{\n  \"{}\": []", self.name);
            } else {
                text += "\n  ]";
            }
            let rest = json::to_string_pretty(rest);
            text.push(',');
            text += rest.strip_prefix('{').unwrap_or(&rest);
            text.push('\n');
        } else {
            if self.empty {
                text = format!("{}: []\n", self.name);
            }
            let rest = serde_json::to_value(rest).map_err(Failure::failed)?;
            yaml(&rest, 0, &mut text);
        }
        self.write(&text);
        let flushed = self.out.flush();
        exit_code(self.written.and(flushed))
    }

    fn write(&mut self, text: &str) {
        if self.written.is_ok() {
            self.written = self.out.write_all(text.as_bytes());
        }
    }
}

/// Writes text to stdout. A reader that has gone away has what it wanted.
pub(crate) fn answer(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(text.trim_end().as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    exit_code(written).unwrap_or_else(|failure| failure.report(Format::Table))
}

fn exit_code(written: io::Result<()>) -> Result<ExitCode, Failure> {
    match written {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::failed(format!("cannot write to stdout: {error}"))),
    }
}

/// YAML as `kubectl -o yaml` writes it: block style, strings quoted where they could be taken for
/// something else.
fn yaml(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                *out += &format!("{pad}{}:", scalar(&Value::from(key.as_str())));
                nested(value, indent, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                *out += &format!("{pad}-");
                match item {
                    Value::Object(fields) if !fields.is_empty() => {
                        let mut block = String::new();
                        yaml(item, indent + 2, &mut block);
                        *out += " ";
                        *out += block.trim_start();
                    }
                    _ => nested(item, indent, out),
                }
            }
        }
        other => *out += &format!("{pad}{}\n", scalar(other)),
    }
}

fn nested(value: &Value, indent: usize, out: &mut String) {
    let block = match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if block {
        out.push('\n');
        yaml(value, indent + 2, out);
    } else {
        *out += &format!(" {}\n", scalar(value));
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        Value::String(text) => quoted(text),
        other => json::to_string(other),
    }
}

/// A double-quoted scalar in ASCII. Not as JSON has it: YAML knows no surrogate pairs.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out += "\\n",
            '\t' => out += "\\t",
            ' '..='~' => out.push(character),
            '\u{10000}'.. => out += &format!("\\U{:08x}", u32::from(character)),
            _ => out += &format!("\\u{:04x}", u32::from(character)),
        }
    }
    out.push('"');
    out
}

/// Whether YAML takes the text for itself, and neither a number, a date, a truth nor syntax.
fn is_plain(text: &str) -> bool {
    let words = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with(' ')
        && text.len() <= 200
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | '/'))
        && !words.contains(&text.to_ascii_lowercase().as_str())
}

/// For people: one line a figure, the names of nested figures joined by dots.
fn table(value: &Value, out: &mut String) {
    let mut rows = Vec::new();
    flatten("", value, &mut rows);
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    for (name, value) in rows {
        *out += format!("{name:width$}  {value}").trim_end();
        out.push('\n');
    }
}

fn flatten(name: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let below = |key: &str| {
        if name.is_empty() {
            key.to_owned()
        } else {
            format!("{name}.{key}")
        }
    };
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(&below(key), value, rows);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&below(&index.to_string()), item, rows);
            }
        }
        Value::Null => rows.push((name.to_owned(), "-".to_owned())),
        Value::String(text) => rows.push((name.to_owned(), printable(text))),
        other => rows.push((name.to_owned(), other.to_string())),
    }
}

/// What a terminal would obey is shown and not sent to it.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_format(character) {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

/// Characters that are invisible and turn the text around them (bidirectional marks, Unicode
/// TR 9) or hide (zero width).
const fn is_format(character: char) -> bool {
    matches!(
        character,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_is_what_kubectl_users_expect() {
        let value = json!({
            "error": null, "health": "healthy", "when": "2026-11-23T14:30:48.120Z", "odd": "yes",
            "text": "a: b # c\n", "n": 1.5, "empty": {}, "none": [],
            "list": [1, {"a": 1, "b": {"c": "x"}}, ["y"]],
        });
        let mut text = String::new();
        yaml(&value, 0, &mut text);
        let expected = "\
empty: {}
error: null
health: healthy
list:
  - 1
  - a: 1
    b:
      c: x
  -
    - \"y\"
\"n\": 1.5
none: []
odd: \"yes\"
text: \"a: b # c\\n\"
when: \"2026-11-23T14:30:48.120Z\"
";
        assert_eq!(text, expected);
    }

    #[test]
    fn yaml_is_ascii_and_knows_all_characters() {
        let text = scalar(&json!("a\"b\\\u{1}\u{e9}\u{1f600}\n"));
        assert_eq!(text, r#""a\"b\\\u0001\u00e9\U0001f600\n""#);
    }

    #[test]
    fn a_table_is_aligned_and_harmless() {
        let value = json!({"a": {"b": 1, "longer": "x\u{1b}[31m\u{202e}\n"}, "z": null});
        let mut text = String::new();
        table(&value, &mut text);
        assert_eq!(
            text,
            "a.b       1\na.longer  x\\u{1b}[31m\\u{202e}\\u{a}\nz         -\n"
        );
    }
}
