//! What is read from Kubernetes: small views of the objects, folded one by one into an [`Inventory`].
//!
//! A cluster of 100,000 pods is 1.7 GB of JSON, so nothing is kept of an object but what it adds to
//! the figures of its namespace and its workload. A view names only the fields a figure needs; serde
//! skips the rest without copying it, `managedFields` first of all. The paths of Kubernetes are named
//! in [`kinds`] and nowhere else in here.

mod collect;
mod dashboard;
mod find;
mod fold;
mod identity;
mod inventory;
pub(crate) mod kinds;
mod listing;
mod nodes;
mod pod;
mod quantity;
#[cfg(test)]
mod recorded;
mod signal;
mod view;

pub(crate) use collect::{CollectOptions, Collected, collect};
pub(crate) use dashboard::{Dashboard, dashboard};
pub(crate) use find::{Found, Named, find};
#[cfg(test)]
pub(crate) use fold::{inventory_of, inventory_of_jobs};
pub(crate) use identity::identity;
pub(crate) use inventory::{ClusterFigures, Inventory, Namespace, Workload, WorkloadKind};
pub(crate) use signal::Signal;

/// The way of an object into an inventory, for tests elsewhere.
#[cfg(test)]
pub(crate) mod way {
    pub(crate) use super::fold::{Counted, Fold};
    pub(crate) use super::inventory::KubernetesVersion;
    pub(crate) use super::listing::{
        CronJobs, Jobs, Kind, Listing, Names, Namespaces, NodeUsage, Nodes, PodUsage, Pods,
        Workloads,
    };
}
