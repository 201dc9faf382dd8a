//! Looks for a marker in bytes, in whatever disguise it may have left the cluster.
//!
//! The bytes are read in several ways, each of which leaves out what a disguise could have put
//! between two characters; in each reading the marker is looked for, forwards and backwards. The
//! tests at the foot hide a marker in every way that is looked for, and one the search did not find
//! would fail them. What no search can find, a hash or a cipher, the other checks must.

use std::fmt;

/// A text that stands for everything that must stay in the cluster. It is made of the letters from
/// g to z, that no hexadecimal digit is among, in an order that no English word has.
#[derive(Clone, Debug)]
pub(crate) struct Marker {
    /// Small letters, forwards and backwards.
    letters: [String; 2],
    hex: Vec<String>,
    base64: Vec<String>,
    decimal: Vec<String>,
}

/// A marker in the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The reading in which it was seen.
    pub(crate) reading: &'static str,
    /// What stands there, in that reading.
    pub(crate) excerpt: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reading, excerpt } = self;
        write!(f, "read as {reading} there is {excerpt:?}")
    }
}

impl Marker {
    pub(crate) fn new(text: &str) -> Self {
        assert!(
            text.len() >= 8 && text.bytes().all(|letter| (b'g'..=b'z').contains(&letter)),
            "{text} would be found where it is not, or not found where it is"
        );
        let backwards: String = text.chars().rev().collect();
        let mut spellings = Vec::new();
        for text in [text, &backwards] {
            for text in [text.to_owned(), text.to_uppercase()] {
                // Characters of two bytes, less the zero that the next one may share.
                let wide: Vec<u8> = text
                    .bytes()
                    .flat_map(|letter| [0, letter])
                    .skip(1)
                    .collect();
                spellings.extend([text.into_bytes(), wide]);
            }
        }
        let narrow = spellings.iter().step_by(2);
        Self {
            hex: spellings.iter().map(|text| hex(text)).collect(),
            base64: spellings
                .iter()
                .flat_map(|text| base64_inside(text))
                .collect(),
            decimal: narrow
                .map(|text| text.iter().map(u8::to_string).collect())
                .collect(),
            letters: [text.to_owned(), backwards],
        }
    }

    /// The first disguise in which the marker is in the bytes.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<Found> {
        let readings = Readings::of(bytes);
        seen(&readings.letters, &self.letters, "text")
            .or_else(|| self.find_digits(&readings))
            .or_else(|| {
                let readings = Readings::of(&decoded(bytes, b"%", 2)?);
                seen(&readings.letters, &self.letters, "percent-encoded text")
            })
            .or_else(|| {
                let readings = Readings::of(&decoded(bytes, b"\\u", 4)?);
                seen(&readings.letters, &self.letters, "text with JSON escapes")
            })
            .or_else(|| self.find_digits(&Readings::of(&without_chunk_lengths(bytes)?)))
    }

    fn find_digits(&self, readings: &Readings) -> Option<Found> {
        seen(&readings.hex, &self.hex, "hexadecimal digits")
            .or_else(|| seen(&readings.base64, &self.base64, "base64"))
            .or_else(|| seen(&readings.decimal, &self.decimal, "decimal character codes"))
    }
}

/// The same bytes, read in four ways. Each leaves something out.
struct Readings {
    /// The letters that are no hexadecimal digits, made small. Whatever is between them is gone:
    /// breaks of lines, the lengths of chunks, the zeros of UTF-16.
    letters: String,
    /// Hexadecimal digits, made small.
    hex: String,
    /// What base64 is made of, in the one alphabet for both.
    base64: String,
    /// Decimal digits.
    decimal: String,
}

impl Readings {
    fn of(bytes: &[u8]) -> Self {
        let [mut letters, mut hex, mut base64, mut decimal] =
            [0; 4].map(|_: u8| Vec::with_capacity(bytes.len()));
        for byte in bytes {
            match *byte {
                byte @ b'0'..=b'9' => {
                    hex.push(byte);
                    base64.push(byte);
                    decimal.push(byte);
                }
                byte @ (b'a'..=b'f' | b'A'..=b'F') => {
                    hex.push(byte | 0x20);
                    base64.push(byte);
                }
                byte @ (b'g'..=b'z' | b'G'..=b'Z') => {
                    letters.push(byte | 0x20);
                    base64.push(byte);
                }
                b'+' | b'-' => base64.push(b'+'),
                b'/' | b'_' => base64.push(b'/'),
                _ => {}
            }
        }
        let [letters, hex, base64, decimal] =
            [letters, hex, base64, decimal].map(|ascii| String::from_utf8(ascii).unwrap());
        Self {
            letters,
            hex,
            base64,
            decimal,
        }
    }
}

/// The first of the patterns in a reading.
fn seen(text: &str, patterns: &[String], reading: &'static str) -> Option<Found> {
    let at = patterns.iter().find_map(|pattern| text.find(pattern))?;
    let rest = text.get(at.saturating_sub(40)..)?;
    Some(Found {
        reading,
        excerpt: rest.chars().take(120).collect(),
    })
}

/// Without the lines that tell the length of the next one; `None` where no line ends.
fn without_chunk_lengths(bytes: &[u8]) -> Option<Vec<u8>> {
    bytes.contains(&b'\r').then_some(())?;
    let lines: Vec<&[u8]> = bytes
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii_end)
        .collect();
    let is_length = |at: usize| {
        let length = str::from_utf8(lines[at]).ok();
        let length = length.and_then(|text| usize::from_str_radix(text, 16).ok());
        length.is_some() && length == lines.get(at + 1).map(|line| line.len())
    };
    let kept = (0..lines.len()).filter(|at| !is_length(*at));
    Some(kept.flat_map(|at| lines[at].to_vec()).collect())
}

/// With `sign` and so many hexadecimal digits as one byte, the last; `None` without any.
fn decoded(bytes: &[u8], sign: &[u8], digits: usize) -> Option<Vec<u8>> {
    bytes.contains(&sign[0]).then_some(())?;
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some((first, behind)) = rest.split_first() {
        let code = rest.strip_prefix(sign);
        let code = code.and_then(|code| code.split_at_checked(digits));
        let byte = code.and_then(|(code, behind)| {
            let last = code.split_at_checked(digits - 2)?.1;
            let last = str::from_utf8(last).ok()?;
            Some((u8::from_str_radix(last, 16).ok()?, behind))
        });
        let (byte, behind) = byte.unwrap_or((*first, behind));
        out.push(byte);
        rest = behind;
    }
    Some(out)
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

/// What base64 of any text with these bytes in it has, by the place in a group of three at which
/// they begin: the characters that depend on nothing else.
fn base64_inside(bytes: &[u8]) -> [String; 3] {
    [0, 1, 2].map(|before| {
        let whole = base64(&[&[0; 2][..before], bytes].concat());
        let first = (before * 8).div_ceil(6);
        let last = (before + bytes.len()) * 8 / 6;
        whole[first..last].to_owned()
    })
}

/// Without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = (0..3).fold(0_usize, |number, at| {
            number << 8 | usize::from(*group.get(at).unwrap_or(&0))
        });
        for shift in [18, 12, 6, 0].iter().take(group.len() + 1) {
            text.push(char::from(DIGITS[number >> shift & 63]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: &str = "qzxjvkwy";

    /// A name as it may stand in a cluster, with the marker where `before` characters precede it.
    fn name(before: usize) -> String {
        format!("{}{MARKER}-api", "payments"[..before].to_owned())
    }

    fn percent(text: &str) -> String {
        let codes: Vec<String> = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        codes.concat()
    }

    fn escaped(text: &str) -> String {
        let codes = text.chars().map(|c| format!("\\u{:04x}", u32::from(c)));
        codes.collect::<Vec<_>>().concat()
    }

    fn url_safe(text: &str) -> String {
        text.replace('+', "-").replace('/', "_")
    }

    fn in_pieces(text: &str, length: usize, between: &str) -> String {
        let pieces: Vec<&str> = (0..text.len())
            .step_by(length)
            .map(|at| &text[at..(at + length).min(text.len())])
            .collect();
        pieces.join(between)
    }

    /// As chunked transfer encoding has it.
    fn chunked(text: &str, length: usize) -> String {
        let chunk = |piece: &[u8]| {
            let piece = String::from_utf8_lossy(piece).into_owned();
            format!("{:x}\r\n{piece}\r\n", piece.len())
        };
        text.as_bytes()
            .chunks(length)
            .map(chunk)
            .collect::<String>()
            + "0\r\n\r\n"
    }

    fn utf16(text: &str, big_endian: bool) -> Vec<u8> {
        let unit = |unit: u16| {
            if big_endian {
                unit.to_be_bytes()
            } else {
                unit.to_le_bytes()
            }
        };
        text.encode_utf16().flat_map(unit).collect()
    }

    /// Every way in which a name can be hidden, and what it is then.
    fn disguises(name: &str) -> Vec<(String, Vec<u8>)> {
        let mut all: Vec<(String, Vec<u8>)> = Vec::new();
        let backwards: String = name.chars().rev().collect();
        for (spelling, text) in [
            ("", name.to_owned()),
            ("upper case ", name.to_uppercase()),
            ("backwards ", backwards),
        ] {
            let mut add = |how: &str, bytes: Vec<u8>| all.push((format!("{spelling}{how}"), bytes));
            let hidden = hex(text.as_bytes());
            let encoded = base64(text.as_bytes());
            add("plain", text.clone().into());
            add("percent", percent(&text).into());
            add("percent small", percent(&text).to_lowercase().into());
            add("JSON escapes", escaped(&text).into());
            add("base64", encoded.clone().into());
            add("base64 url-safe", url_safe(&encoded).into());
            add(
                "base64 of a key and its value",
                base64(format!("{{\"n\":\"{text}\"}}").as_bytes()).into(),
            );
            add("base64 in lines", in_pieces(&encoded, 5, "\r\n").into());
            add("base64 in chunks", chunked(&encoded, 5).into());
            add("hex", hidden.clone().into());
            add("hex upper case", hidden.to_uppercase().into());
            add("hex with colons", in_pieces(&hidden, 2, ":").into());
            add(
                "hex in chunks of another line",
                in_pieces(&hidden, 3, "\n").into(),
            );
            add("lines", in_pieces(&text, 3, "\n").into());
            add("folded lines", in_pieces(&text, 3, "\r\n ").into());
            add("JSON pieces", in_pieces(&text, 4, "\",\"").into());
            add("dashes", in_pieces(&text, 1, "-").into());
            for length in 1..6 {
                add("chunks", chunked(&text, length).into());
            }
            add("bytes of an array", format!("{:?}", text.as_bytes()).into());
            for big_endian in [false, true] {
                let wide = utf16(&text, big_endian);
                add("UTF-16", wide.clone());
                add("UTF-16 hex", hex(&wide).into());
                add("UTF-16 base64", base64(&wide).into());
            }
        }
        // Only some of the letters.
        let half = name.replace('x', "%78").replace('k', "%6B");
        all.push(("percent in part".to_owned(), half.into()));
        let half = name.replace('x', "\\u0078").replace('k', "\\u006B");
        all.push(("JSON escapes in part".to_owned(), half.into()));
        all
    }

    fn body(hidden: &[u8]) -> Vec<u8> {
        let before =
            br#"{"payloadVersion":1,"clusterId":"01010101-0101-4101-8101-010101010101","x":""#;
        let after =
            br#"","resources":{"namespace_001":{"deployments":12,"signals":{"run-as-root":4}}}}"#;
        [before, hidden, after].concat()
    }

    #[test]
    fn a_marker_is_found_in_every_disguise() {
        let marker = Marker::new(MARKER);
        for before in 0..8 {
            for (how, hidden) in disguises(&name(before)) {
                let found = marker.find(&body(&hidden));
                assert!(
                    found.is_some(),
                    "{how}, {before} before: {}",
                    hidden.escape_ascii()
                );
            }
        }
    }

    /// Without the marker nothing is found, however disguised; so what finds it is the marker.
    #[test]
    fn what_is_not_there_is_not_found() {
        let marker = Marker::new(MARKER);
        assert_eq!(marker.find(&body(b"")), None);
        assert_eq!(marker.find(b""), None);
        for (how, hidden) in disguises("payments-qzx-jv-deployment_002-api") {
            assert_eq!(marker.find(&body(&hidden)), None, "{how}");
        }
        let everything: Vec<u8> = (0..=255).collect();
        assert_eq!(marker.find(&everything.repeat(3)), None);
    }

    /// Half a marker in each of two requests is nobody's leak; so what is looked at is all that was
    /// sent, in one piece.
    #[test]
    fn what_was_found_says_how_and_where() {
        let found = Marker::new(MARKER).find(&body(percent("my-qzxjvkwy").as_bytes()));
        let found = found.unwrap().to_string();
        assert!(found.starts_with("read as "), "{found}");
    }

    #[test]
    #[should_panic(expected = "would be found where it is not")]
    fn a_marker_of_other_letters_is_none() {
        Marker::new("deadbeef");
    }
}
