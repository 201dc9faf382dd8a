use std::io::{self, Read, Write};

use rusqlite::{OptionalExtension as _, Statement};

use super::inventory::CLUSTER;
use super::{Store, StoreError};
use crate::cluster::WorkloadKind;
use crate::privacy::Detail;
use crate::privacy::id::{Kind, OpaqueId};
use crate::privacy::payload::{
    Body, ClusterNumbers, Head, NamespaceNumbers, Word, WorkloadNumbers,
};
use crate::time::Time;

/// Workloads of one piece; about 150 bytes each.
const PIECE: u32 = 64;

const NAMESPACES: &str = "SELECT number, figures, there.name
    FROM name CROSS JOIN inventory_namespace AS there ON there.name = name.name
    WHERE kind = 'namespace' AND namespace = '' AND number > ?1 ORDER BY number LIMIT 1";

const WORKLOADS: &str =
    "SELECT kind, number, replicas, ready_replicas, containers, restarts, signals
    FROM inventory_workload
    WHERE namespace = ?1 AND (kind, number) > (?2, ?3) ORDER BY kind, number LIMIT ?4";

/// The body of a push, read from the database piece by piece.
///
/// All of it is of one collection. No transaction is held meanwhile, so that a slow server does not
/// keep the log of the database from being emptied: should the next collection come in between,
/// reading fails.
pub(crate) struct Payload<'store> {
    head: Head,
    detail: Detail,
    /// How many collections were stored before.
    collection: i64,
    collections: Statement<'store>,
    namespaces: Statement<'store>,
    workloads: Statement<'store>,
    place: Place,
    /// The present piece.
    body: Body,
    /// How much of the piece was read.
    taken: usize,
}

/// What comes next.
enum Place {
    Head,
    Namespace {
        after: u32,
    },
    Workload {
        of: Box<str>,
        number: u32,
        after: (String, u32),
    },
    End,
}

impl Store {
    /// The body that the next push of the kept inventory sends; `None` before the first collection,
    /// when there is nothing to send.
    pub(crate) fn payload(&self, detail: Detail) -> Result<Option<Payload<'_>>, StoreError> {
        let kept = self
            .connection
            .query_row(
                "SELECT stored, last_success, body FROM stats, document WHERE document.name = ?1",
                [CLUSTER],
                |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?, row.get(2)?)),
            )
            .optional()?;
        let (Some((collection, Some(taken), cluster)), Some(identity)) = (kept, self.identity()?)
        else {
            return Ok(None);
        };
        let cluster: String = cluster;
        let cluster: ClusterNumbers = serde_json::from_str(&cluster)?;
        let cluster_id = self.cluster_id(identity)?;
        let taken = Time::from_millis(taken);
        Ok(Some(Payload {
            head: Head::new(cluster_id, identity.epoch, taken, cluster),
            detail,
            collection,
            collections: self.connection.prepare("SELECT stored FROM stats")?,
            namespaces: self.connection.prepare(NAMESPACES)?,
            workloads: self.connection.prepare(WORKLOADS)?,
            place: Place::Head,
            body: Body::default(),
            taken: 0,
        }))
    }

    /// Writes the very bytes that a push would send, all of one collection though the agent may
    /// store the next meanwhile; false when there is nothing to send yet.
    pub(crate) fn write_payload(
        &self,
        detail: Detail,
        out: &mut dyn Write,
    ) -> Result<bool, StoreError> {
        let _snapshot = self.connection.unchecked_transaction()?;
        let Some(mut payload) = self.payload(detail)? else {
            return Ok(false);
        };
        while let Some(piece) = payload.piece()? {
            out.write_all(piece)?;
        }
        Ok(true)
    }
}

impl Payload<'_> {
    /// How many bytes it has, counted by going through it once; reading then starts at the
    /// beginning.
    pub(crate) fn length(&mut self) -> Result<u64, StoreError> {
        self.place = Place::Head;
        let mut length = 0;
        while let Some(piece) = self.piece()? {
            length += piece.len() as u64;
        }
        self.place = Place::Head;
        Ok(length)
    }

    /// The next piece; `None` at the end.
    fn piece(&mut self) -> Result<Option<&[u8]>, StoreError> {
        self.taken = 0;
        self.body.clear();
        while self.body.made().is_empty() {
            let place = std::mem::replace(&mut self.place, Place::End);
            self.place = match place {
                Place::Head => {
                    self.body.begin(&self.head)?;
                    Place::Namespace { after: 0 }
                }
                Place::Namespace { after } => self.namespace(after)?,
                Place::Workload { of, number, after } => self.some_workloads(of, number, &after)?,
                Place::End => return Ok(None),
            };
        }
        let collection: i64 = self.collections.query_row([], |row| row.get(0))?;
        if collection != self.collection {
            return Err(StoreError::Replaced);
        }
        Ok(Some(self.body.made()))
    }

    fn namespace(&mut self, after: u32) -> Result<Place, StoreError> {
        let mut rows = self.namespaces.query([after])?;
        let Some(row) = rows.next()? else {
            self.body.end();
            return Ok(Place::End);
        };
        let number = row.get(0)?;
        let figures: String = row.get(1)?;
        let numbers: NamespaceNumbers = serde_json::from_str(&figures)?;
        let kind = Kind::Namespace;
        self.body.namespace(OpaqueId { kind, number }, &numbers)?;
        Ok(match self.detail {
            Detail::Namespaces => Place::Namespace { after: number },
            Detail::Workloads => Place::Workload {
                of: row.get(2)?,
                number,
                after: (String::new(), 0),
            },
        })
    }

    fn some_workloads(
        &mut self,
        of: Box<str>,
        namespace: u32,
        after: &(String, u32),
    ) -> Result<Place, StoreError> {
        let mut last = None;
        let mut rows = self.workloads.query((&of, &after.0, after.1, PIECE))?;
        while let Some(row) = rows.next()? {
            let (word, number): (String, u32) = (row.get(0)?, row.get(1)?);
            if let Some(kind) = WorkloadKind::parse(&word) {
                let kind = Kind::Workload(kind);
                let signals: String = row.get(6)?;
                let numbers = WorkloadNumbers {
                    replicas: row.get(2)?,
                    ready_replicas: row.get(3)?,
                    containers: row.get(4)?,
                    restarts: row.get(5)?,
                    signals: signals.split(',').filter_map(Word::parse).collect(),
                };
                self.body.workload(OpaqueId { kind, number }, &numbers)?;
            }
            last = Some((word, number));
        }
        Ok(match last {
            Some(after) => Place::Workload {
                of,
                number: namespace,
                after,
            },
            None => Place::Namespace { after: namespace },
        })
    }
}

impl Read for Payload<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.body.made().len() {
            self.piece().map_err(io::Error::other)?;
        }
        let rest = self.body.made().get(self.taken..).unwrap_or_default();
        let length = rest.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..length), rest.get(..length)) {
            to.copy_from_slice(from);
        }
        self.taken += length;
        Ok(length)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::Registration;
    use super::*;
    use crate::api_key::ApiKey;
    use crate::cluster::{inventory_of, inventory_of_jobs};
    use crate::privacy::id::{ClusterId, GivenId};

    fn names(count: usize) -> Vec<String> {
        (0..count)
            .map(|number| format!("web-{number:05}"))
            .collect()
    }

    /// Namespaces `ns-0`, `ns-1`, ... with so many Deployments each.
    fn save(store: &mut Store, counts: &[usize], at: i64) {
        let namespaces: Vec<(String, Vec<String>)> = (0..)
            .map(|number| format!("ns-{number}"))
            .zip(counts.iter().map(|count| names(*count)))
            .collect();
        let workloads: Vec<Vec<&str>> = namespaces
            .iter()
            .map(|(_, names)| names.iter().map(String::as_str).collect())
            .collect();
        let namespaces: Vec<(&str, &[&str])> = namespaces
            .iter()
            .zip(&workloads)
            .map(|((name, _), workloads)| (name.as_str(), workloads.as_slice()))
            .collect();
        let inventory = inventory_of(&namespaces);
        store
            .save_inventory(&inventory, Time::from_millis(at))
            .unwrap();
    }

    fn preview(store: &Store, detail: Detail) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(store.write_payload(detail, &mut out).unwrap());
        out
    }

    #[test]
    fn what_is_read_is_what_the_preview_shows() {
        let mut store = Store::for_tests();
        assert!(store.payload(Detail::Workloads).unwrap().is_none());
        let piece = PIECE as usize;
        save(&mut store, &[0, piece, 2 * piece + 1, 0, 1, piece - 1], 1);
        for detail in [Detail::Workloads, Detail::Namespaces] {
            let expected = preview(&store, detail);
            let mut payload = store.payload(detail).unwrap().unwrap();
            assert_eq!(payload.length().unwrap(), expected.len() as u64);
            let mut read = Vec::new();
            payload.read_to_end(&mut read).unwrap();
            assert_eq!(read, expected);
            assert_eq!(
                payload.read(&mut [0; 8]).unwrap(),
                0,
                "the end stays the end"
            );
            // Counted in the middle, it starts over.
            let mut payload = store.payload(detail).unwrap().unwrap();
            payload.read_exact(&mut [0; 700]).unwrap();
            assert_eq!(payload.length().unwrap(), expected.len() as u64);
            let mut read = Vec::new();
            payload.read_to_end(&mut read).unwrap();
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn workloads_come_by_number_and_an_empty_namespace_has_none() {
        let mut store = Store::for_tests();
        // Later names come first in the alphabet.
        save(&mut store, &[0, 0, 3], 1);
        save(&mut store, &[200, 0, 3], 2);
        let text = String::from_utf8(preview(&store, Detail::Workloads)).unwrap();
        let body: Value = serde_json::from_str(&text).unwrap();
        let resources = body["resources"].as_object().unwrap();
        let count = |id: &str| Some(resources[id].get("workloads")?.as_object()?.len());
        assert_eq!(count("namespace_001"), Some(200));
        assert_eq!(count("namespace_002"), None);
        assert_eq!(count("namespace_003"), Some(3));
        let numbers = |text: &str, key: &str| -> Vec<u32> {
            let ids = text.split(key).skip(1);
            ids.map(|rest| rest.split('"').next().unwrap().parse().unwrap())
                .collect()
        };
        assert_eq!(numbers(&text, "\"namespace_"), [1, 2, 3]);
        let expected: Vec<u32> = (4..=203).chain(1..=3).collect();
        assert_eq!(numbers(&text, "\"deployment_"), expected);
    }

    #[test]
    fn thousands_of_workloads_take_no_more_memory() {
        let most = |count| {
            let mut store = Store::for_tests();
            save(&mut store, &[count], 1);
            let mut payload = store.payload(Detail::Workloads).unwrap().unwrap();
            let mut most = 0;
            let mut length = 0;
            while let Some(piece) = payload.piece().unwrap() {
                length += piece.len();
                most = most.max(payload.body.capacity());
            }
            (most, length)
        };
        let (few, _) = most(PIECE as usize);
        let (many, length) = most(3000);
        assert!(length > 300_000, "{length}");
        assert!(few <= 16 << 10 && many <= few, "{few} {many}");
    }

    /// Stores another collection as soon as something is written.
    struct Out<'a> {
        out: Vec<u8>,
        agent: &'a mut Store,
    }

    impl Write for Out<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.out.is_empty() {
                save(self.agent, &[1], 3);
            }
            self.out.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn two_collections_are_never_mixed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kube9.db");
        let (mut agent, _) = Store::open(&path).unwrap();
        save(&mut agent, &[100, 100], 1);
        let reader = Store::open_read_only(&path).unwrap();
        let before = preview(&reader, Detail::Workloads);

        // Whatever was read by then, even all but the braces at the end: they do not follow.
        for taken in [1, before.len() / 2, before.len() - 4] {
            let mut payload = reader.payload(Detail::Workloads).unwrap().unwrap();
            payload.read_exact(&mut vec![0; taken]).unwrap();
            save(&mut agent, &[100, if taken == 1 { 0 } else { 100 }], 2);
            let mut rest = Vec::new();
            let error = payload.read_to_end(&mut rest).unwrap_err();
            assert!(taken + rest.len() < before.len(), "{error}");
            save(&mut agent, &[100, 100], 1);
        }

        // A preview is of one collection, though another comes meanwhile.
        let mut out = Out {
            out: Vec::new(),
            agent: &mut agent,
        };
        assert!(reader.write_payload(Detail::Workloads, &mut out).unwrap());
        assert_eq!(out.out, before);
        assert_ne!(preview(&reader, Detail::Workloads), before);
    }

    #[test]
    fn the_cluster_is_called_as_the_server_calls_it() {
        let mut store = Store::for_tests();
        save(&mut store, &[1], 1);
        let id = |store: &Store| {
            let body: Value = serde_json::from_slice(&preview(store, Detail::Workloads)).unwrap();
            body["clusterId"].as_str().unwrap().to_owned()
        };
        let own = store.identity().unwrap().unwrap().cluster_id;
        assert_eq!(id(&store), own.to_string());
        let mut registration = Registration {
            cluster_id: ClusterId::Given(GivenId::parse("cls_7b9").unwrap()),
            key: ApiKey::parse("key").unwrap().fingerprint(b""),
            registered_at: Time::from_millis(1),
            next_at: Time::from_millis(2),
        };
        store.set_registration(Some(&registration)).unwrap();
        assert_eq!(id(&store), "cls_7b9");
        registration.cluster_id = ClusterId::Own(own);
        store.set_registration(Some(&registration)).unwrap();
        assert_eq!(id(&store), own.to_string());
        store.set_registration(None).unwrap();
        assert_eq!(id(&store), own.to_string());
    }

    #[test]
    fn no_query_sorts() {
        let store = Store::for_tests();
        for statement in [NAMESPACES, WORKLOADS] {
            let plan = store.plan_of(statement);
            assert!(plan.contains("SEARCH"), "{plan}");
            assert!(!plan.contains("SCAN") && !plan.contains("B-TREE"), "{plan}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn any_cluster_is_read_as_it_is_shown(
            counts in proptest::collection::vec(prop_oneof![Just(0), 0..5_usize, 60..70_usize, Just(128)], 0..6),
            jobs in 0..3_usize,
            window in 1..5000_usize,
        ) {
            let mut store = Store::for_tests();
            save(&mut store, &counts, 1);
            if jobs > 0 {
                let names = names(jobs);
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let inventory = inventory_of_jobs("jobs", &names);
                store.save_inventory(&inventory, Time::from_millis(2)).unwrap();
            }
            let expected = preview(&store, Detail::Workloads);
            prop_assert!(serde_json::from_slice::<Value>(&expected).is_ok());
            let mut payload = store.payload(Detail::Workloads).unwrap().unwrap();
            prop_assert_eq!(payload.length().unwrap(), expected.len() as u64);
            let mut read = Vec::new();
            let mut buffer = vec![0; window];
            loop {
                let taken = payload.read(&mut buffer).unwrap();
                if taken == 0 {
                    break;
                }
                read.extend_from_slice(&buffer[..taken]);
            }
            prop_assert_eq!(read, expected);
        }
    }
}
