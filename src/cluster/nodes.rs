//! The nodes together: how many, how large, how busy.

use std::collections::BTreeMap;

use super::pod::{Amounts, amount};
use super::{quantity, view};

/// Sums over the nodes of a cluster.
///
/// What is allocatable is kept per node until the metrics are in, some 90 bytes each: usage is a
/// percentage of the nodes that have metrics, or a node too new for them would look idle.
#[derive(Debug, Default)]
pub(crate) struct NodeTally {
    pub(crate) nodes: u32,
    pub(crate) ready: u32,
    pub(crate) capacity: Amounts,
    pub(crate) allocatable: Amounts,
    each: BTreeMap<Box<str>, Node>,
    measured: Amounts,
    used: Used,
}

#[derive(Debug)]
struct Node {
    allocatable: Amounts,
    measured: bool,
}

/// Measured usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    nanocores: u64,
    bytes: u64,
}

/// Usage in percent, to one decimal; `None` where it is not measured, or nothing to measure it by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) cpu_percent: Option<f64>,
    pub(crate) memory_percent: Option<f64>,
}

impl NodeTally {
    pub(crate) fn add(&mut self, node: &view::Node<'_>, illegal: &mut u64) {
        let status = &node.status;
        let ready = status
            .conditions
            .iter()
            .any(|c| &*c.kind == "Ready" && &*c.status == "True");
        let allocatable = Amounts::of(&status.allocatable, illegal);
        self.nodes = self.nodes.saturating_add(1);
        self.ready = self.ready.saturating_add(u32::from(ready));
        self.capacity = self.capacity.plus(Amounts::of(&status.capacity, illegal));
        self.allocatable = self.allocatable.plus(allocatable);
        let unmeasured = Node {
            allocatable,
            measured: false,
        };
        self.each.insert((&*node.metadata.name).into(), unmeasured);
    }

    /// Adds the usage of one node. Nodes not listed, or measured twice, are left out.
    pub(crate) fn add_metrics(&mut self, metrics: &view::NodeMetrics<'_>, illegal: &mut u64) {
        let node = self.each.get_mut(&*metrics.metadata.name);
        if let Some(node) = node.filter(|node| !node.measured) {
            node.measured = true;
            self.measured = self.measured.plus(node.allocatable);
            self.used = self.used.plus(Used::of(&metrics.usage, illegal));
        }
    }

    pub(crate) fn forget_metrics(&mut self) {
        for node in self.each.values_mut() {
            node.measured = false;
        }
        self.measured = Amounts::default();
        self.used = Used::default();
    }

    /// Usage of the measured nodes in percent of what is allocatable on them.
    pub(crate) fn usage(&self) -> Usage {
        self.used.of_amounts(self.measured)
    }
}

impl Used {
    pub(crate) fn of(list: &view::ResourceList<'_>, illegal: &mut u64) -> Self {
        Self {
            nanocores: amount(&list.cpu, quantity::nanocores, illegal),
            bytes: amount(&list.memory, quantity::bytes, illegal),
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            nanocores: self.nanocores.saturating_add(other.nanocores),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// In percent of `whole`.
    pub(crate) fn of_amounts(self, whole: Amounts) -> Usage {
        let nanocores = u128::from(whole.cpu_millicores) * 1_000_000;
        Usage {
            cpu_percent: percent(self.nanocores.into(), nanocores),
            memory_percent: percent(self.bytes.into(), whole.memory_bytes.into()),
        }
    }
}

/// To one decimal, half up; both sides are below 2^84.
fn percent(part: u128, whole: u128) -> Option<f64> {
    let tenths = (part * 1_000 + whole / 2).checked_div(whole)?;
    Some(f64::from(u32::try_from(tenths).unwrap_or(u32::MAX)) / 10.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use super::*;

    fn node(name: &str, cpu: &str, ready: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"{name}"}},"status":{{"capacity":{{"cpu":"{cpu}","memory":"1Gi"}},
            "allocatable":{{"cpu":"{cpu}","memory":"1Gi"}},
            "conditions":[{{"type":"DiskPressure","status":"True"}},{{"type":"Ready","status":"{ready}"}}]}}}}"#
        )
    }

    #[test]
    fn usage_is_of_the_nodes_that_are_measured() {
        let mut tally = NodeTally::default();
        for json in [
            node("a", "2", "True"),
            node("b", "1500m", "False"),
            node("c", "1", "Unknown"),
        ] {
            tally.add(&serde_json::from_str(&json).unwrap(), &mut 0);
        }
        assert_eq!((tally.nodes, tally.ready), (3, 1));
        assert_eq!(
            tally.capacity,
            Amounts {
                cpu_millicores: 4_500,
                memory_bytes: 3 << 30
            }
        );
        assert_eq!(tally.usage(), Usage::default());
        let metrics = |name: &str| {
            format!(
                r#"{{"metadata":{{"name":"{name}"}},"usage":{{"cpu":"1234567890n","memory":"256Mi"}}}}"#
            )
        };
        for name in ["a", "a", "unheard-of"] {
            tally.add_metrics(&serde_json::from_str(&metrics(name)).unwrap(), &mut 0);
        }
        assert_eq!(
            tally.usage(),
            Usage {
                cpu_percent: Some(61.7),
                memory_percent: Some(25.0)
            }
        );
        tally.forget_metrics();
        assert_eq!(tally.usage(), Usage::default());
    }

    #[test]
    fn percentages() {
        assert_eq!(percent(1, 0), None);
        assert_eq!(percent(0, 5), Some(0.0));
        assert_eq!(percent(1, 3), Some(33.3));
        assert_eq!(percent(2, 3), Some(66.7));
        assert_eq!(percent(3, 2), Some(150.0));
        assert_eq!(percent(u64::MAX.into(), 1), Some(429_496_729.5));
        assert_eq!(
            percent(u64::MAX.into(), u128::from(u64::MAX) * 1_000_000),
            Some(0.0)
        );
    }
}
