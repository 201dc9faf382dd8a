//! What users made of insights, until the server knows, and then so that nobody is asked twice.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Store, StoreError};
use crate::server::InsightState;
use crate::time::Time;

/// Verdicts the server knows are kept for insights that come again; no more than that.
const KEPT: u32 = 2000;

/// Nobody puts anything off for longer: what seems to be was put off by another clock.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(25 * 60 * 60);

/// A verdict on an insight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    pub(crate) insight_id: String,
    pub(crate) state: InsightState,
    pub(crate) at: Time,
}

impl Store {
    /// Notes what a user made of an insight, and that the server is to be told; `None` when there
    /// is no such insight. The same again changes nothing.
    pub(crate) fn set_insight_state(
        &mut self,
        id: &str,
        state: InsightState,
        now: Time,
    ) -> Result<Option<()>, StoreError> {
        let transaction = self.immediate()?;
        let present: Option<String> = transaction
            .query_row("SELECT state FROM insight WHERE id = ?1", [id], |row| {
                row.get(0)
            })
            .optional()?;
        let Some(present) = present else {
            return Ok(None);
        };
        if present != state.as_str() {
            let change = params![id, state.as_str()];
            transaction.execute("UPDATE insight SET state = ?2 WHERE id = ?1", change)?;
            transaction.execute(
                "INSERT INTO acknowledgement (insight, state, at, sent, not_before)
                 VALUES (?1, ?2, ?3, 0, NULL)
                 ON CONFLICT (insight) DO UPDATE SET
                     state = excluded.state, at = excluded.at, sent = 0, not_before = NULL",
                params![id, state.as_str(), now.as_millis()],
            )?;
        }
        transaction.commit()?;
        Ok(Some(()))
    }

    /// What the server is to be told now, the oldest first.
    pub(crate) fn unsent_acknowledgements(
        &self,
        now: Time,
        limit: u32,
    ) -> Result<Vec<Acknowledgement>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT insight, state, at FROM acknowledgement
             WHERE sent = 0 AND (not_before IS NULL OR not_before <= ?1 OR not_before > ?2)
             ORDER BY at, insight LIMIT ?3",
        )?;
        let latest = now.plus(LONGEST_WAIT).as_millis();
        let rows = statement.query((now.as_millis(), latest, limit))?;
        collect(rows)
    }

    /// The server knows, or does not want to: this verdict is done with. A newer one is not.
    pub(crate) fn acknowledgement_done(&mut self, ack: &Acknowledgement) -> Result<(), StoreError> {
        let transaction = self.immediate()?;
        transaction.execute(
            "UPDATE acknowledgement SET sent = 1, not_before = NULL
             WHERE insight = ?1 AND state = ?2 AND at = ?3 AND sent = 0",
            params![ack.insight_id, ack.state.as_str(), ack.at.as_millis()],
        )?;
        forget_oldest(&transaction)?;
        transaction.commit()?;
        Ok(())
    }

    /// The server is to be told of this verdict, unless it is another by then, but not before.
    pub(crate) fn acknowledgement_wait(
        &self,
        ack: &Acknowledgement,
        until: Time,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE acknowledgement SET not_before = ?4
             WHERE insight = ?1 AND state = ?2 AND at = ?3 AND sent = 0",
            params![
                ack.insight_id,
                ack.state.as_str(),
                ack.at.as_millis(),
                until.as_millis()
            ],
        )?;
        Ok(())
    }

    /// Takes a verdict to tell the server of it: nobody else does until then.
    pub(crate) fn lease_acknowledgement(
        &self,
        id: &str,
        until: Time,
    ) -> Result<Option<Acknowledgement>, StoreError> {
        let mut statement = self.connection.prepare(
            "UPDATE acknowledgement SET not_before = ?2 WHERE insight = ?1 AND sent = 0
             RETURNING insight, state, at",
        )?;
        let rows = statement.query((id, until.as_millis()))?;
        Ok(collect(rows)?.pop())
    }
}

/// The verdicts that the server knows of, or those that it does not.
pub(super) fn all(connection: &Connection, sent: bool) -> Result<Vec<Acknowledgement>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT insight, state, at FROM acknowledgement WHERE sent = ?1 ORDER BY at, insight",
    )?;
    let rows = statement.query([sent])?;
    collect(rows)
}

/// Takes a verdict over from elsewhere, unless there is one.
pub(super) fn restore(
    connection: &Connection,
    ack: &Acknowledgement,
    sent: bool,
) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO acknowledgement (insight, state, at, sent) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO NOTHING",
        params![ack.insight_id, ack.state.as_str(), ack.at.as_millis(), sent],
    )?;
    Ok(())
}

fn collect(mut rows: rusqlite::Rows<'_>) -> Result<Vec<Acknowledgement>, StoreError> {
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let state: String = row.get(1)?;
        // The words of another version are not ours to send.
        if let Some(state) = InsightState::parse(&state) {
            found.push(Acknowledgement {
                insight_id: row.get(0)?,
                state,
                at: Time::from_millis(row.get(2)?),
            });
        }
    }
    Ok(found)
}

/// Forgets verdicts over the bound; never one that the server does not know.
fn forget_oldest(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM acknowledgement WHERE insight IN
             (SELECT insight FROM acknowledgement WHERE sent = 1 ORDER BY at DESC LIMIT -1 OFFSET ?1)",
        [KEPT],
    )?;
    Ok(())
}
