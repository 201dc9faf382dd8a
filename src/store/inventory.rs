use std::io::Write;

use rusqlite::{Statement, Transaction, params};

use super::names::Identity;
use super::{Store, StoreError, document, names};
use crate::cluster::{Inventory, WorkloadKind};
use crate::json;
use crate::privacy::Detail;
use crate::privacy::id::{ClusterId, Kind, OpaqueId};
use crate::privacy::payload::{
    ClusterNumbers, Head, NamespaceNumbers, Word, WorkloadNumbers, Writer,
};
use crate::time::Time;

/// The document that holds the figures of the cluster as a whole.
const CLUSTER: &str = "inventory-cluster";

impl Store {
    /// Replaces the kept inventory by a newer one and counts the success, all or nothing.
    ///
    /// Rows that did not change are not written: most of a cluster is the same an hour later, and
    /// flash wears out.
    pub(crate) fn save_inventory(
        &mut self,
        inventory: &Inventory,
        now: Time,
    ) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        names::assign(&transaction, inventory, now)?;
        upsert_namespaces(&transaction, inventory)?;
        upsert_workloads(&transaction, inventory)?;
        delete_gone(&transaction, inventory)?;
        names::forget_old_jobs(&transaction, now)?;
        let cluster = json::to_string(&ClusterNumbers::new(&inventory.cluster));
        document::put(&transaction, CLUSTER, &cluster, now)?;
        transaction.execute(
            "UPDATE stats SET successes = successes + 1, stored = stored + 1, last_success = ?1",
            [now.as_millis()],
        )?;
        transaction.commit()?;
        Ok(())
    }

    /// Writes the body that the next push of the kept inventory sends; false before the first
    /// collection, when there is nothing to send.
    pub(crate) fn write_payload(
        &self,
        detail: Detail,
        out: &mut impl Write,
    ) -> Result<bool, StoreError> {
        // All of it from one collection, though the agent may store the next meanwhile.
        let _snapshot = self.connection.unchecked_transaction()?;
        let (Some(identity), Some(taken), Some(cluster)) = (
            self.identity()?,
            self.stats()?.last_success_time,
            self.document(CLUSTER)?,
        ) else {
            return Ok(false);
        };
        let Identity { cluster_id, epoch } = identity;
        let cluster: ClusterNumbers = serde_json::from_str(&cluster)?;
        let head = Head::new(ClusterId::Own(cluster_id), epoch, taken, cluster);
        let mut body = Writer::begin(out, &head)?;
        let mut namespaces = self.connection.prepare(
            "SELECT number, figures, inventory_namespace.name FROM inventory_namespace
             JOIN name ON kind = 'namespace' AND namespace = '' AND name.name = inventory_namespace.name
             ORDER BY number",
        )?;
        let mut workloads = self.connection.prepare(
            "SELECT kind, number, replicas, ready_replicas, containers, restarts, signals
             FROM inventory_workload JOIN name USING (kind, namespace, name)
             WHERE namespace = ?1 ORDER BY kind, number",
        )?;
        let mut rows = namespaces.query([])?;
        while let Some(row) = rows.next()? {
            let id = OpaqueId {
                kind: Kind::Namespace,
                number: row.get(0)?,
            };
            let figures: String = row.get(1)?;
            let numbers: NamespaceNumbers = serde_json::from_str(&figures)?;
            body.namespace(id, &numbers)?;
            if detail == Detail::Workloads {
                let namespace: String = row.get(2)?;
                write_workloads(&mut workloads, &namespace, &mut body)?;
            }
        }
        body.end()?;
        Ok(true)
    }
}

fn write_workloads(
    statement: &mut Statement<'_>,
    namespace: &str,
    body: &mut Writer<impl Write>,
) -> Result<(), StoreError> {
    let mut rows = statement.query([namespace])?;
    while let Some(row) = rows.next()? {
        let kind: String = row.get(0)?;
        let Some(kind) = WorkloadKind::parse(&kind) else {
            continue;
        };
        let id = OpaqueId {
            kind: Kind::Workload(kind),
            number: row.get(1)?,
        };
        let signals: String = row.get(6)?;
        let numbers = WorkloadNumbers {
            replicas: row.get(2)?,
            ready_replicas: row.get(3)?,
            containers: row.get(4)?,
            restarts: row.get(5)?,
            signals: signals.split(',').filter_map(Word::parse).collect(),
        };
        body.workload(id, &numbers)?;
    }
    Ok(())
}

fn upsert_namespaces(transaction: &Transaction<'_>, inventory: &Inventory) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare(
        "INSERT INTO inventory_namespace (name, figures) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET figures = excluded.figures
         WHERE figures <> excluded.figures",
    )?;
    for (name, namespace) in inventory.namespaces() {
        statement.execute(params![
            name,
            json::to_string(&NamespaceNumbers::new(namespace))
        ])?;
    }
    Ok(())
}

fn upsert_workloads(transaction: &Transaction<'_>, inventory: &Inventory) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare(
        "INSERT INTO inventory_workload
             (namespace, kind, name, replicas, ready_replicas, containers, restarts, signals)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (namespace, kind, name) DO UPDATE SET
             replicas = excluded.replicas, ready_replicas = excluded.ready_replicas,
             containers = excluded.containers, restarts = excluded.restarts, signals = excluded.signals
         WHERE (replicas, ready_replicas, containers, restarts, signals)
             <> (excluded.replicas, excluded.ready_replicas, excluded.containers, excluded.restarts, excluded.signals)",
    )?;
    for (namespace, figures) in inventory.namespaces() {
        for workload in figures.workloads() {
            let numbers = WorkloadNumbers::new(workload);
            let words: Vec<&str> = numbers.signals.iter().map(|word| word.as_str()).collect();
            statement.execute(params![
                namespace,
                workload.kind().as_str(),
                workload.name(),
                numbers.replicas,
                numbers.ready_replicas,
                numbers.containers,
                numbers.restarts,
                words.join(","),
            ])?;
        }
    }
    Ok(())
}

/// Deletes what the cluster no longer has.
fn delete_gone(transaction: &Transaction<'_>, inventory: &Inventory) -> rusqlite::Result<()> {
    let mut gone_namespaces: Vec<String> = Vec::new();
    let mut select = transaction.prepare("SELECT name FROM inventory_namespace")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        if inventory.namespace(&name).is_none() {
            gone_namespaces.push(name);
        }
    }
    for name in gone_namespaces {
        transaction.execute("DELETE FROM inventory_namespace WHERE name = ?1", [name])?;
    }
    let mut gone_workloads: Vec<[String; 3]> = Vec::new();
    let mut select = transaction.prepare("SELECT namespace, kind, name FROM inventory_workload")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let key: [String; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
        if !has_workload(inventory, &key) {
            gone_workloads.push(key);
        }
    }
    for key in gone_workloads {
        transaction.execute(
            "DELETE FROM inventory_workload WHERE namespace = ?1 AND kind = ?2 AND name = ?3",
            key,
        )?;
    }
    Ok(())
}

fn has_workload(inventory: &Inventory, [namespace, kind, name]: &[String; 3]) -> bool {
    WorkloadKind::parse(kind).is_some_and(|kind| {
        inventory
            .namespace(namespace)
            .is_some_and(|figures| figures.workload(kind, name).is_some())
    })
}
