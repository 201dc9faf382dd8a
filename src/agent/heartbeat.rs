//! The heartbeat: a small file beside the database that says the agent is alive.
//!
//! Not a row in the database, so that an idle agent does not write to flash through SQLite every
//! minute, and so that a full disk does not look like a dead agent: the file has a fixed length
//! and is written in place. It is also the lock that keeps a second agent off the database.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::bounded;
use crate::store::with_suffix;
use crate::time::Time;

/// A heartbeat older than this means that the agent hangs or is gone: three beats.
pub(super) const MAX_AGE: Duration = Duration::from_secs(180);

const READY: &str = "ready   ";
const STARTING: &str = "starting";
const STOPPED: &str = "stopped ";

/// The agent's side: holds the file and its lock.
pub(crate) struct Heartbeat {
    file: Option<File>,
}

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pulse {
    pub(crate) at: Time,
    /// Whether the first status was written.
    pub(crate) ready: bool,
    /// The agent's last one: it went because it was told to.
    pub(crate) stopped: bool,
}

impl Heartbeat {
    /// Takes the lock, waiting for another agent on the same database to leave. Where no file can
    /// be made, the agent goes on without.
    pub(crate) fn claim(db: &Path) -> Self {
        let path = with_suffix(db, "-heartbeat");
        let file = match OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
        {
            Ok(file) => file,
            Err(error) => {
                log::error!(
                    "no heartbeat, so `health` will fail: {}: {error}",
                    path.display()
                );
                return Self { file: None };
            }
        };
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        log::warn!(
                            "another agent uses {}: waiting for it to leave",
                            db.display()
                        );
                        told = true;
                    }
                    thread::sleep(Duration::from_millis(200));
                }
                Err(TryLockError::Error(error)) => {
                    log::debug!("{}: no locks on this file system: {error}", path.display());
                    break;
                }
            }
        }
        Self { file: Some(file) }
    }

    pub(crate) fn write(&mut self, pulse: Pulse) {
        let Some(file) = &mut self.file else { return };
        let state = match pulse {
            Pulse { stopped: true, .. } => STOPPED,
            Pulse { ready: true, .. } => READY,
            _ => STARTING,
        };
        let line = format!("{} {state}\n", pulse.at);
        let written = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(line.as_bytes()));
        if let Err(error) = written {
            log::warn!("cannot write the heartbeat: {error}");
        }
    }
}

impl Pulse {
    /// Reads the heartbeat of the agent on this database; `None` when there is none.
    pub(crate) fn read(db: &Path) -> Option<Self> {
        let bytes = bounded::read_file(&with_suffix(db, "-heartbeat"), 1024).ok()?;
        Self::parse(std::str::from_utf8(&bytes).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (time, state) = text.trim().split_once(' ')?;
        Some(Self {
            at: Time::parse(time)?,
            ready: state.trim() == READY.trim(),
            stopped: state.trim() == STOPPED.trim(),
        })
    }

    /// Whether the agent was alive a moment ago. A heartbeat from the future is one from before
    /// the clock was set back, and as good as any.
    pub(crate) fn is_fresh(&self, now: Time) -> bool {
        !self.stopped && self.at.elapsed(now) < MAX_AGE
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_length_stays() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("kube9.db");
        assert_eq!(Pulse::read(&db), None);
        let mut heartbeat = Heartbeat::claim(&db);
        let path = with_suffix(&db, "-heartbeat");
        let mut length = None;
        for (millis, ready, stopped) in [
            (1_000, false, false),
            (1_760_000_000_123, true, false),
            (1_760_000_000_124, false, true),
        ] {
            let pulse = Pulse {
                at: Time::from_millis(millis),
                ready,
                stopped,
            };
            heartbeat.write(pulse);
            assert_eq!(Pulse::read(&db), Some(pulse));
            let now = std::fs::metadata(&path).unwrap().len();
            assert_eq!(*length.get_or_insert(now), now);
        }
    }

    #[test]
    fn freshness() {
        let pulse = Pulse {
            at: Time::from_millis(1_000_000),
            ready: true,
            stopped: false,
        };
        assert!(pulse.is_fresh(Time::from_millis(1_179_999)));
        assert!(!pulse.is_fresh(Time::from_millis(1_180_000)));
        assert!(pulse.is_fresh(Time::from_millis(0)));
        let stopped = Pulse {
            stopped: true,
            ..pulse
        };
        assert!(!stopped.is_fresh(Time::from_millis(1_000_000)));
    }

    #[test]
    fn rubbish_is_no_heartbeat() {
        for text in ["", "x", "2026-11-23", "2026-11-23T00:00:00Z", "never ready"] {
            assert_eq!(Pulse::parse(text), None, "{text}");
        }
    }
}
