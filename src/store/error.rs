use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why the database cannot be used.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// The file is not a whole SQLite database.
    Damaged { path: PathBuf },
    /// There is no database: the agent has not started yet, or keeps it elsewhere.
    Missing { path: PathBuf },
    /// A row holds what this build cannot read.
    Content(serde_json::Error),
    /// The answer could not be written.
    Output(std::io::Error),
    /// The operating system gives no random bytes.
    NoRandomness,
    /// The file cannot be opened.
    Open {
        path: PathBuf,
        source: rusqlite::Error,
    },
    /// The schema is not the one this build knows.
    OtherVersion {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    /// Another collection was stored while one was being read.
    Replaced,
    /// A statement failed.
    Statement(rusqlite::Error),
}

impl StoreError {
    /// What the failure of the first statement says about the file: that a disk is full or a file
    /// locked does not make it damaged.
    pub(super) fn on_opening(self, path: &Path) -> Self {
        let path = path.to_owned();
        match self {
            Self::Statement(source)
                if matches!(
                    source.sqlite_error_code(),
                    Some(
                        ErrorCode::CannotOpen
                            | ErrorCode::DatabaseBusy
                            | ErrorCode::DatabaseLocked
                            | ErrorCode::DiskFull
                            | ErrorCode::OutOfMemory
                            | ErrorCode::PermissionDenied
                            | ErrorCode::ReadOnly
                            | ErrorCode::SystemIoFailure
                    )
                ) =>
            {
                Self::Open { path, source }
            }
            _ => Self::Damaged { path },
        }
    }

    /// Whether a new file would be better than this one.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::OtherVersion { .. } => true,
            Self::Open { source, .. } | Self::Statement(source) => matches!(
                source.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ),
            Self::Content(_)
            | Self::Missing { .. }
            | Self::NoRandomness
            | Self::Output(_)
            | Self::Replaced => false,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { path } => write!(f, "the database {} is damaged", path.display()),
            Self::Missing { path } => write!(
                f,
                "there is no database at {}: is the agent running, and with the same --db?",
                path.display()
            ),
            Self::Content(source) => write!(f, "a row of the database cannot be read: {source}"),
            Self::Output(source) => write!(f, "cannot write the answer: {source}"),
            Self::NoRandomness => f.write_str("the operating system gives no random bytes"),
            Self::Open { path, source } => {
                write!(f, "cannot open the database {}: {source}", path.display())
            }
            Self::OtherVersion { path, found, known } => write!(
                f,
                "the database {} has schema version {found}, this build knows {known}: \
                 another version of the agent made it",
                path.display()
            ),
            Self::Replaced => {
                f.write_str("the inventory was replaced while it was read: try again")
            }
            Self::Statement(source) => write!(f, "the database failed: {source}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(source: rusqlite::Error) -> Self {
        Self::Statement(source)
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(source: serde_json::Error) -> Self {
        Self::Content(source)
    }
}

impl From<std::io::Error> for StoreError {
    fn from(source: std::io::Error) -> Self {
        Self::Output(source)
    }
}
