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
            namespaces: self.connection.prepare(
                "SELECT number, figures, there.name
                 FROM name CROSS JOIN inventory_namespace AS there ON there.name = name.name
                 WHERE kind = 'namespace' AND namespace = '' AND number > ?1
                 ORDER BY number LIMIT 1",
            )?,
            workloads: self.connection.prepare(
                "SELECT kind, number, replicas, ready_replicas, containers, restarts, signals
                 FROM inventory_workload
                 WHERE namespace = ?1 AND (kind, number) > (?2, ?3)
                 ORDER BY kind, number LIMIT ?4",
            )?,
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
                Place::Workload { of, number, after } => self.some_workloads(of, number, after)?,
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
        after: (String, u32),
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
