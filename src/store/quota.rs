//! How many analyses a day may still have: the server's word where it is known, less what was asked
//! for since; else our own count.

use std::time::Duration;

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, document};
use crate::server::{InsightPage, QuotaAnswer};
use crate::time::Time;

/// The document that holds the server's word.
const QUOTA: &str = "quota";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A quota is a day's: a reset further ahead was told by another clock.
const LONGEST: Duration = Duration::from_secs(25 * 60 * 60);

/// Longer than a call can take: what was submitted while the server was asked may be in its answer
/// or not.
const WHILE_ASKING: Duration = Duration::from_secs(60);

/// How the quota stands; `None` is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Quota {
    pub(crate) limit: Option<u64>,
    pub(crate) used: Option<u64>,
    pub(crate) remaining: Option<u64>,
    pub(crate) resets_at: Option<Time>,
    /// When the server said so.
    pub(crate) as_of: Option<Time>,
}

/// The server's last word on the quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QuotaWord {
    pub(crate) limit: Option<u64>,
    pub(crate) used: Option<u64>,
    pub(crate) remaining: Option<u64>,
    pub(crate) resets_at: Option<Time>,
    pub(crate) as_of: Time,
}

impl Store {
    pub(crate) fn quota(&self, now: Time) -> Result<Quota, StoreError> {
        quota(&self.connection, now)
    }

    /// Takes the server's word; `asked` is when it was asked.
    pub(crate) fn set_quota(
        &mut self,
        answer: &QuotaAnswer,
        asked: Time,
    ) -> Result<(), StoreError> {
        let transaction = self.immediate()?;
        note(&transaction, answer, asked)?;
        transaction.commit()?;
        Ok(())
    }

    /// The server takes no more analyses until then.
    pub(crate) fn exhaust_quota(&mut self, until: Time, now: Time) -> Result<(), StoreError> {
        let transaction = self.immediate()?;
        let before = word(&transaction)?;
        let limit = before.and_then(|word| word.limit);
        let answer = QuotaAnswer {
            limit,
            used: limit,
            remaining: Some(0),
            resets_at: Some(until),
        };
        note(&transaction, &answer, now)?;
        transaction.commit()?;
        Ok(())
    }
}

impl Quota {
    /// Whether one more analysis may be asked for; where nothing is known, the server will tell.
    pub(super) fn has_room(&self) -> bool {
        self.remaining != Some(0)
    }
}

impl QuotaWord {
    /// When it first ends: as told, or else at midnight UTC.
    fn ends_at(&self) -> Time {
        self.resets_at
            .filter(|at| *at > self.as_of && *at <= self.as_of.plus(LONGEST))
            .unwrap_or_else(|| midnight_after(self.as_of))
    }

    /// When the present day of the quota ends, and whether it is the day that the word is of.
    fn day(&self, now: Time) -> (Time, bool) {
        let end = self.ends_at();
        if end > now.plus(LONGEST) {
            // The clock was set back since.
            return (midnight_after(now), false);
        }
        if now < end {
            return (end, true);
        }
        let days = end.elapsed(now).as_secs() / DAY.as_secs() + 1;
        (end.plus(Duration::from_secs(days * DAY.as_secs())), false)
    }
}

/// The next midnight UTC.
pub(crate) fn midnight_after(now: Time) -> Time {
    let day = 24 * 60 * 60 * 1000;
    let midnight = now.as_millis().div_euclid(day).saturating_mul(day);
    Time::from_millis(midnight.saturating_add(day))
}

pub(super) fn quota(connection: &Connection, now: Time) -> Result<Quota, StoreError> {
    let Some(word) = word(connection)? else {
        let midnight = midnight_after(now).minus(DAY);
        return Ok(Quota {
            used: Some(count(connection, midnight, now, false)?),
            ..Quota::default()
        });
    };
    let (end, in_force) = word.day(now);
    let begin = end.minus(DAY);
    let (used, remaining) = if !in_force {
        (Some(count(connection, begin, now, true)?), None)
    } else if word.used.is_none() && word.remaining.is_none() {
        (Some(count(connection, begin, now, false)?), None)
    } else {
        let since = count(
            connection,
            Time::from_millis(i64::MIN),
            Time::from_millis(i64::MAX),
            true,
        )?;
        (
            word.used.map(|used| used.saturating_add(since)),
            word.remaining.map(|rest| rest.saturating_sub(since)),
        )
    };
    let rest = || Some(word.limit?.saturating_sub(used?));
    Ok(Quota {
        limit: word.limit,
        used,
        remaining: remaining.or_else(rest),
        resets_at: Some(end),
        as_of: Some(word.as_of),
    })
}

/// The analyses that take a share of the quota: those about to be sent, and those sent in a time;
/// of these all, or only those that are not in the server's word.
fn count(connection: &Connection, from: Time, to: Time, charged: bool) -> rusqlite::Result<u64> {
    let count: i64 = connection.query_row(
        "SELECT count(*) FROM analysis
         WHERE submitted_at IS NULL AND state = 'queued' AND charged = 1
             OR submitted_at BETWEEN ?1 AND ?2 AND charged >= ?3",
        params![from.as_millis(), to.as_millis(), charged],
        |row| row.get(0),
    )?;
    Ok(u64::try_from(count).unwrap_or(0))
}

pub(super) fn word(connection: &Connection) -> Result<Option<QuotaWord>, StoreError> {
    document::read(connection, QUOTA)
}

pub(super) fn restore(connection: &Connection, word: &QuotaWord) -> Result<(), StoreError> {
    document::write(connection, QUOTA, word)
}

/// Takes what a page of insights says along.
pub(super) fn note_page(
    connection: &Connection,
    page: &InsightPage,
    now: Time,
) -> Result<(), StoreError> {
    if page.quota_remaining.is_none() && page.quota_limit.is_none() {
        return Ok(());
    }
    let before = word(connection)?;
    let in_force = before.filter(|word| word.day(now).1);
    let answer = QuotaAnswer {
        limit: page.quota_limit.or(before.and_then(|word| word.limit)),
        used: None,
        remaining: page.quota_remaining,
        resets_at: in_force.and_then(|word| word.resets_at),
    };
    note(connection, &answer, now)
}

fn note(connection: &Connection, answer: &QuotaAnswer, asked: Time) -> Result<(), StoreError> {
    let QuotaAnswer {
        limit,
        used,
        remaining,
        resets_at,
    } = *answer;
    if limit.is_none() && used.is_none() && remaining.is_none() {
        return Ok(());
    }
    let other = |one: Option<u64>| Some(limit?.saturating_sub(one?));
    let word = QuotaWord {
        limit,
        used: used.or_else(|| other(remaining)),
        remaining: remaining.or_else(|| other(used)),
        resets_at,
        as_of: asked,
    };
    document::write(connection, QUOTA, &word)?;
    // It has what was submitted before.
    connection.execute(
        "UPDATE analysis SET charged = 0
         WHERE charged = 1 AND submitted_at NOT BETWEEN ?1 AND ?2",
        [asked.as_millis(), asked.plus(WHILE_ASKING).as_millis()],
    )?;
    Ok(())
}
