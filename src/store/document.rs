use rusqlite::{Connection, OptionalExtension as _};

use super::{Store, StoreError};
use crate::time::Time;

impl Store {
    /// A JSON document kept under a name, such as the dashboard.
    pub(crate) fn document(&self, name: &str) -> Result<Option<String>, StoreError> {
        let body = self
            .connection
            .query_row("SELECT body FROM document WHERE name = ?1", [name], |row| {
                row.get(0)
            })
            .optional()?;
        Ok(body)
    }

    pub(crate) fn put_document(&self, name: &str, body: &str, now: Time) -> Result<(), StoreError> {
        put(&self.connection, name, body, now)?;
        Ok(())
    }
}

/// Keeps a document, in a transaction or by itself.
pub(super) fn put(
    connection: &Connection,
    name: &str,
    body: &str,
    now: Time,
) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO document (name, body, updated_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at",
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
