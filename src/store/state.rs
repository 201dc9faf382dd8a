//! What must survive the loss of the database: it is kept in the cluster, too.

use rusqlite::{OptionalExtension as _, params};

use super::acknowledgements::{self, Acknowledgement};
use super::analyses::{self, Analysis, AnalysisState, Reason};
use super::link::Registration;
use super::names::Identity;
use super::quota::{self, QuotaWord};
use super::{Store, StoreError};
use crate::privacy::id::{Epoch, Kind, OpaqueId};
use crate::time::Time;

/// No map gets that far: what claims to would leave no numbers to give.
const MOST: u32 = 1 << 30;

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) identity: Identity,
    /// When the map was made.
    pub(crate) created_at: Time,
    /// The number each kind gave last.
    pub(crate) counters: Vec<(Kind, u32)>,
    /// By kind and number, so that namespaces may come after what is in them.
    pub(crate) names: Vec<MapName>,
    pub(crate) registration: Option<Registration>,
    /// What the server knows that users made of insights.
    pub(crate) sent: Vec<Acknowledgement>,
    /// What it does not know yet.
    pub(crate) unsent: Vec<Acknowledgement>,
    /// Those that are not finished.
    pub(crate) analyses: Vec<Analysis>,
    pub(crate) quota: Option<QuotaWord>,
}

/// One name of the map. There are thousands: a namespace is told by its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MapName {
    pub(crate) id: OpaqueId,
    /// 0 for a namespace.
    pub(crate) namespace: u32,
    pub(crate) name: Box<str>,
    pub(crate) first_seen: Time,
    /// Whether the last collection had it.
    pub(crate) present: bool,
}

impl Store {
    /// `None` before the first collection: there is nothing to go on with.
    pub(crate) fn export_state(&self) -> Result<Option<State>, StoreError> {
        let _snapshot = self.connection.unchecked_transaction()?;
        let Some(identity) = self.identity()? else {
            return Ok(None);
        };
        let created_at = super::names::map_created_at(&self.connection)?;
        Ok(Some(State {
            identity,
            created_at: Time::from_millis(created_at.unwrap_or(0)),
            counters: self.counters()?,
            names: self.map_names()?,
            registration: self.registration()?,
            sent: acknowledgements::all(&self.connection, true)?,
            unsent: acknowledgements::all(&self.connection, false)?,
            analyses: analyses::unfinished(&self.connection)?,
            quota: quota::export(&self.connection)?,
        }))
    }

    /// Goes on with what another database left; false, and nothing is changed, when this one has a
    /// map already.
    ///
    /// What contradicts itself in there is left out: one id is never given to two names, nor a
    /// second one to a name, and no number is given again.
    pub(crate) fn import_state(&mut self, state: &State) -> Result<bool, StoreError> {
        let transaction = self.immediate()?;
        let has_map: Option<i64> = transaction
            .query_row("SELECT 1 FROM map", [], |row| row.get(0))
            .optional()?;
        if has_map.is_some() {
            return Ok(false);
        }
        let Identity {
            cluster_id,
            epoch: Epoch(epoch),
        } = state.identity;
        transaction.execute(
            "INSERT INTO map (id, cluster_id, epoch, created_at) VALUES (1, ?1, ?2, ?3)",
            params![cluster_id.0, epoch, state.created_at.as_millis()],
        )?;
        self.import_names(&state.names)?;
        self.import_counters(&state.counters)?;
        if let Some(registration) = &state.registration {
            self.set_registration(Some(registration))?;
        }
        for (acks, sent) in [(&state.unsent, false), (&state.sent, true)] {
            for ack in acks {
                acknowledgements::restore(&transaction, ack, sent)?;
            }
        }
        for analysis in &state.analyses {
            // What was submitted is in the word on the quota.
            let charged = analysis.state == AnalysisState::Queued
                && analysis.reason != Some(Reason::QuotaExceeded);
            analyses::insert(&transaction, analysis, charged)?;
        }
        if let Some(word) = &state.quota {
            quota::restore(&transaction, word)?;
        }
        transaction.commit()?;
        Ok(true)
    }

    fn counters(&self) -> Result<Vec<(Kind, u32)>, StoreError> {
        let mut select = self
            .connection
            .prepare("SELECT kind, last FROM counter ORDER BY kind")?;
        let mut rows = select.query([])?;
        let mut counters = Vec::new();
        while let Some(row) = rows.next()? {
            let kind: String = row.get(0)?;
            if let Some(kind) = Kind::parse(&kind) {
                counters.push((kind, row.get(1)?));
            }
        }
        Ok(counters)
    }

    fn map_names(&self) -> Result<Vec<MapName>, StoreError> {
        let count: i64 = self
            .connection
            .query_row("SELECT count(*) FROM name", [], |row| row.get(0))?;
        let mut names = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        let mut select = self.connection.prepare(
            "SELECT name.kind, name.number, ifnull(around.number, 0), name.name, name.first_seen,
                 CASE name.kind
                     WHEN 'namespace' THEN EXISTS
                         (SELECT 1 FROM inventory_namespace AS there WHERE there.name = name.name)
                     ELSE EXISTS
                         (SELECT 1 FROM inventory_workload AS there WHERE there.kind = name.kind
                          AND there.namespace = name.namespace AND there.number = name.number)
                 END
             FROM name LEFT JOIN name AS around
                 ON around.kind = 'namespace' AND around.namespace = '' AND around.name = name.namespace
             ORDER BY name.kind, name.number",
        )?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let kind: String = row.get(0)?;
            if let Some(kind) = Kind::parse(&kind) {
                names.push(MapName {
                    id: OpaqueId {
                        kind,
                        number: row.get(1)?,
                    },
                    namespace: row.get(2)?,
                    name: row.get(3)?,
                    first_seen: Time::from_millis(row.get(4)?),
                    present: row.get(5)?,
                });
            }
        }
        Ok(names)
    }

    fn import_names(&self, names: &[MapName]) -> Result<(), StoreError> {
        let mut insert = self.connection.prepare(
            "INSERT INTO name (kind, number, namespace, name, first_seen)
             VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
        )?;
        // What is in a namespace needs the name of the namespace.
        let fits = |name: &&MapName| (1..=MOST).contains(&name.id.number);
        let is_namespace = |name: &&MapName| name.id.kind == Kind::Namespace;
        for name in names.iter().filter(fits).filter(is_namespace) {
            insert.execute(params![
                Kind::Namespace.as_str(),
                name.id.number,
                "",
                name.name,
                name.first_seen.as_millis()
            ])?;
        }
        let mut insert = self.connection.prepare(
            "INSERT INTO name (kind, number, namespace, name, first_seen)
             SELECT ?1, ?2, name, ?4, ?5 FROM name WHERE kind = 'namespace' AND number = ?3
             ON CONFLICT DO NOTHING",
        )?;
        for name in names.iter().filter(fits).filter(|name| !is_namespace(name)) {
            insert.execute(params![
                name.id.kind.as_str(),
                name.id.number,
                name.namespace,
                name.name,
                name.first_seen.as_millis()
            ])?;
        }
        Ok(())
    }

    /// The numbers given last; never less than a name has.
    fn import_counters(&self, counters: &[(Kind, u32)]) -> Result<(), StoreError> {
        self.connection.execute(
            "INSERT INTO counter (kind, last) SELECT kind, max(number) FROM name GROUP BY kind",
            [],
        )?;
        let mut raise = self.connection.prepare(
            "INSERT INTO counter (kind, last) VALUES (?1, ?2)
             ON CONFLICT (kind) DO UPDATE SET last = max(last, excluded.last)",
        )?;
        for (kind, last) in counters.iter().filter(|(_, last)| *last <= MOST) {
            raise.execute(params![kind.as_str(), last])?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::{InsightFilter, NewAnalysis, Target};
    use super::*;
    use crate::api_key::ApiKey;
    use crate::cluster::{WorkloadKind, inventory_of, inventory_of_jobs};
    use crate::privacy::id::{ClusterId, GivenId, Uuid};
    use crate::server::{InsightAnswer, InsightPage, InsightState, QuotaAnswer};

    const DEPLOYMENT: Kind = Kind::Workload(WorkloadKind::Deployment);

    fn time(millis: i64) -> Time {
        Time::from_millis(millis)
    }

    /// Something that happens to an agent.
    #[derive(Clone, Debug)]
    enum Event {
        Collect(Vec<(u8, Vec<u8>)>),
        CollectJobs(u8, Vec<u8>),
        Assign(u8, u8),
        Register(bool),
        Receive(Vec<u8>),
        Judge(u8, bool),
        Tell(u32),
        Request(u8),
        Submit,
        Quota(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let names = || vec(0..12_u8, 0..8);
        prop_oneof![
            3 => vec((0..5_u8, names()), 0..4).prop_map(Event::Collect),
            1 => (0..5_u8, names()).prop_map(|(namespace, jobs)| Event::CollectJobs(namespace, jobs)),
            1 => (0..8_u8, 0..20_u8).prop_map(|(namespace, name)| Event::Assign(namespace, name)),
            1 => any::<bool>().prop_map(Event::Register),
            2 => names().prop_map(Event::Receive),
            2 => (0..12_u8, any::<bool>()).prop_map(|(id, dismiss)| Event::Judge(id, dismiss)),
            1 => (0..4_u32).prop_map(Event::Tell),
            2 => (0..12_u8).prop_map(Event::Request),
            1 => Just(Event::Submit),
            1 => (0..9_u64).prop_map(Event::Quota),
        ]
    }

    fn namespace(number: u8) -> String {
        // One has the name of a workload, others look like ids.
        match number {
            0 => "w1".to_owned(),
            number => format!("namespace_{number:03}"),
        }
    }

    fn sorted(names: &[u8]) -> Vec<String> {
        let mut names: Vec<String> = names.iter().map(|name| format!("w{name}")).collect();
        names.sort();
        names.dedup();
        names
    }

    fn collect(store: &mut Store, namespaces: &[(u8, Vec<u8>)], now: Time) {
        let named: BTreeMap<String, Vec<String>> = namespaces
            .iter()
            .map(|(number, names)| (namespace(*number), sorted(names)))
            .collect();
        let named: Vec<(&str, Vec<&str>)> = named
            .iter()
            .map(|(name, names)| (&**name, names.iter().map(|name| &**name).collect()))
            .collect();
        let named: Vec<(&str, &[&str])> = named
            .iter()
            .map(|(name, names)| (*name, &**names))
            .collect();
        store.save_inventory(&inventory_of(&named), now).unwrap();
    }

    fn happen(store: &mut Store, event: &Event, now: Time) {
        match event {
            Event::Collect(namespaces) => collect(store, namespaces, now),
            Event::CollectJobs(number, jobs) => {
                let jobs = sorted(jobs);
                let jobs: Vec<&str> = jobs.iter().map(|job| &**job).collect();
                let inventory = inventory_of_jobs(&namespace(*number), &jobs);
                store.save_inventory(&inventory, now).unwrap();
            }
            Event::Assign(number, name) => {
                let name = format!("w{name}");
                store
                    .assign_id(DEPLOYMENT, &namespace(*number), &name, now)
                    .unwrap();
            }
            Event::Register(named) => {
                let Some(identity) = store.identity().unwrap() else {
                    return;
                };
                let given = ClusterId::Given(GivenId::parse("cls_1").unwrap());
                let own = ClusterId::Own(identity.cluster_id);
                let registration = Registration {
                    cluster_id: if *named { given } else { own },
                    key: ApiKey::parse("key").unwrap().fingerprint(b""),
                    registered_at: now,
                    next_at: now,
                };
                store.set_registration(Some(&registration)).unwrap();
            }
            Event::Receive(ids) => {
                let insights = ids.iter().map(|id| InsightAnswer {
                    id: format!("i{id}"),
                    affected_resources: vec![format!("deployment_{id:03}")],
                    created_at: Some(now),
                    ..InsightAnswer::default()
                });
                let page = InsightPage {
                    insights: insights.collect(),
                    ..InsightPage::default()
                };
                store.save_insights(&page, now).unwrap();
            }
            Event::Judge(id, dismiss) => {
                let state = if *dismiss {
                    InsightState::Dismissed
                } else {
                    InsightState::Acknowledged
                };
                store
                    .set_insight_state(&format!("i{id}"), state, now)
                    .unwrap();
            }
            Event::Tell(count) => {
                for ack in store.unsent_acknowledgements(now, *count).unwrap() {
                    store.acknowledgement_done(&ack).unwrap();
                }
            }
            Event::Request(name) => {
                let new = NewAnalysis {
                    request_id: Uuid::random().unwrap(),
                    target: Target {
                        kind: DEPLOYMENT,
                        namespace: namespace(name % 5),
                        name: format!("w{name}"),
                    },
                };
                store.request_analysis(&new, true, now).unwrap();
            }
            Event::Submit => {
                let mut queued = Vec::new();
                store
                    .analyses(Some(AnalysisState::Queued), 1, 0, &mut |analysis| {
                        queued.push(analysis.request_id);
                    })
                    .unwrap();
                for id in queued {
                    store.analysis_submitted(id, now).unwrap();
                }
            }
            Event::Quota(remaining) => {
                let answer = QuotaAnswer {
                    limit: Some(8),
                    remaining: Some(*remaining),
                    ..QuotaAnswer::default()
                };
                store.set_quota(&answer, now).unwrap();
            }
        }
    }

    fn names(store: &Store) -> Vec<(OpaqueId, String, String, Time)> {
        let mut names = Vec::new();
        store
            .each_name(None, |known| {
                names.push((known.id, known.namespace, known.name, known.first_seen));
            })
            .unwrap();
        names
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn another_agent_goes_on_where_this_one_was(
            before in vec(event(), 1..25),
            after in vec(event(), 0..10),
        ) {
            let mut old = Store::for_tests();
            let minute = 60_000;
            for (at, event) in (1..).zip(&before) {
                happen(&mut old, event, time(at * minute));
            }
            let exported = old.export_state().unwrap();
            let Some(state) = exported else {
                prop_assert_eq!(old.identity().unwrap(), None);
                return Ok(());
            };
            let mut new = Store::for_tests();
            prop_assert!(new.import_state(&state).unwrap());
            prop_assert!(!new.import_state(&state).unwrap(), "once is enough");
            prop_assert_eq!(names(&new), names(&old));
            let mut again = new.export_state().unwrap().unwrap();
            for (name, before) in again.names.iter_mut().zip(&state.names) {
                prop_assert!(!name.present, "nothing was collected here");
                name.present = before.present;
            }
            prop_assert_eq!(&again, &state);
            let now = time(30 * minute);
            prop_assert_eq!(
                new.unsent_acknowledgements(now, 99).unwrap(),
                old.unsent_acknowledgements(now, 99).unwrap()
            );
            let due = |store: &Store| -> Vec<Uuid> {
                let due = store.due_analyses(now, 99).unwrap();
                due.iter().map(|analysis| analysis.request_id).collect()
            };
            prop_assert_eq!(due(&new), due(&old));
            prop_assert_eq!(new.quota(now).unwrap().remaining, old.quota(now).unwrap().remaining);

            // Both see the same from here on, and give the same ids.
            // Insights are not in the state: they are pulled again.
            let pull = Event::Receive((0..12).collect());
            let all: Vec<Event> = std::iter::once(pull).chain(after).collect();
            for (at, event) in (31..).zip(&all) {
                if matches!(event, Event::Request(_)) {
                    continue; // Drawn at random.
                }
                happen(&mut old, event, time(at * minute));
                happen(&mut new, event, time(at * minute));
            }
            prop_assert_eq!(names(&new), names(&old));
            let states = |store: &Store| {
                let mut states = Vec::new();
                store
                    .insights(&InsightFilter::default(), 99, 0, &mut |insight| {
                        states.push((insight.id, insight.state.as_str(), insight.affected_resources));
                    })
                    .unwrap();
                states.sort();
                states
            };
            let (of_new, of_old) = (states(&new), states(&old));
            prop_assert_eq!(of_new.len(), 12);
            prop_assert_eq!(of_new, of_old);
        }
    }

    fn state_of(names: Vec<MapName>, counters: Vec<(Kind, u32)>) -> State {
        let mut store = Store::for_tests();
        store.save_inventory(&inventory_of(&[]), time(1)).unwrap();
        State {
            counters,
            names,
            ..store.export_state().unwrap().unwrap()
        }
    }

    fn map_name(id: &str, namespace: u32, name: &str) -> MapName {
        MapName {
            id: OpaqueId::parse(id).unwrap(),
            namespace,
            name: name.into(),
            first_seen: time(5),
            present: true,
        }
    }

    #[test]
    fn a_state_that_contradicts_itself_gives_no_id_twice() {
        let state = state_of(
            vec![
                map_name("deployment_002", 1, "api"),
                map_name("deployment_002", 1, "web"),
                map_name("deployment_003", 1, "api"),
                map_name("deployment_004", 7, "nowhere"),
                map_name("deployment_009", 1, "last"),
                map_name("job_4294967295", 1, "most"),
                map_name("namespace_000", 0, "none"),
                map_name("namespace_001", 0, "a"),
                map_name("namespace_002", 0, "a"),
                map_name("namespace_001", 0, "b"),
            ],
            vec![(DEPLOYMENT, 3), (Kind::Namespace, u32::MAX)],
        );
        let mut store = Store::for_tests();
        assert!(store.import_state(&state).unwrap());
        let lines = |store: &Store| -> Vec<String> {
            names(store)
                .into_iter()
                .map(|(id, namespace, name, _)| format!("{id} {namespace}/{name}"))
                .collect()
        };
        assert_eq!(
            lines(&store),
            [
                "deployment_002 a/api",
                "deployment_009 a/last",
                "namespace_001 /a"
            ]
        );
        let inventory = inventory_of(&[("a", &["api", "web"]), ("b", &[])]);
        store.save_inventory(&inventory, time(9)).unwrap();
        assert_eq!(
            lines(&store),
            [
                "deployment_002 a/api",
                "deployment_009 a/last",
                "deployment_010 a/web",
                "namespace_001 /a",
                "namespace_002 /b",
            ]
        );
    }

    #[test]
    fn numbers_of_names_that_were_left_out_are_not_given_again() {
        let state = state_of(
            vec![map_name("namespace_001", 0, "a")],
            vec![(DEPLOYMENT, 41)],
        );
        let mut store = Store::for_tests();
        assert!(store.import_state(&state).unwrap());
        store
            .save_inventory(&inventory_of(&[("a", &["api"])]), time(9))
            .unwrap();
        let id = store.id_of(DEPLOYMENT, "a", "api").unwrap().unwrap();
        assert_eq!(id.to_string(), "deployment_042");
        assert_eq!(store.identity().unwrap(), Some(state.identity));
    }

    #[test]
    fn a_map_that_has_begun_is_not_replaced() {
        let state = state_of(vec![map_name("namespace_007", 0, "a")], Vec::new());
        let mut store = Store::for_tests();
        assert_eq!(store.export_state().unwrap(), None);
        store
            .save_inventory(&inventory_of(&[("a", &[])]), time(9))
            .unwrap();
        let before = store.export_state().unwrap();
        assert!(!store.import_state(&state).unwrap());
        assert_eq!(store.export_state().unwrap(), before);
    }

    #[test]
    fn what_could_not_be_taken_over_in_full_is_not_taken_over() {
        let state = state_of(vec![map_name("namespace_007", 0, "a")], Vec::new());
        let mut store = Store::for_tests();
        store
            .connection
            .execute_batch(
                "CREATE TRIGGER full BEFORE INSERT ON counter
                 BEGIN SELECT raise(ABORT, 'disk full'); END",
            )
            .unwrap();
        store.import_state(&state).unwrap_err();
        assert_eq!(store.export_state().unwrap(), None);
        assert_eq!(names(&store), []);
    }

    /// It is written to the cluster whenever it is another.
    #[test]
    fn an_hour_in_which_nothing_happens_leaves_it_as_it_is() {
        let mut store = Store::for_tests();
        let hour = 60 * 60 * 1000;
        let quota = |store: &mut Store, remaining, now| {
            let answer = QuotaAnswer {
                limit: Some(24),
                remaining: Some(remaining),
                ..QuotaAnswer::default()
            };
            store.set_quota(&answer, time(now)).unwrap();
        };
        happen(&mut store, &Event::Collect(vec![(1, vec![1])]), time(1));
        happen(&mut store, &Event::Request(1), time(2));
        quota(&mut store, 20, 3);
        let queued = store.export_state().unwrap().unwrap();
        assert_eq!(queued.analyses.len(), 1);

        // It cannot be sent.
        let id = queued.analyses[0].request_id;
        let reason = Reason::ServerUnreachable;
        store
            .analysis_queued(id, reason, time(hour), "no answer")
            .unwrap();
        let waiting = store.export_state().unwrap().unwrap();
        assert_eq!(waiting.analyses[0].reason, Some(reason));
        store
            .analysis_queued(id, reason, time(2 * hour), "no answer")
            .unwrap();
        happen(&mut store, &Event::Collect(vec![(1, vec![1])]), time(hour));
        quota(&mut store, 20, hour);
        assert_eq!(store.export_state().unwrap().unwrap(), waiting);

        // It was, and the server has counted it when it is asked again.
        store.analysis_submitted(id, time(hour + 1)).unwrap();
        let submitted = store.export_state().unwrap().unwrap();
        assert_eq!(submitted.quota.unwrap().remaining, Some(19));
        quota(&mut store, 19, 2 * hour);
        assert_eq!(store.export_state().unwrap().unwrap(), submitted);
    }

    /// 10,000 names are less than a MiB with their texts.
    #[test]
    fn a_name_is_small() {
        assert!(size_of::<MapName>() <= 48, "{}", size_of::<MapName>());
    }
}
