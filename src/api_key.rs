//! The API key: read from its file, sent to the server, and shown nowhere.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ring::digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bounded;

/// No key is longer; a larger file is no key.
const MAX_KEY: u64 = 4096;

/// A key. It has no `Display`, and its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ApiKey(String);

/// Tells one key from another, and nothing else about it: part of a hash, made with a salt of the
/// cluster's own. A key has more randomness than anyone can try out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 8]);

/// A file that holds something, but no key.
#[derive(Debug)]
pub(crate) enum KeyError {
    /// A key goes into a header, where nothing but visible ASCII may stand.
    NotVisible {
        path: PathBuf,
    },
    Unreadable {
        path: PathBuf,
        error: io::Error,
    },
}

impl ApiKey {
    /// White space around a key is not part of it: editors end files in line breaks.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let key = text.trim_ascii();
        let visible = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
        visible.then(|| Self(key.to_owned()))
    }

    /// The key itself, for the header that carries it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Whether a text is free of the key.
    pub(crate) fn is_not_in(&self, text: &str) -> bool {
        !text.contains(&self.0)
    }

    /// The text without the key, should the other side have echoed it.
    pub(crate) fn hide(&self, text: String) -> String {
        if self.is_not_in(&text) {
            return text;
        }
        text.replace(&self.0, "***")
    }

    pub(crate) fn fingerprint(&self, salt: &[u8]) -> Fingerprint {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(b"kube9 key fingerprint\n");
        hash.update(salt);
        hash.update(b"\n");
        hash.update(self.0.as_bytes());
        let mut bytes = [0; 8];
        for (byte, hashed) in bytes.iter_mut().zip(hash.finish().as_ref()) {
            *byte = *hashed;
        }
        Fingerprint(bytes)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", u64::from_be_bytes(self.0)))
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16)
            .map(|number| Self(number.to_be_bytes()))
            .map_err(|_| serde::de::Error::custom("not a fingerprint"))
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotVisible { path } => write!(
                f,
                "API key file {}: a key has no spaces, line breaks or special characters inside",
                path.display()
            ),
            Self::Unreadable { path, error } => {
                write!(f, "API key file {} cannot be read: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for KeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotVisible { .. } => None,
            Self::Unreadable { error, .. } => Some(error),
        }
    }
}

/// Reads the key; a file that is missing or blank is no key.
pub(crate) fn read(path: &Path) -> Result<Option<ApiKey>, KeyError> {
    let path_buf = || path.to_owned();
    let bytes = match bounded::read_file(path, MAX_KEY) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(KeyError::Unreadable {
                path: path_buf(),
                error,
            });
        }
    };
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    let key = str::from_utf8(&bytes).ok().and_then(ApiKey::parse);
    key.map(Some)
        .ok_or_else(|| KeyError::NotVisible { path: path_buf() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_is_between_the_white_space() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("apiKey");
        assert_eq!(read(&path).unwrap(), None);
        for (content, expected) in [
            ("", None),
            (" \n", None),
            ("kdy_x", Some("kdy_x")),
            ("\r\n kdy_x\t\n", Some("kdy_x")),
        ] {
            std::fs::write(&path, content).unwrap();
            let key = read(&path).unwrap();
            assert_eq!(key.as_ref().map(ApiKey::expose), expected, "{content:?}");
        }
    }

    #[test]
    fn what_no_header_may_hold_is_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("apiKey");
        let long = "k".repeat(5000);
        for content in [
            "two words".as_bytes(),
            b"two\nlines",
            b"nul\0",
            "schl\u{fc}ssel".as_bytes(),
            b"\xff\xfe",
            long.as_bytes(),
        ] {
            std::fs::write(&path, content).unwrap();
            let message = read(&path).unwrap_err().to_string();
            assert!(message.starts_with("API key file /"), "{message}");
        }
        assert!(read(dir.path()).is_err());
    }

    #[test]
    fn a_fingerprint_tells_keys_apart_and_is_read_back() {
        let of = |key: &str, salt: &[u8]| ApiKey::parse(key).unwrap().fingerprint(salt);
        let print = of("kdy_1", b"salt");
        assert_eq!(print, of("kdy_1\n", b"salt"));
        assert_ne!(print, of("kdy_2", b"salt"));
        assert_ne!(print, of("kdy_1", b"pepper"));
        let json = serde_json::to_string(&print).unwrap();
        assert_eq!(json.len(), 18, "{json}");
        assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), print);
        assert!(serde_json::from_str::<Fingerprint>("\"key\"").is_err());
    }
}
