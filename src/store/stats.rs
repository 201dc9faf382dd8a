use serde::Serialize;

use super::{Store, StoreError};
use crate::time::Time;

/// How collections went, over the life of the database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CollectionStats {
    pub(crate) total_success_count: u64,
    pub(crate) total_failure_count: u64,
    /// Collections that reached the database.
    pub(crate) collections_stored_count: u64,
    pub(crate) last_success_time: Option<Time>,
}

impl Store {
    pub(crate) fn stats(&self) -> Result<CollectionStats, StoreError> {
        let count = |value: i64| u64::try_from(value).unwrap_or(0);
        let stats = self.connection.query_row(
            "SELECT successes, failures, stored, last_success FROM stats WHERE id = 1",
            [],
            |row| {
                Ok(CollectionStats {
                    total_success_count: count(row.get(0)?),
                    total_failure_count: count(row.get(1)?),
                    collections_stored_count: count(row.get(2)?),
                    last_success_time: row.get::<_, Option<i64>>(3)?.map(Time::from_millis),
                })
            },
        )?;
        Ok(stats)
    }

    pub(crate) fn record_failure(&self) -> Result<(), StoreError> {
        self.connection
            .execute("UPDATE stats SET failures = failures + 1", [])?;
        Ok(())
    }
}
