use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use super::ConfigError;

/// Enough for a bundle of all public authorities, and for a kubeconfig of a thousand clusters.
const LIMIT: u64 = 4 << 20;

/// Reads a file that somebody wrote by hand or mounted, and that is never large.
pub(super) fn read(path: &Path, purpose: &'static str) -> Result<Vec<u8>, ConfigError> {
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LIMIT + 1).read_to_end(&mut content));
    match read {
        Err(error) => Err(ConfigError::FileUnreadable {
            path: path.to_owned(),
            purpose,
            error,
        }),
        Ok(_) if content.len() as u64 > LIMIT => Err(ConfigError::FileTooLarge {
            path: path.to_owned(),
            limit: LIMIT,
        }),
        Ok(_) => Ok(content),
    }
}

/// What changes when a file is replaced or written to. Kubernetes replaces a mounted file by
/// turning a symlink to another directory, so that at least the inode differs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileStamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

impl FileStamp {
    /// `None` for a file that is not there.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Some(FileStamp {
            modified: metadata.modified().ok(),
            len: metadata.len(),
            inode,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn too_large() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(LIMIT + 1).unwrap();
        let error = read(file.path(), "kubeconfig").unwrap_err().to_string();
        assert!(
            error.ends_with("larger than 4194304 bytes; is this the right file?"),
            "{error}"
        );
    }
}
