use rusqlite::{Connection, OptionalExtension as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Store, StoreError};
use crate::json;
use crate::time::Time;

impl Store {
    /// A JSON document kept under a name, such as the dashboard.
    pub(crate) fn document(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(get(&self.connection, name)?)
    }

    pub(crate) fn put_document(&self, name: &str, body: &str, now: Time) -> Result<(), StoreError> {
        put(&self.connection, name, body, now)?;
        Ok(())
    }
}

/// Reads a document into what it was written from. One that another version wrote, and that this
/// one cannot read, is as good as none.
pub(super) fn read<T: DeserializeOwned>(
    connection: &Connection,
    name: &str,
) -> Result<Option<T>, StoreError> {
    let Some(body) = get(connection, name)? else {
        return Ok(None);
    };
    let read = serde_json::from_str(&body);
    if let Err(error) = &read {
        log::warn!("cannot read what was kept as {name}: {error}");
    }
    Ok(read.ok())
}

/// Keeps a value as a document.
pub(super) fn write(
    connection: &Connection,
    name: &str,
    value: &impl Serialize,
) -> Result<(), StoreError> {
    put(connection, name, &json::to_string(value), Time::now())?;
    Ok(())
}

pub(super) fn remove(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM document WHERE name = ?1", [name])?;
    Ok(())
}

fn get(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    connection
        .query_row("SELECT body FROM document WHERE name = ?1", [name], |row| {
            row.get(0)
        })
        .optional()
}

/// Keeps a document, in a transaction or by itself; the same again is not written.
pub(super) fn put(
    connection: &Connection,
    name: &str,
    body: &str,
    now: Time,
) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO document (name, body, updated_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at
         WHERE body <> excluded.body",
        (name, body, now.as_millis()),
    )?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_last_one_put_is_the_one_there() {
        let (store, _) = Store::open(Path::new("/nonexistent/x.db")).unwrap();
        assert_eq!(store.document("dashboard").unwrap(), None);
        for body in ["{}", "[]"] {
            store
                .put_document("dashboard", body, Time::from_millis(1))
                .unwrap();
        }
        assert_eq!(store.document("dashboard").unwrap().as_deref(), Some("[]"));
    }
}
