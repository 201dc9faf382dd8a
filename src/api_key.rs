//! The API key's file. The key itself is not read into anything that lives longer than the look.

use std::path::Path;

use crate::bounded;

/// No key is longer; a larger file is no key.
const MAX_KEY: u64 = 4096;

/// Whether there is a key: the file exists and holds more than white space.
pub(crate) fn is_configured(path: &Path) -> bool {
    match bounded::read_file(path, MAX_KEY) {
        Ok(bytes) => !bytes.trim_ascii().is_empty(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => {
            log::warn!("cannot read the API key file {}: {error}", path.display());
            false
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("apiKey");
        assert!(!is_configured(&path));
        for (content, expected) in [("", false), (" \n", false), ("kdy_x\n", true)] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(is_configured(&path), expected, "{content:?}");
        }
        std::fs::write(&path, "k".repeat(5000)).unwrap();
        assert!(!is_configured(&path));
    }
}
