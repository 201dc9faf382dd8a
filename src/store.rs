//! What the agent remembers, in SQLite: one file, one writer, any number of readers beside it.
//!
//! The agent's connection writes; `query` processes open the file read-only and never wait long,
//! since in WAL mode a reader is not held up by the writer. A command that changes something
//! writes itself, between two writes of the agent: each transaction that writes takes the lock
//! when it begins, so that it waits for its turn and never finds that it read the past. Where WAL cannot work (network file
//! systems without shared memory) SQLite stays with its rollback journal.

mod acknowledgements;
mod analyses;
mod document;
mod error;
mod insights;
mod inventory;
mod link;
mod migrations;
mod names;
mod payload;
mod problem;
mod quota;
mod state;
mod stats;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

pub(crate) use acknowledgements::{Acknowledgement, Judged};
pub(crate) use analyses::{
    Admission, Analysis, AnalysisCounts, AnalysisState, NewAnalysis, Reason, Target,
};
pub(crate) use error::StoreError;
pub(crate) use insights::{Insight, InsightCounts, InsightFilter};
pub(crate) use link::{Registration, SyncState};
pub(crate) use names::Identity;
pub(crate) use problem::{Problem, ProblemKind};
pub(crate) use quota::{Quota, QuotaWord, midnight_after};
pub(crate) use state::{MapName, State};
pub(crate) use stats::CollectionStats;

use crate::time::Time;

/// How long a command's write waits for another process: the agent's writes are over sooner, and so
/// are those of other commands. On a file system without WAL a reader can hold one up, too.
const WRITER_PATIENCE: Duration = Duration::from_secs(2);

/// How long the agent's write waits: nobody waits for it.
const AGENT_PATIENCE: Duration = Duration::from_secs(5);

/// How often whoever waits looks again. SQLite itself would look ever less often, and come last
/// whenever others come and go.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How long a query waits; it must answer or fail, not hang.
const READER_PATIENCE: Duration = Duration::from_millis(500);

/// Damaged databases kept for whoever wants to look at them.
const KEPT_DAMAGED: usize = 2;

/// An open database.
pub(crate) struct Store {
    connection: Connection,
}

/// What opening found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// The database was there, or there was none and a new one was made.
    Usable,
    /// The old one could not be used and was moved aside; this one is new.
    Rebuilt { reason: String },
    /// No file can be kept: this one lives in memory and ends with the process.
    InMemory { reason: String },
}

impl Store {
    /// Opens the agent's database, whatever state the disk is in.
    ///
    /// A damaged file is moved aside and a new one made; when not even that works, the agent
    /// goes on with a database in memory. Only a failure of SQLite itself is an error.
    pub(crate) fn open(path: &Path) -> Result<(Self, Opened), StoreError> {
        match Self::open_file(path) {
            Ok(store) => Ok((store, Opened::Usable)),
            Err(error) if error.is_damage() && path.exists() => Self::rebuild(path, &error),
            Err(error) => Self::open_in_memory(path, &error),
        }
    }

    /// Moves a damaged database aside and makes a new one.
    pub(crate) fn rebuild(path: &Path, damage: &StoreError) -> Result<(Self, Opened), StoreError> {
        move_aside(path);
        match Self::open_file(path) {
            Ok(store) => {
                let reason = damage.to_string();
                Ok((store, Opened::Rebuilt { reason }))
            }
            Err(_) => Self::open_in_memory(path, damage),
        }
    }

    fn open_in_memory(path: &Path, why: &StoreError) -> Result<(Self, Opened), StoreError> {
        let connection = Connection::open_in_memory().map_err(|source| StoreError::Open {
            path: PathBuf::from(":memory:"),
            source,
        })?;
        let mut store = Self { connection };
        store.migrate(path)?;
        let reason = why.to_string();
        Ok((store, Opened::InMemory { reason }))
    }

    /// One in memory.
    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    pub(crate) fn for_tests() -> Self {
        Self::open(Path::new("/nonexistent/x.db")).unwrap().0
    }

    /// How SQLite goes about a statement.
    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    fn plan_of(&self, statement: &str) -> String {
        let explain = format!("EXPLAIN QUERY PLAN {statement}");
        let mut explain = self.connection.prepare(&explain).unwrap();
        let lines = explain.raw_query().mapped(|row| row.get(3));
        lines
            .collect::<Result<Vec<String>, _>>()
            .unwrap()
            .join("\n")
    }

    /// Opens the database beside the running agent, to read: never makes one, never migrates.
    pub(crate) fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Self::open_existing(path, READER_PATIENCE, || {
            if is_at_rest(path) {
                Connection::open_with_flags(immutable(path), flags | OpenFlags::SQLITE_OPEN_URI)
            } else {
                Connection::open_with_flags(path, flags)
            }
        })
    }

    /// Opens the database beside the running agent, to keep what a user asked for: never makes one,
    /// never migrates. What was committed is on the disk, also after a power cut.
    pub(crate) fn open_for_command(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Self::open_existing(path, WRITER_PATIENCE, || {
            Connection::open_with_flags(path, flags)
        })
    }

    fn open_existing(
        path: &Path,
        patience: Duration,
        connect: impl FnOnce() -> rusqlite::Result<Connection>,
    ) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Missing {
                path: path.to_owned(),
            });
        }
        let open = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        let mut connection = connect().map_err(open)?;
        wait_for_locks(&mut connection, patience).map_err(open)?;
        let store = Self { connection };
        let version = store
            .schema_version()
            .map_err(|error| error.on_opening(path))?;
        match version {
            migrations::LATEST => Ok(store),
            // The agent is just making it.
            0 => Err(StoreError::Missing {
                path: path.to_owned(),
            }),
            found => Err(StoreError::OtherVersion {
                path: path.to_owned(),
                found,
                known: migrations::LATEST,
            }),
        }
    }

    fn open_file(path: &Path) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(open)?;
        wait_for_locks(&mut connection, WRITER_PATIENCE).map_err(open)?;
        connection
            .execute_batch(
                // A quarter of a MiB of cache is enough for the largest statement we have; the
                // default of 2 MiB would be most of the agent. A full fsync at each checkpoint
                // only: losing the last seconds to a power cut is harmless, corruption is not.
                "PRAGMA cache_size = -256;
                 PRAGMA journal_size_limit = 1048576;
                 PRAGMA temp_store = MEMORY;
                 PRAGMA synchronous = NORMAL;",
            )
            .map_err(open)?;
        let mode: String = connection
            .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
            .map_err(open)?;
        if mode != "wal" {
            log::info!(
                "{}: no WAL on this file system, using journal mode {mode}",
                path.display()
            );
        }
        let mut store = Self { connection };
        store.migrate(path)?;
        // A sound file may still lack our tables; what else is missing is found out by its use.
        store.stats().map_err(|error| error.on_opening(path))?;
        wait_for_locks(&mut store.connection, AGENT_PATIENCE).map_err(open)?;
        Ok(store)
    }

    /// Looks through the whole database for damage, which takes a while on a slow disk.
    pub(crate) fn verify(&self, path: &Path) -> Result<(), StoreError> {
        let verdict: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|source| StoreError::Open {
                path: path.to_owned(),
                source,
            })?;
        if verdict == "ok" {
            Ok(())
        } else {
            Err(StoreError::Damaged {
                path: path.to_owned(),
            })
        }
    }

    fn migrate(&mut self, path: &Path) -> Result<(), StoreError> {
        let found = self.schema_version()?;
        if found > migrations::LATEST {
            return Err(StoreError::OtherVersion {
                path: path.to_owned(),
                found,
                known: migrations::LATEST,
            });
        }
        migrations::run(&mut self.connection, found)
            .map_err(|error| StoreError::from(error).on_opening(path))
    }

    /// A transaction that has the right to write from its beginning.
    fn immediate(&self) -> rusqlite::Result<Transaction<'_>> {
        Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
    }

    /// Another number whenever somebody else has written.
    pub(crate) fn data_version(&self) -> Result<i64, StoreError> {
        let version = self
            .connection
            .query_row("PRAGMA data_version", [], |row| row.get(0))?;
        Ok(version)
    }

    /// Gives back the memory of pages that are not in use.
    pub(crate) fn shrink(&self) {
        // Nothing is lost where it cannot.
        drop(self.connection.execute_batch("PRAGMA shrink_memory"));
    }

    /// The version of the schema in the file.
    pub(crate) fn schema_version(&self) -> Result<u32, StoreError> {
        let version = self
            .connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))?;
        Ok(version)
    }
}

fn wait_for_locks(connection: &mut Connection, patience: Duration) -> rusqlite::Result<()> {
    connection.busy_handler(Some(move |tries| {
        let waited = LOOK_AGAIN.saturating_mul(u32::try_from(tries).unwrap_or(u32::MAX));
        let go_on = waited < patience;
        if go_on {
            std::thread::sleep(LOOK_AGAIN);
        }
        go_on
    }))
}

/// Whether this is a database in WAL mode that nobody has open, and that is whole without its log.
///
/// SQLite would make the log to read it: that takes a directory that can be written, and leaves
/// files behind that belong to the reader, not to the agent.
fn is_at_rest(path: &Path) -> bool {
    let mut header = [0; 20];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    // https://www.sqlite.org/fileformat.html#file_format_version_numbers
    read.is_ok() && header.ends_with(&[2, 2]) && !with_suffix(path, "-wal").exists()
}

/// The database as <https://www.sqlite.org/uri.html> names one that does not change.
fn immutable(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    if path.is_absolute() {
        uri += "//";
    }
    for character in path.to_string_lossy().chars() {
        match character {
            '%' => uri += "%25",
            '?' => uri += "%3f",
            '#' => uri += "%23",
            other => uri.push(other),
        }
    }
    uri + "?immutable=1"
}

/// The database's size on disk with its write-ahead log, in bytes.
pub(crate) fn size_on_disk(path: &Path) -> u64 {
    ["", "-wal"]
        .iter()
        .filter_map(|suffix| std::fs::metadata(with_suffix(path, suffix)).ok())
        .map(|metadata| metadata.len())
        .fold(0, u64::saturating_add)
}

/// Renames the database to `NAME.corrupt-TIME` and forgets all but the newest of those.
fn move_aside(path: &Path) {
    let aside = with_suffix(path, &format!(".corrupt-{}", Time::now().as_millis()));
    if let Err(error) = std::fs::rename(path, &aside) {
        log::warn!(
            "cannot move the damaged database aside: {}: {error}",
            path.display()
        );
        return;
    }
    log::warn!("the damaged database is now {}", aside.display());
    for suffix in ["-wal", "-shm", "-journal"] {
        // What belongs to the damaged file must not be applied to the new one.
        drop(std::fs::remove_file(with_suffix(path, suffix)));
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return;
    };
    let prefix = format!("{}.corrupt-", name.to_string_lossy());
    let mut kept: Vec<PathBuf> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    // By time: of a shorter number, or one from before the clock was set, first.
    kept.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    for old in kept.iter().rev().skip(KEPT_DAMAGED) {
        drop(std::fs::remove_file(old));
    }
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_new_database_is_usable_and_readable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kube9.db");
        assert!(matches!(
            Store::open_read_only(&path),
            Err(StoreError::Missing { .. })
        ));
        assert!(!path.exists(), "reading must not make a database");
        let (_store, opened) = Store::open(&path).unwrap();
        assert_eq!(opened, Opened::Usable);
        let reader = Store::open_read_only(&path).unwrap();
        assert_eq!(reader.schema_version().unwrap(), migrations::LATEST);
        assert!(size_on_disk(&path) > 0);
    }

    #[test]
    fn a_damaged_database_is_moved_aside_and_two_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kube9.db");
        for round in 0..4 {
            std::fs::write(&path, format!("this is not a database {round}").repeat(500)).unwrap();
            let (store, opened) = Store::open(&path).unwrap();
            assert!(matches!(opened, Opened::Rebuilt { .. }), "{opened:?}");
            drop(store);
            std::thread::sleep(Duration::from_millis(2));
        }
        let kept = std::fs::read_dir(dir.path())
            .unwrap()
            .filter(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                name.to_string_lossy().contains(".corrupt-")
            })
            .count();
        assert_eq!(kept, KEPT_DAMAGED);
    }

    #[test]
    fn damage_inside_is_found_by_looking_through() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kube9.db");
        let (store, _) = Store::open(&path).unwrap();
        store.verify(&path).unwrap();
        drop(store);
        let mut bytes = std::fs::read(&path).unwrap();
        let page = bytes.len() - 4096;
        bytes.get_mut(page..).unwrap().fill(0xa5);
        std::fs::write(&path, bytes).unwrap();
        let (store, opened) = Store::open(&path).unwrap();
        assert_eq!(opened, Opened::Usable);
        let damage = store.verify(&path).unwrap_err();
        assert!(damage.is_damage(), "{damage}");
        drop(store);
        let (store, opened) = Store::rebuild(&path, &damage).unwrap();
        assert!(matches!(opened, Opened::Rebuilt { .. }), "{opened:?}");
        store.verify(&path).unwrap();
    }

    #[test]
    fn a_database_without_its_tables_is_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kube9.db");
        Connection::open(&path)
            .unwrap()
            .execute_batch("PRAGMA user_version = 1; CREATE TABLE other (a TEXT)")
            .unwrap();
        let (store, opened) = Store::open(&path).unwrap();
        assert!(matches!(opened, Opened::Rebuilt { .. }), "{opened:?}");
        assert!(store.stats().is_ok());
    }

    #[test]
    fn without_a_directory_it_lives_in_memory() {
        let (store, opened) = Store::open(Path::new("/nonexistent/kube9.db")).unwrap();
        assert!(matches!(opened, Opened::InMemory { .. }), "{opened:?}");
        assert_eq!(store.schema_version().unwrap(), migrations::LATEST);
    }

    #[test]
    fn a_reader_leaves_no_files_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b%20?#.db");
        drop(Store::open(&path).unwrap());
        let files = || std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files(), 1, "the last to leave has tidied up");
        let reader = Store::open_read_only(&path).unwrap();
        assert_eq!(reader.stats().unwrap(), CollectionStats::default());
        assert_eq!(files(), 1);

        // A log that a killed agent left is read.
        let (writer, _) = Store::open(&path).unwrap();
        writer.record_failure().unwrap();
        assert!(files() > 1);
        let reader = Store::open_read_only(&path).unwrap();
        assert_eq!(reader.stats().unwrap().total_failure_count, 1);
    }

    #[test]
    fn a_command_makes_no_database_and_migrates_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kube9.db");
        assert!(matches!(
            Store::open_for_command(&path),
            Err(StoreError::Missing { .. })
        ));
        assert!(!path.exists());
        let (agent, _) = Store::open(&path).unwrap();
        let command = Store::open_for_command(&path).unwrap();
        let before = agent.data_version().unwrap();
        command.record_failure().unwrap();
        drop(command);
        assert_ne!(agent.data_version().unwrap(), before);
        assert_eq!(agent.stats().unwrap().total_failure_count, 1);
        agent
            .connection
            .execute_batch("PRAGMA user_version = 1")
            .unwrap();
        assert!(matches!(
            Store::open_for_command(&path),
            Err(StoreError::OtherVersion { found: 1, .. })
        ));
        assert_eq!(agent.schema_version().unwrap(), 1);
    }

    #[test]
    fn a_locked_database_is_not_called_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kube9.db");
        drop(Store::open(&path).unwrap());
        let other = Connection::open(&path).unwrap();
        other
            .execute_batch("PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE")
            .unwrap();
        for error in [
            Store::open_read_only(&path).err().unwrap(),
            Store::open_for_command(&path).err().unwrap(),
            Store::open_file(&path).err().unwrap(),
        ] {
            assert!(!error.is_damage(), "{error}");
            assert!(error.to_string().ends_with("database is locked"), "{error}");
        }
    }

    #[test]
    fn a_newer_schema_is_moved_aside_by_the_agent_and_refused_by_a_query() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kube9.db");
        drop(Store::open(&path).unwrap());
        Connection::open(&path)
            .unwrap()
            .execute_batch("PRAGMA user_version = 999")
            .unwrap();
        assert!(matches!(
            Store::open_read_only(&path),
            Err(StoreError::OtherVersion { found: 999, .. })
        ));
        let (_, opened) = Store::open(&path).unwrap();
        assert!(matches!(opened, Opened::Rebuilt { .. }), "{opened:?}");
    }
}
