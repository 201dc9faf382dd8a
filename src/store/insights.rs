//! Insights, as the server told them; the names come in when they are read.

use std::collections::BTreeSet;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, Statement, params};
use serde::Serialize;

use super::names::{Known, Lookup};
use super::{Store, StoreError, analyses, document, names, quota};
use crate::json;
use crate::privacy::id::{Kind, OpaqueId};
use crate::privacy::reveal::reveal;
use crate::server::{InsightAnswer, InsightPage, InsightState};
use crate::time::Time;

/// The document that holds up to when insights are known.
const CURSOR: &str = "cursor";

/// What is asked for again, because clocks differ and moments are shared.
const OVERLAP: Duration = Duration::from_secs(60 * 60);

/// More insights than anybody reads.
const KEPT: u32 = 2000;

/// An insight with the real names in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Insight {
    pub(crate) id: String,
    pub(crate) severity: String,
    pub(crate) category: String,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) recommendation: String,
    pub(crate) created_at: Option<Time>,
    pub(crate) received_at: Time,
    pub(crate) state: InsightState,
    pub(crate) affected_resources: Vec<String>,
    pub(crate) resources: Vec<Resource>,
}

/// Something that an insight affects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Resource {
    /// As the server told it.
    pub(crate) id: String,
    /// `None` when that is no opaque id.
    pub(crate) kind: Option<&'static str>,
    /// Empty for a namespace; `None` when not resolved.
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) resolved: bool,
}

/// Which insights to list; `None` and nothing are any.
#[derive(Clone, Debug, Default)]
pub(crate) struct InsightFilter {
    pub(crate) severities: Vec<String>,
    pub(crate) category: Option<String>,
    /// Insights that affect this namespace or something in it.
    pub(crate) namespace: Option<String>,
    pub(crate) state: Option<InsightState>,
    pub(crate) since: Option<Time>,
}

/// How many insights there are, whatever their state but for the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct InsightCounts {
    pub(crate) total: u64,
    pub(crate) unacknowledged: u64,
    pub(crate) critical: u64,
    pub(crate) warning: u64,
    pub(crate) info: u64,
}

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    /// Insights that were not known before.
    pub(crate) new: u32,
}

const COLUMNS: &str = "SELECT id, severity, category, title, description, recommendation,
    created_at, received_at, state, affected FROM insight";

const FILTER: &str = " WHERE (?1 IS NULL OR instr(?1, ',' || severity || ','))
    AND (?2 IS NULL OR category = ?2)
    AND (?3 IS NULL OR state = ?3)
    AND (?4 IS NULL OR at >= ?4)
    AND (?5 IS NULL OR created_at >= (SELECT created_at FROM map) AND EXISTS
        (SELECT 1 FROM insight_resource JOIN name USING (kind, number)
         WHERE insight = id AND (namespace = ?5 OR kind = 'namespace' AND name = ?5)))";

impl Store {
    /// Keeps a page of insights, moves the cursor on, completes the analyses that they answer, and
    /// takes the server's word on the quota; all of it or nothing.
    ///
    /// An insight that is known keeps its state, and when it was received. The same insight again
    /// is not written again.
    pub(crate) fn save_insights(
        &mut self,
        page: &InsightPage,
        now: Time,
    ) -> Result<Saved, StoreError> {
        let transaction = self.immediate()?;
        let mut new = 0;
        let mut keep = Keep::new(&transaction)?;
        let mut seen = BTreeSet::new();
        // Of several under one id the last counts.
        for insight in page.insights.iter().rev() {
            if seen.insert(insight.id.as_str()) && keep.insight(insight, now)? {
                new += 1;
            }
        }
        drop(keep);
        move_cursor(&transaction, page, now)?;
        analyses::complete(&transaction, now)?;
        analyses::forget_old(&transaction, now)?;
        quota::note_page(&transaction, page, now)?;
        forget_over(&transaction)?;
        transaction.commit()?;
        Ok(Saved { new })
    }

    /// From when on to ask for insights.
    pub(crate) fn since(&self, now: Time) -> Result<Time, StoreError> {
        let start = Time::from_millis(0);
        // A cursor in the future was set by another clock, and would hide what comes until then.
        let cursor = cursor(&self.connection)?.map(|cursor| cursor.min(now));
        Ok(cursor.map_or(start, |cursor| cursor.minus(OVERLAP).max(start)))
    }

    /// Hands out insights, the most severe first, then the newest; tells how many there are in all.
    pub(crate) fn insights(
        &self,
        filter: &InsightFilter,
        limit: u32,
        offset: u32,
        visit: &mut dyn FnMut(Insight),
    ) -> Result<u64, StoreError> {
        let severities =
            (!filter.severities.is_empty()).then(|| format!(",{},", filter.severities.join(",")));
        let since = filter.since.map(Time::as_millis);
        let state = filter.state.map(InsightState::as_str);
        let of_filter = params![severities, filter.category, state, since, filter.namespace];
        let _snapshot = self.connection.unchecked_transaction()?;
        let count = ["SELECT count(*) FROM insight", FILTER].concat();
        let total: i64 = self
            .connection
            .query_row(&count, of_filter, |row| row.get(0))?;
        let order = " ORDER BY rank, at DESC, id LIMIT ?6 OFFSET ?7";
        let mut select = self
            .connection
            .prepare(&[COLUMNS, FILTER, order].concat())?;
        let mut reader = Reader::new(&self.connection)?;
        let mut rows = select.query(params![
            severities,
            filter.category,
            state,
            since,
            filter.namespace,
            limit,
            offset
        ])?;
        while let Some(row) = rows.next()? {
            visit(reader.read(row)?);
        }
        Ok(u64::try_from(total).unwrap_or(0))
    }

    pub(crate) fn insight(&self, id: &str) -> Result<Option<Insight>, StoreError> {
        let mut select = self
            .connection
            .prepare(&[COLUMNS, " WHERE id = ?1"].concat())?;
        let mut reader = Reader::new(&self.connection)?;
        let mut rows = select.query([id])?;
        match rows.next()? {
            Some(row) => reader.read(row).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn insight_counts(&self) -> Result<InsightCounts, StoreError> {
        let mut counts = InsightCounts::default();
        let mut statement = self
            .connection
            .prepare("SELECT rank, state = 'open', count(*) FROM insight GROUP BY 1, 2")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let count = u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
            let of_rank = match row.get(0)? {
                0 => &mut counts.critical,
                1 => &mut counts.warning,
                _ => &mut counts.info,
            };
            *of_rank += count;
            counts.total += count;
            if row.get(1)? {
                counts.unacknowledged += count;
            }
        }
        Ok(counts)
    }
}

/// How severe a word is: 0 is critical, 1 a warning, 2 for information. A word nobody knows is a
/// warning.
fn rank(severity: &str) -> u32 {
    match severity {
        "critical" | "error" | "high" => 0,
        "info" | "low" => 2,
        _ => 1,
    }
}

/// Writes insights.
struct Keep<'connection> {
    insert: Statement<'connection>,
    update: Statement<'connection>,
    unlink: Statement<'connection>,
    link: Statement<'connection>,
}

impl<'connection> Keep<'connection> {
    fn new(connection: &'connection Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            insert: connection.prepare(
                "INSERT INTO insight (id, severity, rank, category, title, description,
                     recommendation, affected, created_at, received_at, at, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, min(?10, ifnull(?9, ?10)),
                     ifnull((SELECT state FROM acknowledgement WHERE insight = ?1), 'open'))
                 ON CONFLICT DO NOTHING",
            )?,
            update: connection.prepare(
                "UPDATE insight SET severity = ?2, rank = ?3, category = ?4, title = ?5,
                     description = ?6, recommendation = ?7, affected = ?8, created_at = ?9,
                     at = min(received_at, ifnull(?9, received_at))
                 WHERE id = ?1 AND (severity, category, title, description, recommendation, affected,
                     created_at) IS NOT (?2, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?,
            unlink: connection.prepare("DELETE FROM insight_resource WHERE insight = ?1")?,
            link: connection.prepare(
                "INSERT INTO insight_resource (insight, kind, number) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO NOTHING",
            )?,
        })
    }

    /// Whether it is a new one.
    fn insight(&mut self, insight: &InsightAnswer, now: Time) -> rusqlite::Result<bool> {
        let affected = json::to_string(&insight.affected_resources);
        let rank = rank(&insight.severity);
        let created_at = insight.created_at.map(Time::as_millis);
        let is_new = self.insert.execute(params![
            insight.id,
            insight.severity,
            rank,
            insight.category,
            insight.title,
            insight.description,
            insight.recommendation,
            affected,
            created_at,
            now.as_millis(),
        ])? > 0;
        let changed = is_new
            || self.update.execute(params![
                insight.id,
                insight.severity,
                rank,
                insight.category,
                insight.title,
                insight.description,
                insight.recommendation,
                affected,
                created_at,
            ])? > 0;
        if changed {
            self.unlink.execute([&insight.id])?;
            let ids = insight.affected_resources.iter();
            for id in ids.filter_map(|id| OpaqueId::parse(id)) {
                self.link
                    .execute(params![insight.id, id.kind.as_str(), id.number])?;
            }
        }
        Ok(is_new)
    }
}

/// Reads insights, and puts the names in.
struct Reader<'connection> {
    lookup: Lookup<'connection>,
    /// Older insights speak of another map.
    map_created_at: Option<i64>,
}

impl<'connection> Reader<'connection> {
    fn new(connection: &'connection Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            lookup: Lookup::new(connection)?,
            map_created_at: names::map_created_at(connection)?,
        })
    }

    fn read(&mut self, row: &Row<'_>) -> Result<Insight, StoreError> {
        let created_at: Option<i64> = row.get(6)?;
        let state: String = row.get(8)?;
        let affected: String = row.get(9)?;
        let affected: Vec<String> = serde_json::from_str(&affected)?;
        let of_this_map = match (created_at, self.map_created_at) {
            (Some(created), Some(map)) => created >= map,
            _ => false,
        };
        let mut failure = None;
        let mut known = |id: OpaqueId| {
            if !of_this_map {
                return None;
            }
            let found = self.lookup.find(id);
            found.unwrap_or_else(|error| {
                failure = Some(error);
                None
            })
        };
        let mut text = |column: usize| -> rusqlite::Result<String> {
            let raw: String = row.get(column)?;
            Ok(reveal(&raw, &mut |id| known(id).map(|known| known.name)))
        };
        let (title, description, recommendation) = (text(3)?, text(4)?, text(5)?);
        let mut insight = Insight {
            id: row.get(0)?,
            severity: row.get(1)?,
            category: row.get(2)?,
            title,
            description,
            recommendation,
            created_at: created_at.map(Time::from_millis),
            received_at: Time::from_millis(row.get(7)?),
            state: InsightState::parse(&state).unwrap_or_default(),
            affected_resources: Vec::with_capacity(affected.len()),
            resources: Vec::with_capacity(affected.len()),
        };
        for id in affected {
            let parsed = OpaqueId::parse(&id);
            let resource = Resource::new(id, parsed, parsed.and_then(&mut known));
            insight.affected_resources.push(resource.to_string());
            insight.resources.push(resource);
        }
        failure.map_or(Ok(insight), |error| Err(error.into()))
    }
}

impl Resource {
    fn new(id: String, parsed: Option<OpaqueId>, known: Option<Known>) -> Self {
        let resolved = known.is_some();
        let (namespace, name) = known.map(|known| (known.namespace, known.name)).unzip();
        Self {
            id,
            kind: parsed.map(|id| id.kind.as_str()),
            namespace,
            name,
            resolved,
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.namespace, self.kind, &self.name) {
            (Some(_), Some(kind), Some(name)) if kind == Kind::Namespace.as_str() => {
                f.write_str(name)
            }
            (Some(namespace), Some(kind), Some(name)) => write!(f, "{namespace}/{kind}/{name}"),
            _ => f.write_str(&self.id),
        }
    }
}

fn cursor(connection: &Connection) -> Result<Option<Time>, StoreError> {
    document::read(connection, CURSOR)
}

/// Moves the cursor to the newest insight of a page, never beyond now, whatever the server says,
/// and back only with the clock.
fn move_cursor(connection: &Connection, page: &InsightPage, now: Time) -> Result<(), StoreError> {
    let created = page
        .insights
        .iter()
        .filter_map(|insight| insight.created_at);
    let before = cursor(connection)?;
    let moved = created.chain(before).map(|time| time.min(now)).max();
    match moved {
        Some(moved) if before != Some(moved) => document::write(connection, CURSOR, &moved),
        _ => Ok(()),
    }
}

/// Forgets insights over the bound: first those that users are done with, then the oldest.
fn forget_over(connection: &Connection) -> rusqlite::Result<()> {
    let count: u32 = connection.query_row("SELECT count(*) FROM insight", [], |row| row.get(0))?;
    let over = count.saturating_sub(KEPT);
    if over == 0 {
        return Ok(());
    }
    connection.execute(
        "DELETE FROM insight WHERE id IN
             (SELECT id FROM insight ORDER BY state = 'open', at, id LIMIT ?1)",
        [over],
    )?;
    connection.execute(
        "DELETE FROM insight_resource WHERE insight NOT IN (SELECT id FROM insight)",
        [],
    )?;
    Ok(())
}
