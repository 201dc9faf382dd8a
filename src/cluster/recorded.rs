//! The figures of a recorded cluster, against figures that someone else counted.
//!
//! `tests/data/recorded-counts.json` comes from `tests/data/count_recorded.py`, which shares nothing
//! with the agent but the contract.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::{Map, Value, json};

use super::dashboard::{NodeSummary, UsageSummary};
use super::fold::{Counted, Fold};
use super::inventory::{Inventory, KubernetesVersion, Namespace, WorkloadKind};
use super::listing::tests::feed;
use super::listing::{
    CronJobs, Faults, Jobs, Kind, Names, Namespaces, NodeUsage, Nodes, PodUsage, Pods, Workloads,
};
use super::signal::Signal;

fn read(path: &str) -> Value {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_slice(&text).unwrap()
}

fn add<K: Kind>(fold: &mut Fold, kind: K, list: &str) {
    let list = read(&format!("crates/kube-sim/recorded/{list}.json"));
    let faults = feed(fold, kind, list["items"].as_array().unwrap());
    assert_eq!(faults, Faults::default());
}

fn fold(metrics: bool) -> Fold {
    let mut fold = Fold::default();
    let fold_ = &mut fold;
    add(fold_, Nodes, "nodes");
    add(fold_, Namespaces, "namespaces");
    add(fold_, Workloads(WorkloadKind::Deployment), "deployments");
    add(fold_, Workloads(WorkloadKind::StatefulSet), "statefulsets");
    add(fold_, Workloads(WorkloadKind::DaemonSet), "daemonsets");
    add(fold_, CronJobs, "cronjobs");
    add(fold_, Jobs, "jobs");
    add(fold_, Names(Counted::ReplicaSets), "replicasets");
    add(fold_, Names(Counted::Services), "services");
    add(
        fold_,
        Names(Counted::VolumeClaims),
        "persistentvolumeclaims",
    );
    add(fold_, Pods, "pods");
    if metrics {
        add(fold_, NodeUsage, "node-metrics");
        add(fold_, PodUsage, "pod-metrics");
    }
    fold
}

/// The inventory in the form of the metrics body, with real names for keys.
fn figures(inventory: &Inventory) -> Value {
    let cluster = &inventory.cluster;
    let resources: Map<String, Value> = inventory
        .namespaces()
        .map(|(name, figures)| (name.to_owned(), namespace(figures)))
        .collect();
    json!({
        "cluster": {
            "kubernetesVersion": cluster.kubernetes_version.map(|version| version.to_string()),
            "nodes": cluster.nodes,
            "nodesReady": cluster.nodes_ready,
            "cpuCapacityMillicores": cluster.cpu_capacity_millicores,
            "memoryCapacityBytes": cluster.memory_capacity_bytes,
            "avgCpuUsage": cluster.usage.cpu_percent,
            "avgMemoryUsage": cluster.usage.memory_percent,
        },
        "resources": resources,
    })
}

fn namespace(figures: &Namespace) -> Value {
    let pods = &figures.pods;
    let phases = &pods.by_phase;
    let usage = figures.usage();
    let signals: Map<String, Value> = figures
        .signals()
        .iter()
        .map(|(signal, count)| (signal.as_str().to_owned(), count.into()))
        .collect();
    let workloads: Map<String, Value> = figures
        .workloads()
        .iter()
        .map(|workload| {
            let mut signals: Vec<_> = workload.signals().iter().map(Signal::as_str).collect();
            signals.sort_unstable();
            let key = format!("{}/{}", workload.kind().as_str(), workload.name());
            let value = json!({
                "replicas": workload.replicas,
                "readyReplicas": workload.ready_replicas,
                "containers": workload.containers(),
                "restarts": workload.restarts(),
                "signals": signals,
            });
            (key, value)
        })
        .collect();
    json!({
        "deployments": figures.deployments,
        "statefulSets": figures.stateful_sets,
        "daemonSets": figures.daemon_sets,
        "replicaSets": figures.replica_sets,
        "jobs": figures.jobs,
        "cronJobs": figures.cron_jobs,
        "services": figures.services,
        "persistentVolumeClaims": figures.persistent_volume_claims,
        "pods": phases.total(),
        "podsByPhase": {
            "pending": phases.pending,
            "running": phases.running,
            "succeeded": phases.succeeded,
            "failed": phases.failed,
            "unknown": phases.unknown,
        },
        "containers": pods.containers,
        "containerRestarts": pods.restarts,
        "cpuRequestsMillicores": pods.requests.cpu_millicores,
        "cpuLimitsMillicores": pods.limits.cpu_millicores,
        "memoryRequestsBytes": pods.requests.memory_bytes,
        "memoryLimitsBytes": pods.limits.memory_bytes,
        "avgCpuUsage": usage.cpu_percent,
        "avgMemoryUsage": usage.memory_percent,
        "signals": signals,
        "workloads": workloads,
    })
}

/// Every place where two documents differ.
fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let side =
                    |map: &Map<String, Value>| map.get(key).cloned().unwrap_or(json!("absent"));
                differences(&format!("{path}/{key}"), &side(a), &side(b), found);
            }
        }
        _ if ours != theirs && !is_read_otherwise(path) => {
            found.push(format!("{path}: ours {ours}, theirs {theirs}"));
        }
        _ => {}
    }
}

/// Three figures of a workload, where the contract leaves open what is meant: the other count has the
/// containers of all its pods together and a Job's `parallelism`, and nothing for a `CronJob`.
fn is_read_otherwise(path: &str) -> bool {
    let Some((_, of_workload)) = path.split_once("/workloads/") else {
        return false;
    };
    let of_job = of_workload.starts_with("job/") || of_workload.starts_with("cronjob/");
    of_workload.ends_with("/containers")
        || of_job && (of_workload.ends_with("/replicas") || of_workload.ends_with("/readyReplicas"))
}

#[test]
fn the_recorded_cluster_has_the_figures_counted_independently() {
    let expected = read("tests/data/recorded-counts.json");
    let mut found = Vec::new();
    for (name, metrics) in [("withMetrics", true), ("withoutMetrics", false)] {
        let expected = &expected[name];
        let fold = fold(metrics);
        let nodes = serde_json::to_value(NodeSummary::of(&fold.nodes)).unwrap();
        differences(name, &nodes, &expected["dashboard"]["nodes"], &mut found);
        let usage = serde_json::to_value(UsageSummary::of(fold.nodes.usage())).unwrap();
        differences(name, &usage, &expected["dashboard"]["usage"], &mut found);
        let figures = figures(&fold.finish(KubernetesVersion::parse("v1.36.2")));
        differences(name, &figures, &expected["metrics"], &mut found);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Read off the recorded lists by eye.
#[test]
fn containers_and_replicas_of_recorded_workloads() {
    let inventory = fold(false).finish(None);
    for (namespace, figures) in inventory.namespaces() {
        for workload in figures.workloads() {
            // One app container everywhere, but for one with two and one with two and a sidecar.
            let containers = match (namespace, workload.name()) {
                ("payments", "payments-api") => 3,
                ("production", "queue") => 2,
                _ => 1,
            };
            assert_eq!(
                workload.containers(),
                containers,
                "{namespace}/{}",
                workload.name()
            );
            // Of the three Jobs one runs, and its CronJob made it.
            if matches!(workload.kind(), WorkloadKind::Job | WorkloadKind::CronJob) {
                let running = u32::from(workload.name() == "heartbeat");
                assert_eq!(
                    (workload.replicas, workload.ready_replicas),
                    (running, running)
                );
            }
        }
    }
}
