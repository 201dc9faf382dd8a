use rusqlite::{Transaction, params};
use serde::Serialize;

use super::{Store, StoreError};
use crate::cluster::{ClusterFigures, Inventory, Namespace, Signal, Workload};
use crate::json;
use crate::time::Time;

/// The document that holds the figures of the cluster as a whole.
const CLUSTER: &str = "inventory-cluster";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterRow {
    kubernetes_version: Option<String>,
    nodes: u32,
    nodes_ready: u32,
    cpu_capacity_millicores: u64,
    memory_capacity_bytes: u64,
    avg_cpu_usage: Option<f64>,
    avg_memory_usage: Option<f64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NamespaceRow {
    deployments: u32,
    stateful_sets: u32,
    daemon_sets: u32,
    replica_sets: u32,
    jobs: u32,
    cron_jobs: u32,
    services: u32,
    persistent_volume_claims: u32,
    pods: u32,
    pods_by_phase: PodsByPhaseRow,
    containers: u32,
    container_restarts: u32,
    cpu_requests_millicores: u64,
    cpu_limits_millicores: u64,
    memory_requests_bytes: u64,
    memory_limits_bytes: u64,
    avg_cpu_usage: Option<f64>,
    avg_memory_usage: Option<f64>,
    signals: std::collections::BTreeMap<&'static str, u32>,
}

#[derive(Serialize)]
struct PodsByPhaseRow {
    pending: u32,
    running: u32,
    succeeded: u32,
    failed: u32,
    unknown: u32,
}

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
        upsert_namespaces(&transaction, inventory)?;
        upsert_workloads(&transaction, inventory)?;
        delete_gone(&transaction, inventory)?;
        transaction.execute(
            "INSERT INTO document (name, body, updated_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at",
            params![CLUSTER, json::to_string(&ClusterRow::new(&inventory.cluster)), now.as_millis()],
        )?;
        transaction.execute(
            "UPDATE stats SET successes = successes + 1, stored = stored + 1, last_success = ?1",
            [now.as_millis()],
        )?;
        transaction.commit()?;
        Ok(())
    }
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
            json::to_string(&NamespaceRow::new(namespace))
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
            statement.execute(params![
                namespace,
                workload.kind().as_str(),
                workload.name(),
                workload.replicas,
                workload.ready_replicas,
                workload.containers(),
                workload.restarts(),
                signals(workload),
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
    crate::cluster::WorkloadKind::parse(kind).is_some_and(|kind| {
        inventory
            .namespace(namespace)
            .is_some_and(|figures| figures.workload(kind, name).is_some())
    })
}

fn signals(workload: &Workload) -> String {
    let words: Vec<&str> = workload.signals().iter().map(Signal::as_str).collect();
    words.join(",")
}

impl ClusterRow {
    fn new(cluster: &ClusterFigures) -> Self {
        Self {
            kubernetes_version: cluster
                .kubernetes_version
                .map(|version| version.to_string()),
            nodes: cluster.nodes,
            nodes_ready: cluster.nodes_ready,
            cpu_capacity_millicores: cluster.cpu_capacity_millicores,
            memory_capacity_bytes: cluster.memory_capacity_bytes,
            avg_cpu_usage: cluster.usage.cpu_percent,
            avg_memory_usage: cluster.usage.memory_percent,
        }
    }
}

impl NamespaceRow {
    fn new(namespace: &Namespace) -> Self {
        let pods = &namespace.pods;
        let usage = namespace.usage();
        Self {
            deployments: namespace.deployments,
            stateful_sets: namespace.stateful_sets,
            daemon_sets: namespace.daemon_sets,
            replica_sets: namespace.replica_sets,
            jobs: namespace.jobs,
            cron_jobs: namespace.cron_jobs,
            services: namespace.services,
            persistent_volume_claims: namespace.persistent_volume_claims,
            pods: pods.by_phase.total(),
            pods_by_phase: PodsByPhaseRow {
                pending: pods.by_phase.pending,
                running: pods.by_phase.running,
                succeeded: pods.by_phase.succeeded,
                failed: pods.by_phase.failed,
                unknown: pods.by_phase.unknown,
            },
            containers: pods.containers,
            container_restarts: pods.restarts,
            cpu_requests_millicores: pods.requests.cpu_millicores,
            cpu_limits_millicores: pods.limits.cpu_millicores,
            memory_requests_bytes: pods.requests.memory_bytes,
            memory_limits_bytes: pods.limits.memory_bytes,
            avg_cpu_usage: usage.cpu_percent,
            avg_memory_usage: usage.memory_percent,
            signals: namespace
                .signals()
                .iter()
                .map(|(signal, count)| (signal.as_str(), count))
                .collect(),
        }
    }
}
