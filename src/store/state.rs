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
            quota: quota::word(&self.connection)?,
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
            let charged = is_charged(analysis, state.quota.as_ref());
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

/// Whether an analysis has a share of the quota that the server's word does not tell.
fn is_charged(analysis: &Analysis, word: Option<&QuotaWord>) -> bool {
    match analysis.state {
        AnalysisState::Queued => analysis.reason != Some(Reason::QuotaExceeded),
        _ => analysis.submitted_at > word.map(|word| word.as_of),
    }
}
