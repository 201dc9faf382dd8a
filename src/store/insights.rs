//! Insights, as the server told them; the names come in when they are read.

use std::collections::BTreeSet;
use std::time::Duration;

use rusqlite::{Connection, Row, Statement, params};
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::cluster::inventory_of;

    const HOUR: i64 = 60 * 60 * 1000;

    fn time(millis: i64) -> Time {
        Time::from_millis(millis)
    }

    fn answer(id: &str, created_at: i64) -> InsightAnswer {
        InsightAnswer {
            id: id.to_owned(),
            severity: "warning".to_owned(),
            created_at: Some(time(created_at)),
            ..InsightAnswer::default()
        }
    }

    fn page(insights: &[InsightAnswer]) -> InsightPage {
        InsightPage {
            insights: insights.to_vec(),
            ..InsightPage::default()
        }
    }

    fn ids(store: &Store, filter: &InsightFilter) -> Vec<String> {
        let mut ids = Vec::new();
        store
            .insights(filter, 100, 0, &mut |insight| ids.push(insight.id))
            .unwrap();
        ids
    }

    /// A map of the time 100: 001 is the first of each kind here.
    fn with_names() -> Store {
        let mut store = Store::for_tests();
        let inventory = inventory_of(&[("a", &["api", "deployment_001"]), ("b", &["api"])]);
        store.save_inventory(&inventory, time(100)).unwrap();
        store
    }

    #[test]
    fn names_come_in_when_it_is_read() {
        let mut store = with_names();
        let told = InsightAnswer {
            title: "deployment_002 beside deployment_001".to_owned(),
            description: "deployment_0021 in namespace_002, my_deployment_001".to_owned(),
            recommendation: "see namespace_001/deployment_001-x and deployment_999".to_owned(),
            affected_resources: ["deployment_001", "namespace_002", "deployment_999", "pod x"]
                .map(str::to_owned)
                .to_vec(),
            ..answer("one", 100)
        };
        store.save_insights(&page(&[told]), time(300)).unwrap();
        let insight = store.insight("one").unwrap().unwrap();
        assert_eq!(insight.title, "deployment_001 beside api");
        assert_eq!(
            insight.description,
            "deployment_0021 in b, my_deployment_001"
        );
        assert_eq!(insight.recommendation, "see a/api-x and deployment_999");
        assert_eq!(
            insight.affected_resources,
            ["a/deployment/api", "b", "deployment_999", "pod x"]
        );
        assert_eq!(
            serde_json::to_string(&insight.resources).unwrap(),
            concat!(
                r#"[{"id":"deployment_001","kind":"deployment","namespace":"a","name":"api","resolved":true},"#,
                r#"{"id":"namespace_002","kind":"namespace","namespace":"","name":"b","resolved":true},"#,
                r#"{"id":"deployment_999","kind":"deployment","namespace":null,"name":null,"resolved":false},"#,
                r#"{"id":"pod x","kind":null,"namespace":null,"name":null,"resolved":false}]"#
            )
        );
        // What is kept has no name.
        let raw: String = store
            .connection
            .query_row("SELECT title FROM insight", [], |row| row.get(0))
            .unwrap();
        assert_eq!(raw, "deployment_002 beside deployment_001");
        assert!(store.insight("other").unwrap().is_none());
    }

    #[test]
    fn fields_stand_in_the_order_of_the_contract() {
        let mut store = with_names();
        store
            .save_insights(&page(&[answer("one", 200)]), time(300))
            .unwrap();
        let insight = store.insight("one").unwrap().unwrap();
        assert_eq!(
            serde_json::to_string(&insight).unwrap(),
            concat!(
                r#"{"id":"one","severity":"warning","category":"","title":"","description":"","#,
                r#""recommendation":"","createdAt":"1970-01-01T00:00:00.200Z","#,
                r#""receivedAt":"1970-01-01T00:00:00.300Z","state":"open","affectedResources":[],"#,
                r#""resources":[]}"#
            )
        );
    }

    #[test]
    fn what_is_older_than_the_map_stays_as_it_is() {
        let mut store = with_names();
        let told = |id: &str, created_at| InsightAnswer {
            title: "deployment_001".to_owned(),
            affected_resources: vec!["deployment_001".to_owned()],
            created_at,
            ..answer(id, 0)
        };
        let insights = [
            told("older", Some(time(99))),
            told("as old", Some(time(100))),
            told("unknown", None),
        ];
        store.save_insights(&page(&insights), time(300)).unwrap();
        for (id, resolved) in [("older", false), ("as old", true), ("unknown", false)] {
            let insight = store.insight(id).unwrap().unwrap();
            assert_eq!(insight.resources[0].resolved, resolved, "{id}");
            let shown = if resolved { "api" } else { "deployment_001" };
            assert_eq!(insight.title, shown, "{id}");
        }
        let of_namespace = InsightFilter {
            namespace: Some("a".to_owned()),
            ..InsightFilter::default()
        };
        assert_eq!(ids(&store, &of_namespace), ["as old"]);
    }

    #[test]
    fn what_is_gone_or_left_out_still_has_its_name() {
        let mut store = with_names();
        // Namespace a is excluded from now on, and b/api was removed.
        store
            .save_inventory(&inventory_of(&[("b", &[])]), time(200))
            .unwrap();
        let told = InsightAnswer {
            affected_resources: vec!["deployment_001".to_owned(), "deployment_003".to_owned()],
            ..answer("one", 250)
        };
        store.save_insights(&page(&[told]), time(300)).unwrap();
        let insight = store.insight("one").unwrap().unwrap();
        assert_eq!(
            insight.affected_resources,
            ["a/deployment/api", "b/deployment/api"]
        );
    }

    #[test]
    fn they_are_listed_by_severity_and_age_and_can_be_narrowed() {
        let mut store = with_names();
        let told =
            |id: &str, severity: &str, category: &str, created_at, affected: &str| InsightAnswer {
                severity: severity.to_owned(),
                category: category.to_owned(),
                affected_resources: vec![affected.to_owned()],
                ..answer(id, created_at)
            };
        let insights = [
            told("i1", "info", "cost", 150, "namespace_001"),
            told("w1", "warning", "cost", 110, "deployment_001"),
            told("w2", "unheard-of", "security", 120, "deployment_003"),
            told("c1", "critical", "security", 105, "deployment_003"),
            told("c2", "high", "security", 104, "cronjob_001"),
            // Its time is not to be believed: it is as new as its coming.
            told("w3", "medium", "cost", i64::MAX, "deployment_001"),
        ];
        store.save_insights(&page(&insights), time(130)).unwrap();
        let everything = InsightFilter::default();
        assert_eq!(
            ids(&store, &everything),
            ["c1", "c2", "w3", "w2", "w1", "i1"]
        );
        let mut some = Vec::new();
        let total = store
            .insights(&everything, 2, 3, &mut |insight| some.push(insight.id))
            .unwrap();
        assert_eq!((total, some), (6, vec!["w2".to_owned(), "w1".to_owned()]));

        let text = |text: &str| Some(text.to_owned());
        for (filter, expected) in [
            (
                InsightFilter {
                    severities: vec!["info".to_owned(), "critical".to_owned()],
                    ..InsightFilter::default()
                },
                vec!["c1", "i1"],
            ),
            (
                InsightFilter {
                    severities: vec!["warn".to_owned()],
                    ..InsightFilter::default()
                },
                vec![],
            ),
            (
                InsightFilter {
                    category: text("cost"),
                    ..InsightFilter::default()
                },
                vec!["w3", "w1", "i1"],
            ),
            (
                InsightFilter {
                    namespace: text("a"),
                    ..InsightFilter::default()
                },
                vec!["w3", "w1", "i1"],
            ),
            (
                InsightFilter {
                    namespace: text("b"),
                    since: Some(time(106)),
                    ..InsightFilter::default()
                },
                vec!["w2"],
            ),
            (
                InsightFilter {
                    state: Some(InsightState::Dismissed),
                    ..InsightFilter::default()
                },
                vec![],
            ),
        ] {
            assert_eq!(ids(&store, &filter), expected, "{filter:?}");
        }
        let counts = store.insight_counts().unwrap();
        let expected = InsightCounts {
            total: 6,
            unacknowledged: 6,
            critical: 2,
            warning: 3,
            info: 1,
        };
        assert_eq!(counts, expected);
        let state = InsightState::Dismissed;
        store.set_insight_state("c1", state, time(131)).unwrap();
        let dismissed = InsightFilter {
            state: Some(state),
            ..everything
        };
        assert_eq!(ids(&store, &dismissed), ["c1"]);
        let counts = store.insight_counts().unwrap();
        assert_eq!(
            counts,
            InsightCounts {
                unacknowledged: 5,
                ..expected
            }
        );
    }

    #[test]
    fn listing_does_not_sort() {
        let store = Store::for_tests();
        let order = " ORDER BY rank, at DESC, id LIMIT ?6 OFFSET ?7";
        let plan = store.plan_of(&[COLUMNS, FILTER, order].concat());
        assert!(
            plan.contains("insight_order") && !plan.contains("B-TREE"),
            "{plan}"
        );
    }

    #[test]
    fn the_same_again_changes_nothing_and_other_contents_keep_the_state() {
        let mut store = with_names();
        let told = InsightAnswer {
            title: "one".to_owned(),
            affected_resources: vec!["deployment_001".to_owned()],
            ..answer("one", 200)
        };
        let first = page(&[told.clone(), answer("two", 200)]);
        assert_eq!(
            store.save_insights(&first, time(300)).unwrap(),
            Saved { new: 2 }
        );
        store
            .set_insight_state("one", InsightState::Dismissed, time(301))
            .unwrap();
        assert_eq!(
            store.save_insights(&first, time(302)).unwrap(),
            Saved { new: 0 }
        );

        let changed = InsightAnswer {
            title: "other".to_owned(),
            severity: "critical".to_owned(),
            affected_resources: vec!["deployment_003".to_owned()],
            ..answer("one", 250)
        };
        let saved = store.save_insights(&page(&[changed]), time(400)).unwrap();
        assert_eq!(saved, Saved { new: 0 });
        let insight = store.insight("one").unwrap().unwrap();
        assert_eq!(insight.title, "other");
        assert_eq!(insight.state, InsightState::Dismissed);
        assert_eq!(insight.received_at, time(300));
        assert_eq!(insight.created_at, Some(time(250)));
        assert_eq!(insight.affected_resources, ["b/deployment/api"]);
        assert_eq!(store.insight_counts().unwrap().critical, 1);
        let in_a = InsightFilter {
            namespace: Some("a".to_owned()),
            ..InsightFilter::default()
        };
        assert_eq!(ids(&store, &in_a), Vec::<String>::new());
    }

    #[test]
    fn a_page_that_brings_nothing_new_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kube9.db");
        let (mut store, _) = Store::open(&path).unwrap();
        let other = Store::open_read_only(&path).unwrap();
        let told = page(&[answer("one", 200), answer("two", 100)]);
        store.save_insights(&told, time(300)).unwrap();
        let before = other.data_version().unwrap();
        store.save_insights(&told, time(400)).unwrap();
        store.save_insights(&page(&[]), time(500)).unwrap();
        assert_eq!(other.data_version().unwrap(), before);
        let newer = page(&[answer("one", 201), answer("two", 100)]);
        store.save_insights(&newer, time(600)).unwrap();
        assert_ne!(other.data_version().unwrap(), before);
    }

    #[test]
    fn of_two_under_one_id_the_last_counts() {
        let mut store = Store::for_tests();
        let told = |title: &str| InsightAnswer {
            title: title.to_owned(),
            ..answer("one", 200)
        };
        let told = page(&[told("first"), answer("two", 200), told("last")]);
        assert_eq!(
            store.save_insights(&told, time(300)).unwrap(),
            Saved { new: 2 }
        );
        assert_eq!(store.insight("one").unwrap().unwrap().title, "last");
        assert_eq!(store.insight_counts().unwrap().total, 2);
    }

    #[test]
    fn the_cursor_follows_the_newest_but_never_beyond_now() {
        let mut store = Store::for_tests();
        let since = |store: &Store, now| store.since(time(now)).unwrap().as_millis();
        let now = 100 * HOUR;
        assert_eq!(since(&store, now), 0);
        let mut save = |insights: &[InsightAnswer], now| {
            store.save_insights(&page(insights), time(now)).unwrap();
            since(&store, now)
        };
        let undated = InsightAnswer {
            created_at: None,
            ..answer("undated", 0)
        };
        assert_eq!(save(&[], now), 0);
        assert_eq!(save(&[undated], now), 0);
        assert_eq!(save(&[answer("old", 10)], now), 0, "not before 1970");
        let told = [answer("a", 50 * HOUR), answer("b", 20 * HOUR)];
        assert_eq!(save(&told, now), 49 * HOUR);
        assert_eq!(save(&[answer("c", 30 * HOUR)], now), 49 * HOUR);
        let year_9999 = Time::parse("9999-12-30T00:00:00Z").unwrap();
        assert_eq!(save(&[answer("d", year_9999.as_millis())], now), 99 * HOUR);
        assert_eq!(save(&[], now + HOUR), 99 * HOUR);
        // The clock was ahead, and is set right: what comes from now on is asked for.
        assert_eq!(since(&store, 60 * HOUR), 59 * HOUR);
        store
            .save_insights(&page(&[answer("e", 58 * HOUR)]), time(60 * HOUR))
            .unwrap();
        assert_eq!(since(&store, now), 59 * HOUR);
    }

    #[test]
    fn a_page_that_cannot_be_kept_changes_nothing() {
        let mut store = Store::for_tests();
        let told = page(&[answer("one", 10 * HOUR)]);
        store.save_insights(&told, time(20 * HOUR)).unwrap();
        store
            .connection
            .execute_batch(
                "CREATE TRIGGER full BEFORE INSERT ON insight WHEN new.id = 'b'
                 BEGIN SELECT raise(ABORT, 'disk full'); END",
            )
            .unwrap();
        let told = InsightPage {
            quota_remaining: Some(3),
            ..page(&["a", "b", "c"].map(|id| answer(id, 15 * HOUR)))
        };
        let error = store.save_insights(&told, time(21 * HOUR)).unwrap_err();
        assert!(error.to_string().contains("disk full"), "{error}");
        assert_eq!(ids(&store, &InsightFilter::default()), ["one"]);
        assert_eq!(store.since(time(21 * HOUR)).unwrap(), time(9 * HOUR));
        assert_eq!(store.quota(time(21 * HOUR)).unwrap().remaining, None);
    }

    #[test]
    fn the_oldest_go_first_but_after_those_that_users_are_done_with() {
        let mut store = Store::for_tests();
        let kept = i64::from(KEPT);
        let all: Vec<InsightAnswer> = (0..kept)
            .map(|number| InsightAnswer {
                affected_resources: vec![format!("deployment_{:03}", number + 1)],
                ..answer(&format!("i{number}"), number)
            })
            .collect();
        store.save_insights(&page(&all), time(kept)).unwrap();
        for id in ["i1500", "i1600"] {
            let state = InsightState::Acknowledged;
            store.set_insight_state(id, state, time(kept)).unwrap();
        }
        let more = ["x", "y", "z"].map(|id| answer(id, kept));
        store.save_insights(&page(&more), time(kept)).unwrap();
        assert_eq!(store.insight_counts().unwrap().total, u64::from(KEPT));
        for (id, there) in [
            ("i1500", false),
            ("i1600", false),
            ("i0", false),
            ("i1", true),
            ("x", true),
        ] {
            assert_eq!(store.insight(id).unwrap().is_some(), there, "{id}");
        }
        let links: i64 = store
            .connection
            .query_row("SELECT count(*) FROM insight_resource", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(links, kept - 3);
        // The server tells it again: the user is not asked again.
        store
            .save_insights(&page(&all[1500..1501]), time(kept))
            .unwrap();
        let again = store.insight("i1500").unwrap();
        assert!(again.is_none_or(|insight| insight.state == InsightState::Acknowledged));
        assert_eq!(
            store.unsent_acknowledgements(time(kept), 10).unwrap().len(),
            2
        );
    }
}
