use std::collections::BTreeSet;

use ring::digest;
use rusqlite::{Transaction, params};

use super::{Store, StoreError, document, names};
use crate::cluster::{Inventory, WorkloadKind};
use crate::json;
use crate::privacy::id::Kind;
use crate::privacy::payload::{ClusterNumbers, NamespaceNumbers, WorkloadNumbers};
use crate::time::Time;

/// The document that holds the figures of the cluster as a whole.
pub(super) const CLUSTER: &str = "inventory-cluster";

/// The document that tells which namespaces the kept inventory leaves out.
const EXCLUDED: &str = "excluded-namespaces";

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
        let transaction = self.immediate()?;
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

    /// The cluster as a whole, as it was collected last.
    pub(crate) fn cluster_numbers(&self) -> Result<Option<ClusterNumbers>, StoreError> {
        document::read(&self.connection, CLUSTER)
    }

    /// Notes which namespaces the kept inventory leaves out: by a hash, for their names have no
    /// business in the database.
    pub(crate) fn set_exclusions(
        &self,
        namespaces: &BTreeSet<String>,
        now: Time,
    ) -> Result<(), StoreError> {
        self.put_document(EXCLUDED, &fingerprint(namespaces), now)
    }

    /// Whether the kept inventory leaves out these namespaces and no others.
    pub(crate) fn has_exclusions(&self, namespaces: &BTreeSet<String>) -> Result<bool, StoreError> {
        let kept = self.document(EXCLUDED)?;
        Ok(kept.is_some_and(|kept| kept == fingerprint(namespaces)))
    }

    /// Whether the kept inventory has it; `namespace` is empty for a namespace.
    pub(crate) fn has_resource(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<bool, StoreError> {
        let found = match kind {
            Kind::Namespace => self
                .connection
                .prepare("SELECT 1 FROM inventory_namespace WHERE name = ?1")?
                .exists([name])?,
            Kind::Workload(_) => self
                .connection
                .prepare(
                    "SELECT 1 FROM inventory_workload JOIN name USING (kind, namespace, number)
                     WHERE kind = ?1 AND namespace = ?2 AND name = ?3",
                )?
                .exists([kind.as_str(), namespace, name])?,
        };
        Ok(found)
    }
}

fn fingerprint(namespaces: &BTreeSet<String>) -> String {
    let names = json::to_string(namespaces);
    json::to_string(&digest::digest(&digest::SHA256, names.as_bytes()).as_ref())
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
             (namespace, kind, number, replicas, ready_replicas, containers, restarts, signals)
         VALUES (?1, ?2, (SELECT number FROM name WHERE kind = ?2 AND namespace = ?1 AND name = ?3),
             ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (namespace, kind, number) DO UPDATE SET
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
    let mut gone_workloads: Vec<(String, String, u32)> = Vec::new();
    let mut select = transaction.prepare(
        "SELECT there.namespace, there.kind, there.number, name.name
         FROM inventory_workload AS there LEFT JOIN name USING (kind, number)",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (namespace, kind): (String, String) = (row.get(0)?, row.get(1)?);
        let name: Option<String> = row.get(3)?;
        if !name.is_some_and(|name| has_workload(inventory, &namespace, &kind, &name)) {
            gone_workloads.push((namespace, kind, row.get(2)?));
        }
    }
    for key in gone_workloads {
        transaction.execute(
            "DELETE FROM inventory_workload WHERE namespace = ?1 AND kind = ?2 AND number = ?3",
            key,
        )?;
    }
    Ok(())
}

fn has_workload(inventory: &Inventory, namespace: &str, kind: &str, name: &str) -> bool {
    WorkloadKind::parse(kind).is_some_and(|kind| {
        inventory
            .namespace(namespace)
            .is_some_and(|figures| figures.workload(kind, name).is_some())
    })
}
