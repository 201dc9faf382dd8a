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

/// Those the server has not answered in full, the oldest first.
pub(super) fn unfinished(connection: &Connection) -> Result<Vec<Analysis>, StoreError> {
    let select = [
        COLUMNS,
        " WHERE state IN ('queued', 'submitted') ORDER BY requested_at, request_id",
    ];
    let mut select = connection.prepare(&select.concat())?;
    collect(select.query([])?)
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
