//! The map of names: which opaque id stands for which namespace or workload. It never leaves the
//! cluster.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::{Connection, OptionalExtension as _, Row, Statement, Transaction, params};

use super::{Store, StoreError};
use crate::cluster::{Inventory, WorkloadKind};
use crate::privacy::id::{Epoch, Kind, OpaqueId, Uuid};
use crate::time::Time;

/// How long the name of a Job that is gone keeps its id.
const JOB_NAMES_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// One line of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) id: OpaqueId,
    /// Empty for a namespace.
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) first_seen: Time,
}

/// What identifies a map and the cluster it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// What the agent calls the cluster.
    pub(crate) cluster_id: Uuid,
    pub(crate) epoch: Epoch,
}

impl Store {
    /// The map's identity; `None` before the first collection.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, StoreError> {
        let identity = self
            .connection
            .query_row("SELECT cluster_id, epoch FROM map", [], |row| {
                let drawn = Uuid(row.get(0)?);
                Ok(Identity {
                    // As everybody else reads it, to the last bit.
                    cluster_id: Uuid::parse(&drawn.to_string()).unwrap_or(drawn),
                    epoch: Epoch(row.get(1)?),
                })
            })
            .optional()?;
        Ok(identity)
    }

    /// Hands out the map, by kind and number; of one kind, or of all.
    pub(crate) fn each_name(
        &self,
        kind: Option<Kind>,
        mut visit: impl FnMut(Known),
    ) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT kind, number, namespace, name, first_seen FROM name
             WHERE ?1 IS NULL OR kind = ?1 ORDER BY kind, number",
        )?;
        let mut rows = statement.query([kind.map(Kind::as_str)])?;
        while let Some(row) = rows.next()? {
            if let Some(known) = known(row)? {
                visit(known);
            }
        }
        Ok(())
    }

    /// Whom an id stands for.
    #[cfg(test)]
    pub(crate) fn name_of(&self, id: OpaqueId) -> Result<Option<Known>, StoreError> {
        Ok(Lookup::new(&self.connection)?.find(id)?)
    }

    /// Under which id something is known; its namespace is empty for a namespace.
    pub(crate) fn id_of(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<OpaqueId>, StoreError> {
        let number = self
            .connection
            .query_row(
                "SELECT number FROM name WHERE kind = ?1 AND namespace = ?2 AND name = ?3",
                [kind.as_str(), namespace, name],
                |row| row.get(0),
            )
            .optional()?;
        Ok(number.map(|number| OpaqueId { kind, number }))
    }

    /// The id of something that is there but may be newer than the last collection: it gets one now,
    /// and so does its namespace. `None` before the first collection: only the agent begins a map,
    /// since it may have an older one to go on with.
    pub(crate) fn assign_id(
        &mut self,
        kind: Kind,
        namespace: &str,
        name: &str,
        now: Time,
    ) -> Result<Option<OpaqueId>, StoreError> {
        let known = self.id_of(kind, namespace, name)?;
        if known.is_some() || self.identity()?.is_none() {
            return Ok(known);
        }
        let transaction = self.immediate()?;
        let mut names = Names::new(&transaction)?;
        if kind != Kind::Namespace {
            names.see(Kind::Namespace, "", namespace, now)?;
        }
        names.see(kind, namespace, name, now)?;
        drop(names);
        transaction.commit()?;
        self.id_of(kind, namespace, name)
    }
}

/// Finds names by their ids.
pub(super) struct Lookup<'connection>(Statement<'connection>);

impl<'connection> Lookup<'connection> {
    pub(super) fn new(connection: &'connection Connection) -> rusqlite::Result<Self> {
        let statement = connection.prepare(
            "SELECT kind, number, namespace, name, first_seen FROM name
             WHERE kind = ?1 AND number = ?2",
        )?;
        Ok(Self(statement))
    }

    pub(super) fn find(&mut self, id: OpaqueId) -> rusqlite::Result<Option<Known>> {
        let mut rows = self.0.query((id.kind.as_str(), id.number))?;
        match rows.next()? {
            Some(row) => known(row),
            None => Ok(None),
        }
    }
}

/// Reads a line of the map; `None` for a kind of another version.
fn known(row: &Row<'_>) -> rusqlite::Result<Option<Known>> {
    let kind: String = row.get(0)?;
    let Some(kind) = Kind::parse(&kind) else {
        return Ok(None);
    };
    Ok(Some(Known {
        id: OpaqueId {
            kind,
            number: row.get(1)?,
        },
        namespace: row.get(2)?,
        name: row.get(3)?,
        first_seen: Time::from_millis(row.get(4)?),
    }))
}

/// Gives numbers to names.
struct Names<'connection> {
    known: Statement<'connection>,
    count: Statement<'connection>,
    insert: Statement<'connection>,
}

impl<'connection> Names<'connection> {
    fn new(connection: &'connection Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            known: connection
                .prepare("SELECT 1 FROM name WHERE kind = ?1 AND namespace = ?2 AND name = ?3")?,
            count: connection.prepare(
                "INSERT INTO counter (kind, last) VALUES (?1, 1)
                 ON CONFLICT (kind) DO UPDATE SET last = last + 1 RETURNING last",
            )?,
            insert: connection.prepare(
                "INSERT INTO name (kind, namespace, name, number, first_seen)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
        })
    }

    /// Gives a name the next number of its kind, unless it has one.
    fn see(&mut self, kind: Kind, namespace: &str, name: &str, now: Time) -> rusqlite::Result<()> {
        let kind = kind.as_str();
        if self.known.exists(params![kind, namespace, name])? {
            return Ok(());
        }
        let number: u32 = self.count.query_row([kind], |row| row.get(0))?;
        self.insert
            .execute(params![kind, namespace, name, number, now.as_millis()])?;
        Ok(())
    }
}

/// When the map was made; `None` before the first collection.
pub(super) fn map_created_at(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection
        .query_row("SELECT created_at FROM map", [], |row| row.get(0))
        .optional()
}

/// Gives an id to every name of the inventory that has none yet, in the inventory's order. A name
/// keeps its id for the life of the map, also while there is nothing of that name.
pub(super) fn assign(
    transaction: &Transaction<'_>,
    inventory: &Inventory,
    now: Time,
) -> Result<(), StoreError> {
    begin_map(transaction, now)?;
    let mut names = Names::new(transaction)?;
    for (namespace, figures) in inventory.namespaces() {
        names.see(Kind::Namespace, "", namespace, now)?;
        for workload in figures.workloads() {
            let kind = Kind::Workload(workload.kind());
            names.see(kind, namespace, workload.name(), now)?;
        }
    }
    Ok(())
}

/// Forgets the names of Jobs that are gone, [`JOB_NAMES_KEPT`] after they were first seen. The
/// names of one-off Jobs are generated and never come again, thousands a day in some clusters;
/// their numbers are not given again either.
pub(super) fn forget_old_jobs(transaction: &Transaction<'_>, now: Time) -> rusqlite::Result<()> {
    let kept = i64::try_from(JOB_NAMES_KEPT.as_millis()).unwrap_or(i64::MAX);
    transaction.execute(
        "DELETE FROM name WHERE kind = ?1 AND first_seen < ?2 AND NOT EXISTS
             (SELECT 1 FROM inventory_workload AS there WHERE there.kind = name.kind
              AND there.namespace = name.namespace AND there.number = name.number)",
        params![
            WorkloadKind::Job.as_str(),
            now.as_millis().saturating_sub(kept)
        ],
    )?;
    Ok(())
}

/// Draws the identity of a new map. Without randomness there is no map, and no id that could be
/// taken for another map's.
fn begin_map(transaction: &Transaction<'_>, now: Time) -> Result<(), StoreError> {
    let mut random = [[0; 16]; 2];
    for bytes in &mut random {
        SystemRandom::new()
            .fill(bytes)
            .map_err(|_| StoreError::NoRandomness)?;
    }
    let [cluster_id, epoch] = random;
    transaction.execute(
        "INSERT INTO map (id, cluster_id, epoch, created_at) VALUES (1, ?1, ?2, ?3)
         ON CONFLICT DO NOTHING",
        params![cluster_id, epoch, now.as_millis()],
    )?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::{inventory_of, inventory_of_jobs};
    use crate::privacy::Detail;

    fn store() -> Store {
        Store::for_tests()
    }

    fn ids(store: &Store) -> Vec<String> {
        let mut ids = Vec::new();
        store
            .each_name(None, |known| {
                ids.push(format!("{} {}/{}", known.id, known.namespace, known.name));
            })
            .unwrap();
        ids
    }

    #[test]
    fn a_name_keeps_its_id_also_while_it_is_gone() {
        let mut store = store();
        assert_eq!(store.identity().unwrap(), None);
        let save = |store: &mut Store, names: &[(&str, &[&str])], at| {
            store
                .save_inventory(&inventory_of(names), Time::from_millis(at))
                .unwrap();
        };
        save(&mut store, &[("b", &["web"]), ("c", &["web"])], 1);
        let identity = store.identity().unwrap().unwrap();
        save(
            &mut store,
            &[("a", &["api", "deployment_001"]), ("c", &[])],
            2,
        );
        save(&mut store, &[("b", &["web"]), ("z", &["web"])], 3);
        assert_eq!(store.identity().unwrap(), Some(identity));
        assert_eq!(
            ids(&store),
            [
                "deployment_001 b/web",
                "deployment_002 c/web",
                "deployment_003 a/api",
                "deployment_004 a/deployment_001",
                "deployment_005 z/web",
                "namespace_001 /b",
                "namespace_002 /c",
                "namespace_003 /a",
                "namespace_004 /z",
            ]
        );
    }

    #[test]
    fn jobs_that_are_gone_are_forgotten_but_their_numbers_are_not() {
        let mut store = store();
        let week = i64::try_from(JOB_NAMES_KEPT.as_millis()).unwrap();
        for (jobs, at) in [
            (["one", "two"].as_slice(), 0),
            (&["two"], week),
            (&["two"], week + 1),
            (&["one"], week + 2),
        ] {
            let inventory = inventory_of_jobs("a", jobs);
            store
                .save_inventory(&inventory, Time::from_millis(at))
                .unwrap();
            if at == week {
                assert_eq!(
                    ids(&store),
                    ["job_001 a/one", "job_002 a/two", "namespace_001 /a"]
                );
            }
        }
        assert_eq!(ids(&store), ["job_003 a/one", "namespace_001 /a"]);
    }

    #[test]
    fn what_is_newer_than_the_last_collection_gets_its_id_from_the_same_counter() {
        let mut store = store();
        let deployment = Kind::Workload(WorkloadKind::Deployment);
        let now = Time::from_millis(5);
        // A map that began here would hide the one to go on with.
        assert_eq!(store.assign_id(deployment, "b", "web", now).unwrap(), None);
        assert_eq!(store.identity().unwrap(), None);
        let save = |store: &mut Store, names: &[(&str, &[&str])]| {
            let inventory = inventory_of(names);
            store
                .save_inventory(&inventory, Time::from_millis(1))
                .unwrap();
        };
        save(&mut store, &[("a", &["api"])]);
        let mut assign = |kind, namespace, name| {
            let id = store.assign_id(kind, namespace, name, now).unwrap();
            assert_eq!(store.id_of(kind, namespace, name).unwrap(), id);
            id.unwrap().to_string()
        };
        assert_eq!(assign(deployment, "a", "api"), "deployment_001");
        assert_eq!(assign(deployment, "b", "web"), "deployment_002");
        assert_eq!(assign(deployment, "b", "web"), "deployment_002");
        assert_eq!(assign(Kind::Namespace, "", "b"), "namespace_002");
        assert_eq!(assign(Kind::Namespace, "", "c"), "namespace_003");
        save(&mut store, &[("a", &["x"]), ("b", &["web"]), ("d", &[])]);
        assert_eq!(
            ids(&store),
            [
                "deployment_001 a/api",
                "deployment_002 b/web",
                "deployment_003 a/x",
                "namespace_001 /a",
                "namespace_002 /b",
                "namespace_003 /c",
                "namespace_004 /d",
            ]
        );
        let mut lookup = Lookup::new(&store.connection).unwrap();
        let mut known = |text: &str| lookup.find(OpaqueId::parse(text).unwrap()).unwrap();
        let web = known("deployment_002").unwrap();
        assert_eq!(
            (&*web.namespace, &*web.name, web.first_seen),
            ("b", "web", now)
        );
        assert_eq!(known("deployment_004"), None);
        assert_eq!(known("cronjob_001"), None);
        assert_eq!(store.id_of(deployment, "c", "web").unwrap(), None);
    }

    #[test]
    fn a_collection_and_a_command_give_no_id_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kube9.db");
        let (mut agent, _) = Store::open(&path).unwrap();
        let now = Time::from_millis(1);
        agent.save_inventory(&inventory_of(&[]), now).unwrap();
        std::thread::scope(|scope| {
            for command in 0..2 {
                let path = &path;
                scope.spawn(move || {
                    let mut store = Store::open_for_command(path).unwrap();
                    for number in 0..15 {
                        let kind = Kind::Workload(WorkloadKind::Deployment);
                        // Some names are asked for by both, and some are collected.
                        let name = format!("web-{}", number + 8 * command);
                        store.assign_id(kind, "a", &name, now).unwrap();
                    }
                });
            }
            for number in 0..15 {
                let name = format!("web-{}", number * 3);
                agent
                    .save_inventory(&inventory_of(&[("a", &[&name])]), now)
                    .unwrap();
            }
        });
        let all = ids(&agent);
        let unique = |part: usize| {
            let parts = all.iter().map(|line| line.split(' ').nth(part).unwrap());
            parts.collect::<std::collections::BTreeSet<_>>().len()
        };
        // 23 by the commands, the multiples of three from 24 to 42 besides, and the namespace.
        assert_eq!(all.len(), 23 + 7 + 1);
        assert_eq!((unique(0), unique(1)), (all.len(), all.len()));
        assert_eq!(
            all.first().unwrap().split(' ').next(),
            Some("deployment_001")
        );
        assert!(all.iter().any(|line| line.starts_with("deployment_030 ")));
    }

    #[test]
    fn two_maps_differ() {
        let identity = || {
            let mut store = store();
            let inventory = inventory_of(&[("a", &[])]);
            store
                .save_inventory(&inventory, Time::from_millis(1))
                .unwrap();
            store.identity().unwrap().unwrap()
        };
        let (one, other) = (identity(), identity());
        assert!(one.epoch != other.epoch && one.cluster_id != other.cluster_id);
    }

    #[test]
    fn the_payload_has_what_is_there_now_and_nothing_else() {
        let mut store = store();
        let payload = |store: &Store, detail| {
            let mut body = Vec::new();
            assert!(store.write_payload(detail, &mut body).unwrap());
            serde_json::from_slice::<Value>(&body).unwrap()
        };
        let mut nothing = Vec::new();
        assert!(
            !store
                .write_payload(Detail::Workloads, &mut nothing)
                .unwrap()
        );
        assert!(nothing.is_empty());
        for names in [
            [("gone", ["x"].as_slice()), ("kept", &["y"])].as_slice(),
            &[("kept", &["y", "z"])],
        ] {
            let inventory = inventory_of(names);
            store
                .save_inventory(&inventory, Time::from_millis(1))
                .unwrap();
        }
        let whole = payload(&store, Detail::Workloads);
        let keys = |value: &Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(&whole["resources"]), ["namespace_002"]);
        let workloads = &whole["resources"]["namespace_002"]["workloads"];
        assert_eq!(keys(workloads), ["deployment_002", "deployment_003"]);
        assert_eq!(whole["timestamp"], json!("1970-01-01T00:00:00.001Z"));
        let narrow = payload(&store, Detail::Namespaces);
        assert_eq!(narrow["resources"]["namespace_002"].get("workloads"), None);
    }
}
