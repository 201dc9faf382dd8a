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

/// What is left to do about a verdict that has been noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Nothing: the server knows it.
    Known,
    /// The caller is to tell the server.
    Taken(Acknowledgement),
    /// Somebody else tells the server, or it is put off.
    Waiting,
}

impl Store {
    /// Notes what a user made of an insight, and that the server is to be told, by the caller: until
    /// `lease` nobody else does. `None` when there is no such insight.
    pub(crate) fn judge_insight(
        &mut self,
        id: &str,
        state: InsightState,
        now: Time,
        lease: Time,
    ) -> Result<Option<Judged>, StoreError> {
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
        let judged = match take(&transaction, id, now, lease)? {
            Some(acknowledgement) => Judged::Taken(acknowledgement),
            None if is_unsent(&transaction, id)? => Judged::Waiting,
            None => Judged::Known,
        };
        transaction.commit()?;
        Ok(Some(judged))
    }

    #[cfg(test)]
    pub(crate) fn set_insight_state(
        &mut self,
        id: &str,
        state: InsightState,
        now: Time,
    ) -> Result<Option<()>, StoreError> {
        let judged = self.judge_insight(id, state, now, now)?;
        Ok(judged.map(drop))
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

    /// Takes a verdict to tell the server of it: nobody else does until `lease`. `None` when there is
    /// nothing to tell now, or somebody else is at it.
    pub(crate) fn lease_acknowledgement(
        &self,
        id: &str,
        now: Time,
        lease: Time,
    ) -> Result<Option<Acknowledgement>, StoreError> {
        take(&self.connection, id, now, lease)
    }
}

fn take(
    connection: &Connection,
    id: &str,
    now: Time,
    lease: Time,
) -> Result<Option<Acknowledgement>, StoreError> {
    let mut statement = connection.prepare(
        "UPDATE acknowledgement SET not_before = ?4
         WHERE insight = ?1 AND sent = 0
             AND (not_before IS NULL OR not_before <= ?2 OR not_before > ?3)
         RETURNING insight, state, at",
    )?;
    let latest = now.plus(LONGEST_WAIT).as_millis();
    let rows = statement.query((id, now.as_millis(), latest, lease.as_millis()))?;
    Ok(collect(rows)?.pop())
}

fn is_unsent(connection: &Connection, id: &str) -> rusqlite::Result<bool> {
    connection
        .prepare("SELECT 1 FROM acknowledgement WHERE insight = ?1 AND sent = 0")?
        .exists([id])
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::server::{InsightAnswer, InsightPage};

    fn time(millis: i64) -> Time {
        Time::from_millis(millis)
    }

    fn receive(store: &mut Store, ids: &[String]) {
        let insights = ids.iter().map(|id| InsightAnswer {
            id: id.clone(),
            ..InsightAnswer::default()
        });
        let page = InsightPage {
            insights: insights.collect(),
            ..InsightPage::default()
        };
        store.save_insights(&page, time(1)).unwrap();
    }

    fn with_insights(ids: &[&str]) -> Store {
        let mut store = Store::for_tests();
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        receive(&mut store, &ids);
        store
    }

    fn unsent(store: &Store, now: i64) -> Vec<(String, InsightState, i64)> {
        let acks = store.unsent_acknowledgements(time(now), 100).unwrap();
        acks.into_iter()
            .map(|ack| (ack.insight_id, ack.state, ack.at.as_millis()))
            .collect()
    }

    #[test]
    fn a_verdict_waits_until_the_server_knows() {
        use InsightState::{Acknowledged, Dismissed};
        let mut store = with_insights(&["a", "b"]);
        assert_eq!(
            store.set_insight_state("c", Dismissed, time(2)).unwrap(),
            None
        );
        for (id, state, at) in [
            ("b", Dismissed, 5),
            ("a", Acknowledged, 6),
            ("a", Acknowledged, 7),
        ] {
            assert_eq!(
                store.set_insight_state(id, state, time(at)).unwrap(),
                Some(())
            );
        }
        assert_eq!(store.insight("a").unwrap().unwrap().state, Acknowledged);
        assert_eq!(
            unsent(&store, 10),
            [
                ("b".to_owned(), Dismissed, 5),
                ("a".to_owned(), Acknowledged, 6)
            ]
        );
        assert_eq!(store.unsent_acknowledgements(time(10), 1).unwrap().len(), 1);

        let sent = store.unsent_acknowledgements(time(10), 100).unwrap();
        // While it was being sent, the user has changed their mind.
        store.set_insight_state("a", Dismissed, time(11)).unwrap();
        for ack in &sent {
            store.acknowledgement_wait(ack, time(1_000_000)).unwrap();
            store.acknowledgement_done(ack).unwrap();
        }
        assert_eq!(unsent(&store, 12), [("a".to_owned(), Dismissed, 11)]);
        // The same again, once the server knows, is no news.
        store.set_insight_state("b", Dismissed, time(13)).unwrap();
        assert_eq!(unsent(&store, 14).len(), 1);
        store
            .set_insight_state("b", Acknowledged, time(15))
            .unwrap();
        assert_eq!(unsent(&store, 16).len(), 2);
    }

    #[test]
    fn nobody_sends_what_somebody_else_is_sending() {
        let mut store = with_insights(&["a"]);
        let state = InsightState::Acknowledged;
        assert_eq!(
            store.lease_acknowledgement("a", time(9), time(9)).unwrap(),
            None
        );
        store.set_insight_state("a", state, time(5)).unwrap();
        let leased = store
            .lease_acknowledgement("a", time(9), time(100))
            .unwrap()
            .unwrap();
        assert_eq!((leased.insight_id.as_str(), leased.at), ("a", time(5)));
        assert_eq!(unsent(&store, 99), []);
        let again = store.lease_acknowledgement("a", time(99), time(150));
        assert_eq!(again.unwrap(), None);
        assert_eq!(unsent(&store, 100).len(), 1);
        store.acknowledgement_wait(&leased, time(200)).unwrap();
        assert_eq!(unsent(&store, 199), []);
        assert_eq!(unsent(&store, 200).len(), 1);
        // The clock was a year ahead when it was put off.
        let year = time(200).plus(Duration::from_secs(365 * 24 * 60 * 60));
        store.acknowledgement_wait(&leased, year).unwrap();
        assert_eq!(unsent(&store, 200).len(), 1);
        store.acknowledgement_done(&leased).unwrap();
        assert_eq!(unsent(&store, 200), []);
        assert_eq!(
            store.lease_acknowledgement("a", time(9), time(9)).unwrap(),
            None
        );
    }

    #[test]
    fn who_judges_tells_the_server() {
        use InsightState::{Acknowledged, Dismissed};
        let mut store = with_insights(&["a"]);
        let mut judge = |state, now| {
            store
                .judge_insight("a", state, time(now), time(now + 100))
                .unwrap()
        };
        let ack = |state, at| Acknowledgement {
            insight_id: "a".to_owned(),
            state,
            at: time(at),
        };
        let first = ack(Acknowledged, 5);
        assert_eq!(judge(Acknowledged, 5), Some(Judged::Taken(first.clone())));
        assert_eq!(judge(Acknowledged, 6), Some(Judged::Waiting));
        // Whoever it was has died.
        assert_eq!(judge(Acknowledged, 105), Some(Judged::Taken(first)));
        let second = ack(Dismissed, 106);
        assert_eq!(judge(Dismissed, 106), Some(Judged::Taken(second.clone())));
        assert_eq!(unsent(&store, 107), []);
        store.acknowledgement_done(&second).unwrap();
        let known = store.judge_insight("a", Dismissed, time(108), time(208));
        assert_eq!(known.unwrap(), Some(Judged::Known));
    }

    #[test]
    fn verdicts_are_remembered_up_to_a_bound_and_unsent_ones_for_ever() {
        let mut store = Store::for_tests();
        let more = 5;
        let ids: Vec<String> = (0..i64::from(KEPT) + more)
            .map(|number| format!("i{number}"))
            .collect();
        for (at, id) in (2..).zip(&ids) {
            receive(&mut store, std::slice::from_ref(id));
            store
                .set_insight_state(id, InsightState::Dismissed, time(at))
                .unwrap();
        }
        let everything = store.unsent_acknowledgements(time(9999), 9999).unwrap();
        assert_eq!(everything.len(), ids.len());
        for ack in &everything[1..] {
            store.acknowledgement_done(ack).unwrap();
        }
        let sent = all(&store.connection, true).unwrap();
        assert_eq!(sent.len(), KEPT as usize);
        assert_eq!(sent[0].insight_id, format!("i{more}"));
        assert_eq!(unsent(&store, 9999).len(), 1);
    }

    #[test]
    fn two_processes_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kube9.db");
        let (mut agent, _) = Store::open(&path).unwrap();
        let ids: Vec<String> = (0..60).map(|number| format!("i{number:02}")).collect();
        receive(&mut agent, &ids);
        let command = |ids: &[String], path: &Path| {
            for (at, id) in (10..).zip(ids) {
                // As a command does: each opens the database for itself.
                let mut store = Store::open_for_command(path).unwrap();
                let state = InsightState::Dismissed;
                store.set_insight_state(id, state, time(at)).unwrap();
            }
        };
        let mut done = 0;
        std::thread::scope(|scope| {
            let halves = ids.split_at(30);
            let commands = [
                scope.spawn(|| command(halves.0, &path)),
                scope.spawn(|| command(halves.1, &path)),
            ];
            // The agent sends what it finds and pulls meanwhile.
            while done < ids.len() {
                let running = commands.iter().any(|command| !command.is_finished());
                let found = agent.unsent_acknowledgements(time(1000), 7).unwrap();
                assert!(running || !found.is_empty(), "{done} of {}", ids.len());
                for ack in found {
                    receive(&mut agent, std::slice::from_ref(&ack.insight_id));
                    agent.acknowledgement_done(&ack).unwrap();
                    done += 1;
                }
            }
        });
        assert_eq!(done, ids.len());
        assert_eq!(agent.insight_counts().unwrap().unacknowledged, 0);
    }
}
