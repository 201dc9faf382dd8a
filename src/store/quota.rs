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

/// The server's word as another agent is to know it: less what was submitted since, and the same
/// all day while nothing happens, whenever it was told.
pub(super) fn export(connection: &Connection) -> Result<Option<QuotaWord>, StoreError> {
    let Some(word) = word(connection)? else {
        return Ok(None);
    };
    let submitted: i64 = connection.query_row(
        "SELECT count(*) FROM analysis WHERE charged = 1 AND submitted_at IS NOT NULL",
        [],
        |row| row.get(0),
    )?;
    let submitted = u64::try_from(submitted).unwrap_or(0);
    let end = word.ends_at();
    Ok(Some(QuotaWord {
        limit: word.limit,
        used: word.used.map(|used| used.saturating_add(submitted)),
        remaining: word.remaining.map(|rest| rest.saturating_sub(submitted)),
        resets_at: Some(end),
        as_of: end.minus(DAY),
    }))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Admission, NewAnalysis, Target};
    use super::*;
    use crate::privacy::id::{Kind, Uuid};

    const MINUTE: i64 = 60 * 1000;
    const HOUR: i64 = 60 * MINUTE;
    /// Noon of some day.
    const NOON: i64 = 20_000 * 24 * HOUR + 12 * HOUR;

    fn time(millis: i64) -> Time {
        Time::from_millis(millis)
    }

    fn told(limit: u64, remaining: u64, resets_at: Option<i64>) -> QuotaAnswer {
        QuotaAnswer {
            limit: Some(limit),
            used: None,
            remaining: Some(remaining),
            resets_at: resets_at.map(time),
        }
    }

    /// Limit, used, remaining, and in how many hours after noon it is reset.
    type Seen = (Option<u64>, Option<u64>, Option<u64>, Option<i64>);

    fn seen(store: &Store, now: i64) -> Seen {
        let quota = store.quota(time(now)).unwrap();
        let hours = quota.resets_at.map(|at| (at.as_millis() - NOON) / HOUR);
        (quota.limit, quota.used, quota.remaining, hours)
    }

    fn request(store: &mut Store, now: i64) -> Option<Uuid> {
        let new = NewAnalysis {
            request_id: Uuid::random().unwrap(),
            target: Target {
                kind: Kind::Namespace,
                namespace: String::new(),
                name: "a".to_owned(),
            },
        };
        match store.request_analysis(&new, false, time(now)).unwrap() {
            Admission::Submit(analysis) => Some(analysis.request_id),
            _ => None,
        }
    }

    fn submit(store: &mut Store, now: i64) {
        let id = request(store, now).unwrap();
        store.analysis_submitted(id, time(now)).unwrap();
    }

    #[test]
    fn unknown_is_never_0() {
        let mut store = Store::for_tests();
        assert_eq!(seen(&store, NOON), (None, Some(0), None, None));
        submit(&mut store, NOON);
        submit(&mut store, NOON + 1);
        request(&mut store, NOON + 2).unwrap();
        assert_eq!(seen(&store, NOON + 3), (None, Some(3), None, None));
        // A day is a day by UTC; what is about to be sent will count for the next.
        assert_eq!(seen(&store, NOON + 12 * HOUR), (None, Some(1), None, None));
        let quota = serde_json::to_string(&store.quota(time(NOON)).unwrap()).unwrap();
        assert_eq!(
            quota,
            r#"{"limit":null,"used":2,"remaining":null,"resetsAt":null,"asOf":null}"#
        );
    }

    #[test]
    fn it_is_the_servers_word_less_what_was_asked_for_since() {
        let mut store = Store::for_tests();
        submit(&mut store, NOON - HOUR);
        let reset = Some(NOON + 5 * HOUR);
        store.set_quota(&told(24, 20, reset), time(NOON)).unwrap();
        assert_eq!(seen(&store, NOON), (Some(24), Some(4), Some(20), Some(5)));
        submit(&mut store, NOON + 2 * MINUTE);
        let id = request(&mut store, NOON + 3 * MINUTE).unwrap();
        assert_eq!(
            seen(&store, NOON + HOUR),
            (Some(24), Some(6), Some(18), Some(5))
        );
        // The next word has the first, and not the second.
        store
            .set_quota(&told(24, 19, reset), time(NOON + HOUR))
            .unwrap();
        assert_eq!(
            seen(&store, NOON + HOUR),
            (Some(24), Some(6), Some(18), Some(5))
        );
        // Submitted while the server was being asked: it may not have counted it.
        let asked = NOON + 2 * HOUR;
        store.analysis_submitted(id, time(asked + 1)).unwrap();
        store.set_quota(&told(24, 19, reset), time(asked)).unwrap();
        assert_eq!(
            seen(&store, asked + 2),
            (Some(24), Some(6), Some(18), Some(5))
        );
        let later = asked + HOUR;
        store.set_quota(&told(24, 18, reset), time(later)).unwrap();
        assert_eq!(seen(&store, later), (Some(24), Some(6), Some(18), Some(5)));
        // More than there were.
        store.set_quota(&told(2, 0, reset), time(later)).unwrap();
        assert_eq!(request(&mut store, later), None);
        assert_eq!(store.quota(time(later)).unwrap().as_of, Some(time(later)));
    }

    #[test]
    fn what_is_not_told_follows_where_it_can() {
        let mut store = Store::for_tests();
        let word = |limit, used, remaining| QuotaAnswer {
            limit,
            used,
            remaining,
            resets_at: None,
        };
        let all = (Some(24), Some(6), Some(18), Some(12));
        for (answer, expected) in [
            (word(Some(24), Some(6), None), all),
            (word(Some(24), None, Some(18)), all),
            (
                word(Some(24), Some(30), None),
                (Some(24), Some(30), Some(0), Some(12)),
            ),
            (word(None, Some(6), None), (None, Some(6), None, Some(12))),
            (word(None, None, Some(18)), (None, None, Some(18), Some(12))),
            (
                word(Some(24), None, None),
                (Some(24), Some(0), Some(24), Some(12)),
            ),
            // Nothing is no news.
            (
                word(None, None, None),
                (Some(24), Some(0), Some(24), Some(12)),
            ),
        ] {
            store.set_quota(&answer, time(NOON)).unwrap();
            assert_eq!(seen(&store, NOON), expected, "{answer:?}");
        }
        submit(&mut store, NOON + 1);
        assert_eq!(
            seen(&store, NOON + 2),
            (Some(24), Some(1), Some(23), Some(12))
        );
    }

    #[test]
    fn it_comes_back_with_the_reset_though_the_server_is_silent() {
        for (reset, hours) in [(Some(NOON + 5 * HOUR), 5), (None, 12)] {
            let mut store = Store::for_tests();
            store.set_quota(&told(3, 1, reset), time(NOON)).unwrap();
            submit(&mut store, NOON + 1);
            assert_eq!(request(&mut store, NOON + 2), None);
            let at = NOON + hours * HOUR;
            assert_eq!(
                seen(&store, at - 1),
                (Some(3), Some(3), Some(0), Some(hours))
            );
            assert_eq!(
                seen(&store, at),
                (Some(3), Some(0), Some(3), Some(hours + 24))
            );
            for used in 1..=3 {
                submit(&mut store, at + used);
            }
            assert_eq!(request(&mut store, at + 5), None);
            assert_eq!(
                seen(&store, at + 6),
                (Some(3), Some(3), Some(0), Some(hours + 24))
            );
            // Days later, and over the restarts of any agent: nothing of it is in memory.
            let later = at + 3 * 24 * HOUR;
            assert_eq!(
                seen(&store, later),
                (Some(3), Some(0), Some(3), Some(hours + 96))
            );
        }
    }

    #[test]
    fn a_reset_that_cannot_be_is_not_believed() {
        let mut store = Store::for_tests();
        for reset in [i64::MAX, NOON + 26 * HOUR, NOON, NOON - HOUR, 0, i64::MIN] {
            store
                .set_quota(&told(24, 0, Some(reset)), time(NOON))
                .unwrap();
            assert_eq!(
                seen(&store, NOON),
                (Some(24), Some(24), Some(0), Some(12)),
                "{reset}"
            );
        }
        let reset = Some(NOON + 25 * HOUR);
        store.set_quota(&told(24, 0, reset), time(NOON)).unwrap();
        assert_eq!(seen(&store, NOON), (Some(24), Some(24), Some(0), Some(25)));
    }

    #[test]
    fn a_clock_that_jumps_does_not_lock_anybody_out() {
        let mut store = Store::for_tests();
        let reset = Some(NOON + 6 * HOUR);
        store.set_quota(&told(3, 0, reset), time(NOON)).unwrap();
        // A little back: the word still holds.
        assert_eq!(
            seen(&store, NOON - HOUR),
            (Some(3), Some(3), Some(0), Some(6))
        );
        // Days back: whatever it was, it is not of this day.
        let past = NOON - 72 * HOUR;
        assert_eq!(
            seen(&store, past),
            (Some(3), Some(0), Some(3), Some(12 - 72))
        );
        for used in 1..=3 {
            submit(&mut store, past + used);
        }
        assert_eq!(request(&mut store, past + 5), None);
        // Forward: a reset has passed.
        assert_eq!(
            seen(&store, NOON + 7 * HOUR),
            (Some(3), Some(0), Some(3), Some(30))
        );
        // And the server's next word counts, whatever was noted under another clock.
        submit(&mut store, NOON + 1000 * HOUR);
        store.set_quota(&told(3, 2, reset), time(NOON)).unwrap();
        assert_eq!(seen(&store, NOON), (Some(3), Some(1), Some(2), Some(6)));
    }

    #[test]
    fn a_server_that_takes_no_more_is_believed() {
        let mut store = Store::for_tests();
        store.exhaust_quota(time(NOON + HOUR), time(NOON)).unwrap();
        assert_eq!(seen(&store, NOON), (None, None, Some(0), Some(1)));
        assert_eq!(request(&mut store, NOON), None);
        // Nobody has told how many there are: one can but try.
        assert_eq!(seen(&store, NOON + HOUR), (None, Some(0), None, Some(25)));
        assert!(request(&mut store, NOON + HOUR).is_some());

        store.set_quota(&told(24, 20, None), time(NOON)).unwrap();
        store
            .exhaust_quota(time(NOON + HOUR), time(NOON + 1))
            .unwrap();
        let (limit, _, remaining, hours) = seen(&store, NOON + 2);
        assert_eq!((limit, remaining, hours), (Some(24), Some(0), Some(1)));
    }

    #[test]
    fn a_page_of_insights_brings_it_along() {
        let mut store = Store::for_tests();
        let mut pull = |limit, remaining, now| {
            let page = InsightPage {
                insights: Vec::new(),
                quota_remaining: remaining,
                quota_limit: limit,
            };
            store.save_insights(&page, time(now)).unwrap();
            seen(&store, now)
        };
        assert_eq!(pull(None, None, NOON), (None, Some(0), None, None));
        assert_eq!(
            pull(Some(24), Some(18), NOON),
            (Some(24), Some(6), Some(18), Some(12))
        );
        assert_eq!(
            pull(None, Some(17), NOON),
            (Some(24), Some(7), Some(17), Some(12))
        );
        let reset = Some(NOON + 2 * HOUR);
        store.set_quota(&told(24, 16, reset), time(NOON)).unwrap();
        let mut pull = |remaining, now| {
            let page = InsightPage {
                quota_remaining: Some(remaining),
                ..InsightPage::default()
            };
            store.save_insights(&page, time(now)).unwrap();
            seen(&store, now)
        };
        // It does not tell when; that is still known.
        assert_eq!(
            pull(15, NOON + HOUR),
            (Some(24), Some(9), Some(15), Some(2))
        );
        assert_eq!(
            pull(24, NOON + 3 * HOUR),
            (Some(24), Some(0), Some(24), Some(12))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the server says and the clock does: no more are let through between two
        /// resets than the limit, nothing overflows, and within 25 hours of one clock there is room again.
        #[test]
        fn it_holds_and_it_ends(
            limit in 0..5_u64,
            remaining in 0..7_u64,
            reset in proptest::option::of(prop_oneof![any::<i64>(), NOON - 48 * HOUR..NOON + 48 * HOUR]),
            start in any::<i64>().prop_map(|jump| jump % (1000 * HOUR)),
            steps in proptest::collection::vec(0..6 * HOUR, 0..20),
        ) {
            let mut store = Store::for_tests();
            store.set_quota(&told(limit, remaining, reset), time(NOON)).unwrap();
            let mut now = NOON + start;
            let mut first = None;
            let mut admitted = 0;
            for step in steps {
                now += step;
                let quota = store.quota(time(now)).unwrap();
                let end = quota.resets_at.unwrap().as_millis();
                prop_assert!(end > now && end <= now + 25 * HOUR, "{end} {now}");
                if first != Some(end) {
                    (first, admitted) = (Some(end), 0);
                }
                if let Some(id) = request(&mut store, now) {
                    store.analysis_submitted(id, time(now)).unwrap();
                    admitted += 1;
                }
                prop_assert!(admitted <= limit.max(remaining), "{admitted}");
            }
            if limit > 0 {
                let (_, _, rest, _) = seen(&store, now.max(NOON) + 50 * HOUR);
                prop_assert_eq!(rest, Some(limit));
            }
        }
    }
}
