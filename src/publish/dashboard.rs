//! The dashboard: the cluster at a glance, for the extension's panel.

use kube_client_lite::{Client, Error};
use serde::Serialize;

use super::config_map;
use crate::cluster;
use crate::json;
use crate::time::Time;

pub(crate) const CONFIG_MAP: &str = "kube9-dashboard-data";

/// The name under which the store keeps it.
pub(crate) const DOCUMENT: &str = "dashboard";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dashboard<'a> {
    #[serde(flatten)]
    cluster: &'a cluster::Dashboard,
    operator_metrics: OperatorMetrics,
    last_updated: Time,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OperatorMetrics {
    /// One agent, one collector.
    collectors_running: u32,
    /// The objects behind the figures above.
    data_points_collected: u64,
    last_collection_time: Time,
}

/// The document as clients see it.
pub(crate) fn to_json(cluster: &cluster::Dashboard, now: Time) -> String {
    let counts = &cluster.workloads;
    let data_points_collected = [
        counts.deployments,
        counts.statefulsets,
        counts.daemonsets,
        counts.replicasets,
        counts.jobs,
        counts.cronjobs,
        counts.pods,
        u64::from(cluster.nodes.total_nodes),
    ]
    .into_iter()
    .fold(cluster.namespace_count, u64::saturating_add);
    json::to_string(&Dashboard {
        cluster,
        operator_metrics: OperatorMetrics {
            collectors_running: 1,
            data_points_collected,
            last_collection_time: now,
        },
        last_updated: now,
    })
}

/// Writes the ConfigMap.
pub(crate) fn publish(client: &Client, namespace: &str, document: &str) -> Result<(), Error> {
    config_map::apply(
        client,
        namespace,
        CONFIG_MAP,
        "dashboard",
        &[("dashboard", document)],
    )
}
