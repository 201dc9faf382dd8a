//! The few figures of the dashboard, refreshed more often than the whole cluster can be read.
//!
//! They stay in the cluster, so namespaces that are excluded from what is sent are counted too.

use std::collections::BTreeSet;

use kube_client_lite::{Client, Error, ListParams, Resource};
use serde::Serialize;

use super::collect::{Collector, Problem};
use super::kinds;
use super::listing::{NodeUsage, Nodes};
use super::nodes::{NodeTally, Usage};

/// The cluster at a glance, in the form it is published.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Dashboard {
    pub(crate) namespace_count: u64,
    pub(crate) workloads: WorkloadCounts,
    pub(crate) nodes: NodeSummary,
    /// `null` where nothing is measured.
    pub(crate) usage: Option<UsageSummary>,
}

/// How many objects there are of each kind; 0 where that is forbidden.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct WorkloadCounts {
    pub(crate) deployments: u64,
    pub(crate) statefulsets: u64,
    pub(crate) daemonsets: u64,
    pub(crate) replicasets: u64,
    pub(crate) jobs: u64,
    pub(crate) cronjobs: u64,
    pub(crate) pods: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeSummary {
    pub(crate) total_nodes: u32,
    pub(crate) ready_nodes: u32,
    /// Cores in plain decimal: `20`, `7.86`.
    pub(crate) cpu_capacity: String,
    /// Such as `78.4 Gi`.
    pub(crate) memory_capacity: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UsageSummary {
    pub(crate) cpu_percent: Option<f64>,
    pub(crate) memory_percent: Option<f64>,
}

/// Reads the dashboard's figures: eight counts of one object each, the nodes, and their usage.
///
/// # Errors
/// As [`collect`](super::collect()).
pub(crate) fn dashboard(client: &Client) -> Result<(Dashboard, Vec<Problem>), Error> {
    let mut collector = Collector::new(client, BTreeSet::new());
    let mut count = |resource: Resource| collector.total(resource).map(Option::unwrap_or_default);
    let namespace_count = count(kinds::NAMESPACES)?;
    let workloads = WorkloadCounts {
        deployments: count(kinds::DEPLOYMENTS)?,
        statefulsets: count(kinds::STATEFUL_SETS)?,
        daemonsets: count(kinds::DAEMON_SETS)?,
        replicasets: count(kinds::REPLICA_SETS)?,
        jobs: count(kinds::JOBS)?,
        cronjobs: count(kinds::CRON_JOBS)?,
        pods: count(kinds::PODS)?,
    };
    collector.list(Nodes, &ListParams::default())?;
    collector.measure(NodeUsage)?;
    let Collector { fold, problems, .. } = collector;
    let dashboard = Dashboard {
        namespace_count,
        workloads,
        nodes: NodeSummary::of(&fold.nodes),
        usage: UsageSummary::of(fold.nodes.usage()),
    };
    Ok((dashboard, problems))
}

impl NodeSummary {
    pub(super) fn of(nodes: &NodeTally) -> Self {
        Self {
            total_nodes: nodes.nodes,
            ready_nodes: nodes.ready,
            cpu_capacity: cores(nodes.capacity.cpu_millicores),
            memory_capacity: gibibytes(nodes.capacity.memory_bytes),
        }
    }
}

impl UsageSummary {
    pub(super) fn of(usage: Usage) -> Option<Self> {
        let Usage {
            cpu_percent,
            memory_percent,
        } = usage;
        (usage != Usage::default()).then_some(Self {
            cpu_percent,
            memory_percent,
        })
    }
}

/// Thousandths of a core as cores.
fn cores(millicores: u64) -> String {
    let decimal = format!("{}.{:03}", millicores / 1_000, millicores % 1_000);
    decimal
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

/// Bytes as gibibytes to one decimal, half up.
fn gibibytes(bytes: u64) -> String {
    let tenths = ((u128::from(bytes) * 10) + (1 << 29)) >> 30;
    format!("{}.{} Gi", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities() {
        for (millicores, text) in [
            (0, "0"),
            (20_000, "20"),
            (7_860, "7.86"),
            (500, "0.5"),
            (100_001, "100.001"),
            (u64::MAX, "18446744073709551.615"),
        ] {
            assert_eq!(cores(millicores), text);
        }
        for (bytes, text) in [
            (0, "0.0 Gi"),
            (512 << 20, "0.5 Gi"),
            (16 << 30, "16.0 Gi"),
            (84_181_359_002, "78.4 Gi"),
            (u64::MAX, "17179869184.0 Gi"),
        ] {
            assert_eq!(gibibytes(bytes), text);
        }
    }

    #[test]
    fn no_usage_is_null() {
        assert_eq!(UsageSummary::of(Usage::default()), None);
        let half = Usage {
            cpu_percent: Some(1.5),
            memory_percent: None,
        };
        let json = serde_json::to_string(&UsageSummary::of(half)).unwrap_or_default();
        assert_eq!(json, r#"{"cpuPercent":1.5,"memoryPercent":null}"#);
    }
}
