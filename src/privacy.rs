//! What leaves a cluster, and under which names: opaque ids, and a body of numbers.
//!
//! The promise that no server sees a name is kept by types: nothing in [`payload`] can hold a
//! string of the cluster, so no mistake elsewhere can put one there.

pub(crate) mod id;
pub(crate) mod payload;
#[cfg(test)]
mod property;
pub(crate) mod reveal;

/// How much of a cluster is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Numbers of each namespace.
    Namespaces,
    /// Numbers of each workload, too.
    #[default]
    Workloads,
}
