//! Analyses that users asked for, from the request to the insight that answers it.

use std::fmt;
use std::time::Duration;

use rusqlite::{Connection, Row, params};
use serde::{Serialize, Serializer};

use super::acknowledgements::LONGEST_WAIT;
use super::{Store, StoreError, quota};
use crate::privacy::id::{Kind, Uuid};
use crate::time::Time;

/// Whoever takes an analysis to send it has this long; then somebody else may.
const LEASE: Duration = Duration::from_secs(60);

/// How long one that has come to its end, or never will, is remembered.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// No more of them are kept.
const KEPT: u32 = 1000;

/// An analysis that a user asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Analysis {
    pub(crate) request_id: Uuid,
    pub(crate) resource: Target,
    pub(crate) state: AnalysisState,
    pub(crate) reason: Option<Reason>,
    pub(crate) requested_at: Time,
    pub(crate) not_before: Option<Time>,
    pub(crate) submitted_at: Option<Time>,
    pub(crate) completed_at: Option<Time>,
    pub(crate) message: String,
}

/// What is to be analysed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Target {
    #[serde(serialize_with = "kind")]
    pub(crate) kind: Kind,
    /// Empty for a namespace.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// How far an analysis has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AnalysisState {
    /// The server does not know of it yet.
    Queued,
    Submitted,
    /// An insight answers it.
    Completed,
    Failed,
}

/// Why an analysis is queued, or has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    QuotaExceeded,
    Rejected,
    ServerUnreachable,
}

/// A request for an analysis.
#[derive(Clone, Debug)]
pub(crate) struct NewAnalysis {
    pub(crate) request_id: Uuid,
    pub(crate) target: Target,
}

/// Whether an analysis may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Now, and by the caller: for a minute nobody else does.
    Submit(Analysis),
    /// Not before the quota is reset.
    Queued(Analysis),
    /// Not at all; nothing was kept.
    Refused { resets_at: Time },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct AnalysisCounts {
    pub(crate) queued: u64,
    pub(crate) submitted: u64,
}

const COLUMNS: &str = "SELECT request_id, kind, namespace, name, state, reason, requested_at,
    not_before, submitted_at, completed_at, message FROM analysis";

impl Store {
    /// Notes a request and takes its share of the quota, so that of two at once only one gets the
    /// last. Over the quota it is queued until the reset, or with `queue` false refused.
    pub(crate) fn request_analysis(
        &mut self,
        new: &NewAnalysis,
        queue: bool,
        now: Time,
    ) -> Result<Admission, StoreError> {
        let transaction = self.immediate()?;
        forget_old(&transaction, now)?;
        let quota = quota::quota(&transaction, now)?;
        let resets_at = quota
            .resets_at
            .unwrap_or_else(|| quota::midnight_after(now));
        let has_room = quota.has_room();
        let waiting: u32 = transaction.query_row(
            "SELECT count(*) FROM analysis WHERE state = 'queued'",
            [],
            |row| row.get(0),
        )?;
        if !has_room && !queue || waiting >= KEPT {
            return Ok(Admission::Refused { resets_at });
        }
        let mut analysis = Analysis {
            request_id: new.request_id,
            resource: new.target.clone(),
            state: AnalysisState::Queued,
            reason: None,
            requested_at: now,
            not_before: None,
            submitted_at: None,
            completed_at: None,
            message: String::new(),
        };
        analysis.admit(has_room, resets_at, now);
        insert(&transaction, &analysis, has_room)?;
        transaction.commit()?;
        Ok(if has_room {
            Admission::Submit(analysis)
        } else {
            Admission::Queued(analysis)
        })
    }

    /// Takes a queued analysis to send it, if its time has come, nobody else has it, and the quota
    /// has room; `None` when there is nothing to do about it now.
    pub(crate) fn take_analysis(
        &mut self,
        request_id: Uuid,
        now: Time,
    ) -> Result<Option<Admission>, StoreError> {
        let transaction = self.immediate()?;
        let due = due(&transaction, Some(request_id), now, 1)?;
        let Some(mut analysis) = due.into_iter().next() else {
            return Ok(None);
        };
        let id = request_id.to_string();
        let charged: bool = transaction.query_row(
            "SELECT charged FROM analysis WHERE request_id = ?1",
            [&id],
            |row| row.get(0),
        )?;
        let quota = quota::quota(&transaction, now)?;
        let resets_at = quota
            .resets_at
            .unwrap_or_else(|| quota::midnight_after(now));
        let has_room = charged || quota.has_room();
        analysis.admit(has_room, resets_at, now);
        transaction.execute(
            "UPDATE analysis SET reason = ?2, not_before = ?3, message = ?4, charged = ?5
             WHERE request_id = ?1",
            params![
                id,
                analysis.reason.map(Reason::as_str),
                analysis.not_before.map(Time::as_millis),
                analysis.message,
                has_room
            ],
        )?;
        transaction.commit()?;
        Ok(Some(if has_room {
            Admission::Submit(analysis)
        } else {
            Admission::Queued(analysis)
        }))
    }

    /// The queued analyses whose time has come, the oldest first; each is to be taken before it is
    /// sent.
    pub(crate) fn due_analyses(&self, now: Time, limit: u32) -> Result<Vec<Analysis>, StoreError> {
        due(&self.connection, None, now, limit)
    }

    pub(crate) fn analysis(&self, request_id: Uuid) -> Result<Option<Analysis>, StoreError> {
        let select = [COLUMNS, " WHERE request_id = ?1"].concat();
        let mut select = self.connection.prepare(&select)?;
        let found = collect(select.query([request_id.to_string()])?)?;
        Ok(found.into_iter().next())
    }

    /// Hands out analyses, the newest first; tells how many there are in all.
    pub(crate) fn analyses(
        &self,
        state: Option<AnalysisState>,
        limit: u32,
        offset: u32,
        visit: &mut dyn FnMut(Analysis),
    ) -> Result<u64, StoreError> {
        let state = state.map(AnalysisState::as_str);
        let _snapshot = self.connection.unchecked_transaction()?;
        let total: i64 = self.connection.query_row(
            "SELECT count(*) FROM analysis WHERE ?1 IS NULL OR state = ?1",
            [state],
            |row| row.get(0),
        )?;
        let select = [
            COLUMNS,
            " WHERE ?1 IS NULL OR state = ?1
             ORDER BY requested_at DESC, request_id LIMIT ?2 OFFSET ?3",
        ];
        let mut select = self.connection.prepare(&select.concat())?;
        let mut rows = select.query(params![state, limit, offset])?;
        while let Some(row) = rows.next()? {
            if let Some(analysis) = read(row)? {
                visit(analysis);
            }
        }
        Ok(u64::try_from(total).unwrap_or(0))
    }

    pub(crate) fn analysis_counts(&self) -> Result<AnalysisCounts, StoreError> {
        let counts = self.connection.query_row(
            "SELECT count(*) FILTER (WHERE state = 'queued'),
                    count(*) FILTER (WHERE state = 'submitted') FROM analysis",
            [],
            |row| {
                let count = |value: i64| u64::try_from(value).unwrap_or(0);
                Ok(AnalysisCounts {
                    queued: count(row.get(0)?),
                    submitted: count(row.get(1)?),
                })
            },
        )?;
        Ok(counts)
    }

    /// The server has it.
    pub(crate) fn analysis_submitted(&self, request_id: Uuid, now: Time) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE analysis SET state = 'submitted', reason = NULL, charged = 1, not_before = NULL,
                 submitted_at = ?2, message = 'Analysis in progress'
             WHERE request_id = ?1 AND state = 'queued'",
            params![request_id.to_string(), now.as_millis()],
        )?;
        Ok(())
    }

    /// It could not be sent, and is to be tried again. Unless the server said that the quota is
    /// used up, it keeps its share: the server may have it after all.
    pub(crate) fn analysis_queued(
        &self,
        request_id: Uuid,
        reason: Reason,
        not_before: Time,
        message: &str,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE analysis SET reason = ?2, not_before = ?3, message = ?4,
                 charged = charged AND ?2 <> 'quota_exceeded'
             WHERE request_id = ?1 AND state = 'queued'",
            params![
                request_id.to_string(),
                reason.as_str(),
                not_before.as_millis(),
                message
            ],
        )?;
        Ok(())
    }

    /// The server does not want it; its share of the quota is given back.
    pub(crate) fn analysis_failed(
        &self,
        request_id: Uuid,
        reason: Reason,
        message: &str,
    ) -> Result<(), StoreError> {
        self.connection.execute(
            "UPDATE analysis SET state = 'failed', reason = ?2, message = ?3, charged = 0,
                 not_before = NULL
             WHERE request_id = ?1 AND state = 'queued'",
            params![request_id.to_string(), reason.as_str(), message],
        )?;
        Ok(())
    }

    /// Forgets a request that was refused after all.
    pub(crate) fn withdraw_analysis(&self, request_id: Uuid) -> Result<(), StoreError> {
        self.connection.execute(
            "DELETE FROM analysis WHERE request_id = ?1 AND state = 'queued'",
            [request_id.to_string()],
        )?;
        Ok(())
    }
}

impl Analysis {
    /// Puts it in hand, or off.
    fn admit(&mut self, has_room: bool, resets_at: Time, now: Time) {
        if has_room {
            self.reason = None;
            self.not_before = Some(now.plus(LEASE));
            "Analysis requested".clone_into(&mut self.message);
        } else {
            self.reason = Some(Reason::QuotaExceeded);
            self.not_before = Some(resets_at);
            self.message = format!("Daily quota exceeded: will run after {resets_at}");
        }
    }
}

impl Target {
    /// The namespace that it is or is in.
    pub(crate) fn home(&self) -> &str {
        match self.kind {
            Kind::Namespace => &self.name,
            Kind::Workload(_) => &self.namespace,
        }
    }
}

/// As insights name what they affect.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Namespace => f.write_str(&self.name),
            Kind::Workload(kind) => {
                write!(f, "{}/{}/{}", self.namespace, kind.as_str(), self.name)
            }
        }
    }
}

impl AnalysisState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Submitted => "submitted",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Queued, Self::Submitted, Self::Completed, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

impl Reason {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::QuotaExceeded => "quota_exceeded",
            Self::Rejected => "rejected",
            Self::ServerUnreachable => "server_unreachable",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::QuotaExceeded, Self::Rejected, Self::ServerUnreachable]
            .into_iter()
            .find(|reason| reason.as_str() == text)
    }
}

// serde hands fields over by reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn kind<S: Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

/// Completes the analyses that an insight answers: one that affects what was to be analysed, and
/// is newer than the request.
pub(super) fn complete(connection: &Connection, now: Time) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE analysis SET state = 'completed', completed_at = ?1, message = 'Analysis completed'
         WHERE state = 'submitted' AND EXISTS
             (SELECT 1 FROM name
              JOIN insight_resource AS there USING (kind, number)
              JOIN insight ON insight.id = there.insight
              WHERE name.kind = analysis.kind AND name.namespace = analysis.namespace
                AND name.name = analysis.name AND insight.created_at > analysis.requested_at
                AND insight.created_at >= (SELECT created_at FROM map))",
        [now.as_millis()],
    )?;
    Ok(())
}

/// Forgets what has come to its end, or never will, after a while; sooner when there is too much.
/// What is queued is not forgotten.
pub(super) fn forget_old(connection: &Connection, now: Time) -> rusqlite::Result<()> {
    connection.execute(
        "DELETE FROM analysis WHERE state <> 'queued' AND requested_at < ?1",
        [now.minus(REMEMBERED).as_millis()],
    )?;
    let count: u32 = connection.query_row("SELECT count(*) FROM analysis", [], |row| row.get(0))?;
    let over = count.saturating_sub(KEPT);
    if over > 0 {
        connection.execute(
            "DELETE FROM analysis WHERE request_id IN
                 (SELECT request_id FROM analysis WHERE state <> 'queued'
                  ORDER BY state = 'submitted', requested_at LIMIT ?1)",
            [over],
        )?;
    }
    Ok(())
}

/// Those the server has not answered in full, the oldest first. Whether somebody is sending one just
/// now, and how long to wait for the server, is not for another agent to know.
pub(super) fn unfinished(connection: &Connection) -> Result<Vec<Analysis>, StoreError> {
    let select = [
        COLUMNS,
        " WHERE state IN ('queued', 'submitted') ORDER BY requested_at, request_id",
    ];
    let mut select = connection.prepare(&select.concat())?;
    let mut analyses = collect(select.query([])?)?;
    for analysis in &mut analyses {
        if analysis.reason != Some(Reason::QuotaExceeded) {
            analysis.not_before = None;
        }
    }
    Ok(analyses)
}

pub(super) fn insert(
    connection: &Connection,
    analysis: &Analysis,
    charged: bool,
) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO analysis (request_id, kind, namespace, name, state, reason, requested_at,
             not_before, submitted_at, completed_at, message, charged)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING",
        params![
            analysis.request_id.to_string(),
            analysis.resource.kind.as_str(),
            analysis.resource.namespace,
            analysis.resource.name,
            analysis.state.as_str(),
            analysis.reason.map(Reason::as_str),
            analysis.requested_at.as_millis(),
            analysis.not_before.map(Time::as_millis),
            analysis.submitted_at.map(Time::as_millis),
            analysis.completed_at.map(Time::as_millis),
            analysis.message,
            charged,
        ],
    )?;
    Ok(())
}

fn due(
    connection: &Connection,
    request_id: Option<Uuid>,
    now: Time,
    limit: u32,
) -> Result<Vec<Analysis>, StoreError> {
    let select = [
        COLUMNS,
        " WHERE state = 'queued' AND (?1 IS NULL OR request_id = ?1)
             AND (not_before IS NULL OR not_before <= ?2 OR not_before > ?3)
         ORDER BY requested_at, request_id LIMIT ?4",
    ];
    let mut select = connection.prepare(&select.concat())?;
    let request_id = request_id.map(|id| id.to_string());
    let latest = now.plus(LONGEST_WAIT).as_millis();
    collect(select.query(params![request_id, now.as_millis(), latest, limit])?)
}

fn collect(mut rows: rusqlite::Rows<'_>) -> Result<Vec<Analysis>, StoreError> {
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.extend(read(row)?);
    }
    Ok(found)
}

/// Reads a row; `None` when its words are those of another version.
fn read(row: &Row<'_>) -> rusqlite::Result<Option<Analysis>> {
    let (request_id, kind, state): (String, String, String) =
        (row.get(0)?, row.get(1)?, row.get(4)?);
    let (Some(request_id), Some(kind), Some(state)) = (
        Uuid::parse(&request_id),
        Kind::parse(&kind),
        AnalysisState::parse(&state),
    ) else {
        return Ok(None);
    };
    let reason: Option<String> = row.get(5)?;
    let time = |column| -> rusqlite::Result<Option<Time>> {
        Ok(row.get::<_, Option<i64>>(column)?.map(Time::from_millis))
    };
    Ok(Some(Analysis {
        request_id,
        resource: Target {
            kind,
            namespace: row.get(2)?,
            name: row.get(3)?,
        },
        state,
        reason: reason.as_deref().and_then(Reason::parse),
        requested_at: Time::from_millis(row.get(6)?),
        not_before: time(7)?,
        submitted_at: time(8)?,
        completed_at: time(9)?,
        message: row.get(10)?,
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::cluster::{WorkloadKind, inventory_of};
    use crate::server::{InsightAnswer, InsightPage, QuotaAnswer};

    const DEPLOYMENT: Kind = Kind::Workload(WorkloadKind::Deployment);
    const HOUR: i64 = 60 * 60 * 1000;

    fn time(millis: i64) -> Time {
        Time::from_millis(millis)
    }

    fn new(id: u8) -> NewAnalysis {
        new_of(id, DEPLOYMENT, "a", "api")
    }

    fn new_of(id: u8, kind: Kind, namespace: &str, name: &str) -> NewAnalysis {
        NewAnalysis {
            request_id: uuid(id),
            target: Target {
                kind,
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
        }
    }

    fn uuid(id: u8) -> Uuid {
        // As it is read back, version and all.
        Uuid::parse(&Uuid([id; 16]).to_string()).unwrap()
    }

    fn quota_of(store: &mut Store, remaining: u64, now: i64) {
        let answer = QuotaAnswer {
            limit: Some(24),
            remaining: Some(remaining),
            ..QuotaAnswer::default()
        };
        store.set_quota(&answer, time(now)).unwrap();
    }

    fn submit(store: &mut Store, id: u8, now: i64) -> Analysis {
        match store.request_analysis(&new(id), true, time(now)).unwrap() {
            Admission::Submit(analysis) => analysis,
            other => panic!("{other:?}"),
        }
    }

    fn due(store: &Store, now: i64) -> Vec<Uuid> {
        let due = store.due_analyses(time(now), 100).unwrap();
        due.into_iter()
            .map(|analysis| analysis.request_id)
            .collect()
    }

    #[test]
    fn from_the_request_to_the_insight() {
        let mut store = Store::for_tests();
        let inventory = inventory_of(&[("a", &["api", "web"]), ("b", &["api"])]);
        store.save_inventory(&inventory, time(1)).unwrap();
        let analysis = submit(&mut store, 1, 10);
        assert_eq!(
            serde_json::to_string(&analysis).unwrap(),
            concat!(
                r#"{"requestId":"01010101-0101-4101-8101-010101010101","#,
                r#""resource":{"kind":"deployment","namespace":"a","name":"api"},"state":"queued","#,
                r#""reason":null,"requestedAt":"1970-01-01T00:00:00.010Z","#,
                r#""notBefore":"1970-01-01T00:01:00.010Z","submittedAt":null,"completedAt":null,"#,
                r#""message":"Analysis requested"}"#
            )
        );
        let of_namespace = new_of(2, Kind::Namespace, "", "b");
        store
            .request_analysis(&of_namespace, true, time(11))
            .unwrap();
        for id in [1, 2] {
            store.analysis_submitted(uuid(id), time(20)).unwrap();
        }
        let submitted = store.analysis(uuid(1)).unwrap().unwrap();
        assert_eq!(submitted.state, AnalysisState::Submitted);
        assert_eq!(submitted.message, "Analysis in progress");
        assert_eq!(
            (submitted.not_before, submitted.submitted_at),
            (None, Some(time(20)))
        );

        let mut insight = |id: &str, affected: &str, created_at: Option<i64>| {
            let insight = InsightAnswer {
                id: id.to_owned(),
                affected_resources: vec![affected.to_owned()],
                created_at: created_at.map(time),
                ..InsightAnswer::default()
            };
            let page = InsightPage {
                insights: vec![insight],
                ..InsightPage::default()
            };
            store.save_insights(&page, time(50)).unwrap();
            let state = |id| store.analysis(uuid(id)).unwrap().unwrap().state;
            [1, 2].map(|id| state(id) == AnalysisState::Completed)
        };
        // Too old, of no known age, of others, of unknown things.
        assert_eq!(insight("w", "deployment_001", Some(10)), [false, false]);
        assert_eq!(insight("v", "deployment_001", None), [false, false]);
        assert_eq!(insight("x", "deployment_002", Some(30)), [false, false]);
        assert_eq!(insight("y", "deployment_003", Some(30)), [false, false]);
        assert_eq!(insight("z", "deployment_01", Some(30)), [false, false]);
        assert_eq!(insight("a", "deployment_001", Some(11)), [true, false]);
        assert_eq!(insight("b", "namespace_002", Some(12)), [true, true]);
        let completed = store.analysis(uuid(1)).unwrap().unwrap();
        assert_eq!(completed.completed_at, Some(time(50)));
        assert_eq!(store.analysis_counts().unwrap(), AnalysisCounts::default());
    }

    #[test]
    fn over_the_quota_it_waits_for_the_reset_or_is_refused() {
        let mut store = Store::for_tests();
        quota_of(&mut store, 1, 0);
        submit(&mut store, 1, 1);
        let reset = time(24 * HOUR);
        let refused = store.request_analysis(&new(2), false, time(2)).unwrap();
        assert_eq!(refused, Admission::Refused { resets_at: reset });
        assert_eq!(store.analysis(uuid(2)).unwrap(), None);
        let queued = store.request_analysis(&new(2), true, time(2)).unwrap();
        let Admission::Queued(analysis) = queued else {
            panic!("{queued:?}");
        };
        assert_eq!(analysis.state, AnalysisState::Queued);
        assert_eq!(analysis.reason, Some(Reason::QuotaExceeded));
        assert_eq!(analysis.not_before, Some(reset));
        assert_eq!(
            analysis.message,
            "Daily quota exceeded: will run after 1970-01-02T00:00:00.000Z"
        );
        assert_eq!(store.analysis(uuid(2)).unwrap(), Some(analysis));
        assert_eq!(store.analysis_counts().unwrap().queued, 2);
    }

    #[test]
    fn who_has_it_sends_it_and_when_they_do_not_somebody_else_does() {
        let mut store = Store::for_tests();
        submit(&mut store, 1, 0);
        let minute = 60_000;
        assert_eq!(due(&store, minute - 1), []);
        assert_eq!(
            store.take_analysis(uuid(1), time(minute - 1)).unwrap(),
            None
        );
        assert_eq!(due(&store, minute), [uuid(1)]);
        let taken = store.take_analysis(uuid(1), time(minute)).unwrap();
        assert!(matches!(taken, Some(Admission::Submit(_))), "{taken:?}");
        assert_eq!(store.take_analysis(uuid(1), time(minute)).unwrap(), None);
        assert_eq!(due(&store, minute), []);

        // The server did not answer; the wait is over after an hour, or when the clock was set back.
        let reason = Reason::ServerUnreachable;
        store
            .analysis_queued(uuid(1), reason, time(HOUR), "no answer")
            .unwrap();
        assert_eq!(due(&store, HOUR - 1), []);
        assert_eq!(due(&store, HOUR), [uuid(1)]);
        assert_eq!(due(&store, -25 * HOUR), [uuid(1)]);
        let queued = store.analysis(uuid(1)).unwrap().unwrap();
        assert_eq!(
            (queued.reason, queued.message.as_str()),
            (Some(reason), "no answer")
        );

        // It has got there after all: nothing takes that back.
        store.analysis_submitted(uuid(1), time(HOUR)).unwrap();
        store
            .analysis_queued(uuid(1), reason, time(0), "no answer")
            .unwrap();
        store
            .analysis_failed(uuid(1), Reason::Rejected, "no")
            .unwrap();
        store.withdraw_analysis(uuid(1)).unwrap();
        let submitted = store.analysis(uuid(1)).unwrap().unwrap();
        assert_eq!(submitted.state, AnalysisState::Submitted);
        assert_eq!(store.take_analysis(uuid(1), time(3 * HOUR)).unwrap(), None);
        assert_eq!(store.take_analysis(uuid(9), time(3 * HOUR)).unwrap(), None);
    }

    #[test]
    fn what_waited_for_the_reset_shares_the_new_quota() {
        let mut store = Store::for_tests();
        quota_of(&mut store, 0, 0);
        let more = 25;
        for id in 0..more {
            store
                .request_analysis(&new(id), true, time(i64::from(id) + 1))
                .unwrap();
        }
        assert_eq!(due(&store, 23 * HOUR), []);
        let day = 24 * HOUR;
        let due = due(&store, day);
        assert_eq!(due.len(), usize::from(more));
        let mut submitted = 0;
        let mut last = None;
        for id in due {
            match store.take_analysis(id, time(day)).unwrap().unwrap() {
                Admission::Submit(_) => submitted += 1,
                Admission::Queued(analysis) => last = Some(analysis),
                Admission::Refused { .. } => panic!("{id}"),
            }
        }
        assert_eq!(submitted, 24);
        assert_eq!(last.unwrap().not_before, Some(time(2 * day)));
    }

    #[test]
    fn what_the_server_refuses_gives_its_share_back() {
        let mut store = Store::for_tests();
        quota_of(&mut store, 2, 0);
        let remaining = |store: &Store| store.quota(time(5)).unwrap().remaining;
        submit(&mut store, 1, 1);
        submit(&mut store, 2, 2);
        assert_eq!(remaining(&store), Some(0));
        // It may have got there, though no answer came back.
        store
            .analysis_queued(uuid(1), Reason::ServerUnreachable, time(3), "")
            .unwrap();
        assert_eq!(remaining(&store), Some(0));
        store
            .analysis_failed(uuid(1), Reason::Rejected, "no such resource")
            .unwrap();
        assert_eq!(remaining(&store), Some(1));
        store
            .analysis_queued(uuid(2), Reason::QuotaExceeded, time(3), "")
            .unwrap();
        assert_eq!(remaining(&store), Some(2));
        let failed = store.analysis(uuid(1)).unwrap().unwrap();
        assert_eq!(failed.state, AnalysisState::Failed);
        assert_eq!(failed.reason, Some(Reason::Rejected));
        store.withdraw_analysis(uuid(2)).unwrap();
        assert_eq!(store.analysis(uuid(2)).unwrap(), None);
    }

    #[test]
    fn they_are_listed_newest_first() {
        let mut store = Store::for_tests();
        for id in 1..=4 {
            submit(&mut store, id, i64::from(id));
        }
        store.analysis_submitted(uuid(3), time(9)).unwrap();
        let list = |state, limit, offset| {
            let mut ids = Vec::new();
            let total = store
                .analyses(state, limit, offset, &mut |analysis| {
                    ids.push(analysis.request_id);
                })
                .unwrap();
            (total, ids)
        };
        assert_eq!(list(None, 2, 1), (4, vec![uuid(3), uuid(2)]));
        let submitted = Some(AnalysisState::Submitted);
        assert_eq!(list(submitted, 9, 0), (1, vec![uuid(3)]));
        let counts = AnalysisCounts {
            queued: 3,
            submitted: 1,
        };
        assert_eq!(store.analysis_counts().unwrap(), counts);
    }

    #[test]
    fn old_ones_are_forgotten_but_not_those_that_wait() {
        let mut store = Store::for_tests();
        for id in 1..=3 {
            submit(&mut store, id, 0);
        }
        store.analysis_submitted(uuid(1), time(1)).unwrap();
        store
            .analysis_failed(uuid(2), Reason::Rejected, "")
            .unwrap();
        let month = i64::try_from(REMEMBERED.as_millis()).unwrap();
        submit(&mut store, 4, month);
        assert!(store.analysis(uuid(1)).unwrap().is_some());
        submit(&mut store, 5, month + 1);
        let left = [1, 2, 3, 4, 5].map(|id| store.analysis(uuid(id)).unwrap().is_some());
        assert_eq!(left, [false, false, true, true, true]);
    }

    #[test]
    fn there_are_never_more_than_a_thousand() {
        let mut store = Store::for_tests();
        let numbered = |number: u32| {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            NewAnalysis {
                request_id: Uuid(bytes),
                ..new(0)
            }
        };
        for number in 0..KEPT {
            let at = time(i64::from(number));
            store.request_analysis(&numbered(number), true, at).unwrap();
        }
        let now = time(9999);
        let refused = store.request_analysis(&numbered(KEPT), true, now).unwrap();
        assert!(matches!(refused, Admission::Refused { .. }), "{refused:?}");
        for number in 10..20 {
            let id = numbered(number).request_id;
            store.analysis_submitted(id, now).unwrap();
        }
        store
            .analysis_failed(numbered(15).request_id, Reason::Rejected, "")
            .unwrap();
        for number in [12, 13] {
            let id = numbered(number).request_id.to_string();
            store
                .connection
                .execute(
                    "UPDATE analysis SET state = 'completed' WHERE request_id = ?1",
                    [id],
                )
                .unwrap();
        }
        // First those that are done, the oldest of them first.
        for (number, gone) in [(KEPT, 12), (KEPT + 1, 12), (KEPT + 2, 13), (KEPT + 3, 10)] {
            let admission = store
                .request_analysis(&numbered(number), true, now)
                .unwrap();
            assert!(matches!(admission, Admission::Submit(_)), "{admission:?}");
            if number > KEPT {
                assert_eq!(store.analysis(numbered(gone).request_id).unwrap(), None);
            }
        }
    }

    #[test]
    fn two_at_once_share_the_quota() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kube9.db");
        let (mut agent, _) = Store::open(&path).unwrap();
        for round in 0..10_u8 {
            let now = i64::from(round) * 100;
            quota_of(&mut agent, 1, now);
            let admitted = std::thread::scope(|scope| {
                let commands: Vec<_> = (0..8)
                    .map(|command| {
                        let path = &path;
                        scope.spawn(move || {
                            let mut store = Store::open_for_command(path).unwrap();
                            let new = new(round * 8 + command);
                            let at = time(now + 1);
                            matches!(
                                store.request_analysis(&new, true, at).unwrap(),
                                Admission::Submit(_)
                            )
                        })
                    })
                    .collect();
                let admitted = commands.into_iter().map(|command| command.join().unwrap());
                admitted.filter(|admitted| *admitted).count()
            });
            assert_eq!(admitted, 1, "round {round}");
            // The server has it by the next round.
            let mut sent = Vec::new();
            agent
                .analyses(Some(AnalysisState::Queued), 100, 0, &mut |analysis| {
                    sent.extend(analysis.reason.is_none().then_some(analysis.request_id));
                })
                .unwrap();
            for id in sent {
                agent.analysis_submitted(id, time(now + 2)).unwrap();
            }
        }
    }
}
